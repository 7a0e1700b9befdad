"""`cognify schema`: JSON Schemas, for programs that read what this product writes."""

from __future__ import annotations

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import json_option
from cognify_dagster.cli.output import as_json, table


@click.command(cls=Command, name="schema")
@click.argument("kind", required=False)
@click.option("--list", "list_", is_flag=True, help="List the kinds.")
@json_option
def command(kind: str | None, list_: bool, json_: bool) -> None:
    """Print the JSON Schema of a record kind's facts, of the `policy` file or of the `package`.

    \b
    Example:
      cognify schema training_run
      cognify schema --list
    """
    from cognify_dagster.records import kinds

    known = kinds()
    if list_:
        if kind is not None:
            raise click.UsageError("use either KIND or --list")
        rows = [
            (name, str(cls.schema_version), (cls.__doc__ or "").split("\n")[0]) for name, cls in sorted(known.items())
        ]
        rows += [
            ("policy", "1", "The release policy (policy.yaml)."),
            ("package", "1", "The compliance package that people sign."),
        ]
        if json_:
            as_json([{"kind": name, "version": int(version), "about": about} for name, version, about in rows])
            return
        table(("kind", "version", "what it is"), rows)
        return
    if kind is None:
        raise click.UsageError("name a kind, or list them with --list")
    if kind == "policy":
        from cognify_dagster.governance import Policy

        as_json(Policy.model_json_schema())
    elif kind == "package":
        from cognify_dagster.documents.package.building import package_schema

        as_json(package_schema())
    elif kind in known:
        as_json(known[kind].model_json_schema())
    else:
        raise click.UsageError(f"there is no kind {kind[:60]!r}; `cognify schema --list` names them")
