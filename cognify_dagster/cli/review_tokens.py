"""`cognify review token` and `cognify review export`: tokens of the REST API, and the record as tables for a GRC database.

Invariants: a token is printed once and stored as a hash; making or ending one takes the key of a workspace admin; an export is there
whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Command, Group
from cognify_dagster.cli.exits import BLOCKED, Failure
from cognify_dagster.cli.inputs import IN_FILE, json_option, passphrase_option, unlock
from cognify_dagster.cli.output import as_json, clean, moment, say, table
from cognify_dagster.cli.review_people import opened

if TYPE_CHECKING:
    from cognify_dagster.review.store.tokens import Token

KEY_OPTION = click.option(
    "--as", "key_file", type=IN_FILE, required=True, metavar="KEYFILE", help="Key of a workspace admin."
)
_SCOPES = ("read", "read:personal", "external:write", "webhooks")


def add_to(group: click.Group) -> None:
    """Add the commands to `cognify review`."""
    group.add_command(token)
    group.add_command(export)


@click.group("token", cls=Group)
def token() -> None:
    """Tokens of the REST API: make, list, revoke. A token reads; it never signs.

    \b
    Example:
      cognify review token create "GRC nightly" --scope read --as ada.key.json
    """


@token.command("create")
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(_SCOPES), multiple=True, required=True, help="What it may do; repeat it."
)
@click.option("--days", type=click.IntRange(1, 365), default=90, show_default=True, help="How long it lasts.")
@KEY_OPTION
@passphrase_option
@json_option
@click.pass_context
def create(
    ctx: click.Context,
    name: str,
    scopes: tuple[str, ...],
    days: int,
    key_file: Path,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Make a token for another system and print it, once. NAME says what it is for.

    \b
    Example:
      cognify review token create "GRC nightly" --scope read --days 90 --as ada.key.json
    """
    with opened(ctx) as (workspace, _, store):
        from cognify_dagster.review.api.tokens import create_token

        key = unlock(key_file, passphrase_files)
        reading = workspace.read()
        _require_key(reading, key.person, key.key_id)
        with store.begin() as connection:
            text, made = create_token(
                connection, reading, name=name, scopes=scopes, days=days, by=key.person, now=_now()
            )  # fmt: skip
    if json_:
        as_json({"token": text} | _as_json(made))
        return
    say(text)
    say(f"It is shown this once. Scopes: {made.scopes}; it ends {moment(made.expires * 1_000_000)}.", err=True)


@token.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List the tokens of this workspace, newest first.

    \b
    Example:
      cognify review token list
    """
    with opened(ctx) as (workspace, _, store):
        from cognify_dagster.review.store.tokens import list_tokens

        with store.begin() as connection:
            found = list_tokens(connection, workspace.origin)
    if json_:
        as_json([_as_json(item) for item in found])
        return
    if not found:
        say("There is no token. Make one: cognify review token create NAME --scope read --as KEYFILE")
        return
    table(
        ("token", "for", "scopes", "state", "made by", "ends", "last used"),
        [
            (
                item.id, clean(item.name), item.scopes, item.state(_now()), item.created_by, moment(item.expires * 1_000_000),
                moment(item.last_used * 1_000_000) if item.last_used else "never",
            )
            for item in found
        ],
    )  # fmt: skip


@token.command("revoke")
@click.argument("id")
@KEY_OPTION
@passphrase_option
@click.pass_context
def revoke(ctx: click.Context, id: str, key_file: Path, passphrase_files: tuple[Path, ...]) -> None:
    """End a token at once. ID is the first part of it, as `token list` shows.

    \b
    Example:
      cognify review token revoke 0f3a5b7c9d1e --as ada.key.json
    """
    with opened(ctx) as (workspace, _, store):
        from cognify_dagster.review.api.tokens import is_admin
        from cognify_dagster.review.store.tokens import list_tokens, revoke_token

        key = unlock(key_file, passphrase_files)
        reading = workspace.read()
        _require_key(reading, key.person, key.key_id)
        if not is_admin(reading, key.person, _now()):
            raise Failure(f"{key.person} is no workspace admin now; only an admin makes and ends tokens", BLOCKED)
        with store.begin() as connection:
            if id not in {item.id for item in list_tokens(connection, workspace.origin)}:
                raise click.UsageError(f"there is no token {clean(id[:40])}; see `cognify review token list`")
            done = revoke_token(connection, id, key.person, _now())
    say(f"The token {id} ended." if done else f"The token {id} had been ended before.")


@click.command("export", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "formats", type=click.Choice(["csv", "jsonl", "sql"]), multiple=True, help="Default: all three."
)
@click.option("--without-names", is_flag=True, help="Put ids in the place of people's names.")
@click.pass_context
def export(ctx: click.Context, folder: Path, formats: tuple[str, ...], without_names: bool) -> None:
    """Write inventory, versions, decisions, findings and sign-offs as tables into the new folder DIR.

    schema.json and schema.sql describe the columns. Loading a SQL file replaces what an earlier export loaded.

    \b
    Example:
      cognify review export grc-2026-11-22
      sqlite3 grc.db < grc-2026-11-22/inventory.sql
    """
    if folder.exists():
        raise click.UsageError(f"{folder}: it is there already; name a new folder")
    if not folder.parent.is_dir():
        raise click.UsageError(f"{folder.parent}: no such folder; create it first")
    with opened(ctx) as (workspace, config, store):
        from cognify_dagster.review.api.tables import (
            FORMATS,
            TABLES,
            Source,
            create_statement,
            lines_of,
            rows_of,
            schema_json,
        )
        from cognify_dagster.review.rendering import Templates
        from cognify_dagster.review.site import Site

        site = Site(config, workspace, store, Templates(config.templates))
        source = Source(site, workspace.read(), datetime.now(timezone.utc), not without_names)
        making = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            counts = {}
            for found in TABLES.values():
                rows = list(rows_of(found, source))
                counts[found.name] = len(rows)
                for name in formats or tuple(FORMATS):
                    _write(making / f"{found.name}.{name}", "".join(lines_of(found, name, rows, source)))
            about = {"origin": workspace.origin, "size": source.reading.size, "root": source.reading.view.root.hex()}
            _write(
                making / "schema.json", json.dumps({**about, "rows": counts, "tables": schema_json()}, indent=1) + "\n"
            )
            _write(making / "schema.sql", "\n".join(create_statement(found) for found in TABLES.values()))
            os.replace(making, folder)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    say(f"{clean(folder)}: {told}, as of entry {source.reading.size - 1}")


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _require_key(reading: object, person: str, key_id: str) -> None:
    from cognify_dagster.governance import directory
    from cognify_dagster.workspace import Reading

    assert isinstance(reading, Reading)
    if key_id not in directory(reading).valid_keys(person, reading.size):
        raise Failure(f"{person} is not enrolled here with the key {key_id}; see `cognify people list`", BLOCKED)


def _as_json(item: Token) -> dict[str, object]:
    return {
        "id": item.id,
        "name": item.name,
        "scopes": item.scopes.split(),
        "state": item.state(_now()),
        "created_by": item.created_by,
        "created": moment(item.created * 1_000_000),
        "expires": moment(item.expires * 1_000_000),
        "last_used": moment(item.last_used * 1_000_000) if item.last_used else None,
        "revoked_by": item.revoked_by,
    }


def _now() -> int:
    return int(time.time())
