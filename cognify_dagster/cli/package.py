"""`cognify package`: build, show, compare and list compliance packages, export the bundle of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, Failure
from cognify_dagster.cli.inputs import MODEL, OUT_FILE, PERSON, VERSION, json_option, open_workspace, write_new
from cognify_dagster.cli.output import as_json, clean, open_file, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.records import Package
    from cognify_dagster.workspace import Reading, Recorded, Workspace


@click.group(cls=Group, name="package")
def command() -> None:
    """Build, show, compare and list compliance packages, export the bundle of one.

    \b
    Example:
      cognify package show credit_default 3
      cognify package diff credit_default 2 3
    """


def newest_package(reading: Reading, model: str, version: str) -> Recorded[Package]:
    """Return the newest package of a version.

    Raises:
        click.ClickException: if there is none.
    """
    from cognify_dagster.records import Package
    from cognify_dagster.workspace import unknown_version

    found = reading.latest(Package, f"model/{model}@{version}")
    if found is None:
        raise click.ClickException(
            unknown_version(reading, model, version)
            or f"{model} {version} has no package yet; see `cognify status {model} {version}`"
        )
    return found


@command.command("build", short_help="Build and record the package of a version.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "--again",
    is_flag=True,
    help="Build although people signed the newest package: their signatures are not for the new one.",
)
@json_option
@click.pass_context
def build(ctx: click.Context, model: str, version: str, again: bool, json_: bool) -> None:
    """Build the package of a version from the ledger and record it with its copies, as the package asset does in Dagster.

    Where nothing that it tells of changed, the package on record stays, with its signatures. The builder is whoever your login
    (os: or user: alias) maps to.

    \b
    Example:
      cognify package build credit_default 3
    """
    from datetime import datetime, timezone
    from uuid import uuid4

    from cognify_dagster.documents import build_and_record
    from cognify_dagster.documents.html.recorded import signatures_of
    from cognify_dagster.documents.package.recording import package_stale
    from cognify_dagster.records import Package

    workspace = open_workspace(ctx)
    reading = workspace.read()
    before = reading.latest(Package, f"model/{model}@{version}")
    if before is not None and not again and package_stale(reading, before):
        signed = len(signatures_of(reading, before))
        if signed:
            raise Failure(
                f"{signed} sign-off{'s' if signed != 1 else ''} on the newest package of {model} {version} (entry {before.seq}) would not "
                "count for a new one; --again builds it, and people sign anew",
                BLOCKED,
            )
    who, note = exporter(reading), (lambda text: None) if json_ else (lambda text: say(f"{text} …"))
    run = f"cli:{uuid4()}"
    done = build_and_record(
        workspace, model, version, run=run, built_by=who, now=datetime.now(timezone.utc), progress=note
    )
    record = done.recorded.record
    if json_:
        as_json(
            {
                "entry": done.recorded.seq,
                "digest": record.package.digest,
                "revision": record.revision,
                "unchanged": done.unchanged,
                "built_by": record.built_by,
                "trial": reading.trial,
            }
        )
        return
    trial_banner(reading.trial)
    what = "Nothing changed: the package on record stays" if done.unchanged else f"Built by {record.built_by}"
    say(f"{what}. Revision {record.revision}, entry {done.recorded.seq}, {record.package.digest}")
    if record.built_by == "unattributed":
        say(
            "Your login is enrolled for nobody, so nobody stands for having built it; the policy may hold that against it."
        )
    say(f"Read it: cognify package show {model} {version} --pdf {model}-{version}.pdf")


@command.command("show", short_help="Show the package of a version, also as a page or PDF.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--html", type=OUT_FILE, metavar="FILE", help="Write it as one HTML file, with the sign-offs so far.")
@click.option(
    "--pdf", type=OUT_FILE, metavar="FILE", help="Copy the PDF on record: the final copy, before that the review copy."
)
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, version: str, html: Path | None, pdf: Path | None, json_: bool) -> None:
    """Show what the newest package of a version says: identity, results, coverage, findings, texts, sign-offs.

    \b
    Example:
      cognify package show credit_default 3
      cognify package show credit_default 3 --html credit_default-3.html
      cognify package show credit_default 3 --pdf credit_default-3.pdf
    """
    from cognify_dagster.cli.package_show import show_summary
    from cognify_dagster.documents import read_package

    if sum((html is not None, pdf is not None, json_)) > 1:
        raise click.UsageError("give one of --html, --pdf and --json")
    workspace = open_workspace(ctx)
    reading = workspace.read()
    found = newest_package(reading, model, version)
    if html is not None:
        from cognify_dagster.documents.html.recorded import package_page

        write_new(html, package_page(workspace, reading, found).encode())
        say(f"Page for reading written to {clean(html)}. People sign the package, {found.record.package.digest}")
        return
    if pdf is not None:
        what, data = pdf_on_record(workspace, reading, found)
        write_new(pdf, data)
        say(f"{what} written to {clean(pdf)}")
        return
    content = read_package(workspace.evidence.get(found.record.package.digest))
    if json_:
        as_json(
            {
                "entry": found.seq,
                "leaf": found.leaf,
                "trial": reading.trial,
                "record": found.record.facts(),
                "package": content,
            }
        )
        return
    show_summary(workspace, reading, found, content)


def pdf_on_record(workspace: Workspace, reading: Reading, found: Recorded[Package]) -> tuple[str, bytes]:
    """Return which PDF the ledger has for a package, and its bytes as recorded; nothing is rendered anew.

    Raises:
        click.ClickException: if no copy is on record.
    """
    from cognify_dagster.records import FinalCopy

    record = found.record
    copies = reading.all(FinalCopy, f"model/{record.model}@{record.version}")
    final = [item for item in copies if item.record.package_digest == record.package.digest]
    if final:
        digest = final[-1].record.final_copy.digest
        return f"Final copy of entry {final[-1].seq} ({digest})", workspace.evidence.get(digest)
    if record.review_copy is None:
        raise click.ClickException(
            f"the package of {record.model} {record.version} has no PDF on record; use --html, or `cognify package export`"
        )
    return f"Review copy of entry {found.seq} ({record.review_copy.digest})", workspace.evidence.get(
        record.review_copy.digest
    )


@command.command("diff", short_help="Compare the packages of two versions, part by part.")
@click.argument("model", type=MODEL)
@click.argument("before", type=VERSION)
@click.argument("after", type=VERSION)
@json_option
@click.pass_context
def diff(ctx: click.Context, model: str, before: str, after: str, json_: bool) -> None:
    """Compare the newest packages of two versions, part by part: data, parameters, metrics, coverage, texts, sign-offs.

    \b
    Example:
      cognify package diff credit_default 2 3
    """
    from cognify_dagster.cli.package_show import show_comparison
    from cognify_dagster.documents import read_package
    from cognify_dagster.documents.html.recorded import signatures_of
    from cognify_dagster.documents.package.comparison import compare_packages

    workspace = open_workspace(ctx)
    reading = workspace.read()
    old, new = newest_package(reading, model, before), newest_package(reading, model, after)
    result = compare_packages(
        read_package(workspace.evidence.get(old.record.package.digest)),
        read_package(workspace.evidence.get(new.record.package.digest)),
        signed_before=signatures_of(reading, old),
        signed_after=signatures_of(reading, new),
    )
    if json_:
        as_json({"trial": reading.trial, **result})
        return
    trial_banner(reading.trial)
    show_comparison(result)


@command.command("list", short_help="List the packages by model and version.")
@click.argument("model", type=MODEL, required=False)
@click.option("--html", type=OUT_FILE, metavar="FILE", help="Write the index as one HTML file.")
@json_option
@click.pass_context
def list_(ctx: click.Context, model: str | None, html: Path | None, json_: bool) -> None:
    """List the packages of all models, or of one, by version, with what has happened to each since.

    \b
    Example:
      cognify package list
      cognify package list credit_default --html packages.html
    """
    from cognify_dagster.cli.package_show import show_index
    from cognify_dagster.documents.html.recorded import index_page, package_index
    from cognify_dagster.workspace import unknown_model

    if html is not None and json_:
        raise click.UsageError("give one of --html and --json")
    reading = open_workspace(ctx).read()
    missing = unknown_model(reading, model) if model else ""
    if missing:
        raise click.ClickException(missing)
    rows = package_index(reading, model or "")
    if html is not None:
        write_new(html, index_page(reading, rows).encode())
        say(f"Index of {len(rows)} packages written to {clean(html)}")
    elif json_:
        as_json({"trial": reading.trial, "origin": reading.origin, "size": reading.size, "packages": rows})
    else:
        trial_banner(reading.trial)
        show_index(rows)


@command.command("export", short_help="Export the bundle of a version, for people outside.")
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
    newest_package(reading, model, version)
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
