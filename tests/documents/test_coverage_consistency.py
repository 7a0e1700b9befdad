"""What version 1 had and version 2 lacks is named, with the entry that held it; what is there is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.documents import VersionFacts, collect
from cognify_dagster.documents.coverage.consistency import consistency, inventory
from cognify_dagster.documents.package.findings import findings
from cognify_dagster.records import MetricResult
from tests.documents.story import Story


def names(facts: VersionFacts, kind: str) -> list[str]:
    return [item.name for item in consistency(facts) if item.kind == kind]


@pytest.fixture(scope="module")
def lesser(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, VersionFacts]:
    """Version 2 comes with less than version 1: texts, a framework, metrics, a comparison, a field of the provenance."""
    story = Story(tmp_path_factory.mktemp("lesser"))
    story.prepare_version("1", seed=7)
    story.register(
        frameworks=("sr26-2",),
        limitations="",
        framework_facts={"us_banking_organisation": True, "is_model": True},
    )
    story.snapshot("loans_holdout", "b", 5995)
    story.train_ref = story.snapshot("loans_train", "c", 23970, provenance={"source": "UCI 350", "licence": ""})
    story.train("2", seed=None)
    story.evaluate(
        metrics=(MetricResult(name="auc", value=0.78, n=5995),),
        tables={},
        artefacts=(),
        fairness=(),
    )
    return story, collect(story.ws.read(), story.model, "2")


def test_nothing_is_lost_where_there_is_no_earlier_version(released: VersionFacts) -> None:
    assert released.before is None
    assert consistency(released) == ()


def test_nothing_is_lost_where_everything_is_there_again(facts: VersionFacts) -> None:
    assert facts.before is not None
    assert facts.before.version == "1"
    assert consistency(facts) == ()


def test_a_text_a_framework_and_evidence_that_are_gone_are_named(lesser: tuple[Story, VersionFacts]) -> None:
    story, facts = lesser
    assert names(facts, "section") == ["lending_scope", "limitations", "scope_rationale"]
    assert names(facts, "framework") == ["fair-lending"]
    gone = names(facts, "evidence")
    for name in (
        "table or attachment calibration",
        "table or attachment roc",
        "metric KS",
        "outcomes by sex",
        "seed of the training run",
        "data loans_train: licence",
        "comparison of training and evaluation records",
    ):
        assert name in gone, gone
    for name in ("evaluation", "metric AUC", "data loans_train: source"):
        assert name not in gone
    view = story.ws.read().view
    for item in consistency(facts):
        assert item.version == "1"
        assert view.entry(item.entry.seq).entry.leaf.hex() == item.entry.leaf


def test_another_data_set_is_a_change_and_no_loss(story: Story) -> None:
    story.prepare_version("1")
    story.train_ref = story.snapshot("accounts_train", "e", 100, provenance={})
    story.train("2")
    story.evaluate()
    lost = names(collect(story.ws.read(), story.model, "2"), "evidence")
    assert not [name for name in lost if name.startswith("data ")]


def test_the_released_version_is_compared_with_else_the_one_trained_last(story: Story) -> None:
    story.prepare_version("1")
    story.train("2")
    story.evaluate()
    story.train("3")
    found = collect(story.ws.read(), story.model, "3")
    assert found.before is not None
    assert found.before.version == "2"
    assert "evaluation" in names(found, "evidence"), "version 3 was not evaluated yet"
    assert collect(story.ws.read(), story.model, "1").before is None, "later versions are no earlier ones"


def test_an_evaluation_of_something_else_is_not_there(facts: VersionFacts) -> None:
    from tests.documents.test_coverage import bend

    assert "evaluation" not in inventory(bend(facts, "evaluation", training_seq=1)).evidence


def test_findings_tell_of_it_once_for_texts_frameworks_and_evidence(lesser: tuple[Story, VersionFacts]) -> None:
    _, facts = lesser
    told: list[dict[str, Any]] = [item for item in findings(facts, []) if "had and this one lacks" in item["title"]]
    assert {item["title"].split()[0]: item["severity"] for item in told} == {
        "Texts": "medium",
        "Frameworks": "medium",
        "Evidence": "low",
    }
    texts = next(item for item in told if item["title"].startswith("Texts"))
    assert "Limitations" in texts["observed"]
    assert texts["entries"]
    assert not [item for item in findings(facts, []) if item["observed"] == ""]


def test_a_section_that_people_wrote_counts_like_one_of_the_registration(tmp_path: Path) -> None:
    from cognify_dagster.governance import SectionText, write_sections

    folder = tmp_path / "project"
    folder.mkdir()
    story = Story(folder)
    story.prepare_version("1")
    write_sections(story.ws, story.model, "1", [SectionText("monitoring_plan", "Monthly, by the owner.", "person/ben")])
    story.train("2")
    before = collect(story.ws.read(), story.model, "2")
    assert names(before, "section") == ["monitoring_plan"]
    write_sections(story.ws, story.model, "2", [SectionText("monitoring_plan", "Weekly, by the owner.", "person/ben")])
    assert names(collect(story.ws.read(), story.model, "2"), "section") == []
