"""What an entry says about the making of a data set stands in the package and in print; what it does not say is absent."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import jsonschema

from cognify_dagster.documents import VersionFacts, build_package, package_schema
from cognify_dagster.documents.view.data import data_blocks
from cognify_dagster.records import CodeRef, OverlapLevel, QualityCheck, SourceRef
from tests.documents.story import Story
from tests.documents.test_pdf import lines_of


def told(facts: VersionFacts, story: Story, now: datetime, **change: Any) -> tuple[dict[str, Any], str]:
    """The package's training data, and what is printed, where the snapshot's entry says `change`."""
    first, *others = facts.datasets
    assert first.snapshot is not None
    record = first.snapshot.record.model_copy(update=change)
    more = replace(facts, datasets=(replace(first, snapshot=replace(first.snapshot, record=record)), *others))
    package = build_package(more, frameworks=[], now=now, revision=1, evidence=story.ws.evidence.get)
    jsonschema.validate(package, package_schema())
    data = next(item for item in package["data"] if item["name"] == record.name)
    return data, "\n".join(lines_of({"blocks": data_blocks(json.loads(json.dumps(package)))}))


def test_an_entry_that_says_nothing_has_nothing(facts: VersionFacts, two_versions: Story, now: datetime) -> None:
    data, shown = told(facts, two_versions, now)
    assert "made" not in data
    assert "Quality check" not in shown
    assert "Made from" not in shown


def test_author_code_sources_and_quality_are_told(facts: VersionFacts, two_versions: Story, now: datetime) -> None:
    data, shown = told(
        facts,
        two_versions,
        now,
        author="person/ben",
        touched_by=("person/ben",),
        unattributed=("git:x@example.org",),
        code=CodeRef(vcs="git", commit="a" * 40, dirty=False),
        sources=(SourceRef(name="warehouse.loans", version="v7", time="2026-11-01T00:00:00Z", kind="table"),),
        quality=(
            QualityCheck(name="no_nulls", status="pass", tool="pandera 0.26"),
            QualityCheck(name="range", status="error", detail="the column is gone"),
        ),
        unjustified_columns=("MARRIAGE",),
    )
    assert data["made"]["author"]["id"] == "person/ben"
    assert data["made"]["author"]["name"] != "person/ben", "people are named"
    assert [check["status"] for check in data["made"]["quality"]] == ["pass", "error"]
    for said in ("warehouse.loans", "pandera 0.26", "not carried out", "not identified: git:x@example.org", "MARRIAGE"):
        assert said in shown


def test_levels_of_a_comparison_are_told_without_the_records_found(
    facts: VersionFacts, two_versions: Story, now: datetime
) -> None:
    level = OverlapLevel(
        level="near", overlap_holdout=3, overlap_train=4, fraction=0.0005, not_compared=2, parameters={"threshold": 0.8},
        matches=({"holdout": "secret-digest"},),
    )  # fmt: skip
    (check, *others) = facts.overlaps
    more = replace(
        facts, overlaps=(replace(check, record=check.record.model_copy(update={"levels": (level,)})), *others)
    )
    package = build_package(more, frameworks=[], now=now, revision=1, evidence=two_versions.ws.evidence.get)
    jsonschema.validate(package, package_schema())
    assert package["overlap"][0]["levels"][0]["overlap_holdout"] == 3
    assert "secret-digest" not in json.dumps(package)
    shown = "\n".join(lines_of({"blocks": data_blocks(json.loads(json.dumps(package)))}))
    assert "threshold 0.8" in shown
    assert "2 not compared" in shown
