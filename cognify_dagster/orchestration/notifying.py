"""The notification sensor: tells approvers what waits for them and owners what happened, through the channels of `cognify.toml`.

It is a sensor of its own, so that a slow mail server delays no release. Nothing that goes wrong in telling stops it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial

import dagster as dg

from cognify_dagster.governance.oversight.news import EVENTS
from cognify_dagster.governance.oversight.notifier import due_news, read_memory, tell
from cognify_dagster.orchestration.lanes import Lane
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import NOTIFICATION, SENSOR_ROLE, sensor_name
from cognify_dagster.orchestration.sensors import read_cursor
from cognify_dagster.orchestration.spaces import ledger_of
from cognify_dagster.orchestration.watching import catching_up
from cognify_dagster.workspace import Workspace, review_page
from cognify_dagster.workspace.notify import channels


def notification_sensor(model: GovernedModel, lanes: Sequence[Lane]) -> dg.SensorDefinition:
    """Return the sensor that tells people the news about a model, one digest a person and tick."""
    targets = {lane.target: lane.enforces for lane in lanes}

    @dg.sensor(
        name=sensor_name(model.name, NOTIFICATION),
        minimum_interval_seconds=max(model.sensor_interval_seconds, 30),
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={model.ledger},
        tags={SENSOR_ROLE: NOTIFICATION},
        description=f"Tells people what waits for them and what happened to {model.key}, as cognify.toml [[notify]] says.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with ledger_of(context, model).resident() as place:
            return dg.SkipReason(_evaluate(context, place.workspace, model.key, targets))

    return sensor


def _evaluate(
    context: dg.SensorEvaluationContext, workspace: Workspace, model: str, targets: Mapping[str, Sequence[str]]
) -> str:
    ways = channels(workspace.config, EVENTS)
    if not ways:
        return "nobody is told: cognify.toml has no [[notify]] table"
    behind = catching_up(workspace)
    if behind is not None:
        return behind
    now, memory = datetime.now(timezone.utc), read_memory(json.dumps(read_cursor(context.cursor, workspace.origin)))
    reading = workspace.read()
    items, page = due_news(reading, {model: targets}, memory, now), partial(review_page, workspace.config)
    told = tell(reading, items, ways, memory, now, page=page)
    context.update_cursor(json.dumps({"ledger": workspace.origin, **json.loads(memory.to_json())}))
    for problem in told.failed:
        context.log.error(f"not told, and tried again later: {problem}")
    parts = [f"{len(told.sent)} people were told" if told.sent else "nothing new to tell"]
    if told.failed:
        parts.append(f"{len(told.failed)} messages were not taken: {told.failed[0]}")
    if told.unreachable:
        parts.append(f"no address (alias mail:…) for {', '.join(told.unreachable)}")
    return "; ".join(parts)
