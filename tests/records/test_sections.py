"""Sections and attestations as records: what text may be recorded, and what an entry may not claim."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.records import (
    MAX_TEXT_BYTES,
    AttestationMade,
    Envelope,
    EnvelopeSignature,
    RecordError,
    SectionWritten,
    build,
    read_record,
    text_problem,
)

UNSIGNED = Envelope(payload="", payloadType="", signatures=(EnvelopeSignature(keyid="", sig=""),))
CONTROLS = [*map(chr, range(0x00, 0x09)), "\x0b", "\x0c", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ufeff"]


def written(text: str = "Taiwan 2005 only.", **change: object) -> dict[str, object]:
    return {
        "model": "credit_default",
        "version": "3",
        "section": "limitations",
        "revision": 1,
        "text": text,
        **change,
    }


def attested(**change: object) -> dict[str, object]:
    return {
        "text_id": "baa",
        "text": "We signed it.",
        "about": "model/credit_default",
        "role": "compliance_officer",
        "attested_by": "person/carl",
        "envelope": UNSIGNED,
        **change,
    }


@given(st.text(max_size=200))
def test_every_text_that_is_accepted_is_kept_to_the_character(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    if text_problem(text) is not None or not text.strip():
        return
    record = build(SectionWritten, written(text))
    back = read_record("section_written", 1, {"facts": record.facts(), "observed": {}})
    assert back == record
    assert isinstance(back, SectionWritten)
    assert back.text == text


@given(st.text(max_size=50), st.sampled_from(CONTROLS), st.text(max_size=50))
def test_control_characters_are_refused_wherever_they_stand(before: str, control: str, after: str) -> None:
    with pytest.raises(RecordError, match="text"):
        build(SectionWritten, written(f"{before}{control}{after}"))


def test_the_line_of_a_control_character_is_named() -> None:
    assert text_problem("one\ntwo\x1b[2Jthree") == "line 2 holds the control character U+001B; remove it"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "{{ 7*7 }} {% raw %}", "#let x = 1", "שלום", "\tx\n\n# y"]
)
def test_markup_template_code_and_other_scripts_are_plain_text(text: str) -> None:
    assert text_problem(text) is None


def test_texts_are_in_one_unicode_form_and_of_bounded_size() -> None:
    assert text_problem("e\u0301") == "the text is not in the Unicode form NFC"
    assert text_problem("é" * (MAX_TEXT_BYTES // 2)) is None
    assert "the limit is" in str(text_problem("é" * (MAX_TEXT_BYTES // 2) + "x"))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"section": "Limitations"}, "section"),
        ({"section": "../limits"}, "section"),
        ({"revision": 0}, "revision"),
        ({"author_stated": "ben"}, "author_stated"),
        ({"source": "x" * 501}, "source"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused_by_field(change: dict[str, object], part: str) -> None:
    with pytest.raises(RecordError, match=part):
        build(SectionWritten, {**written(), **change})


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"declared_unavailable": "none was made"}, "either a text"),
        ({"text": "  \n"}, "either a text"),
        ({"carried_from": {"version": "2", "seq": 4, "text_digest": "sha256:" + "0" * 64}}, "from another text"),
        ({"text": "e\u0301"}, "Unicode form"),
        ({"text": "", "declared_unavailable": "e\u0301"}, "Unicode form"),
    ],
)
def test_what_contradicts_itself_is_no_text_that_counts(change: dict[str, object], part: str) -> None:
    assert part in str(build(SectionWritten, {**written(), **change}).problem())


def test_a_text_or_the_reason_why_there_is_none() -> None:
    assert build(SectionWritten, written()).problem() is None
    assert build(SectionWritten, written("", declared_unavailable="no vendor is used")).problem() is None


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"about": "person/carl"}, "about"),
        ({"about": "dataset/../x"}, "about"),
        ({"party": "Acme\nSigned by: the board"}, "party"),
        ({"text": "x\x1b[2J"}, "text"),
        ({"text_id": "BAA"}, "text_id"),
        ({"expires": "next year"}, "expires"),
    ],
)
def test_an_attestation_that_does_not_fit_is_refused_by_field(change: dict[str, object], part: str) -> None:
    with pytest.raises(RecordError, match=part):
        build(AttestationMade, attested(**change))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"about": "model/credit_default@3"}, "about_digest"),
        ({"about": "dataset/loans"}, "about_digest"),
        ({"about_digest": "sha256:" + "0" * 64, "about_seq": 3}, "about_digest"),
        ({"text": " \n"}, "no text"),
        ({"text": "e\u0301"}, "Unicode form"),
    ],
)
def test_an_attestation_names_its_thing_in_one_state(change: dict[str, object], part: str) -> None:
    assert part in str(build(AttestationMade, attested(**change)).problem())
    assert build(AttestationMade, attested()).problem() is None


def test_an_attestation_about_a_version_is_found_with_its_model() -> None:
    record = build(
        AttestationMade,
        attested(about="model/credit_default@3", about_digest="sha256:" + "0" * 64, about_seq=3),
    )
    assert record.subjects() == ("model/credit_default", "model/credit_default@3", "person/carl")
