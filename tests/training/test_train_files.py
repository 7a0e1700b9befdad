"""Digests of model files: a file's is the plain SHA-256, a folder's covers every path and byte."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.ledger import canonical_json
from cognify_dagster.training import FileDigest, TrainingError, digest_files, parse_listing, rows_root, sha256_file
from cognify_dagster.training import files as files_module
from cognify_dagster.training.files import differences, files_listing, unchanged


def folder(tmp_path, name="model", content=None):
    root = tmp_path / name
    for path, data in (content or {"b.bin": b"bb", "a/z.bin": b"z", "a.bin": b""}).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root


def test_a_file_has_its_plain_sha256(tmp_path):
    file = tmp_path / "m.bin"
    file.write_bytes(b"x" * 3_000_000)
    expected = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert sha256_file(file) == expected
    found = digest_files(file)
    assert (found.kind, found.name, found.size, found.sha256) == ("file", "m.bin", 3_000_000, expected)


def test_a_folder_has_the_documented_digest(tmp_path):
    found = digest_files(folder(tmp_path))
    assert [f.path for f in found.files] == ["a.bin", "a/z.bin", "b.bin"]
    listing = [
        [p, len(d), hashlib.sha256(d).hexdigest()] for p, d in (("a.bin", b""), ("a/z.bin", b"z"), ("b.bin", b"bb"))
    ]
    assert found.sha256 == hashlib.sha256(json.dumps(listing, separators=(",", ":")).encode()).hexdigest()
    assert found.size == 3


def test_where_the_folder_lies_does_not_matter_and_every_change_does(tmp_path):
    base = digest_files(folder(tmp_path, "one")).sha256
    assert digest_files(folder(tmp_path, "two")).sha256 == base
    for number, change in enumerate(
        (
            {"b.bin": b"bc", "a/z.bin": b"z", "a.bin": b""},
            {"b.bin": b"bb", "a/y.bin": b"z", "a.bin": b""},
            {"b.bin": b"bb", "a/z.bin": b"z"},
            {"b.bin": b"bb", "a/z.bin": b"z", "a.bin": b"", "c": b""},
        )
    ):
        assert digest_files(folder(tmp_path, f"changed{number}", change)).sha256 != base


@given(st.binary(max_size=2000), st.integers(0, 1999))
def test_one_changed_byte_changes_the_digest(tmp_path_factory, data, position):
    file = tmp_path_factory.mktemp("f") / "x"
    file.write_bytes(data)
    before = sha256_file(file)
    if data:
        position %= len(data)
        file.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        assert sha256_file(file) != before


def test_links_and_special_files_are_refused(tmp_path):
    root = folder(tmp_path)
    (tmp_path / "link").symlink_to(root / "b.bin")
    with pytest.raises(TrainingError, match="is a link"):
        sha256_file(tmp_path / "link")
    (tmp_path / "folder_link").symlink_to(root)
    with pytest.raises(TrainingError, match="is a link"):
        digest_files(tmp_path / "folder_link")
    (root / "inside").symlink_to("/etc/hostname")
    with pytest.raises(TrainingError, match="inside"):
        digest_files(root)
    (root / "inside").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(TrainingError, match="pipe"):
        digest_files(root)
    with pytest.raises(TrainingError, match="not a plain file"):
        sha256_file(root / "pipe")


def test_missing_and_empty_are_named(tmp_path):
    with pytest.raises(TrainingError, match="none"):
        sha256_file(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="holds no file"):
        digest_files(tmp_path / "empty")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "growing"
    file.write_bytes(b"a" * 10)
    real = hashlib.sha256

    class Growing:
        def __init__(self):
            self._inner = real()

        def update(self, block):
            self._inner.update(block)
            with file.open("ab") as stream:
                if stream.tell() < 100:
                    stream.write(b"b")

        def hexdigest(self):
            return self._inner.hexdigest()

    monkeypatch.setattr("cognify_dagster.training.files.hashlib.sha256", Growing)
    with pytest.raises(TrainingError, match="changed while it was read"):
        sha256_file(file)


# -- several files at a time, the list, and what has changed since ------------------------------------------------------


def test_large_folders_are_hashed_in_parallel_with_the_same_result(tmp_path, monkeypatch):
    content = {f"shard-{number}.bin": bytes([number]) * (1_200_000 + number) for number in range(8)}
    root = folder(tmp_path, content=content)
    monkeypatch.setattr("cognify_dagster.training.files.processors", lambda: 4)
    threads = set()
    real = files_module._digest

    def seen(path, name):
        threads.add(threading.get_ident())
        return real(path, name)

    monkeypatch.setattr(files_module, "_digest", seen)
    found = digest_files(root)
    assert {f.path: f.sha256 for f in found.files} == {n: hashlib.sha256(d).hexdigest() for n, d in content.items()}
    assert threads
    assert threading.get_ident() not in threads
    monkeypatch.setattr("cognify_dagster.training.files.processors", lambda: 1)
    assert digest_files(root) == found


def test_an_error_in_one_of_many_files_is_named(tmp_path, monkeypatch):
    root = folder(tmp_path, content={f"{number}.bin": b"x" * 2_000_000 for number in range(8)})
    monkeypatch.setattr("cognify_dagster.training.files.processors", lambda: 4)
    real = files_module._digest

    def failing(path, name):
        if name == "5.bin":
            raise TrainingError(f"{path}: can't be read")
        return real(path, name)

    monkeypatch.setattr(files_module, "_digest", failing)
    with pytest.raises(TrainingError, match=r"5\.bin: can't be read"):
        digest_files(root)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
LINES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.tuples(st.integers(0, 2**40), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    min_size=1,
    max_size=6,
)


def not_both(lines: dict[str, object]) -> bool:
    """No path is the folder of another one."""
    return not any(other.startswith(f"{name}/") for name in lines for other in lines)


@given(LINES.filter(not_both))
def test_a_list_of_files_comes_back_as_it_was_written_and_sorted_by_path(lines):
    files = [FileDigest(path, size, digest) for path, (size, digest) in lines.items()]
    data = files_listing(files)
    assert data == files_listing(list(reversed(files)))
    assert parse_listing(data) == tuple(sorted(files, key=lambda item: item.path.encode()))


@given(LINES.filter(not_both), st.data())
def test_every_change_to_a_list_is_refused_or_another_list(lines, data):
    written = files_listing([FileDigest(path, size, digest) for path, (size, digest) in lines.items()])
    place = data.draw(st.integers(0, len(written) - 1))
    changed = written[:place] + bytes([written[place] ^ data.draw(st.integers(1, 127))]) + written[place + 1 :]
    try:
        assert files_listing(parse_listing(changed)) == changed
    except TrainingError:
        return
    assert parse_listing(changed) != parse_listing(written)


@given(st.lists(st.tuples(NAMES, st.integers(0, 9)), max_size=9))
def test_the_root_over_rows_is_that_of_rfc_6962(rows):
    def naive(leaves: list[bytes]) -> bytes:
        if not leaves:
            return hashlib.sha256(b"").digest()
        if len(leaves) == 1:
            return hashlib.sha256(b"\0" + leaves[0]).digest()
        half = 1
        while half * 2 < len(leaves):
            half *= 2
        return hashlib.sha256(b"\1" + naive(leaves[:half]) + naive(leaves[half:])).digest()

    plain = [list(row) for row in rows]
    assert rows_root(plain) == naive([canonical_json(row) for row in plain]).hex()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        {},
        [["a", 1]],
        [["a", 1, "A" * 64]],
        [["a", -1, "0" * 64]],
        [["a", True, "0" * 64]],
        [["a", 1.0, "0" * 64]],
        [["../a", 1, "0" * 64]],
        [["/a", 1, "0" * 64]],
        [["a//b", 1, "0" * 64]],
        [["./a", 1, "0" * 64]],
        [["a\\b", 1, "0" * 64]],
        [["a\0", 1, "0" * 64]],
        [["b", 1, "0" * 64], ["a", 1, "0" * 64]],
        [["a", 1, "0" * 64], ["a", 1, "0" * 64]],
        [["a", 1, "0" * 64], ["a/b", 1, "0" * 64]],
        [["a", 1, "0" * 64], ["a-b", 1, "0" * 64], ["a/b", 1, "0" * 64]],
    ],
    ids=str,
)
def test_lists_that_no_folder_has_are_refused(rows):
    with pytest.raises(TrainingError, match="the list of files"):
        parse_listing(json.dumps(rows, separators=(",", ":")).encode())


def test_a_list_of_a_folder_is_what_its_digest_is_about(tmp_path):
    found = digest_files(folder(tmp_path))
    assert hashlib.sha256(found.listing()).hexdigest() == found.sha256
    assert parse_listing(found.listing()) == found.files


def test_a_file_that_was_just_written_is_never_taken_for_unchanged_by_its_times(tmp_path):
    file = tmp_path / "m"
    file.write_bytes(b"one")
    found = digest_files(file)
    assert found.files[0].stamp.racy
    assert unchanged(file, found) is None
    file.write_bytes(b"two")
    assert unchanged(file, found) is None
    file.write_bytes(b"longer")
    assert unchanged(file, found) is False


def old_file(path, data, monkeypatch):
    """Hash a file as if that had happened long after it was written: its time of last status change can't be set back."""
    path.write_bytes(data)
    real = time.time_ns
    monkeypatch.setattr(files_module.time, "time_ns", lambda: real() + 10_000_000_000)
    return digest_files(path)


def test_an_old_file_is_unchanged_until_somebody_writes_even_with_its_times_set_back(tmp_path, monkeypatch):
    file = tmp_path / "m"
    found = old_file(file, b"one", monkeypatch)
    state = file.stat()
    assert unchanged(file, found) is True
    time.sleep(0.05)
    file.write_bytes(b"two")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_mtime_ns == state.st_mtime_ns
    assert unchanged(file, found) is None  # the status change can't be set back
    other = tmp_path / "n"
    other.write_bytes(b"one")
    os.replace(other, file)
    assert unchanged(file, found) is None


def test_a_folder_with_a_file_more_or_less_or_a_link_is_not_unchanged(tmp_path):
    root = folder(tmp_path)
    found = digest_files(root)
    (root / "new").write_bytes(b"")
    assert unchanged(root, found) is False
    (root / "new").unlink()
    assert unchanged(root, found) is None
    (root / "b.bin").unlink()
    assert unchanged(root, found) is False
    (root / "b.bin").symlink_to(root / "a.bin")
    assert unchanged(root, found) is False


def test_differences_name_each_file(tmp_path):
    root = folder(tmp_path)
    known = digest_files(root).files
    assert differences(known, root) == []
    (root / "b.bin").write_bytes(b"cc")
    (root / "a.bin").unlink()
    (root / "extra").write_bytes(b"1")
    lines = differences(known, root)
    assert [line.split(":")[0] for line in lines] == ["missing", "other bytes", "not in the record"]
    assert "b.bin" in lines[1]
    file = tmp_path / "alone"
    file.write_bytes(b"x")
    one = digest_files(file).files
    (tmp_path / "renamed").write_bytes(b"x")
    assert differences(one, tmp_path / "renamed") == []
    (tmp_path / "renamed").write_bytes(b"y")
    assert differences(one, tmp_path / "renamed")[0].startswith("other bytes: alone")
