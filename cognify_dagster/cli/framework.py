"""`cognify framework`: the regulations and guidance that versions are compared with; list, show, check a file of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure, finish
from cognify_dagster.cli.frameworks_folder import folder_option, own_folder
from cognify_dagster.cli.inputs import json_option
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table

if TYPE_CHECKING:
    from cognify_dagster.documents.frameworks.model import EvidenceNode, Framework, Requirement


@click.group(cls=Group, name="framework")
def command() -> None:
    """Regulations and guidance as data: list them, read one, check a file of your own.

    \b
    Example:
      cognify framework list
      cognify framework show fair-lending
    """


@command.command("list", short_help="List the frameworks, shipped and your own.")
@folder_option
@json_option
@click.pass_context
def list_(ctx: click.Context, folder: Path | None, json_: bool) -> None:
    """List the frameworks: shipped ones, and those of your own folder, which come first where both have an id.

    \b
    Example:
      cognify framework list
      cognify framework list --folder frameworks --json
    """
    from cognify_dagster.documents import FrameworkError, framework_ids, load_framework

    own = own_folder(ctx, folder)
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    for name in framework_ids(own):
        try:
            rows.append(_row(load_framework(name, own), _origin(name, own)))
        except FrameworkError as error:
            wrong.append(str(error))
    if json_:
        as_json({"folder": str(own) if own else None, "frameworks": rows, "unreadable": wrong})
    else:
        table(
            ("framework", "what it is", "state", "law", "guidance", "other", "from"),
            [
                (
                    f"{row['id']}\n{row['version']}",
                    row["title"],
                    _state(row),
                    row["requirements"]["law"],
                    row["requirements"]["guidance"],
                    row["requirements"]["voluntary"] + row["requirements"]["draft"],
                    row["origin"],
                )
                for row in rows
            ],
        )
        for text in wrong:
            say(f"Cannot be used: {clean(text)}", err=True)
    if wrong:
        finish(BLOCKED)


def _origin(name: str, own: Path | None) -> str:
    from cognify_dagster.documents.frameworks.loading import template_root

    if own is None or not (own / f"{name}.yaml").is_file():
        return "shipped"
    return "your own, in place of the shipped one" if _shipped(template_root(), name) else "your own"


def _shipped(root: Path, name: str) -> bool:
    return (root / "frameworks" / f"{name}.yaml").is_file()


def _row(framework: Framework, origin: str) -> dict[str, Any]:
    forces = [item.force for item in framework.requirements()]
    return {
        "id": framework.id,
        "version": framework.version,
        "title": framework.title,
        "jurisdiction": framework.jurisdiction,
        "industry": framework.industry,
        "status": framework.status,
        "effective_from": framework.effective_from,
        "effective_to": framework.effective_to,
        "as_of": framework.as_of,
        "digest": framework.digest(),
        "origin": origin,
        "requirements": {force: forces.count(force) for force in ("law", "guidance", "voluntary", "draft")},
    }


def _state(row: dict[str, Any]) -> str:
    dates = [f"from {row['effective_from']}"] if row["effective_from"] else []
    dates += [f"to {row['effective_to']}"] if row["effective_to"] else []
    return "\n".join([str(row["status"]).replace("_", " "), *dates])


@command.command("show", short_help="Show a framework: its facts, each requirement, its evidence.")
@click.argument("name", metavar="ID")
@folder_option
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, folder: Path | None, json_: bool) -> None:
    """Show a framework: the facts it asks for, and each requirement with the evidence that supports it.

    \b
    Example:
      cognify framework show fair-lending
      cognify framework show fair-lending --json
    """
    from cognify_dagster.documents import load_framework

    own = own_folder(ctx, folder)
    framework = load_framework(name, own)
    origin = _origin(name, own)
    if json_:
        data = framework.model_dump(mode="json", by_alias=True)
        as_json({**data, "digest": framework.digest(), "origin": origin})
        return
    heading(f"{framework.title}")
    row = _row(framework, origin)
    pairs(
        [
            ("Id", f"{framework.id} {framework.version} ({origin})"),
            ("State", _state(row).replace("\n", ", ")),
            ("Read on", framework.as_of),
            ("Jurisdiction", framework.jurisdiction),
            ("Digest", framework.digest()),
            *((("Note", note)) for note in framework.notes),
        ]
    )
    say(clean(framework.disclaimer))
    if framework.facts:
        heading("Facts to state in the model's framework_facts")
        pairs([(fact.name, fact.question) for fact in framework.facts])
    for section in framework.sections:
        heading(section.title)
        table(
            ("requirement", "what is demanded", "evidence that supports it"),
            [(_name(item), f"{item.paraphrase}\n({item.citation})", _evidence(item)) for item in section.requirements],
        )
    if framework.retention:
        heading("How long things are kept")
        table(
            ("what", "how long", "from", "source"),
            [
                (
                    ", ".join(part.replace("_", " ") for part in item.artefacts),
                    f"{item.years} years" if item.years is not None else f"{item.months} months",
                    item.start.replace("_", " "),
                    item.citation,
                )
                for item in framework.retention
            ],
        )


def _name(item: Requirement) -> str:
    lines = [item.id, item.force + ("" if item.mandatory else ", not mandatory")]
    if item.applies_when is not None:
        lines.append(f"if {item.applies_when.words()}")
    return "\n".join(lines)


def _evidence(item: Requirement) -> str:
    from cognify_dagster.documents.labels import words

    text = _tree(item.evidence)
    return f"{text}\njudged by the {words(item.judged_by)}" if item.judged_by else text


def _tree(node: EvidenceNode) -> str:
    if not node.kind:
        parts = [_tree(part) for part in node.all_of or node.any_of]
        nested = [f"({part})" if " or " in part and node.all_of else part for part in parts]
        return (" and\n" if node.all_of else " or\n").join(nested)
    details = [*node.checks, *node.tables]
    if node.section:
        details.append(node.section)
    if node.text_id:
        details.append(node.text_id)
    if node.role:
        details.append(f"by {node.role.replace('_', ' ')}")
    if node.max_age_days:
        details.append(f"at most {node.max_age_days} days old")
    return f"{node.kind}: {', '.join(details)}" if details else node.kind


@command.command("check", short_help="Check framework files of your own.")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE_OR_FOLDER")
@folder_option
@json_option
@click.pass_context
def check(ctx: click.Context, path: Path, folder: Path | None, json_: bool) -> None:
    """Check a framework file, or all files of a folder: form, dates, citations, references, questions.

    A file with errors cannot be used, or says what is not so; the message names file, requirement and field. Citations are
    compared with headings/ID.txt beside the file, where there is such a list.

    \b
    Example:
      cognify framework check frameworks/our-policy.yaml
      cognify framework check frameworks
    """
    from cognify_dagster.documents.frameworks.checking import check_file

    if not path.exists():
        raise Failure(f"{path}: there is no such file or folder", UNREADABLE)
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise Failure(f"{path}: there is no framework file (ID.yaml) in this folder", UNREADABLE)
    own = own_folder(ctx, folder) or (path if path.is_dir() else path.absolute().parent)
    results = [(file, *check_file(file, own)) for file in files]
    if json_:
        as_json(
            [
                {
                    "file": str(file),
                    "id": framework.id if framework else None,
                    "problems": [{"level": item.level, "where": item.where, "text": item.text} for item in found],
                }
                for file, framework, found in results
            ]
        )
    else:
        for file, framework, found in results:
            errors = sum(item.level == "error" for item in found)
            state = f"{errors} error{'s' if errors != 1 else ''}" if errors else "no errors"
            many = f", {len(list(framework.requirements()))} requirements" if framework else ""
            say(f"{clean(file)}: {state}{many}")
            for item in found:
                say(f"  {item.level}: {clean(item.where)}: {clean(item.text)}")
    if any(item.level == "error" for _, _, found in results for item in found):
        finish(BLOCKED)


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of a framework file, for editors.

    \b
    Example:
      cognify framework schema > framework.schema.json
    """
    from cognify_dagster.documents.frameworks.schema import framework_schema

    as_json(framework_schema())
