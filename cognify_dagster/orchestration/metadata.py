"""What the Dagster UI shows about a governed step: full paths and commands to copy, and hashes as metadata, never as tags."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.governance import Decision, Reason
from cognify_dagster.records import EvidenceItem
from cognify_dagster.workspace import Workspace

PREFIX = "cognify/"


def entry_metadata(workspace: Workspace, seq: int, leaf: str) -> dict[str, Any]:
    """Metadata that ties a materialization to its ledger entry."""
    return {
        f"{PREFIX}ledger_entry": seq,
        f"{PREFIX}entry_leaf": leaf,
        f"{PREFIX}show_entry": command(workspace, f"ledger show --seq {seq}"),
    }


def command(workspace: Workspace, arguments: str) -> str:
    """Return a command line that works from anywhere."""
    return f"cognify --workspace {shlex.quote(str(workspace.config.path.parent))} {arguments}"


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


def stage_table(decision: Decision) -> dg.TableMetadataValue:
    """Return the stages of a version: what is done, by whom, and who is waited for."""
    rows = []
    for state in decision.stages:
        if state.stage.kind == "automated":
            by = ", ".join(f"{family}: {status}" for family, status, _ in state.gates)
        else:
            by = ", ".join(f"{signed.name} (entry {signed.seq})" for signed in state.signed)
        rows.append(
            {
                "stage": state.stage.title or state.name,
                "role": state.stage.role or "automated",
                "state": "done" if state.done else "open",
                "signed by / result": by or "nobody yet",
                "waiting for": ", ".join(state.waiting_for) or "–",
            }
        )
    return table(rows)


def reasons_markdown(reasons: Sequence[Reason]) -> str:
    """Return reasons as a Markdown list."""
    if not reasons:
        return "Nothing blocks this release."
    return "\n".join(
        f"- {reason.text}" + (f" → **{reason.resolved_by}**" if reason.resolved_by else "") for reason in reasons
    )


def workflow_fields(decision: Decision) -> dict[str, str]:
    """The workflow fields that people look for: validation, compliance, security, business approval, deployment tier."""
    by_role = {state.stage.role: state for state in decision.stages if state.stage.kind == "sign_off"}
    gates = {family: status for state in decision.stages for family, status, _ in state.gates}

    def signed(role: str) -> str:
        state = by_role.get(role)
        return "not required" if state is None else "signed" if state.done else "pending"

    return {
        f"{PREFIX}validation_status": "failed" if "fail" in gates.values() else signed("model_validator"),
        f"{PREFIX}compliance_review": signed("compliance_officer"),
        f"{PREFIX}security_scan": gates.get("security", "not recorded"),
        f"{PREFIX}business_approval": signed("business_owner"),
        f"{PREFIX}deployment_tier": decision.tier or "unknown",
    }


def readable_copy(workspace: Workspace, model: str, version: str, name: str, data: bytes) -> Path:
    """Write a copy of a document under a name a person can open. It is a cache: the evidence store holds the truth."""
    folder = workspace.home / "packages" / model / version
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    temporary = path.with_name(f".{name}.new")
    temporary.write_bytes(data)
    temporary.replace(path)
    return path
