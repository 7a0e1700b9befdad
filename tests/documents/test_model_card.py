"""The model card: nine sections and the regulated ones, readable header, and text that stays text."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cognify_dagster.documents import package_digest, render_model_card
from cognify_dagster.documents.model_card import escape_cell, escape_markdown
from tests.documents.story import Story

SECTIONS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
    "Ethical considerations", "Caveats and recommendations", "Provenance attestation", "Bias evaluation", "Regulatory cross-references",
]  # fmt: skip
PLAIN = MarkdownIt("commonmark", {"html": True}).enable("table")


def split(card: str) -> tuple[dict[str, Any], str]:
    assert card.startswith("---\n")
    header, _, body = card[4:].partition("\n---\n")
    return yaml.safe_load(header), body


def header_of(card: str) -> dict[str, Any]:
    return split(card)[0]


def test_all_sections_in_order_and_the_digest_of_the_package(two_versions: Story) -> None:
    card = render_model_card(two_versions.content)
    found = [line.partition(". ")[2] for line in card.split("\n") if line.startswith("## ")]
    assert found == SECTIONS
    assert package_digest(two_versions.content)[7:] in card
    assert "fl.aa.reasons" in card
    assert "insufficient data" in card
    assert card == render_model_card(two_versions.content)


def test_the_header_is_yaml_that_hubs_read(two_versions: Story) -> None:
    header = header_of(render_model_card(two_versions.content))
    assert header["datasets"] == ["loans_holdout", "loans_train"]
    assert header["model-index"][0]["results"][0]["metrics"][0] == {"type": "auc", "value": 0.7841}
    assert "license" not in header, "a licence is named only where somebody stated one"


def test_hostile_text_stays_text(two_versions: Story) -> None:
    bent = json.loads(json.dumps(two_versions.content))
    evil = "---\nlicense: mit\n---\n# Big\n<script>alert(1)</script> [a](javascript:x) | cell | {{ 7*7 }} `x`"
    bent["model"]["title"] = bent["model"]["owner"] = bent["data"][0]["name"] = evil
    bent["sections"][0]["text"] = evil
    card = render_model_card(bent)
    header, body = split(card)
    assert header["model_name"] == " ".join(evil.split())
    assert "license" not in header
    html = PLAIN.render(body)
    assert "<script>" not in html
    assert 'javascript:x"' not in html
    assert "49" not in html.split("Model details")[1][:400]


def test_a_trial_is_said_at_the_top(two_versions: Story) -> None:
    card = render_model_card({**two_versions.content, "trial": True})
    assert "**TRIAL.**" in card
    assert card.index("TRIAL") < card.index("## 1.")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
def test_escaped_text_renders_as_itself(text: str) -> None:
    html = PLAIN.render("x " + escape_cell(text))
    shown = html.removeprefix("<p>").removesuffix("</p>\n")
    for tag in ("<em>", "<strong>", "<code>", "<a ", "<img", "<h1>", "<script", "<br"):
        assert tag not in shown.replace("<br />", "") or tag == "<br"
    assert "\n" not in escape_cell(text)


def test_line_starts_do_not_form_lists_or_headings() -> None:
    html = PLAIN.render(escape_markdown("# a\n- b\n1. c\n> d\n=== \n---"))
    for tag in ("<h1>", "<li>", "<blockquote>", "<hr"):
        assert tag not in html
