"""`cognify document`: every document printed and written, nothing recorded by it, honest exit codes."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.documents import load_framework
from cognify_dagster.documents.package.recording import build_and_record
from tests.cli.conftest import Cognify
from tests.documents.story import Story

MODEL = "credit_default"
VERSIONED = ("card", "validation", "deployment", "bom", "slsa")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A released version with a real package, and the model card that belongs to it."""
    story = Story(tmp_path_factory.mktemp("story"))
    story.prepare_version("1")
    frameworks = [load_framework(name) for name in ("sr26-2", "fair-lending")]
    story.package(frameworks, datetime.now(timezone.utc), card="# an older card\n")
    story.sign_all()
    story.release()
    return story


@pytest.fixture
def at(told: Story, monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(told.ws.config.path))
    return told


def calls() -> list[tuple[str, ...]]:
    data = [("provenance", "loans_train"), ("provenance", MODEL, "1"), ("croissant", "loans_holdout")]
    # the story's file manifests are no real ones, so Croissant is shown by the tests of the documents
    return [(name, MODEL, "1") for name in VERSIONED] + data[:2]


@pytest.mark.parametrize("words", calls(), ids=" ".join)
def test_a_document_is_printed_and_written_the_same_and_nothing_is_recorded(
    at: Story, cognify: Cognify, words: tuple[str, ...], tmp_path: Path
) -> None:
    size = at.ws.ledger.size()
    when = () if words[0] in ("card", "bom", "slsa") else ("--at", "2027-01-31")
    printed = cognify("document", *words, *when)
    assert printed.code == 0, printed.err
    out = tmp_path / "document"
    written = cognify("document", *words, *when, "-o", out)
    assert written.code == 0
    assert out.read_text(encoding="utf-8") == printed.out
    assert hashlib.sha256(out.read_bytes()).hexdigest() in written.out
    value = cognify("document", *words, *when, "--json").json
    assert value["text"] == printed.out
    assert value["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (value["trial"], value["file"]) == (False, None)
    told: Any = cognify("document", *words, *when, "--json", "-o", tmp_path / "second").json
    assert told["file"] == str((tmp_path / "second").resolve())
    assert "text" not in told
    assert at.ws.ledger.size() == size


@pytest.mark.parametrize("name", ["card", "validation", "deployment", "provenance"])
def test_a_page_is_html_and_the_forms_are_those_that_help_names(at: Story, cognify: Cognify, name: str) -> None:
    page = cognify("document", name, MODEL, "1", "--format", "html")
    assert page.out.startswith("<!DOCTYPE html>")
    if name == "card":
        assert cognify("document", name, MODEL, "1", "--format", "json").code == 5
    else:
        assert json.loads(cognify("document", name, MODEL, "1", "--format", "json").out)["content"]


def test_the_card_says_whether_it_is_the_recorded_one(at: Story, cognify: Cognify, tmp_path: Path) -> None:
    value = cognify("document", "card", MODEL, "1", "--json").json
    assert value["package_entry"] == at.package_seq
    assert value["recorded_card"]["equal"] is False
    assert (
        "Another release made the recorded card" in cognify("document", "card", MODEL, "1", "-o", tmp_path / "a.md").out
    )


def test_a_card_made_again_equals_the_recorded_one_as_long_as_nothing_changed(
    tmp_path: Path, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path)
    story.prepare_version("1")
    now = datetime.now(timezone.utc)
    built = build_and_record(story.ws, story.model, "1", run="r1", built_by="person/ben", now=now)
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(story.ws.config.path))
    value = cognify("document", "card", MODEL, "1", "--json").json
    assert value["recorded_card"] == {
        "entry": built.recorded.seq,
        "digest": built.recorded.record.model_card.digest,
        "equal": True,
    }
    assert cognify("document", "card", MODEL, "1", "--format", "html", "--json").json["recorded_card"]["equal"] is True
    story.sign("person/vera", "validation")
    assert cognify("document", "card", MODEL, "1", "--json").json["sha256"] == value["sha256"]
    (bom,) = built.recorded.record.other
    assert (bom.name, bom.media_type) == ("bom.cdx.json", "application/vnd.cyclonedx+json")
    assert cognify("document", "bom", MODEL, "1").out.encode() == story.ws.evidence.get(bom.digest)


def test_a_file_is_not_overwritten(at: Story, cognify: Cognify, tmp_path: Path) -> None:
    out = tmp_path / "there"
    out.write_text("mine", encoding="utf-8")
    result = cognify("document", "bom", MODEL, "1", "-o", out)
    assert result.code == 5
    assert "already a file" in result.err
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("card", MODEL, "9"), 1, "has no version '9'; there are"),
        (("deployment", MODEL, "9"), 1, "credit_default has no version '9'; there are"),
        (("slsa", MODEL, "9"), 1, "credit_default has no version '9'; there are"),
        (("provenance", "nix"), 1, "knows no data set nix"),
        (("croissant", "nix"), 1, "knows no data set nix"),
        (("croissant", "loans_train"), 3, "manifest"),
        (("provenance", "loans_train", "--root", "0123abcd"), 1, "no snapshot whose root begins with 0123abcd"),
        (("provenance", "loans_train", "--root", "xyz"), 5, "8 to 64 hex digits"),
        (("provenance", MODEL, "1", "--root", "0123abcd"), 5, "--root goes with a data set"),
        (("bom", MODEL, "1", "--spec", "1.5"), 5, "1.5"),
    ],
)
def test_what_cannot_be_made_says_why(
    at: Story, cognify: Cognify, words: tuple[str, ...], code: int, part: str
) -> None:
    result = cognify("document", *words)
    assert part in result.err
    assert result.code == code
    assert result.out == ""


def test_a_signed_statement_is_an_envelope(at: Story, cognify: Cognify) -> None:
    value = json.loads(cognify("document", "slsa", MODEL, "1", "--sign").out)
    assert value["payloadType"] == "application/vnd.in-toto+json"
    assert value["signatures"][0]["keyid"] == at.ws.writer.key_id


def test_a_trial_is_said_beside_the_document_and_in_it(
    tmp_path: Path, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path, trial=True)
    story.register()
    story.data()
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(story.ws.config.path))
    result = cognify("document", "provenance", "loans_train")
    assert result.code == 0
    assert "TRIAL" in result.err
    assert "> **TRIAL.**" in result.out
    assert cognify("document", "provenance", "loans_train", "--json").json["trial"] is True
