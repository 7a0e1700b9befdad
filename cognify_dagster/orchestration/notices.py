"""What the approval sensor tells Dagster when a version's standing changed, so that the UI shows the present.

A materialization is a record of a moment. The UI lays the newest observation of a partition over it, row by row and by label,
so an observation that uses a label of the materialization replaces what was true when that was made. The sign-off check
cannot be told this way: Dagster stores one evaluation without a run for a partition and fails on the second, so the sensor
requests a run of the check alone. Nothing of this decides anything: the deployment's body asks the ledger.
"""

from typing import Any

import dagster as dg

from cognify_dagster.orchestration.metadata import (
    PREFIX,
    approval_table,
    command,
    reasons_markdown,
    refusal_table,
    stage_table,
    workflow_fields,
)
from cognify_dagster.orchestration.standing import LIVE, SUPERSEDED, Board, Standing
from cognify_dagster.workspace import Workspace

RELEASED = (LIVE, SUPERSEDED)
# A run with this tag evaluates the sign-off check to show it. The check warns in it instead of failing the run.
PURPOSE, REPORT = "cognify/purpose", "report_sign_off"


def notices(board: Board, found: Standing, package: dg.AssetKey, deployment: dg.AssetKey) -> list[dg.AssetObservation]:
    """Return the events that tell a version's present standing: on its package and, once it was released, its deployment."""
    told = [
        dg.AssetObservation(
            asset_key=package,
            partition=found.version,
            description=found.text,
            metadata=package_now(board, found),
        )
    ]
    if found.deployed is not None:
        told.append(
            dg.AssetObservation(
                asset_key=deployment,
                partition=found.version,
                description=found.text,
                metadata={
                    f"{PREFIX}state": dg.MetadataValue.md(found.markdown),
                    f"{PREFIX}final_copy": final_copy(board.workspace, found),
                    f"{PREFIX}status_now": command(board.workspace, f"status {found.model}"),
                },
            )
        )
    return told


def package_now(board: Board, found: Standing) -> dict[str, Any]:
    """What the package's page shows of the present, above what its materialization recorded."""
    metadata: dict[str, Any] = {
        f"{PREFIX}state": dg.MetadataValue.md(found.markdown),
        f"{PREFIX}waiting_for": dg.MetadataValue.md(
            reasons_markdown(found.reasons) if found.state not in RELEASED else "nobody: it was released"
        ),
        f"{PREFIX}signed_by": approval_table(found.approvals),
        f"{PREFIX}refused": refusal_table(found.refusals, board.people),
        f"{PREFIX}final_copy": final_copy(board.workspace, found),
    }
    if found.decision is not None and found.state not in RELEASED:
        metadata[f"{PREFIX}stages"] = stage_table(found.decision)
        metadata |= workflow_fields(found.decision)
    else:
        metadata[f"{PREFIX}stages"] = "all done when it was released; see signed_by"
        metadata |= released_fields(found)
    return metadata


def released_fields(found: Standing) -> dict[str, str]:
    """The workflow fields of a released version: what its release used."""
    roles = {item.role for item in found.approvals}
    return {
        f"{PREFIX}{label}": "signed" if role in roles else "not required"
        for label, role in (
            ("validation_status", "model_validator"),
            ("compliance_review", "compliance_officer"),
            ("business_approval", "business_owner"),
        )
    }


def sign_off_now(workspace: Workspace, found: Standing) -> dict[str, Any]:
    """What the check shows of the present. The UI sorts these by name and folds Markdown away, so it is tables and text."""
    metadata: dict[str, Any] = {
        f"{PREFIX}state": found.text,
        f"{PREFIX}signed_by": approval_table(found.approvals),
        f"{PREFIX}as_of": f"the first {found.size} ledger entries",
        f"{PREFIX}status_now": command(workspace, f"status {found.model} {found.version}"),
    }
    if found.decision is not None and found.state not in RELEASED:
        metadata[f"{PREFIX}stages"] = stage_table(found.decision)
    return metadata


def sign_off_text(found: Standing) -> str:
    """Return the state and who signed, as a sentence."""
    signed = ", ".join(f"{item.name} ({item.stage}, {item.signed_at})" for item in found.approvals)
    return f"{found.text}. Signed by: {signed or 'nobody yet'}."


def final_copy(workspace: Workspace, found: Standing) -> dg.PathMetadataValue | dg.TextMetadataValue:
    """The PDF with the signature page: its path, or how to come by it."""
    if found.final_copy is not None:
        return dg.MetadataValue.path(str(found.final_copy))
    if found.state in RELEASED:
        return dg.MetadataValue.text(command(workspace, f"package export {found.model} {found.version} -o BUNDLE"))
    return dg.MetadataValue.text("made when it is released; until then see the review copy under pdf")
