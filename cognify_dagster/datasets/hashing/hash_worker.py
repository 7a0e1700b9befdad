"""Hashes batches of files: run in this process, or as a process of its own that speaks over two pipes.

The module needs nothing but the standard library, so a worker starts in a few hundredths of a second whatever the program
that called is (a script from standard input, a notebook, a Dagster step), and imports nothing of that program.

Invariants:
    * Folders are opened part by part below a root descriptor, folders and files with ``O_NOFOLLOW``: nothing outside the
      root is read. Files are opened with ``O_NONBLOCK`` and read only if they are regular files.
    * A digest counts only if the descriptor's size and times were the same before and after reading, and as many bytes
      were read as the size says.
    * A file is reported as unchanged only if its whole stat key equals the expected one. A key of zeros equals nothing.
    * A digest stands for another path only if that path leads to the same inode with the same stat key in this run.
    * Requests and answers are plain fixed-width bytes: nothing that is received can run code.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import sys
from collections.abc import Sequence

MAGIC = b"cgfyhw01"
REUSED, HASHED, LARGE, CHANGED, FAILED, NOT_A_FILE = range(6)
"""What became of a file. LARGE: left to the caller; FAILED: the errno stands in the size field."""

KEY = struct.Struct("=QqqQQI")
"""Stat key: size, mtime in ns, ctime in ns, inode, device, mode."""
KEY_SIZE = KEY.size
NO_KEY = bytes(KEY_SIZE)
HEAD_SIZE = 66
"""Leaf hash (32), content digest (32), kind (1), algorithm (1)."""
BUFFER = 1 << 20

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | _CLOEXEC
FILE_FLAGS = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
FOLDER_FLAGS = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_DIRECTORY", 0)
_ATTEMPTS = 2
_LEAF_TAG = b"\x00cognify/file/v1\x01"
_FRAME = struct.Struct("=II")
_GROUP = struct.Struct("=III")
_LENGTH = struct.Struct(">I")
_SIZE_ALGORITHM = struct.Struct(">QB")
_sha256 = hashlib.sha256

MAX_SEEN = 65_536
"""Files with several hard links whose digest is remembered; beyond, the oldest is forgotten, which costs a second reading."""
Seen = dict[bytes, bytes]
"""Digests of files with several hard links, by stat key."""
Group = tuple[bytes, Sequence[bytes], bytes]
"""A folder's path, file names in it, and their expected stat keys (or nothing, to hash all)."""
Answer = tuple[bytes, bytes, bytes, bytes, bytes]
"""One status a file; then for each file that is not REUSED: shard prefixes (2 bytes), sizes (8), heads (66), keys (44).

The key of a LARGE file tells hard links to it apart from other files; it has one only if it has several links."""


def open_folder(root: int, path: bytes) -> int:
    """A descriptor of the folder ``path`` below ``root``; the caller closes it."""
    here = os.dup(root)
    try:
        for part in filter(None, path.split(b"/")):
            below = os.open(part, FOLDER_FLAGS, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


def stat_key(status: os.stat_result) -> bytes:
    """The stat key of a file."""
    return KEY.pack(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_mode
    )


def read_into(fd: int, view: memoryview) -> int:
    """Read once into a buffer; return how many bytes came."""
    return os.readv(fd, (view,))


def leaf_hash(path: bytes, size: int, algorithm: int, digest: bytes) -> bytes:
    """The leaf hash of a regular file (see ``docs/dataset-format.md``)."""
    body = (_LEAF_TAG, _LENGTH.pack(len(path)), path, _SIZE_ALGORITHM.pack(size, algorithm), digest)
    return _sha256(b"".join(body)).digest()


def hash_file(
    folder: int, name: bytes, view: memoryview, limit: int, seen: Seen
) -> tuple[int, bytes, os.stat_result | int]:
    """Hash one file of at most ``limit`` bytes as one chunk; a hard link to a file in ``seen`` is not read again.

    Returns:
        The status, the SHA-256 of the content, and the file's stat (for FAILED: the errno).
    """
    status: os.stat_result | int = 0
    try:
        for _ in range(_ATTEMPTS):
            fd = os.open(name, FILE_FLAGS, dir_fd=folder)
            try:
                status = before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode):
                    return NOT_A_FILE, b"", 0
                size = before.st_size
                if size > limit:
                    return LARGE, b"", before
                if before.st_nlink > 1 and (known := seen.get(stat_key(before))):
                    return HASHED, known, before
                done = read_into(fd, view)
                if done < len(view):
                    digest = _sha256(view[:done]).digest()
                    if done < size and (more := read_into(fd, view)):  # a filesystem may give less than was asked
                        digest, done = _go_on(fd, view, done, more, before)
                else:
                    digest, done = _go_on(fd, view, 0, done, before)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if (
                done == size == after.st_size
                and before.st_mtime_ns == after.st_mtime_ns
                and before.st_ctime_ns == after.st_ctime_ns
            ):
                if before.st_nlink > 1:
                    if len(seen) >= MAX_SEEN:
                        del seen[next(iter(seen))]
                    seen[stat_key(before)] = digest
                return HASHED, digest, before
    except OSError as error:
        return FAILED, b"", error.errno or 0
    return CHANGED, b"", status


def _go_on(fd: int, view: memoryview, skipped: int, have: int, before: os.stat_result) -> tuple[bytes, int]:
    """Hash the rest of a file that one read did not give whole."""
    hasher = _sha256()
    if skipped:  # the first bytes were overwritten in the buffer: start again
        os.lseek(fd, 0, os.SEEK_SET)
        have = read_into(fd, view)
    done = 0
    while have:
        hasher.update(view[:have])
        done += have
        if done > before.st_size:
            break
        have = read_into(fd, view)
    return hasher.digest(), done


def hash_groups(
    root: int, groups: Sequence[Group], limit: int, view: memoryview, alias: bytes = b"", seen: Seen | None = None
) -> Answer:
    """Look at the files of some folders: which are as expected, and the digests of the others.

    Args:
        root: descriptor of the source's folder.
        groups: what to look at.
        limit: larger files (bytes) are reported as LARGE and left alone.
        view: a buffer to read into.
        alias: the name to open in place of the given one (a single-file source that is named by a link).
        seen: what is remembered of hard links from one call to the next.
    """
    seen = {} if seen is None else seen
    statuses = bytearray()
    shards: list[bytes] = []
    sizes: list[int] = []
    heads: list[bytes] = []
    keys: list[bytes] = []
    for folder, names, expected in groups:
        try:
            here = open_folder(root, folder)
        except OSError as error:
            count = len(names)
            statuses += bytes([FAILED]) * count
            shards.append(bytes(2 * count))
            sizes += [error.errno or 0] * count
            heads.append(bytes(HEAD_SIZE * count))
            keys.append(bytes(KEY_SIZE * count))
            continue
        prefix = folder + b"/" if folder else b""
        place = 0
        try:
            for name in names:
                if expected:
                    wanted = expected[place : place + KEY_SIZE]
                    place += KEY_SIZE
                    if wanted != NO_KEY and _unchanged(here, alias or name, wanted):
                        statuses.append(REUSED)
                        continue
                state, digest, status = hash_file(here, alias or name, view, limit, seen)
                statuses.append(state)
                path = prefix + name
                shards.append(_sha256(path).digest()[:2])
                if state == HASHED and not isinstance(status, int):
                    size = status.st_size
                    sizes.append(size)
                    heads.append(leaf_hash(path, size, 1, digest) + digest + b"\x01\x01")
                    keys.append(stat_key(status))
                else:
                    sizes.append(status if isinstance(status, int) else status.st_size)
                    heads.append(bytes(HEAD_SIZE))
                    linked = state == LARGE and not isinstance(status, int) and status.st_nlink > 1
                    keys.append(stat_key(status) if linked and not isinstance(status, int) else NO_KEY)
        finally:
            os.close(here)
    return (
        bytes(statuses),
        b"".join(shards),
        struct.pack(f"={len(sizes)}Q", *sizes),
        b"".join(heads),
        b"".join(keys),
    )


def _unchanged(folder: int, name: bytes, wanted: bytes) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False  # opening it will say what is wrong
    return (
        KEY.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_mode)
        == wanted
    )


# --- large files ---------------------------------------------------------------------------------------------------------


def _read_at(fd: int, view: memoryview, start: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, (view,), start)
    piece = os.pread(fd, len(view), start)  # not on every system
    view[: len(piece)] = piece
    return len(piece)


def hash_range(fd: int, start: int, length: int, view: memoryview) -> tuple[int, bytes]:
    """(bytes read, SHA-256) of at most ``length`` bytes of a file from ``start`` on."""
    hasher = _sha256()
    done = 0
    while done < length:
        have = _read_at(fd, view[: min(len(view), length - done)], start + done)
        if not have:
            break
        hasher.update(view[:have])
        done += have
    return done, hasher.digest()


# --- as a process ----------------------------------------------------------------------------------------------------------


def pack_request(number: int, groups: Sequence[Group]) -> bytes:
    """A batch as one frame."""
    parts = []
    for folder, names, expected in groups:
        joined = b"\x00".join(names)
        parts += [_GROUP.pack(len(folder), len(names), len(joined)), folder, joined]
        parts.append(expected if expected else bytes(KEY_SIZE * len(names)))
    body = b"".join(parts)
    return _FRAME.pack(number, len(body)) + body


def unpack_request(body: bytes) -> list[Group]:
    """The batch in the body of a frame."""
    groups: list[Group] = []
    place = 0
    while place < len(body):
        folder_length, count, names_length = _GROUP.unpack_from(body, place)
        place += _GROUP.size
        folder = body[place : place + folder_length]
        place += folder_length
        names = body[place : place + names_length].split(b"\x00")
        place += names_length
        groups.append((folder, names, body[place : place + KEY_SIZE * count]))
        place += KEY_SIZE * count
    return groups


def pack_answer(number: int, answer: Answer) -> bytes:
    """An answer as one frame."""
    body = b"".join(answer)
    return _FRAME.pack(number, len(body)) + body


def unpack_answer(body: bytes, count: int) -> Answer:
    """The answer in the body of a frame to a batch of ``count`` files.

    Raises:
        ValueError: its length does not fit.
    """
    statuses = body[:count]
    rest = count - statuses.count(REUSED)
    ends = [count]
    for width in (2, 8, HEAD_SIZE, KEY_SIZE):
        ends.append(ends[-1] + width * rest)
    if len(statuses) != count or len(body) != ends[-1] or (statuses and max(statuses) > NOT_A_FILE):
        raise ValueError("the answer of a worker has the wrong length")
    return statuses, body[ends[0] : ends[1]], body[ends[1] : ends[2]], body[ends[2] : ends[3]], body[ends[3] :]


FRAME_SIZE = _FRAME.size
unpack_frame = _FRAME.unpack_from


def _read_exactly(fd: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.read(fd, min(length, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main() -> None:
    """Answer requests from standard input until it closes. Arguments: root descriptor, limit in bytes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the caller decides
    root, limit = int(sys.argv[1]), int(sys.argv[2])
    view = memoryview(bytearray(BUFFER))
    seen: Seen = {}
    try:
        _write_all(1, MAGIC)
        while head := _read_exactly(0, _FRAME.size):
            number, length = _FRAME.unpack(head)
            body = _read_exactly(0, length)
            if len(body) != length:
                return
            _write_all(1, pack_answer(number, hash_groups(root, unpack_request(body), limit, view, seen=seen)))
    except OSError:
        return  # the caller went away
