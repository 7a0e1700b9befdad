"""The PDF: archival and tagged, package attached, same bytes in another process, and no text of a package is ever executed."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.documents import DocumentError, RenderError, build_final_copy, render_pdf, template_root
from cognify_dagster.documents import pdf as pdf_module
from cognify_dagster.documents.charts import Bar, bars, calibration
from cognify_dagster.documents.cleaning import GLYPHS, clean_text
from cognify_dagster.documents.pdf_view import DEFAULT_VERIFY_COMMAND, build_view
from cognify_dagster.ledger import canonical_json
from tests.documents.story import Story

HOSTILE = '#read("package.json") *b* $x$ @preview/x:1 <b> `r` \\u{41} \u202eevil \u0000\u0007 \ue000 漢字 שלום 😀 a\u0301\u0302'


def signature(stage: str, name: str, decision: str = "approve", seq: int = 40, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "role": "model_validator", "stage": stage, "decision": decision, "meaning": "I reviewed it.",
        "comments": "", "conditions": [], "signed_at": "2026-11-21T09:00:00Z", "method": "personal software key (Ed25519)",
        "level": "S3", "person": f"person/{name.split(maxsplit=1)[0].lower()}", "key_id": "ab" * 8, "statement_sha256": "cd" * 32,
        "entry_seq": seq, "entry_leaf": "ef" * 32, **more,
    }  # fmt: skip


ALL = [
    signature("validation", "Vera M", seq=40),
    signature("compliance", "Carl J", seq=41),
    signature("business", "Bea D", seq=42),
]


@pytest.fixture(scope="module")
def package(two_versions: Story) -> dict[str, Any]:
    return two_versions.content


@pytest.fixture(scope="module")
def review(package: dict[str, Any]) -> bytes:
    return render_pdf(package, copy="review")


def view_of(package: dict[str, Any], copy: Any = "review", signatures: Any = ()) -> str:
    digest = hashlib.sha256(canonical_json(package)).hexdigest()
    view, _ = build_view(
        package, copy=copy, signatures=signatures, package_sha256=digest, verify_command=DEFAULT_VERIFY_COMMAND
    )
    return json.dumps(view, ensure_ascii=False).replace("\u200b", "")


def test_it_is_an_archival_tagged_pdf_with_every_font_inside(review: bytes) -> None:
    assert review.endswith(b"%%EOF\n")
    with pikepdf.open(io.BytesIO(review)) as pdf:
        meta = pdf.open_metadata()
        assert meta["pdfaid:part"] == "3"
        assert meta["pdfaid:conformance"] == "A"
        assert meta["pdfuaid:part"] == "1"
        root = pdf.Root
        assert root.MarkInfo.Marked
        assert "/StructTreeRoot" in root
        assert str(root.Lang) == "en"
        assert root.ViewerPreferences.DisplayDocTitle
        assert root.OutputIntents
        assert not pdf.is_encrypted
        assert "Model package: credit_default, version 2" in str(meta["dc:title"])
        for item in pdf.objects:
            if isinstance(item, pikepdf.Dictionary) and item.get("/Type") == "/FontDescriptor":
                assert {"/FontFile2", "/FontFile3"} & set(item.keys())
            if isinstance(item, pikepdf.Dictionary) and item.get("/Subtype") == "/Type0":
                assert "/ToUnicode" in item


def test_the_attached_package_is_what_people_sign(review: bytes, package: dict[str, Any]) -> None:
    with pikepdf.open(io.BytesIO(review)) as pdf:
        attached = pdf.attachments["package.json"].get_file()
        assert attached.read_bytes() == canonical_json(package)
        assert attached.mime_type == "application/json"
        (link,) = pdf.Root.AF
        assert link.AFRelationship == "/Source"


def test_the_same_input_gives_the_same_bytes_in_another_process(
    review: bytes, package: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "package.json"
    source.write_bytes(canonical_json(package))
    program = (
        "import sys, json, hashlib; from cognify_dagster.documents import render_pdf;"
        "p = json.load(open(sys.argv[1], 'rb'));"
        "print(hashlib.sha256(render_pdf(p, copy='review')).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "Asia/Tokyo", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == hashlib.sha256(review).hexdigest()


def test_the_final_copy_shows_the_signatures_and_leaves_open_boxes_open(package: dict[str, Any]) -> None:
    final = build_final_copy(canonical_json(package), ALL)
    assert final.startswith(b"%PDF-")
    with pikepdf.open(io.BytesIO(final)) as pdf:
        assert pdf.attachments["package.json"].get_file().read_bytes() == canonical_json(package)
    complete = view_of(package, "final", ALL)
    assert "APPROVED BY ALL STAGES" in complete
    assert '"filled": false' not in complete
    partly = view_of(package, "final", ALL[:1])
    assert "SIGNATURES INCOMPLETE" in partly
    assert partly.count('"filled": false') == 2
    assert view_of(package).count('"filled": false') == 3
    assert "FOR REVIEW" in view_of(package)


def test_the_stamp_follows_the_last_word_of_each_person(package: dict[str, Any]) -> None:
    rejected = [*ALL, signature("compliance", "Carl J", "reject", seq=50)]
    assert "NOT APPROVED" in view_of(package, "final", rejected)
    withdrawn = [*ALL, signature("business", "Bea D", "withdraw", seq=51)]
    assert "SIGNATURES INCOMPLETE" in view_of(package, "final", withdrawn)
    condition = {"text": "Recheck small groups", "due": "2027-03-31T00:00:00Z"}
    conditional = [
        ALL[0],
        ALL[1],
        signature("business", "Bea D", "approve_with_conditions", seq=42, conditions=[condition]),
    ]
    shown = view_of(package, "final", conditional)
    assert "APPROVED WITH CONDITIONS" in shown
    assert "Recheck small groups (due 2027-03-31T00:00:00Z)" in shown


def test_two_signatures_of_one_person_do_not_fill_a_quorum_of_two(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    bent["required_stages"]["stages"][1]["quorum"] = 2
    assert "SIGNATURES INCOMPLETE" in view_of(bent, "final", [*ALL, signature("validation", "Vera M", seq=60)])
    assert "APPROVED BY ALL" in view_of(bent, "final", [*ALL, signature("validation", "Nora K", seq=61)])


def test_no_document_says_compliant_certified_or_immutable(package: dict[str, Any]) -> None:
    shown = view_of(package, "final", ALL).lower()
    for word in ("compliant", "certified", "immutable"):
        assert word not in shown


def test_a_trial_is_stamped_on_every_page(package: dict[str, Any]) -> None:
    trial = {**package, "trial": True}
    view = json.loads(view_of(trial))
    assert view["stamp"] == "TRIAL", "the running header prints it on every page"
    assert "no evidence" in view["cover"]["trial"]
    assert json.loads(view_of(package))["stamp"] == ""
    assert b"view.stamp" in (template_root() / "documents" / "package.typ").read_bytes()
    assert render_pdf(trial, copy="review").startswith(b"%PDF-")


def test_hostile_text_is_printed_and_not_executed(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    bent["model"]["title"] = bent["model"]["intended_use"] = HOSTILE.replace("\x00", "")
    bent["sections"][0]["text"] = HOSTILE + "\n= Heading\n#panic()"
    bent["data"][0]["name"] = HOSTILE
    bent["evaluation"]["fairness"][0]["attribute"] = HOSTILE
    bent["evaluation"]["fairness"][0]["groups"][0]["group"] = "</text><script>" + HOSTILE
    bent["training"]["config"] = {HOSTILE: HOSTILE, "long": "x" * 3000}
    bent["findings"][0]["observed"] = HOSTILE * 20
    shown = view_of(bent)
    assert '#read(\\"package.json\\")' in shown, "the text itself is shown"
    assert "[U+202E]" in shown
    assert "\u202e" not in shown
    assert "[U+6F22]" in shown
    assert render_pdf(bent, copy="review").startswith(b"%PDF-")


def test_a_changed_package_or_a_foreign_object_is_refused(package: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="changed after it was recorded"):
        render_pdf(
            {**package, "version": "9"},
            copy="review",
            package_sha256=hashlib.sha256(canonical_json(package)).hexdigest(),
        )
    with pytest.raises(DocumentError, match="does not fit its schema"):
        render_pdf({"format": "x", "created": "2026-11-21T08:00:00Z"}, copy="review")


def test_a_warning_an_error_or_a_slow_template_gives_no_file(tmp_path: Path, package: dict[str, Any]) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    template = folder / "package.typ"
    template.write_text('#set document(title: "t")\n#set text(lang: "en", font: "No Such Font")\n= A\nx')
    with pytest.raises(RenderError, match="unknown font"):
        render_pdf(package, copy="review", template_folder=tmp_path)
    template.write_text('#set document(title: "t")\n= A\n#read("../../../../etc/passwd")')
    with pytest.raises(RenderError, match=r"escape|outside|access denied|not found"):
        render_pdf(package, copy="review", template_folder=tmp_path)
    with pytest.raises(RenderError, match="longer than 1 seconds"):
        pdf_module.run_typst(
            {"package.typ": b"#for a in range(30000) { for b in range(30000) { let x = a * b } }"},
            {},
            0,
            timeout_s=1,
        )


def test_long_tables_are_cut_with_a_word(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    bent["training"]["config"] = {f"setting_{n:04d}": n for n in range(700)}
    assert "202 more rows stand in the attached package.json" in view_of(bent)


@given(st.text(max_size=200))
def test_cleaned_text_holds_only_what_the_fonts_show(text: str) -> None:
    cleaned = clean_text(text)
    assert all(char == "\n" or ord(char) in GLYPHS for char in cleaned)
    assert clean_text(cleaned) == cleaned
    visible = [
        c for c in unicodedata.normalize("NFC", text) if ord(c) >= 0x20 and ord(c) not in GLYPHS and ord(c) != 0x7F
    ]
    assert len(visible) <= cleaned.count("[U+"), "nothing but C0 controls goes without a trace"


def test_every_glyph_promised_is_in_the_fonts() -> None:
    text = "".join(chr(point) for point in sorted(GLYPHS))
    source = b'#set text(font: ("Libertinus Serif", "DejaVu Sans Mono"), lang: "en")\n#set document(title: "t")\n= T\n#sys.inputs.t\n\n*#sys.inputs.t* _#sys.inputs.t _ #text(font: ("DejaVu Sans Mono", "Libertinus Serif"), sys.inputs.t)'
    assert pdf_module.run_typst({"package.typ": source}, {"t": text}, 0).startswith(b"%PDF-")


def test_charts_are_pure_escaped_and_bounded() -> None:
    items = [
        Bar("<b>&", 0.5, 0.4, 0.6, "n = 10"),
        Bar("small", None, None, None, "n = 3"),
        Bar("odd", float("nan"), None, None, ""),
    ]
    chart = bars("T", items, limit=0.4, limit_label="limit")
    assert chart == bars("T", items, limit=0.4, limit_label="limit")
    assert "<b>" not in chart
    assert chart.count("too few records to measure") == 2
    assert "style=" not in chart
    assert "nan" not in calibration("C", [(0.1, 0.12, 0.08, 0.15), (0.9, 0.8, 0.7, 1.2)]).lower()
