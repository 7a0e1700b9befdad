"""Writes the result of the security gate for a version, with the report of all that was judged as evidence.

Invariants: the result rests on the newest evaluation and the sealed training run, whose recorded environment is what is judged;
whatever cannot be read makes the result fail instead of ending the run; a repeated run writes no second result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.evaluation._errors import AdvisoryError, EvaluationError
from cognify_dagster.evaluation.pins import Pins, environment_pins, requirement_pins
from cognify_dagster.evaluation.security import FAMILY, Scan, accepted_in, judge_scan, scan
from cognify_dagster.evaluation.snapshots import Snapshot, current_info, snapshot_of
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import Evaluation, GateResult, GateRule, GateSetAdopted, TrainingRun, to_json
from cognify_dagster.records import GateOutcome as OutcomeRecord
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

REPORT = "security-scan.json"
_LISTED = 50


def has_snapshot(workspace: Workspace) -> bool:
    """Whether advisories were imported into this workspace (readable or not)."""
    try:
        return current_info(workspace.home) is not None
    except AdvisoryError:
        return True


def recorded_security(reading: Reading, evaluation: Recorded[Evaluation]) -> Recorded[GateResult] | None:
    """Return the newest result of the family that rests on this evaluation, or None."""
    subject = f"model/{evaluation.record.model}@{evaluation.record.version}"
    found = [
        item
        for item in reading.all(GateResult, subject)
        if item.record.family == FAMILY and evaluation.seq in item.record.based_on
    ]
    return found[-1] if found else None


def rules_of(reading: Reading, evaluation: Recorded[Evaluation]) -> tuple[GateRule, ...]:
    """Return the rules of the gate set that an evaluation was judged by.

    Raises:
        EvaluationError: its entry is no gate set, or another one.
    """
    adopted = reading.at(evaluation.record.gate_set_seq)
    record = adopted.record if adopted is not None else None
    if not isinstance(record, GateSetAdopted) or record.digest != evaluation.record.gate_set_digest:
        raise EvaluationError(f"evaluation entry {evaluation.seq} names no adopted gate set that can be read")
    return record.gates


def scan_version(
    workspace: Workspace, training: Recorded[TrainingRun], *, now: datetime, requirements: Path | None = None
) -> Scan:
    """Judge the environment that a training run recorded, and a requirements file beside it. Writes nothing.

    Args:
        workspace: Where the evidence and the advisories are.
        training: The sealed training run.
        now: With time zone.
        requirements: A requirements or constraints file whose pins are judged too.
    """
    environment = training.record.environment
    try:
        pins = environment_pins(workspace.evidence.get(environment.detail.digest), environment.packages_digest)
    except EvidenceError as error:
        pins = Pins((), (f"the recorded environment cannot be read: {error}",))
    if requirements is not None:
        pins = pins + requirement_pins(requirements)
    return scan(pins, _snapshot(workspace, pins), now)


def _snapshot(workspace: Workspace, pins: Pins) -> Snapshot | AdvisoryError:
    try:
        return snapshot_of(workspace.home, pins.names)
    except AdvisoryError as error:
        return error


def record_security(
    workspace: Workspace,
    evaluation: Recorded[Evaluation],
    training: Recorded[TrainingRun],
    *,
    now: datetime | None = None,
    requirements: Path | None = None,
    again: bool = False,
) -> Recorded[GateResult]:
    """Judge a version's dependencies and append the result.

    Args:
        workspace: Where to read and write.
        evaluation: The version's newest evaluation; its gate set says what counts.
        training: The version's sealed training run.
        now: Moment of judging, with time zone; now unless given.
        requirements: A requirements or constraints file whose pins are judged too.
        again: Judge anew although there is a result, because the advisories or the day have changed.

    Returns:
        The result; the earlier one unless `again`.

    Raises:
        EvaluationError: the evaluation's gate set cannot be read.
    """
    reading = workspace.read()
    earlier = recorded_security(reading, evaluation)
    if earlier is not None and not again:
        return earlier
    now = (now or datetime.now(timezone.utc)).astimezone(timezone.utc)
    rules = rules_of(reading, evaluation)
    found = scan_version(workspace, training, now=now, requirements=requirements)
    outcomes = judge_scan(found, rules, now)
    report = canonical_json(to_json(_report(found, rules, outcomes, now)))
    record = GateResult(
        model=evaluation.record.model,
        version=evaluation.record.version,
        family="security",
        status="pass" if all(item.passed for item in outcomes) else "fail",
        outcomes=outcomes,
        based_on=(evaluation.seq, training.seq, evaluation.record.gate_set_seq),
        detail=_detail(found, rules, now),
        report=workspace.put(REPORT, report, "application/json"),
        observed={"judged_at": now.strftime("%Y-%m-%dT%H:%M:%SZ")},
    )
    content = hashlib.sha256(report).hexdigest()
    key = idempotency_key("gate_result", record.model, record.version, FAMILY, evaluation.seq, content)
    seq = workspace.append(record, idem=key).seq
    subject = f"model/{record.model}@{record.version}"
    return next(item for item in workspace.read().all(GateResult, subject) if item.seq == seq)


def _detail(found: Scan, rules: Sequence[GateRule], now: datetime) -> dict[str, Any]:
    """What stands in the result itself: enough for a reader; the whole is in the report."""
    known = found.snapshot
    detail: dict[str, Any] = {
        "snapshot": known.as_json() if known else None,
        "judged_on": now.date().isoformat(),
        "packages": len({pin.name for pin in found.pins}),
        "findings": [item.as_json() for item in found.findings[:_LISTED]],
        "findings_total": len(found.findings),
        "accepted": _accepted(found, rules, now),
    }
    if known is None:
        detail["note"] = "the advisories could not be read"
    elif known.partial:
        detail["note"] = known.why_partial
    return detail


def _accepted(found: Scan, rules: Sequence[GateRule], now: datetime) -> list[dict[str, Any]]:
    return [
        {"package": item.package, "version": item.version, "id": item.name, "reason": by.reason, "expires": by.expires}
        for item, by in accepted_in(found, rules, now)
    ]


def _report(found: Scan, rules: Sequence[GateRule], outcomes: Sequence[OutcomeRecord], now: datetime) -> dict[str, Any]:
    return {
        "format": "cognify-security-scan/1",
        "judged_on": now.date().isoformat(),
        "snapshot": found.snapshot.as_json() if found.snapshot else None,
        "packages": [{"name": pin.name, "version": pin.version, "origin": pin.origin} for pin in found.pins],
        "findings": [item.as_json() for item in found.findings],
        "accepted": _accepted(found, rules, now),
        "unjudged": [*found.unjudged, *(f"{name} {version}" for name, version in found.unknown_versions)],
        "rules": [rule.model_dump(mode="json") for rule in rules if rule.family == FAMILY],
        "outcomes": [item.model_dump(mode="json") for item in outcomes],
    }
