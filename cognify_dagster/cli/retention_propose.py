"""`cognify retention propose`: a schedule to adopt, from what the frameworks of the models ask for.

Invariants: it writes a file and nothing else; what it proposes never shortens a rule in force; whatever it leaves out it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import MODEL, OUT_FILE, json_option, open_workspace, program, write_new
from cognify_dagster.cli.output import as_json, clean, heading, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.documents.catalogues.retention_classes import RetentionClasses, Term
    from cognify_dagster.records import RetentionRule
    from cognify_dagster.workspace import Reading


@click.command(cls=Command, name="propose")
@click.option(
    "--model", "models", type=MODEL, multiple=True, help="Only for this model; repeatable.  [default: all models]"
)
@click.option(
    "--framework",
    "frameworks",
    multiple=True,
    metavar="ID",
    help="Consider this framework, whether or not a model is registered under it; repeatable.",
)
@click.option("--fact", "facts", multiple=True, metavar="NAME=VALUE", help="State a fact, such as broker_dealer=true.")
@click.option("-o", "--out", type=OUT_FILE, help="Write the schedule to this new file.  [default: print it]")
@json_option
@click.pass_context
def propose(
    ctx: click.Context,
    models: tuple[str, ...],
    frameworks: tuple[str, ...],
    facts: tuple[str, ...],
    out: Path | None,
    json_: bool,
) -> None:
    """Write a schedule file from the terms of the frameworks, for people to read, change and adopt.

    Rules in force stay in it: adopting replaces all rules. Nothing counts before two people adopt it (`cognify retention adopt`).

    \b
    Example:
      cognify retention propose -o retention.yaml
      cognify retention propose --framework hipaa --fact broker_dealer=true -o retention.yaml
    """
    from cognify_dagster.documents import load_framework
    from cognify_dagster.documents.catalogues.retention_classes import proposed_rules, retention_classes
    from cognify_dagster.documents.catalogues.retention_table import load_retention_table
    from cognify_dagster.governance import schedule_in_force

    workspace = open_workspace(ctx)
    reading = workspace.read()
    folder = workspace.config.frameworks
    stated = _facts(facts)
    registered = _registered(reading, models)
    known = load_retention_table(folder)
    found: dict[str, RetentionClasses] = {}
    for model, (names, own) in registered.items():
        listed = [load_framework(name, folder) for name in dict.fromkeys((*names, *frameworks))]
        found[model] = retention_classes(listed, {**own, **stated}, known)
    if not registered:
        if not frameworks:
            raise click.UsageError("no model is registered here; name frameworks with --framework")
        found[""] = retention_classes([load_framework(name, folder) for name in frameworks], stated, known)
    schedule = schedule_in_force(reading)
    rules = proposed_rules(found.values(), schedule.rules)
    text = _file(rules, found, schedule.seq)
    if out is not None:
        write_new(out, text.encode())
    if json_:
        as_json(_json(rules, found, out))
        return
    if out is None:
        click.echo(text, nl=False)
        return
    trial_banner(reading.trial)
    for model, classes in found.items():
        heading(model or "Frameworks named")
        table(("artefact", "to be kept"), [(item.artefact, item.reason) for item in classes.artefacts])
        for line in _remarks(classes):
            say(clean(line))
    say(
        f"Written to {out}: {len(rules)} rules. Read it, change it, then: {program(workspace)} retention adopt {out} --reason … --as …"
    )


def _registered(reading: Reading, models: Iterable[str]) -> dict[str, tuple[tuple[str, ...], Mapping[str, Any]]]:
    """The frameworks and facts of the models, by model key."""
    from cognify_dagster.records import ModelRegistered

    wanted = tuple(dict.fromkeys(models))
    subjects = sorted(name for name in reading.view.heads if name.startswith("model/") and "@" not in name)
    found: dict[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {}
    for subject in [f"model/{name}" for name in wanted] or subjects:
        latest = reading.latest(ModelRegistered, subject)
        if latest is None:
            if wanted:
                raise Failure(f"{subject.removeprefix('model/')}: no such model is registered here", UNREADABLE)
            continue
        record = latest.record
        found[record.model] = (record.frameworks, {**record.framework_facts, "risk_tier": record.risk_tier})
    return found


def _facts(given: Iterable[str]) -> dict[str, Any]:
    """Read NAME=VALUE: true and false, whole numbers, lists with commas, or text."""
    found: dict[str, Any] = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise click.UsageError(f"--fact {item[:60]!r}: write NAME=VALUE, such as broker_dealer=true")
        parts = [_value(part.strip()) for part in value.split(",")]
        found[name.strip()] = parts[0] if len(parts) == 1 else parts
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "yes", "false", "no"):
        return text.lower() in ("true", "yes")
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() else text


def _file(rules: Iterable[RetentionRule], found: Mapping[str, RetentionClasses], seq: int | None) -> str:
    """The schedule file: reasons as comments, rules as `cognify retention adopt` reads them."""
    import yaml

    where = f"those adopted in entry {seq}" if seq is not None else "the built-in ones"
    lines = [
        "# A proposal: nothing counts before it is adopted by signature. Adopting replaces all rules, so the rules in force",
        f"# ({where}) stand here too. Months count from the entry, from going live, or from the end of use (`starts`).",
    ]
    for model, classes in found.items():
        lines.append(f"#\n# {clean(model or 'frameworks named')}")
        lines += [f"#   {item.artefact}: {clean(item.reason)}" for item in classes.artefacts]
        lines += [f"#   {clean(line)}" for line in _remarks(classes)]
    listed = [{name: value for name, value in rule.model_dump(mode="json").items() if value != []} for rule in rules]
    return "\n".join(lines) + "\n" + yaml.safe_dump({"rules": listed}, sort_keys=False, allow_unicode=True, width=130)


def _remarks(classes: RetentionClasses) -> list[str]:
    lines = [f"{name} names no term; the organisation's own schedule decides." for name in classes.silent]
    lines += [f"{name} is left out: {why}." for name, why in classes.left_out.items()]
    lines += [f"{name} is open: state {', '.join(facts)} (--fact)." for name, facts in classes.undecided.items()]
    return lines


def _json(rules: Iterable[RetentionRule], found: Mapping[str, RetentionClasses], out: Path | None) -> dict[str, Any]:
    return {
        "file": str(out) if out else None,
        "rules": [rule.model_dump(mode="json") for rule in rules],
        "models": {
            model: {
                "artefacts": [
                    {
                        "artefact": item.artefact,
                        "reason": item.reason,
                        "keep": [_term(term) for term in item.keep],
                        "erase": [_term(term) for term in item.erase],
                    }
                    for item in classes.artefacts
                ],
                "silent": list(classes.silent),
                "left_out": dict(classes.left_out),
                "undecided": {name: list(facts) for name, facts in classes.undecided.items()},
            }
            for model, classes in found.items()
        },
    }


def _term(term: Term) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(term)
