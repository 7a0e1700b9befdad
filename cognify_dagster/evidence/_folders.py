"""Where files of the evidence store lie: a local folder or a prefix behind an fsspec URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from cognify_dagster.evidence._local import LocalFolder
from cognify_dagster.evidence._remote import RemoteFolder
from cognify_dagster.evidence.errors import EvidenceError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.*", re.DOTALL)


class Folder(Protocol):
    """Where files lie: a local folder or a prefix behind an fsspec URL."""

    def label(self, name: str) -> str: ...
    def size(self, name: str) -> int | None: ...
    def chunks(self, name: str, limit: int) -> Iterator[bytes]: ...
    def create(self, name: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> bool: ...
    def create_bytes(self, name: str, data: bytes, *, exclusive: bool = False) -> bool: ...
    def check_erasable(self) -> None: ...
    def delete(self, name: str) -> bool: ...
    def remove(self, name: str) -> bool: ...
    def move(self, name: str, target: str) -> None: ...
    def modified(self, name: str) -> float | None: ...
    def names(self, prefix: str) -> Iterator[str]: ...
    def remove_stale(self, prefix: str, older_than_s: float) -> int: ...


def open_folder(root: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Folder:
    """Open a local folder or an fsspec URL.

    Raises:
        EvidenceError: The URL cannot be opened.
    """
    text = os.fspath(root)
    if not text:
        raise EvidenceError("the evidence root is empty; name a folder or an fsspec URL")
    if "::" in text and "://" in text:
        raise EvidenceError(f"{text}: chained fsspec URLs are not supported, they may write in several steps")
    match = _URL.fullmatch(text)
    if match is None:
        return LocalFolder(Path(text))
    if match[1].lower() in ("file", "local"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise EvidenceError(f"{text} names another host; write file:/// and an absolute path")
        if parts.query or parts.fragment or not parts.path.startswith("/"):
            raise EvidenceError(f"{text} is not file:/// and an absolute path; write ? and # in it as %3F and %23")
        return LocalFolder(Path(unquote(parts.path)))
    return RemoteFolder(text, storage_options)


def below(root: str, name: str) -> str:
    """Return the path or URL of a folder inside another one."""
    return root + name if root.endswith("://") else f"{root.rstrip('/')}/{name}"
