"""What the data changed in since the version released last: from the two profiles alone, shown as chart and table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from cognify_dagster.documents import VersionFacts
from cognify_dagster.documents.package.building import package_schema
from cognify_dagster.documents.package.distributions import MAX_COLUMNS, MAX_SHARES, distributions
from cognify_dagster.documents.view.distributions import distribution_blocks
from tests.documents.story import Story
from tests.documents.test_pdf import lines_of


def profile(share: float, mean: float, std: float = 2.0) -> dict[str, Any]:
    classes = [{"value": 0, "fraction": 1 - share}, {"value": 1, "fraction": share}]
    return {
        "columns": [{"name": "AGE", "mean": mean, "std": std}, {"name": "CITY", "type": "string"}],
        "label": {"column": "default", "classes": classes},
        "groups": {"SEX": [{"value": "f", "count": 1}, {"value": "m", "count": 3}]},
    }


def changed(facts: VersionFacts, **profiles: dict[str, Any]) -> list[dict[str, Any]]:
    """The distributions, with profiles by `before` and `after`."""
    assert facts.previous is not None
    old = {item.ref.root for item in facts.previous.datasets}
    return distributions(facts, lambda item: profiles["before" if item.ref.root in old else "after"])


def test_shares_and_means_are_those_of_the_two_profiles(facts: VersionFacts) -> None:
    found = changed(facts, before=profile(0.2, 30.0), after=profile(0.25, 33.0))[0]
    assert (found["role"], found["before"]["name"], found["cut"]) == ("train", "loans_train", 0)
    assert found["before"]["root"] != found["after"]["root"]
    rows = {(row["kind"], row["column"], row["value"]): (row["before"], row["after"]) for row in found["shares"]}
    assert rows["class", "default", "1"] == (0.2, 0.25)
    assert rows["group", "SEX", "f"] == (0.25, 0.25)
    assert found["columns"] == [{"name": "AGE", "before": 30.0, "after": 33.0, "shift": 1.5}]


def test_what_one_side_lacks_is_none_and_never_zero(facts: VersionFacts) -> None:
    before = {**profile(0.2, 30.0, std=0.0), "label": None}
    found = changed(facts, before=before, after=profile(0.25, 33.0))[0]
    rows = {(row["column"], row["value"]): row["before"] for row in found["shares"]}
    assert rows["default", "1"] is None
    assert found["columns"][0]["shift"] is None, "no spread, no shift in standard deviations"


def test_the_same_data_set_twice_has_no_row(facts: VersionFacts) -> None:
    assert facts.previous is not None
    same = replace(facts, datasets=facts.previous.datasets, evaluation_data=facts.previous.evaluation_data)
    assert changed(same, before=profile(0.2, 30.0), after=profile(0.2, 30.0)) == []
    assert distributions(replace(facts, previous=None), lambda item: {}) == []


def test_training_data_come_first_then_evaluation(facts: VersionFacts) -> None:
    found = changed(facts, before=profile(0.2, 30.0), after=profile(0.25, 33.0))
    assert [item["role"] for item in found] == ["train", "evaluation"]


def test_long_lists_are_cut_and_say_so(facts: VersionFacts) -> None:
    def wide(mean: float) -> dict[str, Any]:
        groups = {"CITY": [{"value": str(n), "count": 1} for n in range(MAX_SHARES + 5)]}
        columns = [{"name": f"x{n:03}", "mean": mean * n, "std": 1.0} for n in range(1, MAX_COLUMNS + 4)]
        return {"columns": columns, "label": None, "groups": groups}

    found = changed(facts, before=wide(1.0), after=wide(2.0))[0]
    assert (len(found["shares"]), len(found["columns"]), found["cut"]) == (MAX_SHARES, MAX_COLUMNS, 8)
    assert found["columns"][0]["name"] == f"x{MAX_COLUMNS + 3:03}", "the greatest shift first"
    shown = "\n".join(lines_of({"blocks": distribution_blocks({"since": "1", "distributions": [found]}, "2", {})}))
    assert "8 more rows than a package lists" in shown


def test_the_package_holds_them_and_print_shows_chart_and_table(two_versions: Story) -> None:
    package = json.loads(json.dumps(two_versions.content))
    jsonschema.validate(package, package_schema())
    found = package["changes"]["distributions"]
    assert [item["role"] for item in found] == ["train", "evaluation"]
    charts: dict[str, Any] = {}
    shown = "\n".join(lines_of({"blocks": distribution_blocks(package["changes"], "2", charts)}))
    assert "default = 1" in shown
    assert "+0.0500" in shown
    assert "Shift in standard deviations" in shown
    assert "+0.219" in shown, "(37.5 - 35.4855) / 9.2179"
    assert sorted(charts) == ["distributions-0.svg", "distributions-1.svg"]
    assert "version 1" in charts["distributions-0.svg"]()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"since": "1", "items": []}, ""),
        ({"since": "1", "items": [], "distributions": []}, "used the same data sets as version 1"),
        (
            {"since": "1", "items": [{"area": "data", "field": "loans: root"}], "distributions": []},
            "no two of the same role are on record to compare",
        ),
    ],
)
def test_packages_that_say_nothing_get_nothing_and_equal_data_are_named(changes: dict[str, Any], said: str) -> None:
    shown = "\n".join(lines_of({"blocks": distribution_blocks(changes, "2", {})}))
    assert said in shown
    assert bool(shown) is bool(said)
