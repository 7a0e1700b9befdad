"""Coverage as printed: counts that add up, and every requirement with what supports it and what the sign-offs answered since. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from cognify_dagster.documents.labels import label, label_status, status_words, words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    bold,
    entries,
    good,
    heading,
    key_values,
    number,
    paragraph,
    small,
    table,
)
from cognify_dagster.documents.view.signatures import SignOffs, built_before, named

Json = dict[str, Any]
_DECIDED = {"approve": "approved", "approve_with_conditions": "approved with conditions"}
_SCOPE = {"in_scope": "in scope", "out_of_scope": "out of scope", "undetermined": "scope not determined"}


def coverage_blocks(package: Json, signed: SignOffs) -> list[Block]:
    """Each framework: scope, counts, and every requirement with what supports it."""
    blocks = [heading("Coverage by requirement")]
    if not package["coverage"]:
        return [*blocks, paragraph("No framework is in scope for this model.")]
    if signed.copy == "final":
        what = "The statuses below are those of the package that people signed, when nobody had signed it yet."
        blocks.append(built_before(package, f"{what} Rows that a sign-off has answered since say so in green."))
    for report in package["coverage"]:
        blocks += _framework(report, signed)
    return blocks


def counts(lines: Iterable[Json]) -> Counter[str]:
    """Count lines by label, apart from those that do not apply."""
    return Counter(label_status(line) for line in lines if line["status"] != "not_applicable")


def counted(report: Json, force: str) -> list[Json]:
    """Return the mandatory lines of a force."""
    return [line for line in report["lines"] if line["force"] == force and line["mandatory"]]


def answered_since(lines: Iterable[Json], signed: SignOffs) -> int:
    """Count the rows whose open points the sign-offs have answered since, all of them but what comes after the release."""
    return sum(_answered(line, signed) for line in lines)


def _answered(line: Json, signed: SignOffs) -> bool:
    signatures, left = signed.answers(line)
    return bool(signatures) and all(gap["after_release"] for gap in left)


def summary_rows(package: Json, signed: SignOffs) -> list[list[Cell]]:
    """One row for each framework and force: how many apply, and how many have which status."""
    rows: list[list[Cell]] = []
    for report in package["coverage"]:
        for force in ("law", "guidance"):
            lines = counted(report, force)
            if not lines or not report["scored"]:
                continue
            found = counts(lines)
            other = sum(found.values()) - sum(found[name] for name in _COLUMNS)
            row: list[Cell] = [
                f"{report['title']}: {force}, {_SCOPE[report['scope']]}",
                str(sum(found.values())),
                *(str(found[name]) for name in _COLUMNS),
                str(other),
            ]
            rows.append([*row, str(answered_since(lines, signed))] if signed.copy == "final" else row)
    return rows


_COLUMNS = ("satisfied", "missing", "needs_human", "unwritten", "after_release")


def summary_table(package: Json, signed: SignOffs) -> list[Block]:
    """The counts over the mandatory requirements that apply; each row adds up."""
    head = ["Framework", "Apply", "Evidence present", "Missing", "To judge", "To write", "After release", "Other"]
    widths: list[float] = [34, 9, 12, 11, 9, 9, 11, 9]
    if signed.copy == "final":
        head, widths = [*head, "Answered since"], [*widths, 13]
    blocks = table(
        head,
        widths,
        summary_rows(package, signed),
        caption="Mandatory requirements that apply, as of building",
        right=tuple(range(1, len(head))),
        empty="no framework in scope",
        size=8.4,
    )
    text = (
        "“Evidence present” to “Other” add up to “Apply”. “To judge” and “to write” are for a person; "
        "“other” is stale, insufficient data or declared unavailable."
    )
    if signed.copy == "final":
        text += " “Answered since” counts rows among them that needed only a signature and have it now."
    apart = [f"{r['title']} ({words(r['status'])})" for r in package["coverage"] if not r["scored"]]
    if apart:
        text += f" Listed below and not counted: {', '.join(apart)}."
    return [*blocks, paragraph(small(text))]


def _framework(report: Json, signed: SignOffs) -> list[Block]:
    facts: list[tuple[str, Cell]] = [
        ("Framework", f"{report['framework']}, template version {report['version']}, facts as of {report['as_of']}"),
        (
            "Scope",
            f"{_SCOPE[report['scope']]}, judged on {report['judged_on']} ({derivation(report['scope_derivation'])})",
        ),
        *((name.capitalize(), _score(report, name, signed)) for name in ("law", "guidance")),
    ]
    blocks = [heading(report["title"], 2), key_values(facts), paragraph(small(report["disclaimer"]))]
    for section in report["sections"]:
        rows = [_requirement(line, signed) for line in report["lines"] if line["section"] == section["id"]]
        blocks += table(
            ["Requirement", "What is asked, in our words", "Status", "Evidence and gaps"],
            [23, 29, 14, 34],
            rows,
            caption=section["title"],
            size=8.4,
        )
    for note in report["notes"]:
        blocks.append(paragraph(small(f"Note: {note}")))
    return blocks


def _score(report: Json, force: str, signed: SignOffs) -> Cell:
    if not report["scored"]:
        return f"not scored (the text is {words(report['status'])})"
    mandatory = counted(report, force)
    optional = [line for line in report["lines"] if line["force"] == force and not line["mandatory"]]
    if not mandatory and not optional:
        return "no requirement of this kind"
    shown: list[Json] = []
    if mandatory:
        shown.append({"v": f"mandatory: {in_words(mandatory)}"})
        since = answered_since(mandatory, signed)
        if since:
            shown.append(good(f"answered since by sign-offs: {since}", n=True))
    if optional:
        shown.append({"v": f"optional: {in_words(optional)}", "n": bool(shown)})
    return shown


def in_words(lines: list[Json]) -> str:
    """Return "n of m with evidence; k missing; j need a person; l after release", without what is none."""
    found = counts(lines)
    people = found["needs_human"] + found["unwritten"]
    outside = sum(line["status"] == "not_applicable" for line in lines)
    if not found:
        return f"none applies ({outside} not applicable)"
    parts = [f"{found['satisfied']} of {sum(found.values())} with evidence"]
    if found["missing"]:
        parts.append(f"{found['missing']} missing")
    if people:
        split = [f"{found[name]} {verb}" for name, verb in (("needs_human", "to judge"), ("unwritten", "to write"))]
        parts.append(f"{people} need a person ({', '.join(part for part in split if part[0] != '0')})")
    if found["after_release"]:
        parts.append(f"{found['after_release']} after release")
    parts += [f"{found[name]} {words(name)}" for name in ("stale", "insufficient_data", "declared_unavailable")]
    text = "; ".join(part for part in parts if not part.startswith("0 ") or part is parts[0])
    return f"{text}. Not applicable: {outside}" if outside else text


def derivation(steps: list[Json]) -> str:
    """Return how a condition came out, fact by fact."""
    holds = {True: "holds", False: "does not hold", None: "not stated"}
    found = [f"{label(str(s['fact']))}: {number(s['actual'])}, {holds[s['holds']]}" for s in steps]
    return "; ".join(found) or "no condition"


def _requirement(line: Json, signed: SignOffs) -> list[Cell]:
    force = line["force"] + ("" if line["mandatory"] else ", optional")
    name: Cell = [bold(line["id"]), small(line["citation"], n=True), small(f"{force}; {line['basis_text']}", n=True)]
    signatures, left = signed.answers(line)
    status: list[Json] = [{"v": status_words(label_status(line))}]
    if signatures:
        rest = [gap for gap in left if not gap["after_release"]]
        status.append(good("answered in part since" if rest else "answered since", n=True))
    shown: list[Json] = []
    for text in line["supports"]:
        shown.append({"v": text, "n": bool(shown)})
    if line["entries"]:
        shown.append(small(entries(line["entries"]), n=bool(shown)))
    for gap in line["gaps"]:
        if signatures and gap not in left:
            continue
        word = "After release: " if gap["after_release"] else "Open: "
        shown.append({"v": word, "i": True, "n": bool(shown)})
        shown.append({"v": gap["text"]})
        shown.append(small(f" ({gap['who']})"))
    for item in signatures:
        shown.append(good(f"Answered since: {_DECIDED[item['decision']]} by {named(item)}", n=bool(shown)))
    if line["status"] == "not_applicable":
        shown.append(small(derivation(line["derivation"]), n=bool(shown)))
    return [name, line["paraphrase"], status, shown or "–"]
