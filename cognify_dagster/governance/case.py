"""What one decision gathers: the case with its reasons, notes and ignored sign-offs, and the parts of its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance.enrol import PolicyInForce, policy_in_force
from cognify_dagster.governance.people import Directory, directory
from cognify_dagster.governance.policy import Policy, Stage
from cognify_dagster.governance.statements import SignOffPredicate
from cognify_dagster.workspace import Reading


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


class Case:
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
