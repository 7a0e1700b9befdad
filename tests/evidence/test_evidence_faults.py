"""Full disks, killed processes and several writers at once."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.evidence import EvidenceDiskFull, EvidenceError, EvidenceRef, EvidenceStore, LocalKeyProvider

SEALED = ["confidential", "personal"]
CLASSES = ["public", "internal", *SEALED]


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if not path.is_dir())


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("sensitivity", CLASSES)
@pytest.mark.parametrize("from_file", [False, True])
def test_a_really_full_disk(
    tiny_disk: Path, kek: LocalKeyProvider, tmp_path: Path, sensitivity: Any, from_file: bool
) -> None:
    root = tiny_disk / "evidence"
    store = EvidenceStore(root, keys=kek)
    first = store.put(b"small " + sensitivity.encode(), media_type="text/plain", sensitivity=sensitivity)
    before = [path for path in files(root) if path.parent.name != "keys"]
    large: bytes | Path = os.urandom(400_000)
    if from_file:
        (tmp_path / "source").write_bytes(large)  # type: ignore[arg-type]
        large = tmp_path / "source"
    with pytest.raises(EvidenceDiskFull, match=str(root)):
        store.put(large, media_type="text/plain", sensitivity=sensitivity)
    assert [path for path in files(root) if path.parent.name != "keys"] == before
    assert store.get(first) == b"small " + sensitivity.encode()
    assert store.list_digests() == [first.digest]
    # What was freed is usable again.
    assert store.get(store.put(b"after", media_type="text/plain", sensitivity=sensitivity)) == b"after"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "mkdir"])
@pytest.mark.parametrize("sensitivity", ["internal", "personal"])
def test_a_full_disk_at_every_call(
    store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch, sensitivity: Any, call: str, code: int
) -> None:
    real_write = os.write

    def fails(*args: Any, **kwargs: Any) -> Any:
        if call == "write" and len(args[1]) > 1:
            return real_write(args[0], args[1][: len(args[1]) // 2])
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(EvidenceDiskFull, match=str(root)):
            store.put(b"content", media_type="text/plain", sensitivity=sensitivity)
    assert files(root) == []
    assert store.get(store.put(b"content", media_type="text/plain", sensitivity=sensitivity)) == b"content"


def test_a_full_disk_while_a_key_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fails)
        with pytest.raises(EvidenceDiskFull):
            LocalKeyProvider.create(tmp_path / "kek")
    assert files(tmp_path) == []


def test_short_writes_are_completed(store: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real_write(fd, data[:3]))
        ref = store.put(b"more than three bytes", media_type="text/plain")
    assert store.get(ref) == b"more than three bytes"


def test_other_failures_name_the_folder(store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(EvidenceError, match=str(root)):
            store.put(b"content", media_type="text/plain")
    assert files(root) == []


def test_a_filesystem_without_hard_links(store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fails)
        ref = store.put(b"content", media_type="text/plain")
        with pytest.raises(EvidenceError, match="hard links"):
            store.put(b"secret", media_type="text/plain", sensitivity="personal")
    assert store.get(ref) == b"content"
    assert len(files(root)) == 1


def test_content_and_names_are_flushed(store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real_fsync = os.fsync

    def record(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}"))
        real_fsync(fd)

    if not Path("/proc/self/fd").exists():
        pytest.skip("open files have no names to look at on this system")
    monkeypatch.setattr(os, "fsync", record)
    ref = store.put(b"content", media_type="text/plain")
    top = str(root / "blobs" / "sha256")
    folder = f"{top}/{ref.digest[7:9]}"
    assert {str(root.parent), str(root), str(root / "blobs"), top, folder} <= set(flushed)
    content = next(place for place, name in enumerate(flushed) if ".tmp-" in name)
    assert folder in flushed[content + 1 :], "the name is flushed after the content"
    flushed.clear()
    store.put(b"content", media_type="text/plain")
    assert folder in flushed, "success never rests on another writer having flushed the name"


# -- several processes ---------------------------------------------------------------------------------------


def _write_all(root: Path, kek: Path, barrier: Any, results: Any) -> None:
    store = EvidenceStore(root, keys=LocalKeyProvider(kek))
    barrier.wait(60)
    refs = []
    for number in range(40):
        sensitivity: Any = CLASSES[number % 4]
        data = f"{number}:".encode() * 500
        refs.append(store.put(data, media_type="text/plain", sensitivity=sensitivity))
        assert store.get(refs[-1]) == data
    results.put(refs)


def test_processes_that_write_the_same_evidence_at_once(tmp_path: Path, root: Path, kek: LocalKeyProvider) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_write_all, args=(root, tmp_path / "kek", barrier, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    answers: list[list[EvidenceRef]] = [results.get(timeout=90) for _ in workers]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert all(answer == answers[0] for answer in answers)
    store = EvidenceStore(root, keys=kek)
    for ref in answers[0]:
        store.verify(ref)
    assert store.list_digests() == sorted(ref.digest for ref in answers[0])
    assert len(files(root)) == 60, "40 blobs, 20 of them with a key, and no temporary files"


CHILD = """
import sys, os
from pathlib import Path
from cognify_dagster.evidence import EvidenceStore
store = EvidenceStore(Path(sys.argv[1]), keys=None)
number = 0
while True:
    data = number.to_bytes(8, "big") * (1 << 20)
    print(store.put(data, media_type="application/octet-stream").digest, flush=True)
    number += 1
"""


def test_a_killed_process_leaves_whole_blobs_only(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for pause in (0.02, 0.05):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip()]
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.read().split("\n")
        child.wait(30)
        store = EvidenceStore(root, keys=None)
        listed = store.list_digests()
        assert {digest for digest in acknowledged if len(digest) == 71} <= set(listed)
        for digest in listed:
            store.verify(digest)
    (root / "blobs" / "sha256" / "00").mkdir(exist_ok=True)
    (root / "blobs" / "sha256" / "00" / ".tmp-left").write_bytes(b"")
    assert store.remove_stale_temporaries(older_than_s=3600) == 0
    assert store.remove_stale_temporaries(older_than_s=-60) >= 1
    assert len(files(root)) == len(store.list_digests())
