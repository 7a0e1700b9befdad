"""Compares what a model is registered for, and the shape of its data, with the base version of a change plan. Pure.

Invariants: what people approved the base version for (intended use, scope, frameworks, protected attributes) must be what the model is
registered for now; refreshed data must have the schema, label and record key of the base version's; what is not recorded cannot
be shown to be the same, and leaves the version uncovered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cognify_dagster.governance.changes.bounds import ChangeBounds, same
from cognify_dagster.governance.changes.values import ABSENT, Line, differ, judged, shown
from cognify_dagster.records import DatasetRef, DatasetSnapshot, ModelRegistered

_TEXTS = ("limitations", "failure_modes")
_OTHER = frozenset({"model", "title", "owner", "risk_tier", "observed"})


def compare_registration(
    bounds: ChangeBounds, base: ModelRegistered | None, new: ModelRegistered | None
) -> Iterable[Line]:
    """Judge what the model is registered for. Every field is compared that is not named here with a reason."""
    if base is None or new is None:
        yield _unknown("intended use", "no registration of the model is recorded")
        return
    before, after = base.model_dump(mode="json"), new.model_dump(mode="json")
    for name in sorted((set(before) | set(after)) - _OTHER):
        old, value = before.get(name), after.get(name)
        if same(old, value):
            continue
        item = f"registered {name.replace('_', ' ')}"
        if name in _TEXTS:
            yield judged(item, old, value, "notes: allowed", bounds.notes == "allowed")
        else:
            yield differ(item, old, value)


def compare_schemas(
    item: str,
    bounds: ChangeBounds,
    base: tuple[Sequence[DatasetRef], Mapping[int, DatasetSnapshot]],
    new: tuple[Sequence[DatasetRef], Mapping[int, DatasetSnapshot]],
) -> Iterable[Line]:
    """Judge the shape of the datasets that both versions use. Which datasets these are, and their content, is judged elsewhere.

    Args:
        item: what it is about, such as ``training data``.
        bounds: what the plan allows.
        base: the base version's datasets, and the snapshots by their entries.
        new: the same of the version in question.
    """
    before, after = _by_use(base), _by_use(new)
    for use in sorted(set(before) & set(after)):
        known = {ref.root: found for ref, found in before[use]}
        for ref, found in after[use]:
            others = [known[ref.root]] if ref.root in known else list(known.values())
            if found is None or any(other is None for other in others):
                yield _unknown(f"schema of {item}: {use}", "its snapshot is not recorded")
                continue
            kept = [other for other in others if other is not None]
            yield from _shape(f"{item}: {use}", bounds, kept, found, refreshed=ref.root not in known)


def _shape(
    name: str, bounds: ChangeBounds, before: Sequence[DatasetSnapshot], after: DatasetSnapshot, *, refreshed: bool
) -> Iterable[Line]:
    for field, word in (("label", "label"), ("record_key", "record key")):
        old, value = [getattr(item, field) for item in before], getattr(after, field)
        if value not in old:
            yield differ(f"{word} of {name}", old[0] or ABSENT, value or ABSENT)
    if not refreshed:
        return
    if after.schema_hash is None or any(item.schema_hash is None for item in before):
        allowed = bounds.unknown_schema == "allowed"
        if allowed:
            yield judged(f"schema of {name}", "", "not recorded", "unknown_schema: allowed", True)
        else:
            yield _unknown(f"schema of {name}", "no schema of the data is recorded")
    elif after.schema_hash not in [item.schema_hash for item in before]:
        yield differ(f"schema of {name}", shown(before[0].schema_hash, 12), shown(after.schema_hash, 12))


def _unknown(item: str, why: str) -> Line:
    return Line(item, "", "", None, False, f"{item}: not compared, because {why}: a new approval is needed")


def _by_use(
    found: tuple[Sequence[DatasetRef], Mapping[int, DatasetSnapshot]],
) -> dict[str, list[tuple[DatasetRef, DatasetSnapshot | None]]]:
    refs, snapshots = found
    grouped: dict[str, list[tuple[DatasetRef, DatasetSnapshot | None]]] = {}
    for ref in refs:
        grouped.setdefault(f"{ref.name} ({ref.role})", []).append((ref, snapshots.get(ref.seq)))
    return grouped
