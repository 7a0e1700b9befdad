"""The journal of one run: an append-only file that is written before anything else, and read back after a crash.

A line is 16 hex digits, a space, a JSON object and a line feed. The digits are a BLAKE2b digest over those of the line before and the
object's bytes, so a line that was changed, dropped or moved is found. Every line reaches the operating system before the call that
wrote it returns: it survives the process. It reaches the disk (fsync) at starts, checkpoints, models, evaluations and the end, and
otherwise within about a second.

Invariants: a line is written whole or taken back; after a write that could not be taken back nothing is added; a torn last line is
left out when reading, and said; anything else that does not check makes the whole journal damaged, and nobody rewrites it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.sdk.errors import JournalDamaged, SdkError

JOURNAL = "journal.jsonl"
BLOBS = "blobs"
MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_JOURNAL_BYTES = 1024 * 1024 * 1024
MAX_BLOB_BYTES = 512 * 1024 * 1024
FLUSH_S = 1.0

_SEED = "0" * 16


def _digest(before: str, body: bytes) -> str:
    return hashlib.blake2b(before.encode("ascii") + body, digest_size=8).hexdigest()


class Journal:
    """The writing side. Safe to use from several threads; only the process that opened it writes.

    Args:
        folder: the run's folder, mode 0700; it exists.
        after: the digest of the last line, to continue a journal that was read back.

    Raises:
        OSError: the file cannot be created or opened.
    """

    def __init__(self, folder: Path, *, after: str = _SEED) -> None:
        self.folder = folder
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        self._file = os.open(folder / JOURNAL, flags, 0o600)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._last = after
        self._good = os.fstat(self._file).st_size
        self._dirty = threading.Event()
        self._closed = False
        self._sync_thread: threading.Thread | None = None
        self.problem: str = ""
        """Why nothing more is written; empty while all is well."""

    def write(self, line: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append a line.

        Args:
            line: JSON values.
            sync: wait until it is on the disk.

        Raises:
            OSError: it was not written, as on a full disk; what stood there before stands.
            SdkError: it is too long.
        """
        body = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        if len(body) > MAX_LINE_BYTES:
            raise SdkError(f"{line.get('o')}: {len(body)} bytes in one call; log large values as artifacts")
        with self._lock:
            if self._closed or self._pid != os.getpid():
                return
            if self.problem:
                raise OSError(self.problem)
            if self._good + len(body) > MAX_JOURNAL_BYTES:
                raise SdkError(f"the journal of this run has {MAX_JOURNAL_BYTES} bytes; log every n-th step")
            digest = _digest(self._last, body)
            self._append(digest.encode("ascii") + b" " + body + b"\n")
            self._last = digest
            if sync:
                os.fsync(self._file)
        if not sync:
            self._sync_soon()

    def _append(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            try:
                os.ftruncate(self._file, self._good)
            except OSError as error:  # half a line stands there: a later one would damage the journal
                self.problem = f"{self.folder / JOURNAL}: {error.strerror}"
            raise
        self._good += len(data)

    def _sync_soon(self) -> None:
        if self._dirty.is_set():
            return
        self._dirty.set()
        if self._sync_thread is None:
            self._sync_thread = threading.Thread(target=self._syncing, name="cognify-journal", daemon=True)
            self._sync_thread.start()

    def _syncing(self) -> None:
        pause = threading.Event()
        while not self._closed:
            if self._dirty.wait(60):
                pause.wait(FLUSH_S)
                self._dirty.clear()
                with self._lock:
                    if self._closed:
                        return
                    try:
                        os.fsync(self._file)
                    except OSError as error:
                        self.problem = f"{self.folder / JOURNAL}: {error.strerror}"

    def put_blob(self, data: bytes) -> str:
        """Keep bytes beside the journal; return their SHA-256, by which a line names them.

        Raises:
            OSError: they could not be written.
            SdkError: they are too many.
        """
        if len(data) > MAX_BLOB_BYTES:
            raise SdkError(
                f"{len(data)} bytes; at most {MAX_BLOB_BYTES} are kept in the spool, give a file's path instead"
            )
        name = hashlib.sha256(data).hexdigest()
        if self._pid != os.getpid():
            return name
        folder = self.folder / BLOBS
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / name
        if path.exists():
            return name
        temporary = folder / f".{name}.{threading.get_ident()}"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return name

    def close(self) -> None:
        """Bring everything to the disk and write no more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._pid == os.getpid():
                    os.fsync(self._file)
            except OSError as error:
                self.problem = f"{self.folder / JOURNAL}: {error.strerror}"
            finally:
                os.close(self._file)
        self._dirty.set()


@dataclass(frozen=True)
class ReadBack:
    """A journal as it was read.

    Attributes:
        lines: every whole line, in order.
        torn: bytes of a torn last line that were left out; 0 for none.
        last: digest of the last line.
        size: bytes of the whole lines.
    """

    lines: tuple[dict[str, Any], ...]
    torn: int
    last: str
    size: int


def read_journal(folder: Path) -> ReadBack:
    """Read a run's journal.

    Raises:
        JournalDamaged: naming the first line that does not check.
        OSError: it cannot be read.
    """
    path = folder / JOURNAL
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as stream:
        data = stream.read(MAX_JOURNAL_BYTES + MAX_LINE_BYTES + 1)
    if len(data) > MAX_JOURNAL_BYTES + MAX_LINE_BYTES:
        raise JournalDamaged(f"{path}: larger than any journal of a run")
    lines: list[dict[str, Any]] = []
    last, at = _SEED, 0
    while at < len(data):
        end = data.find(b"\n", at)
        raw = data[at:] if end < 0 else data[at:end]
        problem = "it has no end" if end < 0 else ""
        head, mark, body = raw[:16], raw[16:17], raw[17:]
        if not problem and (mark != b" " or head != _digest(last, body).encode("ascii")):
            problem = "its digest is not that of the line"
        value: Any = None
        if not problem:
            try:
                value = json.loads(body)
            except (ValueError, RecursionError):
                problem = "it is no JSON"
            if not problem and not isinstance(value, dict):
                problem = "it is no JSON object"
        if problem:
            if end < 0:  # nothing follows: the process died while it wrote this line
                return ReadBack(tuple(lines), len(data) - at, last, at)
            raise JournalDamaged(f"{path}, line {len(lines) + 1}: {problem}; the file is kept as it is")
        lines.append(value)
        last = head.decode("ascii")
        at = end + 1
    return ReadBack(tuple(lines), 0, last, at)


def read_blob(folder: Path, name: str) -> bytes:
    """Return the bytes of a blob, checked against the digest that names it.

    Raises:
        JournalDamaged: it is gone or not what it was.
    """
    if len(name) != 64 or not all(char in "0123456789abcdef" for char in name):
        raise JournalDamaged(f"{folder}: {name[:80]!r} names no blob")
    path = folder / BLOBS / name
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as stream:
            data = stream.read(MAX_BLOB_BYTES + 1)
    except OSError as error:
        raise JournalDamaged(f"{path}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != name:
        raise JournalDamaged(f"{path}: these are not the bytes that were kept")
    return data


def continue_journal(folder: Path, found: ReadBack) -> Journal:
    """Open a journal that was read back for further lines; a torn last line is cut off first, since it is no line.

    Raises:
        OSError: it cannot be opened.
    """
    if found.torn:
        os.truncate(folder / JOURNAL, found.size)
    return Journal(folder, after=found.last)
