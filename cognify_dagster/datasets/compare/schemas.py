"""Columns of two versions: added, removed, of another type, renamed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RenamedColumn:
    """A column with another name. `found_by` says how it is known: equal `values`, or equal `statistics`, a hint only."""

    old: str
    new: str
    found_by: str


@dataclass(frozen=True)
class SchemaDiff:
    """Columns by name; a renamed column is neither added nor removed.

    Attributes:
        added, removed: (name, type).
        retyped: (name, old type, new type).
        nullable: (name, before, after) of columns that came to allow missing values, or no longer do.
        renamed: see `RenamedColumn`.
    """

    added: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    nullable: tuple[tuple[str, bool, bool], ...] = ()
    renamed: tuple[RenamedColumn, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the columns are the same."""
        return not (self.added or self.removed or self.retyped or self.nullable or self.renamed)


def diff_schemas(
    old: Sequence[Sequence[Any]] | None,
    new: Sequence[Sequence[Any]] | None,
    renamed: Iterable[tuple[str, str]] = (),
    old_profile: Mapping[str, Any] | None = None,
    new_profile: Mapping[str, Any] | None = None,
) -> SchemaDiff:
    """Compare two schemas (lists of name, type, nullable).

    Args:
        old, new: as in the snapshot's header; None where it has no records.
        renamed: columns whose values are known to be equal.
        old_profile, new_profile: column statistics; where exactly one gone and one new column have equal ones with at least
            ten different values, they are taken for one column, and marked as found by its statistics.
    """
    before = {str(name): (str(kind), bool(may)) for name, kind, may in old or ()}
    after = {str(name): (str(kind), bool(may)) for name, kind, may in new or ()}
    pairs = [RenamedColumn(a, b, "values") for a, b in renamed if a in before and b in after]
    gone = [name for name in before if name not in after and name not in {pair.old for pair in pairs}]
    come = [name for name in after if name not in before and name not in {pair.new for pair in pairs}]
    for name in list(gone):
        like = [other for other in come if _alike((old_profile or {}).get(name), (new_profile or {}).get(other))]
        back = [
            other for other in gone if like and _alike((old_profile or {}).get(other), (new_profile or {})[like[0]])
        ]
        if len(like) == 1 and back == [name]:
            pairs.append(RenamedColumn(name, like[0], "statistics"))
            gone.remove(name)
            come.remove(like[0])
    both = [(name, name) for name in before if name in after] + [(pair.old, pair.new) for pair in pairs]
    return SchemaDiff(
        added=tuple((name, after[name][0]) for name in sorted(come)),
        removed=tuple((name, before[name][0]) for name in sorted(gone)),
        retyped=tuple(sorted((b, before[a][0], after[b][0]) for a, b in both if before[a][0] != after[b][0])),
        nullable=tuple(sorted((b, before[a][1], after[b][1]) for a, b in both if before[a][1] != after[b][1])),
        renamed=tuple(sorted(pairs, key=lambda pair: pair.old)),
    )


def _alike(old: Any, new: Any) -> bool:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return False
    distinct = old.get("distinct")
    return isinstance(distinct, int) and distinct >= 10 and "mean" in old and dict(old) == dict(new)
