"""Record digests of a stream of batches: what is kept of a row are 32 bytes, and 32 more where records have a key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cognify_dagster.datasets.errors import DuplicateKeyError
from cognify_dagster.datasets.records.digests import (
    RecordDigestAlgorithm,
    RecordSet,
    encoded_rows,
    schema_id,
    select_columns,
)
from cognify_dagster.datasets.records.helping import HELPED_ROWS, RowHasher
from cognify_dagster.datasets.records.index import IndexBuilder
from cognify_dagster.datasets.records.packed import WIDTH, PackedDigests, sort_packed

if TYPE_CHECKING:
    import pyarrow as pa


class RecordCollector:
    """Digests batches as they pass.

    Args:
        key_columns: what names a record, if anything does.
        secret: the record key, for personal data.
    """

    def __init__(self, key_columns: Sequence[str] = (), secret: bytes | None = None) -> None:
        self._key = sorted(key_columns, key=str.encode)
        self._secret = secret
        self._names: list[str] | None = None
        self._digests = bytearray()
        self._waiting: deque[Callable[[], bytes]] = deque()
        self._hasher: RowHasher | None = None
        self._asked = False
        self._index: IndexBuilder | None = None
        self.rows = 0

    def watch(self, batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Digest batches and hand them on, so that one pass over the data serves others too."""
        for batch in batches:
            self.add(batch)
            yield batch

    def add(self, batch: pa.Table) -> None:
        """Digest the rows of one batch.

        Raises:
            TableError: a column is missing or cannot be digested.
            DuplicateKeyError: a record has no key.
        """
        if self._names is None:
            self._names = select_columns(batch, None)
            if self._key:
                self._index = IndexBuilder(batch, self._key, self._secret)
        for name in self._key:
            select_columns(batch, [name])
            if batch.column(name).null_count:
                row = self.rows + batch.column(name).is_null().to_pylist().index(True)
                raise DuplicateKeyError(
                    f"record key {name!r} is empty in row {row} (counted from 0); every record needs a key"
                )
        if self._hasher is None or (self.rows >= HELPED_ROWS // 2 and not self._hasher.helped and not self._asked):
            self._asked = self._hasher is not None  # the second time is with a helper, if one can be had
            self._settle(0)
            self._hasher = RowHasher(self._secret, helped=self._asked)
        for bounds, data in encoded_rows(batch, self._names):
            self._waiting.append(self._hasher.submit(bounds, data))
            self._settle(2)
        if self._index is not None:
            self._index.add(batch)
        self.rows += batch.num_rows

    def _settle(self, left: int) -> None:
        while len(self._waiting) > left:
            self._digests += self._waiting.popleft()()

    def settle(self) -> None:
        """Wait until what was added is digested."""
        self._settle(0)

    def close(self) -> None:
        """End the helper process, if one was started."""
        if self._hasher is not None:
            self._hasher.close()

    def finish(self) -> tuple[RecordSet, bytes]:
        """The records, sorted, and their index as bytes (empty without a record key).

        Raises:
            DuplicateKeyError: two records have the same key; the message names both rows, never the key.
        """
        self._settle(0)
        self.close()
        index = b""
        if self._index is not None:
            self._check_keys(self._index.keys)
            index = self._index.finish(self._digests)
            self._index = None
        ordered = sort_packed(self._digests)
        self._digests = bytearray()
        algorithm = RecordDigestAlgorithm.SHA256 if self._secret is None else RecordDigestAlgorithm.HMAC_SHA256
        names = self._names or []
        return RecordSet(tuple(names), algorithm, schema_id(names), ordered), index

    def _check_keys(self, keys: bytearray) -> None:
        ordered = sort_packed(keys)
        before = None
        for key in ordered:
            if key == before:
                rows = _places(PackedDigests(keys), key)
                raise DuplicateKeyError(
                    f"record key {', '.join(self._key)} is the same in rows {rows[0]} and {rows[1]} (counted from 0); "
                    "remove one of them or choose another key"
                )
            before = key


def _places(digests: PackedDigests, wanted: bytes) -> list[int]:
    """The first two rows with a digest."""
    found: list[int] = []
    data, at = bytes(digests.view), -1
    while len(found) < 2 and (at := data.find(wanted, at + 1)) >= 0:
        if at % WIDTH == 0:
            found.append(at // WIDTH)
    return found
