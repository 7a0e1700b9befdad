"""The commands of `cognify review` about single sign-on: which groups stand for which roles, and whose identity signs.

Both are acts that people sign with their keys; neither command lets anybody in.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import IN_FILE, PERSON, open_workspace

if TYPE_CHECKING:
    from cognify_dagster.workspace import Reading


def add_to(group: click.Group) -> None:
    """Add the commands to `cognify review`."""
    for item in (map_groups, enrol_sso):
        group.add_command(item)


@click.command("map-groups", cls=Command)
@click.argument("file", type=IN_FILE)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@act_options
@click.pass_context
def map_groups(ctx: click.Context, file: Path, reason: str, **signing: Any) -> None:
    """Say which groups of the sign-in service stand for which roles. It replaces the mapping before it; two workspace admins sign.

    FILE is YAML with `issuer`, `claim` (default: groups) and `groups`, each group with a list of roles. In a session by single sign-on
    a person then has only those of their enrolled roles that one of their groups stands for.

    \b
    Example:
      cognify review map-groups groups.yaml --reason "as agreed in May" --as ada.key.json --as finn.key.json
    """
    from cognify_dagster.governance import groups_mapping, mapping_in_force, read_mapping
    from cognify_dagster.governance.people.groups import MAX_MAPPING
    from cognify_dagster.records import read_small_text

    try:
        text = read_small_text(file, MAX_MAPPING, "a group mapping", ValueError)
    except ValueError as error:
        raise Failure(str(error), UNREADABLE) from error
    listed = read_mapping(text, str(file))
    before = mapping_in_force(open_workspace(ctx).read(), listed.issuer)
    rows: list[tuple[str, object]] = [("Issuer", listed.issuer), ("Claim", listed.claim)]
    rows += [(f"Group {name}", ", ".join(roles) or "no role") for name, roles in sorted(listed.groups.items())]
    gone = sorted(set(before.groups) - set(listed.groups)) if before is not None else []
    rows += [("No longer mapped", ", ".join(gone))] if gone else []
    carry_out(
        ctx,
        lambda now, signers: groups_mapping(now, listed.issuer, listed.claim, listed.groups, reason, signers),
        signing,
        title="These groups stand for these roles, and no others:",
        rows=[*rows, ("Reason", reason)],
        question="Sign this mapping?",
    )


@click.command("enrol-sso", cls=Command)
@click.argument("person", type=PERSON)
@click.option(
    "--subject",
    required=True,
    metavar="SUB",
    help="The person's subject, or the line `oidc:ISSUER|SUB` they were shown.",
)
@click.option("--name", default="", help="Only for somebody who is not enrolled yet: their name.")
@click.option("--role", "roles", multiple=True, help="Only for somebody who is not enrolled yet; may be repeated.")
@click.option("--issuer", default="", metavar="URL", help="Default: [review.oidc] issuer in cognify.toml.")
@click.option("--client-id", default="", metavar="ID", help="Default: [review.oidc] client_id in cognify.toml.")
@act_options
@click.pass_context
def enrol_sso(
    ctx: click.Context,
    person: str,
    subject: str,
    name: str,
    roles: tuple[str, ...],
    issuer: str,
    client_id: str,
    **signing: Any,
) -> None:
    """Enrol a person's identity at the sign-in service, beside their keys: they sign in with it, and sign where S2 is enough.

    An admin and a second person vouch that it is theirs. `cognify people revoke` ends it again. With --name and --role somebody new is
    enrolled, whose only key this identity is.

    \b
    Example:
      cognify review enrol-sso person/vera --subject 00u1ab2cd --as ada.key.json --as finn.key.json
    """
    from cognify_dagster.governance import directory, enrolment, rotated
    from cognify_dagster.governance.signing.sso import sso_public
    from cognify_dagster.records import Person

    workspace = open_workspace(ctx)
    table = workspace.config.review.get("oidc", {})
    table = table if isinstance(table, dict) else {}
    issuer, client_id = issuer or str(table.get("issuer", "")), client_id or str(table.get("client_id", ""))
    if not issuer or not client_id:
        raise click.UsageError("name --issuer and --client-id, or set them in [review.oidc] of cognify.toml")
    key = sso_public(issuer, subject.removeprefix(f"oidc:{issuer}|"), client_id)
    assert key.oidc is not None

    def state(now: Reading) -> Person:
        known = directory(now).person_at(person, now.size) is not None
        if known and (name or roles):
            raise click.UsageError(f"{person} is enrolled already; --name and --role are for somebody new")
        if not known and not (name and roles):
            raise click.UsageError(
                f"{person} is not enrolled yet; give --name and --role to enrol them with this identity"
            )
        return rotated(now, person, key, False) if known else Person(person=person, name=name, roles=roles, keys=(key,))

    shown = state(workspace.read())
    carry_out(
        ctx,
        lambda now, signers: enrolment(now, state(now), signers),
        signing,
        title="This identity is the person's:",
        rows=[
            ("Person", f"{shown.name} ({person})"),
            ("Roles", ", ".join(shown.roles) or "none"),
            ("Issuer", key.oidc.issuer),
            ("Subject", key.oidc.subject),
            ("Client", key.oidc.client_id),
            ("Key", f"{key.key_id}, strength {key.strength}"),
        ],
        question="Sign that this identity is theirs?",
        more={"key_id": key.key_id},
    )
