"""Objects behind an fsspec URL (S3 and its like), written once.

Invariants:
    * An object is sent in one atomic request, or one multipart upload that becomes visible when complete,
      under its final key, with "create only" asked of the server.
    * Bytes that were hashed are the bytes that are sent: streamed content is spooled to a private local file first.
    * Erasure is refused where the bucket keeps old versions, because deleting would only hide them.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cognify_dagster.evidence._local import CHUNK_BYTES, explained, write_all
from cognify_dagster.evidence.errors import EvidenceError, EvidenceMissing, EvidenceTooLarge

_ATTEMPTS = 3


class RemoteFolder:
    """A prefix on an fsspec filesystem as a place for objects that are written once."""

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        """Open ``url``; raises :class:`EvidenceError` if its protocol is unknown or its library missing."""
        import fsspec

        # A cached listing could hide what another process wrote or erased.
        options = {"use_listings_cache": False, **(storage_options or {})}
        try:
            self._fs, path = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise EvidenceError(f"{url} cannot be opened: {error}") from error
        self._url = url.rstrip("/")
        self._path = str(path).rstrip("/")

    def label(self, name: str) -> str:
        """Return the URL of ``name`` for messages."""
        return f"{self._url}/{name}"

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes, or None if there is none."""
        with self._explained("examining", name):
            try:
                return int(self._fs.info(self._key(name))["size"])
            except FileNotFoundError:
                return None

    def chunks(self, name: str, limit: int) -> Iterator[bytes]:
        """Yield the content of an object in pieces of 1 MiB.

        Raises:
            EvidenceMissing: There is no such object.
            EvidenceTooLarge: It holds more than ``limit`` bytes.
            EvidenceError: The server cannot be reached or refuses.
        """
        size = self.size(name)
        if size is None:
            raise EvidenceMissing(f"{self.label(name)} does not exist")
        if size > limit:
            raise EvidenceTooLarge(f"{self.label(name)} holds more than the {limit} bytes allowed")
        with self._explained("reading", name):
            source = self._fs.open(self._key(name), "rb")
        with contextlib.closing(source):
            total = 0
            while True:
                with self._explained("reading", name):
                    chunk = bytes(source.read(CHUNK_BYTES))
                if not chunk:
                    return
                total += len(chunk)
                if total > limit:
                    raise EvidenceTooLarge(f"{self.label(name)} holds more than the {limit} bytes allowed")
                yield chunk

    def create(self, name: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> bool:
        """Write an object from streamed content unless one is there; False if one was.

        Content is spooled to the system's temporary folder first.
        """
        if self.size(name) is not None:
            return False
        with tempfile.NamedTemporaryFile(prefix="cognify-evidence-", buffering=0) as spool:
            with explained(Path(spool.name).parent, f"spooling {name}"):
                for chunk in chunks:
                    write_all(spool.fileno(), chunk)
            return self._send(name, lambda: self._fs.put_file(spool.name, self._key(name), mode="create"))

    def create_bytes(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write an object from memory unless one is there; False if one was.

        ``exclusive`` is kept by servers with conditional writes (S3 does); see docs/evidence-format.md.
        """
        if self.size(name) is not None:
            return False
        return self._send(name, lambda: self._fs.pipe_file(self._key(name), data, mode="create"))

    def check_erasable(self) -> None:
        """Refuse a bucket in which deleting an object keeps its old versions.

        Raises:
            EvidenceError: The bucket is versioned, or that cannot be found out.
        """
        asks = getattr(self._fs, "is_bucket_versioned", None)
        if asks is None:
            return
        bucket = self._path.split("/", 1)[0]
        with self._explained("asking for bucket versioning (needs s3:GetBucketVersioning)", ""):
            versioned = asks(bucket)
        if versioned:
            raise EvidenceError(
                f"bucket {bucket} keeps old versions, so a data key deleted there would still be readable. Give "
                "keys_root (evidence_keys in cognify.toml) a bucket without versioning and without object lock"
            )

    def delete(self, name: str) -> bool:
        """Remove an object; False if there was none."""
        if self.size(name) is None:
            return False
        with self._explained("erasing", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(name))
        if self.size(name) is not None:
            raise EvidenceError(
                f"{self.label(name)} is still there after it was deleted; is it under a retention lock?"
            )
        return True

    def remove(self, name: str) -> bool:
        """Remove an object; False if there was none. Raises :class:`EvidenceError` where a lock keeps it."""
        return self.delete(name)

    def move(self, name: str, target: str) -> None:
        """Copy an object to another key, then remove the old one; a kill in between leaves both."""
        if self.size(target) is None:
            with self._explained("moving", name):
                self._fs.cp_file(self._key(name), self._key(target))
        self.delete(name)

    def modified(self, name: str) -> float | None:
        """Return when an object was last written as POSIX time; None if there is none.

        Raises:
            EvidenceError: The server does not tell.
        """
        if self.size(name) is None:
            return None
        with self._explained("examining", name):
            return float(self._fs.modified(self._key(name)).timestamp())

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names of all objects below ``prefix``."""
        with self._explained("listing", prefix):
            try:
                found = self._fs.find(self._key(prefix))
            except FileNotFoundError:
                found = []
        start = self._path + "/"
        for path in found:
            if str(path).startswith(start):
                yield str(path)[len(start) :]

    def remove_stale(self, prefix: str, older_than_s: float) -> int:
        """Remote writes leave no temporary files; multipart leftovers are the bucket's lifecycle rule to remove."""
        return 0

    def _key(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _send(self, name: str, send: Any) -> bool:
        """Run one create-only request. A lost race counts as "was there", however the server words it."""
        for attempt in range(1, _ATTEMPTS + 1):
            with self._explained("writing", name):
                try:
                    send()
                    return True
                except FileExistsError:
                    return False
                except OSError:
                    # Servers word a failed precondition differently, and answer "conflict, try again" to the
                    # loser of a race that is still running.
                    if self.size(name) is not None:
                        return False
                    if attempt == _ATTEMPTS:
                        raise
                    time.sleep(0.2 * attempt)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _explained(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except EvidenceError:
            raise
        except Exception as error:  # client libraries raise types of their own that share no base class
            raise EvidenceError(f"{doing} {self.label(name)} failed: {type(error).__name__}: {error}") from error
