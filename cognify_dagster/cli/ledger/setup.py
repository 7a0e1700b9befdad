"""`cognify ledger init`: an empty ledger in Postgres, with its roles and guards."""

from __future__ import annotations

import click

from cognify_dagster.cli.exits import KEPT
from cognify_dagster.cli.inputs import json_option
from cognify_dagster.cli.ledger.group import command
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say

_GRANTS = ("writer", "reader", "signer", "eraser", "archivist")


@command.command("init")
@click.option(
    "--url", required=True, metavar="URL", help="postgresql://ADMIN@HOST/DATABASE, or env:NAME of a variable."
)
@click.option("--origin", required=True, help="The ledger's name for ever, such as bank.example/credit.")
@click.option("--schema", help="Schema of the ledger; one ledger a schema.  [default: cognify]")
@click.option(
    "--roles", metavar="PREFIX", help="Prefix of role names; a second ledger on the server needs another one."
)
@click.option("--server-clock", is_flag=True, help="Entries take the server's time. Fixed for ever.")
@click.option(
    "--grant", "grants", multiple=True, metavar="ROLE=LOGIN",
    help="Give a login the role writer, reader, signer, eraser or archivist. May be repeated.",
)  # fmt: skip
@json_option
def init(
    url: str,
    origin: str,
    schema: str | None,
    roles: str | None,
    server_clock: bool,
    grants: tuple[str, ...],
    json_: bool,
) -> None:
    """Create an empty ledger in Postgres, or bring functions and guards of an existing one up to date.

    Run it once as a superuser (a login with CREATEROLE and CREATE does, without event triggers). Then found the workspace with
    `cognify init --ledger-url`. The password belongs into ~/.pgpass or a variable; it is never printed.

    \b
    Example:
      cognify ledger init --url postgresql://admin@db.bank.example/audit --origin bank.example/credit \\
          --grant writer=pipeline --grant signer=pipeline
    """
    from cognify_dagster.ledger import EntryError, check_origin
    from cognify_dagster.ledger.postgres.store import init_postgres
    from cognify_dagster.workspace.stores import resolve_url

    try:
        check_origin(origin)
    except EntryError as error:
        raise click.UsageError(f"--origin: {error}") from error
    wanted: dict[str, list[str]] = {}
    for item in grants:
        role, separator, login = item.partition("=")
        if not separator or role not in _GRANTS or not login:
            raise click.UsageError(f"--grant {item[:80]!r}: ROLE=LOGIN is expected, with one of {', '.join(_GRANTS)}")
        wanted.setdefault(role, []).append(login)
    found = init_postgres(
        resolve_url(url, "--url"), origin, schema=schema, roles=roles, server_clock=server_clock, grant=wanted
    )
    KEPT.append(f"schema {found.schema}")
    suffix = "" if found.schema == "cognify" else f"?schema={found.schema}"
    line = 'ledger = "env:COGNIFY_LEDGER_URL"'
    variable = f"COGNIFY_LEDGER_URL=postgresql://LOGIN@HOST/DATABASE{suffix}"
    if json_:
        as_json(
            {
                "origin": found.origin,
                "schema": found.schema,
                "roles": dict(found.roles),
                "event_triggers": found.event_triggers,
                "notes": list(found.notes),
                "config": line,
                "environment": variable,
            }
        )
        return
    heading(f"Postgres ledger {found.origin}")
    pairs([("Schema", found.schema), ("Event triggers", "installed" if found.event_triggers else "NOT installed")])
    say("Roles (none can log in; grant them to your logins):")
    pairs(found.roles.items(), indent="    ")
    for note in found.notes:
        say(f"Note: {clean(note)}")
    say("In cognify.toml, under [workspace] (`cognify init --ledger-url env:COGNIFY_LEDGER_URL` writes it):")
    say(f"  {line}")
    say("and in the environment of every process that writes:")
    say(f"  {variable}")
