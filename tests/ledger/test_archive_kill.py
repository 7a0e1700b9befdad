"""SIGKILL at any moment of exporting, detaching, attaching and backing up: nothing is lost and the next run goes on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from cognify_dagster.ledger import Ledger, SqliteStore, TrustFile
from cognify_dagster.ledger.archive.detaching import ArchivedStore
from tests.ledger.archive_world import ORIGIN, fill, log_key, opened

ROUNDS = int(os.environ.get("COGNIFY_KILL_ROUNDS", "5"))


def test_a_killed_archiver_loses_nothing(tmp_path: Path) -> None:
    store = SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN)
    fill(store, 520)
    known: dict[int, bytes] = {row.seq: row.leaf for row in store.entries(0, 520)}
    chance = random.Random(7)
    for _ in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ledger.archiver", str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.8))
        process.kill()
        process.wait()
        process.stdout.close()
        store = SqliteStore(tmp_path / "ledger.sqlite")
        archives = [opened(path) for path in sorted(tmp_path.glob("segment-*"))]
        whole = ArchivedStore(store, archives)
        for row in whole.entries(0, whole.size()):
            assert known.setdefault(row.seq, row.leaf) == row.leaf
        assert all(payload.data is not None for payload in whole.payloads(0, whole.size()))
        assert set(known) == set(range(whole.size()))
        report = Ledger(whole).verify(TrustFile((log_key(),), None))
        assert report.findings == (), report.findings
        if (tmp_path / "backup.sqlite").exists():
            assert Ledger(SqliteStore(tmp_path / "backup.sqlite")).verify().findings == ()
