"""What the policy says, worked out from a plain list of what happened. It shares no code with the governance room.

Each question walks the list from its beginning, in the slowest and plainest way. Events are known by their place in the list.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields

STAGES = {
    "low": (),
    "medium": ("compliance",),
    "high": ("validation", "compliance", "business"),
    "audited": ("validation", "compliance", "business", "audit"),
    "other": ("audit",),
}
UNCLASSIFIED = "high"
ROLE = {
    "validation": "model_validator",
    "compliance": "compliance_officer",
    "business": "business_owner",
    "audit": "auditor",
}
CLASSIFIERS = {"compliance_officer", "model_validator", "business_owner"}
BLOCKERS = {"compliance_officer"}
CLOSERS = {"model_validator", "compliance_officer"}
ACCEPTERS = {"compliance_officer", "business_owner"}
ORDERERS = {"ml_engineer", "business_owner", "compliance_officer"}
GLASS = {"business_owner", "compliance_officer"}
REVIEWERS = {"model_validator"}
ACTING = {*CLASSIFIERS, "data_scientist", "ml_engineer", "workspace_admin"}


@dataclass(frozen=True)
class Rules:
    """What one policy says differently from another."""

    quorum: int = 1
    further: bool = False
    distinct: bool = True
    conflict: bool = False
    adopter: bool = False
    voids: tuple[str, ...] = ("base_model_change", "drift_breach", "incident", "framework_change")
    blocked: str = "suspend"
    glass: bool = False
    after: bool = False
    days: int = 180
    review: str = "none"
    plans: bool = True
    blocking: tuple[str, ...] = ("high", "critical")
    accept_days: int = 180


@dataclass(frozen=True, repr=False)
class Event:
    """One thing that happened on a day. Which fields matter depends on what it is."""

    what: str
    day: float = 0
    version: str | None = None
    target: str = "production"
    who: str = ""
    other: str = ""
    role: str = ""
    stage: str = ""
    targets: tuple[str, ...] = ()
    condition: tuple[str, float] | None = None
    signers: tuple[tuple[str, bool], ...] = ()
    of: int = -1
    loan: int = -1
    roles: tuple[str, ...] = ()
    tier: str = ""
    severity: str = ""
    outcome: str = ""
    until: float | None = None
    rate: float = 0.1
    most: int | None = None
    failing: str | None = None
    stages: tuple[str, ...] = ()
    rules: Rules = Rules()
    event: str = ""
    copied: int = -1
    used: frozenset[int] = frozenset()
    rounds: tuple[object, ...] = ()
    purpose: str = ""
    glass: int = -1
    plan: int = -1
    waived: bool = False
    since: int = -1

    def __repr__(self) -> str:
        """Only what differs from a blank event, so that a failing history can be read."""
        told = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("what", "day")}
        usual = {item.name: item.default for item in fields(self)}
        return f"{self.day}:{self.what}({', '.join(f'{k}={v}' for k, v in told.items() if v != usual[k])})"


@dataclass
class Round:
    """What a release of a version would rest on, and what stands against it."""

    against: set[str] = field(default_factory=set)
    used: frozenset[int] = frozenset()
    rounds: tuple[object, ...] = ()
    waived: dict[str, str] = field(default_factory=dict)
    glass: int = -1
    plan: int = -1
    order: int = -1


class Naive:
    """Everything that can be asked about a list of events, at its end."""

    def __init__(self, events: list[Event], roles: dict[str, tuple[str, ...]]) -> None:
        self.events, self.first = events, roles

    def of(self, *kinds: str) -> Iterator[tuple[int, Event]]:
        return ((n, event) for n, event in enumerate(self.events) if event.what in kinds)

    # --- people

    def rules(self, before: int | None = None) -> Rules:
        found = Rules()
        for n, event in self.of("adopt"):
            if (before is None or n < before) and len(event.signers) >= 2:
                found = event.rules
        return found

    def roles(self, who: str, n: int) -> set[str]:
        held = set(self.first.get(who, ()))
        for at, event in self.of("enrol"):
            if at < n and event.who == who:
                held = set(event.roles)
        return held

    def revoked(self, who: str, n: int) -> bool:
        return any(at < n and event.who == who for at, event in self.of("revoke"))

    def distrusted(self, who: str, n: int) -> bool:
        """Whether somebody's key was revoked, now or later, with effect from an event up to this one."""
        return any(event.who == who and 0 <= event.since <= n for _, event in self.of("revoke"))

    def genuine(self, who: str, real: bool, n: int) -> bool:
        return real and who in self.first and not self.revoked(who, n)

    def act(self, n: int, roles: set[str], needed: int = 1, *, allows: bool = True) -> bool:
        signers = self.events[n].signers
        if allows and any(self.distrusted(who, n) for who, _ in signers):
            return False
        able = {who for who, _ in signers if self.roles(who, n) & roles}
        return all(self.genuine(who, real, n) for who, real in signers) and len(able) >= needed

    def effective(self, kind: str, counts: Callable[[int, Event], bool]) -> Iterator[tuple[int, Event]]:
        """The events that count; what was signed has its effect once, however often it is sent."""
        spent: set[int] = set()
        for n, event in self.of(kind):
            origin = event.copied if event.copied >= 0 and event.signers else n
            if counts(n, event) and origin not in spent:
                spent.add(origin)
                yield n, event

    def lent(self, n: int, event: Event) -> bool:
        """Whether a sign-off on behalf of somebody has a delegation that allows it."""
        loan = self.events[event.loan]
        begun = event.loan < n and event.day < (loan.until or 0)
        lender, taken = loan.who, range(event.loan + 1, n)
        if not begun or (loan.other, loan.role) != (event.who, event.role) or not self.act(event.loan, {loan.role}):
            return False
        if self.distrusted(lender, event.loan):
            return False
        if loan.other == loan.who or self.revoked(loan.other, event.loan) or loan.role == "workspace_admin":
            return False
        lost = any(
            self.events[at].who == lender
            and (
                self.events[at].what == "revoke"
                or (self.events[at].what == "enrol" and loan.role not in self.events[at].roles)
            )
            for at in taken
        )
        return not lost

    # --- what a version is

    def newest(self, what: str, version: str | None) -> int:
        return max((n for n, event in self.of(what) if event.version == version), default=-1)

    def content(self, package: int) -> tuple[str | None, int]:
        """Which bytes a package has: the second one of a version has those of the first."""
        version = self.events[package].version
        return version, (1 + sum(n < package and other.version == version for n, other in self.of("package"))) // 3

    def hands(self, version: str) -> set[str]:
        train, package = self.newest("train", version), self.newest("package", version)
        found = {"ben", self.events[train].who} if train >= 0 else set()
        found |= {self.events[package].who} if package >= 0 else set()
        if self.rules().adopter and self.newest("evaluate", version) >= 0:
            found.add("vera")
        return found | ({"ben", "vera"} if self.rules().conflict and found & {"ben", "vera"} else set())

    def tier(self) -> str:
        registered = [event.tier for _, event in self.of("register")][-1:] or ["high"]
        asked = STAGES[registered[0]]
        now = registered[0] if set(asked) >= set(STAGES[UNCLASSIFIED]) else UNCLASSIFIED
        spent: set[int] = set()
        for n, event in self.of("classify"):
            fewer = bool(set(STAGES[now]) - set(STAGES[event.tier]))
            origin = event.copied if event.copied >= 0 else n
            more = set(STAGES[event.tier]) > set(STAGES[now])
            if origin not in spent and self.act(n, CLASSIFIERS, 2 if fewer else 1, allows=not more):
                spent.add(origin)
                now = event.tier
        return registered[0] if set(asked) > set(STAGES[now]) else now

    def wanted(self, stage: str) -> dict[str, int]:
        need = {ROLE[stage]: self.rules().quorum if stage == "compliance" else 1}
        return need | ({"auditor": 1} if stage == "validation" and self.rules().further else {})

    # --- sign-offs

    def valid(self, what: str, version: str) -> list[tuple[int, Event]]:
        found, seen = [], set()
        for n, event in self.of(what):
            origin = event.copied if event.copied >= 0 else n
            if event.version == version and self.genuine(event.who, event.signers[0][1], n) and origin not in seen:
                seen.add(origin)
                found.append((n, event))
        return found

    def standing(self, what: str, version: str) -> list[tuple[int, Event]]:
        gone = {(event.of, event.who) for _, event in self.valid("withdraw", version)}
        return [(n, event) for n, event in self.valid(what, version) if (n, event.who) not in gone]

    def signers(self, event: Event) -> set[str]:
        return {event.who} | ({self.events[event.loan].who} if event.loan >= 0 else set())

    def void_after(self, version: str, *, data: bool) -> list[int]:
        rules = self.rules()
        found = [
            n
            for n, event in self.effective("event", self.reported)
            if event.version in (None, version) and event.event in rules.voids
        ]
        if data and "data_change" in rules.voids:
            changed = [n for n, event in self.of("data")][-1:]
            found += [n for n in changed if self.events[n].event == "changed"]
        return found

    def reported(self, n: int, event: Event) -> bool:
        if event.who == "":
            return True
        return bool(event.signers) and self.act(n, ACTING, allows=False)

    def approvals(self, version: str, target: str, day: float) -> list[tuple[int, Event]]:
        package, hands, rules = self.newest("package", version), self.hands(version), self.rules()
        voids = self.void_after(version, data=True)
        found = []
        for n, event in self.standing("approve", version):
            own = event.role in self.roles(event.who, n) if event.loan < 0 else self.lent(n, event)
            if not own or event.of != package or self.revoked(event.who, len(self.events)):
                continue
            if self.signers(event) & hands or target not in event.targets or day - event.day > self.lifetime():
                continue
            if event.condition is not None and event.condition[0] == "expiry" and event.condition[1] <= day:
                continue
            if any(at > n for at in voids) or ("policy_change" in rules.voids and self.rules(n) != rules):
                continue
            found.append((n, event))
        return found

    def lifetime(self) -> int:
        return self.rules().days if self.tier() not in ("low", "medium") else 365

    def stages(self, version: str, target: str, day: float, waived: dict[str, str]) -> tuple[Round, list[int]]:
        found, used, signed = Round(), set[str](), list[int]()
        floor = self.newest("package", version)
        counting = self.approvals(version, target, day)
        for stage in STAGES[self.tier()]:
            wanted, taken, mine = self.wanted(stage), set[str](), list[tuple[int, Event]]()
            for n, event in counting:
                people = self.signers(event)
                if n > floor and not people & (used | taken) and event.stage == stage and event.role in wanted:
                    taken |= people
                    mine.append((n, event))
            signed += [n for n, _ in mine]
            full = all(sum(event.role == role for _, event in mine) >= count for role, count in wanted.items())
            if full:
                first = [[n for n, event in mine if event.role == role][count - 1] for role, count in wanted.items()]
                floor = max([floor, *first])
            elif stage in waived:
                found.waived[stage] = waived[stage]
            else:
                found.against.add(f"stage_{stage}")
            if self.rules().distinct:
                used |= taken
        return found, signed

    # --- what stands against a release

    def round(self, version: str, target: str, day: float, enforces: frozenset[str]) -> Round:
        plan, glass = self.plan(version, target, day), self.glass(version, target, day)
        waived = dict.fromkeys(self.events[glass].stages, "glass") if glass >= 0 else {}
        waived |= dict.fromkeys(self.events[plan].stages, "plan") if plan >= 0 else {}
        found, signed = self.stages(version, target, day, waived)
        against, rules = found.against, self.rules()
        found.used = frozenset(signed)
        evaluation, package = self.newest("evaluate", version), self.newest("package", version)
        done = not against and not self.events[evaluation].failing
        if self.events[evaluation].failing:
            against.add(f"gate_{self.events[evaluation].failing}")
        if package < evaluation:
            against.add("package_stale")
        if self.blocked(version):
            against.add("blocked")
        if any(self.content(event.of) == self.content(package) for _, event in self.standing("reject", version)):
            against.add("rejected")
        if any(state == "open" or state == "lapsed" for _, state in self.findings(version, day)):
            against.add("finding_open")
        conditions = self.conditions(version, signed)
        if self.late(conditions, day):
            against.add("condition_overdue")
        if any(kind == "use_cap" and kind not in enforces for kind, _, _ in conditions):
            against.add("condition_unenforced")
        if self.retired():
            against.add("retired")
        if rules.review == "block" and self.tier() == "high" and self.overdue(target, day):
            against.add("review_overdue")
        if rules.after and target == "production":
            canary = [n for n, event in self.completed("canary") if event.version == version]
            if not canary or self.events[canary[0]].day + 1 > day:
                against.add("target_order")
        found.order = self.order(version, target)
        found.plan = plan if "plan" in found.waived.values() else -1
        found.glass = glass if "glass" in found.waived.values() else -1
        found.rounds = (package, found.used, found.plan, found.glass, found.order)
        if done and found.order < 0 and self.spent(version, target, found):
            against.add("already_released")
        return found

    def spent(self, version: str, target: str, found: Round) -> bool:
        """Whether these approvals, or more of them, went live before."""
        return any(
            (event.version, event.target) == (version, target)
            and event.rounds[0] == found.rounds[0]
            and (event.rounds == found.rounds or found.used <= event.used)
            and any(other.of == n for _, other in self.of("complete"))
            for n, event in self.of("grant")
        )

    def blocked(self, version: str) -> bool:
        hands = self.hands(version)
        lifted = {
            event.of
            for n, event in self.of("lift")
            if event.version == version and not {who for who, _ in event.signers} & hands and self.act(n, BLOCKERS, 2)
        }
        return any(n not in lifted for n, _ in self.standing("block", version))

    def findings(self, version: str, day: float) -> list[tuple[int, str]]:
        """The findings that hold a release back if they are open, with where they stand."""
        rules, hands, found = self.rules(), self.hands(version), []

        def counts(n: int, event: Event) -> bool:
            raised = self.events[event.of]
            if raised.version != event.version or event.of >= n or {who for who, _ in event.signers} & hands:
                return False
            if event.outcome == "accepted":
                return event.until <= event.day + rules.accept_days and self.act(n, ACCEPTERS)  # type: ignore[operator]
            return self.act(n, CLOSERS)

        for n, event in self.of("finding"):
            if event.version not in (None, version) or event.severity not in rules.blocking:
                continue
            state = "open"
            for _, answer in self.effective("resolve", counts):
                if answer.of == n and state != "closed":
                    over = answer.until is not None and answer.until <= day
                    state = "closed" if answer.outcome == "closed" else "lapsed" if over else "accepted"
            found.append((n, state))
        return found

    def conditions(self, version: str, signed: list[int]) -> list[tuple[str, float, str]]:
        """Kind, day and source of the conditions that nobody closed, of approvals and of reviews of the version."""
        given = [(n, "approve", {self.events[n].role}) for n in signed]
        given += [
            (n, "review", REVIEWERS)
            for n, event in self.reviews()
            if (event.version, event.outcome) == (version, "restricted")
        ]
        found = []
        for n, source, closers in given:
            closed = any(
                answer.of == n
                and answer.version == version
                and answer.who not in self.hands(version)
                and self.act(at, {*closers, "compliance_officer"})
                for at, answer in self.of("close")
                if at > n
            )
            condition = self.events[n].condition
            if condition is not None and not closed:
                found.append((*condition, source))
        return found

    def late(self, conditions: list[tuple[str, float, str]], day: float) -> bool:
        """Whether one should have been met, or a review ended the use."""
        return any(
            due <= day and (kind == "remediation" or (kind, source) == ("expiry", "review"))
            for kind, due, source in conditions
        )

    # --- reviews

    def reviews(self) -> list[tuple[int, Event]]:
        def counts(n: int, event: Event) -> bool:
            if event.outcome == "retire":
                return self.act(n, REVIEWERS, allows=False)
            whole = (event.outcome == "restricted") == (event.condition is not None)
            independent = not {who for who, _ in event.signers} & self.hands(str(event.version))
            return whole and independent and self.act(n, REVIEWERS)

        return list(self.effective("review", counts))

    def retired(self) -> bool:
        return any(event.outcome == "retire" for _, event in self.reviews()[-1:])

    # --- ways around

    def glass(self, version: str, target: str, day: float) -> int:
        def counts(n: int, event: Event) -> bool:
            names = {who for who, _ in event.signers}
            fits = (event.version, event.target) == (version, target) and self.rules().glass
            short = event.until is not None and event.until <= event.day + 3
            officer = any("compliance_officer" in self.roles(who, n) for who in names)
            return fits and short and officer and not names & self.hands(version) and self.act(n, GLASS, 2)

        lasting = [n for n, event in self.effective("glass", counts) if (event.until or 0) > day]
        return lasting[-1] if lasting else -1

    def plan(self, version: str, target: str, day: float) -> int:
        """The newest plan in force that covers a version."""
        tier = self.tier()
        stages = STAGES[tier]
        if not self.rules().plans:
            return -1

        def counts(n: int, event: Event) -> bool:
            base, names = str(event.version), sorted({who for who, _ in event.signers})
            if set(event.stages) - set(stages) or self.newest("evaluate", base) < 0 or set(names) & self.hands(base):
                return False
            if not any(done < n and not self.events[self.events[done].of].waived for done in self.live_of(base)):
                return False
            held = {who: self.roles(who, n) for who in names}
            places = itertools.permutations(names, len(stages))
            if not self.rules().distinct:
                places = itertools.product(names, repeat=len(stages))  # type: ignore[assignment]
            seated = any(all(ROLE[s] in held[who] for s, who in zip(stages, place, strict=True)) for place in places)
            return seated and self.act(n, {ROLE[stage] for stage in stages}, max(1, len(stages)))

        ended = {event.of for n, event in self.of("unplan") if event.of < n and self.act(n, ACTING, allows=False)}
        for n, event in reversed(list(self.effective("plan", counts))):
            train = self.newest("train", version)
            over = n in ended or (event.until or 0) <= day
            rate, base_rate = self.events[train].rate, self.events[self.newest("train", event.version)].rate
            inside = rate == base_rate or 0.05 <= rate <= 0.2
            before = {
                grant.version
                for _, grant in self.of("grant")
                if grant.plan == n and grant.target == target and grant.version != version
            }
            few = event.most is None or len(before) + 1 <= event.most
            if not over and not self.stopped(n, version) and n < train and version != event.version and inside and few:
                return n
        return -1

    def stopped(self, n: int, version: str) -> bool:
        """Whether something happened since a plan's adoption that voids approvals."""
        rules = self.rules()
        if "policy_change" in rules.voids and self.rules(n) != rules:
            return True
        about = {self.events[n].version, version, *(grant.version for _, grant in self.of("grant") if grant.plan == n)}
        return any(at > n for one in about for at in self.void_after(str(one), data=False))

    def order(self, version: str, target: str) -> int:
        current = [n for n, _ in self.completed(target)][-1:]
        if not current or self.events[current[0]].version == version:
            return -1
        if not any(event.version == version for _, event in self.completed(target)):
            return -1
        found = [
            n
            for n, event in self.of("order")
            if (event.version, event.target, event.of) == (version, target, current[0]) and self.act(n, ORDERERS)
        ]
        return found[-1] if found else -1

    # --- what is live

    def done(self) -> list[tuple[int, Event]]:
        """The deployments that completed: of those under one grant the first."""
        first: dict[int, int] = {}
        for n, event in self.of("complete"):
            first.setdefault(event.of, n)
        return [(n, self.events[n]) for n in first.values()]

    def completed(self, target: str) -> list[tuple[int, Event]]:
        return [(n, event) for n, event in self.done() if event.target == target]

    def live_of(self, version: str) -> list[int]:
        return [n for n, event in self.done() if event.version == version]

    def overdue(self, target: str, day: float) -> bool:
        done = self.completed(target)[-1:]
        if not done:
            return False
        (at, current), own = done[0], None
        last = current.day
        for n, event in self.reviews():
            if n > at and event.version == current.version:
                last, own = event.day, event.until
        dates = [own] if own is not None else []
        if self.rules().review != "none" and self.tier() == "high":
            dates.append(last + 30)
        return bool(dates) and min(dates) <= day

    def rested(self, grant: Event) -> list[int]:
        """The plan, broken glass or order that a release rests on."""
        ordered = grant.glass if grant.purpose == "break_glass" else int(str(grant.rounds[4]))
        return [n for n in (grant.plan, ordered) if n >= 0]

    def live(self, target: str, day: float) -> str:
        done = self.completed(target)[-1:]
        if not done:
            return "unattested" if any(event.target == target for _, event in self.of("inherit")) else "none"
        event, rules = done[0][1], self.rules()
        version, at, grant = str(event.version), event.of, self.events[event.of]
        kept = {n: approval for n, approval in self.standing("approve", version) if n in grant.used}
        wrong = [
            len(kept) < len(grant.used),
            any(
                n > at and self.content(other.of) == self.content(int(str(grant.rounds[0])))
                for n, other in self.standing("reject", version)
            ),
            rules.blocked == "suspend" and self.blocked(version),
            any(n > at and self.events[n].event != "data_change" for n in self.void_after(version, data=False)),
            any(a.condition and a.condition[0] == "expiry" and a.condition[1] <= day for a in kept.values()),
            self.late(self.conditions(version, list(kept)), day),
            any(self.distrusted(approval.who, n) for n, approval in kept.items()),
            any(self.distrusted(who, n) for n in self.rested(grant) for who, _ in self.events[n].signers),
            self.retired(),
            any((n > at and state == "open") or state == "lapsed" for n, state in self.findings(version, day)),
            grant.purpose == "break_glass" and (self.events[grant.glass].until or 0) <= day,
            rules.review == "block" and self.tier() == "high" and self.overdue(target, day),
        ]
        return "suspended" if any(wrong) else "live"
