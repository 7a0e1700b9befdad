"""`cognify dataset show|questions|approve|reject|reason|attest`: what changed, who answers for it, and what is still open."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cognify_dagster.datasets import Provenance, take_snapshot
from cognify_dagster.datasets.recording import record_snapshot
from cognify_dagster.records import DatasetChangeDecided, DatasetDiffRecorded, QualityCheck, SourceRef
from tests.cli.conftest import Cognify, Outcome, key_file
from tests.governance.overseeing import DIFFERENCE, difference, policy
from tests.governance.world import World

PROVENANCE = Provenance(
    source="UCI 350",
    owner="team:risk",
    licence="CC BY 4.0",
    collected_from=date(2005, 4, 1),
    collected_to=date(2005, 9, 30),
)
APPROVAL = {"names": ["claims"], "approval": {"role": "model_validator"}}


def snap(world: World, rows: list[int], run: str, **facts: Any) -> str:
    """Record a real snapshot of a table, made by ben; return its root."""
    table = pa.table({"id": rows, "amount": [float(row) for row in rows]})
    provenance = facts.pop("provenance", PROVENANCE)
    taken = take_snapshot(table, name="claims", provenance=provenance, record_key="id")
    options = {"record_key": "id", "table": table, "author": "person/ben", **facts}
    return record_snapshot(world.workspace, taken, run=run, **options).record.root


@pytest.fixture
def claims(founded: World) -> World:
    """Two snapshots of claims; nobody said why the second differs."""
    snap(founded, [1, 2, 3], "run-1")
    snap(founded, [1, 2, 4, 5], "run-2")
    return founded


def act(cognify: Cognify, world: World, *words: object, by: str = "vera") -> Outcome:
    return cognify("dataset", *words, "--as", key_file(world, by), "--yes", at=world)


def test_every_change_shows_author_time_reason_and_approver(claims: World, cognify: Cognify) -> None:
    history = cognify("dataset", "show", "claims", "--history", at=claims)
    assert history.code == 0, history.err
    assert "reason missing" in history.out
    assert act(cognify, claims, "reason", "claims", "--text", "April was added", by="ben").code == 0
    done = act(cognify, claims, "approve", "claims", "--comment", "looks right")
    assert done.code == 0, done.err
    assert re.search("2 records added, 1 records? removed", " ".join(done.out.split()))
    found = cognify("dataset", "show", "claims", "--history", "--json", at=claims).json["changes"]
    assert [change["old_root"] is None for change in found] == [True, False]
    newest = found[1]
    assert (newest["author"], newest["reason"], newest["state"]) == ("person/ben", "April was added", "approved")
    (decision,) = newest["decisions"]
    assert (decision["name"], decision["counts"], decision["comment"]) == ("Vera", True, "looks right")
    assert decision["diff_digest"] == newest["diff"]["digest"]
    text = " ".join(cognify("dataset", "show", "claims", at=claims).out.split())
    for word in ("Ben", "April was added", "approved by Vera", newest["root"], newest["diff"]["digest"]):
        assert word in text
    listed = cognify("dataset", "show", "--json", at=claims).json["datasets"]
    assert [item["dataset"] for item in listed] == ["claims"]


def test_what_is_missing_is_named_with_the_command(claims: World, cognify: Cognify) -> None:
    policy(claims, datasets=[{"reason": "required"}, APPROVAL])
    missing = cognify("dataset", "show", "claims", "--json", at=claims).json["changes"][0]["missing"]
    assert ["no reason for its change" in missing[0]["text"], "approved by 0 of 1" in missing[1]["text"]] == [
        True,
        True,
    ]
    assert "cognify dataset reason claims --root" in missing[0]["resolved_by"]
    assert "Vera" in missing[1]["resolved_by"]
    refused = act(cognify, claims, "approve", "claims")
    assert refused.code == 1
    assert "no reason for the change is declared" in refused.err


def test_the_maker_does_not_approve_and_a_stranger_does_not_either(claims: World, cognify: Cognify) -> None:
    act(cognify, claims, "reason", "claims", "--text", "x", by="ben")
    refused = act(cognify, claims, "approve", "claims", by="ben")
    assert refused.code == 1
    assert "Ben had a hand in the snapshot" in refused.err
    policy(claims, datasets=[APPROVAL])
    assert "may not sign this" in act(cognify, claims, "approve", "claims", by="carl").err
    assert not claims.workspace.read().all(DatasetChangeDecided)


def test_a_difference_that_is_not_that_of_the_snapshots_is_not_approved(founded: World, cognify: Cognify) -> None:
    snap(founded, [1], "run-1")
    seq = founded.workspace.read().view.entries[-1].entry.seq
    difference(founded, "claims", seq, digest=DIFFERENCE)
    refused = act(cognify, founded, "approve", "claims")
    assert refused.code == 1
    assert "do not approve it" in refused.err


def test_reject_needs_a_reason_and_holds_training_back(claims: World, cognify: Cognify) -> None:
    policy(claims, datasets=[APPROVAL])
    assert (
        "--comment" in cognify("dataset", "reject", "claims", "--as", key_file(claims, "vera"), "--json", at=claims).err
    )
    done = act(cognify, claims, "reject", "claims", "--comment", "April is incomplete")
    assert done.code == 0, done.err
    (missing,) = cognify("dataset", "show", "claims", "--json", at=claims).json["changes"][0]["missing"]
    assert "Vera rejected its change" in missing["text"]
    again = act(cognify, claims, "reject", "claims", "--comment", "April is incomplete")
    assert "decided already" in again.err


def test_it_is_approved_on_another_machine(claims: World, cognify: Cognify, tmp_path: Path) -> None:
    draft, signed = tmp_path / "draft.json", tmp_path / "signed.json"
    act(cognify, claims, "reason", "claims", "--text", "x", by="ben")
    out = cognify("dataset", "approve", "claims", "--export", draft, "--signer", "person/vera", at=claims)
    assert out.code == 0, out.err
    away = cognify("act", "sign", draft, "--key", key_file(claims, "vera"), "--out", signed, "--yes")
    assert away.code == 0, away.err
    assert claims.workspace.read().all(DatasetDiffRecorded)[-1].record.diff_digest in away.out
    assert cognify("act", "submit", signed, at=claims).code == 0
    assert cognify("dataset", "show", "claims", "--json", at=claims).json["changes"][0]["state"] == "approved"


def test_six_questions_are_answered_with_their_entries(founded: World, cognify: Cognify) -> None:
    snap(
        founded,
        [1, 2],
        "run-1",
        sources=[SourceRef(name="warehouse.claims", version="7", time="2026-01-01T00:00:00Z", kind="table")],
        quality=[QualityCheck(name="no gaps", status="fail", detail="3 gaps")],
    )
    found = cognify("dataset", "questions", "claims", "--json", at=founded)
    assert found.code == 1, "something is not recorded"
    value = found.json
    assert len(value["questions"]) == 6
    rows = [row for question in value["questions"] for row in question["answers"]]
    assert {row["about"] for row in rows if not row["entries"]} == {*value["missing"], "Used"}, "nobody used it yet"
    answers = {row["about"]: row["answer"] for row in rows}
    assert answers["Made from table warehouse.claims"] == "version 7, of 2026-01-01T00:00:00Z"
    assert answers["Quality check no gaps"] == "failed: 3 gaps"
    assert answers["Snapshot made by"].startswith("Ben")
    assert "id" in answers["Columns without a stated purpose"]
    assert "Why each column is needed" in value["missing"]
    assert "1. Who collected it" in cognify("dataset", "questions", "claims", at=founded).out


def test_everything_stated_leaves_nothing_missing(founded: World, cognify: Cognify) -> None:
    whole = PROVENANCE.model_copy(
        update={
            "source_url": "https://example.org/x", "collected_how": "exports", "collected_by": "the bank", "jurisdiction": "Taiwan",
            "column_purposes": {"id": "key", "amount": "feature"},
        }
    )  # fmt: skip
    from cognify_dagster.datasets import ExclusionRule

    rule = ExclusionRule(name="cut", description="too old", rows_before=3, rows_after=2)
    root = snap(founded, [1, 2], "run-1", provenance=whole.model_copy(update={"processing": (rule,)}))
    open_ = cognify("dataset", "questions", "claims", "--json", at=founded).json["missing"]
    assert open_ == ["Attested by a person"]
    done = act(cognify, founded, "attest", "claims", by="carl")
    assert done.code == 0, done.err
    assert root in done.out
    answered = cognify("dataset", "questions", "claims", "--json", at=founded)
    assert (answered.code, answered.json["missing"]) == (0, [])


def test_an_attestation_is_about_one_root(claims: World, cognify: Cognify, tmp_path: Path) -> None:
    text = tmp_path / "own.md"
    text.write_text("I saw where this came from.\n", encoding="utf-8")
    first = cognify("dataset", "show", "claims", "--history", "--json", at=claims).json["changes"][0]["root"]
    done = act(cognify, claims, "attest", "claims", "--root", first[:12], "--text", text, by="carl")
    assert done.code == 0, done.err
    again = act(cognify, claims, "attest", "claims", "--root", first, "--text", text, by="carl")
    assert "attested already" in again.err

    def attested(root: str) -> list[str]:
        found = cognify("dataset", "questions", "claims", "--root", root, "--json", at=claims).json["questions"]
        return [row["about"] for row in found[3]["answers"] if row["about"].startswith("Attested")]

    newest = cognify("dataset", "show", "claims", "--json", at=claims).json["changes"][0]["root"]
    assert attested(first) == ["Attested: data provenance"]
    assert attested(newest) == ["Attested by a person"], "of other data it says nothing"


def test_a_text_with_a_longest_time_is_attested_up_to_it_and_not_beyond(claims: World, cognify: Cognify) -> None:
    def until(days: int) -> str:
        return (datetime.now(timezone.utc) + timedelta(days=days)).strftime("%Y-%m-%d")

    words = ("attest", "claims", "--text-id", "deidentification", "--party", "Expert Ltd", "--expires")
    refused = act(cognify, claims, *words, until(9000), by="carl")
    assert (refused.code, "is attested for at most" in refused.err) == (5, True)
    done = act(cognify, claims, *words, until(30), by="carl")
    assert done.code == 0, done.err


def test_the_elements_of_the_provenance_standards_are_written(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    stated = PROVENANCE.model_copy(update={"jurisdiction": "Taiwan", "intended_use": "research", "proprietary": False})
    root = snap(founded, [1, 2], "run-1", provenance=stated)
    out = tmp_path / "claims.json"
    value = cognify("dataset", "provenance", "claims", "-o", out, "--json", at=founded).json
    assert json.loads(out.read_text(encoding="utf-8")) == value
    assert (value["root"], value["source"]["issuer"]) == (root, [{"name": "team:risk"}])
    assert value["source"]["version"] == "1.0.0"
    assert value["provenance"]["origin-geography"] == [{"country": "Taiwan"}]
    assert value["use"]["intended-purpose"] == [{"code": "other", "description": "research"}]
    assert value["provenance"]["generation-period"] == {"start": "2005-04-01", "end": "2005-09-30"}
    assert value["use"]["copyright"] == [], "the owner says that there is none"
    assert "provenance.generation-method" in value["not_stated"]
    assert "use.consents" not in value["not_stated"], "it holds no personal data"
    again = cognify("dataset", "provenance", "claims", "-o", out, at=founded)
    assert again.code != 0, "nothing is overwritten"
    assert "Not stated: provenance.generation-method" in cognify("dataset", "provenance", "claims", at=founded).out


def test_a_dataset_in_partitions_lists_them(founded: World, cognify: Cognify) -> None:
    founded.snapshot("sales@2026-01", "1" * 64)
    founded.snapshot("sales@2026-02", "2" * 64)
    found = cognify("dataset", "show", "sales", "--json", at=founded).json["datasets"]
    assert [item["dataset"] for item in found] == ["sales@2026-01", "sales@2026-02"]
    assert cognify("dataset", "show", "sales@2026-01", at=founded).code == 0


def test_names_and_roots_that_are_none_are_refused(claims: World, cognify: Cognify) -> None:
    assert cognify("dataset", "show", "no such", at=claims).code == 5
    assert cognify("dataset", "show", "claims", "--root", "xyz", at=claims).code == 5
    for what in ("show", "questions", "provenance", "approve"):
        signed = ("--as", key_file(claims, "vera"), "--yes") if what == "approve" else ()
        unknown = cognify("dataset", what, "nothing", *signed, at=claims)
        assert (unknown.code, "knows no dataset nothing" in unknown.err) == (3, True), unknown.err
    assert "did you mean claims?" in cognify("dataset", "show", "clams", at=claims).err
    assert "no root begins with" in cognify("dataset", "questions", "claims", "--root", "0" * 12, at=claims).err


def test_a_partition_is_asked_for_where_only_partitions_were_snapshotted(founded: World, cognify: Cognify) -> None:
    founded.snapshot("sales@2026-01", "1" * 64)
    for what in ("diff", "verify", "profile", "questions"):
        found = cognify("dataset", what, "sales", at=founded)
        assert (found.code, "name one of them: sales@2026-01" in found.err) == (3, True), found.err


def test_where_nobody_is_asked_to_decide_it_is_said(claims: World, cognify: Cognify) -> None:
    assert "not asked for by the policy" in cognify("dataset", "show", "claims", at=claims).out


def test_words_that_are_missing_are_asked_for_by_the_option_that_there_is(claims: World, cognify: Cognify) -> None:
    for what, option in (("reason", "--text"), ("reject", "--comment")):
        found = cognify("dataset", what, "claims", "--as", key_file(claims, "vera"), at=claims)
        assert (found.code, f"say why with {option}" in found.err) == (5, True), found.err
