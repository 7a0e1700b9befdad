"""JSON-safe values: what canonical JSON forbids becomes a documented string."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from pydantic import BaseModel

from cognify_dagster.evaluation._errors import EvaluationError

#: Largest integer that every JSON reader keeps exactly (2^53 - 1, RFC 8785 section 3.2.2.3).
MAX_SAFE_INTEGER = 2**53 - 1


def metric_json(value: float) -> float | str:
    """Returns the number, or ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` (canonical JSON has no such numbers)."""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def json_safe(value: Any, *, where: str = "value") -> Any:
    """Turns results into plain JSON values.

    Non-finite floats become strings, integers beyond 2^53 - 1 become decimal strings, numpy scalars and arrays
    become numbers and lists.

    Args:
        value: Anything made of pydantic models, dataclasses, mappings, sequences, numpy values and scalars.
        where: The name used in the error.

    Raises:
        EvaluationError: a value has no JSON form; the message names where it stands.
    """
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= MAX_SAFE_INTEGER else str(int(value))
    if isinstance(value, float):
        return metric_json(value)
    if isinstance(value, Mapping):
        return {str(key): json_safe(item, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item, where=f"{where}[{position}]") for position, item in enumerate(value)]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return json_safe(value.tolist(), where=where)
    raise EvaluationError(f"{where}: a {type(value).__name__} has no JSON form; give numbers, text, lists or mappings")
