"""`cognify dataset approve`, `reject` and `reason`: people answer for a change of a dataset under their signature."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.dataset.finding import require_dataset
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.dataset.showing import DATASET, author_of, root_option
from cognify_dagster.cli.inputs import open_workspace
from cognify_dagster.cli.overseeing import said, signer

if TYPE_CHECKING:
    from cognify_dagster.records import Record
    from cognify_dagster.workspace import Reading

role_option = click.option(
    "--role", default="", help="The role in which you decide; else the first one you hold of those that may."
)


@command.command("approve")
@click.argument("name", type=DATASET)
@root_option
@click.option("--comment", default="", help="What you say about it.")
@role_option
@act_options(names=("--as", "--key"))
@click.pass_context
def approve(ctx: click.Context, name: str, root: str | None, comment: str, role: str, **signing: Any) -> None:
    """Approve what changed in a dataset: the difference by its digest, with the reason that was declared for it.

    The difference is computed again from the two snapshots before you sign. Whoever made the snapshot cannot approve it.

    \b
    Example:
      cognify dataset approve loans_train --root 4f2a9c01 --as vera.key.json
      cognify dataset approve loans_train --export loans.json --signer person/vera
    """
    _decide(ctx, name, root, "approve", comment, role, signing)


@command.command("reject")
@click.argument("name", type=DATASET)
@root_option
@click.option("--comment", help="Why; it stands in the ledger. Asked for at a terminal.")
@role_option
@act_options(names=("--as", "--key"))
@click.pass_context
def reject(ctx: click.Context, name: str, root: str | None, comment: str | None, role: str, **signing: Any) -> None:
    """Reject what changed in a dataset: nothing is trained on it where the policy asks for an approval.

    \b
    Example:
      cognify dataset reject loans_train --comment "the March export is incomplete" --as vera.key.json
    """
    why = (comment or "").strip()
    if not why:
        why = _asked("Why is it rejected?", "--comment", signing)
    _decide(ctx, name, root, "reject", why, role, signing)


def _asked(question: str, option: str, signing: dict[str, Any]) -> str:
    """Ask at a terminal for what an option was to say."""
    if signing["json_"] or not sys.stdin.isatty():
        raise click.UsageError(f"say why with {option}; it stands in the ledger")
    return said(None, question).strip()


def _decide(
    ctx: click.Context,
    name: str,
    root: str | None,
    decision: Literal["approve", "reject"],
    comment: str,
    role: str,
    signing: dict[str, Any],
) -> None:
    from cognify_dagster.datasets.recording import record_diff
    from cognify_dagster.governance import decided_already, decision_record, directory, find_change

    workspace = open_workspace(ctx)
    require_dataset(workspace.read(), name)
    change = find_change(workspace.read(), name, root)
    diff = record_diff(workspace, name, change.item.seq, check=True)
    reading = workspace.read()
    change = find_change(reading, name, change.root)

    def make(now: Reading, signers: tuple[str, ...]) -> Record:
        record = decision_record(now, name, change.root, decision, signer(signers), role=role, comment=comment)
        seq = decided_already(now, record)
        if seq is not None:
            raise click.ClickException(f"this is decided already, by entry {seq}, and still counts")
        return record

    carry_out(
        ctx,
        make,
        signing,
        title=f"You {decision} this change:",
        rows=[
            ("Dataset", name),
            ("Root before", change.old_root or "none: the first snapshot"),
            ("New root", f"{change.root} (entry {change.item.seq})"),
            ("Made by", author_of(directory(reading), change)),
            ("Reason", change.reason or ("none needed" if change.old is None else "none declared")),
            ("Difference", str(diff.record.summary.get("text", ""))),
            ("Its digest", f"{diff.record.diff_digest} (entry {diff.seq})"),
            ("Comment", comment or "none"),
        ],
        question=f"{decision.capitalize()} it?",
        more={"dataset": name, "root": change.root, "diff_digest": diff.record.diff_digest, "decision": decision},
    )


@command.command("reason")
@click.argument("name", type=DATASET)
@root_option
@click.option("--text", help="Why the data changed; it stands in the ledger. Asked for at a terminal.")
@act_options(names=("--as", "--key"))
@click.pass_context
def reason(ctx: click.Context, name: str, root: str | None, text: str | None, **signing: Any) -> None:
    """Say why a dataset changed, where the snapshot did not.

    \b
    Example:
      cognify dataset reason loans_train --root 4f2a9c01 --text "March was added" --as ben.key.json
    """
    from cognify_dagster.governance import find_change, reason_record

    reading = open_workspace(ctx).read()
    require_dataset(reading, name)
    change = find_change(reading, name, root)
    why = (text or "").strip() or _asked("Why did it change?", "--text", signing)
    carry_out(
        ctx,
        lambda now, signers: reason_record(now, name, change.root, why, signer(signers)),
        signing,
        title="You state why this dataset changed:",
        rows=[
            ("Dataset", name),
            ("Root before", change.old_root or "none: the first snapshot"),
            ("New root", f"{change.root} (entry {change.item.seq})"),
            ("Said before", change.reason or "nothing"),
            ("Reason", why),
        ],
        question="State it?",
        more={"dataset": name, "root": change.root},
    )
