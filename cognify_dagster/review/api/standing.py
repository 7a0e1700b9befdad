"""Where versions and models stand, computed from a reading: what `cognify status` says, for programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cognify_dagster.documents.coverage.blocking import held_back
from cognify_dagster.governance import (
    Decision,
    Finding,
    LiveState,
    Reason,
    classification_of,
    decide,
    directory,
    findings_about,
    live_state,
    policy_in_force,
)
from cognify_dagster.governance.oversight.conditions import ENFORCED, OpenCondition
from cognify_dagster.governance.release.history import completions
from cognify_dagster.records import FindingOpened, ModelAdopted, ModelRegistered, Reconciliation, VersionOpened, utc
from cognify_dagster.review.api.schemas import (
    ConditionOut,
    DecisionOut,
    FindingOut,
    GateOut,
    LiveOut,
    ModelOut,
    ReasonOut,
    SignatureOut,
    StageOut,
    VersionOut,
)
from cognify_dagster.workspace import Reading

_AFTER_RELEASE = "already_released"
_WORST = ("suspended", "unattested", "live", "none")


def clock(time_us: int) -> str:
    """Return microseconds since 1970 as UTC text, to the second."""
    return utc(datetime.fromtimestamp(time_us // 1_000_000, tz=timezone.utc))


@dataclass(frozen=True)
class Standing:
    """A version on a target: its state in a word, the decision, and what holds it back."""

    state: str
    decision: Decision
    blocking: tuple[Reason, ...]


def standing_of(
    reading: Reading, model: str, version: str, target: str, now: datetime, folder: Path | None
) -> Standing:
    """Work out where a version stands; `folder` holds the organisation's own framework files."""
    decision = decide(reading, model, version, target, now, enforces=ENFORCED)
    blocking = tuple(reason for reason in decision.reasons if reason.code != _AFTER_RELEASE)
    current = live_state(reading, model, target, now)
    if current.version == version:
        return Standing(current.standing, decision, (*current.reasons, *blocking))
    held = held_back(reading, decision, folder) if decision.released else ()
    if held:
        return Standing("blocked", decision, held)
    if decision.released:
        return Standing("releasing" if decision.grant is not None else "ready", decision, blocking)
    own = any(item.record.version == version for item in completions(reading, model, target))
    return Standing("superseded" if own else "blocked", decision, blocking)


def version_row(reading: Reading, found: Standing) -> dict[str, object]:
    """Return the members of a `VersionOut`."""
    decision = found.decision
    opened = reading.latest(VersionOpened, f"model/{decision.model}@{decision.version}")
    package, stage = decision.package, decision.next_stage
    return {
        "model": decision.model,
        "version": decision.version,
        "target": decision.target,
        "state": found.state,
        "opened": clock(opened.time_us) if opened else None,
        "opened_entry": opened.seq if opened else None,
        "package_digest": package.record.package.digest if package else None,
        "package_entry": package.seq if package else None,
        "revision": package.record.revision if package else None,
        "next_stage": stage.name if stage else None,
        "waiting_for": list(stage.waiting_for) if stage else [],
    }


def version_out(reading: Reading, found: Standing) -> VersionOut:
    """Return a version."""
    return VersionOut.model_validate(version_row(reading, found))


def decision_out(reading: Reading, found: Standing) -> DecisionOut:
    """Return a decision whole."""
    decision = found.decision
    package = decision.package
    return DecisionOut(
        model=decision.model,
        version=decision.version,
        target=decision.target,
        size=decision.size,
        at=utc(decision.at),
        released=decision.released and found.state != "blocked",
        state=found.state,
        tier=decision.tier,
        policy_digest=decision.policy_digest,
        package_digest=package.record.package.digest if package else None,
        stages=[
            StageOut(
                stage=state.name,
                title=state.stage.title,
                kind=state.stage.kind,
                role=state.stage.role or None,
                wanted=dict(state.stage.wanted),
                min_strength=state.stage.min_strength if state.stage.kind == "sign_off" else None,
                done=state.done,
                by=state.by,
                gates=[GateOut(family=family, status=status, entry=seq) for family, status, seq in state.gates],
                signed=[
                    SignatureOut(
                        entry=item.seq,
                        person=item.person,
                        name=item.name,
                        on_behalf_of=item.on_behalf_of,
                        strength=item.strength,
                        decision=item.predicate.decision,
                        signed_at=item.predicate.signed_at,
                    )
                    for item in state.signed
                ],
                waiting_for=list(state.waiting_for),
            )
            for state in decision.stages
        ],
        waived=list(decision.waived),
        reasons=[_reason(item) for item in found.blocking],
        conditions=[condition_out(item, decision.at) for item in decision.conditions],
        findings=[finding_out(reading, decision.model, item) for item in decision.findings],
        review_due=decision.review.due,
        grant_entry=decision.grant.seq if decision.grant else None,
        completed_entry=decision.completed.seq if decision.completed else None,
        notes=list(decision.notes),
    )


def condition_out(item: OpenCondition, now: datetime) -> ConditionOut:
    """Return an open condition."""
    return ConditionOut(
        entry=item.sign_off_seq,
        condition=item.index,
        text=item.condition.text,
        kind=item.condition.kind,
        due=item.condition.due,
        overdue=item.overdue(now),
        person=item.person,
        name=item.name,
        role=item.role,
    )


def finding_out(reading: Reading, model: str, item: Finding) -> FindingOut:
    """Return a finding."""
    blocking = policy_in_force(reading).policy.findings.blocking
    return FindingOut(
        entry=item.seq,
        model=model,
        version=item.version,
        severity=item.severity,
        title=item.title,
        text=item.text,
        raised_by=item.raised_by,
        due=item.due,
        open=item.open,
        blocking=item.open and item.severity in blocking,
        accepted_until=item.accepted_until,
        closed_entry=item.closed_seq,
    )


def findings_of(reading: Reading, model: str, now: datetime) -> list[Finding]:
    """Return all findings about a model and its versions, oldest first."""
    versions = _finding_versions(reading).get(model, frozenset())
    people, policy = directory(reading), policy_in_force(reading).policy
    found: dict[int, Finding] = {}
    for version in sorted(versions, key=str):
        about = findings_about(reading, people, policy, model, version, now)
        found |= {item.seq: item for item in about.items if item.version == version}
    return [found[seq] for seq in sorted(found)]


def _finding_versions(reading: Reading) -> dict[str, frozenset[str | None]]:
    """Return, for each model that has findings, the versions they are about (None: all). From one subject's history."""
    key = ("api-findings", reading.size, reading.view.heads.get("findings", -1))
    found: dict[str, frozenset[str | None]] | None = reading.memo.get(key)
    if found is None:
        seen: dict[str, set[str | None]] = {}
        for opened in reading.all(FindingOpened, "findings"):
            seen.setdefault(opened.record.model, set()).add(opened.record.version)
        for noticed in reading.all(Reconciliation, "findings"):
            if noticed.record.model:
                seen.setdefault(noticed.record.model, set()).add(noticed.record.version)
        found = reading.memo[key] = {model: frozenset(versions) for model, versions in seen.items()}
    return found


def live_out(state: LiveState) -> LiveOut:
    """Return what is live on a target."""
    return LiveOut(
        target=state.target,
        standing=state.standing,
        version=state.version,
        since=clock(state.completed.time_us) if state.completed else None,
        entry=state.completed.seq if state.completed else None,
        grant_entry=state.grant.seq if state.grant else None,
        purpose=state.grant.record.purpose if state.grant else None,
        reasons=[_reason(item) for item in state.reasons],
        review_due=state.review.due,
        review_overdue=state.review.overdue,
        notes=list(state.notes),
    )


def model_out(reading: Reading, model: str, targets: list[str], versions: int, now: datetime) -> ModelOut:
    """Return a model of the inventory: `targets` are those it was ever released to."""
    people, policy = directory(reading), policy_in_force(reading).policy
    classified = classification_of(reading, people, policy, model)
    registered = classified.registered.record if classified.registered is not None else None
    signed = classified.signed
    states = [live_state(reading, model, target, now) for target in targets]
    findings = [item for item in findings_of(reading, model, now) if item.open]
    due = sorted(state.review.due for state in states if state.review.due is not None)
    standings = {state.standing for state in states} or {"none"}
    owner = signed.record.owner if signed is not None else (registered.owner if registered is not None else None)
    return ModelOut(
        model=model,
        title=registered.title if registered else "",
        owner=owner,
        tier=classified.tier if registered or signed else None,
        tier_signed_entry=signed.seq if signed is not None else None,
        frameworks=list(registered.frameworks) if registered else [],
        intended_use=registered.intended_use if registered else "",
        versions=versions,
        status=next(word for word in _WORST if word in standings),  # type: ignore[arg-type]
        live=[live_out(state) for state in states if state.standing != "none"],
        next_review=due[0] if due else None,
        review_overdue=any(state.review.overdue for state in states),
        open_findings=len(findings),
        blocking_findings=sum(item.severity in policy.findings.blocking for item in findings),
    )


def versions_of(reading: Reading, model: str) -> list[str]:
    """Return the versions of a model in the order in which they appeared."""
    opened = [(item.seq, item.record.version) for item in reading.all(VersionOpened, f"model/{model}")]
    adopted = [(item.seq, item.record.version) for item in reading.all(ModelAdopted, f"model/{model}")]
    return list(dict.fromkeys(version for _, version in sorted([*opened, *adopted])))


def is_registered(reading: Reading, model: str) -> bool:
    """Whether a model was registered, or adopted as it was live before."""
    subject = f"model/{model}"
    return reading.latest(ModelRegistered, subject) is not None or bool(reading.all(ModelAdopted, subject))


def _reason(item: Reason) -> ReasonOut:
    return ReasonOut(code=item.code, text=item.text, resolved_by=item.resolved_by)
