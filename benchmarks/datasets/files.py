"""Hashing files: cold, nothing changed, a part changed; beside openssl, model-signing and DVC in the same run.

Data is made once in the cache folder. The page cache is warm: each case runs once before it is measured.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row, interleave, ratio
from cognify_dagster.datasets import Provenance, Snapshot, take_snapshot
from cognify_dagster.datasets.hashing.pool import processors

MODEL_SIGNING = "model-signing==1.1.1"
PYOPENSSL = "pyOpenSSL==26.4.0"  # it imports this without asking for it
DVC = "dvc==3.67.0"
_LARGE = 2_000_000_000


def repeats(options: Options) -> int:
    """Interleaved repeats of these rows, each of which takes seconds."""
    return 2 if options.quick else 7


def make_files(options: Options, count: int, size: int) -> Path:
    """A folder of files with content that does not compress, a thousand in each subfolder; made once."""
    folder = options.cache / f"files-{count}x{size}"
    if (folder / "done").exists():
        return folder / "data"
    shutil.rmtree(folder, ignore_errors=True)
    pool = os.urandom(min(size, 8 << 20) + (1 << 20))
    for number in range(count):
        target = folder / "data" / f"d{number // 1000:04}"
        target.mkdir(parents=True, exist_ok=True)
        with (target / f"f{number:06}.bin").open("wb") as file:
            file.write(number.to_bytes(8, "big"))
            left, place = size - 8, number * 977 % (1 << 20)
            while left:
                left -= file.write(pool[place : place + min(left, 8 << 20)])
    (folder / "done").touch()
    time.sleep(2.5)  # older than the margin of the stat index
    return folder / "data"


def environment(options: Options, *packages: str) -> Path:
    """A virtual environment in the cache with exactly these packages; made once. Return its bin folder."""
    folder = options.cache / ("venv-" + "-".join(sorted(packages)).replace("==", "-"))
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(install, check=True)
        (folder / "done").touch()
    return folder / "bin"


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(data: Path, **more: object) -> Snapshot:
    """A snapshot of files, whole: listing, hashing, tree, header."""
    return take_snapshot(data, name="bench", provenance=Provenance(), **more)  # type: ignore[arg-type]


def openssl(data: Path) -> float:
    """Seconds of the reference command."""
    command = 'find "$0" -type f -print0 | xargs -0 -P "$1" -n 500 openssl dgst -sha256 > /dev/null'
    return timed(lambda: subprocess.run(["/bin/sh", "-c", command, str(data), str(processors())], check=True))


def program(words: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Run a program to its end; return what it printed."""
    environ = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, env=environ, cwd=cwd)
    return done.stdout.decode()


def inside(python: Path, script: str, *arguments: object) -> float:
    """Seconds that a script of another environment says its work took, without start and imports."""
    return float(program([python, "-c", script, *map(str, arguments)]).split()[-1])


def _against_openssl(name: str, what: str, count: int, size: int, quick: int, goal: float) -> Row:
    def run(options: Options) -> Result:
        files = quick if options.quick else count
        data = make_files(options, files, size if not options.quick else min(size, 200_000_000))
        mine, theirs = interleave(repeats(options), [lambda: timed(lambda: ours(data)), lambda: openssl(data)])
        found = ratio(mine, theirs)
        return Result(
            f"cold, {what}",
            f"≤ {goal}× openssl dgst -sha256, xargs -P {processors()}",
            f"{found:.2f}×",
            found <= goal if not options.quick else None,
            [f"seconds: {spread_s(mine)} against {spread_s(theirs)}; in the caller's process, worker start included"],
        )

    return Row(name, run)


def spread_s(values: Sequence[float]) -> str:
    """Median and quartiles of seconds."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


_SIGNING = """
import pathlib, sys, time
from model_signing import hashing
config = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
start = time.perf_counter()
config.hash(pathlib.Path(sys.argv[1]))
print(time.perf_counter() - start)
"""

_DVC_BUILD = """
import sys, time
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import LocalFileSystem
fs = LocalFileSystem()
odb = HashFileDB(fs, sys.argv[2])
start = time.perf_counter()
build(odb, sys.argv[1], fs, "md5", dry_run=True)
print(time.perf_counter() - start)
"""

_DVC_STATUS = """
import sys, time
from dvc.repo import Repo
repo = Repo(sys.argv[1])
start = time.perf_counter()
found = repo.status()
seconds = time.perf_counter() - start
if found:
    raise SystemExit(f"dvc finds changes: {found}")
print(seconds)
"""


def _small(options: Options) -> tuple[Path, int]:
    count = 5_000 if options.quick else 100_000
    return make_files(options, count, 10_000), count


def model_signing(options: Options) -> Result:
    """Against model-signing's file manifest of SHA-256."""
    data, count = _small(options)
    python = environment(options, MODEL_SIGNING, PYOPENSSL) / "python"
    cases = [lambda: timed(lambda: ours(data)), lambda: inside(python, _SIGNING, data)]
    return _faster(options, f"cold, {count:,} × 10 KB", MODEL_SIGNING, 5, cases)


def dvc_build(options: Options) -> Result:
    """Against DVC's hashing (MD5), without a copy to its cache and without its state database."""
    data, count = _small(options)
    python = environment(options, DVC) / "python"
    cases = [lambda: timed(lambda: ours(data)), lambda: inside(python, _DVC_BUILD, data, options.folder / "odb")]
    return _faster(options, f"cold, {count:,} × 10 KB", f"{DVC}, build without copy", 3, cases)


def _faster(options: Options, what: str, other: str, goal: float, cases: Sequence[Callable[[], float]]) -> Result:
    mine, theirs = interleave(2 if options.quick else 5, cases)
    found = ratio(theirs, mine)
    return Result(
        what,
        f"≥ {goal}× faster than {other}",
        f"{found:.1f}×",
        found >= goal if not options.quick else None,
        [f"seconds: {spread_s(mine)} against {spread_s(theirs)}; of both the work alone, without start and imports"],
    )


def unchanged(options: Options) -> Result:
    """The second snapshot against the first, nothing changed between them."""
    data, count = _small(options)
    index = options.folder / "index"
    ours(data, index=index)

    def warm() -> float:
        taken: list[Snapshot] = []
        seconds = timed(lambda: taken.append(ours(data, index=index)))
        if taken[0].header["evidence"]["hashed"]:
            raise SystemExit("files were read although nothing changed")
        return seconds

    mine, cold = interleave(repeats(options), [warm, lambda: timed(lambda: ours(data))])
    found = ratio(mine, cold)
    return Result(
        f"nothing changed, {count:,} × 10 KB",
        "≤ 0.33× own cold run",
        f"{found:.2f}×",
        found <= 0.33 if not options.quick else None,
        [f"seconds: {spread_s(mine)} against {spread_s(cold)}"],
    )


def unchanged_dvc(options: Options) -> Result:
    """Ours with its index against what `dvc status` does."""
    data, count = _small(options)
    tools = environment(options, DVC)
    repo, index = options.folder / "repo", options.folder / "index"
    repo.mkdir()
    subprocess.run(["cp", "-a", str(data), str(repo / "data")], check=True)
    program([tools / "dvc", "init", "--no-scm", "-q"], cwd=repo)
    program([tools / "dvc", "add", "-q", "data"], cwd=repo)
    ours(data, index=index)
    cases = [lambda: timed(lambda: ours(data, index=index)), lambda: inside(tools / "python", _DVC_STATUS, repo)]
    return _faster(options, f"nothing changed, {count:,} × 10 KB", f"dvc status ({DVC})", 10, cases)


def one_percent(options: Options) -> Result:
    """A snapshot after 1 % of the files changed, against a cold one."""
    data, count = _small(options)
    index, kept = options.folder / "index", options.folder / "kept"
    ours(data, index=index)
    shutil.copy(index, kept)
    targets = sorted(data.rglob("*.bin"))[::100]

    def changed() -> float:
        shutil.copy(kept, index)
        for target in targets:
            with target.open("r+b") as file:
                file.seek(100)
                file.write(os.urandom(8))
        taken: list[Snapshot] = []
        seconds = timed(lambda: taken.append(ours(data, index=index)))
        if taken[0].header["evidence"]["hashed"] != len(targets):
            raise SystemExit(f"{taken[0].header['evidence']['hashed']} files were read, {len(targets)} changed")
        return seconds

    mine, cold = interleave(repeats(options), [changed, lambda: timed(lambda: ours(data))])
    found = ratio(mine, cold)
    return Result(
        f"1 % changed, {count:,} × 10 KB",
        "≤ 0.5× own cold run",
        f"{found:.2f}×",
        found <= 0.5 if not options.quick else None,
        [f"seconds: {spread_s(mine)} against {spread_s(cold)}"],
    )


ROWS = [
    _against_openssl("cold-small", "100,000 × 10 KB", 100_000, 10_000, 5_000, 1.5),
    _against_openssl("cold-medium", "1,000 × 1 MB", 1_000, 1_000_000, 50, 1.25),
    _against_openssl("cold-large", "1 × 2 GB", 1, _LARGE, 1, 0.65),
    Row("cold-model-signing", model_signing),
    Row("cold-dvc", dvc_build),
    Row("unchanged", unchanged),
    Row("unchanged-dvc", unchanged_dvc),
    Row("one-percent", one_percent),
]
