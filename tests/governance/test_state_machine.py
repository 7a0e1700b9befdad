"""Random histories on a real workspace against a naive model of the policy, which shares no code with the decision.

The model is a list of what happened, in order. Whether a release is allowed is worked out from that list alone, in the
slowest and plainest way.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cognify_dagster.governance import (
    Choice,
    EntryRef,
    GovernanceError,
    ReleaseBlocked,
    SignOffDenied,
    complete,
    decide,
    request_release,
    revoke_key,
    sign_off,
)
from cognify_dagster.ledger import Outcome
from cognify_dagster.records import ReleaseGranted
from tests.governance.world import FAMILIES, MODEL, World, clone

STAGE_ROLES = [("validation", "model_validator"), ("compliance", "compliance_officer"), ("business", "business_owner")]
PEOPLE = ["vera", "carl", "olga", "ben", "mia"]
VERSIONS = ["1", "2"]
TARGETS = ["production", "staging"]


@dataclass
class Event:
    """One thing that happened. `number` is its place in the list."""

    what: str
    number: int = 0
    version: str = ""
    person: str = ""
    stage: str = ""
    role: str = ""
    target: str = ""
    package: int = -1
    undoes: int = -1
    seq: int = -1
    failing: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    used: frozenset[int] = frozenset()


@dataclass
class Model:
    """The naive model."""

    events: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> Event:
        event.number = len(self.events)
        self.events.append(event)
        return event

    def of(self, what: str, version: str) -> list[Event]:
        return [event for event in self.events if event.what == what and event.version == version]

    def roles(self, person: str, before: int) -> frozenset[str]:
        held: frozenset[str] = frozenset()
        for event in self.events[:before]:
            if event.what == "enrol" and event.person == person:
                held = event.roles
        return held

    def revoked(self, person: str, before: int | None = None) -> bool:
        return any(event.what == "revoke" and event.person == person for event in self.events[:before])

    def withdrawn(self, event: Event) -> bool:
        return any(
            other.what == "withdraw"
            and other.undoes == event.number
            and other.person == event.person
            and not self.revoked(other.person, other.number)
            for other in self.events
        )

    def standing(self, what: str, version: str) -> list[Event]:
        """Sign-offs of a kind that were signed with a valid key and not withdrawn."""
        return [
            event
            for event in self.of(what, version)
            if not self.revoked(event.person, event.number) and not self.withdrawn(event)
        ]

    def counting(self, version: str, target: str) -> frozenset[int] | None:
        """The approvals a release would stand on, or None if it is not allowed."""
        training, evaluations, packages = (self.of(what, version) for what in ("train", "evaluate", "package"))
        if len(training) != 1 or not evaluations or not packages:
            return None
        if evaluations[-1].failing or packages[-1].number < evaluations[-1].number:
            return None
        if self.standing("block", version):
            return None
        if any(event.package == packages[-1].number for event in self.standing("reject", version)):
            return None
        builders = {"ben", training[0].person, packages[-1].person}
        chosen: set[int] = set()
        signers: set[str] = set()
        after = packages[-1].number
        for stage, role in STAGE_ROLES:
            fit = [
                event
                for event in self.standing("approve", version)
                if event.stage == stage
                and event.role == role
                and event.target == target
                and event.package == packages[-1].number
                and event.number > after
                and role in self.roles(event.person, event.number)
                and not self.revoked(event.person)
                and event.person not in builders
                and event.person not in signers
            ]
            if not fit:
                return None
            after = fit[0].number
            signers |= {event.person for event in fit}
            first: dict[str, int] = {}
            for event in fit:
                first.setdefault(event.person, event.number)
            chosen |= set(first.values())
        return frozenset(chosen)

    def allowed(self, version: str, target: str) -> bool:
        counting = self.counting(version, target)
        done = [event for event in self.of("complete", version) if event.target == target]
        return counting is not None and counting not in [event.used for event in done]


TEMPLATE: World | None = None


@pytest.fixture(scope="module", autouse=True)
def _template(founded_template: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    global TEMPLATE
    world = clone(founded_template, tmp_path_factory.mktemp("machine") / "world")
    world.enrol("mia", "model_validator", "compliance_officer", "business_owner")
    world.train("0")
    TEMPLATE = world


class Release(RuleBasedStateMachine):
    """Everything that people and pipelines may do to two versions, in any order."""

    @initialize(start=st.sampled_from(["nothing", "packaged", "signed"]))
    def begin(self, start: str) -> None:
        assert TEMPLATE is not None
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.world = clone(TEMPLATE, self.folder / "world")
        self.model = Model()
        for person, role in (("vera", 0), ("carl", 1), ("olga", 2), ("ben", 0)):
            self.model.add(Event("enrol", person=person, roles=frozenset({STAGE_ROLES[role][1], "data_scientist"})))
        self.model.add(Event("enrol", person="mia", roles=frozenset(role for _, role in STAGE_ROLES)))
        if start != "nothing":
            self.train("1", "ben")
            self.evaluate("1", None)
            self.package("1", "ben")
        if start == "signed":
            for person, stage in (("vera", 0), ("carl", 1), ("olga", 2)):
                self.approve("1", person, stage, "production", False)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            ledger = self.world.workspace.ledger
            ledger.sign_checkpoint()
            assert ledger.verify(self.world.workspace.trust()).outcome is Outcome.HOLDS
            shutil.rmtree(self.folder, ignore_errors=True)

    def has(self, what: str, version: str) -> bool:
        return bool(self.model.of(what, version))

    @rule(version=st.sampled_from(VERSIONS), person=st.sampled_from(["ben", "vera"]))
    def train(self, version: str, person: str) -> None:
        if self.has("evaluate", version) and self.has("train", version) and len(self.model.events) % 3:
            return  # a second run ends the version for good, so let it be rare
        self.world.train(version, launched_by=f"person/{person}")
        self.model.add(Event("train", version=version, person=person))

    @rule(version=st.sampled_from(VERSIONS), failing=st.sampled_from([None, None, None, *FAMILIES]))
    def evaluate(self, version: str, failing: str | None) -> None:
        if len(self.model.of("train", version)) == 1:
            failed = frozenset({failing} if failing else ())
            self.world.evaluate(version, failing=failed)
            self.model.add(Event("evaluate", version=version, failing=failed))

    @rule(version=st.sampled_from(VERSIONS), person=st.sampled_from(["ben", "ben", "carl"]))
    def package(self, version: str, person: str) -> None:
        if self.has("evaluate", version):
            self.world.package(version, built_by=f"person/{person}")
            self.model.add(Event("package", version=version, person=person))

    @rule(
        version=st.sampled_from(VERSIONS),
        person=st.sampled_from(PEOPLE),
        stage=st.integers(0, 2),
        place=st.sampled_from(["production", "production", "staging"]),
        direct=st.booleans(),
    )
    def approve(self, version: str, person: str, stage: int, place: str, direct: bool) -> None:
        """Sign through `submit`, which may refuse, or straight past it, where only the decision stands guard."""
        if not self.has("package", version):
            return
        name, role = STAGE_ROLES[stage]
        event = Event("approve", version=version, person=person, stage=name, role=role, target=place)
        event.package = self.model.of("package", version)[-1].number
        if direct:
            event.seq = self.world.force(
                self.world.sign(person, "approve", version, stage=name, targets=(place,), alter={"role": role})
            )
        else:
            try:
                event.seq = self.world.approve(person, version, stage=name, targets=(place,))
            except SignOffDenied:
                return
        self.model.add(event)

    @rule(
        version=st.sampled_from(VERSIONS),
        person=st.sampled_from(["vera", "carl"]),
        what=st.sampled_from(["reject", "block"]),
    )
    def object(self, version: str, person: str, what: str) -> None:
        if not self.has("package", version):
            return
        try:
            choice = Choice(what, comments="no")  # type: ignore[arg-type]
            seq = sign_off(self.world.workspace, MODEL, version, self.world.key(person), choice).seq
        except SignOffDenied:
            return
        package = self.model.of("package", version)[-1].number
        self.model.add(Event(what, version=version, person=person, package=package, seq=seq))

    @precondition(lambda self: any(event.seq >= 0 for event in self.model.events))
    @rule(data=st.data(), who=st.sampled_from(["self", "self", "self", *PEOPLE]))
    def withdraw(self, data: st.DataObject, who: str) -> None:
        """Withdraw a sign-off, now and then somebody else's, past `submit`."""
        undone = data.draw(st.sampled_from([event for event in self.model.events if event.seq >= 0]))
        found = self.world.workspace.read().at(undone.seq)
        assert found is not None
        person = undone.person if who == "self" else who
        reference = EntryRef(entry_seq=undone.seq, entry_leaf=found.leaf)
        self.world.force(self.world.sign(person, "withdraw", undone.version, reference=reference))
        self.model.add(Event("withdraw", version=undone.version, person=person, undoes=undone.number))

    @precondition(lambda self: any(event.seq >= 0 for event in self.model.events))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Append an old signed statement once more: it changes nothing."""
        event = data.draw(st.sampled_from([event for event in self.model.events if event.seq >= 0]))
        found = self.world.workspace.read().at(event.seq)
        assert found is not None
        self.world.write(found.record)

    @precondition(lambda self: len(self.model.events) > 15)
    @rule(person=st.sampled_from(PEOPLE))
    def revoke(self, person: str) -> None:
        if not self.model.revoked(person):
            revoke_key(
                self.world.workspace, f"person/{person}", self.world.key(person).key_id, "lost", self.world.key("ada")
            )
            self.model.add(Event("revoke", person=person))

    @precondition(lambda self: len(self.model.events) > 10)
    @rule(person=st.sampled_from(PEOPLE), roles=st.sets(st.sampled_from([role for _, role in STAGE_ROLES]), min_size=1))
    def change_roles(self, person: str, roles: set[str]) -> None:
        try:
            self.world.enrol(person, *sorted(roles))
        except GovernanceError:
            return
        self.model.add(Event("enrol", person=person, roles=frozenset(roles)))

    @rule(version=st.sampled_from(VERSIONS), place=st.sampled_from(TARGETS), finish=st.booleans())
    def deploy(self, version: str, place: str, finish: bool) -> None:
        before = len(self.world.workspace.read().all(ReleaseGranted))
        try:
            grant = request_release(self.world.workspace, MODEL, version, place, f"run-{before}", "person/ben")
        except ReleaseBlocked:
            assert not self.model.allowed(version, place)
            return
        assert self.model.allowed(version, place), "a grant that the policy forbids"
        if finish:
            complete(self.world.workspace, grant, location="/srv", detail={})
            used = self.model.counting(version, place)
            assert used is not None
            self.model.add(Event("complete", version=version, target=place, used=used))

    @invariant()
    def the_decision_agrees_with_the_model(self) -> None:
        if not hasattr(self, "world"):
            return
        reading, now = self.world.workspace.read(), datetime.now(timezone.utc)
        for version in VERSIONS:
            for target in TARGETS:
                decision = decide(reading, MODEL, version, target, now)
                expected = self.model.allowed(version, target)
                assert decision.released == expected, (version, target, decision.reasons, self.model.events)


TestRelease = Release.TestCase
TestRelease.settings = settings(
    max_examples=10,
    stateful_step_count=16,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
