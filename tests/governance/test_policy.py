"""The policy: errors that name the field, and that nothing but a signed adoption changes it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    GovernanceError,
    Policy,
    PolicyError,
    adopt_policy,
    decide,
    load_policy,
    parse_policy,
    policy_in_force,
)
from cognify_dagster.governance.policy.text import explain_policy, policy_changes
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import PolicyAdopted
from tests.governance.world import MODEL, World, clone


def changed(**changes: Any) -> dict[str, Any]:
    return {**yaml.safe_load(DEFAULT_POLICY_YAML), **changes}


def stricter(world: World, title: str = "stricter") -> Policy:
    data = policy_in_force(world.workspace.read()).policy.as_json() | {"title": title}
    data["stages"]["business"]["quorum"] = 2
    return parse_policy(data)


def quorum(world: World) -> int:
    return policy_in_force(world.workspace.read()).policy.stages["business"].quorum


STAGES = yaml.safe_load(DEFAULT_POLICY_YAML)["stages"]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (
            changed(stages={**STAGES, "business": {**STAGES["business"], "role": "wizard"}}),
            r"stages\.business\.role.*wizard",
        ),
        (changed(tiers={"high": {"stages": ["automated", "nope"]}}), r"tiers\.high\.stages.*nope"),
        (changed(tiers={"high": {"stages": []}}), r"tiers\.high\.stages"),
        (changed(tiers={"high": {"stages": ["compliance", "compliance"]}}), r"tiers\.high\.stages.*twice"),
        (changed(tiers={"high": {"stages": ["automated"], "approval_days": 0}}), r"tiers\.high\.approval_days"),
        (changed(stages={**STAGES, "automated": {"kind": "automated"}}), r"stages\.automated.*gate"),
        (changed(stages={**STAGES, "business": {"kind": "sign_off", "role": "auditor"}}), r"stages\.business.*meaning"),
        (changed(stages={**STAGES, "business": {**STAGES["business"], "quorum": 0}}), r"stages\.business\.quorum"),
        (changed(unattributed="ignore"), "unattributed"),
        (changed(blockers=["wizard"]), "blockers.*wizard"),
        (changed(version=2), "version"),
        (changed(quorums=3), "quorums"),
        (changed(separation_of_duties={"exclude": ["friends"]}), r"separation_of_duties\.exclude"),
        ([], "mapping"),
    ],
)
def test_an_error_names_source_and_field(data: Any, where: str) -> None:
    with pytest.raises(PolicyError, match=f"policy.yaml: .*{where}"):
        parse_policy(data, "policy.yaml")


@pytest.mark.parametrize("text", ["tiers: [", "\x00", "!!python/object/apply:os.system ['true']"])
def test_a_file_that_is_no_yaml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(PolicyError, match=r"policy\.yaml"):
        load_policy(tmp_path / "policy.yaml")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "absent.yaml")


def test_the_digest_depends_on_content_not_on_spelling() -> None:
    spelled = parse_policy(changed(unattributed="block", blockers=["compliance_officer"]))
    assert spelled.digest == parse_policy(changed()).digest
    assert spelled.digest != parse_policy(changed(unattributed="warn")).digest


def test_editing_the_file_changes_nothing(approved: World) -> None:
    path = approved.workspace.config.policy
    path.write_text(path.read_text().replace("[automated, validation, compliance, business]", "[automated]"))
    assert [stage.name for stage in approved.decide().stages] == ["automated", "validation", "compliance", "business"]


def test_two_adopters_bring_a_policy_into_force(founded: World) -> None:
    policy = stricter(founded)
    seq = adopt_policy(founded.workspace, policy, "four eyes", [founded.key("ada"), founded.key("finn")]).seq
    found = policy_in_force(founded.workspace.read())
    assert (found.seq, found.digest) == (seq, policy.digest)
    assert found.policy == policy


@pytest.mark.parametrize("signers", [["ada"], ["ada", "ada"], ["ada", "vera"]])
def test_fewer_than_the_quorum_adopt_nothing(founded: World, signers: list[str]) -> None:
    before = founded.workspace.ledger.size()
    with pytest.raises(GovernanceError):
        adopt_policy(founded.workspace, stricter(founded), "x", [founded.key(name) for name in signers])
    assert founded.workspace.ledger.size() == before


def signed_by_both(world: World, record: PolicyAdopted) -> PolicyAdopted:
    """Sign an adoption as both admins, past the checks of `adopt_policy`."""
    reading = world.workspace.read()
    head = reading.view.checkpoint()
    envelopes = tuple(
        sign_act(record, world.key(name), ledger=reading.origin, role="workspace_admin", meaning="…", head=head)
        for name in ("ada", "finn")
    )
    return record.model_copy(update={"envelopes": envelopes})


def adopted(world: World, title: str = "stricter") -> PolicyAdopted:
    adopt_policy(world.workspace, stricter(world, title), "x", [world.key("ada"), world.key("finn")])
    return world.workspace.read().all(PolicyAdopted)[-1].record


def test_an_adoption_with_a_signature_missing_or_doubled_has_no_effect(founded: World, tmp_path: Path) -> None:
    other = clone(founded, tmp_path / "other")
    genuine = adopted(founded)
    for envelopes in ((), genuine.envelopes[:1], genuine.envelopes[:1] * 2):
        other.write(genuine.model_copy(update={"envelopes": envelopes}))
    assert quorum(other) == 1
    assert len(policy_in_force(other.workspace.read()).problems) == 3
    other.write(genuine)
    assert quorum(other) == 2


def test_signatures_do_not_carry_over_to_another_policy(founded: World) -> None:
    genuine = adopted(founded)
    looser = parse_policy({**genuine.policy, "unattributed": "warn"})
    founded.write(genuine.model_copy(update={"policy": looser.as_json(), "policy_digest": looser.digest}))
    assert policy_in_force(founded.workspace.read()).policy.unattributed == "block"


def test_an_old_adoption_cannot_be_replayed_to_bring_an_old_policy_back(founded: World) -> None:
    first = adopted(founded, "first")
    adopted(founded, "second")
    founded.write(first)
    assert policy_in_force(founded.workspace.read()).policy.title == "second"
    adopted(founded, "first")  # signed anew it may come back
    assert policy_in_force(founded.workspace.read()).policy.title == "first"


def test_a_policy_of_a_newer_release_blocks_instead_of_falling_back(approved: World) -> None:
    """It was properly adopted, with a field this release does not know: the older, perhaps laxer one must not apply."""
    newer = policy_in_force(approved.workspace.read()).policy.as_json() | {"cooling_off_days": 7}
    digest = "sha256:" + hashlib.sha256(canonical_json(newer)).hexdigest()
    approved.write(
        signed_by_both(approved, PolicyAdopted(policy=newer, policy_digest=digest, reason="x", envelopes=()))
    )
    assert approved.codes() == ["policy_unreadable"]
    assert "cooling_off_days" in approved.decide().reasons[0].text


def test_a_digest_that_is_not_that_of_the_policy_has_no_effect(founded: World) -> None:
    """Even properly signed: statements name the digest, so it must stand for what is in force."""
    policy = stricter(founded)
    record = PolicyAdopted(policy=policy.as_json(), policy_digest="sha256:" + "0" * 64, reason="x", envelopes=())
    founded.write(signed_by_both(founded, record))
    assert quorum(founded) == 1
    founded.write(signed_by_both(founded, record.model_copy(update={"policy_digest": policy.digest})))
    assert quorum(founded) == 2


def with_limit(days: int | None) -> Policy:
    """The standard policy with a time within which the stages of its high tier should be signed."""
    tiers = yaml.safe_load(DEFAULT_POLICY_YAML)["tiers"]
    return parse_policy(changed(tiers={**tiers, "high": {**tiers["high"], "sign_off_days": days}}))


def test_a_policy_without_a_time_for_sign_offs_has_the_digest_that_it_had_before_there_was_one() -> None:
    plain = parse_policy(changed())
    assert with_limit(None).digest == plain.digest
    assert "sign_off_days" not in str(plain.as_json())
    assert with_limit(14).digest != plain.digest
    assert parse_policy(with_limit(14).as_json()).digest == with_limit(14).digest


def test_a_time_for_sign_offs_is_explained_and_its_coming_and_going_is_a_change() -> None:
    words = " ".join(line for _, lines in explain_policy(with_limit(14)) for line in lines)
    assert "Each stage should be signed within 14 days; who is late is reminded, and nothing else follows." in words
    assert policy_changes(with_limit(None), with_limit(14)) == [
        "tier high: a stage should be signed within 14 days instead of by no set time"
    ]
    assert policy_changes(with_limit(14), with_limit(1)) == [
        "tier high: a stage should be signed within 1 day instead of within 14 days"
    ]


def test_time_that_passed_changes_no_decision(ready: World) -> None:
    """Whoever is late is reminded elsewhere: the decision does not know the time within which a stage should be signed."""
    before = [item.code for item in ready.decide().reasons]
    adopt_policy(ready.workspace, with_limit(1), "deadlines", [ready.key("ada"), ready.key("finn")])
    later = datetime.now(timezone.utc) + timedelta(days=100)
    after = decide(ready.workspace.read(), MODEL, "1", "production", later)
    assert [item.code for item in after.reasons] == before
    assert not after.released
