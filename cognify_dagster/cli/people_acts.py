"""The commands of `cognify people` that people sign: enrol, delegate, recertify, recover, disregard; keys see `people_keys`."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import IN_FILE, KEY_ID, MODEL, PERSON, TIME, open_workspace
from cognify_dagster.cli.overseeing import signer
from cognify_dagster.cli.people_keys import person_rows, revoke, rotate

if TYPE_CHECKING:
    from cognify_dagster.records import Person, PublicKey
    from cognify_dagster.workspace import Reading


def add_to(group: click.Group) -> None:
    """Add the commands to `cognify people`."""
    for item in (enrol, rotate, revoke, delegate_, end_delegation, recertify, recover, disregard):
        group.add_command(item)
    alias = click.Command("revoke-key", params=revoke.params, callback=revoke.callback, help=revoke.help, hidden=True)
    group.add_command(alias)


def _described(function: Any) -> Any:
    """What says who a person is, or shall be."""
    for option in (
        click.option("--person", type=PERSON, help="Person id; by default the one the key file names."),
        click.option(
            "--public-key", "key_files_new", type=IN_FILE, multiple=True, help="Key file, or public half of one; added."
        ),
        click.option(
            "--alias", "aliases", multiple=True, help="git:MAIL or user:LOGIN that maps to the person; added."
        ),
        click.option(
            "--role", "roles", multiple=True, help="A role of the policy. May be repeated; replaces the roles held."
        ),
        click.option("--title", help="Job title."),
        click.option("--name", help="Name as it is printed on sign-offs; for a new person it is needed."),
    ):
        function = option(function)
    return function


@click.command("enrol", cls=Command)
@_described
@click.option(
    "--retire-key", "retired", type=KEY_ID, multiple=True, help="Id of a key of theirs that ends. May be repeated."
)
@click.option("--no-role", is_flag=True, help="Take all roles away.")
@act_options(names=("--as", "--voucher"))
@click.pass_context
def enrol(
    ctx: click.Context,
    name: str | None,
    title: str | None,
    roles: tuple[str, ...],
    aliases: tuple[str, ...],
    key_files_new: tuple[Path, ...],
    person: str | None,
    retired: tuple[str, ...],
    no_role: bool,
    **signing: Any,
) -> None:
    """Enrol a person, or change one: what is not given stays as it is.

    A workspace admin and a second person who is enrolled sign (or as many as the policy's people.vouchers says); one admin suffices to take
    roles or keys away. Nobody signs their own enrolment.

    \b
    Example:
      cognify people enrol --name "Vera Validator" --role model_validator --public-key vera.pub.json \\
          --as ada.key.json --as finn.key.json
      cognify people enrol --person person/ben --alias git:ben@bank.example --as ada.key.json --as finn.key.json
      cognify people enrol --person person/ben --role auditor --export ben.json --signer person/ada --signer person/finn
    """
    from cognify_dagster.governance import enrolment

    if roles and no_role:
        raise click.UsageError("--role and --no-role contradict each other")
    who, found = _who(person, key_files_new)
    reading = open_workspace(ctx).read()
    before = _before(reading, who)
    record = _person(before, who, name, title, () if no_role else roles or None, aliases, found, retired, reading)
    carry_out(
        ctx,
        lambda now, signers: enrolment(now, record, signers),
        signing,
        title="This changes who counts in this workspace:" if before else "This person will be enrolled:",
        rows=person_rows(record),
        question="Vouch that you know this person and that the keys are theirs?",
        more={"person": record.model_dump(mode="json")},
    )


def delegation_options(function: Any) -> Any:
    """What says which role is lent, and for how long."""
    for option in (
        click.option("--reason", required=True, help="Why; it stands in the ledger."),
        click.option("--stage", "stages", multiple=True, help="Only for this stage. May be repeated."),
        click.option("--from", "starts", type=TIME, help="When it begins; now unless given."),
        click.option(
            "--until", "expires", type=TIME, required=True, help="When it ends (UTC; a date means its last second)."
        ),
        click.option("--role", required=True, help="A role that you hold as your own."),
    ):
        function = option(function)
    return function


@click.command("delegate", cls=Command)
@click.argument("delegate", type=PERSON)
@delegation_options
@click.option("--model", "models", type=MODEL, multiple=True, help="Only for this model. May be repeated.")
@act_options
@click.pass_context
def delegate_(
    ctx: click.Context,
    delegate: str,
    role: str,
    expires: str,
    starts: str | None,
    models: tuple[str, ...],
    stages: tuple[str, ...],
    reason: str,
    **signing: Any,
) -> None:
    """Let another person sign in your role for a while, on your behalf. They cannot hand it on.

    \b
    Example:
      cognify people delegate person/mia --role compliance_officer --until 2026-12-24 --model credit_default \\
          --reason "on leave" --as carl.key.json
    """
    from cognify_dagster.governance import delegating
    from cognify_dagster.records import parse_utc

    begins = parse_utc(starts) if starts else datetime.now(timezone.utc).replace(microsecond=0)
    carry_out(
        ctx,
        lambda now, signers: delegating(
            signer(signers), delegate, role, parse_utc(expires), reason, starts=begins, models=models, stages=stages
        ),
        signing,
        title="This role is delegated:",
        rows=[
            ("Role", role),
            ("To", delegate),
            ("Models", ", ".join(models) or "all"),
            ("Stages", ", ".join(stages) or "all of the role"),
            ("From", begins.strftime("%Y-%m-%dT%H:%M:%SZ")),
            ("Until", expires),
            ("Reason", reason),
        ],
        question="Let them sign on your behalf?",
    )


@click.command("end-delegation", cls=Command)
@click.argument("entry", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@act_options
@click.pass_context
def end_delegation(ctx: click.Context, entry: int, reason: str, **signing: Any) -> None:
    """End a delegation at once; ENTRY is the one that established it. Delegator, delegate or a workspace admin signs.

    \b
    Example:
      cognify people end-delegation 41 --reason "back from leave" --as carl.key.json
    """
    from cognify_dagster.governance import delegation_end

    carry_out(
        ctx,
        lambda now, signers: delegation_end(now, entry, reason, signer(signers)),
        signing,
        title="This delegation ends:",
        rows=[("Entry", entry), ("Reason", reason)],
        question="End it?",
    )


@click.command("recertify", cls=Command)
@click.argument("person", type=PERSON)
@act_options
@click.pass_context
def recertify(ctx: click.Context, person: str, **signing: Any) -> None:
    """Confirm that a person still holds and needs their roles. A workspace admin signs, not the person.

    \b
    Example:
      cognify people recertify person/vera --as ada.key.json
    """
    from cognify_dagster.governance import recertification

    before = _before(open_workspace(ctx).read(), person)
    carry_out(
        ctx,
        lambda now, signers: recertification(now, person, signer(signers)),
        signing,
        title="This person keeps their roles:",
        rows=[("Person", person), ("Roles", ", ".join(before.roles) if before else "none")],
        question="Confirm these roles?",
    )


@click.command("recover", cls=Command)
@_described
@click.option("--reason", required=True, help="What happened; it stands in the ledger.")
@act_options
@click.pass_context
def recover(
    ctx: click.Context,
    name: str | None,
    title: str | None,
    roles: tuple[str, ...],
    aliases: tuple[str, ...],
    key_files_new: tuple[Path, ...],
    person: str | None,
    reason: str,
    **signing: Any,
) -> None:
    """Give a person new keys with the founders' recovery keys, also where no admin is left. All their older keys end.

    \b
    Example:
      cognify people recover --public-key ada2.pub.json --reason "pass phrase lost" \\
          --as recovery1.key.json --as recovery2.key.json
    """
    from cognify_dagster.governance import recovery_record

    who, found = _who(person, key_files_new)
    if not found:
        raise click.UsageError("--public-key: a recovery gives new keys")
    reading = open_workspace(ctx).read()
    record = _person(_before(reading, who), who, name, title, roles or None, aliases, found, (), reading)
    record = record.model_copy(update={"keys": tuple(found)})
    carry_out(
        ctx,
        lambda now, signers: recovery_record(now, record, reason, [item.partition(":")[2] for item in signers]),
        signing,
        title="This person is set anew; every older key of theirs ends:",
        rows=[*person_rows(record), ("Reason", reason)],
        question="Recover this person?",
        recovery=True,
        more={"person": record.model_dump(mode="json")},
    )


@click.command("disregard", cls=Command)
@click.argument("entry", type=click.IntRange(1))
@click.option("--reason", required=True, help="What you found out about it; it stands in the ledger.")
@click.option("--recovery", is_flag=True, help="The keys are the founders' recovery keys.")
@act_options
@click.pass_context
def disregard(ctx: click.Context, entry: int, reason: str, recovery: bool, **signing: Any) -> None:
    """Let decisions go on without an entry about people or policy that cannot be read or proven.

    Two workspace admins sign whom it is not about (for one about the policy, people who may adopt a policy). A valid entry can never be
    disregarded, and nothing takes effect by it.

    \b
    Example:
      cognify people disregard 57 --reason "written by a stolen pipeline key" --as ada.key.json --as finn.key.json
    """
    from cognify_dagster.governance import disregarding

    carry_out(
        ctx,
        lambda now, signers: disregarding(now, entry, reason, signers),
        signing,
        title="Decisions go on without this entry:",
        rows=[("Entry", entry), ("Reason", reason)],
        question="Disregard it?",
        recovery=recovery,
    )


def _who(person: str | None, key_files: tuple[Path, ...]) -> tuple[str, list[PublicKey]]:
    from cognify_dagster.governance import GovernanceError, read_public

    found = [read_public(path) for path in key_files]
    for path, (holder, _) in zip(key_files, found, strict=True):
        if holder != (person or holder):
            raise GovernanceError(f"{path}: this key belongs to {holder}, not to {person}")
    who = person or (found[0][0] if found else None)
    if who is None or any(holder != who for holder, _ in found):
        raise click.UsageError("name one person: with --public-key of their key, or with --person")
    return who, [key for _, key in found]


def _before(reading: Reading, who: str) -> Person | None:
    from cognify_dagster.governance import directory

    return directory(reading).person_at(who, reading.size)


def _person(
    before: Person | None,
    who: str,
    name: str | None,
    title: str | None,
    roles: tuple[str, ...] | None,
    aliases: tuple[str, ...],
    added: list[PublicKey],
    retired: tuple[str, ...],
    reading: Reading,
) -> Person:
    """The new state: what is not given stays."""
    from cognify_dagster.governance import GovernanceError, directory
    from cognify_dagster.records import Person

    if before is None and not (name and roles and added):
        raise click.UsageError(f"{who} is not enrolled yet: --name, --role and --public-key are needed")
    keys = directory(reading).valid_keys(who, reading.size)
    missing = [key_id for key_id in retired if key_id not in keys]
    if missing:
        raise GovernanceError(f"{who} has no valid key {missing[0]}; `cognify people list` shows the keys")
    keys = {key_id: key for key_id, key in keys.items() if key_id not in retired}
    keys |= {key.key_id: key for key in added}
    return Person(
        person=who,
        name=name or (before.name if before else ""),
        title=title if title is not None else (before.title if before else ""),
        roles=roles if roles is not None else (before.roles if before else ()),
        aliases=tuple(dict.fromkeys((*(before.aliases if before else ()), *aliases))),
        keys=tuple(keys.values()),
    )
