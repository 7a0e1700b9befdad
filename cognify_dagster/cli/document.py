"""`cognify document`: documents made from the record, printed or written to a file. Nothing is recorded by making one."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import MODEL, NAME, OUT_FILE, TIME, VERSION, json_option, open_workspace, write_new
from cognify_dagster.cli.output import TRIAL, as_json, clean, say

if TYPE_CHECKING:
    from cognify_dagster.documents.outputs.content import Document
    from cognify_dagster.workspace import Reading, Workspace

F = TypeVar("F", bound=Callable[..., Any])
Format = Literal["md", "html", "json"]


@click.group(cls=Group, name="document")
def command() -> None:
    """Documents made from the record: model card, validation report, deployment record, provenance, BOM, Croissant, SLSA.

    Each is printed, or written with --out to a new file. Making one records nothing and changes nothing.

    \b
    Example:
      cognify document card credit_default 3 --format html -o card.html
      cognify document provenance loans_train
    """


@dataclass(frozen=True)
class Made:
    """A document as text, and what a program wants to know about it."""

    kind: str
    form: str
    text: str
    reading: Reading
    more: dict[str, Any]


out_option = click.option(
    "-o", "--out", type=OUT_FILE, metavar="FILE", help="Write it to this new file instead of printing it."
)
at_option = click.option(
    "--at", "moment", type=TIME, help="Judge dates at this moment, such as 2026-11-21.  [default: now]"
)


def format_option(*forms: Format) -> Callable[[F], F]:
    """Add `--format`; the first form is the default."""
    return click.option(
        "--format", "form", type=click.Choice(forms), default=forms[0], show_default=True, help="What it is made as."
    )


def _now(moment: str | None) -> datetime:
    if moment is None:
        return datetime.now(timezone.utc)
    return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def _hand_over(made: Made, out: Path | None, json_: bool) -> None:
    """Write or print a document. On a terminal, characters that could forge lines are shown as such; a file gets the bytes."""
    data = made.text.encode("utf-8")
    if out is not None:
        write_new(out, data)
    if json_:
        told: dict[str, Any] = {
            "document": made.kind,
            "format": made.form,
            "trial": made.reading.trial,
            "ledger": {"origin": made.reading.origin, "size": made.reading.size, "root": made.reading.view.root.hex()},
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "file": str(out.resolve()) if out else None,
            **made.more,
        }
        as_json(told if out else {**told, "text": made.text})
        return
    if made.reading.trial:
        say(TRIAL, err=True)
    if out is None:
        click.echo(clean(made.text, keep_newlines=True) if sys.stdout.isatty() else made.text, nl=False)
    else:
        say(f"Written: {clean(out)} ({len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()})")


@command.command("card", short_help="Model card (Markdown or HTML).")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@format_option("md", "html")
@out_option
@json_option
@click.pass_context
def card(ctx: click.Context, model: str, version: str, form: Format, out: Path | None, json_: bool) -> None:
    """The model card of a version, made from its newest package: the same package gives the same bytes.

    As Markdown it begins with the metadata that model hubs read. It says whether it equals the card that was recorded with the
    package.

    \b
    Example:
      cognify document card credit_default 3
      cognify document card credit_default 3 --format html -o card.html
    """
    from cognify_dagster.documents.outputs.making import newest_package
    from cognify_dagster.documents.outputs.model_card import render_model_card, render_model_card_html

    workspace = open_workspace(ctx)
    reading = workspace.read()
    package, content = newest_package(workspace, reading, model, version)
    text = render_model_card(content) if form == "md" else render_model_card_html(content)
    held = package.record.model_card.digest
    made = render_model_card(content) if form == "html" else text
    equal = held == "sha256:" + hashlib.sha256(made.encode()).hexdigest()
    recorded = {"entry": package.seq, "digest": held, "equal": equal}
    _hand_over(
        Made("model_card", form, text, reading, {"package_entry": package.seq, "recorded_card": recorded}), out, json_
    )
    if out is not None and not json_:
        same = (
            "The recorded card of this package says the same."
            if equal
            else "Another release made the recorded card of this package."
        )
        say(f"{same} (entry {package.seq})")


@command.command("validation", short_help="Validation report of a version.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@format_option("md", "html", "json")
@at_option
@out_option
@json_option
@click.pass_context
def validation(
    ctx: click.Context, model: str, version: str, form: Format, moment: str | None, out: Path | None, json_: bool
) -> None:
    """The validation report of a version: conclusion, soundness, outcomes, limits, findings, challenge, conditions.

    Numbers are those of the sealed evaluation; a conclusion is only what a validator signed.

    \b
    Example:
      cognify document validation credit_default 3
      cognify document validation credit_default 3 --format html -o validation.html
    """
    from cognify_dagster.documents.outputs.making import newest_package
    from cognify_dagster.documents.outputs.validation import validation_report

    workspace = open_workspace(ctx)
    reading = workspace.read()
    package, content = newest_package(workspace, reading, model, version)
    document = validation_report(reading, content, now=_now(moment))
    _text_document(document, form, reading, out, json_, {"package_entry": package.seq})


@command.command("deployment", short_help="Deployment record of a version.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@format_option("md", "html", "json")
@at_option
@out_option
@json_option
@click.pass_context
def deployment(
    ctx: click.Context, model: str, version: str, form: Format, moment: str | None, out: Path | None, json_: bool
) -> None:
    """The deployment record of a version: what went live where and when, on whose word, with which conditions, and the way back.

    \b
    Example:
      cognify document deployment credit_default 3
      cognify document deployment credit_default 3 --format json
    """
    from cognify_dagster.documents.outputs.deployment import deployment_record

    reading = open_workspace(ctx).read()
    _text_document(deployment_record(reading, model, version, now=_now(moment)), form, reading, out, json_, {})


@command.command("provenance", short_help="Six questions about data, answered.")
@click.argument("name", type=NAME)
@click.argument("version", type=VERSION, required=False)
@click.option(
    "--root", metavar="HEX", help="A certain snapshot, by the first digits of its root; the newest one by default."
)
@format_option("md", "html", "json")
@at_option
@out_option
@json_option
@click.pass_context
def provenance(
    ctx: click.Context,
    name: str,
    version: str | None,
    root: str | None,
    form: Format,
    moment: str | None,
    out: Path | None,
    json_: bool,
) -> None:
    """Six questions about data and their answers: who collected it, from where, when, on which basis, what was done, who used it.

    NAME is a data set. With a VERSION, NAME is a model, and the page has all data sets of that version. What nobody recorded is
    said, with who has to say it.

    \b
    Example:
      cognify document provenance loans_train
      cognify document provenance credit_default 3 --format html -o data.html
    """
    from cognify_dagster.documents.outputs.provenance import find_snapshot, provenance_page, snapshots_of

    if version is not None and root is not None:
        raise click.UsageError("--root goes with a data set, not with a model version")
    wanted = _root(root)
    reading = open_workspace(ctx).read()
    if version is None:
        page = provenance_page(reading, [find_snapshot(reading, name, wanted)], now=_now(moment))
    else:
        page = provenance_page(
            reading, snapshots_of(reading, name, version), now=_now(moment), about=f"{name} {version}"
        )
    _text_document(page, form, reading, out, json_, {})


def _root(text: str | None) -> str | None:
    if text is None:
        return None
    found = text.lower().removeprefix("sha256:")
    if not 8 <= len(found) <= 64 or set(found) - set("0123456789abcdef"):
        raise click.UsageError(f"--root {text[:80]!r}: 8 to 64 hex digits of a snapshot's root are meant")
    return found


def _text_document(
    document: Document, form: Format, reading: Reading, out: Path | None, json_: bool, more: dict[str, Any]
) -> None:
    from cognify_dagster.documents.outputs.making import render

    _hand_over(Made(document.kind, form, render(document, form), reading, more), out, json_)


@command.command("bom", short_help="Bill of materials (CycloneDX JSON).")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "--spec", type=click.Choice(["1.6", "1.7"]), default="1.6", show_default=True, help="Version of CycloneDX."
)
@out_option
@json_option
@click.pass_context
def bom(
    ctx: click.Context, model: str, version: str, spec: Literal["1.6", "1.7"], out: Path | None, json_: bool
) -> None:
    """The bill of materials of a version as CycloneDX JSON: model, data, packages, and the coverage as declarations.

    The same package gives the same bytes, serial number included.

    \b
    Example:
      cognify document bom credit_default 3 -o credit_default-3.cdx.json
    """
    from cognify_dagster.documents.outputs.making import json_text, make_bom

    workspace = open_workspace(ctx)
    reading = workspace.read()
    text = json_text(make_bom(workspace, reading, model, version, spec=spec))
    _hand_over(Made("cyclonedx", "json", text, reading, {"spec": spec}), out, json_)


@command.command("croissant", short_help="Metadata of a data set (Croissant with RAI, JSON).")
@click.argument("dataset", type=NAME)
@click.option(
    "--root", metavar="HEX", help="A certain snapshot, by the first digits of its root; the newest one by default."
)
@out_option
@json_option
@click.pass_context
def croissant(ctx: click.Context, dataset: str, root: str | None, out: Path | None, json_: bool) -> None:
    """A snapshot of a data set as Croissant 1.1 metadata, with the responsible-AI terms that its owner stated.

    \b
    Example:
      cognify document croissant loans_train -o loans_train.croissant.json
    """
    from cognify_dagster.datasets import ManifestError
    from cognify_dagster.documents.outputs.making import json_text, make_croissant
    from cognify_dagster.documents.outputs.provenance import find_snapshot

    wanted = _root(root)
    workspace = open_workspace(ctx)
    reading = workspace.read()
    item = find_snapshot(reading, dataset, wanted)
    try:
        text = json_text(make_croissant(workspace, reading, item))
    except ManifestError as error:
        raise Failure(f"dataset/{dataset}, entry {item.seq}: {error}", UNREADABLE) from error
    _hand_over(Made("croissant", "json", text, reading, {"entry": item.seq, "root": item.record.root}), out, json_)


@command.command("slsa", short_help="Where a model file came from (in-toto, SLSA provenance).")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--sign", "sign", is_flag=True, help="Sign it with this workspace's workload key: a DSSE envelope.")
@out_option
@json_option
@click.pass_context
def slsa(ctx: click.Context, model: str, version: str, sign: bool, out: Path | None, json_: bool) -> None:
    """Where a model file came from: an in-toto Statement with the SLSA provenance of the training run.

    \b
    Example:
      cognify document slsa credit_default 3
      cognify document slsa credit_default 3 --sign -o provenance.intoto.json
    """
    from cognify_dagster.documents.outputs.making import json_text, make_slsa

    workspace: Workspace = open_workspace(ctx)
    reading = workspace.read()
    text = json_text(make_slsa(workspace, reading, model, version, sign=sign))
    _hand_over(Made("slsa_provenance", "json", text, reading, {"signed": sign}), out, json_)
