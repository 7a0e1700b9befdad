"""`cognify ledger checkpoint`, `anchor`: signed heads, and where they are kept."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.exits import ROLLED_BACK, UNPROVEN, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import (
    json_option,
    open_workspace,
)
from cognify_dagster.cli.ledger.group import command
from cognify_dagster.cli.output import as_json, clean, say

if TYPE_CHECKING:
    from cognify_dagster.workspace import Workspace


@command.command("checkpoint")
@json_option
@click.pass_context
def checkpoint(ctx: click.Context, json_: bool) -> None:
    """Sign the present head, after recomputing every entry that is new. Prints the signed note.

    The witnesses of the trust file are asked to cosign it; what became of each is said on stderr.

    \b
    Example:
      cognify ledger checkpoint
    """
    from cognify_dagster.governance import judge_acts
    from cognify_dagster.ledger import Tampered

    workspace = open_workspace(ctx)
    ledger = with_signer(workspace).ledger
    try:
        note = ledger.sign_checkpoint()
    except Tampered as error:
        report = ledger.verify(workspace.trust(), acts=judge_acts)
        say(f"Error: nothing was signed: {clean(error)}", err=True)
        finish(int(report.outcome) or 1)
    if json_:
        origin, size, root = note.split("\n")[:3]
        asked = [{"witness": f.witness, "verdict": f.verdict.value, "message": f.message} for f in ledger.witnessing]
        hexed = base64.b64decode(root).hex()
        as_json({"origin": origin, "size": int(size), "root": hexed, "note": note, "witnesses": asked})
    else:
        click.echo(note, nl=False)
        for found in ledger.witnessing:
            say(f"{found.verdict.value}: {clean(found)}", err=True)
    if any(found.alarming for found in ledger.witnessing):
        say("A witness says that it knows another history: run `cognify ledger verify --external`.", err=True)
        finish(ROLLED_BACK)


def with_signer(workspace: Workspace) -> Workspace:
    """Take the log key that lies here, also where `signer = "external"` keeps other commands from opening it."""
    from cognify_dagster.workspace import open_signer

    if workspace.ledger.signer is None and workspace.config.signer == "external":
        workspace.ledger.signer = open_signer(workspace.config)
    return workspace


@command.command("anchor")
@json_option
@click.pass_context
def anchor(ctx: click.Context, json_: bool) -> None:
    """Put the newest checkpoint where the ledger's owners cannot change it: to every [[anchor]] of cognify.toml.

    The note must be signed by a key of the trust file. Doing it again for the same head is no error. Exit codes: 0 every anchor
    has it, 2 one holds another head of the same size, 4 one could not be reached.

    \b
    Example:
      cognify ledger checkpoint && cognify ledger anchor
    """
    from cognify_dagster.ledger import open_checkpoint
    from cognify_dagster.ledger.anchors import AnchorConflict, AnchorError
    from cognify_dagster.workspace.anchoring import put

    workspace = open_workspace(ctx)
    if not workspace.config.anchors:
        raise Failure(
            f'{workspace.config.path} names no anchor; add a table such as [[anchor]] with kind = "folder", path = "…"',
            UNREADABLE,
        )
    note = workspace.ledger.latest_checkpoint()
    if note is None:
        raise Failure("there is no checkpoint to anchor yet; run `cognify ledger checkpoint` first", UNPROVEN)
    head = open_checkpoint(note, workspace.trust().logs)
    code, done = 0, []
    for item in workspace.config.anchors:
        try:
            receipt = put(workspace.config, item, note)
            done.append({"name": item.name, "kind": receipt.kind, "location": receipt.location, "error": None})
        except AnchorError as error:
            done.append({"name": item.name, "kind": item.kind, "location": None, "error": str(error)})
            code = ROLLED_BACK if isinstance(error, AnchorConflict) or code == ROLLED_BACK else UNPROVEN
    if json_:
        as_json({"origin": head.origin, "size": head.size, "root": head.root.hex(), "anchors": done})
    else:
        say(f"Head of {head.size} entries, root {head.root.hex()}")
        for entry in done:
            state = f"anchored at {entry['location']}" if entry["error"] is None else f"FAILED: {entry['error']}"
            say(f"  {entry['name']} ({entry['kind']}): {clean(state)}")
    finish(code)
