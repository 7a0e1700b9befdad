"""Brings an ended run into the ledger: as a sealed version with evaluations and package, as a failed run, or as an experiment.

Invariants: every step looks first whether this run has done it before, so doing all of it again after a crash changes nothing; a run
that no snapshots are bound to becomes an experiment, never a version; thresholds count only if they were adopted before the ledger's
size that the run really saw when it began; a version whose evaluation failed or waits is not packaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

from cognify_dagster.datasets import DatasetError
from cognify_dagster.documents import DocumentError, build_and_record
from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.governance import GovernanceError
from cognify_dagster.instrument.sdk.ended import Ended, freeze_as_told
from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.instrument.sdk.grounds import Ground, ground_of, register_if_new, require_data
from cognify_dagster.instrument.sdk.judging import gates_before, record_evaluations
from cognify_dagster.instrument.sdk.outcomes import NotPackaged, Outcome, Packaged
from cognify_dagster.instrument.sdk.versions import claim_version, require_free, version_of
from cognify_dagster.records import Evaluation, ExperimentRun, GateResult, TrainingFailed, TrainingRun
from cognify_dagster.training import TrainingError
from cognify_dagster.training.experiments import seal_experiment
from cognify_dagster.training.recording import record_failure, seal_training
from cognify_dagster.workspace import Reading, Recorded, Workspace, size_at, started_of

NO_EVALUATION = (
    "the version was not evaluated; report results with cognify.eval(results=…, benchmark_version=…) before complete()"
)
REFUSALS = (DatasetError, DocumentError, EvaluationError, GovernanceError, SdkError, TrainingError)
_WORDS = 4000


@dataclass
class Sealed:
    """What became of a run. `waits` says what still has to be done before its folder may go; empty if nothing."""

    outcome: Outcome
    waits: str = ""
    notes: list[str] = field(default_factory=list)


def seal(
    workspace: Workspace,
    ended: Ended,
    *,
    is_over: Callable[[str], bool] = lambda run: False,
    progress: Callable[[str], None] = lambda text: None,
) -> Sealed:
    """Bring a run into the ledger, or go on where an earlier try stopped.

    Args:
        workspace: where to record.
        ended: the run.
        is_over: tells whether another run of the SDK has ended.
        progress: called with a sentence before each longer step.

    Raises:
        LedgerError, EvidenceError, OSError: the ledger or evidence store is out of reach; try again later.
    """
    reading = workspace.read()
    for text in ended.incomplete:
        ended.note("incomplete", text)
    opened = version_of(reading, ended.project, ended.run)
    subject = f"model/{ended.project}@{opened[0]}" if opened else ""
    training = _sealed_by(reading, subject, ended.run) if opened else None
    if training is not None and opened is not None:
        return _finish(workspace, ended, training, progress)
    if ended.status != "completed":
        if opened is not None:
            return _failed(workspace, ended, opened[0], ended.reason)
        return _experiment(workspace, ended, _quiet_ground(reading, ended), ended.reason or ended.status)
    try:
        ground = ground_of(reading, ended)
    except REFUSALS as error:
        ground = Ground((), f"{error}; so this was kept as an experiment")
    if opened is None and not ground.ungoverned:
        register_if_new(workspace, ended.definition)
        try:
            require_data(workspace.read(), ended.project, ground.trained_on, f"training {ended.project}")
        except GovernanceError as error:
            ground = Ground(ground.datasets, f"{error}; so this was kept as an experiment")
    if ground.ungoverned and opened is None:
        return _experiment(workspace, ended, ground, ground.ungoverned)
    if ground.ungoverned and opened is not None:
        return _failed(workspace, ended, opened[0], ground.ungoverned)
    return _version(workspace, ended, ground, is_over, progress)


def _sealed_by(reading: Reading, subject: str, run: str) -> Recorded[TrainingRun] | None:
    found = reading.latest(TrainingRun, subject)
    return found if found is not None and found.record.observed.get("run") == run else None


def _quiet_ground(reading: Reading, ended: Ended) -> Ground:
    try:
        return ground_of(reading, ended)
    except REFUSALS:
        return Ground(())


def _version(
    workspace: Workspace,
    ended: Ended,
    ground: Ground,
    is_over: Callable[[str], bool],
    progress: Callable[[str], None],
) -> Sealed:
    attribution = ended.attribution(workspace.read())
    if not ended.recorder.models:
        reason = "no model was saved: call run.save_model(PATH) before complete()"
        opened = version_of(workspace.read(), ended.project, ended.run)
        if opened is None:
            return _experiment(workspace, ended, ground, reason)
        return _failed(workspace, ended, opened[0], reason)
    before = version_of(workspace.read(), ended.project, ended.run)
    version, size = claim_version(
        workspace, ended.project, ended.run, opened_by=attribution.launched_by, wanted=_free(workspace, ended, is_over),
        is_over=is_over,
    )  # fmt: skip
    started_after = _started(workspace.read(), ended, size, opened_before=before is not None)
    if ended.evaluations and not gates_before(workspace.read(), ended.project, started_after):
        told = {item.label or f"evaluation {number}": item.plain for number, item in enumerate(ended.evaluations, 1)}
        ended.note("results_without_gates", told)
    progress(f"sealing {ended.project} {version}")
    try:
        seal_training(
            workspace,
            ended.recorder,
            model=ended.project,
            version=version,
            run=ended.run,
            datasets=ground.recorded,
            model_path=ended.recorder.models[-1].path,
            code=ended.code,
            environment=ended.environment,
            attribution=attribution,
            started_after_seq=started_after,
            observed=ended.observed(),
            captured_by=ended.captured_by,
        )
    except TrainingError as error:
        return _failed(workspace, ended, version, str(error))
    training = _sealed_by(workspace.read(), f"model/{ended.project}@{version}", ended.run)
    if training is None:
        return _failed(workspace, ended, version, "the version was sealed by another run meanwhile")
    return _finish(workspace, ended, training, progress)


def _started(reading: Reading, ended: Ended, size: int, *, opened_before: bool) -> int:
    """The ledger's size when the run began: never more than right after it opened its version (`size`).

    What a journal says it saw counts only as far as the ledger had grown by the moment at which the journal says the run began.
    """
    if ended.started_after is not None and opened_before:
        claimed, limit = ended.started_after, size
    else:
        claimed = ended.seen if ended.started_after is None else min(ended.started_after, ended.seen)
        limit = min(size, size_at(reading, ended.started_us)) if ended.captured_by == "spool" else size
    if claimed > limit:
        ended.note("start_not_believed", {"claimed": claimed, "counted": limit})
    return min(claimed, limit)


def _free(workspace: Workspace, ended: Ended, is_over: Callable[[str], bool]) -> str | None:
    """The version that a run asked for while the ledger was out of reach, if it is still free; else the next one, and said."""
    if ended.wanted is None or version_of(workspace.read(), ended.project, ended.run) is not None:
        return None
    try:
        require_free(workspace.read(), ended.project, ended.wanted, is_over)
    except SdkError as error:
        ended.note("version_asked_for", f"{ended.wanted}: {error}")
        return None
    return ended.wanted


def _finish(
    workspace: Workspace, ended: Ended, training: Recorded[TrainingRun], progress: Callable[[str], None]
) -> Sealed:
    """Record what was reported about a sealed version, then build its package."""
    project, version = training.record.model, training.record.version
    if not ended.evaluations:
        return Sealed(NotPackaged(NO_EVALUATION, version, training.seq))
    started = started_of(workspace.read(), training)
    if not gates_before(workspace.read(), project, started):
        reason = (
            f"no thresholds were adopted for {project} before this run began (entry {started}), so its results are "
            "kept as told and judge nothing; a person adopts them with `cognify gates adopt`, then train a new version"
        )
        return Sealed(NotPackaged(reason, version, training.seq))
    progress("recording the evaluations")
    try:
        done = record_evaluations(workspace, training, ended.evaluations, ended)
    except REFUSALS as error:
        reason = f"{error}. The version is sealed (entry {training.seq}); then run `cognify spool flush {ended.run}`"
        return Sealed(NotPackaged(reason, version, training.seq), waits=str(error))
    failed = [outcome for item in done for outcome in item.record.outcomes if not outcome.passed]
    if failed:
        words = "; ".join(item.message or item.id for item in failed)
        return Sealed(NotPackaged(f"the evaluation failed: {words}"[:_WORDS], version, done[-1].seq))
    progress("building the package")
    try:
        return Sealed(_package(workspace, ended, training, done, progress))
    except (DocumentError, GovernanceError) as error:
        return Sealed(
            NotPackaged(f"{error}; then run `cognify package build {project} {version}`", version, done[-1].seq)
        )
    except ImportError as error:
        reason = (
            f"{error.name or error} is not installed here; install cognify-dagster[documents], or run "
            f"`cognify package build {project} {version}` where it is"
        )
        return Sealed(NotPackaged(reason, version, done[-1].seq))


def _package(
    workspace: Workspace,
    ended: Ended,
    training: Recorded[TrainingRun],
    done: list[Recorded[Evaluation]],
    progress: Callable[[str], None],
) -> Packaged | NotPackaged:
    project, version = training.record.model, training.record.version
    reading = workspace.read()
    bad = [item for item in reading.all(GateResult, f"model/{project}@{version}") if item.record.status == "fail"]
    blocking = [item for item in bad if item.record.family == "security" and done[-1].seq in item.record.based_on]
    if blocking:
        words = "; ".join(outcome.message for outcome in blocking[-1].record.outcomes if not outcome.passed)
        return NotPackaged(
            f"known vulnerabilities in what it was trained with: {words}"[:_WORDS], version, blocking[-1].seq
        )
    built = build_and_record(
        workspace,
        project,
        version,
        run=ended.run,
        built_by=ended.attribution(reading).launched_by,
        now=datetime.now(timezone.utc),
        progress=progress,
    )
    record = built.recorded.record
    copy = record.review_copy or record.package
    name = f"{project}-{version}-r{record.revision}-review-copy.pdf"
    folder = workspace.home / "packages" / project / version
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    temporary = path.with_name(f".{name}.new")
    temporary.write_bytes(workspace.evidence.get(copy.digest))
    temporary.replace(path)
    return Packaged(
        project,
        version,
        record.package.digest,
        built.recorded.seq,
        training.seq,
        tuple(item.seq for item in done),
        path,
    )


def _failed(workspace: Workspace, ended: Ended, version: str, reason: str) -> Sealed:
    subject = f"model/{ended.project}@{version}"
    known = [item for item in workspace.read().all(TrainingFailed, subject) if item.record.run == ended.run]
    if known:
        return Sealed(NotPackaged(known[-1].record.reason, version, known[-1].seq))
    seq = record_failure(
        workspace, ended.project, version, run=ended.run, attempt=0, reason=reason[:2000], observed=ended.observed()
    )
    return Sealed(NotPackaged(reason, version, seq))


def _experiment(workspace: Workspace, ended: Ended, ground: Ground, reason: str) -> Sealed:
    subject = f"experiment/{ended.project}"
    known = [item for item in workspace.read().all(ExperimentRun, subject) if item.record.run == ended.run]
    if known:
        return Sealed(NotPackaged(known[-1].record.reason, None, known[-1].seq))
    ended.note("command", list(ended.command))
    freeze_as_told(ended.recorder, ended.ended)
    told: dict[str, object] = {}
    for number, item in enumerate(ended.evaluations, 1):
        told[item.label if item.label and item.label not in told else f"{item.label or 'evaluation'}#{number}"] = (
            item.plain
        )
    seq = seal_experiment(
        workspace,
        ended.recorder,
        project=ended.project,
        run=ended.run,
        reason=reason,
        status=ended.status,
        code=ended.code,
        environment=ended.environment,
        attribution=ended.attribution(workspace.read()),
        datasets=[item.ref for item in ground.datasets],
        results=told,
    )
    return Sealed(NotPackaged(reason, None, seq))
