"""The evidence store: blobs named by the SHA-256 of their plaintext.

Invariants:
    * What is read was verified: every byte returned or copied out has the digest asked for, whatever the
      storage holds.
    * Nothing is overwritten. A blob that exists is compared with the new one; damage is reported, not kept quiet.
    * Confidential and personal evidence never reaches the store unencrypted. Its data key is written before the
      blob and lies apart from it, so erasing the key erases the content even where the blob is under a retention
      lock. A sealed blob without a key therefore means: erased.
    * Bytes stored in the clear are not accepted again as an encrypted class, nor the other way round: a second
      copy would defeat the class.
    * Sizes are bounded before memory is used.

The byte-exact description is docs/evidence-format.md.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cognify_dagster.evidence._folders import below, open_folder
from cognify_dagster.evidence._local import LocalFolder, read_chunks
from cognify_dagster.evidence._names import PLAIN_NAME, SEALED_NAME, key_name, plain_name, sealed_name
from cognify_dagster.evidence.envelope import (
    IV_BYTES,
    KEY_BYTES,
    MAX_ENVELOPE_OVERHEAD,
    Opened,
    key_aad,
    seal,
    unseal,
)
from cognify_dagster.evidence.errors import (
    EvidenceConflict,
    EvidenceCorrupt,
    EvidenceError,
    EvidenceKeyErased,
    EvidenceKeyUnavailable,
    EvidenceMissing,
    EvidenceTooLarge,
)
from cognify_dagster.evidence.keys import KeyProvider
from cognify_dagster.evidence.reference import (
    SEALED_SENSITIVITIES,
    EvidenceRef,
    Sensitivity,
    check_digest,
    check_media_type,
    check_sensitivity,
    digest_bytes,
)

MAX_BLOB_BYTES = 256 << 30
MAX_HELD_BYTES = 2 << 30
MAX_SEALED_BYTES = 512 << 20
_MAX_WRAPPED_KEY_BYTES = 64 << 10


class EvidenceStore:
    """A content-addressed store of evidence in a local folder or behind an fsspec URL.

    Safe for several processes at once. Where a method takes a reference or a digest, a reference is checked
    further: size, class and media type have to be the stored ones.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        keys: KeyProvider | None,
        keys_root: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        max_blob_bytes: int = MAX_BLOB_BYTES,
        max_held_bytes: int = MAX_HELD_BYTES,
        max_sealed_bytes: int = MAX_SEALED_BYTES,
    ) -> None:
        """Open a store; folders are made on the first write.

        Args:
            root: A local folder or an fsspec URL such as ``s3://bucket/evidence``.
            keys: Wraps the data keys of encrypted evidence. Without it such evidence can be neither stored nor read.
            keys_root: Where wrapped data keys lie; ``<root>/keys`` by default. Where the root's bucket has
                versioning or object lock this has to be a place without, or nothing can be erased.
            storage_options: Handed to fsspec for ``root`` and ``keys_root``.
            max_blob_bytes: Largest unencrypted blob, in bytes. Blobs are streamed, save by :meth:`get`.
            max_held_bytes: Largest blob that :meth:`get` returns, in bytes; it is held in memory.
            max_sealed_bytes: Largest encrypted blob, in bytes of plaintext. Sealing and opening hold about four
                times the blob in memory.

        Raises:
            EvidenceError: The URL cannot be opened.
        """
        self._blobs = open_folder(root, storage_options)
        self._keys_folder = (
            open_folder(below(os.fspath(root), "keys"), storage_options)
            if keys_root is None
            else open_folder(keys_root, storage_options)
        )
        self._keys = keys
        self._max_blob = max_blob_bytes
        self._max_held = min(max_held_bytes, max_blob_bytes)
        self._max_sealed = min(max_sealed_bytes, max_blob_bytes)

    def put(self, data: bytes | Path, *, media_type: str, sensitivity: Sensitivity = "internal") -> EvidenceRef:
        """Store evidence and return its reference. Storing the same evidence again changes nothing.

        Args:
            data: The content, or the path of a file that holds it. A file of class public or internal is
                streamed; other content is held in memory.
            media_type: Media type of the content (RFC 6838).
            sensitivity: ``confidential`` and ``personal`` are encrypted.

        Raises:
            EvidenceTooLarge: Larger than the store's bounds.
            EvidenceConflict: The same bytes are stored under a class or media type that does not agree.
            EvidenceCorrupt: A blob of that name exists and is damaged.
            EvidenceKeyErased: This content was stored before and its key was erased.
            EvidenceKeyUnavailable: An encrypted class, and no (or the wrong) key-encryption key.
            EvidenceMissing: The file does not exist.
            EvidenceDiskFull: No space left; nothing partial was kept.
            EvidenceError: Anything else that kept the evidence from being stored.
        """
        check_media_type(media_type)
        check_sensitivity(sensitivity)
        if not isinstance(data, (bytes, Path)):
            raise EvidenceError(f"evidence is bytes or a pathlib.Path, not {type(data).__name__}")
        if sensitivity in SEALED_SENSITIVITIES:
            return self._put_sealed(data, media_type, sensitivity)
        return self._put_plain(data, media_type, sensitivity)

    def get(self, ref_or_digest: EvidenceRef | str) -> bytes:
        """Return the content of a blob, verified.

        Raises:
            EvidenceMissing: No such blob.
            EvidenceCorrupt: The stored bytes are not the ones that were put, or disagree with the reference.
            EvidenceKeyErased: Its data key was erased.
            EvidenceKeyUnavailable: It is encrypted, and no (or the wrong) key-encryption key is at hand.
            EvidenceTooLarge: Larger than the store's bounds.
            EvidenceError: It cannot be read.
        """
        held: list[bytes] = []
        size = 0
        for chunk in self._verified(ref_or_digest):
            size += len(chunk)
            if size > self._max_held:
                raise EvidenceTooLarge(
                    f"{_split(ref_or_digest)[0]} has more than the {self._max_held} bytes that are held in memory; copy it to a file"
                )
            held.append(chunk)
        return b"".join(held)

    def verify(self, ref_or_digest: EvidenceRef | str) -> None:
        """Read a blob and check it; raises what :meth:`get` raises. Unencrypted blobs are streamed."""
        for _ in self._verified(ref_or_digest):
            pass

    def copy_to(self, ref_or_digest: EvidenceRef | str, path: str | os.PathLike[str]) -> Path:
        """Write the verified content of a blob to a new local file with mode 0600 and return its path.

        Raises:
            EvidenceError: ``path`` exists or cannot be written; also whatever :meth:`get` raises. Nothing
                partial is left.
        """
        target = Path(path)
        if not target.name or not target.parent.is_dir():
            raise EvidenceError(f"{target} cannot be written: its folder does not exist")
        if not LocalFolder(target.parent).create(target.name, self._verified(ref_or_digest)):
            raise EvidenceError(f"{target} already exists; evidence is not copied over other files")
        return target

    def exists(self, ref_or_digest: EvidenceRef | str) -> bool:
        """Return whether a blob is there, without reading it. True also when its data key was erased."""
        digest, ref = _split(ref_or_digest)
        names = [plain_name(digest), sealed_name(digest)]
        if ref is not None:
            names = [names[ref.sealed]]
        return any(self._blobs.size(name) is not None for name in names)

    def is_plain(self, digest: str) -> bool:
        """Return whether content is stored unencrypted, where destroying a key would not erase it."""
        return self._blobs.size(plain_name(digest)) is not None

    def list_digests(self) -> list[str]:
        """Return the digests of all blobs, sorted. Files with other names are passed over."""
        found: set[str] = set()
        for prefix, pattern in (("blobs", PLAIN_NAME), ("sealed", SEALED_NAME)):
            matches = map(pattern.fullmatch, self._blobs.names(prefix))
            found.update(f"sha256:{match[1]}{match[2]}" for match in matches if match)
        return sorted(found)

    def erase_key(self, digest: str) -> bool:
        """Erase the data key of an encrypted blob, and with it the content. The caller records it in the ledger.

        Returns:
            True if a key was erased now, False if it had been erased before.

        Raises:
            EvidenceMissing: Neither blob nor key is there.
            EvidenceConflict: The content also lies in the store unencrypted, where no key protects it.
            EvidenceError: The storage keeps old versions of what is deleted, or cannot be reached.
        """
        check_digest(digest)
        self._keys_folder.check_erasable()
        erased = self._keys_folder.delete(key_name(digest))
        if self._blobs.size(plain_name(digest)) is not None:
            raise EvidenceConflict(
                f"{self._blobs.label(plain_name(digest))} is stored unencrypted: erasing a key does not erase it"
            )
        if not erased and self._blobs.size(sealed_name(digest)) is None:
            raise EvidenceMissing(f"{digest} is not in the store: {self._blobs.label(sealed_name(digest))}")
        return erased

    def remove_stale_temporaries(self, older_than_s: float = 86_400.0) -> int:
        """Remove temporary files that killed processes left behind; return how many.

        Args:
            older_than_s: Age in seconds below which a file may still be in use.
        """
        removed = sum(self._blobs.remove_stale(prefix, older_than_s) for prefix in ("blobs", "sealed"))
        return removed + self._keys_folder.remove_stale("", older_than_s)

    # -- unencrypted classes ---------------------------------------------------------------------------------

    def _put_plain(self, data: bytes | Path, media_type: str, sensitivity: Sensitivity) -> EvidenceRef:
        if isinstance(data, bytes):
            digest, size = digest_bytes(data), len(data)
            if size > self._max_blob:
                raise EvidenceTooLarge(f"{size} bytes are more than the {self._max_blob} bytes allowed for a blob")
        else:
            digest, size = _hash(read_chunks(data, self._max_blob, follow=True))
        if self._blobs.size(sealed_name(digest)) is not None:
            raise EvidenceConflict(
                f"{digest} is stored encrypted; storing it again as {sensitivity!r} would leave a readable copy. "
                "Use the class it was stored with"
            )
        name = plain_name(digest)
        if isinstance(data, bytes):
            written = self._blobs.create_bytes(name, data)
        else:
            again = read_chunks(data, self._max_blob, follow=True)
            changed = EvidenceError(f"{data} changed while it was being stored; nothing was stored. Run again")
            written = self._blobs.create(name, _checked(again, digest, changed))
        if not written:
            for _ in self._plain_chunks(digest, size):
                pass
        return EvidenceRef(digest, size, media_type, sensitivity)

    def _plain_chunks(self, digest: str, size: int | None) -> Iterator[bytes]:
        name = plain_name(digest)
        label = self._blobs.label(name)
        found = self._blobs.size(name)
        damaged = EvidenceCorrupt(
            f"{label} does not hold the content that names it ({found} bytes found, {'a matching digest' if size is None else size} expected). "
            "Move the file away for examination and restore it from a backup or store the evidence again"
        )
        if size is not None and found is not None and found != size:
            raise damaged
        return _checked(self._blobs.chunks(name, self._max_blob), digest, damaged)

    # -- encrypted classes -----------------------------------------------------------------------------------

    def _put_sealed(self, data: bytes | Path, media_type: str, sensitivity: Sensitivity) -> EvidenceRef:
        keys = self._provider()
        if isinstance(data, Path):
            data = b"".join(read_chunks(data, self._max_sealed, follow=True))
        if len(data) > self._max_sealed:
            raise EvidenceTooLarge(
                f"{len(data)} bytes are more than the {self._max_sealed} bytes allowed for encrypted evidence"
            )
        ref = EvidenceRef(digest_bytes(data), len(data), media_type, sensitivity)
        name, digest = sealed_name(ref.digest), ref.digest
        if self._blobs.size(plain_name(digest)) is not None:
            raise EvidenceConflict(
                f"{digest} is already stored unencrypted at {self._blobs.label(plain_name(digest))}; "
                f"storing it as {sensitivity!r} would not protect it"
            )
        if self._blobs.size(name) is None:
            wrapped = self._wrapped_key(digest)
            if wrapped is None:
                # Asked before the first write, so that nothing is stored that could not be erased later.
                self._keys_folder.check_erasable()
                fresh = keys.wrap(os.urandom(KEY_BYTES), key_aad(digest))
                self._keys_folder.create_bytes(key_name(digest), fresh, exclusive=True)
                # Read back: if another process was first, its key is the one to use.
                wrapped = self._wrapped_key(digest)
            if wrapped is not None:
                key = self._unwrap(wrapped, digest)
                blob = seal(data, key=key, iv=os.urandom(IV_BYTES), sensitivity=sensitivity, media_type=media_type)
                if self._blobs.create_bytes(name, blob):
                    if self._wrapped_key(digest) != wrapped:
                        raise EvidenceKeyErased(f"the key of {digest} was erased or replaced while it was being stored")
                    return ref
        self._expect_same(self._open_sealed(digest), ref)
        return ref

    def _open_sealed(self, digest: str) -> Opened:
        name = sealed_name(digest)
        label = self._blobs.label(name)
        self._provider()
        blob = b"".join(self._blobs.chunks(name, self._max_sealed + MAX_ENVELOPE_OVERHEAD))
        wrapped = self._wrapped_key(digest)
        if wrapped is None:
            raise EvidenceKeyErased(
                f"{label} can no longer be read: its data key {self._keys_folder.label(key_name(digest))} is gone. "
                "The ledger says whether it was erased on purpose"
            )
        key = self._unwrap(wrapped, digest)
        try:
            return unseal(blob, key=key, digest=digest)
        except EvidenceCorrupt as error:
            raise EvidenceCorrupt(f"{label} is damaged or was changed: {error}") from error

    def _wrapped_key(self, digest: str) -> bytes | None:
        name = key_name(digest)
        try:
            wrapped = b"".join(self._keys_folder.chunks(name, _MAX_WRAPPED_KEY_BYTES))
        except EvidenceMissing:
            return None
        except EvidenceTooLarge as error:
            raise EvidenceCorrupt(f"{self._keys_folder.label(name)} is too large to be a wrapped key") from error
        # An erasure that was interrupted after overwriting has done its work all the same.
        if wrapped and not any(wrapped):
            raise EvidenceKeyErased(f"the key {self._keys_folder.label(name)} was overwritten: {digest} is erased")
        return wrapped

    def _unwrap(self, wrapped: bytes, digest: str) -> bytes:
        try:
            key = self._provider().unwrap(wrapped, key_aad(digest))
        except EvidenceCorrupt as error:
            label = self._keys_folder.label(key_name(digest))
            raise EvidenceCorrupt(f"the wrapped key {label} is damaged, was changed or moved: {error}") from error
        if len(key) != KEY_BYTES:
            raise EvidenceCorrupt(f"{self._keys_folder.label(key_name(digest))} does not hold a 256-bit key")
        return key

    def _provider(self) -> KeyProvider:
        if self._keys is None:
            raise EvidenceKeyUnavailable(
                "confidential and personal evidence needs a key-encryption key; open the store with a key provider"
            )
        return self._keys

    @staticmethod
    def _expect_same(opened: Opened, ref: EvidenceRef) -> None:
        if (opened.sensitivity, opened.media_type) != (ref.sensitivity, ref.media_type):
            raise EvidenceConflict(
                f"{ref.digest} is already stored as {opened.sensitivity!r}, {opened.media_type!r}; it cannot also be "
                f"{ref.sensitivity!r}, {ref.media_type!r}. Use the class and media type it was stored with"
            )

    # -- reading ---------------------------------------------------------------------------------------------

    def _verified(self, ref_or_digest: EvidenceRef | str) -> Iterator[bytes]:
        """Yield the content; the last check runs before the iteration ends, so a complete iteration is verified."""
        digest, ref = _split(ref_or_digest)
        plain = not ref.sealed if ref is not None else self._blobs.size(plain_name(digest)) is not None
        if ref is not None and ref.size > (self._max_blob if plain else self._max_sealed):
            raise EvidenceTooLarge(f"{digest} has {ref.size} bytes, more than this store accepts")
        try:
            if plain:
                yield from self._plain_chunks(digest, ref.size if ref else None)
                return
            opened = self._open_sealed(digest)
        except EvidenceMissing as error:
            raise EvidenceMissing(f"{digest} is not in the store: {error}") from error
        if ref is not None and (opened.sensitivity, opened.media_type, len(opened.plaintext)) != (
            ref.sensitivity,
            ref.media_type,
            ref.size,
        ):
            raise EvidenceCorrupt(f"{digest} is stored with another class, media type or size than its reference says")
        yield opened.plaintext


def _split(ref_or_digest: EvidenceRef | str) -> tuple[str, EvidenceRef | None]:
    if isinstance(ref_or_digest, EvidenceRef):
        return ref_or_digest.digest, ref_or_digest
    return check_digest(ref_or_digest), None


def _hash(chunks: Iterable[bytes]) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    for chunk in chunks:
        hasher.update(chunk)
        size += len(chunk)
    return "sha256:" + hasher.hexdigest(), size


def _checked(chunks: Iterable[bytes], digest: str, wrong: EvidenceError) -> Iterator[bytes]:
    """Pass chunks on; raise ``wrong`` at the end if together they are not ``digest``."""
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    if "sha256:" + hasher.hexdigest() != digest:
        raise wrong
