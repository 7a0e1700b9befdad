"""Digests of model files: a file's is the plain SHA-256, a folder's covers every path and byte."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.training import TrainingError, digest_files, sha256_file


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
