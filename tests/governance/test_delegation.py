"""Delegation: written, scoped, expiring, never handed on; it ends with what it rests on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cognify_dagster.governance import (
    Authority,
    GovernanceError,
    adopt_policy,
    create_key,
    delegate,
    delegating,
    directory,
    end_delegation,
    enrol_person,
    parse_policy,
    policy_in_force,
    revoke_key,
    rotate_key,
)
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.records import Delegated, DelegationEnded, utc
from tests.governance.world import MODEL, PASSPHRASE, World

ROLE = "compliance_officer"
NOW = datetime.now(timezone.utc).replace(microsecond=0)


def until(days: float) -> datetime:
    return NOW + timedelta(days=days)


def lend(
    world: World, *, by: str = "carl", to: str = "vera", role: str = ROLE, days: float = 7, **scope: object
) -> int:
    """Delegate a role; return the entry."""
    return delegate(
        world.workspace, f"person/{to}", role, world.key(by), expires=until(days), reason="leave", **scope  # type: ignore[arg-type]
    ).seq  # fmt: skip


def authority(
    world: World,
    who: str = "vera",
    *,
    model: str = MODEL,
    stage: str = "compliance",
    days: float = 1,
    at: int | None = None,
) -> Authority | None:
    """With what right somebody may sign as compliance officer."""
    reading = world.workspace.read()
    seq = reading.size if at is None else at
    return directory(reading).may_sign_as(f"person/{who}", ROLE, model, stage, seq, until(days))


def test_a_delegate_signs_as_themselves_on_behalf_of_the_delegator(founded: World) -> None:
    assert authority(founded) is None
    seq = lend(founded)
    found = authority(founded)
    assert found is not None
    assert (found.person, found.on_behalf_of, found.delegation_seq) == ("person/vera", "person/carl", seq)
    assert found.delegation is not None
    assert found.delegation.leaf == founded.workspace.read().view.entries[seq].entry.leaf.hex()
    own = authority(founded, "carl")
    assert own is not None
    assert own.on_behalf_of is None, "the delegator keeps the role"


def test_it_counts_after_its_entry_and_within_its_time(founded: World) -> None:
    seq = lend(founded, starts=until(2), days=5)
    assert authority(founded, days=3, at=seq) is None
    assert [authority(founded, days=day) is not None for day in (1.9, 2, 4.9, 5)] == [False, True, True, False]


def test_it_counts_for_the_models_and_stages_it_names(founded: World) -> None:
    lend(founded, models=(MODEL,), stages=("compliance",))
    assert authority(founded) is not None
    assert authority(founded, model="other") is None
    assert authority(founded, stage="business") is None


def test_the_role_is_not_handed_on(founded: World) -> None:
    lend(founded)
    with pytest.raises(GovernanceError, match="only a role of one's own"):
        lend(founded, by="vera", to="olga")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"role": "business_owner"}, "only a role of one's own"),
        ({"to": "carl"}, "cannot delegate to themselves"),
        ({"to": "nobody"}, "is not enrolled with a key"),
        ({"days": 30.1}, "within 30 days"),
        ({"days": -1}, "ends after it starts"),
        ({"by": "ada", "role": "workspace_admin"}, "cannot be delegated"),
    ],
)
def test_delegations_that_are_refused(founded: World, given: dict[str, object], problem: str) -> None:
    size = founded.workspace.ledger.size()
    with pytest.raises(GovernanceError, match=problem):
        lend(founded, **given)  # type: ignore[arg-type]
    assert founded.workspace.ledger.size() == size


def test_a_policy_may_forbid_delegation(founded: World) -> None:
    policy = policy_in_force(founded.workspace.read()).policy.as_json() | {"people": {"max_delegation_days": 0}}
    adopt_policy(founded.workspace, parse_policy(policy), "x", [founded.key("ada"), founded.key("finn")])
    with pytest.raises(GovernanceError, match="allows no delegation"):
        lend(founded)


@pytest.mark.parametrize("by", ["carl", "vera", "ada"])
def test_delegator_delegate_and_admin_end_it_at_once(founded: World, by: str) -> None:
    seq = lend(founded)
    end_delegation(founded.workspace, seq, "back", founded.key(by))
    assert authority(founded) is None
    assert authority(founded, at=seq + 1) is not None, "before that it had counted"
    with pytest.raises(GovernanceError, match="has ended already"):
        end_delegation(founded.workspace, seq, "back", founded.key(by))


def test_nobody_else_ends_it(founded: World) -> None:
    seq = lend(founded)
    with pytest.raises(GovernanceError, match="workspace_admin is needed"):
        end_delegation(founded.workspace, seq, "spite", founded.key("olga"))
    with pytest.raises(GovernanceError, match="is no delegation"):
        end_delegation(founded.workspace, seq - 1, "x", founded.key("carl"))


def without(world: World, what: str, folder: Path) -> None:
    """Let something go that the delegation rests on."""
    reading = world.workspace.read()
    carl = directory(reading).person_at("person/carl", reading.size)
    assert carl is not None
    if what == "role":
        enrol_person(
            world.workspace, carl.model_copy(update={"roles": ("auditor",)}), world.key("ada"), world.key("finn")
        )
        enrol_person(world.workspace, carl, world.key("ada"), world.key("finn"))  # the role comes back
    elif what == "delegator's key":
        revoke_key(world.workspace, "person/carl", world.key("carl").key_id, "lost", world.key("ada"))
        new = create_key(folder / "carl2.json", "person/carl", PASSPHRASE)
        rotate_key(world.workspace, "person/carl", new.public, [world.key("ada"), world.key("finn")])
    else:
        revoke_key(world.workspace, "person/vera", world.key("vera").key_id, "lost", world.key("ada"))


@pytest.mark.parametrize("what", ["role", "delegator's key", "delegate's key"])
def test_it_ends_with_the_role_and_the_keys_for_good(founded: World, what: str, tmp_path: Path) -> None:
    lend(founded)
    without(founded, what, tmp_path)
    assert authority(founded) is None


def test_it_goes_on_where_the_delegator_rotates_their_key(founded: World, tmp_path: Path) -> None:
    lend(founded)
    new = create_key(tmp_path / "carl2.json", "person/carl", PASSPHRASE)
    rotate_key(founded.workspace, "person/carl", new.public, [founded.key("carl"), founded.key("ada")])
    assert authority(founded) is not None


def forged(world: World, record: Delegated | DelegationEnded, signer: str) -> int:
    """Append an act past every check, signed by somebody."""
    reading = world.workspace.read()
    envelope = sign_act(
        record, world.key(signer), ledger=reading.origin, role=ROLE, meaning="…", head=reading.view.checkpoint()
    )
    return world.write(record.model_copy(update={"envelope": envelope}))


def test_forged_and_replayed_delegations_have_no_effect(founded: World) -> None:
    record = delegating("person/carl", "person/vera", ROLE, until(7), "leave")
    seq = forged(founded, record, "vera")
    assert authority(founded) is None
    assert directory(founded.workspace.read()).problems[-1][0] == seq
    kept = forged(founded, record, "carl")
    assert authority(founded) is not None
    end_delegation(founded.workspace, kept, "back", founded.key("carl"))
    genuine = founded.workspace.read().at(kept)
    assert genuine is not None
    founded.write(genuine.record)
    assert authority(founded) is None, "a delegation that ended is not replayed"


def test_a_delegation_far_longer_than_the_policy_allows_has_no_effect_when_read(founded: World) -> None:
    record = delegating("person/carl", "person/vera", ROLE, until(7), "leave")
    forged(founded, record.model_copy(update={"expires": utc(until(400))}), "carl")
    assert authority(founded) is None


def test_a_forged_end_has_no_effect_and_an_erased_one_keeps_its_own(founded: World) -> None:
    seq = lend(founded)
    record = DelegationEnded(
        delegation_seq=seq, delegator="person/carl", delegate="person/vera", reason="x", ended_by="person/carl",
        envelope=delegating("person/carl", "person/vera", ROLE, until(7), "x").envelope,
    )  # fmt: skip
    forged(founded, record, "olga")
    assert authority(founded) is not None
    founded.erase(end_delegation(founded.workspace, seq, "back", founded.key("carl")).seq)
    assert authority(founded) is None


def test_a_delegation_whose_words_are_gone_delegates_nothing(founded: World) -> None:
    founded.erase(lend(founded))
    assert authority(founded) is None
