"""`cognify people`: who is enrolled, with which roles and keys; also the machines that write entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, Failure
from cognify_dagster.cli.inputs import (
    HOLDER,
    IN_FILE,
    KEY_ID,
    OUT_FILE,
    PERSON,
    WORKLOAD,
    confirm,
    json_option,
    open_workspace,
    passphrase_option,
    unlock,
    yes_option,
)
from cognify_dagster.cli.output import as_json, clean, pairs, say, table, trial_banner


@click.group(cls=Group, name="people")
def command() -> None:
    """List and enrol people, admit machines, revoke keys.

    \b
    Example:
      cognify people list
    """


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List everyone with roles, aliases and keys.

    \b
    Example:
      cognify people list --json
    """
    from cognify_dagster.governance import directory

    reading = open_workspace(ctx).read()
    people = directory(reading)
    rows: list[dict[str, Any]] = []
    for person in people.people():
        standing = people.standings[person.person][-1]
        rows.append(
            {
                "person": person.person,
                "name": person.name,
                "title": person.title,
                "roles": list(person.roles),
                "aliases": list(person.aliases),
                "keys": [
                    {
                        "key_id": span.key.key_id,
                        "valid": span.valid_at(reading.size),
                        "since_entry": span.since,
                        "revoked_entry": span.until,
                    }
                    for span in people.keys.get(person.person, ())
                ],
                "entry": standing.since,
                "vouched_by": standing.vouched_by,
            }
        )
    workloads = [
        {"workload": item.workload, "key_id": item.key.key_id, "entry": since} for since, item in people.workloads
    ]
    problems = [{"entry": seq, "problem": text} for seq, text in people.problems]
    if json_:
        as_json({"trial": reading.trial, "people": rows, "workloads": workloads, "problems": problems})
        return
    trial_banner(reading.trial)
    table(
        ("person", "name", "roles", "aliases", "keys", "vouched by"),
        [
            (
                row["person"],
                row["name"],
                "\n".join(row["roles"]),
                "\n".join(row["aliases"]),
                "\n".join(
                    f"{key['key_id']}" + ("" if key["valid"] else f" revoked by entry {key['revoked_entry']}")
                    for key in row["keys"]
                ),
                f"{people.name(row['vouched_by'])} (entry {row['entry']})",
            )
            for row in rows
        ],
    )
    for problem in problems:
        say(f"Entry {problem['entry']} has no effect: {clean(problem['problem'])}")


@command.command("enrol")
@click.option("--name", help="Name as it is printed on sign-offs; for a new person it is needed.")
@click.option("--title", help="Job title.")
@click.option("--role", "roles", multiple=True, help="A role of the policy. May be repeated; replaces the roles held.")
@click.option(
    "--alias", "aliases", multiple=True, help="git:MAIL or user:LOGIN that maps to the person. Added to those known."
)
@click.option(
    "--public-key",
    "key_files",
    type=IN_FILE,
    multiple=True,
    help="Key file, or public half of one. Added to those known.",
)
@click.option("--person", type=PERSON, help="Person id; by default the one the key file names.")
@click.option(
    "--voucher", type=IN_FILE, required=True, metavar="KEYFILE", help="Key of the workspace admin who vouches."
)
@yes_option
@passphrase_option
@json_option
@click.pass_context
def enrol(
    ctx: click.Context,
    name: str | None,
    title: str | None,
    roles: tuple[str, ...],
    aliases: tuple[str, ...],
    key_files: tuple[Path, ...],
    person: str | None,
    voucher: Path,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Enrol a person, or change one: what is not given stays as it is. A second person vouches with their key.

    \b
    Example:
      cognify people enrol --name "Vera Validator" --role model_validator \\
          --public-key vera.pub.json --voucher ada.key.json
      cognify people enrol --person person/ben --alias git:ben@bank.example --voucher ada.key.json
    """
    from cognify_dagster.governance import GovernanceError, directory, enrol_person, read_public
    from cognify_dagster.records import Person

    found = [read_public(path) for path in key_files]
    for path, (holder, _) in zip(key_files, found, strict=True):
        if holder != (person or holder):
            raise GovernanceError(f"{path}: this key belongs to {holder}, not to {person}")
    who = person or (found[0][0] if found else None)
    if who is None or any(holder != who for holder, _ in found):
        raise click.UsageError("name one person: with --public-key of their key, or with --person")
    workspace = open_workspace(ctx)
    reading = workspace.read()
    known = directory(reading).person_at(who, reading.size)
    if known is None and not (name and roles and found):
        raise click.UsageError(f"{who} is not enrolled yet: --name, --role and --public-key are needed")
    keys = {key.key_id: key for key in ((*known.keys, *(k for _, k in found)) if known else [k for _, k in found])}
    record = Person(
        person=who,
        name=name or (known.name if known else ""),
        title=title if title is not None else (known.title if known else ""),
        roles=roles or (known.roles if known else ()),
        aliases=tuple(dict.fromkeys((*(known.aliases if known else ()), *aliases))),
        keys=tuple(keys.values()),
    )
    key = unlock(voucher, passphrase_files)
    if not json_:
        trial_banner(reading.trial)
        say("This changes who counts in this workspace:" if known else "This person will be enrolled:")
        pairs(
            [
                ("Person", record.person),
                ("Name", record.name),
                ("Roles", ", ".join(record.roles)),
                ("Aliases", ", ".join(record.aliases) or "none"),
                ("Keys", ", ".join(key.key_id for key in record.keys)),
                ("Vouched by", key.person),
            ]
        )
    confirm("Vouch that you know this person and that the key is theirs?", yes)
    receipt = enrol_person(workspace, record, key)
    if json_:
        as_json({"entry": receipt.seq, "leaf": receipt.leaf.hex(), "person": record.model_dump(mode="json")})
        return
    say(f"Recorded as entry {receipt.seq}, leaf {receipt.leaf.hex()}")


@command.command("revoke-key")
@click.argument("holder", type=HOLDER)
@click.argument("key_id", type=KEY_ID)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.option("--key", type=IN_FILE, required=True, metavar="FILE", help="Key of the holder, or of a workspace admin.")
@yes_option
@passphrase_option
@json_option
@click.pass_context
def revoke(
    ctx: click.Context,
    holder: str,
    key_id: str,
    reason: str,
    key: Path,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Revoke the key of a person or workload from now on. Approvals made with it stop counting for releases.

    \b
    Example:
      cognify people revoke-key person/vera 0123456789abcdef --reason "laptop lost" --key ada.key.json
    """
    from cognify_dagster.governance import revoke_key

    workspace = open_workspace(ctx)
    by = unlock(key, passphrase_files)
    if not json_:
        say(f"Key {key_id} of {holder} is revoked by {by.person}: {clean(reason)}")
    confirm("Revoke this key?", yes)
    receipt = revoke_key(workspace, holder, key_id, reason, by)
    if json_:
        as_json({"entry": receipt.seq, "leaf": receipt.leaf.hex()})
        return
    say(f"Recorded as entry {receipt.seq}, leaf {receipt.leaf.hex()}")


@command.command("enrol-workload")
@click.argument("workload", type=WORKLOAD)
@click.option("--key-file", type=IN_FILE, metavar="FILE", help="The machine's private key file (32 bytes, mode 0600).")
@click.option("--new-key", type=OUT_FILE, metavar="FILE", help="Make a new private key file and admit its key.")
@click.option("--public", metavar="BASE64", help="The machine's public key, where its private key is not here.")
@click.option(
    "--kind",
    "wanted",
    multiple=True,
    help="A record kind it may write. May be repeated. Default: what it may write now.",
)
@click.option("--all-kinds", is_flag=True, help="It may write every kind that a machine may.")
@click.option(
    "--voucher", type=IN_FILE, required=True, metavar="KEYFILE", help="Key of the workspace admin who admits it."
)
@yes_option
@passphrase_option
@json_option
@click.pass_context
def enrol_workload_(
    ctx: click.Context,
    workload: str,
    key_file: Path | None,
    new_key: Path | None,
    public: str | None,
    wanted: tuple[str, ...],
    all_kinds: bool,
    voucher: Path,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Admit the key of a machine that writes entries, or replace one that was revoked. Signed by a workspace admin.

    A workload can never sign off. It writes only the kinds named here. A machine uses the key that lies in
    .cognify/keys/workload.key, under the name in cognify.toml (workload).

    \b
    Example:
      cognify people revoke-key workload/pipeline 0123456789abcdef --reason "host stolen" --key ada.key.json
      mv .cognify/keys/workload.key .cognify/keys/workload.key.revoked
      cognify people enrol-workload workload/pipeline --new-key .cognify/keys/workload.key --voucher ada.key.json
    """
    from cognify_dagster.cli.workloads import kinds_for, machine_key
    from cognify_dagster.governance import directory, enrol_workload, public_key
    from cognify_dagster.ledger import write_private
    from cognify_dagster.records import Workload

    raw, secret = machine_key(key_file, new_key, public)
    workspace = open_workspace(ctx)
    reading = workspace.read()
    people = directory(reading)
    kinds = kinds_for(people, workload, wanted, all_kinds)
    record = Workload(workload=workload, key=public_key(raw), kinds=kinds)
    spans = [span for span in people.keys.get(workload, ()) if span.key.key_id == record.key.key_id]
    if spans:
        state = "is enrolled already" if spans[0].valid_at(reading.size) else "was revoked; a new key is needed"
        raise Failure(f"the key {record.key.key_id} of {workload} {state}", BLOCKED)
    by = unlock(voucher, passphrase_files)
    if not json_:
        trial_banner(reading.trial)
        say("This machine will be admitted:")
        pairs(
            [
                ("Workload", workload),
                ("Key", record.key.key_id + (f", new in {clean(new_key)}" if new_key else "")),
                ("May write", ", ".join(kinds)),
                ("Admitted by", by.person),
            ]
        )
    confirm("Admit this key?", yes)
    if new_key is not None and secret is not None:
        write_private(new_key, secret)
    try:
        receipt = enrol_workload(workspace, record, by)
    except BaseException:
        if new_key is not None:
            new_key.unlink(missing_ok=True)
        raise
    if json_:
        as_json({"entry": receipt.seq, "leaf": receipt.leaf.hex(), "workload": record.model_dump(mode="json")})
        return
    say(f"Recorded as entry {receipt.seq}, leaf {receipt.leaf.hex()}")
