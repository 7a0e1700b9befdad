"""What coverage says of the story, word for word. After a wanted change: `python -m tests.documents.golden_coverage`, and read the diff."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from cognify_dagster.documents import VersionFacts, framework_ids, load_framework
from tests.documents.golden_coverage import FOLDER, expected, in_scope, text_of


@pytest.mark.parametrize("name", framework_ids())
def test_coverage_is_what_the_golden_file_says(
    facts: VersionFacts, released: VersionFacts, now: datetime, name: str
) -> None:
    path = FOLDER / f"{name}.json"
    assert path.is_file(), "write it with: python -m tests.documents.golden_coverage"
    found = expected(load_framework(name), facts, released, now)
    assert json.loads(text_of(found)) == json.loads(path.read_text(encoding="utf-8"))


def test_every_golden_file_is_of_a_shipped_framework() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == framework_ids()


@pytest.mark.parametrize("name", framework_ids())
def test_the_facts_of_the_golden_files_bring_the_framework_into_scope(
    facts: VersionFacts, released: VersionFacts, now: datetime, name: str
) -> None:
    framework = load_framework(name)
    found = expected(framework, facts, released, now)["in_scope_unsigned"]
    assert found["scope"] == "in_scope", in_scope(framework)
    open_lines = [line for line in found["lines"].values() if line["status"] not in ("not_applicable", "satisfied")]
    assert open_lines
