"""What a training cost: floating point operations, accelerator time, energy. Pure.

Invariant: nothing is invented. A figure that nobody stated and that follows from nothing stated is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training._json import MAX_SAFE_INTEGER, coerce

#: How `estimate_flops` counts, with its source, as it stands in the record.
FLOPS_METHOD = (
    "6*P*D (forward and backward pass of a dense transformer: Kaplan et al. 2020, arXiv:2001.08361, section 2.1)"
)

_NUMBERS = ("flops", "device_seconds", "energy_kwh")
_COUNTS = ("parameters", "tokens")
_TEXTS = ("flops_method", "hardware", "energy_method")


def estimate_flops(parameters: int, tokens: int) -> int:
    """Estimates the floating point operations of a training as 6·P·D.

    It holds for dense transformers whose every parameter is trained; with adapters only it is an upper bound, and diffusion or
    convolutional models need another method. See `FLOPS_METHOD` for the source.

    Args:
        parameters: P, parameters of the model.
        tokens: D, training tokens, each pass over the data counted.

    Raises:
        TrainingError: a number that is no count.
    """
    for name, value in (("parameters", parameters), ("tokens", tokens)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise TrainingError(f"compute.{name}: expected a whole number that is not negative, got {value!r}")
    return 6 * parameters * tokens


def checked_compute(before: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Adds what is stated now to what was stated before; None and empty text state nothing.

    Raises:
        TrainingError: naming the figure that is no usable number or text.
    """
    found = dict(before)
    for name in _NUMBERS:
        value = coerce(stated.get(name), key=f"compute.{name}")
        if isinstance(value, str) and isinstance(stated.get(name), int):
            value = float(value)  # an integer beyond what JSON keeps exactly: the estimate is not that exact
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise TrainingError(f"compute.{name}: expected a number that is not negative, got {stated[name]!r}")
        found[name] = value
    for name in _COUNTS:
        value = coerce(stated.get(name), key=f"compute.{name}")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SAFE_INTEGER:
            raise TrainingError(f"compute.{name}: expected a whole number that is not negative, got {stated[name]!r}")
        found[name] = value
    for name in _TEXTS:
        value = coerce(stated.get(name), key=f"compute.{name}")
        if value is not None and (not isinstance(value, str) or len(value) > 1000):
            raise TrainingError(f"compute.{name}: expected text of at most 1000 characters")
        if value:
            found[name] = value
    return found


def completed_compute(stated: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded: with parameters and tokens and no other count, the operations are estimated and the method named."""
    found = dict(stated)
    if "flops" not in found and found.get("parameters") and found.get("tokens"):
        flops = estimate_flops(found["parameters"], found["tokens"])
        found["flops"] = flops if flops <= MAX_SAFE_INTEGER else float(flops)
        found.setdefault("flops_method", FLOPS_METHOD)
    return found
