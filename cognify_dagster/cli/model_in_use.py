"""The commands of `cognify model` about a model in use: its periodic review, and events that may void approvals."""

from __future__ import annotations

from typing import Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import MODEL, TARGET, TIME, VERSION, open_workspace
from cognify_dagster.cli.overseeing import alone
from cognify_dagster.cli.sign_choice import CONDITIONS, condition_options, condition_words, conditions_of


def add_to(group: click.Group) -> None:
    """Add the commands to `cognify model`."""
    group.add_command(review)
    group.add_command(report_event)


@click.command("review", cls=Command)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option(
    "--target", type=TARGET, default="production", show_default=True, help="Where the version reviewed is live."
)
@click.option("--outcome", type=click.Choice(["confirmed", "restricted", "retire"]), required=True)
@click.option("--text", required=True, help="What was looked at and found.")
@click.option(
    "--next-due", type=TIME, metavar="UTC", help="When the next one is due, if before the end of the tier's interval."
)
@condition_options
@act_options
@click.pass_context
def review(
    ctx: click.Context,
    model: str,
    version: str | None,
    target: str,
    outcome: str,
    text: str,
    next_due: str | None,
    **given: Any,
) -> None:
    """Sign the periodic review of what is live. Without VERSION it is about the version that is live on the target.

    Nobody with a hand in the version reviews it. `restricted` names limits of further use (--condition, --use-cap, …), which stay open
    until closed by `cognify model close-condition`. `retire` suspends the model wherever it is live and holds back all its
    releases, until a later review says otherwise.

    \b
    Example:
      cognify model review credit_default --outcome confirmed --text "outcomes of 2026 as expected" --as vera.key.json
      cognify model review credit_default --outcome restricted --text "weak for the young" \\
          --condition "no automatic refusal below 25; due=2027-01-31" --as vera.key.json
    """
    from cognify_dagster.governance import live
    from cognify_dagster.records import ReviewCompleted

    if version is None:
        current = live(open_workspace(ctx).read(), model, target)
        if current is None:
            raise click.ClickException(f"nothing of {model} is live on {target} through this ledger: name the VERSION")
        version = current.record.version
    signing = {name: item for name, item in given.items() if name not in CONDITIONS}
    limits = conditions_of(given)
    if (outcome == "restricted") != bool(limits):
        raise click.UsageError(
            'a restricted review names its limits: --condition "TEXT; due=UTC", --use-cap, --population, --ends, …'
            if not limits
            else f"limits belong to --outcome restricted, not to {outcome}"
        )
    value: dict[str, Any] = {"model": model, "version": version, "outcome": outcome, "text": text, "next_due": next_due}
    value["conditions"] = [item.model_dump(mode="json") for item in limits]
    carry_out(
        ctx,
        alone(ReviewCompleted, value, "reviewed_by"),
        signing,
        title="This review is signed:",
        rows=[
            ("Model", f"{model}, version {version}"),
            ("Outcome", outcome),
            ("Text", text),
            *(("Limit", condition_words(item)) for item in limits),
            ("Next due", next_due or "after the tier's interval"),
        ],
        question="Sign this review?",
    )


@click.command("report-event", cls=Command)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option(
    "--event",
    type=click.Choice(["data_change", "base_model_change", "drift_breach", "incident", "framework_change"]),
    required=True,
)
@click.option("--text", required=True, help="What happened.")
@click.option("--link", "links", multiple=True, help="A link to supporting material. May be repeated.")
@act_options
@click.pass_context
def report_event(
    ctx: click.Context, model: str, version: str | None, event: str, text: str, links: tuple[str, ...], **signing: Any
) -> None:
    """Report what may void approvals. Without VERSION it concerns all versions. Anybody with a role but the auditor's may report.

    \b
    Example:
      cognify model report-event credit_default 3 --event incident --text "wrong refusals on 2026-11-20" --as ben.key.json
    """
    from cognify_dagster.governance import policy_in_force
    from cognify_dagster.records import ModelEvent

    voids = event in policy_in_force(open_workspace(ctx).read()).policy.voids
    value = {"model": model, "version": version, "event": event, "text": text, "links": links}
    carry_out(
        ctx,
        alone(ModelEvent, value, "reported_by"),
        signing,
        title="This event is reported:",
        rows=[
            ("Model", f"{model}, {f'version {version}' if version else 'all versions'}"),
            ("Event", event),
            ("Text", text),
            *(("Link", link) for link in links),
            ("Effect", "approvals given before it count no more" if voids else "none: the policy does not list it"),
        ],
        question="Report this event?",
        more={"voids_approvals": voids},
    )
