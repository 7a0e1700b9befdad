"""`cognify policy`: check, explain and compare policy files, show the policy in force, adopt another one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import IN_FILE, check_yaml, json_option, open_workspace, read_text
from cognify_dagster.cli.output import as_json, clean, heading, moment, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import Policy


@click.group(cls=Group, name="policy")
def command() -> None:
    """Check, explain, compare, show and adopt the release policy.

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
    policy = read_policy(file)
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
@act_options(names=("--as", "--key"))
@click.pass_context
def adopt(ctx: click.Context, file: Path, reason: str, **signing: Any) -> None:
    """Adopt a policy with the signatures that the policy in force demands (two people by default).

    What changes is shown in words before anybody signs.

    \b
    Example:
      cognify policy adopt policy.yaml --as ada.key.json --as finn.key.json --reason "yearly review"
      cognify policy adopt policy.yaml --reason "yearly review" --export new-policy.json --signer person/ada --signer person/finn
    """
    from cognify_dagster.governance import policy_in_force
    from cognify_dagster.governance.policy.adoption import policy_adoption
    from cognify_dagster.governance.policy.text import policy_changes

    policy = read_policy(file)
    current = policy_in_force(open_workspace(ctx).read())
    if policy.digest == current.digest:
        say(f"{clean(file)} is the policy in force already: {policy.digest}", err=signing["json_"])
        if signing["json_"]:
            as_json({"entry": current.seq, "digest": policy.digest, "duplicate": True})
        return
    changes = policy_changes(current.policy, policy)
    done = carry_out(
        ctx,
        lambda _reading, _signers: policy_adoption(policy, reason),
        signing,
        title=f"{clean(policy.title)} is adopted in the place of the policy of entry {current.seq}:",
        rows=[
            ("Digest", policy.digest),
            ("Replaces", current.digest),
            ("Reason", reason),
            *(("Change", line) for line in changes),
        ],
        question="Adopt this policy?",
        more={"digest": policy.digest, "changes": changes},
    )
    if done is not None and not signing["json_"]:
        say(f"In force from entry {done.seq} on.")
        say(
            "Sign-offs made under the policy before name its digest; people whose stage is open sign under the new one."
        )


@command.command("diff")
@click.argument("file", type=IN_FILE, required=False)
@click.option(
    "--from", "old", type=click.IntRange(min=0), metavar="ENTRY", help="The older policy; by default the one in force."
)
@click.option("--to", "new", type=click.IntRange(min=0), metavar="ENTRY", help="The newer policy, instead of FILE.")
@json_option
@click.pass_context
def diff(ctx: click.Context, file: Path | None, old: int | None, new: int | None, json_: bool) -> None:
    """Say in words what a policy file would change, or what changed between two adopted policies.

    Without FILE and --to it compares the newest two that were adopted. The exit code is 0 whether or not they differ.

    \b
    Example:
      cognify policy diff policy.yaml
      cognify policy diff --from 0 --to 37
    """
    from cognify_dagster.governance import directory
    from cognify_dagster.governance.policy.text import policy_changes

    if file is not None and new is not None:
        raise click.UsageError("use either FILE or --to")
    adopted = directory(open_workspace(ctx).read()).policies
    known = {seq: policy for seq, policy, _ in adopted}
    for option, seq in (("--from", old), ("--to", new)):
        if seq is not None and seq not in known:
            raise click.UsageError(
                f"{option} {seq}: no policy came into force with this entry; those that did: {', '.join(map(str, known))}"
            )
    if file is not None:
        start, after, name = old if old is not None else adopted[-1][0], read_policy(file), str(file)
    else:
        end = new if new is not None else adopted[-1][0]
        earlier = [seq for seq in known if seq < end]
        start = old if old is not None else earlier[-1] if earlier else end
        after, name = known[end], f"entry {end}"
    changes = policy_changes(known[start], after)
    if json_:
        as_json(
            {
                "from": {"entry": start, "digest": known[start].digest},
                "to": {"source": name, "digest": after.digest},
                "changes": changes,
            }
        )
        return
    in_force = " (in force)" if start == adopted[-1][0] else ""
    heading(f"From the policy of entry {start}{in_force} to {clean(name)}")
    if len(known) == 1 and file is None:
        say("Only the first policy was adopted so far.")
    elif not changes:
        say("They say the same.")
    for line in changes:
        say(f"  - {clean(line)}")


@command.command("explain")
@click.argument("file", type=IN_FILE, required=False)
@json_option
@click.pass_context
def explain(ctx: click.Context, file: Path | None, json_: bool) -> None:
    """Say in plain sentences what a policy file, or the policy in force, demands.

    \b
    Example:
      cognify policy explain
      cognify policy explain policy.yaml
    """
    from cognify_dagster.governance import policy_in_force
    from cognify_dagster.governance.policy.text import explain_policy

    if file is not None:
        policy, source = read_policy(file), str(file)
    else:
        reading = open_workspace(ctx).read()
        found = policy_in_force(reading)
        policy, source = found.policy, f"in force since entry {found.seq}"
        if not json_:
            trial_banner(reading.trial)
    parts = explain_policy(policy)
    if json_:
        as_json({"source": source, "digest": policy.digest, "sections": [{"title": a, "lines": b} for a, b in parts]})
        return
    heading(f"{policy.title} ({source})")
    for title, lines in parts:
        say()
        heading(title)
        for line in lines:
            say(f"  {clean(line)}")


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of `policy.yaml`, for editors that complete and check it while it is written.

    \b
    Example:
      cognify policy schema > policy.schema.json
    """
    from cognify_dagster.governance import Policy

    as_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema()})


def read_policy(file: Path) -> Policy:
    """Read a policy file; a key that stands there twice is an error, too.

    Raises:
        Failure, PolicyError: naming file and line or field.
    """
    from cognify_dagster.governance import load_policy
    from cognify_dagster.records import YamlError, load_yaml

    check_yaml(file, "a policy")
    try:
        load_yaml(read_text(file))
    except YamlError as error:
        where = re.search(r"line ([0-9]+), column", str(error))
        what = str(error).partition(' in "<')[0]
        raise Failure(f"{file}{f', line {where[1]}' if where else ''}: {what}", UNREADABLE) from error
    return load_policy(file)


def print_policy(policy: Policy) -> None:
    """Print what each tier demands."""
    rows = []
    for name, tier in policy.tiers.items():
        for number, (stage_name, stage) in enumerate(policy.stages_of(name)):
            signed = ", ".join(f"{count} × {role}" for role, count in stage.wanted.items())
            who = ", ".join(stage.gates) if stage.kind == "automated" else signed
            days = f"{tier.approval_days} days"
            rows.append((name if number == 0 else "", stage.title or stage_name, who, days if number == 0 else ""))
    table(("tier", "stage", "met by", "approvals last"), rows)
    excluded = ", ".join(policy.separation_of_duties.exclude) or "nobody"
    different = "different people" if policy.separation_of_duties.distinct_people_across_stages else "may be one person"
    say(f"May not sign: {excluded}. Stages: {different}. Unattributed work: {policy.unattributed}.")
