"""`cognify hold`: legal holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import (
    IN_FILE,
    json_option,
    open_workspace,
    signature_options,
    signing_options,
    unlock,
)
from cognify_dagster.cli.joint import ask, recorded, unlocked
from cognify_dagster.cli.output import as_json, clean, say, table, trial_banner


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
    **signing: Any,
) -> None:
    """Place a legal hold. One compliance officer or workspace admin signs.

    \b
    Example:
      cognify hold place case-2026-17 --subject model/credit_default --reason "suit of …" --as carl.key.json
    """
    from cognify_dagster.governance import place_hold

    key = unlock(key_file, signing["passphrase_files"])
    workspace = open_workspace(ctx)
    covers = ", ".join((*subjects, *(f"entry {seq}" for seq in seqs)))
    rows = [("Hold", name), ("Covers", covers), ("Reason", reason)]
    ask(signing, workspace.read(), rows, [key], "Place this hold?")
    recorded(signing, place_hold(workspace, name, by=key, reason=reason, subjects=subjects, seqs=seqs))


@command.command("lift")
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@signing_options
@click.pass_context
def lift(
    ctx: click.Context,
    name: str,
    reason: str,
    **signing: Any,
) -> None:
    """Lift a legal hold. Two different compliance officers or workspace admins sign: things can be destroyed again.

    \b
    Example:
      cognify hold lift case-2026-17 --reason "settled" --as carl.key.json --as ada.key.json
    """
    from cognify_dagster.governance import lift_hold

    keys = unlocked(signing)
    workspace = open_workspace(ctx)
    ask(signing, workspace.read(), [("Hold", name), ("Reason", reason)], keys, "Lift this hold?")
    recorded(signing, lift_hold(workspace, name, signers=keys, reason=reason))


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
