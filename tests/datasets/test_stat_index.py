"""The stat index: what may be taken over unread, what never, and that no index makes a wrong root."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    Provenance,
    SilentChangeError,
    SourceChangedError,
    demand_hashed,
    hashed_share,
    observations_bytes,
    take_snapshot,
    verify_snapshot,
)
from cognify_dagster.datasets.hashing import hash_worker, index, source
from cognify_dagster.datasets.hashing.hash_worker import KEY, KEY_SIZE
from cognify_dagster.datasets.hashing.index import IndexScope, UnusableIndexError, read_index
from cognify_dagster.datasets.hashing.verifying import Verify
from cognify_dagster.datasets.tree import CHUNK_SIZE

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
OLD = 10_000_000_000  # ns


def fill(folder: Path, content: dict[str, bytes]) -> Path:
    for path, data in content.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def _no_racy_margin(monkeypatch):
    """Files of these tests are younger than two seconds; tests of the racy rule set it themselves."""
    monkeypatch.setattr(index, "RACY_NS", -OLD)


@pytest.fixture
def data(tmp_path) -> Path:
    return fill(tmp_path / "data", {f"{i % 3}/f{i}": b"%d" % i for i in range(30)} | {"big": bytes(CHUNK_SIZE + 1)})


@pytest.fixture
def kept(tmp_path) -> Path:
    return tmp_path / "cache" / "d.index"


def snap(folder, kept=None, **more):
    more.setdefault("name", "d")
    return take_snapshot(folder, provenance=Provenance(), index=kept, **more)


def evidence(snapshot):
    return tuple(snapshot.header["evidence"][name] for name in ("hashed", "reused", "provider"))


def test_what_has_not_changed_is_taken_over_and_counted(data, kept):
    first = snap(data, kept)
    second = snap(data, kept)
    assert evidence(first) == (31, 0, 0)
    assert evidence(second) == (0, 31, 0)
    assert first.root == second.root == snap(data).root
    assert first.files == second.files
    assert first.observed["index"] == second.observed["index"] == hashlib.sha256(kept.read_bytes()).hexdigest()


@pytest.mark.parametrize("pool_from", [0, 1 << 30])
def test_changed_added_removed_and_renamed_files_are_seen(data, kept, monkeypatch, pool_from):
    monkeypatch.setattr("cognify_dagster.datasets.hashing.run.POOL_FROM", pool_from)
    snap(data, kept)
    (data / "0/f0").write_bytes(b"changed")
    (data / "1/f1").unlink()
    (data / "2/f2").rename(data / "2/renamed")
    (data / "new" / "x").mkdir(parents=True)
    (data / "new" / "x" / "y").write_bytes(b"new")
    (data / "0/link").symlink_to("f0")
    after = snap(data, kept)
    assert after.root == snap(data).root
    assert evidence(after) == (4, 28, 0)
    assert evidence(snap(data, kept)) == (1, 31, 0)  # a link's target is always read
    (data / "0/link").unlink()
    (data / "0/link").symlink_to("f3")
    assert snap(data, kept).root == snap(data).root != after.root


@pytest.mark.parametrize("changed", [1, 300, 3_100])
def test_however_many_files_changed_the_root_is_that_of_a_full_snapshot(tmp_path, kept, changed):
    """Few changes renew few shards of the tree, many the whole of it."""
    data = fill(tmp_path / "data", {f"{i % 3}/f{i}": b"%d" % i for i in range(3_100)})
    snap(data, kept)
    for i in range(changed):
        (data / f"{i % 3}/f{i}").write_bytes(b"new %d" % i)
    after = snap(data, kept)
    assert evidence(after) == (changed, 3_100 - changed, 0)
    assert after.root == snap(data).root
    assert after.files == snap(data).files
    assert evidence(snap(data, kept, verify="sample:100"))[0] == 3_100


CHANGES = st.lists(
    st.tuples(st.sampled_from(["write", "touch", "delete", "add", "swap"]), st.integers(0, 9)), min_size=1, max_size=6
)


@SLOW
@given(rounds=st.lists(CHANGES, min_size=1, max_size=3))
def test_no_history_of_changes_makes_another_root_than_a_full_snapshot(tmp_path_factory, rounds):
    base = tmp_path_factory.mktemp("d")
    data, kept = fill(base / "data", {f"{i % 2}/f{i}": b"%d" % i for i in range(10)} | {"stay": b"1"}), base / "ix"
    snap(data, kept)
    for number, changes in enumerate(rounds):
        for what, which in changes:
            target = data / str(which % 2) / f"f{which}"
            if what == "write" or (what == "add" and not target.exists()):
                target.write_bytes(b"round %d" % number)
            elif what == "touch" and target.exists():
                target.touch()
            elif what == "delete":
                target.unlink(missing_ok=True)
            elif what == "swap" and target.exists():
                (data / "stay").write_bytes(target.read_bytes() + b"!")
        quick = snap(data, kept)
        assert quick.root == snap(data).root
        assert sum(evidence(quick)) == quick.file_count


def test_warnings_about_names_stay_with_files_that_were_not_read(tmp_path, kept):
    data = fill(tmp_path / "data", {"Data": b"1", "data": b"2", "caf\u00e9": b"3", "cafe\u0301": b"4", "x\ny": b"5"})
    first = snap(data, kept)
    second = snap(data, kept)
    assert evidence(second) == (0, 5, 0)
    assert first.header["warnings"] == second.header["warnings"]
    assert len(second.header["warnings"]) == 2


def test_a_file_altered_with_its_times_put_back_is_caught(data, kept):
    target = data / "0/f0"
    before = snap(data, kept)
    status = target.stat()
    target.write_bytes(b"X")
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert target.stat().st_mtime_ns == status.st_mtime_ns
    assert target.stat().st_size == status.st_size
    after = snap(data, kept)
    assert evidence(after) == (1, 30, 0)
    assert after.root == snap(data).root != before.root


def test_a_file_replaced_by_another_with_the_same_times_is_caught(data, kept):
    target = data / "0/f0"
    snap(data, kept)
    status = target.stat()
    other = data.parent / "other"
    other.write_bytes(b"X")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(target)
    assert snap(data, kept).root == snap(data).root


@pytest.mark.parametrize("place", range(6))
def test_every_part_of_the_stat_key_counts(data, kept, place):
    snap(data, kept)
    scope = scope_of(data)
    held = read_index(kept, scope)
    number = held.files.paths.index(b"0/f0")
    parts = list(KEY.unpack(held.files.key(number)))
    parts[place] += 1
    keys = bytearray(held.files.keys)
    keys[KEY_SIZE * number : KEY_SIZE * (number + 1)] = KEY.pack(*parts)
    rewrite(kept, held.files.keys, bytes(keys))
    assert evidence(snap(data, kept)) == (1, 30, 0)


def scope_of(data, name="d"):
    return IndexScope(name, f"file:{os.path.realpath(data)}", snap(data).header["params"]["ignore_digest"])


def rewrite(kept, old: bytes, new: bytes) -> None:
    """Alter an index and make its checksum fit again."""
    body = kept.read_bytes()[:-32]
    assert body.count(bytes(old)) >= 1
    body = body.replace(bytes(old), bytes(new), 1)
    kept.write_bytes(body + hashlib.sha256(body).digest())


# --- the racy rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age_s", "taken_over"), [(60, True), (2.1, True), (1.9, False), (0, False), (-30, False)])
@pytest.mark.parametrize("which", ["mtime", "ctime"])
def test_files_written_within_two_seconds_of_hashing_are_read_again(data, kept, monkeypatch, age_s, taken_over, which):
    """A clock with coarse steps could give a later write the same times: such a file must never be trusted."""
    monkeypatch.setattr(index, "RACY_NS", 2_000_000_000)
    now = time.time_ns()
    faked = {"mtime": now - 60_000_000_000, "ctime": now - 60_000_000_000, which: now - int(age_s * 1e9)}

    def stat_key(status):
        return KEY.pack(status.st_size, faked["mtime"], faked["ctime"], status.st_ino, status.st_dev, status.st_mode)

    held = []
    honest = index.index_bytes
    monkeypatch.setattr(hash_worker, "stat_key", stat_key)
    monkeypatch.setattr("cognify_dagster.datasets.hashing.large.stat_key", stat_key)
    monkeypatch.setattr(time, "time_ns", lambda: now)
    monkeypatch.setattr(source, "index_bytes", lambda *a: held.append(honest(*a)) or held[-1])
    snap(data, kept)
    monkeypatch.undo()
    keys = read_index(kept, scope_of(data)).files.keys
    assert (keys == bytes(len(keys))) is not taken_over


def test_a_racy_rewrite_of_the_same_size_is_seen(data, kept, monkeypatch):
    """The rewrite leaves the whole stat as it was, which a coarse clock may do within one of its steps."""
    monkeypatch.setattr(index, "RACY_NS", 60_000_000_000)  # a busy machine may take the usual two seconds to begin
    snap(data, kept)
    target = data / "0/f0"
    target.write_bytes(b"Z")
    held = read_index(kept, scope_of(data))
    assert held.files.key(held.files.paths.index(b"0/f0")) == bytes(KEY_SIZE)
    after = snap(data, kept)
    assert after.root == snap(data).root
    assert evidence(after)[0] == 31


# --- full and sample -------------------------------------------------------------------------------------------------------


def lie(data, kept, path=b"0/f0"):
    """Make the index hold another digest for a file: as if the content had changed behind an unchanged stat."""
    held = read_index(kept, scope_of(data))
    digest = held.files.digest(held.files.paths.index(path))
    rewrite(kept, digest, bytes(32))


def test_a_sample_finds_content_that_changed_behind_its_stat(data, kept):
    snap(data, kept)
    lie(data, kept)
    with pytest.raises(SilentChangeError, match=r"0/f0.*verify=full"):
        snap(data, kept, verify="sample:100")
    full = snap(data, kept, verify="full")
    assert full.root == snap(data).root
    assert full.observed["silent_changes"] == ["0/f0"]
    assert issubclass(SilentChangeError, SourceChangedError)


def test_a_sample_reads_the_files_that_its_seed_draws(data, kept):
    snap(data, kept)
    seeds = set()
    for _ in range(3):
        taken = snap(data, kept, verify="sample:40")
        seed = bytes.fromhex(taken.observed["sample_seed"])
        seeds.add(seed)
        drawn = sum(Verify("sample", 40.0, seed).chooses(leaf.path) for leaf in taken.files)
        assert evidence(taken) == (drawn, 31 - drawn, 0)
        assert taken.observed["verify"] == "sample:40"
    assert len(seeds) == 3


def test_the_part_that_is_drawn_is_the_part_that_was_asked_for():
    drawn = sum(Verify("sample", 5.0, b"seed").chooses(b"%d" % i) for i in range(20_000))
    assert 800 < drawn < 1200


@pytest.mark.parametrize("text", ["", "half", "sample", "sample:", "sample:0", "sample:101", "sample:x", "sample:nan"])
def test_a_wrong_verify_is_refused(data, kept, text):
    with pytest.raises(DatasetError, match="'full', 'quick' or 'sample:P'"):
        snap(data, kept, verify=text)


def test_quick_needs_an_index_and_full_reads_everything(data, kept):
    with pytest.raises(DatasetError, match="pass index="):
        snap(data, verify="quick")
    snap(data, kept)
    full = snap(data, kept, verify="full")
    assert evidence(full) == (31, 0, 0)
    assert hashed_share(full) == 1.0
    demand_hashed(full, "d")
    (data / "0/f0").write_bytes(b"new")
    part = snap(data, kept)
    assert hashed_share(part) == hashed_share(part.header) == 1 / 31
    with pytest.raises(DatasetError, match=r"dataset d: only 3\.2% .*verify=full"):
        demand_hashed(part, "d")
    with pytest.raises(DatasetError, match="do not add up"):
        hashed_share({**part.header, "evidence": {"hashed": 31, "reused": 30, "provider": 0}})
    with pytest.raises(DatasetError, match="does not say"):
        hashed_share({})


def test_the_sidecar_names_when_each_file_was_last_hashed(data, kept):
    first = snap(data, kept)
    (data / "0/f0").write_bytes(b"new")
    second = snap(data, kept)
    (data / "1/f1").write_bytes(b"new too")
    third = snap(data, kept)
    table = pq.read_table(io.BytesIO(observations_bytes(third)))
    rows = {row["path"]: row for row in table.to_pylist()}
    assert list(rows) == [leaf.path for leaf in third.files]
    roots = {"0/f0": second, "1/f1": third, "2/f2": first, "big": first}
    for path, snapshot in roots.items():
        row = rows[path.encode()]
        assert row["since_root"].hex() == snapshot.root
        assert round(row["since_time"].timestamp() * 1e6) == snapshot.started_us
        assert row["evidence"] == ("hashed" if snapshot is third else "reused")
        status = (data / path).stat()
        assert (row["mtime_ns"], row["inode"], row["mode"]) == (status.st_mtime_ns, status.st_ino, status.st_mode)


# --- indexes that may not be used ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "other version", "folder", "checksum only"])
def test_a_damaged_index_is_not_used_and_no_error(data, kept, damage):
    honest = snap(data, kept)
    whole = kept.read_bytes()
    kept.unlink()
    if damage == "folder":
        kept.mkdir()
    else:
        body = whole[:-32]
        kept.write_bytes(
            {
                "empty": b"",
                "text": b"hello",
                "cut": whole[:-40],
                "flipped": whole[:300] + bytes([whole[300] ^ 1]) + whole[301:],
                "other version": whole.replace(b"/v1\n", b"/v9\n", 1),
                "checksum only": body[:200] + hashlib.sha256(body[:200]).digest(),
            }[damage]
        )
    taken = snap(data, kept)
    assert (taken.root, evidence(taken)) == (honest.root, (31, 0, 0))
    assert "stat index" in taken.observed["notes"][0]
    if damage == "text":  # somebody's file, not ours: it stays as it is
        assert kept.read_bytes() == b"hello"
    elif damage != "folder":
        assert evidence(snap(data, kept)) == (0, 31, 0)


@SLOW
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), fits=st.booleans())
def test_an_index_altered_anywhere_is_never_a_crash(tmp_path_factory, place, flip, fits):
    base = tmp_path_factory.mktemp("d")
    data, kept = fill(base / "data", {f"f{i}": b"%d" % i for i in range(3)}), base / "ix"
    honest = snap(data, kept)
    body = bytearray(kept.read_bytes())
    at = int(place * len(body))
    body[at] ^= flip
    if fits and at < len(body) - 32:
        body[-32:] = hashlib.sha256(body[:-32]).digest()
    kept.write_bytes(body)
    taken = snap(data, kept, index_digest=honest.observed["index"])
    assert (taken.root, evidence(taken)) == (honest.root, (3, 0, 0))
    kept.write_bytes(body)
    with contextlib.suppress(UnusableIndexError):
        read_index(kept, scope_of(data))


def test_the_index_of_another_dataset_place_or_rule_set_is_not_used(data, kept, tmp_path):
    snap(data, kept)
    held = kept.read_bytes()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in data.rglob("*"):
        if path.is_file():
            fill(copy, {str(path.relative_to(data)): path.read_bytes()})
    for where, more, why in (
        (data, {"name": "other"}, "belongs to dataset 'd'"),
        (copy, {}, "another place"),
        (data, {"ignore": ["*.tmp"]}, "other ignore rules"),
        (data, {"index_digest": "00" * 32}, "not the one that the last recorded snapshot left"),
    ):
        taken = snap(where, kept, **more)
        assert evidence(taken) == (31, 0, 0)
        assert why in taken.observed["notes"][0]
        kept.write_bytes(held)


def test_an_index_inside_the_data_is_refused(data, tmp_path):
    with pytest.raises(DatasetError, match="inside the data"):
        snap(data, data / "sub" / "ix")
    (tmp_path / "door").symlink_to(data)
    with pytest.raises(DatasetError, match="inside the data"):
        snap(data, tmp_path / "door" / "ix")
    assert not list(data.rglob("*ix*"))
    with pytest.raises(DatasetError, match="inside the data"):
        snap(data / "big", data / "big")
    assert (data / "big").stat().st_size == CHUNK_SIZE + 1


def test_a_full_disk_while_the_index_is_written_costs_only_the_index(data, kept, monkeypatch):
    first = snap(data, kept)
    held = kept.read_bytes()
    (data / "0/f0").write_bytes(b"new")

    class Full:
        def __init__(self, handle):
            self.handle = handle

        def __enter__(self):
            return self

        def __exit__(self, *_):
            os.close(self.handle)

        def write(self, view):
            if len(view) < 100:
                raise OSError(28, "No space left on device")
            return os.write(self.handle, view[: len(view) // 2])

    monkeypatch.setattr(index.os, "fdopen", lambda handle, *_a, **_k: Full(handle))
    second = snap(data, kept)
    assert second.root != first.root
    assert "No space left" in second.observed["notes"][0]
    assert "index" not in second.observed
    assert kept.read_bytes() == held
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    monkeypatch.undo()
    assert snap(data, kept).root == second.root


KILLED = """
    import os, signal, sys
    from cognify_dagster.datasets import Provenance, take_snapshot
    from cognify_dagster.datasets.hashing import index, run
    run.POOL_FROM, index.RACY_NS, run.hash_local.__kwdefaults__["pool_from"] = 0, -10**10, 0
    calls = 0
    def die(event, arguments):
        global calls
        if event in ("open", "os.rename", "os.remove", "subprocess.Popen", "os.listdir", "os.scandir", "tempfile.mkstemp"):
            if armed:
                calls += 1
                if calls == {when}:
                    os.kill(os.getpid(), signal.SIGKILL)
    armed = False
    sys.addaudithook(die)
    take_snapshot({warm!r}, name="w", provenance=Provenance())
    armed = True
    taken = take_snapshot({data!r}, name="d", provenance=Provenance(), index={kept!r}, records=False)
    print("DONE", taken.root)
"""


@pytest.mark.parametrize("when", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
def test_after_a_kill_at_any_moment_the_next_run_is_right(data, kept, tmp_path, when):
    first = snap(data, kept)
    (data / "0/f0").write_bytes(b"new")
    warm = fill(tmp_path / "warm", {"a": b"1"})
    text = textwrap.dedent(KILLED).format(when=when, data=str(data), kept=str(kept), warm=str(warm))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL or "DONE" in done.stdout, done.stderr
    if when <= 3:
        assert done.returncode == -signal.SIGKILL
    after = snap(data, kept)
    assert after.root == snap(data).root != first.root
    assert sum(evidence(after)) == 31
    assert after.header["files"] == snap(data).header["files"]


# --- verification and remote sources ---------------------------------------------------------------------------------------


def test_verification_with_an_index_says_how_much_it_read(data, kept):
    taken = snap(data, kept)
    (data / "0/f0").write_bytes(b"new")
    quick = verify_snapshot(data, taken, index=kept)
    assert (quick.ok, quick.changed, quick.hashed, quick.reused) == (False, ("0/f0",), 1, 30)
    full = verify_snapshot(data, taken)
    assert (full.ok, full.changed, full.hashed, full.reused) == (False, ("0/f0",), 31, 0)


class Versioned:
    """A remote source whose provider names each version of an object."""

    def __init__(self, monkeypatch):
        from cognify_dagster.datasets.sources.local import Found
        from cognify_dagster.datasets.sources.remote import RemoteSource

        self.tokens: dict[bytes, bytes] = {}
        self.read: list[bytes] = []
        honest, many = RemoteSource.entries, RemoteSource.hash_many
        outer = self

        def entries(this, rules):
            found, ignored = honest(this, rules)
            return [
                Found(item.path, item.kind, item.size, None, outer.tokens.get(item.path, b""), "version")
                for item in found
            ], ignored

        def hash_many(this, found, progress=None):
            outer.read += [item.path for item in found]
            return many(this, found, progress)

        monkeypatch.setattr(RemoteSource, "entries", entries)
        monkeypatch.setattr(RemoteSource, "hash_many", hash_many)


def test_objects_that_the_provider_calls_unchanged_are_not_read(memory_url, put, kept, monkeypatch):
    store = Versioned(monkeypatch)
    for name in "abc":
        put(name, name.encode())
        store.tokens[name.encode()] = b"1" + name.encode()
    store.tokens[b"c"] = b""  # nothing identifies this one
    first = snap(memory_url, kept)
    assert (evidence(first), sorted(store.read)) == ((3, 0, 0), [b"a", b"b", b"c"])
    put("b", b"new")
    store.tokens[b"b"] = b"2b"
    store.read.clear()
    second = snap(memory_url, kept)
    assert (evidence(second), sorted(store.read)) == ((2, 0, 1), [b"b", b"c"])
    assert second.root == snap(memory_url).root != first.root
    row = pq.read_table(io.BytesIO(observations_bytes(second))).to_pylist()
    told = {item["path"]: (item["evidence"], item["provider_token"], item["provider_grade"]) for item in row}
    assert told == {
        b"a": ("provider", b"1a", "version"),
        b"b": ("hashed", b"2b", "version"),
        b"c": ("hashed", None, "version"),
    }
    put("a", b"A")  # behind the provider's back
    with pytest.raises(SilentChangeError, match=r"objects of source .*: a"):
        snap(memory_url, kept, verify="sample:100")
