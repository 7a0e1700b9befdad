"""Recovery by the founders' keys, and entries that decisions go on without."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Founder,
    GovernanceError,
    PersonalKey,
    adopt_policy,
    create_key,
    delegate,
    directory,
    disregard_entry,
    enrol_person,
    found_workspace,
    parse_policy,
    policy_in_force,
    recover_person,
    revoke_key,
)
from cognify_dagster.governance.people.recovery import disregarding, recovery_record
from cognify_dagster.governance.signing.statements import act_statement, seal, sign_act
from cognify_dagster.ledger import Draft, canonical_json
from cognify_dagster.records import BundleExported, EntryDisregarded, Person, PersonRecovered, PublicKey
from cognify_dagster.workspace import Workspace
from tests.governance.test_delegation import ROLE, authority, lend, until
from tests.governance.world import MODEL, PASSPHRASE, World


def fresh(world: World, name: str, *roles: str, mark: str = "new") -> tuple[Person, PersonalKey]:
    """A person with a key that nobody has seen yet."""
    key = create_key(world.folder / f"{name}.{mark}.json", f"person/{name}", PASSPHRASE)
    person = Person(person=key.person, name=name.title(), roles=roles or ("workspace_admin",), keys=(key.public,))
    return person, key


def recovery_keys(world: World) -> list[PersonalKey]:
    """Unless others were given, the founders' keys."""
    return [world.key("ada"), world.key("finn")]


def valid(world: World, name: str) -> set[str]:
    reading = world.workspace.read()
    return set(directory(reading).valid_keys(f"person/{name}", reading.size))


# --- recovery --------------------------------------------------------------------------------------------------------


def test_it_works_with_no_admin_left_and_ends_every_older_key(founded: World) -> None:
    for name in ("finn", "ada"):
        revoke_key(founded.workspace, f"person/{name}", founded.key(name).key_id, "stolen", founded.key("ada"))
    with pytest.raises(GovernanceError, match="not valid here"):
        founded.enrol("una", "auditor")
    person, new = fresh(founded, "ada")
    recover_person(founded.workspace, person, "both keys were stolen", recovery_keys(founded))
    assert valid(founded, "ada") == {new.key_id}
    una, _ = fresh(founded, "una", "auditor")
    enrol_person(founded.workspace, una, new, founded.key("vera"))
    assert valid(founded, "una") == {una.keys[0].key_id}


def test_a_new_admin_may_be_set_where_none_is_left(founded: World) -> None:
    person, new = fresh(founded, "nora")
    recover_person(founded.workspace, person, "all admins left", recovery_keys(founded))
    assert valid(founded, "nora") == {new.key_id}
    reading = founded.workspace.read()
    assert directory(reading).standings["person/nora"][-1].vouched_by == "recovery"


def test_delegations_by_lost_keys_end(founded: World) -> None:
    delegate(founded.workspace, "person/vera", ROLE, founded.key("carl"), expires=until(7), reason="leave")
    assert authority(founded) is not None
    person, _ = fresh(founded, "carl", ROLE)
    recover_person(founded.workspace, person, "stolen", recovery_keys(founded))
    assert authority(founded) is None


def test_one_recovery_key_resets_nobody(founded: World) -> None:
    """Else a single founder could take over anybody's name."""
    person, _ = fresh(founded, "vera", "model_validator")
    for keys in (recovery_keys(founded)[:1], recovery_keys(founded)[:1] * 2):
        with pytest.raises(GovernanceError):
            recover_person(founded.workspace, person, "x", keys)
    assert valid(founded, "vera") == {founded.key("vera").key_id}


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("stranger", "no recovery key of this ledger"),
        ("old key", "new keys"),
        ("no key", "new keys"),
        ("somebody's key", "belongs to person/carl"),
        ("role", "not in the policy"),
    ],
)
def test_recoveries_that_are_refused(founded: World, case: str, problem: str) -> None:
    person, new = fresh(founded, "vera", "model_validator")
    keys = recovery_keys(founded)
    changes: dict[str, dict[str, object]] = {
        "old key": {"keys": (founded.key("vera").public, new.public)},
        "no key": {"keys": ()},
        "somebody's key": {"keys": (founded.key("carl").public,)},
        "role": {"roles": ("wizard",)},
    }
    if case == "stranger":
        keys = [founded.key("ada"), founded.key("vera")]
    with pytest.raises(GovernanceError, match=problem):
        recover_person(founded.workspace, person.model_copy(update=changes.get(case, {})), "x", keys)


def sign_as(world: World, record: PersonRecovered | EntryDisregarded, key: PersonalKey, person: str) -> PersonRecovered:
    reading = world.workspace.read()
    statement = act_statement(
        record, ledger=reading.origin, person=person, key_id=key.key_id, role="recovery", meaning="…",
        head=reading.view.checkpoint(),
    )  # fmt: skip
    return record.model_copy(update={"envelopes": (*record.envelopes, seal(statement, key.key_id, key.sign))})  # type: ignore[return-value]


@pytest.mark.parametrize(
    "case", ["good", "one", "one twice", "as a person", "unnamed", "stranger", "replayed", "stale"]
)
def test_a_recovery_in_the_ledger_counts_only_with_its_signatures(founded: World, case: str) -> None:
    """Whoever may append wrote it: the rules are applied when it is read."""
    person, new = fresh(founded, "vera", "model_validator")
    ada, finn = recovery_keys(founded)
    record = recovery_record(founded.workspace.read(), person, "x", [ada.key_id, finn.key_id])
    if case in ("one", "one twice"):
        record = record.model_copy(update={"recovery_keys": (ada.key_id,)})
    elif case == "unnamed":
        record = record.model_copy(update={"recovery_keys": (ada.key_id, "0" * 16)})
    second = {"one twice": ada, "stranger": founded.key("carl")}.get(case, finn)
    record = sign_as(founded, record, ada, "person/ada" if case == "as a person" else "recovery")
    if case != "one":
        record = sign_as(founded, record, second, "person/finn" if case == "as a person" else "recovery")
    if case == "stale":
        founded.enrol("vera", "auditor")
    seq = founded.write(record)
    if case == "replayed":
        later, _ = fresh(founded, "vera", "model_validator", mark="later")
        recover_person(founded.workspace, later, "again", recovery_keys(founded))
        seq = founded.write(record)
        assert valid(founded, "vera") == {later.keys[0].key_id}
    expected = {new.key_id} if case == "good" else {founded.key("vera").key_id}
    if case != "replayed":
        assert valid(founded, "vera") == expected
    problems = directory(founded.workspace.read()).problems
    assert [at for at, _ in problems] == ([] if case == "good" else [seq])


def test_a_recovery_key_signs_nothing_else(founded: World, tmp_path: Path) -> None:
    """It is no person's key: kept apart, it neither vouches nor revokes."""
    keys = [
        create_key(tmp_path / f"{name}.json", f"person/{name}", PASSPHRASE)
        for name in ("ada", "finn", "rec", "reserve")
    ]
    workspace = found_workspace(
        tmp_path / "apart",
        origin="test.example/apart",
        founders=[Founder(keys[0], "Ada"), Founder(keys[1], "Finn")],
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
        recovery_keys=[keys[2].public, keys[3].public],
    )
    una = create_key(tmp_path / "una.json", "person/una", PASSPHRASE)
    person = Person(person="person/una", name="Una", roles=("auditor",), keys=(una.public,))
    with pytest.raises(GovernanceError, match="not enrolled"):
        enrol_person(workspace, person, keys[0], keys[2])
    with pytest.raises(GovernanceError, match="not enrolled"):
        revoke_key(workspace, "person/ada", keys[0].key_id, "x", keys[2])
    recover_person(workspace, person, "x", keys[2:])
    assert directory(workspace.read()).problems == []


def test_an_erased_recovery_leaves_nobody_with_a_key(founded: World) -> None:
    person, _ = fresh(founded, "vera", "model_validator")
    founded.erase(recover_person(founded.workspace, person, "x", recovery_keys(founded)).seq)
    assert valid(founded, "vera") == set()


# --- entries that decisions go on without ----------------------------------------------------------------------------


def raw(world: World, kind: str, subjects: tuple[str, ...], *, schema: int = 1, facts: object = None) -> int:
    """Append what nobody can read, as whoever holds the workload key can."""
    writer = world.workspace.writer
    assert writer is not None
    payload = canonical_json({"facts": facts if facts is not None else {}, "observed": {}})
    size = world.workspace.ledger.size()
    draft = Draft(
        kind=kind, schema=schema, subjects=subjects, actor=writer.workload,
        idem=hashlib.sha256(f"{kind}{size}".encode()).hexdigest(), payload=payload,
        facts_digest=hashlib.sha256(canonical_json(facts if facts is not None else {})).hexdigest(), key_id=writer.key_id, sign=writer.sign,
    )  # fmt: skip
    return world.workspace.ledger.append(draft).seq


def unproven(world: World, *subjects: str) -> int:
    """Append an entry that no enrolled machine signed."""
    world.workspace.writer, kept = None, world.workspace.writer
    seq = world.write(BundleExported(model=MODEL, version="7", package_digest="sha256:" + "0" * 64, relied_on=subjects))
    world.workspace.writer = kept
    return seq


def admins(world: World) -> list[PersonalKey]:
    return [world.key("ada"), world.key("finn")]


@pytest.mark.parametrize("subject", ["people", "policy", "ledger"])
def test_an_unreadable_entry_blocks_until_two_admins_disregard_it(approved: World, subject: str) -> None:
    seq = raw(approved, "recall", (subject,))
    assert approved.codes() == ["unreadable_entry"]
    assert any("people disregard" in reason.resolved_by for reason in approved.decide().reasons)
    disregard_entry(approved.workspace, seq, "a stolen pipeline key wrote it", admins(approved))
    assert approved.decide().released, approved.codes()
    assert directory(approved.workspace.read()).disregarded == {seq: seq + 1}


def test_an_entry_that_no_machine_signed_likewise(approved: World) -> None:
    seq = unproven(approved, "people", "policy")
    assert "unproven_writer" in approved.codes()
    disregard_entry(approved.workspace, seq, "nobody signed it", admins(approved))
    assert approved.decide().released, approved.codes()


def test_what_it_says_about_a_model_still_stops_that_model(approved: World) -> None:
    """Disregarding lifts the stop for everybody else, never a possible block of the model itself."""
    seq = raw(approved, "recall", ("people", f"model/{MODEL}@1"))
    disregard_entry(approved.workspace, seq, "x", admins(approved))
    assert approved.codes() == ["unreadable_entry"]


def test_an_erased_policy_adoption_is_disregarded_by_those_who_may_adopt_one(approved: World) -> None:
    policy = policy_in_force(approved.workspace.read()).policy.as_json() | {"title": "Other"}
    seq = adopt_policy(approved.workspace, parse_policy(policy), "x", admins(approved)).seq
    approved.erase(seq)
    assert approved.codes() == ["policy_unreadable"]
    with pytest.raises(GovernanceError, match="2 different people"):
        disregard_entry(approved.workspace, seq, "x", [approved.key("vera"), approved.key("ada")])
    disregard_entry(approved.workspace, seq, "its payload is lost", admins(approved))
    assert approved.decide().released, approved.codes()
    assert policy_in_force(approved.workspace.read()).seq == 0


def valid_entries(world: World) -> list[int]:
    """An enrolment, a revocation, a delegation, a policy: all of them count."""
    found = [2, lend(world)]
    found.append(revoke_key(world.workspace, "person/olga", world.key("olga").key_id, "x", world.key("ada")).seq)
    policy = policy_in_force(world.workspace.read()).policy.as_json() | {"title": "Other"}
    found.append(adopt_policy(world.workspace, parse_policy(policy), "x", admins(world)).seq)
    return found


def test_nothing_valid_is_ever_disregarded(founded: World) -> None:
    for seq in valid_entries(founded):
        with pytest.raises(GovernanceError, match="is valid"):
            disregard_entry(founded.workspace, seq, "x", admins(founded))
    with pytest.raises(GovernanceError, match="not an earlier entry"):
        disregard_entry(founded.workspace, founded.workspace.ledger.size(), "x", admins(founded))


def test_a_policy_of_a_newer_release_is_valid_and_stays_in_the_way(approved: World) -> None:
    from cognify_dagster.records import PolicyAdopted

    newer = policy_in_force(approved.workspace.read()).policy.as_json() | {"cooling_off_days": 7}
    digest = "sha256:" + hashlib.sha256(canonical_json(newer)).hexdigest()
    record = PolicyAdopted(policy=newer, policy_digest=digest, reason="x", envelopes=())
    reading = approved.workspace.read()
    envelopes = tuple(
        sign_act(
            record, key, ledger=reading.origin, role="workspace_admin", meaning="…", head=reading.view.checkpoint()
        )
        for key in admins(approved)
    )
    seq = approved.write(record.model_copy(update={"envelopes": envelopes}))
    with pytest.raises(GovernanceError, match="is valid"):
        disregard_entry(approved.workspace, seq, "x", admins(approved))


def test_what_it_disregards_has_no_less_effect_afterwards(founded: World) -> None:
    """A forged revocation never had one; an unreadable one ended a key, and the key stays ended."""
    seq = raw(founded, "key_revoked", ("people", "person/vera"))
    assert valid(founded, "vera") == set()
    disregard_entry(founded.workspace, seq, "x", admins(founded))
    assert valid(founded, "vera") == set()


@pytest.mark.parametrize("signers", [("ada",), ("ada", "vera"), ("vera", "carl")])
def test_it_takes_two_admins(founded: World, signers: tuple[str, ...]) -> None:
    seq = raw(founded, "recall", ("people",))
    with pytest.raises(GovernanceError, match="2 different people"):
        disregard_entry(founded.workspace, seq, "x", [founded.key(name) for name in signers])


def test_whom_an_entry_is_about_does_not_disregard_it(founded: World) -> None:
    """It may be the revocation of their stolen key, written by a newer release."""
    seq = raw(founded, "key_withdrawn", ("people", "person/finn"))
    with pytest.raises(GovernanceError, match="about themselves"):
        disregard_entry(founded.workspace, seq, "x", admins(founded))


def test_where_every_admin_is_shut_out_the_recovery_keys_are_the_way_back(approved: World) -> None:
    """Anybody who may append can end keys with entries that nobody can read; k of n founders mend it."""
    seqs = [raw(approved, "key_revoked", ("people", f"person/{name}")) for name in ("ada", "finn")]
    with pytest.raises(GovernanceError):
        approved.enrol("una", "auditor")
    for seq in seqs:
        disregard_entry(approved.workspace, seq, "sabotage", recovery_keys(approved))
    person, _ = fresh(approved, "ada")
    recover_person(approved.workspace, person, "sabotage", recovery_keys(approved))
    assert approved.decide().released, approved.codes()


def test_a_forged_disregard_lifts_nothing(approved: World) -> None:
    seq = raw(approved, "recall", ("people",))
    record = disregarding(approved.workspace.read(), seq, "x", ["person/ada", "person/finn"])
    alone = sign_act(
        record, approved.key("ada"), ledger=approved.workspace.origin, role="workspace_admin", meaning="…",
        head=approved.workspace.read().view.checkpoint(),
    )  # fmt: skip
    for envelopes in ((), (alone,), (alone, alone)):
        approved.write(record.model_copy(update={"envelopes": envelopes}))
        assert approved.codes() == ["unreadable_entry"]
    approved.workspace.read()


def test_an_erased_disregard_lifts_nothing_any_more(approved: World) -> None:
    seq = raw(approved, "recall", ("people",))
    done = disregard_entry(approved.workspace, seq, "x", admins(approved)).seq
    approved.erase(done)
    assert "unreadable_entry" in approved.codes()


def test_an_entry_about_a_model_alone_is_not_theirs_to_disregard(founded: World) -> None:
    seq = raw(founded, "recall", (f"model/{MODEL}",))
    with pytest.raises(GovernanceError, match="not about people or policy"):
        disregard_entry(founded.workspace, seq, "x", admins(founded))


def test_unsigned_copies_of_acts_stop_nobody(approved: World) -> None:
    """Acts count by the people's signatures alone, so one that anybody appends is without effect and no stop either."""
    genuine = approved.workspace.read().at(2)
    assert genuine is not None
    approved.workspace.writer = None
    approved.write(genuine.record)
    assert approved.decide().released


def test_a_trial_ledger_is_looked_after_by_one(tmp_path: Path) -> None:
    key = create_key(tmp_path / "tia.json", "person/tia", PASSPHRASE)
    workspace: Workspace = found_workspace(
        tmp_path / "trial",
        origin="test.example/trial",
        founders=[Founder(key, "Tia", roles=("workspace_admin", "auditor"))],
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
        trial=True,
    )
    world = World(workspace, tmp_path, {"tia": key})
    una, _ = fresh(world, "una", "auditor")
    enrol_person(workspace, una, key)
    disregard_entry(workspace, raw(world, "recall", ("people",)), "x", [key])
    new = PublicKey.model_validate(create_key(tmp_path / "tia2.json", "person/tia", PASSPHRASE).public.model_dump())
    state = directory(workspace.read()).person_at("person/tia", workspace.ledger.size())
    assert state is not None
    enrol_person(workspace, state.model_copy(update={"keys": (new,)}), key)
    assert valid(world, "tia") == {new.key_id}
    with pytest.raises(GovernanceError, match="not valid here"):
        enrol_person(workspace, una.model_copy(update={"name": "Una II"}), key)
