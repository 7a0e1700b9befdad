"""The same store behind an fsspec URL."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cognify_dagster.evidence import (
    EvidenceConflict,
    EvidenceCorrupt,
    EvidenceDiskFull,
    EvidenceError,
    EvidenceKeyErased,
    EvidenceMissing,
    EvidenceStore,
    EvidenceTooLarge,
    LocalKeyProvider,
)

CLASSES = ["public", "internal", "confidential", "personal"]


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/evidence"


@pytest.fixture
def remote(url: str, kek: LocalKeyProvider) -> EvidenceStore:
    return EvidenceStore(url, keys=kek)


def objects(url: str) -> dict[str, Any]:
    prefix = "/" + url.removeprefix("memory://") + "/"
    return {name[len(prefix) :]: item for name, item in MemoryFileSystem.store.items() if name.startswith(prefix)}


def overwrite(url: str, name: str, data: bytes) -> None:
    MemoryFileSystem().pipe_file("/" + url.removeprefix("memory://") + "/" + name, data)


@pytest.mark.parametrize("sensitivity", CLASSES)
@pytest.mark.parametrize("data", [b"", b"x", os.urandom(3 << 20)], ids=["empty", "one byte", "3 MiB"])
@pytest.mark.parametrize("from_file", [False, True])
def test_round_trip(remote: EvidenceStore, tmp_path: Path, sensitivity: Any, data: bytes, from_file: bool) -> None:
    source: bytes | Path = data
    if from_file:
        source = tmp_path / "source"
        source.write_bytes(data)
    ref = remote.put(source, media_type="text/plain", sensitivity=sensitivity)
    assert remote.put(source, media_type="text/plain", sensitivity=sensitivity) == ref
    assert remote.get(ref) == remote.get(ref.digest) == data
    assert remote.list_digests() == [ref.digest]
    assert remote.copy_to(ref, tmp_path / "copy").read_bytes() == data


def test_names_are_those_of_a_local_store(remote: EvidenceStore, url: str) -> None:
    plain = remote.put(b"open", media_type="text/plain").digest[7:]
    sealed = remote.put(b"secret", media_type="text/plain", sensitivity="personal").digest[7:]
    assert set(objects(url)) == {
        f"blobs/sha256/{plain[:2]}/{plain[2:]}",
        f"sealed/sha256/{sealed[:2]}/{sealed[2:]}.cose",
        f"keys/{sealed}.cose",
    }


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_damage_is_caught_by_get_and_put(remote: EvidenceStore, url: str, sensitivity: Any) -> None:
    ref = remote.put(b"content", media_type="text/plain", sensitivity=sensitivity)
    name = next(name for name in objects(url) if not name.startswith("keys/"))
    original = objects(url)[name].getvalue()
    for damaged in (b"", original[:-1], original + b"x", b"X" + original[1:]):
        overwrite(url, name, damaged)
        with pytest.raises(EvidenceCorrupt):
            remote.get(ref)
        with pytest.raises(EvidenceCorrupt):
            remote.put(b"content", media_type="text/plain", sensitivity=sensitivity)


def test_erasure(remote: EvidenceStore, url: str) -> None:
    ref = remote.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert remote.erase_key(ref.digest) is True
    assert not any(name.startswith("keys/") for name in objects(url))
    with pytest.raises(EvidenceKeyErased):
        remote.get(ref)
    with pytest.raises(EvidenceKeyErased):
        remote.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert remote.erase_key(ref.digest) is False
    with pytest.raises(EvidenceMissing):
        remote.erase_key("sha256:" + "0" * 64)


def test_classes_do_not_mix(remote: EvidenceStore) -> None:
    remote.put(b"same", media_type="text/plain")
    with pytest.raises(EvidenceConflict):
        remote.put(b"same", media_type="text/plain", sensitivity="personal")


def test_bounds_hold_before_anything_is_fetched(
    url: str, kek: LocalKeyProvider, remote: EvidenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetches(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("content was fetched")

    ref = remote.put(b"x" * 2000, media_type="text/plain")
    monkeypatch.setattr(MemoryFileSystem, "open", fetches)
    with pytest.raises(EvidenceTooLarge):
        EvidenceStore(url, keys=kek, max_blob_bytes=1000).get(ref.digest)


def test_an_object_that_is_larger_than_it_says_is_bounded(
    url: str, kek: LocalKeyProvider, remote: EvidenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = remote.put(b"x" * 2000, media_type="text/plain")
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path: {"size": 10})
    with pytest.raises(EvidenceTooLarge):
        EvidenceStore(url, keys=kek, max_blob_bytes=1000).get(ref.digest)


def test_listings_are_not_cached(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A cached listing could show a key that another process erased.
    opened: list[dict[str, Any]] = []
    real = fsspec.core.url_to_fs
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url, **options: opened.append(options) or real(url, **options))
    EvidenceStore(url, keys=None)
    assert [options["use_listings_cache"] for options in opened] == [False, False]


def test_a_bucket_that_keeps_old_versions_takes_no_keys(
    remote: EvidenceStore, url: str, kek: LocalKeyProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = remote.put(b"stored before versioning", media_type="text/plain", sensitivity="personal")
    asked: list[str] = []
    monkeypatch.setattr(
        MemoryFileSystem, "is_bucket_versioned", lambda self, bucket: asked.append(bucket) or True, raising=False
    )
    before = set(objects(url))
    with pytest.raises(EvidenceError, match="keys_root"):
        remote.put(b"secret", media_type="text/plain", sensitivity="personal")
    with pytest.raises(EvidenceError, match="keys_root"):
        remote.erase_key(early.digest)
    assert set(objects(url)) == before
    apart = EvidenceStore(url, keys=kek, keys_root=tmp_path / "keys")
    ref = apart.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert apart.erase_key(ref.digest) is True


def test_a_retention_lock_on_a_key_is_not_taken_for_an_erasure(
    remote: EvidenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = remote.put(b"secret", media_type="text/plain", sensitivity="personal")
    monkeypatch.setattr(MemoryFileSystem, "rm_file", lambda self, path: None, raising=False)
    with pytest.raises(EvidenceError, match="still there"):
        remote.erase_key(ref.digest)


@pytest.mark.parametrize(
    "error", [FileExistsError(), OSError(errno.EINVAL, "At least one of the pre-conditions failed")]
)
@pytest.mark.parametrize("sensitivity", CLASSES)
def test_a_lost_race_is_harmless(
    remote: EvidenceStore,
    url: str,
    kek: LocalKeyProvider,
    monkeypatch: pytest.MonkeyPatch,
    sensitivity: Any,
    error: OSError,
) -> None:
    real = MemoryFileSystem.pipe_file
    racing = {"on": True}

    def someone_else_is_first(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        if racing["on"]:
            racing["on"] = False
            EvidenceStore(url, keys=kek).put(b"same", media_type="text/plain", sensitivity=sensitivity)
        if self.exists(path):
            raise error
        real(self, path, value, mode=mode)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", someone_else_is_first)
    ref = remote.put(b"same", media_type="text/plain", sensitivity=sensitivity)
    assert remote.get(ref) == b"same"


def test_failures_of_the_service_are_evidence_errors(remote: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class ClientError(Exception):
        pass

    def fails(*args: Any, **kwargs: Any) -> None:
        raise ClientError("no credentials")

    ref = remote.put(b"x", media_type="text/plain")
    for method in ("pipe_file", "info", "find"):
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, method, fails)
            with pytest.raises(EvidenceError, match="no credentials"):
                remote.put(
                    b"y" + method.encode(), media_type="text/plain"
                ) if method != "find" else remote.list_digests()
    assert remote.get(ref) == b"x"


def test_a_full_temporary_folder_is_named(
    remote: EvidenceStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "source").write_bytes(b"content")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fails)
        with pytest.raises(EvidenceDiskFull):
            remote.put(tmp_path / "source", media_type="text/plain")
    assert objects(url) == {}
