"""What changed between two versions of a dataset: by file, by record digest, or by record key and column."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.profile.statistics import json_value
from cognify_dagster.datasets.records.cells import encode_cells
from cognify_dagster.datasets.records.digests import (
    RecordManifest,
    check_record_key,
    one_array,
    record_digests,
    select_columns,
)
from cognify_dagster.datasets.tree import FileLeaf, show_path

if TYPE_CHECKING:
    import pyarrow as pa

MAX_EXAMPLES = 100


@dataclass(frozen=True)
class FileDiff:
    """Files by path (as text); ``renamed`` holds (old path, new path) of equal content."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    unchanged: int

    @property
    def empty(self) -> bool:
        """Whether the files are the same."""
        return not (self.added or self.removed or self.changed or self.renamed)


def diff_files(old: Sequence[FileLeaf], new: Sequence[FileLeaf]) -> FileDiff:
    """Compare two lists of leaves. A removed and an added file of one content are a rename (paired in path order)."""
    before, after = {leaf.path: leaf for leaf in old}, {leaf.path: leaf for leaf in new}
    gone, come = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    changed = [path for path in sorted(before.keys() & after.keys()) if before[path] != after[path]]
    by_content: dict[Any, list[bytes]] = defaultdict(list)
    for path in gone:
        by_content[_content(before[path])].append(path)
    renamed: list[tuple[bytes, bytes]] = []
    for path in come:
        waiting = by_content.get(_content(after[path]))
        if waiting:
            renamed.append((waiting.pop(0), path))
    old_names, new_names = {a for a, _ in renamed}, {b for _, b in renamed}
    return FileDiff(
        added=tuple(show_path(path) for path in come if path not in new_names),
        removed=tuple(show_path(path) for path in gone if path not in old_names),
        changed=tuple(show_path(path) for path in changed),
        renamed=tuple((show_path(a), show_path(b)) for a, b in renamed),
        unchanged=len(before.keys() & after.keys()) - len(changed),
    )


def _content(leaf: FileLeaf) -> tuple[Any, ...]:
    return leaf.kind, leaf.size, leaf.algorithm, leaf.digest


@dataclass(frozen=True)
class RecordDiff:
    """Records by digest, each as often as it occurs. A changed record counts as one removed and one added."""

    added: int
    removed: int
    unchanged: int
    added_digests: tuple[bytes, ...] = field(repr=False)
    removed_digests: tuple[bytes, ...] = field(repr=False)


def diff_record_manifests(old: RecordManifest, new: RecordManifest) -> RecordDiff:
    """Compare two record manifests.

    Raises:
        DatasetError: the digests were made in different ways (columns or algorithm), so they cannot be compared.
    """
    if (old.algorithm, old.schema_id) != (new.algorithm, new.schema_id):
        raise DatasetError(
            "the two snapshots digest their records differently (other columns, or only one is keyed); compare the tables "
            "with diff_tables"
        )
    before, after = Counter(old.digests), Counter(new.digests)
    come, gone = after - before, before - after
    added = come.total()
    return RecordDiff(
        added=added,
        removed=gone.total(),
        unchanged=after.total() - added,
        added_digests=tuple(sorted(come.elements())),
        removed_digests=tuple(sorted(gone.elements())),
    )


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
