"""Everything the ledger says about one model version, gathered once for coverage, package and documents.

Invariants: every fact comes from a verified entry and keeps its sequence number and leaf; nothing is inferred from search columns,
clocks or the evidence store; data sets are the entries that the training run pinned, not whatever is newest; policy, people and
signatures are those that governance accepts, so a sign-off whose signature does not verify is kept apart and never counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cognify_dagster.documents.coverage.consistency import Inventory, collect_before
from cognify_dagster.documents.coverage.surroundings import OversightFacts, collect_oversight
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.data import DataChangeFact, DatasetFact, data_changes, in_use, pinned
from cognify_dagster.documents.facts.earlier import (
    PreviousVersion,
    R,
    all_of,
    evaluation_of,
    first_of,
    last_of,
    live_version,
    previous_version,
)
from cognify_dagster.documents.facts.human import AttestationFact, SectionFact, human_facts
from cognify_dagster.governance import (
    SignOffPredicate,
    check_sign_off,
    classification_of,
    directory,
    policy_in_force,
)
from cognify_dagster.records import (
    DeploymentCompleted,
    Evaluation,
    ExperimentRun,
    FinalCopy,
    GateResult,
    GateSetAdopted,
    ModelRegistered,
    OverlapChecked,
    Package,
    Reconciliation,
    Record,
    ReleaseGranted,
    ReleaseRefused,
    SignOff,
    SignOffRefused,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Reading, Recorded, started_by, unknown_version


@dataclass(frozen=True)
class PersonFact:
    """A person as enrolled last. The id is opaque; the name can be erased."""

    person: str
    name: str
    title: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class PolicyFact:
    """The policy in force: digest, content, and the entry that brought it."""

    digest: str
    body: Mapping[str, Any]
    seq: int
    leaf: str


@dataclass(frozen=True)
class Statement:
    """A sign-off entry whose signature verified, with the statement that was signed."""

    seq: int
    time_us: int
    leaf: str
    actor: str
    record: SignOff
    predicate: SignOffPredicate


@dataclass(frozen=True)
class VersionFacts:
    """One model version as the first `size` entries of a ledger tell it.

    Attributes:
        origin, size, root: the ledger's identity, the number of entries read and their root hash (hex).
        trial: the ledger was opened for trial; every document says so.
        evaluation: the newest evaluation; it may belong to another training (see `evaluation_current`).
        sign_offs: the statements on this version whose signatures verify, whichever package they are about.
        invalid_sign_offs: sequence number -> why the entry does not count.
        tier: the tier in force: as people classified the model, else as governance takes it; empty where none is known.
        sections: what people wrote about the version, by section; a text in the registration is not among them.
        attestations: what people attested about the version, its model and its data, also what does not count.
        without_effect: sequence number -> why an entry about sections or attestations has no effect.
        data_changes: how each data set changed since the version released last.
        before: what the version to compare with has: the one released last, else trained last, before this one.
        oversight: retention, change plans, findings, delegations and people, as coverage asks for them.
        events: every readable entry about the version, in order.
        experiments: what the model's project recorded as experiments. They are about no version: nothing may cite them as evidence.
    """

    origin: str
    size: int
    root: str
    trial: bool
    model: str
    version: str
    registered: Recorded[ModelRegistered] | None = None
    opened: Recorded[VersionOpened] | None = None
    training: Recorded[TrainingRun] | None = None
    failures: tuple[Recorded[TrainingFailed], ...] = ()
    datasets: tuple[DatasetFact, ...] = ()
    overlaps: tuple[Recorded[OverlapChecked], ...] = ()
    evaluation: Recorded[Evaluation] | None = None
    evaluation_data: DatasetFact | None = None
    gate_set: Recorded[GateSetAdopted] | None = None
    gate_results: tuple[Recorded[GateResult], ...] = ()
    packages: tuple[Recorded[Package], ...] = ()
    final_copies: tuple[Recorded[FinalCopy], ...] = ()
    sign_offs: tuple[Statement, ...] = ()
    invalid_sign_offs: Mapping[int, str] = field(default_factory=dict)
    refused_sign_offs: tuple[Recorded[SignOffRefused], ...] = ()
    releases: tuple[Recorded[ReleaseGranted], ...] = ()
    refusals: tuple[Recorded[ReleaseRefused], ...] = ()
    deployments: tuple[Recorded[DeploymentCompleted], ...] = ()
    reconciliations: tuple[Recorded[Reconciliation], ...] = ()
    tier: str = ""
    policy: PolicyFact | None = None
    people: Mapping[str, PersonFact] = field(default_factory=dict)
    previous: PreviousVersion | None = None
    supersedes: str | None = None
    sections: Mapping[str, SectionFact] = field(default_factory=dict)
    attestations: tuple[AttestationFact, ...] = ()
    without_effect: Mapping[int, str] = field(default_factory=dict)
    data_changes: tuple[DataChangeFact, ...] = ()
    before: Inventory | None = None
    oversight: OversightFacts = field(default_factory=OversightFacts)
    events: tuple[Recorded[Record], ...] = ()
    experiments: tuple[Recorded[ExperimentRun], ...] = ()
    unreadable: Mapping[int, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The version's subject id."""
        return f"model/{self.model}@{self.version}"

    @property
    def package(self) -> Recorded[Package] | None:
        """The newest package."""
        return self.packages[-1] if self.packages else None

    @property
    def evaluation_current(self) -> bool:
        """Whether the newest evaluation is of the sealed training and of its model file."""
        if self.training is None or self.evaluation is None:
            return False
        record = self.evaluation.record
        return record.training_seq == self.training.seq and (
            record.model_digest == self.training.record.model_file.digest
        )

    @property
    def started(self) -> int | None:
        """How many entries the ledger had when the training began: as it says, and no later than its version was opened."""
        return started_by(self.training, all_of(self.events, VersionOpened)) if self.training is not None else None

    def name_of(self, person: str) -> str:
        """Return a person's name, or the id where none is on record."""
        known = self.people.get(person)
        return known.name if known else person

    def all_datasets(self) -> tuple[DatasetFact, ...]:
        """Return the pinned training data and the evaluation's data, each entry once."""
        found = {item.ref.seq: item for item in self.datasets}
        if self.evaluation_data is not None:
            found.setdefault(self.evaluation_data.ref.seq, self.evaluation_data)
        return tuple(found.values())

    def entries(self) -> dict[int, str]:
        """Return sequence number and leaf of every entry that a document may cite."""
        cited: dict[int, str] = {item.seq: item.leaf for item in self.events}
        single = [self.registered, self.gate_set, *(d.snapshot for d in self.all_datasets()), *self.overlaps]
        cited.update({item.seq: item.leaf for item in single if item is not None})
        cited.update({item.seq: item.leaf for item in self.attestations})
        for change in self.data_changes:
            cited.update(change.entries())
        cited.update(self.oversight.entries())
        if self.policy is not None:
            cited[self.policy.seq] = self.policy.leaf
        return cited


def collect(reading: Reading, model: str, version: str) -> VersionFacts:
    """Gather what the ledger says about one model version.

    Args:
        reading: verified entries.
        model: model key.
        version: version id.

    Raises:
        DocumentError: if the ledger knows no such version.
        RecordError: if the ledger does not begin with a genesis record.
    """
    subject = f"model/{model}@{version}"
    events = tuple(reading.history(subject))
    if not events:
        raise DocumentError(unknown_version(reading, model, version) or f"nothing about {subject} can be read")
    training = first_of(events, TrainingRun)
    evaluations = all_of(events, Evaluation)
    evaluation = evaluation_of(evaluations, training)
    datasets = pinned(reading, training.record.datasets) if training else ()
    evaluation_data = pinned(reading, (evaluation.record.dataset,))[0] if evaluation else None
    opened = last_of(events, VersionOpened)
    started = started_by(training, all_of(events, VersionOpened)) if training is not None else None
    previous = previous_version(reading, model, version, opened)
    statements, invalid = _statements(reading, all_of(events, SignOff))
    used = [item.ref for item in (*datasets, *([evaluation_data] if evaluation_data else []))]
    human = human_facts(reading, model, version, training, used)
    tier = classification_of(reading, directory(reading), policy_in_force(reading).policy, model).tier
    policy = _policy(reading)
    return VersionFacts(
        origin=reading.origin,
        size=reading.size,
        root=reading.view.root.hex(),
        trial=reading.trial,
        model=model,
        version=version,
        registered=reading.latest(ModelRegistered, f"model/{model}"),
        opened=opened,
        training=training,
        failures=all_of(events, TrainingFailed),
        datasets=datasets,
        overlaps=_overlaps(reading, datasets, evaluation_data),
        evaluation=evaluation,
        evaluation_data=evaluation_data,
        gate_set=_gate_set(reading, evaluation),
        gate_results=_newest_by_family(all_of(events, GateResult)),
        packages=all_of(events, Package),
        final_copies=all_of(events, FinalCopy),
        sign_offs=statements,
        invalid_sign_offs=invalid,
        refused_sign_offs=all_of(events, SignOffRefused),
        releases=all_of(events, ReleaseGranted),
        refusals=all_of(events, ReleaseRefused),
        deployments=all_of(events, DeploymentCompleted),
        reconciliations=all_of(events, Reconciliation),
        tier=tier,
        policy=policy,
        people=_people(reading),
        previous=previous,
        supersedes=live_version(reading, model, version),
        sections=human.sections,
        attestations=human.attestations,
        without_effect=human.without_effect,
        data_changes=data_changes(
            reading, in_use(datasets, started, evaluation_data, evaluation), previous.datasets_used if previous else ()
        ),
        before=collect_before(reading, model, version, previous.version if previous else None),
        oversight=collect_oversight(reading, model, version, tier, [policy.seq]),
        events=events,
        experiments=tuple(reading.all(ExperimentRun, f"experiment/{model}")),
        unreadable=reading.unreadable(subject),
    )


def _statements(reading: Reading, items: tuple[Recorded[SignOff], ...]) -> tuple[tuple[Statement, ...], dict[int, str]]:
    people = directory(reading)
    good: list[Statement] = []
    bad: dict[int, str] = {}
    for item in items:
        checked = check_sign_off(item, reading, people)
        if isinstance(checked, str):
            bad[item.seq] = checked
        else:
            good.append(Statement(item.seq, item.time_us, item.leaf, item.actor, item.record, checked))
    return tuple(good), bad


def _overlaps(
    reading: Reading, datasets: tuple[DatasetFact, ...], evaluation: DatasetFact | None
) -> tuple[Recorded[OverlapChecked], ...]:
    """Comparisons between exactly the snapshots relied on, each once; two holdouts may well share records."""
    roots = {item.ref.root for item in (*datasets, *([evaluation] if evaluation else []))}
    learned = {item.ref.root for item in datasets if item.ref.role != "holdout"}
    found: dict[int, Recorded[OverlapChecked]] = {}
    for item in datasets:
        for check in reading.all(OverlapChecked, f"dataset/{item.ref.name}"):
            pair = {check.record.train.root, check.record.holdout.root}
            if pair <= roots and pair & learned:
                found[check.seq] = check
    return tuple(found[seq] for seq in sorted(found))


def _gate_set(reading: Reading, evaluation: Recorded[Evaluation] | None) -> Recorded[GateSetAdopted] | None:
    if evaluation is None:
        return None
    wanted = evaluation.record
    found = None if wanted.gate_set_seq is None else _named(reading, wanted.gate_set_seq, GateSetAdopted)
    if found is None or (found.record.name, found.record.digest) != (wanted.gate_set, wanted.gate_set_digest):
        return None
    return found


def _named(reading: Reading, seq: int, kind: type[R]) -> Recorded[R] | None:
    """The record that another one names by its number; its subject's whole history need not be read for that."""
    found = reading.at(seq) if 0 <= seq < reading.size else None
    return next(iter(all_of((found,), kind)), None) if found is not None else None


def _newest_by_family(results: tuple[Recorded[GateResult], ...]) -> tuple[Recorded[GateResult], ...]:
    newest = {item.record.family: item for item in results}
    return tuple(sorted(newest.values(), key=lambda item: item.seq))


def _policy(reading: Reading) -> PolicyFact:
    found = policy_in_force(reading)
    leaf = reading.view.entries[found.seq].entry.leaf.hex()
    return PolicyFact(found.policy.digest, found.policy.as_json(), found.seq, leaf)


def _people(reading: Reading) -> dict[str, PersonFact]:
    people = directory(reading).people()
    return {item.person: PersonFact(item.person, item.name, item.title, item.roles) for item in people}
