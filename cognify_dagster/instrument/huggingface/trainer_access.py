"""Finds the Trainer that calls a callback, and watches the parts of it that callbacks are not told about.

A callback is handed arguments, state and model, not the Trainer, and there is no event for an error. So the Trainer is looked up among
the callers of the first event, and four of its methods get a wrapper on this one instance until training ends: three to see an error pass
(it is raised on, unchanged), one to wait for the hashing of the last checkpoint before the next one may rotate it away. Where the
Trainer is not found, capture works without: an error then shows as a run that was never completed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_MAX_FRAMES = 30
_LOOPS = ("_run_epoch", "_evaluate", "_finalize_training")
_LOOPS_OF_OTHERS = ("training_step", "evaluate")


def find_trainer() -> tuple[Any | None, str | None]:
    """Return the calling Trainer and the checkpoint that it resumes from, as far as the callers say."""
    import transformers

    frame, trainer, resumed = sys._getframe(1), None, None
    for _ in range(_MAX_FRAMES):
        if frame is None:
            break
        names = frame.f_locals
        found = names.get("self")
        if isinstance(found, transformers.Trainer):
            trainer = found if trainer is None else trainer
            if found is trainer and isinstance(names.get("resume_from_checkpoint"), str) and resumed is None:
                resumed = names["resume_from_checkpoint"]
        frame = frame.f_back  # type: ignore[assignment]
    return trainer, resumed


class Watch:
    """Wrappers on one Trainer instance, taken off again by `remove`.

    Args:
        trainer: the Trainer.
        on_error: called with an exception that leaves the training loop, before it is raised on.
        before_save: called before a checkpoint is written.
    """

    def __init__(
        self, trainer: Any, on_error: Callable[[BaseException], None], before_save: Callable[[], None]
    ) -> None:
        self._trainer = trainer
        self._names: list[str] = []
        loops = [name for name in _LOOPS if callable(getattr(trainer, name, None))]
        for name in loops if "_run_epoch" in loops else _LOOPS_OF_OTHERS:
            self._wrap(name, None, on_error)
        if callable(getattr(trainer, "_save_checkpoint", None)):
            self._wrap("_save_checkpoint", before_save, None)

    def _wrap(
        self, name: str, before: Callable[[], None] | None, on_error: Callable[[BaseException], None] | None
    ) -> None:
        if name in vars(self._trainer):
            return  # somebody else's wrapper stays as it is
        original = getattr(self._trainer, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before()
            try:
                return original(*args, **kwargs)
            except BaseException as error:
                if on_error is not None:
                    on_error(error)
                raise

        setattr(self._trainer, name, wrapped)
        self._names.append(name)

    def remove(self) -> None:
        """Take the wrappers off; a second call does nothing."""
        for name in self._names:
            vars(self._trainer).pop(name, None)
        self._names.clear()
        self._trainer = None


def will_retry(trainer: Any, args: Any, error: BaseException) -> bool:
    """Whether the Trainer starts over with a smaller batch after this error (`auto_find_batch_size`)."""
    if not getattr(args, "auto_find_batch_size", False) or not isinstance(error, Exception):
        return False
    from accelerate.utils import memory  # type: ignore[import-not-found]

    return bool(memory.should_reduce_batch_size(error))
