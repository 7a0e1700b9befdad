"""`cognify dataset attest`: a person's signed word about where a dataset comes from, bound to its root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cognify_dagster.cli.act_away import act_options
from cognify_dagster.cli.attest import attest_subject
from cognify_dagster.cli.dataset.finding import require_dataset
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.dataset.showing import DATASET, root_option
from cognify_dagster.cli.human_inputs import END, NEVER, TEXT_ID
from cognify_dagster.cli.inputs import IN_FILE, open_workspace


@command.command("attest")
@click.argument("name", type=DATASET)
@root_option
@click.option(
    "--text", "text_file", type=IN_FILE, metavar="FILE", help="What you attest; the shipped text unless given."
)
@click.option(
    "--text-id", type=TEXT_ID, default="data_provenance", show_default=True, help="Under which name it is kept."
)
@click.option("--expires", type=END, default=NEVER, show_default=True, metavar="DATE", help="Until when it counts.")
@click.option("--party", default="", help="The other side, such as who gave the data.")
@click.option("--role", default="", help="The role in which you attest it; else the first of the text's that you hold.")
@click.option("--document", "documents", type=IN_FILE, multiple=True, metavar="FILE", help="Such as the contract.")
@act_options(names=("--as", "--key"))
@click.pass_context
def attest(
    ctx: click.Context,
    name: str,
    root: str | None,
    text_file: Path | None,
    text_id: str,
    expires: str,
    party: str,
    role: str,
    documents: tuple[Path, ...],
    **signing: Any,
) -> None:
    """Attest where a dataset comes from, under your signature. It counts for exactly this root, and for no other.

    \b
    Example:
      cognify dataset attest loans_train --text provenance.md --as carl.key.json
    """
    from cognify_dagster.governance import find_change

    held = open_workspace(ctx).read()
    require_dataset(held, name)
    change = find_change(held, name, root)
    entry = change.item.seq
    state = (("Root", f"{change.root} (entry {entry})"),)
    attest_subject(ctx, text_id, f"dataset/{name}", text_file, expires, party, role, documents, entry, signing, state)
