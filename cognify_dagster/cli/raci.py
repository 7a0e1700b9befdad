"""`cognify raci`: who is responsible, accountable, consulted and informed for a model, from recorded facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import MODEL, TARGET, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, say, table, trial_banner
from cognify_dagster.cli.overseeing import now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cognify_dagster.governance.oversight.raci import Duty, Raci
    from cognify_dagster.workspace import Reading

_COLUMNS = ("activity", "responsible", "accountable", "consulted", "informed")


@click.command(cls=Command, name="raci")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option("--target", type=TARGET, default="production", show_default=True)
@click.option("--format", "format_", type=click.Choice(["text", "md"]), default="text", show_default=True)
@json_option
@click.pass_context
def command(ctx: click.Context, model: str, version: str | None, target: str, format_: str, json_: bool) -> None:
    """Show who is responsible, accountable, consulted and informed for a model, derived from what the ledger records.

    It is about the newest trained version unless VERSION is given. What nobody records (such as monitoring) is named in the signed
    classification: `cognify model classify MODEL --responsible monitoring=person/…`.

    \b
    Example:
      cognify raci credit_default
      cognify raci credit_default --format md > docs/raci.md
    """
    from cognify_dagster.governance.oversight.raci import raci
    from cognify_dagster.workspace import unknown_model, unknown_version

    reading = open_workspace(ctx).read()
    missing = unknown_model(reading, model) if version is None else unknown_version(reading, model, version)
    if missing:
        raise click.ClickException(missing)
    found = raci(reading, model, version, target, now())
    if json_:
        as_json(_json(reading, found, target))
    elif format_ == "md":
        _markdown(reading, found)
    else:
        _text(reading, found)


def _json(reading: Reading, found: Raci, target: str) -> dict[str, Any]:
    def people(ids: Iterable[str]) -> list[dict[str, str]]:
        return [{"id": who, "name": found.name(who)} for who in ids]

    signed = found.classified.signed
    return {
        "model": found.model,
        "version": found.version,
        "target": target,
        "trial": reading.trial,
        "size": reading.size,
        "classification_entry": signed.seq if signed else None,
        "owner": signed.record.owner if signed else None,
        "activities": [
            {
                "activity": duty.activity,
                "title": duty.title,
                "responsible": people(duty.responsible),
                "accountable": people(duty.accountable),
                "consulted": people(duty.consulted),
                "informed": people(duty.informed),
                "basis": duty.basis,
                "gap": duty.gap or None,
            }
            for duty in found.duties
        ],
    }


def _about(reading: Reading, found: Raci) -> str:
    signed = found.classified.signed
    source = f"classified by entry {signed.seq}" if signed else "not classified by anybody"
    version = f"version {found.version}" if found.version else "no version trained yet"
    return f"{found.model}, {version}; tier {found.classified.tier}, {source}; ledger of {reading.size} entries"


def _cells(found: Raci, duty: Duty) -> list[list[str]]:
    return [[found.name(who) for who in group] for group in
            (duty.responsible, duty.accountable, duty.consulted, duty.informed)]  # fmt: skip


def _gaps(found: Raci) -> list[str]:
    gaps = [f"{duty.title}: {duty.gap}" for duty in found.duties if duty.gap]
    if found.classified.signed is None:
        gaps.insert(0, "nobody signed who owns the model: `cognify model classify`")
    return gaps


def _text(reading: Reading, found: Raci) -> None:
    trial_banner(reading.trial)
    heading(_about(reading, found))
    table(
        _COLUMNS,
        [(duty.title, *("\n".join(map(clean, cell)) or "–" for cell in _cells(found, duty))) for duty in found.duties],
    )
    for gap in _gaps(found):
        say(f"Gap: {clean(gap)}")


def _markdown(reading: Reading, found: Raci) -> None:
    say(f"# RACI: {found.model}\n")
    if reading.trial:
        say("**TRIAL workspace: not evidence of a governed release.**\n")
    say(f"{_md(_about(reading, found))}.\n")
    say("| " + " | ".join((*_COLUMNS, "follows from")) + " |")
    say("|" + "---|" * (len(_COLUMNS) + 1))
    for duty in found.duties:
        cells = [duty.title, *(", ".join(cell) or "–" for cell in _cells(found, duty)), duty.basis]
        say("| " + " | ".join(map(_md, cells)) + " |")
    gaps = _gaps(found)
    if gaps:
        say("\nGaps:\n")
        for gap in gaps:
            say(f"- {_md(gap)}")


def _md(text: str) -> str:
    """Text of other people as Markdown text: nothing in it is markup."""
    shown = clean(text)
    for char in "\\|<>*_[]#":
        shown = shown.replace(char, "\\" + char)
    return shown
