"""The stages of a tier: which gates passed, which approvals fill which stage, what is still awaited and from whom.

Invariants: stages are filled in order, each by different people; a stage is done by its gates, by as many people of each role
as it wants, or by an exception that waives it by name; automated gates are never waived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from cognify_dagster.governance.errors import PolicyError
from cognify_dagster.governance.policy.document import STRENGTHS, Stage
from cognify_dagster.governance.release.approvals import people_of
from cognify_dagster.governance.release.case import Case, Lineage, Signed, StageState
from cognify_dagster.records import Evaluation, GateResult
from cognify_dagster.workspace import Recorded

Waiver = Literal["plan", "break_glass"]
_GATE_TEXT = {
    "missing": "has no result",
    "stale": "is older than the evaluation",
    "fail": "failed",
    "contradicted": "is said to pass, but the evaluation says otherwise",
}


def judge_stages(
    case: Case,
    tier: str,
    lineage: Lineage,
    counted: Sequence[Signed],
    excluded: frozenset[str],
    waived: Mapping[str, Waiver],
) -> tuple[list[StageState], tuple[int, ...]]:
    """Return the state of every stage of a tier, and the entries of the gate results that passed."""
    try:
        wanted = case.policy.stages_of(tier) if tier else []
    except PolicyError as error:
        case.block("tier_unknown", str(error), "a workspace admin")
        return [], ()
    states: list[StageState] = []
    gate_seqs: tuple[int, ...] = ()
    used: frozenset[str] = frozenset()
    floor = lineage.package.seq if lineage.package else -1
    for name, stage in wanted:
        if stage.kind == "automated":
            state, seqs = _automated(case, name, stage, lineage.evaluation)
            gate_seqs += seqs
        else:
            able = [item for item in counted if item.seq >= floor and not item.people & used]
            state = _signed_stage(case, name, stage, able, used | excluded, waived.get(name))
            # the order is kept from the moment a stage is complete: a further signature on it voids no later stage
            if state.done and state.by == "people":
                floor = max([floor, *_completing(stage, state.signed)])
            if case.policy.separation_of_duties.distinct_people_across_stages:
                used |= people_of(state.signed)
        states.append(state)
    _explain_ignored(case, states)
    return states, gate_seqs


def _explain_ignored(case: Case, states: Sequence[StageState]) -> None:
    """Sign-offs that do not count explain an open stage; once the stage is done by others they are only noted."""
    open_stages = {state.name for state in states if not state.done}
    for stage, reason in case.ignored:
        if stage in open_stages:
            case.reasons.append(reason)
        case.notes.append(reason.text)


def _contradicted(evaluation: Recorded[Evaluation] | None, family: str) -> bool:
    """Whether the evaluation itself says that a gate of this family does not let the model through."""
    outcomes = evaluation.record.outcomes if evaluation is not None else ()
    return any(outcome.family == family and (outcome.status == "fail" or not outcome.passed) for outcome in outcomes)


def _automated(
    case: Case, name: str, stage: Stage, evaluation: Recorded[Evaluation] | None
) -> tuple[StageState, tuple[int, ...]]:
    results: dict[str, Recorded[GateResult]] = {}
    for item in case.reading.all(GateResult, case.subject):
        results[item.record.family] = item
    gates: list[tuple[str, str, int | None]] = []
    for family in stage.gates:
        found = results.get(family)
        status = _gate_status(found, evaluation, family)
        gates.append((family, status, found.seq if found else None))
        if status != "pass":
            text = f"automated gate {family!r} {_GATE_TEXT[status]}"
            case.block(f"gate_{family}", text, "the model's engineer")
    passed = tuple(seq for _, status, seq in gates if status == "pass" and seq is not None)
    done = all(status == "pass" for _, status, _ in gates)
    return StageState(name, stage, done, gates=tuple(gates), by="gates"), passed


def _gate_status(found: Recorded[GateResult] | None, evaluation: Recorded[Evaluation] | None, family: str) -> str:
    if found is None:
        return "missing"
    if evaluation is not None and found.seq < evaluation.seq:
        return "stale"
    if found.record.status == "pass" and _contradicted(evaluation, family):
        return "contradicted"
    return found.record.status


def _signed_stage(
    case: Case, name: str, stage: Stage, able: Sequence[Signed], unable: frozenset[str], waiver: Waiver | None
) -> StageState:
    taken: frozenset[str] = frozenset()
    signed: list[Signed] = []
    for item in able:
        strong = STRENGTHS.index(item.strength) >= STRENGTHS.index(stage.min_strength)
        if item.predicate.stage != name or item.predicate.role not in stage.wanted or item.people & taken or not strong:
            continue
        taken |= item.people
        signed.append(item)
    missing = _missing(stage, signed)
    if not missing:
        return StageState(name, stage, True, signed=tuple(signed))
    if waiver is not None:
        return StageState(name, stage, True, signed=tuple(signed), by=waiver)
    waiting: list[str] = []
    for role in missing:
        waiting += [person for person in case.names(role, unable | taken) if person not in waiting]
    who = " or ".join(waiting) if waiting else f"nobody yet: enrol a {next(iter(missing))}"
    more = " and ".join(f"{count} more from role {role}" for role, count in missing.items())
    weak = _too_weak(stage, name, able)
    case.block(f"stage_{name}", f"{stage.title or name} is not signed: {more}{weak}", who)
    return StageState(name, stage, False, signed=tuple(signed), waiting_for=tuple(waiting))


def _missing(stage: Stage, signed: Sequence[Signed]) -> dict[str, int]:
    """How many signatures of which roles a stage still needs."""
    given = {role: sum(item.predicate.role == role for item in signed) for role in stage.wanted}
    return {role: count - given[role] for role, count in stage.wanted.items() if count > given[role]}


def _too_weak(stage: Stage, name: str, able: Sequence[Signed]) -> str:
    weak = [
        item
        for item in able
        if item.predicate.stage == name and STRENGTHS.index(item.strength) < STRENGTHS.index(stage.min_strength)
    ]
    if not weak:
        return ""
    return f" ({weak[0].name} signed with strength {weak[0].strength}; the stage needs {stage.min_strength})"


def _completing(stage: Stage, signed: Sequence[Signed]) -> list[int]:
    """The entries of those signatures that completed the stage: the first ones of each role, as many as it wants."""
    return [
        item.seq
        for role, count in stage.wanted.items()
        for item in [given for given in signed if given.predicate.role == role][:count]
    ]
