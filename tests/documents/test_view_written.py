"""Whose text a section is, what was attested, and how long records are kept: said in words, once, and never more than is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cognify_dagster.documents.view.evaluation import objective_blocks
from cognify_dagster.documents.view.written import attestation_blocks, retention_blocks, section_blocks, whose
from tests.documents.story import Story
from tests.documents.test_pdf import lines_of

ENTRY = {"seq": 7, "leaf": "0" * 64, "time": "2026-11-21T08:00:00Z", "actor": "workload/pipeline"}
BEN = {"id": "person/ben", "name": "Ben Okafor"}
VERA = {"id": "person/vera", "name": "Vera Marković"}


@pytest.fixture
def package(two_versions: Story) -> dict[str, Any]:
    return json.loads(json.dumps(two_versions.content))


def shown(blocks: list[Any]) -> str:
    return "\n".join(lines_of({"blocks": blocks}))


def section(**more: Any) -> dict[str, Any]:
    return {
        "id": "limitations", "title": "Limitations", "text": "One issuer.", "declared_unavailable": "", "author": BEN, "recorded": ENTRY,
        "revision": 2, "source": "sections/limitations.md", "ai_drafted": False, "counts": True, "reviewed": False,
        "author_signed": False, "carried_from": None, "signatures": [], **more,
    }  # fmt: skip


def signed(capacity: str, person: dict[str, str], seq: int, comment: str = "") -> dict[str, Any]:
    return {
        "capacity": capacity,
        "person": person,
        "role": "model_validator",
        "comment": comment,
        "entry": {**ENTRY, "seq": seq},
    }


def test_a_stated_author_is_told_apart_from_one_who_signed() -> None:
    assert whose(section()).startswith(
        "Written by Ben Okafor (as stated, not signed by the author). Revision 2, recorded by the pipeline"
    )
    own = whose(section(author_signed=True, signatures=[signed("author", BEN, 9)]))
    assert "Written by Ben Okafor (signed by the author in entry 9)" in own
    assert "Author not stated" in whose(section(author=None))


def test_a_draft_of_a_program_says_so_and_whether_it_counts() -> None:
    draft = whose(section(ai_drafted=True, author=None, counts=False))
    assert draft.startswith("Drafted by a program. ")
    assert "it does not count as evidence: a program drafted it and nobody signed under it" in draft
    done = whose(section(ai_drafted=True, author=None, signatures=[signed("approver", VERA, 12, "read it")]))
    assert "approved by Vera Marković (model validator, entry 12): “read it”" in done
    assert "does not count" not in done


def test_who_approved_and_what_was_carried_over() -> None:
    text = whose(section(carried_from={"version": "1", "seq": 4, "text_digest": "sha256:" + "0" * 64}))
    assert "carried over unchanged from version 1 (entry 4)" in text
    assert "nobody has approved it for this version" in text
    assert "from the file sections/limitations.md" in text


def test_that_no_author_is_stated_is_said_once(package: dict[str, Any]) -> None:
    assert sum(bool(s["text"]) and s["author"] is None for s in package["sections"]) > 1
    text = shown(section_blocks(package))
    assert text.lower().count("author") == 2, "once for all of them, and the one that is stated"
    assert "that entry states no author for them" in text
    assert "Author stated: Carl Jönsson" in text


def test_nothing_written_is_no_wall_of_remarks(package: dict[str, Any]) -> None:
    package["sections"] = [{**s, "text": "", "declared_unavailable": ""} for s in package["sections"]]
    text = shown(section_blocks(package))
    assert "No section is written so far." in text
    assert "by the pipeline" not in text
    assert f"Not written: {len(package['sections'])}" in text


def test_an_attestation_says_by_whom_until_when_and_why_it_does_not_count(package: dict[str, Any]) -> None:
    base = {
        "text_id": "data_source_agreement", "text": "The source allows this use.", "text_version": "2", "about": "dataset/loans_train",
        "digest": "c" * 64, "party": "UCI", "person": VERA, "role": "compliance_officer", "expires": "2027-01-01T00:00:00Z",
        "counts": True, "why": "", "documents": [{"name": "contract.pdf"}], "entry": ENTRY,
    }  # fmt: skip
    package["attestations"] = [base, {**base, "counts": False, "why": "it expired on 2026-01-01", "expires": None}]
    text = shown(attestation_blocks(package))
    for said in ("data source agreement", "with UCI", "Vera Marković", "2027-01-01", "● counts", "contract.pdf", "no end",
                 "○ does not count: it expired on 2026-01-01", "The source allows this use."):  # fmt: skip
        assert said in text, said
    assert text.count("The source allows this use.") == 1
    assert "nobody has attested" in shown(attestation_blocks({**package, "attestations": []}))


def test_retention_says_the_longest_term_and_why(package: dict[str, Any]) -> None:
    text = shown(retention_blocks(package))
    assert "84 months from the end of use" in text
    assert "Further terms may apply; these facts are not stated: " in text
    assert "no term known" in text
    for item in package["retention"]["artefacts"]:
        assert item["reason"] in text
    older = {name: value for name, value in package.items() if name != "retention"}
    assert retention_blocks(older) == [], "a package that says nothing about it is shown as it is"


def test_objectives_give_limits_and_whose_they_are(package: dict[str, Any]) -> None:
    text = shown(objective_blocks(package))
    metrics = {item["metric"]: item for item in package["objectives"]["metrics"]}
    assert metrics["auc"]["objective"] in text
    assert "≥ 0.7200, ● pass (gate auc-floor)" in text
    assert "none adopted" in text
    assert "a convention" in text
    package["objectives"]["unmapped"] = [{**metrics["ks"], "metric": "own_score", "stated_objective": "Ours."}]
    assert "No objective is stated for: Own score (Ours.)" in shown(objective_blocks(package))
    assert objective_blocks({**package, "objectives": {**package["objectives"], "metrics": [], "unmapped": []}}) == []
