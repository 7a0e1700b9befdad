"""What one decision gathers: the case with its reasons, notes and ignored sign-offs, and the parts of its outcome."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import PolicyInForce, policy_in_force
from cognify_dagster.governance.policy.document import Policy, Stage
from cognify_dagster.governance.signing.statements import SignOffPredicate
from cognify_dagster.records import Evaluation, GateSetAdopted, Package, ReviewCompleted, TrainingRun
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class Reason:
    """Why a release is blocked: a stable code, a sentence, and who can resolve it."""

    code: str
    text: str
    resolved_by: str = ""


@dataclass(frozen=True)
class Signed:
    """A sign-off that counts. `on_behalf_of` is the person for whom a delegate signed."""

    seq: int
    person: str
    name: str
    predicate: SignOffPredicate
    strength: str = "S3"
    on_behalf_of: str | None = None

    @property
    def people(self) -> frozenset[str]:
        """Everyone whose signature this uses up: the signer, and for whom they signed."""
        return frozenset({self.person} | ({self.on_behalf_of} if self.on_behalf_of else set()))


@dataclass(frozen=True)
class StageState:
    """One stage of the version's tier: what it needs, what counts, and who can still give it (names).

    `by` says what made it done: gates, people, a change plan or broken glass.
    """

    name: str
    stage: Stage
    done: bool
    signed: tuple[Signed, ...] = ()
    gates: tuple[tuple[str, str, int | None], ...] = ()
    waiting_for: tuple[str, ...] = ()
    by: Literal["gates", "people", "plan", "break_glass"] = "people"

    @property
    def waived(self) -> bool:
        """Whether it is done without the signatures it usually needs."""
        return self.by in ("plan", "break_glass")


@dataclass(frozen=True)
class Lineage:
    """What a version is made of, as far as the ledger holds it. `data_approvers` are named only where the policy excludes them."""

    training: Recorded[TrainingRun] | None = None
    evaluation: Recorded[Evaluation] | None = None
    package: Recorded[Package] | None = None
    gate_set: Recorded[GateSetAdopted] | None = None
    data_approvers: frozenset[str] = frozenset()


class Case:
    """Everything gathered about one version while deciding."""

    def __init__(
        self,
        reading: Reading,
        model: str,
        version: str,
        now: datetime,
        target: str,
        enforces: Collection[str] = (),
    ) -> None:
        self.reading, self.model, self.version, self.now = reading, model, version, now
        self.target, self.enforces = target, frozenset(enforces)
        self.reasons: list[Reason] = []
        self.notes: list[str] = []
        self.ignored: list[tuple[str, Reason]] = []
        self.people: Directory = directory(reading)
        self.in_force: PolicyInForce = policy_in_force(reading)
        self.subject = f"model/{model}@{version}"
        self.relied_on = {self.subject, f"oversight/{model}", "policy", "people", "ledger"}

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.in_force.policy

    def block(self, code: str, text: str, resolved_by: str = "") -> None:
        """Add a reason why the release is refused."""
        self.reasons.append(Reason(code, text, resolved_by))

    def retired(self, item: Recorded[ReviewCompleted] | None) -> None:
        """Block if a review ended the use of the model."""
        if item is not None:
            name, roles = self.people.name(item.record.reviewed_by), ", ".join(self.policy.review_roles)
            text = f"{name} reviewed version {item.record.version} and retired {self.model} (entry {item.seq}): {item.record.text}"
            self.block("retired", text, f"one of the roles {roles} (`cognify model review`)")

    def without_effect(self, problems: Iterable[tuple[int, str]]) -> None:
        """Note entries that have no effect, with the reason."""
        self.notes.extend(f"entry {seq}: {text}" for seq, text in problems)

    def names(self, role: str, excluded: Collection[str] = ()) -> tuple[str, ...]:
        """Return the names of the people who hold a role now, but for some."""
        return tuple(person.name for person in self.people.with_role(role) if person.person not in excluded)
