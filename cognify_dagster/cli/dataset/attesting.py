"""`cognify dataset attest`: a person's signed word about where a dataset comes from, bound to its root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.dataset.finding import require_dataset
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.dataset.showing import DATASET, root_option
from cognify_dagster.cli.human_inputs import END, NEVER, TEXT_ID, role_of
from cognify_dagster.cli.inputs import IN_FILE, open_workspace
from cognify_dagster.cli.overseeing import signer

if TYPE_CHECKING:
    from cognify_dagster.workspace import Reading


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
    **signing: Any,
) -> None:
    """Attest where a dataset comes from, under your signature. It counts for exactly this root, and for no other.

    \b
    Example:
      cognify dataset attest loans_train --text provenance.md --as carl.key.json
    """
    from cognify_dagster.documents.catalogues.attestation_texts import load_text, read_attestation_text
    from cognify_dagster.governance import attestation_record, attested_already, find_change

    text = read_attestation_text(text_file, text_id) if text_file else load_text(text_id)
    about, until = f"dataset/{name}", None if expires == NEVER else expires
    problem = text.problem(about, party.strip(), None)
    if problem:
        raise click.UsageError(problem)
    held = open_workspace(ctx).read()
    require_dataset(held, name)
    change = find_change(held, name, root)

    def make(reading: Reading, signers: tuple[str, ...]) -> Any:
        person = signer(signers)
        chosen = role or role_of(reading, person, text.roles)
        if text.roles and chosen not in text.roles:
            raise click.UsageError(f"{text_id} is attested by {' or '.join(text.roles)}, not by {chosen}")
        made = attestation_record(
            reading,
            text_id,
            about,
            text.text,
            person,
            role=chosen,
            expires=until,
            text_version=text.version,
            party=party.strip(),
            state_seq=change.item.seq,
        )
        seq = attested_already(reading, made)
        if seq is not None:
            raise click.ClickException(f"this is attested already, by entry {seq}, and still counts")
        return made

    carry_out(
        ctx,
        make,
        signing,
        title="You attest this:",
        rows=[
            ("Text", f"{text_id}: {text.title}"),
            ("Dataset", name),
            ("Root", f"{change.root} (entry {change.item.seq})"),
            ("With", party.strip() or "nobody named"),
            ("Until", until or "without end"),
            ("Reads", ""),
            *(("  |", line) for line in text.text.split("\n")),
        ],
        question="Attest this?",
        more={"text_id": text_id, "about": about, "root": change.root, "expires": until},
    )
