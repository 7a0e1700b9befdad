"""`cognify notify`: tell people what waits for them, where no Dagster does it."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import UNREADABLE
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, say, trial_banner


@click.command(cls=Command, name="notify")
@click.option("--dry-run", is_flag=True, help="Show who would be told what; send nothing, remember nothing.")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Only these models; all unless given. Repeat.")
@click.option(
    "--target", "targets", multiple=True, metavar="TARGET", default=("production",), show_default=True, help="Repeat."
)
@json_option
@click.pass_context
def command(ctx: click.Context, dry_run: bool, models: tuple[str, ...], targets: tuple[str, ...], json_: bool) -> None:
    """Tell approvers what waits for them, and owners what happened, through the [[notify]] tables of cognify.toml.

    For projects without Dagster, whose sensor does the same: run it every few minutes. What was told is remembered in the
    workspace; the first time, what happened before is not told.

    \b
    Example:
      cognify notify --dry-run
    """
    from cognify_dagster.governance.oversight.news import EVENTS
    from cognify_dagster.governance.oversight.notifier import due_news, read_memory, tell
    from cognify_dagster.records import ModelRegistered
    from cognify_dagster.workspace import review_page
    from cognify_dagster.workspace.notify import channels

    workspace = open_workspace(ctx)
    reading, now = workspace.read(), datetime.now(timezone.utc)
    place = workspace.home / "notified.json"
    memory = read_memory(place.read_text(encoding="utf-8") if place.is_file() else None)
    wanted = models or tuple(dict.fromkeys(item.record.model for item in reading.all(ModelRegistered)))
    items = due_news(reading, {model: dict.fromkeys(targets, ()) for model in wanted}, memory, now)
    ways = channels(workspace.config, EVENTS)
    if not ways and not dry_run:
        raise click.ClickException(
            "cognify.toml has no [[notify]] table, so there is no way to tell anybody; see docs/cli.md"
        )
    page = partial(review_page, workspace.config)
    if dry_run:
        shown = _Shown()
        told = tell(reading, items, [shown], memory, now, page=page)
    else:
        told = tell(reading, items, ways, memory, now, page=page)
        _write(place, memory.to_json())
    if json_:
        messages = [
            {"person": m.person, "address": m.address, "subject": m.subject, "text": m.text, "items": list(m.items)}
            for m in told.sent
        ]
        value = {
            "dry_run": dry_run,
            "told": messages,
            "failed": list(told.failed),
            "unreachable": list(told.unreachable),
        }
        as_json(value)
    else:
        trial_banner(reading.trial)
        for message in told.sent:
            address = message.address or "no address: enrol the alias mail:…"
            say(
                f"{'would tell' if dry_run else 'told'} {clean(message.name)} ({clean(address)}): {clean(message.subject)}"
            )
            for line in message.lines[:-2]:
                say(f"  {clean(line)}")
        for text in told.failed:
            click.echo(f"not told: {clean(text)}", err=True)
        for person in told.unreachable:
            click.echo(f"no address for {clean(person)}: enrol the alias mail:…", err=True)
        if not told.sent and not told.failed:
            say("Nothing new to tell.")
    if told.failed:
        ctx.exit(UNREADABLE)


class _Shown:
    """A channel that takes everything and sends nothing."""

    name = "dry-run"
    events: frozenset[str] = frozenset()

    def reaches(self, message: object) -> bool:
        return True

    def send(self, message: object) -> None:
        return None


def _write(place: Path, text: str) -> None:
    temporary = place.with_name(f".{place.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(place)
