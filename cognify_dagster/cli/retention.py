"""`cognify retention`: how long entries must be kept, and what is due."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import (
    IN_FILE,
    TIME,
    check_yaml,
    json_option,
    open_workspace,
    signing_options,
)
from cognify_dagster.cli.joint import ask, recorded, unlocked
from cognify_dagster.cli.output import as_json, clean, say, table, trial_banner
from cognify_dagster.cli.retention_propose import propose

if TYPE_CHECKING:
    from cognify_dagster.records import RetentionRule


@click.group(cls=Group, name="retention")
def command() -> None:
    """How long entries are kept: the rules in force, adopting others, what is due. Nothing is deleted on its own.

    \b
    Example:
      cognify retention due
    """


@command.command("show")
@click.option("--seq", type=click.IntRange(0), help="Which rules apply to this entry, the longest first.")
@json_option
@click.pass_context
def show(ctx: click.Context, seq: int | None, json_: bool) -> None:
    """Show the rules in force, or what applies to one entry.

    \b
    Example:
      cognify retention show --seq 17
    """
    from cognify_dagster.governance import retention_list, schedule_in_force

    reading = open_workspace(ctx).read()
    schedule = schedule_in_force(reading)
    if seq is not None:
        if seq >= reading.size:
            raise click.UsageError(f"there is no entry {seq}; the ledger has {reading.size} (0 to {reading.size - 1})")
        kept = retention_list(reading)[seq]
        rules = [{"id": rule.id, "title": rule.title, "until": _day(until)} for rule, until in kept.rules]
        held = [hold.hold for hold in kept.held]
        if json_:
            as_json({"entry": seq, "kind": kept.kind, "until": _day(kept.until), "rules": rules, "holds": held})
            return
        table(("rule", "title", "kept until"), [(rule["id"], rule["title"], rule["until"]) for rule in rules])
        say(f"Entry {seq} ({kept.kind}): kept until {_day(kept.until) or 'no rule applies'}" + _held(held))
        return
    if json_:
        as_json(
            {
                "entry": schedule.seq,
                "rules": [rule.model_dump(mode="json") for rule in schedule.rules],
                "problems": [{"entry": number, "problem": text} for number, text in schedule.problems],
            }
        )
        return
    trial_banner(reading.trial)
    _print(schedule.rules)
    say(
        f"Adopted in entry {schedule.seq}."
        if schedule.seq is not None
        else "These are built in; none were adopted yet."
    )
    for number, text in schedule.problems:
        say(f"Entry {number} has no effect: {clean(text)}")


def _held(holds: list[str]) -> str:
    return f"; under the legal hold {', '.join(holds)}" if holds else ""


def _day(moment: datetime | None) -> str | None:
    from cognify_dagster.governance.custody.use import OPEN

    if moment is None:
        return None
    return "not before its use ends" if moment == OPEN else f"{moment:%Y-%m-%d}"


_STARTS = {"recorded": "its entry", "first_live": "first going live", "use_ended": "the end of use"}


def _print(rules: tuple[RetentionRule, ...]) -> None:
    table(
        ("rule", "months", "from", "kinds", "frameworks", "title", "source"),
        [
            (
                r.id,
                r.months,
                _STARTS[r.starts],
                ", ".join(r.kinds) or "all",
                ", ".join(r.frameworks) or "all",
                r.title,
                r.source,
            )
            for r in rules
        ],
    )


@command.command("adopt")
@click.argument("file", type=IN_FILE)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@signing_options
@click.pass_context
def adopt(
    ctx: click.Context,
    file: Path,
    reason: str,
    **signing: Any,
) -> None:
    """Adopt retention rules from a YAML file; they replace all others. Two compliance officers or workspace admins sign.

    The file: `rules:`, a list of {id, title, months, starts, kinds, frameworks, source}; without kinds or frameworks a rule is
    about all; `starts` is recorded (the usual), first_live or use_ended. `cognify retention propose` writes one.

    \b
    Example:
      cognify retention adopt retention.yaml --reason "schedule 2027" --as carl.key.json --as ada.key.json
    """
    from cognify_dagster.governance import adopt_retention

    rules = _rules(file)
    keys = unlocked(signing)
    workspace = open_workspace(ctx)
    if not signing["json_"]:
        _print(rules)
    ask(signing, workspace.read(), [("Reason", reason)], keys, "Adopt these rules?")
    recorded(signing, adopt_retention(workspace, rules, reason, keys), rules=[rule.id for rule in rules])


def _rules(file: Path) -> tuple[RetentionRule, ...]:
    import yaml

    from cognify_dagster.cli.inputs import read_text
    from cognify_dagster.records import RecordError, RetentionRule, build

    check_yaml(file, "a list of retention rules")
    value: Any = yaml.safe_load(read_text(file))
    listed = value.get("rules") if set(value) == {"rules"} else None
    if not isinstance(listed, list) or not listed:
        raise Failure(f"{file}: one member `rules` with a list of rules is expected", UNREADABLE)
    found = []
    for number, item in enumerate(listed, 1):
        try:
            if not isinstance(item, dict):
                raise RecordError("a mapping was expected")
            found.append(build(RetentionRule, {key: tuple(v) if isinstance(v, list) else v for key, v in item.items()}))
        except (RecordError, ValueError) as error:
            raise Failure(f"{file}, rule {number}: {' '.join(str(error).split())}", UNREADABLE) from error
    return tuple(found)


@command.command("due")
@click.option("--at", "at", type=TIME, metavar="UTC", help="As of then, such as 2027-01-31.  [default: now]")
@json_option
@click.pass_context
def due(ctx: click.Context, at: str | None, json_: bool) -> None:
    """List entries whose retention has ended, whose payload is still there and over which no hold stands.

    \b
    Example:
      cognify retention due --at 2033-12-31
    """
    from cognify_dagster.governance import due_items, erasable

    moment = (
        datetime.now(timezone.utc)
        if at is None
        else datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    )
    reading = open_workspace(ctx).read()
    found = due_items(reading, moment)
    if json_:
        as_json(
            {
                "at": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                "due": [
                    {
                        "entry": item.seq,
                        "kind": item.kind,
                        "until": _day(item.until),
                        "rule": item.rules[0][0].id,
                        "erasable": erasable(item.kind),
                    }
                    for item in found
                ],
            }
        )
        return
    trial_banner(reading.trial)
    if not found:
        say(f"Nothing is due at {moment:%Y-%m-%d}.")
        return
    table(
        ("entry", "kind", "recorded", "kept until", "rule", "can be erased"),
        [
            (i.seq, i.kind, _day(i.recorded), _day(i.until), i.rules[0][0].id, "yes" if erasable(i.kind) else "no")
            for i in found
        ],
    )
    say("Nothing is deleted on its own: see `cognify erase --help` and `cognify ledger archive --help`.")


command.add_command(propose)
