"""An organisation's own frameworks: beside the shipped ones, in place of one, or extending one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cognify_dagster.documents import FrameworkError, framework_ids, load_framework
from cognify_dagster.documents.frameworks.checking import check_file
from cognify_dagster.documents.frameworks.loading import headings, parse_framework
from tests.documents.test_frameworks_shipped import rows, sample

EXTENDS = """\
id: bank-lending
version: "2026.1"
extends: fair-lending
title: Fair lending at our bank
facts:
  - {name: branch_sale, question: "Is it sold in branches?"}
notes:
  - Ours asks for more about proxies.
sections:
  - id: treatment
    requirements:
      - id: fl.proxy
        citation: "12 CFR 1002.4(a)"
        basis: primary
        paraphrase: Proxies are looked for, and two people say so.
        force: law
        mandatory: true
        judged_by: compliance_officer
        evidence: {kind: human, section: proxy_review, min_words: 40, role: compliance_officer}
  - id: ours
    title: Our own policy
    requirements:
      - id: own.branch
        citation: Lending policy 4.2
        basis: primary
        paraphrase: Branch staff are told what the model may be used for.
        force: guidance
        mandatory: true
        applies_when: {branch_sale: true}
        judged_by: business_owner
        evidence: {kind: human, section: branch_training, min_words: 5}
"""


def write(folder: Path, name: str, data: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def test_a_file_extends_a_shipped_framework_and_says_what_it_changed(tmp_path: Path) -> None:
    write(tmp_path, "bank-lending", EXTENDS)
    own, base = load_framework("bank-lending", tmp_path), load_framework("fair-lending")
    mine = {item.id: item for item in own.requirements()}
    assert set(mine) == {item.id for item in base.requirements()} | {"own.branch"}
    assert mine["fl.proxy"].evidence.min_words == 40
    assert mine["fl.screen"] == next(item for item in base.requirements() if item.id == "fl.screen")
    assert [section.id for section in own.sections] == [*(section.id for section in base.sections), "ours"]
    assert own.notes[0] == "Extends fair-lending 1. Replaced here: fl.proxy. Added here: own.branch."
    assert "Ours asks for more about proxies." in own.notes
    assert {fact.name for fact in own.facts} == {fact.name for fact in base.facts} | {"branch_sale"}
    assert (own.title, own.version, own.status) == ("Fair lending at our bank", "2026.1", base.status)
    assert own.prohibited_bases == base.prohibited_bases
    assert own.digest() != base.digest()


def test_a_requirement_is_replaced_where_it_stands_whichever_section_names_it(tmp_path: Path) -> None:
    data = yaml.safe_load(EXTENDS)
    data["sections"][0]["id"] = "records"
    own = parse_framework(yaml.safe_dump(data))
    places = {section.id: [item.id for item in section.requirements] for section in own.sections}
    assert "fl.proxy" in places["treatment"]
    assert "fl.proxy" not in places["records"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("version"), "version: is required in a file that extends"),
        (lambda d: d.update(extends="no-such"), "extends: there is no shipped framework 'no-such'"),
        (lambda d: d.update(extends=["fair-lending"]), "extends: there is no shipped framework"),
        (lambda d: d.update(extends="../frameworks/fair-lending"), "extends: there is no shipped framework"),
        (lambda d: d["sections"][0]["requirements"][0].pop("evidence"), "(fl.proxy).evidence: is required"),
        (lambda d: d["sections"][1].pop("title"), "title: is required"),
        (lambda d: d.update(facts="none"), "facts: expected a list"),
        (lambda d: d.update(sections=["scope"]), "sections: expected a list of mappings"),
        (lambda d: d["sections"][0].update(requirements={"a": 1}), "requirements: expected a list"),
    ],
)
def test_a_wrong_extension_is_refused_with_file_requirement_and_field(tmp_path: Path, change: Any, words: str) -> None:
    data = yaml.safe_load(EXTENDS)
    change(data)
    write(tmp_path, "bank-lending", data)
    with pytest.raises(FrameworkError) as caught:
        load_framework("bank-lending", tmp_path)
    assert "bank-lending.yaml" in str(caught.value)
    assert words in str(caught.value)


def test_a_change_to_a_file_is_seen_at_once(tmp_path: Path) -> None:
    write(tmp_path, "bank-lending", EXTENDS)
    assert load_framework("bank-lending", tmp_path).version == "2026.1"
    write(tmp_path, "bank-lending", EXTENDS.replace("2026.1", "2026.2"))
    assert load_framework("bank-lending", tmp_path).version == "2026.2"


def test_a_folder_that_is_not_there_is_an_error_and_not_the_shipped_text(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match="no such folder"):
        load_framework("fair-lending", tmp_path / "missing")
    with pytest.raises(FrameworkError, match="no such folder"):
        framework_ids(tmp_path / "missing")


def test_an_override_that_is_wrong_never_falls_back_to_the_shipped_text(tmp_path: Path) -> None:
    write(tmp_path, "fair-lending", "id: fair-lending\n")
    with pytest.raises(FrameworkError, match=r"fair-lending\.yaml"):
        load_framework("fair-lending", tmp_path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path, "sample", sample())
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "sample.yaml").symlink_to(outside)
    with pytest.raises(FrameworkError, match="no framework 'sample'"):
        load_framework("sample", folder)


def test_the_name_of_the_file_is_the_id(tmp_path: Path) -> None:
    write(tmp_path, "other", sample())
    with pytest.raises(FrameworkError, match="named 'other' but says 'sample'"):
        load_framework("other", tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Act 1 scope", "line 3: expected a reference, a tab"),
        ("Act 1\t", "line 3: expected a reference, a tab"),
        ("Act 2\tagain", "line 3: 'Act 2' stands there twice"),
        ("Act 3; Act 4\tboth", "joins several"),
    ],
)
def test_a_list_of_headings_is_read_strictly(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "headings").mkdir()
    (tmp_path / "headings" / "sample.txt").write_text(f"# what may be cited\nAct 2\tdata\n{line}\n", encoding="utf-8")
    with pytest.raises(FrameworkError) as caught:
        headings("sample", tmp_path)
    assert words in str(caught.value)


def test_citations_of_an_own_framework_are_compared_with_the_own_list(tmp_path: Path) -> None:
    path = write(tmp_path, "sample", sample())
    assert [item.level for item in check_file(path, tmp_path)[1]] == ["note"], "no list, so nothing was compared"
    (tmp_path / "headings").mkdir()
    (tmp_path / "headings" / "sample.txt").write_text("Act 1\tscope\nAct 2(a)\tdata\n", encoding="utf-8")
    assert [item.where for item in check_file(path, tmp_path)[1]] == ["s.data"]


def test_a_day_without_quotes_is_explained(tmp_path: Path) -> None:
    text = yaml.safe_dump(sample()).replace("as_of: '2026-11-21'", "as_of: 2026-11-21")
    with pytest.raises(FrameworkError, match="as_of: has to be text; put it in quotes"):
        parse_framework(text)


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"kind": "auto:dataset", "tables": ["roc"]}, "holds no tables"),
        ({"kind": "human", "section": "a", "text_id": "licence"}, "has no text_id"),
        ({"kind": "attestation", "text_id": "licence"}, "names the role"),
        ({"kind": "attestation", "role": "Model owner"}, "as the policy spells it"),
        ({"all_of": [{"kind": "auto:eval"}], "role": "auditor"}, "a group of evidence has no role"),
        ({"kind": "auto:eval", "max_age_days": 0}, "max_age_days"),
    ],
)
def test_a_demand_for_evidence_says_only_what_its_kind_knows(evidence: dict[str, Any], words: str) -> None:
    data = sample()
    rows(data)[1]["evidence"] = evidence
    with pytest.raises(FrameworkError) as caught:
        parse_framework(yaml.safe_dump(data))
    assert "(s.data)" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ({"years": 10, "months": 3}, "either years or months"),
        ({}, "either years or months"),
        ({"years": 10, "artefacts": ["everything"]}, "artefacts"),
        ({"years": 10, "from": "forever"}, "from"),
    ],
)
def test_a_retention_class_has_one_term_and_a_known_beginning(term: dict[str, Any], words: str) -> None:
    data = sample()
    data["retention"] = [
        {"id": "r", "artefacts": ["logs"], "from": "created", "citation": "Act 1", "basis": "primary", **term}
    ]
    with pytest.raises(FrameworkError, match=words):
        parse_framework(yaml.safe_dump(data))


def test_derived_facts_are_used_without_being_asked_for_and_never_asked() -> None:
    data = sample()
    rows(data)[1]["applies_when"] = {"risk_tier": ["high", "medium"]}
    assert parse_framework(yaml.safe_dump(data))
    data["facts"].append({"name": "risk_tier", "question": "Which tier?"})
    with pytest.raises(FrameworkError, match="never asked for"):
        parse_framework(yaml.safe_dump(data))
