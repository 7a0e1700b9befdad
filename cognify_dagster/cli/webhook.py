"""`cognify webhook`: which systems are told what happens in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, moment, pairs, say, table

if TYPE_CHECKING:
    from cognify_dagster.review.site import Site
    from cognify_dagster.review.webhooks.outbox import Message


@click.group("webhook", cls=Group)
def command() -> None:
    """Tell other systems what happens: add, test, replay, remove endpoints.

    The review site sends; see docs/webhooks.md.

    \b
    Example:
      cognify webhook add grc https://grc.bank.example/hooks/models --event release.granted --event version.blocked
      cognify webhook test grc
    """


@contextmanager
def _site(ctx: click.Context) -> Iterator[Site]:
    """Open the site's database; what it refuses is a message."""
    try:
        from cognify_dagster.review.app import open_site
        from cognify_dagster.review.config import review_config
        from cognify_dagster.review.errors import ReviewError
        from cognify_dagster.review.webhooks.sending import SendError
    except ImportError as error:
        raise Failure(
            f"{error.name} is missing; install the extra: pip install 'cognify-dagster[review]'", UNREADABLE
        ) from error
    workspace = open_workspace(ctx)
    try:
        site = open_site(workspace, review_config(workspace.config))
    except ReviewError as error:
        raise Failure(str(error), UNREADABLE) from error
    try:
        yield site
    except (ReviewError, SendError) as error:
        raise Failure(clean(error), BLOCKED) from error
    finally:
        site.store.close()


@command.command("list")
@click.option("--messages", is_flag=True, help="The latest messages instead of the endpoints.")
@click.option("--dead", is_flag=True, help="Only messages that were given up.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many messages.")
@json_option
@click.pass_context
def list_(ctx: click.Context, messages: bool, dead: bool, limit: int, json_: bool) -> None:
    """Show the endpoints with what waits and what was given up; or the messages.

    \b
    Example:
      cognify webhook list
      cognify webhook list --dead --json
    """
    from cognify_dagster.review.webhooks import service

    with _site(ctx) as site:
        rows = service.overview(site)
        if messages or dead:
            from cognify_dagster.review.webhooks.outbox import DEAD

            names = {row.endpoint.id: row.endpoint.name for row in rows}
            _show_messages(service.messages(site, DEAD if dead else None, limit=limit), names, json_)
            return
    if json_:
        as_json(
            [
                {**_endpoint(row.endpoint), "waiting": row.waiting, "delivered": row.delivered, "dead": row.dead}
                for row in rows
            ]
        )
        return
    if not rows:
        say("No system is told anything; add one with: cognify webhook add NAME https://…")
        return
    table(
        ["name", "address", "state", "events", "models", "template", "waiting", "delivered", "dead"],
        [
            (
                row.endpoint.name, row.endpoint.shown_url, "on" if row.endpoint.off is None else f"off: {row.endpoint.off_because}",
                ", ".join(row.endpoint.events) or "all", ", ".join(row.endpoint.models) or "all", row.endpoint.template,
                row.waiting, row.delivered, row.dead,
            )
            for row in rows
        ],
    )  # fmt: skip


@command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--event", "events", multiple=True, metavar="EVENT", help="Only these events; all unless given. Repeat.")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Only these models; all unless given. Repeat.")
@click.option("--template", default="generic", show_default=True, metavar="NAME", help="What the body looks like.")
@click.option(
    "--secret", default="", metavar="env:NAME", help="Where the secret is. Default: one is made and shown once."
)
@click.option(
    "--authorization", default="", metavar="env:NAME", help="Variable with the value of an Authorization header."
)
@click.option("--allow-private", is_flag=True, help="The endpoint may lie inside the network.")
@click.option("--allow-http", is_flag=True, help="It may be reached without TLS.")
@click.option("--people", is_flag=True, help="Tell it who acted (personal data); left out by default.")
@json_option
@click.pass_context
def add(ctx: click.Context, name: str, url: str, json_: bool, **options: Any) -> None:
    """Add an endpoint. It is told what is appended from now on.

    The secret is shown this once: give it to whoever runs the other system, to check the signatures with. Addresses inside
    the network are refused unless --allow-private says that one is meant.

    \b
    Example:
      cognify webhook add grc https://grc.bank.example/hooks/models
      cognify webhook add snow https://bank.service-now.com/api/now/import/u_cognify_event --template servicenow --authorization env:SNOW_AUTH
    """
    from cognify_dagster.review.webhooks import service

    with _site(ctx) as site:
        endpoint, secret = service.add(site, name, url, **options)
    if json_:
        as_json({**_endpoint(endpoint), "secret": secret or endpoint.secret})
        return
    pairs([("Name", endpoint.name), ("Address", endpoint.url), ("Secret", secret or endpoint.secret)])
    if secret:
        say("The secret is not shown again. It lies in a file of the workspace that only its owner reads.")
    say(f"Try it with: cognify webhook test {clean(name)}")


@command.command("test")
@click.argument("name")
@json_option
@click.pass_context
def test(ctx: click.Context, name: str, json_: bool) -> None:
    """Send a test from here, now. One that is accepted switches an endpoint on again that had been switched off.

    Exit codes: 0 it was accepted, 1 it was not.

    \b
    Example:
      cognify webhook test grc
    """
    from cognify_dagster.review.webhooks import service

    with _site(ctx) as site:
        answer = service.send_test(site, name)
    if json_:
        as_json({"name": name, "status": answer.status, "accepted": answer.accepted, "took_ms": answer.took_ms})
    else:
        say(f"{clean(name)} answered {answer.status} after {answer.took_ms} ms")
    if not answer.accepted:
        ctx.exit(BLOCKED)


@command.command("replay")
@click.argument("name")
@click.option("--id", "ids", multiple=True, metavar="ID", help="These messages. Repeat.")
@click.option("--dead", is_flag=True, help="All messages that were given up.")
@click.option("--from", "first", type=click.IntRange(0), metavar="ENTRY", help="What the entries from here on tell …")
@click.option("--to", "last", type=click.IntRange(0), metavar="ENTRY", help="… to here, this one included.")
@click.option("--now", "at_once", is_flag=True, help="Send from here instead of leaving it to the site.")
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    name: str,
    ids: tuple[str, ...],
    dead: bool,
    first: int | None,
    last: int | None,
    at_once: bool,
    json_: bool,
) -> None:
    """Send messages once more, under the ids they had: a system that took one before can tell.

    \b
    Example:
      cognify webhook replay grc --dead
      cognify webhook replay grc --from 1200 --to 1260 --now
    """
    from cognify_dagster.review.webhooks import service

    if sum((bool(ids), dead, first is not None)) != 1 or (first is None) != (last is None):
        raise click.UsageError("give one of --id, --dead, and --from with --to")
    with _site(ctx) as site:
        endpoint = service.get(site, name)
        if ids:
            number = service.replay(site, ids)
        elif dead:
            number = service.replay_dead(site, endpoint)
        else:
            assert first is not None
            assert last is not None
            number = service.replay_entries(site, endpoint, first, last + 1)
        said = dict(service.deliver_now(site, [endpoint])) if at_once else {}
    refused = {message: text for message, text in said.items() if text}
    if json_:
        as_json({"name": name, "to_send": number, "delivered": len(said) - len(refused), "refused": refused})
    else:
        say(
            f"{number} messages are to be sent again"
            + ("" if at_once else "; the review site sends them within seconds")
        )
        if at_once:
            say(f"{len(said) - len(refused)} were accepted")
        for message, text in refused.items():
            click.echo(f"{message}: {clean(text)}; it is tried again, and what follows it waits", err=True)
    if refused:
        ctx.exit(BLOCKED)


@command.command("remove")
@click.argument("name")
@json_option
@click.pass_context
def remove(ctx: click.Context, name: str, json_: bool) -> None:
    """Remove an endpoint, what waits for it, and its secret.

    \b
    Example:
      cognify webhook remove grc
    """
    from cognify_dagster.review.webhooks import service

    with _site(ctx) as site:
        endpoint = service.remove(site, name)
    if json_:
        as_json({"removed": endpoint.name})
    else:
        say(f"{clean(endpoint.name)} is told nothing any more.")


def _endpoint(item: Any) -> dict[str, Any]:
    value = dict(vars(item))
    value["events"], value["models"] = list(item.events), list(item.models)
    return value


def _show_messages(found: list[Message], names: dict[str, str], json_: bool) -> None:
    if json_:
        as_json([{**vars(item), "endpoint": names.get(item.endpoint), "body": item.content} for item in found])
        return
    if not found:
        say("No messages.")
        return
    table(
        ["since", "event", "endpoint", "entry", "state", "tries", "last answer", "id"],
        [
            (
                moment(item.first * 1_000_000), item.event, names.get(item.endpoint, ""), item.seq, item.state, item.attempts,
                item.problem or item.status, item.id,
            )
            for item in found
        ],
    )  # fmt: skip
