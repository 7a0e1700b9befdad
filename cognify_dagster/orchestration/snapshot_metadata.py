"""What the UI shows about a snapshot: what changed, why, who made it, who approved it, what it was made from."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from cognify_dagster.governance import change_of, demands_on, directory, missing_for, policy_in_force
from cognify_dagster.governance.oversight.dataset_changes import Change
from cognify_dagster.orchestration.metadata import PREFIX, command, entry_metadata, person, table
from cognify_dagster.records import CodeRef, DatasetSnapshot
from cognify_dagster.workspace import Reading, Recorded, Workspace


def snapshot_metadata(
    workspace: Workspace,
    recorded: Recorded[DatasetSnapshot],
    profile: Mapping[str, Any],
    reading: Reading | None = None,
) -> dict[str, Any]:
    """What the UI shows about a snapshot; `reading` says what is known about its change, the newest unless given."""
    record = recorded.record
    provenance = record.provenance
    metadata: dict[str, Any] = {
        f"{PREFIX}root": record.root,
        f"{PREFIX}location": str(record.observed.get("location", "")),
        f"{PREFIX}source": provenance.get("source") or "not stated",
        f"{PREFIX}licence": provenance.get("licence") or "not stated",
        f"{PREFIX}missing_provenance": ", ".join(record.missing_provenance) or "none",
        f"{PREFIX}profile": dg.MetadataValue.json(dict(profile)),
        f"{PREFIX}changed_since_last": _changed(record),
        **_change_metadata(workspace, recorded, reading or workspace.read()),
        f"{PREFIX}code": code_text(record.code),
        f"{PREFIX}show_now": command(workspace, f"dataset show {record.name}"),
        f"{PREFIX}verify": command(workspace, "ledger verify"),
    }
    if record.record_count is not None:
        metadata["dagster/row_count"] = record.record_count
    if record.exclusions:
        metadata[f"{PREFIX}exclusions"] = table(
            [
                {
                    "rule": item.rule,
                    "rows before": item.rows_before,
                    "rows after": item.rows_after,
                    "left out": item.rows_before - item.rows_after,
                    "checked": item.verified or "stated only",
                }
                for item in record.exclusions
            ]
        )
    if record.sources:
        metadata[f"{PREFIX}sources"] = table(
            [{"source": item.name, "version": item.version, "time (UTC)": item.time} for item in record.sources]
        )
    if record.quality:
        metadata[f"{PREFIX}quality"] = quality_table(record)
    if record.unjustified_columns:
        metadata[f"{PREFIX}no_purpose"] = ", ".join(record.unjustified_columns)
    return {**metadata, **entry_metadata(workspace, recorded.seq, recorded.leaf)}


def _change_metadata(workspace: Workspace, recorded: Recorded[DatasetSnapshot], reading: Reading) -> dict[str, Any]:
    """Author, reason, approval and difference of the change that brought the root."""
    people, name = directory(reading), recorded.record.name
    change = change_of(reading, people, name, recorded.seq)
    author = recorded.record.author
    metadata: dict[str, Any] = {f"{PREFIX}author": person(people, author) if author else "not stated"}
    if change is None:
        return metadata
    root = change.root[:16]
    how = command(workspace, f"dataset reason {name} --root {root} --text '…' --as KEYFILE")
    first = "the first snapshot" if change.old is None else ""
    metadata[f"{PREFIX}reason"] = change.reason or first or f"reason missing when this was taken; give it: {how}"
    metadata[f"{PREFIX}approval"] = approval_text(reading, change, recorded.seq)
    if change.diff is not None:
        metadata[f"{PREFIX}difference"] = str(change.diff.record.summary.get("text", ""))
        metadata[f"{PREFIX}diff"] = table(_diff_rows(change.diff.record.summary))
        metadata[f"{PREFIX}diff_digest"] = change.diff.record.diff_digest
    return metadata


def approval_text(reading: Reading, change: Change, seq: int) -> str:
    """Say who approved or rejected a change, and what the policy in force still asks for."""
    people, policy = directory(reading), policy_in_force(reading).policy
    said = [
        f"{one.item.record.decision}d by {people.name(one.item.record.decided_by)} (entry {one.item.seq})".replace(
            "rejectd", "rejected"
        )
        for one in change.newest.values()
    ]
    lacking = [one for one in missing_for(reading, people, policy, change.name, seq, None) if "reason" not in one.code]
    said += [f"{one.text} → {one.resolved_by}" for one in lacking]
    if said:
        return "; ".join(said)
    return "not approved" if demands_on(policy, change.name, None).approvals else "the policy asks for none"


def _diff_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for what in ("files", "records", "columns"):
        counts = summary.get(what)
        if isinstance(counts, Mapping):
            rows.append({"what": what, **{name: counts.get(name) for name in ("added", "removed", "changed")}})
    return rows


def quality_table(record: DatasetSnapshot) -> dg.TableMetadataValue:
    """The results of the quality checks, one row each."""
    return table([{"check": item.name, "result": item.status, "detail": item.detail} for item in record.quality])


def code_text(code: CodeRef | None) -> str:
    """Say which commit took the snapshot, and whether the tree was dirty."""
    if code is None:
        return "not captured"
    if not code.commit or code.vcs != "git":
        return "not under version control"
    return f"{code.vcs} {code.commit}" + (" with uncommitted changes" if code.dirty else "")


def _changed(record: DatasetSnapshot) -> str:
    if record.parent_root is None:
        return "first snapshot"
    return "no" if record.parent_root == record.root else f"yes, from root {record.parent_root}"
