"""`cognify hold`: legal holds."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import (
    IN_FILE,
    confirm,
    json_option,
    open_workspace,
    signature_options,
    signing_options,
    unlock,
    unlock_all,
)
from cognify_dagster.cli.output import as_json, clean, pairs, say, table, trial_banner


@click.group(cls=Group, name="hold")
def command() -> None:
    """Legal holds: while one stands, nothing that it covers is erased, collected or due.

    \b
    Example:
      cognify hold list
    """


@command.command("place")
@click.argument("name")
@click.option(
    "--subject", "subjects", multiple=True, help="model/x (with its versions), dataset/y …; ledger: everything."
)
@click.option("--seq", "seqs", type=click.IntRange(0), multiple=True, help="A single entry. May be repeated.")
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.option(
    "--as", "key_file", type=IN_FILE, required=True, metavar="KEYFILE", help="Key of the person who places it."
)
@signature_options
@click.pass_context
def place(
    ctx: click.Context,
    name: str,
    subjects: tuple[str, ...],
    seqs: tuple[int, ...],
    reason: str,
    key_file: Path,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Place a legal hold. One compliance officer or workspace admin signs.

    \b
    Example:
      cognify hold place case-2026-17 --subject model/credit_default --reason "suit of …" --as carl.key.json
    """
    from cognify_dagster.governance import place_hold

    key = unlock(key_file, passphrase_files)
    workspace = open_workspace(ctx)
    if not json_:
        trial_banner(workspace.read().trial)
        pairs(
            [
                ("Hold", name),
                ("Covers", ", ".join((*subjects, *(f"entry {seq}" for seq in seqs)))),
                ("Reason", reason),
                ("Placed by", key.person),
            ]
        )
    confirm("Place this hold?", yes)
    receipt = place_hold(workspace, name, by=key, reason=reason, subjects=subjects, seqs=seqs)
    if json_:
        as_json({"entry": receipt.seq, "leaf": receipt.leaf.hex(), "duplicate": receipt.duplicate})
        return
    say(f"{'It stands already, since' if receipt.duplicate else 'Recorded as'} entry {receipt.seq}")


@command.command("lift")
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@signing_options
@click.pass_context
def lift(
    ctx: click.Context,
    name: str,
    reason: str,
    key_files: tuple[Path, ...],
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Lift a legal hold. Two different compliance officers or workspace admins sign: things can be destroyed again.

    \b
    Example:
      cognify hold lift case-2026-17 --reason "settled" --as carl.key.json --as ada.key.json
    """
    from cognify_dagster.governance import lift_hold

    keys = unlock_all(key_files, passphrase_files)
    workspace = open_workspace(ctx)
    if not json_:
        trial_banner(workspace.read().trial)
        pairs([("Hold", name), ("Reason", reason), ("Signed by", ", ".join(key.person for key in keys))])
    confirm("Lift this hold?", yes)
    receipt = lift_hold(workspace, name, signers=keys, reason=reason)
    if json_:
        as_json({"entry": receipt.seq, "leaf": receipt.leaf.hex()})
        return
    say(f"Recorded as entry {receipt.seq}")


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List the holds that stand, and entries about holds that have no effect.

    \b
    Example:
      cognify hold list --json
    """
    from cognify_dagster.governance import holds

    reading = open_workspace(ctx).read()
    found = holds(reading)
    if json_:
        as_json(
            {
                "holds": [
                    {
                        "hold": item.hold,
                        "entry": item.seq,
                        "subjects": list(item.subjects),
                        "entries": list(item.seqs),
                        "reason": item.reason,
                        "placed_by": item.placed_by,
                        "problem": item.problem,
                    }
                    for item in found.standing
                ],
                "problems": [{"entry": seq, "problem": text} for seq, text in found.problems],
            }
        )
        return
    trial_banner(reading.trial)
    if not found.standing:
        say("No legal hold stands.")
    else:
        table(
            ("hold", "entry", "covers", "reason", "placed by"),
            [
                (h.hold, h.seq, ", ".join((*h.subjects, *(f"entry {seq}" for seq in h.seqs))), h.reason, h.placed_by)
                for h in found.standing
            ],
        )
    for seq, text in found.problems:
        say(f"Entry {seq}: {clean(text)}")
