"""Taking a snapshot of a dataset, and checking data against one.

Invariants:
    * The root covers contents, relative paths, records and ignore rules, and nothing else: no time, location or tool version.
    * Records are parsed from bytes that have the digest of their leaf, so file root and record root speak of the same data.
    * Personal data is digested with a key, or the snapshot is refused.
    * This module writes nothing: it returns values, and the caller records them.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cognify_dagster.datasets.errors import DatasetError, SourceError
from cognify_dagster.datasets.manifest import FORMAT, file_manifest_bytes
from cognify_dagster.datasets.profile.statistics import profile_table, schema_hash, schema_list
from cognify_dagster.datasets.provenance import Provenance
from cognify_dagster.datasets.records.digests import (
    RecordSet,
    check_record_key,
    key_id,
    pack_records,
    record_set,
)
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.sources.opening import (
    Progress,
    TableSource,
    hash_files,
    open_source,
    read_files,
    table_files,
)
from cognify_dagster.datasets.tree import (
    CHUNK_SIZE,
    NO_RECORDS,
    SHARD_BITS,
    ContentAlgorithm,
    FileLeaf,
    FileTree,
    RootFields,
    dataset_root,
    show_path,
)


@dataclass(frozen=True)
class Snapshot:
    """What a dataset was at one moment.

    Attributes:
        name: the dataset's name.
        root: dataset root, 64 hex digits.
        data_version: ``sha256:`` and the root, for Dagster's data version.
        file_count: files and links; 0 for a table in memory.
        total_bytes: their content, in bytes.
        record_count: records, or None when the source is not a table.
        record_root: record root in hex, or None.
        schema_hash: SHA-256 of the schema in hex, or None.
        header: JSON values; its canonical JSON is what gets recorded. Holds no time, location or data value.
        profile: statistics (JSON values), empty when there are no records.
        provenance: as given.
        files: one leaf a file, in manifest order.
        record_digests: 32-byte digests, sorted and packed.
        record_key_id: public name of the record key, when digests are keyed.
        location: where the source was, without credentials; not part of any digest.
        ignored: entries that the ignore rules left out.
        fields: what the root commits to besides the file tree.
    """

    name: str
    root: str
    data_version: str
    file_count: int
    total_bytes: int
    record_count: int | None
    record_root: str | None
    schema_hash: str | None
    header: dict[str, Any]
    profile: dict[str, Any]
    provenance: Provenance
    files: tuple[FileLeaf, ...] = field(repr=False)
    record_digests: bytes = field(repr=False)
    record_key_id: str | None
    location: str
    ignored: int
    fields: RootFields = field(repr=False)


@dataclass(frozen=True)
class _Records:
    digests: RecordSet
    schema: list[list[Any]]
    schema_hash: str
    profile: dict[str, Any]
    format: str


def take_snapshot(
    source: Any,
    *,
    name: str,
    provenance: Provenance,
    record_key: str | Sequence[str] | None = None,
    label: str | None = None,
    group_columns: Sequence[str] = (),
    record_hmac_key: bytes | None = None,
    ignore: Sequence[str] = (),
    progress: Progress | None = None,
    storage_options: Mapping[str, Any] | None = None,
    records: bool = True,
) -> Snapshot:
    """Take a snapshot.

    Args:
        source: local path, fsspec address, or table (pandas, polars, Arrow).
        name: the dataset's name.
        provenance: where the data came from; missing mandatory fields do not stop a snapshot (see
            :meth:`Provenance.missing_mandatory`).
        record_key: column or columns that name each record once.
        label: label column, for class balance.
        group_columns: columns to count groups by.
        record_hmac_key: 32 secret bytes; mandatory when the provenance says personal data.
        ignore: ignore rules, see :mod:`cognify_dagster.datasets.sources.ignore`.
        progress: called as ``progress(stage, done, total)``.
        storage_options: arguments for the fsspec filesystem.
        records: False takes files only, even if they are tables.

    Raises:
        SourceError: the source is missing, unreadable or empty, or changed while it was read.
        TableError: a table file cannot be read, or a named column does not exist.
        DuplicateKeyError: two records have the same key.
        DatasetError: personal data without a key, or provenance counts that do not fit the data.
    """
    if not name:
        raise DatasetError("the dataset needs a name")
    if provenance.personal and record_hmac_key is None:
        raise DatasetError(
            f"dataset {name!r} holds personal data, so its record digests have to be keyed: pass record_hmac_key "
            "(32 secret bytes, kept apart from the data)"
        )
    keys = [record_key] if isinstance(record_key, str) else list(record_key or ())
    rules = IgnoreRules(ignore)
    opened = open_source(source, storage_options)
    found: list[Found] = []
    ignored = 0
    if isinstance(opened, TableSource):
        leaves: list[FileLeaf] = []
        fmt: str | None = "table"
        table = opened.table
    else:
        found, ignored = opened.entries(rules)
        if not found:
            left_out = f"; the ignore rules left out {ignored} entries" if ignored else ""
            raise SourceError(f"source {opened.describe()} holds no files{left_out}; a dataset cannot be empty")
        leaves = hash_files(opened, found, progress)
        fmt, data_files = table_files(found) if records else (None, [])
        if fmt is None and sum(leaf.size for leaf in leaves) == 0:
            raise SourceError(f"source {opened.describe()} holds only files of 0 bytes; a dataset cannot be empty")
        by_path = {leaf.path: leaf for leaf in leaves}
        table = read_files(opened, data_files, by_path, progress=progress) if fmt else None
    taken: _Records | None = None
    if table is not None and fmt is not None:
        taken = _take_records(table, fmt, opened.describe(), provenance, keys, label, group_columns, record_hmac_key)
    elif keys or label or group_columns:
        raise DatasetError(
            f"source {opened.describe()} is not a table (CSV, Parquet or JSON Lines files of one kind), so record_key, "
            "label and group_columns have no columns to name"
        )
    tree = FileTree(leaves)
    digests = taken.digests if taken else None
    record_root = digests.root() if digests else NO_RECORDS
    fields = tree.fields(record_root, rules.digest)
    root = dataset_root(tree.tree_root, fields).hex()
    named = key_id(record_hmac_key) if digests and record_hmac_key is not None else None
    header = _header(name, root, tree, fields, rules, taken, keys, named)
    return Snapshot(
        name=name,
        root=root,
        data_version=f"sha256:{root}",
        file_count=tree.file_count,
        total_bytes=tree.total_bytes,
        record_count=len(digests.digests) if digests else None,
        record_root=record_root.hex() if digests else None,
        schema_hash=taken.schema_hash if taken else None,
        header=header,
        profile=taken.profile if taken else {},
        provenance=provenance,
        files=tuple(tree.sorted_leaves()),
        record_digests=b"".join(digests.sorted_digests()) if digests else b"",
        record_key_id=named,
        location=opened.describe(),
        ignored=ignored,
        fields=fields,
    )


def _take_records(
    table: Any,
    fmt: str,
    where: str,
    provenance: Provenance,
    keys: list[str],
    label: str | None,
    group_columns: Sequence[str],
    secret: bytes | None,
) -> _Records:
    if table.num_rows == 0:
        raise SourceError(f"source {where} holds no records; a dataset cannot be empty")
    rules = provenance.processing
    if rules and rules[-1].rows_after != table.num_rows:
        raise DatasetError(
            f"the last processing rule {rules[-1].name!r} kept {rules[-1].rows_after} rows, but source {where} holds "
            f"{table.num_rows}; record every step that left rows out, the split too"
        )
    if keys:
        check_record_key(table, keys, personal=provenance.personal)
    schema = schema_list(table)
    return _Records(
        digests=record_set(table, key=secret),
        schema=schema,
        schema_hash=schema_hash(schema),
        profile=profile_table(
            table, label=label, group_columns=group_columns, personal=provenance.personal, hidden=keys
        ),
        format=fmt,
    )


def _header(
    name: str,
    root: str,
    tree: FileTree,
    fields: RootFields,
    rules: IgnoreRules,
    records: _Records | None,
    keys: list[str],
    named: str | None,
) -> dict[str, Any]:
    taken: dict[str, Any] = {"mode": "none", "root": fields.record_root.hex()}
    if records:
        taken = {
            "mode": "canonical",
            "format": records.format,
            "count": len(records.digests.digests),
            "root": fields.record_root.hex(),
            "schema_id": records.digests.schema_id.hex(),
            "digest": records.digests.algorithm.label,
            "key_id": named,
            "key_columns": sorted(keys, key=str.encode),
        }
    return {
        "format": FORMAT,
        "name": name,
        "root": root,
        "data_version": f"sha256:{root}",
        "params": {
            "chunk_bytes": CHUNK_SIZE,
            "shard_bits": SHARD_BITS,
            "content_digests": sorted({leaf.algorithm.label for leaf in tree.sorted_leaves()})
            or [ContentAlgorithm.SHA256.label],
            "ignore": list(rules.rules),
            "ignore_digest": rules.digest.hex(),
        },
        "files": {"count": tree.file_count, "total_bytes": tree.total_bytes, "tree_root": tree.tree_root.hex()},
        "records": taken,
        "schema": records.schema if records else None,
        "schema_hash": records.schema_hash if records else None,
        "evidence": {"hashed": tree.file_count, "reused": 0, "provider": 0},
        "tools": _tools(records is not None),
        "warnings": _warnings(tree),
    }


def _tools(tables: bool) -> dict[str, str]:
    """What did the hashing and reading: a slow or unusual SHA-256 should be visible to a reader."""
    import hashlib
    import importlib.metadata

    implementation = type(hashlib.sha256()).__module__
    out = {"python": platform.python_version(), "sha256": implementation}
    try:
        import ssl

        if implementation == "_hashlib":
            out["openssl"] = ssl.OPENSSL_VERSION
    except ImportError:  # pragma: no cover - a Python without OpenSSL
        pass
    for package in ("cognify-dagster", *(("pyarrow",) if tables else ())):
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            out[package] = "not installed as a package"
    return out


def _warnings(tree: FileTree) -> list[str]:
    """Paths that are different here but the same file on another system (macOS, Windows): at most 20."""
    import unicodedata

    seen: dict[str, bytes] = {}
    out = []
    for leaf in sorted(tree.sorted_leaves(), key=lambda leaf: leaf.path):
        folded = unicodedata.normalize("NFC", leaf.path.decode("utf-8", "surrogateescape")).casefold()
        first = seen.setdefault(folded, leaf.path)
        if first != leaf.path:
            out.append(f"{show_path(first)!r} and {show_path(leaf.path)!r} are one file on some systems")
    return out[:20]


def manifest_bytes(snapshot: Snapshot) -> bytes:
    """The file manifest of a snapshot (Parquet, zstd), for the evidence store."""
    return file_manifest_bytes(snapshot.files)


def record_manifest_bytes(snapshot: Snapshot) -> bytes:
    """The packed record manifest of a snapshot, for the evidence store.

    Raises:
        DatasetError: the snapshot has no records.
    """
    records = snapshot.header["records"]
    if records["mode"] == "none":
        raise DatasetError(f"snapshot {snapshot.name!r} has no records, so there is no record manifest")
    from cognify_dagster.datasets.records.digests import RecordDigestAlgorithm

    algorithm = RecordDigestAlgorithm.from_label(records["digest"])
    return pack_records(algorithm, bytes.fromhex(records["schema_id"]), snapshot.record_digests)


def header_bytes(snapshot: Snapshot) -> bytes:
    """The canonical JSON (RFC 8785) of the header."""
    from cognify_dagster.ledger import canonical_json

    return canonical_json(snapshot.header)
