"""The stages of a version as tables and fields: what is done, by whom or by which exception, and who is waited for."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from cognify_dagster.governance import Decision, Directory, StageState
from cognify_dagster.orchestration.metadata import PREFIX, condition_kind, table
from cognify_dagster.orchestration.standing import Standing, approved
from cognify_dagster.records import ReleaseGranted
from cognify_dagster.workspace import Recorded

NO_SECURITY_GATE = "no gate: the policy asks this tier for no security scan"
_FIELDS = (
    ("validation_status", "model_validator"),
    ("compliance_review", "compliance_officer"),
    ("business_approval", "business_owner"),
)


def stage_table(decision: Decision) -> dg.TableMetadataValue:
    """Return the stages of a version: what is done, by whom, and who is waited for."""
    rows = []
    for state in decision.stages:
        if state.stage.kind == "automated":
            by = ", ".join(f"{family}: {status}" for family, status, _ in state.gates)
        else:
            by = ", ".join(
                f"{signed.name} (entry {signed.seq})"
                + (f", {approved(signed.predicate.conditions)}" if signed.predicate.conditions else "")
                for signed in state.signed
            )
        rows.append(
            {
                "stage": state.stage.title or state.name,
                "role": _roles(state),
                "state": ("done" if state.done else "open") if not state.waived else _waiver(decision, state),
                "signed by / result": by or "nobody" if state.waived else by or "nobody yet",
                "waiting for": ", ".join(state.waiting_for) or "–",
            }
        )
    return table(rows)


def _roles(state: StageState) -> str:
    """The roles that a stage wants, with numbers where it wants more than one person."""
    wanted = state.stage.wanted
    if not wanted:
        return "automated"
    return ", ".join(role.replace("_", " ") + (f" × {count}" if count > 1 else "") for role, count in wanted.items())


def _waiver(decision: Decision, state: StageState) -> str:
    """Say what made a stage done without the signatures it usually needs."""
    if state.by == "plan" and decision.plan is not None:
        return f"waived by change plan {decision.plan.item.record.plan} (entry {decision.plan.item.seq})"
    return f"waived by broken glass (entry {decision.glass_seq})"


def workflow_fields(decision: Decision) -> dict[str, str]:
    """The workflow fields that people look for: validation, compliance, security, business approval, deployment tier."""
    gates = {family: status for state in decision.stages for family, status, _ in state.gates}
    fields = {f"{PREFIX}{label}": _field(decision, role) for label, role in _FIELDS}
    if set(gates.values()) & {"fail", "contradicted"}:
        fields[f"{PREFIX}validation_status"] = "failed"
    fields[f"{PREFIX}security_scan"] = gates.get("security", NO_SECURITY_GATE)
    fields[f"{PREFIX}deployment_tier"] = decision.tier or "unknown"
    fields[f"{PREFIX}open_findings"] = _findings(decision)
    return fields


def plan_field(decision: Decision) -> dict[str, dg.MarkdownMetadataValue]:
    """What a change plan says of the version: that it covers it, or what lies outside its bounds. Nothing without a plan."""
    plan = decision.plan
    if plan is None:
        return {}
    said = "covers" if plan.covered else "does not cover"
    lines = "\n".join(f"- {line}" for line in plan.lines)
    lead = f"Change plan {plan.item.record.plan} (entry {plan.item.seq}) {said} {decision.version}"
    return {f"{PREFIX}change_plan": dg.MetadataValue.md(f"**{lead}**\n\n{lines}")}


def _field(decision: Decision, role: str) -> str:
    """Whether everybody of a role signed whom the stages want, in words."""
    states = [state for state in decision.stages if role in state.stage.wanted]
    if not states:
        return "not required"
    wanted = sum(state.stage.wanted[role] for state in states)
    given = [signed for state in states for signed in state.signed if signed.predicate.role == role]
    number = sum(min(_count(state, role), state.stage.wanted[role]) for state in states)
    if number >= wanted:
        conditions = any(signed.predicate.conditions for signed in given)
        return "signed, with conditions" if conditions else "signed"
    waived = [state for state in states if state.waived]
    if waived:
        return _waiver(decision, waived[0])
    return f"pending: {number} of {wanted} signed" if number else "pending"


def _count(state: StageState, role: str) -> int:
    return sum(signed.predicate.role == role for signed in state.signed)


def _findings(decision: Decision) -> str:
    """How many findings are open, by severity, and how many are accepted for a while."""
    found = [item for item in decision.findings if item.open]
    accepted = sum(item.accepted_until is not None for item in decision.findings)
    by = ", ".join(f"{count} {name}" for name, count in _counted(item.severity for item in found).items())
    parts = ([by] if by else []) + ([f"{accepted} accepted"] if accepted else [])
    return "; ".join(parts) or "none"


def _counted(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def released_fields(found: Standing, grant: Recorded[ReleaseGranted] | None) -> dict[str, str]:
    """The workflow fields of a released version: what its release used."""
    roles = {item.role for item in found.approvals}
    conditional = {item.role for item in found.approvals if item.conditions}
    waived = grant.record.waived if grant is not None else ()
    without = f"not signed; the release went without {', '.join(waived)}" if waived else "not required"
    return {
        f"{PREFIX}{label}": ("signed, with conditions" if role in conditional else "signed")
        if role in roles
        else without
        for label, role in _FIELDS
    }


def release_fields(people: Directory, grant: ReleaseGranted) -> dict[str, Any]:
    """How a release came about: by which approvals it went, what it went without, and what it is bound to."""
    ways = {"release": "approvals", "rollback": "a rollback order", "break_glass": "broken glass"}
    way = ways[grant.purpose] + (f" (entry {grant.order_seq})" if grant.order_seq is not None else "")
    if grant.plan_seq is not None:
        way += f", change plan (entry {grant.plan_seq})"
    rows = [
        {
            "condition": str(item.get("text", "")),
            "kind": condition_kind(str(item.get("kind", "text")), _mapping(item.get("limit"))),
            "due": str(item.get("due") or "no date"),
            "sign-off entry": item.get("sign_off_seq"),
        }
        for item in grant.conditions
    ]
    return {
        f"{PREFIX}released_by": way,
        f"{PREFIX}waived_stages": ", ".join(grant.waived) or "none",
        f"{PREFIX}bound_to": table(rows) if rows else "no open condition",
    }


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
