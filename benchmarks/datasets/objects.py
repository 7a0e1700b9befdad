"""Objects on an S3 server of this machine (SeaweedFS, loopback): a cold snapshot beside s3fs as it comes, and one where nothing changed."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

from benchmarks.ledger.harness import Options, Result, Row, interleave, ratio
from cognify_dagster.datasets import Provenance, take_snapshot
from cognify_dagster.datasets.sources import objects_s3
from cognify_dagster.datasets.sources.objects import UntranslatableError
from tests.ledger.anchor_servers import S3_KEY, S3_SECRET, s3_server

COLD_GOAL = 4.0
COLD_S3FS_GOAL = 1.8
UNCHANGED_GOAL = 0.12
SIZE = 10_000
BUCKET = "bench-objects"
_SOURCE = Provenance(source="made up", owner="team:bench", licence="CC0", collected_unknown="made up")


def _fill(endpoint: str, count: int) -> None:
    import botocore.session
    import obstore
    from obstore.store import S3Store

    client = botocore.session.Session().create_client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=S3_KEY, aws_secret_access_key=S3_SECRET
    )
    client.create_bucket(Bucket=BUCKET)
    store = S3Store(
        BUCKET, endpoint=endpoint, region="us-east-1", access_key_id=S3_KEY, secret_access_key=S3_SECRET,
        client_options={"allow_http": True},
    )  # fmt: skip
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: obstore.put(store, f"d/{i % 50:02d}/{i:05d}", os.urandom(SIZE)), range(count)))


def _settings(endpoint: str) -> dict[str, Any]:
    return {"key": S3_KEY, "secret": S3_SECRET, "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _snapshot(endpoint: str, **more: Any) -> Any:
    return take_snapshot(
        f"s3://{BUCKET}/d", name="bench", provenance=_SOURCE, storage_options=_settings(endpoint), records=False, **more
    )


def _through_s3fs(endpoint: str) -> Any:
    with mock.patch.object(objects_s3, "obstore_for", side_effect=UntranslatableError("not wanted")):
        return _snapshot(endpoint)


def _plain(endpoint: str) -> int:
    """s3fs as it comes: list, `cat`, SHA-256 of each; no tree, no manifest."""
    import s3fs

    fs = s3fs.S3FileSystem(**_settings(endpoint))
    fs.invalidate_cache()
    names = fs.find(f"{BUCKET}/d")
    fs.invalidate_cache()
    done = 0
    for start in range(0, len(names), 1000):
        done += len([hashlib.sha256(data).digest() for data in fs.cat(names[start : start + 1000]).values()])
    return done


def _repeats(options: Options) -> int:
    return 1 if options.quick else 5


def _count(options: Options) -> int:
    return 1_000 if options.quick else 10_000


def _cold(options: Options, ours: Callable[[str], Any], goal: float, what: str) -> Result:
    count = _count(options)
    with s3_server() as endpoint:
        _fill(endpoint, count)
        assert _plain(endpoint) == count == ours(endpoint).file_count
        mine, baseline = interleave(
            _repeats(options), [lambda: _seconds(lambda: ours(endpoint)), lambda: _seconds(lambda: _plain(endpoint))]
        )
    value = ratio(baseline, mine)
    return Result(
        f"S3, {count:,} × 10 KB cold, {what}",
        f"≥ {goal} × as fast as s3fs `cat` as it comes",
        f"{value:.1f} ×",
        None if options.quick else value >= goal,
        [f"seconds {statistics.median(mine):.2f}; s3fs {statistics.median(baseline):.2f}; {len(mine)} repeats"],
    )


def cold(options: Options) -> Result:
    """A whole snapshot through obstore."""
    return _cold(options, _snapshot, COLD_GOAL, "with obstore")


def cold_s3fs(options: Options) -> Result:
    """A whole snapshot where obstore is not installed."""
    return _cold(options, _through_s3fs, COLD_S3FS_GOAL, "without obstore")


def unchanged(options: Options) -> Result:
    """A second snapshot with an index, beside a cold one: only the listing is asked for."""
    count = _count(options)
    index = options.folder / "index"
    with s3_server() as endpoint:
        _fill(endpoint, count)
        first = _snapshot(endpoint, index=index)

        def again() -> None:
            taken = _snapshot(endpoint, index=index)
            assert (taken.root, taken.header["evidence"]["hashed"]) == (first.root, 0)

        mine, baseline = interleave(
            _repeats(options), [lambda: _seconds(again), lambda: _seconds(lambda: _snapshot(endpoint))]
        )
    value = ratio(mine, baseline)
    return Result(
        f"S3, {count:,} × 10 KB, nothing changed",
        f"≤ {UNCHANGED_GOAL} × own cold run",
        f"{value:.3f} ×",
        None if options.quick else value <= UNCHANGED_GOAL,
        [f"seconds {statistics.median(mine):.2f}; cold {statistics.median(baseline):.2f}; {len(mine)} repeats"],
    )


ROWS = [Row("s3-cold", cold), Row("s3-cold-s3fs", cold_s3fs), Row("s3-unchanged", unchanged)]
