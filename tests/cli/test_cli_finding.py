"""Findings, and who is responsible for what."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from cognify_dagster.records import FindingOpened, utc
from tests.cli.conftest import Cognify, key_file
from tests.governance.world import MODEL, World


def later(days: int) -> str:
    return utc(datetime.now(timezone.utc) + timedelta(days=days))


def raise_one(cognify: Cognify, world: World, *words: object, by: str = "vera") -> int:
    given = words or ("--severity", "high", "--title", "holdout overlaps")
    result = cognify("finding", "open", MODEL, "1", *given, "--as", key_file(world, by), "--yes", "--json", at=world)
    assert result.code == 0, result.err
    seq: int = result.json["entry"]
    return seq


def test_a_finding_is_raised_listed_and_closed(approved: World, cognify: Cognify) -> None:
    seq = raise_one(cognify, approved)
    assert cognify("status", MODEL, "1", at=approved).code == 1
    assert cognify("status", MODEL, at=approved).code == 1
    listed = cognify("finding", "list", MODEL, at=approved)
    assert listed.code == 0
    assert "open, holds releases back" in listed.out
    assert "May accept it" in cognify("finding", "show", seq, at=approved).out
    words = ("finding", "resolve", seq, "--close", "--reason", "rows removed", "--link", "https://t/1", "--yes")
    done = cognify(*words, "--as", key_file(approved, "carl"), at=approved)
    assert done.code == 0, done.err
    assert "None is open. 1 closed" in cognify("finding", "list", MODEL, at=approved).out
    assert "closed by entry" in cognify("finding", "list", MODEL, "--all", at=approved).out
    value = cognify("finding", "show", seq, "--json", at=approved).json
    assert (value["open"], value["resolutions"][0]["by"]) == (False, "Carl")
    assert cognify("status", MODEL, "1", at=approved).code == 0
    again = cognify(*words, "--as", key_file(approved, "carl"), at=approved)
    assert again.code == 1
    assert "is closed already" in again.err


def test_an_accepted_risk_shows_until_when(approved: World, cognify: Cognify) -> None:
    seq = raise_one(cognify, approved)
    until = later(30)
    words = ("finding", "resolve", seq, "--accept-until", until, "--reason", "tiny group", "--yes")
    assert "Vera may not sign this" in cognify(*words, "--as", key_file(approved, "vera"), at=approved).err
    assert cognify(*words, "--as", key_file(approved, "olga"), at=approved).code == 0
    assert f"risk accepted until {until}" in cognify("finding", "show", seq, at=approved).out
    assert f"accepted until {until}" in cognify("status", MODEL, at=approved).out


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ((), 5, "either --close or --accept-until"),
        (("--close", "--accept-until", "2099-01-01"), 5, "either --close or --accept-until"),
        (("--close",), 5, "say why with --reason"),
        (("--accept-until", "2099-01-01", "--reason", "x"), 1, "at most 180 days"),
    ],
)
def test_resolutions_that_are_refused(
    words: tuple[str, ...], code: int, part: str, approved: World, cognify: Cognify
) -> None:
    seq = raise_one(cognify, approved)
    result = cognify("finding", "resolve", seq, *words, "--as", key_file(approved, "carl"), "--yes", at=approved)
    assert result.code == code
    assert part in result.err
    assert result.out == ""


def test_what_is_no_finding_is_said(approved: World, cognify: Cognify) -> None:
    assert "is no finding" in cognify("finding", "show", 1, at=approved).err
    assert "no model 'other'" in cognify("finding", "list", "other", at=approved).err
    assert cognify("finding", "open", MODEL, "--severity", "odd", "--title", "x", at=approved).code == 5
    words = ("finding", "open", MODEL, "1", "--severity", "low", "--title", "x", "--as", key_file(approved, "ben"))
    assert cognify(*words, "--yes", at=approved).code == 0, "ben is also a validator"


def test_a_finding_about_all_versions_and_an_overdue_one(approved: World, cognify: Cognify) -> None:
    words = ("--severity", "medium", "--title", "no plan", "--due", "2020-01-01", "--owner", "person/ben")
    seq = raise_one(cognify, approved, *words)
    shown = cognify("finding", "show", seq, at=approved).out
    assert "open, overdue" in shown
    assert "Owner          Ben" in shown
    done = cognify(
        "finding", "open", MODEL, "--severity", "low", "--title", "wording", "--as", key_file(approved, "carl"), "--yes",
        at=approved,
    )  # fmt: skip
    assert done.code == 0
    assert "all versions" in done.out
    assert approved.workspace.read().all(FindingOpened)[-1].record.version is None
    assert len(cognify("finding", "list", MODEL, "1", "--json", at=approved).json["findings"]) == 2


# --- raci


def classified(world: World, cognify: Cognify) -> None:
    words = ("--tier", "high", "--owner", "person/olga", "--rationale", "credit")
    people = ("--responsible", "monitoring=person/ben", "--responsible", "data=person/ben")
    key = ("--as", key_file(world, "carl"), "--yes")
    assert cognify("model", "classify", MODEL, *words, *people, *key, at=world).code == 0


def test_the_table_follows_from_recorded_facts(ready: World, cognify: Cognify) -> None:
    ready.approve("vera")
    classified(ready, cognify)
    value = cognify("raci", MODEL, "--json", at=ready).json
    table = {
        item["activity"]: {name: [person["id"] for person in item[name]] for name in ("responsible", "accountable")}
        for item in value["activities"]
    }
    assert table["training"] == {"responsible": ["person/ben"], "accountable": ["person/olga"]}
    assert table["validation"] == {"responsible": ["person/vera"], "accountable": ["person/vera"]}
    assert table["compliance"] == {"responsible": ["person/carl"], "accountable": ["person/carl"]}
    assert table["monitoring"]["responsible"] == table["data"]["responsible"] == ["person/ben"]
    for item in value["activities"]:
        told = [person["id"] for name in ("consulted", "informed") for person in item[name]]
        both = {person["id"] for name in ("responsible", "accountable") for person in item[name]}
        assert len(told) == len(set(told))
        assert not both & set(told)


def test_gaps_are_named(ready: World, cognify: Cognify) -> None:
    text = cognify("raci", MODEL, at=ready).out
    assert "Gap: nobody signed who owns the model" in text
    assert "no person is known to be responsible" in text, "a machine recorded the data"
    classified(ready, cognify)
    again = cognify("raci", MODEL, at=ready).out
    assert "Gap: Data" not in again
    assert "Gap: nobody signed" not in again


def test_markdown_has_one_row_an_activity_and_no_markup_of_others(ready: World, cognify: Cognify) -> None:
    classified(ready, cognify)
    lines = cognify("raci", MODEL, "--format", "md", at=ready).out.splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + len(cognify("raci", MODEL, "--json", at=ready).json["activities"])
    assert all(line.count("|") - line.count("\\|") == 7 for line in rows)
    assert any("credit\\_default" in line for line in lines)


def test_raci_of_what_is_not_there(ready: World, cognify: Cognify) -> None:
    assert "no model 'other'" in cognify("raci", "other", at=ready).err
    assert "has no version '9'" in cognify("raci", MODEL, "9", at=ready).err
