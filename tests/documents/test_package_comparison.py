"""What is different between two packages: every part, each side named by its digest, texts word by word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import package_digest
from cognify_dagster.documents.package.comparison import PARTS, compare_packages, compare_words
from tests.documents.story import Story
from tests.documents.test_pdf import ALL


@pytest.fixture
def package(two_versions: Story) -> dict[str, Any]:
    return json.loads(json.dumps(two_versions.content))


def test_a_package_equals_itself(package: dict[str, Any]) -> None:
    result = compare_packages(package, package)
    assert result["parts"] == {name: [] for name in PARTS}
    assert result["texts"] == []
    assert result["before"]["digest"] == result["after"]["digest"] == package_digest(package)


def test_each_part_says_what_changed(package: dict[str, Any]) -> None:
    after = json.loads(json.dumps(package))
    after["model"]["risk_tier"] = "low"
    after["data"][0]["rows"] += 1
    after["training"]["config"]["max_iter"] = 999
    after["evaluation"]["metrics"][0].update(value=0.9, ci_low=0.89, ci_high=0.91)
    after["evaluation"]["metrics"][1].update(value=0.413)
    after["gates"]["outcomes"][0]["threshold"] = 0.5
    line = after["coverage"][0]["lines"][0]
    line["status"] = "missing"
    gone = after["findings"].pop(0)
    after["sections"][0]["text"] = "Ranks existing card accounts by hand."
    after["attestations"] = []
    parts = compare_packages(package, after, signed_before=ALL[:1])["parts"]
    assert parts["identity"] == [{"field": "risk_tier", "before": "high", "after": "low"}]
    assert parts["data"][0]["after"] == parts["data"][0]["before"] + 1
    assert parts["parameters"] == [{"field": "config: max_iter", "before": 220, "after": 999}]
    first, second = parts["metrics"]
    assert (first["metric"], round(first["delta"], 4), first["apart"]) == ("auc", 0.1159, True)
    assert second["apart"] is False, "the intervals overlap"
    assert parts["limits"][0]["after"].startswith(">= 0.5")
    assert [row["field"] for row in parts["coverage"]] == [f"{after['coverage'][0]['framework']}: {line['id']}"]
    assert parts["findings"] == [
        {"field": gone["title"], "before": f"{gone['severity']}: {gone['observed']}", "after": None}
    ]
    assert parts["sections"][0]["after"].startswith("6 words, ")
    assert parts["approvals"] == [{"field": "Independent validation", "before": "Vera M: approve", "after": "nobody"}]


def test_texts_are_compared_word_by_word(package: dict[str, Any]) -> None:
    after = json.loads(json.dumps(package))
    after["sections"][0]["text"] = package["sections"][0]["text"].replace("by analysts", "by two analysts")
    (text,) = compare_packages(package, after)["texts"]
    assert text["id"] == "intended_use"
    assert [mark for mark, _ in text["words"]] == ["=", "+", "="]
    assert text["words"][1][1].strip() == "two"


def test_a_side_without_training_or_evaluation_is_compared_all_the_same(package: dict[str, Any]) -> None:
    bare = {**package, "training": None, "evaluation": None, "data": []}
    parts = compare_packages(bare, package)["parts"]
    assert all(row["before"] is None for row in (*parts["metrics"], *parts["parameters"], *parts["data"]))
    assert {row["metric"] for row in parts["metrics"]} >= {"auc", "ks", "fairness.SEX.adverse_impact_ratio"}


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_the_marked_words_join_to_both_texts(before: str, after: str) -> None:
    words = compare_words(before, after)
    assert "".join(text for mark, text in words if mark in "=-") == before
    assert "".join(text for mark, text in words if mark in "=+") == after


def test_very_long_texts_are_compared_in_time() -> None:
    before = "\n".join(f"line {n} of a long text" for n in range(5_000))
    after = before.replace("line 2500 ", "line two thousand five hundred ")
    words = compare_words(before, after)
    assert [mark for mark, _ in words] == ["=", "-", "+", "="]
