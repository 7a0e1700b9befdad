"""What `cognify status --json` prints for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cognify_dagster.cli.finding import finding_json
from cognify_dagster.cli.output import moment

if TYPE_CHECKING:
    from cognify_dagster.cli.status import Overview, Standing
    from cognify_dagster.governance import Classification, Decision, LiveState, Reason, StageState
    from cognify_dagster.governance.oversight.conditions import OpenCondition
    from cognify_dagster.workspace import Reading


def model_json(reading: Reading, found: Overview, at: str | None) -> dict[str, Any]:
    """Return a model's state as JSON values."""
    registered = found.classified.registered
    current = {item.target: item for item in found.live}[found.target]
    return {
        "model": found.model,
        "target": found.target,
        "at": at,
        "origin": reading.origin,
        "trial": reading.trial,
        "size": reading.size,
        "tier": found.classified.tier if registered or found.classified.signed else None,
        "owner": registered.record.owner if registered else None,
        "classification": classification_json(found.classified),
        "live": current.version,
        "targets": [live_json(reading, item) for item in found.live],
        "versions": [
            {
                "version": item,
                "state": one.state,
                "package_digest": one.decision.package.record.package.digest if one.decision.package else None,
                "next": one.next,
                "waiting_for": list(one.decision.next_stage.waiting_for) if one.decision.next_stage else [],
            }
            for item, one in found.versions.items()
        ],
        "findings": [finding_json(reading, item) for item in found.findings],
        "alarms": found.alarms,
        "problems": [{"entry": seq, "problem": text} for seq, text in found.problems],
    }


def classification_json(found: Classification) -> dict[str, Any]:
    """Return which tier applies and who signed that."""
    signed = found.signed
    return {
        "tier": found.tier,
        "registered_tier": found.registered_tier or None,
        "entry": signed.seq if signed else None,
        "owner": signed.record.owner if signed else None,
        "signers": list(signed.record.signers) if signed else [],
        "gate_set": found.gate_set,
        "frameworks": list(signed.record.frameworks) if signed else [],
    }


def live_json(reading: Reading, state: LiveState) -> dict[str, Any]:
    """Return what is live on a target and whether it stands."""
    return {
        "target": state.target,
        "standing": state.standing,
        "version": state.version,
        "since": moment(state.completed.time_us) if state.completed else None,
        "entry": state.completed.seq if state.completed else None,
        "grant_entry": state.grant.seq if state.grant else None,
        "purpose": state.grant.record.purpose if state.grant else None,
        "reasons": [reason_json(reason) for reason in state.reasons],
        "review_due": state.review.due,
        "review_overdue": state.review.overdue,
        "conditions": [condition_json(item) for item in state.conditions],
        "notes": list(state.notes),
    }


def reason_json(reason: Reason) -> dict[str, str]:
    """Return a reason."""
    return {"code": reason.code, "text": reason.text, "resolved_by": reason.resolved_by}


def condition_json(item: OpenCondition) -> dict[str, Any]:
    """Return an open condition."""
    return {**item.as_json(), "person": item.person, "name": item.name, "role": item.role}


def refusals_of(reading: Reading, decision: Decision) -> list[dict[str, Any]]:
    """Return the releases of this version to this target that were refused."""
    from cognify_dagster.records import ReleaseRefused

    return [
        {
            "entry": item.seq,
            "time": moment(item.time_us),
            "run": item.record.run,
            "requested_by": item.record.requested_by,
            "reasons": [reason.text for reason in item.record.reasons],
        }
        for item in reading.all(ReleaseRefused, f"model/{decision.model}@{decision.version}")
        if item.record.target == decision.target
    ]


def version_json(reading: Reading, found: Standing, at: str | None) -> dict[str, Any]:
    """Return a version's state as JSON values."""
    from cognify_dagster.governance import directory

    decision, people = found.decision, directory(reading)
    package = decision.package
    copy = package.record.review_copy if package else None
    plan = decision.plan
    return {
        "model": decision.model,
        "version": decision.version,
        "target": decision.target,
        "at": at,
        "origin": reading.origin,
        "trial": reading.trial,
        "state": found.state,
        "superseded_by": found.superseded_by
        and {
            "version": found.superseded_by.record.version,
            "entry": found.superseded_by.seq,
            "time": moment(found.superseded_by.time_us),
        },
        "may_be_released": decision.released and found.state != "blocked",
        "tier": decision.tier,
        "classification": classification_json(decision.classified),
        "policy_digest": decision.policy_digest,
        "decided_on_size": decision.size,
        "decided_at": decision.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "package": package
        and {
            "digest": package.record.package.digest,
            "entry": package.seq,
            "leaf": package.leaf,
            "revision": package.record.revision,
            "review_copy": copy.digest if copy else None,
            "built_by": people.name(package.record.built_by),
        },
        "stages": [_stage(state) for state in decision.stages],
        "waived": list(decision.waived),
        "plan": plan
        and {
            "plan": plan.item.record.plan,
            "entry": plan.item.seq,
            "covered": plan.covered,
            "lines": list(plan.lines),
        },
        "rollback_order_entry": decision.rollback.seq if decision.rollback else None,
        "break_glass_entry": decision.glass_seq,
        "conditions": [condition_json(item) for item in decision.conditions],
        "findings": [finding_json(reading, item) for item in decision.findings],
        "review_due": decision.review.due,
        "live": live_json(reading, found.live) if found.live else None,
        "reasons": [reason_json(reason) for reason in found.blocking],
        "notes": list(decision.notes),
        "refusals": refusals_of(reading, decision),
        "grant_entry": decision.grant.seq if decision.grant else None,
        "deployed_entry": decision.completed.seq if decision.completed else None,
    }


def _stage(state: StageState) -> dict[str, Any]:
    return {
        "stage": state.name,
        "title": state.stage.title,
        "kind": state.stage.kind,
        "role": state.stage.role or None,
        "wanted": state.stage.wanted,
        "min_strength": state.stage.min_strength if state.stage.kind == "sign_off" else None,
        "done": state.done,
        "by": state.by,
        "gates": [{"family": family, "status": status, "entry": seq} for family, status, seq in state.gates],
        "signed": [
            {
                "entry": item.seq,
                "person": item.person,
                "name": item.name,
                "on_behalf_of": item.on_behalf_of,
                "strength": item.strength,
                "decision": item.predicate.decision,
                "signed_at": item.predicate.signed_at,
                "conditions": [part.model_dump() for part in item.predicate.conditions],
            }
            for item in state.signed
        ],
        "waiting_for": list(state.waiting_for),
    }
