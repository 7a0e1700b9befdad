"""Binds the SDK to a training that something else seals, such as a Dagster asset: `run()` inside then writes to that recorder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timezone

from cognify_dagster.instrument.sdk.bindings import current_bindings, datasets_of
from cognify_dagster.instrument.sdk.ended import Ended, Reported
from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.instrument.sdk.outcomes import Outcome, Pending
from cognify_dagster.instrument.sdk.ranks import rank_and_size
from cognify_dagster.instrument.sdk.reported import Kept, folder_of, keep, read_kept, record_kept
from cognify_dagster.instrument.sdk.run import Desk, Run, Told
from cognify_dagster.records import Evaluation, TrainingRun
from cognify_dagster.training import CodeState, TrainingRecorder, capture_environment
from cognify_dagster.workspace import Recorded, Workspace, opened_at, openings_of, os_login


@dataclass
class Attachment:
    """The training that a block of code belongs to.

    Attributes:
        recorder: what it writes to.
        model, version, run: what is trained, and by which run.
        workspace: where it is recorded.
        seen: how many entries the ledger had when it was attached.
        failed: why the code said that it failed; empty otherwise.
    """

    recorder: TrainingRecorder
    model: str
    version: str
    run: str
    workspace: Workspace
    seen: int
    failed: str = ""
    handle: Run | None = field(default=None, repr=False)

    @property
    def evaluations(self) -> tuple[Reported, ...]:
        """What the code reported with `eval`."""
        return tuple(self.handle._evaluations) if self.handle is not None else ()

    def keep_evaluations(self) -> None:
        """Bring what was reported to the disk. Call it before sealing: a process that dies in between then loses no result.

        Raises:
            OSError, SdkError: it cannot be kept; the version must not be sealed then.
        """
        told = self.handle._told.ended if self.handle is not None else None
        pins = (told.pins if told is not None else None) or ()
        folder = folder_of(self.workspace, self.model, self.version, self.run)
        keep(folder, Kept(self.model, self.version, self.run, pins, self.evaluations))

    def record_evaluations(self) -> list[Recorded[Evaluation]]:
        """Record what was reported, once the asset has sealed the version; nothing without reports.

        What `keep_evaluations` kept goes when all of it is recorded; after a refusal it stays for `record_kept`.

        Raises:
            SdkError: the version is not sealed.
            EvaluationError: results, thresholds or data that cannot be used.
        """
        if self.handle is None or not self.evaluations:
            return []
        training = self.workspace.read().latest(TrainingRun, f"model/{self.model}@{self.version}")
        if training is None:
            raise SdkError(f"{self.model} {self.version} is not sealed, so results about it cannot be recorded")
        if read_kept(folder_of(self.workspace, self.model, self.version, self.run)) is None:
            self.keep_evaluations()
        return record_kept(self.workspace, training)


_ATTACHED: ContextVar[Attachment | None] = ContextVar("cognify_sdk_attached", default=None)


@contextmanager
def attach(
    recorder: TrainingRecorder, *, model: str, version: str, run: str, workspace: Workspace
) -> Iterator[Attachment]:
    """Make `cognify_dagster.sdk.run()` inside the block return a handle on a recorder; `complete()` then leaves sealing to the caller.

    Args:
        recorder: the training's recorder.
        model: the model's key.
        version: the version that is trained.
        run: id of the run, as it opened the version.
        workspace: where it is recorded.
    """
    found = Attachment(recorder, model, version, run, workspace, workspace.ledger.size())
    token = _ATTACHED.set(found)
    try:
        yield found
    finally:
        _ATTACHED.reset(token)


def attached() -> Attachment | None:
    """Return the training that the calling code belongs to, None outside of one."""
    return _ATTACHED.get()


def attached_run(found: Attachment) -> Run:
    """Return the handle on an attached training; the same one each time."""
    if found.handle is not None:
        return found.handle
    reading = found.workspace.read()
    pins = datasets_of(reading, current_bindings(reading, found.model))
    ended = Ended(
        run=found.run,
        project=found.model,
        status="completed",
        recorder=found.recorder,
        started=datetime.now(timezone.utc),
        seen=found.seen,
        login=os_login(),
        code=CodeState(vcs="none"),
        environment=capture_environment(),
        pins=pins,
    )
    from cognify_dagster.instrument.sdk.judging import gates_before

    opened = opened_at(openings_of(reading, found.model, found.version), found.run)
    names = tuple(gates_before(reading, found.model, found.seen if opened is None else min(found.seen, opened)))
    told = Told(ended, found.version, governed=True, labels={item.label: item for item in pins}, gate_sets=names)

    def leave(run: Run, *_: object) -> Outcome:
        if ended.status == "failed":
            found.failed = ended.reason
        return Pending(f"the asset that trains {found.model} {found.version} seals this run")

    rank, size = rank_and_size()
    found.handle = Run(
        told, Desk(leave, lambda run: None), journal=None, rank=rank, world_size=size, writes=rank == 0, attached=True
    )
    return found.handle
