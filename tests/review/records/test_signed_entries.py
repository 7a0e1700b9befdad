"""The entry of every act that people sign says in words what was signed, by whom, when, with which meaning, and whether it verifies."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    adopt_policy,
    delegate,
    directory,
    enrol_person,
    open_finding,
    parse_policy,
    recover_person,
    revoke_key,
    rotate_key,
    seal,
)
from cognify_dagster.governance.people.directory import envelopes_of
from cognify_dagster.governance.signing.statements import act_predicate, open_envelope
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import Envelope, FindingOpened, Person, PersonEnrolled, SignOff, kinds
from cognify_dagster.review.reading.signed import signed_facts, signed_statements
from tests.governance.conftest import founded_template
from tests.governance.test_permissions import staffed
from tests.governance.test_recovery import fresh, recovery_keys
from tests.governance.world import MODEL, World, clone
from tests.review.site_world import Client, SiteWorld, make_site_world

__all__ = ["founded_template", "staffed"]


@pytest.fixture(scope="module")
def acted(staffed: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteWorld]:
    """A site over a workspace with an act of nearly every kind."""
    world = clone(staffed, tmp_path_factory.mktemp("acted") / "world")
    until = datetime.now(timezone.utc) + timedelta(days=7)
    delegate(world.workspace, "person/vera", "compliance_officer", world.key("carl"), expires=until, reason="leave")
    found = make_site_world(world)
    yield found
    found.site.store.close()


@pytest.fixture
def small(founded_template: World, tmp_path: Path) -> Iterator[SiteWorld]:
    found = make_site_world(clone(founded_template, tmp_path / "world"))
    yield found
    found.site.store.close()


def signed_entries(found: SiteWorld) -> dict[str, list[int]]:
    reading = found.site.read()
    by_kind: dict[str, list[int]] = {}
    for seq in range(reading.size):
        item = reading.at(seq)
        if item is not None and envelopes_of(item.record):
            by_kind.setdefault(item.record.kind, []).append(seq)
    return by_kind


def entry(client: Client, seq: int) -> str:
    answer = client.get(f"/ledger/entries/{seq}")
    assert answer.status_code == 200, answer.text[:400]
    return html.unescape(answer.text)


def visible(text: str) -> str:
    """A page without what is folded away."""
    return re.sub(r"<details[^>]*>.*?</details>", "", text, flags=re.DOTALL)


# --- every kind ----------------------------------------------------------------------------------------------------------


def test_every_kind_keeps_its_signatures_where_they_are_looked_for() -> None:
    """A kind that kept an envelope under another name would show none of its signatures."""
    for kind, record in kinds().items():
        for name, field in record.model_fields.items():
            held = str(field.annotation)
            if "governance.Envelope" in held or field.annotation is Envelope or Envelope in get_args(field.annotation):
                assert name in ("envelope", "envelopes"), (kind, name)


def test_each_act_is_told_in_words_with_every_signature(acted: SiteWorld) -> None:
    client, reading = acted.client_for("vera"), acted.site.read()
    entries = signed_entries(acted)
    assert {
        "genesis", "policy_adopted", "person_enrolled", "key_revoked", "delegated", "gate_set_adopted", "sign_off", "finding_opened",
        "change_plan_adopted", "auditor_granted", "attestation_made", "legal_hold_placed",
    } <= set(entries)  # fmt: skip
    for kind, seqs in entries.items():
        seq = seqs[-1]
        text = visible(entry(client, seq))
        item = reading.at(seq)
        assert item is not None
        assert "What was signed" in text, kind
        for envelope in envelopes_of(item.record):
            assert envelope.payload[:60] not in text, f"{kind}: the envelope is folded away"
            assert envelope.signatures[0].sig not in text, kind
        found = signed_statements(reading, item)
        assert len(found) == len(envelopes_of(item.record))
        for one in found:
            assert one.verifies, (kind, one.problem)
            assert f"“{one.meaning}”" in text, kind
            assert one.name in text, kind
            assert one.signed_at.replace("T", " ").removesuffix("Z") in text, kind
            assert one.key.partition(",")[0] in text, kind
        assert text.count("the signature verifies") == len(found), kind
        assert "does not count" not in text, kind
        assert signed_facts(reading, item), kind


def test_the_values_that_were_signed_are_shown(acted: SiteWorld) -> None:
    client, entries = acted.client_for("vera"), signed_entries(acted)
    lent = visible(entry(client, entries["delegated"][-1]))
    for words in ("Carl (person/carl)", "Vera (person/vera)", "compliance officer", "all models", "leave"):
        assert words in lent
    gates = visible(entry(client, entries["gate_set_adopted"][-1]))
    assert "auc >= 0.7 (performance, from policy)" in gates
    granted = visible(entry(client, entries["auditor_granted"][-1]))
    assert "none: no confidential or personal evidence" in granted
    signed = visible(entry(client, entries["sign_off"][-1]))
    assert "Displayed to the signer" in signed
    assert "Displayed to you" not in signed
    assert f"{MODEL}, version" in signed


def test_a_signed_statement_is_handed_out_as_it_stands(acted: SiteWorld) -> None:
    client, reading = acted.client_for("vera"), acted.site.read()
    seq = signed_entries(acted)["change_plan_adopted"][-1]
    item = reading.at(seq)
    assert item is not None
    for number, envelope in enumerate(envelopes_of(item.record)):
        answer = client.get(f"/ledger/entries/{seq}/statements/{number}")
        assert answer.status_code == 200
        assert answer.json() == envelope.model_dump(mode="json")
        said = act_predicate(envelope)
        key = directory(reading).signing_key(str(said["person"]), str(said["key_id"]), seq)
        assert key is not None
        assert open_envelope(Envelope.model_validate(answer.json()), key)
    for wrong in ("99", "-1", "x", "00"):
        assert client.get(f"/ledger/entries/{seq}/statements/{wrong}").status_code == 404
    plain = reading.all(SignOff)[-1].record.package_seq
    assert client.get(f"/ledger/entries/{plain}/statements/0").status_code == 404
    assert "What was signed" not in entry(client, plain)


# --- what does not verify, and what changed since --------------------------------------------------------------------------


def test_another_record_under_the_same_signature_is_said_not_to_count(small: SiteWorld) -> None:
    world = small.world
    seq = open_finding(world.workspace, world.key("vera"), model=MODEL, version=None, severity="low", title="Small").seq
    item = world.workspace.read().find(FindingOpened, seq)
    assert item is not None
    forged = world.write(item.record.model_copy(update={"title": "Large", "severity": "critical"}))
    text = visible(entry(small.client_for("carl"), forged))
    assert "the signature does not count: the statement signs something else than this finding_opened record" in text
    assert "the signature verifies" not in text
    assert "the signature verifies" in visible(entry(small.client_for("carl"), seq))


def test_a_signature_by_somebody_who_has_no_key_is_said_not_to_count(small: SiteWorld) -> None:
    world = small.world
    stranger = world.key("mallory")
    seq = open_finding(world.workspace, world.key("vera"), model=MODEL, version=None, severity="low", title="x").seq
    real = world.workspace.read().find(FindingOpened, seq)
    assert real is not None
    said = json.loads(base64.b64decode(real.record.envelope.payload))
    said["predicate"] |= {"person": stranger.person, "key_id": stranger.key_id}
    envelope = seal(canonical_json(said), stranger.key_id, stranger.sign)
    forged = world.write(real.record.model_copy(update={"raised_by": stranger.person, "envelope": envelope}))
    text = visible(entry(small.client_for("carl"), forged))
    assert f"person/mallory has no valid key {stranger.key_id} at this point" in text
    assert "which nobody enrolled for them" in text


def test_what_became_of_the_key_since_is_said_beside_what_it_signed(small: SiteWorld) -> None:
    world, carl = small.world, small.client_for("carl")
    facts = {"model": MODEL, "version": None, "severity": "low"}
    first = open_finding(world.workspace, world.key("vera"), title="one", **facts).seq
    assert "Since then" not in visible(entry(carl, first))
    person, new = fresh(world, "vera", "model_validator")
    changed = rotate_key(world.workspace, person.person, new.public, [world.key("vera"), world.key("ada")]).seq
    text = visible(entry(carl, first))
    assert "the signature verifies" in text
    assert f"the key was replaced since, by entry {changed}" in text
    second = open_finding(world.workspace, new, title="two", **facts).seq
    ended = revoke_key(world.workspace, "person/vera", new.key_id, "lost", world.key("ada"), effective_from=second).seq
    text = visible(entry(carl, second))
    assert "the signature verifies" in text, "it was valid then"
    assert f"with effect from entry {second}, before this one" in text
    assert ended > second


def test_recovery_keys_are_named_as_what_they_are(small: SiteWorld) -> None:
    world = small.world
    person, _ = fresh(world, "ben", "data_scientist")
    seq = recover_person(world.workspace, person, "both keys were stolen", recovery_keys(world)).seq
    text = visible(entry(small.client_for("carl"), seq))
    assert text.count("Recovery key of the founders</h3>") == 2
    assert text.count("the signature verifies") == 2


def test_an_act_without_effect_says_so(small: SiteWorld) -> None:
    world = small.world
    key = world.key("nils")
    person = Person(person=key.person, name="Nils", roles=("auditor",), keys=(key.public,))
    seq = enrol_person(world.workspace, person, world.key("ada"), world.key("finn")).seq
    real = world.workspace.read().find(PersonEnrolled, seq)
    assert real is not None
    again = world.write(real.record)
    text = visible(entry(small.client_for("carl"), again))
    assert "This entry has no effect: the same signed statement had its effect in an earlier entry" in text


def test_a_payload_that_is_no_statement_breaks_no_page(small: SiteWorld) -> None:
    world = small.world
    seq = open_finding(world.workspace, world.key("vera"), model=MODEL, version=None, severity="low", title="x").seq
    real = world.workspace.read().find(FindingOpened, seq)
    assert real is not None
    for payload in ("%%%", "bm90IGpzb24=", "W10=", "eyJwcmVkaWNhdGUiOiBbXX0="):
        envelope = real.record.envelope.model_copy(update={"payload": payload})
        forged = world.write(real.record.model_copy(update={"envelope": envelope}))
        text = visible(entry(small.client_for("carl"), forged))
        assert "the signature does not count" in text
        assert "nobody who can be read" in text


def test_texts_that_people_wrote_are_shown_as_text(small: SiteWorld) -> None:
    world = small.world
    evil = "<script>alert(1)</script>\n" + "word " * 40
    seq = open_finding(
        world.workspace, world.key("vera"), model=MODEL, version=None, severity="low", title="<b>x</b>", text=evil
    ).seq
    answer = small.client_for("carl").get(f"/ledger/entries/{seq}").text
    assert "<script>alert" not in answer
    assert "<b>x</b>" not in answer
    assert "&lt;script&gt;alert(1)" in answer


# --- the same signatures on other pages ------------------------------------------------------------------------------------


def test_the_history_of_the_policy_shows_its_signatures(small: SiteWorld) -> None:
    world = small.world
    changed = yaml.safe_load(DEFAULT_POLICY_YAML)
    changed["tiers"]["high"]["approval_days"] = 30
    adopt_policy(world.workspace, parse_policy(changed), "shorter", [world.key("ada"), world.key("finn")])
    text = html.unescape(small.client_for("vera").get("/policy").text)
    reading = small.site.read()
    for seq, _, _ in directory(reading).policies:
        item = reading.at(seq)
        assert item is not None
        for one in signed_statements(reading, item):
            assert one.signed_at.replace("T", " ").removesuffix("Z") in text
            assert f"“{one.meaning}”" in text
    assert text.count("the signature verifies") == 4
