"""The commands of `cognify people` about keys: a person gets a new one, a key is revoked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import HOLDER, IN_FILE, KEY_ID, open_workspace
from cognify_dagster.cli.output import say
from cognify_dagster.cli.overseeing import signer

if TYPE_CHECKING:
    from cognify_dagster.records import Person


@click.command("rotate", cls=Command)
@click.option("--public-key", "new", type=IN_FILE, required=True, help="The new key file, or its public half.")
@click.option("--keep-others", is_flag=True, help="The older keys stay valid beside it.")
@act_options
@click.pass_context
def rotate(ctx: click.Context, new: Path, keep_others: bool, **signing: Any) -> None:
    """Give a person a new key; their older ones end. They sign with a key that is still valid, and an admin with theirs.

    Without a valid key of their own two others sign, an admin among them.

    \b
    Example:
      cognify people rotate --public-key vera2.pub.json --as vera.key.json --as ada.key.json
    """
    from cognify_dagster.governance import enrolment, read_public, rotated

    who, key = read_public(new)
    record = rotated(open_workspace(ctx).read(), who, key, not keep_others)
    carry_out(
        ctx,
        lambda now, signers: enrolment(now, rotated(now, who, key, not keep_others), signers),
        signing,
        title="The person's keys are replaced:" if not keep_others else "The person gets a further key:",
        rows=person_rows(record),
        question="Sign that this key is theirs?",
        more={"person": record.model_dump(mode="json")},
    )


@click.command("revoke", cls=Command)
@click.argument("holder", type=HOLDER)
@click.argument("key_id", type=KEY_ID)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.option(
    "--from-entry",
    type=click.IntRange(min=1),
    metavar="ENTRY",
    help="The first entry for which a person's key was not to be trusted (it was lost or copied by then).",
)
@act_options(names=("--as", "--key"))
@click.pass_context
def revoke(ctx: click.Context, holder: str, key_id: str, reason: str, from_entry: int | None, **signing: Any) -> None:
    """Revoke the key of a person or workload from now on. Approvals made with it stop counting for releases.

    The holder signs, or a workspace admin. With --from-entry whatever the key signed from that entry on to allow something (a sign-off,
    change plan, broken glass, rollback order, closure, delegation, thresholds, …) counts no more either, and what is live on its
    strength is suspended; what it signed to restrain something stands. A key that has ended already can be given such an entry, too.

    \b
    Example:
      cognify people revoke person/vera 0123456789abcdef --reason "laptop lost" --as ada.key.json
      cognify people revoke person/vera 0123456789abcdef --reason "copied on 3 May" --from-entry 412 --as ada.key.json
    """
    from cognify_dagster.governance import revocation
    from cognify_dagster.governance.people.directory import signed_about_people

    stays = signed_about_people(open_workspace(ctx).read(), holder, key_id, from_entry) if from_entry else []
    receipt = carry_out(
        ctx,
        lambda now, signers: revocation(now, holder, key_id, reason, signer(signers), effective_from=from_entry),
        signing,
        title="This key is revoked:",
        rows=[
            ("Holder", holder),
            ("Key", key_id),
            ("Reason", reason),
            *((("Not trusted from", f"entry {from_entry} on"),) if from_entry else ()),
        ],
        question="Revoke this key?",
        more={"stays": stays} if from_entry else None,
    )
    if receipt is not None and stays and not signing["json_"]:
        listed = ", ".join(map(str, stays))
        say(
            f"It also signed acts about people or the policy, which stay in force: entries {listed}. Look at each, and undo"
        )
        say(
            "what should not be by a new act (`cognify ledger show --seq ENTRY`, `cognify people`, `cognify policy adopt`)."
        )


def person_rows(record: Person) -> list[tuple[str, object]]:
    """Return a person's state as rows for people."""
    return [
        ("Person", record.person),
        ("Name", record.name),
        ("Roles", ", ".join(record.roles) or "none"),
        ("Aliases", ", ".join(record.aliases) or "none"),
        ("Keys", ", ".join(key.key_id for key in record.keys) or "none"),
    ]
