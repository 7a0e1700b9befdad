"""The logging half of a run: each call goes into memory, which refuses what is of no use, and then to the journal.

Invariants: what cannot be written does not stop the training; it is said once, and the gap stands in the journal. Secrets are taken out
before anything is kept. In a process that is not to write every call does nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.instrument.sdk.journal import Journal
from cognify_dagster.instrument.sdk.redaction import redact, redact_command, redact_text
from cognify_dagster.instrument.sdk.replay import packed
from cognify_dagster.training import CodeState, FilesDigest, TrainingRecorder, capture_code
from cognify_dagster.training._json import coerce

logger = logging.getLogger("cognify_dagster.sdk")


class Telling:
    """What may be logged. Every method may be called from any thread.

    Attributes:
        recorder: the record so far, in memory.
        spool: the folder of the journal; None where there is none.
    """

    def __init__(self, recorder: TrainingRecorder, journal: Journal | None, *, writes: bool) -> None:
        self.recorder = recorder
        self.spool = journal.folder if journal else None
        self._journal = journal
        self._writes, self._pid = writes, os.getpid()
        self._counting = threading.Lock()
        self._files = 0
        self._numbers: dict[str, int] = {}
        self._lost = 0
        self._gaps = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes the record: rank 0, and no forked child."""
        return self._writes and self._pid == os.getpid()

    # Logging --------------------------------------------------------------------------------------------------------

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Record hyperparameters and settings, secrets replaced; see `TrainingRecorder.log_config`."""
        if not self.writes:
            return
        plain = redact(config)
        self.recorder.log_config(plain)
        self._line(lambda: {"o": "config", "v": self._packed(coerce(plain, key="config"))})

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Add a point to a metric's curve; see `TrainingRecorder.log_metric`."""
        if not self.writes:
            return
        if not isinstance(value, (int, float)) and hasattr(value, "item"):
            value = value.item()
        if step is not None and not isinstance(step, int) and hasattr(step, "item"):
            step = step.item()
        self.recorder.log_metric(name, value, step)
        self._line(lambda: {"o": "m", "k": name, "s": step, "v": float(value)})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each of several curves."""
        for name, value in metrics.items():
            self.log_metric(name, value, step)

    def log_artifact(self, name: str, content: bytes | str | Path, media_type: str) -> None:
        """Attach a file or bytes; see `TrainingRecorder.log_artifact`. Bytes are kept in the spool, a file stays where it is."""
        if not self.writes:
            return
        self.recorder.log_artifact(name, content, media_type)
        kept = next(item for item in self.recorder.artifacts if item.name == name)

        def line() -> dict[str, Any]:
            head = {"o": "artifact", "name": name, "media_type": media_type}
            if kept.digest is None:
                return {**head, "blob": self._blob(kept.read())}
            return {**head, "path": str(kept.path), **self._handed(kept.digest)}

        self._line(line)

    def log_checkpoint(
        self, path: str | Path, *, step: int | None = None, name: str = "", note: str = "", keep: bool = False
    ) -> str:
        """Record a checkpoint; see `TrainingRecorder.log_checkpoint`. It is on the disk when this returns.

        Returns:
            The name it is recorded under.
        """
        if not self.writes:
            return name or Path(path).name
        chosen: str = self.recorder.log_checkpoint(path, step=step, name=name, note=note, keep=keep)
        found = next(item for item in self.recorder.checkpoints if item.name == chosen)
        head = {"o": "checkpoint", "name": chosen, "path": str(found.path)}
        stated = {"step": found.step, "note": found.note, "keep": found.keep}
        self._line(lambda: {**head, **stated, **self._handed(found.digest)}, sync=True)
        return chosen

    def save_model(self, path: str | Path) -> Path:
        """Register the saved model, a file or a folder; see `TrainingRecorder.save_model`. The last one saved is the version's."""
        if not self.writes:
            return Path(path).absolute()
        absolute = self.recorder.save_model(path)
        found = next(item for item in self.recorder.models if item.path == absolute)
        self._line(lambda: {"o": "model", "path": str(absolute), **self._handed(found.digest)}, sync=True)
        return absolute

    def log_seeds(self, **seeds: int) -> None:
        """Record seeds by library."""
        self._call("log_seeds", (), seeds)

    def log_extra(self, key: str, value: Any) -> None:
        """Record a fact that has no place of its own."""
        self._call("log_extra", (key, redact(value, key)), {})

    def log(self, **fields: Any) -> None:
        """Record several fields at once: `config`, `metrics`, `seeds`, `selection_note`; all others are extras."""
        for key, value in fields.items():
            if key == "config":
                self.log_config(value)
            elif key == "metrics":
                self.log_metrics(value)
            elif key == "seeds":
                self.log_seeds(**value)
            elif key == "selection_note":
                self.note_selection(value)
            else:
                self.log_extra(key, value)

    def set_architecture(
        self,
        name: str,
        *,
        framework: str,
        framework_version: str,
        parameters: int | None = None,
        **details: Any,
    ) -> None:
        """State what kind of model this is."""
        stated = {"framework": framework, "framework_version": framework_version, "parameters": parameters}
        self._call("set_architecture", (name,), {**stated, **redact(details)})

    def set_base_model(
        self,
        name: str,
        *,
        sha256: str,
        licence: str,
        source: str = "",
        parent: tuple[str, str] | None = None,
        **details: Any,
    ) -> None:
        """State which model this one was made from."""
        stated = {"sha256": sha256, "licence": licence, "source": redact_text(source), "parent": parent}
        self._call("set_base_model", (name,), {**stated, **redact(details)})

    def set_feature_code(self, code: str | Path | CodeState) -> None:
        """State the feature pipeline's code, where it is another."""
        if not self.writes:
            return
        state = code if isinstance(code, CodeState) else capture_code(code)
        self.recorder.set_feature_code(state)
        self._line(lambda: {"o": "feature_code", "code": state.to_facts()})

    def set_compute(self, **stated: Any) -> None:
        """State what the training cost; see `TrainingRecorder.set_compute`."""
        self._call("set_compute", (), stated)

    def set_distributed(
        self,
        *,
        world_size: int,
        backend: str = "",
        strategy: str = "",
        mesh: Mapping[str, Any] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """State over how many processes it ran, and the rows of the shard manifest."""
        stated = {"world_size": world_size, "backend": backend, "strategy": strategy, "mesh": mesh, "rows": rows}
        self._call("set_distributed", (), stated)

    def link_external(
        self, system: str, run: str, *, experiment: str = "", uri: str = "", snapshot: bytes | None = None
    ) -> None:
        """Name the same run in another tracking tool."""
        if not self.writes:
            return
        self.recorder.link_external(system, run, experiment=experiment, uri=uri, snapshot=snapshot)
        kept = next(item for item in self.recorder.external if (item.system, item.run) == (system, run))
        head = {"o": "external", "system": system, "run": run, "experiment": experiment, "uri": kept.uri}
        self._line(lambda: {**head, "snapshot": None if snapshot is None else self._blob(snapshot)})

    def set_rerun(
        self,
        command: Sequence[str],
        *,
        folder: str = ".",
        tolerances: Mapping[str, float] | None = None,
        same_bytes: bool = False,
    ) -> None:
        """State how to run the training again. A command that holds a secret is refused: it would not run without it."""
        if tuple(command) != redact_command(tuple(command)):
            raise SdkError("rerun.command: it holds a secret; pass that by a file or an environment variable instead")
        stated = {"folder": folder, "tolerances": tolerances, "same_bytes": same_bytes}
        self._call("set_rerun", (list(command),), stated)

    def note_selection(self, text: str) -> None:
        """Record, in a person's words, why this configuration was chosen."""
        self._call("note_selection", (redact_text(text) if isinstance(text, str) else text,), {})

    # The journal ----------------------------------------------------------------------------------------------------

    def _call(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if not self.writes:
            return
        getattr(self.recorder, name)(*arguments, **named)
        told = {key: value for key, value in named.items() if value is not None}
        self._line(
            lambda: {
                "o": "call",
                "f": name,
                "a": self._packed(coerce(list(arguments), key=name)),
                "k": self._packed(coerce(told, key=name)),
            }
        )

    def _handed(self, digest: FilesDigest) -> dict[str, Any]:
        """What a line says of files that were handed over, and the number under which the spool may keep links of them."""
        with self._counting:
            self._files += 1
            number = self._numbers[digest.sha256] = self._files
        return {"n": number, "digest": self._packed(digest.to_facts())}

    def _packed(self, value: Any) -> dict[str, Any]:
        assert self._journal is not None
        return packed(value, self._journal.put_blob)

    def _blob(self, data: bytes) -> str:
        assert self._journal is not None
        return self._journal.put_blob(data)

    def _line(self, make: Callable[[], Mapping[str, Any]], *, sync: bool = False) -> None:
        """Write what `make` returns to the journal, if there is one; what cannot be written does not stop the training."""
        if self._journal is None:
            return
        try:
            if self._lost:
                self._journal.write({"o": "gap", "lost": self._lost})
                self._lost = 0
            self._journal.write(make(), sync=sync)
        except (OSError, SdkError) as error:
            self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        if not self._gaps:
            logger.warning(
                "cognify: the spool %s cannot be written (%s). Training goes on; what is logged now is only in memory until "
                "complete(), and lost if this process is killed",
                self.spool,
                error,
            )
        self._lost += 1
        self._gaps += 1
