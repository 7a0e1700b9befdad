"""For a training script that a governed Dagster step launched through Pipes: a recorder that reports to that step.

The script needs `dagster_pipes` alone; `open_training` is a convenience that writes the message of `pipes_report`, with the packages that the
script runs on.

Invariant: nothing here reaches a ledger. What is reported is a claim that the launching step checks, file by file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.pipes_report import EXTRA, FORM, LONGEST_LINE, REPORT, as_json
from cognify_dagster.training import Environment, TrainingError, TrainingRecorder, capture_environment, digest_files
from cognify_dagster.training._json import coerce


@dataclass(frozen=True)
class GivenDataset:
    """A dataset as the step hands it out: `path` is None for one that was recorded as a table and has no file."""

    name: str
    path: str | None
    root: str


class PipesRun(TrainingRecorder):
    """What a script writes to: a `TrainingRecorder` whose content is sent to the launching step at the end.

    Attributes:
        version: the version to train.
        output: the folder to write model, checkpoints and artefacts to.
        datasets: by name, what to train on.
    """

    def __init__(self, model: str, version: str, output: Path, datasets: Mapping[str, GivenDataset]) -> None:
        super().__init__()
        self.model, self.version, self.output, self.datasets = model, version, output, datasets
        self._message: dict[str, Any] = {}

    def log_config(self, config: Mapping[str, Any]) -> None:
        super().log_config(config)
        self._message.setdefault("config", {}).update(coerce(dict(config), key="config"))

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        super().log_metric(name, value, step)
        point = (coerce(step, key=name), coerce(value, key=name))
        self._message.setdefault("metrics", {}).setdefault(name, []).append(point)

    def log_artifact(self, name: str, content: bytes | str | Path, media_type: str) -> None:
        if isinstance(content, (bytes, bytearray, memoryview)):
            folder = self.output / "artifacts"
            folder.mkdir(parents=True, exist_ok=True)
            super().log_artifact(name, bytes(content), media_type)  # checks the name before it becomes a path
            content = folder / name
            content.write_bytes(self.read_artifact(name))
        else:
            super().log_artifact(name, content, media_type)
        path = Path(content).absolute()
        self._message.setdefault("artifacts", []).append(
            {"name": name, "media_type": media_type, "path": str(path), "sha256": digest_files(path).sha256}
        )

    def read_artifact(self, name: str) -> bytes:
        """The bytes of an artefact that was attached."""
        return next(item for item in self.artifacts if item.name == name).read()

    def log_checkpoint(
        self, path: str | Path, *, step: int | None = None, name: str = "", note: str = "", keep: bool = False
    ) -> str:
        if keep:
            raise TrainingError(
                "log_checkpoint: a script cannot ask to keep a checkpoint's bytes; attach it as an artifact"
            )
        found = Path(path).absolute()
        label = super().log_checkpoint(found, step=step, name=name, note=note)
        said = {"path": str(found), "sha256": digest_files(found).sha256, "step": step, "name": label, "note": note}
        self._message.setdefault("checkpoints", []).append(said)
        return label

    def log_seeds(self, **seeds: int) -> None:
        super().log_seeds(**seeds)
        self._message.setdefault("seeds", {}).update(coerce(seeds, key="seeds"))

    def set_architecture(
        self, name: str, *, framework: str, framework_version: str, parameters: int | None = None, **details: Any
    ) -> None:
        given = {"framework": framework, "framework_version": framework_version, "parameters": parameters, **details}
        super().set_architecture(name, **given)
        self._message["architecture"] = coerce({"name": name, **given}, key="architecture")

    def set_base_model(self, name: str, *, sha256: str, licence: str, source: str = "", **details: Any) -> None:
        given = {"sha256": sha256, "licence": licence, "source": source, **details}
        super().set_base_model(name, **given)
        self._message["base_model"] = coerce({"name": name, **given}, key="base_model")

    def set_compute(self, **given: Any) -> None:
        super().set_compute(**given)
        self._message["compute"] = coerce(given, key="compute")

    def set_distributed(self, **given: Any) -> None:
        super().set_distributed(**given)
        self._message["distributed"] = coerce(given, key="distributed")

    def link_external(self, system: str, run: str, **given: Any) -> None:
        if given.get("snapshot") is not None:
            raise TrainingError("link_external: a script cannot send a snapshot; link the run in the asset's function")
        self._message.setdefault("external", []).append(coerce({"system": system, "run": run, **given}, key="external"))

    def set_feature_code(self, path_or_state: Any) -> None:
        raise TrainingError(
            "set_feature_code: set it in the asset's function; it reads a repository, not the script's run"
        )

    def set_rerun(self, *_: Any, **__: Any) -> None:
        raise TrainingError("set_rerun: the step that launched this script records how to run it again")

    def note_selection(self, text: str) -> None:
        super().note_selection(text)
        self._message["selection_note"] = text.strip()

    def log_extra(self, key: str, value: Any) -> None:
        super().log_extra(key, value)
        self._message.setdefault("extra", {})[key] = coerce(value, key=f"extra.{key}")

    def message(self, environment: Environment | None = None) -> dict[str, Any]:
        """The message for the launching step.

        Raises:
            TrainingError: if no model was saved, or it is larger than `MAX_MESSAGE_BYTES`.
        """
        if not self.models:
            raise TrainingError("the script saved no model: call run.save_model(path) before it ends")
        self.complete()
        model = self.models[-1]
        said = {
            "cognify": FORM,
            "model": {"path": str(model.path), "sha256": model.digest.sha256},
            **self._message,
            **({"environment": environment.model_dump(mode="json")} if environment is not None else {}),
        }
        body = as_json(said)
        if len(body) <= LONGEST_LINE:
            return said
        path = self.output / REPORT
        path.write_text(body, encoding="utf-8")
        return {"cognify": FORM, "file": {"path": str(path), "sha256": digest_files(path).sha256}}


@contextmanager
def open_training(pipes: Any) -> Iterator[PipesRun]:
    """Open the run that the launching step asked for; send what it holds when the block ends without an error.

    Args:
        pipes: what `dagster_pipes.open_dagster_pipes()` gave.

    Raises:
        TrainingError: if the script was not launched by a governed training step.

    Examples:
        .. code-block:: python

            with open_dagster_pipes() as pipes, open_training(pipes) as run:
                model = fit(run.datasets["loans_train"].path)
                run.log_metric("auc", 0.78)
                run.save_model(model.save(run.output / "model.json"))
    """
    given = pipes.extras.get(EXTRA) if isinstance(getattr(pipes, "extras", None), Mapping) else None
    if not isinstance(given, Mapping):
        raise TrainingError(
            "this script was not launched by a governed training step: start it with cg.train_with_pipes or "
            "cg.pipes_training_run"
        )
    datasets = {name: GivenDataset(name, item["path"], item["root"]) for name, item in given["datasets"].items()}
    run = PipesRun(given["model"], given["version"], Path(given["output"]), datasets)
    yield run
    pipes.report_custom_message(run.message(capture_environment()))
