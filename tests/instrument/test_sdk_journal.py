"""The journal: what was written is read back; a torn end is told from damage; nothing is half-written."""

from __future__ import annotations

import errno
import math
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.instrument.sdk import journal as module
from cognify_dagster.instrument.sdk.errors import JournalDamaged, SdkError
from cognify_dagster.instrument.sdk.journal import (
    JOURNAL,
    Journal,
    continue_journal,
    read_blob,
    read_journal,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
LINES = st.lists(st.dictionaries(st.text(max_size=8), JSON, max_size=4), max_size=8)


def written(folder: Path, lines: list[dict[str, object]]) -> bytes:
    folder.mkdir(exist_ok=True)
    (folder / JOURNAL).unlink(missing_ok=True)
    made = Journal(folder)
    for line in lines:
        made.write(line)
    made.close()
    return (folder / JOURNAL).read_bytes()


@settings(max_examples=60, deadline=None)
@given(lines=LINES)
def test_what_was_written_is_read_back(
    lines: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    written(folder, lines)
    found = read_journal(folder)
    assert list(found.lines) == lines
    assert found.torn == 0


@settings(max_examples=60, deadline=None)
@given(lines=LINES.filter(bool), data=st.data())
def test_cut_anywhere_the_whole_lines_before_are_read(
    lines: list[dict[str, object]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    whole = written(folder, lines)
    at = data.draw(st.integers(0, len(whole)))
    (folder / JOURNAL).write_bytes(whole[:at])
    found = read_journal(folder)
    assert list(found.lines) == lines[: whole[:at].count(b"\n")]
    assert found.torn == at - found.size


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), min_size=2, max_size=6), data=st.data())
def test_a_changed_byte_is_damage_and_is_named(
    lines: list[dict[str, object]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    whole = bytearray(written(folder, lines))
    at = data.draw(st.integers(0, len(whole) - 2))
    whole[at] ^= data.draw(st.sampled_from([1, 2, 4, 128]))
    (folder / JOURNAL).write_bytes(bytes(whole))
    with pytest.raises(JournalDamaged, match="line "):
        read_journal(folder)


def test_a_dropped_line_is_damage(tmp_path: Path) -> None:
    whole = written(tmp_path / "run", [{"a": 1}, {"a": 2}, {"a": 3}]).splitlines(keepends=True)
    (tmp_path / "run" / JOURNAL).write_bytes(whole[0] + whole[2])
    with pytest.raises(JournalDamaged, match="line 2"):
        read_journal(tmp_path / "run")


def test_a_torn_journal_is_continued_after_its_last_whole_line(tmp_path: Path) -> None:
    whole = written(tmp_path / "run", [{"a": 1}, {"a": 2}])
    (tmp_path / "run" / JOURNAL).write_bytes(whole[:-3])
    again = continue_journal(tmp_path / "run", read_journal(tmp_path / "run"))
    again.write({"a": 9})
    again.close()
    assert read_journal(tmp_path / "run").lines == ({"a": 1}, {"a": 9})


def test_non_finite_numbers_survive(tmp_path: Path) -> None:
    written(tmp_path / "run", [{"v": math.inf}, {"v": math.nan}])
    first, second = read_journal(tmp_path / "run").lines
    assert first["v"] == math.inf
    assert math.isnan(second["v"])


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    made = Journal(tmp_path / "run")

    def work(number: int) -> None:
        for step in range(200):
            made.write({"n": number, "s": step})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.close()
    lines = read_journal(tmp_path / "run").lines
    assert len(lines) == 1600
    for number in range(8):
        assert [line["s"] for line in lines if line["n"] == number] == list(range(200))


def test_a_write_that_fails_halfway_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    made = Journal(tmp_path / "run")
    made.write({"a": 1})
    real = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) > 5:
            return real(handle, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        made.write({"a": 2})
    monkeypatch.setattr(module.os, "write", real)
    made.write({"a": 3})
    made.close()
    assert read_journal(tmp_path / "run").lines == ({"a": 1}, {"a": 3})


def test_what_cannot_be_taken_back_ends_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    made = Journal(tmp_path / "run")
    made.write({"a": 1})
    real = os.write

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def half(handle: int, data: bytes) -> int:
        if len(data) > 5:
            return real(handle, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", half)
    monkeypatch.setattr(module.os, "ftruncate", broken)
    with pytest.raises(OSError, match="No space"):
        made.write({"a": 2})
    monkeypatch.setattr(module.os, "write", real)
    with pytest.raises(OSError, match="Input/output"):
        made.write({"a": 3})
    made.close()
    found = read_journal(tmp_path / "run")
    assert found.lines == ({"a": 1},)
    assert found.torn > 0


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    made = Journal(tmp_path / "run")
    with pytest.raises(SdkError, match="artifacts"):
        made.write({"o": "x", "v": "a" * module.MAX_LINE_BYTES})
    monkeypatch.setattr(module, "MAX_BLOB_BYTES", 10)
    with pytest.raises(SdkError, match="path"):
        made.put_blob(b"a" * 11)
    monkeypatch.setattr(module, "MAX_JOURNAL_BYTES", 5)
    with pytest.raises(SdkError, match="n-th"):
        made.write({"o": "x"})
    made.close()


def test_a_blob_is_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    made = Journal(tmp_path / "run")
    name = made.put_blob(b"bytes")
    assert made.put_blob(b"bytes") == name
    made.close()
    assert read_blob(tmp_path / "run", name) == b"bytes"
    (tmp_path / "run" / "blobs" / name).write_bytes(b"other")
    with pytest.raises(JournalDamaged, match="not the bytes"):
        read_blob(tmp_path / "run", name)
    with pytest.raises(JournalDamaged, match="names no blob"):
        read_blob(tmp_path / "run", "../../etc/passwd")


def test_a_journal_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "other").write_text("mine")
    (tmp_path / "run" / JOURNAL).symlink_to(tmp_path / "other")
    with pytest.raises(OSError):
        Journal(tmp_path / "run")
    with pytest.raises(OSError):
        read_journal(tmp_path / "run")
    assert (tmp_path / "other").read_text() == "mine"
