"""Whose code a snapshot function is: its folder decides which commit, and so which authors, the record names."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITTEN_IN = "__cognify_written_in__"


def written_in(wrapper: Callable[..., Any], source: Any) -> None:
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
