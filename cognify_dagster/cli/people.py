"""`cognify people`: who is enrolled, with which roles, keys and delegations; also the machines that write entries."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, Failure
from cognify_dagster.cli.inputs import (
    IN_FILE,
    OUT_FILE,
    WORKLOAD,
    confirm,
    json_option,
    open_workspace,
    signature_options,
    unlock,
)
from cognify_dagster.cli.output import as_json, clean, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import Delegation


@click.group(cls=Group, name="people")
def command() -> None:
    """Who is enrolled: people, their roles and keys, who may sign for whom; also the machines that write entries.

    Acts that need several people take the key of each (--as, repeated), or a draft that each signs on their own machine
    (--export, then `cognify act sign` and `cognify act submit`).

    \b
    Example:
      cognify people list
      cognify people enrol --name "Vera" --role model_validator --public-key vera.pub.json --as ada.key.json --as finn.key.json
    """


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List everyone with roles, aliases, keys and delegations.

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
                "witnesses": list(standing.witnesses),
                "roles_count_until": _moment(people.recertification_due_us(person.person, reading.size)),
            }
        )
    delegations = [_delegation(item, reading.size) for item in people.delegations]
    disregarded = [{"entry": seq, "by_entry": by} for seq, by in sorted(people.disregarded.items())]
    workloads = [
        {"workload": item.workload, "key_id": item.key.key_id, "entry": since} for since, item in people.workloads
    ]
    problems = [{"entry": seq, "problem": text} for seq, text in people.problems]
    if json_:
        as_json(
            {
                "trial": reading.trial,
                "people": rows,
                "workloads": workloads,
                "delegations": delegations,
                "disregarded": disregarded,
                "problems": problems,
            }
        )
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
                    f"{key['key_id']}" + ("" if key["valid"] else f"\nrevoked by entry {key['revoked_entry']}")
                    for key in row["keys"]
                ),
                "\n".join(people.name(who) for who in (row["vouched_by"], *row["witnesses"]))
                + f"\nentry {row['entry']}"
                + (f"\nroles count until {row['roles_count_until']}" if row["roles_count_until"] else ""),
            )
            for row in rows
        ],
    )
    for item in delegations:
        if item["ended_entry"] is None:
            say(
                f"Entry {item['entry']}: {clean(people.name(item['delegate']))} may sign as {item['role']} for "
                f"{clean(people.name(item['delegator']))} from {item['starts']} until {item['expires']}"
            )
    for gone in disregarded:
        say(f"Entry {gone['entry']} is disregarded by decisions since entry {gone['by_entry']}")
    for problem in problems:
        say(f"Entry {problem['entry']} has no effect: {clean(problem['problem'])}")


def _moment(time_us: int | None) -> str | None:
    return (
        None if time_us is None else datetime.fromtimestamp(time_us / 1e6, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    )


def _delegation(item: Delegation, size: int) -> dict[str, Any]:
    return {
        "entry": item.seq,
        "delegator": item.delegator,
        "delegate": item.delegate,
        "role": item.role,
        "models": list(item.models),
        "stages": list(item.stages),
        "starts": item.starts,
        "expires": item.expires,
        "running": item.runs_at(size, datetime.now(timezone.utc)),
        "ended_entry": item.ended,
    }


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
    "--as",
    "--voucher",
    "voucher",
    type=IN_FILE,
    required=True,
    metavar="KEYFILE",
    help="Key of the workspace admin who admits it.",
)
@signature_options
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
      cognify people revoke workload/pipeline 0123456789abcdef --reason "host stolen" --as ada.key.json
      mv .cognify/keys/workload.key .cognify/keys/workload.key.revoked
      cognify people enrol-workload workload/pipeline --new-key .cognify/keys/workload.key --as ada.key.json
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


from cognify_dagster.cli import people_acts as _people_acts  # noqa: E402  (its commands belong to this group)

_people_acts.add_to(command)
