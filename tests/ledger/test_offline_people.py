"""The offline verifier and people: passkeys, vouchers, keys that end, recovery, delegation, recertification, disregarded entries."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import canonical_json, pae
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.records import (
    Delegated,
    DelegationEnded,
    EntryDisregarded,
    Passkey,
    Person,
    PersonRecovered,
    PublicKey,
    Recertified,
    Record,
)
from tests.ledger import bundle_factory as bf
from tests.ledger import test_offline_passkeys as pk

HOLDS, TAMPERED, ROLLED_BACK, UNREADABLE, UNPROVEN, USAGE = range(6)
POLICY: dict[str, Any] = {
    "version": 1, "adopters": ["workspace_admin"], "policy_quorum": 2, "people": {"vouchers": 2, "recertify_days": None},
    "stages": {"validation": {"min_strength": "S3"}, "board": {"min_strength": "S4"}},
}  # fmt: skip
Step = Callable[[bf.World, int], Any]


def judged(tmp_path: Path, step: Step, policy: dict[str, Any] | None = None) -> dict[str, Any]:
    """The whole story, then `step` after its release, and the verifier's report."""
    world = bf.tell(tmp_path / "w", policy=policy or POLICY, before_anchor=step)
    return ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust())


def said(report: dict[str, Any]) -> str:
    found = [f"{item['outcome']} {item['where']}: {item['message']}" for item in report["findings"]]
    return "\n".join([*found, *report["warnings"]])


def release(world: bf.World, package: int, *sign_offs: int) -> int:
    return world.grant(package, list(sign_offs), target="staging")


def signed(world: bf.World, package: int, who: str, **changed: Any) -> int:
    """A sign-off for staging by somebody, and a release that rests on it; return the sign-off's entry."""
    seq = world.sign_off(who, package, **{"target_environments": ["staging"], **changed})
    release(world, package, seq)
    return seq


# --- passkeys ---


def passkey(algorithm: str, cose: bytes | None = None) -> PublicKey:
    public = cose or pk.cose(algorithm)
    return PublicKey(
        key_id=hashlib.sha256(public).hexdigest()[:16],
        algorithm="webauthn",
        public=base64.b64encode(public).decode(),
        strength="S4",
        passkey=Passkey(credential_id="AAAA", rp_id=pk.RP, origins=("https://other.example", pk.ORIGIN)),
    )


def asserted(statement: bytes, algorithm: str, key: PublicKey, **changed: Any) -> dict[str, Any]:
    """An envelope with an assertion as an authenticator makes it; `changed` bends one part of it."""
    challenge = hashlib.sha256(pae(ov.PAYLOAD_TYPE, statement)).digest()
    encoded = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
    client = pk.client_data(**{"challenge": encoded, **changed.get("client", {})})
    data = pk.data(**changed.get("data", {}))
    raw = pk.sign(changed.get("signer", algorithm), data + hashlib.sha256(client).digest())
    raw = raw[:-1] + bytes([raw[-1] ^ changed.get("flip", 0)])
    member: dict[str, Any] = {"keyid": key.key_id, "sig": base64.b64encode(raw).decode()}
    parts = {"authenticator_data": data, "client_data_json": client}
    member["webauthn"] = {name: base64.b64encode(part).decode() for name, part in parts.items()}
    if changed.get("bare"):
        del member["webauthn"]
    payload = base64.b64encode(statement).decode()
    return {"payload": payload, "payloadType": ov.PAYLOAD_TYPE, "signatures": [member]}


def by_passkey(
    algorithm: str, *, cose: bytes | None = None, strength: str = "S4", stage: str = "board", **changed: Any
) -> Step:
    def step(world: bf.World, package: int) -> None:
        key = passkey(algorithm, cose)
        world.enrol(Person(person="person/pat", name="Pat", roles=("model_validator",), keys=(key,)), "ada", "bo")
        given = {"key_id": key.key_id, "target_environments": ["staging"], "stage": stage}
        statement = canonical_json(world.statement("pat", package, **given))
        record = {"strength": strength, "envelope": asserted(statement, algorithm, key, **changed)}
        release(world, package, world.sign_off("pat", package, record=record, **given))

    return step


@pytest.mark.parametrize("algorithm", pk.KEYS)
def test_a_sign_off_by_a_passkey_counts_with_strength_s4(algorithm: str, tmp_path: Path) -> None:
    report = judged(tmp_path, by_passkey(algorithm))
    assert report["exit_code"] == HOLDS, said(report)
    assert [item["strength"] for item in report["sign_offs"]] == ["S3", "S3", "S3", "S4"]
    assert [item["target"] for item in report["grants"]] == ["production", "staging"]
    assert "Pat (person/pat) as model_validator (board), S4" in ov.report_text(report)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"flip": 1}, "signature does not verify"), ({"signer": "RS256"}, "signature does not verify"),
        ({"client": {"challenge": "AAAA"}}, "another challenge"), ({"client": {"origin": "https://evil.example"}}, "elsewhere"),
        ({"client": {"type": "webauthn.create"}}, "not an assertion's"), ({"client": {"crossOrigin": True}}, "elsewhere"),
        ({"data": {"flags": pk.UP}}, "did not verify its user"), ({"data": {"rp": "evil.example"}}, "another site"),
        ({"bare": True}, "a passkey's signature has an assertion"), ({"strength": "S3"}, "claims the strength S3, the key has S4"),
    ],
)  # fmt: skip
def test_an_altered_assertion_does_not_count(changed: dict[str, Any], reason: str, tmp_path: Path) -> None:
    report = judged(tmp_path, by_passkey("ES256", **changed))
    assert report["exit_code"] == TAMPERED
    assert reason in said(report)
    assert [item["target"] for item in report["grants"]] == ["production"]


def test_client_data_that_name_a_member_twice_do_not_count() -> None:
    client = pk.client_data()
    twice = client[:-1] + b',"type":"webauthn.get"}'
    with pytest.raises(ov.Bad, match="named twice"):
        pk.verify(client=twice)


def test_a_passkey_of_an_unknown_kind_is_unproven(tmp_path: Path) -> None:
    report = judged(tmp_path, by_passkey("ES256", cose=pk.cose("ES256", p3=-35)))
    assert report["exit_code"] == UNPROVEN, said(report)
    assert "does not know the kind of the passkey's key" in said(report)


def test_a_personal_key_has_no_assertion_and_not_the_strength_of_a_passkey(tmp_path: Path) -> None:
    report = judged(tmp_path, lambda w, p: signed(w, p, "val", record={"strength": "S4"}))
    assert (report["exit_code"], "claims the strength S4, the key has S3" in said(report)) == (TAMPERED, True)

    def with_assertion(world: bf.World, package: int) -> None:
        statement = canonical_json(world.statement("val", package))
        envelope = asserted(statement, "EdDSA", passkey("EdDSA"))
        envelope["signatures"][0]["keyid"] = bf.key_id("val")
        world.sign_off("val", package, record={"envelope": envelope})

    report = judged(tmp_path / "2", with_assertion)
    assert (report["exit_code"], "no other one has" in said(report)) == (TAMPERED, True)


def test_a_release_needs_the_strength_that_its_stage_demands(tmp_path: Path) -> None:
    report = judged(tmp_path, lambda w, p: signed(w, p, "val", stage="board"))
    assert (report["exit_code"], "less strength than S4" in said(report)) == (TAMPERED, True)


# --- enrolment, keys that end, recovery ---


class Smuggled(bf.WorkloadEnrolled):
    """An enrolment of a machine that says more than its schema allows."""

    more: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        facts = super().facts()
        facts.pop("more")
        return {**facts, "workload": {**facts["workload"], **self.more}}


@pytest.mark.parametrize(
    "more",
    [
        {"person": "person/bo", "name": "Bo", "roles": ["model_validator"], "keys": [bf.public("evil").model_dump(mode="json")]},
        {"workload": "person/bo"},
    ],
)  # fmt: skip
def test_one_admin_does_not_enrol_a_person_as_a_machine(more: dict[str, Any], tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        workload = bf.Workload(workload="workload/evil", key=bf.public("evil"), kinds=())
        record = Smuggled(workload=workload, enrolled_by="person/ada", envelope=bf.PLACEHOLDER, more=more)
        signed_record = record.model_copy(update={"envelope": world.act(record, "ada")})
        world.append(signed_record, "person/ada", subjects=("people", "person/bo"))
        world.sign_off("bo", package, key="evil", key_id=bf.key_id("evil"))

    report = judged(tmp_path, step)
    assert (report["exit_code"], len(report["sign_offs"])) == (TAMPERED, 3), said(report)


def eve(*roles: str, key: str = "eve") -> Person:
    return bf.person("eve", *(roles or ("model_validator",)), key=key)


def test_two_vouch_for_a_new_person_who_can_then_sign(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        world.enrol(eve(), "ada", "val")
        signed(world, package, "eve")

    report = judged(tmp_path, step)
    assert report["exit_code"] == HOLDS, said(report)
    assert "one vouched" not in said(report)


def test_a_policy_from_before_vouchers_takes_one_and_says_so(tmp_path: Path) -> None:
    world = bf.tell(tmp_path / "w")
    report = ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust())
    assert report["exit_code"] == HOLDS
    assert said(report).count("one vouched: no number in the policy") == 3


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda w, p: w.enrol(eve(), "ada"), "1 of 2 people vouched for person/eve"),
        (lambda w, p: w.enrol(eve(), "ada", "ada"), "one of them twice"),
        (lambda w, p: w.enrol(eve(), "val", "com"), "person/val is no workspace_admin"),
        (lambda w, p: w.enrol(eve("workspace_admin"), "ada", "eve"), "the key"),
        (lambda w, p: w.enrol(eve(key="val"), "ada", "bo"), "belongs to person/val already"),
        (lambda w, p: w.enrol(bf.person("val", "model_validator", "workspace_admin"), "ada", "val"), "vouch for themselves"),
        (lambda w, p: w.enrol(bf.person("ada", "workspace_admin", key="ada2"), "ada", "bo"), "vouch for themselves"),
        (lambda w, p: w.enrol(bf.person("val", "model_validator", key="val2"), "ada"), "1 of 2 people vouched"),
    ],
    ids=["one", "one twice", "no admin", "the new person", "another's key", "a role for oneself", "oneself", "keys by one"],
)  # fmt: skip
def test_an_enrolment_that_does_not_count(step: Step, reason: str, tmp_path: Path) -> None:
    report = judged(tmp_path, step)
    assert (report["exit_code"], reason in said(report)) == (TAMPERED, True), said(report)


def test_a_person_rotates_with_their_own_key_and_the_old_one_ends(tmp_path: Path) -> None:
    def rotate(world: bf.World, package: int) -> None:
        world.enrol(bf.person("val", "model_validator", key="val2"), "ada", "val")

    def step(world: bf.World, package: int) -> None:
        rotate(world, package)
        signed(world, package, "val", key="val2", key_id=bf.key_id("val2"))

    report = judged(tmp_path, step)
    assert report["exit_code"] == HOLDS, said(report)

    def old(world: bf.World, package: int) -> None:
        rotate(world, package)
        signed(world, package, "val")

    report = judged(tmp_path / "2", old)
    assert (report["exit_code"], "was revoked by entry" in said(report)) == (TAMPERED, True)


def test_one_admin_may_take_a_role_away_and_it_counts_no_more(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        world.enrol(bf.person("val"), "ada")
        signed(world, package, "val")

    report = judged(tmp_path, step)
    assert report["exit_code"] == TAMPERED
    assert "by a signer who did not hold the role" in said(report)


def test_an_act_signed_before_the_person_changed_brings_nothing_back(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        head = world.head()
        world.enrol(bf.person("val"), "ada", "bo")
        world.enrol(bf.person("val", "model_validator"), "ada", "bo", checkpoint=head)

    report = judged(tmp_path, step)
    assert (report["exit_code"], "signed before this person changed" in said(report)) == (TAMPERED, True)


def test_a_statement_counts_once(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        seq = world.sign_off("val", package, target_environments=["staging"])
        view = world.ledger.view().entries[seq]
        leaf, facts = view.entry.leaf.hex(), view.payload["facts"]
        world.sign_off("val", package, decision="withdraw", reference={"entry_seq": seq, "entry_leaf": leaf})
        release(world, package, world.append(bf.SignOff(**facts), "person/val"))

    report = judged(tmp_path, step)
    assert (report["exit_code"], "stands in an earlier entry; it counts once" in said(report)) == (TAMPERED, True)


def recover(world: bf.World, who: Person, *numbers: int, named: tuple[int, ...] | None = None) -> int:
    names = [f"recovery{n}" for n in numbers]
    ids = tuple(sorted(bf.key_id(f"recovery{n}") for n in named or numbers))
    record = PersonRecovered(person=who, reason="lost", recovery_keys=ids, envelopes=())
    envelopes = tuple(world.act(record, "", key=name, person="recovery") for name in names)
    return world.append(record.model_copy(update={"envelopes": envelopes}), "person/ada")


def test_two_recovery_keys_give_a_person_new_keys(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        recover(world, bf.person("val", "model_validator", key="val2"), 1, 3)
        signed(world, package, "val", key="val2", key_id=bf.key_id("val2"))

    report = judged(tmp_path, step)
    assert report["exit_code"] == HOLDS, said(report)

    def old(world: bf.World, package: int) -> None:
        recover(world, bf.person("val", "model_validator", key="val2"), 1, 3)
        signed(world, package, "val")

    assert "was revoked by entry" in said(judged(tmp_path / "2", old))


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda w, p: recover(w, eve(), 1), "does not fit what stands before it, or others must sign"),
        (lambda w, p: recover(w, eve(), 1, 1), "one of them twice"),
        (lambda w, p: recover(w, eve(), 1, 2, named=(1, 3)), "names other people than those who signed"),
        (lambda w, p: recover(w, eve(), 1, 4), "was never enrolled"),
        (
            lambda w, p: recover(w, bf.person("val", "model_validator"), 1, 2),
            "does not fit what stands before it, or others must sign",
        ),
        (lambda w, p: w.adopt_policy(POLICY, "recovery1", "recovery2"), "was never enrolled"),
    ],
    ids=["one", "one twice", "others named", "a strange key", "an old key", "recovery keys sign nothing else"],
)
def test_a_recovery_that_does_not_count(step: Step, reason: str, tmp_path: Path) -> None:
    report = judged(tmp_path, step)
    assert (report["exit_code"], reason in said(report)) == (TAMPERED, True), said(report)


# --- delegation and recertification ---

DAYS = {"starts": "2025-10-01T00:00:00Z", "expires": "2025-10-20T00:00:00Z"}


def delegate(world: bf.World, by: str = "val", **changed: Any) -> int:
    fields = {"delegate": "person/biz", "role": "model_validator", "reason": "leave", **DAYS, **changed}
    record = Delegated(delegator=f"person/{by}", envelope=bf.PLACEHOLDER, **fields)
    return world.append(record.model_copy(update={"envelope": world.act(record, by)}), f"person/{by}")


def end(world: bf.World, seq: int, by: str = "val") -> int:
    record = DelegationEnded(
        delegation_seq=seq, delegator="person/val", delegate="person/biz", reason="back", ended_by=f"person/{by}",
        envelope=bf.PLACEHOLDER,
    )  # fmt: skip
    return world.append(record.model_copy(update={"envelope": world.act(record, by)}), f"person/{by}")


def on_behalf(world: bf.World, package: int, seq: int, who: str = "biz", **changed: Any) -> int:
    leaf = world.ledger.view().entries[seq].entry.leaf.hex()
    behalf = {"person": "person/val", "delegation": {"entry_seq": seq, "entry_leaf": leaf}}
    fields = {"stage": "validation", "role": "model_validator", "on_behalf_of": behalf, **changed}
    return signed(world, package, who, **fields)


def test_a_delegate_signs_on_behalf_of_the_delegator(tmp_path: Path) -> None:
    report = judged(tmp_path, lambda w, p: on_behalf(w, p, delegate(w, models=(bf.MODEL,), stages=("validation",))))
    assert report["exit_code"] == HOLDS, said(report)
    assert "on behalf of person/val (by entry " in ov.report_text(report)


def _ended(world: bf.World, package: int) -> None:
    seq = delegate(world)
    end(world, seq)
    on_behalf(world, package, seq)


def _role_lost_and_given_again(world: bf.World, package: int) -> None:
    seq = delegate(world)
    world.enrol(bf.person("val"), "ada")
    world.enrol(bf.person("val", "model_validator"), "ada", "bo")
    on_behalf(world, package, seq)


def _key_lost(world: bf.World, package: int) -> None:
    seq = delegate(world)
    world.revoke("val")
    on_behalf(world, package, seq)


def _without_the_right_leaf(world: bf.World, package: int) -> None:
    behalf = {"person": "person/val", "delegation": {"entry_seq": delegate(world), "entry_leaf": "0" * 64}}
    signed(world, package, "biz", stage="validation", role="model_validator", on_behalf_of=behalf)


def _in_the_role_alone(world: bf.World, package: int) -> None:
    delegate(world)
    signed(world, package, "biz", stage="validation", role="model_validator")


@pytest.mark.parametrize(
    "step",
    [
        _ended, _role_lost_and_given_again, _key_lost, _without_the_right_leaf, _in_the_role_alone,
        lambda w, p: on_behalf(w, p, delegate(w, models=("another_model",))),
        lambda w, p: on_behalf(w, p, delegate(w, stages=("compliance",))),
        lambda w, p: on_behalf(w, p, delegate(w, expires="2025-10-02T00:00:00Z")),
        lambda w, p: on_behalf(w, p, delegate(w, starts="2025-10-19T00:00:00Z")),
        lambda w, p: on_behalf(w, p, delegate(w), who="com"),
    ],
)  # fmt: skip
def test_a_release_on_a_delegation_that_does_not_cover_it(step: Step, tmp_path: Path) -> None:
    report = judged(tmp_path, step)
    assert report["exit_code"] == TAMPERED
    assert "by a signer who did not hold the role" in said(report)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"role": "business_owner"}, "does not fit what stands before it, or others must sign"), ({"delegate": "person/val"}, "does not fit what stands before it, or others must sign"),
        ({"delegate": "person/nobody"}, "does not fit what stands before it, or others must sign"), ({"expires": "2026-10-01T00:00:00Z"}, "does not fit what stands before it, or others must sign"),
        ({"by": "ada", "role": "workspace_admin"}, "does not fit what stands before it, or others must sign"),
    ],
)  # fmt: skip
def test_a_delegation_that_does_not_count(changed: dict[str, Any], reason: str, tmp_path: Path) -> None:
    report = judged(tmp_path, lambda w, p: delegate(w, **changed))
    assert (report["exit_code"], reason in said(report)) == (TAMPERED, True), said(report)


def test_a_delegation_is_not_ended_by_others(tmp_path: Path) -> None:
    report = judged(tmp_path, lambda w, p: end(w, delegate(w), by="com"))
    assert (report["exit_code"], "does not fit what stands before it, or others must sign" in said(report)) == (
        TAMPERED,
        True,
    )


def test_roles_count_only_while_they_are_recertified(tmp_path: Path) -> None:
    policy = {**POLICY, "people": {"vouchers": 2, "recertify_days": 30}}

    def later(world: bf.World, package: int) -> None:
        world.now += 40 * 86_400 * 10**6
        signed(world, package, "val")

    report = judged(tmp_path, later, policy)
    assert (report["exit_code"], "did not hold the role" in said(report)) == (TAMPERED, True)

    def confirmed(world: bf.World, package: int) -> None:
        world.now += 40 * 86_400 * 10**6
        for who, by, roles in (("val", "bo", ("model_validator",)), ("bo", "ada", ("workspace_admin",))):
            record = Recertified(
                person=f"person/{who}", roles=roles, recertified_by=f"person/{by}", envelope=bf.PLACEHOLDER
            )
            world.append(record.model_copy(update={"envelope": world.act(record, by)}), f"person/{by}")
        signed(world, package, "val")

    report = judged(tmp_path / "2", confirmed, policy)
    assert report["exit_code"] == HOLDS, said(report)


@pytest.mark.parametrize(("by", "roles"), [("val", ("model_validator",)), ("com", ("model_validator",)), ("bo", ())])
def test_a_recertification_that_does_not_count(by: str, roles: tuple[str, ...], tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        record = Recertified(person="person/val", roles=roles, recertified_by=f"person/{by}", envelope=bf.PLACEHOLDER)
        world.append(record.model_copy(update={"envelope": world.act(record, by)}), f"person/{by}")

    report = judged(tmp_path, step)
    assert (report["exit_code"], "does not fit what stands before it, or others must sign" in said(report)) == (
        TAMPERED,
        True,
    )


# --- disregarded entries, unknown and hidden ones ---


def disregard(world: bf.World, seq: int, *signers: str) -> int:
    people = tuple(sorted(f"person/{name}" for name in signers))
    return world.joint(EntryDisregarded(seq=seq, reason="never meant", signers=people, envelopes=()), *signers)


def test_an_enrolment_without_effect_is_no_flaw_once_it_is_disregarded(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        disregard(world, world.enrol(eve(), "ada"), "ada", "bo")

    report = judged(tmp_path, step)
    assert report["exit_code"] == HOLDS, said(report)
    assert "1 of 2 people vouched for person/eve (no effect; disregarded)" in said(report)

    def still_nobody(world: bf.World, package: int) -> None:
        step(world, package)
        signed(world, package, "eve")

    assert "was never enrolled" in said(judged(tmp_path / "2", still_nobody))


@pytest.mark.parametrize("signers", [("ada",), ("ada", "val"), ("val", "com")])
def test_disregarding_takes_two_admins(signers: tuple[str, ...], tmp_path: Path) -> None:
    report = judged(tmp_path, lambda w, p: disregard(w, w.enrol(eve(), "ada"), *signers))
    assert (report["exit_code"], "does not fit what stands before it, or others must sign" in said(report)) == (
        TAMPERED,
        True,
    )


def test_nobody_disregards_an_entry_about_themselves(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        disregard(world, world.enrol(bf.person("bo", "workspace_admin", key="bo2"), "ada"), "ada", "bo")

    report = judged(tmp_path, step)
    assert (report["exit_code"], "does not fit what stands before it, or others must sign" in said(report)) == (
        TAMPERED,
        True,
    )


def test_what_is_about_the_version_stays_a_flaw(tmp_path: Path) -> None:
    report = judged(tmp_path, lambda w, p: disregard(w, w.sign_off("val", p, key="com"), "ada", "bo"))
    assert report["exit_code"] == TAMPERED


class Unknown(Record):
    """A kind of a later release."""

    kind = "person_promoted"
    about: str

    def subjects(self) -> tuple[str, ...]:
        return (self.about,)


@pytest.mark.parametrize("about", ["people", "policy", f"oversight/{bf.MODEL}"])
def test_what_the_verifier_does_not_know_is_unproven(about: str, tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        world.append(Unknown(about=about), "person/ada", writer=None)

    report = judged(tmp_path, step)
    assert (report["exit_code"], "does not know what entries of its kind mean" in said(report)) == (UNPROVEN, True)


@pytest.mark.parametrize("act", [delegate, lambda w: recover(w, eve(), 1, 2), lambda w: disregard(w, 1, "ada", "bo")])
def test_acts_about_people_may_not_be_withheld(act: Callable[[bf.World], int], tmp_path: Path) -> None:
    world = bf.tell(tmp_path / "w", policy=POLICY)
    seq = act(world)
    out = bf.export(world, tmp_path / "b")
    (out / f"ledger/payloads/{seq:08d}.json").unlink()
    bf.reseal(out)
    assert ov.verify_bundle(out, world.trust())["exit_code"] == UNPROVEN


def test_keys_end_with_an_entry_about_their_holder_that_is_hidden(tmp_path: Path) -> None:
    """It may have taken the key away: what rests on it afterwards is not proven."""
    world = bf.tell(tmp_path / "w", policy=POLICY)
    seq = world.enrol(bf.person("val", "model_validator", "auditor"), "ada", "bo")
    signed(world, 10, "val")
    out = bf.export(world, tmp_path / "b")
    (out / f"ledger/payloads/{seq:08d}.json").unlink()
    bf.reseal(out)
    report = ov.verify_bundle(out, world.trust())
    assert (report["exit_code"], len(report["sign_offs"])) == (UNPROVEN, 3), said(report)


def test_who_wrote_an_act_of_people_does_not_matter(tmp_path: Path) -> None:
    """Else a revoked machine key could never be replaced."""

    def step(world: bf.World, package: int) -> None:
        record = Delegated(delegator="person/val", delegate="person/biz", role="model_validator", reason="leave", **DAYS,
                           envelope=bf.PLACEHOLDER)  # fmt: skip
        world.append(record.model_copy(update={"envelope": world.act(record, "val")}), "person/val", writer="nobody")

    report = judged(tmp_path, step)
    assert (report["exit_code"], said(report)) == (HOLDS, "")
