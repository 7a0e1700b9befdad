"""Fast hashing: however the work is cut and whoever does it, the root is that of the naive way; a lost worker costs no file."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    FileKind,
    FileLeaf,
    FileTree,
    ProgressState,
    Provenance,
    SourceError,
    content_digest,
    diff_files,
    take_snapshot,
    verify_snapshot,
)
from cognify_dagster.datasets.hashing import hash_worker, pool, run
from cognify_dagster.datasets.hashing.packed import Leaves, PackedFiles
from cognify_dagster.datasets.hashing.run import hash_local
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import LocalSource
from cognify_dagster.datasets.tree import CHUNK_SIZE, symlink_leaf

PARTS = st.sampled_from(["a", "b", "a.b", "a-", "A", "é", "e\u0301", "x\ny", "  ", "z" * 100])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def fill(folder: Path, content: dict[str, bytes]) -> Path:
    for path, data in content.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def naive(folder: Path) -> list[FileLeaf]:
    """The leaves, one file after the other, by other means."""
    leaves = []
    for here, folders, names in os.walk(os.fsencode(folder)):
        for name in [*folders, *names]:
            full = os.path.join(here, name)
            if os.path.isdir(full) and not os.path.islink(full):
                continue
            path = os.path.relpath(full, os.fsencode(folder))
            if os.path.islink(full):
                leaves.append(symlink_leaf(path, os.readlink(full)))
            else:
                with open(full, "rb") as file:
                    data = file.read()
                leaves.append(FileLeaf(path, FileKind.FILE, len(data), *content_digest(data)))
    return leaves


def hashed(folder: Path, **how):
    return hash_local(LocalSource(folder), IgnoreRules(), **how).files


@pytest.fixture(scope="module")
def varied(tmp_path_factory) -> Path:
    """Files of all sizes that matter, in folders of all shapes."""
    folder = tmp_path_factory.mktemp("varied")
    draw = random.Random(7)
    sizes = [0, 1, 31, 32 * 1024, 32 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 1 << 20, (1 << 20) + 1, CHUNK_SIZE]
    content = {f"sizes/{size}": draw.randbytes(size) for size in [*sizes, CHUNK_SIZE + 1, 2 * CHUNK_SIZE]}
    content |= {f"many/{i % 7}/f{i}": b"%d" % i for i in range(600)}
    content |= {f"deep/{'/'.join('abcdefgh'[: i % 8 + 1])}/leaf": b"%d" % i for i in range(8)}
    fill(folder, content)
    (folder / "link").symlink_to("many/0/f0")
    (folder / "many" / "0" / "up").symlink_to("..")
    (folder / "empty-folder").mkdir()
    return folder


@pytest.fixture(scope="module")
def truth(varied) -> FileTree:
    return FileTree(naive(varied))


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("batch", [1, 64, 512])
@pytest.mark.parametrize("pool_from", [0, 1 << 30])
def test_the_tree_is_the_naive_one_however_the_work_is_cut(varied, truth, workers, batch, pool_from):
    files = hashed(varied, workers=workers, batch=batch, pool_from=pool_from)
    assert files.tree_root == truth.tree_root
    assert (len(files), files.total_bytes) == (truth.file_count, truth.total_bytes)
    assert list(Leaves(files)) == truth.sorted_leaves()
    assert files.shard_roots == truth.shard_roots


@SLOW
@given(content=st.dictionaries(PATHS, st.binary(max_size=40), min_size=1, max_size=12), seed=st.integers())
def test_the_root_depends_on_paths_and_contents_only(tmp_path_factory, content, seed):
    folder = tmp_path_factory.mktemp("d")
    kept: dict[str, bytes] = {}
    for path, data in content.items():
        if not any(other.startswith(path + "/") or path.startswith(other + "/") for other in kept):
            kept[path] = data
    shuffled = list(kept.items())
    random.Random(seed).shuffle(shuffled)
    fill(folder, dict(shuffled))
    leaves = [FileLeaf(os.fsencode(path), FileKind.FILE, len(data), *content_digest(data)) for path, data in shuffled]
    assert (
        hashed(folder, batch=1 + seed % 5).tree_root == FileTree(leaves).tree_root == PackedFiles.of(leaves).tree_root
    )


@SLOW
@given(place=st.integers(0, 300), flip=st.integers(1, 255), which=st.integers(0, 4))
def test_one_changed_byte_changes_the_root_and_names_the_file(tmp_path_factory, place, flip, which):
    folder = fill(tmp_path_factory.mktemp("d"), {f"f{i}": bytes([i]) * 301 for i in range(5)})
    before = take_snapshot(folder, name="d", provenance=Provenance())
    data = bytearray((folder / f"f{which}").read_bytes())
    data[place] ^= flip
    (folder / f"f{which}").write_bytes(data)
    after = take_snapshot(folder, name="d", provenance=Provenance())
    assert after.root != before.root
    assert diff_files(before.files, after.files).changed == (f"f{which}",)
    report = verify_snapshot(folder, before)
    assert (report.ok, report.changed) == (False, (f"f{which}",))


@pytest.mark.parametrize("place", [0, CHUNK_SIZE - 1, CHUNK_SIZE, 2 * CHUNK_SIZE - 1])
def test_one_changed_byte_of_a_large_file_changes_the_root(tmp_path, place):
    target = fill(tmp_path, {"big": bytes(2 * CHUNK_SIZE)}) / "big"
    before = hashed(tmp_path).tree_root
    with target.open("r+b") as file:
        file.seek(place)
        file.write(b"x")
    assert hashed(tmp_path).tree_root != before


# --- workers -------------------------------------------------------------------------------------------------------------


def test_a_batch_goes_through_pipes_unchanged():
    groups = [(b"a/b", [b"x\ny", b"\xff"], b""), (b"", [b"z"], b"k" * hash_worker.KEY_SIZE)]
    frame = hash_worker.pack_request(7, groups)
    assert hash_worker.unpack_frame(frame) == (7, len(frame) - hash_worker.FRAME_SIZE)
    nothing = hash_worker.NO_KEY
    assert hash_worker.unpack_request(frame[hash_worker.FRAME_SIZE :]) == [
        (b"a/b", [b"x\ny", b"\xff"], nothing * 2),
        (b"", [b"z"], b"k" * hash_worker.KEY_SIZE),
    ]


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x09" + bytes(120), b"\x01" + bytes(119), b"\x00" + bytes(120)])
def test_an_answer_of_the_wrong_length_is_refused(body):
    with pytest.raises(ValueError, match="wrong length"):
        hash_worker.unpack_answer(body, 1)


def killing(monkeypatch, which):
    """Kill workers as soon as they are given work."""
    honest = pool.Pool._send
    seen = []

    def send(self, worker, batch):
        honest(self, worker, batch)
        seen.append(batch)
        if which(len(seen)):
            os.kill(worker.process.pid, signal.SIGKILL)

    monkeypatch.setattr(pool.Pool, "_send", send)


@pytest.mark.parametrize("which", [lambda n: n == 1, lambda n: n == 5, lambda n: n % 3 == 0, lambda n: True])
def test_killed_workers_cost_no_file(varied, truth, monkeypatch, which):
    killing(monkeypatch, which)
    result = hash_local(LocalSource(varied), IgnoreRules(), workers=2, pool_from=0, batch=20)
    assert result.lost_workers >= 1
    assert result.files.tree_root == truth.tree_root


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(3)",
        "print('Hello, this is no worker of yours')",
        "import sys; sys.stdout.buffer.write(b'cgfyhw01' + bytes(1000)); sys.stdout.flush(); sys.stdin.read()",
    ],
)
def test_what_is_no_worker_is_not_believed(varied, truth, monkeypatch, program):
    monkeypatch.setattr(pool, "_START", program.replace("{", "{{"))
    result = hash_local(LocalSource(varied), IgnoreRules(), workers=2, pool_from=0)
    assert result.lost_workers == 2
    assert result.files.tree_root == truth.tree_root


def test_a_worker_that_never_greets_is_given_up(varied, truth, monkeypatch):
    monkeypatch.setattr(pool, "_START", "import time; time.sleep(60)")
    monkeypatch.setattr(pool, "_START_SECONDS", 0.2)
    result = hash_local(LocalSource(varied), IgnoreRules(), workers=2, pool_from=0)
    assert (result.lost_workers, result.files.tree_root) == (2, truth.tree_root)


def test_where_no_process_can_be_started_the_files_are_hashed_here(varied, truth, monkeypatch):
    def refuse(*_args, **_more):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert hashed(varied, workers=2, pool_from=0).tree_root == truth.tree_root
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert not pool.can_start()


def test_no_process_is_left_behind(varied, monkeypatch):
    started = []
    honest = subprocess.Popen

    def remember(*args, **more):
        started.append(honest(*args, **more))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)
    hashed(varied, workers=2, pool_from=0)
    next(_interrupted(varied))
    assert len(started) == 4
    assert all(process.returncode is not None for process in started)


def _interrupted(folder):
    """A run that is given up after its first answer."""
    source = LocalSource(folder)
    with source.open_root() as root:
        this = run._Run(source, root, IgnoreRules(), None, run.Verify.full(), run.Meter(None), 2, 0, 8)
        answers = this._answers()
        yield next(answers)
        answers.close()


ORPHANS = """
    import time
    from cognify_dagster.datasets.hashing import pool, run
    from cognify_dagster.datasets.sources.ignore import IgnoreRules
    from cognify_dagster.datasets.sources.local import LocalSource
    honest = pool.Pool._serve
    def told(self, worker, mask):
        print(*[item.process.pid for item in self._workers], flush=True)
        time.sleep(60)
    pool.Pool._serve = told
    run.hash_local(LocalSource({folder!r}), IgnoreRules(), workers=2, pool_from=0)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_workers_end_when_their_caller_is_killed(varied):
    text = textwrap.dedent(ORPHANS).format(folder=str(varied))
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        workers = caller.stdout.readline().split()
        caller.kill()
    assert len(workers) == 2
    end = time.monotonic() + 20
    while time.monotonic() < end and any(_runs(pid) for pid in workers):
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"hash_worker" in words  # a zombie, which init has yet to collect, has none


PROGRAM = """
    from cognify_dagster.datasets.hashing import run
    run.POOL_FROM = 0
    from cognify_dagster.datasets.hashing.run import hash_local
    from cognify_dagster.datasets.sources.ignore import IgnoreRules
    from cognify_dagster.datasets.sources.local import LocalSource
    result = hash_local(LocalSource({folder!r}), IgnoreRules(), workers=2, pool_from=0)
    print("RAN", result.lost_workers, result.files.tree_root.hex())
"""


@pytest.mark.parametrize("way", ["-c", "stdin", "script without guard"])
def test_workers_start_whatever_the_main_module_is(varied, truth, tmp_path, way):
    text = textwrap.dedent(PROGRAM).format(folder=str(varied))
    (tmp_path / "script.py").write_text(text)
    words = {"-c": ["-c", text], "stdin": ["-"]}.get(way, [str(tmp_path / "script.py")])
    done = subprocess.run(
        [sys.executable, *words], input=text, capture_output=True, text=True, timeout=60, check=True, cwd=Path.cwd()
    )
    assert done.stdout == f"RAN 0 {truth.tree_root.hex()}\n"


def test_progress_tells_files_bytes_rate_and_time_left(varied):
    class Seen:
        def __init__(self):
            self.states, self.calls = [], []

        def __call__(self, *step):
            self.calls.append(step)

        def report(self, state):
            self.states.append(state)

    seen = Seen()
    files = hashed(varied, progress=seen, workers=2, pool_from=0, batch=64)
    last = seen.states[-1]
    assert (last.files, last.bytes) == (len(files), files.total_bytes - sum(len(os.readlink(p)) for p in links(varied)))
    assert seen.calls[-1] == ("hash", len(files), len(files))
    assert [state.files for state in seen.states] == sorted(state.files for state in seen.states)
    assert [state.bytes for state in seen.states] == sorted(state.bytes for state in seen.states)
    half = ProgressState("hash", 1, 10, 500, 1000, 2.0)
    assert (half.rate, half.share, half.seconds_left) == (250.0, 0.5, 2.0)
    assert ProgressState("hash", 0, 10, 0, None, 0.0).seconds_left is None


def linked(folder):
    """Small, middle-sized and chunked files, each under three names in different folders, and what each has in bytes."""
    sizes = {"small": 5_000, "middle": hash_worker.BUFFER // 3 * 2, "large": CHUNK_SIZE + 5}
    for place, (name, size) in enumerate(sizes.items()):
        fill(folder, {f"a/{name}": random.Random(place).randbytes(size), f"a/{name}.other": b"x" * size})
        for other in ("b", "c/d"):
            (folder / other).mkdir(parents=True, exist_ok=True)
            os.link(folder / "a" / name, folder / other / f"{name}-{place}")
    return sum(sizes.values())


def test_hard_links_are_read_once_and_each_path_is_listed(tmp_path, monkeypatch):
    total = linked(tmp_path)
    read = []

    def counting(function, count):
        def call(*args):
            got = function(*args)
            read.append(count(got))
            return got

        return call

    monkeypatch.setattr(hash_worker, "read_into", counting(hash_worker.read_into, lambda got: got))
    monkeypatch.setattr(hash_worker, "hash_range", counting(hash_worker.hash_range, lambda got: got[0]))
    files = hashed(tmp_path, workers=1)
    assert sum(read) == 2 * total, "each inode once: three with links, three without"
    assert FileTree(naive(tmp_path)).tree_root == files.tree_root
    assert len(files) == 12
    assert files.counts()["hashed"] == 12


@pytest.mark.parametrize("workers", [1, 2])
def test_hard_links_have_the_root_of_copies_whoever_hashes(tmp_path, workers):
    linked(tmp_path)
    files = hashed(tmp_path, workers=workers, pool_from=0, batch=2)
    assert FileTree(naive(tmp_path)).tree_root == files.tree_root


def test_a_link_is_read_for_itself_where_the_file_changed_in_between(tmp_path):
    fill(tmp_path, {"a": b"old"})
    os.link(tmp_path / "a", tmp_path / "b")
    seen = {}
    root = os.open(tmp_path, os.O_RDONLY)
    view = memoryview(bytearray(hash_worker.BUFFER))
    try:
        first = hash_worker.hash_groups(root, [(b"", [b"a"], b"")], 1 << 20, view, seen=seen)
        assert list(seen.values()) == [hashlib.sha256(b"old").digest()]
        (tmp_path / "a").write_bytes(b"new!")
        second = hash_worker.hash_groups(root, [(b"", [b"b"], b"")], 1 << 20, view, seen=seen)
    finally:
        os.close(root)
    assert first[3][32:64] == hashlib.sha256(b"old").digest()
    assert second[3][32:64] == hashlib.sha256(b"new!").digest()


def test_what_is_remembered_of_hard_links_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(hash_worker, "MAX_SEEN", 2)
    for number in range(5):
        fill(tmp_path, {f"{number}": bytes([number])})
        os.link(tmp_path / f"{number}", tmp_path / f"{number}-again")
    files = hashed(tmp_path, workers=1)
    assert FileTree(naive(tmp_path)).tree_root == files.tree_root


def links(folder):
    return [path for path in folder.rglob("*") if path.is_symlink()]


# --- files that are odd ---------------------------------------------------------------------------------------------------


def test_a_file_that_vanishes_after_listing_is_named(tmp_path, monkeypatch, provenance):
    fill(tmp_path, {"a": b"1", "b": b"2"})
    honest = hash_worker.open_folder
    calls = []

    def open_folder(root, path):
        calls.append(path)
        if len(calls) == 2:
            (tmp_path / "b").unlink()
        return honest(root, path)

    monkeypatch.setattr(hash_worker, "open_folder", open_folder)
    monkeypatch.setattr("cognify_dagster.datasets.sources.local.open_folder", open_folder)
    with pytest.raises(SourceError, match=r"file b .*No such file.*make it readable"):
        take_snapshot(tmp_path, name="d", provenance=provenance)


@pytest.mark.parametrize("pool_from", [0, 1 << 30])
def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch, pool_from):
    fill(tmp_path, {f"sub/{i}": b"1" for i in range(5)})
    honest = hash_worker.hash_groups

    def forbidden(*given, **more):
        statuses, *rest = honest(*given, **more)
        statuses = bytes([hash_worker.FAILED]) + statuses[1:]
        return (statuses, rest[0], (13).to_bytes(8, sys.byteorder) + rest[1][8:], *rest[2:])

    monkeypatch.setattr(run, "hash_groups", forbidden)
    monkeypatch.setattr(run, "can_start", lambda: False)
    with pytest.raises(SourceError, match=r"file sub/0 in source .*Permission denied; make it readable"):
        hashed(tmp_path, pool_from=pool_from)


def test_a_file_without_read_permission_is_named():
    """In a process that gives up root after it has loaded what it needs: root may read everything."""
    code = """if True:
        import os, sys
        from cognify_dagster.datasets import Provenance, SourceError, take_snapshot
        def take():
            return take_snapshot(sys.argv[1], name="d", provenance=Provenance(), workers=1)
        take()
        os.chmod(sys.argv[1] + "/a", 0)
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            take()
        except SourceError as error:
            print(error)
    """
    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name), {"a": b"1"})
        folder.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, check=False, timeout=60
        )
    assert "file a in source" in done.stdout, done.stderr
    assert "Permission denied" in done.stdout


def test_a_folder_that_cannot_be_opened_by_a_worker_names_its_files(tmp_path):
    fill(tmp_path, {"sub/f": b"1"})
    source = LocalSource(tmp_path)
    (tmp_path / "sub").rename(tmp_path / "other")
    with pytest.raises(SourceError, match=r"file sub/f .*No such file"):
        run.hash_names(source, [(b"sub", [b"f"])])


def test_link_loops_and_links_that_leave_the_root_are_leaves(tmp_path, provenance):
    data = fill(tmp_path / "data", {"f": b"1"})
    (data / "self").symlink_to("self")
    (data / "parent").symlink_to("..")
    (data / "out").symlink_to("/etc")
    files = take_snapshot(data, name="d", provenance=provenance).files
    assert {leaf.path: leaf.kind for leaf in files} == {
        b"f": FileKind.FILE,
        b"self": FileKind.SYMLINK,
        b"parent": FileKind.SYMLINK,
        b"out": FileKind.SYMLINK,
    }


def test_sparse_and_empty_files_have_the_digest_of_their_content(tmp_path, provenance):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3 * CHUNK_SIZE)
    (tmp_path / "empty").touch()
    (tmp_path / "nothing" / "inside").mkdir(parents=True)
    leaves = {leaf.path: leaf for leaf in take_snapshot(tmp_path, name="d", provenance=provenance).files}
    assert set(leaves) == {b"sparse", b"empty"}
    assert leaves[b"sparse"].digest == content_digest(bytes(3 * CHUNK_SIZE))[1]
    assert leaves[b"empty"].digest == hashlib.sha256().digest()


@pytest.mark.parametrize("pool_from", [0, 1 << 30])
def test_odd_names_keep_their_bytes(tmp_path, pool_from):
    names = [b"a\nb", b"\xff\xfe", b"caf\xc3\xa9", b"cafe\xcc\x81", b"Case", b"case", b" ", b"'\"\\", b"-rf", b"~"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(name)
    files = hashed(tmp_path, pool_from=pool_from, workers=2)
    assert sorted(files.paths) == sorted(names)
    assert files.tree_root == FileTree(naive(tmp_path)).tree_root


@pytest.mark.parametrize("parts", [25, 60])
def test_paths_of_thousands_of_characters_are_hashed(tmp_path, parts):
    """Longer than any system call takes at once (4,096 bytes), and longer than a request of a worker may be."""
    here = os.open(tmp_path, os.O_RDONLY)
    part = "p" * 200
    for _ in range(parts):
        os.mkdir(part, dir_fd=here)
        below = os.open(part, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    handle = os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(handle, b"deep")
    os.close(handle)
    os.close(here)
    path = b"/".join([part.encode()] * parts + [b"f"])
    assert len(path) > 5_000
    expected = FileTree([FileLeaf(path, FileKind.FILE, 4, *content_digest(b"deep"))]).tree_root
    for pool_from in (0, 1 << 30):
        assert hashed(tmp_path, pool_from=pool_from, workers=2).tree_root == expected


def test_duplicate_paths_cannot_become_columns():
    leaf = FileLeaf(b"a", FileKind.FILE, 1, *content_digest(b"1"))
    with pytest.raises(DatasetError, match="'a' occurs twice"):
        _ = PackedFiles.of([leaf, leaf]).tree_root


def test_leaves_are_a_sequence(varied):
    leaves = Leaves(hashed(varied))
    plain = tuple(leaves)
    assert leaves == plain == leaves[:]
    assert (leaves[0], leaves[-1], leaves[2:4]) == (plain[0], plain[-1], plain[2:4])
    assert leaves != plain[1:]
    assert leaves != 3
    assert hash(leaves) == hash(Leaves(hashed(varied)))
    assert "files" in repr(leaves)
