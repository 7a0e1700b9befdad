"""`cognify model`: how a model is overseen. Classify, adopt, block, withdraw, roll back, review, report, and change plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli import model_emergency, model_known, model_plan
from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import (
    IN_FILE,
    KEY_ID,
    MODEL,
    NAME,
    OUT_FILE,
    PERSON,
    TARGET,
    TIME,
    VERSION,
    open_workspace,
    signature_options,
)
from cognify_dagster.cli.overseeing import assigned, reason_option, said, signer
from cognify_dagster.cli.sign import command as sign_command

if TYPE_CHECKING:
    from cognify_dagster.records import ModelClassified
    from cognify_dagster.workspace import Reading


@click.group(cls=Group, name="model")
def command() -> None:
    """Oversee a model: tier and owner, blocks, conditions, reviews, rollback, change plans, emergencies.

    Every act is signed by people, whose keys are here (--as) or who sign on other machines (--export and --signer, then `cognify act`).

    \b
    Example:
      cognify model classify credit_default --tier high --owner person/olga --rationale "decides on credit" --as carl.key.json
    """


@command.command("classify")
@click.argument("model", type=MODEL)
@click.option("--tier", help="A tier of the policy.")
@click.option("--owner", type=PERSON, help="The person who answers for the model.")
@click.option("--rationale", help="Inherent risk, exposure, purpose: why this tier.")
@click.option(
    "--framework", "frameworks", multiple=True, help="A framework in scope. May be repeated; replaces the list."
)
@click.option("--gate-set", type=NAME, help="The set of thresholds that applies to this model.")
@click.option(
    "--responsible",
    multiple=True,
    metavar="ACTIVITY=PERSON",
    help="Who does an activity, for `cognify raci`. May be repeated; added to those named before.",
)
@act_options
@click.pass_context
def classify(
    ctx: click.Context,
    model: str,
    tier: str | None,
    owner: str | None,
    rationale: str | None,
    frameworks: tuple[str, ...],
    gate_set: str | None,
    responsible: tuple[str, ...],
    **signing: Any,
) -> None:
    """Sign a model's risk tier, owner and scope. It outranks what the model's code says of itself.

    One person with a role of the policy's `classifiers` signs; two where the model would lose sign-off stages. For a model that is
    classified already, what is not given stays.

    \b
    Example:
      cognify model classify credit_default --tier high --owner person/olga --rationale "decides on credit" --as carl.key.json
      cognify model classify credit_default --responsible monitoring=person/ben --rationale "yearly review" --as carl.key.json
    """
    reading = open_workspace(ctx).read()
    given = {
        "tier": tier,
        "owner": owner,
        "rationale": rationale,
        "frameworks": _known_frameworks(frameworks) or None,
        "gate_set": gate_set,
    }
    facts = _classified(reading, model, given, assigned(responsible, "--responsible"))
    carry_out(
        ctx,
        lambda now, signers: _classification(facts, signers),
        signing,
        title="The model is classified:",
        rows=[
            ("Model", model),
            ("Tier", _tier_change(reading, model, facts["tier"])),
            ("Owner", facts["owner"]),
            ("Rationale", facts["rationale"]),
            ("Frameworks", ", ".join(facts["frameworks"]) or "none"),
            ("Thresholds", facts["gate_set"] or "any set adopted for the model"),
            *((f"  {activity}", person) for activity, person in sorted(facts["responsible"].items())),
        ],
        question="Classify the model?",
    )


def _known_frameworks(names: tuple[str, ...]) -> tuple[str, ...]:
    from cognify_dagster.documents.frameworks import framework_ids

    known = framework_ids() if names else []
    for name in names:
        if name not in known:
            raise click.UsageError(f"--framework {name[:60]!r}: there is no such framework; known: {', '.join(known)}")
    return names


def _classified(reading: Reading, model: str, given: dict[str, Any], responsible: dict[str, str]) -> dict[str, Any]:
    """Return the facts of a classification: what is given, else what stood in the one that counts."""
    from cognify_dagster.governance import classification_of, directory, policy_in_force

    before = classification_of(reading, directory(reading), policy_in_force(reading).policy, model).signed
    old = before.record.model_dump() if before else {"frameworks": (), "gate_set": None, "responsible": {}}
    facts = {"model": model, **{name: value if value is not None else old.get(name) for name, value in given.items()}}
    missing = [f"--{name}" for name in ("tier", "owner", "rationale") if not facts[name]]
    if missing:
        raise click.UsageError(f"{model} was not classified before: {', '.join(missing)} is needed")
    people = directory(reading)
    for what, person in {
        "--owner": facts["owner"],
        **{f"--responsible {k}": v for k, v in responsible.items()},
    }.items():
        if people.person_at(str(person), reading.size) is None:
            raise click.UsageError(f"{what}: {person} is not enrolled here; see `cognify people list`")
    return {**facts, "responsible": {**old["responsible"], **responsible}}


def _classification(facts: dict[str, Any], signers: tuple[str, ...]) -> ModelClassified:
    from cognify_dagster.records import ModelClassified

    return ModelClassified.model_validate({**facts, "signers": tuple(sorted(set(signers))), "envelopes": ()})


def _tier_change(reading: Reading, model: str, tier: str) -> str:
    from cognify_dagster.governance import classification_of, directory, policy_in_force
    from cognify_dagster.governance.oversight.classification import lost_stages, signed_stages

    policy = policy_in_force(reading).policy
    found = classification_of(reading, directory(reading), policy, model)
    stages = [name for name, _ in policy.stages_of(tier) if name in signed_stages(policy, tier)]
    signed = f"people sign: {', '.join(stages)}" if stages else "nobody signs a release"
    lost = sorted(lost_stages(policy, found.tier, tier))
    before = f"; before: {found.tier}" if tier != found.tier else ""
    fewer = f"; no longer signed: {', '.join(lost)} (two people sign this)" if lost else ""
    return f"{tier} ({signed}{before}{fewer})"


@command.command("adopt")
@click.argument("model", type=MODEL)
@click.option("--version", type=VERSION, required=True, help="How the version that is live is called.")
@click.option("--target", type=TARGET, default="production", show_default=True)
@click.option("--live-since", type=TIME, metavar="UTC", help="Since when it is live, if anybody knows.")
@click.option("--known", multiple=True, metavar="KEY=VALUE", help="Something that is known. May be repeated.")
@click.option("--unknown", multiple=True, help="Something that nobody can say any more. May be repeated.")
@click.option("--facts", "facts_file", type=IN_FILE, metavar="FILE", help="YAML with `known`, `unknown`, `live_since`.")
@act_options
@click.pass_context
def adopt(
    ctx: click.Context,
    model: str,
    version: str,
    target: str,
    live_since: str | None,
    known: tuple[str, ...],
    unknown: tuple[str, ...],
    facts_file: Path | None,
    **signing: Any,
) -> None:
    """Record a model that was live before this ledger existed, as unattested, with what is known about it.

    Anybody with a role signs. Nothing is registered and nothing approved: `cognify status` shows it as unattested until a version
    of it is released through this ledger.

    \b
    Example:
      cognify model adopt fraud_score --version 2023-04 --live-since 2023-04-11 --known algorithm=xgboost \\
          --known "training data=transactions of 2022" --unknown "who approved it" --as ben.key.json
    """
    from cognify_dagster.governance.signing.acts import UNSIGNED
    from cognify_dagster.records import ModelAdopted

    facts = model_known.merged(facts_file, live_since, known, unknown)
    value = {"model": model, "version": version, "target": target, **facts, "envelope": UNSIGNED}
    carry_out(
        ctx,
        lambda now, signers: ModelAdopted.model_validate({**value, "adopted_by": signer(signers)}),
        signing,
        title="This model is recorded as live without attestation:",
        rows=[
            ("Model", f"{model}, version {version}, on {target}"),
            ("Live since", facts["live_since"] or "unknown"),
            *model_known.rows(facts),
        ],
        question="Record this?",
    )


def _sign_off_options(function: Any) -> Any:
    """What the sign-offs `block` and `withdraw` take of `cognify sign`."""
    function = signature_options(function)
    for option in (
        click.option("--key-id", type=KEY_ID, help="With --export: the key that will sign."),
        click.option("--person", type=PERSON, help="With --export: who will sign."),
        click.option(
            "--export", "export_to", type=OUT_FILE, metavar="FILE", help="Write the statement for another machine."
        ),
        click.option("--key", "--as", "key", type=IN_FILE, metavar="FILE", help="Your personal key file."),
        reason_option,
    ):
        function = option(function)
    return function


def _sign_off(ctx: click.Context, decision: str, given: dict[str, Any], reason: str | None) -> None:
    """Go through `cognify sign`: there is no other way to sign off."""
    if given["key"] is None and given["export_to"] is None:
        raise click.UsageError("name your key with --key, or use --export and --person to sign on another machine")
    comments = said(reason, f"Why do you {decision} it?")
    ctx.invoke(sign_command, decision=decision, comments=comments, **given)


@command.command("block")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@_sign_off_options
@click.pass_context
def block(ctx: click.Context, reason: str | None, **given: Any) -> None:
    """Block a version: it cannot be released, and what is live of it is suspended if the policy says so.

    It needs a role of the policy's `blockers`, and stands until who blocked withdraws it or two people lift it.

    \b
    Example:
      cognify model block credit_default 3 --reason "complaints about refusals" --key carl.key.json
    """
    _sign_off(ctx, "block", given, reason)


@command.command("withdraw")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--entry", type=click.IntRange(min=0), help="Entry of the sign-off; by default your newest one.")
@_sign_off_options
@click.pass_context
def withdraw(ctx: click.Context, reason: str | None, **given: Any) -> None:
    """Withdraw your own approval, rejection or block. What is live on the strength of a withdrawn approval is suspended.

    \b
    Example:
      cognify model withdraw credit_default 3 --reason "the holdout was not independent" --key vera.key.json
    """
    _sign_off(ctx, "withdraw", given, reason)


@command.command("review")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option(
    "--target", type=TARGET, default="production", show_default=True, help="Where the version reviewed is live."
)
@click.option("--outcome", type=click.Choice(["confirmed", "restricted", "retire"]), required=True)
@click.option("--text", required=True, help="What was looked at and found.")
@click.option(
    "--next-due", type=TIME, metavar="UTC", help="When the next one is due, if not after the tier's interval."
)
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
    **signing: Any,
) -> None:
    """Sign the periodic review of what is live. Without VERSION it is about the version that is live on the target.

    \b
    Example:
      cognify model review credit_default --outcome confirmed --text "outcomes of 2026 as expected" --as vera.key.json
    """
    from cognify_dagster.governance import live
    from cognify_dagster.governance.signing.acts import UNSIGNED
    from cognify_dagster.records import ReviewCompleted

    if version is None:
        current = live(open_workspace(ctx).read(), model, target)
        if current is None:
            raise click.ClickException(f"nothing of {model} is live on {target} through this ledger: name the VERSION")
        version = current.record.version
    value = {"model": model, "version": version, "outcome": outcome, "text": text, "next_due": next_due}
    carry_out(
        ctx,
        lambda now, signers: ReviewCompleted.model_validate(
            {**value, "reviewed_by": signer(signers), "envelope": UNSIGNED}
        ),
        signing,
        title="This review is signed:",
        rows=[
            ("Model", f"{model}, version {version}"),
            ("Outcome", outcome),
            ("Text", text),
            ("Next due", next_due or "after the tier's interval"),
        ],
        question="Sign this review?",
    )


@command.command("report-event")
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
    """Report what may void approvals. Without VERSION it concerns all versions. Anybody with a role may report.

    \b
    Example:
      cognify model report-event credit_default 3 --event incident --text "wrong refusals on 2026-11-20" --as ben.key.json
    """
    from cognify_dagster.governance import policy_in_force
    from cognify_dagster.governance.signing.acts import UNSIGNED
    from cognify_dagster.records import ModelEvent

    voids = event in policy_in_force(open_workspace(ctx).read()).policy.voids
    value = {"model": model, "version": version, "event": event, "text": text, "links": links}
    carry_out(
        ctx,
        lambda now, signers: ModelEvent.model_validate({**value, "reported_by": signer(signers), "envelope": UNSIGNED}),
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


model_emergency.add_to(command)
command.add_command(model_plan.command)
