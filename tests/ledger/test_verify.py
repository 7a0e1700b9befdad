"""Full verification: a mutation matrix over every stored column, rollback, foreign rows, and what each level claims."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import (
    Checkpoint,
    Ledger,
    LedgerError,
    LedgerUnreadable,
    LogSigner,
    Outcome,
    SqliteStore,
    Tampered,
    TrustFile,
    VerifierKey,
    new_secret,
    sign_note,
)
from cognify_dagster.ledger.merkle import EMPTY_ROOT
from tests.ledger.drafts import ORIGIN, Clock, draft


def build(folder: Path, entries: int = 7) -> Ledger:
    new_secret(folder / "log.key")
    signer = LogSigner(folder / "log.key", folder / "signer.json", ORIGIN)
    ledger = Ledger(SqliteStore.create(folder / "ledger.sqlite", ORIGIN), signer=signer, clock_us=Clock())
    for number in range(entries):
        subjects = ("model/a", "policy") if number % 2 else ("model/a", "model/b")
        ledger.append(draft(number, subjects=subjects))
        if number == 2:
            ledger.sign_checkpoint()
    ledger.sign_checkpoint()
    return ledger


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return build(tmp_path_factory.mktemp("original"))


def trust_of(ledger: Ledger) -> TrustFile:
    assert ledger.signer is not None
    return TrustFile((ledger.signer.verifier,), ledger.view(1).entries[0].entry.leaf)


def path_of(ledger: Ledger) -> Path:
    return Path(ledger.store.path)  # type: ignore[attr-defined]


def unlocked(path: Path) -> sqlite3.Connection:
    """Open a ledger file as its owner can: without triggers."""
    db = sqlite3.connect(path, isolation_level=None)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute("PRAGMA foreign_keys=OFF")
    return db


def outcome(path: Path, trust: TrustFile) -> Outcome:
    """Verify as an auditor does: no log key, the trust file from elsewhere."""
    try:
        return Ledger(SqliteStore(path)).verify(trust).outcome
    except LedgerUnreadable:
        return Outcome.UNREADABLE


def test_swapping_two_rows_is_caught(original: Ledger, tmp_path: Path) -> None:
    trust = trust_of(original)
    for table in ("entry", "payload"):
        path = tmp_path / f"{table}.sqlite"
        shutil.copy(path_of(original), path)
        db = unlocked(path)
        for old, new in ((2, 100), (3, 2), (100, 3)):
            db.execute(f"UPDATE {table} SET seq = ? WHERE seq = ?", (new, old))
        db.close()
        assert outcome(path, trust) is Outcome.TAMPERED


def test_findings_name_the_entry(original: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    shutil.copy(path_of(original), path)
    db = unlocked(path)
    data = db.execute("SELECT bytes FROM entry WHERE seq = 4").fetchone()[0]
    db.execute("UPDATE entry SET bytes = ? WHERE seq = 4", (data.replace(b"training_run", b"training_fun"),))
    db.close()
    report = Ledger(SqliteStore(path)).verify(trust_of(original))
    assert report.outcome is Outcome.TAMPERED
    assert report.level is None
    assert {finding.seq for finding in report.findings if finding.seq is not None} <= {4, 5}
    with pytest.raises(Tampered, match="entry 4"):
        Ledger(SqliteStore(path)).view()


def test_a_rewrite_with_recomputed_hashes_is_caught_by_the_checkpoint(original: Ledger, tmp_path: Path) -> None:
    """A consistent other history: only the signed head tells it apart."""
    forged = Ledger(SqliteStore.create(tmp_path / "forged.sqlite", ORIGIN), clock_us=Clock())
    for number in range(7):
        forged.append(draft(number, subjects=("model/a",)))
    assert forged.verify().level == "L0"
    assert forged.verify().outcome is Outcome.UNPROVEN
    for size, note in original.store.checkpoints():
        forged.store.add_checkpoint(size, note)
    report = forged.verify(trust_of(original))
    assert report.outcome is Outcome.ROLLED_BACK
    assert any("history was rewritten" in str(finding) for finding in report.findings)


def test_an_older_copy_is_caught_by_a_remembered_checkpoint(original: Ledger, tmp_path: Path) -> None:
    remembered = original.latest_checkpoint()
    assert remembered is not None
    path = tmp_path / "older.sqlite"
    shutil.copy(path_of(original), path)
    db = unlocked(path)
    for table in ("entry", "payload", "entry_subject"):
        db.execute(f"DELETE FROM {table} WHERE seq >= 5")
    db.execute("DELETE FROM checkpoint WHERE size > 5")
    db.execute("DELETE FROM node WHERE (idx + 1) << level > 5")
    db.close()
    trust = trust_of(original)
    older = Ledger(SqliteStore(path))
    assert older.verify(trust).outcome is Outcome.HOLDS  # alone it looks like an honest, shorter ledger …
    report = older.verify(trust, remembered=iter([("the auditor's note", remembered)]))
    assert report.outcome is Outcome.ROLLED_BACK  # … which is why heads are remembered elsewhere
    assert "entries 5..6 were cut off" in str(report.findings[0])


def test_the_trust_file_of_another_ledger_proves_nothing_and_disproves_nothing(original: Ledger) -> None:
    other = TrustFile((VerifierKey("somewhere.example/else", bytes(range(32))),), b"\1" * 32)
    report = Ledger(SqliteStore(path_of(original))).verify(other)
    assert report.outcome is Outcome.UNPROVEN
    assert report.level == "L0"
    assert report.signed_size == 0
    assert [str(item) for item in report.findings] == [
        f"the trust file is for the ledger somewhere.example/else, this one is {ORIGIN}"
    ]
    assert not report.notes


def test_what_still_holds_of_a_damaged_ledger_is_said_and_repeated_findings_are_one(tmp_path: Path) -> None:
    ledger = build(tmp_path / "l", 4)
    for number in range(4, 7):
        ledger.append(draft(number))
        ledger.sign_checkpoint()
    trust = trust_of(ledger)
    assert ledger.verify(trust).intact_size == 7
    db = unlocked(path_of(ledger))
    data = db.execute("SELECT bytes FROM entry WHERE seq = 3").fetchone()[0]
    db.execute("UPDATE entry SET bytes = ? WHERE seq = 3", (data.replace(b"training_run", b"training_fun"),))
    db.close()
    report = Ledger(SqliteStore(path_of(ledger))).verify(trust)
    assert report.outcome is Outcome.TAMPERED
    assert report.intact_size == 3, "the head over the first three entries still fits them"
    rewritten = [str(item) for item in report.findings if item.outcome is Outcome.ROLLED_BACK]
    assert len(rewritten) == 1
    assert "the first 4 entries" in rewritten[0]
    assert "(4 signed heads say so, of sizes 4 to 7)" in rewritten[0]


def test_a_cut_ledger_still_holds_up_to_the_newest_head_that_fits(original: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "cut.sqlite"
    shutil.copy(path_of(original), path)
    db = unlocked(path)
    for table in ("entry", "payload", "entry_subject"):
        db.execute(f"DELETE FROM {table} WHERE seq >= 5")
    db.execute("DELETE FROM node WHERE (idx + 1) << level > 5")
    db.close()
    report = Ledger(SqliteStore(path)).verify(trust_of(original))
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.intact_size == 3
    assert "the checkpoint of size 7 covers 7 entries, the ledger has 5: entries 5..6 were cut off" in str(
        report.findings[0]
    )


def test_an_older_copy_is_refused_by_the_signer(tmp_path: Path) -> None:
    ledger = build(tmp_path)
    backup = path_of(ledger).read_bytes()
    ledger.append(draft(50))
    ledger.sign_checkpoint()
    path_of(ledger).write_bytes(backup)
    with pytest.raises(Tampered, match="rolled back"):
        ledger.sign_checkpoint()
    assert ledger.verify(trust_of(ledger)).outcome is Outcome.ROLLED_BACK
    ledger.append(draft(51))  # regrown with other content
    with pytest.raises(Tampered, match="history was rewritten"):
        ledger.sign_checkpoint()
    assert ledger.verify(trust_of(ledger)).outcome is Outcome.ROLLED_BACK


def test_a_damaged_ledger_is_not_signed(tmp_path: Path) -> None:
    ledger = build(tmp_path)
    db = unlocked(path_of(ledger))
    db.execute("UPDATE entry SET leaf = x'00' WHERE seq = 6")
    db.close()
    with pytest.raises(Tampered, match="no checkpoint is signed"):
        ledger.sign_checkpoint()


def test_an_empty_ledger_can_be_signed_and_then_grow(tmp_path: Path) -> None:
    ledger = build(tmp_path, entries=0)
    assert ledger.signer is not None
    assert ledger.signer.last_signed() == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert ledger.verify(TrustFile((ledger.signer.verifier,), None)).outcome is Outcome.UNPROVEN
    ledger.append(draft(1))
    ledger.sign_checkpoint()
    assert ledger.verify(trust_of(ledger)).outcome is Outcome.HOLDS


def test_without_trust_or_checkpoint_nothing_is_proven(tmp_path: Path, original: Ledger) -> None:
    report = original.verify()
    assert (report.outcome, report.level) == (Outcome.UNPROVEN, "L0")
    fresh = Ledger(SqliteStore.create(tmp_path / "x.sqlite", ORIGIN), clock_us=Clock())
    fresh.append(draft(1))
    report = fresh.verify(trust_of(original))
    assert report.outcome is not Outcome.HOLDS
    assert report.uncovered == 1


def test_another_key_another_genesis_another_ledger(original: Ledger, tmp_path: Path) -> None:
    genesis = original.view(1).entries[0].entry.leaf
    stranger = Ed25519PrivateKey.generate()
    other = TrustFile((VerifierKey(ORIGIN, stranger.public_key().public_bytes_raw()),), genesis)
    assert original.verify(other).outcome is Outcome.TAMPERED
    assert original.verify(TrustFile(trust_of(original).logs, b"\0" * 32)).outcome is Outcome.ROLLED_BACK
    path = tmp_path / "x.sqlite"
    shutil.copy(path_of(original), path)
    head = Checkpoint("bank.example/other", 7, original.root(7))
    note = sign_note(head.text(), "bank.example/other", stranger)
    SqliteStore(path).add_checkpoint(7, note)
    assert Ledger(SqliteStore(path)).verify(trust_of(original)).outcome is Outcome.TAMPERED


def test_a_deleted_checkpoint_shows_as_uncovered_entries(original: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    shutil.copy(path_of(original), path)
    db = unlocked(path)
    db.execute("DELETE FROM checkpoint WHERE size = 7")
    assert Ledger(SqliteStore(path)).verify(trust_of(original)).uncovered == 4
    db.execute("DELETE FROM checkpoint")
    db.close()
    assert outcome(path, trust_of(original)) is Outcome.UNPROVEN


def test_uncovered_entries_are_counted(tmp_path: Path) -> None:
    ledger = build(tmp_path)
    ledger.append(draft(90))
    ledger.append(draft(91))
    report = ledger.verify(trust_of(ledger))
    assert (report.outcome, report.uncovered) == (Outcome.HOLDS, 2)


def test_a_payload_may_only_be_missing_with_an_erasure_entry(tmp_path: Path) -> None:
    ledger = build(tmp_path)
    with sqlite3.connect(path_of(ledger)) as db:
        db.execute("UPDATE payload SET bytes = NULL, salt = NULL, facts_digest = NULL WHERE seq = 3")
    report = ledger.verify(trust_of(ledger))
    assert (report.outcome, report.findings[0].seq) == (Outcome.TAMPERED, 3)
    erased = {"seq": 3, "basis": "Art. 17", "approved_by": "person/ada"}
    ledger.append(draft(70, facts=erased, kind="payload_erased", subjects=("erasures",)))
    ledger.sign_checkpoint()
    report = ledger.verify(trust_of(ledger))
    assert (report.outcome, report.erased) == (Outcome.HOLDS, 1)
    assert ledger.view().entries[3].payload is None


def test_proof_files_prove_every_covered_entry(original: Ledger) -> None:
    trust = trust_of(original)
    for item in original.view().entries:
        file = original.proof_file(item.entry.seq)
        assert file.verify(item.entry.leaf, trust.logs).size == 7
    with pytest.raises(LedgerError, match="no checkpoint covers"):
        original.proof_file(7)


def test_verification_while_others_append_raises_no_alarm(tmp_path: Path) -> None:
    ledger = build(tmp_path)
    trust = trust_of(ledger)
    store = ledger.store
    entries = store.entries

    def entries_while_appending(start: int, end: int) -> Any:
        ledger.append(draft(1000 + ledger.size()))
        return entries(start, end)

    store.entries = entries_while_appending  # type: ignore[method-assign]
    for _ in range(5):
        assert ledger.verify(trust).findings == ()


def test_the_signers_files_are_guarded(tmp_path: Path) -> None:
    ledger = build(tmp_path)
    key = tmp_path / "log.key"
    with pytest.raises(LedgerError, match="never overwritten"):
        new_secret(key)
    key.chmod(0o644)
    with pytest.raises(LedgerUnreadable, match="chmod 600"):
        LogSigner(key, tmp_path / "signer.json", ORIGIN)
    key.chmod(0o600)
    (tmp_path / "signer.json").write_text("{")
    with pytest.raises(LedgerUnreadable, match="state is damaged"):
        ledger.sign_checkpoint()
