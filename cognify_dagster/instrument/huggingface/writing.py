"""Writes what a Trainer says to a run or recorder, on the first process only.

Invariants: an error while capturing never ends a script's training: it is named in the record under `hf.not_captured`. Where the record
belongs to a Dagster asset (`strict`) it does end it: there, what is incomplete shall not be sealed.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from cognify_dagster.instrument.huggingface import capture
from cognify_dagster.instrument.huggingface.base_model import find_base, name_of
from cognify_dagster.instrument.huggingface.checkpoints import Background
from cognify_dagster.instrument.huggingface.ranks import RankStore, own_rows
from cognify_dagster.training import TrainingError, digest_files

_LOG = logging.getLogger("cognify_dagster.huggingface")

Base = Mapping[str, Any] | Literal[False] | None


class Writer:
    """Writes one training.

    Args:
        run: a `Run` or `TrainingRecorder`.
        background: does the hashing.
        trainer: the Trainer, where it was found.
        store: the processes' shared store, where there are several.
        strict: errors of capture are raised.
    """

    def __init__(
        self, run: Any, background: Background, trainer: Any, store: RankStore | None, *, strict: bool
    ) -> None:
        self._run, self._background, self._trainer, self._store = run, background, trainer, store
        self._strict = strict
        self._problems: dict[str, str] = {}
        self._rows: list[dict[str, Any]] = []
        self._logged = 0

    def begin(self, args: Any, state: Any, kwargs: Mapping[str, Any], base: Base) -> None:
        """Record what is known before the first step."""
        self._try("config", lambda: self._config(args, state, kwargs))
        self._try("seeds", lambda: self._run.log_seeds(**capture.seeds(args)))
        self._try("data sets", lambda: self._datasets(kwargs))
        model = kwargs.get("model")
        if model is not None:
            self._try("architecture", lambda: self._architecture(model))
            if base is not False:
                self._background.submit("base model", lambda: self._base(model, base or {}))

    def restarted(self, args: Any, state: Any, kwargs: Mapping[str, Any]) -> None:
        """The Trainer started over with a smaller batch: what it now uses is recorded beside what it began with."""
        self._logged = 0
        self._try("restart", lambda: self._run.log_extra("hf.restarted_with", self._resolved(args, state, kwargs)))

    def resumed(self, folder: Path | None, step: int) -> None:
        """Name the checkpoint that training went on from; its root is the one in the record of the run that wrote it."""
        self._background.submit("resumed from", lambda: self._resumed(folder, step))

    def history(self, state: Any) -> None:
        """Record the entries of the log history that are new; after a resume also those of the earlier run, as the Trainer has them."""
        entries = state.log_history[self._logged :]
        self._logged = len(state.log_history)
        for entry in entries:
            for name, value, step in capture.metric_points(entry):
                self._try(f"metric {name}", functools.partial(self._run.log_metric, name, value, step))

    def checkpoint(self, folder: Path, step: int, note: str, world_size: int, keep: bool) -> None:
        """Hash a checkpoint in the background and record it."""
        self._background.submit(folder.name, lambda: self._checkpoint(folder, step, note, world_size, keep))

    def end(self, args: Any, state: Any, model: Any) -> None:
        """Record cost, best checkpoint, processes, and what could not be captured.

        Raises:
            TrainingError: something could not be captured, and the record is strict.
        """
        self._try("compute", lambda: self._run.set_compute(**capture.compute(args, state, model)))
        if state.best_model_checkpoint:
            best = {"name": Path(state.best_model_checkpoint).name, "metric": args.metric_for_best_model}
            best |= {"value": capture.plain(state.best_metric), "step": state.best_global_step}
            self._try("best checkpoint", lambda: self._run.log_extra("hf.best_checkpoint", best))
        if args.world_size > 1:
            self._try("processes", lambda: self._distributed(args))
        problems = {**self._problems, **self._background.problems}
        if self._store is not None and self._store.silent:
            ranks = ", ".join(map(str, sorted(self._store.silent)))
            problems["other processes"] = f"no list of files came from rank {ranks}; add the callback in every process"
        if problems and self._strict:
            raise TrainingError("; ".join(f"{what}: {why}" for what, why in problems.items()))
        if problems:
            _LOG.warning("not captured: %s", problems)
            self._run.log_extra("hf.not_captured", problems)

    # -------------------------------------------------------------------------------------------------------------------

    def _try(self, what: str, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:
            if self._strict:
                raise
            self._problems[what] = f"{type(error).__name__}: {error}"[:1000]
            _LOG.warning("%s could not be captured: %s", what, error)

    def _config(self, args: Any, state: Any, kwargs: Mapping[str, Any]) -> None:
        self._run.log_config({**capture.training_arguments(args), "resolved": self._resolved(args, state, kwargs)})

    def _resolved(self, args: Any, state: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return capture.resolved(args, state, kwargs.get("optimizer"), kwargs.get("lr_scheduler"), self._trainer)

    def _datasets(self, kwargs: Mapping[str, Any]) -> None:
        train = getattr(self._trainer, "train_dataset", None)
        if train is None:
            train = getattr(kwargs.get("train_dataloader"), "dataset", None)
        found = {"train": capture.dataset_facts(train)}
        evaluation = capture.dataset_facts(getattr(self._trainer, "eval_dataset", None))
        if evaluation is not None:
            found["eval"] = evaluation
        self._run.log_extra("hf.datasets", found)
        self._compare_rows((found["train"] or {}).get("rows"))

    def _compare_rows(self, rows: Any) -> None:
        """Note where the Trainer trains on another number of rows than the bound snapshots have: the binding is the script's word.

        A recorder (in a Dagster asset) doesn't know its snapshots, so nothing is compared there.
        """
        held = getattr(self._run, "datasets", None)
        if not isinstance(held, Mapping) or getattr(self._run, "_attached", False) or type(rows) is not int:
            return
        bound = {label: item for label, item in held.items() if item.ref.role == "train"}
        counts = [item.records for item in bound.values()]
        if not counts or None in counts or sum(counts) == rows:
            return
        named = ", ".join(f"{item.ref.name} (entry {item.ref.seq}, {item.records})" for item in bound.values())
        note = (
            f"the Trainer trains on {rows} rows, the bound training snapshots have {sum(counts)} records: {named}; splitting, filtering or "
            "packing may be why, or other data were trained on"
        )
        self._run.log_extra("hf.rows_differ", {"trainer": rows, "bound": sum(counts), "note": note})
        _LOG.warning("%s", note)

    def _architecture(self, model: Any) -> None:
        found = capture.architecture(model)
        self._run.set_architecture(found.pop("name"), **found)

    def _base(self, model: Any, given: Mapping[str, Any]) -> None:
        name, revision = name_of(capture.without_adapters(model))
        base = find_base(name, revision, given.get("path"))
        if base is None:
            if name or given:
                raise TrainingError(
                    f"the files of base model {name or given.get('name')!r} are not on this machine; name their folder: "
                    "base_model={'path': …}"
                )
            return  # made anew, not fine-tuned
        more: dict[str, Any] = {"parent": tuple(given["parent"])} if given.get("parent") else {}
        if base.revision:
            more["revision"] = base.revision
        self._run.set_base_model(
            str(given.get("name") or base.name),
            sha256=base.digest.sha256,
            licence=str(given.get("licence") or base.licence),
            source=str(given.get("source") or ""),
            files=len(base.digest.files),
            size=base.digest.size,
            **more,
        )

    def _resumed(self, folder: Path | None, step: int) -> None:
        if folder is None:
            self._run.log_extra("hf.resumed_from", {"step": step, "root": None})
            raise TrainingError(f"training was resumed at step {step} from a checkpoint whose folder is not known")
        digest = digest_files(folder)
        found = {
            "name": folder.name,
            "step": step,
            "root": digest.root(),
            "files": len(digest.files),
            "size": digest.size,
        }
        self._run.log_extra("hf.resumed_from", found)

    def _checkpoint(self, folder: Path, step: int, note: str, world_size: int, keep: bool) -> None:
        name = folder.name
        if self._store is not None:
            self._rows += self._store.collect(name, world_size)  # also waits until the others have written their files
            self._rows += own_rows(folder, 0, name)
        self._run.log_checkpoint(folder, step=step, name=name, note=note, keep=keep)

    def _distributed(self, args: Any) -> None:
        import torch.distributed

        backend = torch.distributed.get_backend() if torch.distributed.is_initialized() else ""
        kind = "ddp"
        if getattr(self._trainer, "is_fsdp_enabled", False):
            plugin = self._trainer.accelerator.state.fsdp_plugin
            kind = "fsdp2" if getattr(plugin, "fsdp_version", 1) == 2 else "fsdp"
        elif getattr(self._trainer, "is_deepspeed_enabled", False):
            kind = "deepspeed"
        rows = sorted(self._rows, key=lambda row: (row["checkpoint"], row["rank"], row["file"]))
        self._run.set_distributed(
            world_size=int(args.world_size), backend=str(backend), strategy=kind, rows=rows or None
        )
