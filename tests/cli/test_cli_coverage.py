"""`cognify coverage`: computed from the ledger; law and guidance apart; each open requirement with who does what; honest exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cognify_dagster.records import CoverageSummary, ModelRegistered
from tests.cli.conftest import Cognify
from tests.documents.test_frameworks_shipped import sample
from tests.governance.world import MODEL, World


def test_counts_open_requirements_and_who_does_what_are_shown(cognify: Cognify, ready: World) -> None:
    result = cognify("coverage", MODEL, "1", at=ready)
    assert result.code == 0, result.err
    for part in ("sr26-2", "fair-lending", "mrm.scope", "what is open", "model owner", "--all shows them"):
        assert part in result.out, part
    more = cognify("coverage", MODEL, "1", "--all", at=ready)
    (first, *_) = cognify("coverage", MODEL, "1", "--json", at=ready).json["frameworks"]
    closed = [line["id"] for line in first["lines"] if line["status"] in ("satisfied", "not_applicable")]
    assert closed
    for name in closed:
        assert f" {name} " in more.out
        assert f" {name} " not in result.out


def test_json_has_law_and_guidance_apart_and_names_entries(cognify: Cognify, ready: World) -> None:
    value = cognify("coverage", MODEL, "1", "--framework", "fair-lending", "--json", at=ready).json
    (report,) = value["frameworks"]
    assert report["framework"] == "fair-lending"
    assert set(report["mandatory"]) == {"law", "guidance"}
    assert sum(report["law"].values()) == report["mandatory"]["law"]["applicable"] + report["law"].get(
        "not_applicable", 0
    )
    view = ready.workspace.read().view
    for line in report["lines"]:
        for entry in line["entries"]:
            assert view.entry(entry["seq"]).entry.leaf.hex() == entry["leaf"]
        if line["status"] not in ("satisfied", "not_applicable"):
            assert line["gaps"]
            assert all(gap["text"] and gap["who"] for gap in line["gaps"])
    assert value["ledger"]["size"] == ready.workspace.ledger.size()
    assert value["less_than_before"] == []


def test_what_has_to_be_written_is_told_apart_from_what_has_to_be_judged(cognify: Cognify, ready: World) -> None:
    words = ("coverage", MODEL, "1", "--framework", "fair-lending")
    lines = {line["id"]: line for line in cognify(*words, "--json", at=ready).json["frameworks"][0]["lines"]}
    unwritten = [
        name
        for name, line in lines.items()
        if line["status"] == "needs_human" and any(not gap["answered_by"] for gap in line["gaps"])
    ]
    out = cognify(*words, at=ready).out
    assert unwritten
    assert re.search(rf"a person must write {len(unwritten)}\b", " ".join(out.split())), (
        "the counts say it as the rows do"
    )
    for name in unwritten:
        row = next(line for line in out.splitlines() if f" {name} " in line)
        assert "a person must" in row
        assert "judge" not in row


def test_gaps_have_an_exit_code_of_their_own_and_only_when_asked_for(cognify: Cognify, ready: World) -> None:
    words = ("coverage", MODEL, "1", "--framework", "fair-lending")
    assert cognify(*words, at=ready).code == 0
    assert cognify(*words, "--fail-on-gaps", at=ready).code == 6
    assert cognify(*words, "--fail-on-gaps", "--json", at=ready).json["frameworks"][0]["needs_work"]
    legacy = cognify("coverage", MODEL, "1", "--framework", "sr11-7-legacy", "--fail-on-gaps", at=ready)
    assert legacy.code == 0, "a superseded text is listed and counts nothing"
    assert "listed only" in legacy.out


def test_what_waits_for_a_signature_only_is_no_gap(cognify: Cognify, ready: World, tmp_path: Path) -> None:
    data = sample()
    data["sections"][0]["requirements"] = [
        {
            **data["sections"][0]["requirements"][0],
            "evidence": {"kind": "auto:ledger", "checks": ["inventory"]},
            "citation": "Act 1",
        }
    ]
    data["applicability"] = None
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "sample.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    result = cognify("coverage", MODEL, "1", "--framework", "sample", "--folder", folder, "--fail-on-gaps", at=ready)
    assert result.code == 0, result.out
    assert "compliance officer: judge and sign" in result.out


def test_a_version_or_framework_that_is_not_there_is_an_error(cognify: Cognify, ready: World) -> None:
    missing = cognify("coverage", MODEL, "99", at=ready)
    assert (missing.code, "has no version '99'; there are 1" in missing.err) == (1, True)
    unknown = cognify("coverage", MODEL, "1", "--framework", "no-such", at=ready)
    assert (unknown.code, "known:" in unknown.err) == (1, True)
    assert cognify("coverage", "not a key!", "1", at=ready).code == 5
    assert cognify("coverage", MODEL, "1").code == 3, "no workspace here"


def test_a_model_without_frameworks_says_so(cognify: Cognify, ready: World) -> None:
    record = ready.workspace.read().latest(ModelRegistered, f"model/{MODEL}")
    assert record is not None
    ready.write(record.record.model_copy(update={"frameworks": ()}))
    result = cognify("coverage", MODEL, "1", at=ready)
    assert result.code == 0
    assert "names no framework" in result.out


def test_ages_are_judged_at_the_moment_that_is_asked_for(cognify: Cognify, ready: World) -> None:
    before = cognify(
        "coverage", MODEL, "1", "--framework", "fair-lending", "--at", "2026-07-20", "--json", at=ready
    ).json
    after = cognify(
        "coverage", MODEL, "1", "--framework", "fair-lending", "--at", "2026-07-22", "--json", at=ready
    ).json
    assert [report["frameworks"][0]["scored"] for report in (before, after)] == [False, True]
    assert after["judged_at"] == "2026-07-22T23:59:59Z"


def test_what_an_earlier_version_had_is_told(cognify: Cognify, ready: World) -> None:
    record = ready.workspace.read().latest(ModelRegistered, f"model/{MODEL}")
    assert record is not None
    covered = tuple(CoverageSummary(framework=name, status="in_force") for name in ("sr26-2@2", "fair-lending@1"))
    ready.package("1", coverage=covered)
    ready.ready("2")
    ready.write(record.record.model_copy(update={"limitations": "", "frameworks": ("sr26-2",)}))
    result = cognify("coverage", MODEL, "2", at=ready)
    assert result.code == 0
    assert "Version 1 had, and 2 lacks" in result.out
    value = cognify("coverage", MODEL, "2", "--json", at=ready).json
    assert {("section", "limitations"), ("framework", "fair-lending")} <= {
        (item["kind"], item["name"]) for item in value["less_than_before"]
    }


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_text_of_other_people_is_shown_without_control_characters(
    cognify: Cognify, ready: World, words: tuple[str, ...]
) -> None:
    record = ready.workspace.read().latest(ModelRegistered, f"model/{MODEL}")
    assert record is not None
    facts = {"lending_scope": {"declared_unavailable": "see \x1b[2J\u202e here"}, "credit_decision": True}
    ready.write(record.record.model_copy(update={"framework_facts": facts}))
    result = cognify("coverage", MODEL, "1", "--framework", "fair-lending", *words, at=ready)
    assert result.code == 0
    assert "\x1b[2J" not in result.out
    assert words or "\u202e" not in result.out


def test_help_has_an_example(cognify: Cognify) -> None:
    assert "Example:" in cognify("coverage", "--help").out
