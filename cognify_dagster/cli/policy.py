"""`cognify policy`: check a policy file, show the policy in force, adopt another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import (
    IN_FILE,
    check_yaml,
    confirm,
    json_option,
    open_workspace,
    signature_options,
    signers_option,
    unlock_all,
)
from cognify_dagster.cli.output import as_json, clean, heading, moment, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import Policy


@click.group(cls=Group, name="policy")
def command() -> None:
    """Check, show and adopt the release policy.

    \b
    Example:
      cognify policy check policy.yaml
    """


@command.command("check")
@click.argument("file", type=IN_FILE)
@json_option
def check(file: Path, json_: bool) -> None:
    """Check a policy file; print its digest and what each tier needs. No workspace is read.

    \b
    Example:
      cognify policy check policy.yaml
    """
    from cognify_dagster.governance import load_policy

    check_yaml(file, "a policy")
    policy = load_policy(file)
    if json_:
        as_json({"file": str(file), "digest": policy.digest, "policy": policy.as_json()})
        return
    say(f"{clean(file)} is a valid policy: {policy.digest}")
    print_policy(policy)


@command.command("show")
@json_option
@click.pass_context
def show(ctx: click.Context, json_: bool) -> None:
    """Show the policy in force, and the entry that established it.

    \b
    Example:
      cognify policy show --json
    """
    from cognify_dagster.governance import policy_in_force

    reading = open_workspace(ctx).read()
    found = policy_in_force(reading)
    entry = reading.at(found.seq)
    problems = [{"entry": seq, "problem": text} for seq, text in (*found.problems, *found.unreadable)]
    if json_:
        as_json(
            {
                "digest": found.digest,
                "entry": found.seq,
                "since": moment(entry.time_us) if entry else None,
                "trial": reading.trial,
                "policy": found.policy.as_json(),
                "problems": problems,
            }
        )
        return
    trial_banner(reading.trial)
    since = f", {moment(entry.time_us)}" if entry else ""
    heading(f"{found.policy.title}, in force since entry {found.seq}{since}")
    say(found.digest)
    print_policy(found.policy)
    for problem in problems:
        say(f"Entry {problem['entry']} has no effect: {clean(problem['problem'])}")


@command.command("adopt")
@click.argument("file", type=IN_FILE)
@click.option("--reason", required=True, help="Why the policy changes; it stands in the ledger.")
@signers_option(names=("--as", "--key"))
@signature_options
@click.pass_context
def adopt(
    ctx: click.Context,
    file: Path,
    reason: str,
    key_files: tuple[Path, ...],
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Adopt a policy with the signatures that the policy in force demands (two people by default).

    \b
    Example:
      cognify policy adopt policy.yaml --as ada.key.json --as finn.key.json --reason "yearly review"
    """
    from cognify_dagster.governance import adopt_policy, load_policy, policy_in_force

    check_yaml(file, "a policy")
    policy = load_policy(file)
    workspace = open_workspace(ctx)
    reading = workspace.read()
    current = policy_in_force(reading)
    if policy.digest == current.digest:
        say(f"{clean(file)} is the policy in force already: {policy.digest}", err=json_)
        if json_:
            as_json({"entry": current.seq, "digest": policy.digest, "duplicate": True})
        return
    signers = unlock_all(key_files, passphrase_files)
    if not json_:
        trial_banner(reading.trial)
        heading(f"{policy.title}, {policy.digest}")
        print_policy(policy)
        say(f"It replaces {current.digest}. Reason: {clean(reason)}")
        say(f"Signed by {', '.join(key.person for key in signers)}")
    confirm("Adopt this policy?", yes)
    receipt = adopt_policy(workspace, policy, reason, signers)
    if json_:
        as_json(
            {"entry": receipt.seq, "leaf": receipt.leaf.hex(), "digest": policy.digest, "duplicate": receipt.duplicate}
        )
        return
    say(f"In force from entry {receipt.seq} on, leaf {receipt.leaf.hex()}")
    say("Sign-offs made under the policy before name its digest; people whose stage is open sign under the new one.")


def print_policy(policy: Policy) -> None:
    """Print what each tier demands."""
    rows = []
    for name, tier in policy.tiers.items():
        for number, (stage_name, stage) in enumerate(policy.stages_of(name)):
            who = ", ".join(stage.gates) if stage.kind == "automated" else f"{stage.quorum} × {stage.role}"
            days = f"{tier.approval_days} days"
            rows.append((name if number == 0 else "", stage.title or stage_name, who, days if number == 0 else ""))
    table(("tier", "stage", "met by", "approvals last"), rows)
    excluded = ", ".join(policy.separation_of_duties.exclude) or "nobody"
    different = "different people" if policy.separation_of_duties.distinct_people_across_stages else "may be one person"
    say(f"May not sign: {excluded}. Stages: {different}. Unattributed work: {policy.unattributed}.")
