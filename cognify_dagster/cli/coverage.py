"""`cognify coverage`: what the ledger shows for each requirement of the frameworks of a model version."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import finish
from cognify_dagster.cli.frameworks_folder import folder_option, own_folder
from cognify_dagster.cli.inputs import MODEL, TIME, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.documents.coverage.consistency import Lost
    from cognify_dagster.documents.coverage.engine import CoverageReport, Line

GAPS = 6
"""Exit code of --fail-on-gaps where a mandatory requirement needs work; no other command ends with it."""


@click.command(cls=Command, name="coverage")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "--framework", "frameworks", multiple=True, help="Only this framework; repeatable. One may be out of scope."
)
@folder_option
@click.option(
    "--at", "moment", type=TIME, help="Judge ages and dates at this moment, such as 2026-11-21.  [default: now]"
)
@click.option(
    "--all", "all_", is_flag=True, help="Show the requirements with evidence and those that do not apply, too."
)
@click.option("--fail-on-gaps", is_flag=True, help=f"End with code {GAPS} if a mandatory requirement needs work.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    version: str,
    frameworks: tuple[str, ...],
    folder: Path | None,
    moment: str | None,
    all_: bool,
    fail_on_gaps: bool,
    json_: bool,
) -> None:
    """Compare a version with its frameworks: counts for law and guidance apart, each open requirement, and who does what.

    It is computed from the ledger as it stands now and judges nothing for good: a status is evidence for a reader. With
    --fail-on-gaps, what only waits for a signature or for the release is no gap.

    \b
    Example:
      cognify coverage credit_default 3
      cognify coverage credit_default 3 --framework fair-lending --json
      cognify coverage credit_default 3 --fail-on-gaps
    """
    from cognify_dagster.documents import collect, load_framework
    from cognify_dagster.documents.coverage.consistency import consistency
    from cognify_dagster.documents.coverage.engine import assess_coverage

    own = own_folder(ctx, folder)
    reading = open_workspace(ctx).read()
    facts = collect(reading, model, version)
    names = list(dict.fromkeys(frameworks or (facts.registered.record.frameworks if facts.registered else ())))
    now = datetime.now(timezone.utc)
    if moment is not None:
        now = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    reports = [assess_coverage(facts, load_framework(name, own), now) for name in names]
    lost = consistency(facts)
    if json_:
        as_json(
            {
                "model": model,
                "version": version,
                "trial": reading.trial,
                "ledger": {"origin": facts.origin, "size": facts.size, "root": facts.root},
                "judged_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "frameworks": [_report(report) for report in reports],
                "less_than_before": [_lost(item) for item in lost],
            }
        )
    else:
        trial_banner(reading.trial)
        if not reports:
            say(f"{model} names no framework; name some where the model is defined, or one here with --framework.")
        for report in reports:
            _print(report, all_=all_)
        if lost:
            heading(f"Version {lost[0].version} had, and {version} lacks")
            table(("kind", "what", "entry"), [(item.kind, item.text, item.entry.seq) for item in lost])
    if fail_on_gaps and any(report.to_do() for report in reports):
        finish(GAPS)


def _report(report: CoverageReport) -> dict[str, Any]:
    from cognify_dagster.documents.package.building import line_json

    framework = report.framework
    return {
        "framework": framework.id,
        "version": framework.version,
        "title": framework.title,
        "digest": framework.digest(),
        "status": framework.status,
        "scored": report.scored,
        "scope": report.scope,
        "scope_derivation": [dict(step) for step in report.scope_derivation],
        "law": report.counts("law"),
        "guidance": report.counts("guidance"),
        "mandatory": {force: _score(report, force) for force in ("law", "guidance")},
        "needs_work": [line.requirement.id for line in report.to_do()],
        "lines": [line_json(line) for line in report.lines],
    }


def _score(report: CoverageReport, force: str) -> dict[str, int]:
    satisfied, applicable = report.score(force)
    return {"satisfied": satisfied, "applicable": applicable}


def _lost(item: Lost) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "text": item.text,
        "version": item.version,
        "entry": {"seq": item.entry.seq, "leaf": item.entry.leaf},
    }


def _print(report: CoverageReport, *, all_: bool) -> None:
    from cognify_dagster.documents.labels import STATUS_LABELS, label_status
    from cognify_dagster.documents.package.building import line_json

    framework = report.framework
    heading(f"{framework.id} {framework.version}: {framework.title}")
    rows: list[tuple[str, object]] = [("State", framework.status.replace("_", " "))]
    if not report.scored:
        rows.append(("Counted", "no: listed only, not in force on this day"))
    rows.append(("Scope", _scope(report)))
    for force in ("law", "guidance"):
        lines = [line for line in report.counted() if line.requirement.force == force]
        if lines:
            satisfied, applicable = report.score(force)
            counts = Counter(label_status(line_json(line)) for line in lines)
            words = ", ".join(f"{STATUS_LABELS[status]} {number}" for status, number in sorted(counts.items()))
            rows.append(
                (force.capitalize(), f"{words} (mandatory: {satisfied} of {applicable} with evidence and judgement)")
            )
    pairs(rows)
    shown = [line for line in report.lines if all_ or line.open]
    if shown:
        table(
            ("requirement", "status", "what is open", "who"),
            [(_name(line), STATUS_LABELS[label_status(line_json(line))], _open(line), _who(line)) for line in shown],
        )
    hidden = len(report.lines) - len(shown)
    if hidden:
        say(f"{hidden} more with evidence, or that do not apply: --all shows them.")
    say(clean(framework.disclaimer))
    say()


def _scope(report: CoverageReport) -> str:
    if report.scope == "in_scope":
        return "applies to this model by the facts that were stated"
    steps = [step for step in report.scope_derivation if step["holds"] is not True]
    facts = ", ".join(dict.fromkeys(f"{step['fact']} is {_value(step['actual'])}" for step in steps))
    if report.scope == "out_of_scope":
        return f"does not apply by the facts that were stated ({facts})"
    return f"open until these facts are stated: {facts}"


def _value(value: Any) -> str:
    return "not stated" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _name(line: Line) -> str:
    item = line.requirement
    return f"{item.id}\n{item.force}{'' if item.mandatory else ', not mandatory'}\n{item.citation}"


def _open(line: Line) -> str:
    if line.status == "not_applicable":
        return "\n".join(
            f"{step['fact']} is {_value(step['actual'])}" for step in line.derivation if step["holds"] is not True
        )
    if not line.open:
        entries = ", ".join(str(ref.seq) for ref in line.entries)
        return "\n".join([*line.supports, f"entries {entries}"])
    return "\n".join(gap.text for gap in line.gaps)


def _who(line: Line) -> str:
    return "\n".join(dict.fromkeys(gap.who for gap in line.gaps))
