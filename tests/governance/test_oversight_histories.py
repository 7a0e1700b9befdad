"""Random histories of a model under oversight against a naive model of the policy, which shares no code with the decision.

The histories are real entries with real signatures, held in memory, written past every check that is made before signing: only the
decision stands guard. After every entry the decision about each version and target, and what is said to be live, is compared.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.governance import DEFAULT_POLICY_YAML, Condition, EntryRef, decide, live_state, parse_policy
from cognify_dagster.governance.policy.adoption import policy_adoption
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.decision import Decision
from cognify_dagster.governance.release.granting import _new_grant
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.statements import Head, OnBehalf, PackageRef, SignOffPredicate
from cognify_dagster.records import (
    BlockLifted,
    BreakGlassOpened,
    ChangePlanAdopted,
    ChangePlanEnded,
    ConditionClosed,
    Delegated,
    DeploymentCompleted,
    FindingOpened,
    FindingResolved,
    KeyRevoked,
    ModelAdopted,
    ModelClassified,
    ModelEvent,
    Package,
    Reconciliation,
    Record,
    ReleaseGranted,
    ReviewCompleted,
    RollbackOrdered,
    utc,
)
from tests.governance import memory
from tests.governance.memory import MODEL, ORIGIN, PUBLIC, ROLES_OF, Memory, moment
from tests.governance.naive_policy import ROLE, STAGES, Event, Naive, Rules

VERSIONS = ("1", "2", "3")
TARGETS = ("production", "canary")
SIGNERS = ("vera", "vito", "carl", "cleo", "olga", "mia", "ian", "ben", "nat", "eve")
FITTING = {"validation": "vito", "compliance": "carl", "business": "olga", "audit": "ian"}
EXPLAINING = {
    "sign_off_invalid", "role_missing", "key_revoked", "separation_of_duties", "package_rebuilt", "target_not_approved",
    "approval_expired", "approval_void",
}  # fmt: skip
FOUNDED: list[Memory] = []


@lru_cache(maxsize=4096)
def policy_of(rules: Rules) -> Policy:
    """The rules as a policy."""
    value: dict[str, Any] = yaml.safe_load(DEFAULT_POLICY_YAML)
    audit = {"kind": "sign_off", "title": "Audit", "role": "auditor", "meaning": "I audited it."}
    value["stages"] |= {"audit": audit}
    value["stages"]["compliance"]["quorum"] = rules.quorum
    value["stages"]["validation"]["further_roles"] = {"auditor": 1} if rules.further else {}
    value["tiers"] = {
        tier: {"stages": ["automated", *stages], "change_plans": rules.plans, "approval_days": rules.days}
        for tier, stages in STAGES.items()
    }
    for tier in ("low", "medium"):
        value["tiers"][tier]["approval_days"] = 365
    if rules.review != "none":
        value["tiers"]["high"] |= {"review_days": 30, "overdue_review": rules.review}
    duties = value["separation_of_duties"]
    duties["distinct_people_across_stages"] = rules.distinct
    duties["exclude"] += ["gate_set_adopter"] if rules.adopter else []
    duties["conflicts"] = [["person/ben", "person/vera"]] if rules.conflict else []
    return parse_policy(
        value
        | {
            "unclassified_tier": "high",
            "voids": list(rules.voids),
            "blocked_live": rules.blocked,
            "break_glass": {"enabled": rules.glass},
            "targets": {"production": {"after": ["canary"], "min_hours": 24}} if rules.after else {},
            "findings": {"blocking": list(rules.blocking), "max_acceptance_days": rules.accept_days},
        }
    )


class Played:
    """A history as it is written, entry by entry, beside the list of what happened."""

    def __init__(self) -> None:
        if not FOUNDED:
            FOUNDED.append(memory.founded())
        self.memory = FOUNDED[0].fork()
        self.events: list[Event] = []
        self.seqs: list[int] = []
        self.records: list[Record | None] = []

    @property
    def naive(self) -> Naive:
        return Naive(self.events, ROLES_OF)

    @property
    def day(self) -> float:
        return self.events[-1].day if self.events else 0

    def happen(self, event: Event) -> int:
        """Write what happens as entries; return its place in the list."""
        made = self.record(event)
        self.events.append(event)
        self.records.append(made if isinstance(made, Record) else None)
        self.seqs.append(self.memory.append(made, event.day) if isinstance(made, Record) else made)
        return len(self.events) - 1

    def record(self, event: Event) -> Record | int:
        version, day = event.version or "", event.day
        if event.copied >= 0:
            copied = self.records[event.copied]
            assert copied is not None
            return copied
        if event.what == "train":
            return memory.train(self.memory, version, event.who, event.rate, day)
        if event.what == "evaluate":
            return memory.evaluate(self.memory, version, event.failing, day)
        if event.what == "package":
            return memory.package(self.memory, version, event.who, day)
        if event.what == "register":
            return memory.register(self.memory, event.tier, day)
        if event.what == "data":
            root = "ef" * 32 if event.event == "changed" else "ab" * 32
            return memory.snapshot(self.memory, "loans_train", root, day)
        if event.what == "enrol":
            return memory.enrolment(self.memory, event.who, event.roles)
        if event.what in ("approve", "reject", "block", "withdraw"):
            return self.sign_off(event)
        return self.memory.sealed(self.act(event), event.signers)

    def sign_off(self, event: Event) -> Record:
        reading = self.memory.reading()
        view, about = reading.view, self.seqs[event.of]
        package = reading.latest(Package, f"model/{MODEL}@{event.version}")
        if event.what in ("approve", "reject"):
            found: Any = reading.at(about)
            package = found
        assert package is not None
        loan = self.seqs[event.loan] if event.loan >= 0 else -1
        behalf = EntryRef(entry_seq=loan, entry_leaf=self.memory.leaf(loan)) if loan >= 0 else None
        predicate = SignOffPredicate(
            ledger=ORIGIN, model=MODEL, version=str(event.version), model_digest=package.record.model_digest,
            package=PackageRef(digest=package.record.package.digest, entry_seq=package.seq, entry_leaf=package.leaf),
            decision="approve_with_conditions" if event.condition else event.what, stage=event.stage or "validation",
            role=event.role or "none", meaning="…", conditions=(condition_of(event.condition),) if event.condition else (),
            target_environments=event.targets, viewed=None, checkpoint=Head(size=view.size, root=view.root.hex()),
            policy_digest=self.policy_digest(), person=f"person/{event.who}", printed_name=event.who,
            key_id=PUBLIC[event.who].key_id, signed_at=utc(moment(event.day)),
            reference=EntryRef(entry_seq=about, entry_leaf=self.memory.leaf(about)) if event.what == "withdraw" else None,
            on_behalf_of=OnBehalf(person=f"person/{self.events[event.loan].who}", delegation=behalf) if behalf else None,
        )  # fmt: skip
        return self.memory.signed_off(predicate, event.who, real=event.signers[0][1])

    def policy_digest(self) -> str:
        return policy_of(self.naive.rules()).digest

    def act(self, event: Event) -> Record:
        version, names = event.version or "", tuple(sorted({f"person/{who}" for who, _ in event.signers}))
        one = names[0] if names else f"person/{event.who}"
        until = utc(moment(event.until)) if event.until is not None else None
        seq = self.seqs[event.of] if event.of >= 0 else 1
        about: dict[str, Any] = {"model": MODEL, "version": event.version}
        if event.what == "adopt":
            return policy_adoption(policy_of(event.rules), "x")
        if event.what == "revoke":
            who = f"person/{event.who}"
            since = self.seqs[event.since] if event.since >= 0 else None
            return KeyRevoked(
                holder=who, key_id=PUBLIC[event.who].key_id, reason="x", revoked_by=one, effective_from=since,
                envelope=UNSIGNED,
            )  # fmt: skip
        if event.what == "lend":
            return Delegated(
                delegator=one, delegate=f"person/{event.other}", role=event.role, reason="x", envelope=UNSIGNED,
                starts=utc(moment(event.day)), expires=str(until),
            )  # fmt: skip
        if event.what == "classify":
            return ModelClassified(
                model=MODEL, tier=event.tier, owner="person/olga", rationale="x", signers=names, envelopes=()
            )
        if event.what == "finding" and not event.who:
            return Reconciliation(**about, code="other", asset="model", text="forged")
        if event.what == "finding":
            return FindingOpened(**about, severity=event.severity, title="x", raised_by=one, envelope=UNSIGNED)
        if event.what == "resolve":
            return FindingResolved(
                **about, finding_seq=seq, outcome=event.outcome, reason="x", accepted_until=until, resolved_by=one,
                envelope=UNSIGNED,
            )  # fmt: skip
        if event.what == "close":
            return ConditionClosed(**about, sign_off_seq=seq, condition=0, reason="x", closed_by=one, envelope=UNSIGNED)
        if event.what == "lift":
            return BlockLifted(**about, sign_off_seq=seq, reason="x", lifted_by=names, envelopes=())
        if event.what == "event":
            who = f"person/{event.who}" if event.who else "workload/pipeline"
            return ModelEvent(**about, event=event.event, text="x", reported_by=who)
        if event.what == "glass":
            return BreakGlassOpened(
                **about, target=event.target, waived=event.stages, reason="an emergency", expires=str(until),
                signers=names, envelopes=(),
            )  # fmt: skip
        if event.what == "plan":
            bounds = {"hyperparameters": {"learning_rate": {"min": 0.05, "max": 0.2}}, "max_versions": event.most}
            return ChangePlanAdopted(
                plan="refresh", model=MODEL, base_version=version, bounds=bounds, stages=event.stages, reason="x",
                expires=str(until), signers=names, envelopes=(),
            )  # fmt: skip
        if event.what == "unplan":
            return ChangePlanEnded(model=MODEL, plan_seq=seq, reason="x", ended_by=one, envelope=UNSIGNED)
        if event.what == "order":
            return RollbackOrdered(
                **about, target=event.target, replaces_seq=seq, reason="x", ordered_by=one, envelope=UNSIGNED
            )
        if event.what == "review":
            limits = (condition_of(event.condition).model_dump(),) if event.condition else ()
            return ReviewCompleted.model_validate(
                {
                    **about, "outcome": event.outcome, "text": "x", "next_due": until, "conditions": limits,
                    "reviewed_by": one, "envelope": UNSIGNED,
                }
            )  # fmt: skip
        assert event.what == "inherit", event.what
        return ModelAdopted(**about, target=event.target, adopted_by=one, envelope=UNSIGNED)

    # --- what the decision says

    def release(self, version: str, target: str, day: float, *, finish: bool, enforces: frozenset[str]) -> None:
        """Ask for a release, as a run would; what the decision forbids leaves nothing behind."""
        decision = self.decide(version, target, day, enforces)
        if not decision.released:
            return
        found = self.naive.round(version, target, day, enforces)
        again = [n for n, event in self.naive.of("grant") if (event.target, event.rounds) == (target, found.rounds)]
        if decision.grant is None:
            record = _new_grant(decision, None)
            purpose = "break_glass" if found.glass >= 0 else "rollback" if found.order >= 0 else "release"
            assert record.purpose == purpose
            assert set(record.waived) == set(found.waived)
            assert record.plan_seq == (self.seqs[found.plan] if found.plan >= 0 else None)
            assert set(record.sign_off_seqs) == {self.seqs[n] for n in found.used}
            self.events.append(
                Event(
                    "grant", day, version, target, used=found.used, rounds=found.rounds, purpose=purpose,
                    glass=found.glass, plan=found.plan, waived=bool(found.waived),
                )
            )  # fmt: skip
            self.records.append(record)
            self.seqs.append(self.memory.append(record, day))
            again = [len(self.events) - 1]
        assert again
        assert decision.grant is None or decision.grant.seq == self.seqs[again[-1]]
        if finish:
            self.finish(again[-1], day)

    def finish(self, grant: int, day: float) -> None:
        record, seq = self.records[grant], self.seqs[grant]
        assert isinstance(record, ReleaseGranted)
        done = DeploymentCompleted(
            model=MODEL, version=record.version, target=record.target, grant_seq=seq, model_digest=record.model_digest,
            location="here", supersedes=None, detail={},
        )  # fmt: skip
        self.events.append(Event("complete", day, record.version, record.target, of=grant))
        self.records.append(done)
        self.seqs.append(self.memory.append(done, day))

    def decide(self, version: str, target: str, day: float, enforces: frozenset[str] = frozenset()) -> Decision:
        """Decide, and compare with the naive model: outcome, and which things stand against it."""
        decision = decide(self.memory.reading(), MODEL, version, target, moment(day), enforces=enforces)
        found = self.naive.round(version, target, day, enforces)
        told = {reason.code for reason in decision.reasons} - EXPLAINING
        assert told == found.against, (version, target, day, told, found, decision.reasons, decision.notes, self.events)
        assert decision.released == (not found.against)
        for reason in decision.reasons:
            assert reason.text
            assert reason.resolved_by, reason
        return decision

    def compare(self, day: float) -> None:
        """Compare everything there is to ask at a moment."""
        naive = self.naive
        for target in TARGETS:
            for version in VERSIONS:
                if naive.newest("package", version) >= 0:
                    self.decide(version, target, day)
            state = live_state(self.memory.reading(), MODEL, target, moment(day))
            assert state.standing == naive.live(target, day), (target, day, state, self.events)
            assert bool(state.reasons) == (state.standing == "suspended")


def condition_of(given: tuple[str, float]) -> Condition:
    kind, day = given
    if kind == "expiry":
        return Condition(text="x", kind="expiry", limit={"until": utc(moment(day))})
    if kind == "use_cap":
        return Condition(text="x", kind="use_cap", limit={"per_day": 10})
    return Condition(text="x", kind="remediation", due=utc(moment(day)))


# --- histories -----------------------------------------------------------------------------------------------------------


def rules(random: Random) -> Rules:
    usual = ("base_model_change", "drift_breach", "incident", "framework_change")
    return Rules(
        quorum=random.choice([1, 1, 1, 2]),
        further=random.random() < 0.15,
        distinct=random.random() < 0.85,
        conflict=random.random() < 0.15,
        adopter=random.random() < 0.15,
        voids=random.choice([usual, usual, (*usual, "data_change"), (*usual, "policy_change"), ()]),
        blocked=random.choice(["suspend", "report"]),
        glass=random.random() < 0.6,
        after=random.random() < 0.25,
        days=random.choice([180, 180, 20]),
        review=random.choice(["none", "show", "block"]),
        plans=random.random() < 0.8,
        blocking=random.choice([("high", "critical"), ("high", "critical"), ("medium",)]),
        accept_days=random.choice([180, 5]),
    )


class Drawing:
    """Draws what happens next, near enough to what makes sense that releases, live versions and exceptions are common."""

    def __init__(self, random: Random, played: Played) -> None:
        self.random, self.played = random, played
        self.day, self.quiet = played.day, False

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def rarely(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def some(self, *names: str) -> str:
        """One of these, or now and then anybody."""
        return str(self.pick(*(SIGNERS if self.rarely(5) else names)))

    def at(self, *kinds: str) -> list[int]:
        return [n for n, _ in self.played.naive.of(*kinds)]

    def happen(self, what: str, **facts: Any) -> None:
        self.played.happen(Event(what, self.day, **facts))
        self.compare()

    def compare(self) -> None:
        if not self.quiet:
            self.played.compare(self.day)

    def signed(self, what: str, names: list[str] | tuple[str, ...], **facts: Any) -> None:
        facts.setdefault("who", names[0] if names else "")
        self.happen(what, signers=tuple((name, not self.rarely(40)) for name in names), **facts)

    # --- each kind of event

    def adopt(self) -> None:
        before = self.played.naive.rules()
        names = ("ada",) if self.rarely(5) else ("ada", "finn")
        after = rules(self.random) if self.rarely(2) else replace(before, quorum=3 - before.quorum)
        self.happen("adopt", signers=tuple((name, True) for name in names), rules=after)

    def build(self, version: str | None = None) -> None:
        version = version or self.pick(*VERSIONS)
        naive = self.played.naive
        if naive.newest("train", version) < 0:
            self.played.happen(
                Event(
                    "train", self.day, version, who="vito" if self.rarely(9) else "ben", rate=self.pick(0.1, 0.15, 0.5)
                )
            )
            self.played.happen(Event("evaluate", self.day, version))
        elif self.rarely(3):
            self.happen("evaluate", version=version, failing=self.pick(None, "fairness"))
            return
        self.played.happen(Event("package", self.day, version, who="carl" if self.rarely(9) else "ben"))
        self.compare()

    def version(self) -> str | None:
        found = sorted({str(event.version) for _, event in self.played.naive.of("package")})
        return self.pick(*found) if found else None

    def approve(self, version: str | None = None, stage: str | None = None, targets: tuple[str, ...] = ()) -> None:
        version = version or self.version()
        if version is None:
            return
        usual = stage is not None
        stage = stage or self.pick("validation", "compliance", "business", "audit")
        who = FITTING[stage] if usual else self.some(FITTING[stage], "mia", "cleo", "vera")
        role = self.pick("auditor", *ROLES_OF.get(who, ())) if self.rarely(6) else ROLE[stage]
        packages = [n for n, event in self.played.naive.of("package") if event.version == version]
        loans = [n for n in self.at("lend") if self.played.events[n].other == who]
        far = self.day + self.pick(3, 20, 60)
        self.signed(
            "approve", [who], version=version, stage=stage, role=role,
            targets=targets or self.pick(TARGETS, ("production",), ("production",), ("canary",)),
            of=packages[0] if self.rarely(10) else packages[-1],
            condition=self.pick(None, None, None, ("expiry", far), ("remediation", far), ("use_cap", 1e6)),
            loan=self.pick(*loans) if loans and self.rarely(2) else -1,
        )  # fmt: skip

    def approve_all(self, version: str | None = None) -> None:
        version, naive = version or self.version(), self.played.naive
        if version is None:
            return
        package = naive.newest("package", version)
        targets = self.pick(TARGETS, TARGETS, ("production",))
        alone = self.rarely(1 if not naive.rules().distinct else 12)
        for stage in STAGES[naive.tier()]:
            for role, count in naive.wanted(stage).items():
                first = "ian" if role == "auditor" else "mia" if alone else FITTING[stage]
                for who in (first, "cleo")[:count]:
                    facts = {"stage": stage, "role": role, "targets": targets, "of": package}
                    self.happen("approve", version=version, who=who, signers=((who, True),), **facts)

    def release(self, version: str | None = None, target: str | None = None) -> None:
        version = version or self.version()
        if version is not None:
            enforces = frozenset(self.pick((), ("use_cap",)))
            target = target or self.pick("production", "production", "canary")
            self.played.release(version, target, self.day, finish=not self.rarely(6), enforces=enforces)
            self.compare()

    def late(self) -> None:
        done = {event.of for _, event in self.played.naive.of("complete")}
        open_ = [n for n in self.at("grant") if n not in done]
        if open_:
            self.played.finish(self.pick(*open_), self.day)
            self.compare()

    def fresh(self) -> str | None:
        """A version that nobody trained yet."""
        naive = self.played.naive
        return next((version for version in VERSIONS if naive.newest("train", version) < 0), None)

    def whole(self) -> None:
        """A version from training to release."""
        self.quiet = True
        version = self.fresh() or self.pick(*VERSIONS)
        self.build(version)
        self.approve_all(version)
        self.deploy(version)

    def deploy(self, version: str) -> None:
        """Release a version to production, through the canary where the policy asks for it."""
        if self.played.naive.rules().after:
            self.release(version, "canary")
            self.day += 1.5
        self.release(version, "production" if not self.rarely(5) else "canary")
        self.quiet = False
        self.compare()

    def object(self) -> None:
        version = self.version()
        if version is not None:
            what, package = self.pick("reject", "block"), self.played.naive.newest("package", version)
            self.signed(what, [self.some("carl", "vera")], version=version, of=package)

    def withdraw(self) -> None:
        found = self.at("approve", "reject", "block")
        if found:
            n = self.pick(*found)
            event = self.played.events[n]
            who = self.some("carl", "vera") if self.rarely(3) else event.who
            self.signed("withdraw", [who], version=event.version, of=n)

    def lifted(self) -> None:
        """What is blocked and then free again."""
        version = self.version()
        if version is not None:
            facts = {"version": version, "of": self.played.naive.newest("package", version)}
            self.signed("block", ["carl"], **facts)
            self.signed("lift", ["mia", "cleo"], version=version, of=self.at("block")[-1])

    def lift(self) -> None:
        blocks = self.at("block")
        if blocks:
            n = self.pick(*blocks)
            names = self.pick(("carl", "cleo"), ("mia", "cleo"), ("carl",), ("carl", "olga"), ("carl", "carl"))
            self.signed("lift", names, version=self.played.events[n].version, of=n)

    def classify(self) -> None:
        names = self.pick(("carl", "olga"), ("carl", "olga"), ("vera",), ("ian", "nat"), ("carl", "ian"))
        self.signed("classify", names, tier=self.pick(*STAGES))

    def register(self) -> None:
        self.happen("register", tier=self.pick(*STAGES))

    def finding(self) -> None:
        version = self.pick(None, self.version())
        if self.rarely(4):
            self.happen("finding", version=version, severity="high")
        else:
            self.signed(
                "finding", [self.some("vera")], version=version, severity=self.pick("medium", "high", "critical")
            )

    def resolve(self) -> None:
        found = self.at("finding")
        if found:
            n = self.pick(*found)
            outcome, version = self.pick("closed", "accepted"), self.played.events[n].version
            if self.rarely(10):
                version = None if version else "1"
            who = self.some("carl", "vera", "olga")
            until = self.day + self.pick(2, 5, 20, 200) if outcome == "accepted" else None
            self.signed("resolve", [who], version=version, of=n, outcome=outcome, until=until)

    def close(self) -> None:
        found = [n for n in self.at("approve") if self.played.events[n].condition]
        if found:
            n = self.pick(*found)
            event = self.played.events[n]
            self.signed("close", [self.some(event.who, "cleo", "ben")], version=event.version, of=n)

    def event(self) -> None:
        facts = {"version": self.pick(None, self.version()), "event": self.pick("incident", "drift_breach")}
        kind = self.pick("signed", "signed", "unsigned", "workload")
        if kind == "signed":
            who = self.some("ben", "ian", "nat")
            record_ = self.played.act(Event("event", self.day, who=who, **facts))
            assert isinstance(record_, ModelEvent)
            self.signed("event", [who], **facts)
        else:
            self.happen("event", who="vera" if kind == "unsigned" else "", **facts)

    def data(self) -> None:
        self.happen("data", event=self.pick("changed", "changed", "same"))

    def glassed(self) -> None:
        """A version that goes live by broken glass."""
        self.quiet = True
        version = self.fresh()
        if version is not None:
            self.build(version)
            if self.rarely(2):
                self.approve(version, "validation", TARGETS)
            names = self.pick(
                ("carl", "olga"), ("carl", "olga"), ("mia", "carl"), ("olga", "otto"), ("carl",), ("carl", "vito"),
                ("olga", "nat", "ian"), ("olga", "otto", "cleo"),
            )  # fmt: skip
            whole, target = ("validation", "compliance", "business"), self.pick(*TARGETS)
            facts = {"version": version, "target": target, "until": self.day + 3}
            self.signed("glass", names, **facts, stages=whole)
            if self.rarely(3):  # a later one counts before it as long as it lasts
                later = {**facts, "until": self.day + self.pick(0.5, 3)}
                self.signed("glass", ["carl", "olga"], **later, stages=("business",))
                self.copy(len(self.played.events) - 2)
            self.release(version, target)
            self.deploy(version)

    def glass(self) -> None:
        version = self.version()
        if version is not None:
            names = self.pick(
                ("carl", "olga"), ("mia", "cleo"), ("olga", "mia"), ("olga",), ("olga", "ian", "carl"), ("ben", "carl"),
                ("olga", "vera"),
            )  # fmt: skip
            stages = self.pick(("compliance", "business"), ("validation", "compliance", "business"), ("business",))
            until = self.day + self.pick(0.5, 1, 3, 4)
            self.signed("glass", names, version=version, target=self.pick(*TARGETS), stages=stages, until=until)

    def plan(self) -> None:
        done = self.at("complete")
        if done:
            names = self.pick(
                ("vito", "carl", "olga"), ("vito", "carl", "olga"), ("vera", "cleo", "olga"), ("mia", "vito", "carl"),
                ("vito", "carl"), ("ben", "carl", "olga"), ("vito", "carl", "olga", "ian"), ("mia", "carl", "vito"),
            )  # fmt: skip
            stages = self.pick(("validation", "compliance", "business"), ("validation",), ("compliance", "business"))
            base, until = self.played.events[self.pick(*done)].version, self.day + self.pick(10, 90)
            self.signed("plan", names, version=base, stages=stages, until=until, most=self.pick(None, 1))

    def unplan(self) -> None:
        plans = self.at("plan")
        if plans:
            self.signed("unplan", [self.some("vera", "ian", "nat")], of=self.pick(*plans))

    def planned(self) -> None:
        """A plan, and a version under it."""
        version, done = self.fresh(), self.at("complete")
        if version is not None and done:
            base = self.played.events[done[-1]].version
            stages = self.pick(("validation", "compliance", "business"), ("validation",))
            facts = {
                "version": base,
                "stages": stages,
                "until": self.day + self.pick(3, 90),
                "most": self.pick(None, 1),
            }
            names = self.pick(
                ("vito", "carl", "olga", "ian"), ("vito", "carl", "olga", "ian"), ("mia", "vito", "carl"), ("carl", "mia", "olga"),
                ("vito", "carl", "ian"), ("vito", "carl", "ben"), ("vera", "carl", "olga"), ("mia", "ian"), ("mia", "otto", "ian"),
            )  # fmt: skip
            early = self.rarely(6)
            if early:
                self.build(version)
            self.signed("plan", names, **facts)
            plan = len(self.played.events) - 1
            if self.rarely(3):
                self.signed("unplan", [self.pick("vito", "ian", "nat")], of=plan)
                if self.rarely(2):
                    self.copy(plan)  # what was ended stays ended
            if not early:
                self.build(version)
            self.deploy(version)
            another = self.fresh()
            if another is not None:
                self.build(another)
                self.deploy(another)

    def order(self) -> None:
        done = self.at("complete")
        if done:
            target = self.pick(*TARGETS)
            there = [n for n in done if self.played.events[n].target == target] or done
            n = self.pick(*done) if self.rarely(5) else there[-1]
            self.signed("order", [self.some("olga", "carl")], version=self.version(), target=target, of=n)

    def back(self) -> None:
        """Two versions live after each other, an order to go back, and the release that follows."""
        self.whole()
        self.whole()
        done = [event for _, event in self.played.naive.completed("production")]
        if len(done) > 1:
            places = [n for n, _ in self.played.naive.completed("production")]
            place = places[0] if self.rarely(4) else places[-1]
            self.signed("order", ["olga"], version=done[-2].version, target="production", of=place)
            self.release(done[-2].version, "production")

    def review(self) -> None:
        until = self.pick(None, None, self.day + 2, self.day + 100)
        outcome = self.pick("confirmed", "confirmed", "restricted", "retire")
        limits = ("expiry", self.day + 4), ("remediation", self.day + 4), ("use_cap", 1e6)
        limit = self.pick(*limits) if (outcome == "restricted") != self.rarely(6) else None
        facts = {"version": self.version() or "1", "until": until, "outcome": outcome, "condition": limit}
        self.signed("review", [self.some("vera", "vito")], **facts)
        if outcome == "restricted" and self.rarely(2):
            n = len(self.played.events) - 1
            self.signed("close", [self.some("vito", "cleo")], version=facts["version"], of=n)
            self.played.compare(self.day + 5)

    def retire(self) -> None:
        """A model that is retired, and used again."""
        version = self.version()
        if version is not None:
            self.signed("review", [self.some("vera", "vito")], version=version, outcome="retire")
            if not self.rarely(3):
                outcome = (
                    {"outcome": "restricted", "condition": ("use_cap", 1e6)}
                    if self.rarely(3)
                    else {"outcome": "confirmed"}
                )
                self.signed("review", [self.some("vera", "vito")], version=self.version(), **outcome)
                if self.rarely(3):
                    self.copy(len(self.played.events) - 2)  # it ended once, and its end is not said again by a copy

    def revoke(self) -> None:
        who = self.pick("vera", "vito", "carl", "cleo", "olga", "mia")
        since = self.random.randrange(len(self.played.events)) if self.rarely(2) else -1
        if since >= 0 or not self.played.naive.revoked(who, len(self.played.events)):
            self.happen("revoke", who=who, signers=(("ada", True),), since=since)

    def stolen(self) -> None:
        """A key is found to have been stolen shortly before something was signed with it, or shortly after."""
        kinds = "glass", "plan", "order", "lift", "resolve", "close", "review", "classify", "lend", "approve"
        found = [n for n in self.at(*kinds) if self.played.events[n].signers]
        if found:
            n = self.pick(*found)
            who = self.pick(*(name for name, _ in self.played.events[n].signers))
            since = min(n + self.pick(0, 0, 1), len(self.played.events) - 1)
            if who in PUBLIC and who in ROLES_OF:
                self.happen("revoke", who=who, signers=(("ada", True),), since=since)

    def twice(self) -> None:
        """A deployment is said to have completed once more."""
        done = self.at("complete")
        if done:
            self.played.finish(self.played.events[self.pick(*done)].of, self.day)
            self.compare()

    def stopped(self) -> None:
        """A plan, something that voids what people approved by it, and a version under it."""
        version, done = self.fresh(), self.at("complete")
        if version is not None and done:
            base = str(self.played.events[done[-1]].version)
            facts = {"version": base, "stages": ("validation", "compliance", "business"), "until": self.day + 90}
            self.signed("plan", ("vito", "carl", "olga", "ian"), **facts)
            plan = len(self.played.events) - 1
            about = self.pick(None, base, base, version, "1")
            if about == version or self.rarely(2):
                self.build(version)
                if self.rarely(2):
                    self.release(version, "production")
            self.signed("event", ["ben"], version=about, event=self.pick("incident", "data_change"))
            another = version if self.played.naive.newest("train", version) < 0 else self.fresh()
            if self.rarely(3):
                self.copy(plan)  # adopting anew is no copy of what was signed before
            if self.rarely(3):
                self.signed("plan", ("vito", "carl", "olga", "ian"), **facts)
            if another is not None:
                self.build(another)
                self.deploy(another)

    def enrol(self) -> None:
        who = self.pick("vera", "vito", "carl", "olga", "mia", "nat")
        if not self.played.naive.revoked(who, len(self.played.events)):
            roles = self.pick((), ("model_validator",), ("compliance_officer", "business_owner"), ROLES_OF[who])
            self.happen("enrol", who=who, roles=roles)

    def lend(self) -> None:
        who = self.pick("carl", "olga", "vito")
        role = "auditor" if self.rarely(6) else ROLES_OF[who][0]
        other, until = self.pick("nat", "mia", "ian"), self.day + self.pick(1, 10)
        self.signed("lend", [who], other=other, role=role, until=until)

    def lent(self) -> None:
        """A role lent, and a sign-off with it."""
        self.lend()
        loan = self.at("lend")[-1]
        event, version = self.played.events[loan], self.version()
        stage = next((stage for stage, role in ROLE.items() if role == event.role), "validation")
        if version is not None:
            package = self.played.naive.newest("package", version)
            facts = {"stage": stage, "role": event.role, "targets": TARGETS, "of": package, "loan": loan}
            self.signed("approve", [event.other], version=version, **facts)
            if self.rarely(3):  # who lent it finds out that somebody else had the key, by then or since
                self.happen("revoke", who=event.who, signers=(("ada", True),), since=loan + self.pick(0, 1))

    def again(self) -> None:
        """A record that stands in the ledger is written once more, with its signatures."""
        kinds = (
            "approve", "reject", "block", "withdraw", "classify", "resolve", "close", "lift", "event", "glass", "plan", "order",
            "review", "finding",
        )  # fmt: skip
        found = [n for n in self.at(*kinds) if self.played.events[n].copied < 0]
        if found:
            n = self.pick(*found)
            self.copy(n)

    def copy(self, n: int) -> None:
        self.played.happen(replace(self.played.events[n], day=self.day, copied=n))
        self.compare()

    def reviewed(self) -> None:
        """A review, written once more later on: it counts from when it was made."""
        done = self.at("complete")
        if done:
            facts = {"version": self.played.events[done[-1]].version, "until": self.pick(None, self.day + 100)}
            self.signed("review", ["vito"], **facts, outcome="confirmed")
            n = len(self.played.events) - 1
            self.day += 20
            self.copy(n)
            self.played.compare(self.day + 15)

    def reported(self) -> None:
        """An incident after which people sign again; the same report written once more takes nothing from that."""
        version = self.version()
        if version is not None:
            self.signed("event", ["ben"], version=version, event="incident")
            n = len(self.played.events) - 1
            self.approve_all(version)
            self.copy(n)

    def reclassified(self) -> None:
        """A lower tier, signed by two, and the usual one again; the first act written once more changes nothing."""
        self.happen("register", tier="low")
        self.signed("classify", ["carl", "olga"], tier=self.pick("medium", "low"))
        first = len(self.played.events) - 1
        self.signed("classify", ["vera"], tier="high")
        self.copy(first)

    def accepted(self) -> None:
        """A risk accepted for long, then for a shorter time; the first word written once more is not the last."""
        self.signed("finding", ["vera"], version=None, severity=self.pick("medium", "high"))
        finding = len(self.played.events) - 1
        for days in (self.pick(5, 20), 2):
            facts = {"of": finding, "outcome": "accepted", "until": self.day + days}
            self.signed("resolve", ["carl"], version=None, **facts)
        self.copy(len(self.played.events) - 2)
        self.played.compare(self.day + 3)
        if self.rarely(2):  # what is closed is not opened again by accepting it
            self.signed("resolve", ["carl"], version=None, of=finding, outcome="closed")
            self.signed("resolve", ["carl"], version=None, of=finding, outcome="accepted", until=self.day + 1)
            self.played.compare(self.day + 3)

    def inherit(self) -> None:
        self.signed("inherit", ["carl"], version="0", target=self.pick(*TARGETS))

    def wait(self) -> None:
        self.played.compare(self.day + self.pick(1, 4, 25, 70))


COMMON = ("build", "approve", "approve", "approve_all", "approve_all", "release", "release", "whole", "wait")
RARE = (
    "adopt", "late", "object", "object", "withdraw", "lift", "lifted", "lifted", "classify", "classify", "register", "finding", "resolve", "resolve",
    "close", "event", "data", "glass", "glassed", "glassed", "plan", "unplan", "planned", "planned", "order", "back", "review", "retire", "revoke", "stolen", "stolen", "stopped", "stopped", "twice", "enrol", "lend",
    "lent", "again", "again", "inherit", "reviewed", "reviewed", "reported", "reclassified", "reported", "accepted", "accepted",
)  # fmt: skip
EXAMPLES = int(os.environ.get("COGNIFY_RELEASE_HISTORIES", "100"))


@pytest.mark.timeout(120 + 3 * EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(random=st.randoms(use_true_random=True))
def test_decisions_and_what_is_live_agree_with_the_policy(random: Random) -> None:
    played = Played()
    played.happen(Event("adopt", 0, signers=(("ada", True), ("finn", True)), rules=rules(random)))
    start = random.choice(["nothing", "whole", "whole", "back", "glassed"])
    if start != "nothing":
        getattr(Drawing(random, played), start)()
    for _ in range(random.randrange(3, 16)):
        drawing = Drawing(random, played)
        drawing.day += random.choice([0, 0, 0.5, 1, 3, 12])
        getattr(drawing, random.choice(random.choice([COMMON, RARE])))()
