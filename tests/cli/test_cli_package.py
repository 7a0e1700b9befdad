"""`cognify package`: shown in words, as a page and as the PDF on record; listed by version; compared part by part."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognify_dagster.cli.package_show import marked
from tests.cli.conftest import Cognify
from tests.documents.conftest import tell_two_versions
from tests.documents.story import Story


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Version 1 released; version 2 packaged, not signed."""
    return tell_two_versions(tmp_path_factory.mktemp("story"))


@pytest.fixture
def package(told: Story, cognify: Cognify, monkeypatch: pytest.MonkeyPatch) -> Cognify:
    """`cognify package …` in that workspace."""
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(told.ws.config.path))
    return lambda *words: cognify("package", *words)


def test_show_says_what_is_on_record_and_what_is_open(package: Cognify, told: Story) -> None:
    result = package("show", "credit_default", "2")
    assert result.code == 0, result.err
    for said in ("Credit card default, 30 days", told.package_item.digest, "Sections written", "5 of 23", "auc-floor", "F-01",
                 "Nobody has signed this package.", "fair-lending", "--html credit_default-2.html"):  # fmt: skip
        assert said in result.out, said
    signed = package("show", "credit_default", "1").out
    assert "Vera Marković" in signed
    assert package("show", "credit_default", "2", "--json").json["package"]["version"] == "2"


def test_the_page_is_written_once_and_shows_the_sign_offs(package: Cognify, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert package("show", "credit_default", "1", "--html", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "APPROVED BY ALL STAGES" in text
    again = package("show", "credit_default", "1", "--html", page)
    assert again.code == 5
    assert "not overwritten" in again.err
    assert page.read_text(encoding="utf-8") == text


def test_the_pdf_is_the_one_on_record_and_never_made_anew(package: Cognify, told: Story, tmp_path: Path) -> None:
    from cognify_dagster.records import FinalCopy

    refused = package("show", "credit_default", "2", "--pdf", tmp_path / "two.pdf")
    assert refused.code == 1
    assert "no PDF on record; use --html" in refused.err
    assert not (tmp_path / "two.pdf").exists()
    digest = told.ws.read().all(FinalCopy, "model/credit_default@1")
    assert not digest
    body = b"%PDF-1.7 as recorded\n"
    from cognify_dagster.records import Package

    recorded = told.ws.read().latest(Package, "model/credit_default@1")
    assert recorded is not None
    told.put(
        FinalCopy(
            model="credit_default",
            version="1",
            package_digest=recorded.record.package.digest,
            final_copy=told.ws.put("final-copy.pdf", body, "application/pdf"),
        )
    )
    done = package("show", "credit_default", "1", "--pdf", tmp_path / "one.pdf")
    assert done.code == 0, done.err
    assert "Final copy of entry" in done.out
    assert (tmp_path / "one.pdf").read_bytes() == body


def test_one_form_at_a_time(package: Cognify, tmp_path: Path) -> None:
    both = package("show", "credit_default", "1", "--json", "--html", tmp_path / "x.html")
    assert both.code == 5
    assert "one of" in both.err
    assert package("list", "--json", "--html", tmp_path / "x.html").code == 5


def test_the_index_lists_versions_with_what_happened_to_them(package: Cognify, tmp_path: Path) -> None:
    shown = package("list").out
    assert "production" in shown
    assert "nobody" in shown
    rows = package("list", "credit_default", "--json").json["packages"]
    assert [(row["version"], row["signatures"]) for row in rows] == [("2", 0), ("1", 3)]
    assert package("list", "--html", tmp_path / "index.html").code == 0
    assert rows[0]["digest"] in (tmp_path / "index.html").read_text()
    assert "this workspace has no model 'other'; it has credit_default" in package("list", "other").err


def test_diff_goes_part_by_part_and_names_both_packages(package: Cognify) -> None:
    result = package("diff", "credit_default", "1", "2")
    assert result.code == 0, result.err
    for said in (
        "Parameters: 2 differences",
        "config: learning_rate",
        "0.0052",
        "overlap",
        "Approvals",
        "Equal: identity",
    ):
        assert said in result.out, said
    value = package("diff", "credit_default", "1", "2", "--json").json
    assert {value[side]["version"] for side in ("before", "after")} == {"1", "2"}
    for side in ("before", "after"):
        assert value[side]["digest"] in result.out
    same = package("diff", "credit_default", "2", "2").out
    assert "difference" not in same


def test_a_version_without_package_is_said(package: Cognify) -> None:
    for words in (("show", "credit_default", "9"), ("diff", "credit_default", "1", "9")):
        result = package(*words)
        assert result.code == 1
        assert "credit_default has no version '9'; there are" in result.err


def test_changed_words_are_marked_in_their_surroundings() -> None:
    words = [["=", "x" * 200], ["-", "old"], ["+", "new"], ["=", "y" * 200]]
    assert marked(words) == f" … {'x' * 60}[-old-]{{+new+}}{'y' * 60} … "
    assert marked([["=", "short "], ["+", "more"]]) == "short {+more+}"


def test_build_records_a_package_and_keeps_one_that_still_tells_the_truth(
    tmp_path: Path, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path)
    story.prepare_version("1")
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(story.ws.config.path))
    first = cognify("package", "build", "credit_default", "1", "--json").json
    assert (first["unchanged"], first["revision"]) == (False, 1)
    again = cognify("package", "build", "credit_default", "1")
    assert (again.code, "the package on record stays" in again.out) == (0, True)
    story.sign("person/vera", "validation")
    story.register(limitations="Prices moved.")
    refused = cognify("package", "build", "credit_default", "1")
    assert refused.code == 1
    assert "1 sign-off on the newest package" in refused.err
    anew = cognify("package", "build", "credit_default", "1", "--again", "--json").json
    assert (anew["unchanged"], anew["revision"]) == (False, 2)
    assert anew["digest"] != first["digest"]
    assert cognify("package", "build", "credit_default", "9").code == 1
