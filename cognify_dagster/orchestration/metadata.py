"""What the Dagster UI shows about a governed step: full paths and commands to copy, and hashes as metadata, never as tags."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.governance import Directory, Reason
from cognify_dagster.ledger import Checkpoint, NoteError, parse_note
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.orchestration.standing import Approval, Standing, due, moment
from cognify_dagster.records import (
    DatasetRef,
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    EvidenceItem,
    Package,
    Record,
    ReleaseRefused,
    TrainingRun,
)
from cognify_dagster.workspace import Recorded, Workspace, review_page

PREFIX = "cognify/"
LEDGER = f"{PREFIX}ledger"
CHECKPOINT = f"{PREFIX}checkpoint"
REBUILT = f"{PREFIX}rebuilt_from_ledger"
LINE = 80


def entry_metadata(workspace: Workspace, seq: int, leaf: str) -> dict[str, Any]:
    """Metadata that ties a materialization to its ledger entry, and keeps the newest signed head of the ledger.

    So every run remembers, outside the ledger, how large it was: see `heads.run_heads`.
    """
    return {
        LEDGER: workspace.origin,
        f"{PREFIX}ledger_entry": seq,
        f"{PREFIX}entry_leaf": leaf,
        f"{PREFIX}show_entry": command(workspace, f"ledger show --seq {seq}"),
        CHECKPOINT: newest_checkpoint(workspace),
    }


def newest_checkpoint(workspace: Workspace) -> dg.JsonMetadataValue | dg.TextMetadataValue:
    """The newest signed head, whole: JSON keeps its line breaks, which are signed too, where the UI would lose them."""
    note = workspace.ledger.latest_checkpoint()
    if note is None:
        return dg.MetadataValue.text("none was signed yet")
    try:
        size = Checkpoint.parse(parse_note(note).text).size
    except NoteError:  # the entry stands; what was done to the kept checkpoints is for `cognify ledger verify` to say
        return dg.MetadataValue.text("the newest kept checkpoint cannot be read")
    return dg.MetadataValue.json({"size": size, "note": note})


def data_version(recorded: Recorded[Record]) -> str | None:
    """The data version that a materialization of this record has; None for a record that no asset materializes."""
    record = recorded.record
    if isinstance(record, DatasetSnapshot):
        return record.data_version
    if isinstance(record, TrainingRun):
        return record.model_file.digest
    if isinstance(record, Package):
        return record.package.digest
    if isinstance(record, DeploymentCompleted):
        return record.model_digest
    return recorded.leaf if isinstance(record, Evaluation) else None


def dataset_links(
    workspace: Workspace, label: str, used: Sequence[DatasetRef], space: Space | None = None
) -> dict[str, Any]:
    """Metadata that says which snapshots a step used, and leads to each one's asset and to the run that took it.

    The UI cuts labels after some 30 characters, and widens the whole table for a long word, so both are kept short.
    """
    reading = workspace.read()
    rows = []
    links: dict[str, Any] = {}
    for item in used:
        found = reading.at(item.seq)
        snapshot = found.record if found and isinstance(found.record, DatasetSnapshot) else None
        rows.append(
            {
                "dataset": item.name,
                "records": snapshot.record_count if snapshot else None,
                "taken": moment(found.time_us) if found and snapshot else None,
                "ledger entry": item.seq,
            }
        )
        links[f"{PREFIX}{item.name}"] = dg.MetadataValue.asset((space or Space()).key(item.name.partition("@")[0]))
        links[f"{PREFIX}{item.name}/root"] = item.root
        run = snapshot.observed.get("dagster_run") if snapshot else None
        if isinstance(run, str):
            links[f"{PREFIX}{item.name}/run"] = dg.MetadataValue.dagster_run(run)
    return {f"{PREFIX}{label}": table(rows), **links}


def command(workspace: Workspace, arguments: str) -> str:
    """Return a command line that works from anywhere."""
    return f"cognify --workspace {shlex.quote(str(workspace.config.path.parent))} {arguments}"


def review_link(workspace: Workspace, model: str, version: str) -> dict[str, dg.UrlMetadataValue]:
    """Metadata that leads to the version's page on the review site; nothing where cognify.toml names no site."""
    page = review_page(workspace.config, model, version)
    return {f"{PREFIX}review_page": dg.MetadataValue.url(page)} if page else {}


def place(location: str) -> dg.PathMetadataValue | dg.MarkdownMetadataValue:
    """Return where a model was installed; a long path in two lines, since the UI would push other values out of sight."""
    head, slash, name = location.rpartition("/")
    if len(location) <= LINE or not slash:
        return dg.MetadataValue.path(location)
    return dg.MetadataValue.md(f"`{head}/`\n\n`{name}`")


def person(people: Directory, who: str) -> str:
    """Return a person's name and id, or what stands in its place."""
    name = people.name(who)
    return who if name == who else f"{name} ({who})"


NOT_KEPT = "not kept in the ledger; only the run that was lost knew"


def evidence_path(workspace: Workspace, item: EvidenceItem) -> str:
    """Return where a blob lies, as a path that can be copied."""
    return f"{workspace.config.evidence} → {item.digest}"


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Return rows as a table; values are shown as text."""
    names = list(rows[0]) if rows else ["nothing recorded"]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in names])
    records = [dg.TableRecord({name: _text(row.get(name)) for name in names}) for row in rows]
    return dg.MetadataValue.table(records=records, schema=schema)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def reasons_markdown(reasons: Sequence[Reason]) -> str:
    """Return reasons as a Markdown list."""
    if not reasons:
        return "Nothing blocks this release."
    return "\n".join(
        f"- {reason.text}" + (f" → **{reason.resolved_by}**" if reason.resolved_by else "") for reason in reasons
    )


def approval_table(found: Standing) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """Return who signed, as what and when, and whether with conditions."""
    if not found.approvals:
        return dg.MetadataValue.text(found.nobody)
    return table(
        [
            {
                "stage": item.stage,
                "signed by": item.name,
                "role": item.role.replace("_", " "),
                "decision": item.decision,
                "signed at": item.signed_at,
                "ledger entry": item.seq,
            }
            for item in found.approvals
        ]
    )


def condition_table(approvals: Sequence[Approval]) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """Return what the approvals depend on, and until when."""
    rows = [
        {
            "condition": condition.text,
            "kind": condition_kind(condition.kind, condition.limit),
            "due": due(condition),
            "set by": item.name,
            "ledger entry": item.seq,
        }
        for item in approvals
        for condition in item.conditions
    ]
    return table(rows) if rows else dg.MetadataValue.text("none")


def condition_kind(kind: str, limit: Mapping[str, Any]) -> str:
    """Say what a condition limits: "use cap: per_day 1000"; one in words only is "text"."""
    facts = ", ".join(f"{name} {value}" for name, value in limit.items())
    return kind.replace("_", " ") + (f": {facts}" if facts else "")


def refusal_table(
    refusals: Sequence[Recorded[ReleaseRefused]], people: Directory
) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """Return the attempts to deploy a version that the gate refused: one row a reason, the attempt named in its first."""
    rows = []
    for item in refusals:
        first = {
            "when": moment(item.time_us),
            "launched by": people.name(item.record.requested_by),
            "entry": item.seq,
            "run": item.record.run[:8],
        }
        for number, reason in enumerate(item.record.reasons):
            who = f" → {reason.resolved_by}" if reason.resolved_by else ""
            rows.append({**(first if number == 0 else dict.fromkeys(first, "")), "refused because": reason.text + who})
    return table(rows) if rows else dg.MetadataValue.text("never")


def readable_copy(workspace: Workspace, model: str, version: str, name: str, data: bytes) -> Path:
    """Write a copy of a document under a name a person can open. It is a cache: the evidence store holds the truth."""
    folder = workspace.home / "packages" / model / version
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    temporary = path.with_name(f".{name}.new")
    temporary.write_bytes(data)
    temporary.replace(path)
    return path
