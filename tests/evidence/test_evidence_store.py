"""What is put is got back, whole or not at all, under any class, and damage is named."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.evidence import (
    EvidenceConflict,
    EvidenceCorrupt,
    EvidenceError,
    EvidenceKeyErased,
    EvidenceKeyUnavailable,
    EvidenceMissing,
    EvidenceRef,
    EvidenceStore,
    EvidenceTooLarge,
    LocalKeyProvider,
)

CLASSES = ["public", "internal", "confidential", "personal"]
SEALED = ["confidential", "personal"]
ABSENT = "sha256:" + "0" * 64


def blob_path(root: Path, digest: str) -> Path:
    hexdigits = digest.removeprefix("sha256:")
    plain = root / "blobs" / "sha256" / hexdigits[:2] / hexdigits[2:]
    return plain if plain.exists() else root / "sealed" / "sha256" / hexdigits[:2] / (hexdigits[2:] + ".cose")


def key_path(root: Path, digest: str) -> Path:
    return root / "keys" / (digest.removeprefix("sha256:") + ".cose")


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if not path.is_dir())


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> EvidenceStore:
    folder = tmp_path_factory.mktemp("roomy")
    return EvidenceStore(folder / "evidence", keys=LocalKeyProvider.create(folder / "kek"))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=5000), sensitivity=st.sampled_from(CLASSES), from_file=st.booleans())
def test_round_trip(
    roomy: EvidenceStore, tmp_path_factory: pytest.TempPathFactory, data: bytes, sensitivity: Any, from_file: bool
) -> None:
    # Bytes keep the class they were first stored with, so each class gets bytes of its own.
    data = sensitivity.encode() + data
    source: bytes | Path = data
    if from_file:
        source = tmp_path_factory.getbasetemp() / "source"
        source.write_bytes(data)
    ref = roomy.put(source, media_type="application/octet-stream", sensitivity=sensitivity)
    assert ref == EvidenceRef(
        "sha256:" + hashlib.sha256(data).hexdigest(), len(data), "application/octet-stream", sensitivity
    )
    assert roomy.get(ref) == roomy.get(ref.digest) == data
    assert roomy.exists(ref)
    assert ref.digest in roomy.list_digests()
    roomy.verify(ref)
    assert roomy.put(data, media_type="application/octet-stream", sensitivity=sensitivity) == ref


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_names_and_modes(store: EvidenceStore, root: Path, sensitivity: Any) -> None:
    digest = store.put(b"x", media_type="text/plain", sensitivity=sensitivity).digest
    name = digest.removeprefix("sha256:")
    assert name == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    expected = (
        {f"sealed/sha256/2d/{name[2:]}.cose", f"keys/{name}.cose"}
        if sensitivity in SEALED
        else {f"blobs/sha256/2d/{name[2:]}"}
    )
    assert {path.relative_to(root).as_posix() for path in files(root)} == expected
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(store: EvidenceStore, root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store.put(b"x", media_type="text/plain", sensitivity="personal")
    finally:
        os.umask(before)
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_encrypted_classes_leave_no_plaintext_on_disk(store: EvidenceStore, root: Path, tmp_path: Path) -> None:
    secret = b"Ada Lovelace, 1815-12-10" * 10
    (tmp_path / "source").write_bytes(secret)
    store.put(secret, media_type="text/plain", sensitivity="personal")
    store.put(tmp_path / "source", media_type="text/plain", sensitivity="personal")
    for path in files(root):
        assert secret[:24] not in path.read_bytes()


def test_each_blob_has_its_own_key_and_iv(store: EvidenceStore, root: Path) -> None:
    from cognify_dagster.evidence.envelope import parse_encrypt0

    refs = [store.put(bytes([i]), media_type="text/plain", sensitivity="personal") for i in range(8)]
    messages = [parse_encrypt0(blob_path(root, ref.digest).read_bytes()) for ref in refs]
    assert len({message.kid for message in messages}) == len({message.iv for message in messages}) == 8


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_storing_again_writes_nothing(store: EvidenceStore, root: Path, sensitivity: Any) -> None:
    ref = store.put(b"same", media_type="text/plain", sensitivity=sensitivity)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in files(root)}
    assert store.put(b"same", media_type="text/plain", sensitivity=sensitivity) == ref
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in files(root)} == before


# -- damage and tampering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_every_changed_byte_is_caught(store: EvidenceStore, root: Path, sensitivity: Any) -> None:
    ref = store.put(b"the content of a blob", media_type="text/plain", sensitivity=sensitivity)
    path = blob_path(root, ref.digest)
    original = path.read_bytes()
    for position in range(len(original)):
        path.write_bytes(original[:position] + bytes([original[position] ^ 0x41]) + original[position + 1 :])
        for asked in (ref, ref.digest):
            with pytest.raises(EvidenceCorrupt, match=path.name):
                store.get(asked)
    path.write_bytes(original)
    store.verify(ref)


@pytest.mark.parametrize("sensitivity", CLASSES)
@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\0" * len(data)]
)
def test_damage_is_reported_by_every_reader_and_by_put(
    store: EvidenceStore, root: Path, tmp_path: Path, sensitivity: Any, damage: Callable[[bytes], bytes]
) -> None:
    ref = store.put(b"the content of a blob", media_type="text/plain", sensitivity=sensitivity)
    path = blob_path(root, ref.digest)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    for action in (
        lambda: store.get(ref),
        lambda: store.verify(ref.digest),
        lambda: store.copy_to(ref, tmp_path / "copy"),
        lambda: store.put(b"the content of a blob", media_type="text/plain", sensitivity=sensitivity),
    ):
        with pytest.raises(EvidenceCorrupt, match=path.name):
            action()
    assert path.read_bytes() == damaged, "the damaged blob is kept for examination"
    assert not (tmp_path / "copy").exists()


def test_a_damaged_key_file_is_caught(store: EvidenceStore, root: Path) -> None:
    ref = store.put(b"secret", media_type="text/plain", sensitivity="personal")
    path = key_path(root, ref.digest)
    original = path.read_bytes()
    for position in range(len(original)):
        path.write_bytes(original[:position] + bytes([original[position] ^ 0x41]) + original[position + 1 :])
        with pytest.raises((EvidenceCorrupt, EvidenceKeyUnavailable)):
            store.get(ref)
    for other in (b"", original[:-1], original + b"\0", os.urandom(70_000)):
        path.write_bytes(other)
        with pytest.raises(EvidenceCorrupt, match=path.name):
            store.get(ref)


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_another_blob_under_this_name_is_caught(store: EvidenceStore, root: Path, sensitivity: Any) -> None:
    one = store.put(b"blob one", media_type="text/plain", sensitivity=sensitivity)
    two = store.put(b"blob two", media_type="text/plain", sensitivity=sensitivity)
    blob_path(root, one.digest).write_bytes(blob_path(root, two.digest).read_bytes())
    with pytest.raises(EvidenceCorrupt):
        store.get(one)
    if sensitivity in SEALED:
        key_path(root, one.digest).write_bytes(key_path(root, two.digest).read_bytes())
        with pytest.raises(EvidenceCorrupt):
            store.get(one)
    assert store.get(two) == b"blob two"


@pytest.mark.parametrize(
    "change",
    [{"size": 5}, {"media_type": "text/csv"}, {"sensitivity": "confidential"}],
    ids=lambda change: next(iter(change)),
)
def test_a_reference_that_disagrees_with_a_sealed_blob_is_caught(store: EvidenceStore, change: dict[str, Any]) -> None:
    ref = store.put(b"blob", media_type="text/plain", sensitivity="personal")
    wrong = EvidenceRef.from_dict({**ref.to_dict(), **change})
    with pytest.raises(EvidenceCorrupt, match="reference"):
        store.get(wrong)


def test_a_reference_with_another_size_is_caught(store: EvidenceStore) -> None:
    ref = store.put(b"blob", media_type="text/plain")
    with pytest.raises(EvidenceCorrupt):
        store.get(EvidenceRef(ref.digest, 5, ref.media_type))


def test_a_link_in_place_of_a_blob_is_refused(store: EvidenceStore, root: Path, tmp_path: Path) -> None:
    ref = store.put(b"blob", media_type="text/plain")
    path = blob_path(root, ref.digest)
    (tmp_path / "elsewhere").write_bytes(b"blob")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvidenceCorrupt, match="is a symbolic link"):
        store.get(ref.digest)
    with pytest.raises(EvidenceCorrupt):
        store.put(b"blob", media_type="text/plain")


def test_a_pipe_in_place_of_a_blob_is_refused_without_waiting(store: EvidenceStore, root: Path) -> None:
    ref = store.put(b"blob", media_type="text/plain")
    path = blob_path(root, ref.digest)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(EvidenceCorrupt):
        store.get(ref.digest)


def test_a_link_in_place_of_a_folder_is_not_written_through(root: Path, kek: LocalKeyProvider, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvidenceError, match="symbolic link"):
        EvidenceStore(root, keys=kek).put(b"blob", media_type="text/plain")
    assert files(tmp_path / "elsewhere") == []


# -- keys and erasure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensitivity", SEALED)
def test_erasing_the_key_erases_the_content_for_good(store: EvidenceStore, root: Path, sensitivity: Any) -> None:
    ref = store.put(b"secret", media_type="text/plain", sensitivity=sensitivity)
    blob = blob_path(root, ref.digest).read_bytes()
    assert store.erase_key(ref.digest) is True
    assert not key_path(root, ref.digest).exists()
    assert blob_path(root, ref.digest).read_bytes() == blob, "the blob may be under a retention lock and stays"
    assert store.exists(ref)
    for action in (
        lambda: store.get(ref),
        lambda: store.get(ref.digest),
        lambda: store.verify(ref),
        lambda: store.put(b"secret", media_type="text/plain", sensitivity=sensitivity),
    ):
        with pytest.raises(EvidenceKeyErased):
            action()
    with pytest.raises(EvidenceConflict):
        store.put(b"secret", media_type="text/plain", sensitivity="internal")
    assert store.erase_key(ref.digest) is False


def test_an_erasure_interrupted_after_overwriting_counts_as_erased(store: EvidenceStore, root: Path) -> None:
    ref = store.put(b"secret", media_type="text/plain", sensitivity="personal")
    path = key_path(root, ref.digest)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(EvidenceKeyErased):
        store.get(ref)
    assert store.erase_key(ref.digest) is True
    assert store.erase_key(ref.digest) is False


def test_the_key_is_overwritten_before_it_is_removed(store: EvidenceStore, root: Path, tmp_path: Path) -> None:
    ref = store.put(b"secret", media_type="text/plain", sensitivity="personal")
    os.link(key_path(root, ref.digest), tmp_path / "witness of the same bytes on disk")
    store.erase_key(ref.digest)
    assert not any((tmp_path / "witness of the same bytes on disk").read_bytes())


def test_erasing_needs_an_encrypted_blob(store: EvidenceStore) -> None:
    ref = store.put(b"open", media_type="text/plain")
    with pytest.raises(EvidenceConflict, match="unencrypted"):
        store.erase_key(ref.digest)
    assert store.get(ref) == b"open"
    with pytest.raises(EvidenceMissing):
        store.erase_key(ABSENT)


def test_erasing_needs_no_key_encryption_key(store: EvidenceStore, root: Path) -> None:
    ref = store.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert EvidenceStore(root, keys=None).erase_key(ref.digest) is True
    with pytest.raises(EvidenceKeyErased):
        store.get(ref)


def test_without_or_with_the_wrong_key_encryption_key(store: EvidenceStore, root: Path, tmp_path: Path) -> None:
    ref = store.put(b"secret", media_type="text/plain", sensitivity="personal")
    shut = EvidenceStore(root, keys=None)
    wrong = EvidenceStore(root, keys=LocalKeyProvider.create(tmp_path / "other"))
    for other in (shut, wrong):
        with pytest.raises(EvidenceKeyUnavailable):
            other.get(ref)
        with pytest.raises(EvidenceKeyUnavailable):
            other.put(b"secret", media_type="text/plain", sensitivity="personal")
    with pytest.raises(EvidenceKeyUnavailable):
        shut.put(b"another", media_type="text/plain", sensitivity="confidential")
    assert shut.get(shut.put(b"open", media_type="text/plain")) == b"open"
    assert store.get(ref) == b"secret"


def test_a_key_left_by_a_crash_before_the_blob_is_used_again(store: EvidenceStore, root: Path) -> None:
    ref = store.put(b"secret", media_type="text/plain", sensitivity="personal")
    blob_path(root, ref.digest).unlink()
    key = key_path(root, ref.digest).read_bytes()
    with pytest.raises(EvidenceMissing):
        store.get(ref)
    assert store.put(b"secret", media_type="text/plain", sensitivity="personal") == ref
    assert key_path(root, ref.digest).read_bytes() == key
    assert store.get(ref) == b"secret"


def test_keys_may_lie_elsewhere(root: Path, kek: LocalKeyProvider, tmp_path: Path) -> None:
    store = EvidenceStore(root, keys=kek, keys_root=tmp_path / "keys apart")
    ref = store.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert not (root / "keys").exists()
    assert [path.name for path in files(tmp_path / "keys apart")] == [ref.digest.removeprefix("sha256:") + ".cose"]
    assert store.get(ref) == b"secret"
    with pytest.raises(EvidenceKeyErased):
        EvidenceStore(root, keys=kek).get(ref)


def test_an_erasure_during_put_is_noticed(store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.evidence import store as module

    def seal_while_someone_erases(*args: Any, **kwargs: Any) -> bytes:
        for path in (root / "keys").iterdir():
            path.unlink()
        return seal(*args, **kwargs)

    seal = module.seal
    monkeypatch.setattr(module, "seal", seal_while_someone_erases)
    with pytest.raises(EvidenceKeyErased):
        store.put(b"secret", media_type="text/plain", sensitivity="personal")


# -- one class for the same bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("internal", "personal"), ("public", "confidential"), ("personal", "internal"), ("confidential", "personal")],
)
def test_the_same_bytes_in_two_protections_are_refused(
    store: EvidenceStore, root: Path, first: Any, second: Any
) -> None:
    ref = store.put(b"same", media_type="text/plain", sensitivity=first)
    before = files(root)
    with pytest.raises(EvidenceConflict):
        store.put(b"same", media_type="text/plain", sensitivity=second)
    assert files(root) == before
    assert store.get(ref) == b"same"


def test_media_types_of_the_same_bytes(store: EvidenceStore) -> None:
    store.put(b"{}", media_type="text/plain")
    assert store.put(b"{}", media_type="application/json").media_type == "application/json"
    store.put(b"[]", media_type="text/plain", sensitivity="personal")
    with pytest.raises(EvidenceConflict, match="application/json"):
        store.put(b"[]", media_type="application/json", sensitivity="personal")


# -- bad input -----------------------------------------------------------------------------------------------

BAD_DIGESTS = [
    "", "sha256:", "0" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65, "SHA256:" + "0" * 64, "sha256:" + "A" * 64,
    "sha256:" + "0" * 64 + "\n", " sha256:" + "0" * 64, "sha256:../../../../etc/passwd", "sha256:" + "../" * 21 + "0",
    "sha256:" + "0" * 62 + "/0", "sha256:" + "٠" * 64, "sha256:" + "0" * 63 + "\x00", "md5:" + "0" * 64, None, 7,
    b"sha256:" + b"0" * 64, "sha256:" + "/" * 64, "sha256:" + "." * 64,
]  # fmt: skip


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_only_well_formed_digests_reach_the_filesystem(store: EvidenceStore, tmp_path: Path, digest: Any) -> None:
    for action in (
        store.get,
        store.verify,
        store.exists,
        store.erase_key,
        lambda digest: store.copy_to(digest, tmp_path / "copy"),
        lambda digest: EvidenceRef(digest, 0, "text/plain"),
    ):
        with pytest.raises(EvidenceError, match="not an evidence digest"):
            action(digest)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "media_type",
    ["", "text", "text/", "/plain", "text/plain\n", "text/pl\x00ain", "text/plain;\x00", "tëxt/plain", "a/" + "b" * 128,
     "a/b; " + "c" * 255, "text/plain/extra", None, b"text/plain"],
)  # fmt: skip
def test_malformed_media_types_are_refused(store: EvidenceStore, root: Path, media_type: Any) -> None:
    with pytest.raises(EvidenceError, match="media type"):
        store.put(b"x", media_type=media_type)
    assert not root.exists()


@pytest.mark.parametrize("sensitivity", ["", "secret", "Personal", None, ["personal"]])
def test_unknown_classes_are_refused(store: EvidenceStore, root: Path, sensitivity: Any) -> None:
    with pytest.raises(EvidenceError, match="sensitivity"):
        store.put(b"x", media_type="text/plain", sensitivity=sensitivity)
    assert not root.exists()


@pytest.mark.parametrize("data", ["text", bytearray(b"x"), None])
def test_other_types_of_data_are_refused(store: EvidenceStore, data: Any) -> None:
    with pytest.raises(EvidenceError, match="bytes or a pathlib"):
        store.put(data, media_type="text/plain")


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_sources_that_are_not_files(store: EvidenceStore, tmp_path: Path, sensitivity: Any) -> None:
    with pytest.raises(EvidenceMissing, match="absent"):
        store.put(tmp_path / "absent", media_type="text/plain", sensitivity=sensitivity)
    with pytest.raises(EvidenceError):
        store.put(tmp_path, media_type="text/plain", sensitivity=sensitivity)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EvidenceError, match="regular"):
        store.put(tmp_path / "pipe", media_type="text/plain", sensitivity=sensitivity)


def test_a_reference_survives_json(store: EvidenceStore) -> None:
    ref = store.put(b"x", media_type="text/plain", sensitivity="personal")
    assert EvidenceRef.from_dict(ref.to_dict()) == ref
    for broken in ({}, {**ref.to_dict(), "extra": 1}, {**ref.to_dict(), "size": -1}, {**ref.to_dict(), "size": True}):
        with pytest.raises(EvidenceError):
            EvidenceRef.from_dict(broken)


def test_what_is_absent(store: EvidenceStore) -> None:
    assert store.list_digests() == []
    assert not store.exists(ABSENT)
    for asked in (ABSENT, EvidenceRef(ABSENT, 1, "a/b"), EvidenceRef(ABSENT, 1, "a/b", "personal")):
        with pytest.raises(EvidenceMissing, match=ABSENT):
            store.get(asked)


# -- bounds --------------------------------------------------------------------------------------------------


def test_size_bounds(root: Path, kek: LocalKeyProvider, tmp_path: Path) -> None:
    store = EvidenceStore(root, keys=kek, max_blob_bytes=100, max_sealed_bytes=10)
    (tmp_path / "source").write_bytes(b"x" * 101)
    (tmp_path / "sealed source").write_bytes(b"x" * 11)
    for data, sensitivity in ((b"x" * 101, "public"), (tmp_path / "source", "internal"), (b"x" * 11, "personal"),
                              (tmp_path / "sealed source", "confidential")):  # fmt: skip
        with pytest.raises(EvidenceTooLarge):
            store.put(data, media_type="text/plain", sensitivity=sensitivity)
    assert not root.exists()
    assert store.get(store.put(b"y" * 100, media_type="text/plain")) == b"y" * 100
    assert store.get(store.put(b"z" * 10, media_type="text/plain", sensitivity="personal")) == b"z" * 10


def test_reading_is_bounded_too(store: EvidenceStore, root: Path, kek: LocalKeyProvider) -> None:
    plain = store.put(b"x" * 5000, media_type="text/plain")
    sealed = store.put(b"y" * 5000, media_type="text/plain", sensitivity="personal")
    small = EvidenceStore(root, keys=kek, max_blob_bytes=1000, max_sealed_bytes=1000)
    for asked in (plain, plain.digest, sealed, sealed.digest):
        with pytest.raises(EvidenceTooLarge):
            small.get(asked)


def test_what_is_too_large_to_be_held_is_verified_and_copied_as_a_stream(
    store: EvidenceStore, root: Path, kek: LocalKeyProvider, tmp_path: Path
) -> None:
    ref = store.put(b"x" * 5000, media_type="text/plain")
    small = EvidenceStore(root, keys=kek, max_held_bytes=1000)
    with pytest.raises(EvidenceTooLarge, match="copy it to a file"):
        small.get(ref)
    small.verify(ref)
    assert small.copy_to(ref, tmp_path / "copy").read_bytes() == b"x" * 5000


def test_a_large_file_is_not_loaded(store: EvidenceStore, tmp_path: Path) -> None:
    import tracemalloc

    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    ref = store.put(source, media_type="application/octet-stream")
    store.verify(ref)
    store.copy_to(ref, tmp_path / "copy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert (tmp_path / "copy").stat().st_size == 64 << 20


def test_a_file_that_changes_while_it_is_stored_is_not_stored(
    store: EvidenceStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.evidence import store as module

    source = tmp_path / "source"
    source.write_bytes(b"first")
    hash_chunks = module._hash

    def hash_then_change(chunks: Any) -> Any:
        result = hash_chunks(chunks)
        source.write_bytes(b"other")
        return result

    monkeypatch.setattr(module, "_hash", hash_then_change)
    with pytest.raises(EvidenceError, match="changed while"):
        store.put(source, media_type="text/plain")
    assert files(root) == []


# -- copies and lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_copies_are_private_new_files(store: EvidenceStore, tmp_path: Path, sensitivity: Any) -> None:
    ref = store.put(b"content", media_type="text/plain", sensitivity=sensitivity)
    target = store.copy_to(ref.digest, tmp_path / "copy")
    assert target.read_bytes() == b"content"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(EvidenceError, match="already exists"):
        store.copy_to(ref, target)
    with pytest.raises(EvidenceError, match="folder does not exist"):
        store.copy_to(ref, tmp_path / "absent" / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "kek", "evidence"}


def test_lists_pass_over_foreign_files(store: EvidenceStore, root: Path) -> None:
    refs = [store.put(bytes([i]), media_type="text/plain", sensitivity=name) for i, name in enumerate(CLASSES)]
    folder = blob_path(root, refs[0].digest).parent
    (folder / ".tmp-123").write_bytes(b"")
    (folder / "README").write_bytes(b"")
    (root / "blobs" / "sha256" / ("0" * 64)).write_bytes(b"")
    assert store.list_digests() == sorted(ref.digest for ref in refs)


@pytest.mark.parametrize(
    "root", ["", "nosuchprotocol://bucket/x", "file://host/path", "simplecache::memory://x", "file:///a?b"]
)
def test_roots_that_cannot_be_opened(root: str) -> None:
    with pytest.raises(EvidenceError):
        EvidenceStore(root, keys=None)


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    store = EvidenceStore(f"file://{tmp_path}/with%20space", keys=None)
    store.put(b"x", media_type="text/plain")
    assert len(files(tmp_path / "with space")) == 1
