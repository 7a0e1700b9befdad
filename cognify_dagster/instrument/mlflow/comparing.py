"""Compares a record with the MLflow run that it names: what the record says, what MLflow said when it was sealed, what it says now.

Invariants: the sealed state is evidence, checked against the digest in the ledger; a state is compared whole, not by what looks important;
what cannot be compared is said, never passed over.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.mlflow.artifacts import ModelPlace, download, find_model
from cognify_dagster.instrument.mlflow.mirroring import with_files
from cognify_dagster.instrument.mlflow.store import FORMAT, MlflowStore
from cognify_dagster.instrument.mlflow.tagging import identity_tags
from cognify_dagster.instrument.trackers.errors import RunNotFound, TrackerError
from cognify_dagster.instrument.trackers.tracked import kept, number
from cognify_dagster.records import ExperimentRun, ExternalRun, TrainingRun
from cognify_dagster.workspace import Reading, Recorded, Workspace, unknown_version

ABSENT = "absent"
_RUN_FIELDS = ("name", "experiment", "status", "started_ms", "ended_ms", "lifecycle", "user", "parent")
_WHILE_RUNNING = ("status", "ended_ms")
_SHOWN = 200

Kept = Recorded[TrainingRun] | Recorded[ExperimentRun]


@dataclass(frozen=True)
class Difference:
    """One thing that the stores do not say alike. `edited` says that MLflow itself changed since the record was sealed.

    Attributes:
        kind: run, param, metric, tag, dataset, model, artifact or link.
        name: which one.
        record: what the record says; empty where it does not hold such a thing.
        sealed: what MLflow said when the record was sealed; empty where that was not kept.
        now: what MLflow says now.
    """

    kind: str
    name: str
    record: str
    sealed: str
    now: str
    edited: bool


@dataclass(frozen=True)
class Comparison:
    """A record and the run it names. `model` is the project and `version` empty where the record is an experiment."""

    model: str
    version: str
    entry: int
    run: str
    uri: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether no difference was found."""
        return not self.differences


def compare(
    *,
    workspace: Workspace | str | Path | None = None,
    run_id: str = "",
    model: str = "",
    version: str = "",
    tracking_uri: str = "",
    files: bool = True,
    shared_only: bool = False,
) -> Comparison:
    """Compare a record with the MLflow run that it names.

    Args:
        workspace: an open workspace or its path; searched as the commands do unless given.
        run_id: id of the MLflow run; or
        model: key and
        version: version of a model that names one.
        tracking_uri: address of MLflow; `MLFLOW_TRACKING_URI` unless given. The address in the record is never connected to by itself.
        files: download and hash the run's files as well.
        shared_only: leave out what only one of the stores holds; what was changed in MLflow is always told.

    Raises:
        TrackerError: if no record names the run, or its sealed state cannot be read.
        TrackerUnreachable: if MLflow gives no answer.
    """
    opened = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    reading = opened.read()
    item, link = _linked(reading, run_id, model, version)
    sealed = _sealed_state(opened, link)
    store = MlflowStore(tracking_uri)
    notes: list[str] = (
        [] if sealed is not None else ["the state at sealing was not kept: only record and MLflow are compared"]
    )
    name, own_version = (
        (item.record.model, item.record.version) if isinstance(item.record, TrainingRun) else (item.record.project, "")
    )
    try:
        now = store.state(link.run)
    except RunNotFound:
        gone = Difference("run", link.run, f"entry {item.seq}", "there" if sealed else "", "not there", True)
        return Comparison(name, own_version, item.seq, link.run, store.where, (gone,), tuple(notes))
    if now["run"]["lifecycle"] == "deleted":
        files = False
        notes.append("the run is deleted in MLflow: its files were not read")
    if files:
        now = _with_files(store, now, sealed, item)
    found = [
        *_run(sealed, now),
        *_params(item, sealed, now, shared_only),
        *_metrics(opened, item, sealed, now, shared_only),
    ]
    found += [*_tags(sealed, now), *_inputs(sealed, now), *_models(sealed, now), *_links(reading, item, store, link)]
    found += list(_files(item, sealed, now, notes)) if files else []
    if not files and now["run"]["lifecycle"] != "deleted":
        notes.append("files were not compared")
    return Comparison(name, own_version, item.seq, link.run, store.where, tuple(found), tuple(notes))


def linked_run(record: TrainingRun | ExperimentRun) -> ExternalRun | None:
    """Return the MLflow run that a record names, None if it names none."""
    return next((one for one in record.external if one.system == "mlflow"), None)


def _linked(reading: Reading, run_id: str, model: str, version: str) -> tuple[Kept, ExternalRun]:
    if run_id:
        every: list[Kept] = [*reading.all(TrainingRun), *reading.all(ExperimentRun)]
        for item in sorted(every, key=lambda one: one.seq, reverse=True):
            link = next((one for one in item.record.external if (one.system, one.run) == ("mlflow", run_id)), None)
            if link is not None:
                return item, link
        raise TrackerError(
            f"no record of this workspace names MLflow run {run_id}; mirror it with `cognify mlflow mirror`"
        )
    found = reading.latest(TrainingRun, f"model/{model}@{version}")
    if found is None:
        raise TrackerError(unknown_version(reading, model, version) or f"{model} {version} has no sealed training run")
    link = linked_run(found.record)
    if link is None:
        raise TrackerError(
            f"{model} {version} (entry {found.seq}) names no MLflow run: it was neither mirrored nor linked"
        )
    return found, link


def _sealed_state(workspace: Workspace, link: ExternalRun) -> dict[str, Any] | None:
    if link.snapshot is None:
        return None
    try:
        value = json.loads(workspace.evidence.get(link.snapshot.digest))
    except (ValueError, RecursionError) as error:
        raise TrackerError(
            f"run {link.run}: the state kept at sealing ({link.snapshot.digest}) is not JSON: {error}"
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise TrackerError(f"run {link.run}: the state kept at sealing is not of the form {FORMAT}; upgrade to read it")
    return value


def _with_files(
    store: MlflowStore, now: dict[str, Any], sealed: Mapping[str, Any] | None, item: Kept
) -> dict[str, Any]:
    row = (sealed or {}).get("model")
    with tempfile.TemporaryDirectory(prefix="cognify-mlflow-") as folder:
        place: ModelPlace | None = None
        if row:
            still = [one for one in now["models"] if one["id"] == row["id"]]
            if row["id"] and still:
                place = ModelPlace(row["name"], model_id=row["id"])
            elif row["path"]:
                place = _path_place(store, now, row["path"])
        elif sealed is None and isinstance(item.record, TrainingRun):
            place = find_model(store, now)
        return with_files(now, download(store, str(now["run"]["id"]), place, Path(folder)))


def _path_place(store: MlflowStore, now: Mapping[str, Any], path: str) -> ModelPlace | None:
    try:
        return find_model(store, {**now, "models": []}, path)
    except TrackerError:
        return None


# Each of these yields the differences of one kind -----------------------------------------------------------------------


def _run(sealed: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterable[Difference]:
    if sealed is None:
        if now["run"]["lifecycle"] == "deleted":
            yield Difference("run", "lifecycle", "", "", "deleted", True)
        return
    before, after = sealed["run"], now["run"]
    open_then = before["status"] not in ("FINISHED", "FAILED", "KILLED")
    for field in _RUN_FIELDS:
        if before[field] != after[field] and not (open_then and field in _WHILE_RUNNING):
            yield Difference("run", field, "", _show(before[field]), _show(after[field]), True)


def _params(
    item: Kept, sealed: Mapping[str, Any] | None, now: Mapping[str, Any], shared_only: bool
) -> Iterable[Difference]:
    told, after = _flat(item.record.config, now["params"]), now["params"]
    before = sealed["params"] if sealed is not None else None
    for name in sorted({*told, *after, *(before or ())}):
        recorded, current = told.get(name, ABSENT), after.get(name, ABSENT)
        edited = before is not None and before.get(name, ABSENT) != current
        one_sided = name not in told or name not in after
        apart = not one_sided and not _same_value(recorded, current)
        if edited or apart or (one_sided and not shared_only):
            then = _show(before.get(name, ABSENT)) if before is not None else ""
            yield Difference("param", name, _show(recorded), then, _show(current), edited)


def _metrics(
    workspace: Workspace, item: Kept, sealed: Mapping[str, Any] | None, now: Mapping[str, Any], shared_only: bool
) -> Iterable[Difference]:
    told = _series(workspace, item)
    after = now["metrics"]
    before = sealed["metrics"] if sealed is not None else None
    for name in sorted({*told, *after, *(before or ())}):
        recorded, current = told.get(name), after.get(name)
        edited = before is not None and before.get(name) != current
        one_sided = recorded is None or current is None
        apart = not one_sided and _points(recorded or ()) != _points(current or ())
        if edited or apart or (one_sided and not shared_only):
            then = _curve(before.get(name)) if before is not None else ""
            yield Difference("metric", name, _curve(recorded), then, _curve(current), edited)


def _tags(sealed: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterable[Difference]:
    if sealed is None:
        return
    for name in sorted({*sealed["tags"], *now["tags"]}):
        before, after = sealed["tags"].get(name, ABSENT), now["tags"].get(name, ABSENT)
        if before != after:
            yield Difference("tag", name, "", _show(before), _show(after), True)


def _inputs(sealed: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterable[Difference]:
    if sealed is None:
        return
    before, after = (sorted(json.dumps(one, sort_keys=True) for one in state["inputs"]) for state in (sealed, now))
    for text in sorted({*before, *after}):
        if before.count(text) != after.count(text):
            one = json.loads(text)
            shown = f"{one['source_type']} {one['source']} digest {one['digest']}"
            yield Difference(
                "dataset", str(one["name"]), "", _show(shown if text in before else ABSENT),
                _show(shown if text in after else ABSENT), True,
            )  # fmt: skip


def _models(sealed: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterable[Difference]:
    """Logged models that were added to the run or deleted since."""
    if sealed is None:
        return
    before, after = ({str(one["id"]): str(one["name"]) for one in state["models"]} for state in (sealed, now))
    for model_id in sorted({*before, *after}):
        old, new = before.get(model_id, ABSENT), after.get(model_id, ABSENT)
        if old != new:
            yield Difference("model", model_id, "", old, new, True)


def _links(reading: Reading, item: Kept, store: MlflowStore, link: ExternalRun) -> Iterable[Difference]:
    """Tags of ours that name another record than the one that is sealed. One that is missing was not written yet."""
    if not isinstance(item.record, TrainingRun):
        return
    run = store.ask("read our tags", lambda: store.client.get_run(link.run))
    for name, expected in identity_tags(reading, item).items():  # type: ignore[arg-type]
        found = run.data.tags.get(name)
        if found is not None and found != expected:
            yield Difference("link", name, expected, "", _show(found), True)


def _files(
    item: Kept, sealed: Mapping[str, Any] | None, now: Mapping[str, Any], notes: list[str]
) -> Iterable[Difference]:
    if sealed is None or "artifacts" not in sealed:
        if sealed is not None:
            notes.append("the run's files were not read when the record was sealed, so they are not compared")
        yield from _recorded_model(item, now["model"], notes)
        return
    yield from _file_rows("artifact", sealed["artifacts"], now["artifacts"])
    before, after = sealed["model"], now["model"]
    if before is None:
        return
    if after is None:
        if not before["id"]:  # a logged model that is gone is told with the logged models
            yield Difference("model", str(before["path"]), "", str(before["sha256"]), ABSENT, True)
        return
    yield from _file_rows("model", before["files"], after["files"])
    if not _recorded_digests(item) & {one["sha256"] for one in before["files"]}:
        notes.append("the recorded model was saved on its own: its bytes were never those of the model in MLflow")


def _recorded_model(item: Kept, row: Mapping[str, Any] | None, notes: list[str]) -> Iterable[Difference]:
    digests = _recorded_digests(item)
    if row is None or not digests:
        notes.append("there is no model in both stores to compare")
    elif not digests & {one["sha256"] for one in row["files"]}:
        yield Difference("model", str(row["name"]), ", ".join(sorted(digests))[:_SHOWN], "", str(row["sha256"]), False)


def _recorded_digests(item: Kept) -> set[str]:
    record = item.record
    if isinstance(record, ExperimentRun):
        return {record.model_digest.partition(":")[2]} if record.model_digest else set()
    files = record.model_files or (record.model_file,)
    return {one.digest.partition(":")[2] for one in files}


def _file_rows(
    kind: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterable[Difference]:
    then, current = ({str(one["path"]): str(one["sha256"]) for one in rows} for rows in (before, after))
    for path in sorted({*then, *current}):
        old, new = then.get(path, ABSENT), current.get(path, ABSENT)
        if old != new:
            yield Difference(kind, path, "", old, new, True)


# Values ---------------------------------------------------------------------------------------------------------------------


def _flat(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Nested settings under dotted names, unless MLflow holds them under their own."""
    held, found = set(names), dict[str, Any]()
    for name, value in config.items():
        if isinstance(value, dict) and name not in held and set(value) != {"sha256", "characters"}:
            found |= {f"{name}.{key}": inner for key, inner in _flat(value, ()).items()}
        else:
            found[name] = value
    return found


def _same_value(recorded: Any, text: Any) -> bool:
    """Whether a recorded value is the one that MLflow holds as text."""
    if recorded == text or str(recorded) == text:
        return True
    if recorded in ("NaN", "Infinity", "-Infinity"):
        return str(text) == str(float(recorded.replace("Infinity", "inf")))
    if isinstance(recorded, dict) and set(recorded) == {"sha256", "characters"}:
        return bool(recorded["sha256"] == hashlib.sha256(str(text).encode("utf-8")).hexdigest())
    if isinstance(recorded, (int, float)) and not isinstance(recorded, bool):
        try:
            return float(recorded) == float(text)
        except (TypeError, ValueError):
            return False
    for read in (json.loads, ast.literal_eval):
        try:
            found = kept("", read(str(text)))
            if json.dumps(found, sort_keys=True) == json.dumps(recorded, sort_keys=True):
                return True
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return False


def _series(workspace: Workspace, item: Kept) -> dict[str, list[list[Any]]]:
    """The record's curves under the names that they have in MLflow."""
    record = item.record
    if record.metric_series is None:
        return {name: [[None, value]] for name, value in record.metrics.items()}
    names = record.extra.get("metric_names")
    names = names if isinstance(names, dict) else {}
    series: dict[str, list[list[Any]]] = json.loads(workspace.evidence.get(record.metric_series.digest))
    return {str(names.get(name, name)): points for name, points in series.items()}


def _points(points: Iterable[Sequence[Any]]) -> list[tuple[int, str]]:
    """Points in the order of steps. MLflow gives a value without a step the step 0."""
    return sorted((int(one[0] or 0), repr(number(float(str(one[1]).replace("Infinity", "inf"))))) for one in points)


def _curve(points: Sequence[Sequence[Any]] | None) -> str:
    if points is None:
        return ABSENT
    if not points:
        return "no points"
    last = points[-1]
    count = "1 point" if len(points) == 1 else f"{len(points)} points"
    digest = hashlib.sha256(repr(_points(points)).encode()).hexdigest()[:8]
    return f"{count}, last {last[1]} at step {last[0] if last[0] is not None else 'none'}, curve {digest}"


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
