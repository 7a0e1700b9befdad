"""Remote files (any fsspec filesystem) as a dataset source. S3 takes faster ways, see :mod:`.objects_s3`.

Invariants:
    * Messages never show credentials: user information and query strings are cut from every address, and of what a provider says
      only its error code is shown.
    * The bytes read are as many as the listing said, and of the version or ETag that was listed; otherwise the object changed and
      the snapshot is refused.
    * A digest is taken on the provider's word only if the caller asked for that, and the source then names those objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cognify_dagster.datasets.errors import SourceError
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.sources.objects import Tokens, UntranslatableError, collections_paused, is_s3
from cognify_dagster.datasets.sources.objects_cloud import CloudObjects
from cognify_dagster.datasets.sources.objects_errors import classify, source_failed
from cognify_dagster.datasets.sources.objects_listing import Listed
from cognify_dagster.datasets.sources.objects_readers import S3fsReader, StreamReader, strong_etag
from cognify_dagster.datasets.sources.objects_reading import Attempts, Part, Reader, hash_in_threads, parts_of
from cognify_dagster.datasets.sources.objects_s3 import S3Objects
from cognify_dagster.datasets.tree import ContentAlgorithm, FileKind, FileLeaf, check_path, show_path

_READ_THREADS = 4


def redact(text: str) -> str:
    """A text without user information and query strings in the addresses it holds."""
    text = re.sub(r"(://)[^/@\s]*@", r"\1", text)
    return re.sub(r"(://[^\s?]*)\?[^\s]*", r"\1", text)


def _unusual(path: bytes) -> bool:
    """Whether a path may not be canonical; most paths are, and a full check of each takes longer than listing it."""
    return (
        not 0 < len(path) <= 1024
        or path[0] in b"/."
        or path[-1] == 0x2F
        or b"//" in path
        or b"/." in path
        or b"\0" in path
    )


class RemoteSource:
    """A file or prefix on an fsspec filesystem.

    Args:
        url: fsspec address.
        fs: the filesystem.
        root: the path on it.
        objects: a store to read from in place of the filesystem.
        trust_checksums: take the SHA-256 that an S3 store keeps of a whole object as the object's digest, without reading it. Such a
            digest was computed or checked by the store when the object was written. It proves nothing about what the store would
            hand out now: that the content has this digest is the provider's word, no observation of ours. Objects above 8 MiB,
            objects uploaded in parts and objects without such a checksum are read as usual.

    Attributes:
        location: the address without credentials.
        is_file: the source is a single object.
        notes: plain sentences about what made the source slower or its evidence weaker than it could be.
        provider: paths whose digests are the provider's word.

    Raises:
        SourceError: nothing is there, or it cannot be reached.
    """

    kind = "fsspec"

    def __init__(
        self, url: str, fs: Any, root: str, *, trust_checksums: bool = False, objects: CloudObjects | None = None
    ) -> None:
        self._fs, self._path = fs, root
        self.location = redact(url)
        self.trust_checksums = trust_checksums
        self.provider: set[bytes] = set()
        self._notes: list[str] = []
        self._store: S3Objects | CloudObjects | None = objects
        self._reader_made: Reader | None = None
        self._checksums: dict[tuple[bytes, str], bytes] = {}  # by path and ETag
        self._names: dict[bytes, tuple[str, ...] | None] = {}  # which checksums the listing names
        if objects is None and is_s3(fs):
            try:
                self._store = S3Objects(fs, root, self.location, folder=url.endswith("/"))
            except UntranslatableError as exc:
                self._notes.append(f"the bucket is listed through s3fs, which is slower: {exc}")
            except (SourceError, ImportError):
                raise
            except Exception as exc:
                raise source_failed(self.location, "cannot be opened", classify(exc)) from None
        if self._store is not None:
            self.is_file, exists = self._store.is_file, self._store.exists
        else:
            self.is_file, exists = self._look()
        if not exists:
            raise SourceError(f"source {self.location} does not exist; check the address")

    def _look(self) -> tuple[bool, bool]:
        fs, root = self._fs, self._path
        try:
            if hasattr(fs, "invalidate_cache"):
                fs.invalidate_cache()  # a listing kept from earlier could hide a change
            is_file = bool(fs.isfile(root))
            return is_file, is_file or bool(fs.exists(root)) or bool(fs.find(root))
        except Exception as exc:
            raise self._error("cannot be reached", exc) from None

    def _error(self, what: str, exc: Exception) -> SourceError:
        # No exception chain and no text of the client: it can hold signed addresses.
        return source_failed(self.location, what, classify(exc))

    @property
    def notes(self) -> tuple[str, ...]:
        """What made the source slower, or its evidence weaker, than it could be."""
        return tuple(dict.fromkeys([*self._notes, *(self._store.notes if self._store else ())]))

    def describe(self) -> str:
        """The location without credentials, for messages and observations; it is not part of any digest."""
        return self.location

    # --- listing ---

    def entries(self, rules: IgnoreRules) -> tuple[list[Found], int]:
        """All objects, sorted by path bytes, and how many the rules left out. Keys ending in ``/`` are folders.

        Raises:
            SourceError: the listing fails, or a key is not a canonical path.
        """
        with collections_paused():
            return self._entries(rules)

    def _entries(self, rules: IgnoreRules) -> tuple[list[Found], int]:
        listed = self._store.objects() if self._store else self._list()
        kept: list[Listed] = []
        paths: list[bytes] = []
        ignored = 0
        prefix = self._prefix()
        for item in listed:
            if item.key.endswith("/"):
                continue
            path = self._relative(item.key, prefix)
            if rules.match(path):
                ignored += 1
                continue
            if _unusual(path):
                check_path(path)
            kept.append(item)
            paths.append(path)
        if self._store is None:
            found = list(map(self._found, kept, paths))
        else:
            found = self._found_in(self._store, kept, paths)
        found.sort(key=lambda item: item.path)
        return found, ignored

    def _found_in(self, store: S3Objects | CloudObjects, kept: list[Listed], paths: list[bytes]) -> list[Found]:
        found = list(map(store.found, kept, paths))
        if not self.trust_checksums:
            return found
        self._names = {path: item.checksums for item, path in zip(kept, paths, strict=True)}
        # With a version id there is a stronger token already; checksums are then asked for only where an object is hashed.
        asked = [i for i, item in enumerate(found) if not item.version_id]
        self._ask_checksums(store, [found[i] for i in asked])
        for i in asked:
            digest = self._checksums.get((found[i].path, found[i].etag))
            if digest:
                found[i] = store.found(kept[i], found[i].path, digest)
        return found

    def _ask_checksums(self, store: S3Objects | CloudObjects, found: Sequence[Found]) -> None:
        wanted = [(item, self._full(item), self._names.get(item.path)) for item in found]
        for item, checksum in zip(found, store.checksums(wanted), strict=True):
            self._checksums[item.path, item.etag] = checksum.digest if checksum else b""

    def _list(self) -> list[Listed]:
        try:
            if self.is_file:
                names = {self._path: self._fs.info(self._path)}
            else:
                names = self._fs.find(self._path, detail=True)
            if hasattr(self._fs, "invalidate_cache"):
                self._fs.invalidate_cache()  # so that a later look at one object is a fresh one
        except Exception as exc:
            raise self._error("cannot be listed", exc) from None
        listed = []
        for name, info in names.items():
            if info.get("type") == "directory":
                continue
            size = info.get("size")
            times = (info.get(key) for key in ("LastModified", "last_modified", "updated", "Last-Modified", "mtime"))
            modified = next((str(time) for time in times if time), "")
            listed.append(Listed(name, -1 if size is None else int(size), strong_etag(info), "", modified))
        return listed

    def _found(self, item: Listed, path: bytes) -> Found:
        if not item.etag:
            return Found(path, FileKind.FILE, item.size)
        token = Tokens(self.location).token("etag", item.key, item.etag, item.size, item.modified)
        return Found(path, FileKind.FILE, item.size, None, token, "etag" if token else "", item.etag)

    def _prefix(self) -> str:
        root = self._store.key if self._store else self._path
        return root.rstrip("/") + "/" if root.strip("/") else ("" if self._store else root)

    def _relative(self, name: str, prefix: str) -> bytes:
        if self.is_file:
            return name.rstrip("/").rpartition("/")[2].encode("utf-8", "surrogateescape")
        if not name.startswith(prefix):
            raise SourceError(f"source {self.location} lists {redact(name)!r}, which lies outside it")
        return name[len(prefix) :].encode("utf-8", "surrogateescape")

    def _full(self, found: Found) -> str:
        """The key of an object in its bucket, or its path on the filesystem."""
        if self.is_file:
            return self._store.key if self._store else self._path
        return self._prefix() + found.path.decode("utf-8", "surrogateescape")

    # --- reading ---

    def _reader(self) -> Reader:
        if self._reader_made is None:
            if self._store is not None:
                self._reader_made = self._store.reader(self._full)
            elif is_s3(self._fs):
                bucket = self._fs.split_path(self._path)[0]
                self._reader_made = S3fsReader(
                    self._fs, bucket, self.location, lambda found: self._fs.split_path(self._full(found))[1]
                )
            else:
                self._reader_made = StreamReader(self._fs, self.location, self._full)
        return self._reader_made

    def hash_many(
        self, found: Sequence[Found], progress: Callable[[str, int, int], None] | None = None
    ) -> Iterator[tuple[int, FileLeaf]]:
        """Index in ``found`` and leaf of each object, in the order in which they become ready.

        Memory stays bounded however many and large the objects are. Closing the iterator ends all requests.

        Raises:
            SourceChangedError: an object is no longer the one that was listed.
            SourceError: an object cannot be read.
        """
        for done, (index, leaf) in enumerate(self._leaves(found), start=1):
            if progress:
                progress("hash", done, len(found))
            yield index, leaf

    def _leaves(self, found: Sequence[Found]) -> Iterator[tuple[int, FileLeaf]]:
        rest = list(range(len(found)))
        if self.trust_checksums and self._store is not None:
            self._ask_checksums(self._store, [item for item in found if (item.path, item.etag) not in self._checksums])
            rest = []
            for index, item in enumerate(found):
                digest = self._checksums[item.path, item.etag]
                if digest:
                    self.provider.add(item.path)
                    yield index, FileLeaf(item.path, FileKind.FILE, item.size, ContentAlgorithm.SHA256, digest)
                else:
                    rest.append(index)
        if not rest:
            return
        reader, items = self._reader(), [found[index] for index in rest]
        leaves = reader.hash(items) if isinstance(reader, S3fsReader) else hash_in_threads(reader, items)
        for index, leaf in leaves:
            yield rest[index], leaf

    def hash(self, found: Found, pool: ThreadPoolExecutor | None = None) -> FileLeaf:
        """The leaf of one listed object; ``pool`` is not used.

        Raises:
            SourceChangedError: the object is no longer the one that was listed.
            SourceError: it cannot be read.
        """
        ((_, leaf),) = self.hash_many([found])
        return leaf

    def read(self, found: Found, limit: int) -> bytes:
        """The bytes of one object, at most ``limit``.

        Raises:
            SourceChangedError: the object is no longer the one that was listed.
            SourceError: the object is larger or cannot be read.
        """
        shown = show_path(found.path)
        if found.size > limit:
            raise SourceError(f"object {shown} has {found.size} bytes; the limit is {limit}")
        reader, attempts = self._reader(), Attempts(self.location)
        if reader.ranges and found.size >= 0:
            parts = list(parts_of(0, found))
        else:
            parts = [Part(0, found, 0, 0, limit + 1, False)]
        with ThreadPoolExecutor(min(_READ_THREADS, len(parts))) as pool:
            pieces = list(pool.map(lambda part: attempts.run(found, lambda: reader.fetch(part)), parts))
        data = b"".join(bytes(piece) for piece in pieces)
        if len(data) > limit:
            raise SourceError(f"object {shown} has more than {limit} bytes")
        return data
