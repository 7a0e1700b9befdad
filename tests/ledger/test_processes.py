"""Many processes that append and sign on one SQLite file raise no false alarm. What every store must do under many processes
and kills is in tests/conformance."""

from __future__ import annotations

from pathlib import Path

from cognify_dagster.ledger import Ledger, LogSigner, SqliteStore, TrustFile, new_secret
from tests.conformance.store_suite import start_writer

ORIGIN = "bank.example/demo/processes"


def test_processes_that_sign_at_once_raise_no_false_alarm(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteStore.create(path, ORIGIN)
    new_secret(tmp_path / "log.key")
    processes = [start_writer(str(path), f"s{n}", 8, "sign") for n in range(4)]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert (process.returncode, error) == (0, "")
    signer = LogSigner(tmp_path / "log.key", tmp_path / "signer.json", ORIGIN)
    ledger = Ledger(SqliteStore(path), signer=signer)
    ledger.sign_checkpoint()
    report = ledger.verify(TrustFile((signer.verifier,), ledger.view(1).entries[0].entry.leaf))
    assert (report.level, report.findings, report.uncovered) == ("L1", (), 0)
