"""`cognify model plan`: change plans, within which a new version needs no new full approval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, OK, finish
from cognify_dagster.cli.inputs import (
    IN_FILE,
    MODEL,
    TARGET,
    TIME,
    VERSION,
    check_yaml,
    json_option,
    open_workspace,
    parse_time,
)
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, trial_banner
from cognify_dagster.cli.overseeing import alone, now, reason_option, said, together

if TYPE_CHECKING:
    from cognify_dagster.governance.changes.adopted import PlanCover
    from cognify_dagster.governance.changes.compare import Coverage
    from cognify_dagster.governance.release.case import Case
    from cognify_dagster.records import ChangePlanAdopted
    from cognify_dagster.workspace import Reading, Recorded


@click.group(cls=Group, name="plan")
def command() -> None:
    """Change plans (predetermined change control): adopt, show, check a version against them, end.

    \b
    Example:
      cognify model plan check credit_default 4
    """


@command.command("adopt")
@click.argument("file", type=IN_FILE)
@click.option("--stage", "stages", multiple=True, help="Stage that the plan stands in for; by default all of the tier.")
@click.option("--expires", type=TIME, metavar="UTC", help="When it ends; by default the bounds' own `expires`.")
@act_options
@click.pass_context
def adopt(ctx: click.Context, file: Path, stages: tuple[str, ...], expires: str | None, **signing: Any) -> None:
    """Adopt a change plan from YAML. For every sign-off stage of the model's tier somebody who may sign it signs.

    \b
    Example:
      cognify model plan adopt change-plan.yaml --expires 2027-06-30 --as vera.key.json --as carl.key.json --as olga.key.json
    """
    from cognify_dagster.governance import classification_of, directory, policy_in_force
    from cognify_dagster.governance.changes.plan import load_change_plan
    from cognify_dagster.governance.oversight.classification import signed_stages
    from cognify_dagster.records import ChangePlanAdopted

    check_yaml(file, "a change plan")
    plan = load_change_plan(file)
    reading = open_workspace(ctx).read()
    policy = policy_in_force(reading).policy
    tier = classification_of(reading, directory(reading), policy, plan.model).tier
    every = [name for name, _ in policy.stages_of(tier) if name in signed_stages(policy, tier)]
    until = expires or plan.bounds.expires
    if until is None:
        raise click.UsageError(f"{file}: bounds.expires is not given; say when the plan ends with --expires")
    value = {
        "plan": plan.plan,
        "model": plan.model,
        "base_version": plan.base_version,
        "bounds": plan.bounds.as_json(),
        "stages": tuple(stages) or tuple(every),
        "reason": plan.reason,
        "expires": parse_time(until),
    }
    carry_out(
        ctx,
        together(ChangePlanAdopted, value),
        signing,
        title="This change plan is adopted:",
        rows=[
            ("Plan", f"{plan.plan}, for {plan.model} against version {plan.base_version}"),
            ("Reason", plan.reason),
            ("Stands in for", ", ".join(stages or every) or "nothing: nobody signs in this tier"),
            ("Until", value["expires"]),
            ("Bounds", plan.digest),
            *_flat("", plan.bounds.as_json()),
        ],
        question="Adopt this plan? Versions within its bounds then need no new sign-offs.",
        more={"plan": plan.plan, "bounds_digest": plan.digest},
    )


def _flat(name: str, value: Any) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _flat(f"{name}.{key}" if name else f"  {key}", item)]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)))] if value else []
    return [] if value is None else [(name, value)]


@command.command("show")
@click.argument("model", type=MODEL)
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, json_: bool) -> None:
    """Show the change plans of a model: those in force, ended, expired, and those without effect.

    \b
    Example:
      cognify model plan show credit_default --json
    """
    from cognify_dagster.records import ChangePlanAdopted

    reading = open_workspace(ctx).read()
    case, tier = _case(reading, model, "", "production")
    rows = [_plan_json(case, tier, item) for item in reading.all(ChangePlanAdopted, f"oversight/{model}")]
    if json_:
        as_json({"model": model, "tier": tier, "trial": reading.trial, "plans": rows})
        return
    trial_banner(reading.trial)
    if not rows:
        say(f"{model} has no change plan.")
    for row in rows:
        heading(f"{row['plan']} (entry {row['entry']}): {row['state']}")
        pairs(
            [
                ("Against", f"version {row['base_version']}"),
                ("Until", row["expires"]),
                ("Stands in for", ", ".join(row["stages"])),
                ("Signed by", ", ".join(case.people.name(person) for person in row["signers"])),
                ("Reason", row["reason"]),
                *((("No effect", row["problem"]),) if row["problem"] else ()),
                *_flat("", row["bounds"]),
            ]
        )


def _case(reading: Reading, model: str, version: str, target: str) -> tuple[Case, str]:
    from cognify_dagster.governance import classification_of
    from cognify_dagster.governance.release.case import Case

    case = Case(reading, model, version, now(), target)
    return case, classification_of(reading, case.people, case.policy, model).tier


def _plan_json(case: Case, tier: str, item: Recorded[ChangePlanAdopted]) -> dict[str, Any]:
    from cognify_dagster.governance.changes.adopted import end_problem, plan_problem, stopped_by
    from cognify_dagster.records import ChangePlanEnded, parse_utc

    record = item.record
    problem = plan_problem(case.reading, item, case.people, case.policy, tier)
    if problem is None and not case.policy.tiers[tier].change_plans:
        problem = f"the policy allows no change plans in tier {tier!r}"
    ends = [
        end.seq
        for end in case.reading.all(ChangePlanEnded, f"oversight/{case.model}")
        if end.record.plan_seq == item.seq and end_problem(case.reading, end, case.people, case.policy) is None
    ]
    if problem:
        state = "no effect"
    elif ends:
        state = f"ended by entry {ends[0]}"
    elif parse_utc(record.expires) <= case.now:
        state = "expired"
    else:
        stopped = stopped_by(case, item)
        state = f"not used: {stopped}; adopt it anew if it still holds" if stopped else "in force"
    return {
        "plan": record.plan,
        "entry": item.seq,
        "adopted": moment(item.time_us),
        "state": state,
        "problem": problem,
        "base_version": record.base_version,
        "stages": list(record.stages),
        "expires": record.expires,
        "reason": record.reason,
        "signers": list(record.signers),
        "bounds": record.bounds,
    }


@command.command("check")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--target", type=TARGET, default="production", show_default=True)
@click.option("--format", "format_", type=click.Choice(["text", "md"]), default="text", show_default=True)
@json_option
@click.pass_context
def check(ctx: click.Context, model: str, version: str, target: str, format_: str, json_: bool) -> None:
    """Compare a version with the plan in force: covered (exit code 0), or a new full approval is needed (1), line by line.

    \b
    Example:
      cognify model plan check credit_default 4
      cognify model plan check credit_default 4 --format md > coverage.md
    """
    from cognify_dagster.governance import decide
    from cognify_dagster.governance.release.involvement import base_lineage
    from cognify_dagster.workspace import unknown_version

    reading = open_workspace(ctx).read()
    case, tier = _case(reading, model, version, target)
    missing = unknown_version(reading, model, version)
    if missing:
        raise click.ClickException(missing)
    lineage = base_lineage(reading, model, version)
    if lineage.training is None or lineage.evaluation is None:
        raise click.ClickException(
            f"{model} {version} has no training run and evaluation yet; there is nothing to compare"
        )
    found = decide(reading, model, version, target, case.now).plan
    if found is None:
        say_none = f"{model} has no change plan in force in tier {tier!r} that is about another version: a full approval is needed"
        if json_:
            as_json({"model": model, "version": version, "plan": None, "covered": False, "lines": []})
        else:
            say(f"{say_none}.")
        finish(BLOCKED)
    plan = found.item.record
    lines = found.coverage
    if json_:
        as_json(
            {
                "model": model,
                "version": version,
                "target": target,
                "plan": plan.plan,
                "entry": found.item.seq,
                "base_version": plan.base_version,
                "stages": list(plan.stages),
                "covered": found.covered,
                "lines": [vars(line) for line in lines.lines] if lines else [{"text": text} for text in found.lines],
            }
        )
    else:
        _print_coverage(reading, found, lines, format_)
    finish(OK if found.covered else BLOCKED)


def _print_coverage(reading: Reading, found: PlanCover, lines: Coverage | None, format_: str) -> None:
    from cognify_dagster.governance.changes.plan import explain, explain_markdown

    plan = found.item.record
    title = f"{plan.model} against the plan {plan.plan} (entry {found.item.seq}, base version {plan.base_version})"
    if format_ == "md":
        say(f"# {clean(title)}\n")
    else:
        trial_banner(reading.trial)
        heading(title)
    if lines is None:
        say("Covered." if found.covered else "Not covered; a full approval is needed:")
        for text in found.lines:
            say(f"  - {clean(text)}")
        return
    text = explain_markdown(lines) if format_ == "md" else explain(lines)
    say(clean(text, keep_newlines=True).rstrip())
    if found.covered:
        say(f"\nDone by the plan: {', '.join(plan.stages)}.")


@command.command("end")
@click.argument("model", type=MODEL)
@click.argument("plan")
@reason_option
@act_options
@click.pass_context
def end(ctx: click.Context, model: str, plan: str, reason: str | None, **signing: Any) -> None:
    """End a change plan, named as in the plan or by its entry. Anybody with a role but the auditor's may: it only asks for more sign-offs.

    \b
    Example:
      cognify model plan end credit_default quarterly-refresh --reason "the population changed" --as vera.key.json
    """
    from cognify_dagster.records import ChangePlanAdopted, ChangePlanEnded

    reading = open_workspace(ctx).read()
    plans = [
        item
        for item in reading.all(ChangePlanAdopted, f"oversight/{model}")
        if plan in (item.record.plan, str(item.seq))
    ]
    if not plans:
        raise click.ClickException(f"{model} has no change plan {plan[:60]!r}; see `cognify model plan show {model}`")
    found = plans[-1]
    why = said(reason, "Why does the plan end?")
    value = {"plan_seq": found.seq, "model": model, "reason": why}
    carry_out(
        ctx,
        alone(ChangePlanEnded, value, "ended_by"),
        signing,
        title="This change plan ends:",
        rows=[("Plan", f"{found.record.plan} (entry {found.seq}), for {model}"), ("Reason", why)],
        question="End this plan?",
    )
