"""File manifests that are written and read a few shards at a time.

They are file manifests as ``docs/dataset-format.md`` describes them, with row groups that end where shards end and two notes in
the Parquet footer: the shard roots, and which shards each row group holds. Whoever does not know the notes reads the manifest
like any other; whoever does reads only the shards that matter.

Invariants:
    * Shard roots from a footer count only if they give the tree root that the snapshot's header states.
    * Rows count only if the shards they form have those roots.
    * A manifest without the notes is read whole, and its shard roots are computed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cognify_dagster.datasets.errors import ManifestError
from cognify_dagster.datasets.hashing.packed import root_over
from cognify_dagster.datasets.manifest import _schema, root_fields
from cognify_dagster.datasets.records.cells import require_pyarrow
from cognify_dagster.datasets.scale.reducing import SHARDS, FileColumns
from cognify_dagster.datasets.tree import FileLeaf, merkle_root, show_path

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 16_384
"""Rows from which on a row group ends with its shard: a proof reads one, so they are smaller than those of other manifests."""
_ROOTS_NOTE = b"cognify.shard_roots"
_GROUPS_NOTE = b"cognify.row_groups"
_EMPTY = merkle_root(())


def columns_table(columns: FileColumns) -> pa.Table:
    """Columns as an Arrow table of the manifest's form."""
    pa = require_pyarrow()
    count = len(columns)

    def numbers(data: Any, kind: Any) -> Any:
        return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(bytes(data))])

    return pa.Table.from_arrays(
        [
            numbers(columns.shards.tobytes(), pa.uint32()),
            pa.array(columns.paths, pa.binary()),
            numbers(columns.kinds, pa.uint8()),
            numbers(columns.sizes.tobytes(), pa.uint64()),
            numbers(columns.algorithms, pa.uint8()),
            numbers(columns.digests, pa.binary(32)),
        ],
        schema=_schema(),
    )


def part_bytes(columns: FileColumns) -> bytes:
    """Part of a manifest, as a file of its own."""
    out = io.BytesIO()
    ManifestWriter.write(out, [columns_table(columns)], None)
    return out.getvalue()


class ManifestWriter:
    """Writes manifests from tables in manifest order."""

    @staticmethod
    def write(out: BinaryIO | str, tables: Iterable[pa.Table], shard_roots: Sequence[bytes] | None) -> None:
        """Write a manifest; at no time more than about two row groups and one table are in memory.

        Args:
            out: where.
            tables: of the manifest's form, each of whole shards, in shard order.
            shard_roots: of all shards, for the note in the footer; None leaves both notes out.
        """
        require_pyarrow()
        from pyarrow import parquet

        options = {
            "compression": "zstd",
            "use_dictionary": False,
            "column_encoding": {"path": "DELTA_BYTE_ARRAY"},
            "store_schema": False,
            "write_statistics": False,
        }
        groups = []
        with parquet.ParquetWriter(out, _schema(), **options) as writer:
            for group in _groups(tables):
                shards = group.column("shard")
                groups.append([shards[0].as_py(), shards[-1].as_py() + 1])
                writer.write_table(group, row_group_size=max(len(group), 1))
            if shard_roots is not None:
                writer.add_key_value_metadata(
                    {
                        _ROOTS_NOTE.decode(): base64.b64encode(b"".join(shard_roots)).decode(),
                        _GROUPS_NOTE.decode(): json.dumps(groups, separators=(",", ":")),
                    }
                )


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables as row groups: at least 16,384 rows each but the last, and no shard in two of them."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        for piece in _pieces(table):
            waiting.append(piece)
            rows += len(piece)
            if rows >= ROW_GROUP:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, rows = [], 0
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """A table cut at shard borders into pieces of about a row group."""
    import numpy as np

    if len(table) == 0:
        return
    shards = table.column("shard").to_numpy()
    start = 0
    while start < len(shards):
        past = len(shards)
        if start + ROW_GROUP < past:
            past = int(np.searchsorted(shards, shards[start + ROW_GROUP - 1], "right"))
        yield table.slice(start, past - start)
        start = past


class LargeManifest:
    """A file manifest, of which only what is asked for is read.

    Args:
        source: its bytes, or a file.
        header: the snapshot's header, which everything read is checked against.

    Raises:
        ManifestError: it is no manifest, or the header is not one of version 1.
    """

    def __init__(self, source: bytes | Path, header: Mapping[str, Any]) -> None:
        pa = require_pyarrow()
        from pyarrow import parquet

        self.tree_root, self.fields = root_fields(header)
        self.groups_read = 0
        try:
            opened = pa.BufferReader(source) if isinstance(source, bytes) else str(source)
            self._file = parquet.ParquetFile(opened)
        except (pa.ArrowException, OSError) as exc:
            raise ManifestError(f"the file manifest cannot be read ({str(exc)[:200]})") from exc
        if self._file.metadata.num_rows != self.fields.file_count:
            raise ManifestError(
                f"the file manifest has {self._file.metadata.num_rows} rows, the snapshot {self.fields.file_count} files: it "
                "belongs to another snapshot"
            )
        self._groups, roots = self._notes()
        if roots is None:
            roots = self._computed()
        if root_over(roots) != self.tree_root:
            raise ManifestError("the file manifest does not give the header's root: it belongs to another snapshot")
        self.shard_roots = roots

    def _notes(self) -> tuple[list[tuple[int, int]], list[bytes] | None]:
        count = self._file.metadata.num_row_groups
        notes = self._file.metadata.metadata or {}
        try:
            raw = base64.b64decode(notes[_ROOTS_NOTE], validate=True)
            groups = [(int(first), int(past)) for first, past in json.loads(notes[_GROUPS_NOTE])]
        except KeyError:
            return [(0, SHARDS)] * count, None
        except (ValueError, TypeError) as exc:
            raise ManifestError(f"the notes in the file manifest's footer are damaged ({exc})") from exc
        ends = [0, *(border for pair in groups for border in pair), SHARDS]
        if len(raw) != 32 * SHARDS or len(groups) != count or ends != sorted(ends):
            raise ManifestError("the notes in the file manifest's footer do not fit it")
        return groups, [raw[at : at + 32] for at in range(0, len(raw), 32)]

    def _computed(self) -> list[bytes]:
        """The shard roots of a manifest without notes."""
        roots = [_EMPTY] * SHARDS
        waiting: list[bytes] = []
        shard, before = -1, b""
        for number in range(self._file.metadata.num_row_groups):
            columns = self._read(number)
            for path, here, leaf in zip(columns.paths, columns.shards, columns.leaf_hashes(), strict=True):
                if here != shard:
                    if here < shard:
                        raise ManifestError("the file manifest is not in the order of its shards and paths")
                    if waiting:
                        roots[shard] = merkle_root(waiting)
                    shard, waiting, before = here, [], b""
                if path <= before:
                    raise ManifestError("the file manifest is not in the order of its shards and paths")
                before = path
                waiting.append(leaf)
        if waiting:
            roots[shard] = merkle_root(waiting)
        return roots

    def _read(self, number: int) -> FileColumns:
        import pyarrow as pa

        self.groups_read += 1
        try:
            table = self._file.read_row_group(number).cast(_schema()).combine_chunks()
            out = FileColumns()
            out.shards.frombytes(table.column("shard").to_numpy().tobytes())
            out.paths = table.column("path").to_pylist()
            out.kinds = bytearray(table.column("kind").to_numpy().tobytes())
            out.sizes.frombytes(table.column("size").to_numpy().tobytes())
            out.algorithms = bytearray(table.column("algorithm").to_numpy().tobytes())
            for chunk in table.column("digest").chunks:
                view = memoryview(chunk.buffers()[1])
                out.digests += view[32 * chunk.offset : 32 * (chunk.offset + len(chunk))]
        except (pa.ArrowException, OSError, ValueError, KeyError) as exc:
            raise ManifestError(f"row group {number} of the file manifest cannot be read ({str(exc)[:200]})") from exc
        if any(shard >= SHARDS for shard in out.shards):
            raise ManifestError(f"row group {number} of the file manifest names a shard above {SHARDS - 1}")
        return out

    def shards(self, wanted: Iterable[int] | None = None) -> Iterator[tuple[int, FileColumns, list[bytes]]]:
        """(shard, its files, their leaf hashes) of the wanted shards, or of all, in order; shards without files are left out.

        The columns of several shards may be one object: the third value has as many items as the shard has files, and they are
        those of the columns. Only row groups that hold a wanted shard are read.

        Raises:
            ManifestError: the files of a shard do not give its root.
        """
        chosen = None if wanted is None else set(wanted)
        pending: tuple[int, FileColumns, list[bytes]] | None = None
        for number, (first, past) in enumerate(self._groups):
            if chosen is not None and not any(first <= shard < past for shard in chosen):
                continue
            columns = self._read(number)
            for shard, start, end in columns.bounds():
                if chosen is not None and shard not in chosen:
                    continue
                part = _cut(columns, start, end)
                if pending is not None and pending[0] == shard:  # a manifest whose row groups do not end with shards
                    part = _joined(pending[1], part)
                elif pending is not None:
                    yield self._checked(pending)
                pending = (shard, part, [])
        if pending is not None:
            yield self._checked(pending)

    def _checked(self, found: tuple[int, FileColumns, list[bytes]]) -> tuple[int, FileColumns, list[bytes]]:
        shard, columns, _ = found
        hashes = columns.leaf_hashes()
        if merkle_root(hashes) != self.shard_roots[shard]:
            raise ManifestError(f"the files of shard {shard} in the file manifest do not give its root: it was altered")
        paths = columns.paths
        for number in range(1, len(paths)):
            if paths[number] <= paths[number - 1]:
                raise ManifestError(
                    f"shard {shard} of the file manifest is not in path order at {show_path(paths[number])!r}"
                )
        return shard, columns, hashes

    def shard(self, number: int) -> list[FileLeaf]:
        """The files of one shard.

        Raises:
            ManifestError: they do not give the shard's root.
        """
        for _, columns, _ in self.shards([number]):
            return [columns.leaf(place) for place in range(len(columns))]
        if self.shard_roots[number] != _EMPTY:
            raise ManifestError(f"the files of shard {number} are not in the file manifest: it was altered")
        return []

    def verify(self) -> int:
        """Read all of it and check every shard; return the number of files.

        Raises:
            ManifestError: something does not give the header's root.
        """
        count = total = 0
        held = set()
        for shard, columns, _ in self.shards():
            held.add(shard)
            count += len(columns)
            total += sum(columns.sizes)
        missing = [shard for shard, root in enumerate(self.shard_roots) if root != _EMPTY and shard not in held]
        if missing or (count, total) != (self.fields.file_count, self.fields.total_bytes):
            raise ManifestError("the file manifest does not hold all files of its snapshot: it was altered")
        return count


def _cut(columns: FileColumns, start: int, end: int) -> FileColumns:
    return FileColumns(
        columns.shards[start:end],
        columns.paths[start:end],
        columns.kinds[start:end],
        columns.sizes[start:end],
        columns.algorithms[start:end],
        columns.digests[32 * start : 32 * end],
    )


def _joined(left: FileColumns, right: FileColumns) -> FileColumns:
    return FileColumns(
        left.shards + right.shards,
        left.paths + right.paths,
        left.kinds + right.kinds,
        left.sizes + right.sizes,
        left.algorithms + right.algorithms,
        left.digests + right.digests,
    )


def write_whole(parts: Iterable[bytes], shard_roots: Sequence[bytes], folder: str | None = None) -> Path:
    """Put parts together into one manifest in a temporary file, which the caller removes.

    Args:
        parts: what :func:`part_bytes` gave, in shard order.
        shard_roots: of all shards.
        folder: where to make the file; the system's place unless given.

    Raises:
        ManifestError: a part cannot be read.
    """
    require_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    def tables() -> Iterator[pa.Table]:
        for part in parts:
            try:
                file = parquet.ParquetFile(pa.BufferReader(part))
                for number in range(file.num_row_groups):
                    yield file.read_row_group(number).cast(_schema())
            except pa.ArrowException as exc:
                raise ManifestError(f"a part of the file manifest cannot be read ({str(exc)[:200]})") from exc

    handle, name = tempfile.mkstemp(prefix="manifest-", suffix=".parquet", dir=folder)
    os.close(handle)
    try:
        ManifestWriter.write(name, tables(), shard_roots)
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)
