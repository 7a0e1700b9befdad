"""From a package to what the typst template prints: cover, document control, body and signature page. Pure.

Everything shown comes from the package, the signatures and the arguments; texts are cleaned, so a view holds nothing that the fonts
cannot show or that would disturb reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from cognify_dagster.documents.blocks import (
    Block,
    bold,
    entries,
    groups,
    heading,
    key_values,
    mono,
    number,
    paragraph,
    small,
    soften,
    table,
)
from cognify_dagster.documents.cleaning import clean
from cognify_dagster.documents.pdf_evaluation import Charts, Json, evaluation_blocks
from cognify_dagster.documents.pdf_sections import (
    change_blocks,
    coverage_blocks,
    data_blocks,
    event_blocks,
    evidence_blocks,
    lineage_blocks,
    section_blocks,
)

Copy = Literal["review", "final"]
DEFAULT_VERIFY_COMMAND = "cognify verify BUNDLE --trust trust.txt"
_WEIGHT = {"high": 4, "medium": 2.5, "low": 1.2, "note": 0.7}
TRIAL_TEXT = "TRIAL. The ledger behind this document was opened for trial by one person. It shows how the product works and is no evidence."


def build_view(
    package: Json, *, copy: Copy, signatures: Sequence[Mapping[str, Any]], package_sha256: str, verify_command: str
) -> tuple[Json, Charts]:
    """Return the view and the charts by file name."""
    charts: Charts = {}
    created = datetime.strptime(package["created"], "%Y-%m-%dT%H:%M:%SZ")
    stamp, stamp_line = status(package, copy, signatures)
    name = f"{package['model']['key']}, version {package['version']}"
    title = package["model"]["title"] or package["model"]["key"]
    blocks = [
        *_control(package, copy),
        *_findings(package),
        {"t": "page"},
        *coverage_blocks(package),
        {"t": "page"},
        *evaluation_blocks(package, charts),
        {"t": "page"},
        *data_blocks(package),
        *lineage_blocks(package),
        *change_blocks(package),
        *section_blocks(package),
        *evidence_blocks(package),
        *event_blocks(package),
        {"t": "page"},
        *_signatures(package, copy, signatures),
        *_method(package),
    ]
    ledger = package["ledger"]
    view = {
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
            "left": f"{'Review copy' if copy == 'review' else 'Final copy'}. Ledger {ledger['origin']}, built from {ledger['size']} entries. Times in UTC."
        },
        "cover": {
            "kicker": f"Model package, {'review copy' if copy == 'review' else 'final copy with signatures'}",
            "title": title,
            "subtitle": name,
            "basis": "Evidence compared with: "
            + (", ".join(report["title"] for report in package["coverage"]) or "no framework")
            + ".",
            "stamp": stamp,
            "stamp-line": stamp_line,
            "identity": _identity(package),
            "verification": [
                [
                    "SHA-256 of the package",
                    [mono(groups(package_sha256, 32)), mono(groups(package_sha256[32:]), n=True)],
                ],
                ["Ledger", f"{ledger['origin']}, first {number(ledger['size'])} entries"],
                [
                    "Root of these entries",
                    [mono(groups(ledger["root"], 32)), mono(groups(ledger["root"][32:]), n=True)],
                ],
                ["Check it offline", [mono(verify_command)]],
                ["Seal of this file", "none; signatures cover the package, and the ledger keeps this file's hash"],
            ],
            "qr-alt": f"QR code with the SHA-256 of the package, {package_sha256}",
            "trial": TRIAL_TEXT if package["trial"] else "",
        },
        "blocks": blocks,
    }
    return soften(clean(view)), charts


def _identity(package: Json) -> list[list[Any]]:
    model = package["model"]
    run = package["training"]
    trained = f"entry {run['entry']['seq']}, {run['entry']['time']}" if run else "no sealed training run"
    commit: Any = [mono(run["code"]["commit"] or "not known")] if run else "–"
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


def status(package: Json, copy: Copy, signatures: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the stamp and the line under it. The stamp states what was signed, never that a release is allowed."""
    wanted = [stage for stage in package["required_stages"]["stages"] if stage["kind"] == "sign_off"]
    standing = standing_signatures(signatures)
    done = sum(_met(stage, standing) for stage in wanted)
    objections = [s for s in standing if s["decision"] in ("reject", "block")]
    conditions = sum(len(s.get("conditions", ())) for s in standing if s["decision"] == "approve_with_conditions")
    line = f"{done} of {len(wanted)} sign-off stages signed"
    line += f"; conditions: {conditions}" if conditions else ""
    line += f"; findings: {len(package['findings'])}"
    if copy == "review":
        return "FOR REVIEW", f"{line}. Not signed: a copy to be read before signing."
    if objections:
        names = ", ".join(str(s["name"]) for s in objections)
        return "NOT APPROVED", f"{line}; objections by {names}."
    if wanted and done == len(wanted):
        last = max(str(s["signed_at"]) for s in standing)
        return (
            "APPROVED WITH CONDITIONS" if conditions else "APPROVED BY ALL STAGES"
        ), f"{line}; last signature {last}."
    return "SIGNATURES INCOMPLETE", f"{line}."


def standing_signatures(signatures: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return each person's last word at each stage, in order of entry."""
    last = {(s["person"], s["stage"]): s for s in sorted(signatures, key=lambda s: int(s["entry_seq"]))}
    return sorted(last.values(), key=lambda s: int(s["entry_seq"]))


def _met(stage: Json, standing: Sequence[Mapping[str, Any]]) -> bool:
    approved = {
        s["person"]
        for s in standing
        if s["stage"] == stage["id"] and s["decision"] in ("approve", "approve_with_conditions")
    }
    return len(approved) >= int(stage["quorum"])


def _control(package: Json, copy: Copy) -> list[Block]:
    stages = package["required_stages"]
    policy = stages["policy"]
    counts = {
        word: sum(f["severity"] == word for f in package["findings"]) for word in ("high", "medium", "low", "note")
    }
    blocks = [
        heading("Document control"),
        key_values(
            [
                (
                    "Document",
                    f"{'Review' if copy == 'review' else 'Final'} copy of package revision {package['revision']}",
                ),
                (
                    "Earlier revision",
                    [mono(groups(package["previous_package"]))] if package["previous_package"] else "none",
                ),
                (
                    "Policy",
                    f"{policy['title']}, entry {policy['seq']}, tier {stages['tier']}"
                    if policy
                    else "no policy in force",
                ),
                (
                    "Approvals last",
                    f"{stages['approval_days']} days" if stages["approval_days"] else "not stated by the policy",
                ),
                ("Findings", ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"),
            ]
        ),
        heading("How to read this document", 2),
        paragraph(
            "People sign the attached package.json, not this page: its SHA-256 stands on the cover. Everything here is a rendering of it. "
            "Entry numbers name records of the ledger; the bundle that comes with this file proves them without this product. "
            "“Supported” means that the ledger holds evidence for a requirement, not that the requirement is met in law. "
            "Requirements are summarised in our words; how far each was checked against its source is said beside it. "
            "Characters that the fonts cannot show appear as [U+XXXX]; the attached file has the original text."
        ),
        heading("Summary of conclusions", 2),
    ]
    rows = []
    for report in package["coverage"]:
        law, guidance = report["mandatory"]["law"], report["mandatory"]["guidance"]
        scored = report["scored"]
        rows.append(
            [
                report["title"],
                report["scope"].replace("_", " "),
                f"{law['satisfied']} of {law['applicable']}" if scored and law["applicable"] else "–",
                f"{guidance['satisfied']} of {guidance['applicable']}" if scored and guidance["applicable"] else "–",
            ]
        )
    blocks += table(
        ["Framework", "Scope", "Law supported", "Guidance supported"],
        [46, 18, 18, 18],
        rows,
        right=(2, 3),
        empty="no framework in scope",
    )
    gates = package["gates"]["results"]
    rows = [
        [g["family"].replace("_", " "), "● pass" if g["status"] == "pass" else "○ fail", f"entry {g['entry']['seq']}"]
        for g in gates
    ]
    return blocks + table(
        ["Automated gate", "Result", "Recorded"], [46, 27, 27], rows, empty="no gate result on record"
    )


def _findings(package: Json) -> list[Block]:
    blocks = [heading("Findings")]
    if not package["findings"]:
        blocks.append(paragraph("None. No gate failed, and no mandatory requirement of law is without evidence."))
    for item in package["findings"]:
        cited = entries(item["entries"]) or "no entry: that is the finding"
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
                    ["Who, by when", f"{item['owner']}; {item['due']}"],
                ],
            }
        )
    return blocks


def _signatures(package: Json, copy: Copy, signatures: Sequence[Mapping[str, Any]]) -> list[Block]:
    blocks = [heading("Signatures")]
    wanted = [stage for stage in package["required_stages"]["stages"] if stage["kind"] == "sign_off"]
    if not wanted:
        blocks.append(paragraph("The policy asks for no signature of a person at this tier."))
    standing = list(standing_signatures(signatures)) if copy == "final" else []
    blocks.append(
        paragraph(
            "Each signature covers a statement that names this package by its SHA-256, the model file, the decision and its meaning. "
            "The statements lie in the ledger; below is what they say."
            if copy == "final"
            else "Open. Signatures are given with the signer's own key on a statement about this package; a mark on paper is none."
        )
    )
    for stage in wanted:
        label = (
            f"{stage['title']}: {stage['quorum']} × {stage['role'].replace('_', ' ')}, at least {stage['min_strength']}"
        )
        mine = [s for s in standing if s["stage"] == stage["id"]]
        blocks += [_filled(s, label) for s in mine]
        approved = {s["person"] for s in mine if s["decision"] in ("approve", "approve_with_conditions")}
        blocks += [{"t": "signature", "filled": False, "stage": label}] * max(0, int(stage["quorum"]) - len(approved))
    known = {stage["id"] for stage in wanted}
    blocks += [_filled(s, f"Stage {s['stage']}") for s in standing if s["stage"] not in known]
    return blocks


def _filled(item: Mapping[str, Any], label: str) -> Block:
    rows: list[list[Any]] = [
        ["Role", f"{str(item['role']).replace('_', ' ')} ({item['person']})"],
        ["Meaning", item["meaning"]],
        ["Signed (UTC)", item["signed_at"]],
        ["Method", f"{item['method']}, strength {item['level']}, key {item['key_id']}"],
        [
            "Statement",
            [mono(groups(str(item["statement_sha256"]), 32)), mono(groups(str(item["statement_sha256"])[32:]), n=True)],
        ],
        ["Ledger", f"entry {item['entry_seq']}"],
    ]
    if item.get("comments"):
        rows.insert(2, ["Comments", item["comments"]])
    for condition in item.get("conditions", ()):
        due = f" (due {condition['due']})" if condition.get("due") else ""
        rows.append(["Condition", [bold(f"{condition['text']}{due}")]])
    return {
        "t": "signature",
        "filled": True,
        "stage": label,
        "name": item["name"],
        "decision": str(item["decision"]).replace("_", " "),
        "rows": rows,
    }


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
