"""What `cognify package show`, `diff` and `list` print for people."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from cognify_dagster.cli.inputs import program
from cognify_dagster.cli.output import clean, heading, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.records import Package
    from cognify_dagster.workspace import Reading, Recorded, Workspace

Json = dict[str, Any]
_CONTEXT = 60


def show_summary(workspace: Workspace, reading: Reading, found: Recorded[Package], content: Json) -> None:
    """Print a package so that it can be read in a terminal: what it is, what is on record, what is open."""
    from cognify_dagster.documents.html.recorded import signatures_of
    from cognify_dagster.documents.labels import words
    from cognify_dagster.documents.view.blocks import interval, number
    from cognify_dagster.documents.view.whole import on_record

    record = found.record
    trial_banner(reading.trial)
    heading(f"{record.model} {record.version}, package revision {record.revision}")
    model = content["model"]
    pairs(
        [
            ("Title", model["title"] or model["key"]),
            ("Owner, tier", f"{model['owner']}; {model['risk_tier']}"),
            ("Intended use", model["intended_use"] or "not stated"),
            ("Replaces", f"version {content['supersedes']}" if content["supersedes"] else "no deployed version"),
            ("Package", record.package.digest),
            ("Entry", f"{found.seq}, leaf {found.leaf}"),
            ("Model file", record.model_digest),
            ("Built", f"{content['created']} by {record.built_by}, from the first {record.built_from_size} entries"),
            *((name, text) for name, text in on_record(content)),
        ]
    )
    rows: list[tuple[object, ...]]
    result = content["evaluation"]
    if result is not None and result["metrics"]:
        rows = [
            (m["name"], number(m["value"]), interval(m["ci_low"], m["ci_high"]), number(m["n"]))
            for m in result["metrics"]
        ]
        table(("metric", "value", "interval", "records"), rows)
    outcomes = content["gates"]["outcomes"]
    if outcomes:
        rows = [
            (o["id"], o["metric"], number(o["value"]), f"{o['op']} {o['threshold']}", o["status"]) for o in outcomes
        ]
        table(("gate", "metric", "value", "limit", "result"), rows)
    if record.coverage:
        table(
            ("framework", "state", "law", "guidance"),
            [(p.framework, words(p.status), _counts(p.law), _counts(p.guidance)) for p in record.coverage],
        )
    if content["findings"]:
        table(
            ("finding", "severity", "title", "owner", "due"),
            [
                tuple(item.get(name, "") for name in ("id", "severity", "title", "owner", "due"))
                for item in content["findings"]
            ],
        )
    else:
        say("No findings.")
    signed = signatures_of(reading, found)
    if signed:
        rows = [(s["name"], words(s["role"]), s["stage"], words(s["decision"]), s["signed_at"]) for s in signed]
        table(("signed by", "role", "stage", "decision", "when (UTC)"), rows)
    else:
        say("Nobody has signed this package.")
    _copies(workspace, found)


def _copies(workspace: Workspace, found: Recorded[Package]) -> None:
    record, name = found.record, program(workspace)
    rows = [
        ("Read it", f"{name} package show {record.model} {record.version} --html {record.model}-{record.version}.html")
    ]
    if record.review_copy is not None:
        rows.append(
            (
                "PDF on record",
                f"{name} package show {record.model} {record.version} --pdf {record.model}-{record.version}.pdf",
            )
        )
    for label, item, suffix in (
        ("Review copy", record.review_copy, "review.pdf"),
        ("Model card", record.model_card, "card.md"),
        ("Package JSON", record.package, "package.json"),
    ):
        if item is not None:
            rows.append((label, f"{name} evidence get {item.digest} -o {record.model}-{record.version}-{suffix}"))
    pairs(rows)


def _counts(counts: dict[str, int]) -> str:
    from cognify_dagster.documents.labels import STATUS_LABELS, words

    return "\n".join(f"{count} {STATUS_LABELS.get(n, words(n))}" for n, count in sorted(counts.items())) or "–"


def show_index(rows: list[Json]) -> None:
    """Print all packages, model by model."""
    if not rows:
        say("No package is on record.")
        return
    table(
        ("model", "version", "package", "built (UTC)", "signed by", "deployed on", "digest"),
        [
            (
                row["model"],
                row["version"],
                f"revision {row['revision']}{'' if row['newest'] else ' (replaced)'}",
                row["time"],
                row["signatures"] or "nobody",
                ", ".join(row["deployed_on"]) or "–",
                row["digest"][:19] + "…",
            )
            for row in rows
        ],
    )


def show_comparison(result: Json) -> None:
    """Print what differs between two packages, part by part, and which parts are equal."""
    old, new = result["before"], result["after"]
    heading(f"{old['model']}: version {old['version']} and version {new['version']}")
    pairs(
        [
            (f"Version {side['version']}", f"package revision {side['revision']}, {side['created']}, {side['digest']}")
            for side in (old, new)
        ]
    )
    equal = [name for name, rows in result["parts"].items() if not rows]
    for name, rows in result["parts"].items():
        if not rows:
            continue
        say()
        heading(f"{name.capitalize()}: {len(rows)} {'difference' if len(rows) == 1 else 'differences'}")
        if name == "metrics":
            table(("metric", "before", "after", "difference", "intervals"), [_metric(row) for row in rows])
        else:
            table(("what", "before", "after"), [(r["field"], _value(r["before"]), _value(r["after"])) for r in rows])
    for text in result["texts"]:
        say()
        heading(f"Text of {text['title']}, word by word: [-removed-] {{+added+}}")
        say(clean(marked(text["words"]), keep_newlines=True))
    if equal:
        say()
        say(f"Equal: {', '.join(equal)}.")


def _metric(row: Json) -> tuple[str, str, str, str, str]:
    from cognify_dagster.documents.view.blocks import interval, number

    def side(found: Json | None) -> str:
        if found is None:
            return "–"
        return f"{number(found['value'])}\n{interval(found['ci_low'], found['ci_high'])}"

    delta = "–" if row["delta"] is None else f"{row['delta']:+.4f}"
    apart = {True: "apart", False: "overlap", None: "–"}[row["apart"]]
    return row["field"], side(row["before"]), side(row["after"]), delta, apart


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str) and re.fullmatch(r"(sha256:)?[0-9a-f]{40,}", value):
        return value.removeprefix("sha256:")[:16] + "…"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def marked(words: list[list[str]]) -> str:
    """Return a comparison of texts on one stretch: equal parts shortened, changed parts marked. Marks in the texts stay as they are."""
    shown = []
    for at, (mark, text) in enumerate(words):
        if mark == "=":
            ends = at > 0, at < len(words) - 1
            shown.append(_shortened(text, *ends))
        else:
            shown.append(f"[-{text}-]" if mark == "-" else f"{{+{text}+}}")
    return "".join(shown)


def _shortened(text: str, after_change: bool, before_change: bool) -> str:
    """Equal text between changes: its beginning where a change comes before it, its end where one follows."""
    if len(text) <= 2 * _CONTEXT:
        return text
    start = text[:_CONTEXT] if after_change else ""
    end = text[-_CONTEXT:] if before_change else ""
    return f"{start} … {end}" if start or end else text[: 2 * _CONTEXT] + " …"
