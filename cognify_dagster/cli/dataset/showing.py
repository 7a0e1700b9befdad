"""`cognify dataset show` and `questions`: what is on record about a dataset, and who changed and approved it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.dataset.finding import DATASET, ROOT, require_dataset
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.inputs import OUT_FILE, json_option, open_workspace, write_new
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, table, trial_banner
from cognify_dagster.cli.overseeing import now

if TYPE_CHECKING:
    from cognify_dagster.governance import Change, Directory
    from cognify_dagster.workspace import Reading


root_option = click.option(
    "--root", type=ROOT, metavar="HEX", help="The root, or its first 8 or more digits; the newest unless given."
)


@command.command("show")
@click.argument("name", type=DATASET, required=False)
@root_option
@click.option("--history", is_flag=True, help="Every change, the newest last.")
@json_option
@click.pass_context
def show(ctx: click.Context, name: str | None, root: str | None, history: bool, json_: bool) -> None:
    """Show a dataset: what changed, when, who made the change, why, who approved it. Without NAME all datasets.

    \b
    Example:
      cognify dataset show loans_train --history
    """
    from cognify_dagster.governance import changes_of, directory, find_change

    reading = open_workspace(ctx).read()
    people = directory(reading)
    if name is None or _partitions(reading, name):
        _list(reading, people, json_, name)
        return
    require_dataset(reading, name)
    newest = find_change(reading, name, root)
    found = [newest] if root or not history else changes_of(reading, people, name)
    if json_:
        as_json({"dataset": name, "changes": [change_json(reading, people, change) for change in found]})
        return
    trial_banner(reading.trial)
    if history and not root:
        heading(f"Changes of dataset {name}:")
        table(
            ("Entry", "Time (UTC)", "Root", "Author", "Reason", "Decided", "Difference"),
            [_row(reading, people, change) for change in found],
        )
        return
    _print(reading, people, newest)


def _partitions(reading: Reading, name: str) -> list[str]:
    """The partitions of a dataset that is snapshotted by partition only."""
    from cognify_dagster.records import DatasetSnapshot

    names = {item.record.name for item in reading.all(DatasetSnapshot, f"dataset/{name}")}
    return [] if name in names else sorted(names)


def _list(reading: Reading, people: Directory, json_: bool, name: str | None) -> None:
    from cognify_dagster.governance import changes_of
    from cognify_dagster.records import DatasetSnapshot

    names = _partitions(reading, name) if name else sorted({item.record.name for item in reading.all(DatasetSnapshot)})
    newest = [changes_of(reading, people, name)[-1] for name in names]
    if json_:
        as_json({"datasets": [change_json(reading, people, change) for change in newest]})
        return
    trial_banner(reading.trial)
    if not newest:
        say(
            "No dataset was snapshotted here yet: materialize a snapshot asset, or see `cognify dataset snapshot --help`."
        )
        return
    table(
        ("Dataset", "Entry", "Time (UTC)", "Root", "Author", "Reason", "Decided"),
        [(change.name, *_row(reading, people, change)[:-1]) for change in newest],
    )


def _row(reading: Reading, people: Directory, change: Change) -> tuple[object, ...]:
    return (
        change.item.seq,
        moment(change.item.time_us),
        f"{change.root[:12]}…",
        author_of(people, change),
        change.reason or ("first snapshot" if change.old is None else "reason missing"),
        ", ".join(decided(people, change)) or _undecided(reading, change).partition(" by ")[0],
        str(change.diff.record.summary.get("text", "")) if change.diff is not None else "not computed yet",
    )


def author_of(people: Directory, change: Change) -> str:
    """Return the name of who had the snapshot taken."""
    author = change.item.record.author
    return people.name(author) if author else "not stated"


def decided(people: Directory, change: Change) -> list[str]:
    """Return who decided what about a change, as far as it counts."""
    word = {"approve": "approved", "reject": "rejected"}
    return [
        f"{word[one.item.record.decision]} by {people.name(one.item.record.decided_by)} (entry {one.item.seq})"
        for one in change.newest.values()
    ]


def _undecided(reading: Reading, change: Change) -> str:
    """That nobody decided is a lack only where the policy asks somebody to, for models of whatever tier."""
    from cognify_dagster.governance import policy_in_force

    asked = [one for one in policy_in_force(reading).policy.datasets if one.approval is not None]
    return "not approved" if any(one.fits(change.name) for one in asked) else "not asked for by the policy"


def _print(reading: Reading, people: Directory, change: Change) -> None:
    record = change.item.record
    heading(f"Dataset {change.name}")
    reason = change.reasons[-1] if change.reasons else None
    given = f" ({people.name(reason.person)}, entry {reason.seq})" if reason and reason.person else ""
    rows: list[tuple[str, object]] = [
        ("Root", change.root),
        ("Root before", change.old_root or "none, the first snapshot"),
        ("Entry", f"{change.item.seq}, {moment(change.item.time_us)}"),
        ("Author", author_of(people, change)),
        (
            "Reason",
            (change.reason + given) if change.reason else "none needed" if change.old is None else "reason missing",
        ),
        ("Decided", "; ".join(decided(people, change)) or _undecided(reading, change)),
        ("Difference", str(change.diff.record.summary.get("text", "")) if change.diff else "not computed yet"),
        ("Its digest", f"{change.diff.record.diff_digest} (entry {change.diff.seq})" if change.diff else "–"),
        ("Records", record.record_count if record.record_count is not None else "not a table"),
        ("Files", f"{record.file_count}, {record.total_bytes} bytes"),
        ("Hashed", _hashed(record.header)),
        ("Code", _code(record.code)),
        ("Missing provenance", ", ".join(record.missing_provenance) or "none"),
        ("No purpose stated for", ", ".join(record.unjustified_columns) or "no column"),
    ]
    rows += [
        (f"Provenance: {key}", _shown(value)) for key, value in sorted(record.provenance.items()) if _stated(value)
    ]
    rows += [
        (
            f"Made from {item.kind}",
            f"{item.name}, version {item.version or 'not known'}, {item.time or 'time not known'}",
        )
        for item in record.sources
    ]
    rows += [
        (
            f"Left out by {rule.rule}",
            f"{rule.rows_before - rule.rows_after} of {rule.rows_before} ({rule.verified or 'stated only'})",
        )
        for rule in record.exclusions
    ]
    rows += [
        (f"Check {item.name}", f"{item.status}{f': {item.detail}' if item.detail else ''}") for item in record.quality
    ]
    pairs(rows)
    for text, who in _missing(reading, people, change):
        say(f"Missing: {clean(text)} → {clean(who)}")
    for one in change.decisions:
        if one.why is not None:
            say(f"Entry {one.item.seq} does not count: {clean(one.why)}")


def _stated(value: Any) -> bool:
    return value not in (None, "", [], {}) and not isinstance(value, list)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {item}" for key, item in value.items())
    return "yes" if value is True else "no" if value is False else str(value)


def _hashed(header: Mapping[str, Any]) -> str:
    counts = header.get("evidence")
    if not isinstance(counts, Mapping):
        return "not stated"
    from cognify_dagster.cli.dataset.snapshotting import known_by

    return known_by(counts)


def _code(code: Any) -> str:
    if code is None:
        return "not captured"
    if not code.commit or code.vcs == "none":
        return "not under version control"
    return f"{code.vcs} {code.commit}{' with uncommitted changes' if code.dirty else ''}".strip()


def _missing(reading: Reading, people: Directory, change: Change) -> list[tuple[str, str]]:
    from cognify_dagster.governance import missing_for, policy_in_force

    policy = policy_in_force(reading).policy
    seq = change.entries[-1].seq
    return [(one.text, one.resolved_by) for one in missing_for(reading, people, policy, change.name, seq, None)]


def change_json(reading: Reading, people: Directory, change: Change) -> dict[str, Any]:
    """Return a change as JSON values."""
    record = change.item.record
    return {
        "dataset": change.name,
        "entry": change.item.seq,
        "leaf": change.item.leaf,
        "time": moment(change.item.time_us),
        "root": change.root,
        "old_root": change.old_root,
        "entries": [item.seq for item in change.entries],
        "author": record.author or None,
        "author_name": author_of(people, change),
        "touched_by": list(record.touched_by),
        "reason": change.reason or None,
        "reason_missing": change.reason_missing,
        "reasons": [{"entry": one.seq, "text": one.text, "person": one.person or None} for one in change.reasons],
        "state": change.state,
        "decisions": [
            {
                "entry": one.item.seq,
                "time": moment(one.item.time_us),
                "person": one.item.record.decided_by,
                "name": people.name(one.item.record.decided_by),
                "role": one.item.record.role,
                "decision": one.item.record.decision,
                "comment": one.item.record.comment,
                "diff_digest": one.item.record.diff_digest,
                "counts": one.why is None,
                "why": one.why,
            }
            for one in change.decisions
        ],
        "diff": None
        if change.diff is None
        else {
            "entry": change.diff.seq,
            "digest": change.diff.record.diff_digest,
            "summary": change.diff.record.summary,
            "report": change.diff.record.report.digest if change.diff.record.report else None,
        },
        "missing": [{"text": text, "resolved_by": who} for text, who in _missing(reading, people, change)],
        "snapshot": record.facts(),
    }


@command.command("questions")
@click.argument("name", type=DATASET)
@root_option
@json_option
@click.pass_context
def questions(ctx: click.Context, name: str, root: str | None, json_: bool) -> None:
    """Answer the six questions about a dataset, each with the ledger entry that it rests on.

    Who collected it, where it comes from, when, on which basis, what was done to it, who used it. Exit code 1 if an answer is missing.

    \b
    Example:
      cognify dataset questions loans_train --json
    """
    from cognify_dagster.documents.outputs.provenance import six_answers
    from cognify_dagster.governance import find_change

    reading = open_workspace(ctx).read()
    require_dataset(reading, name)
    item = find_change(reading, name, root).entries[-1]
    found = six_answers(reading, item, now())
    missing = [str(about) for _, rows in found for about, answer, _ in rows if str(answer).startswith("Not recorded")]
    if json_:
        as_json(
            {
                "dataset": name,
                "root": item.record.root,
                "entry": item.seq,
                "questions": [_question(number, *one) for number, one in enumerate(found, 1)],
                "missing": missing,
            }
        )
    else:
        trial_banner(reading.trial)
        heading(f"Six questions about dataset {name}, root {item.record.root} (entry {item.seq})")
        for number, (question, rows) in enumerate(found, 1):
            say()
            heading(f"{number}. {question}")
            table(("About", "Answer", "Evidence"), [tuple(map(str, row)) for row in rows])
        if missing:
            say(f"Not recorded: {clean(', '.join(missing))}")
    if missing:
        ctx.exit(1)


def _question(number: int, question: str, rows: Any) -> dict[str, Any]:
    answers = []
    for about, answer, evidence in rows:
        entries = [int(seq) for seq in re.findall(r"(?:entry|after) (\d+)", str(evidence))]
        answers.append({"about": str(about), "answer": str(answer), "recorded": bool(entries), "entries": entries})
    return {"number": number, "question": question, "answers": answers}


@command.command("provenance")
@click.argument("name", type=DATASET)
@root_option
@click.option("-o", "--out", type=OUT_FILE, metavar="FILE", help="Write the JSON to a new file.")
@json_option
@click.pass_context
def provenance(ctx: click.Context, name: str, root: str | None, out: Path | None, json_: bool) -> None:
    """Print where a dataset comes from as the elements of the Data Provenance Standards (Data & Trust Alliance), and what is not stated.

    \b
    Example:
      cognify dataset provenance loans_train -o loans_train.provenance.json
    """
    from cognify_dagster.documents.outputs.data_provenance import data_provenance
    from cognify_dagster.governance import find_change

    reading = open_workspace(ctx).read()
    require_dataset(reading, name)
    value = data_provenance(reading, find_change(reading, name, root).entries[-1])
    if out is not None:
        write_new(out, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
    if json_:
        as_json(value)
        return
    trial_banner(reading.trial)
    heading(f"Provenance of dataset {name}, root {value['root']} (entry {value['entry']})")
    for group in ("source", "provenance", "use"):
        pairs((f"{group}.{key}", _element(item)) for key, item in value[group].items())
    say(f"Not stated: {clean(', '.join(value['not_stated'])) or 'nothing'}")
    if out is not None:
        say(f"Written to {clean(out)}")


def _element(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
