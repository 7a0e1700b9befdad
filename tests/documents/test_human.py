"""Sections that people write: files read strictly and kept literal, their way into gate, coverage, package and bundle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import (
    DocumentError,
    assess_coverage,
    build_package,
    collect,
    export_bundle,
    load_framework,
    package_schema,
)
from cognify_dagster.documents.catalogues.attestation_texts import load_text, read_attestation_text, text_ids
from cognify_dagster.documents.coverage.completeness import completeness, required_sections
from cognify_dagster.documents.facts.section_files import (
    DEFAULT_ROLES,
    human_text,
    parse_section,
    read_section_folder,
    section_roles,
    sync_sections,
)
from cognify_dagster.documents.frameworks.loading import template_root
from cognify_dagster.documents.package.recording import build_and_record
from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    approve_section,
    attest,
    attestation_record,
    enrol_person,
    parse_policy,
    policy_in_force,
    withdraw_attestation,
)
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import GateResult, Package, Person, text_problem
from tests.documents.story import POLICY, Story

HEAD = "---\nai_drafted: false\nauthor: person/ben\n---\n"


def put(folder: Path, name: str, text: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parsed(data: str | bytes) -> Any:
    raw = data if isinstance(data, bytes) else data.encode()
    return parse_section(raw, "limitations", Path("limitations.md"))


# --- files


def test_a_file_is_front_matter_and_a_text_that_stays_as_it_is() -> None:
    text = "# Limits\n\n* one\n    {{ 7*7 }} <script>alert(1)</script> \\#let x\n\n> “Zitat” – שלום"
    found = parsed(
        f"---\nai_drafted: true\nauthor: git:ben@example.org\napplies_to: credit_default@3\n---\n\n{text}\n\n"
    )
    assert found.text == text
    assert (found.author, found.ai_drafted, found.applies_to) == ("git:ben@example.org", True, ("credit_default@3",))


@settings(deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=300))
def test_any_text_comes_out_literal_or_is_refused(text: str) -> None:
    body = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip("\n").rstrip()
    try:
        found = parsed(HEAD + text)
    except DocumentError:
        assert not body.strip() or text_problem(body) is not None
    else:
        assert found.text == body


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    for raw in (data, HEAD.encode() + data, b"---\n" + data + b"\n---\nx"):
        said = "limitations.md: "
        try:
            parsed(raw)
        except DocumentError as error:
            said = str(error)
        assert said.startswith("limitations.md: ")


@settings(deadline=None)
@given(
    ai_drafted=st.booleans(),
    author=st.sampled_from(["", "person/ben", "git:ben@example.org"]),
    body=st.text(
        alphabet=st.characters(whitelist_categories=("L", "N", "P", "S"), whitelist_characters=" \n"), min_size=1
    ),
)
def test_what_is_written_is_what_is_read(ai_drafted: bool, author: str, body: str) -> None:
    body = unicodedata.normalize("NFC", body).strip("\n").rstrip()
    if not body.strip():
        return
    head = f"---\nai_drafted: {str(ai_drafted).lower()}\nauthor: {json.dumps(author)}\n---\n"
    found = parsed(f"{head}{body}\n")
    assert (found.text, found.author, found.ai_drafted) == (body, author, ai_drafted)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Just text.", "does not begin with front matter"),
        ("---\nai_drafted: false\n", "does not begin with front matter"),
        ("---\n---\ntext", "not a mapping"),
        ("---\nauthor: person/ben\n---\ntext", "ai_drafted: is required"),
        ("---\nai_drafted: 'no'\n---\ntext", "ai_drafted"),
        ("---\nai_drafted: false\nautor: person/ben\n---\ntext", "autor: is not a known field"),
        ("---\nai_drafted: false\nai_drafted: true\n---\ntext", "is repeated"),
        ("---\nai_drafted: &a false\nauthor: *a\n---\ntext", "aliases are not allowed"),
        ("---\nai_drafted: !!python/object:os.system x\n---\ntext", "not readable as YAML"),
        ("---\nai_drafted: false\napplies_to: [3]\n---\ntext", "applies_to.0"),
        ("---\nai_drafted: false\napplies_to: ../x\n---\ntext", "neither a model key nor MODEL@VERSION"),
        ("---\nai_drafted: false\n---\n \n\n", "it has no text"),
        ("---\nai_drafted: false\ndeclared_unavailable: none\n---\ntext", "keep one of them"),
        (HEAD + "a\nb\x1b[2Jc", "line 2 holds the control character U+001B"),
        (HEAD.encode() + b"caf\xe9", "not UTF-8 text"),
        (HEAD + "x" * (257 * 1024), "the limit is 262144"),
        ("---\nai_drafted: false\nauthor: " + "x" * 9000 + "\n---\ntext", "front matter is larger"),
    ],
)
def test_a_wrong_file_is_refused_and_says_what_to_do(text: str | bytes, part: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(part)) as found:
        parsed(text)
    assert str(found.value).startswith("limitations.md: ")


def test_what_is_not_there_is_said_with_its_reason() -> None:
    found = parsed("---\nai_drafted: false\ndeclared_unavailable: No vendor is used.\n---\n")
    assert (found.text, found.declared_unavailable) == ("", "No vendor is used.")


def test_no_file_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    secret = put(tmp_path, "secret.md", HEAD + "outside")
    folder = tmp_path / "sections"
    put(folder, "limitations.md", HEAD + "inside")
    put(folder / "deeper", "out_of_scope.md", HEAD + "too deep")
    put(folder, "README.md", "how we write these")
    put(folder, "notes.txt", "not a section")
    assert [item.section for item in read_section_folder(folder)] == ["limitations"]
    os.symlink(secret, folder / "intended_use.md")
    with pytest.raises(DocumentError, match=r"intended_use.md: a link is not read"):
        read_section_folder(folder)


def test_a_file_is_named_after_its_section(tmp_path: Path) -> None:
    put(tmp_path, "Limitations Draft.md", HEAD + "x")
    with pytest.raises(DocumentError, match="name is not that of a section"):
        read_section_folder(tmp_path)
    with pytest.raises(DocumentError, match="there is no such folder"):
        read_section_folder(tmp_path / "none")


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    put(tmp_path, "limitations.md", HEAD.encode() + b"x" * 2_000_000)
    with pytest.raises(DocumentError, match="larger than"):
        read_section_folder(tmp_path)


# --- recording


FOUR = ("intended_use", "out_of_scope", "limitations", "failure_modes")


@pytest.fixture
def trained(tmp_path: Path) -> Story:
    """Version 1 is trained and evaluated; the policy demands all four sections in its tier, of which one is empty."""
    (tmp_path / "project").mkdir()
    policy = POLICY.replace("approval_days: 180}", f"approval_days: 180, required_sections: [{', '.join(FOUR)}]}}")
    story = Story(tmp_path / "project", policy=policy)
    story.prepare_version("1")
    return story


def sections(story: Story, **texts: str) -> Path:
    folder = story.ws.home.parent / "sections" / story.model
    for name, text in texts.items():
        put(folder, f"{name}.md", text)
    return folder


def sync(story: Story, folder: Path | None, version: str = "1", **more: Any) -> Any:
    return sync_sections(story.ws, story.model, version, folder, **more)


def test_the_same_folder_again_writes_nothing(trained: Story) -> None:
    folder = sections(trained, limitations=HEAD + "One issuer.", failure_modes=HEAD + "Drifts with income.")
    first = sync(trained, folder)
    assert [(change.section, change.unchanged) for change in first.changes] == [
        ("failure_modes", False),
        ("limitations", False),
    ]
    size = trained.ws.ledger.size()
    assert all(change.unchanged for change in sync(trained, folder).changes)
    assert trained.ws.ledger.size() == size
    put(folder, "limitations.md", HEAD + "One issuer, in Taiwan.")
    assert [(c.section, c.revision, c.unchanged) for c in sync(trained, folder).changes] == [
        ("failure_modes", 1, True),
        ("limitations", 2, False),
    ]
    os.unlink(folder / "limitations.md")
    assert sync(trained, folder).not_in_folder == ("limitations",)
    assert collect(trained.ws.read(), trained.model, "1").sections["limitations"].text == "One issuer, in Taiwan."


def test_the_path_in_the_project_is_recorded_and_no_path_of_the_machine(trained: Story, tmp_path: Path) -> None:
    sync(trained, sections(trained, limitations=HEAD + "One issuer."))
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere, "failure_modes.md", HEAD + "Drifts.")
    sync(trained, elsewhere)
    found = collect(trained.ws.read(), trained.model, "1").sections
    assert found["limitations"].source == "sections/credit_default/limitations.md"
    assert found["failure_modes"].source == "elsewhere/failure_modes.md"


def test_an_author_is_found_by_alias_and_a_stranger_is_not_stated(trained: Story) -> None:
    key = trained.keys["person/ben"].public
    ben = Person(
        person="person/ben", name="Ben Okafor", roles=("ml_engineer",), aliases=("git:ben@example.org",), keys=(key,)
    )
    enrol_person(trained.ws, ben, trained.keys["person/ada"], trained.keys["person/otto"])
    folder = sections(
        trained,
        limitations="---\nai_drafted: false\nauthor: git:ben@example.org\n---\nOne issuer.",
        failure_modes="---\nai_drafted: false\nauthor: Zoe Stranger\n---\nDrifts.",
        out_of_scope="---\nai_drafted: false\nauthor: workload/pipeline\n---\nNew applications.",
    )
    found = sync(trained, folder)
    assert len(found.notes) == 2
    assert "'Zoe Stranger' is not enrolled; recorded as not stated" in found.notes[0]
    facts = collect(trained.ws.read(), trained.model, "1")
    assert [facts.sections[name].author for name in ("limitations", "failure_modes", "out_of_scope")] == [
        "person/ben",
        "",
        "",
    ]
    assert not any(item.author_signed for item in facts.sections.values())


def test_a_file_for_another_version_is_skipped(trained: Story) -> None:
    folder = sections(
        trained,
        limitations="---\nai_drafted: false\napplies_to: [credit_default@9, other]\n---\nOnly nine.",
        failure_modes="---\nai_drafted: false\napplies_to: credit_default\n---\nAll versions.",
    )
    found = sync(trained, folder)
    assert [change.section for change in found.changes] == ["failure_modes"]
    assert found.skipped == {"limitations.md": "it applies to credit_default@9, other"}


def test_one_wrong_file_and_nothing_is_recorded(trained: Story) -> None:
    size = trained.ws.ledger.size()
    with pytest.raises(DocumentError, match=r"^out_of_scope"):
        sync(trained, sections(trained, limitations=HEAD + "One issuer.", out_of_scope="no front matter"))
    assert trained.ws.ledger.size() == size


def test_a_new_version_takes_the_texts_over_and_the_folder_comes_first(trained: Story) -> None:
    folder = sections(trained, limitations=HEAD + "One issuer.", failure_modes=HEAD + "Drifts.")
    sync(trained, folder)
    trained.data("c")
    trained.train("2")
    os.unlink(folder / "failure_modes.md")
    put(folder, "limitations.md", HEAD + "Two issuers.")
    found = sync(trained, folder, "2", carry=True)
    assert [(c.section, c.carried_from.version if c.carried_from else None) for c in found.changes] == [
        ("limitations", None),
        ("failure_modes", "1"),
    ]
    facts = collect(trained.ws.read(), trained.model, "2")
    assert facts.sections["limitations"].text == "Two issuers."
    assert facts.sections["failure_modes"].text == "Drifts."
    assert not facts.sections["failure_modes"].reviewed
    assert facts.sections["limitations"].model_digest == trained.model_file.digest


# --- what the texts are worth


def test_a_section_goes_before_the_registration_which_stays_the_fallback(trained: Story) -> None:
    before = human_text(collect(trained.ws.read(), trained.model, "1"), "limitations")
    assert before is not None
    assert (before.recorded, before.counts) == (False, True)
    sync(trained, sections(trained, limitations="---\nai_drafted: true\n---\nWhat the program thinks."))
    facts = collect(trained.ws.read(), trained.model, "1")
    after = human_text(facts, "limitations")
    assert after is not None
    assert (after.text, after.recorded, after.counts) == ("What the program thinks.", True, False)
    assert "a program drafted it" in after.why
    stated = human_text(facts, "scope_rationale")
    assert stated is not None
    assert stated.text.startswith("A statistical scoring method")
    assert stated.author == "person/carl"


def approve(story: Story, name: str, role: str, section: str = "failure_modes") -> None:
    approve_section(story.ws, story.model, "1", section, story.keys[name], role=role)


def gate(story: Story) -> GateResult:
    reading = story.ws.read()
    return completeness(
        collect(reading, story.model, "1"),
        policy_in_force(reading).policy,
        [load_framework("sr26-2"), load_framework("fair-lending")],
    )


def messages(result: GateResult) -> dict[str, str]:
    return {item.metric: item.message for item in result.outcomes if not item.passed}


def test_at_tier_high_an_empty_section_fails_the_gate(trained: Story) -> None:
    reading = trained.ws.read()
    policy = policy_in_force(reading).policy
    shipped = parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML))
    for found in (policy, shipped):
        assert set(required_sections(found, "high")) == set(FOUR)
    assert set(required_sections(shipped, "low")) == {"intended_use", "limitations"}
    assert gate(trained).status == "fail"
    assert set(messages(gate(trained))) == {"failure_modes"}
    for name in FOUR:
        facts = collect(reading, trained.model, "1")
        assert facts.registered is not None
        record = facts.registered.record.model_copy(update={"failure_modes": "Drifts.", name: " \n"})
        emptied = replace(facts, registered=replace(facts.registered, record=record))
        assert set(messages(completeness(emptied, policy, []))) == {name}


def test_a_written_section_passes_it_and_a_draft_only_once_it_is_signed_by_who_answers_for_it(trained: Story) -> None:
    draft = "---\nai_drafted: true\n---\nDrifts with income; fails for thin files."
    sync(trained, sections(trained, failure_modes=draft))
    assert "a program drafted it" in messages(gate(trained))["failure_modes"]
    approve(trained, "person/ben", "ml_engineer")
    assert "nobody who signed it is" in messages(gate(trained))["failure_modes"]
    approve(trained, "person/vera", "model_validator")
    result = gate(trained)
    assert result.status == "pass"
    facts = collect(trained.ws.read(), trained.model, "1")
    assert facts.sections["failure_modes"].seq in result.based_on
    assert {item.seq for item in facts.sections["failure_modes"].approvals} <= set(result.based_on)


def test_an_empty_section_blocks_the_release_until_it_is_written(trained: Story, now: datetime) -> None:
    def blocked(run: str) -> bool:
        build_and_record(trained.ws, trained.model, "1", run=run, built_by="person/ben", now=now)
        found = trained.ws.read().all(GateResult, f"model/{trained.model}@1")
        return [item.record.status for item in found if item.record.family == "completeness"][-1] == "fail"

    assert blocked("run-a")
    sync(trained, sections(trained, failure_modes=HEAD + "Drifts with income."))
    assert not blocked("run-b"), "a newer text makes the package stale, so that it is judged and built again"
    packages = trained.ws.read().all(Package, f"model/{trained.model}@1")
    content = json.loads(trained.ws.evidence.get(packages[-1].record.package.digest))
    shown = next(item for item in content["sections"] if item["id"] == "failure_modes")
    assert (shown["text"], shown["author"]["id"], shown["author_signed"]) == (
        "Drifts with income.",
        "person/ben",
        False,
    )
    size = trained.ws.ledger.size()
    blocked("run-c")
    assert trained.ws.ledger.size() == size, "nothing new, no new package"


def test_coverage_counts_the_section_and_says_whose_signature_a_draft_lacks(trained: Story, now: datetime) -> None:
    framework = load_framework("fair-lending")
    wanted = next(
        (item, leaf)
        for item in framework.requirements()
        for leaf in item.evidence.leaves()
        if leaf.kind == "human" and leaf.section == "lending_scope"
    )[0]

    def line() -> Any:
        report = assess_coverage(collect(trained.ws.read(), trained.model, "1"), framework, now)
        return next(line for line in report.lines if line.requirement.id == wanted.id)

    text = "Used each month to review existing card accounts in one country, never for new credit."
    sync(trained, sections(trained, lending_scope=f"---\nai_drafted: true\n---\n{text}"))
    seq = collect(trained.ws.read(), trained.model, "1").sections["lending_scope"].seq
    assert any(f"entry {seq}" in gap.text for gap in line().gaps)
    approve(trained, "person/carl", "compliance_officer", "lending_scope")
    assert seq in {ref.seq for ref in line().entries}


def test_who_answers_for_a_section() -> None:
    fair = load_framework("fair-lending")
    roles = ("data_scientist", "compliance_officer", "model_validator", "business_owner")
    assert section_roles("lending_scope", [fair], roles) == ("compliance_officer",)
    assert section_roles("no_such_section", [fair], roles) == DEFAULT_ROLES
    assert section_roles("lending_scope", [fair], ("other",)) == DEFAULT_ROLES


# --- attestations


def test_every_shipped_text_can_be_attested_and_promises_nothing() -> None:
    wanted = {"baa", "licence", "data_source_agreement", "deidentification", "officer_certification", "vendor_contract"}
    assert wanted | {"data_provenance"} <= set(text_ids())
    for name in text_ids():
        text = load_text(name)
        assert text_problem(text.text) is None
        assert text.title
        assert text.version
        assert text.roles
        assert not any(word in text.text.lower() for word in ("compliant", "immutable", "guarantee"))


@pytest.mark.parametrize(
    ("about", "party", "days", "part"),
    [
        ("dataset/loans", "Acme", 30, "is about a model or a version"),
        ("model/credit_default", "", 30, "say who it is"),
        ("model/credit_default", "Acme", None, "at most 366 days"),
        ("model/credit_default", "Acme", 400, "at most 366 days"),
    ],
)
def test_a_text_says_how_it_is_meant(about: str, party: str, days: float | None, part: str) -> None:
    assert part in str(load_text("baa").problem(about, party, days))
    assert load_text("baa").problem("model/credit_default", "Acme", 365) is None


def test_every_text_that_a_framework_asks_for_is_shipped() -> None:
    asked = set()
    for path in (template_root() / "frameworks").glob("*.yaml"):
        framework = load_framework(path.stem)
        asked |= {
            (leaf.text_id, leaf.role)
            for item in framework.requirements()
            for leaf in item.evidence.leaves()
            if getattr(leaf, "text_id", "")
        }
    assert asked
    for text_id, role in asked:
        assert role in load_text(text_id).roles


def test_a_text_of_ones_own_needs_no_front_matter(tmp_path: Path) -> None:
    found = read_attestation_text(put(tmp_path, "own.md", "We checked the export rules.\n"), "export_control")
    assert (found.text, found.roles, found.title) == ("We checked the export rules.", (), "export control")
    with pytest.raises(DocumentError, match=r"own2\.md: there is no text"):
        read_attestation_text(put(tmp_path, "own2.md", "---\ntitle: x\n---\n\n"), "export_control")
    with pytest.raises(DocumentError, match=r"no text 'nope' to attest"):
        load_text("nope")
    (tmp_path / "mine").mkdir()
    put(tmp_path / "mine", "baa.md", "Our own words.")
    assert load_text("baa", tmp_path / "mine").text == "Our own words."


def attested(story: Story, about: str, text_id: str = "licence", until: datetime | None = None) -> int:
    key = story.keys["person/carl"]
    return attest(
        story.ws,
        key,
        lambda now: attestation_record(
            now, text_id, about, "I read it.", key.person, role="compliance_officer",
            expires=until.strftime("%Y-%m-%dT%H:%M:%SZ") if until else None,
        ),
    ).seq  # fmt: skip


def test_an_altered_root_makes_the_attestation_invalid_for_the_version_that_rests_on_it(trained: Story) -> None:
    real = datetime.now().astimezone()
    attested(trained, "dataset/loans_train", "data_provenance")
    attested(trained, f"model/{trained.model}", "licence", real + timedelta(days=9))
    attested(trained, f"model/{trained.model}@1", "officer_certification")
    facts = collect(trained.ws.read(), trained.model, "1")
    assert [(item.text_id, item.valid) for item in facts.attestations] == [
        ("data_provenance", True),
        ("licence", True),
        ("officer_certification", True),
    ]
    assert "it expired" in str(facts.attestations[1].problem(real + timedelta(days=10)))
    trained.data("c")
    trained.train("2")
    facts = collect(trained.ws.read(), trained.model, "2")
    assert [(item.text_id, item.valid) for item in facts.attestations] == [
        ("data_provenance", False),
        ("licence", True),
    ]
    assert "about another snapshot" in facts.attestations[0].why


def test_package_and_bundle_hold_sections_and_attestations_and_verify_offline(
    trained: Story, frameworks: list[Any], now: datetime, tmp_path: Path
) -> None:
    sync(
        trained,
        sections(trained, failure_modes=HEAD + "Drifts.", limitations="---\nai_drafted: true\n---\nOne issuer."),
    )
    approve(trained, "person/vera", "model_validator", "limitations")
    attested(trained, "dataset/loans_train", "data_provenance")
    gone = attested(trained, f"model/{trained.model}")
    end = withdraw_attestation(trained.ws, trained.keys["person/carl"], gone, "the vendor left").seq
    content = trained.package(frameworks, now, review_copy=b"%PDF-1.7 stand-in")
    jsonschema.Draft202012Validator(package_schema()).validate(content)
    shown = {item["id"]: item for item in content["sections"]}
    assert [item["person"]["id"] for item in shown["limitations"]["signatures"]] == ["person/vera"]
    assert shown["failure_modes"]["counts"]
    assert "revision" not in shown["intended_use"], "this one stands in the registration"
    assert [(item["text_id"], item["counts"]) for item in content["attestations"]] == [
        ("data_provenance", True),
        ("licence", False),
    ]
    facts = collect(trained.ws.read(), trained.model, "1")
    again = build_package(
        replace(facts, packages=()), frameworks=frameworks, now=now, revision=1, evidence=trained.ws.evidence.get
    )
    assert canonical_json(again["sections"]) == canonical_json(content["sections"])
    out = export_bundle(trained.ws, trained.model, "1", tmp_path / "bundle")
    trust = tmp_path / "trust.txt"
    trust.write_bytes((trained.ws.home.parent / "trust.txt").read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", str(out / "verify.py"), str(out), "--trust", str(trust), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    payloads = {path.name for path in (out / "ledger" / "payloads").iterdir()}
    told = [facts.sections["limitations"].seq, *(item.seq for item in facts.attestations), end]
    assert {f"{seq:08d}.json" for seq in told} <= payloads
