"""`cognify package`: show a compliance package, export its bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import MODEL, PERSON, VERSION, json_option, open_workspace, program
from cognify_dagster.cli.output import as_json, clean, heading, open_file, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.records import Package
    from cognify_dagster.workspace import Reading, Recorded


@click.group(cls=Group, name="package")
def command() -> None:
    """Show a compliance package, export its bundle.

    \b
    Example:
      cognify package show credit_default 3
    """


def _package(reading: Reading, model: str, version: str) -> Recorded[Package]:
    from cognify_dagster.records import Package

    found = reading.latest(Package, f"model/{model}@{version}")
    if found is None:
        raise click.ClickException(f"{model} {version} has no package yet; see `cognify status {model}`")
    return found


@command.command("show")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, version: str, json_: bool) -> None:
    """Show what the newest package of a version says: digests, coverage, findings.

    \b
    Example:
      cognify package show credit_default 3
    """
    workspace = open_workspace(ctx)
    reading = workspace.read()
    found = _package(reading, model, version)
    record = found.record
    content = json.loads(workspace.evidence.get(record.package.digest))
    if json_:
        as_json(
            {
                "entry": found.seq,
                "leaf": found.leaf,
                "trial": reading.trial,
                "record": record.facts(),
                "package": content,
            }
        )
        return
    trial_banner(reading.trial)
    heading(f"{model} {version}, package revision {record.revision}")
    rows: list[tuple[str, object]] = [
        ("Package", record.package.digest),
        ("Entry", f"{found.seq}, leaf {found.leaf}"),
        ("Model file", record.model_digest),
        ("Built by", record.built_by),
        ("Describes", f"the first {record.built_from_size} entries"),
    ]
    for label, item, suffix in (
        ("Review copy", record.review_copy, "review.pdf"),
        ("Model card", record.model_card, "card.md"),
        ("Package JSON", record.package, "package.json"),
    ):
        if item is not None:
            rows.append((label, f"{program(workspace)} evidence get {item.digest} -o {model}-{version}-{suffix}"))
    pairs(rows)
    if record.coverage:
        table(
            ("framework", "state", "law", "guidance"),
            [(part.framework, part.status, _counts(part.law), _counts(part.guidance)) for part in record.coverage],
        )
    findings = content.get("findings") if isinstance(content, dict) else None
    if isinstance(findings, list) and findings:
        table(
            ("finding", "severity", "title", "owner", "due"),
            [tuple(item.get(name, "") for name in ("id", "severity", "title", "owner", "due")) for item in findings],
        )
    elif isinstance(findings, list):
        say("No findings.")


def _counts(counts: dict[str, int]) -> str:
    return "\n".join(f"{count} {name}" for name, count in sorted(counts.items())) or "–"


@command.command("export")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder, or file with --zip."
)
@click.option("--zip", "zip_", is_flag=True, help="Write one zip file instead of a folder.")
@click.option("--open", "open_", is_flag=True, help="Open the PDF afterwards.")
@click.option("--by", type=PERSON, help="Who exports; by default whoever your login (os: or user: alias) maps to.")
@json_option
@click.pass_context
def export(
    ctx: click.Context, model: str, version: str, out: Path, zip_: bool, open_: bool, by: str | None, json_: bool
) -> None:
    """Export the bundle of a version: package, documents, proofs and the offline verifier. The export is recorded.

    \b
    Example:
      cognify package export credit_default 3 -o bundle
      cognify package export credit_default 3 -o bundle.zip --zip
    """
    from cognify_dagster.documents import export_bundle

    if out.is_symlink() or (out.exists() and (zip_ or not out.is_dir() or any(out.iterdir()))):
        raise click.UsageError(f"{out}: there is already something; a bundle is written to a new place")
    if not out.parent.is_dir():
        raise click.UsageError(f"{out.parent}: no such folder; create it first")
    if zip_ and open_:
        raise click.UsageError("--open needs a folder; leave --zip away")
    workspace = open_workspace(ctx)
    reading = workspace.read()
    _package(reading, model, version)
    who = by or exporter(reading)
    if by is not None:
        _enrolled(reading, by)
    export_bundle(workspace, model, version, out, exported_by=who, as_zip=zip_)
    pdf = None if zip_ else _pdf(out)
    if json_:
        as_json(
            {
                "bundle": str(out.resolve()),
                "exported_by": who,
                "trial": reading.trial,
                "pdf": str(pdf) if pdf else None,
                "size": workspace.ledger.size(),
            }
        )
    else:
        trial_banner(reading.trial)
        say(f"Bundle of {model} {version} written to {clean(out.resolve())} (exported by {who})")
        if pdf is not None:
            say(f"PDF: {clean(pdf)}")
        say(f"Verify it with a trust file kept apart: cognify verify {clean(out)} --trust trust.txt")
    if open_ and not (pdf is not None and open_file(str(pdf))):
        say("There is no desktop here (or no PDF) to open; use the path above.", err=True)


def exporter(reading: Reading) -> str:
    """Map the operating system's login to a person; an unmapped login is recorded as unattributed."""
    from cognify_dagster.governance import directory
    from cognify_dagster.workspace import os_login

    people, login = directory(reading), os_login()
    for alias in (f"os:{login}", f"user:{login}"):
        found, _ = people.resolve([alias])
        if found:
            return found[0]
    return "unattributed"


def _enrolled(reading: Reading, person: str) -> None:
    from cognify_dagster.governance import GovernanceError, directory

    if directory(reading).person_at(person, reading.size) is None:
        raise GovernanceError(f"{person} is not enrolled in this workspace; see `cognify people list`")


def _pdf(folder: Path) -> Path | None:
    for name in ("final-copy.pdf", "review-copy.pdf"):
        path = folder / "package" / name
        if path.is_file():
            return path.resolve()
    return None
