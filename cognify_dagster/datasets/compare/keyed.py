"""Records of two versions by key and column, from their record indexes alone: no data is read.

A value is shown as its short digest before and after. Whoever has a value (and, for personal data, the record key) can
check it against them; nobody else learns it from them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.records.index import RecordIndex

if TYPE_CHECKING:
    import pyarrow as pa

MAX_EXAMPLES = 100


@dataclass(frozen=True)
class KeyedRecord:
    """One changed record: digest of its key, and for each changed column the value's digest before and after (hex)."""

    key: str
    columns: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class KeyedDiff:
    """Records by key and column.

    Attributes:
        compared: False where this cannot be said; `reason` then says why and all counts are 0.
        key: the key columns.
        added, removed, changed, unchanged: counts of records.
        columns: for each column that both versions have, how many records changed in it.
        unattributed: changed records of which no column is known to have changed (the index names no columns).
        examples: changed records, at most 100, in the order of their key digests.
        added_examples, removed_examples: key digests (hex), at most 100 each.
        digest: SHA-256 (hex) over all of it, so that a signature on the difference binds every record, not only examples.
    """

    compared: bool
    reason: str = ""
    key: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    changed: int = 0
    unchanged: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    unattributed: int = 0
    examples: tuple[KeyedRecord, ...] = ()
    added_examples: tuple[str, ...] = ()
    removed_examples: tuple[str, ...] = ()
    digest: str = ""


def diff_indexes(
    old: RecordIndex, new: RecordIndex, limit: int = MAX_EXAMPLES
) -> tuple[KeyedDiff, list[tuple[str, str]]]:
    """Compare two indexes.

    Returns:
        The difference, and the columns that were renamed: (old name, new name) of columns that are in one version only
        and hold equal values in every record that both versions have.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if old.key_columns != new.key_columns:
        return _not(f"the record key was {_names(old.key_columns)} and is now {_names(new.key_columns)}"), []
    if old.key_id != new.key_id:
        return _not("the two versions digest their records with different keys, or only one with a key"), []
    left, right, gone, come = _aligned(old, new)
    renamed = _renamed(old, new, left, right)
    pairs = [(name, name) for name in old.columns if name in new.values]
    pairs += renamed
    flags = {after: _differs(old.values[before].take(left), new.values[after].take(right)) for before, after in pairs}
    anywhere = pa.repeat(pa.scalar(False), len(left))
    for flag in flags.values():
        anywhere = pc.or_(anywhere, flag)
    # The whole record decides, unless the versions have other columns: then every record digest differs.
    same_columns = set(old.columns) == set(new.columns)
    changed = _differs(old.rows.take(left), new.rows.take(right)) if same_columns else anywhere
    places = pc.indices_nonzero(changed)
    columns = {name: pc.sum(pc.and_(flag, changed)).as_py() or 0 for name, flag in flags.items()}
    names = {after: before for before, after in pairs}
    keys, old_rows, new_rows = (
        part.take(places).to_pylist() for part in (old.keys.take(left), old.rows.take(left), new.rows.take(right))
    )
    examples = []
    for key, place in zip(keys[:limit], places.to_pylist(), strict=False):
        shown = {
            name: (
                old.values[names[name]][left[place].as_py()].as_py().hex(),
                new.values[name][right[place].as_py()].as_py().hex(),
            )
            for name, flag in sorted(flags.items())
            if flag[place].as_py()
        }
        examples.append(KeyedRecord(key.hex(), shown))
    out = hashlib.sha256(b"cognify/keyed-diff/v1")
    for tag, index, chosen in ((b"-", old, gone), (b"+", new, come)):
        for key, row in zip(index.keys.take(chosen).to_pylist(), index.rows.take(chosen).to_pylist(), strict=True):
            out.update(tag + key + row)
    for key, before, after in zip(keys, old_rows, new_rows, strict=True):
        out.update(b"*" + key + before + after)
    diff = KeyedDiff(
        compared=True,
        key=old.key_columns,
        added=len(come),
        removed=len(gone),
        changed=len(places),
        unchanged=len(left) - len(places),
        columns={name: count for name, count in sorted(columns.items()) if count},
        unattributed=pc.sum(pc.and_not(changed, anywhere)).as_py() or 0,
        examples=tuple(examples),
        added_examples=tuple(key.hex() for key in new.keys.take(come[:limit]).to_pylist()),
        removed_examples=tuple(key.hex() for key in old.keys.take(gone[:limit]).to_pylist()),
        digest=out.hexdigest(),
    )
    return diff, renamed


def _not(reason: str) -> KeyedDiff:
    return KeyedDiff(compared=False, reason=reason)


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(columns)


def _aligned(old: RecordIndex, new: RecordIndex) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array]:
    """Places of the records in both (old, new), of those only in the old and of those only in the new one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(new.keys, value_set=old.keys)
    right = pc.indices_nonzero(found.is_valid())
    come = pc.indices_nonzero(found.is_null())
    left = found.drop_null()
    gone = pc.indices_nonzero(pc.invert(pc.is_in(old.keys, value_set=new.keys)))
    kind = pa.int64()
    return left.cast(kind), right.cast(kind), gone.cast(kind), come.cast(kind)


def _differs(old: pa.Array, new: pa.Array) -> pa.BooleanArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.not_equal(old.cast(pa.binary()), new.cast(pa.binary()))


def _renamed(old: RecordIndex, new: RecordIndex, left: pa.Array, right: pa.Array) -> list[tuple[str, str]]:
    if not len(left):
        return []
    gone = [name for name in old.columns if name not in new.values]
    come = [name for name in new.columns if name not in old.values]
    by_content: dict[bytes, list[str]] = {}
    for name in come:
        by_content.setdefault(_content(new.values[name].take(right)), []).append(name)
    contents = {name: _content(old.values[name].take(left)) for name in gone}
    often = Counter(contents.values())
    out = []
    for name, content in contents.items():
        found = by_content.get(content, [])
        if len(found) == 1 and often[content] == 1:  # two alike: nobody can say which became which
            out.append((name, found[0]))
    return out


def _content(values: Any) -> bytes:
    return hashlib.sha256(b"".join(values.to_pylist())).digest()
