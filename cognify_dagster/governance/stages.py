"""The stages of a tier: which gates passed and which sign-offs count.

Invariants: a statement counts once; it counts only for the present package, with a key that is still valid, a role held then,
no hand in the version, in the order of the stages; what does not count is explained, never dropped silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cognify_dagster.governance.case import Case, Reason, Signed, StageState
from cognify_dagster.governance.errors import PolicyError, SignatureError
from cognify_dagster.governance.people import Directory
from cognify_dagster.governance.policy import STRENGTHS, Policy, Stage
from cognify_dagster.governance.statements import SignOffPredicate, open_envelope, read_sign_off
from cognify_dagster.ledger import merkle_root
from cognify_dagster.records import Evaluation, GateResult, Package, RecordError, SignOff, TrainingRun, parse_utc
from cognify_dagster.workspace import Reading, Recorded


def judge_stages(
    case: Case,
    tier: str,
    training: Recorded[TrainingRun] | None,
    evaluation: Recorded[Evaluation] | None,
    package: Recorded[Package] | None,
    target: str,
) -> tuple[list[StageState], tuple[int, ...]]:
    try:
        wanted = case.policy.stages_of(tier) if tier else []
    except PolicyError as error:
        case.block("tier_unknown", str(error), "a workspace admin")
        return [], ()
    excluded = excluded_people(case.policy, training, package)
    counted = _counted_sign_offs(case, package, excluded, target, tier)
    states: list[StageState] = []
    gate_seqs: tuple[int, ...] = ()
    used: set[str] = set()
    floor = package.seq if package else -1
    for name, stage in wanted:
        if stage.kind == "automated":
            state, seqs = _automated(case, name, stage, training, evaluation)
            gate_seqs += seqs
        else:
            state = _signed_stage(case, name, stage, counted, used, floor, excluded)
            # the order is kept from the moment a stage is complete: a further signature on it voids no later stage
            floor = max([floor, *(item.seq for item in state.signed[: stage.quorum])])
            if case.policy.separation_of_duties.distinct_people_across_stages:
                used |= {item.person for item in state.signed}
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


def excluded_people(
    policy: Policy, training: Recorded[TrainingRun] | None, package: Recorded[Package] | None
) -> frozenset[str]:
    """Return the people who may not sign off because they had a hand in the version."""
    rule = policy.separation_of_duties.exclude
    people: set[str] = set()
    if training is not None:
        if "run_launcher" in rule:
            people.add(training.record.launched_by)
        if "commit_authors" in rule:
            people.update(training.record.touched_by)
    if package is not None and "package_builder" in rule:
        people.add(package.record.built_by)
    return frozenset(person for person in people if person.startswith("person/"))


def _automated(
    case: Case,
    name: str,
    stage: Stage,
    training: Recorded[TrainingRun] | None,
    evaluation: Recorded[Evaluation] | None,
) -> tuple[StageState, tuple[int, ...]]:
    results: dict[str, Recorded[GateResult]] = {}
    for item in case.reading.all(GateResult, case.subject):
        results[item.record.family] = item
    gates: list[tuple[str, str, int | None]] = []
    seqs: list[int] = []
    for family in stage.gates:
        found = results.get(family)
        status: str = found.record.status if found else "missing"
        if found is not None and evaluation is not None and found.seq < evaluation.seq:
            status = "stale"
        if status == "pass" and _contradicted(evaluation, family):
            status = "contradicted"
        gates.append((family, status, found.seq if found else None))
        if found is not None and status == "pass":
            seqs.append(found.seq)
            continue
        what = {
            "missing": "has no result",
            "stale": "is older than the evaluation",
            "fail": "failed",
            "contradicted": "is said to pass, but the evaluation says otherwise",
        }[status]
        case.block(f"gate_{family}", f"automated gate {family!r} {what}", "the model's engineer")
    done = all(status == "pass" for _, status, _ in gates)
    return StageState(name, stage, done, gates=tuple(gates)), tuple(seqs)


def _signed_stage(
    case: Case,
    name: str,
    stage: Stage,
    counted: Sequence[Signed],
    used: set[str],
    floor: int,
    excluded: frozenset[str],
) -> StageState:
    people: dict[str, Signed] = {}
    for item in counted:
        predicate = item.predicate
        if predicate.stage != name or predicate.role != stage.role or item.person in used or item.seq < floor:
            continue
        if STRENGTHS.index(stage.min_strength) > STRENGTHS.index("S3"):
            continue
        people.setdefault(item.person, item)
    signed = tuple(sorted(people.values(), key=lambda item: item.seq))
    done = len(signed) >= stage.quorum
    waiting: tuple[str, ...] = ()
    if not done:
        waiting = case.names(stage.role, frozenset(excluded | used | set(people)))
        who = " or ".join(waiting) if waiting else f"nobody yet: enrol a {stage.role}"
        title = stage.title or name
        case.block(
            f"stage_{name}",
            f"{title} is not signed: {stage.quorum - len(signed)} more from role {stage.role}",
            who,
        )
    return StageState(name, stage, done, signed=signed, waiting_for=waiting)


def _counted_sign_offs(
    case: Case, package: Recorded[Package] | None, excluded: frozenset[str], target: str, tier: str
) -> list[Signed]:
    """Return the approvals that count; rejections and blocks become reasons."""
    entries = case.reading.all(SignOff, case.subject)
    checked = [(item, check_sign_off(item, case.reading, case.people)) for item in entries]
    valid: list[tuple[Recorded[SignOff], SignOffPredicate]] = []
    seen: set[str] = set()
    for item, result in checked:
        if not isinstance(result, str) and item.record.statement_digest in seen:
            result = "the same statement stands in an earlier entry; a statement counts once"  # noqa: PLW2901
        if isinstance(result, str):
            reason = Reason("sign_off_invalid", f"sign-off entry {item.seq}: {result}", "a workspace admin")
            case.ignored.append((item.record.stage, reason))
        else:
            seen.add(item.record.statement_digest)
            valid.append((item, result))
    withdrawn = {
        (predicate.reference.entry_leaf, item.record.person)
        for item, predicate in valid
        if predicate.decision == "withdraw" and predicate.reference is not None
    }
    counted: list[Signed] = []
    for item, predicate in valid:
        name = case.people.name(item.record.person)
        if (item.leaf, item.record.person) in withdrawn:  # naming its leaf proves that the withdrawal came later
            continue
        if predicate.decision == "block":
            case.block("blocked", f"{name} blocked this version (entry {item.seq}): {predicate.comments}", name)
        if package is None or predicate.package.digest != package.record.package.digest:
            continue
        if predicate.decision == "reject":
            case.block("rejected", f"{name} rejected this package (entry {item.seq}): {predicate.comments}", name)
        if predicate.decision not in ("approve", "approve_with_conditions"):
            continue
        problem = _approval_problem(case, package, item, predicate, excluded, target, tier)
        if problem:
            case.ignored.append((predicate.stage, Reason(*problem)))
            continue
        counted.append(Signed(item.seq, item.record.person, name, predicate))
    return counted


def _approval_problem(
    case: Case,
    package: Recorded[Package],
    item: Recorded[SignOff],
    predicate: SignOffPredicate,
    excluded: frozenset[str],
    target: str,
    tier: str,
) -> tuple[str, str, str] | None:
    name = case.people.name(item.record.person)
    where = f"{name}'s sign-off (entry {item.seq})"
    person = case.people.person_at(item.record.person, item.seq)
    now_person = case.people.person_at(item.record.person, case.reading.size)
    if person is None or predicate.role not in person.roles:
        return ("role_missing", f"{where}: {name} did not hold the role {predicate.role}", "a workspace admin")
    if now_person is None or case.people.key_at(item.record.person, item.record.key_id, case.reading.size) is None:
        return ("key_revoked", f"{where}: the key was revoked since", name)
    if item.record.person in excluded:
        return ("separation_of_duties", f"{where}: {name} had a hand in this version", "another person with the role")
    if predicate.package.entry_seq != package.seq or predicate.package.entry_leaf != package.leaf:
        return (
            "package_rebuilt",
            f"{where} is about package entry {predicate.package.entry_seq}, not the current one",
            name,
        )
    if target not in predicate.target_environments:
        allowed = ", ".join(predicate.target_environments) or "no target"
        return ("target_not_approved", f"{where} approves {allowed}, not {target}", name)
    days = case.policy.tiers[tier].approval_days if tier in case.policy.tiers else 0
    age = case.now.timestamp() - item.time_us / 1e6
    if age > days * 86_400 or (predicate.expires is not None and parse_utc(predicate.expires) <= case.now):
        return ("approval_expired", f"{where} has expired", name)
    overdue = [c for c in predicate.conditions if c.due is not None and parse_utc(c.due) <= case.now]
    if overdue:
        return ("condition_overdue", f"{where}: the condition {overdue[0].text!r} was due {overdue[0].due}", name)
    return None


def check_sign_off(item: Recorded[SignOff], reading: Reading, people: Directory) -> SignOffPredicate | str:
    """Verify a sign-off entry against the directory; return its predicate, or why it does not count."""
    record = item.record
    key = people.key_at(record.person, record.key_id, item.seq)
    if key is None:
        return f"{people.name(record.person)} had no valid key {record.key_id} then"
    try:
        statement = open_envelope(record.envelope, key)
        predicate = read_sign_off(statement)
    except (SignatureError, RecordError) as error:
        return str(error)
    if hashlib.sha256(statement).hexdigest() != record.statement_digest:
        return "the entry's statement digest is not that of the statement"
    seen = predicate.checkpoint
    if not 0 < seen.size <= min(item.seq, reading.size):
        return "the statement was made on another history of the ledger"
    if merkle_root(found.entry.leaf for found in reading.view.entries[: seen.size]).hex() != seen.root:
        return "the statement was made on another history of the ledger"
    same = (
        predicate.ledger == reading.origin
        and predicate.model == record.model
        and predicate.version == record.version
        and predicate.person == record.person
        and predicate.key_id == record.key_id
        and predicate.decision == record.decision
        and predicate.stage == record.stage
        and predicate.role == record.role
        and predicate.package.digest == record.package_digest
        and predicate.package.entry_seq == record.package_seq
    )
    return predicate if same else "the statement says something else than the entry (or belongs to another ledger)"
