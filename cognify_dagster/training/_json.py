"""Coercion of what people log into plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from cognify_dagster.training._errors import TrainingError

#: Largest integer that every JSON reader keeps exactly (2^53 - 1, RFC 8785 section 3.2.2.3).
MAX_SAFE_INTEGER = 2**53 - 1

#: Deeper nesting is a reference cycle or an object dump, not a configuration.
MAX_DEPTH = 32


def coerce(value: Any, *, key: str, depth: int = 0) -> Any:
    """Turns a logged value into plain JSON.

    numpy scalars and arrays become numbers and lists, paths and enum members become text, sets become sorted lists,
    non-finite floats become ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, integers beyond 2^53 - 1 become decimal strings.

    Raises:
        TrainingError: the value has no JSON form; the message names the key.
    """
    if depth > MAX_DEPTH:
        raise TrainingError(f"{key}: nested more than {MAX_DEPTH} levels deep; log plain values only")
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return _text(str(value), key)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= MAX_SAFE_INTEGER else str(int(value))
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {_key(k, key): coerce(item, key=f"{key}.{k}", depth=depth + 1) for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [coerce(item, key=f"{key}[{position}]", depth=depth + 1) for position, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        items = [coerce(item, key=f"{key}[…]", depth=depth + 1) for item in value]
        return sorted(items, key=lambda item: (type(item).__name__, str(item)))
    if isinstance(value, PurePath):
        return _text(value.as_posix(), key)
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return coerce(value.tolist(), key=key, depth=depth + 1)
    raise TrainingError(
        f"{key}: a {type(value).__module__}.{type(value).__qualname__} has no JSON form; "
        "log numbers, text, lists or mappings (or str(value), if its text is what matters)"
    )


def _key(name: Any, key: str) -> str:
    if isinstance(name, (str, int)) and not isinstance(name, bool):
        return _text(str(name), key)
    raise TrainingError(f"{key}: {name!r} is no usable key; keys have to be text")


def _text(text: str, key: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise TrainingError(f"{key}: text that is not valid Unicode (a lone surrogate); decode it properly") from None
    return text
