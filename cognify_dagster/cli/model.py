"""`cognify model`: how a model is overseen. Classify, adopt, block, withdraw, roll back, review, report, and change plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli import model_emergency, model_in_use, model_known, model_plan
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
from cognify_dagster.cli.overseeing import alone, assigned, reason_option, said, together
from cognify_dagster.cli.people_acts import delegate_, delegation_options
from cognify_dagster.cli.sign import command as sign_command

if TYPE_CHECKING:
    from cognify_dagster.workspace import Reading, Workspace


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
    from cognify_dagster.records import ModelClassified

    workspace = open_workspace(ctx)
    reading = workspace.read()
    given = {
        "tier": tier,
        "owner": owner,
        "rationale": rationale,
        "frameworks": _known_frameworks(workspace, model, frameworks) or None,
        "gate_set": gate_set,
    }
    facts = _classified(reading, model, given, assigned(responsible, "--responsible"))
    carry_out(
        ctx,
        together(ModelClassified, facts),
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


def _known_frameworks(workspace: Workspace, model: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Check names against the shipped frameworks, those of the workspace's own folder, and those the model's code registered."""
    from cognify_dagster.documents.frameworks.loading import framework_ids
    from cognify_dagster.records import ModelRegistered

    if not names:
        return names
    registered = workspace.read().latest(ModelRegistered, f"model/{model}")
    own = getattr(workspace.config, "frameworks", None)
    known = {*framework_ids(own), *(registered.record.frameworks if registered else ())}
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known))
            raise click.UsageError(f"--framework {name[:60]!r}: there is no such framework; known: {listed}")
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

    Anybody with a role but the auditor's signs. Nothing is registered and nothing approved: `cognify status` shows it as unattested until a version
    of it is released through this ledger.

    \b
    Example:
      cognify model adopt fraud_score --version 2023-04 --live-since 2023-04-11 --known algorithm=xgboost \\
          --known "training data=transactions of 2022" --unknown "who approved it" --as ben.key.json
    """
    from cognify_dagster.records import ModelAdopted

    facts = model_known.merged(facts_file, live_since, known, unknown)
    value = {"model": model, "version": version, "target": target, **facts}
    carry_out(
        ctx,
        alone(ModelAdopted, value, "adopted_by"),
        signing,
        title="This model is recorded as live without attestation:",
        rows=[
            ("Model", f"{model}, version {version}, on {target}"),
            ("Live since", facts["live_since"] or "unknown"),
            *model_known.rows(facts),
        ],
        question="Record this?",
    )


@command.command("delegate")
@click.argument("model", type=MODEL)
@click.argument("delegate", type=PERSON)
@delegation_options
@act_options
@click.pass_context
def delegate(ctx: click.Context, model: str, **given: Any) -> None:
    """Let another person sign in your role for this model, for a while: `cognify people delegate` with `--model`.

    \b
    Example:
      cognify model delegate credit_default person/mia --role compliance_officer --until 2026-12-24 \\
          --reason "on leave" --as carl.key.json
    """
    ctx.invoke(delegate_, models=(model,), **given)


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


model_in_use.add_to(command)
model_emergency.add_to(command)
command.add_command(model_plan.command)
