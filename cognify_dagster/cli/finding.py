"""`cognify finding`: what is wrong with a model or a version: open, list, show, resolve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import MODEL, PERSON, TIME, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, table, trial_banner
from cognify_dagster.cli.overseeing import alone, now, reason_option, said

if TYPE_CHECKING:
    from datetime import datetime

    from cognify_dagster.governance import Finding
    from cognify_dagster.workspace import Reading

_SEVERITIES = ["low", "medium", "high", "critical"]


@click.group(cls=Group, name="finding")
def command() -> None:
    """Findings: what people, or reconciliation with Dagster, found wrong with a model or a version.

    An open finding of a severity that the policy names holds back releases until it is closed with evidence or its risk is
    accepted for a while.

    \b
    Example:
      cognify finding list credit_default
    """


@command.command("open")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option("--severity", type=click.Choice(_SEVERITIES), required=True)
@click.option("--title", required=True, help="In one line, at most 200 characters.")
@click.option("--text", default="", help="What was found, and how.")
@click.option("--owner", type=PERSON, help="Who shall put it right.")
@click.option("--due", type=TIME, metavar="UTC", help="Until when.")
@click.option("--link", "links", multiple=True, help="A link to supporting material. May be repeated.")
@act_options
@click.pass_context
def open_(
    ctx: click.Context,
    model: str,
    version: str | None,
    severity: str,
    title: str,
    text: str,
    owner: str | None,
    due: str | None,
    links: tuple[str, ...],
    **signing: Any,
) -> None:
    """Raise a finding about a version, or without VERSION about all versions of a model.

    \b
    Example:
      cognify finding open credit_default 3 --severity high --title "holdout overlaps with train" --as vera.key.json
    """
    from cognify_dagster.governance import policy_in_force
    from cognify_dagster.records import FindingOpened

    blocking = severity in policy_in_force(open_workspace(ctx).read()).policy.findings.blocking
    value = {
        "model": model,
        "version": version,
        "severity": severity,
        "title": title,
        "text": text,
        "owner": owner,
        "due": due,
        "links": links,
    }
    carry_out(
        ctx,
        alone(FindingOpened, value, "raised_by"),
        signing,
        title="This finding is raised:",
        rows=[
            ("About", _about(model, version)),
            ("Severity", severity),
            ("Title", title),
            ("Text", text or "none"),
            ("Owner", owner or "nobody yet"),
            ("Due", due or "undated"),
            *(("Link", link) for link in links),
            ("Effect", "holds releases back until it is resolved" if blocking else "shown; it holds nothing back"),
        ],
        question="Raise this finding?",
        more={"blocking": blocking},
    )


def _about(model: str, version: str | None) -> str:
    return f"{model}, version {version}" if version else f"{model}, all versions"


@command.command("list")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option("--all", "all_", is_flag=True, help="Also those that are closed.")
@json_option
@click.pass_context
def list_(ctx: click.Context, model: str, version: str | None, all_: bool, json_: bool) -> None:
    """List the findings of a model; with VERSION those about that version or about all versions.

    \b
    Example:
      cognify finding list credit_default --all
    """
    reading = open_workspace(ctx).read()
    if f"model/{model}" not in reading.view.heads:
        raise click.ClickException(f"this workspace has no model {model!r}")
    found, problems = findings_of_model(reading, model, version)
    listed = [item for item in found if all_ or item.closed_seq is None]
    if json_:
        as_json(
            {
                "model": model,
                "version": version,
                "trial": reading.trial,
                "findings": [finding_json(reading, item) for item in listed],
                "problems": [{"entry": seq, "problem": text} for seq, text in problems],
            }
        )
        return
    trial_banner(reading.trial)
    heading(f"Findings about {_about(model, version) if version else model}")
    if not listed:
        closed = len(found)
        say("None is open." + (f" {closed} closed: add --all to see them." if closed else ""))
    else:
        rows = [
            (item.seq, item.version or "all", item.severity, _state(reading, item), item.title, item.raised_by)
            for item in listed
        ]
        table(("entry", "version", "severity", "state", "title", "raised by"), rows)
        say("More: cognify finding show ENTRY")
    for seq, text in problems:
        say(f"Entry {seq} has no effect: {clean(text)}")


def findings_of_model(
    reading: Reading, model: str, version: str | None = None, at: datetime | None = None
) -> tuple[list[Finding], list[tuple[int, str]]]:
    """Return all findings about a model (with a version: about that one or all) at a moment, oldest first, and problems."""
    from cognify_dagster.governance import directory, findings_about, policy_in_force
    from cognify_dagster.records import FindingOpened, Reconciliation

    people, policy = directory(reading), policy_in_force(reading).policy
    opened, noticed = reading.all(FindingOpened, f"model/{model}"), reading.all(Reconciliation, f"model/{model}")
    versions = (
        {version} if version else {None, *(x.record.version for x in opened), *(y.record.version for y in noticed)}
    )
    found: dict[int, Finding] = {}
    problems: dict[int, str] = {}
    for name in versions:
        about = findings_about(reading, people, policy, model, name, at or now())
        found |= {item.seq: item for item in about.items}
        problems |= dict(about.problems)
    return [found[seq] for seq in sorted(found)], sorted(problems.items())


def _state(reading: Reading, item: Finding) -> str:
    if item.closed_seq is not None:
        return f"closed by entry {item.closed_seq}"
    if item.accepted_until:
        return f"risk accepted until {item.accepted_until}"
    from cognify_dagster.governance import policy_in_force
    from cognify_dagster.records import parse_utc

    late = ", overdue" if item.due and parse_utc(item.due) <= now() else ""
    blocking = item.severity in policy_in_force(reading).policy.findings.blocking
    return f"open{', holds releases back' if blocking else ''}{late}"


def finding_json(reading: Reading, item: Finding) -> dict[str, Any]:
    """Return a finding as JSON values."""
    from cognify_dagster.governance import policy_in_force

    return {
        "entry": item.seq,
        "version": item.version,
        "severity": item.severity,
        "title": item.title,
        "text": item.text,
        "raised_by": item.raised_by,
        "due": item.due,
        "open": item.open,
        "blocking": item.open and item.severity in policy_in_force(reading).policy.findings.blocking,
        "accepted_until": item.accepted_until,
        "closed_entry": item.closed_seq,
    }


@command.command("show")
@click.argument("entry", type=click.IntRange(min=1))
@json_option
@click.pass_context
def show(ctx: click.Context, entry: int, json_: bool) -> None:
    """Show one finding, who may resolve it, and every resolution, those without effect included.

    \b
    Example:
      cognify finding show 42
    """
    from cognify_dagster.governance import directory, policy_in_force
    from cognify_dagster.governance.oversight.findings import resolution_problem, who_may_not
    from cognify_dagster.records import FindingOpened, FindingResolved

    reading = open_workspace(ctx).read()
    raised = _raised(reading, entry)
    item = next(x for x in findings_of_model(reading, raised.record.model, raised.record.version)[0] if x.seq == entry)
    people, policy = directory(reading), policy_in_force(reading).policy
    excluded = who_may_not(reading, policy, str(raised.record.model), item.version)
    given = [
        {
            "entry": answer.seq,
            "outcome": answer.record.outcome,
            "reason": answer.record.reason,
            "links": list(answer.record.links),
            "accepted_until": answer.record.accepted_until,
            "by": people.name(answer.record.resolved_by),
            "time": moment(answer.time_us),
            "problem": resolution_problem(reading, answer, people, policy, excluded),
        }
        for answer in reading.all(FindingResolved, f"model/{raised.record.model}")
        if answer.record.finding_seq == entry
    ]
    record = raised.record if isinstance(raised.record, FindingOpened) else None
    owner = people.name(record.owner) if record and record.owner else None
    noted = _acknowledged(reading, str(raised.record.model), entry)
    if json_:
        more = {"owner": owner, "links": list(record.links) if record else [], "time": moment(raised.time_us)}
        as_json(
            {
                "model": raised.record.model,
                **finding_json(reading, item),
                **more,
                "acknowledged_by": noted,
                "resolutions": given,
            }
        )
        return
    trial_banner(reading.trial)
    heading(f"Finding {entry}: {item.title}")
    rules = policy.findings
    pairs(
        [
            ("About", _about(raised.record.model, item.version)),
            ("Severity", item.severity),
            ("State", _state(reading, item)),
            ("Raised", f"{moment(raised.time_us)} by {item.raised_by}"),
            ("Text", item.text or "none"),
            ("Owner", owner or "nobody"),
            ("Due", item.due or "undated"),
            *((("Link", link)) for link in (record.links if record else ())),
            (
                "May close it",
                f"{', '.join(rules.close_roles)}; nobody with a hand in {'it' if item.version else 'a version'}",
            ),
            ("May accept it", f"{', '.join(rules.accept_roles)}, for at most {rules.max_acceptance_days} days"),
        ]
    )
    if noted:
        say(f"Taken note of by {clean(', '.join(people.name(who) for who in noted))}")
    for answer in given:
        words = f"Entry {answer['entry']}, {answer['time']}: {answer['outcome']} by {answer['by']}: {answer['reason']}"
        say(clean(words + (f" (no effect: {answer['problem']})" if answer["problem"] else "")))


def _acknowledged(reading: Reading, model: str, entry: int) -> list[str]:
    """Return who signed that they have taken note of a finding."""
    from cognify_dagster.governance import check_sign_off, directory
    from cognify_dagster.records import SignOff

    found = []
    for item in reading.all(SignOff, f"model/{model}"):
        if item.record.decision == "acknowledge":
            checked = check_sign_off(item, reading, directory(reading))
            if not isinstance(checked, str) and checked.reference and checked.reference.entry_seq == entry:
                found.append(item.record.person)
    return list(dict.fromkeys(found))


def _raised(reading: Reading, entry: int) -> Any:
    from cognify_dagster.records import FindingOpened, Reconciliation

    found = reading.at(entry)
    if found is None or not isinstance(found.record, (FindingOpened, Reconciliation)):
        raise click.ClickException(f"entry {entry} is no finding; see `cognify finding list MODEL`")
    if found.record.model is None:
        raise click.ClickException(f"finding {entry} names no model: {found.record.text}")
    return found


@command.command("resolve")
@click.argument("entry", type=click.IntRange(min=1))
@click.option("--close", "closed", is_flag=True, help="It is put right; say how with --reason and --link.")
@click.option("--accept-until", type=TIME, metavar="UTC", help="The risk is accepted until then.")
@click.option("--link", "links", multiple=True, help="A link to the evidence. May be repeated.")
@reason_option
@act_options
@click.pass_context
def resolve(
    ctx: click.Context,
    entry: int,
    closed: bool,
    accept_until: str | None,
    links: tuple[str, ...],
    reason: str | None,
    **signing: Any,
) -> None:
    """Close a finding with evidence, or accept its risk until a date. The policy says which roles may do which.

    Nobody with a hand in the version resolves a finding about it (for one about all versions: with a hand in any of them).

    \b
    Example:
      cognify finding resolve 42 --close --reason "rows removed, evaluated again" --link https://tracker/42 --as carl.key.json
      cognify finding resolve 42 --accept-until 2027-01-31 --reason "tiny group" --as olga.key.json
    """
    from cognify_dagster.records import FindingResolved

    if closed == (accept_until is not None):
        raise click.UsageError("say either --close or --accept-until")
    reading = open_workspace(ctx).read()
    raised = _raised(reading, entry)
    model, version = raised.record.model, raised.record.version
    item = next(found for found in findings_of_model(reading, model, version)[0] if found.seq == entry)
    if item.closed_seq is not None:
        raise click.ClickException(f"finding {entry} is closed already, by entry {item.closed_seq}")
    why = said(reason, "How is it put right?" if closed else "Why is the risk acceptable?")
    value = {
        "model": model,
        "version": version,
        "finding_seq": entry,
        "outcome": "closed" if closed else "accepted",
        "reason": why,
        "links": links,
        "accepted_until": accept_until,
    }
    carry_out(
        ctx,
        alone(FindingResolved, value, "resolved_by"),
        signing,
        title="This finding is closed:" if closed else "The risk of this finding is accepted:",
        rows=[
            ("Finding", f"{entry}: {item.title} ({item.severity})"),
            ("About", _about(str(model), version)),
            ("Because", why),
            *(("Link", link) for link in links),
            *((("Until", accept_until),) if accept_until else ()),
        ],
        question="Sign this?",
    )
