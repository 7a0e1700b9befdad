"""Many processes on one ledger, killed at any moment: no gap, no fork, no lost acknowledgement, no false alarm."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from cognify_dagster.ledger import Ledger, LogSigner, SqliteStore, TrustFile, new_secret

ORIGIN = "bank.example/demo/processes"
ROOT = Path(__file__).parents[2]


def start(path: Path, name: str, count: int, mode: str = "plain") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ledger.writer", str(path), name, str(count), mode]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


def acknowledged(process: subprocess.Popen[str]) -> list[tuple[int, str]]:
    output, _ = process.communicate(timeout=120)
    lines = output.split("\n")[:-1]  # a killed process may leave half a line behind: that one was not acknowledged
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


def test_eight_writer_processes_leave_one_contiguous_chain(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteStore.create(path, ORIGIN)
    processes = [start(path, f"w{n}", 12) for n in range(8)]
    acks = [acknowledged(process) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    seqs = sorted(seq for ack in acks for seq, _ in ack)
    assert seqs == list(range(96))
    view = Ledger(SqliteStore(path)).view()
    leaves = {item.entry.seq: item.entry.leaf.hex() for item in view.entries}
    assert all(leaves[seq] == leaf for ack in acks for seq, leaf in ack)
    assert len(view.history("model/shared")) == 96
    assert all(len(view.history(f"model/w{n}")) == 12 for n in range(8))
    assert Ledger(SqliteStore(path)).verify().level == "L0"


def test_processes_that_sign_at_once_raise_no_false_alarm(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteStore.create(path, ORIGIN)
    new_secret(tmp_path / "log.key")
    processes = [start(path, f"s{n}", 8, "sign") for n in range(4)]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert (process.returncode, error) == (0, "")
    signer = LogSigner(tmp_path / "log.key", tmp_path / "signer.json", ORIGIN)
    ledger = Ledger(SqliteStore(path), signer=signer)
    ledger.sign_checkpoint()
    report = ledger.verify(TrustFile((signer.verifier,), ledger.view(1).entries[0].entry.leaf))
    assert (report.level, report.findings, report.uncovered) == ("L1", (), 0)


def test_killed_writers_lose_nothing_they_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteStore.create(path, ORIGIN)
    acked: dict[int, str] = {}
    dice = random.Random(7)
    for round_number in range(4):
        processes = [start(path, f"r{round_number}x{n}", 10_000) for n in range(2)]
        deadline = time.monotonic() + 20
        before = SqliteStore(path).size()
        while SqliteStore(path).size() < before + 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(dice.random() * 0.1)
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        for process in processes:
            acked.update(acknowledged(process))
        ledger = Ledger(SqliteStore(path))
        view = ledger.view()  # raises if the chain, a head or a payload is broken
        stored = {item.entry.seq: item.entry.leaf.hex() for item in view.entries}
        assert acked.items() <= stored.items()
    print(f"{len(acked)} acknowledged before 8 kills, none lost, {len(stored)} stored")
    assert len(acked) > 20
    assert Ledger(SqliteStore(path)).verify().findings == ()


def test_an_append_killed_before_its_answer_is_found_by_its_key(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteStore.create(path, ORIGIN)
    first = acknowledged(start(path, "again", 5))
    assert acknowledged(start(path, "again", 5)) == first
    assert SqliteStore(path).size() == 5
