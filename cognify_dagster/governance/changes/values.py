"""Lines of a comparison, and values as people read them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cognify_dagster.records import to_json

#: Stands for a value that one of the versions does not have.
ABSENT = "(absent)"
_SHOWN = 120


@dataclass(frozen=True)
class Line:
    """One difference, or one bound that was judged.

    Attributes:
        item: What it is about, such as ``hyperparameter optimizer.lr``.
        before: The base version's value.
        after: The new version's value.
        allowed_by: The bound that allows it; None where none does.
        ok: Whether it leaves the version covered.
        text: The line as a sentence.
    """

    item: str
    before: str
    after: str
    allowed_by: str | None
    ok: bool
    text: str


def differ(item: str, before: Any, after: Any, why: str = "the plan does not allow this to change") -> Line:
    """A difference that nothing allows."""
    old, new = shown(before), shown(after)
    return Line(item, old, new, None, False, f"{item}: {_moved(old, new)}: {why}")


def judged(item: str, before: Any, after: Any, bound: str, ok: bool, why: str = "") -> Line:
    """A difference or a measured value, judged by a bound."""
    old, new = shown(before), shown(after)
    if ok:
        return Line(item, old, new, bound, True, f"{item}: {_moved(old, new)}, allowed by {bound}")
    reason = why or f"outside what the plan allows ({bound} does not cover it)"
    return Line(item, old, new, None, False, f"{item}: {_moved(old, new)}: {reason}")


def _moved(old: str, new: str) -> str:
    return new if not old else f"{old} → {new}"


def plain(value: Any) -> Any:
    """A value as JSON, tuples as lists."""
    return to_json(value)


def shown(value: Any, limit: int = _SHOWN) -> str:
    """A value in one line, cut to a length."""
    text = value if isinstance(value, str) else json.dumps(to_json(value), ensure_ascii=False, sort_keys=True)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted path. Dots and backslashes inside a name are escaped, so that no two paths meet; lists are values."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        path = prefix + key.replace("\\", "\\\\").replace(".", "\\.")
        if isinstance(item, Mapping) and item:
            found.update(flatten(item, f"{path}."))
        else:
            found[path] = item
    return found
