"""Taking a snapshot of a dataset, and checking data against one.

Invariants:
    * The root covers contents, relative paths, records and ignore rules, and nothing else: no time, location or tool version.
    * Records are parsed from bytes that have the digest of their leaf, so file root and record root speak of the same data.
    * Personal data is digested with a key, or the snapshot is refused.
    * This module writes nothing but the stat index that the caller names: it returns values, and the caller records them.
    * A file is taken over unread only if the caller gave an index, and the header counts such files.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cognify_dagster.datasets.errors import DatasetError, SourceError
from cognify_dagster.datasets.hashing.assembling import HashedFiles
from cognify_dagster.datasets.hashing.packed import Leaves, PackedFiles
from cognify_dagster.datasets.hashing.progress import Progress
from cognify_dagster.datasets.hashing.source import IndexUse, hash_source, index_use
from cognify_dagster.datasets.hashing.verifying import Verify
from cognify_dagster.datasets.manifest import FORMAT, file_manifest_bytes
from cognify_dagster.datasets.provenance import Provenance
from cognify_dagster.datasets.records.digests import (
    key_id,
    pack_records,
)
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import LocalSource
from cognify_dagster.datasets.sources.opening import Source, TableSource, open_source, read_files, table_files
from cognify_dagster.datasets.sources.remote import RemoteSource
from cognify_dagster.datasets.sources.streaming import STREAM_BYTES, TableStream
from cognify_dagster.datasets.taking import TakenRecords, Wanted, take_records
from cognify_dagster.datasets.tree import (
    CHUNK_SIZE,
    NO_RECORDS,
    SHARD_BITS,
    ContentAlgorithm,
    FileLeaf,
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
        files: one leaf a file, in manifest order; made when asked for.
        packed: the same as columns.
        record_digests: 32-byte digests, sorted and packed.
        record_index: digests by record key and column (see `records.index`), empty without a record key.
        record_key_id: public name of the record key, when digests are keyed.
        location: where the source was, without credentials; not part of any digest.
        ignored: entries that the ignore rules left out.
        fields: what the root commits to besides the file tree.
        observed: how the snapshot was taken (JSON values): when it began, what ``verify`` was, the seed of a sample, notes;
            part of no digest.
        started_us: when it began, in microseconds since 1970, UTC.
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
    files: Sequence[FileLeaf] = field(repr=False)
    record_digests: bytes = field(repr=False)
    record_key_id: str | None
    location: str
    ignored: int
    fields: RootFields = field(repr=False)
    record_index: bytes = field(default=b"", repr=False)
    packed: PackedFiles = field(default_factory=lambda: PackedFiles.of(()), repr=False, compare=False)
    observed: dict[str, Any] = field(default_factory=dict, compare=False)
    started_us: int = field(default=0, compare=False)


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
    index: str | os.PathLike[str] | None = None,
    index_digest: str | None = None,
    verify: str | None = None,
    trust_checksums: bool = False,
    workers: int | None = None,
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
        progress: see :data:`~cognify_dagster.datasets.hashing.progress.Progress`.
        storage_options: arguments for the fsspec filesystem.
        records: False takes files only, even if they are tables.
        index: file of the stat index, outside of the data: files that are as it says need not be read, and it is renewed
            once the snapshot succeeded. One that cannot be used is passed over with a note in ``observed``.
        index_digest: SHA-256 in hex that the index has to have: that of an earlier snapshot's ``observed["index"]``.
        verify: ``full`` reads every file, ``quick`` those that are not as the index says, ``sample:P`` besides these a
            random P percent of the others. Default: ``quick`` with an index, else ``full``.
        trust_checksums: take digests that an S3 store keeps on its word; see
            :class:`~cognify_dagster.datasets.sources.remote.RemoteSource`.
        workers: processes and threads for hashing; the processors unless given. They have no influence on the root.

    Raises:
        SourceError: the source is missing, unreadable or empty, or changed while it was read.
        SilentChangeError: a sampled file has other content although its stat is unchanged.
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
    chosen = _verify(verify, index)
    started_ns = time.time_ns()
    opened = open_source(source, storage_options, trust_checksums=trust_checksums)
    use: IndexUse | None = None
    if isinstance(opened, TableSource):
        hashed = HashedFiles(PackedFiles.of(()), 0)
        fmt: str | None = "table"
        table = opened.table
    else:
        use = index_use(opened, rules, name, index, index_digest)
        use.load()
        hashed = hash_source(opened, rules, index=use.found, verify=chosen, progress=progress, workers=workers)
        fmt, table = _read(opened, hashed, records, progress)
    packed, ignored = hashed.files, hashed.ignored
    taken: TakenRecords | None = None
    if table is not None and fmt is not None:
        wanted = Wanted(opened.describe(), provenance, keys, label, group_columns, record_hmac_key)
        taken = take_records(table, fmt, wanted)
    elif keys or label or group_columns:
        raise DatasetError(
            f"source {opened.describe()} is not a table (CSV, Parquet or JSON Lines files of one kind), so record_key, "
            "label and group_columns have no columns to name"
        )
    digests = taken.digests if taken else None
    record_root = digests.root() if digests else NO_RECORDS
    fields = packed.fields(record_root, rules.digest)
    root = dataset_root(packed.tree_root, fields).hex()
    named = key_id(record_hmac_key) if digests and record_hmac_key is not None else None
    warnings = _warnings(packed.paths) if hashed.warnings is None else hashed.warnings
    header = _header(name, root, packed, fields, rules, taken, keys, named, warnings)
    if use is not None:
        use.renew(root, hashed, warnings, started_ns)
    return Snapshot(
        name=name,
        root=root,
        data_version=f"sha256:{root}",
        file_count=len(packed),
        total_bytes=packed.total_bytes,
        record_count=len(digests.digests) if digests else None,
        record_root=record_root.hex() if digests else None,
        schema_hash=taken.schema_hash if taken else None,
        header=header,
        profile=taken.profile if taken else {},
        provenance=provenance,
        files=Leaves(packed),
        record_digests=bytes(digests.sorted_digests().view) if digests else b"",
        record_key_id=named,
        location=opened.describe(),
        ignored=ignored,
        fields=fields,
        record_index=taken.index if taken else b"",
        packed=packed,
        observed=_observed(started_ns, chosen, use, hashed, opened),
        started_us=started_ns // 1000,
    )


def _verify(verify: str | None, index: str | os.PathLike[str] | None) -> Verify:
    if verify is None:
        return Verify.parse("full" if index is None else "quick")
    chosen = Verify.parse(verify)
    if index is None and chosen.mode != "full":
        raise DatasetError(f"verify={verify} compares with a stat index: pass index=, or verify='full'")
    return chosen


def _read(
    opened: LocalSource | RemoteSource, hashed: HashedFiles, records: bool, progress: Progress | None
) -> tuple[str | None, Any]:
    """The format and the table of a source's files, where they are tables."""
    packed = hashed.files
    if not len(packed):
        left_out = f"; the ignore rules left out {hashed.ignored} entries" if hashed.ignored else ""
        raise SourceError(f"source {opened.describe()} holds no files{left_out}; a dataset cannot be empty")
    fmt, data_files = table_files(hashed.found()) if records else (None, [])
    if fmt is None:
        if packed.total_bytes == 0:
            raise SourceError(f"source {opened.describe()} holds only files of 0 bytes; a dataset cannot be empty")
        return None, None
    wanted = {item.path for item in data_files}
    by_path = {path: packed.leaf(number) for number, path in enumerate(packed.paths) if path in wanted}
    if sum(leaf.size for leaf in by_path.values()) > STREAM_BYTES:
        return fmt, TableStream(opened, data_files, by_path)
    return fmt, read_files(opened, data_files, by_path, progress=progress)


def _observed(
    started_ns: int, verify: Verify, use: IndexUse | None, hashed: HashedFiles, opened: Source
) -> dict[str, Any]:
    """How the snapshot was taken, as JSON values."""
    if use is None:
        return {}
    out: dict[str, Any] = {"started_us": started_ns // 1000, "verify": verify.label}
    if verify.seed:
        out["sample_seed"] = verify.seed.hex()
    if use.written is not None:
        out["index"] = use.written
    notes = [*use.notes, *getattr(opened, "notes", ())]
    if hashed.lost_workers:
        notes.append(f"{hashed.lost_workers} worker processes could not be used; their files were hashed without them")
    if hashed.silent:
        out["silent_changes"] = hashed.silent[:100]
        notes.append(
            f"{len(hashed.silent)} files have other content than at the last snapshot although their size and times, or "
            "their provider, say that they are the same"
        )
    if notes:
        out["notes"] = notes
    return out


def _header(
    name: str,
    root: str,
    packed: PackedFiles,
    fields: RootFields,
    rules: IgnoreRules,
    records: TakenRecords | None,
    keys: list[str],
    named: str | None,
    warnings: list[str],
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
            "content_digests": sorted(algorithm.label for algorithm in packed.algorithms())
            or [ContentAlgorithm.SHA256.label],
            "ignore": list(rules.rules),
            "ignore_digest": rules.digest.hex(),
        },
        "files": {"count": len(packed), "total_bytes": packed.total_bytes, "tree_root": packed.tree_root.hex()},
        "records": taken,
        "schema": records.schema if records else None,
        "schema_hash": records.schema_hash if records else None,
        "evidence": packed.counts(),
        "tools": _tools(records is not None),
        "warnings": warnings,
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


def _warnings(paths: Sequence[bytes]) -> list[str]:
    """Paths that are different here but the same file on another system (macOS, Windows): at most 20."""
    import unicodedata

    joined = b"\x00".join(paths)
    if joined.isascii() and len(set(joined.lower().split(b"\x00"))) == len(paths):
        return []
    seen: dict[str, bytes] = {}
    out = []
    for path in sorted(paths):
        folded = unicodedata.normalize("NFC", path.decode("utf-8", "surrogateescape")).casefold()
        first = seen.setdefault(folded, path)
        if first != path:
            out.append(f"{show_path(first)!r} and {show_path(path)!r} are one file on some systems")
    return out[:20]


def manifest_bytes(snapshot: Snapshot) -> bytes:
    """The file manifest of a snapshot (Parquet, zstd), for the evidence store."""
    return file_manifest_bytes(snapshot.files)


def observations_bytes(snapshot: Snapshot) -> bytes:
    """The sidecar manifest of a snapshot (Parquet): what each file is known by; see :mod:`.hashing.evidence`."""
    from cognify_dagster.datasets.hashing.evidence import sidecar_bytes

    return sidecar_bytes(snapshot.packed, snapshot.root, snapshot.started_us)


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
