"""What `cognify status` prints for people."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cognify_dagster.cli.output import clean, heading, moment, pairs, say, table, trial_banner
from cognify_dagster.cli.sign_choice import condition_words
from cognify_dagster.cli.status_commands import resolve_commands, sign_commands
from cognify_dagster.cli.status_json import refusals_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cognify_dagster.cli.status import Overview, Standing
    from cognify_dagster.governance import Classification, Directory, LiveState, Reason, Signed, StageState
    from cognify_dagster.governance.oversight.conditions import OpenCondition
    from cognify_dagster.governance.oversight.reviews import Review
    from cognify_dagster.workspace import Reading, Workspace


def show_model(workspace: Workspace, reading: Reading, found: Overview, at: str | None) -> None:
    """Print all versions of a model, what is live where, and what is open."""
    from cognify_dagster.cli.inputs import program

    trial_banner(reading.trial)
    registered = found.classified.registered
    owner = f", tier {found.classified.tier}, owner {registered.record.owner}" if registered else ""
    heading(f"{found.model}{owner}; target {found.target}{_then(reading, at)}")
    pairs([("Classified", classified_words(reading, found.classified)), *map(_live_row, found.live)])
    rows = []
    for item, one in found.versions.items():
        package = one.decision.package
        digest = package.record.package.digest[:19] + "…" if package else "–"
        rows.append((item, one.state, digest, one.next))
    if rows:
        table(("version", "state", "package", "next"), rows)
    else:
        say("No version was opened yet.")
    for state in found.live:
        _suspended(state)
    for finding in found.findings:
        about = f"version {finding.version}" if finding.version else "all versions"
        state_word = f"accepted until {finding.accepted_until}" if finding.accepted_until else "open"
        say(f"Finding {finding.seq} ({finding.severity}, {about}) is {state_word}: {clean(finding.title)}")
    _to_resolve([] if at else resolve_commands(workspace, reading, found.model, (*found.blocking, *found.unattested)))
    for seq, text in found.problems:
        say(f"Entry {seq} has no effect: {clean(text)}")
    say(f"Details: {program(workspace)} status {found.model} VERSION{f' --at {shlex.quote(at)}' if at else ''}")


def _to_resolve(commands: Sequence[str]) -> None:
    if commands:
        say("To sign findings away, once it is clear what happened (or `--accept-until` for a risk that is accepted):")
        for line in commands:
            say(f"  {line}")


def _then(reading: Reading, at: str | None) -> str:
    return f"; as of {at} ({reading.size} entries)" if at else ""


def classified_words(reading: Reading, found: Classification) -> str:
    """Say which tier applies and who signed that."""
    from cognify_dagster.governance import directory

    if found.signed is None:
        says = f"the code says {found.registered_tier!r}; " if found.registered_tier else ""
        return f"by nobody ({says}tier {found.tier} applies): `cognify model classify`"
    people, record = directory(reading), found.signed.record
    names = ", ".join(people.name(person) for person in record.signers)
    applies = "" if record.tier == found.tier else f" (the code asks for more: tier {found.tier} applies)"
    return (
        f"tier {record.tier}{applies}, owner {people.name(record.owner)}, signed by {names} (entry {found.signed.seq})"
    )


def _live_row(state: LiveState) -> tuple[str, str]:
    name = f"On {state.target}"
    if state.standing == "none":
        return name, "nothing is live"
    if state.completed is None:
        return name, f"{state.version}, live but UNATTESTED: {'; '.join(state.notes)}"
    since = moment(state.completed.time_us)
    purpose = state.grant.record.purpose if state.grant else "release"
    how = {"break_glass": ", by broken glass", "rollback": ", by rollback"}.get(purpose, "")
    word = "LIVE BUT SUSPENDED" if state.standing == "suspended" else "live"
    due = f"; {review_words(state.review)}" if state.review.due else ""
    return name, f"{state.version}, {word} since {since}{how}{due}"


def review_words(found: Review) -> str:
    """Say when the next periodic review is due."""
    return f"review due {found.due}" + (", OVERDUE" if found.overdue else "")


def _suspended(state: LiveState) -> None:
    if state.standing == "suspended":
        say(f"Version {state.version} on {state.target} is suspended; it should not be used until this is resolved:")
        _print_reasons(state.reasons)


def _print_reasons(reasons: Iterable[Reason]) -> None:
    for reason in reasons:
        say(f"  - {clean(reason.text)}" + (f"  → {clean(reason.resolved_by)}" if reason.resolved_by else ""))


def show_version(workspace: Workspace, reading: Reading, found: Standing, at: str | None) -> None:
    """Print one version stage by stage."""
    from cognify_dagster.cli.inputs import program
    from cognify_dagster.governance import directory

    decision, call = found.decision, program(workspace)
    trial_banner(reading.trial)
    heading(f"{decision.model} {decision.version} on {decision.target}: {found.state}{_then(reading, at)}")
    pairs(_facts(reading, found, call))
    if decision.stages:
        table(
            ("stage", "state", "by", "waits for"), [_stage_row(state, directory(reading)) for state in decision.stages]
        )
    if found.live is not None:
        _suspended(found.live)
    _missing(found)
    _conditions(decision.conditions if found.live is None else (*decision.conditions, *found.live.conditions), found)
    _findings(found)
    refusals = refusals_of(reading, decision)
    if refusals:
        last = refusals[-1]
        count = f"{len(refusals)} refused" if len(refusals) > 1 else "Refused"
        say(f"{count} so far, last in entry {last['entry']} ({last['time']}): {call} ledger show --seq {last['entry']}")
    for note in (*decision.notes, *(found.live.notes if found.live else ())):
        say(f"Note: {clean(note)}")
    held = [item for item in decision.findings if item.seq in found.to_resolve]
    _to_resolve([] if at else resolve_commands(workspace, reading, decision.model, held))
    commands = [] if at else sign_commands(workspace, reading, found)
    if commands:
        say("To sign:")
        for line in commands:
            say(f"  {line}")
    elif found.state == "ready" and not at:
        say(f"Every stage is done: the approval sensor releases it to {decision.target}.")


def _facts(reading: Reading, found: Standing, call: str) -> list[tuple[str, object]]:
    decision = found.decision
    package = decision.package
    rows: list[tuple[str, object]] = [
        ("Tier", decision.tier or "unknown"),
        ("Classified", classified_words(reading, decision.classified)),
    ]
    if found.superseded_by is not None:
        rows.append(("Superseded", f"by {found.superseded.removeprefix('superseded by ')}; it is not live any more"))
    if package is None:
        rows.append(("Package", "none yet"))
    else:
        record = package.record
        rows.append(("Package", f"{record.package.digest} (entry {package.seq}, revision {record.revision})"))
        copy = record.review_copy
        if copy is not None:
            rows.append(("Review copy", f"{copy.digest} ({copy.size} bytes)"))
            name = f"{decision.model}-{decision.version}-review.pdf"
            rows.append(("  open it", f"{call} evidence get {copy.digest} -o {name}"))
    if decision.plan is not None:
        plan = decision.plan.item
        word = "covers this version" if decision.plan.covered else "does not cover this version"
        rows.append(
            (
                "Change plan",
                f"{plan.record.plan} (entry {plan.seq}) {word}: {call} model plan check {decision.model} {decision.version}",
            )
        )
    if decision.rollback is not None:
        rows.append(("Rollback", f"ordered by entry {decision.rollback.seq}: {decision.rollback.record.reason}"))
    rows += _glass(reading, found)
    completed = found.live.completed if found.live is not None else decision.completed
    if completed is not None:
        rows.append(("Deployed", f"entry {completed.seq}, {moment(completed.time_us)}"))
    if found.live is not None and found.live.review.due:
        rows.append(("Review", review_words(found.live.review).removeprefix("review ")))
    return rows


def _glass(reading: Reading, found: Standing) -> list[tuple[str, object]]:
    """Until when broken glass lasts, and what has to be signed by then."""
    from cognify_dagster.records import BreakGlassOpened

    grant = found.live.grant if found.live else None
    broken = grant is not None and grant.record.purpose == "break_glass"
    seq = grant.record.order_seq if grant is not None and broken else found.decision.glass_seq
    item = reading.at(seq) if seq is not None else None
    if item is None or not isinstance(item.record, BreakGlassOpened):
        return []
    left = [state.name for state in found.decision.stages if state.by == "break_glass" or not state.done]
    signed = f"still to be signed: {', '.join(left)}" if left else "all is signed since; release it anew"
    return [("Broken glass", f"until {item.record.expires} (entry {seq}); {signed}")]


def _missing(found: Standing) -> None:
    known = {reason.text for reason in found.live.reasons} if found.live else set()
    left = [reason for reason in found.blocking if reason.text not in known]
    if not left or (found.state == "unattested" and not found.decision.package):
        return
    again = "It would not be released again today"
    titles = {
        "live": "Live, but it would not be released again today:",
        "suspended": f"{again}; besides:" if known else f"{again}:",
        "superseded": f"{again}:",
    }
    say(titles.get(found.state, "What is missing:"))
    _print_reasons(left)


def _conditions(items: Iterable[OpenCondition], found: Standing) -> None:
    from cognify_dagster.governance.oversight.conditions import ENFORCED

    listed = {(item.sign_off_seq, item.index): item for item in items}
    if not listed:
        return
    say("Open conditions (closed with `cognify model close-condition`):")
    for (seq, index), item in sorted(listed.items()):
        late = "OVERDUE: " if item.overdue(found.decision.at) else ""
        must = "; the deployment has to enforce it, or it is refused" if item.condition.kind in ENFORCED else ""
        say(f"  {seq}.{index}  {late}{clean(condition_words(item.condition))}, given by {clean(item.name)}{must}")


def _findings(found: Standing) -> None:
    if not found.decision.findings:
        return
    say("Findings (`cognify finding show ENTRY`):")
    for item in found.decision.findings:
        state = f"risk accepted until {item.accepted_until}" if item.accepted_until else "open"
        say(f"  {item.seq}  {item.severity}, {state}: {clean(item.title)}")


def _stage_row(state: StageState, people: Directory) -> tuple[str, str, str, str]:
    if state.stage.kind == "automated":
        by = "\n".join(
            f"{family}: {status}" + (f" (entry {seq})" if seq is not None else "")
            for family, status, seq in state.gates
        )
    else:
        by = "\n".join(_signature(item, people) for item in state.signed)
        if state.waived:
            word = "done by the change plan" if state.by == "plan" else "WAIVED by broken glass"
            by = f"{by}\n{word}".strip()
    title = state.stage.title or state.name
    return title, "done" if state.done else "open", by, "\n".join(clean(name) for name in state.waiting_for)


def _signature(item: Signed, people: Directory) -> str:
    behalf = f" on behalf of {clean(people.name(item.on_behalf_of))}" if item.on_behalf_of else ""
    conditions = f", with {len(item.predicate.conditions)} conditions" if item.predicate.conditions else ""
    conditions = conditions.replace("with 1 conditions", "with 1 condition")
    return f"{clean(item.name)}{behalf}, {item.predicate.signed_at}, {item.strength} (entry {item.seq}){conditions}"
