"""A ledger with real witness processes' code behind HTTP: cosigned heads reach L2, a quorum that is not met proves nothing more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import (
    Checkpoint,
    Ledger,
    LogSigner,
    Outcome,
    RolledBack,
    SqliteStore,
    TrustFile,
    VerifierKey,
    new_secret,
    sign_note,
)
from cognify_dagster.ledger.quorum import evaluate
from cognify_dagster.ledger.verification.verify import Anchored
from cognify_dagster.ledger.witness import Remote, Verdict, Witness, WitnessKey, WitnessServer, WitnessStore
from tests.ledger.test_store import ORIGIN, Clock, draft
from tests.ledger.test_verify import path_of


@contextmanager
def witness(folder: Path, name: str, log: VerifierKey) -> Iterator[Remote]:
    """A witness that knows one log, served on a free local port."""
    key = WitnessKey.create(folder / f"{name}.key", f"witness.example/{name}")
    store = WitnessStore.create(folder / f"{name}.sqlite", str(key.verifier))
    server = WitnessServer(Witness(store, key, [log]), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Remote(name, key.verifier, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Ledger, TrustFile]]:
    new_secret(tmp_path / "log.key")
    signer = LogSigner(tmp_path / "log.key", tmp_path / "signer.json", ORIGIN)
    store = SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN)
    with witness(tmp_path, "audit", signer.verifier) as audit, witness(tmp_path, "risk", signer.verifier) as risk:
        ledger = Ledger(store, signer=signer, clock_us=Clock(), witnesses=[audit, risk])
        for number in range(5):
            ledger.append(draft(number))
        trust = TrustFile(
            (signer.verifier,),
            None,
            (("audit", audit.key), ("risk", risk.key)),
            (("both", 2, ("audit", "risk")),),
            "both",
        )
        yield ledger, trust


def test_a_cosigned_head_reaches_level_two(world: tuple[Ledger, TrustFile]) -> None:
    ledger, trust = world
    note = ledger.sign_checkpoint()
    assert evaluate(trust, note).met
    report = ledger.verify(trust)
    assert (report.outcome, report.level, report.witnessed_size, report.uncovered) == (Outcome.HOLDS, "L2", 5, 0)
    assert ledger.latest_checkpoint() == note, "the note with the most signatures is the one handed out"
    assert evaluate(trust, ledger.proof_file(2).checkpoint_note).met


def test_what_is_younger_than_the_witnessed_head_is_the_exposure_window(world: tuple[Ledger, TrustFile]) -> None:
    ledger, trust = world
    ledger.sign_checkpoint()
    ledger.append(draft(7))
    ledger.append(draft(8))
    ledger.witnesses = ()
    ledger.sign_checkpoint()
    report = ledger.verify(trust)
    assert (report.level, report.signed_size, report.witnessed_size, report.uncovered) == ("L2", 7, 5, 2)
    first = next(iter(ledger.store.entries(5, 6)))
    assert report.exposed_since_us == first.time_us


def test_without_the_quorum_that_the_trust_file_asks_for_nothing_is_proven(world: tuple[Ledger, TrustFile]) -> None:
    ledger, trust = world
    ledger.witnesses = ledger.witnesses[:1]
    ledger.sign_checkpoint()
    report = ledger.verify(trust)
    assert report.outcome is Outcome.UNPROVEN
    assert "no checkpoint carries the witness quorum 'both'" in str(report.findings[0])
    any_of = replace(trust, groups=(("both", 1, ("audit", "risk")),))
    assert ledger.verify(any_of).level == "L2"


def test_a_rewrite_with_the_stolen_log_key_is_refused_by_witnesses_and_found(
    world: tuple[Ledger, TrustFile], tmp_path: Path
) -> None:
    """Attack 14: level 1 alone would accept it, and says so."""
    ledger, trust = world
    kept = ledger.sign_checkpoint()
    forged_store = SqliteStore.create(tmp_path / "forged.sqlite", ORIGIN)
    thief = LogSigner(tmp_path / "log.key", tmp_path / "thief.json", ORIGIN)
    forged = Ledger(forged_store, signer=thief, clock_us=Clock(), witnesses=ledger.witnesses)
    for number in range(6):
        forged.append(draft(100 + number))
    forged.sign_checkpoint()
    assert {finding.verdict for finding in forged.witnessing} == {Verdict.FORKED}
    verifier = Ledger(SqliteStore(path_of(forged)))
    level_one = TrustFile(trust.logs, None)
    assert verifier.verify(level_one).outcome is Outcome.HOLDS
    assert verifier.verify(trust).outcome is Outcome.UNPROVEN
    assert verifier.verify(level_one, remembered=[("the auditor's copy", kept)]).outcome is Outcome.ROLLED_BACK


def test_a_witness_out_of_reach_is_reported_and_does_not_stop_the_ledger(world: tuple[Ledger, TrustFile]) -> None:
    ledger, trust = world
    gone = Remote("risk", ledger.witnesses[1].key, "http://127.0.0.1:9")
    ledger.witnesses = (ledger.witnesses[0], gone)
    note = ledger.sign_checkpoint()
    assert [finding.verdict for finding in ledger.witnessing] == [Verdict.COSIGNED, Verdict.FAILED]
    assert not evaluate(trust, note).met


def test_an_anchored_head_reaches_level_three(world: tuple[Ledger, TrustFile]) -> None:
    ledger, trust = world
    ledger.sign_checkpoint()
    head = Checkpoint(ORIGIN, 5, ledger.root(5))
    report = ledger.verify(trust, anchored=[Anchored("the time stamp", head, "2026-11-21T10:00:00Z")])
    assert (report.level, report.anchored_size, report.anchored_at) == ("L3", 5, "2026-11-21T10:00:00Z")
    other = Checkpoint(ORIGIN, 5, bytes(32))
    report = ledger.verify(trust, anchored=[Anchored("the time stamp", other, None)])
    assert report.outcome is Outcome.ROLLED_BACK


def test_an_anchor_alone_does_not_replace_a_signature(world: tuple[Ledger, TrustFile]) -> None:
    ledger, trust = world
    head = Checkpoint(ORIGIN, 5, ledger.root(5))
    report = ledger.verify(trust, anchored=[Anchored("a folder", head, None)])
    assert (report.outcome, report.level) == (Outcome.UNPROVEN, "L0")


def test_two_log_keys_sign_while_a_rotation_overlaps(tmp_path: Path) -> None:
    new_secret(tmp_path / "old.key")
    new_secret(tmp_path / "new.key")
    both = LogSigner([tmp_path / "old.key", tmp_path / "new.key"], tmp_path / "signer.json", ORIGIN)
    ledger = Ledger(SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN), signer=both, clock_us=Clock())
    ledger.append(draft(1))
    ledger.sign_checkpoint()
    old, new = both.verifiers
    assert ledger.verify(TrustFile((old,), None)).outcome is Outcome.HOLDS
    assert ledger.verify(TrustFile((new,), None)).outcome is Outcome.HOLDS
    later = Ledger(ledger.store, signer=LogSigner(tmp_path / "new.key", tmp_path / "signer.json", ORIGIN))
    later.append(draft(2))
    later.sign_checkpoint()
    report = Ledger(ledger.store).verify(TrustFile((old, new), None))
    assert (report.outcome, report.signed_size) == (Outcome.HOLDS, 2)


def test_a_revoked_log_key_counts_up_to_its_last_good_size_and_only_where_somebody_outside_remembers(
    tmp_path: Path,
) -> None:
    """Attack 23."""
    new_secret(tmp_path / "log.key")
    signer = LogSigner(tmp_path / "log.key", tmp_path / "signer.json", ORIGIN)
    ledger = Ledger(SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN), signer=signer, clock_us=Clock())
    for number in range(3):
        ledger.append(draft(number))
    ledger.sign_checkpoint()
    facts = {"vkey": str(signer.verifier), "last_good_size": 3, "reason": "stolen"}
    ledger.append(draft(3, kind="log_key_revoked", facts=facts))
    ledger.sign_checkpoint()  # by the revoked key, beyond its last good size
    trust = TrustFile((signer.verifier,), None)
    report = Ledger(ledger.store).verify(trust)
    assert (report.outcome, report.signed_size) == (Outcome.UNPROVEN, 0)
    assert any("does not count" in note for note in report.notes)
    head = Checkpoint(ORIGIN, 3, ledger.root(3))
    report = Ledger(ledger.store).verify(trust, anchored=[Anchored("the time stamp", head, "2026-01-01T00:00:00Z")])
    assert (report.level, report.signed_size, report.uncovered) == ("L3", 3, 1)


def test_a_stranger_cannot_revoke_a_key_by_naming_it_wrongly(tmp_path: Path) -> None:
    new_secret(tmp_path / "log.key")
    signer = LogSigner(tmp_path / "log.key", tmp_path / "signer.json", ORIGIN)
    ledger = Ledger(SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN), signer=signer, clock_us=Clock())
    stranger = VerifierKey(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    ledger.append(draft(0, kind="log_key_revoked", facts={"vkey": str(stranger), "last_good_size": 0}))
    ledger.append(draft(1, kind="log_key_revoked", facts={"vkey": 5, "last_good_size": "x"}))
    ledger.sign_checkpoint()
    assert ledger.verify(TrustFile((signer.verifier,), None)).outcome is Outcome.HOLDS


def test_nothing_is_appended_where_the_guard_refuses(tmp_path: Path) -> None:
    def refuse() -> None:
        raise RolledBack("restore first")

    ledger = Ledger(SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN), clock_us=Clock(), guard=refuse)
    with pytest.raises(RolledBack):
        ledger.append(draft(1))
    with pytest.raises(RolledBack):
        ledger.append_many([draft(1)])
    assert ledger.size() == 0


def test_a_note_signed_for_another_ledger_under_this_key_is_a_finding(world: tuple[Ledger, TrustFile]) -> None:
    ledger, trust = world
    ledger.sign_checkpoint()
    stranger = Ed25519PrivateKey.generate()
    note = sign_note(Checkpoint("bank.example/x", 5, bytes(32)).text(), "bank.example/x", stranger)
    report = ledger.verify(trust, remembered=[("a slip of paper", note)])
    assert report.outcome is Outcome.UNREADABLE
