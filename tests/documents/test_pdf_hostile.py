"""Text of somebody else in print: every script and every kind of attack, in every place, comes out as it was written or is named."""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import Any

import pikepdf
import pytest

from cognify_dagster.documents import render_pdf
from cognify_dagster.documents.view.cleaning import clean_text
from tests.documents.story import Story
from tests.documents.test_html import ATTACKS, bent_by
from tests.documents.test_pdf import ALL, HOSTILE, SCRIPTS, lines_of, text_layer, unicode_map, view_of

#: Scripts whose letters stand on the page in the order of the text, one glyph each.
PLAIN = ("Latin", "Greek", "Cyrillic", "Armenian", "Georgian")


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.fixture(scope="module")
def package(two_versions: Story) -> dict[str, Any]:
    return two_versions.content


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_an_attack_is_printed_as_it_is_written(package: dict[str, Any], attack: str) -> None:
    said = ATTACKS[attack]
    bent = bent_by(package, said)
    signed = [{**ALL[0], "name": said, "comments": said, "meaning": said}]
    pdf = render_pdf(bent, copy="final", signatures=signed)
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        text = squeezed("".join(text_layer(opened)))
        assert list(opened.attachments) == ["package.json"]
        assert "/AA" not in opened.Root
        assert "/OpenAction" not in opened.Root
    assert text.count(squeezed(clean_text(said))) > 15
    assert str(1234 * 4321) not in text, "nothing is evaluated"


def test_all_scripts_are_printed_in_every_place(package: dict[str, Any]) -> None:
    bent = bent_by(package, " · ".join(SCRIPTS.values()))
    with pikepdf.open(io.BytesIO(render_pdf(bent, copy="review"))) as opened:
        text = squeezed("".join(text_layer(opened)))
    for script in PLAIN:
        assert text.count(squeezed(SCRIPTS[script])) > 10, script
    for point in ("ס", "ا", "ऋ", "ค", "✓"):
        assert point in text


def test_what_would_disturb_reading_is_named_everywhere(package: dict[str, Any]) -> None:
    bent = bent_by(package, HOSTILE.replace("\x00", ""))
    shown = view_of(bent)
    assert not set("\u202e\x07\ue000漢😀") & set(shown)
    for named in ("[U+202E]", "[U+E000]", "[U+6F22]", "[U+1F600]"):
        assert shown.count(named) > 15, named
    assert render_pdf(bent, copy="review").startswith(b"%PDF-")


def test_a_cut_field_is_named_with_the_digest_of_its_text(package: dict[str, Any]) -> None:
    long = "ä" * 20_000
    bent = json.loads(json.dumps(package))
    bent["training"]["config"] = {"prompt": long}
    found = [line for line in lines_of(json.loads(view_of(bent))) if line.startswith("ää")]
    assert found == [
        f"{'ä' * 8_000} … [cut: 20000 characters in all, SHA-256 {hashlib.sha256(long.encode()).hexdigest()}; see package.json]"
    ]


def test_a_script_has_its_own_font_and_not_the_fixed_width_one(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    bent["sections"][0]["text"] = " ".join([SCRIPTS["Arabic"], SCRIPTS["Hebrew"]] * 40)
    with pikepdf.open(io.BytesIO(render_pdf(bent, copy="review"))) as opened:
        wide = {
            name: unicode_map(font.ToUnicode.read_bytes())
            for page in opened.pages
            for name, font in page.Resources.get("/Font", {}).items()
            if "DejaVu" in str(font.BaseFont)
        }
    letters = {char for found in wide.values() for text in found.values() for char in text}
    assert not letters & set("مخاطر الائتمان סיכון אשראי".replace(" ", ""))


def test_a_very_long_title_leaves_the_cover_one_page(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    long = "a name of many words " * 60
    bent["model"]["title"] = bent["model"]["owner"] = bent["model"]["intended_use"] = bent["coverage"][0]["title"] = (
        long
    )
    with pikepdf.open(io.BytesIO(render_pdf(bent, copy="review"))) as opened:
        pages = text_layer(opened)
    assert "Compare it with the digest above" in pages[0]
    assert "Document control" in pages[1]
