"""A simulated manifest of ten million files: building tree and manifest, comparing two, proving. Each part in a process of its own.

Files are names and made-up digests; nothing is read from them, so what is measured is the work that grows with their number.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ledger.harness import Options, Result, Row

ROOT = Path(__file__).parents[2]
RANGES = 64
GOAL_MEMORY_MIB = 1024

_SHARED = """
import json, resource, sys, time, hashlib
from pathlib import Path
from cognify_dagster.datasets.hashing.mapreduce import ShardRange, root_from_shards
from cognify_dagster.datasets.scale.looking import diff_manifests, prove_in_manifest
from cognify_dagster.datasets.scale.manifests import LargeManifest, part_bytes, write_whole
from cognify_dagster.datasets.scale.reducing import ROW, range_bounds, range_of, reduce_range
folder, count, ranges = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sha = hashlib.sha256

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def path_of(i):
    return b"images/batch=%04d/%02x/scan-%09d.jpg" % (i // 10_000, i % 256, i)

def say(**values):
    print(json.dumps(dict(values, peak=peak())))
"""

_ROWS = """
name, few, many = sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
files = [open(folder / f"{name}-{n}.rows", "wb", buffering=1 << 16) for n in range(ranges)]
for i in range(count):
    path = path_of(i)
    drawn = sha(path).digest()
    shard = drawn[0] << 4 | drawn[1] >> 4
    content = i + count if (many and i % many == 0) or i < few else i
    row = ROW.pack(shard, 1, 1, len(path), 10_000 + i % 997, sha(b"%d" % content).digest())
    files[range_of(shard, ranges)].write(row + path)
for file in files:
    file.close()
say()
"""

_BUILD = """
name = sys.argv[4]
start = time.perf_counter()
parts, found, spent = [], [], 0.0
for number, (first, past) in enumerate(range_bounds(ranges)):
    source = folder / f"{name}-{number}.rows"
    reduced = reduce_range([source.read_bytes()], first, past)
    part = folder / f"{name}-{number}.part"
    part.write_bytes(part_bytes(reduced.columns))
    source.unlink()
    parts.append(part)
    found.append(reduced.range)
    del reduced
mid = time.perf_counter()
root, tree_root, fields = root_from_shards(found)
roots = [item.roots[at : at + 32] for item in found for at in range(0, len(item.roots), 32)]
whole = write_whole((part.read_bytes() for part in parts), roots, str(folder))
end = time.perf_counter()
size = whole.stat().st_size
whole.rename(folder / f"{name}.parquet")
for part in parts:
    part.unlink()
header = {
    "format": "cognify/dataset/v1", "root": root.hex(), "data_version": "sha256:" + root.hex(),
    "params": {"shard_bits": 12, "ignore_digest": fields.ignore_digest.hex()},
    "files": {"count": fields.file_count, "total_bytes": fields.total_bytes, "tree_root": tree_root.hex()},
    "records": {"root": fields.record_root.hex()},
}
(folder / f"{name}.json").write_text(json.dumps(header))
say(reduce=mid - start, join=end - mid, size=size)
"""

_OPEN = """
def opened(name):
    return LargeManifest(folder / f"{name}.parquet", json.loads((folder / f"{name}.json").read_text()))
"""

_DIFF = (
    _OPEN
    + """
start = time.perf_counter()
old, new = opened(sys.argv[4]), opened(sys.argv[5])
found = diff_manifests(old, new)
say(seconds=time.perf_counter() - start, changed=len(found.new), shards=found.shards, groups=new.groups_read)
"""
)

_PROVE = (
    _OPEN
    + """
from cognify_dagster.datasets import proof_to_dict, verify_proof
start = time.perf_counter()
manifest = opened(sys.argv[4])
open_s = time.perf_counter() - start
root = bytes.fromhex(json.loads((folder / f"{sys.argv[4]}.json").read_text())["root"])
made, checked, sizes, hashes = [], [], [], []
for k in range(9):
    start = time.perf_counter()
    proof = prove_in_manifest(manifest, path_of(count * k // 9))
    mid = time.perf_counter()
    verify_proof(proof, root)
    checked.append(time.perf_counter() - mid)
    made.append(mid - start)
    sizes.append(len(json.dumps(proof_to_dict(proof))))
    hashes.append(len(proof.place.siblings) + len(proof.upper))
absent = prove_in_manifest(manifest, b"images/not-there")
verify_proof(absent, root)
say(open=open_s, made=sorted(made)[4], checked=sorted(checked)[4], size=max(sizes), hashes=max(hashes))
"""
)


def _child(code: str, *arguments: object) -> Mapping[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _SHARED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def _count(options: Options) -> int:
    return 1_000_000 if options.quick else 10_000_000


def manifest_scale(options: Options) -> Result:
    """Tree and manifest; two differences, of one file in a hundred and of a hundred files; proofs."""
    count = _count(options)
    where = (options.folder, count, RANGES)
    for name, few, many in (("old", 0, 0), ("few", 100, 0), ("many", 0, 100)):
        _child(_ROWS, *where, name, few, many)
    builds = [_child(_BUILD, *where, name) for name in ("old", "few", "many")]
    build = {key: statistics.median(item[key] for item in builds) for key in builds[0]}
    hundredth, hundred = (_child(_DIFF, *where, "old", name) for name in ("many", "few"))
    proof = _child(_PROVE, *where, "old")
    if (hundredth["changed"], hundred["changed"]) != (count // 100, 100):
        raise SystemExit(f"{hundredth['changed']} and {hundred['changed']} changed files found")
    peak = max(build["peak"], hundredth["peak"], hundred["peak"], proof["peak"])
    total = build["reduce"] + build["join"]
    return Result(
        f"tree and manifest of {count:,} files, {RANGES} ranges one after another on one core",
        f"≤ {GOAL_MEMORY_MIB:,} MiB",
        f"{total:.0f} s, {build['peak']:,.0f} MiB",
        peak <= GOAL_MEMORY_MIB if not options.quick else None,
        [
            f"{count / build['reduce']:,.0f} rows a second to sorted shards and manifest parts, {build['join']:.1f} s to join them; "
            f"manifest {build['size'] / count:.1f} bytes a file",
            f"1 % changed: {hundredth['seconds']:.1f} s, {hundredth['peak']:,.0f} MiB; {hundredth['shards']:,} of 4,096 shards differ, so all is read",
            f"100 changed: {hundred['seconds']:.2f} s, {hundred['peak']:,.0f} MiB; {hundred['shards']} shards differ, {hundred['groups']} row groups read",
            f"proof: {proof['made'] * 1e3:.0f} ms from the manifest (opened in {proof['open'] * 1e3:.0f} ms), {proof['hashes']} hashes, "
            f"{proof['size']:,} bytes as JSON, verified in {proof['checked'] * 1e6:.0f} µs; {proof['peak']:,.0f} MiB",
        ],
    )


ROWS = [Row("manifest-scale", manifest_scale)]
