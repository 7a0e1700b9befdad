"""Digests of model files and folders.

A single file has its plain SHA-256, the one that ``sha256sum`` prints. A folder's digest is the SHA-256 of the UTF-8 JSON
array ``[[path, size, sha256], …]`` without spaces, sorted by the bytes of ``path`` (relative, ``/`` between parts).

Invariants: links and special files are refused, not followed, so the digest covers exactly the bytes below the folder; a
file that changes while it is read is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.training._errors import TrainingError

_BLOCK_BYTES = 1024 * 1024

#: A model folder holds weights and settings, not a dataset.
MAX_FILES = 100_000


@dataclass(frozen=True)
class FileDigest:
    """One file: path relative to the folder (``/`` between parts), size in bytes, SHA-256 in lower-case hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class FilesDigest:
    """A model file or folder.

    Attributes:
        kind: ``file`` or ``folder``.
        name: Its own name, without the folders above it.
        files: Every file below, sorted by path bytes.
        size: Bytes in all.
        sha256: One digest over all (see the module's description).
    """

    kind: str
    name: str
    files: tuple[FileDigest, ...]
    size: int
    sha256: str

    def to_facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "files": [{"path": item.path, "size": item.size, "sha256": item.sha256} for item in self.files],
            "size": self.size,
            "sha256": self.sha256,
        }


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in lower-case hex.

    Raises:
        TrainingError: no such file, not a plain file, not readable, or changed while being read.
    """
    return _digest(Path(path))[1]


def _digest(path: Path) -> tuple[int, str]:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        what = "is a link; give the file itself" if path.is_symlink() else f"can't be read ({error.strerror})"
        raise TrainingError(f"{path}: {what}") from None
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise TrainingError(f"{path}: not a plain file")
        digest, size = hashlib.sha256(), 0
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        raise TrainingError(f"{path}: changed while it was read; write the file completely first")
    return size, digest.hexdigest()


def digest_files(path: str | Path) -> FilesDigest:
    """Digests a model file, or every file below a folder.

    Raises:
        TrainingError: missing, empty folder, links or special files inside, names that are not UTF-8, too many files.
    """
    root = Path(path)
    if not root.is_symlink() and root.is_dir():
        found = _walk(root)
        if not found:
            raise TrainingError(f"{root}: the folder holds no file")
        files = tuple(FileDigest(name, *_digest(root / name)) for name in found)
        listing = json.dumps([[f.path, f.size, f.sha256] for f in files], ensure_ascii=False, separators=(",", ":"))
        total = hashlib.sha256(listing.encode("utf-8")).hexdigest()
        return FilesDigest("folder", root.resolve().name, files, sum(f.size for f in files), total)
    size, digest = _digest(root)
    return FilesDigest("file", root.name, (FileDigest(root.name, size, digest),), size, digest)


def _walk(root: Path) -> list[str]:
    names: list[tuple[bytes, str]] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        names.append((name.encode("utf-8"), name))
                    else:
                        raise TrainingError(f"{root / name}: a link or special file; a model folder holds plain files")
                    if len(names) > MAX_FILES:
                        raise TrainingError(f"{root}: more than {MAX_FILES} files; is this the model's folder?")
        except UnicodeEncodeError:
            raise TrainingError(f"{root / folder}: holds a file name that is not UTF-8; rename it") from None
        except OSError as error:
            raise TrainingError(f"{root / folder}: can't be listed ({error.strerror})") from None
    return [name for _, name in sorted(names)]
