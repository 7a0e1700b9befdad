"""The permission matrix of acts on models: every role with every act, and who has none.

Beside the seven roles: somebody enrolled without a role, one whose key was revoked, an enrolled machine's key, a stranger. Each pair is
tried on a real ledger with real signatures: past every check made before signing, and through the function that people use.
An auditor writes nothing but findings.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.governance import (
    ROLES,
    Choice,
    Condition,
    EntryRef,
    GovernanceError,
    PersonalKey,
    SectionText,
    SignOffDenied,
    adopt_change_plan,
    adopt_retention,
    attest,
    attestation_record,
    complete,
    correct_clock,
    erase,
    lift_hold,
    open_finding,
    place_hold,
    policy_in_force,
    request_release,
    revoke_key,
    revoke_log_key,
    rotate_log_key,
    seal,
    sign_off,
    submit,
    write_sections,
)
from cognify_dagster.governance.people.authority import PERSON_SIGNED
from cognify_dagster.governance.policy.adoption import gate_set_adoption, policy_adoption
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.drafts import _FORMS, form_of, next_entry, perform_act
from cognify_dagster.governance.signing.statements import read_sign_off, sign_act, sign_off_statement
from cognify_dagster.records import (
    AttestationMade,
    AttestationWithdrawn,
    AuditorGranted,
    AuditorGrantEnded,
    BlockLifted,
    BreakGlassOpened,
    ChangePlanAdopted,
    ChangePlanEnded,
    ConditionClosed,
    DatasetChangeDecided,
    DatasetReasonGiven,
    Envelope,
    FindingOpened,
    FindingResolved,
    GateRule,
    GroupsMapped,
    ModelAdopted,
    ModelClassified,
    ModelEvent,
    Record,
    RetentionRule,
    ReviewCompleted,
    RollbackOrdered,
    SectionApproved,
    SignOffRefused,
    text_digest,
    utc,
)
from tests.governance.overseeing import DIFFERENCE, difference, policy
from tests.governance.world import MODEL, World, clone

NOBODY, REVOKED, MACHINE, STRANGER = "nobody's role", "a revoked key", "machine", "stranger"
ACTORS = (*ROLES, NOBODY, REVOKED, MACHINE, STRANGER)
ACTING = set(ROLES) - {"auditor"}
SCIENTIST, ENGINEER, VALIDATOR, COMPLIANCE, BUSINESS, AUDITOR, ADMIN = ROLES
SEQ: dict[str, int] = {}
LEAF: dict[str, str] = {}
DRAFTED = "One issuer in Taiwan, 2005."


def later(days: float) -> str:
    return utc(datetime.now(timezone.utc) + timedelta(days=days))


@pytest.fixture(scope="module")
def staffed(founded_template: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One person for each role; versions at every point of their way, two of them live; something of each kind to act on."""
    world = clone(founded_template, tmp_path_factory.mktemp("matrix") / "world")
    for number, role in enumerate(ROLES):
        world.enrol(f"p{number}", role)
    world.enrol("none")
    world.enrol("lost", VALIDATOR, COMPLIANCE, BUSINESS, ADMIN)
    revoke_key(world.workspace, "person/lost", world.key("lost").key_id, "lost", world.key("ada"))
    writer = world.workspace.writer
    assert writer is not None
    world.keys["machine"] = PersonalKey("person/machine", writer._private)
    world.keys["stranger"] = PersonalKey("person/stranger", Ed25519PrivateKey.from_private_bytes(b"\x99" * 32))
    policy(world, break_glass={"enabled": True})
    for version in ("fresh", "validated", "reviewed", "conditional", "stopped", "live-a", "live-b"):
        world.ready(version)
    SEQ["vera"] = world.approve("vera", "validated")
    world.approve("vera", "reviewed")
    world.approve("carl", "reviewed")
    given = Choice("approve_with_conditions", conditions=(Condition(text="watch drift", due=later(90)),))
    SEQ["condition"] = sign_off(world.workspace, MODEL, "conditional", world.key("vera"), given).seq
    SEQ["block"] = sign_off(world.workspace, MODEL, "stopped", world.key("carl"), Choice("block", comments="no")).seq
    for version in ("live-a", "live-b"):
        world.approve_all(version)
        grant = request_release(world.workspace, MODEL, version, "production", version, "person/ben")
        SEQ["live"] = complete(world.workspace, grant, location="here", detail={})
    facts = {"model": MODEL, "version": None, "severity": "low", "title": "x"}
    SEQ["finding"] = open_finding(world.workspace, world.key("vera"), **facts).seq
    plan: Any = plan_record((), "old").model_dump(exclude={"signers", "envelopes"})
    SEQ["plan"] = adopt_change_plan(
        world.workspace, [world.key(n) for n in ("vera", "carl", "olga")], **facts_of(plan)
    ).seq
    SEQ["section"] = write_sections(
        world.workspace, MODEL, "fresh", [SectionText("limitations", DRAFTED, ai_drafted=True)]
    )[0].seq
    SEQ["grant"] = perform_act(
        world.workspace, lambda _: opened("person/ada", "person/finn")[0], [world.key("ada"), world.key("finn")]
    ).seq
    SEQ["attestation"] = attest(
        world.workspace,
        world.key("carl"),
        lambda now: attestation_record(
            now, "licence", f"model/{MODEL}", "I read it.", "person/carl", role=COMPLIANCE, expires=None
        ),
    ).seq
    SEQ["snapshot"] = world.snapshot("claims", "aa" * 32, author="person/ben").seq
    LEAF["snapshot"] = world.workspace.read().view.entries[SEQ["snapshot"]].entry.leaf.hex()
    difference(world, "claims", SEQ["snapshot"])
    place_hold(world.workspace, "case-1", by=world.key("carl"), reason="x", subjects=["model/other"])
    return world


def facts_of(plan: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plan.items() if name not in ("observed", "extra")}


def name_of(actor: str) -> str:
    if actor in ROLES:
        return f"p{ROLES.index(actor)}"
    return {NOBODY: "none", REVOKED: "lost"}.get(actor, actor)


# --- sign-offs -----------------------------------------------------------------------------------------------------------

SIGN_OFFS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "approve validation": ("fresh", {"decision": "approve", "stage": "validation"}, {VALIDATOR}),
    "approve compliance": ("validated", {"decision": "approve", "stage": "compliance"}, {COMPLIANCE}),
    "approve business": ("reviewed", {"decision": "approve", "stage": "business"}, {BUSINESS}),
    "approve the stage after next": ("fresh", {"decision": "approve", "stage": "compliance"}, set()),
    "approve the gates": ("fresh", {"decision": "approve", "stage": "automated"}, set()),
    "reject at validation": ("fresh", {"decision": "reject", "stage": "validation", "comments": "no"}, {VALIDATOR}),
    "reject at compliance": ("fresh", {"decision": "reject", "stage": "compliance", "comments": "no"}, {COMPLIANCE}),
    "reject at business": ("fresh", {"decision": "reject", "stage": "business", "comments": "no"}, {BUSINESS}),
    "block": ("fresh", {"decision": "block", "comments": "no"}, {COMPLIANCE}),
    "withdraw what another signed": ("validated", {"decision": "withdraw"}, set()),
}


def statement(world: World, actor: str, what: str, role: str | None = None) -> Envelope:
    """What somebody would sign; who may not even propose it signs a statement of theirs that vera proposed."""
    version, facts, _ = SIGN_OFFS[what]
    key = world.key(name_of(actor))
    if facts["decision"] == "withdraw":
        leaf = world.workspace.read().view.entries[SEQ["vera"]].entry.leaf.hex()
        facts = {**facts, "reference": EntryRef(entry_seq=SEQ["vera"], entry_leaf=leaf)}
    decision, rest = facts["decision"], {name: value for name, value in facts.items() if name != "decision"}
    stage = rest.get("stage", "validation")
    if stage == "automated":
        rest["stage"] = "validation"  # no surface proposes it
    envelope = world.sign("vera", decision, version, **rest)
    predicate = read_sign_off(base64.b64decode(envelope.payload))
    update = {"person": key.person, "key_id": key.key_id, "role": role or ROLES[0], "stage": stage}
    with suppress(GovernanceError):
        own = world.sign(name_of(actor), decision, version, **rest)
        update["role"] = role or read_sign_off(base64.b64decode(own.payload)).role
    return seal(sign_off_statement(predicate.model_copy(update=update)), key.key_id, key.sign)


@pytest.mark.parametrize("what", SIGN_OFFS)
@pytest.mark.parametrize("actor", ACTORS)
def test_who_may_sign_off_what(staffed: World, actor: str, what: str, tmp_path: Path) -> None:
    allowed = SIGN_OFFS[what][2]
    if actor in allowed:
        world = clone(staffed, tmp_path / "world")
        seq = submit(world.workspace, statement(world, actor, what)).seq
        assert world.workspace.read().view.entries[seq].entry.kind == "sign_off"
        return
    # also with the role that would be the right one put into the statement
    for role in (None, *sorted(allowed)):
        before = staffed.workspace.ledger.size()
        with pytest.raises(SignOffDenied):
            submit(staffed.workspace, statement(staffed, actor, what, role))
        found = staffed.workspace.read().at(before)
        assert found is not None
        assert isinstance(found.record, SignOffRefused)
        assert found.record.reasons
        assert staffed.workspace.ledger.size() == before + 1


@pytest.mark.parametrize("what", SIGN_OFFS)
@pytest.mark.parametrize("actor", ACTORS)
def test_a_sign_off_without_the_right_changes_no_decision(
    staffed: World, actor: str, what: str, tmp_path: Path
) -> None:
    """Written past `submit`: an approval does not count, whoever's it is."""
    version, facts, allowed = SIGN_OFFS[what]
    if actor in allowed or facts["decision"] not in ("approve", "withdraw"):
        return
    world = clone(staffed, tmp_path / "world")
    before = world.decide(version)
    for role in (None, *sorted(allowed)):
        world.force(statement(world, actor, what, role))
    if what == "approve the stage after next":
        world.approve("vera", version)
        before = world.decide(version)  # what was signed too early does not count later either
        assert before.next_stage is not None
        assert before.next_stage.name == "compliance"
    after = world.decide(version)
    assert [state.done for state in after.stages] == [state.done for state in before.stages]
    assert not after.released


# --- acts ----------------------------------------------------------------------------------------------------------------

Make = Callable[[str], tuple[Record, list[str]]]
FACTS: dict[str, Any] = {"model": MODEL, "reason": "because it is so"}


def plan_record(signers: tuple[str, ...], name: str = "refresh") -> ChangePlanAdopted:
    return ChangePlanAdopted(
        **FACTS, plan=name, base_version="live-a", bounds={}, stages=("validation",), expires=later(30), signers=signers,
        envelopes=(),
    )  # fmt: skip


def classified(*signers: str, tier: str) -> tuple[Record, list[str]]:
    record = ModelClassified(
        model=MODEL, tier=tier, owner="person/olga", rationale="x", signers=tuple(sorted(signers)), envelopes=()
    )
    return record, sorted(signers)


def glass(*signers: str) -> tuple[Record, list[str]]:
    names = tuple(sorted(signers))
    return BreakGlassOpened(
        **FACTS,
        version="fresh",
        target="production",
        waived=("business",),
        expires=later(1),
        signers=names,
        envelopes=(),
    ), list(names)


def lifted(*signers: str) -> tuple[Record, list[str]]:
    names = tuple(sorted(signers))
    return BlockLifted(**FACTS, version="stopped", sign_off_seq=SEQ["block"], lifted_by=names, envelopes=()), list(
        names
    )


def planned(*signers: str) -> tuple[Record, list[str]]:
    return plan_record(tuple(sorted(signers))), sorted(signers)


def resolved(who: str, outcome: str) -> tuple[Record, list[str]]:
    until = later(5) if outcome == "accepted" else None
    return FindingResolved.model_validate(
        {
            **FACTS,
            "finding_seq": SEQ["finding"],
            "outcome": outcome,
            "accepted_until": until,
            "resolved_by": who,
            "envelope": UNSIGNED,
        }
    ), [who]


def gates(who: str) -> tuple[Record, list[str]]:
    rule = GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=0.6, source="policy")
    return gate_set_adoption("other_gates", MODEL, [rule], who), [who]


def event(who: str) -> tuple[Record, list[str]]:
    return ModelEvent(model=MODEL, event="incident", text="x", reported_by=who, envelope=UNSIGNED), [who]


def finding(who: str) -> tuple[Record, list[str]]:
    return FindingOpened(model=MODEL, severity="high", title="x", raised_by=who, envelope=UNSIGNED), [who]


def closed(who: str) -> tuple[Record, list[str]]:
    about = {**FACTS, "version": "conditional", "sign_off_seq": SEQ["condition"], "condition": 0}
    return ConditionClosed(**about, closed_by=who, envelope=UNSIGNED), [who]


def ended(who: str) -> tuple[Record, list[str]]:
    return ChangePlanEnded(**FACTS, plan_seq=SEQ["plan"], ended_by=who, envelope=UNSIGNED), [who]


def ordered(who: str) -> tuple[Record, list[str]]:
    about = {**FACTS, "version": "live-a", "target": "production", "replaces_seq": SEQ["live"]}
    return RollbackOrdered(**about, ordered_by=who, envelope=UNSIGNED), [who]


def inherited(who: str) -> tuple[Record, list[str]]:
    return ModelAdopted(model=MODEL, version="0", target="staging", adopted_by=who, envelope=UNSIGNED), [who]


def reviewed(who: str) -> tuple[Record, list[str]]:
    about: dict[str, Any] = {"model": MODEL, "version": "live-b", "outcome": "confirmed", "text": "x"}
    return ReviewCompleted(**about, reviewed_by=who, envelope=UNSIGNED), [who]


def read(who: str, role: str) -> tuple[Record, list[str]]:
    about = {"model": MODEL, "version": "fresh", "section": "limitations", "section_seq": SEQ["section"]}
    return SectionApproved.model_validate(
        {
            **about,
            "text_digest": text_digest(DRAFTED),
            "ai_drafted": True,
            "role": role,
            "approved_by": who,
            "envelope": UNSIGNED,
        }
    ), [who]


def attested(who: str, role: str) -> tuple[Record, list[str]]:
    about = {"text_id": "baa", "text": "I read it.", "about": f"model/{MODEL}"}
    return AttestationMade.model_validate({**about, "role": role, "attested_by": who, "envelope": UNSIGNED}), [who]


def unsaid(who: str) -> tuple[Record, list[str]]:
    return AttestationWithdrawn(
        attestation_seq=SEQ["attestation"],
        text_id="licence",
        about=f"model/{MODEL}",
        reason="x",
        withdrawn_by=who,
        envelope=UNSIGNED,
    ), [who]


def explained(who: str) -> tuple[Record, list[str]]:
    about = {"name": "claims", "old_root": None, "new_root": "aa" * 32, "snapshot_seq": SEQ["snapshot"]}
    return DatasetReasonGiven.model_validate({**about, "reason": "x", "given_by": who, "envelope": UNSIGNED}), [who]


def judged(who: str, decision: str) -> tuple[Record, list[str]]:
    number = who.removeprefix("person/p")
    return DatasetChangeDecided.model_validate(
        {
            "name": "claims",
            "old_root": None,
            "new_root": "aa" * 32,
            "snapshot_seq": SEQ["snapshot"],
            "snapshot_leaf": LEAF["snapshot"],
            "diff_digest": DIFFERENCE,
            "decision": decision,
            "role": ROLES[int(number)] if number.isdigit() else SCIENTIST,
            "decided_by": who,
            "envelope": UNSIGNED,
        }
    ), [who]


def opened(*who: str) -> tuple[Record, list[str]]:
    facts = {"name": "Iva", "organisation": "Audit AG", "until": later(30), "reason": "x"}
    signers = sorted(set(who))
    return AuditorGranted.model_validate({**facts, "granted_by": signers, "envelopes": ()}), signers


def shut(who: str) -> tuple[Record, list[str]]:
    return AuditorGrantEnded(grant_seq=SEQ["grant"], reason="x", ended_by=who, envelope=UNSIGNED), [who]


def mapped_groups(actor: str, *others: str) -> tuple[Record, list[str]]:
    """Which groups of a sign-in service stand for which roles."""
    signers = [actor, *others]
    groups = {"Risk": (VALIDATOR,)}
    facts = {"issuer": "https://login.bank.example", "claim": "groups", "groups": groups, "reason": "x"}
    return GroupsMapped.model_validate({**facts, "signers": tuple(sorted(signers))}), signers


VERA, CARL, OLGA = "person/vera", "person/carl", "person/olga"
MATRIX: dict[str, tuple[Make, set[str]]] = {
    "classify in the tier that applies": (lambda a: classified(a, tier="high"), {COMPLIANCE, VALIDATOR, BUSINESS}),
    "classify lower, alone": (lambda a: classified(a, tier="low"), set()),
    "classify lower, as the second": (lambda a: classified(a, CARL, tier="low"), {COMPLIANCE, VALIDATOR, BUSINESS}),
    "open a finding": (finding, {VALIDATOR, COMPLIANCE, AUDITOR, BUSINESS}),
    "close a finding": (lambda a: resolved(a, "closed"), {VALIDATOR, COMPLIANCE}),
    "accept the risk of a finding": (lambda a: resolved(a, "accepted"), {COMPLIANCE, BUSINESS}),
    "close a validator's condition": (closed, {VALIDATOR, COMPLIANCE}),
    "lift a block alone": (lifted, set()),
    "lift a block, as the second": (lambda a: lifted(a, CARL), {COMPLIANCE}),
    "adopt a change plan, for validation": (lambda a: planned(a, CARL, OLGA), {VALIDATOR}),
    "adopt a change plan, for compliance": (lambda a: planned(a, VERA, OLGA), {COMPLIANCE}),
    "adopt a change plan, for the business": (lambda a: planned(a, VERA, CARL), {BUSINESS}),
    "end a change plan": (ended, ACTING),
    "break the glass alone": (glass, set()),
    "break the glass, beside compliance": (lambda a: glass(a, CARL), {COMPLIANCE, BUSINESS}),
    "break the glass, beside the business": (lambda a: glass(a, OLGA), {COMPLIANCE}),
    "order a rollback": (ordered, {ENGINEER, BUSINESS, COMPLIANCE}),
    "adopt a model that was live before": (inherited, ACTING),
    "review what is live": (reviewed, {VALIDATOR}),
    "report an event": (event, ACTING),
    "adopt thresholds": (gates, {VALIDATOR, COMPLIANCE, ADMIN}),
    "answer for a drafted text, as validator": (lambda a: read(a, VALIDATOR), {VALIDATOR}),
    "answer for a drafted text, as engineer": (lambda a: read(a, ENGINEER), {ENGINEER}),
    "answer for a drafted text, as auditor": (lambda a: read(a, AUDITOR), set()),
    "attest, as compliance": (lambda a: attested(a, COMPLIANCE), {COMPLIANCE}),
    "attest, as business owner": (lambda a: attested(a, BUSINESS), {BUSINESS}),
    "attest, as auditor": (lambda a: attested(a, AUDITOR), set()),
    "say why a dataset changed": (explained, ACTING),
    "approve a dataset's change": (lambda a: judged(a, "approve"), ACTING),
    "reject a dataset's change": (lambda a: judged(a, "reject"), ACTING),
    "let somebody from outside read, alone": (opened, set()),
    "let somebody from outside read, beside an admin": (lambda a: opened(a, "person/ada"), ACTING),
    "let somebody from outside read, beside a validator": (lambda a: opened(a, VERA), {ADMIN}),
    "end what others let somebody read": (shut, {ADMIN}),
    "withdraw what another attested": (unsaid, {COMPLIANCE, ADMIN}),
    "map groups of single sign-on, alone": (mapped_groups, set()),
    "map groups of single sign-on, beside an admin": (lambda a: mapped_groups(a, "person/ada"), {ADMIN}),
}


def sealed(world: World, record: Record, signers: list[str]) -> Record:
    reading = world.workspace.read()
    head = reading.view.checkpoint()
    keys = [PersonalKey(who, world.key(who.removeprefix("person/")).private) for who in signers]
    signed = [sign_act(record, key, ledger=reading.origin, role="x", meaning="…", head=head) for key in keys]
    whole = "envelopes" in type(record).model_fields
    return record.model_copy(update={"envelopes": tuple(signed)} if whole else {"envelope": signed[0]})


@pytest.mark.parametrize("act", MATRIX)
@pytest.mark.parametrize("actor", ACTORS)
def test_who_may_do_what(staffed: World, act: str, actor: str, tmp_path: Path) -> None:
    make, allowed = MATRIX[act]
    record, signers = make(f"person/{name_of(actor)}")
    reading = staffed.workspace.read()
    done = sealed(staffed, record, signers)
    problem = form_of(record.kind).judge(reading, next_entry(reading, done))
    assert (problem is None) == (actor in allowed), problem
    keys = [staffed.key(who.removeprefix("person/")) for who in signers]
    if actor in allowed:
        world = clone(staffed, tmp_path / "world")
        seq = perform_act(world.workspace, lambda _: record, keys).seq
        assert world.workspace.read().view.entries[seq].entry.kind == record.kind
        return
    with pytest.raises(GovernanceError):
        perform_act(staffed.workspace, lambda _: record, keys)
    assert staffed.workspace.ledger.size() == reading.size


def test_an_auditor_writes_nothing_but_findings() -> None:
    assert {act for act, (_, allowed) in MATRIX.items() if AUDITOR in allowed} == {"open a finding"}
    assert not any(AUDITOR in allowed for _, _, allowed in SIGN_OFFS.values())
    assert not any(AUDITOR in allowed for _, allowed in KEEPING.values())


def test_every_act_on_a_model_has_its_lines(staffed: World) -> None:
    tried = {make("person/p0")[0].kind for make, _ in MATRIX.values()}
    about_people = PERSON_SIGNED | {"delegated", "delegation_ended"}
    assert tried == set(_FORMS) - about_people, "a new kind of act needs lines in the matrix"


# --- keeping records, and the policy -------------------------------------------------------------------------------------

Keep = Callable[[World, PersonalKey], object]


def erase_one(world: World, key: PersonalKey, *, alone: bool = False) -> object:
    seq = next(item.entry.seq for item in world.workspace.read().view.entries if item.entry.kind == "dataset_snapshot")
    return erase(world.workspace, [seq], "a request", [key] if alone else [key, world.key("carl")])


def adopt(world: World, key: PersonalKey) -> object:
    other = policy_in_force(world.workspace.read()).policy.model_copy(update={"title": "Other"})
    return perform_act(world.workspace, lambda _: policy_adoption(other, "x"), [world.key("finn"), key])


def retain(world: World, key: PersonalKey, *, alone: bool = False) -> object:
    rule = RetentionRule(id="r1", title="x", months=1, kinds=("dataset_snapshot",))
    return adopt_retention(world.workspace, [rule], "x", [key] if alone else [key, world.key("carl")])


def rotate(world: World, *keys: PersonalKey) -> object:
    old, new = "test+11111111+AQ==", "test+22222222+AQ=="
    return rotate_log_key(world.workspace, old, new, overlap=5, reason="x", signers=keys)


def revoke_log(world: World, *keys: PersonalKey) -> object:
    return revoke_log_key(world.workspace, "test+11111111+AQ==", last_good_size=3, reason="x", signers=keys)


def correct(world: World, *keys: PersonalKey) -> object:
    """As if the clock had been right a minute before the newest entry."""
    newest = world.workspace.read().view.entries[-1].entry.time_us
    return correct_clock(world.workspace, reason="x", signers=keys, now_us=newest - 60_000_000)


KEEPING: dict[str, tuple[Keep, set[str]]] = {
    "rotate a log key, as the second": (lambda w, k: rotate(w, w.key("ada"), k), {ADMIN}),
    "rotate a log key alone": (rotate, set()),
    "revoke a log key, as the second": (lambda w, k: revoke_log(w, w.key("ada"), k), {ADMIN}),
    "revoke a log key alone": (revoke_log, set()),
    "correct the clock, as the second": (lambda w, k: correct(w, w.key("ada"), k), {ADMIN}),
    "correct the clock alone": (correct, set()),
    "erase alone": (lambda w, k: erase_one(w, k, alone=True), set()),
    "adopt retention rules alone": (lambda w, k: retain(w, k, alone=True), set()),
    "place a hold": (
        lambda w, k: place_hold(w.workspace, "case-2", by=k, reason="x", subjects=["model/x"]),
        {COMPLIANCE, ADMIN},
    ),
    "lift a hold, as the second": (
        lambda w, k: lift_hold(w.workspace, "case-1", signers=[k, w.key("carl")], reason="x"),
        {COMPLIANCE, ADMIN},
    ),
    "lift a hold alone": (lambda w, k: lift_hold(w.workspace, "case-1", signers=[k], reason="x"), set()),
    "erase, as the second": (erase_one, {COMPLIANCE, ADMIN}),
    "adopt retention rules, as the second": (retain, {COMPLIANCE, ADMIN}),
    "adopt a policy, as the second": (adopt, {ADMIN}),
}


@pytest.mark.parametrize("act", KEEPING)
@pytest.mark.parametrize("actor", ACTORS)
def test_who_keeps_records(staffed: World, act: str, actor: str, tmp_path: Path) -> None:
    do, allowed = KEEPING[act]
    if actor in allowed:
        world = clone(staffed, tmp_path / "world")
        before = world.workspace.ledger.size()
        do(world, world.key(name_of(actor)))
        assert world.workspace.ledger.size() == before + 1
        return
    before = staffed.workspace.ledger.size()
    with pytest.raises(GovernanceError):
        do(staffed, staffed.key(name_of(actor)))
    assert staffed.workspace.ledger.size() == before
