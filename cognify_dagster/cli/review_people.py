"""The commands of `cognify review` about accounts: the first run, invitations, vouching for a passkey.

Invariants: a link is printed once and stored nowhere; whoever has a credential gets another only with the keys of two admins; no command
lets anybody sign off but `vouch`, which is a signed entry of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure
from cognify_dagster.cli.inputs import (
    KEY_ID,
    PERSON,
    json_option,
    open_workspace,
    passphrase_option,
    signers_option,
    unlock_all,
)
from cognify_dagster.cli.output import as_json, clean, say, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cognify_dagster.review.config import ReviewConfig
    from cognify_dagster.review.store import Store
    from cognify_dagster.review.store.accounts import Account
    from cognify_dagster.review.store.passkeys import StoredPasskey
    from cognify_dagster.workspace import Reading, Workspace


def add_to(group: click.Group) -> None:
    """Add the commands to `cognify review`."""
    for item in (setup, invite, vouch, accounts, disable, enable):
        group.add_command(item)


@contextmanager
def opened(ctx: click.Context) -> Iterator[tuple[Workspace, ReviewConfig, Store]]:
    """Open the workspace and the site's database for a command.

    Raises:
        Failure: if the extra is not installed, the database cannot be opened, or the site refuses what is asked.
    """
    try:
        from cognify_dagster.review.config import review_config
        from cognify_dagster.review.errors import Refused, ReviewError
        from cognify_dagster.review.store import Store
        from cognify_dagster.review.store.belonging import claim
    except ImportError as error:
        extra = "pip install 'cognify-dagster[review]'"
        raise Failure(f"{error.name} is missing; install the extra: {extra}", UNREADABLE) from error
    workspace = open_workspace(ctx)
    config = review_config(workspace.config)
    try:
        store = Store(config.database)
    except ReviewError as error:
        raise Failure(str(error), UNREADABLE) from error
    try:
        claim(store, workspace.origin)
        yield workspace, config, store
    except (Refused, ReviewError) as error:
        raise Failure(str(error), BLOCKED) from error
    finally:
        store.close()


@click.command("setup", cls=Command)
@json_option
@click.pass_context
def setup(ctx: click.Context, json_: bool) -> None:
    """Make the accounts of the workspace's admins, and print a one-time link for each who has no credential yet.

    There is no default password. Each link works once, for 24 hours; give it to its person over a channel you trust. Running it again
    makes new links for those who have not used theirs; the older ones end.

    \b
    Example:
      cognify review setup
    """
    with opened(ctx) as (workspace, config, store):
        from cognify_dagster.review.identity.setup import set_up

        found = set_up(store, workspace.read(), config)
    if json_:
        rows = [
            {"person": item.person, "name": item.name, "login": item.login, "link": config.url + item.path if item.path else None}
            for item in found
        ]  # fmt: skip
        as_json({"url": config.url, "accounts": rows})
        return
    for item in found:
        say(f"{clean(item.name)} ({item.person}), login {clean(item.login)}:")
        say(f"  {config.url}{item.path}" if item.path else "  can sign in already")
    say("Each link works once, for 24 hours. The site has to run: cognify review serve")
    say("A passkey signs sign-offs once two people vouched for it: cognify review vouch --help")


@click.command("invite", cls=Command)
@click.argument("person", type=PERSON)
@click.option("--login", default="", metavar="NAME", help="Login of a new account. Default: the person's id.")
@signers_option(required=False)
@passphrase_option
@json_option
@click.pass_context
def invite(
    ctx: click.Context,
    person: str,
    login: str,
    key_files: tuple[Path, ...],
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Print a one-time link with which a person sets a password or registers a passkey.

    A person who has a credential already, or an account at the company's sign-in service, gets a new one only with the keys of two
    workspace admins (--as, twice), neither of them the person; older credentials of the site stop working when the link is used. The
    person is told of each link, and of its use, when they sign in.

    \b
    Example:
      cognify review invite person/vera
      cognify review invite person/vera --as ada.key.json --as finn.key.json
    """
    import time

    with opened(ctx) as (workspace, config, store):
        from cognify_dagster.governance import directory
        from cognify_dagster.review.identity.accounts import account_for, has_credential
        from cognify_dagster.review.identity.company import signs_in_at_company
        from cognify_dagster.review.identity.invitations import invite as make

        reading = workspace.read()
        if directory(reading).person_at(person, reading.size) is None:
            raise Failure(f"{person} is not enrolled in this workspace; see `cognify people list`", BLOCKED)
        admins = _admins(reading, person, key_files, passphrase_files)
        company = signs_in_at_company(reading, config, person)
        with store.begin() as connection:
            account = account_for(connection, person, int(time.time()), login)
            if (company or has_credential(connection, account)) and len(admins) < 2:
                held = "signs in with the company account" if company else "has a credential already"
                raise Failure(
                    f"{person} {held}; a new one takes the keys of two workspace admins: --as KEY --as KEY", BLOCKED
                )
            by, confirmed = admins[:2] if len(admins) > 1 else (*(admins or ["cognify review invite"]), "")
            path = make(connection, account, by, int(time.time()), company=company, confirmed_by=confirmed).path
    link = f"{config.url}{path}"
    if json_:
        as_json({"person": person, "login": account.login, "link": link})
        return
    say(f"{person}, login {clean(account.login)}; works once, for 24 hours:")
    say(f"  {link}")


def _admins(reading: Reading, person: str, key_files: tuple[Path, ...], files: tuple[Path, ...]) -> list[str]:
    """Return the admins whose keys were unlocked."""
    import time

    from cognify_dagster.governance import directory
    from cognify_dagster.review.identity.user import ADMIN

    people, found = directory(reading), []
    for key in unlock_all(key_files, files):
        roles = people.roles_at(key.person, reading.size, time.time_ns() // 1000)
        valid = people.signing_key(key.person, key.key_id, reading.size) is not None
        if not valid or ADMIN not in roles or key.person == person:
            raise Failure(
                f"{key.person} cannot confirm this: a valid key of another workspace admin is needed", BLOCKED
            )
        if key.person not in found:
            found.append(key.person)
    return found


@click.command("vouch", cls=Command)
@click.argument("person", type=PERSON)
@click.option(
    "--passkey", type=KEY_ID, metavar="KEY", help="Which one, if several wait: the key id on the person's account page."
)
@act_options
@click.pass_context
def vouch(ctx: click.Context, person: str, passkey: str | None, **signing: Any) -> None:
    """Let a person sign off with a passkey that they registered on the site. It is added; their other keys stay.

    An admin and a second person sign, as for any key; the person themselves may be the second, with a key that the ledger knows. Ask
    the person for the sixteen characters of the key that their account page shows, so that the right passkey is enrolled.

    \b
    Example:
      cognify review vouch person/vera --passkey 0123456789abcdef --as ada.key.json --as finn.key.json
    """
    from cognify_dagster.governance import enrolment, rotated

    with opened(ctx) as (workspace, _, store):
        from cognify_dagster.review.store.accounts import find_account
        from cognify_dagster.review.store.passkeys import passkeys_of

        with store.begin() as connection:
            account = find_account(connection, person=person)
            keys = passkeys_of(connection, account.id) if account is not None else []
        chosen = _chosen(workspace.read(), person, keys, passkey)
    public = chosen.public
    assert public.passkey is not None
    carry_out(
        ctx,
        lambda now, signers: enrolment(now, rotated(now, person, public, False), signers),
        signing,
        title="This passkey may sign off for its holder from now on:",
        rows=[
            ("Person", person),
            ("Key", public.key_id),
            ("Called", clean(chosen.name)),
            ("Registered", _moment(chosen.created)),
            ("Kept", "synced to several devices" if public.passkey.backed_up else "on one device"),
            ("For", ", ".join(public.passkey.origins)),
            ("Strength", "S4"),
        ],
        question="Sign that this passkey is theirs?",
        more={"person": person, "key_id": public.key_id},
    )


def _chosen(reading: Reading, person: str, keys: list[StoredPasskey], wanted: str | None) -> StoredPasskey:
    from cognify_dagster.governance import directory

    known = {span.key.key_id for span in directory(reading).keys.get(person, ())}
    waiting = [key for key in keys if key.key_id not in known and wanted in (None, key.key_id)]
    if len(waiting) == 1:
        return waiting[0]
    if waiting:
        listed = ", ".join(f"{key.key_id} ({clean(key.name)})" for key in waiting)
        raise Failure(f"several passkeys of {person} wait: {listed}; name one with --passkey", BLOCKED)
    which = f" {wanted}" if wanted else ""
    raise Failure(
        f"no passkey{which} of {person} waits to be vouched for; they register one on their account page", BLOCKED
    )


@click.command("accounts", cls=Command)
@json_option
@click.pass_context
def accounts(ctx: click.Context, json_: bool) -> None:
    """List the accounts: who can sign in, and with what.

    \b
    Example:
      cognify review accounts
    """
    with opened(ctx) as (_, _, store):
        from cognify_dagster.review.identity.accounts import all_accounts
        from cognify_dagster.review.store.passkeys import passkeys_of

        with store.begin() as connection:
            rows: list[dict[str, Any]] = [
                {
                    "login": item.login,
                    "person": item.person,
                    "grant_entry": item.grant_seq,
                    "password": item.password_hash is not None,
                    "passkeys": [key.key_id for key in passkeys_of(connection, item.id)],
                    "created": _moment(item.created),
                    "disabled": _moment(item.disabled) if item.disabled else None,
                }
                for item in all_accounts(connection)
            ]
    if json_:
        as_json({"accounts": rows})
        return
    table(
        ("login", "person", "password", "passkeys", "state"),
        [
            (
                str(row["login"]),
                str(row["person"] or f"auditor, entry {row['grant_entry']}"),
                "set" if row["password"] else "none",
                "\n".join(row["passkeys"]) or "none",
                f"disabled {row['disabled']}" if row["disabled"] else "open",
            )
            for row in rows
        ],
    )
    if not rows:
        say("There are none yet: cognify review setup")


@click.command("disable", cls=Command)
@click.argument("login", metavar="LOGIN")
@click.pass_context
def disable(ctx: click.Context, login: str) -> None:
    """Let nobody sign in to an account any more, and end its sessions. LOGIN may also be person/….

    The person's keys stay valid in the ledger; `cognify people revoke` ends those.

    \b
    Example:
      cognify review disable vera
    """
    import time

    with opened(ctx) as (_, _, store):
        from cognify_dagster.review.identity.accounts import disable_account

        with store.begin() as connection:
            disable_account(connection, _account(connection, login).id, int(time.time()))
    say(f"{clean(login)} is disabled; its sessions have ended.")


@click.command("enable", cls=Command)
@click.argument("login", metavar="LOGIN")
@click.pass_context
def enable(ctx: click.Context, login: str) -> None:
    """Undo `disable`: the account's credentials sign in again.

    \b
    Example:
      cognify review enable vera
    """
    with opened(ctx) as (_, _, store):
        from cognify_dagster.review.identity.accounts import enable_account

        with store.begin() as connection:
            enable_account(connection, _account(connection, login).id)
    say(f"{clean(login)} is enabled.")


def _account(connection: Connection, login: str) -> Account:
    from cognify_dagster.review.store.accounts import find_account

    where = {"person": login} if login.startswith("person/") else {"login": login.lower()}
    found = find_account(connection, **where)
    if found is None:
        raise Failure(f"there is no account {login[:80]!r}; see `cognify review accounts`", BLOCKED)
    return found


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
