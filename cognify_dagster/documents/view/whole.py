"""From a package to what its documents show: cover, document control, body and signature page. Pure.

Everything shown comes from the package, the signatures and the arguments; texts are bounded and cleaned, so a view holds nothing that
would disturb reading, or that the fonts of the print cannot show. A final copy shows the package as it was signed and says beside it
what the sign-offs added. PDF and HTML show the same view; they differ in their fonts and in how much of a long table they show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from cognify_dagster.documents.labels import label, status_words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    bold,
    digest_text,
    entries,
    heading,
    key_values,
    mono,
    number,
    paragraph,
    see,
    small,
    table,
)
from cognify_dagster.documents.view.bounds import PRINT, SCREEN, bounded, cut_text
from cognify_dagster.documents.view.cleaning import clean, clean_text, screen_text
from cognify_dagster.documents.view.coverage import coverage_blocks, summary_table
from cognify_dagster.documents.view.data import data_blocks
from cognify_dagster.documents.view.evaluation import evaluation_blocks
from cognify_dagster.documents.view.fairness import Charts
from cognify_dagster.documents.view.glossary import glossary_blocks
from cognify_dagster.documents.view.registers import (
    change_blocks,
    event_blocks,
    evidence_blocks,
    lineage_blocks,
)
from cognify_dagster.documents.view.signatures import (
    ANCHOR,
    Copy,
    SignOffs,
    asked_for,
    built_before,
    complete,
    first_end,
    handling,
    overview,
    sign_offs,
    signature_blocks,
    status,
)
from cognify_dagster.documents.view.written import attestation_blocks, retention_blocks, section_blocks

Json = dict[str, Any]
Medium = Literal["print", "screen"]
DEFAULT_VERIFY_COMMAND = "cognify verify BUNDLE --trust trust.txt"
_WHERE = {
    "print": "which is attached to this file",
    "screen": "which `cognify package show --json` prints and the PDF carries",
}
_UNSEEN = {"print": "the fonts cannot show", "screen": "would disturb reading"}
_KIND = {
    ("print", "review"): "review copy",
    ("print", "final"): "final copy with signatures",
    ("screen", "review"): "page for reading, before any signature",
    ("screen", "final"): "page for reading, with the signatures so far",
}
_SEALED = {
    "print": "none; signatures cover the package, and the ledger keeps this file's hash",
    "screen": "none: this page is for reading. The files of record are package.json and the PDF copies that the ledger names",
}
SEVERITIES = ("high", "medium", "low", "note")
_WEIGHT = {"high": 4, "medium": 2.5, "low": 1.2, "note": 0.7}
#: Characters of a text on the cover, so that it stays one page; of its title.
MAX_COVER, MAX_TITLE = 500, 200
TRIAL_TEXT = "TRIAL. The ledger behind this document was opened for trial by one person. It shows how the product works and is no evidence."


def build_view(
    package: Json,
    *,
    copy: Copy,
    signatures: Sequence[Mapping[str, Any]],
    refusals: Sequence[Mapping[str, Any]] | None = None,
    waived: Mapping[str, str] | None = None,
    package_sha256: str,
    verify_command: str,
    sealed_by: str = "",
    medium: Medium = "print",
) -> tuple[Json, dict[str, str]]:
    """Return the view and its charts as SVG by file name; see `render_pdf` for the arguments.

    Args:
        medium: `print` shows what the fonts of the PDF have, and at most 500 rows of a table; `screen` every script, and 5,000 rows.
    """
    cleaner, bounds = (clean_text, PRINT) if medium == "print" else (screen_text, SCREEN)
    charts: Charts = {}
    created = datetime.strptime(package["created"], "%Y-%m-%dT%H:%M:%SZ")
    signed = sign_offs(package, copy, signatures)
    findings, open_findings = _findings(package, signed)
    stamp, tone, stamp_line = status(package, signed, open_findings)
    name = f"{package['model']['key']}, version {package['version']}"
    title = package["model"]["title"] or package["model"]["key"]
    blocks = [
        *_control(package, signed, medium),
        *findings,
        *coverage_blocks(package, signed),
        *evaluation_blocks(package, charts, signed),
        *data_blocks(package, charts),
        *lineage_blocks(package, charts),
        *change_blocks(package, charts),
        *section_blocks(package),
        *attestation_blocks(package),
        *retention_blocks(package),
        *evidence_blocks(package),
        *event_blocks(package, refusals if copy == "final" else None, charts),
        {"t": "page"},
        *signature_blocks(package, signed, waived or {}),
        *_method(package),
        {"t": "page"},
        *glossary_blocks(package),
    ]
    ledger = package["ledger"]
    view: Json = {
        "meta": {
            "title": f"Model package: {name}, revision {package['revision']}",
            "author": package["model"]["owner"],
            "date": [created.year, created.month, created.day, created.hour, created.minute, created.second],
        },
        "stamp": "TRIAL" if package["trial"] else "",
        "header": {
            "left": f"Package {name}, revision {package['revision']}",
            "right": package_sha256[:16],
        },
        "footer": {
            "left": f"{_KIND[medium, copy].capitalize()}. Ledger {ledger['origin']}, built from {ledger['size']} entries. Times in UTC."
        },
        "cover": {
            "kicker": f"Model package, {_KIND[medium, copy]}",
            "title": title,
            "subtitle": name,
            "basis": "Evidence compared with: "
            + (", ".join(report["title"] for report in package["coverage"]) or "no framework")
            + ".",
            "stamp": stamp,
            "stamp-tone": tone,
            "stamp-line": stamp_line,
            "notice": _cover_notice(package) if copy == "final" else [],
            "identity": _identity(package),
            "verification": [
                ["SHA-256 of the package", [mono(package_sha256)]],
                ["Ledger", f"{ledger['origin']}, first {number(ledger['size'])} entries"],
                ["Root of these entries", [mono(digest_text(ledger["root"]))]],
                ["Check it offline", [mono(verify_command)]],
                [
                    "Seal of this file",
                    sealed_by or _SEALED[medium],
                ],
            ],
            "qr-alt": f"QR code with the SHA-256 of the package, {package_sha256}",
            "qr-caption": [
                bold("What the QR code holds. "),
                {"v": "The SHA-256 of the package, as this text; it is no link and holds nothing else:"},
                mono(f"urn:sha256:{package_sha256}", n=True),
                {"v": "Compare it with the digest above and with the ledger.", "n": True},
            ],
            "trial": TRIAL_TEXT if package["trial"] else "",
        },
        "blocks": bounded(blocks, bounds),
    }
    view["cover"] = {n: _short(value, MAX_TITLE if n == "title" else MAX_COVER) for n, value in view["cover"].items()}
    for place in ("meta", "header", "footer"):
        view[place] = {name: _short(value, MAX_TITLE) for name, value in view[place].items()}
    return clean(view, cleaner), {name: draw(clean=cleaner) for name, draw in charts.items()}


def _short(value: Any, characters: int) -> Any:
    if isinstance(value, str):
        return cut_text(value, characters)
    return [_short(item, characters) for item in value] if isinstance(value, list) else value


def _cover_notice(package: Json) -> Cell:
    said = built_before(
        package,
        "Coverage and findings in this copy are those of the package that was signed. Beside them it says what the sign-offs "
        "have answered or accepted since.",
    )
    parts: Cell = said["v"]
    return parts


def _identity(package: Json) -> list[list[Any]]:
    model = package["model"]
    run = package["training"]
    trained = f"entry {run['entry']['seq']}, {run['entry']['time']}" if run else "no sealed training run"
    known = run and run["code"]["commit"] and run["code"]["vcs"] != "none"
    commit: Any = [mono(run["code"]["commit"])] if known else "not recorded"
    times = [event["time"] for event in package["events"]]
    return [
        ["Model and version", f"{model['key']}, version {package['version']}"],
        ["Package", f"revision {package['revision']}, built {package['created']}"],
        [
            "Replaces",
            f"version {package['supersedes']}" if package["supersedes"] else "nothing: no other version was deployed",
        ],
        ["Owner, risk tier", f"{model['owner']}; {model['risk_tier']}"],
        ["Training run", trained],
        ["Code commit", commit],
        ["Intended use", model["intended_use"] or "not stated"],
        ["Evidence period", f"{min(times)} to {max(times)}" if times else "–"],
    ]


def _control(package: Json, signed: SignOffs, medium: Medium) -> list[Block]:
    stages = package["required_stages"]
    policy = stages["policy"]
    found = Counter(finding["severity"] for finding in package["findings"])
    blocks = [
        heading("Document control"),
        key_values(
            [
                (
                    "Document",
                    f"{_KIND[medium, signed.copy].capitalize()}, of package revision {package['revision']}",
                ),
                (
                    "Earlier revision",
                    [mono(digest_text(package["previous_package"]))] if package["previous_package"] else "none",
                ),
                (
                    "Policy",
                    f"{policy['title']}, entry {policy['seq']}, tier {stages['tier']}"
                    if policy
                    else "no policy in force",
                ),
                (
                    "Approvals last",
                    "; ".join(part for part in (_days(stages), first_end(package, signed)) if part),
                ),
                ("Findings", ", ".join(f"{found[word]} {word}" for word in SEVERITIES if found[word]) or "none"),
                ("Signatures", [see(ANCHOR, "Signatures")]),
            ]
        ),
        heading("How to read this document", 2),
        paragraph(
            f"People sign package.json, {_WHERE[medium]}, and not this page: its SHA-256 stands on the cover. Everything here is a "
            "rendering of it. "
            "Entry numbers name records of the ledger; the bundle that comes with this file proves them without this product. "
            "“Evidence present” means that the ledger holds evidence for a requirement, not that the requirement is met in law; where it "
            "takes judgement, only a person's signature answers. "
            "Requirements are summarised in our words; how far each was checked against its source is said beside it. "
            f"Characters that {_UNSEEN[medium]} appear as [U+XXXX]; package.json has the original text. "
            "The glossary at the end explains the words."
        ),
    ]
    if signed.copy == "final":
        blocks += overview(package, signed)
    blocks += [heading("What is on record", 2), key_values(on_record(package))]
    blocks += [heading("Summary of conclusions", 2), *summary_table(package, signed)]
    rows: list[list[Cell]] = [
        [label(g["family"]), status_words("pass" if g["status"] == "pass" else "fail"), f"entry {g['entry']['seq']}"]
        for g in package["gates"]["results"]
    ]
    notes = [paragraph(f"Gate {g['family']}: {g['note']}") for g in package["gates"]["results"] if g.get("note")]
    return (
        blocks
        + table(["Automated gate", "Result", "Recorded"], [46, 27, 27], rows, empty="no gate result on record")
        + notes
    )


def on_record(package: Json) -> list[tuple[str, str]]:
    """What the ledger has about the version and what it has not, part by part."""
    run, result, sections = package["training"], package["evaluation"], package["sections"]
    written = sum(bool(section["text"] or section["declared_unavailable"]) for section in sections)
    outcomes = package["gates"]["outcomes"]
    passed = sum(outcome["status"] == "pass" for outcome in outcomes)
    attested = package.get("attestations", ())
    counting = sum(item["counts"] for item in attested)
    return [
        ("Training run", f"sealed, entry {run['entry']['seq']}" if run else "○ none"),
        ("Data sets", str(len(package["data"])) if package["data"] else "○ none"),
        ("Evaluation", f"entry {result['entry']['seq']}, {len(result['metrics'])} metrics" if result else "○ none"),
        *_beside(result or {}),
        ("Limits kept", f"{passed} of {len(outcomes)}" if outcomes else "○ no limit was judged"),
        ("Sections written", f"{written} of {len(sections)} asked for" if sections else "none asked for"),
        ("Attestations", f"{len(attested)}, of which {counting} count" if attested else "○ none"),
        ("Pieces of evidence", str(len(package["evidence"])) if package["evidence"] else "○ none"),
    ]


def _beside(result: Json) -> list[tuple[str, str]]:
    """What the evaluation holds beside its metrics; nothing where it holds none of it."""
    parts = (
        ("slices", "results by site or part"),
        ("comparisons", "comparisons"),
        ("perturbations", "changes of input"),
        ("benchmarks", "benchmarks"),
        ("explanations", "explanations"),
    )
    held = [f"{len(result[name])} {what}" for name, what in parts if result.get(name)]
    return [("Beside the metrics", ", ".join(held))] if held else []


def _days(stages: Json) -> str:
    return f"{stages['approval_days']} days" if stages["approval_days"] else "not stated by the policy"


def _findings(package: Json, signed: SignOffs) -> tuple[list[Block], int]:
    """The findings, each with how it was handled, and how many of them are open."""
    blocks = [heading("Findings")]
    if not package["findings"]:
        blocks.append(paragraph("None. No gate failed, and no mandatory requirement of law is without evidence."))
    elif signed.copy == "final":
        what = "Severity and date are as of building. “Handled” says what the sign-offs did about each finding:"
        blocks.append(built_before(package, f"{what} accepted by a condition, answered, or open at sign-off."))
    lines = {line["id"]: line for report in package["coverage"] for line in report["lines"]}
    all_signed, count, copied = complete(package, signed), 0, signed.copy == "final"
    for item in package["findings"]:
        cited = entries(item["entries"]) or "no entry: that is the finding"
        handled, is_open = handling(item, signed, lines, all_signed=all_signed)
        count += is_open
        tone = "good" if not is_open else "bad" if copied and item["severity"] == "high" else "plain"
        blocks.append(
            {
                "t": "finding",
                "id": item["id"],
                "title": item["title"],
                "severity": item["severity"],
                "weight": _WEIGHT[item["severity"]],
                "rows": [
                    ["Observed", item["observed"]],
                    ["Expected", item["expected"]],
                    ["Evidence", cited],
                    ["Who, by when", asked_for(item, signed)],
                    ["Handled", [{"v": handled, "b": True, "tone": tone}]],
                ],
            }
        )
    return blocks, count


def _method(package: Json) -> list[Block]:
    tools = package["tools"]
    profile = tools["render_profile"]
    return [
        heading("How this document was made"),
        paragraph(
            small(
                f"cognify_dagster {tools['cognify_dagster']}; {profile['engine']}; fonts: {profile['fonts']}; template SHA-256 "
                f"{profile['template_sha256'][:16]}…. The same package, copy and signatures give the same bytes with this profile."
            )
        ),
    ]
