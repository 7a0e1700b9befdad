"""`CognifyCallback`: writes the training record of a `transformers.Trainer` (also TRL's and with PEFT) while it trains.

Invariants: only the first process writes; what the Trainer does is never changed (no argument, no file of its checkpoints, no random
number drawn), an exception passes through unchanged; what could not be captured is named in the record under `hf.not_captured`
and never left out silently; a training that ends with an error never becomes a completed run here.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback

from cognify_dagster.instrument.huggingface import capture
from cognify_dagster.instrument.huggingface.checkpoints import Background
from cognify_dagster.instrument.huggingface.ranks import RankStore, own_rows
from cognify_dagster.instrument.huggingface.trainer_access import Watch, find_trainer, will_retry
from cognify_dagster.instrument.huggingface.writing import Writer
from cognify_dagster.instrument.recording import Recording
from cognify_dagster.training import TrainingError

_LOG = logging.getLogger("cognify_dagster.huggingface")

#: The folder below `output_dir` that the callback saves the final model to (`final_model="save"`).
FINAL_MODEL = "final-model"

#: Counts the trainings of this process; the processes of one training count alike, since they run the same script.
_TRAININGS = itertools.count(1)


def _timed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Add the time that a hook took on the training's thread to `seconds`."""

    @functools.wraps(method)
    def wrapped(self: CognifyCallback, *args: Any, **kwargs: Any) -> Any:
        if self._inside:
            return method(self, *args, **kwargs)
        started, self._inside = time.perf_counter(), True
        try:
            return method(self, *args, **kwargs)
        finally:
            self._inside = False
            self.seconds += time.perf_counter() - started

    return wrapped


class CognifyCallback(TrainerCallback):  # type: ignore[misc]  # transformers comes without types where it is not installed
    """Captures a training as it runs. One line on a stock script: `trainer.add_callback(CognifyCallback(project="…"))`.

    Without `recording` it starts a run of the SDK (`cognify_dagster.sdk`), or joins the one that is open, and completes what it started
    when training ends. Inside a Dagster asset it joins the asset's run by itself, or takes the recorder that the asset was given.

    What it records: the arguments as they were used, with devices, batch in all, optimizer and schedule; seeds; what the data sets were;
    every number of the log history with its step; each checkpoint with the digests of its files (hashed on a thread of its own); the best
    one; architecture, adapters and parameter counts; the base model's digest and licence; operations and tokens; the final model; the
    checkpoint that training was resumed from.

    Args:
        recording: a `Run` or a `TrainingRecorder` to write to; who made it completes it.
        project: the governed model's key, for a run of its own.
        workspace: the ledger's origin or a path, where it is not found by itself.
        version: the model version; the next free one unless given.
        experiment: why this is an experiment and no governed run.
        final_model: `save` writes the model as it stands when training ends (with `load_best_model_at_end` the best one) to
            `<output_dir>/final-model` and records that; `script` leaves it to the script, which calls `save_model(path)`.
        base_model: what is known of the base model: any of `name`, `licence`, `source`, `path` (folder of its files), `parent`
            (model key and version of the governed run that it comes from). The rest is read from its files; `False` says that there is none.
        keep_checkpoints: keep the bytes of every checkpoint as evidence, not only the digests.
        complete: complete the run when training ends; by default if the callback started it and saves the model.

    Attributes:
        run: what is written to, from the start of training.
        outcome: what completing the run returned.
        seconds: time spent inside the callback on the training's thread.
        wall: seconds from the start of training to its end, the callback's included; 0 before the end.
    """

    def __init__(
        self,
        recording: Recording | None = None,
        *,
        project: str | None = None,
        workspace: str | Path | None = None,
        version: str | None = None,
        experiment: str = "",
        final_model: Literal["save", "script"] = "save",
        base_model: Mapping[str, Any] | Literal[False] | None = None,
        keep_checkpoints: bool = False,
        complete: bool | None = None,
    ) -> None:
        if final_model not in ("save", "script"):
            raise TrainingError(f"final_model: expected 'save' or 'script', got {final_model!r}")
        if recording is not None and (project or version or experiment or workspace):
            raise TrainingError(
                "CognifyCallback: give a run to write to, or project, workspace, version and experiment, not both"
            )
        if isinstance(base_model, Mapping):
            unknown = sorted(set(base_model) - {"name", "licence", "source", "path", "parent"})
            if unknown:
                raise TrainingError(
                    f"base_model: unknown entry {unknown[0]!r}; known are name, licence, source, path, parent"
                )
        self._given = recording
        self._project, self._workspace, self._version, self._experiment = project, workspace, version, experiment
        self._final_model, self._base, self._keep = final_model, base_model, keep_checkpoints
        self._complete = complete
        self.run: Any = recording
        self.outcome: Any = None
        self.seconds = self.wall = 0.0
        self._inside = False
        self._reset()

    def _reset(self) -> None:
        self._owns = self._writes = self._active = False
        self._strict = self._given is not None
        self._trainer: Any = None
        self._watch: Watch | None = None
        self._background = Background()
        self._started = 0.0
        self._store: RankStore | None = None
        self._writer: Writer | None = None
        self._final: Path | None = None

    # --- events --------------------------------------------------------------------------------------------------------

    @_timed
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the run and record what is known before the first step."""
        if self._active:  # the Trainer starts over with a smaller batch
            if self._writer is not None:
                self._writer.restarted(args, state, kwargs)
            return
        self._reset()
        number = next(_TRAININGS)
        self._started = time.perf_counter()
        self._active, self._writes = True, bool(state.is_world_process_zero)
        self._trainer, resumed = find_trainer()
        if self._trainer is not None:
            self._watch = Watch(self._trainer, lambda error: self._failed(args, error), self._before_save)
        if args.world_size > 1:
            self._store = RankStore.open(str(number))
        # Chosen now, when no process writes yet, so that all processes choose the same.
        self._final = _free_folder(Path(args.output_dir), FINAL_MODEL)
        if not self._writes:
            return
        try:
            self._open(state)
            writer = Writer(self.run, self._background, self._trainer, self._store, strict=self._strict)
            self._writer = writer
            writer.begin(args, state, kwargs, self._base)
            if state.global_step > 0:
                writer.resumed(_resumed_folder(args, state, resumed), int(state.global_step))
            writer.history(state)
        except BaseException as error:
            self._failed(args, error)
            raise

    @_timed
    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the numbers that came to the log history."""
        if self._active and self._writer is not None:
            self._writer.history(state)

    @_timed
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Be done with the last checkpoint before the next one is written."""
        if self._active and (control.should_save or control.should_training_stop):
            self._background.join()

    @_timed
    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Be done with the last checkpoint before the next one is written."""
        if self._active and (control.should_save or control.should_training_stop):
            self._background.join()

    @_timed
    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Be done with the last checkpoint: with `save_strategy="best"` an evaluation decides whether the next one is written."""
        if self._active and str(capture.plain(args.save_strategy)) == "best":
            self._background.join()

    @_timed
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Hash the checkpoint that was written, on a thread of its own."""
        if not self._active:
            return
        folder = _checkpoint_folder(args, state, self._trainer)
        name, step = folder.name, int(state.global_step)
        if not self._writes:
            if self._store is not None:
                store, rank = self._store, int(args.process_index)
                self._background.submit(name, lambda: store.put(name, rank, own_rows(folder, rank, name)))
            return
        best = state.best_global_step == step and state.best_metric is not None
        note = f"best so far: {state.best_metric:g}" if best else ""
        if self._writer is not None:
            self._writer.checkpoint(folder, step, note, int(args.world_size), self._keep)

    @_timed
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record what is known now, save the final model, and complete the run if it is the callback's own."""
        if not self._active:
            return
        model, unsaved = kwargs.get("model"), ""
        try:
            self._background.join()
            if self._final_model == "save":
                unsaved = self._try_save(model, kwargs)
            if self._writer is not None:
                self._writer.end(args, state, model)
        except BaseException as error:
            self._failed(args, error)
            raise
        self._background.close()
        self._take_off()
        self._active = False
        self.wall = time.perf_counter() - self._started
        if unsaved and self._writes and self._owns:
            self._owns = False
            self.outcome = self.run.fail(unsaved)
            return
        wanted = self._owns and self._final_model == "save" if self._complete is None else self._complete
        if self._writes and wanted and not unsaved and hasattr(self.run, "complete"):
            self._finish()

    # --- for scripts ---------------------------------------------------------------------------------------------------

    def save_model(self, path: str | Path) -> None:
        """Record the model that the script saved itself (`final_model="script"`), and complete the run if it is the callback's own.

        Args:
            path: file or folder; its bytes have to be complete.

        Raises:
            TrainingError: training has not started, or there is nothing at `path`.
        """
        if self.run is None:
            if not self._writes:
                return  # another process writes
            raise TrainingError("save_model: training has not started, so there is no run to record the model in")
        self.run.save_model(path)
        if self._owns and self._complete is not False:
            self._finish()

    # --- the run -------------------------------------------------------------------------------------------------------

    def _open(self, state: Any) -> None:
        """Take the given recording, the open run, or start one."""
        if self._given is not None:
            self.run = self._given
            return
        from cognify_dagster.instrument import sdk
        from cognify_dagster.instrument.sdk import api
        from cognify_dagster.instrument.sdk.attaching import attached

        current, other = sdk.current_run(), self._workspace or self._version or self._experiment
        if current is not None and current.outcome is None and not other and self._project in (None, current.project):
            self.run = current
            return
        if attached() is not None:  # the asset seals the run, so nothing is completed here
            self.run, self._strict = sdk.run(), True
            return
        known = (
            api._session
        )  # what the script's own init() found stays, unless this is about another workspace or project
        if self._workspace or (self._project and (known is None or known.project != self._project)):
            sdk.init(self._workspace, self._project)
        why = self._experiment
        if state.is_hyper_param_search and not why:
            why = f"a trial of a hyper-parameter search: {state.trial_name or 'unnamed'}"
        self.run = sdk.run(version=self._version, experiment=why)
        self._owns = True

    def _finish(self) -> None:
        """Complete the own run. An error here is said and kept, not raised: the training is done, and its script may have more to do."""
        run, self._owns = self.run, False
        try:
            self.outcome = run.complete()
        except Exception as error:
            self.outcome = error
            _LOG.error("the run was not completed: %s: %s", type(error).__name__, error)
            return
        if self.outcome is not None:
            _LOG.info("%s", self.outcome)

    def _failed(self, args: Any, error: BaseException) -> None:
        """Record that training ended with an error; who gave the run records it himself."""
        if not self._active or will_retry(self._trainer, args, error):
            return
        self._active = False
        try:
            self._background.close()
            if self._writes and self._owns:
                self._owns = False
                self.run.fail(f"{type(error).__name__}: {error}"[:2000])
        except Exception as second:  # the first error is the one to show
            _LOG.error("the failed run could not be recorded: %s", second)
        finally:
            self._take_off()

    def _take_off(self) -> None:
        if self._watch is not None:
            self._watch.remove()
        self._watch = self._trainer = self._writer = None

    def _before_save(self) -> None:
        started = time.perf_counter()
        self._background.join()
        self.seconds += time.perf_counter() - started

    # --- the final model -----------------------------------------------------------------------------------------------

    def _try_save(self, model: Any, kwargs: Mapping[str, Any]) -> str:
        """Save and record the model; return why it could not be. The script's own work is not lost by it: training is done."""
        try:
            self._save_final(model, kwargs)
        except Exception as error:
            if self._strict:
                raise
            _LOG.error("the final model could not be saved: %s", error)
            return f"the final model could not be saved: {type(error).__name__}: {error}"[:2000]
        return ""

    def _save_final(self, model: Any, kwargs: Mapping[str, Any]) -> None:
        """Save the model as it stands. Where the weights are spread over processes, each of them takes part."""
        assert self._final is not None
        spread = any(getattr(self._trainer, name, False) for name in ("is_fsdp_enabled", "is_deepspeed_enabled"))
        if spread:
            self._trainer.save_model(str(self._final), _internal_call=True)
        elif self._writes and model is not None:
            plain = capture.unwrapped(model)
            plain.save_pretrained(self._final)
            processing = kwargs.get("processing_class") or kwargs.get("tokenizer")  # its name before transformers 4.46
            if processing is not None:
                processing.save_pretrained(self._final)
        if self._writes:
            # the Trainer leaves a pickle of its arguments beside the weights; the record has them, and a model folder needs no pickle
            (self._final / "training_args.bin").unlink(missing_ok=True)
            self.run.save_model(self._final)


def _free_folder(parent: Path, name: str) -> Path:
    """The first of name, name-2, name-3 … that does not exist: a recorded model is never overwritten."""
    for number in range(1, 10_000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    return parent / f"{name}-{uuid.uuid4().hex}"


def _checkpoint_folder(args: Any, state: Any, trainer: Any) -> Path:
    parent = Path(args.output_dir)
    if state.is_hyper_param_search and trainer is not None:
        parent = Path(trainer._get_output_dir(trainer._trial))
    return (parent / f"checkpoint-{state.global_step}").absolute()


def _resumed_folder(args: Any, state: Any, resumed: str | None) -> Path | None:
    """The checkpoint that training goes on from: as the Trainer was told, or where the state says that it lies."""
    named = args.resume_from_checkpoint
    for given in (resumed, named if isinstance(named, str) else None):
        if given and os.path.isdir(given):
            return Path(given).absolute()
    found = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    return found.absolute() if found.is_dir() else None
