"""Signatures that are made elsewhere, one by one: the statement to sign, and a signature checked before it is kept."""

from __future__ import annotations

import pytest

from cognify_dagster.governance import (
    ActDraft,
    GovernanceError,
    add_signature,
    check_signature,
    draft_statement,
    propose_act,
    revoke_key,
    rotated,
    seal,
    submit_draft,
)
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.records import Envelope, PersonEnrolled
from tests.governance.world import World


@pytest.fixture
def draft(founded: World) -> ActDraft:
    """An enrolment that ada and finn sign."""
    reading = founded.workspace.read()
    person = rotated(reading, "person/vera", founded.key("mia").public, False)
    record = PersonEnrolled(person=person, vouched_by="person/ada", witnesses=("person/finn",), envelope=UNSIGNED)
    return propose_act(reading, record)


def signed(world: World, draft: ActDraft, name: str, by: str = "") -> Envelope:
    """Sign the statement of a person, with their own key or somebody else's."""
    key = world.key(name)
    return seal(draft_statement(draft, key.person, key.key_id), key.key_id, world.key(by or name).sign)


def test_signatures_that_are_added_one_by_one_make_the_act(founded: World, draft: ActDraft) -> None:
    for name in ("ada", "finn"):
        envelope = signed(founded, draft, name)
        check_signature(founded.workspace.read(), draft, envelope)
        draft = add_signature(draft, envelope)
    assert submit_draft(founded.workspace, draft).seq == founded.workspace.ledger.size() - 1


def test_nobody_else_signs_and_nobody_signs_twice(founded: World, draft: ActDraft) -> None:
    key = founded.key("vera")
    with pytest.raises(GovernanceError, match="does not sign this"):
        draft_statement(draft, key.person, key.key_id)
    envelope = signed(founded, draft, "ada")
    with pytest.raises(GovernanceError, match="signed this already"):
        add_signature(add_signature(draft, envelope), envelope)
    with pytest.raises(GovernanceError, match="signed this already"):
        draft_statement(add_signature(draft, envelope), "person/ada", founded.key("ada").key_id)


def test_a_signature_that_would_not_hold_is_refused_at_once(founded: World, draft: ActDraft) -> None:
    reading = founded.workspace.read()
    good = signed(founded, draft, "ada")
    with pytest.raises(GovernanceError, match="does not verify"):
        check_signature(reading, draft, signed(founded, draft, "ada", by="finn"))
    other = draft.model_copy(update={"facts": {**draft.facts, "vouched_by": "person/olga"}})
    with pytest.raises(GovernanceError, match="something else"):
        check_signature(reading, other, good)
    key = founded.key("ada")
    revoke_key(founded.workspace, "person/ada", key.key_id, "lost", founded.key("finn"))
    with pytest.raises(GovernanceError, match="no valid key"):
        check_signature(founded.workspace.read(), draft, good)
