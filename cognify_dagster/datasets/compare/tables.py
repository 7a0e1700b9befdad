"""Two tables at hand, compared record by record: by key and column, with the values where they may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.profile.statistics import json_value
from cognify_dagster.datasets.records.cells import encode_cells
from cognify_dagster.datasets.records.digests import check_record_key, one_array, record_digests, select_columns

if TYPE_CHECKING:
    import pyarrow as pa

MAX_EXAMPLES = 100


@dataclass(frozen=True)
class ChangedRecord:
    """A record whose key is in both versions with other values; rows count from 0. ``key`` is empty for personal data."""

    key: tuple[Any, ...]
    old_row: int
    new_row: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class TableDiff:
    """Records by key and column.

    Attributes:
        key: the key columns.
        added, removed, changed, unchanged: counts of records.
        columns_added, columns_removed: columns in one version only; they do not make a record changed.
        changed_columns: for each column, how many records changed in it.
        added_rows, removed_rows: row indices (from 0) in the new and the old table, all of them.
        examples: changed records, at most 100.
    """

    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    unchanged: int
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    changed_columns: dict[str, int]
    added_rows: tuple[int, ...] = field(repr=False)
    removed_rows: tuple[int, ...] = field(repr=False)
    examples: tuple[ChangedRecord, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def diff_tables(
    old: pa.Table, new: pa.Table, key: str | Sequence[str], *, personal: bool = False, limit: int = MAX_EXAMPLES
) -> TableDiff:
    """Compare two tables record by record.

    Args:
        old: earlier version.
        new: later version.
        key: column or columns that name each record once, in both.
        personal: leave key values out of the result.
        limit: how many changed records to list.

    Raises:
        DuplicateKeyError: the key does not name each record once.
        TableError: the key is missing in one version.
    """
    keys = [key] if isinstance(key, str) else list(key)
    for table in (old, new):
        check_record_key(table, keys, personal=personal)
    common = [name for name in select_columns(old, None) if name in set(new.column_names)]
    place = {digest: row for row, digest in enumerate(record_digests(old, keys))}
    full_old, full_new = record_digests(old, common), record_digests(new, common)
    added, pairs, unchanged = [], [], 0
    for row, digest in enumerate(record_digests(new, keys)):
        match = place.pop(digest, None)
        if match is None:
            added.append(row)
        elif full_old[match] == full_new[row]:
            unchanged += 1
        else:
            pairs.append((match, row))
    columns = _changed_columns(old, new, [name for name in common if name not in keys], pairs)
    examples = []
    for number, (before, after) in enumerate(pairs[:limit]):
        values = () if personal else tuple(json_value(new.column(name)[after].as_py()) for name in keys)
        names = tuple(name for name, flags in columns.items() if flags[number])
        examples.append(ChangedRecord(values, before, after, names))
    return TableDiff(
        key=tuple(keys),
        added=len(added),
        removed=len(place),
        changed=len(pairs),
        unchanged=unchanged,
        columns_added=tuple(sorted(set(new.column_names) - set(old.column_names))),
        columns_removed=tuple(sorted(set(old.column_names) - set(new.column_names))),
        changed_columns={name: sum(flags) for name, flags in columns.items() if any(flags)},
        added_rows=tuple(added),
        removed_rows=tuple(sorted(place.values())),
        examples=tuple(examples),
    )


def _changed_columns(
    old: pa.Table, new: pa.Table, names: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> dict[str, list[bool]]:
    """For each column, whether it differs in each pair of rows; compared by canonical bytes, so NaN equals NaN."""
    import pyarrow.compute as pc

    if not pairs:
        return {}
    before, after = old.take([a for a, _ in pairs]), new.take([b for _, b in pairs])
    out = {}
    for name in names:
        left, right = (encode_cells(one_array(side.column(name)), name) for side in (before, after))
        out[name] = pc.not_equal(left, right).to_pylist()
    return out
