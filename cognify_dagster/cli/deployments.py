"""`cognify deployments`: what is live since when, and who approved it, read from the ledger alone."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import MODEL, TARGET, TIME, json_option, open_workspace
from cognify_dagster.cli.output import as_json, heading, moment, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import Directory
    from cognify_dagster.workspace import Reading


@click.command(cls=Command, name="deployments")
@click.argument("model", type=MODEL)
@click.option("--target", type=TARGET, help="Only this target; all of them by default.")
@click.option("--at", type=TIME, metavar="UTC", help="What was live at this time, instead of the whole history.")
@json_option
@click.pass_context
def command(ctx: click.Context, model: str, target: str | None, at: str | None, json_: bool) -> None:
    """Show what is live since when, and who approved it.

    \b
    Example:
      cognify deployments credit_default
      cognify deployments credit_default --target production --at 2026-11-21T08:00:00Z --json
    """
    from cognify_dagster.governance import directory
    from cognify_dagster.records import DeploymentCompleted, ModelRegistered, parse_utc

    reading = open_workspace(ctx).read()
    if reading.latest(ModelRegistered, f"model/{model}") is None:
        raise click.ClickException(
            f"this workspace has no model {model!r}; see `cognify ledger show --kind model_registered`"
        )
    until = parse_utc(at) if at else datetime.now(timezone.utc)
    people = directory(reading)
    done = [
        item
        for item in reading.all(DeploymentCompleted, f"model/{model}")
        if target in (None, item.record.target) and (at is None or item.time_us <= until.timestamp() * 1e6)
    ]
    live = {item.record.target: item.seq for item in done}
    rows: list[dict[str, Any]] = []
    for item in done:
        later = next((x for x in done if x.record.target == item.record.target and x.seq > item.seq), None)
        if at is not None and live[item.record.target] != item.seq:
            continue
        rows.append(
            {
                "target": item.record.target,
                "version": item.record.version,
                "state": "live" if live[item.record.target] == item.seq else "superseded",
                "since": moment(item.time_us),
                "until": moment(later.time_us) if later else None,
                "entry": item.seq,
                "grant_entry": item.record.grant_seq,
                "model_digest": item.record.model_digest,
                "location": item.record.location,
                "approved_by": _approvals(reading, people, item.record.grant_seq),
            }
        )
    if json_:
        as_json({"model": model, "at": at, "trial": reading.trial, "size": reading.size, "deployments": rows})
        return
    trial_banner(reading.trial)
    heading(f"{model}" + (f" at {at}" if at else ""))
    if not rows:
        say("Nothing was live" + (f" on {target}." if target else "."))
        return
    table(
        ("target", "version", "state", "since", "approved by", "grant", "entry"),
        [
            (
                row["target"],
                row["version"],
                row["state"],
                row["since"],
                "\n".join(f"{a['name']} ({a['stage']}, entry {a['entry']})" for a in row["approved_by"])
                or "automated gates only",
                row["grant_entry"],
                row["entry"],
            )
            for row in rows
        ],
    )


def _approvals(reading: Reading, people: Directory, grant_seq: int) -> list[dict[str, Any]]:
    """Return the sign-offs that a grant names."""
    from cognify_dagster.records import ReleaseGranted, SignOff

    grant = reading.at(grant_seq) if grant_seq < reading.size else None
    if grant is None or not isinstance(grant.record, ReleaseGranted):
        return []
    found = []
    for seq in grant.record.sign_off_seqs:
        item = reading.at(seq) if seq < reading.size else None
        if item is not None and isinstance(item.record, SignOff):
            found.append(
                {
                    "entry": seq,
                    "person": item.record.person,
                    "name": people.name(item.record.person),
                    "role": item.record.role,
                    "stage": item.record.stage,
                    "decision": item.record.decision,
                    "signed_at": item.record.signed_at,
                }
            )
    return found
