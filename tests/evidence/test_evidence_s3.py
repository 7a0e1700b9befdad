"""The evidence store on a real S3 server: what the tests on a folder in memory claim, where requests can really be lost."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.evidence import (
    EvidenceConflict,
    EvidenceCorrupt,
    EvidenceError,
    EvidenceKeyErased,
    EvidenceKeyUnavailable,
    EvidenceMissing,
    EvidenceStore,
    LocalKeyProvider,
    Marks,
    collect,
    digest_bytes,
)
from cognify_dagster.evidence._remote import RemoteFolder

pytestmark = pytest.mark.xdist_group("s3")
CLASSES = ("public", "internal", "confidential", "personal")
BUCKET = "evidence"
PART = 5 << 20
_number = itertools.count()


@pytest.fixture(scope="module")
def bucket(s3_admin: Any) -> Any:
    s3_admin.create_bucket(Bucket=BUCKET)
    return s3_admin


@pytest.fixture
def prefix() -> str:
    return f"case-{next(_number)}"


@pytest.fixture
def url(bucket: Any, s3_access: str, prefix: str) -> str:
    return f"s3://{BUCKET}/{prefix}"


@pytest.fixture
def remote(url: str, kek: LocalKeyProvider) -> EvidenceStore:
    return EvidenceStore(url, keys=kek)


def objects(bucket: Any, prefix: str) -> dict[str, bytes]:
    """What really lies there, asked for without our code."""
    found = bucket.list_objects_v2(Bucket=BUCKET, Prefix=prefix + "/").get("Contents", [])
    return {
        item["Key"].removeprefix(prefix + "/"): bucket.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        for item in found
    }


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_round_trip(remote: EvidenceStore, bucket: Any, prefix: str, tmp_path: Path, sensitivity: Any) -> None:
    source = tmp_path / "source"
    for data in (b"", b"x", os.urandom(3 << 20)):
        source.write_bytes(data)
        ref = remote.put(source, media_type="text/plain", sensitivity=sensitivity)
        assert remote.put(data, media_type="text/plain", sensitivity=sensitivity) == ref
        assert remote.get(ref) == remote.get(ref.digest) == data
        assert remote.exists(ref)
        assert remote.copy_to(ref, tmp_path / f"copy-{len(data)}").read_bytes() == data
        stored = objects(bucket, prefix)
        plain = f"blobs/sha256/{ref.digest[7:9]}/{ref.digest[9:]}"
        assert (plain in stored) is (sensitivity in ("public", "internal"))
        if data and plain not in stored:
            assert not any(data in held for held in stored.values()) or len(data) < 32, "nothing in the clear"
    assert len(remote.list_digests()) == 3


@pytest.mark.parametrize("sensitivity", CLASSES)
def test_what_does_not_have_its_digest_is_refused(
    remote: EvidenceStore, bucket: Any, prefix: str, sensitivity: Any
) -> None:
    ref = remote.put(b"content", media_type="text/plain", sensitivity=sensitivity)
    (name, original), *_ = ((name, data) for name, data in objects(bucket, prefix).items() if "keys/" not in name)
    for damaged in (b"", original[:-1], original + b"x", b"X" + original[1:]):
        bucket.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=damaged)
        with pytest.raises(EvidenceCorrupt):
            remote.get(ref)
        with pytest.raises(EvidenceCorrupt):
            remote.put(b"content", media_type="text/plain", sensitivity=sensitivity)
    bucket.delete_object(Bucket=BUCKET, Key=f"{prefix}/{name}")
    with pytest.raises(EvidenceMissing, match="s3://"):
        remote.get(ref)


def test_classes_do_not_mix_and_another_key_opens_nothing(remote: EvidenceStore, url: str, tmp_path: Path) -> None:
    remote.put(b"same", media_type="text/plain")
    with pytest.raises(EvidenceConflict):
        remote.put(b"same", media_type="text/plain", sensitivity="personal")
    ref = remote.put(b"secret", media_type="text/plain", sensitivity="personal")
    with pytest.raises(EvidenceKeyUnavailable):
        EvidenceStore(url, keys=LocalKeyProvider.create(tmp_path / "other")).get(ref)


def test_erasure_leaves_ciphertext_without_a_key(remote: EvidenceStore, bucket: Any, prefix: str) -> None:
    ref = remote.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert remote.erase_key(ref.digest) is True
    assert [name.partition("/")[0] for name in objects(bucket, prefix)] == ["sealed"]
    with pytest.raises(EvidenceKeyErased):
        remote.get(ref)
    with pytest.raises(EvidenceKeyErased):
        remote.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert remote.erase_key(ref.digest) is False


def test_a_bucket_with_versions_takes_no_keys_but_takes_blobs(
    bucket: Any, s3_access: str, kek: LocalKeyProvider, url: str, prefix: str
) -> None:
    bucket.create_bucket(Bucket="versions")
    bucket.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(EvidenceError, match="keys_root"):
        EvidenceStore("s3://versions/e", keys=kek).put(b"secret", media_type="text/plain", sensitivity="personal")
    apart = EvidenceStore("s3://versions/e", keys=kek, keys_root=url)
    ref = apart.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert apart.get(ref) == b"secret"
    assert list(objects(bucket, prefix)) == [f"{ref.digest[7:]}.cose"], "the key alone lies apart"
    assert apart.erase_key(ref.digest) is True
    with pytest.raises(EvidenceKeyErased):
        apart.get(ref)


def test_blobs_under_object_lock_are_written_read_and_erased(
    bucket: Any, s3_access: str, kek: LocalKeyProvider, url: str
) -> None:
    bucket.create_bucket(Bucket="locked-evidence", ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    bucket.put_object_lock_configuration(
        Bucket="locked-evidence", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    store = EvidenceStore("s3://locked-evidence/e", keys=kek, keys_root=url)
    ref = store.put(b"personal", media_type="text/plain", sensitivity="personal")
    assert store.get(ref) == b"personal"
    assert store.erase_key(ref.digest) is True  # lock and erasure coexist: the key lies elsewhere
    with pytest.raises(EvidenceKeyErased):
        store.get(ref)


def test_writers_at_once_keep_one_blob_and_one_key(url: str, tmp_path: Path, kek: LocalKeyProvider) -> None:
    def put(number: int) -> str:
        store = EvidenceStore(url, keys=LocalKeyProvider(tmp_path / "kek"))
        digests = [
            store.put(f"{name}".encode() * 1000, media_type="text/plain", sensitivity=CLASSES[name % 4]).digest
            for name in range(6)
        ]
        return ",".join(digests)

    with ThreadPoolExecutor(6) as pool:
        (digests,) = set(pool.map(put, range(6)))
    store = EvidenceStore(url, keys=kek)
    assert store.list_digests() == sorted(digests.split(","))
    for digest in store.list_digests():
        store.verify(digest)


# --- uploads that break off ---


def uploads(bucket: Any) -> list[Any]:
    found: list[Any] = bucket.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return found


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send files of 10 MiB and more in parts of 5 MiB; without this it begins at 100 MiB."""
    import s3fs

    real = s3fs.S3FileSystem._put_file

    async def put_file(self: Any, lpath: str, rpath: str, **options: Any) -> Any:
        return await real(self, lpath, rpath, **{**options, "chunksize": PART})

    s3fs.S3FileSystem.clear_instance_cache()  # one that was made before would keep its own
    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", put_file)


def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(2 * PART + 1000))
    return path


@pytest.mark.usefixtures("in_parts")
def test_a_large_file_travels_in_parts(remote: EvidenceStore, bucket: Any, prefix: str, tmp_path: Path) -> None:
    ref = remote.put(large(tmp_path), media_type="application/octet-stream")
    remote.verify(ref)
    (item,) = bucket.list_objects_v2(Bucket=BUCKET, Prefix=prefix + "/")["Contents"]
    assert item["ETag"].strip('"').endswith("-3"), "it was one upload of three parts"


@pytest.mark.usefixtures("in_parts")
def test_an_upload_that_breaks_off_leaves_nothing(
    remote: EvidenceStore, bucket: Any, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    real = s3fs.S3FileSystem._call_s3

    async def call(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        if method == "upload_part" and options["PartNumber"] == 2:
            assert objects(bucket, prefix) == {}, "nothing is seen before it is complete"
            raise ConnectionResetError("the connection was cut")
        return await real(self, method, *arguments, **options)

    path = large(tmp_path)
    monkeypatch.setattr("cognify_dagster.evidence._remote._ATTEMPTS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_call_s3", call)
        with pytest.raises(EvidenceError, match="the connection was cut"):
            remote.put(path, media_type="application/octet-stream")
    assert objects(bucket, prefix) == {}
    assert uploads(bucket) == []
    assert remote.list_digests() == []
    remote.verify(remote.put(path, media_type="application/octet-stream"))


CHILD = """
import os, sys
import s3fs
from cognify_dagster.evidence import EvidenceStore
real_put, real_call = s3fs.S3FileSystem._put_file, s3fs.S3FileSystem._call_s3
async def put_file(self, lpath, rpath, **options):
    return await real_put(self, lpath, rpath, **{**options, "chunksize": 5 << 20})
async def call(self, method, *arguments, **options):
    if method == "complete_multipart_upload":
        print("sent", flush=True)
        os.kill(os.getpid(), 9)
    return await real_call(self, method, *arguments, **options)
s3fs.S3FileSystem._put_file, s3fs.S3FileSystem._call_s3 = put_file, call
EvidenceStore(sys.argv[1], keys=None).put(__import__("pathlib").Path(sys.argv[2]), media_type="text/plain")
"""


def test_a_process_killed_before_the_last_request_leaves_nothing_that_is_seen(
    remote: EvidenceStore, url: str, bucket: Any, prefix: str, tmp_path: Path
) -> None:
    path = large(tmp_path)
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, url, str(path)],
        env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (-signal.SIGKILL, "sent\n"), ran.stderr
    assert objects(bucket, prefix) == {}
    assert remote.list_digests() == []
    ref = remote.put(path, media_type="application/octet-stream")
    assert remote.exists(ref)
    remote.verify(ref)
    for item in uploads(bucket):  # what the lifecycle rule of a bucket does
        bucket.abort_multipart_upload(Bucket=BUCKET, Key=item["Key"], UploadId=item["UploadId"])


def test_a_server_that_is_gone_is_an_error_that_names_the_object(
    bucket: Any, kek: LocalKeyProvider, s3_access: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("cognify_dagster.evidence._remote._ATTEMPTS", 1)
    options = {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1}}
    store = EvidenceStore(f"s3://{BUCKET}/gone", keys=kek, storage_options=options)
    store._blobs._fs.retries = 1  # type: ignore[attr-defined]
    with pytest.raises(EvidenceError, match=f"s3://{BUCKET}/gone/"):
        store.put(b"x", media_type="text/plain")


# --- garbage collection and hold ---

GRACE = 10 * 86_400.0


def after(days: float, store: EvidenceStore, *live: str, **options: Any) -> Any:
    marks = Marks(frozenset(live or {"sha256:" + "0" * 64}), **options)
    return collect(store, lambda: marks, grace_s=GRACE, now=time.time() + days * 86_400)


def test_an_orphan_goes_in_two_steps_and_what_is_named_or_held_stays(
    remote: EvidenceStore, bucket: Any, prefix: str
) -> None:
    named, orphan, held = (remote.put(text, media_type="text/plain").digest for text in (b"named", b"orphan", b"held"))
    sealed = remote.put(b"secret", media_type="text/plain", sensitivity="personal").digest
    keep = {"held": frozenset({held})}
    assert after(9, remote, named, **keep).kept == 4
    first = after(11, remote, named, **keep)
    assert sorted(first.moved) == sorted([orphan, sealed])
    assert remote.list_digests() == sorted([named, held])
    assert after(9, remote, named, **keep).removed == ()  # it is young again, in the trash
    assert after(30, remote, named, frozen="a hold on everything").removed == ()
    second = after(30, remote, named, **keep)
    assert sorted(second.removed) == sorted([orphan, sealed])
    assert not [name for name in objects(bucket, prefix) if name.startswith("trash/")]
    assert (remote.get(named), remote.get(held)) == (b"named", b"held")


def test_what_is_named_after_all_comes_back(remote: EvidenceStore) -> None:
    orphan = remote.put(b"late", media_type="text/plain").digest
    sealed = remote.put(b"late secret", media_type="text/plain", sensitivity="personal").digest
    assert len(after(11, remote).moved) == 2
    with pytest.raises(EvidenceMissing):
        remote.get(orphan)
    assert sorted(after(100, remote, orphan, sealed).restored) == sorted([orphan, sealed])
    assert (remote.get(orphan), remote.get(sealed)) == (b"late", b"late secret")


def test_a_collection_that_is_cut_off_loses_nothing(remote: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = remote.put(b"cut", media_type="text/plain").digest
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "delete", lambda self, name: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            after(11, remote)  # copied to the trash, not yet removed
    assert remote.get(orphan) == b"cut"
    assert after(11, remote, orphan).restored == (orphan,)
    assert remote.get(orphan) == b"cut"


def test_wrong_digests_never_reach_the_server(remote: EvidenceStore) -> None:
    for digest in ("sha256:" + "g" * 64, "../" + "0" * 64, digest_bytes(b"x")[:-1]):
        with pytest.raises(EvidenceError):
            remote.get(digest)
