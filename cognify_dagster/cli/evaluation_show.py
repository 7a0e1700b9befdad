"""What `cognify evaluation` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cognify_dagster.cli.output import clean, heading, moment, pairs, say, table

if TYPE_CHECKING:
    from cognify_dagster.evaluation import DecisionExplanation
    from cognify_dagster.records import Comparison, Evaluation
    from cognify_dagster.workspace import Reading, Recorded


def number(value: object) -> str:
    """Return a number in six significant digits; text as it is, nothing for None."""
    if value is None:
        return ""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:.6g}" if known else str(value)


def span(low: object, high: object) -> str:
    """Return an interval, or nothing where there is none."""
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def show_record(reading: Reading, found: Recorded[Evaluation]) -> None:
    """Print an evaluation: who measured what on which data, the numbers, and what they are evidence for."""
    from cognify_dagster.governance import directory

    record = found.record
    heading(f"{record.model} {record.version}, evaluation entry {found.seq}: {record.status}")
    people = directory(reading)
    known, _ = people.resolve([record.evaluator])
    tool = record.evaluator_code
    pairs(
        [
            ("Evaluated by", f"{record.evaluator}" + (f" ({people.name(known[0])})" if known else "")),
            ("At", moment(found.time_us)),
            ("Code", record.code.commit or record.code.vcs),
            *([("Measuring tool", f"{tool.vcs} {tool.commit}")] if tool else []),
            ("Data", f"{record.dataset.name}, root {record.dataset.root}, entry {record.dataset.seq}"),
            ("Model file", record.model_digest),
            ("Gate set", f"{record.gate_set}, adopted in entry {record.gate_set_seq}"),
            ("Protected attributes", ", ".join(record.protected_attributes) or "none declared"),
        ]
    )
    _tables(record)
    for note in record.notes:
        say(f"Note: {clean(note)}")


def _tables(record: Evaluation) -> None:
    table(
        ("metric", "value", "interval", "records", "is evidence for"),
        [
            (m.name, number(m.value), span(m.ci_low, m.ci_high), number(m.n), m.objective or "unmapped")
            for m in record.metrics
        ],
    )
    if record.slices:
        worst = record.worst_site
        rows: list[tuple[object, ...]] = []
        for one in record.slices:
            mark = " (worst site)" if one is worst else ""
            if not one.metrics:
                rows.append((one.attribute, one.value + mark, one.n, "", "", one.status))
            rows += [
                (one.attribute, one.value + mark, m.n, m.name, number(m.value), span(m.ci_low, m.ci_high) or m.status)
                for m in one.metrics
            ]
        table(("cut by", "value", "records", "metric", "result", "interval"), rows)
    _groups(record)
    if record.benchmarks:
        table(
            ("benchmark", "version", "shots", "metric", "value", "interval", "questions", "is evidence for"),
            [
                (
                    b.task,
                    b.version,
                    number(b.n_shot),
                    b.metric_name.removeprefix(f"{b.task}."),
                    number(b.value),
                    span(b.ci_low, b.ci_high),
                    number(b.n) if b.n == b.n_available else f"{number(b.n)} of {number(b.n_available)}",
                    b.objective or "unmapped",
                )
                for b in record.benchmarks
            ],
        )
    for comparison in record.comparisons:
        comparison_table(comparison)
    if record.perturbations:
        table(
            ("feature", "change", "size", "metric", "before", "after", "decisions changed", "status"),
            [
                (
                    p.feature,
                    p.transformation,
                    f"{number(p.size)} {p.unit}".strip(),
                    p.metric,
                    number(p.before),
                    number(p.after),
                    number(p.flipped),
                    p.note or p.status,
                )
                for p in record.perturbations
            ],
        )
    if record.explanations:
        table(
            ("explanation", "method", "of", "count", "largest effects", "file"),
            [
                (e.scope, e.method, e.output, e.count, ", ".join(f.name for f in e.top[:5]), e.item.digest)
                for e in record.explanations
            ],
        )
    table(
        ("gate", "family", "metric", "must be", "value", "result"),
        [(o.id, o.family, o.metric, f"{o.op} {o.threshold:g}", number(o.value), o.status) for o in record.outcomes],
    )


def _groups(record: Evaluation) -> None:
    rows: list[tuple[object, ...]] = []
    gaps: list[tuple[object, ...]] = []
    for result in record.fairness:
        for group in result.get("groups") or ():
            rate: dict[str, Any] = group.get("selection_rate") or {}
            rows.append(
                (
                    result.get("attribute"),
                    group.get("group"),
                    number(group.get("n")),
                    number(rate.get("value")),
                    span(rate.get("ci_low"), rate.get("ci_high")),
                    group.get("status"),
                )
            )
        for gap in result.get("disparities") or ():
            shown = number(gap.get("value")) or str(gap.get("status"))
            gaps.append((result.get("attribute"), gap.get("name"), shown, span(gap.get("ci_low"), gap.get("ci_high"))))
    if rows:
        table(("attribute", "group", "records", "favourable", "interval", "status"), rows)
        table(("attribute", "comparison", "value", "interval"), gaps)


def comparison_table(found: Comparison) -> None:
    """Print a comparison with a champion."""
    heading(f"{found.challenger.name} against {found.champion.name}, both on {found.dataset.name}")
    say(f"Root {found.dataset.root}. {clean(found.method)}.")
    table(
        ("metric", "champion", "challenger", "difference", "interval", "verdict"),
        [
            (
                row.name,
                number(row.champion),
                number(row.challenger),
                number(row.difference),
                span(row.ci_low, row.ci_high),
                row.verdict.replace("_", " "),
            )
            for row in found.metrics
        ],
    )
    for note in found.notes:
        say(f"Note: {clean(note)}")


def show_explanation(found: DecisionExplanation, top: int) -> None:
    """Print why one decision came out as it did."""
    heading(f"Decision {found.decision}: {found.method}")
    pairs(
        [
            ("Explained", found.output or "not stated"),
            ("Starts from", number(found.base_value) or "not stated"),
            ("Output", number(found.output_value) or "not stated"),
            ("Evidence", f"{found.item.name}, {found.item.digest} (checked), evaluation entry {found.entry}"),
        ]
    )
    table(
        ("feature", "value", "contribution"),
        [(name, number(found.inputs.get(name)), number(value)) for name, value in found.contributions[:top]],
    )
    rest = len(found.contributions) - top
    if rest > 0:
        say(f"{rest} smaller contributions are not shown; see --top or --json.")
