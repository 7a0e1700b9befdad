"""Tells an MLflow model registry where each version stands, as tags on its model versions.

Which model version of MLflow a version is stands in the ledger: the training run logs it under the extra fact `mlflow`, and it is
sealed with the run. The sensor exists only where a registry is set, by MLFLOW_REGISTRY_URI or MLFLOW_TRACKING_URI in the code
location's environment; MLflow is imported only when there is something to write.

Invariants: tags are written from the ledger's state and never read, so whoever edits one changes what people see there and nothing
else; one registry entry that cannot be written holds up no other, and no release; no URI, which may hold a password, is logged.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from time import monotonic
from typing import NamedTuple, Protocol

import dagster as dg

from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.instrument.environ import where_unset
from cognify_dagster.orchestration._compat import value_store
from cognify_dagster.orchestration.lanes import Lane
from cognify_dagster.orchestration.memory import Memory, recall
from cognify_dagster.orchestration.metadata import PREFIX
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import APPROVAL, REGISTRY, SENSOR_ROLE, sensor_name
from cognify_dagster.orchestration.notices import RELEASED
from cognify_dagster.orchestration.sensors import read_cursor
from cognify_dagster.orchestration.spaces import ledger_of
from cognify_dagster.orchestration.standing import Board, Standing
from cognify_dagster.orchestration.watching import LOOK_S, PACKAGES_A_LOOK, Look, ModelWatch, catching_up
from cognify_dagster.orchestration.workflow import released_fields, workflow_fields
from cognify_dagster.records import TrainingRun
from cognify_dagster.workspace import Reading, Resident

EXTRA = "mlflow"
URIS = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")
VERSIONS_A_TICK = 20
WRITE_S = 20.0
TAG_CHARS = 500
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_FIELDS = ("validation_status", "compliance_review", "security_scan", "business_approval", "deployment_tier")


class Registry(Protocol):
    """What is used of `mlflow.MlflowClient`."""

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a registered model's version."""


class Place(NamedTuple):
    """A version of a registered model."""

    name: str
    version: str


def registry_is_set() -> bool:
    """Whether the environment names a registry."""
    return any(os.environ.get(name) for name in URIS)


def open_registry() -> Registry:
    """Return MLflow's client for the registry that the environment names.

    Raises:
        ImportError: if MLflow is not installed.
    """
    from mlflow import MlflowClient

    tracking = os.environ.get("MLFLOW_TRACKING_URI") or None
    found: Registry = MlflowClient(
        tracking_uri=tracking, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or tracking
    )
    return found


def registry_sensor(
    model: GovernedModel, lanes: Sequence[Lane], connect: Callable[[], Registry] = open_registry
) -> dg.SensorDefinition:
    """Return the sensor that keeps the tags of a model's versions in the registry.

    Args:
        model: the governed model.
        lanes: its deployments, the one that the package's page tells of in front.
        connect: opens the registry; MLflow's client unless given.
    """

    @dg.sensor(
        name=sensor_name(model.name, REGISTRY),
        minimum_interval_seconds=max(model.sensor_interval_seconds, 30),
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={model.ledger},
        tags={SENSOR_ROLE: REGISTRY},
        description=f"Writes where the versions of {model.key} stand as tags to the MLflow model registry. It reads none.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with ledger_of(context, model).resident() as place:
            return dg.SkipReason(_evaluate(context, place, model, lanes, connect))

    return sensor


def _evaluate(
    context: dg.SensorEvaluationContext,
    place: Resident,
    model: GovernedModel,
    lanes: Sequence[Lane],
    connect: Callable[[], Registry],
) -> str:
    workspace = place.workspace
    behind = catching_up(workspace)
    if behind is not None:
        return behind
    cursor = read_cursor(context.cursor, workspace.origin)
    key = ("registry", model.name)
    memory = recall(value_store(context.instance), cursor.get("memory"), place.state.get(key))
    place.state[key] = memory
    watch = place.remember((APPROVAL, model.name), lambda: ModelWatch(model.key))
    with watch.lock:
        reading = workspace.read()
        versions = watch.packaged.update(reading, PACKAGES_A_LOOK)
        if not watch.packaged.complete(reading):
            return f"looking up the versions of {model.key}: {len(versions):,} so far"
        now, until = datetime.now(timezone.utc), monotonic() + LOOK_S
        looks = [
            watch.lane(lane.target, lane.enforces).look(workspace, reading, versions, now, until) for lane in lanes
        ]
        news = list(_news(reading, model.key, looks, memory))
    said = _write(context, news, memory, connect)
    value = {"ledger": workspace.origin, "memory": memory.save(value_store(context.instance))}
    context.update_cursor(json.dumps(value))
    return said


class News(NamedTuple):
    """What the registry does not say yet of a version. `marks` says, by target, what it says once the tags are written."""

    version: str
    place: Place
    tags: Mapping[str, str]
    marks: Mapping[str, str]


def _news(reading: Reading, model: str, looks: Sequence[Look], memory: Memory) -> Iterator[News]:
    """Yield what is to be written, newest version first, at most `VERSIONS_A_TICK`."""
    known = [{item.version: item for item in look.briefs()} for look in looks]
    left = VERSIONS_A_TICK
    for version in known[0]:
        marks = {
            look.board.target: found[version].fingerprint
            for look, found in zip(looks, known, strict=True)
            if version in found
        }
        if all(memory.get(target, version).told == mark for target, mark in marks.items()):
            continue
        place = linked(reading, model, version)
        if place is None:
            for target, mark in marks.items():
                memory.told(target, version, mark)
            continue
        if left == 0:
            return
        left -= 1
        standings = [look.standing(version) for look, found in zip(looks, known, strict=True) if version in found]
        yield News(version, place, tags(looks[0].board, standings), marks)


def linked(reading: Reading, model: str, version: str) -> Place | None:
    """Return the model version of MLflow that a sealed training run names, None if it names none that can be used."""
    found = reading.latest(TrainingRun, f"model/{model}@{version}")
    said = found.record.extra.get(EXTRA) if found is not None else None
    if not isinstance(said, Mapping):
        return None
    name, number = said.get("model"), said.get("version")
    if isinstance(number, int) and not isinstance(number, bool):
        number = str(number)
    usable = isinstance(name, str) and isinstance(number, str) and 0 < len(name) <= 250 and number.isdigit()
    return Place(str(name), str(number)) if usable else None


def tags(board: Board, standings: Sequence[Standing]) -> dict[str, str]:
    """Return the tags of a version, the standing on the first target leading."""
    first = standings[0]
    if first.decision is not None and first.state not in RELEASED:
        fields = workflow_fields(first.decision)
    else:
        grant = grant_of(board.reading, first.deployed) if first.deployed is not None else None
        fields = released_fields(first, grant)
        if first.decision is not None:
            fields = {**workflow_fields(first.decision), **fields}
    found = {
        "state": first.state,
        "state_text": first.text,
        **{name: fields[PREFIX + name] for name in _FIELDS if PREFIX + name in fields},
        **{f"on_{item.target}": item.text for item in standings},
        "model": first.model,
        "version": first.version,
        "ledger": board.reading.origin,
        "as_of_entry": str(first.size - 1),
        "source_of_truth": "the ledger; these tags are written from it and decide nothing",
    }
    return {f"cognify.{name}": text[:TAG_CHARS] for name, text in found.items()}


def _write(
    context: dg.SensorEvaluationContext, news: Sequence[News], memory: Memory, connect: Callable[[], Registry]
) -> str:
    """Write tags, note in the memory what was written, and say what was done."""
    if not news:
        return "the registry says what the ledger says"
    try:
        with _patient():
            registry = connect()
    except ImportError:
        return "nothing is told: MLflow is not installed where this code location runs (pip install mlflow-skinny)"
    except Exception as error:
        return f"the registry cannot be opened: {_plain(error)}"
    until, written, failed = monotonic() + WRITE_S, 0, list[str]()
    for item in news:
        if monotonic() > until or len(failed) >= 3:
            break
        try:
            with _patient():
                for key, value in item.tags.items():
                    registry.set_model_version_tag(item.place.name, item.place.version, key, value)
        except Exception as error:
            failed.append(f"{item.place.name} {item.place.version} ({item.version}): {_plain(error)}")
            context.log.error(f"the registry was not told, and is at the next tick: {failed[-1]}")
            continue
        written += 1
        for target, mark in item.marks.items():
            memory.told(target, item.version, mark)
    left = len(news) - written - len(failed)
    parts = [f"{written} model versions were tagged"]
    parts += [f"{len(failed)} could not be: {failed[0]}"] if failed else []
    parts += [f"{left} wait for the next tick"] if left else []
    return "; ".join(parts)


def _patient() -> AbstractContextManager[None]:
    """Let MLflow wait no longer than a tick may last, unless the environment says how long."""
    return where_unset(_PATIENCE)


def _plain(error: Exception) -> str:
    """Say what went wrong, on one short line and without the URI of the registry."""
    text = " ".join(str(error).split())
    for name in URIS:
        if value := os.environ.get(name):
            text = text.replace(value, f"${name}")
    return f"{type(error).__name__}: {text}"[:300]
