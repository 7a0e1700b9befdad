"""What a snapshot's files are known by: the sidecar manifest, and the question that a gate asks.

The sidecar is no part of the root: times, inodes and a provider's tokens differ between two places that hold the same data.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.hashing.hash_worker import KEY, NO_KEY
from cognify_dagster.datasets.hashing.packed import Level, Origin, PackedFiles
from cognify_dagster.datasets.records.cells import require_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa


def sidecar_bytes(files: PackedFiles, root: str, time_us: int) -> bytes:
    """The sidecar manifest: Parquet (zstd), one row a file in manifest order.

    Columns: ``path``; ``evidence`` (``hashed``, ``reused``, ``provider``); ``since_root`` and ``since_time``, the snapshot for
    which the file was last hashed; ``mtime_ns``, ``ctime_ns``, ``inode``, ``device``, ``mode`` (local files, else null);
    ``provider_token`` and ``provider_grade`` (remote objects, else null).

    Args:
        files: the snapshot's files.
        root: its root in hex.
        time_us: when it was begun, in microseconds since 1970, UTC.

    Raises:
        TableError: pyarrow is not installed.
    """
    pa = require_pyarrow()
    from pyarrow import parquet

    out = io.BytesIO()
    table = pa.Table.from_arrays(_columns(pa, files, root, time_us), names=_NAMES)
    parquet.write_table(table, out, compression="zstd", store_schema=False, write_statistics=False)
    return out.getvalue()


_NAMES = [
    "path",
    "evidence",
    "since_root",
    "since_time",
    "mtime_ns",
    "ctime_ns",
    "inode",
    "device",
    "mode",
    "provider_token",
    "provider_grade",
]


def _columns(pa: Any, files: PackedFiles, root: str, time_us: int) -> list[pa.Array]:
    order = files.order
    known = [Origin(root, time_us), *files.known]
    words = {int(level): level.name.lower() for level in Level}
    origins = [known[files.origins[number]] for number in order]
    keys = [files.key(number) for number in order]
    stats: list[Any] = [(None,) * 6 if key == NO_KEY else KEY.unpack(key) for key in keys]
    _, mtimes, ctimes, inodes, devices, modes = zip(*stats, strict=True) if stats else ((),) * 6
    tokens: list[bytes | None] = [None] * len(files)
    grades: list[str | None] = [None] * len(files)
    if files.tokens is not None and files.grades is not None:
        tokens = [files.tokens[number] or None for number in order]
        grades = [files.grades[number] or None for number in order]
    paths = files.paths
    return [
        pa.array([paths[number] for number in order], pa.binary()),
        pa.array([words[files.levels[number]] for number in order], pa.string()),
        pa.array([bytes.fromhex(origin.root) for origin in origins], pa.binary(32)),
        pa.array([origin.time_us for origin in origins], pa.timestamp("us", "UTC")),
        pa.array(mtimes, pa.int64()),
        pa.array(ctimes, pa.int64()),
        pa.array(inodes, pa.uint64()),
        pa.array(devices, pa.uint64()),
        pa.array(modes, pa.uint32()),
        pa.array(tokens, pa.binary()),
        pa.array(grades, pa.string()),
    ]


def hashed_share(snapshot: Any) -> float:
    """The part of a snapshot's files that were read and hashed for it, from 0 to 1; 1 for a table in memory.

    Args:
        snapshot: a :class:`~cognify_dagster.datasets.Snapshot`, its record, or a header.

    Raises:
        DatasetError: the header does not say what the files are known by.
    """
    header: Mapping[str, Any] = snapshot if isinstance(snapshot, Mapping) else snapshot.header
    try:
        counts = {name: int(header["evidence"][name]) for name in ("hashed", "reused", "provider")}
        total = int(header["files"]["count"])
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError("the snapshot's header does not say what its files are known by") from error
    if min(counts.values()) < 0 or sum(counts.values()) != total:
        raise DatasetError("the evidence counts in the snapshot's header do not add up to its files: it was altered")
    return counts["hashed"] / total if total else 1.0


def demand_hashed(snapshot: Any, name: str, *, how: str = "verify=full") -> None:
    """Refuse a snapshot of which files were taken over unread.

    Args:
        snapshot: as for :func:`hashed_share`.
        name: the dataset's name.
        how: what makes a full snapshot, for the message.

    Raises:
        DatasetError: not all files were hashed for it.
    """
    share = hashed_share(snapshot)
    if share < 1:
        raise DatasetError(
            f"dataset {name}: only {share:.1%} of the files were read for its snapshot, the others were taken over as "
            f"unchanged; 100 % is demanded here. Take a new snapshot with {how}"
        )
