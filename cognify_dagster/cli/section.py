"""`cognify section`: what people write about a model version: record it from files, show it, compare it, sign it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Group
from cognify_dagster.cli.human_inputs import SECTION, role_of
from cognify_dagster.cli.inputs import MODEL, VERSION, json_option, open_workspace, program
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, table, trial_banner
from cognify_dagster.cli.overseeing import signer
from cognify_dagster.cli.section_rows import (
    change_json,
    change_row,
    literal,
    section_json,
    section_row,
    shown,
    text_lines,
)

if TYPE_CHECKING:
    from cognify_dagster.governance import Directory, Section, Sections
    from cognify_dagster.workspace import Reading


@click.group(cls=Group, name="section")
def command() -> None:
    """Sections that people write about a model version: intended use, limitations, failure modes and others.

    Their texts are Markdown files in your repository, one a section, named after it, such as
    sections/credit_default/limitations.md. Each begins with front matter: ai_drafted (true or false), and if you like author
    and applies_to.

    \b
    Example:
      cognify section sync credit_default 3 sections/credit_default
      cognify section list credit_default 3
    """


@command.command("sync", short_help="Record the texts of a folder for a version.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--carry-over", "carry", is_flag=True, help="Sections without a text get that of the version before.")
@click.option("--from", "source", type=VERSION, metavar="VERSION", help="With --carry-over: the version it comes from.")
@click.option("--ahead", is_flag=True, help="The version is not trained yet.")
@json_option
@click.pass_context
def sync(
    ctx: click.Context,
    model: str,
    version: str,
    folder: Path | None,
    carry: bool,
    source: str | None,
    ahead: bool,
    json_: bool,
) -> None:
    """Record the texts of FOLDER for a version. What stands already writes nothing.

    A text is written by this workspace's workload: who is named as author is a claim until that person signs it.

    \b
    Example:
      cognify section sync credit_default 3 sections/credit_default
      cognify section sync credit_default 4 --carry-over
    """
    from cognify_dagster.documents.facts.section_files import sync_sections

    if folder is None and not carry:
        raise click.UsageError("name the folder of the texts, or say --carry-over")
    if source and not carry:
        raise click.UsageError("--from goes with --carry-over")
    workspace = open_workspace(ctx)
    found = sync_sections(workspace, model, version, folder, carry=carry, source=source, ahead=ahead)
    if json_:
        as_json(
            {
                "sections": [change_json(change) for change in found.changes],
                "skipped": dict(found.skipped),
                "notes": list(found.notes),
                "not_in_folder": list(found.not_in_folder),
            }
        )
        return
    trial_banner(workspace.read().trial)
    heading(f"Sections of {model}, version {version}:")
    table(("Section", "Revision", "Entry", "What happened"), [change_row(change) for change in found.changes])
    for name, why in sorted(found.skipped.items()):
        say(f"Skipped {clean(name)}: {clean(why)}")
    for note in found.notes:
        say(f"Note: {clean(note)}")
    if found.not_in_folder:
        say(f"Recorded, without a file in the folder (they stay): {', '.join(found.not_in_folder)}")
    call = program(workspace)
    if any(change.carried_from for change in found.changes):
        say(f"Read what was taken over, and sign it: {call} section approve {model} {version} SECTION --as KEYFILE")


@command.command("list", short_help="Who wrote, drafted and signed the sections of a version.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@json_option
@click.pass_context
def list_(ctx: click.Context, model: str, version: str, json_: bool) -> None:
    """List the sections of a version: who wrote, drafted and signed them, and what nobody has reviewed since it was taken over.

    \b
    Example:
      cognify section list credit_default 3
    """
    workspace = open_workspace(ctx)
    reading = workspace.read()
    found, people = _sections(reading, model, version)
    if json_:
        as_json(
            {
                "model": model,
                "version": version,
                "sections": [section_json(item, people) for item in found.items.values()],
                "without_effect": [{"entry": seq, "why": why} for seq, why in found.problems],
            }
        )
        return
    trial_banner(reading.trial)
    if not found.items:
        say(f"No section of {model} {version} is recorded; the model's registration may hold texts.")
        say(f"Record them from files: {program(workspace)} section sync {model} {version} FOLDER")
        return
    heading(f"Sections of {model}, version {version}:")
    columns = ("Section", "Rev.", "Words", "Author", "State", "Entry")
    table(columns, [section_row(item, people) for item in found.items.values()])
    for seq, why in found.problems:
        say(f"Entry {seq} has no effect: {clean(why)}")


def _sections(reading: Reading, model: str, version: str) -> tuple[Sections, Directory]:
    from cognify_dagster.governance import directory, sections_of
    from cognify_dagster.workspace import unknown_version

    missing = unknown_version(reading, model, version)
    if missing:
        raise click.ClickException(missing)
    people = directory(reading)
    return sections_of(reading, people, model, version), people


def _one(reading: Reading, model: str, version: str, section: str) -> tuple[Section, Directory]:
    found, people = _sections(reading, model, version)
    if section not in found.items:
        known = ", ".join(found.items) or "none"
        raise click.ClickException(f"section {section} of {model} {version} has no text; recorded are: {known}")
    return found.items[section], people


@command.command("show", short_help="Show the text of a section, and who stands behind it.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.argument("section", type=SECTION)
@click.option("--history", is_flag=True, help="Also list every text that the section had.")
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, version: str, section: str, history: bool, json_: bool) -> None:
    """Show the text of a section as it is recorded, and who stands behind it.

    \b
    Example:
      cognify section show credit_default 3 limitations --history
    """
    reading = open_workspace(ctx).read()
    item, people = _one(reading, model, version, section)
    texts = _sections(reading, model, version)[0].history[section]
    earlier = [
        {
            "entry": text.seq,
            "revision": text.record.revision,
            "time": moment(text.time_us),
            "text_digest": text.record.text_digest,
            "ai_drafted": text.record.ai_drafted,
        }
        for text in texts
    ]
    if json_:
        value = {**section_json(item, people), "text": item.item.record.text}
        as_json({**value, "history": earlier} if history else value)
        return
    trial_banner(reading.trial)
    pairs(shown(item, people))
    say()
    say(literal(item))
    if history:
        say()
        columns = ("Revision", "Entry", "Time", "Text")
        table(columns, [(row["revision"], row["entry"], row["time"], row["text_digest"]) for row in earlier])


@command.command("diff", short_help="Compare the texts of two versions.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.argument("section", type=SECTION, required=False)
@click.option("--against", type=VERSION, metavar="VERSION", help="The version to compare with; else the one before.")
@json_option
@click.pass_context
def diff(ctx: click.Context, model: str, version: str, section: str | None, against: str | None, json_: bool) -> None:
    """Compare the texts of a version with those of another one, or one SECTION only.

    \b
    Example:
      cognify section diff credit_default 4 limitations --against 3
    """
    from cognify_dagster.documents.facts.section_files import section_diff
    from cognify_dagster.governance import previous_version

    reading = open_workspace(ctx).read()
    here, _ = _sections(reading, model, version)
    other = against or previous_version(reading, model, version)
    if other is None:
        raise click.ClickException(f"no version of {model} before {version} has sections; name one with --against")
    there, _ = _sections(reading, model, other)
    names = sorted({*here.items, *there.items}) if section is None else [section]
    if section is not None and section not in {*here.items, *there.items}:
        raise click.ClickException(f"neither {version} nor {other} has a section {section}")
    lines: dict[str, list[str]] = {}
    for name in names:
        old, new = (found.items[name].item.record.text if name in found.items else "" for found in (there, here))
        lines[name] = section_diff(old, new, old=f"{other}/{name}.md", new=f"{version}/{name}.md")
    missing = [name for name in names if name not in here.items]
    if json_:
        as_json({"version": version, "against": other, "sections": lines, "missing": missing})
        return
    for name in names:
        if lines[name]:
            say("\n".join(clean(line) for line in lines[name]))
    same = [name for name in names if not lines[name]]
    if same:
        say(f"The same in {other} and {version}: {', '.join(same)}")
    if missing:
        say(f"In {other} and not in {version}: {', '.join(missing)}")


@command.command("approve", short_help="Sign under a section that you read it and answer for it.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.argument("section", type=SECTION)
@click.option("--as-author", is_flag=True, help="Sign as the stated author that you wrote it. Approves nothing.")
@click.option("--role", default="", help="The role in which you sign; else the first of the section's that you hold.")
@click.option("--comment", default="", help="What you want to say to it.")
@act_options
@click.pass_context
def approve(
    ctx: click.Context,
    model: str,
    version: str,
    section: str,
    as_author: bool,
    role: str,
    comment: str,
    **signing: Any,
) -> None:
    """Sign under the newest text of a section that you read it and answer for it. A text that a program drafted needs this.

    \b
    Example:
      cognify section approve credit_default 3 limitations --as vera.key.json
    """
    from cognify_dagster.governance import approved_already, section_approval

    reading = open_workspace(ctx).read()
    item, people = _one(reading, model, version, section)
    wanted = () if as_author else _roles(ctx, reading, model, version, section)

    def make(now: Reading, signers: tuple[str, ...]) -> Any:
        person = signer(signers)
        chosen = role or role_of(now, person, wanted)
        if wanted and chosen not in wanted:
            raise click.UsageError(f"section {section} is answered for by {' or '.join(wanted)}, not by {chosen}")
        record = section_approval(
            now, model, version, section, person, role=chosen, as_author=as_author, comment=comment
        )
        seq = approved_already(now, record)
        if seq is not None:
            raise click.ClickException(f"{people.name(person)} signed under this text already, with entry {seq}")
        return record

    carry_out(
        ctx,
        make,
        signing,
        title="You sign under this text:" if not as_author else "You sign that you wrote this text:",
        rows=[*shown(item, people), ("Comment", comment or "none"), ("Reads", ""), *text_lines(item)],
        question="Sign under this text?",
        more={"section": section, "text_digest": item.item.record.text_digest},
    )


def _roles(ctx: click.Context, reading: Reading, model: str, version: str, section: str) -> tuple[str, ...]:
    """Return the roles that answer for the section, by the frameworks that the model is under."""
    from cognify_dagster.cli.frameworks_folder import own_folder
    from cognify_dagster.documents import collect, load_framework
    from cognify_dagster.documents.facts.section_files import section_roles
    from cognify_dagster.governance import policy_in_force

    registered = collect(reading, model, version).registered
    folder = own_folder(ctx, None)
    frameworks = [load_framework(name, folder) for name in (registered.record.frameworks if registered else ())]
    return section_roles(section, frameworks, policy_in_force(reading).policy.roles)
