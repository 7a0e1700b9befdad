"""`cognify deployments`: what is live since when, and who approved it, read from the ledger alone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import MODEL, TARGET, TIME, json_option, open_workspace
from cognify_dagster.cli.output import as_json, heading, moment, say, table, trial_banner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cognify_dagster.governance import Directory
    from cognify_dagster.records import DeploymentCompleted, ModelAdopted, Record
    from cognify_dagster.workspace import Reading, Recorded


@click.command(cls=Command, name="deployments")
@click.argument("model", type=MODEL)
@click.option("--target", type=TARGET, help="Only this target; all of them by default.")
@click.option("--at", type=TIME, metavar="UTC", help="What was live at this time, instead of the whole history.")
@json_option
@click.pass_context
def command(ctx: click.Context, model: str, target: str | None, at: str | None, json_: bool) -> None:
    """Show what is live since when, and who approved it; also what was live before the ledger (`cognify model adopt`), as unattested.

    \b
    Example:
      cognify deployments credit_default
      cognify deployments credit_default --target production --at 2026-11-21T08:00:00Z --json
    """
    from cognify_dagster.records import parse_utc

    reading = open_workspace(ctx).read()
    if f"model/{model}" not in reading.view.heads:
        raise click.ClickException(
            f"this workspace has no model {model!r}; see `cognify ledger show --kind model_registered`"
        )
    rows = _rows(reading, model, target, parse_utc(at) if at else None)
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
                row["since"] or "unknown",
                _approved(row),
                "–" if row["grant_entry"] is None else row["grant_entry"],
                row["entry"],
            )
            for row in rows
        ],
    )


def _approved(row: dict[str, Any]) -> str:
    names = "\n".join(f"{a['name']} ({a['stage']}, entry {a['entry']})" for a in row["approved_by"])
    if row["adopted"]:
        return "nobody through this ledger"
    return names or "automated gates only"


def _rows(reading: Reading, model: str, target: str | None, at: datetime | None) -> list[dict[str, Any]]:
    """Return what went live in the order of the entries; with a time what was live then, one row a target.

    A completion that follows from no grant, or is a second one under the same grant, made nothing live and is left out.
    """
    from cognify_dagster.governance import directory
    from cognify_dagster.governance.release.history import grant_of
    from cognify_dagster.records import DeploymentCompleted, ModelAdopted

    subject, people = f"model/{model}", directory(reading)
    done: list[Recorded[DeploymentCompleted] | Recorded[ModelAdopted]] = [
        item for item in reading.all(DeploymentCompleted, subject) if grant_of(reading, item) is not None
    ]
    done += reading.all(ModelAdopted, subject)
    shown = [item for item in done if target in (None, item.record.target) and (at is None or item.when <= at)]
    live = _live(shown)
    rows: list[dict[str, Any]] = []
    for item in sorted(shown, key=lambda item: item.seq):
        record, current = item.record, live[item.record.target]
        if at is not None and current.seq != item.seq:
            continue
        adopted = isinstance(record, ModelAdopted)
        later = next((x for x in sorted(shown, key=lambda x: x.seq) if _replaces(x, item)), None)
        word = "unattested" if adopted else "live"
        row: dict[str, Any] = {
            "target": record.target,
            "version": record.version,
            "state": word if current.seq == item.seq else "superseded",
            "since": record.live_since if isinstance(record, ModelAdopted) else moment(item.time_us),
            "until": moment(later.time_us) if later else None,
            "entry": item.seq,
            "grant_entry": None,
            "model_digest": None,
            "location": "",
            "approved_by": [],
            "adopted": adopted,
        }
        if isinstance(record, DeploymentCompleted):
            row |= {
                "grant_entry": record.grant_seq,
                "model_digest": record.model_digest,
                "location": record.location,
                "approved_by": _approvals(reading, people, record.grant_seq),
            }
        rows.append(row)
    return rows


def _live(done: Sequence[Recorded[DeploymentCompleted] | Recorded[ModelAdopted]]) -> dict[str, Recorded[Record]]:
    """Return what is live on each target: the newest deployment, and where there is none the newest adoption."""
    from cognify_dagster.records import ModelAdopted

    found: dict[str, Recorded[Record]] = {}
    for item in sorted(done, key=lambda item: (not isinstance(item.record, ModelAdopted), item.seq)):
        found[item.record.target] = item
    return found


def _replaces(later: Recorded[Any], item: Recorded[Any]) -> bool:
    """Whether a deployment, or among adoptions a newer one, took the place of what was live on the target before it."""
    from cognify_dagster.records import ModelAdopted

    if later.record.target != item.record.target or later.seq <= item.seq:
        return False
    return isinstance(item.record, ModelAdopted) or not isinstance(later.record, ModelAdopted)


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
