"""The release decision: a pure function of verified entries, target and time.

Invariants: it reads only through subject heads in verified bytes; whatever it cannot read, verify or attribute makes it
refuse; "blocked" always carries every reason; the same reading, target and time always give the same decision, so anyone can
replay a release from the size and time that its entry names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance.enrol import PolicyInForce, check_gate_set, policy_in_force
from cognify_dagster.governance.errors import PolicyError, SignatureError
from cognify_dagster.governance.people import Directory, directory
from cognify_dagster.governance.policy import STRENGTHS, Policy, Stage
from cognify_dagster.governance.statements import SignOffPredicate, open_envelope, read_sign_off
from cognify_dagster.ledger import canonical_json, merkle_root
from cognify_dagster.records import (
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    GateResult,
    GateSetAdopted,
    ModelRegistered,
    Package,
    RecordError,
    ReleaseGranted,
    SignOff,
    TrainingRun,
    VersionOpened,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class Reason:
    """Why a release is blocked: a stable code, a sentence, and who can resolve it."""

    code: str
    text: str
    resolved_by: str = ""


@dataclass(frozen=True)
class Signed:
    """A sign-off that counts."""

    seq: int
    person: str
    name: str
    predicate: SignOffPredicate


@dataclass(frozen=True)
class StageState:
    """One stage of the version's tier: what it needs, what counts, and who can still give it (names)."""

    name: str
    stage: Stage
    done: bool
    signed: tuple[Signed, ...] = ()
    gates: tuple[tuple[str, str, int | None], ...] = ()
    waiting_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """The outcome for one version and target. `round` identifies the approvals a release would use."""

    model: str
    version: str
    target: str
    size: int
    at: datetime
    released: bool
    reasons: tuple[Reason, ...]
    stages: tuple[StageState, ...]
    tier: str
    policy_digest: str
    package: Recorded[Package] | None
    training: Recorded[TrainingRun] | None
    evaluation: Recorded[Evaluation] | None
    gate_seqs: tuple[int, ...]
    relied_on: tuple[str, ...]
    round: str
    notes: tuple[str, ...]
    grant: Recorded[ReleaseGranted] | None
    completed: Recorded[DeploymentCompleted] | None

    @property
    def sign_off_seqs(self) -> tuple[int, ...]:
        """Entries of the sign-offs that count."""
        return tuple(sorted(signed.seq for stage in self.stages for signed in stage.signed))

    @property
    def next_stage(self) -> StageState | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if not stage.done), None)


class _Case:
    """Everything gathered about one version while deciding."""

    def __init__(self, reading: Reading, model: str, version: str, now: datetime) -> None:
        self.reading, self.model, self.version, self.now = reading, model, version, now
        self.reasons: list[Reason] = []
        self.notes: list[str] = []
        self.ignored: list[tuple[str, Reason]] = []
        self.people: Directory = directory(reading)
        self.in_force: PolicyInForce = policy_in_force(reading)
        self.subject = f"model/{model}@{version}"
        self.relied_on = {self.subject, f"model/{model}", "policy", "people", "ledger"}

    @property
    def policy(self) -> Policy:
        return self.in_force.policy

    def block(self, code: str, text: str, resolved_by: str = "") -> None:
        self.reasons.append(Reason(code, text, resolved_by))

    def names(self, role: str, excluded: frozenset[str] = frozenset()) -> tuple[str, ...]:
        return tuple(person.name for person in self.people.with_role(role) if person.person not in excluded)


def decide(reading: Reading, model: str, version: str, target: str, now: datetime) -> Decision:
    """Decide whether a version may be released to a target.

    Args:
        reading: verified entries up to the size the decision is about.
        model: model key.
        version: model version.
        target: deployment target such as "production".
        now: the time the decision is made for, with time zone.

    Returns:
        The decision with every reason. It does not raise for what entries after the genesis entry hold.

    Raises:
        RecordError, PolicyError: if the ledger has no genesis entry that this release can read.
    """
    case = _Case(reading, model, version, now)
    for seq, problem in (*case.people.problems, *case.in_force.problems):
        if seq == 0:
            case.block("genesis_unsigned", f"entry 0: {problem}", "the founders")
        case.notes.append(f"entry {seq} has no effect: {problem}")
    for seq, problem in case.in_force.unreadable:
        case.block("policy_unreadable", f"the policy of entry {seq} cannot be read: {problem}", "a workspace admin")
    registered = reading.latest(ModelRegistered, f"model/{model}")
    tier = registered.record.risk_tier if registered else ""
    _tier_kept(case, tier)
    training = _training(case)
    evaluation = _evaluation(case, training)
    package = _package(case, training, evaluation)
    if registered is None:
        case.block("model_unknown", f"no model {model!r} is registered in this ledger", "the model's engineer")
    _datasets(case, training, evaluation)
    stages, gate_seqs = _stages(case, tier, training, evaluation, package, target)
    _attribution(case, training, package)
    relied_on = _relied_on(case, training, evaluation, stages)
    round_id = _round(package, stages)
    grant, completed = _earlier(case, target, round_id, package)
    _readable(case, relied_on)
    if completed is not None:
        case.block(
            "already_released",
            f"these approvals were used on {target} already (entry {completed.seq}); a new release needs a new version "
            "or new sign-offs",
        )
    return Decision(
        model=model,
        version=version,
        target=target,
        size=reading.size,
        at=now,
        released=not case.reasons,
        reasons=tuple(case.reasons),
        stages=tuple(stages),
        tier=tier,
        policy_digest=case.in_force.digest,
        package=package,
        training=training,
        evaluation=evaluation,
        gate_seqs=gate_seqs,
        relied_on=tuple(sorted(relied_on)),
        round=round_id,
        notes=tuple(case.notes),
        grant=grant,
        completed=completed,
    )


def _tier_kept(case: _Case, tier: str) -> None:
    """Registering a model is no signed act, so it may add sign-off stages but not take any away."""
    tiers = case.policy.tiers

    def signed(name: str) -> set[str]:
        stages = tiers[name].stages if name in tiers else ()
        return {stage for stage in stages if case.policy.stages[stage].kind == "sign_off"}

    for item in case.reading.all(ModelRegistered, f"model/{case.model}"):
        lost = signed(item.record.risk_tier) - signed(tier)
        if lost:
            case.block(
                "tier_lowered",
                f"entry {item.seq} registered the model as {item.record.risk_tier!r}, now it is {tier!r}: that would skip "
                f"{', '.join(sorted(lost))}",
                "the model's engineer (register the former tier again)",
            )
            return


def _training(case: _Case) -> Recorded[TrainingRun] | None:
    runs = case.reading.all(TrainingRun, case.subject)
    if not case.reading.all(VersionOpened, case.subject):
        case.block(
            "version_unknown", f"version {case.version} of {case.model} was never opened", "the model's engineer"
        )
        return None
    if not runs:
        case.block("not_trained", "the version has no sealed training run", "the model's engineer")
        return None
    if len(runs) > 1:
        seqs = ", ".join(str(item.seq) for item in runs)
        case.block("trained_twice", f"two sealed training runs claim this version (entries {seqs})", "a new version")
    return runs[0]


def _evaluation(case: _Case, training: Recorded[TrainingRun] | None) -> Recorded[Evaluation] | None:
    evaluation = case.reading.latest(Evaluation, case.subject)
    if training is None:
        return None
    if evaluation is None:
        case.block("not_evaluated", "the version has no evaluation", "the model's engineer")
        return None
    record = evaluation.record
    if record.training_seq != training.seq or record.model_digest != training.record.model_file.digest:
        case.block("evaluation_of_other_model", f"evaluation entry {evaluation.seq} is about other model bytes")
    gate_set = case.reading.at(record.gate_set_seq) if record.gate_set_seq < case.reading.size else None
    if gate_set is None or not isinstance(gate_set.record, GateSetAdopted):
        case.block("no_gate_set", f"evaluation entry {evaluation.seq} names no adopted gate set", "a validator")
        return evaluation
    adopted = next(
        item for item in case.reading.all(GateSetAdopted, f"gates/{gate_set.record.name}") if item.seq == gate_set.seq
    )
    problem = check_gate_set(case.reading, adopted, case.people, case.policy)
    if problem:
        case.block("gate_set_invalid", problem, "a validator")
    started = min(training.record.started_after_seq, training.seq)
    if gate_set.seq >= started:
        case.block("gate_set_late", "the thresholds were adopted after training had started", "a new version")
    newer = [
        item.seq
        for item in case.reading.all(GateSetAdopted, f"gates/{gate_set.record.name}")
        if gate_set.seq < item.seq < started
        and item.record.model == case.model
        and check_gate_set(case.reading, item, case.people, case.policy) is None
    ]
    if newer:
        case.block("gate_set_superseded", f"entry {newer[-1]} had replaced the thresholds before training started")
    if gate_set.record.model != case.model or gate_set.record.digest != record.gate_set_digest:
        case.block("gate_set_other", "the evaluation used other thresholds than those adopted for this model")
    return evaluation


def _contradicted(evaluation: Recorded[Evaluation] | None, family: str) -> bool:
    """Whether the evaluation itself says that a gate of this family does not let the model through."""
    outcomes = evaluation.record.outcomes if evaluation is not None else ()
    return any(outcome.family == family and (outcome.status == "fail" or not outcome.passed) for outcome in outcomes)


def _package(
    case: _Case, training: Recorded[TrainingRun] | None, evaluation: Recorded[Evaluation] | None
) -> Recorded[Package] | None:
    package = case.reading.latest(Package, case.subject)
    if package is None:
        case.block("no_package", "no compliance package has been built for this version", "the model's engineer")
        return None
    record = package.record
    if training is not None and (
        record.training_seq != training.seq or record.model_digest != training.record.model_file.digest
    ):
        case.block("package_of_other_model", f"package entry {package.seq} is about other model bytes")
    if evaluation is not None and record.evaluation_seq != evaluation.seq:
        case.block("package_stale", "there is a newer evaluation than the one in the package", "rebuild the package")
    return package


def _stages(
    case: _Case,
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


def _explain_ignored(case: _Case, states: Sequence[StageState]) -> None:
    """Sign-offs that do not count explain an open stage; once the stage is done by others they are only noted."""
    open_stages = {state.name for state in states if not state.done}
    for stage, reason in case.ignored:
        if stage in open_stages:
            case.reasons.append(reason)
        case.notes.append(reason.text)


def _datasets(case: _Case, training: Recorded[TrainingRun] | None, evaluation: Recorded[Evaluation] | None) -> None:
    """Every dataset that the version names must be a snapshot entry with exactly that root, older than its use."""
    uses = [(item, training.seq) for item in training.record.datasets] if training else []
    uses += [(evaluation.record.dataset, evaluation.seq)] if evaluation else []
    for ref, used_at in uses:
        found = case.reading.at(ref.seq) if ref.seq < used_at else None
        if found is None or not isinstance(found.record, DatasetSnapshot):
            case.block(
                "dataset_unknown", f"dataset {ref.name} is not a snapshot in this ledger", "the model's engineer"
            )
        elif found.record.name != ref.name or found.record.root != ref.root:
            case.block("dataset_differs", f"dataset {ref.name}: entry {ref.seq} has another root than the one used")


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
    case: _Case,
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
    case: _Case,
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
    case: _Case, package: Recorded[Package] | None, excluded: frozenset[str], target: str, tier: str
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
    case: _Case,
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


def _attribution(case: _Case, training: Recorded[TrainingRun] | None, package: Recorded[Package] | None) -> None:
    known = case.people.standings
    unknown = list(training.record.unattributed) if training else []
    if training is not None:
        unknown += [person for person in training.record.touched_by if person not in known]
        if training.record.launched_by not in known:
            unknown.append("the training run's launcher")
    if package is not None and package.record.built_by not in known:
        unknown.append("the package's builder")
    if not unknown:
        return
    text = f"not mapped to an enrolled person: {', '.join(sorted(set(unknown)))}"
    if case.policy.unattributed == "warn":
        case.notes.append(text)
        return
    case.block("unattributed", text, "a workspace admin (add the alias with `cognify people enrol`)")


def _relied_on(
    case: _Case,
    training: Recorded[TrainingRun] | None,
    evaluation: Recorded[Evaluation] | None,
    stages: Sequence[StageState],
) -> set[str]:
    subjects = set(case.relied_on)
    if training is not None:
        subjects |= {f"dataset/{item.name}" for item in training.record.datasets}
    if evaluation is not None:
        subjects |= {f"dataset/{evaluation.record.dataset.name}", f"gates/{evaluation.record.gate_set}"}
    subjects |= {signed.person for stage in stages for signed in stage.signed}
    return subjects


def _round(package: Recorded[Package] | None, stages: Sequence[StageState]) -> str:
    """Identify an approval round: the package and the statements that count."""
    statements = sorted(signed.seq for stage in stages for signed in stage.signed)
    value = {"package": package.leaf if package else "", "sign_offs": statements}
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _earlier(
    case: _Case, target: str, round_id: str, package: Recorded[Package] | None
) -> tuple[Recorded[ReleaseGranted] | None, Recorded[DeploymentCompleted] | None]:
    grants = [
        item
        for item in case.reading.all(ReleaseGranted, case.subject)
        if (item.record.model, item.record.version) == (case.model, case.version)
        and item.record.target == target
        and item.record.round == round_id
        and package is not None
        and item.record.package_seq == package.seq
        and item.record.package_digest == package.record.package.digest
        and item.record.model_digest == package.record.model_digest
    ]
    if not grants:
        return None, None
    done = [
        item
        for item in case.reading.all(DeploymentCompleted, case.subject)
        if item.record.grant_seq in {grant.seq for grant in grants}
    ]
    return grants[-1], done[-1] if done else None


def _readable(case: _Case, relied_on: set[str]) -> None:
    """Refuse on entries of unknown kinds, erased ones that may have said no, and those by writers who may not write them."""
    seen: set[int] = set()
    erased = case.reading.erased(case.subject)
    erased += [item for item in case.reading.erased(f"model/{case.model}") if item.entry.kind == ModelRegistered.kind]
    for item in erased:
        case.block(
            "erased_entry", f"entry {item.entry.seq} ({item.entry.kind}) was erased, so nobody knows what it said"
        )
    for subject in sorted(relied_on):
        for seq, text in case.reading.unreadable(subject).items():
            if seq not in seen:
                case.block("unreadable_entry", f"entry {seq} cannot be judged: {text}", "upgrade this installation")
            seen.add(seq)
        for item in case.reading.view.history(subject):
            if item.entry.seq in seen:
                continue
            seen.add(item.entry.seq)
            problem = case.people.writer_problem(item.entry)
            if problem and item.entry.seq != 0:
                case.block("unproven_writer", problem, "a workspace admin")
