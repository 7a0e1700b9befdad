"""Environment variables that a library reads while it is called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def where_unset(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set for the time of the block; what the environment says itself stays."""
    changed = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
