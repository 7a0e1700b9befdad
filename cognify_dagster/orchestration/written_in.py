"""Snapshot functions that are made here, and whose code one is: its folder decides which commit, and so which authors, the record names."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cognify_dagster.orchestration.calls import UsageError

_WRITTEN_IN = "__cognify_written_in__"


def _written_in(wrapper: Callable[..., Any], source: Any) -> None:
    """Tell `code_of` whose code a wrapper made here stands for: the source function's, or that of whoever called from another folder."""
    if callable(source):
        setattr(wrapper, _WRITTEN_IN, code_of(source))
        return
    own = Path(__file__).parent
    frame = inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).parent == own:
        frame = frame.f_back
    folder = Path(frame.f_code.co_filename).parent if frame is not None else None
    setattr(wrapper, _WRITTEN_IN, folder if folder is not None and folder.is_dir() else None)


def code_of(target: Callable[..., Any]) -> Path | None:
    """The folder of a function's code, whose commit and authors the snapshot names; None if it cannot be known."""
    if hasattr(target, _WRITTEN_IN):
        found: Path | None = getattr(target, _WRITTEN_IN)
        return found
    code = getattr(target, "__code__", None)
    path = Path(code.co_filename).parent if code is not None else None
    return path if path is not None and path.is_dir() else None


def source_function(name: str, source: Any, *, partitioned: bool, description: str | None) -> Callable[..., Any]:
    """Return a snapshot function for a source that needs none of its own, named and described as its asset.

    Raises:
        UsageError: the dataset is partitioned, and the source is no function that could be asked for a partition.
    """
    if partitioned and not callable(source):
        raise UsageError(
            f"dataset {name}: a partitioned dataset needs a function that returns the source of a partition"
        )

    if partitioned:

        def take(partition: str) -> Any:
            return source(partition)

    else:

        def take() -> Any:  # type: ignore[misc]  # the other form of the same
            return source() if callable(source) else source

    _written_in(take, source)
    take.__name__ = name
    take.__doc__ = description or f"The dataset {name}."
    return take
