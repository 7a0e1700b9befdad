"""The commands of `cognify model` for exceptions and their end: break-glass, rollback, lifting a block, closing a condition."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import MODEL, TARGET, TIME, VERSION, open_workspace
from cognify_dagster.cli.overseeing import alone, now, reason_option, said, together

if TYPE_CHECKING:
    from cognify_dagster.governance.oversight.conditions import OpenCondition
    from cognify_dagster.governance.release.approvals import Valid
    from cognify_dagster.workspace import Reading


def add_to(group: click.Group) -> None:
    """Add the commands to `cognify model`."""
    for item in (lift_block, rollback, break_glass, close_condition):
        group.add_command(item)


@click.command("lift-block", cls=Command)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--entry", type=click.IntRange(min=1), help="Entry of the block; by default the only one that stands.")
@reason_option
@act_options
@click.pass_context
def lift_block(
    ctx: click.Context, model: str, version: str, entry: int | None, reason: str | None, **signing: Any
) -> None:
    """Lift a block that somebody else made. Two people who may block sign; who blocked can also withdraw it alone.

    \b
    Example:
      cognify model lift-block credit_default 3 --reason "complaints answered" --as carl.key.json --as mia.key.json
    """
    from cognify_dagster.records import BlockLifted

    reading = open_workspace(ctx).read()
    item, predicate, name = _block(reading, model, version, entry)
    why = said(reason, "Why is it lifted?")
    value = {"model": model, "version": version, "sign_off_seq": item.seq, "reason": why}
    carry_out(
        ctx,
        together(BlockLifted, value, "lifted_by"),
        signing,
        title="This block is lifted:",
        rows=[
            ("Model", f"{model}, version {version}"),
            ("Blocked by", f"{name}, entry {item.seq}, {predicate.signed_at}"),
            ("They said", predicate.comments),
            ("Lifted because", why),
        ],
        question="Lift this block?",
    )


def _block(reading: Reading, model: str, version: str, entry: int | None) -> tuple[Any, Any, str]:
    from cognify_dagster.governance.release.approvals import blocks, valid_sign_offs
    from cognify_dagster.governance.release.case import Case

    case = Case(reading, model, version, now(), "production")
    found: list[Valid] = blocks(case, valid_sign_offs(case))
    if entry is not None:
        found = [pair for pair in found if pair[0].seq == entry]
    if not found:
        which = f"entry {entry} is no block of" if entry is not None else "no block stands against"
        raise click.ClickException(f"{which} {model} {version}; see `cognify status {model} {version}`")
    if len(found) > 1:
        raise click.UsageError(
            f"several blocks stand; name one with --entry: {', '.join(str(i.seq) for i, _ in found)}"
        )
    item, predicate = found[0]
    return item, predicate, case.people.name(item.record.person)


@click.command("rollback", cls=Command)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--target", type=TARGET, default="production", show_default=True)
@reason_option
@act_options
@click.pass_context
def rollback(ctx: click.Context, model: str, version: str, target: str, reason: str | None, **signing: Any) -> None:
    """Order that an earlier version goes live again in place of the one that is live now.

    It must have been live on the target before, and its approvals must still hold when it is released. An order serves once.

    \b
    Example:
      cognify model rollback credit_default 2 --reason "version 3 fails on new branches" --as olga.key.json
    """
    from cognify_dagster.governance import GovernanceError, decide, live
    from cognify_dagster.governance.oversight.conditions import ENFORCED
    from cognify_dagster.records import RollbackOrdered

    reading = open_workspace(ctx).read()
    current = live(reading, model, target)
    if current is None:
        raise GovernanceError(
            f"nothing of {model} is live on {target} through this ledger; there is nothing to replace"
        )
    why = said(reason, "Why does it go back?")
    value = {"model": model, "version": version, "target": target, "replaces_seq": current.seq, "reason": why}
    decision = decide(reading, model, version, target, now(), enforces=ENFORCED)
    stand = [item.text for item in decision.reasons if item.code != "already_released"]
    carry_out(
        ctx,
        alone(RollbackOrdered, value, "ordered_by"),
        signing,
        title="This rollback is ordered:",
        rows=[
            ("Model", f"{model} on {target}"),
            ("Goes live again", version),
            ("In place of", f"{current.record.version} (entry {current.seq})"),
            ("Reason", why),
            ("Its approvals", "hold" if not stand else f"do not hold now, it would be refused: {'; '.join(stand)}"),
        ],
        question="Order this rollback?",
    )


@click.command("break-glass", cls=Command)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--target", type=TARGET, default="production", show_default=True)
@click.option(
    "--waive", "waived", multiple=True, metavar="STAGE", help="Stage to do without; by default all that are open."
)
@click.option(
    "--until", type=TIME, metavar="UTC", help="When it ends; by default after the longest time the policy allows."
)
@reason_option
@act_options
@click.pass_context
def break_glass(
    ctx: click.Context,
    model: str,
    version: str,
    target: str,
    waived: tuple[str, ...],
    until: str | None,
    reason: str | None,
    **signing: Any,
) -> None:
    """In an emergency: let a version go live without some sign-offs, for a limited time.

    The policy must allow it and says who signs. Automated gates, blocks, rejections, findings and evidence are never waived. What went
    live this way is suspended when the time is over, unless the sign-offs were given by then and it was released anew.

    \b
    Example:
      cognify model break-glass credit_default 4 --waive business --until 2026-11-23 \\
          --reason "version 3 refuses everybody" --as olga.key.json --as carl.key.json
    """
    from cognify_dagster.governance import decide, policy_in_force
    from cognify_dagster.records import BreakGlassOpened, utc

    reading = open_workspace(ctx).read()
    policy = policy_in_force(reading).policy
    rule = policy.break_glass
    if not rule.enabled:
        raise click.ClickException(
            "the policy does not allow break-glass (break_glass.enabled); see `cognify policy explain`"
        )
    decision = decide(reading, model, version, target, now())
    open_stages = tuple(item.name for item in decision.stages if item.stage.kind == "sign_off" and not item.done)
    stages = waived or open_stages
    if not stages:
        raise click.ClickException(f"every stage of {model} {version} is signed: no glass needs to be broken")
    why = said(reason, "What is the emergency?")
    expires = until or utc(now() + timedelta(hours=rule.max_hours))
    left = [item.text for item in decision.reasons if item.code not in {f"stage_{name}" for name in stages}]
    value = {"model": model, "version": version, "target": target, "waived": stages, "reason": why, "expires": expires}
    carry_out(
        ctx,
        together(BreakGlassOpened, value),
        signing,
        title="THE GLASS IS BROKEN: an emergency release without these sign-offs",
        rows=[
            ("Model", f"{model}, version {version}, on {target}"),
            ("Done without", ", ".join(stages)),
            ("Reason", why),
            ("Until", expires),
            ("Then", "what went live this way is suspended, unless it is signed off in full and released anew"),
            ("Still missing", "; ".join(left) or "nothing: the version can be released"),
        ],
        question="Break the glass?",
    )


@click.command("close-condition", cls=Command)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.argument("which", metavar="[ENTRY.NUMBER]", required=False)
@click.option("--target", type=TARGET, default="production", show_default=True)
@click.option("--link", "links", multiple=True, help="A link to the evidence. May be repeated.")
@reason_option
@act_options
@click.pass_context
def close_condition(
    ctx: click.Context,
    model: str,
    version: str,
    which: str | None,
    target: str,
    links: tuple[str, ...],
    reason: str | None,
    **signing: Any,
) -> None:
    """Sign that a condition of an approval is met: somebody of the stage's role, or of compliance, without a hand in the version.

    `cognify status MODEL VERSION` lists open conditions as 57.0: number 0 of the approval in entry 57. The only open one needs no name.

    \b
    Example:
      cognify model close-condition credit_default 3 57.0 --reason "drift report of October, no breach" --as carl.key.json
    """
    from cognify_dagster.records import ConditionClosed

    item = _condition(open_workspace(ctx).read(), model, version, target, which)
    why = said(reason, "How is it met?")
    value = {
        "model": model,
        "version": version,
        "sign_off_seq": item.sign_off_seq,
        "condition": item.index,
        "reason": why,
        "links": links,
    }
    carry_out(
        ctx,
        alone(ConditionClosed, value, "closed_by"),
        signing,
        title="This condition is met:",
        rows=[
            ("Condition", f"{item.sign_off_seq}.{item.index}: {item.condition.text}"),
            ("Given by", f"{item.name} as {item.role}, for {model} version {version}"),
            ("Due", item.condition.due or "undated"),
            ("Met because", why),
            *(("Link", link) for link in links),
        ],
        question="Sign that this condition is met?",
    )


def _condition(reading: Reading, model: str, version: str, target: str, which: str | None) -> OpenCondition:
    found = {f"{item.sign_off_seq}.{item.index}": item for item in open_conditions(reading, model, version, target)}
    listed = ", ".join(found) or "none is open"
    if which is None:
        if len(found) != 1:
            raise click.UsageError(f"name the condition as ENTRY.NUMBER; open on {target}: {listed}")
        return next(iter(found.values()))
    if not re.fullmatch(r"[0-9]+\.[0-9]+", which):
        raise click.UsageError(f"{which[:40]!r}: expected ENTRY.NUMBER such as 57.0; open on {target}: {listed}")
    if which not in found:
        raise click.ClickException(f"{which} is no open condition of {model} {version} on {target}; open: {listed}")
    return found[which]


def open_conditions(reading: Reading, model: str, version: str, target: str) -> list[OpenCondition]:
    """Return the open conditions of approvals that count, or on which what is live relies."""
    from cognify_dagster.governance import decide, live_state

    current = live_state(reading, model, target, now())
    found = [*decide(reading, model, version, target, now()).conditions]
    if current.version == version:
        found += current.conditions
    return list({(item.sign_off_seq, item.index): item for item in found}.values())
