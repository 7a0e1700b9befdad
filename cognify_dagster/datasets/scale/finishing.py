"""The last step of a snapshot in steps: root, header, manifest.

Invariant: the root is computed from the shard roots of all reduce steps, which have to cover every shard once and to hold as many files
as were listed.
"""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from cognify_dagster.datasets.errors import DatasetError, SourceError
from cognify_dagster.datasets.hashing.mapreduce import ShardRange, root_from_shards
from cognify_dagster.datasets.manifest import read_file_manifest
from cognify_dagster.datasets.profile.statistics import schema_hash, schema_list
from cognify_dagster.datasets.provenance import Provenance
from cognify_dagster.datasets.records.digests import RecordDigestAlgorithm, RecordSet, key_id
from cognify_dagster.datasets.records.packed import PackedDigests
from cognify_dagster.datasets.scale.manifests import write_whole
from cognify_dagster.datasets.scale.staging import Staging
from cognify_dagster.datasets.snapshot import Snapshot, _header
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.taking import TakenRecords
from cognify_dagster.datasets.tree import NO_RECORDS, ContentAlgorithm, FileLeaf


@dataclass(frozen=True)
class StagedSnapshot:
    """A snapshot that was taken in steps.

    Attributes:
        snapshot: the same as :func:`~cognify_dagster.datasets.take_snapshot` gives, but without profile and record index, and with
            ``files`` that are read from the manifest when asked for.
        manifest: its file manifest, a temporary file.
    """

    snapshot: Snapshot
    manifest: Path


class ManifestLeaves(Sequence[FileLeaf]):
    """The leaves of a manifest in a file, read when the first is asked for."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count
        self._held: list[FileLeaf] | None = None

    def _leaves(self) -> list[FileLeaf]:
        if self._held is None:
            self._held = read_file_manifest(self._path.read_bytes())
        return self._held

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> FileLeaf: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FileLeaf]: ...
    def __getitem__(self, index: int | slice) -> FileLeaf | Sequence[FileLeaf]:
        return self._leaves()[index]

    def __iter__(self) -> Iterator[FileLeaf]:
        return iter(self._leaves())


@dataclass(frozen=True)
class _Totals:
    """What a header says about all files."""

    count: int
    total_bytes: int
    tree_root: bytes
    labels: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return self.count

    def algorithms(self) -> set[ContentAlgorithm]:
        return {item for item in ContentAlgorithm if item.label in self.labels}

    def counts(self) -> dict[str, int]:
        return {"hashed": self.count, "reused": 0, "provider": 0}


@contextmanager
def finish(
    staging: Staging,
    job: str,
    reduced: Sequence[str],
    *,
    name: str,
    provenance: Provenance,
    secret: bytes | None = None,
    started_us: int | None = None,
) -> Iterator[StagedSnapshot]:
    """Put the ranges together.

    Args:
        staging, job: as before.
        reduced: of all reduce steps, in any order.
        name: the dataset's name.
        provenance: as for :func:`~cognify_dagster.datasets.take_snapshot`.
        secret: the record key that the records were digested with.
        started_us: when the listing began, in microseconds since 1970, UTC.

    Yields:
        The snapshot; its manifest is removed afterwards.

    Raises:
        DatasetError: ranges are missing, files are missing, or personal data was digested without a key.
        SourceError: all files are empty, or there are no records.
    """
    task = staging.get_json(job)
    found = sorted((staging.get_json(item) for item in reduced), key=lambda item: int(item["first"]))
    ranges = [ShardRange(i["first"], i["past"], bytes.fromhex(i["roots"]), i["files"], i["bytes"], b"") for i in found]
    records = _records(staging, found, provenance, secret, task)
    record_root = records.digests.root() if records else NO_RECORDS
    rules = IgnoreRules(task["ignore"])
    root, tree_root, fields = root_from_shards(ranges, record_root, rules.rules)
    if fields.file_count != task["files"]:
        raise DatasetError(
            f"{task['files']} files of source {task['location']} were listed, but {fields.file_count} were hashed; start a new run"
        )
    if not records and fields.total_bytes == 0:
        raise SourceError(f"source {task['location']} holds only files of 0 bytes; a dataset cannot be empty")
    totals: Any = _Totals(
        fields.file_count,
        fields.total_bytes,
        tree_root,
        tuple(sorted({label for item in found for label in item["algorithms"]})),
    )
    named = key_id(secret) if records and secret is not None else None
    text = root.hex()
    header = _header(name, text, totals, fields, rules, records, [], named, [])
    roots = [item.roots[at : at + 32] for item in ranges for at in range(0, len(item.roots), 32)]
    started = started_us if started_us is not None else time.time_ns() // 1000
    with tempfile.TemporaryDirectory(prefix="cognify-manifest-") as folder:
        manifest = write_whole((staging.get(item["part"]) for item in found), roots, folder)
        yield StagedSnapshot(
            Snapshot(
                name=name,
                root=text,
                data_version=f"sha256:{text}",
                file_count=fields.file_count,
                total_bytes=fields.total_bytes,
                record_count=len(records.digests.digests) if records else None,
                record_root=record_root.hex() if records else None,
                schema_hash=records.schema_hash if records else None,
                header=header,
                profile={},
                provenance=provenance,
                files=ManifestLeaves(manifest, fields.file_count),
                record_digests=bytes(records.digests.sorted_digests().view) if records else b"",
                record_key_id=named,
                location=task["location"],
                ignored=task["ignored"],
                fields=fields,
                observed={
                    "started_us": started,
                    "verify": "full",
                    "ranges": len(ranges),
                    "notes": [
                        "taken in steps: without profile and record index, and paths were not compared for names that are one file "
                        "on some systems"
                    ],
                },
                started_us=started,
            ),
            manifest,
        )


def _records(
    staging: Staging,
    found: Sequence[dict[str, Any]],
    provenance: Provenance,
    secret: bytes | None,
    task: dict[str, Any],
) -> TakenRecords | None:
    parts = [item for item in found if item["digests"] is not None]
    if task["format"] is None or not parts:
        return None
    if provenance.personal and secret is None:
        raise DatasetError("the dataset holds personal data, so its record digests have to be keyed")
    import pyarrow as pa

    told = parts[0]["records"]
    algorithm = RecordDigestAlgorithm(told["algorithm"])
    if (algorithm is RecordDigestAlgorithm.HMAC_SHA256) != (secret is not None):
        raise DatasetError("the records were digested with a key in one step and without in another; start a new run")
    digests = PackedDigests(b"".join(staging.get(item["digests"]) for item in parts))
    if not len(digests):
        raise SourceError(f"source {task['location']} holds no records; a dataset cannot be empty")
    rules = provenance.processing
    if rules and rules[-1].rows_after != len(digests):
        raise DatasetError(
            f"the last processing rule {rules[-1].name!r} kept {rules[-1].rows_after} rows, but source {task['location']} holds "
            f"{len(digests)}; record every step that left rows out, the split too"
        )
    schema = schema_list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(told["schema"]))).empty_table())
    taken = RecordSet(tuple(told["columns"]), algorithm, bytes.fromhex(told["schema_id"]), digests)
    return TakenRecords(taken, schema, schema_hash(schema), {}, task["format"], b"")
