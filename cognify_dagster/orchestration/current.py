"""The governed training that the calling code belongs to: what `train_with_pipes` and `cognify_dagster.sdk` find inside an asset.

A training asset sets it around the user's function, `LedgerResource.attach` around the block in a plain asset.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.orchestration.inputs import Snapshot
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.training import CodeState, Environment, TrainingError, TrainingRecorder
from cognify_dagster.workspace import Workspace

if TYPE_CHECKING:
    from cognify_dagster.instrument.sdk import Attachment

DEFINED_IN = "__cognify_defined_in__"
"""On a function made here: the file of the code that asked for it."""


@dataclass
class CurrentTraining:
    """A training that goes on. `environment` is that of the process that trains, where it is another than this one."""

    workspace: Workspace
    model: str
    version: str
    run: str
    recorder: TrainingRecorder
    snapshots: Mapping[str, Snapshot]
    environment: Environment | None = None
    attached: "Attachment | None" = None

    def keep_evaluations(self) -> None:
        """Bring what the code reported with `sdk.eval` to the disk, before the run is sealed.

        Raises:
            OSError, SdkError: it cannot be kept; the run must not be sealed then.
        """
        if self.attached is not None:
            self.attached.keep_evaluations()

    def record_evaluations(self) -> None:
        """Record what the code reported with `sdk.eval`, once the run is sealed; nothing without reports.

        Raises:
            EvaluationError: results, thresholds or data that cannot be used.
        """
        if self.attached is not None:
            self.attached.record_evaluations()

    @property
    def folder(self) -> Path:
        """Where a process of its own may write: a folder of this run, which a retry of it finds again."""
        return self.workspace.home / "training" / self.model / self.version / self.run[:36]


_CURRENT: ContextVar[CurrentTraining | None] = ContextVar("cognify_current_training", default=None)


@contextmanager
def training_is(training: CurrentTraining) -> Iterator[CurrentTraining]:
    """Make a training the current one; `cognify_dagster.sdk.run()` inside then writes to its recorder.

    Raises:
        TrainingError: if the code inside said that the run failed (`run.fail(…)`).
    """
    from cognify_dagster.instrument import sdk

    token = _CURRENT.set(training)
    try:
        with sdk.attach(
            training.recorder,
            model=training.model,
            version=training.version,
            run=training.run,
            workspace=training.workspace,
        ) as attached:
            training.attached = attached
            yield training
    finally:
        _CURRENT.reset(token)
    if attached.failed:
        raise TrainingError(f"the training code said that it failed: {attached.failed}")


def current_training(caller: str) -> CurrentTraining:
    """Return the training that the calling code belongs to.

    Raises:
        UsageError: outside of one.
    """
    found = _CURRENT.get()
    if found is None:
        raise UsageError(
            f"{caller} works inside a function under @cg.training_run, or inside `with ledger.attach(context, model=…)`"
        )
    return found


def rerun_by_default(
    recorder: TrainingRecorder,
    function: Callable[..., Any],
    source: Path,
    code: CodeState,
    asset: Sequence[str],
    partition: str | None,
    *,
    upstream: bool = False,
) -> None:
    """Record how `cognify reproduce` materializes the asset again, unless the training function said so itself.

    Args:
        recorder: the run's recorder.
        function: the asset's function; its module is what is loaded again.
        source: the file (or a file of the folder) that `code` was captured for.
        code: the state of the repository.
        asset: the asset key's path.
        partition: the partition, None without.
        upstream: materialize what the asset is made from too: its data come through Dagster, not from a snapshot's files.
    """
    if recorder.sealed or recorder.rerun:
        return
    defined = Path(getattr(function, DEFINED_IN, function.__code__.co_filename)).resolve()
    root = source.resolve().parent
    for _ in Path(code.scope).parts if code.vcs == "git" else ():
        root = root.parent
    try:
        file = defined.relative_to(root).as_posix()
    except ValueError:
        return  # defined outside the repository of the training code: no command that would run in a checkout of it
    words = ["python", "-m", "cognify_dagster.orchestration.rerun", "--module", function.__module__, "--file", file]
    words += ["--asset", "/".join(asset)]
    words += ["--partition", partition] if partition is not None else []
    words += ["--upstream"] if upstream else []
    with suppress(TrainingError):  # a command that cannot be recorded takes nothing from the training
        recorder.set_rerun(words)
