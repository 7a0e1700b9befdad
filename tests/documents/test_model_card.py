"""The model card: nine sections and the regulated ones, readable header, people's texts literal and attributed, text that stays text."""

from __future__ import annotations

import itertools
import json
import math
import re
from datetime import datetime
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cognify_dagster.documents import load_framework, package_digest, render_model_card
from cognify_dagster.documents.outputs.markdown import escape_cell, escape_inline, escape_markdown, quote
from cognify_dagster.documents.outputs.model_card import render_model_card_html
from cognify_dagster.documents.outputs.page import html_fragment
from tests.documents.story import Story

SECTIONS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
    "Ethical considerations", "Caveats and recommendations", "Provenance attestation", "Bias evaluation", "Regulatory cross-references",
    "Further sections written by people",
]  # fmt: skip
PLAIN = MarkdownIt("commonmark", {"html": True}).enable("table")
EVIL = "---\nlicense: mit\n---\n# Big\n<script>alert(1)</script> [a](javascript:x) | cell | {{ 7*7 }} `x` \u202egnp.exe"
SCRIPTS = [
    "Ωμέγα", "Привет", "שלום", "مرحبا", "नमस्ते", "สวัสดี", "日本語", "한국어", "中文", "ქართული", "Ünïcödé",
]  # fmt: skip


def split(card: str) -> tuple[dict[str, Any], str]:
    assert card.startswith("---\n")
    header, _, body = card[4:].partition("\n---\n")
    return yaml.safe_load(header), body


def header_of(card: str) -> dict[str, Any]:
    return split(card)[0]


def bent(story: Story) -> dict[str, Any]:
    """A copy of the package that a test may change."""
    copy: dict[str, Any] = json.loads(json.dumps(story.content))
    return copy


def part(card: str, title: str) -> str:
    """The text of one section."""
    return re.split(r"^## ", card.partition(f"{title}\n")[2], flags=re.MULTILINE)[0]


def test_all_sections_in_order_and_the_digest_of_the_package(two_versions: Story) -> None:
    card = render_model_card(two_versions.content)
    found = [line.partition(". ")[2] for line in card.split("\n") if line.startswith("## ")]
    assert found == SECTIONS
    assert package_digest(two_versions.content)[7:] in card
    assert "fl.aa.reasons" in card
    assert "insufficient data" in card
    assert card == render_model_card(bent(two_versions)), "the same package gives the same bytes"


def test_model_hubs_accept_the_header(two_versions: Story) -> None:
    card = render_model_card(two_versions.content)
    header = header_of(card)
    assert header["datasets"] == ["loans_holdout", "loans_train"]
    assert header["model-index"][0]["results"][0]["metrics"][0] == {"type": "auc", "value": 0.7841}
    assert "license" not in header, "a licence is named only where somebody stated one"
    read = ModelCard(card)
    assert [(r.metric_type, r.metric_value) for r in read.data.eval_results or ()] == [
        ("auc", 0.7841),
        ("ks", 0.412),
        ("brier", 0.1343),
    ]
    assert {item.dataset_revision for item in read.data.eval_results or ()} == {"d" * 64}
    again = yaml.safe_load(read.data.to_yaml())
    assert {**again, "model_name": header["model_name"]} == {
        **header,
        **{k: again[k] for k in again if k not in header},
    }


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("apache-2.0", {"license": "apache-2.0"}),
        ("CC BY 4.0", {"license": "cc-by-4.0"}),
        ("Bank internal", {"license": "other", "license_name": "Bank internal"}),
        (" ", {}),
        (7, {}),
    ],
)
def test_a_licence_is_said_in_the_word_that_hubs_know(
    two_versions: Story, stated: object, expected: dict[str, str]
) -> None:
    package = bent(two_versions)
    package["model"]["framework_facts"]["license"] = stated
    header = header_of(render_model_card(package)) if isinstance(stated, str) else header_of_facts(package)
    assert {name: header[name] for name in ("license", "license_name") if name in header} == expected


def header_of_facts(package: dict[str, Any]) -> dict[str, Any]:
    from cognify_dagster.documents.outputs.card_header import card_header

    found: dict[str, Any] = yaml.safe_load(card_header(package))
    return found


def test_numbers_that_are_none_stay_out_of_the_header_and_are_shown(two_versions: Story) -> None:
    package = bent(two_versions)
    package["evaluation"]["metrics"][0]["value"] = "NaN"
    package["training"]["base_model"] = {"name": "not a hub id / at all"}
    card = render_model_card(package)
    header = header_of(card)
    values = [m["value"] for m in header["model-index"][0]["results"][0]["metrics"]]
    assert len(values) == 2
    assert all(math.isfinite(value) for value in values)
    assert "base_model" not in header
    assert "| AUC | NaN |" in card
    ModelCard(card)


def test_what_people_wrote_is_literal_and_says_who_stands_behind_it(two_versions: Story) -> None:
    package = bent(two_versions)
    section = next(item for item in package["sections"] if item["id"] == "limitations")
    entry = {"seq": 31, "leaf": "0" * 64, "time": "2026-11-21T09:00:00Z", "actor": "person/vera"}
    section |= {
        "text": "First line\n    indented *not bold*\n\n- no list",
        "author": {"id": "person/ben", "name": "Ben Okafor"},
        "revision": 2,
        "ai_drafted": True,
        "counts": False,
        "carried_from": {"version": "1", "seq": 4, "text_digest": "sha256:" + "1" * 64},
    }
    card = render_model_card(package)
    text = part(card, "Caveats and recommendations")
    assert "> First line\\\n> &nbsp;&nbsp;&nbsp;&nbsp;indented \\*not bold\\*\n>\n> \\- no list" in text
    assert "Author stated: Ben Okafor; revision 2; recorded in entry" in text
    assert "carried over from version 1" in text
    assert "drafted by a program; nobody has signed it, so it counts for nothing yet" in text
    html = html_fragment(card)
    assert "<em>" not in html.partition("First line")[2].partition("</blockquote>")[0]
    person = {"id": "person/vera", "name": "Vera Marković"}
    section |= {
        "counts": True,
        "signatures": [
            {"capacity": "approver", "person": person, "role": "model_validator", "comment": "", "entry": entry}
        ],
    }
    signed = part(render_model_card(package), "Caveats and recommendations")
    assert "approved by Vera Marković (model validator, entry 31); drafted by a program." in signed


def test_what_nobody_wrote_is_said_with_who_writes_it(two_versions: Story) -> None:
    card = render_model_card(two_versions.content)
    assert "Not written. It is for the model owner to write, as section failure\\_modes." in card
    assert "Nobody attested anything" in card
    assert "not stated; the model owner states it as the fact license" in card
    package = bent(two_versions)
    package["evaluation"], package["gates"]["outcomes"], package["overlap"], package["coverage"] = None, [], [], []
    package["training"] = None
    package["attestations"] = []
    empty = render_model_card(package)
    for said in (
        "No sealed training run is on record.",
        "No evaluation is on record.",
        "No gate outcome is on record.",
        "Whether training and evaluation data share records is not on record.",
        "No result by group is on record.",
        "No framework is in scope.",
    ):
        assert said in empty, said
    ModelCard(empty)


def test_a_new_package_keeps_what_people_wrote(story: Story, now: datetime) -> None:
    frameworks = [load_framework("sr26-2")]
    story.prepare_version("1")
    first = render_model_card(story.package(frameworks, now))
    story.evaluate(auc=0.79)
    second = render_model_card(story.package(frameworks, now))
    assert first != second
    assert part(first, "Intended use") == part(second, "Intended use")
    assert "0.7900" in part(second, "Metrics")


def test_requirements_name_their_entries_and_the_evidence_behind_them(two_versions: Story) -> None:
    package = two_versions.content
    rows = part(render_model_card(package), "Regulatory cross-references")
    held = {item["seq"]: item["id"] for item in package["evidence"]}
    line = next(
        line
        for report in package["coverage"]
        for line in report["lines"]
        if any(ref["seq"] in held for ref in line["entries"])
    )
    row = next(row for row in rows.split("\n") if row.startswith(f"| {escape_cell(line['id'])} |"))
    for ref in line["entries"]:
        assert re.search(rf"\b{ref['seq']}\b", row.split("|")[-2])
        if ref["seq"] in held:
            assert re.search(rf"\b{ref['seq']} \(E-\d{{3}}", row.split("|")[-2])


def test_attestations_stand_in_the_card_with_whether_they_count(two_versions: Story) -> None:
    package = bent(two_versions)
    entry = {"seq": 30, "leaf": "0" * 64, "time": "2026-11-21T09:00:00Z", "actor": "person/carl"}
    package["attestations"] = [
        {
            "text_id": "data_provenance", "text": "I know.", "text_version": "1", "about": "dataset/loans_train", "digest": "sha256:" + "c" * 64,
            "party": "", "person": {"id": "person/carl", "name": "Carl | Jönsson"}, "role": "compliance_officer", "expires": None,
            "counts": False, "why": "it is about another snapshot", "documents": [], "entry": entry,
        }
    ]  # fmt: skip
    rows = part(render_model_card(package), "Provenance attestation")
    assert (
        "| data provenance | dataset/loans\\_train | Carl \\| Jönsson | compliance officer | no end | no: it is about another snapshot | 30 |"
        in rows
    )


def test_hostile_text_stays_text(two_versions: Story) -> None:
    package = bent(two_versions)
    package["model"]["title"] = package["model"]["owner"] = package["data"][0]["name"] = EVIL
    package["sections"][0]["text"] = EVIL
    package["evaluation"]["fairness"][0]["attribute"] = EVIL
    package["training"]["config"] = {EVIL: EVIL}
    card = render_model_card(package)
    header, body = split(card)
    assert "license" not in header
    assert header["model_name"] == " ".join(EVIL.replace("\u202e", "[U+202E]").split())
    assert "\u202e" not in card
    html = PLAIN.render(body)
    assert "<script>" not in html
    assert 'javascript:x"' not in html
    assert "49" not in html.split("Model details")[1][:400]
    page = render_model_card_html(package)
    assert "<script" not in page
    assert "<a " not in page


def test_texts_of_many_scripts_and_of_a_megabyte_are_shown_as_they_are(two_versions: Story) -> None:
    package = bent(two_versions)
    text = "\n".join(SCRIPTS) + "\n" + "x" * 1_000_000
    package["sections"][0]["text"] = text
    page = render_model_card_html(package)
    for word in SCRIPTS:
        assert word in page
    assert "x" * 1_000_000 in page


def test_the_page_is_one_file_that_runs_and_loads_nothing(two_versions: Story) -> None:
    page = render_model_card_html(two_versions.content)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "default-src 'none'" in page
    assert not re.search(r"<(script|link|img|iframe|form|object)\b|url\(|@import|https?://[^ <]*[\"']\s*>", page)
    assert page.count("<h1") == page.count("<main>") == 1
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), "no level is skipped"
    heads = re.findall(r"<th\b([^>]*)>(.*?)</th>", page)
    assert heads
    assert all("scope=" in attributes and text for attributes, text in heads), "each header cell has a scope and a text"
    assert page == render_model_card_html(bent(two_versions))


def test_a_trial_is_said_at_the_top(two_versions: Story) -> None:
    card = render_model_card({**two_versions.content, "trial": True})
    assert "**TRIAL.**" in card
    assert card.index("TRIAL") < card.index("## 1.")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
def test_escaped_text_renders_as_itself(text: str) -> None:
    html = PLAIN.render("x " + escape_cell(text))
    shown = html.removeprefix("<p>").removesuffix("</p>\n")
    for tag in ("<em>", "<strong>", "<code>", "<a ", "<img", "<h1>", "<script", "<br"):
        assert tag not in shown.replace("<br />", "") or tag == "<br"
    assert "\n" not in escape_cell(text)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_a_quote_and_a_heading_hold_nothing_but_text(text: str) -> None:
    html = PLAIN.render(f"# {escape_inline(text)}\n\n{quote(text, text)}\n\nEnd.\n")
    left = re.sub(r"</?(h1|blockquote|p)>|<br />", "", html)
    assert not re.search(r"<[a-zA-Z/!]", left)
    assert html.rstrip().endswith("<p>End.</p>")


def test_line_starts_do_not_form_lists_or_headings() -> None:
    html = PLAIN.render(escape_markdown("# a\n- b\n1. c\n> d\n=== \n---"))
    for tag in ("<h1>", "<li>", "<blockquote>", "<hr"):
        assert tag not in html
