"""Hugging Face: one callback line on a stock `transformers.Trainer` script (and so TRL and PEFT) writes the training record.

`CognifyCallback` is made on first use, so importing this package costs nothing where transformers is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cognify_dagster.instrument.huggingface.callback import CognifyCallback

__all__ = ["CognifyCallback"]


def __getattr__(name: str) -> Any:
    if name != "CognifyCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from cognify_dagster.instrument.huggingface.callback import CognifyCallback
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("transformers", "torch"):
            raise
        raise ModuleNotFoundError(
            f"CognifyCallback needs transformers and torch ({error.name} is missing); install them beside cognify_dagster",
            name=error.name,
        ) from error
    return CognifyCallback
