"""Killed writers and full disks: what was acknowledged is there, what was not left nothing, and the ledger verifies."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.evidence import EvidenceDiskFull
from cognify_dagster.ledger import LedgerFull, Outcome
from cognify_dagster.ledger.sqlite.connection import close_all
from cognify_dagster.records import ModelRegistered
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.workspace.conftest import register

WRITER = """
import sys
from cognify_dagster.records import ModelRegistered
from cognify_dagster.workspace import Workspace, idempotency_key
workspace, start = Workspace.open(sys.argv[1]), int(sys.argv[2])
for number in range(start, start + 100_000):
    record = ModelRegistered(model=f"m{number}", owner="o", risk_tier="low")
    seq = workspace.append(record, idem=idempotency_key(number), checkpoint=number % 3 == 0).seq
    print(number, seq, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_it_acknowledged(folder: Path) -> None:
    acknowledged: dict[str, int] = {}
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(attempt * 1_000_000)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()  # it runs; now kill it at a moment that differs each time
        time.sleep(0.01 + attempt * 0.037)
        process.send_signal(signal.SIGKILL)
        for line in [first, *process.stdout.read().splitlines()]:
            if len(parts := line.split()) == 2:
                acknowledged[f"m{parts[0]}"] = int(parts[1])
        process.wait()
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL
    workspace = Workspace.open(folder)
    stored = {item.record.model: item.seq for item in workspace.read().all(ModelRegistered)}
    assert len(acknowledged) > 6
    assert acknowledged.items() <= stored.items()
    workspace.append(register("after"), idem=idempotency_key("after"), checkpoint=True)
    report = workspace.ledger.verify(workspace.trust())
    assert report.outcome is Outcome.HOLDS
    assert report.uncovered == 0


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode()}")
    try:
        yield folder
    finally:
        gc.collect()  # what is kept open, a connection or the signer's state, would keep the filesystem busy
        close_all()
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no free block; return the file that fills the disk."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as stream:
        for size in (65_536, 4_096):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue
    return path


def test_a_full_disk_under_the_ledger_appends_nothing_and_says_so(tiny_disk: Path, template: Path) -> None:
    folder = Path(shutil.copytree(template, tiny_disk / "project"))
    workspace = Workspace.open(folder)
    ballast = fill(tiny_disk)
    done = 0

    def append_until_full() -> None:
        nonlocal done
        for number in range(1000):
            workspace.append(register(f"m{number}"), idem=idempotency_key(number))
            done += 1

    with pytest.raises(LedgerFull, match=r"ledger\.sqlite.*nothing was appended"):
        append_until_full()
    assert len(workspace.read().all(ModelRegistered)) == done
    ballast.unlink()
    for number in range(done + 1):  # the same steps again: what is there stays, the rest is added
        workspace.append(register(f"m{number}"), idem=idempotency_key(number), checkpoint=True)
    assert len(workspace.read().all(ModelRegistered)) == done + 1
    assert workspace.ledger.verify(workspace.trust()).outcome is Outcome.HOLDS


def test_a_disk_that_is_full_when_the_checkpoint_is_signed_keeps_the_entry(tiny_disk: Path, template: Path) -> None:
    """The ledger lies on a disk with space, the signer's state on the full one."""
    project = Path(shutil.copytree(template, tiny_disk / "project"))
    ledger = tiny_disk.parent / "ledger.sqlite"
    shutil.move(project / ".cognify" / "ledger.sqlite", ledger)
    config = project / "cognify.toml"
    config.write_text(config.read_text() + f'ledger = "{ledger}"\n')
    workspace = Workspace.open(project)
    ballast = fill(tiny_disk)
    with pytest.raises(LedgerFull, match=r"entry 1 is kept.*No space"):
        workspace.append(register(), idem=idempotency_key("x"), checkpoint=True)
    ballast.unlink()
    assert workspace.append(register(), idem=idempotency_key("x"), checkpoint=True).duplicate
    report = workspace.ledger.verify(workspace.trust())
    assert report.outcome is Outcome.HOLDS
    assert report.uncovered == 0


@pytest.mark.parametrize("sensitivity", ["internal", "personal"])
def test_a_full_disk_under_the_evidence_stores_nothing_and_says_so(
    tiny_disk: Path, template: Path, sensitivity: str
) -> None:
    folder = Path(shutil.copytree(template, tiny_disk / "project"))
    workspace = Workspace.open(folder)
    ballast = fill(tiny_disk)
    with pytest.raises(EvidenceDiskFull, match=str(tiny_disk)):
        workspace.put("large", os.urandom(200_000), "application/octet-stream", sensitivity)
    assert workspace.evidence.list_digests() == []
    ballast.unlink()
    item = workspace.put("small", b"x" * 1000, "application/octet-stream", sensitivity)
    assert workspace.evidence.get(item.digest) == b"x" * 1000
    assert workspace.ledger.verify(workspace.trust()).outcome is Outcome.HOLDS
