"""Manifests: the list of a snapshot's files as Parquet, and the check that header and manifest belong together.

Invariants:
    * A manifest is read back into a tree and must give the header's root before anything in it is believed.
    * The same snapshot gives the same bytes under the same pyarrow version; the root never depends on them.
"""

from __future__ import annotations

import hmac
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError, ManifestError
from cognify_dagster.datasets.hashing.hash_worker import HEAD_SIZE
from cognify_dagster.datasets.hashing.packed import Leaves, PackedFiles
from cognify_dagster.datasets.records.cells import require_pyarrow
from cognify_dagster.datasets.records.digests import RecordManifest
from cognify_dagster.datasets.tree import (
    SHARD_BITS,
    ContentAlgorithm,
    FileKind,
    FileLeaf,
    RootFields,
    dataset_root,
    shard_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "cognify/dataset/v1"
ROW_GROUP = 65_536
MAX_MANIFEST_BYTES = 2 * 1024**3


def _schema() -> pa.Schema:
    import pyarrow as pa

    fields = [
        ("shard", pa.uint32()),
        ("path", pa.binary()),
        ("kind", pa.uint8()),
        ("size", pa.uint64()),
        ("algorithm", pa.uint8()),
        ("digest", pa.binary(32)),
    ]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def file_manifest_bytes(leaves: Sequence[FileLeaf]) -> bytes:
    """The file manifest: Parquet (zstd), one row a file, sorted by shard, then path bytes.

    Raises:
        TableError: pyarrow is not installed.
    """
    pa = require_pyarrow()
    from pyarrow import parquet

    packed = leaves.packed if isinstance(leaves, Leaves) else PackedFiles.of(leaves)
    order, heads, paths = packed.order, packed.heads, packed.paths
    table = pa.Table.from_arrays(
        [
            pa.array([packed.shard_of(number) for number in order], pa.uint32()),
            pa.array([paths[number] for number in order], pa.binary()),
            pa.array([heads[HEAD_SIZE * number + 64] for number in order], pa.uint8()),
            pa.array([packed.sizes[number] for number in order], pa.uint64()),
            pa.array([heads[HEAD_SIZE * number + 65] for number in order], pa.uint8()),
            pa.array([packed.digest(number) for number in order], pa.binary(32)),
        ],
        schema=_schema(),
    )
    out = io.BytesIO()
    parquet.write_table(
        table,
        out,
        row_group_size=ROW_GROUP,
        compression="zstd",
        use_dictionary=False,
        column_encoding={"path": "DELTA_BYTE_ARRAY"},
        store_schema=False,
        write_statistics=False,
    )
    return out.getvalue()


def read_file_manifest(data: bytes) -> list[FileLeaf]:
    """Read a file manifest.

    Raises:
        ManifestError: the bytes are damaged, of another form, or not in order.
    """
    pa = require_pyarrow()
    from pyarrow import parquet

    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"the file manifest has {len(data)} bytes; the limit is {MAX_MANIFEST_BYTES}")
    try:
        table = parquet.ParquetFile(pa.BufferReader(data)).read().cast(_schema())
        columns = [table.column(name).to_pylist() for name in table.column_names]
        leaves = [
            FileLeaf(path, FileKind(kind), size, ContentAlgorithm(algorithm), digest)
            for _, path, kind, size, algorithm, digest in zip(*columns, strict=True)
        ]
        shards = columns[0]
        places = list(zip(shards, columns[1], strict=True))
        if any(a >= b for a, b in pairwise(places)) or shards != [shard_of(leaf.path) for leaf in leaves]:
            raise ManifestError("the file manifest is not in the order of its shards and paths")
    except ManifestError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as exc:
        raise ManifestError(f"the file manifest cannot be read ({str(exc)[:200]})") from exc
    return leaves


def root_fields(header: Mapping[str, Any]) -> tuple[bytes, RootFields]:
    """The tree root and root fields that a snapshot header states.

    Raises:
        ManifestError: the header is not one of version 1, or its numbers do not give its root.
    """
    try:
        if header["format"] != FORMAT:
            raise ManifestError(f"the header has format {header['format']!r}; this version reads {FORMAT!r}")
        files, records, params = header["files"], header["records"], header["params"]
        fields = RootFields(
            int(files["count"]),
            int(files["total_bytes"]),
            bytes.fromhex(records["root"]),
            bytes.fromhex(params["ignore_digest"]),
            int(params["shard_bits"]),
        )
        tree_root, root = bytes.fromhex(files["tree_root"]), bytes.fromhex(header["root"])
        if fields.shard_bits != SHARD_BITS or not fields.file_count >= 0 <= fields.total_bytes < 2**64:
            raise ManifestError("the header's numbers are outside what version 1 allows")
        if any(len(part) != 32 for part in (tree_root, root, fields.record_root, fields.ignore_digest)):
            raise ManifestError("a digest in the header is not 32 bytes long")
    except ManifestError:
        raise
    except (KeyError, TypeError, ValueError) as exc:
        raise ManifestError(f"the snapshot header cannot be read ({type(exc).__name__}: {exc})") from exc
    if not hmac.compare_digest(dataset_root(tree_root, fields), root):
        raise ManifestError("the header's counts and roots do not give its root: it was altered")
    if header.get("data_version") != f"sha256:{root.hex()}":
        raise ManifestError("the header's data version is not its root: it was altered")
    return tree_root, fields


def check_header(
    header: Mapping[str, Any],
    leaves: Sequence[FileLeaf] | None = None,
    records: RecordManifest | None = None,
) -> None:
    """Check that a header is consistent, and that manifests belong to it.

    Raises:
        ManifestError: something does not belong together.
    """
    tree_root, fields = root_fields(header)
    if leaves is not None:
        try:
            tree = leaves.packed if isinstance(leaves, Leaves) else PackedFiles.of(leaves)
        except DatasetError as exc:
            raise ManifestError(f"the file manifest is damaged: {exc}") from exc
        if (tree.tree_root, len(tree), tree.total_bytes) != (tree_root, fields.file_count, fields.total_bytes):
            raise ManifestError("the file manifest does not give the header's root: it belongs to another snapshot")
    if records is not None and records.root() != fields.record_root:
        raise ManifestError(
            "the record manifest does not give the header's record root: it belongs to another snapshot"
        )
