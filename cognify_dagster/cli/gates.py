"""`cognify gates`: thresholds, adopted by a person before results exist."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import (
    IN_FILE,
    MODEL,
    NAME,
    check_yaml,
    confirm,
    json_option,
    open_workspace,
    signature_options,
    unlock,
)
from cognify_dagster.cli.output import as_json, clean, heading, moment, say, table, trial_banner

_COLUMNS = ("id", "family", "gate", "source", "too little data", "reason")


@click.group(cls=Group, name="gates")
def command() -> None:
    """Adopt and show gate sets.

    \b
    Example:
      cognify gates show
    """


@command.command("adopt")
@click.argument("file", type=IN_FILE)
@click.option("--model", type=MODEL, required=True)
@click.option("--name", type=NAME, help="Name of the set; by default the one in the file.")
@click.option(
    "--key", type=IN_FILE, required=True, metavar="FILE", help="Key of a person whose role may adopt gate sets."
)
@signature_options
@click.pass_context
def adopt(
    ctx: click.Context,
    file: Path,
    model: str,
    name: str | None,
    key: Path,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Adopt the thresholds of a YAML file for a model. They count for trainings that start afterwards.

    \b
    Example:
      cognify gates adopt gates.yaml --model credit_default --key vera.key.json
    """
    from cognify_dagster.evaluation.gates import load_gate_set
    from cognify_dagster.governance import adopt_gate_set, gate_digest
    from cognify_dagster.records import GateRule

    check_yaml(file, "a gate set")
    gate_set = load_gate_set(file)
    rules = [GateRule(**gate.model_dump()) for gate in gate_set.gates]
    called = name or gate_set.name
    workspace = open_workspace(ctx)
    by = unlock(key, passphrase_files)
    if not json_:
        trial_banner(workspace.read().trial)
        heading(f"Gate set {called} for {model}, {gate_digest(rules)}")
        table(_COLUMNS, [_row(rule) for rule in rules])
        say(f"Signed by {by.person}: “I adopt these thresholds before results exist.”")
    confirm("Adopt these thresholds?", yes)
    receipt = adopt_gate_set(workspace, called, model, rules, by)
    if json_:
        as_json(
            {
                "entry": receipt.seq,
                "leaf": receipt.leaf.hex(),
                "name": called,
                "model": model,
                "digest": gate_digest(rules),
                "duplicate": receipt.duplicate,
            }
        )
        return
    say(f"Recorded as entry {receipt.seq}, leaf {receipt.leaf.hex()}")


@command.command("show")
@click.argument("name", type=NAME, required=False)
@click.option("--model", type=MODEL, help="Only gate sets of this model.")
@json_option
@click.pass_context
def show(ctx: click.Context, name: str | None, model: str | None, json_: bool) -> None:
    """Show the newest adoption of each gate set, who signed it and whether it counts.

    \b
    Example:
      cognify gates show credit_gates
    """
    from cognify_dagster.governance import directory, policy_in_force
    from cognify_dagster.governance.people.enrol import check_gate_set
    from cognify_dagster.records import GateSetAdopted

    reading = open_workspace(ctx).read()
    people, policy = directory(reading), policy_in_force(reading).policy
    found = {}
    for item in reading.all(GateSetAdopted):
        if name in (None, item.record.name) and model in (None, item.record.model):
            found[item.record.name, item.record.model] = item
    if name is not None and not found:
        raise click.ClickException(f"no gate set {name!r} was adopted; see `cognify gates adopt --help`")
    values = []
    for item in found.values():
        record = item.record
        values.append(
            {
                "name": record.name,
                "model": record.model,
                "entry": item.seq,
                "time": moment(item.time_us),
                "digest": record.digest,
                "adopted_by": record.adopted_by,
                "adopted_by_name": people.name(record.adopted_by),
                "problem": check_gate_set(reading, item, people, policy),
                "gates": [rule.model_dump(mode="json") for rule in record.gates],
            }
        )
    if json_:
        as_json(values)
        return
    trial_banner(reading.trial)
    if not values:
        say("No gate set was adopted yet; see `cognify gates adopt --help`.")
    for value, item in zip(values, found.values(), strict=True):
        heading(f"{value['name']} for {value['model']}, {value['digest']}")
        say(f"Adopted by {clean(value['adopted_by_name'])} in entry {value['entry']}, {value['time']}")
        if value["problem"]:
            say(f"It does not count: {clean(value['problem'])}")
        table(_COLUMNS, [_row(rule) for rule in item.record.gates])


def _row(rule: object) -> tuple[object, ...]:
    from cognify_dagster.records import GateRule

    assert isinstance(rule, GateRule)
    return (
        rule.id,
        rule.family,
        f"{rule.metric} {rule.op} {rule.threshold:g}",
        rule.source,
        rule.on_insufficient,
        rule.reason,
    )
