"""Texts that people write on the site: revisions bound to the version's model file, compared word by word, signed by passkey."""

from __future__ import annotations

import html

import pytest

from cognify_dagster.governance import SectionText, directory, sections_of, write_sections
from cognify_dagster.records import Package, SectionApproved, SectionWritten, TrainingRun
from tests.governance.world import MODEL
from tests.review.signing.journeys import sign_act
from tests.review.site_world import Client, SiteWorld

SUBJECT = f"model/{MODEL}@1"
PAGE = f"/models/{MODEL}/1/sections"


def texts(site_world: SiteWorld) -> list[SectionWritten]:
    """Return the texts recorded about the version."""
    return [item.record for item in site_world.world.workspace.read().all(SectionWritten, SUBJECT)]


def write(client: Client, section: str, text: str, after: int | str = "", **more: str) -> None:
    """Write a text as the form does."""
    answer = client.submit(f"{PAGE}/{section}", text=text, after=str(after), mine="1", **more)
    assert answer.status_code == 303, answer.text


def newest(site_world: SiteWorld) -> int:
    """Return the entry of the newest text."""
    return site_world.world.workspace.read().all(SectionWritten, SUBJECT)[-1].seq


def test_an_edit_makes_revision_2_about_the_same_model_file(site_world: SiteWorld) -> None:
    vera = site_world.client_for("vera")
    page = vera.get(PAGE).text
    assert "missing, this tier demands it" in page
    write(vera, "limitations", "One issuer in Taiwan, 2005.")
    write(vera, "limitations", "One issuer in Taiwan, 2006.", newest(site_world))
    first, second = texts(site_world)
    reading = site_world.world.workspace.read()
    trained = reading.all(TrainingRun, SUBJECT)[-1].record.model_file.digest
    assert (first.revision, second.revision) == (1, 2)
    assert first.model_digest == second.model_digest == trained
    assert second.author_stated == "person/vera"
    assert second.source == "review site, typed by person/vera"
    shown = html.unescape(vera.get(f"{PAGE}/limitations").text)
    assert "One issuer in Taiwan, 2006." in shown
    assert trained in shown
    old, new = (item.seq for item in reading.all(SectionWritten, SUBJECT))
    assert f"{PAGE}/limitations/diff?from={old}&to={new}" in shown
    diff = vera.get(f"{PAGE}/limitations/diff", params={"from": old, "to": new}).text
    assert "<del>2005</del><ins>2006</ins>" in diff


def test_history_names_the_package_that_shows_each_text(site_world: SiteWorld) -> None:
    vera, world = site_world.client_for("vera"), site_world.world
    write(vera, "limitations", "First.")
    assert "was built before this text" in vera.get(f"{PAGE}/limitations").text
    package = world.package("1", text="with the text")
    page = vera.get(f"{PAGE}/limitations").text
    assert "was built before this text" not in page
    reading = world.workspace.read()
    digest = reading.latest(Package, SUBJECT)
    assert digest is not None
    assert digest.record.package.digest.removeprefix("sha256:")[:12] in page
    assert f"/ledger/entries/{package}" in page


def test_a_drafted_text_counts_once_somebody_signs_it_with_a_passkey(site_world: SiteWorld) -> None:
    site_world.passkey("vera")
    vera = site_world.client_for("vera")
    write(vera, "failure_modes", "It fails on new branches.", ai_drafted="1")
    assert "it does not count until somebody signs under it" in vera.get(f"{PAGE}/failure_modes").text
    begun = vera.submit(f"{PAGE}/failure_modes/sign", capacity="approver", comment="I checked it")
    page = html.unescape(vera.get(begun.headers["location"]).text)
    assert "It fails on new branches." in page
    assert "which a program drafted" in page
    assert sign_act(vera, site_world.passkey("vera"), begun.headers["location"]).status_code == 303
    reading = site_world.world.workspace.read()
    found = sections_of(reading, directory(reading), MODEL, "1").items["failure_modes"]
    assert found.counts
    assert found.approvals[0].person == "person/vera"
    signed = reading.all(SectionApproved, SUBJECT)[-1].record
    assert signed.envelope.signatures[0].webauthn is not None
    assert "I checked it" in vera.get(f"{PAGE}/failure_modes").text


def test_the_stated_author_signs_that_they_wrote_it(site_world: SiteWorld) -> None:
    site_world.passkey("vera")
    vera = site_world.client_for("vera")
    write(vera, "limitations", "One issuer.")
    begun = vera.submit(f"{PAGE}/limitations/sign", capacity="author")
    sign_act(vera, site_world.passkey("vera"), begun.headers["location"])
    assert "Vera (signed)" in vera.get(f"{PAGE}/limitations").text
    carl = site_world.client_for("carl")
    refused = carl.submit(f"{PAGE}/limitations/sign", capacity="author")
    assert refused.status_code == 422
    assert "is not the stated author" in refused.text


def test_nobody_overwrites_a_text_that_they_did_not_see(site_world: SiteWorld) -> None:
    vera, carl = site_world.client_for("vera"), site_world.client_for("carl")
    write(vera, "limitations", "Vera's words.")
    answer = carl.submit(f"{PAGE}/limitations", text="Carl's words.", after="")
    assert answer.status_code == 422
    page = html.unescape(answer.text)
    assert "somebody wrote another text" in page
    assert "Vera's words." in page
    assert "Carl's words." in page
    assert len(texts(site_world)) == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": ""}, "either a text, or the reason"),
        ({"text": "a", "declared_unavailable": "b"}, "either a text, or the reason"),
        ({"text": "a\u0007b"}, "U+0007"),
    ],
)
def test_texts_that_cannot_be_recorded_say_why(site_world: SiteWorld, fields: dict[str, str], text: str) -> None:
    answer = site_world.client_for("vera").submit(f"{PAGE}/limitations", **fields)
    assert answer.status_code == 422
    assert text.lower() in html.unescape(answer.text).lower()
    assert not texts(site_world)


def test_who_holds_no_role_that_acts_reads_but_does_not_write(site_world: SiteWorld) -> None:
    site_world.world.enrol("una", "auditor")
    una = site_world.client_for("una")
    assert "Record this text" not in una.get(f"{PAGE}/limitations").text
    assert una.submit(f"{PAGE}/limitations", text="mine").status_code == 403
    assert una.submit(f"{PAGE}/limitations/sign", capacity="approver").status_code == 422


def test_texts_are_shown_as_they_are_never_as_markup(site_world: SiteWorld) -> None:
    write(site_world.client_for("vera"), "limitations", "<script>alert(1)</script> **bold** {{ 7*7 }}")
    page = site_world.client_for("vera").get(f"{PAGE}/limitations").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; **bold** {{ 7*7 }}" in page
    assert "<script>alert" not in page


def test_what_is_not_there(site_world: SiteWorld) -> None:
    vera = site_world.client_for("vera")
    write_sections(site_world.world.workspace, MODEL, "1", [SectionText("limitations", "x")])
    assert vera.get(f"{PAGE}/limitations/diff?from=1&to=2").status_code == 404
    assert vera.get(f"{PAGE}/Not-A-Name").status_code == 404
    assert vera.get(f"/models/{MODEL}/77/sections").status_code == 404
    assert "is no name of a section" in html.unescape(vera.get(f"{PAGE}?new=Bad-Name").text)
    assert vera.get(f"{PAGE}?new=data_quality").headers["location"] == f"{PAGE}/data_quality"


def test_who_signed_in_with_a_password_writes_nothing(site_world: SiteWorld) -> None:
    reader = site_world.client_for("vera", "password")
    assert "<textarea" not in reader.get(f"{PAGE}/limitations").text
    answer = reader.submit(f"{PAGE}/limitations", text="Not by hers.", after="", mine="1")
    assert answer.status_code == 403
    assert "A password alone reads" in answer.text
    assert texts(site_world) == []
