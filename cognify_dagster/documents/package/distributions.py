"""How the data changed since the version released last: shares of classes and groups, and means of columns, before and after. Pure.

Invariants: a difference is what the two recorded profiles say, and of data sets in the same role alone; the same data set twice has no row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from cognify_dagster.documents.facts.version import DatasetFact, VersionFacts

Json = dict[str, Any]
ReadProfile = Callable[[DatasetFact], Json]
MAX_SHARES = 200
MAX_COLUMNS = 100


def distributions(facts: VersionFacts, profile: ReadProfile) -> list[Json]:
    """Return one item for each role (training data first, then evaluation) whose data set is another one than before.

    Args:
        facts: the version, with the version released last before it.
        profile: reads the profile of a recorded snapshot as the package holds it.

    Returns:
        `{role, before, after, shares, columns, cut}`: `shares` has each class of the label and each group whose share is known on a
        side; `columns` has each number column in both whose mean differs, with `shift`, the difference in standard deviations
        of before (None where that is zero), the greatest first; `cut` counts what the limits left out.
    """
    if facts.previous is None:
        return []
    pairs = [
        *_by_role(facts.previous.datasets, facts.datasets),
        ("evaluation", facts.previous.evaluation_data, facts.evaluation_data),
    ]
    found = []
    for role, before, after in pairs:
        if before is None or after is None or before.ref.root == after.ref.root:
            continue
        if before.snapshot is None or after.snapshot is None:
            continue
        found.append(_compare(role, before, after, profile(before), profile(after)))
    return found


def _by_role(
    before: Iterable[DatasetFact], after: Iterable[DatasetFact]
) -> list[tuple[str, DatasetFact | None, DatasetFact | None]]:
    """Pair data sets of a role by name; where a role has one on either side, those two whatever they are called."""
    found: list[tuple[str, DatasetFact | None, DatasetFact | None]] = []
    old_all, new_all = list(before), list(after)
    for role in dict.fromkeys(item.ref.role for item in new_all):
        old = [item for item in old_all if item.ref.role == role]
        new = [item for item in new_all if item.ref.role == role]
        if len(old) == len(new) == 1:
            found.append((role, old[0], new[0]))
            continue
        named = {item.ref.name: item for item in old}
        found += [(role, named.get(item.ref.name), item) for item in new]
    return found


def _compare(role: str, before: DatasetFact, after: DatasetFact, old: Json, new: Json) -> Json:
    first, second = _shares(old), _shares(new)
    shares = [
        {"kind": kind, "column": column, "value": value, "before": first.get(key), "after": second.get(key)}
        for key in dict.fromkeys((*first, *second))
        for kind, column, value in (key,)
    ]
    columns = _columns(old, new)
    return {
        "role": role,
        "before": _side(before),
        "after": _side(after),
        "shares": shares[:MAX_SHARES],
        "columns": columns[:MAX_COLUMNS],
        "cut": max(0, len(shares) - MAX_SHARES) + max(0, len(columns) - MAX_COLUMNS),
    }


def _side(item: DatasetFact) -> Json:
    assert item.snapshot is not None  # only recorded snapshots are compared
    entry = {"seq": item.snapshot.seq, "leaf": item.snapshot.leaf}
    return {"name": item.ref.name, "root": item.ref.root, "entry": entry}


def _shares(profile: Json) -> dict[tuple[str, str, str], float]:
    """The share of each class of the label and of each group, by (`class` or `group`, column, value)."""
    found: dict[tuple[str, str, str], float] = {}
    target = profile.get("label")
    if isinstance(target, dict):
        for item in target.get("classes") or ():
            share = _real(item.get("fraction"))
            if share is not None:
                found["class", str(target.get("column")), str(item.get("value"))] = share
    groups = profile.get("groups")
    for column, members in groups.items() if isinstance(groups, dict) else ():
        counts = [m.get("count") for m in members]
        total = sum(count for count in counts if _whole(count))
        for member, count in zip(members, counts, strict=True):
            if _whole(count) and total:
                found["group", str(column), str(member.get("value"))] = count / total
    return found


def _columns(old: Json, new: Json) -> list[Json]:
    first = {column["name"]: column for column in old.get("columns") or ()}
    found = []
    for column in new.get("columns") or ():
        earlier = first.get(column["name"], {})
        before, after = _real(earlier.get("mean")), _real(column.get("mean"))
        if before is None or after is None or before == after:
            continue
        spread = _real(earlier.get("std"))
        shift = (after - before) / spread if spread else None
        found.append({"name": column["name"], "before": before, "after": after, "shift": shift})
    return sorted(found, key=lambda item: (item["shift"] is None, -abs(item["shift"] or 0.0), item["name"]))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None
