"""Training in a process of its own through Dagster Pipes: the script reports, this step checks and writes the ledger.

Invariants: the script has no access to the ledger; every file that it reports is hashed here and a digest that differs is refused;
extras, environment variables and command line of the script reach no record. A script that fails, is killed or reports nothing leaves a
`training_failed` entry, as any failed training does.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg

from cognify_dagster.instrument.pipes_report import EXTRA, read_message, replay, reported_environment
from cognify_dagster.orchestration.current import DEFINED_IN, current_training
from cognify_dagster.orchestration.inputs import Snapshot
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.orchestration.training import training_run


def train_with_pipes(
    context: Any,
    client: Any,
    *,
    extras: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    allowed: Sequence[str | Path] = (),
    **launch: Any,
) -> Path:
    """Train in an external process, record what it reports, and return the path of its model. Call it in a training function.

    The script finds version, datasets (path and root) and output folder under the extra `cognify`, and sends one message; see
    `cognify_dagster.instrument.pipes`.

    Args:
        context: the asset's context.
        client: a Pipes client, such as `dg.PipesSubprocessClient`. The files that the script reports must be readable here.
        extras: further extras for the script. They are handed over and never recorded.
        output: where the script writes; a folder of the run below the workspace's home unless given. It is left as it is.
        allowed: further folders that reported files may lie in.
        launch: what the client's `run` takes besides, such as `command`, `env` and `cwd`.

    Raises:
        UsageError: outside a training function, or for an extra called "cognify".
        TrainingError: if the script reports no model, reports it in another form, or a file is not what it says.

    Examples:
        .. code-block:: python

            @cg.training_run(credit, datasets=["loans_train"])
            def credit_model(context, loans_train: cg.Snapshot, pipes: dg.PipesSubprocessClient):
                return cg.train_with_pipes(context, pipes, command=["python", "train.py"])
    """
    training = current_training("train_with_pipes")
    if extras and EXTRA in extras:
        raise UsageError(f"the extra {EXTRA!r} is what the script is told about the run; use another name for yours")
    folder = Path(output).absolute() if output is not None else training.folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {
        "model": training.model,
        "version": training.version,
        "output": str(folder),
        "datasets": {name: _handed(item) for name, item in training.snapshots.items()},
    }
    done = client.run(context=context, extras={**(extras or {}), EXTRA: told}, **launch)
    others = [Path(item) for item in allowed]
    message = read_message(done.get_custom_messages(), folder, others)
    environment = reported_environment(message)
    path = replay(message, training.recorder, folder, others)
    training.environment = environment or training.environment
    said = "reported by the script" if environment is not None else "of the process that launched the script"
    training.recorder.log_extra("pipes", {"environment": said})
    return path


def _handed(item: Snapshot) -> dict[str, str | None]:
    as_table = item.recorded.record.data is not None
    return {"path": None if as_table else item.path, "root": item.root}


def pipes_training_run(
    model: GovernedModel,
    *,
    datasets: Sequence[str],
    command: Sequence[str],
    name: str,
    extras: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None = None,
    client: dg.PipesSubprocessClient | None = None,
    description: str | None = None,
    **options: Any,
) -> dg.AssetsDefinition:
    """Make a training asset of a command, without a function: each version runs the script and seals what it reports.

    Args:
        model: the governed model.
        datasets: names of the snapshots it trains on.
        command: the command line, as a list. It is run without a shell; do not put secrets into it, other processes can read it.
        name: asset name.
        extras: further extras, or a function of the version that returns them. Never recorded.
        client: how the process is launched; a `PipesSubprocessClient` unless given.
        description: what the asset shows.
        options: as for `training_run`.

    Raises:
        UsageError: if the command is empty or a single text.

    Examples:
        .. code-block:: python

            credit_model = cg.pipes_training_run(
                credit, name="credit_model", datasets=["loans_train"], command=[sys.executable, "train.py"]
            )
    """
    if isinstance(command, str) or not command:
        raise UsageError(f'{name}: give the command as a list of words, such as ["python", "train.py"]')
    words, launcher = list(command), client or dg.PipesSubprocessClient()

    def train(context: dg.AssetExecutionContext, version: str) -> Path:
        given = extras(version) if callable(extras) else extras
        return train_with_pipes(context, launcher, extras=given, command=words)

    train.__name__ = name
    train.__doc__ = description or f"Trains a version of {model.key} in a process of its own and seals what it reports."
    frame = _caller()
    train.__module__ = str(frame.f_globals.get("__name__", "__main__"))
    setattr(train, DEFINED_IN, frame.f_code.co_filename)
    script = next((Path(item).absolute() for item in words if item.endswith(".py") and Path(item).is_file()), None)
    return training_run(model, datasets=datasets, name=name, source=script or frame.f_code.co_filename, **options)(
        train
    )


def _caller() -> FrameType:
    """The frame of the code that asked for the asset, which is not in this file."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    assert frame is not None
    return frame
