"""Granting a release: decide on entries[0:n], append only if the ledger still has n entries.

Invariants: a grant exists only if `decide` released the version on exactly the entries before it; a refusal is recorded once
a run; a retry of a started deployment continues under the same grant; the model's bytes are re-hashed before every grant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from cognify_dagster.evidence import EvidenceError
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.release.case import Reason
from cognify_dagster.governance.release.decision import Decision, decide
from cognify_dagster.governance.release.history import live
from cognify_dagster.ledger import IdempotencyConflict, SizeChanged
from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    ReasonPart,
    ReleaseGranted,
    ReleaseRefused,
    utc,
)
from cognify_dagster.workspace import Reading, Workspace, idempotency_key, review_page

_RETRIES = 10
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,29}")


class ReleaseBlocked(GovernanceError):
    """The gate refused; `decision` says why, `seq` is the refusal's entry, `page` the version's page on the review site (or empty)."""

    def __init__(self, decision: Decision, reasons: tuple[Reason, ...], seq: int, page: str = "") -> None:
        lines = "\n".join(
            f"- {reason.text}" + (f" (→ {reason.resolved_by})" if reason.resolved_by else "") for reason in reasons
        )
        super().__init__(
            f"{decision.model} {decision.version} may not be deployed to {decision.target}; "
            f"the refusal is ledger entry {seq}. Reasons:\n{lines}{_outside(decision)}{_approve(decision, page)}"
        )
        self.decision = decision
        self.reasons = reasons
        self.seq = seq
        self.page = page


def _outside(decision: Decision) -> str:
    """Say what lies outside the bounds of the change plan that could have covered the version; nothing if there is none."""
    plan = decision.plan
    if plan is None or plan.covered:
        return ""
    lines = "\n".join(f"- {line}" for line in plan.lines)
    return f"\nThe change plan {plan.item.record.plan} (entry {plan.item.seq}) does not cover it:\n{lines}"


def _approve(decision: Decision, page: str) -> str:
    """Say where those who are waited for read and sign."""
    stage = decision.next_stage
    read = f"\nThe package and where it stands: {page}" if page else ""
    if stage is None or not stage.waiting_for:
        return read
    about = f"{decision.model} {decision.version}"
    return f"{read}\nWho is waited for signs with: cognify sign {about} (stage by stage: cognify status {about})"


@dataclass(frozen=True)
class Grant:
    """A verified release that a deployment body may act on. `seq` is the grant's entry."""

    seq: int
    leaf: str
    model: str
    version: str
    target: str
    model_digest: str
    package_digest: str
    supersedes: str | None
    continued: bool
    purpose: str = "release"
    conditions: tuple[dict[str, Any], ...] = ()


def request_release(
    workspace: Workspace,
    model: str,
    version: str,
    target: str,
    run: str,
    requested_by: str,
    *,
    enforces: Collection[str] = (),
    further: Callable[[Reading, Decision], tuple[Reason, ...]] | None = None,
) -> Grant:
    """Grant a release or refuse it; both leave an entry.

    Args:
        workspace: where to decide and append.
        model: model key.
        version: model version.
        target: deployment target.
        run: root run id; a refusal is recorded once per run.
        requested_by: person id of the launcher, or "unattributed".
        enforces: kinds of condition that the deployment enforces; see `decide`.
        further: asked for what else stands against a release that `decide` allows, on the very entries it decided on.

    Raises:
        ReleaseBlocked: with every reason.
        GovernanceError: if the ledger kept changing.
    """
    if not _TARGET.fullmatch(target):
        raise GovernanceError(f"target {target[:80]!r}: use up to 30 of A-Z a-z 0-9 _ . -, for example production")
    for _ in range(_RETRIES):
        reading = workspace.read()
        decision = decide(reading, model, version, target, _now(reading), enforces=enforces)
        reasons = decision.reasons
        if decision.released:
            reasons = _model_bytes(workspace, decision) + (further(reading, decision) if further is not None else ())
        if reasons:
            raise _refuse(workspace, decision, reasons, run, requested_by)
        if decision.grant is not None:
            workspace.require_witnessed(decision.grant.record.kind, decision.grant.seq)
            return _grant(decision.grant.seq, decision.grant.leaf, decision.grant.record, continued=True)
        current = live(reading, model, target)
        record = _new_grant(decision, current.record.version if current else None)
        try:
            receipt = workspace.append(
                record,
                idem=idempotency_key("release_granted", model, version, target, decision.round),
                expected_size=reading.size,
                checkpoint=True,
            )
        except (SizeChanged, IdempotencyConflict):  # another process was faster; read what it did
            continue
        return _grant(receipt.seq, receipt.leaf.hex(), record, continued=receipt.duplicate)
    raise GovernanceError("the ledger kept changing while deciding; nothing was granted. Try again")


def _now(reading: Reading) -> datetime:
    """The time to decide for: never before the newest entry, so that a clock set back revives no approval that expired."""
    newest = reading.at(reading.size - 1) if reading.size else None
    now = datetime.now(timezone.utc)
    return max(now, newest.when) if newest is not None else now


def _model_bytes(workspace: Workspace, decision: Decision) -> tuple[Reason, ...]:
    assert decision.package is not None
    try:
        workspace.evidence.verify(decision.package.record.model_digest)
        workspace.evidence.verify(decision.package.record.package.digest)
    except EvidenceError as error:
        return (
            Reason(
                "evidence_damaged", f"the stored model or package does not verify: {error}", "ops: restore evidence"
            ),
        )
    return ()


def _new_grant(decision: Decision, supersedes: str | None) -> ReleaseGranted:
    package = decision.package
    assert package is not None
    return ReleaseGranted(
        model=decision.model,
        version=decision.version,
        target=decision.target,
        round=decision.round,
        package_digest=package.record.package.digest,
        package_seq=package.seq,
        model_digest=package.record.model_digest,
        sign_off_seqs=decision.sign_off_seqs,
        gate_seqs=decision.gate_seqs,
        decided_on_size=decision.size,
        decided_at=utc(decision.at),
        policy_digest=decision.policy_digest,
        relied_on=decision.relied_on,
        supersedes=supersedes,
        purpose=_purpose(decision),
        order_seq=_order_seq(decision),
        plan_seq=decision.plan.item.seq if decision.plan and _waived_by(decision, "plan") else None,
        waived=decision.waived,
        conditions=tuple(item.as_json() for item in decision.conditions),
    )


def _waived_by(decision: Decision, by: str) -> bool:
    return any(stage.by == by for stage in decision.stages)


def _purpose(decision: Decision) -> Literal["release", "rollback", "break_glass"]:
    if _waived_by(decision, "break_glass"):
        return "break_glass"
    return "rollback" if decision.rollback is not None else "release"


def _order_seq(decision: Decision) -> int | None:
    """The entry that ordered what is not a usual release."""
    if _waived_by(decision, "break_glass"):
        return decision.glass_seq
    return decision.rollback.seq if decision.rollback is not None else None


def _grant(seq: int, leaf: str, record: ReleaseGranted, *, continued: bool) -> Grant:
    return Grant(
        seq=seq,
        leaf=leaf,
        model=record.model,
        version=record.version,
        target=record.target,
        model_digest=record.model_digest,
        package_digest=record.package_digest,
        supersedes=record.supersedes,
        continued=continued,
        purpose=record.purpose,
        conditions=record.conditions,
    )


def _refuse(
    workspace: Workspace, decision: Decision, reasons: tuple[Reason, ...], run: str, requested_by: str
) -> ReleaseBlocked:
    record = ReleaseRefused(
        model=decision.model,
        version=decision.version,
        target=decision.target,
        run=run,
        decided_on_size=decision.size,
        policy_digest=decision.policy_digest,
        reasons=tuple(ReasonPart(code=r.code, text=r.text, resolved_by=r.resolved_by) for r in reasons),
        requested_by=requested_by,
    )
    idem = idempotency_key("release_refused", run, decision.model, decision.version, decision.target)
    page = review_page(workspace.config, decision.model, decision.version)
    try:
        receipt = workspace.append(record, idem=idem, checkpoint=True)
    except IdempotencyConflict:  # this run was refused before, on an earlier state of the ledger
        first = workspace.read().view.find(idem, f"model/{decision.model}@{decision.version}")
        assert first is not None  # the store's answer is about this very key
        return ReleaseBlocked(decision, reasons, first.entry.seq, page)
    return ReleaseBlocked(decision, reasons, receipt.seq, page)


def complete(workspace: Workspace, grant: Grant, *, location: str, detail: dict[str, object]) -> int:
    """Record that the release is live; return the entry's sequence number."""
    record = DeploymentCompleted(
        model=grant.model,
        version=grant.version,
        target=grant.target,
        grant_seq=grant.seq,
        model_digest=grant.model_digest,
        location=location,
        supersedes=grant.supersedes,
        detail=detail,
    )
    return workspace.append(record, idem=idempotency_key("deployment_completed", grant.seq), checkpoint=True).seq


def fail(workspace: Workspace, grant: Grant, *, attempt: str, reason: str) -> int:
    """Record that a deployment's body failed; a retry continues under the same grant."""
    record = DeploymentFailed(
        model=grant.model,
        version=grant.version,
        target=grant.target,
        grant_seq=grant.seq,
        attempt=attempt,
        reason=reason[:2000],
    )
    return workspace.append(record, idem=idempotency_key("deployment_failed", grant.seq, attempt), checkpoint=True).seq
