"""Who is responsible, accountable, consulted and informed for a model, derived from recorded facts alone.

How it is derived. Responsible: who did it, as the ledger records it for the version; for what people sign, who may sign it
now; for what nobody records, whom the signed classification names (`responsible`, activity to person), who is also added
where that names one of the activities here. Accountable: the owner of the signed classification; for a sign-off whoever gave
it, as long as nobody did those who may. Consulted: who prepared the work that is judged, or on which it builds. Informed: who
signs later, and for sign-offs the owner. Nobody is named twice in a row: accountable and responsible may be the same person,
consulted and informed are others. A machine is named where no person is known, and counts as a gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance.oversight.classification import Classification, classification_of
from cognify_dagster.governance.policy.document import Stage
from cognify_dagster.governance.release.case import Case, Lineage
from cognify_dagster.governance.release.decision import decide
from cognify_dagster.governance.release.history import live
from cognify_dagster.governance.release.involvement import base_lineage, excluded_people
from cognify_dagster.records import DatasetSnapshot, TrainingRun
from cognify_dagster.workspace import Reading


@dataclass(frozen=True)
class Duty:
    """One activity and the people (or machines) in it, by id. `basis` says which facts it follows from."""

    activity: str
    title: str
    responsible: tuple[str, ...]
    accountable: tuple[str, ...]
    consulted: tuple[str, ...]
    informed: tuple[str, ...]
    basis: str

    @property
    def gap(self) -> str:
        """What is missing; empty if somebody is responsible and somebody accountable."""
        if not _persons(self.responsible):
            return f"no person is known to be responsible; `cognify model classify … --responsible {self.activity}=person/…`"
        return "" if self.accountable else "nobody is accountable"


@dataclass(frozen=True)
class Raci:
    """The table of a model. `version` is the one whose facts it is made of, None if none was trained."""

    model: str
    version: str | None
    classified: Classification
    duties: tuple[Duty, ...]
    names: dict[str, str]

    def name(self, who: str) -> str:
        """Return the name of a person, or the id of a machine."""
        return self.names.get(who, who)


def raci(reading: Reading, model: str, version: str | None, target: str, now: datetime) -> Raci:
    """Derive the table of a model.

    Args:
        reading: verified entries.
        model: model key.
        version: the version whose makers and signers are named; the newest trained one unless given.
        target: deployment target.
        now: roles and delegations count as of this moment.
    """
    runs = reading.all(TrainingRun, f"model/{model}")
    chosen = version or (runs[-1].record.version if runs else None)
    case = Case(reading, model, chosen or "", now, target)
    found = classification_of(reading, case.people, case.policy, model)
    builder = _Table(case, found, base_lineage(reading, model, chosen) if chosen else Lineage())
    duties = builder.duties()
    everyone = {who for duty in duties for group in _groups(duty) for who in group}
    names = {who: case.people.name(who) for who in everyone if who.startswith("person/")}
    return Raci(model, chosen, found, duties, names)


def _groups(duty: Duty) -> tuple[tuple[str, ...], ...]:
    return (duty.responsible, duty.accountable, duty.consulted, duty.informed)


def _persons(found: Iterable[str]) -> list[str]:
    return [who for who in found if who.startswith("person/")]


class _Table:
    def __init__(self, case: Case, found: Classification, lineage: Lineage) -> None:
        self.case, self.lineage = case, lineage
        self.named = dict(found.signed.record.responsible) if found.signed else {}
        self.owner = (found.signed.record.owner,) if found.signed else ()
        self.excluded = excluded_people(case.policy, lineage)
        tier = found.tier if found.tier in case.policy.tiers else ""
        self.stages = case.policy.stages_of(tier) if tier else []
        self.signers = {name: self._may_sign(stage) for name, stage in self.stages if stage.kind == "sign_off"}

    def duties(self) -> tuple[Duty, ...]:
        training = self.lineage.training.record if self.lineage.training else None
        package = self.lineage.package.record if self.lineage.package else None
        data = self._recorders()
        makers = {training.launched_by, *training.touched_by} if training else set()
        builders = {package.built_by} if package else set()
        launchers = {training.launched_by} if training else set()
        everybody = {who for group in self.signers.values() for who in group}
        rows = [
            self._row("data", "Data: record the snapshots", data, makers, everybody, "who recorded the datasets"),
            self._row(
                "training", "Build and train", makers, data, everybody, "launcher and authors of the training run"
            ),
            self._row("package", "Build the package", builders, makers, everybody, "who built the newest package"),
        ]
        for name, stage in self.stages:
            title = stage.title or name
            if stage.kind == "automated":
                rows.append(
                    self._row(name, title, launchers, set(), everybody, "who launched the run that is measured")
                )
            else:
                rows.append(self._signed(name, title, makers | builders | data))
        rows += self._in_use(makers | builders, everybody)
        known = {row.activity for row in rows}
        rows += [
            self._row(activity, activity, {person}, set(), everybody, "the signed classification")
            for activity, person in sorted(self.named.items())
            if activity not in known
        ]
        return tuple(rows)

    def _may_sign(self, stage: Stage) -> frozenset[str]:
        seq, now_us = self.case.reading.size, int(self.case.now.timestamp() * 1_000_000)
        holders = [
            person.person for role in stage.wanted for person in self.case.people.role_holders_at(role, seq, now_us)
        ]
        return frozenset(holders) - self.excluded

    def _recorders(self) -> set[str]:
        refs = self.lineage.training.record.datasets if self.lineage.training else ()
        found = [self.case.reading.at(ref.seq) for ref in refs]
        return {item.actor for item in found if item is not None and isinstance(item.record, DatasetSnapshot)}

    def _signed(self, name: str, title: str, makers: set[str]) -> Duty:
        """A stage that people sign: whoever gave the sign-off answers for it."""
        may = set(self.signers[name])
        given: set[str] = set()
        if self.case.version:
            decision = decide(self.case.reading, self.case.model, self.case.version, self.case.target, self.case.now)
            state = next((item for item in decision.stages if item.name == name), None)
            given = {signed.on_behalf_of or signed.person for signed in state.signed} if state else set()
        later = {who for other, group in self.signers.items() if other != name for who in group}
        basis = "who signed it" if given else "who holds the stage's role and had no hand in the version"
        return self._row(name, title, given or may, makers, later | set(self.owner), basis, accountable=given or may)

    def _in_use(self, makers: set[str], everybody: set[str]) -> list[Duty]:
        """Release, periodic review, stopping: what comes after the sign-offs."""
        policy, people = self.case.policy, self.case.people
        seq, now_us = self.case.reading.size, int(self.case.now.timestamp() * 1_000_000)

        def holders(roles: Iterable[str]) -> set[str]:
            return {item.person for role in roles for item in people.role_holders_at(role, seq, now_us)}

        current = live(self.case.reading, self.case.model, self.case.target)
        deployed = {current.actor} if current is not None else set()
        stoppers = holders(policy.blockers)
        return [
            self._row(
                "release", "Deploy", deployed, set(), everybody | makers, "who wrote the newest deployment entry"
            ),
            self._row(
                "review", "Periodic review", holders(policy.review_roles), makers, everybody, "who holds a review role"
            ),
            self._row(
                "block", "Stop a release", stoppers, set(), everybody | makers, "who may block", accountable=stoppers
            ),
        ]

    def _row(
        self,
        activity: str,
        title: str,
        responsible: set[str],
        consulted: set[str],
        informed: set[str],
        basis: str,
        accountable: set[str] | None = None,
    ) -> Duty:
        named = self.named.get(activity)
        does = {who for who in responsible if who != "unattributed"} | ({named} if named else set())
        if _persons(does):
            does = set(_persons(does))
        answers = set(self.owner) if accountable is None else set(accountable)
        asked = {who for who in consulted if who.startswith("person/")} - does - answers
        told = {who for who in informed if who.startswith("person/")} - does - answers - asked
        full = f"{basis}; the signed classification" if named and basis != "the signed classification" else basis
        return Duty(
            activity,
            title,
            tuple(sorted(does)),
            tuple(sorted(answers)),
            tuple(sorted(asked)),
            tuple(sorted(told)),
            full,
        )
