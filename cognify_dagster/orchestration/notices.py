"""What the approval sensor tells Dagster when a version's standing changed, so that the UI shows the present.

A materialization is a record of a moment. The UI lays the newest observation of a partition over it, row by row and by label,
so an observation that uses a label of the materialization replaces what was true when that was made. The sign-off check
cannot be told this way: Dagster stores one evaluation without a run for a partition and fails on the second, so the sensor
requests a run of the check alone. Nothing of this decides anything: the deployment's body asks the ledger.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.orchestration.metadata import (
    PREFIX,
    approval_table,
    command,
    condition_table,
    reasons_markdown,
    refusal_table,
    review_link,
)
from cognify_dagster.orchestration.standing import FAILED, LIVE, READY, SUPERSEDED, SUSPENDED, Board, Standing
from cognify_dagster.orchestration.workflow import plan_field, released_fields, stage_table, workflow_fields
from cognify_dagster.workspace import Workspace

RELEASED = (LIVE, SUSPENDED, SUPERSEDED)
# A run with this tag evaluates the sign-off check to show it. The check warns in it instead of failing the run.
PURPOSE, REPORT = "cognify/purpose", "report_sign_off"


def package_notice(
    board: Board, found: Standing, package: dg.AssetKey, others: Sequence[Standing] = ()
) -> dg.AssetObservation:
    """Return the event that tells on the package's page where a version stands; `others`: on the model's other targets."""
    return dg.AssetObservation(
        asset_key=package,
        partition=found.version,
        description="; ".join(item.text for item in (found, *others)),
        metadata=package_now(board, found, others),
    )


def deployment_notice(board: Board, found: Standing, deployment: dg.AssetKey) -> dg.AssetObservation | None:
    """Return the event that tells on the deployment's page where a version stands; None if it was never released nor refused."""
    if found.deployed is None:
        return refused_notice(board, found, deployment) if found.refusals else None
    metadata: dict[str, Any] = {f"{PREFIX}state": dg.MetadataValue.md(found.markdown)}
    if found.state == SUSPENDED:
        metadata[f"{PREFIX}suspended_because"] = dg.MetadataValue.md(reasons_markdown(found.reasons))
    if found.live is not None and found.live.review.due:
        metadata[f"{PREFIX}review_due"] = found.live.review.due[:10]
    metadata[f"{PREFIX}final_copy"] = final_copy(board.workspace, found)
    metadata[f"{PREFIX}status_now"] = command(board.workspace, f"status {found.model}")
    return dg.AssetObservation(asset_key=deployment, partition=found.version, description=found.text, metadata=metadata)


def refused_notice(
    board: Board, found: Standing, deployment: dg.AssetKey, launched_by: str = ""
) -> dg.AssetObservation:
    """Return the event that tells a refused release on the deployment's page, where nothing was materialized.

    Args:
        board: where versions stand after the refusal.
        found: where this one stands.
        deployment: the deployment asset.
        launched_by: who launched the refused run and how that was told, where it is known.
    """
    entry = found.refusals[-1].seq
    metadata: dict[str, Any] = {
        f"{PREFIX}state": dg.MetadataValue.md(found.markdown),
        **review_link(board.workspace, found.model, found.version),
    }
    if found.state not in RELEASED:
        metadata[f"{PREFIX}waiting_for"] = dg.MetadataValue.md(reasons_markdown(found.reasons))
        metadata |= plan_field(found.decision) if found.decision is not None else {}
    metadata[f"{PREFIX}refused"] = refusal_table(found.refusals, board.people)
    if launched_by:
        metadata[f"{PREFIX}launched_by"] = launched_by
    metadata[f"{PREFIX}refusal_entry"] = str(entry)
    metadata[f"{PREFIX}show_refusal"] = command(board.workspace, f"ledger show --seq {entry}")
    metadata[f"{PREFIX}status_now"] = command(board.workspace, f"status {found.model} {found.version}")
    return dg.AssetObservation(
        asset_key=deployment,
        partition=found.version,
        description=f"Refused, ledger entry {entry}. {found.text}",
        metadata=metadata,
    )


def package_now(board: Board, found: Standing, others: Sequence[Standing] = ()) -> dict[str, Any]:
    """What the package's page shows of the present, above what its materialization recorded."""
    metadata: dict[str, Any] = {
        f"{PREFIX}state": dg.MetadataValue.md(found.markdown),
        f"{PREFIX}waiting_for": dg.MetadataValue.md(
            reasons_markdown(found.reasons)
            if found.state == SUSPENDED or found.state not in RELEASED
            else "nobody: it was released"
        ),
        f"{PREFIX}signed_by": approval_table(found),
        f"{PREFIX}conditions": condition_table(found.approvals),
        f"{PREFIX}refused": refusal_table(found.refusals, board.people),
        f"{PREFIX}final_copy": final_copy(board.workspace, found),
    }
    if found.decision is not None and found.state not in RELEASED:
        metadata[f"{PREFIX}stages"] = stage_table(found.decision)
        metadata |= workflow_fields(found.decision) | plan_field(found.decision)
    else:
        metadata[f"{PREFIX}stages"] = "all done when it was released; see signed_by"
        metadata |= released_fields(found, grant_of(board.reading, found.deployed) if found.deployed else None)
    for other in others:
        metadata[f"{PREFIX}on_{other.target}"] = dg.MetadataValue.md(other.markdown)
    return metadata


def sign_off_now(workspace: Workspace, found: Standing) -> dict[str, Any]:
    """What the check shows of the present. The UI sorts these by name and folds Markdown away, so it is tables and text."""
    metadata: dict[str, Any] = {
        f"{PREFIX}state": checked(found),
        **review_link(workspace, found.model, found.version),
        f"{PREFIX}signed_by": approval_table(found),
        f"{PREFIX}as_of": f"the first {found.size} ledger entries",
        f"{PREFIX}status_now": command(workspace, f"status {found.model} {found.version}"),
    }
    if found.decision is not None and found.state not in RELEASED:
        metadata[f"{PREFIX}stages"] = stage_table(found.decision)
    if any(item.conditions for item in found.approvals):
        metadata[f"{PREFIX}conditions"] = condition_table(found.approvals)
    return metadata


def checked(found: Standing) -> str:
    """Return the state as the check may say it. It runs before the installation, and its page shows it long after."""
    if found.state not in (READY, FAILED):
        return found.text
    return (
        f"{found.version} is signed by everyone, so its release to {found.target} may go ahead; what came of it stands under "
        f"Partitions → {found.version}"
    )


def sign_off_text(found: Standing) -> str:
    """Return the state and who signed, as a sentence."""
    signed = ", ".join(
        f"{item.name} ({item.stage}, {item.signed_at}{f', {item.decision}' if item.conditions else ''})"
        for item in found.approvals
    )
    return f"{checked(found)}. Signed by: {signed or found.nobody}."


def final_copy(workspace: Workspace, found: Standing) -> dg.PathMetadataValue | dg.TextMetadataValue:
    """The PDF with the signature page: its path, or how to come by it."""
    if found.final_copy is not None:
        return dg.MetadataValue.path(str(found.final_copy))
    if found.state in RELEASED:
        return dg.MetadataValue.text(command(workspace, f"package export {found.model} {found.version} -o BUNDLE"))
    return dg.MetadataValue.text("made when it is released; until then see the review copy under pdf")
