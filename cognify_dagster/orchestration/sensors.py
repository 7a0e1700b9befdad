"""The approval sensor asks for release runs and tells Dagster where each version stands.

It is a convenience, not the gate: the deployment's body decides again. It is right after a restart, after a deleted run and
after a rename, because it asks the ledger whether a release was completed, not Dagster. What it tells Dagster about a version's
standing is for people to read. It serves every target of the model, and puts on record, once, that a release is suspended.

Each tick is bounded: by entries to verify, by the time that deciding takes, and by what is told. What is left waits for the next.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from time import monotonic
from typing import Any

import dagster as dg

from cognify_dagster.governance.release.suspension import record_suspension
from cognify_dagster.ledger import LedgerError
from cognify_dagster.orchestration._compat import latest_materializations, value_store
from cognify_dagster.orchestration.coverage_check import blocking_keys, coverage_keys
from cognify_dagster.orchestration.lanes import Lane, sign_off_key
from cognify_dagster.orchestration.memory import Memory, recall
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import APPROVAL, LEDGER_TAG, SENSOR_ROLE, sensor_name
from cognify_dagster.orchestration.notices import PURPOSE, REPORT, deployment_notice, package_notice
from cognify_dagster.orchestration.spaces import ledger_of
from cognify_dagster.orchestration.standing import BLOCKED, LIVE, READY, SUPERSEDED, SUSPENDED, WAITING, Board, Standing
from cognify_dagster.orchestration.watching import (
    LOOK_S,
    PACKAGES_A_LOOK,
    Brief,
    Look,
    ModelWatch,
    catching_up,
)
from cognify_dagster.workspace import Resident, Workspace, WorkspaceError

__all__ = ["approval_sensor", "read_cursor", "sign_off_key"]

VERSIONS_IN_TEXT = 5
NEWS_A_TICK = 20
RELEASES_A_TICK = 50
EVENTS_A_TICK = 100


def approval_sensor(
    model: GovernedModel, lanes: Sequence[Lane], *, request_releases: bool = True
) -> dg.SensorDefinition:
    """Return the sensor that requests the release run of every version whose approvals are complete.

    It also tells Dagster where a version stands, once for each change: see `notices`.

    Args:
        model: the governed model.
        lanes: its deployments, the one that the package's page tells of in front.
        request_releases: False where an automation condition asks for the first release of a version; the sensor then
            evaluates the check when a version is ready, and requests only what goes live again: rollbacks and new rounds.
    """
    checks = {lane.check.asset_key for lane in lanes}

    @dg.sensor(
        name=sensor_name(model.name, APPROVAL),
        target=dg.AssetSelection.assets(*checks, *(lane.deployment for lane in lanes)),
        minimum_interval_seconds=model.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={model.ledger},
        tags={SENSOR_ROLE: APPROVAL},
        description=(
            f"Requests the release of a version of {model.key} to {' and '.join(lane.target for lane in lanes)} once every stage "
            "of its tier is signed. What waits for whom stands at the beginning of the cursor and in each tick's result."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        with ledger_of(context, model).resident() as place:
            watch = place.remember((APPROVAL, model.name), lambda: ModelWatch(model.key))
            with watch.lock:
                return _evaluate(context, place, watch, model, lanes, request_releases)

    return sensor


def _evaluate(
    context: dg.SensorEvaluationContext,
    place: Resident,
    watch: ModelWatch,
    model: GovernedModel,
    lanes: Sequence[Lane],
    request_releases: bool,
) -> dg.SensorResult:
    workspace = place.workspace
    behind = catching_up(workspace)
    if behind is not None:
        return dg.SensorResult(skip_reason=behind, cursor=context.cursor)
    reading = workspace.read()
    versions = watch.packaged.update(reading, PACKAGES_A_LOOK)
    if not watch.packaged.complete(reading):
        return dg.SensorResult(
            skip_reason=f"looking up the versions of {model.key}: {len(versions):,} so far", cursor=context.cursor
        )
    now, begun = datetime.now(timezone.utc), monotonic()
    cursor = read_cursor(context.cursor, workspace.origin)
    memory = _recall(context, place, model, cursor)
    known = set(context.instance.get_dynamic_partitions(model.partitions.name or ""))
    stored = _part(cursor, "targets")
    ticks = []
    for number, lane in enumerate(lanes, 1):
        look = watch.lane(lane.target, lane.enforces).look(
            workspace, reading, versions, now, begun + LOOK_S * number / len(lanes)
        )
        ticks.append(_Tick(context, workspace, lane, look, memory, _part(stored, lane.target)))
    guards = blocking_keys(model, reading) if request_releases else coverage_keys(model)
    requests: list[dg.RunRequest] = []
    missing: set[str] = set()
    for tick in ticks:
        tick.record_suspensions()
        ready = tick.ready(memory.tick)
        missing |= {found.version for found in ready} - known
        requests += [
            _release(model, workspace, found, tick.lane, guards)
            for found in ready
            if request_releases or found.deployed
        ]
        requests += [
            _report(model, workspace, found, tick.lane, guards)
            for found in tick.to_report(known, ready=not request_releases)
        ]
    events = _events(ticks, known)
    text = "; ".join(_summary(tick.look) for tick in ticks)
    if requests:  # a tick that requests a run has no result text, but a log
        context.log.info(text)
    value = {
        "now": text,
        "ledger": workspace.origin,
        "memory": memory.save(value_store(context.instance)),
        "targets": {tick.lane.target: {"seen": tick.seen} for tick in ticks},
    }
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else text,
        dynamic_partitions_requests=[model.partitions.build_add_request(sorted(missing))] if missing else [],
        asset_events=events,
        cursor=json.dumps(value),
    )


def _recall(
    context: dg.SensorEvaluationContext, place: Resident, model: GovernedModel, cursor: Mapping[str, Any]
) -> Memory:
    """Return what was told so far. It is of one Dagster instance and one sensor, which the cursor's token stands for."""
    key = ("told", model.name)
    found = recall(value_store(context.instance), cursor.get("memory"), place.state.get(key))
    place.state[key] = found
    return found


class _Tick:
    """What a tick does for one lane."""

    def __init__(
        self, context: Any, workspace: Workspace, lane: Lane, look: Look, memory: Memory, stored: Mapping[str, Any]
    ) -> None:
        self.context, self.workspace, self.lane, self.look, self.memory = context, workspace, lane, look, memory
        self.seen: dict[str, int] = _part(stored, "seen")

    @property
    def board(self) -> Board:
        """Where versions stand by this tick's reading."""
        return self.look.board

    def ready(self, turn: int) -> list[Brief]:
        """Return the versions that may be released now, at most `RELEASES_A_TICK`; of more they take turns."""
        found = [item for item in self.look.briefs() if item.releasable]
        start = turn * RELEASES_A_TICK % len(found) if len(found) > RELEASES_A_TICK else 0
        return (found[start:] + found[:start])[:RELEASES_A_TICK]

    def news(self, known: set[str]) -> list[Standing]:
        """Return the standings that changed since they were told last, or whose page a newer materialization covers.

        Oldest first, so that the newest observation of an asset is about its newest version; at most `NEWS_A_TICK`: of more the
        newest and the oldest.
        """
        target = self.lane.target
        for version in self._materialized({self.lane.check.asset_key, self.lane.deployment}):
            self.memory.told(target, version, "")
        changed = [
            found.version
            for found in self.look.briefs()
            if found.version in known and self.memory.get(target, found.version).told != found.fingerprint
        ]
        half = NEWS_A_TICK // 2
        if len(changed) > NEWS_A_TICK:
            changed = changed[:half] + changed[half - NEWS_A_TICK :]
        fresh = [self.look.standing(version) for version in reversed(changed)]
        for found in fresh:
            self.memory.told(target, found.version, found.fingerprint)
        return fresh

    def to_report(self, known: set[str], *, ready: bool) -> list[Brief]:
        """Return the standings whose sign-offs changed since the check was evaluated last, at most `NEWS_A_TICK`.

        The run that builds a package evaluates it for a version that nobody signed, and the release run for one that is
        complete (unless `ready` asks for those too), so only what lies between needs a run of its own, and a deployment that
        a person launched without the check.
        """
        wanted = {WAITING, BLOCKED, LIVE, SUSPENDED, *([READY] if ready else [])}
        found: list[Brief] = []
        for item in self.look.briefs():
            before = self.memory.get(self.lane.target, item.version).shown
            if item.version not in known or item.sign_off_mark == before:
                continue
            evaluated = not before and (item.untouched or item.state == LIVE)
            if item.state in wanted and not evaluated:
                if len(found) >= NEWS_A_TICK:
                    continue
                found.append(item)
            self.memory.shown(self.lane.target, item.version, item.sign_off_mark)
        return found

    def record_suspensions(self) -> None:
        """Put on record what is live and does not stand any more. What cannot be written now is tried at the next tick."""
        suspended = [item.version for item in self.look.briefs() if item.state == SUSPENDED]
        for found in map(self.look.standing, suspended):
            if found.state != SUSPENDED or found.live is None:
                continue
            try:
                seq = record_suspension(self.workspace, found.live)
            except (LedgerError, WorkspaceError, OSError) as error:
                self.context.log.error(f"the suspension of {found.version} could not be recorded: {error}")
                continue
            if seq is not None:
                self.context.log.warning(f"{found.text}. This is ledger entry {seq}")

    def _materialized(self, assets: set[dg.AssetKey]) -> set[str]:
        """Return the versions with a materialization since the last tick; the UI shows only observations after it."""
        covered: set[str] = set()
        for key in sorted(assets):
            name = key.to_user_string()
            records = latest_materializations(self.context.instance, key, self.seen.get(name), EVENTS_A_TICK)
            covered |= {str(record.partition_key) for record in records}
            if records:
                self.seen[name] = records[-1].storage_id
        return covered


def _events(ticks: Sequence[_Tick], known: set[str]) -> list[dg.AssetObservation]:
    """Return what to tell Dagster: one observation on a version's package for all targets, and one on each deployment."""
    first = ticks[0]
    news = [(tick, {found.version: found for found in tick.news(known)}) for tick in ticks]
    changed = {version for _, fresh in news for version in fresh}
    told: list[dg.AssetObservation] = []
    for version in reversed(first.look.versions):
        if version not in changed:
            continue
        others = [tick.look.standing(version) for tick in ticks[1:]]
        told.append(package_notice(first.board, first.look.standing(version), first.lane.check.asset_key, others))
        for tick, fresh in news:
            found = fresh.get(version)
            notice = deployment_notice(tick.board, found, tick.lane.deployment) if found is not None else None
            told += [notice] if notice is not None else []
    return told


def _summary(look: Look) -> str:
    """Say what waits for whom and what is live, newest version first; what was superseded is only counted."""
    board = look.board
    adopted = board.unattested()
    before = [f"{adopted} is live on {board.target} since before this ledger: unattested"] if adopted else []
    if not look.versions:
        return "; ".join([*before, f"no version of {board.model} has a package yet"])
    briefs = list(look.briefs())
    lines = [found.text for found in briefs if found.state != SUPERSEDED][:VERSIONS_IN_TEXT]
    superseded = sum(found.state == SUPERSEDED for found in briefs)
    others = len(briefs) - len(lines) - superseded
    if others:
        lines.append(f"{others} more of {len(look.versions)} versions are open: see `cognify status {board.model}`")
    if superseded:
        lines.append(f"superseded: {superseded}")
    if len(briefs) < len(look.versions):
        lines.append(f"{len(look.versions) - len(briefs)} versions were not looked at yet")
    return "; ".join([*lines, *before])


def _release(
    model: GovernedModel, workspace: Workspace, found: Brief, lane: Lane, guards: Sequence[dg.AssetCheckKey]
) -> dg.RunRequest:
    """Request the checks and then the deployment, once for each set of approvals."""
    return dg.RunRequest(
        run_key=f"{workspace.origin}/{model.key}/{found.version}/{lane.target}/{found.round}",
        partition_key=found.version,
        asset_selection=[lane.deployment],
        asset_check_keys=[lane.check, *guards],
        tags={
            LEDGER_TAG: workspace.origin,
            "cognify/release_round": found.round[:16],
            "cognify/package": str(found.package_seq),
        },
    )


def _report(
    model: GovernedModel, workspace: Workspace, found: Brief, lane: Lane, guards: Sequence[dg.AssetCheckKey]
) -> dg.RunRequest:
    """Request the checks alone, to show what they say now. `guards`: those of the frameworks that may hold back a release."""
    return dg.RunRequest(
        run_key=f"{workspace.origin}/{model.key}/{found.version}/{lane.target}/sign_off/{found.sign_off_mark}",
        partition_key=found.version,
        asset_selection=[],
        asset_check_keys=[lane.check, *guards],
        tags={LEDGER_TAG: workspace.origin, PURPOSE: REPORT},
    )


def read_cursor(text: str | None, origin: str) -> dict[str, Any]:
    """Return what a cursor holds; nothing where it is not one of ours, or was written over another ledger."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) and value.get("ledger") == origin else {}


def _part(cursor: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = cursor.get(name)
    return dict(value) if isinstance(value, dict) else {}
