"""How the values of columns and the groups of a dataset moved, from the two stored profiles alone.

Two measures, named wherever they stand:

* ``psi``, population stability index, for columns whose values are counted: the sum over values of
  ``(q - p) * ln(q / p)`` with the shares ``p`` before and ``q`` after; a share of 0 counts as half a record. Values that are not
  counted one by one on both sides are one value, "all others".
* ``ks_profile``, for numbers: the largest distance between the two distribution functions drawn straight through minimum, stored
  quantiles and maximum. It is the Kolmogorov-Smirnov distance as far as the profile shows it, no test.

Both are rounded to 6 digits, so that every machine gives the same difference.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_VALUES = 40
_NUMBERS = ("nulls", "nans", "distinct", "mean", "std", "min", "max", "min_length", "max_length")


@dataclass(frozen=True)
class ValueShift:
    """One value: records before and after, None where this is not known."""

    value: Any
    before: int | None
    after: int | None


@dataclass(frozen=True)
class ColumnShift:
    """One column whose statistics moved.

    Attributes:
        column: its name (the new one, if it was renamed).
        type: Arrow type name after.
        before, after: statistics: share of nulls, distinct values, mean, std, min, max, quantiles where there are any.
        measure: `psi`, `ks_profile` or empty.
        distance: its value, None where it could not be computed.
        values: counts of values, for columns with few different ones; `value` None with both counts known is the rest.
    """

    column: str
    type: str
    before: dict[str, Any]
    after: dict[str, Any]
    measure: str
    distance: float | None
    values: tuple[ValueShift, ...] = ()


@dataclass(frozen=True)
class GroupShift:
    """One group of a group column: records before and after, and of them each class of the label."""

    column: str
    value: Any
    before: int
    after: int
    share_before: float | None
    share_after: float | None
    classes: tuple[ValueShift, ...] = ()


def column_shifts(
    old: Mapping[str, Any], new: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> tuple[ColumnShift, ...]:
    """The columns of both profiles whose statistics are not the same, by name.

    Args:
        old, new: profiles as `profile_table` gives them.
        renamed: old name of each renamed column, by its new one.
    """
    before, after = old.get("columns") or {}, new.get("columns") or {}
    rows = int(old.get("rows") or 0), int(new.get("rows") or 0)
    out = []
    for name in sorted(after, key=str.encode):
        left, right = before.get((renamed or {}).get(name, name)), after[name]
        if left is None or (left == right and rows[0] == rows[1]):
            continue
        shown = _statistics(left, rows[0]), _statistics(right, rows[1])
        values = _values(left, right, rows)
        measure, distance = "", None
        if values:
            measure, distance = "psi", psi(values)
        elif "quantiles" in left and "quantiles" in right:
            measure, distance = "ks_profile", _ks(left, right)
        if shown[0] == shown[1] and not distance:
            continue
        out.append(ColumnShift(name, str(right.get("type", "")), *shown, measure, distance, values))
    return tuple(out)


def _statistics(column: Mapping[str, Any], rows: int) -> dict[str, Any]:
    out: dict[str, Any] = {"rows": rows, "null_share": _share(_missing(column), rows)}
    out |= {name: column[name] for name in _NUMBERS if column.get(name) is not None}
    if column.get("quantiles"):
        out["quantiles"] = dict(column["quantiles"])
    return out


def _missing(column: Mapping[str, Any]) -> int:
    return int(column.get("nulls") or 0) + int(column.get("nans") or 0)


def _share(count: int, rows: int) -> float | None:
    return rounded(count / rows) if rows else None


def rounded(value: float) -> float | None:
    """A number with 6 digits after the point; None for what is no number."""
    return round(value, 6) + 0.0 if math.isfinite(value) else None


def _values(left: Mapping[str, Any], right: Mapping[str, Any], rows: tuple[int, int]) -> tuple[ValueShift, ...]:
    if "top" not in left or "top" not in right:
        return ()
    old, new = (_counts(column["top"]) for column in (left, right))
    whole = not left.get("other_rows") and not right.get("other_rows")
    names = {**old, **new} if whole else {name: pair for name, pair in old.items() if name in new}
    shown = [
        ValueShift(value, old.get(name, (None, 0))[1], new.get(name, (None, 0))[1])
        for name, (value, _) in sorted(names.items())
    ][:MAX_VALUES]
    rest = [
        rows[side] - _missing(column) - sum((item.before, item.after)[side] or 0 for item in shown)
        for side, column in enumerate((left, right))
    ]
    if any(rest) and min(rest) >= 0:
        shown.append(ValueShift(None, rest[0], rest[1]))
    return tuple(shown)


def _counts(top: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, int]]:
    """Values with their counts by a name that tells 1 from "1" and true."""
    return {json.dumps(item["value"], sort_keys=True): (item["value"], int(item["count"])) for item in top}


def psi(values: Sequence[ValueShift]) -> float | None:
    """The population stability index of counted values, see the module; None if one side has no records."""
    before, after = sum(v.before or 0 for v in values), sum(v.after or 0 for v in values)
    if not before or not after:
        return None
    total = 0.0
    for item in values:
        p, q = (item.before or 0.5) / before, (item.after or 0.5) / after
        total += (q - p) * math.log(q / p)
    return rounded(total)


def _ks(left: Mapping[str, Any], right: Mapping[str, Any]) -> float | None:
    one, other = _curve(left), _curve(right)
    if not one or not other:
        return None
    return rounded(max(abs(_at(one, x) - _at(other, x)) for x, _ in (*one, *other)))


def _curve(column: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Points of the distribution function: (value, share of records up to it)."""
    points = [(column.get("min"), 0.0), *((value, float(q)) for q, value in column["quantiles"].items())]
    points.append((column.get("max"), 1.0))
    known = []
    for value, share in points:
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return []
        if not math.isfinite(number):
            return []
        known.append((number, share))
    return sorted(known)


def _at(curve: Sequence[tuple[float, float]], x: float) -> float:
    place = bisect.bisect_right(curve, (x, math.inf))
    if place == 0:
        return 0.0
    if place == len(curve):
        return 1.0
    (x0, y0), (x1, y1) = curve[place - 1], curve[place]
    return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def label_shift(old: Mapping[str, Any], new: Mapping[str, Any]) -> ColumnShift | None:
    """How the balance of the label's classes moved; None if it did not, or the label is another column."""
    left, right = old.get("label") or {}, new.get("label") or {}
    if not left or not right or left.get("column") != right.get("column"):
        return None
    values = _classes(left.get("classes") or (), right.get("classes") or ())
    if all(item.before == item.after for item in values):
        return None
    rows = {"rows": old.get("rows")}, {"rows": new.get("rows")}
    return ColumnShift(str(right["column"]), "label", *rows, "psi", psi(values), values)


def _classes(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> tuple[ValueShift, ...]:
    left, right = _counts(old), _counts(new)
    return tuple(
        ValueShift(value, left.get(name, (None, 0))[1], right.get(name, (None, 0))[1])
        for name, (value, _) in sorted({**left, **right}.items())
    )


def group_shifts(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[GroupShift, ...]:
    """Each group of the group columns that both profiles have, where its size or its label balance moved."""
    before, after = old.get("groups") or {}, new.get("groups") or {}
    rows = int(old.get("rows") or 0), int(new.get("rows") or 0)
    out = []
    for column in sorted(set(before) & set(after), key=str.encode):
        left = {json.dumps(item["value"]): item for item in before[column]}
        right = {json.dumps(item["value"]): item for item in after[column]}
        for name in sorted({*left, *right}):
            a, b = left.get(name, {}), right.get(name, {})
            classes = _classes(a.get("classes") or (), b.get("classes") or ())
            counts = int(a.get("count") or 0), int(b.get("count") or 0)
            if counts[0] == counts[1] and all(item.before == item.after for item in classes):
                continue
            shares = _share(counts[0], rows[0]), _share(counts[1], rows[1])
            value = (b or a)["value"]
            out.append(GroupShift(column, value, *counts, *shares, classes))
    return tuple(out)
