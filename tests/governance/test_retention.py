"""Legal holds, retention and erasure: two people sign, holds and running periods refuse, decisions keep what they need."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from cognify_dagster.evidence import EvidenceKeyErased, collect
from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    ErasureRefused,
    Founder,
    GovernanceError,
    adopt_retention,
    due_items,
    erasable,
    erase,
    erasure_refusals,
    erasures,
    evidence_marks,
    found_workspace,
    holds,
    lift_hold,
    manifest_keys,
    manifest_signer,
    parse_policy,
    place_hold,
    record_archived,
    record_restored,
    resume_erasures,
    retention_list,
    schedule_in_force,
)
from cognify_dagster.governance.custody.erasure import ERASABLE_KINDS, PROTECTED_KINDS
from cognify_dagster.governance.custody.keeping import continue_ledger, continued_from
from cognify_dagster.governance.custody.retention import add_months
from cognify_dagster.ledger import Tampered
from cognify_dagster.ledger.archive.export import export_archive
from cognify_dagster.ledger.archive.reader import open_archive
from cognify_dagster.ledger.recovery.rollback import RestoreReport
from cognify_dagster.records import (
    DatasetSnapshot,
    LegalHoldLifted,
    LegalHoldPlaced,
    PayloadErased,
    RetentionAdopted,
    RetentionRule,
    TrainingFailed,
    kinds,
)
from tests.governance.world import MODEL, World

YEAR = timedelta(days=366)


def now(years: float = 0) -> datetime:
    return datetime.now(timezone.utc) + years * YEAR


def snapshot(world: World, name: str = "people", sensitivity: str = "personal") -> tuple[int, str]:
    """Record a snapshot whose profile holds personal data; return entry and digest."""
    item = world.workspace.put("profile.json", f'{{"names":["{name}"]}}'.encode(), "application/json", sensitivity)
    record = DatasetSnapshot(
        name=name, root="12" * 32, data_version="sha256:" + "12" * 32, file_count=1, total_bytes=1, profile=item,
        manifest=item,
    )  # fmt: skip
    return world.write(record), item.digest


def signers(world: World, *names: str) -> list[Any]:
    return [world.key(name) for name in names or ("carl", "ada")]


# --- erasure ---


def test_two_people_erase_and_chain_and_proofs_still_verify(founded: World) -> None:
    seq, digest = snapshot(founded)
    ws = founded.workspace
    root = ws.ledger.root(seq + 1)
    receipt = erase(ws, [seq], "Art. 17 GDPR", signers(founded), evidence=[digest])
    reading = ws.read()
    assert reading.view.entries[seq].payload is None
    assert reading.at(receipt.seq).record.approvers == ("person/ada", "person/carl")  # type: ignore[union-attr]
    assert [item.seqs for item in erasures(reading).valid] == [(seq,)]
    assert erasures(reading).problems == ()
    with pytest.raises(EvidenceKeyErased):
        ws.evidence.get(digest)
    report = ws.ledger.verify(ws.trust())
    assert (report.level, report.findings, report.erased) == ("L1", (), 1)
    assert ws.ledger.root(seq + 1) == root
    assert ws.read(seq + 1).view.entries[seq].payload is None  # also for a reader who stops before the erasure


def test_erasing_again_changes_nothing(founded: World) -> None:
    one, digest = snapshot(founded)
    two, _ = snapshot(founded, "more")
    first = erase(founded.workspace, [two, one, one], "Art. 17", signers(founded), evidence=[digest])
    size = founded.workspace.ledger.size()
    for seqs in ([one, two], [one]):
        again = erase(founded.workspace, seqs, "Art. 17", signers(founded))
        assert (again.seq, again.duplicate) == (first.seq, True)
    assert founded.workspace.ledger.size() == size


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("carl",), "2 different people"),
        (("carl", "carl"), "2 different people"),
        (("carl", "vera"), "may not do this"),
        ((), "2 different"),
    ],
)
def test_an_erasure_needs_two_people_with_the_right_roles(founded: World, names: tuple[str, ...], message: str) -> None:
    seq, _ = snapshot(founded)
    with pytest.raises(GovernanceError, match=message):
        erase(founded.workspace, [seq], "Art. 17", [founded.key(name) for name in names])
    assert founded.workspace.read().view.entries[seq].payload is not None


def test_what_decisions_depend_on_is_never_erasable(approved: World) -> None:
    ws = approved.workspace
    reading = ws.read()
    found = {item.entry.kind: item.entry.seq for item in reading.view.entries}
    checked = 0
    for kind, seq in found.items():
        if erasable(kind):
            continue
        checked += 1
        with pytest.raises(ErasureRefused, match="can never be erased"):
            erase(ws, [seq], "Art. 17", signers(approved), now=now(200))
    assert checked >= 8
    assert {"genesis", "person_enrolled", "sign_off", "package", "gate_set_adopted"} <= set(found)


def test_every_kind_is_said_to_be_erasable_or_not() -> None:
    assert not ERASABLE_KINDS & PROTECTED_KINDS
    assert set(kinds()) == ERASABLE_KINDS | PROTECTED_KINDS, (
        "say in erasure.py whether the new kind may hold personal data"
    )
    assert not erasable("no_such_kind")


def test_all_reasons_are_given_and_nothing_happens(founded: World) -> None:
    seq, digest = snapshot(founded)
    plain = founded.workspace.put("p.json", b"{}", "application/json")
    size = founded.workspace.ledger.size()
    with pytest.raises(ErasureRefused) as caught:
        erase(founded.workspace, [0, seq, 999], "x", signers(founded), evidence=[plain.digest, digest])
    text = str(caught.value)
    for part in ("entry 0 (genesis) can never", "there is no entry 999", "is not evidence of", "stored unencrypted"):
        assert part in text
    assert founded.workspace.ledger.size() == size
    assert founded.workspace.evidence.get(digest)


def test_evidence_that_another_entry_depends_on_is_not_destroyed(founded: World) -> None:
    seq, digest = snapshot(founded)
    founded.write(founded.workspace.read().at(seq).record.model_copy(update={"name": "other"}))  # type: ignore[union-attr]
    erase(founded.workspace, [seq], "Art. 17", signers(founded), evidence=[digest])  # the other one is erasable itself
    seq, digest = snapshot(founded, "again")
    other = founded.write(founded.workspace.read().at(seq).record.model_copy(update={"name": "third"}))  # type: ignore[union-attr]
    place_hold(founded.workspace, "case-1", by=founded.key("carl"), reason="suit", seqs=[other])
    with pytest.raises(ErasureRefused, match="case-1"):
        erase(founded.workspace, [seq], "Art. 17", signers(founded), evidence=[digest])


def test_a_crash_between_entry_and_destruction_is_resumed(founded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seq, digest = snapshot(founded)
    ws = founded.workspace

    class Killed(BaseException):
        pass

    def die(*_: Any) -> Any:
        raise Killed

    monkeypatch.setattr(ws.evidence, "erase_key", die)
    with pytest.raises(Killed):
        erase(ws, [seq], "Art. 17", signers(founded), evidence=[digest])
    monkeypatch.undo()
    assert ws.evidence.get(digest)
    size = ws.ledger.size()
    assert resume_erasures(ws) == []  # the payload had gone; the key goes now
    with pytest.raises(EvidenceKeyErased):
        ws.evidence.get(digest)
    assert ws.ledger.size() == size
    other, _ = snapshot(founded, "more")
    monkeypatch.setattr(ws.ledger.store, "erase", die)
    with pytest.raises(Killed):
        erase(ws, [other], "Art. 17", signers(founded))
    monkeypatch.undo()
    left = ws.ledger.verify(ws.trust())  # announced, not yet done: no tampering, but said
    assert [item.outcome.name for item in left.findings] == ["UNPROVEN"]
    assert resume_erasures(ws) == [other]
    assert resume_erasures(ws) == []


def test_a_workload_alone_erases_nothing(founded: World) -> None:
    """An erasure entry that nobody signed is reported, and resuming does not act on it."""
    seq, _ = snapshot(founded)
    bad = founded.write(PayloadErased(seq=seq, basis="because", approved_by="person/ada"))
    later = founded.write(PayloadErased(seq=999_999, basis="because", approved_by="person/ada"))
    reading = founded.workspace.read()
    assert [number for number, _ in erasures(reading).problems] == [bad, later]
    assert resume_erasures(founded.workspace) == []
    assert founded.workspace.read().view.entries[seq].payload is not None


def test_an_erasure_that_names_people_who_did_not_sign_does_not_count(founded: World) -> None:
    from cognify_dagster.governance.signing.acts import KEEPERS, sign_jointly

    seq, _ = snapshot(founded)
    record = PayloadErased(
        seq=seq, basis="b", approved_by="person/finn", approvers=("person/ada", "person/carl", "person/finn")
    )
    envelopes = sign_jointly(founded.workspace.read(), record, signers(founded), KEEPERS, "m", needed=2)
    founded.write(record.model_copy(update={"envelopes": envelopes}))
    assert "other people than those who signed" in erasures(founded.workspace.read()).problems[0][1]


def test_a_signed_erasure_has_its_effect_once_and_for_its_entries_only(founded: World) -> None:
    one, _ = snapshot(founded)
    two, _ = snapshot(founded, "more")
    done = erase(founded.workspace, [one], "Art. 17", signers(founded))
    record = founded.workspace.read().at(done.seq).record  # type: ignore[union-attr]
    founded.write(record)
    founded.write(record.model_copy(update={"seq": two}))
    problems = [text for _, text in erasures(founded.workspace.read()).problems]
    assert "had its effect in an earlier entry" in problems[0]
    assert "signs something else" in problems[1]
    assert resume_erasures(founded.workspace) == []


def test_a_payload_that_vanishes_without_an_entry_is_tampering(founded: World) -> None:
    seq, _ = snapshot(founded)
    founded.workspace.ledger.store.erase([seq])
    with pytest.raises(Tampered, match=f"entry {seq}"):
        founded.workspace.read().at(seq)


# --- legal holds ---


def test_a_hold_refuses_erasure_until_two_people_lift_it(founded: World) -> None:
    seq, digest = snapshot(founded)
    ws = founded.workspace
    place_hold(ws, "case-7", by=founded.key("carl"), reason="litigation", subjects=["dataset/people"])
    assert [hold.hold for hold in holds(ws.read()).standing] == ["case-7"]
    with pytest.raises(ErasureRefused, match="legal hold 'case-7'"):
        erase(ws, [seq], "Art. 17", signers(founded), evidence=[digest])
    with pytest.raises(GovernanceError, match="2 different people"):
        lift_hold(ws, "case-7", signers=signers(founded, "carl"), reason="settled")
    lift_hold(ws, "case-7", signers=signers(founded), reason="settled")
    assert holds(ws.read()).standing == ()
    erase(ws, [seq], "Art. 17", signers(founded), evidence=[digest])
    with pytest.raises(GovernanceError, match="no hold 'case-7' stands"):
        lift_hold(ws, "case-7", signers=signers(founded), reason="again")


def test_a_hold_placed_after_the_erasure_entry_still_saves_what_is_there(
    founded: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seq, digest = snapshot(founded)
    ws = founded.workspace
    monkeypatch.setattr(ws.ledger.store, "erase", lambda seqs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        erase(ws, [seq], "Art. 17", signers(founded), evidence=[digest])
    monkeypatch.undo()
    place_hold(ws, "case-8", by=founded.key("ada"), reason="suit", subjects=["ledger"])
    assert resume_erasures(ws) == []
    assert ws.evidence.get(digest)
    assert ws.read().view.entries[seq].payload is not None


def test_a_hold_on_a_model_covers_its_versions_but_no_other(ready: World) -> None:
    ws = ready.workspace
    place_hold(ws, "m", by=ready.key("carl"), reason="r", subjects=[f"model/{MODEL}"])
    standing = holds(ws.read())
    covered = {item.entry.kind for item in ws.read().view.entries if standing.over(item.entry)}
    assert {"training_run", "package", "model_registered"} <= covered
    assert "dataset_snapshot" not in covered
    other = ready.write(TrainingFailed(model=MODEL + "2", version="1", run="r", reason="x"))
    assert not holds(ws.read()).over(ws.read().view.entries[other].entry)


def test_only_keepers_place_holds_and_names_are_unique(founded: World) -> None:
    ws = founded.workspace
    with pytest.raises(GovernanceError, match="may not do this"):
        place_hold(ws, "x", by=founded.key("vera"), reason="r", subjects=["ledger"])
    with pytest.raises(GovernanceError, match="names subjects or entries"):
        place_hold(ws, "x", by=founded.key("carl"), reason="r")
    with pytest.raises(GovernanceError, match="no entry 999"):
        place_hold(ws, "x", by=founded.key("carl"), reason="r", seqs=[999])
    with pytest.raises(GovernanceError, match="subject"):
        place_hold(ws, "x", by=founded.key("carl"), reason="r", subjects=["Not a subject"])
    first = place_hold(ws, "x", by=founded.key("carl"), reason="r", subjects=["ledger"])
    again = place_hold(ws, "x", by=founded.key("carl"), reason="r", subjects=["ledger"])
    assert (again.seq, again.duplicate) == (first.seq, True)
    with pytest.raises(GovernanceError, match="stands already"):
        place_hold(ws, "x", by=founded.key("carl"), reason="r", subjects=["policy"])


def test_forged_holds_keep_too_much_and_forged_liftings_lift_nothing(founded: World) -> None:
    ws = founded.workspace
    placed = place_hold(ws, "x", by=founded.key("carl"), reason="r", subjects=["ledger"])
    genuine = ws.read().at(placed.seq).record  # type: ignore[union-attr]
    assert isinstance(genuine, LegalHoldPlaced)
    founded.write(LegalHoldLifted(hold="x", placed_seq=placed.seq, reason="r"))
    founded.write(genuine.model_copy(update={"hold": "forged", "held_subjects": ("policy",)}))
    found = holds(ws.read())
    assert {hold.hold for hold in found.standing} == {"x", "forged"}
    assert len(found.problems) == 2


# --- retention ---


def test_the_longest_applicable_rule_wins_and_is_shown(ready: World) -> None:
    ws = ready.workspace
    training = next(item for item in retention_list(ws.read()) if item.kind == "training_run")
    assert [(rule.id, rule.months) for rule, _ in training.rules] == [("bank", 84)]
    rules = [
        RetentionRule(id="logs", title="Logs", months=6),
        RetentionRule(id="insurance", title="Insurance", months=36, frameworks=("sr26-2",)),
        RetentionRule(id="bank", title="Bank", months=84, frameworks=("fair-lending",), kinds=("training_run",)),
        RetentionRule(id="elsewhere", title="Not ours", months=600, frameworks=("naic-ai",)),
    ]
    adopted = adopt_retention(ws, rules, "our schedule", signers(ready))
    schedule = schedule_in_force(ws.read())
    assert (schedule.seq, len(schedule.rules), schedule.problems) == (adopted.seq, 4, ())
    listed = {item.kind: item for item in retention_list(ws.read())}
    assert [rule.id for rule, _ in listed["training_run"].rules] == ["bank", "insurance", "logs"]
    assert listed["training_run"].until == add_months(listed["training_run"].recorded, 84)
    assert [rule.id for rule, _ in listed["package"].rules] == ["insurance", "logs"]
    assert [rule.id for rule, _ in listed["genesis"].rules] == ["logs"]
    assert "until" in (listed["training_run"].refusal(now(3)) or "")
    assert "rule 'bank', 84 months" in (listed["training_run"].refusal(now(3)) or "")


def test_early_deletion_is_refused_and_due_items_are_listed(founded: World) -> None:
    ws = founded.workspace
    seq, _ = snapshot(founded)
    adopt_retention(ws, [RetentionRule(id="all", title="All", months=12)], "r", signers(founded))
    with pytest.raises(ErasureRefused, match=r"must be kept until .* rule 'all', 12 months"):
        erase(ws, [seq], "storage", signers(founded))
    assert due_items(ws.read(), now()) == []
    later = now(1.1)
    assert seq in [item.seq for item in due_items(ws.read(), later)]
    place_hold(ws, "x", by=founded.key("carl"), reason="r", seqs=[seq])
    assert seq not in [item.seq for item in due_items(ws.read(), later)]
    lift_hold(ws, "x", signers=signers(founded), reason="r")
    erase(ws, [seq], "storage", signers(founded), now=later)
    assert seq not in [item.seq for item in due_items(ws.read(), later)]


def test_retention_rules_need_two_people_and_known_kinds(founded: World) -> None:
    ws = founded.workspace
    rule = RetentionRule(id="a", title="A", months=1)
    with pytest.raises(GovernanceError, match="2 different people"):
        adopt_retention(ws, [rule], "r", signers(founded, "carl"))
    with pytest.raises(GovernanceError, match="same id"):
        adopt_retention(ws, [rule, rule], "r", signers(founded))
    with pytest.raises(GovernanceError, match="unknown record kind 'nope'"):
        adopt_retention(ws, [rule.model_copy(update={"kinds": ("nope",)})], "r", signers(founded))
    adopt_retention(ws, [RetentionRule(id="long", title="Long", months=1200)], "r", signers(founded))
    founded.write(RetentionAdopted(rules=(), reason="a workload shortens it"))
    schedule = schedule_in_force(ws.read())
    assert [item.id for item in schedule.rules] == ["long"]
    assert "2 are needed" in schedule.problems[0][1]
    seq, _ = snapshot(founded)
    assert erasure_refusals(ws.read(), [seq], [], now()) != []


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [("2024-01-31", 1, "2024-02-29"), ("2023-01-31", 1, "2023-02-28"), ("2024-02-29", 12, "2025-02-28"),
     ("2026-11-21", 84, "2033-11-21"), ("2026-12-31", 6, "2027-06-30"), ("2026-01-15", 1200, "2126-01-15")],
)  # fmt: skip
def test_months_are_those_of_the_calendar(start: str, months: int, end: str) -> None:
    assert add_months(datetime.fromisoformat(start), months) == datetime.fromisoformat(end)


# --- evidence ---


def test_garbage_is_what_no_entry_names_and_no_hold_keeps(founded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = founded.workspace
    _, named = snapshot(founded)
    orphan = ws.put("orphan", b"nobody names me", "text/plain").digest

    def run(days: float) -> Any:
        return collect(
            ws.evidence, lambda: evidence_marks(ws.read()), now=now().timestamp() + days * 86_400, grace_s=30 * 86_400
        )

    assert run(1).moved == ()
    place_hold(ws, "all", by=founded.key("carl"), reason="r", subjects=["ledger"])
    frozen = run(100)
    assert (frozen.moved, "legal hold 'all'" in (frozen.frozen or "")) == ((), True)
    lift_hold(ws, "all", signers=signers(founded), reason="r")
    assert run(31).moved == (orphan,)
    assert run(62).removed == (orphan,)
    assert ws.evidence.get(named)
    assert evidence_marks(ws.read()).live == {named}


# --- archives, restores, continuation ---


def test_a_workspace_signs_archives_that_its_ledgers_keys_verify(founded: World, tmp_path: Path) -> None:
    ws = founded.workspace
    reading = ws.read()
    folder = tmp_path / "a"
    keys = list(ws.trust().logs)
    export_archive(ws.ledger.store, folder, 0, reading.size, signer=manifest_signer(ws), log_keys=keys)
    archive = open_archive(folder, manifest_keys=manifest_keys(reading), log_keys=keys, origin=ws.origin)
    first, again = record_archived(ws)(archive), record_archived(ws)(archive)
    assert (again.seq, again.duplicate) == (first.seq, True)
    facts = ws.read().at(first.seq).record.facts()  # type: ignore[union-attr]
    assert (facts["start"], facts["end"], facts["manifest"], facts["root"]) == (
        0, reading.size, archive.manifest, reading.view.root.hex(),
    )  # fmt: skip


def test_a_sound_restore_is_recorded_as_the_next_entry(founded: World) -> None:
    ws = founded.workspace
    view = ws.read().view
    report = RestoreReport(ws.origin, view.size, view.root, (), compared_with=("the witness",))
    receipt = record_restored(ws, report, "ab" * 32, reason="disk failed")
    assert receipt.seq == view.size
    with pytest.raises(GovernanceError, match="not sound"):
        record_restored(ws, RestoreReport(ws.origin, 0, b"", ()), "ab" * 32)


def test_a_new_ledger_cites_what_the_old_one_lost(founded: World, tmp_path: Path) -> None:
    old = founded.workspace
    note = old.ledger.latest_checkpoint()
    assert note is not None
    new = found_workspace(
        tmp_path / "new",
        origin="test.example/credit-2",
        founders=[Founder(founded.key("ada"), "Ada"), Founder(founded.key("finn"), "Finn")],
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
    )
    told: dict[str, Any] = {
        "previous_trust": old.trust(), "checkpoint": note, "lost_start": 3, "reason": "two disks failed",
        "signers": signers(founded, "ada", "finn"),
    }  # fmt: skip
    for wrong, message in (
        ({"lost_start": 99}, "nothing is lost"),
        ({"checkpoint": "forged"}, "does not verify"),
        ({"signers": signers(founded, "ada")}, "2 different people"),
        ({"previous_trust": new.trust()}, "does not verify"),
    ):
        with pytest.raises(GovernanceError, match=message):
            continue_ledger(new, **{**told, **wrong})
    with pytest.raises(GovernanceError, match="origin of the lost one"):
        continue_ledger(old, **told)
    receipt = continue_ledger(new, **told)
    assert receipt.seq == 1
    assert continue_ledger(new, **told).seq == 1
    record, problem = continued_from(new.read()) or (None, "none")
    assert problem is None
    assert record is not None
    assert (record.previous_origin, record.lost_start) == (old.origin, 3)
    assert continued_from(old.read()) is None
