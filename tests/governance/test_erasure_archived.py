"""An erasure of an entry that lies in an archive is finished after a crash: also what the database kept of its facts goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cognify_dagster.governance import erase, manifest_keys, manifest_signer, record_archived, resume_erasures
from cognify_dagster.ledger import Ledger, Outcome
from cognify_dagster.ledger.archive.detaching import ArchivedStore, detach_segment
from cognify_dagster.ledger.archive.export import export_archive
from cognify_dagster.ledger.archive.reader import open_archive
from cognify_dagster.ledger.verification import erasures
from cognify_dagster.records import VersionOpened
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.governance.conftest import founded, founded_template
from tests.governance.test_retention import signers, snapshot
from tests.governance.world import MODEL, World

__all__ = ["founded", "founded_template"]


def test_an_erasure_in_an_archive_is_finished(founded: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = founded.workspace
    seq, _ = snapshot(founded)
    while ws.ledger.size() < 257:
        number = str(ws.ledger.size())
        record = VersionOpened(model=MODEL, version=number, run="r", opened_by="person/ben")
        ws.append(record, idem=idempotency_key("fill", number))
    assert ws.ledger.signer is not None
    ws.ledger.sign_checkpoint()
    store, keys = ws.ledger.store, manifest_keys(ws.read())
    logs = list(ws.trust().logs)
    export_archive(store, tmp_path / "0", 0, 256, signer=manifest_signer(ws), log_keys=logs)
    archive = open_archive(tmp_path / "0", manifest_keys=keys, log_keys=logs, origin=ws.origin)
    detach_segment(store, archive, record_archived(ws))
    both = ArchivedStore(store, [archive])
    ledger = Ledger(both, signer=ws.ledger.signer)
    ws = Workspace(replace(ws.config), ledger, ws.evidence, ws.writer)

    def die(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "forget", die)
        with pytest.raises(KeyboardInterrupt):
            erase(ws, [seq], "Art. 17", signers(founded))
    monkeypatch.setattr(erasures, "PATIENCE_S", 0.0)
    report = ws.ledger.verify(ws.trust())
    assert (report.outcome, [item.seq for item in report.findings]) == (Outcome.UNPROVEN, [seq])
    assert "`cognify erase --resume`" in str(report.findings[0])
    assert resume_erasures(ws) == [seq]
    assert resume_erasures(ws) == []
    assert both.tombstones(seq, seq + 1)[0].facts_digest is None
    assert ws.ledger.verify(ws.trust()).findings == ()
