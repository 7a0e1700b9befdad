"""Attestations: one person's word about one state of a thing, until it ends; and releases that need one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Attestation,
    GovernanceError,
    PolicyError,
    State,
    adopt_policy,
    attest,
    attestation_record,
    attestation_register,
    attestations_about,
    directory,
    parse_policy,
    propose_act,
    read_draft,
    revoke_key,
    sign_draft,
    snapshot_digest,
    submit_draft,
    withdraw_attestation,
)
from cognify_dagster.governance.policy.text import explain_policy, policy_changes
from cognify_dagster.records import AttestationMade, AttestationWithdrawn, DatasetSnapshot, ModelRegistered, utc
from tests.governance.world import MODEL, World

TEXT = "I have read the agreement. It is in force."


def later(days: float) -> str:
    return utc(datetime.now(timezone.utc) + timedelta(days=days))


def make(world: World, about: str = f"model/{MODEL}", name: str = "carl", text_id: str = "baa", **more: Any) -> int:
    facts = {"role": "compliance_officer", "expires": later(30), **more}
    key = world.key(name)
    return attest(
        world.workspace, key, lambda now: attestation_record(now, text_id, about, TEXT, key.person, **facts)
    ).seq


def standing(world: World, about: str = f"model/{MODEL}", days: float = 0) -> list[Attestation]:
    reading = world.workspace.read()
    now = datetime.now(timezone.utc) + timedelta(days=days)
    return list(attestations_about(reading, directory(reading), about, now)[0])


def root(world: World, name: str = "loans_train") -> str:
    found = world.workspace.read().latest(DatasetSnapshot, f"dataset/{name}")
    assert found is not None
    return snapshot_digest(found.record.root)


def test_an_attestation_binds_the_snapshot_and_its_signer(ready: World) -> None:
    make(ready, "dataset/loans_train", text_id="data_provenance")
    (item,) = standing(ready, "dataset/loans_train")
    assert item.counts
    assert item.item.record.about_digest == root(ready)
    assert item.item.record.attested_by == "person/carl"
    assert State("dataset/loans_train", {root(ready): 1}).mismatch(item.item) is None
    altered = ready.snapshot("loans_train", "ef" * 32)
    why = State("dataset/loans_train", {snapshot_digest(altered.root): altered.seq}).mismatch(item.item)
    assert why is not None
    assert "about another snapshot" in why


def test_a_root_that_no_snapshot_has_cannot_be_attested(ready: World) -> None:
    make(ready, "dataset/loans_train")
    reading = ready.workspace.read()
    given = reading.all(AttestationMade)[0].record
    forged = given.model_copy(update={"about_digest": "sha256:" + "9" * 64})
    with pytest.raises(GovernanceError, match="does not hold the state"):
        propose_act(reading, forged)
    seq = ready.write(forged)
    assert [item.counts for item in standing(ready, "dataset/loans_train") if item.item.seq == seq] == [False]


def test_a_version_is_attested_by_its_model_file(ready: World) -> None:
    make(ready, f"model/{MODEL}@1", text_id="officer_certification")
    (item,) = standing(ready, f"model/{MODEL}@1")
    assert item.counts
    assert standing(ready) == [], "about the version, not about the model as a whole"
    with pytest.raises(GovernanceError, match="knows no model/credit_default@9"):
        make(ready, f"model/{MODEL}@9")
    with pytest.raises(GovernanceError, match="knows no dataset/other"):
        make(ready, "dataset/other")


def test_it_ends_with_its_date(ready: World) -> None:
    make(ready, expires=later(10))
    make(ready, text_id="licence", expires=None)
    assert [item.counts for item in standing(ready)] == [True, True]
    (ended, endless) = standing(ready, days=11)
    assert (ended.counts, ended.ended) == (False, "expired")
    assert endless.counts
    with pytest.raises(GovernanceError, match="it had expired"):
        make(ready, text_id="other", expires="2020-01-01T00:00:00Z")


def test_it_ends_with_its_withdrawal(ready: World) -> None:
    seq = make(ready)
    with pytest.raises(GovernanceError, match="Vera may not sign this"):
        withdraw_attestation(ready.workspace, ready.key("vera"), seq, "no")
    with pytest.raises(GovernanceError, match="is no attestation"):
        withdraw_attestation(ready.workspace, ready.key("carl"), 1, "no")
    end = withdraw_attestation(ready.workspace, ready.key("ada"), seq, "the vendor left").seq
    (item,) = standing(ready)
    assert (item.counts, item.ended, item.withdrawn_seq) == (False, "withdrawn", end)
    with pytest.raises(GovernanceError, match="was withdrawn already"):
        withdraw_attestation(ready.workspace, ready.key("carl"), seq, "again")
    given = ready.workspace.read().at(seq)
    assert given is not None
    ready.write(given.record)  # the old signed statement once more
    assert [again.counts for again in standing(ready)] == [False, False]
    assert make(ready) not in (seq, end), "it may be attested anew"
    assert [again.counts for again in standing(ready)] == [False, False, True]


def test_an_erased_withdrawal_does_not_bring_the_attestation_back(ready: World) -> None:
    seq = make(ready, "dataset/loans_train")
    end = withdraw_attestation(ready.workspace, ready.key("carl"), seq, "it was wrong").seq
    ready.erase(end)
    (item,) = standing(ready, "dataset/loans_train")
    assert not item.counts
    assert f"entry {end}, a withdrawal" in str(item.why)


def test_it_ends_with_the_key_that_signed_it(ready: World) -> None:
    make(ready)
    revoke_key(ready.workspace, "person/carl", ready.key("carl").key_id, "lost", ready.key("ada"))
    (item,) = standing(ready)
    assert (item.counts, item.ended) == (False, "revoked")


@pytest.mark.parametrize(
    "change", [{"party": "Other Cloud"}, {"expires": None}, {"text_id": "licence"}, {"role": "business_owner"}]
)
def test_a_changed_attestation_counts_for_nothing(ready: World, change: dict[str, object]) -> None:
    make(ready, party="Acme Cloud")
    given = ready.workspace.read().all(AttestationMade)[0].record
    ready.write(given.model_copy(update=change))
    assert [item.counts for item in standing(ready)] == [True, False]


def test_only_in_a_role_that_one_holds(ready: World) -> None:
    with pytest.raises(GovernanceError, match="Vera may not sign this"):
        make(ready, name="vera")
    with pytest.raises(GovernanceError, match="may not sign this"):
        make(ready, role="auditor")


def test_saying_the_same_twice_is_saying_it_once(ready: World) -> None:
    until = later(30)
    assert make(ready, expires=until) == make(ready, expires=until)
    assert make(ready, expires=until, party="Acme") != make(ready, expires=until)


def test_it_is_signed_on_another_machine(ready: World) -> None:
    reading = ready.workspace.read()
    record = attestation_record(
        reading, "baa", f"model/{MODEL}", TEXT, "person/carl", role="compliance_officer", expires=later(5), party="Acme"
    )
    draft = read_draft(propose_act(reading, record).to_bytes())
    assert "with Acme about model/credit_default" in draft.meaning
    submit_draft(ready.workspace, read_draft(sign_draft(draft, ready.key("carl")).to_bytes()))
    assert [item.counts for item in standing(ready)] == [True]


def test_the_register_holds_all_of_them(ready: World) -> None:
    make(ready, party="Acme Cloud")
    seq = make(ready, "dataset/loans_train", text_id="licence", expires=None)
    withdraw_attestation(ready.workspace, ready.key("carl"), seq, "no")
    reading = ready.workspace.read()
    found, wrong = attestation_register(reading, directory(reading), datetime.now(timezone.utc))
    assert [(item.item.record.text_id, item.counts) for item in found] == [("baa", True), ("licence", False)]
    assert wrong == ()


# --- releases that need one


BAA = {"text_id": "baa", "roles": ["compliance_officer"], "targets": ["production"], "frameworks": ["hipaa"]}


def demand(world: World, *wanted: dict[str, object]) -> None:
    """Bring a policy into force that demands attestations."""
    data = yaml.safe_load(DEFAULT_POLICY_YAML)
    policy = parse_policy({**data, "required_attestations": list(wanted)})
    adopt_policy(world.workspace, policy, "agreements", [world.key("ada"), world.key("finn")])


def reregister(world: World, **facts: object) -> None:
    known = world.workspace.read().latest(ModelRegistered, f"model/{MODEL}")
    assert known is not None
    world.write(known.record.model_copy(update=facts))


def reasons(world: World, target: str = "production", days: float = 0) -> list[str]:
    found = world.decide(target=target, days=days).reasons
    return [reason.text for reason in found if reason.code == "attestation_missing"]


def test_a_vendor_without_an_agreement_holds_back_a_hipaa_deployment(approved: World) -> None:
    reregister(approved, frameworks=("hipaa",), framework_facts={"serving_vendor": "Acme Cloud"})
    demand(approved, {**BAA, "party_fact": "serving_vendor"})
    assert reasons(approved) == ["the attestation baa with Acme Cloud about model/credit_default is missing"]
    assert reasons(approved, "staging") == []
    make(approved, party="Other Cloud")
    assert len(reasons(approved)) == 1
    seq = make(approved, party="ACME Cloud")
    assert reasons(approved) == []
    assert "expired" in reasons(approved, days=31)[0]
    withdraw_attestation(approved.workspace, approved.key("carl"), seq, "the vendor left")
    assert "was withdrawn" in reasons(approved)[0]


@pytest.mark.parametrize(
    ("facts", "blocked"),
    [
        ({}, ["does not say with whom"]),
        ({"serving_vendor": True}, ["does not say with whom"]),
        ({"serving_vendor": " "}, ["does not say with whom"]),
        ({"serving_vendor": False}, []),
        ({"serving_vendor": []}, []),
        ({"hipaa": {"serving_vendor": "Acme"}}, ["with Acme"]),
        ({"serving_vendor": ["Acme", "Beta"]}, ["with Acme", "with Beta"]),
        ({"serving_vendor": False, "hipaa": {"serving_vendor": "Acme"}}, ["with Acme"]),
    ],
)
def test_whom_the_fact_names_and_what_it_may_not_leave_open(
    approved: World, facts: dict[str, object], blocked: list[str]
) -> None:
    reregister(approved, frameworks=("hipaa",), framework_facts=facts)
    demand(approved, {**BAA, "party_fact": "serving_vendor"})
    found = reasons(approved)
    assert len(found) == len(blocked)
    assert all(part in text for part, text in zip(blocked, found, strict=True))


def test_what_is_not_in_scope_needs_nothing(approved: World) -> None:
    demand(approved, {**BAA, "tiers": ["high"]})
    assert reasons(approved) == [], "the model is not under hipaa"
    demand(approved, {"text_id": "baa", "tiers": ["low"]})
    assert reasons(approved) == []
    demand(approved, {"text_id": "baa"})
    assert len(reasons(approved, "staging")) == 1


def test_each_data_set_in_the_state_the_version_rests_on(approved: World) -> None:
    demand(approved, {"text_id": "data_provenance", "about": "datasets"})
    assert len(reasons(approved)) == 2
    make(approved, "dataset/loans_train", text_id="data_provenance", expires=None)
    used = approved.data["holdout"]
    approved.snapshot("loans_holdout", "ef" * 32)
    make(approved, "dataset/loans_holdout", text_id="data_provenance", expires=None)
    (reason,) = reasons(approved)
    assert "about another snapshot of dataset/loans_holdout" in reason
    make(approved, "dataset/loans_holdout", text_id="data_provenance", expires=None, state_seq=used)
    assert reasons(approved) == []


def test_the_role_that_the_policy_asks_for(approved: World) -> None:
    demand(approved, {"text_id": "officer_certification", "about": "version", "roles": ["business_owner"]})
    make(approved, f"model/{MODEL}@1", text_id="officer_certification")
    assert "attested in the role compliance_officer" in reasons(approved)[0]
    make(approved, f"model/{MODEL}@1", "olga", text_id="officer_certification", role="business_owner")
    assert reasons(approved) == []


def test_a_policy_without_demands_has_the_digest_it_always_had() -> None:
    data = yaml.safe_load(DEFAULT_POLICY_YAML)
    data["tiers"]["high"].pop("required_sections")
    plain = parse_policy(data)
    assert "required_attestations" not in plain.as_json()
    assert not any("required_sections" in tier for tier in plain.as_json()["tiers"].values())
    assert parse_policy(plain.as_json()).digest == plain.digest


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ({"text_id": "BAA"}, "required_attestations.0.text_id"),
        ({"text_id": "baa", "tiers": ["highest"]}, "there is no tier 'highest'"),
        ({"text_id": "baa", "roles": ["lawyer"]}, "role 'lawyer' is not in roles"),
        ({"text_id": "baa", "about": "vendor"}, "required_attestations.0.about"),
        ({"text_id": "baa", "extra": 1}, "required_attestations.0.extra"),
    ],
)
def test_a_wrong_demand_is_named(wanted: dict[str, object], part: str) -> None:
    with pytest.raises(PolicyError, match=part):
        parse_policy({**yaml.safe_load(DEFAULT_POLICY_YAML), "required_attestations": [wanted]})


def test_a_demand_is_explained_and_its_coming_and_going_is_a_change() -> None:
    before = parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML))
    wanted = {**BAA, "party_fact": "serving_vendor", "tiers": ["high"]}
    after = parse_policy({**before.as_json(), "required_attestations": [wanted]})
    words = [line for _, lines in explain_policy(after) for line in lines]
    assert (
        "No release in tier high on production for models under hipaa without the attestation baa about the model by "
        "a compliance officer, with everyone whom the fact serving_vendor names."
    ) in words
    assert any(line.startswith("required attestations: adds ") for line in policy_changes(before, after))
    assert any(line.startswith("required attestations: drops ") for line in policy_changes(after, before))
    assert policy_changes(after, after) == []


def test_withdrawals_of_nothing_are_reported(ready: World) -> None:
    seq = make(ready)
    withdraw_attestation(ready.workspace, ready.key("carl"), seq, "over")
    given = ready.workspace.read().all(AttestationWithdrawn)[0].record
    ready.write(given.model_copy(update={"attestation_seq": 1}))
    reading = ready.workspace.read()
    _, wrong = attestation_register(reading, directory(reading), datetime.now(timezone.utc))
    assert ["is no attestation before it" in text for _, text in wrong] == [True]
