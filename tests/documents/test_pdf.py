"""The PDF: archival and tagged, package attached, same bytes in another process, and no text of a package is ever executed."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import DocumentError, RenderError, build_final_copy, render_pdf, template_root
from cognify_dagster.documents.labels import label, metric_label
from cognify_dagster.documents.pdf import rendering as pdf_module
from cognify_dagster.documents.pdf.fonts import _fonts, fonts_in_use
from cognify_dagster.documents.view.cleaning import clean_text
from cognify_dagster.documents.view.coverage import counted, counts, in_words
from cognify_dagster.documents.view.whole import DEFAULT_VERIFY_COMMAND, build_view
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
    return json.dumps(view, ensure_ascii=False)


def lines_of(view: dict[str, Any]) -> list[str]:
    """The text layer of a view: every text, runs of a cell joined."""
    if isinstance(view, dict):
        return [text for value in view.values() for text in lines_of(value)]
    if isinstance(view, list):
        if view and all(isinstance(item, dict) and "v" in item and "t" not in item for item in view):
            return ["".join(str(item["v"]) for item in view)]
        return [text for value in view for text in lines_of(value)]
    return [view] if isinstance(view, str) else []


def findings_of(view: str) -> dict[str, dict[str, Any]]:
    blocks = [block for block in json.loads(view)["blocks"] if block["t"] == "finding"]
    return {block["title"]: {**block, **{row[0]: row[1] for row in block["rows"]}} for block in blocks}


def text_layer(pdf: pikepdf.Pdf) -> list[str]:
    """What a reader can copy, page by page: glyphs through each font's ToUnicode map, without the positions."""
    pages = []
    for page in pdf.pages:
        maps = {
            name: unicode_map(font.ToUnicode.read_bytes()) for name, font in page.Resources.get("/Font", {}).items()
        }
        current: dict[int, str] = {}
        parts: list[str] = []
        for operands, operator in pikepdf.parse_content_stream(page):
            if str(operator) == "Tf":
                current = maps[str(operands[0])]
            elif str(operator) == "TJ":
                parts += [decode(bytes(item), current) for item in operands[0] if isinstance(item, pikepdf.String)]
            elif str(operator) == "Tj":
                parts.append(decode(bytes(operands[0]), current))
        pages.append("".join(parts))
    return pages


def unicode_map(cmap: bytes) -> dict[int, str]:
    found: dict[int, str] = {}
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", cmap, re.DOTALL):
        for code, text in re.findall(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>", block):
            found[int(code, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", cmap, re.DOTALL):
        for low, high, text in re.findall(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>", block):
            for offset in range(int(high, 16) - int(low, 16) + 1):
                found[int(low, 16) + offset] = chr(int(text, 16) + offset)
    return found


def decode(data: bytes, unicode: dict[int, str]) -> str:
    return "".join(unicode.get(int.from_bytes(data[i : i + 2], "big"), "") for i in range(0, len(data), 2))


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


def test_its_claims_hold_where_a_reader_can_check_them(review: bytes, tmp_path: Path) -> None:
    with pikepdf.open(io.BytesIO(review)) as pdf:
        (intent,) = pdf.Root.OutputIntents
        assert intent.S == "/GTS_PDFA1"
        assert "/DestOutputProfile" in intent
        assert "/Info" not in pdf.trailer or "/Encrypt" not in pdf.trailer
        roles: dict[str, int] = {}
        figures = []
        pending = [pdf.Root.StructTreeRoot]
        while pending:
            node = pending.pop()
            if isinstance(node, pikepdf.Array):
                pending += list(node)
            elif isinstance(node, pikepdf.Dictionary) and node.get("/Type") != "/MCR":
                role = str(node.get("/S", ""))
                roles[role] = roles.get(role, 0) + 1
                if role == "/Figure":
                    figures.append(str(node.get("/Alt", "")))
                if "/K" in node:
                    pending.append(node.K)
        assert figures
        assert all(len(text) > 20 for text in figures), "every chart is said in words"
        for role in ("/H1", "/H2", "/Table", "/TR", "/TH", "/TD", "/P"):
            assert roles.get(role), role
        for item in pdf.objects:
            if isinstance(item, (pikepdf.Dictionary, pikepdf.Stream)):
                assert not {"/JS", "/JavaScript", "/Launch", "/URI"} & {str(item.get("/S", ""))}, (
                    "no action, no address"
                )
        for page in pdf.pages:
            assert page.get("/Tabs") == "/S" or "/Annots" not in page
    path = tmp_path / "review.pdf"
    path.write_bytes(review)
    done = subprocess.run(["qpdf", "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


if shutil.which("verapdf"):  # a Java program that no package of this project brings; nothing here claims that it ran

    @pytest.mark.parametrize("flavour", ["3a", "ua1"])
    def test_an_independent_validator_agrees(review: bytes, tmp_path: Path, flavour: str) -> None:
        path = tmp_path / "review.pdf"
        path.write_bytes(review)
        command = ["verapdf", "--flavour", flavour, "--format", "text", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("PASS"), done.stdout


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
    noted = [*ALL, signature("business", "Bea D", "acknowledge", seq=50)]
    assert "APPROVED BY ALL STAGES" in view_of(package, "final", noted)  # who takes note takes nothing back
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


def test_an_id_copied_from_the_page_equals_the_id(package: dict[str, Any]) -> None:
    final = build_final_copy(canonical_json(package), ALL)
    digest = hashlib.sha256(canonical_json(package)).hexdigest()
    with pikepdf.open(io.BytesIO(final)) as pdf:
        assert str(pdf.docinfo["/Author"]) == package["model"]["owner"]
        assert "\u200b" not in str(pdf.docinfo["/Title"]) + pdf.open_metadata()["dc:title"]
        pages = text_layer(pdf)
    shown = "".join(pages)
    assert "\u200b" not in shown
    assert digest in pages[0]
    assert package["created"] in pages[0]
    for expected in (
        package["ledger"]["root"], package["model"]["owner"], "cd" * 32, "ab" * 8, "fl.aa.reasons", "mrm.effective_challenge",
        package["training"]["code"]["commit"], package["training"]["model_file"]["digest"].removeprefix("sha256:"),
        "fairness.SEX.adverse_impact_ratio", package["ledger"]["origin"],
    ):  # fmt: skip
        assert expected in shown, expected


def test_long_words_break_in_narrow_columns_all_the_same(package: dict[str, Any]) -> None:
    name = "fairness.A_VERY_LONG_ATTRIBUTE_NAME_INDEED.adverse_impact_ratio"
    bent = json.loads(json.dumps(package))
    bent["gates"]["outcomes"][1]["metric"] = name
    with pikepdf.open(io.BytesIO(render_pdf(bent, copy="review"))) as pdf:
        assert name in "".join(text_layer(pdf))


def test_the_final_copy_says_that_it_was_built_before_the_sign_offs(package: dict[str, Any]) -> None:
    text = "\n".join(lines_of(json.loads(view_of(package, "final", ALL))))
    said = f"As of building, on {package['created']}, before any sign-off."
    assert text.count(said) == 3, "on the cover, above the findings and above the coverage"
    assert "before any sign-off. " not in view_of(package)
    with pikepdf.open(io.BytesIO(build_final_copy(canonical_json(package), ALL))) as pdf:
        pages = text_layer(pdf)
    page = next(number for number, shown in enumerate(pages, 1) if "Each signature covers a statement" in shown)
    assert re.search(rf"sign-offs\s*are\s*on\s*page\s*{page}\s*of\s*this\s*document", pages[0])


def test_rows_that_the_sign_offs_answered_say_so_in_the_final_copy_only(package: dict[str, Any]) -> None:
    validator, officer = ALL[0], signature("compliance", "Carl J", seq=41, role="compliance_officer")
    shown = view_of(package, "final", [validator, officer])
    assert "Answered since: approved by Vera M (model validator, entry 40)" in shown
    assert "Answered since: approved by Carl J (compliance officer, entry 41)" in shown
    assert "Answered since" not in view_of(package)
    assert "Answered since: " not in view_of(package, "final", [{**validator, "decision": "reject"}])
    objected = [validator, {**officer, "decision": "block"}]
    assert "Answered since: " not in view_of(package, "final", objected), "nothing is answered while somebody objects"
    builder = [{**validator, "person": "person/ben"}]
    assert "Answered since: " not in view_of(package, "final", builder), "the builder's signature answers nothing"


def test_counts_are_said_once_and_add_up(package: dict[str, Any]) -> None:
    for report in package["coverage"]:
        for force in ("law", "guidance"):
            lines = counted(report, force)
            if not lines:
                continue
            found = counts(lines)
            assert sum(found.values()) + sum(line["status"] == "not_applicable" for line in lines) == len(lines)
            words = in_words(lines)
            assert words.startswith(f"{found['satisfied']} of {sum(found.values())} with evidence")
            parts = re.findall(
                r"; (\d+) (?:missing|need a person|after release|stale|insufficient data|declared)", words
            )
            assert found["satisfied"] + sum(int(part) for part in parts) == sum(found.values())


def test_each_finding_says_how_it_was_handled(package: dict[str, Any]) -> None:
    condition = {"text": "F-01 and fl.aa.notice to be closed", "due": "2027-03-31T00:00:00Z"}
    signed = [ALL[0], ALL[1], signature("business", "Bea D", "approve_with_conditions", seq=42, conditions=[condition])]
    found = findings_of(view_of(package, "final", signed))
    first = next(item for item in found.values() if item["id"] == "F-01")
    assert first["Handled"][0]["v"] == (
        "accepted by condition of Bea D (model validator, entry 42): “F-01 and fl.aa.notice to be closed (due 2027-03-31T00:00:00Z)”"
    )
    assert found["fl.aa.notice: a person must write"]["Handled"][0]["v"].startswith("accepted by condition")
    high = [item for item in found.values() if item["severity"] == "high" and item["id"] != "F-01"]
    assert high
    assert all(item["Handled"][0]["v"].startswith("open at sign-off") for item in high)
    later = next(item for title, item in found.items() if "only after the release" in title)
    assert later["Handled"][0]["v"] == "nothing to do before the sign-off"
    review = findings_of(view_of(package))
    assert "a condition of a sign-off that names F-01 accepts it" in str(review[first["title"]]["Handled"])


def test_a_condition_names_a_finding_by_the_whole_id_only(package: dict[str, Any]) -> None:
    condition = {"text": "F-011 and xfl.aa.reasons and fl.aa.reasons.more", "due": None}
    signed = [*ALL[:2], signature("business", "Bea D", "approve_with_conditions", seq=42, conditions=[condition])]
    for item in findings_of(view_of(package, "final", signed)).values():
        assert "accepted" not in str(item["Handled"])


def test_conditions_and_comments_stand_beside_the_decision(package: dict[str, Any]) -> None:
    condition = {"text": "Recheck small groups", "due": None}
    signed = [
        signature("validation", "Vera M", seq=40, comments="Reproduced the metrics."),
        signature("business", "Bea D", "approve_with_conditions", seq=42, conditions=[condition]),
    ]
    tables = [block for block in json.loads(view_of(package, "final", signed))["blocks"] if block["t"] == "table"]
    overview = next(block for block in tables if block["head"][0] == "Who")
    assert [row[3][0]["v"] for row in overview["rows"]] == [
        "Comment: Reproduced the metrics.",
        "Condition 1: Recheck small groups",
    ]


def test_names_are_labels_and_terms_are_explained(package: dict[str, Any]) -> None:
    text = "\n".join(lines_of(json.loads(view_of(package))))
    assert "Age band (AGE_BAND)" in text
    assert "FCRA disclosure" in text
    assert "True favourable rate (TPR)" in text
    assert "not re-read" not in text
    assert "satisfied" not in text
    for term in (
        "Strength S3",
        "Proxy review",
        "TPR, true favourable rate",
        "◐ a person must judge",
        "▷ after release",
    ):
        assert term in text, term


def test_nothing_is_to_be_signed_on_paper_and_the_code_has_a_caption(package: dict[str, Any]) -> None:
    boxes = [block for block in json.loads(view_of(package))["blocks"] if block["t"] == "signature"]
    assert {box["state"] for box in boxes} == {"Awaiting an electronic signature."}
    template = (template_root() / "documents" / "package.typ").read_text(encoding="utf-8")
    assert "Date and time (UTC)" not in template, "no lines for a pen"
    caption = "".join(part["v"] for part in json.loads(view_of(package))["cover"]["qr-caption"])
    assert "urn:sha256:" + hashlib.sha256(canonical_json(package)).hexdigest() in caption


def test_an_approval_is_calm_and_an_objection_is_not(package: dict[str, Any]) -> None:
    def tone(signatures: Any, copy: str = "final") -> str:
        return str(json.loads(view_of(package, copy, signatures))["cover"]["stamp-tone"])

    assert tone(ALL) == "good"
    assert tone([*ALL, signature("compliance", "Carl J", "reject", seq=50)]) == "bad"
    assert tone((), "review") == tone(ALL[:1]) == "plain"


def test_labels() -> None:
    assert label("eu_human_review") == "EU human review"
    assert label("AGE_BAND") == "Age band"
    assert label("fcra_disclosure") == "FCRA disclosure"
    assert label("<b>x y</b>") == "<b>x y</b>", "what is no technical name stays as it is"
    assert metric_label("fairness.AGE_BAND.adverse_impact_ratio") == "Adverse impact ratio, age band"


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


def test_long_tables_are_cut_with_the_digest_of_the_rest(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    bent["training"]["config"] = {f"setting_{n:04d}": n for n in range(700)}
    rest = "".join(f"config.setting_{n:04d}\t{n}\n" for n in range(500, 700))
    digest = hashlib.sha256(rest.encode()).hexdigest()
    assert f"200 more rows stand in package.json. SHA-256 of their text: {digest}." in view_of(bent)


BIG = "x" * 999_990 + " #panic()"


def test_fields_of_a_megabyte_are_cut_with_their_digest_and_never_break_the_page(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    bent["model"]["title"] = bent["model"]["intended_use"] = bent["model"]["owner"] = BIG
    bent["training"]["config"] = {"long": BIG, BIG: "long"}
    bent["sections"][0]["text"] = BIG
    bent["sections"][1]["text"] = "many\n" * 200_000
    bent["findings"][0]["observed"] = bent["findings"][0]["title"] = BIG
    bent["evaluation"]["notes"] = [BIG]
    bent["evaluation"]["fairness"][0]["groups"][0]["group"] = BIG
    bent["lineage"]["nodes"][0]["label"] = bent["events"][0]["text"] = BIG
    bent["gates"]["outcomes"][0]["reason"] = BIG
    shown = view_of(bent)
    digest = hashlib.sha256(BIG.encode()).hexdigest()
    assert f"[cut: {len(BIG)} characters in all, SHA-256 {digest}; see package.json]" in shown
    assert "Cut after 200000 characters" in shown
    assert len(shown) < 2_000_000
    pdf = render_pdf(bent, copy="review")
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        assert opened.attachments["package.json"].get_file().read_bytes() == canonical_json(bent)


def test_the_child_is_stopped_at_its_limits() -> None:
    endless = {
        "package.typ": b'#set document(title: "t")\n= A\n#for a in range(300000) { for b in range(300000) { let x = a * b } }'
    }
    with pytest.raises(RenderError, match=r"limits on memory .* or processor time"):
        pdf_module.run_typst(endless, {}, 0, cpu_s=1)
    greedy = {"package.typ": b'#set document(title: "t")\n= A\n#let l = range(50000000).map(n => str(n))'}
    with pytest.raises(RenderError, match=r"nothing was written|could not be rendered"):
        pdf_module.run_typst(greedy, {}, 0, memory_bytes=600 * 1024**2)
    small = {"package.typ": b'#set document(title: "t")\n#set text(lang: "en")\n= A\ntext'}
    assert pdf_module.run_typst(small, {}, 0).startswith(b"%PDF-")
    with pytest.raises(RenderError, match="bytes; 1000 are allowed"):
        pdf_module.run_typst(small, {}, 0, max_bytes=1000)


def test_a_long_row_runs_over_pages_and_loses_nothing(package: dict[str, Any]) -> None:
    bent = json.loads(json.dumps(package))
    bent["training"]["config"] = {"prompt": " ".join(f"word{n}" for n in range(900))}
    with pikepdf.open(io.BytesIO(render_pdf(bent, copy="review"))) as pdf:
        text = "".join(text_layer(pdf))
    assert all(f"word{n}" in text for n in range(900))


GLYPHS = fonts_in_use().glyphs | {0x200C, 0x200D}


@settings(deadline=None)
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
    text = "".join(chr(point) for point in sorted(fonts_in_use().glyphs))
    source = b'#let o = json(bytes(sys.inputs.families))\n#set text(font: ("Libertinus Serif", "DejaVu Sans Mono") + o, lang: "en")\n#set document(title: "t")\n= T\n#sys.inputs.t\n\n*#sys.inputs.t* _#sys.inputs.t _ #text(font: ("DejaVu Sans Mono", "Libertinus Serif") + o, sys.inputs.t)'
    assert pdf_module.run_typst({"package.typ": source}, {"t": text}, 0).startswith(b"%PDF-")


SCRIPTS = {
    "Latin": "Zürich, Łódź, Đà Nẵng",
    "Greek": "Κατανομή πιστώσεων",
    "Cyrillic": "Оценка кредитного риска",
    "Armenian": "Վարկային ռիսկ",
    "Georgian": "საკრედიტო რისკი",
    "Arabic": "مخاطر الائتمان",
    "Persian": "می\u200cخواهم",
    "Hebrew": "סיכון אשראי",
    "Devanagari": "ऋण जोखिम का मूल्यांकन",
    "Thai": "ความเสี่ยงด้านสินเชื่อ",
    "symbols": "✓ ☐ ⚠ →",
}


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_a_script_is_printed_as_it_is_written(script: str) -> None:
    assert clean_text(SCRIPTS[script]) == unicodedata.normalize("NFC", SCRIPTS[script])


def test_what_no_font_shows_is_named_and_never_disturbs() -> None:
    assert clean_text("信用") == "[U+4FE1][U+7528]"
    assert clean_text("a\u202eb\u061cc") == "a[U+202E]b[U+061C]c"
    assert clean_text("a\u200cb") == "a[U+200C]b", "a joiner hides nothing between letters that do not need it"
    assert clean_text("\u200cم") == "[U+200C]م"


def test_an_own_folder_of_fonts_adds_its_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fonts_in_use().profile
    monkeypatch.setenv("COGNIFY_FONTS", str(tmp_path))
    with pytest.raises(RenderError, match="holds no"):
        clean_text("x")
    (tmp_path / "odd.ttf").write_bytes(b"no font")
    _fonts.cache_clear()
    with pytest.raises(RenderError, match=r"odd\.ttf: not a readable font"):
        clean_text("x")
    shipped = template_root() / "fonts" / "NotoSansThai-Regular.ttf"
    (tmp_path / "odd.ttf").write_bytes(shipped.read_bytes())
    _fonts.cache_clear()
    assert clean_text("ก") == "ก"
    assert "own sha256:" in fonts_in_use().profile
    assert fonts_in_use().profile.startswith(plain)
    monkeypatch.setenv("COGNIFY_FONTS", str(tmp_path / "none"))
    with pytest.raises(RenderError, match="is not a folder"):
        clean_text("x")
