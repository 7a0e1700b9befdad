"""An S3 bucket as dataset source: what is there, with the strongest token that the bucket offers, and the fastest way to read it.

Tokens, strongest first: the version id, which names bytes that nothing can change; a SHA-256 over the whole object that the store
keeps; ETag, size and time, which tell of changes but prove nothing. Each is the word of the store: it is evidence as far as the store is trusted.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.sources.objects import Tokens, UntranslatableError, connect_s3, obstore_for
from cognify_dagster.datasets.sources.objects_errors import Failure, classify, object_failed, source_failed
from cognify_dagster.datasets.sources.objects_listing import BucketLister, Listed, bare_etag
from cognify_dagster.datasets.sources.objects_readers import ObstoreReader, S3fsReader
from cognify_dagster.datasets.sources.objects_reading import Attempts, Reader
from cognify_dagster.datasets.tree import CHUNK_SIZE, FileKind, show_path

_HEAD_THREADS = 16


@dataclass(frozen=True)
class Checksum:
    """A SHA-256 over a whole object that its store keeps, and the object's path."""

    path: bytes
    digest: bytes


class S3Objects:
    """One object or the objects under a prefix.

    Args:
        fs: an s3fs filesystem.
        root: ``bucket/prefix`` on it.
        location: the address, for messages.
        folder: the address ends in ``/``, so it is not the name of one object.

    Raises:
        UntranslatableError: the filesystem was given settings that only it understands.
        SourceError: the bucket cannot be reached.
    """

    def __init__(self, fs: Any, root: str, location: str, folder: bool) -> None:
        self._fs, self.location = fs, location
        self.bucket, key, self._pinned = fs.split_path(root)
        self.key = (key or "").rstrip("/")
        self._prefix = self.key + "/" if self.key else ""
        self._connection = connect_s3(fs, self.bucket)
        self._client = self._connection.client
        self._lister = BucketLister(self._client, self.bucket, self._connection.extra)
        self._tokens = Tokens(self._connection.place)
        self.notes: list[str] = []
        self.versioned: bool | None = None
        self._single: Listed | None = None if folder or not self.key else self._head_single()
        self.is_file = self._single is not None
        self.exists = self.is_file or self._ask("cannot be reached", lambda: self._lister.exists(self._prefix))

    def _ask(self, what: str, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except DatasetError:
            raise
        except Exception as exc:
            raise source_failed(self.location, what, classify(exc)) from None

    def _head_single(self) -> Listed | None:
        more = {"VersionId": self._pinned} if self._pinned else {}
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=self.key, **self._connection.extra, **more)
        except Exception as exc:
            failure = classify(exc)
            # Without the right to list, S3 answers 403 for what is not there, too: the listing will tell.
            if failure.kind in ("missing", "denied") and not self._pinned:
                return None
            raise source_failed(self.location, "cannot be reached", failure) from None
        size = int(head["ContentLength"])
        if size == 0 and self._ask("cannot be listed", lambda: self._lister.exists(self._prefix)):
            return None  # some stores answer for folders as for empty objects
        version = str(head.get("VersionId") or "")
        modified = head.get("LastModified")
        return Listed(
            self.key,
            size,
            bare_etag(str(head.get("ETag") or "")),
            "" if version == "null" else version,
            modified.isoformat() if modified else "",
        )

    def objects(self) -> list[Listed]:
        """All current objects, in no certain order.

        Raises:
            SourceError: the listing fails.
        """
        if self._single is not None:
            return [self._single]
        self.versioned = self._versioning()
        if self.versioned is not False:
            try:
                return self._lister.objects(self._prefix, versions=True)
            except Exception as exc:
                failure = classify(exc)
                if failure.kind not in ("denied", "unsupported"):
                    raise self._failed(exc, failure) from None
                if self.versioned:
                    self.notes.append(
                        "versions cannot be listed, so objects are told apart by ETag, size and time; allow s3:ListBucketVersions"
                    )
        try:
            return self._lister.objects(self._prefix, versions=False)
        except Exception as exc:
            raise self._failed(exc, classify(exc)) from None

    def _failed(self, exc: Exception, failure: Failure) -> DatasetError:
        return exc if isinstance(exc, DatasetError) else source_failed(self.location, "cannot be listed", failure)

    def _versioning(self) -> bool | None:
        """Whether objects can have version ids; None where that may not be asked."""
        try:
            status = self._client.get_bucket_versioning(Bucket=self.bucket).get("Status")
        except Exception as exc:
            failure = classify(exc)
            if failure.kind == "denied":
                return None
            if failure.kind in ("unsupported", "missing"):
                return False
            raise source_failed(self.location, "cannot be listed", failure) from None
        return status in ("Enabled", "Suspended")

    def found(self, item: Listed, path: bytes, checksum: bytes = b"") -> Found:
        """A listed object with its token."""
        if item.version:
            grade, value, modified = "version", item.version, ""
        elif checksum:
            grade, value, modified = "checksum", checksum.hex(), ""
        else:
            grade, value, modified = "etag" if item.etag else "", item.etag, item.modified
        token = self._tokens.token(grade, item.key, value, item.size, modified) if grade else b""
        return Found(path, FileKind.FILE, item.size, None, token, grade if token else "", item.etag, item.version)

    def reader(self, key_of: Callable[[Found], str]) -> Reader:
        """The fastest way to read that the settings allow."""
        through = S3fsReader(self._fs, self.bucket, self.location, key_of)
        try:
            return ObstoreReader(obstore_for(self._connection), self.location, key_of, through)
        except UntranslatableError as exc:
            self.notes.append(f"objects are read through s3fs, which is slower: {exc}")
            return through

    def checksums(self, objects: Sequence[tuple[Found, str, tuple[str, ...] | None]]) -> list[Checksum | None]:
        """The SHA-256 that the store keeps of each whole object (found, key, names of checksums), where it does.

        Costs a request for each object. Objects above 8 MiB have none that could serve: their digest is over chunks.

        Raises:
            SourceError: an object is gone, was replaced, or may not be read.
        """
        attempts = Attempts(self.location)

        def one(item: tuple[Found, str, tuple[str, ...] | None]) -> Checksum | None:
            found, key, names = item
            if found.size > CHUNK_SIZE or (names is not None and "SHA256" not in names):
                return None
            digest = attempts.run(found, lambda: self._checksum(found, key))
            return Checksum(found.path, digest) if digest else None

        with ThreadPoolExecutor(_HEAD_THREADS) as pool:
            waiting = [pool.submit(one, item) for item in objects]
            try:
                return [future.result() for future in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _checksum(self, found: Found, key: str) -> bytes:
        more: dict[str, Any] = dict(self._connection.extra)
        if found.version_id:
            more["VersionId"] = found.version_id
        elif found.etag:
            more["IfMatch"] = f'"{found.etag}"'
        head = self._client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED", **more)
        if int(head["ContentLength"]) != found.size or bare_etag(str(head.get("ETag") or "")) != found.etag:
            raise object_failed(self.location, show_path(found.path), Failure("changed", ""))
        if head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
            return b""
        try:
            digest = base64.b64decode(str(head.get("ChecksumSHA256", "")), validate=True)  # one of parts ends in "-N"
        except binascii.Error:
            return b""
        return digest if len(digest) == 32 else b""
