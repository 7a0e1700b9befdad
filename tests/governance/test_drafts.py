"""Acts signed apart: what is exported, signed and submitted is one and the same thing, or nothing happens."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.governance import (
    ActDraft,
    GovernanceError,
    SignatureError,
    directory,
    enrolment,
    merge_drafts,
    policy_in_force,
    propose_act,
    read_draft,
    recovery_record,
    sign_draft,
    submit_draft,
)
from cognify_dagster.governance.policy.adoption import policy_adoption
from cognify_dagster.records import utc
from tests.governance.test_people import person, roles
from tests.governance.test_recovery import fresh
from tests.governance.world import World, clone

FOUNDERS = ("person/ada", "person/finn")


def proposed(world: World, name: str = "una", role: str = "auditor") -> ActDraft:
    """A draft to enrol somebody, for the two founders."""
    reading = world.workspace.read()
    return propose_act(reading, enrolment(reading, person(world, name, role), FOUNDERS))


def through_a_file(draft: ActDraft) -> ActDraft:
    return read_draft(draft.to_bytes())


def test_each_signs_a_copy_and_the_copies_are_joined(founded: World) -> None:
    draft = through_a_file(proposed(founded))
    apart = [through_a_file(sign_draft(draft, founded.key(name))) for name in ("finn", "ada")]
    assert [str(item) for item in apart[0].missing()] == ["person/ada"]
    receipt = submit_draft(founded.workspace, merge_drafts(apart))
    assert roles(founded, "una") == ("auditor",)
    again = submit_draft(founded.workspace, merge_drafts(apart))
    assert (again.seq, again.duplicate) == (receipt.seq, True)
    assert directory(founded.workspace.read()).problems == []


def test_or_the_file_goes_from_one_to_the_next(founded: World) -> None:
    draft = proposed(founded)
    for name in ("ada", "finn"):
        draft = through_a_file(sign_draft(through_a_file(draft), founded.key(name)))
    assert submit_draft(founded.workspace, draft).seq == founded.workspace.ledger.size() - 1


def test_the_ledger_may_grow_meanwhile_but_not_about_this_person(founded: World) -> None:
    draft, other = proposed(founded), proposed(founded, role="business_owner")
    founded.enrol("nora", "auditor")
    for name in ("ada", "finn"):
        draft, other = sign_draft(draft, founded.key(name)), sign_draft(other, founded.key(name))
    submit_draft(founded.workspace, draft)
    with pytest.raises(GovernanceError, match="signed before entry"):
        submit_draft(founded.workspace, other)
    assert roles(founded, "una") == ("auditor",)


def test_nothing_is_recorded_until_all_have_signed(founded: World) -> None:
    size = founded.workspace.ledger.size()
    with pytest.raises(GovernanceError, match="not signed yet by person/finn"):
        submit_draft(founded.workspace, sign_draft(proposed(founded), founded.key("ada")))
    assert founded.workspace.ledger.size() == size


def test_only_those_named_sign_and_each_once(founded: World) -> None:
    draft = proposed(founded)
    with pytest.raises(GovernanceError, match="does not sign this"):
        sign_draft(draft, founded.key("vera"))
    with pytest.raises(GovernanceError, match="signed this already"):
        sign_draft(sign_draft(draft, founded.key("ada")), founded.key("ada"))


def test_copies_of_different_drafts_are_not_joined(founded: World) -> None:
    with pytest.raises(GovernanceError, match="not copies of the same draft"):
        merge_drafts([proposed(founded), proposed(founded, role="business_owner")])


def bent(draft: ActDraft, **changes: Any) -> ActDraft:
    return draft.model_copy(update=changes)


@pytest.mark.parametrize("change", ["facts", "ledger", "meaning", "root", "size"])
def test_what_is_changed_after_a_signature_is_not_what_was_signed(founded: World, change: str) -> None:
    draft = proposed(founded)
    for name in ("ada", "finn"):
        draft = sign_draft(draft, founded.key(name))
    facts = json.loads(json.dumps(draft.facts))
    facts["person"]["roles"] = ["compliance_officer"]
    changes = {
        "facts": {"facts": facts},
        "ledger": {"ledger": "test.example/other"},
        "meaning": {"meaning": "I know nobody."},
    }
    if change in ("root", "size"):  # what stands in the file beside the statements counts for nothing
        submit_draft(founded.workspace, bent(draft, **{change: 1 if change == "size" else "0" * 64}))
        return
    with pytest.raises(GovernanceError):
        submit_draft(founded.workspace, bent(draft, **changes[change]))
    assert roles(founded, "una") == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"meaning": "I know nobody."}, "another meaning"),
        ({"root": "0" * 64}, "another history"),
        ({"size": 10_000}, "another history"),
    ],
)
def test_what_is_changed_before_signing_is_refused_when_submitted(
    founded: World, changes: dict[str, Any], problem: str
) -> None:
    draft = bent(proposed(founded), **changes)
    for name in ("ada", "finn"):
        draft = sign_draft(draft, founded.key(name))
    with pytest.raises(SignatureError, match=problem):
        submit_draft(founded.workspace, draft)


@pytest.mark.parametrize(("days", "taken"), [(-13.9, True), (-14.1, False), (1, False)])
def test_a_statement_is_taken_for_fourteen_days(
    founded: World, days: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = proposed(founded)
    moment = utc(datetime.now(timezone.utc) + timedelta(days=days))
    with monkeypatch.context() as patched:
        patched.setattr("cognify_dagster.governance.signing.statements.utc", lambda: moment)
        for name in ("ada", "finn"):
            draft = sign_draft(draft, founded.key(name))
    if taken:
        submit_draft(founded.workspace, draft)
        return
    with pytest.raises(SignatureError, match="check the clock and sign again"):
        submit_draft(founded.workspace, draft)


def test_a_draft_is_worthless_in_another_ledger(founded: World, tmp_path: Path) -> None:
    other = clone(founded, tmp_path / "other")
    other.enrol("nora", "auditor")
    draft = proposed(other)
    for name in ("ada", "finn"):
        draft = sign_draft(draft, other.key(name))
    with pytest.raises(SignatureError, match="another history"):
        submit_draft(founded.workspace, draft)


def test_a_key_revoked_meanwhile_does_not_count(founded: World) -> None:
    from cognify_dagster.governance import revoke_key

    draft = proposed(founded)
    for name in ("ada", "finn"):
        draft = sign_draft(draft, founded.key(name))
    revoke_key(founded.workspace, "person/finn", founded.key("finn").key_id, "lost", founded.key("ada"))
    with pytest.raises(GovernanceError, match="no valid key"):
        submit_draft(founded.workspace, draft)


def test_a_policy_and_a_recovery_are_signed_apart_too(founded: World) -> None:
    reading = founded.workspace.read()
    policy = policy_in_force(reading).policy.model_copy(update={"title": "Other"})
    draft = propose_act(reading, policy_adoption(policy, "x"), FOUNDERS)
    for name in ("ada", "finn"):
        draft = through_a_file(sign_draft(draft, founded.key(name)))
    submit_draft(founded.workspace, draft)
    assert policy_in_force(founded.workspace.read()).policy.title == "Other"
    vera, new = fresh(founded, "vera", "model_validator")
    keys = [founded.key("ada"), founded.key("finn")]
    reading = founded.workspace.read()
    draft = propose_act(reading, recovery_record(reading, vera, "x", [key.key_id for key in keys]))
    assert [str(item) for item in draft.signatories] == [
        f"recovery key {key_id}" for key_id in sorted(k.key_id for k in keys)
    ]
    for key in keys:
        draft = through_a_file(sign_draft(draft, key))
    submit_draft(founded.workspace, draft)
    reading = founded.workspace.read()
    assert set(directory(reading).valid_keys("person/vera", reading.size)) == {new.key_id}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "cognify-act/v2"},
        {"kind": "unheard_of"},
        {"kind": "training_run"},
        {"kind": "legal_hold_lifted"},
        {"meaning": "I know nobody."},
        {"schema_version": 2},
        {"signatories": []},
        {"signatories": [{"person": "person/ada"}, {"person": "person/ada"}]},
        {"signatories": [{"person": "workload/pipeline"}]},
        {"facts": {}},
        {"size": 0},
        {"root": "x"},
        {"more": 1},
        {"envelopes": {"person/eve": {}}},
    ],
)
def test_a_file_that_is_no_draft_is_refused(founded: World, change: dict[str, Any]) -> None:
    data = json.loads(proposed(founded).to_bytes())
    with pytest.raises(GovernanceError, match=r"draft\.json"):
        read_draft(json.dumps(data | change).encode(), "draft.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * 1_000_001])
def test_nor_is_what_is_no_json_object(data: bytes) -> None:
    with pytest.raises(GovernanceError, match=r"draft\.json: not the draft of an act"):
        read_draft(data, "draft.json")
