"""What holds for every shipped framework; each rule is shown to catch a sample that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from cognify_dagster.documents import framework_ids, load_framework, template_root
from cognify_dagster.documents.frameworks.checking import check_file, known_references
from cognify_dagster.documents.frameworks.linting import problems
from cognify_dagster.documents.frameworks.loading import headings, parse_framework
from cognify_dagster.documents.frameworks.model import DERIVED_FACTS, KIND_CHECKS
from cognify_dagster.documents.frameworks.schema import framework_schema, schema_path, schema_text

FOLDER = template_root() / "frameworks"
SHIPPED = framework_ids()
#: Requirements of the work order; a missing file would otherwise go unnoticed.
ORDERED = [
    "21cfr11", "california-ab2013", "colorado-insurance", "eu-ai-act-high-risk", "eu-gpai-art53", "fair-lending", "fda-pccp",
    "hipaa", "hti1-source-attributes", "mrm-genai-aligned", "naic-section4", "nist-ai-rmf", "nydfs-cl-2024-7",
    "sr11-7-legacy", "sr26-2",
]  # fmt: skip


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def sample() -> dict[str, Any]:
    """A small sound framework: what the rules find in it is what a test has put there."""
    return {
        "id": "sample",
        "title": "A sample",
        "version": "1",
        "jurisdiction": "nowhere",
        "industry": "any",
        "status": "in_force",
        "effective_from": "2026-01-01",
        "effective_to": None,
        "as_of": "2026-11-21",
        "sources": [{"title": "The sample act"}],
        "disclaimer": "Evidence for a reader, no verdict.",
        "facts": [{"name": "uses_it", "question": "Is it used?"}],
        "applicability": {"uses_it": True},
        "sections": [
            {
                "id": "scope",
                "title": "Scope",
                "requirements": [
                    {
                        "id": "s.scope",
                        "citation": "Act 1",
                        "basis": "primary",
                        "paraphrase": "Somebody writes down whether the model is in scope.",
                        "force": "law",
                        "mandatory": True,
                        "scope_determination": True,
                        "judged_by": "compliance_officer",
                        "evidence": {"kind": "human", "section": "scope_rationale"},
                    },
                    {
                        "id": "s.data",
                        "citation": "Act 2(a); Act 2(b)",
                        "basis": "primary",
                        "paraphrase": "The data are described, with their licence.",
                        "force": "law",
                        "mandatory": True,
                        "evidence": {"kind": "auto:dataset", "checks": ["licence"]},
                        "cross_refs": ["sr26-2:mrm.dev.data"],
                    },
                ],
            }
        ],
    }


CITABLE = {"Act 1": "scope", "Act 2(a)": "data", "Act 2(b)": "licence"}


def found(change: Callable[[dict[str, Any]], Any] = lambda data: None, raw: str = "") -> list[tuple[str, str, str]]:
    data = sample()
    change(data)
    framework = parse_framework(yaml.safe_dump(data))
    return [(item.level, item.where, item.text) for item in problems(framework, CITABLE, known_references(), raw)]


def rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = data["sections"][0]["requirements"]
    return listed


def test_all_frameworks_of_the_order_are_shipped_with_their_headings() -> None:
    assert set(ORDERED) <= set(SHIPPED)
    for name in SHIPPED:
        assert headings(name), f"headings/{name}.txt"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_framework_has_no_problem(name: str) -> None:
    framework, wrong = check_file(FOLDER / f"{name}.yaml")
    assert framework is not None, wrong
    assert [f"{item.level} {item.where}: {item.text}" for item in wrong] == []


def test_the_sample_is_sound() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        (lambda d: rows(d)[1].update(citation="Act 2(a); Act 99"), "s.data", "'Act 99' is not in the list"),
        (lambda d: rows(d)[1].update(citation="Act 2(a), Act 2(b)"), "s.data", "is not in the list"),
        (
            lambda d: d.update(
                retention=[
                    {
                        "id": "r",
                        "artefacts": ["logs"],
                        "months": 6,
                        "from": "created",
                        "citation": "X",
                        "basis": "memory",
                    }
                ]
            ),
            "retention r",
            "'X' is not in the list",
        ),
        (lambda d: d.update(effective_from=None), "status", "needs an effective_from"),
        (lambda d: d.update(effective_from="2026-11-22"), "status", "in_force needs an effective_from up to"),
        (lambda d: d.update(effective_to="2026-11-20"), "status", "lies before as_of"),
        (lambda d: d.update(status="future"), "status", "future needs an effective_from after"),
        (lambda d: d.update(status="superseded"), "status", "superseded needs an effective_to"),
        (lambda d: d.update(status="withdrawn"), "status", "withdrawn needs an effective_to"),
        (lambda d: d.update(effective_to="2025-01-01"), "effective_to", "lies before effective_from"),
        (lambda d: d.update(as_of="2026-02-30"), "as_of", "no day of the calendar"),
        (lambda d: rows(d)[1].update(cross_refs=["sr26-2:mrm.nothing"]), "s.data", "has no requirement 'mrm.nothing'"),
        (lambda d: rows(d)[1].update(cross_refs=["sample:s.nothing"]), "s.data", "has no requirement 's.nothing'"),
        (lambda d: rows(d)[1].update(cross_refs=["iso42001:Z.9"]), "s.data", "has no requirement 'Z.9'"),
        (lambda d: d["facts"].append({"name": "uses_it", "question": "Again?"}), "facts.uses_it", "asked for twice"),
        (lambda d: d["facts"][0].update(question="Whether it is used"), "facts.uses_it", "no question mark"),
    ],
)
def test_each_rule_catches_a_bad_sample(change: Callable[[dict[str, Any]], Any], where: str, words: str) -> None:
    listed = found(change)
    assert [item for item in listed if item[0] == "error" and item[1] == where and words in item[2]], listed


def test_nothing_unconfirmed_passes_not_even_in_a_comment() -> None:
    (item,) = found(raw="id: sample\n# the date is [Unconfirmed]\n")
    assert item[:2] == ("error", "line 2")
    assert found(raw="the fact was confirmed\n") == []
    for tag in ("[2nd]", "[k]"):
        assert found(raw=f"note: from a law firm {tag}\n"), "tags of the research are no words of a template"


def test_an_unknown_name_before_a_reference_is_pointed_out() -> None:
    (item,) = found(lambda d: rows(d)[1].update(cross_refs=["no-such:x"]))
    assert item[0] == "note"
    assert "no-such" in item[2]


def test_a_missing_list_of_headings_is_said_and_not_passed_over() -> None:
    framework = parse_framework(yaml.safe_dump(sample()))
    (item,) = problems(framework, None, known_references())
    assert item.level == "note"
    assert "citations were not checked" in item.text


@pytest.mark.parametrize("name", SHIPPED)
def test_form_of_a_shipped_framework(name: str) -> None:
    framework = load_framework(name)
    requirements = list(framework.requirements())
    ids = [item.id for item in requirements]
    assert requirements[0].scope_determination
    assert len(set(ids)) == len(ids)
    assert framework.as_of == "2026-11-21"
    for item in requirements:
        assert 10 <= len(item.paraphrase) <= 300, item.id
        assert item.paraphrase.strip() == item.paraphrase, item.id
        for leaf in item.evidence.leaves():
            assert leaf.kind in KIND_CHECKS
            assert set(leaf.checks) <= KIND_CHECKS[leaf.kind]
    asked = {fact.name for fact in framework.facts}
    used = {name for item in requirements if item.applies_when for name in item.applies_when.facts()}
    used |= set(framework.applicability.facts()) if framework.applicability else set()
    assert used <= asked | DERIVED_FACTS


@pytest.mark.parametrize("name", SHIPPED)
def test_no_text_of_a_person_answers_a_mandatory_row_by_being_there(name: str) -> None:
    for item in load_framework(name).requirements():
        if item.mandatory and any(leaf.kind == "human" for leaf in item.evidence.leaves()):
            assert item.judged_by or item.id == "mrm.gov.inventory", item.id


@pytest.mark.parametrize("name", SHIPPED)
def test_force_and_mandatory_agree(name: str) -> None:
    for item in load_framework(name).requirements():
        if item.force in ("voluntary", "draft"):
            assert not item.mandatory, item.id


def test_drafts_and_superseded_texts_are_never_counted(now: Any, facts: Any) -> None:
    from cognify_dagster.documents import assess_coverage

    report = assess_coverage(facts, load_framework("sr11-7-legacy"), now)
    assert not report.scored
    assert report.counts("guidance") == {}
    assert report.lines
    assert report.to_do() == ()


def test_the_schema_file_is_generated_from_the_types_that_read_the_files() -> None:
    stored = schema_path().read_text(encoding="utf-8")
    assert json.loads(stored) == framework_schema(), (
        "write it anew: python -m cognify_dagster.documents.frameworks.schema"
    )
    assert stored == schema_text()
    jsonschema.Draft202012Validator.check_schema(framework_schema())


@pytest.mark.parametrize("name", SHIPPED)
def test_the_schema_accepts_what_the_reader_accepts(name: str) -> None:
    jsonschema.Draft202012Validator(framework_schema()).validate(yaml.safe_load(text_of(name)))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(colour="red"),
        lambda d: d.pop("disclaimer"),
        lambda d: d.update(status="certified"),
        lambda d: rows(d)[1].update(evidence={"kind": "auto:dataset", "checks": ["vibes"]}),
        lambda d: rows(d)[1].update(evidence={"kind": "auto:dataset", "all_of": [{"kind": "auto:eval"}]}),
        lambda d: rows(d)[1].update(evidence={"kind": "human"}),
        lambda d: rows(d)[1].update(evidence={"kind": "auto:dataset", "tables": ["a"]}),
        lambda d: rows(d)[1].update(applies_when={"a": 1, "b": 2}),
        lambda d: rows(d)[1].update(paraphrase="x" * 301),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(change: Callable[[dict[str, Any]], Any]) -> None:
    data = sample()
    change(data)
    with pytest.raises(ValueError):
        parse_framework(yaml.safe_dump(data))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(framework_schema()).validate(data)
