"""The stat index: what the files of the last snapshot looked like, so that unchanged ones need not be read again.

An index is a cache of one dataset at one place. It lies outside the data, holds no secret, and can be deleted at any time.

Invariants:
    * An index that is damaged, from another dataset, place, rule set or version is not used, and never an error.
    * A file whose times are less than two seconds older than the start of the run that hashed it gets no stat key: it
      could be written again without any of its times changing (the racy rule), so the next run reads it again.
    * It is written after the snapshot succeeded, to a temporary file that takes the old one's place in one step. A
      checksum over all of it makes a torn one recognisable, so nothing waits for the disk.
    * It can be altered by whoever may write it. Callers that hold a recorded digest of it give that digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cognify_dagster.datasets.hashing.hash_worker import HEAD_SIZE, KEY, KEY_SIZE, NO_KEY
from cognify_dagster.datasets.hashing.packed import FolderFiles, Origin, PackedFiles

MAGIC = b"cognify/stat-index/v1\n"
RACY_NS = 2_000_000_000
MAX_INDEX_BYTES = 8 * 1024**3
_LENGTH = struct.Struct("<Q")
_FOLDER = struct.Struct("<QQQB")
_GRADES = ("", "version", "checksum", "etag")


@dataclass(frozen=True)
class IndexScope:
    """What an index is about; one of another scope is not used.

    Attributes:
        name: the dataset's name.
        location: the place of the data.
        ignore: digest of the ignore rules, in hex.
    """

    name: str
    location: str
    ignore: str


@dataclass
class StatIndex:
    """A stat index as read.

    Attributes:
        scope: what it is about.
        root: root of the snapshot that it was made with, in hex.
        files: its files; ``known`` and ``origins`` count from 0 here.
        order, shard_roots: the tree's order and shard roots.
        warnings: portability warnings about the paths.
        blobs: the joined names of each folder, by (folder, links), with the number of its first file.
    """

    scope: IndexScope
    root: str
    files: PackedFiles
    order: array[int]
    shard_roots: list[bytes]
    warnings: list[str]
    blobs: dict[tuple[bytes, bool], tuple[bytes, int, int]] = field(default_factory=dict, repr=False)


class UnusableIndexError(ValueError):
    """An index cannot be used; the message says why."""


class NotAnIndexError(UnusableIndexError):
    """A file is something else than an index of any version, so it is not replaced either."""


def index_bytes(
    scope: IndexScope, root: str, files: PackedFiles, warnings: Sequence[str], started_ns: int, time_us: int
) -> bytes:
    """An index as bytes, with its checksum at the end.

    Args:
        scope: what it is about.
        root: root of the snapshot, in hex.
        files: the snapshot's files.
        warnings: portability warnings.
        started_ns: when the run began, in nanoseconds since 1970.
        time_us: the same as recorded with the snapshot, in microseconds.
    """
    known, origins = _prune(files, Origin(root, time_us))
    head = {
        "name": scope.name,
        "location": scope.location,
        "ignore": scope.ignore,
        "root": root,
        "byteorder": sys.byteorder,
        "known": [[item.root, item.time_us] for item in known],
        "warnings": list(warnings),
        "count": len(files),
        "folders": len(files.folders),
        "tokens": files.tokens is not None,
    }
    text = json.dumps(head, ensure_ascii=True).encode()
    parts: list[bytes | bytearray] = [MAGIC, _LENGTH.pack(len(text)), text]
    for folder in files.folders:
        joined = b"\x00".join(folder.names)
        parts += [_FOLDER.pack(len(folder.path), len(folder.names), len(joined), folder.links), folder.path, joined]
    parts += [
        files.shards,
        files.sizes.tobytes(),
        files.heads,
        _trusted_keys(files, started_ns),
        origins.tobytes(),
        files.order.tobytes(),
        b"".join(files.shard_roots),
    ]
    if files.tokens is not None:
        grades = files.grades or [""] * len(files)
        for token, grade in zip(files.tokens, grades, strict=True):
            parts.append(struct.pack("<IB", len(token), _GRADES.index(grade) if grade in _GRADES else 0) + token)
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def _prune(files: PackedFiles, own: Origin) -> tuple[list[Origin], array[int]]:
    """The snapshots that files still refer to, and each file's number among them (from 0)."""
    used = sorted(set(files.origins))
    all_known = [own, *files.known]
    known = [all_known[number] for number in used]
    if used == list(range(len(used))):
        return known, files.origins
    places = {number: place for place, number in enumerate(used)}
    return known, array("I", [places[number] for number in files.origins])


def _trusted_keys(files: PackedFiles, started_ns: int) -> bytes | bytearray:
    """The stat keys without those of files that were written too shortly before they were read."""
    border = started_ns - RACY_NS
    keys = bytearray(files.keys)
    origins = files.origins
    for number, (_, mtime, ctime, _, _, _) in enumerate(KEY.iter_unpack(keys)):
        if (mtime >= border or ctime >= border) and not origins[number]:
            keys[number * KEY_SIZE : (number + 1) * KEY_SIZE] = NO_KEY
    return keys


def write_index(path: Path, data: bytes) -> None:
    """Put an index in its place, whole or not at all.

    Raises:
        OSError: it cannot be written, for example because the disk is full; the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb", buffering=0) as stream:
            view = memoryview(data)
            while view:
                view = view[stream.write(view) or 0 :]
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_index(path: Path, scope: IndexScope, digest: str | None = None) -> StatIndex | None:
    """The index at a path, or None if there is none.

    Args:
        path: where it lies.
        scope: what it has to be about.
        digest: SHA-256 in hex that it has to have, if one was recorded.

    Raises:
        UnusableIndexError: it cannot be used; the message says why.
        NotAnIndexError: it is something else.
    """
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_INDEX_BYTES:
                raise UnusableIndexError("it is too large")
            data = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableIndexError(f"it cannot be read: {error.strerror}") from error
    if data and not data.startswith(MAGIC[:19]):
        raise NotAnIndexError("it is another file, and is left as it is; name another place or delete it")
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + 40:
        raise UnusableIndexError("it is not a stat index of this version")
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise UnusableIndexError("it is not the one that the last recorded snapshot left")
    if hashlib.sha256(memoryview(data)[:-32]).digest() != data[-32:]:
        raise UnusableIndexError("it is damaged")
    try:
        return _parse(data, scope)
    except UnusableIndexError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, struct.error, OverflowError) as error:
        raise UnusableIndexError(f"it is damaged ({type(error).__name__})") from error


def _parse(data: bytes, scope: IndexScope) -> StatIndex:
    (length,) = _LENGTH.unpack_from(data, len(MAGIC))
    place = len(MAGIC) + _LENGTH.size
    head: dict[str, Any] = json.loads(data[place : place + length])
    place += length
    _check_scope(head, scope)
    count = int(head["count"])
    folders: list[FolderFiles] = []
    blobs: dict[tuple[bytes, bool], tuple[bytes, int, int]] = {}
    first = 0
    for _ in range(int(head["folders"])):
        path_length, names, joined_length, links = _FOLDER.unpack_from(data, place)
        place += _FOLDER.size
        path = data[place : place + path_length]
        place += path_length
        joined = data[place : place + joined_length]
        place += joined_length
        blobs[path, bool(links)] = (joined, first, names)
        folders.append(FolderFiles(path, joined.split(b"\x00"), bool(links)))
        first += names
    if first != count:
        raise ValueError("counts")
    columns: list[bytes] = []
    for width in (2, 8, HEAD_SIZE, KEY_SIZE, 4, 4):
        columns.append(data[place : place + width * count])
        place += width * count
    roots = [data[place + 32 * shard : place + 32 * shard + 32] for shard in range(4096)]
    place += 32 * 4096
    tokens: list[bytes] | None = None
    grades: list[str] | None = None
    if head["tokens"]:
        tokens, grades = [], []
        for _ in range(count):
            token_length, grade = struct.unpack_from("<IB", data, place)
            tokens.append(data[place + 5 : place + 5 + token_length])
            grades.append(_GRADES[grade])
            place += 5 + token_length
    if place != len(data) - 32:
        raise ValueError("length")
    known = tuple(Origin(str(root), int(time_us)) for root, time_us in head["known"])
    sizes, origins, order = array("Q", columns[1]), array("I", columns[4]), array("I", columns[5])
    if count and (max(origins) >= len(known) or max(order) >= count):
        raise ValueError("numbers")
    files = PackedFiles(folders, columns[0], sizes, columns[2], columns[3], b"", origins, known, tokens, grades)
    return StatIndex(scope, str(head["root"]), files, order, roots, [str(item) for item in head["warnings"]], blobs)


def _check_scope(head: dict[str, Any], scope: IndexScope) -> None:
    if head["byteorder"] != sys.byteorder:
        raise UnusableIndexError("it was made on another kind of machine")
    if head["name"] != scope.name:
        raise UnusableIndexError(f"it belongs to dataset {str(head['name'])[:80]!r}")
    if head["location"] != scope.location:
        raise UnusableIndexError("it was made for data at another place")
    if head["ignore"] != scope.ignore:
        raise UnusableIndexError("it was made with other ignore rules")
