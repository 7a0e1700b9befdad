"""Random histories of people against a naive model of who may sign as what at entry n, which shares no code with the directory.

The histories are real entries with real signatures, held in memory. The model is a list of what happened; each question walks it from
the beginning, in the plainest way.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.governance import DEFAULT_POLICY_YAML, PersonalKey, directory, parse_policy, public_key
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.statements import act_statement, seal
from cognify_dagster.ledger import Checkpoint, Draft, Entry, VerifiedEntry, VerifiedView
from cognify_dagster.ledger.entry import NO_PREVIOUS, assemble, seal_body
from cognify_dagster.records import (
    Delegated,
    DelegationEnded,
    Genesis,
    KeyRevoked,
    Person,
    PersonEnrolled,
    PersonRecovered,
    PublicKey,
    Recertified,
    Record,
    utc,
)
from cognify_dagster.workspace import Reading

ORIGIN = "test.example/histories"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = 86_400 * 1_000_000
PEOPLE = ("ada", "finn", "vera", "carl", "olga")
FOUNDERS = PEOPLE[:2]
ROLES = ("workspace_admin", "compliance_officer", "auditor")
LABELS = (*((who, number) for who in PEOPLE for number in range(3)), ("reserve", 0))
RECOVERY = (("ada", 0), ("finn", 0), ("reserve", 0))
LONGEST = 10
KEYS = {label: Ed25519PrivateKey.from_private_bytes(bytes([number + 1]) * 32) for number, label in enumerate(LABELS)}
PUBLIC: dict[tuple[str, int], PublicKey] = {
    label: public_key(key.public_key().public_bytes_raw()) for label, key in KEYS.items()
}
Label = tuple[str, int]


@dataclass(frozen=True)
class Rules:
    """What differs from one history to the next."""

    vouchers: int
    recertify: int | None
    trial: bool
    threshold: int


@dataclass(frozen=True)
class Event:
    """One entry. `signed` are signer, key and whether the signature is genuine; `seen` how many entries the signers had seen."""

    what: str
    id: int
    day: int = 0
    who: str = ""
    roles: tuple[str, ...] = ()
    keys: tuple[Label, ...] = ()
    name: str = ""
    aliases: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    signed: tuple[tuple[str, Label, bool], ...] = ()
    seen: int = 0
    other: str = ""
    key: Label = ("ada", 0)
    starts: int = 0
    ends: int = 0
    models: tuple[str, ...] = ()
    refers: int = -1
    lost: bool = False


# --- the naive model -------------------------------------------------------------------------------------------------


@dataclass
class Naive:
    """What holds just before an entry, worked out from the list of events alone."""

    rules: Rules
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    confirmed: dict[str, int] = field(default_factory=dict)
    alive: dict[Label, bool] = field(default_factory=dict)
    owner: dict[Label, str] = field(default_factory=dict)
    lent: dict[int, Event] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    spent: set[tuple[int, str]] = field(default_factory=set)
    void: list[int] = field(default_factory=list)

    def keys_of(self, who: str) -> set[Label]:
        return {label for label, holder in self.owner.items() if holder == who and self.alive[label]}

    def counting(self, who: str, day: int) -> tuple[str, ...]:
        if who not in self.roles or (self.rules.recertify and day > self.confirmed[who] + self.rules.recertify):
            return ()
        return self.roles[who]

    def is_admin(self, who: str, day: int) -> bool:
        return "workspace_admin" in self.counting(who, day)

    def drop(self, labels: set[Label]) -> None:
        for label in labels:
            self.alive[label] = False
        for seq, loan in self.lent.items():
            if not self.keys_of(loan.who):
                self.ended.add(seq)

    def take(self, event: Event, seq: int) -> None:
        """Let an event happen at a place; if it has no effect, note that."""
        if event.lost:
            self.lose(event, seq)
            return
        signers = [who for who, _, _ in event.signed]
        genuine = (
            bool(signers) and len(set(signers)) == len(signers) and all(self.genuine(*item) for item in event.signed)
        )
        fresh = all((event.id, who) not in self.spent for who in signers)
        if not (genuine and fresh and getattr(self, event.what)(event, seq)):
            self.void.append(seq)
            return
        self.spent |= {(event.id, who) for who in signers}

    def genuine(self, who: str, label: Label, real: bool) -> bool:
        if who.startswith("recovery"):
            return real and label in RECOVERY
        return real and who in self.roles and self.owner.get(label) == who and self.alive[label]

    def lose(self, event: Event, seq: int) -> None:
        if event.what in ("enrol", "revoke", "recover"):
            if event.who in self.roles:
                self.void.append(seq)
                self.drop(self.keys_of(event.who))
        elif event.what == "end":
            for at, loan in self.lent.items():
                if {loan.who, loan.other} <= {event.who, event.other}:
                    self.ended.add(at)

    def free(self, event: Event) -> bool:
        mine = all(self.owner.get(label, event.who) == event.who for label in event.keys)
        theirs = {alias for who, found in self.aliases.items() if who != event.who for alias in found}
        return mine and len(set(event.keys)) == len(event.keys) and not theirs & set(event.aliases)

    def enrol(self, event: Event, seq: int) -> bool:
        signers = {who for who, _, _ in event.signed}
        if set(event.named) != signers or len(event.named) != len(signers) or not self.free(event):
            return False
        who, first = event.who, event.named[0]
        known = who in self.roles
        new_keys = [label for label in event.keys if label not in self.owner]
        like_before = known and (self.names[who], self.aliases[who]) == (event.name, event.aliases)
        no_more = like_before and set(event.roles) <= set(self.roles[who])
        if who in signers and not (no_more and new_keys):
            return False
        alone = self.rules.trial and signers == {who}
        if first == who and not alone:
            return False
        if not self.is_admin(first, event.day):
            return False
        if any(not self.counting(other, event.day) for other in event.named[1:] if other != who):
            return False
        needed = 1 if self.rules.trial else self.rules.vouchers
        if no_more and not new_keys:
            needed = 1
        if len(signers) < needed or (known and event.seen <= self.changed[who]):
            return False
        self.set(event, seq)
        return True

    def set(self, event: Event, seq: int) -> None:
        who = event.who
        self.roles[who], self.names[who], self.aliases[who] = event.roles, event.name, event.aliases
        self.changed[who], self.confirmed[who] = seq, event.day
        for label in event.keys:
            if label not in self.owner:
                self.owner[label], self.alive[label] = who, True
        self.drop(self.keys_of(who) - set(event.keys))
        for at, loan in self.lent.items():
            if loan.who == who and loan.roles[0] not in event.roles:
                self.ended.add(at)

    def revoke(self, event: Event, seq: int) -> bool:
        signers = {who for who, _, _ in event.signed}
        if signers != set(event.named) or len(signers) != 1:
            return False
        (by,) = signers
        if by != event.who and not self.is_admin(by, event.day):
            return False
        if self.owner.get(event.key) == event.who:
            self.drop({event.key})
        return True

    def lend(self, event: Event, seq: int) -> bool:
        role, signers = event.roles[0], {who for who, _, _ in event.signed}
        if signers != {event.who} or role == "workspace_admin" or role not in self.counting(event.who, event.day):
            return False
        if event.other == event.who or event.other not in self.roles or not self.keys_of(event.other):
            return False
        if not event.starts < event.ends <= event.starts + LONGEST:
            return False
        self.lent[seq] = event
        return True

    def end(self, event: Event, seq: int) -> bool:
        signers = {who for who, _, _ in event.signed}
        loan = self.lent.get(event.refers)
        if loan is None or event.refers in self.ended or (loan.who, loan.other) != (event.who, event.other):
            return False
        if len(signers) != 1 or signers != set(event.named):
            return False
        (by,) = signers
        if by not in (loan.who, loan.other) and not self.is_admin(by, event.day):
            return False
        self.ended.add(event.refers)
        return True

    def recertify(self, event: Event, seq: int) -> bool:
        signers = {who for who, _, _ in event.signed}
        if len(signers) != 1 or signers != set(event.named):
            return False
        (by,) = signers
        if by == event.who or event.who not in self.roles or "workspace_admin" not in self.roles.get(by, ()):
            return False
        if set(event.roles) != set(self.roles[event.who]) or event.seen <= self.changed[event.who]:
            return False
        self.confirmed[event.who] = event.day
        return True

    def recover(self, event: Event, seq: int) -> bool:
        used = {label for who, label, _ in event.signed}
        if any(not who.startswith("recovery") for who, _, _ in event.signed):
            return False
        needed = max(self.rules.threshold, 1 if self.rules.trial else 2)
        if len(used) < needed or not self.free(event) or not event.keys:
            return False
        if any(self.owner.get(label) == event.who for label in event.keys):
            return False
        if event.who in self.roles and event.seen <= self.changed[event.who]:
            return False
        self.drop(self.keys_of(event.who))
        self.set(event, seq)
        return True

    def may(self, who: str, role: str, model: str, day: float) -> tuple[str, int] | None:
        """For whom, and by which delegation (0: none), a person may sign in a role."""
        if not self.keys_of(who):
            return None
        if role in self.counting(who, int(day) if day == int(day) else day):  # type: ignore[arg-type]
            return who, 0
        for seq in sorted(self.lent):
            loan = self.lent[seq]
            if seq in self.ended or (loan.other, loan.roles[0]) != (who, role) or not loan.starts <= day < loan.ends:
                continue
            if (not loan.models or model in loan.models) and role in self.counting(loan.who, day):  # type: ignore[arg-type]
                return loan.who, seq
        return None


def before(rules: Rules, events: list[Event], seq: int) -> Naive:
    """What holds just before entry `seq`."""
    naive = Naive(rules)
    for who in FOUNDERS:
        naive.roles[who], naive.names[who], naive.aliases[who] = ROLES[:1], who, ()
        naive.changed[who] = naive.confirmed[who] = 0
        naive.owner[who, 0], naive.alive[who, 0] = who, True
    for number, event in enumerate(events, 1):
        if number < seq:
            naive.take(event, number)
    return naive


# --- the same history as entries ---------------------------------------------------------------------------------------


class Written:
    """Entries in memory, as a verified ledger would hand them out."""

    def __init__(self, rules: Rules) -> None:
        self.entries: list[VerifiedEntry] = []
        self.heads: dict[str, int] = {}
        policy = yaml.safe_load(DEFAULT_POLICY_YAML)
        people: dict[str, Any] = {"vouchers": rules.vouchers, "max_delegation_days": LONGEST}
        policy["people"] = people | ({"recertify_days": rules.recertify} if rules.recertify else {})
        parsed = parse_policy(policy)
        founders = tuple(
            Person(person=f"person/{who}", name=who, roles=ROLES[:1], keys=(PUBLIC[who, 0],)) for who in FOUNDERS
        )
        genesis = Genesis(
            origin=ORIGIN, log_key="none", trial=rules.trial, founders=founders, policy=parsed.as_json(),
            policy_digest=parsed.digest, recovery_threshold=rules.threshold,
            recovery_keys=tuple(PUBLIC[label] for label in RECOVERY), created=utc(START),
        )  # fmt: skip
        signed = [envelope(genesis, f"person/{who}", (who, 0), 0) for who in FOUNDERS]
        self.append(genesis.model_copy(update={"envelopes": tuple(signed)}), 0)

    def append(self, record: Record, day: int, *, lost: bool = False) -> None:
        draft = Draft(
            kind=record.kind, schema=1, subjects=tuple(sorted(set(record.subjects()))), actor="workload/x",
            idem=f"{len(self.entries):064x}", payload=record.payload(), facts_digest=record.facts_digest(),
        )  # fmt: skip
        heads = {subject: self.heads.get(subject, -1) for subject in draft.subjects}
        time_us = int(START.timestamp()) * 1_000_000 + day * DAY
        data = assemble(ORIGIN, seal_body(ORIGIN, draft).body, heads, NO_PREVIOUS, len(self.entries), time_us)
        self.heads.update(dict.fromkeys(draft.subjects, len(self.entries)))
        self.entries.append(VerifiedEntry(Entry.parse(data), None if lost else json.loads(draft.payload), None))

    def reading(self) -> Reading:
        return Reading(VerifiedView(ORIGIN, len(self.entries), bytes(32), tuple(self.entries), dict(self.heads)))


def envelope(record: Record, person: str, label: Label, seen: int, *, real: bool = True, meaning: str = "…") -> Any:
    key_id = PUBLIC[label].key_id
    statement = act_statement(
        record,
        ledger=ORIGIN,
        person=person,
        key_id=key_id,
        role="x",
        meaning=meaning,
        head=Checkpoint(ORIGIN, seen, bytes(32)),
    )
    signer = KEYS[label] if real else Ed25519PrivateKey.from_private_bytes(b"\xff" * 32)
    return seal(statement, key_id, PersonalKey("person/x", signer).sign)


def record_of(event: Event) -> Record:
    """The record of an event, without signatures."""
    who, named = f"person/{event.who}", [f"person/{name}" for name in event.named]
    if event.what in ("enrol", "recover"):
        person = Person(
            person=who,
            name=event.name,
            roles=event.roles,
            aliases=event.aliases,
            keys=tuple(PUBLIC[k] for k in event.keys),
        )
        if event.what == "enrol":
            return PersonEnrolled(person=person, vouched_by=named[0], witnesses=tuple(named[1:]), envelope=UNSIGNED)
        ids = tuple(sorted({PUBLIC[label].key_id for _, label, _ in event.signed}))
        return PersonRecovered(person=person, reason="x", recovery_keys=ids, envelopes=())
    if event.what == "revoke":
        return KeyRevoked(
            holder=who, key_id=PUBLIC[event.key].key_id, reason="x", revoked_by=named[0], envelope=UNSIGNED
        )
    if event.what == "lend":
        return Delegated(
            delegator=who, delegate=f"person/{event.other}", role=event.roles[0], models=event.models, reason="x",
            starts=utc(START + timedelta(days=event.starts)), expires=utc(START + timedelta(days=event.ends)),
            envelope=UNSIGNED,
        )  # fmt: skip
    if event.what == "end":
        return DelegationEnded(
            delegation_seq=event.refers, delegator=who, delegate=f"person/{event.other}", reason="x", ended_by=named[0],
            envelope=UNSIGNED,
        )  # fmt: skip
    return Recertified(person=who, roles=event.roles, recertified_by=named[0], envelope=UNSIGNED)


STATEMENTS: dict[int, Record] = {}


def sealed(event: Event) -> Record:
    """The record of an event with its signatures; a replay brings the very same bytes."""
    if event.id in STATEMENTS:
        return STATEMENTS[event.id]
    record = record_of(event)
    signed = [
        envelope(
            record,
            "recovery" if who.startswith("recovery") else f"person/{who}",
            label,
            event.seen,
            real=real,
            meaning=f"statement {event.id}",
        )
        for who, label, real in event.signed
    ]
    update: dict[str, Any] = {}
    if "envelope" in type(record).model_fields:
        update["envelope"] = signed.pop(0) if signed else UNSIGNED
    if "envelopes" in type(record).model_fields:
        update["envelopes"] = tuple(signed)
    STATEMENTS[event.id] = record.model_copy(update=update)
    return STATEMENTS[event.id]


# --- histories -----------------------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[Rules, list[Event]]:
    rules = Rules(
        vouchers=draw(st.sampled_from([1, 2, 2, 2, 3])),
        recertify=draw(st.sampled_from([None, None, 20])),
        trial=draw(st.sampled_from([False, False, False, True])),
        threshold=draw(st.integers(1, 3)),
    )
    events: list[Event] = []
    day = 0
    for _ in range(draw(st.integers(2, 16))):
        day += draw(st.sampled_from([0, 0, 1, 4, 9]))
        size = len(events) + 1
        now = before(rules, events, size)
        event = draw(one_event(now, events, day, size))
        events.append(replace(event, lost=draw(st.integers(0, 19)) == 0))
    return rules, events


def _shape(draw: st.DrawFn, now: Naive, who: str) -> dict[str, Any]:
    """A state for a person: mostly near the one they have."""
    keys = sorted(now.keys_of(who))
    spare = [(who, number) for number in range(3)] if who in PEOPLE else []
    extra = draw(st.sampled_from([[], [], *[[label] for label in spare], [draw(st.sampled_from(LABELS))]]))
    keys = draw(st.sampled_from([keys, keys, [], keys[:1]])) + extra
    roles = now.roles.get(who, ())
    alternatives = [roles, roles, roles[:1], ROLES[1:2], ROLES[1:], ROLES, ()]
    return {
        "who": who,
        "roles": draw(st.sampled_from(alternatives)),
        "keys": tuple(keys) if draw(st.integers(0, 19)) == 0 else tuple(dict.fromkeys(keys)),
        "name": draw(st.sampled_from([now.names.get(who, who)] * 5 + ["other"])),
        "aliases": draw(st.sampled_from([now.aliases.get(who, ())] * 4 + [("user:x",), ("user:y",)])),
    }


def _signatures(draw: st.DrawFn, now: Naive, names: list[str]) -> tuple[tuple[str, Label, bool], ...]:
    """Signatures of these people: mostly with a key that counts, mostly genuine."""
    found = []
    for name in names:
        own = sorted(now.keys_of(name)) or [(name, 0)]
        label = draw(st.sampled_from([own[0]] * 6 + [own[-1], (name, 1), draw(st.sampled_from(LABELS))]))
        found.append((name, label, draw(st.integers(0, 24)) != 0))
    return tuple(found)


@st.composite
def one_event(draw: st.DrawFn, now: Naive, events: list[Event], day: int, size: int) -> Event:
    if events and draw(st.integers(0, 9)) == 0:
        again = draw(st.sampled_from(events))
        return replace(again, day=day, lost=False)
    seen = size if draw(st.integers(0, 9)) else draw(st.integers(0, size - 1))
    person = st.sampled_from(PEOPLE)
    admins = [who for who in now.roles if "workspace_admin" in now.roles[who]] or ["ada"]
    known = sorted(now.roles)
    what = draw(
        st.sampled_from(["enrol", "enrol", "enrol", "rotate", "revoke", "lend", "lend", "end", "recertify", "recover"])
    )
    common: dict[str, Any] = {"id": size, "day": day, "seen": seen}
    if what in ("enrol", "rotate"):
        who = draw(person) if what == "enrol" else draw(st.sampled_from(known))
        names = [draw(st.sampled_from(admins)), *draw(st.lists(st.sampled_from(known), max_size=2))]
        shape = _shape(draw, now, who)
        if what == "rotate":
            names = draw(st.sampled_from([[names[0], who], [who], names]))
            more = (who, draw(st.integers(0, 2)))
            shape |= {"roles": now.roles[who], "name": now.names[who], "aliases": now.aliases[who], "keys": (more,)}
        signed = _signatures(draw, now, names)
        named = tuple(names) if draw(st.integers(0, 14)) else (draw(person),)
        return Event("enrol", **common, **shape, named=named, signed=signed[: draw(st.sampled_from([9, 9, 9, 1]))])
    if what == "revoke":
        who, by = draw(st.sampled_from(known)), draw(st.sampled_from([*admins, *known]))
        key = draw(st.sampled_from(sorted(now.keys_of(who)) or [(who, 0)]))
        return Event("revoke", **common, who=who, key=key, named=(by,), signed=_signatures(draw, now, [by]))
    if what == "lend":
        who, other = draw(st.sampled_from(known)), draw(person)
        role = draw(st.sampled_from([*now.roles[who], *ROLES]))
        starts = day + draw(st.integers(-3, 3))
        return Event(
            "lend", **common, who=who, other=other, roles=(role,), starts=starts, ends=starts + draw(st.integers(0, 11)),
            models=draw(st.sampled_from([(), ("m",), ("other",)])), named=(who,),
            signed=_signatures(draw, now, [draw(st.sampled_from([who, who, who, other]))]),
        )  # fmt: skip
    if what == "end" and now.lent:
        refers = draw(st.sampled_from(sorted(now.lent)))
        loan = now.lent[refers]
        by = draw(st.sampled_from([loan.who, loan.other, *admins, draw(person)]))
        return Event(
            "end",
            **common,
            who=loan.who,
            other=loan.other,
            refers=refers,
            named=(by,),
            signed=_signatures(draw, now, [by]),
        )
    if what == "recertify":
        who, by = draw(st.sampled_from(known)), draw(st.sampled_from([*admins, *known]))
        roles = draw(st.sampled_from([now.roles[who], now.roles[who], ROLES]))
        return Event("recertify", **common, who=who, roles=roles, named=(by,), signed=_signatures(draw, now, [by]))
    who = draw(person)
    labels = draw(st.lists(st.sampled_from([*RECOVERY, *RECOVERY, ("vera", 0)]), min_size=1, max_size=3, unique=True))
    signed = tuple((f"recovery{place}", label, True) for place, label in enumerate(labels))
    shape = _shape(draw, now, who)
    fresh = [label for label in LABELS if label[0] == who and label not in now.owner]
    if fresh and draw(st.integers(0, 3)):
        shape["keys"] = (fresh[0],)
    return Event("recover", **common, **shape, signed=signed)


EXAMPLES = int(os.environ.get("COGNIFY_PEOPLE_HISTORIES", "250"))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(history=histories(), at=st.floats(0, 1), ahead=st.sampled_from([0, 0.5, 3, 8, 21]))
def test_the_directory_agrees_with_the_model(history: tuple[Rules, list[Event]], at: float, ahead: float) -> None:
    rules, events = history
    written = Written(rules)
    STATEMENTS.clear()
    for event in events:
        written.append(sealed(event), event.day, lost=event.lost)
    people = directory(written.reading())
    last = before(rules, events, len(events) + 1)
    assert sorted({seq for seq, _ in people.problems}) == sorted(set(last.void)), people.problems
    for seq in {len(events) + 1, 1 + round(at * len(events))}:
        naive, after = before(rules, events, seq), before(rules, events, seq + 1)
        naive.alive |= {
            label: after.alive[label] for label in naive.alive
        }  # a key does not sign the entry that ends it
        day = (events[seq - 2].day if seq > 1 else 0) + ahead
        now = START + timedelta(days=day)
        for who in PEOPLE:
            holder = f"person/{who}"
            assert set(people.valid_keys(holder, seq)) == {PUBLIC[label].key_id for label in naive.keys_of(who)}
            standing = people.person_at(holder, seq)
            assert (standing.roles if standing else None) == naive.roles.get(who)
            for role in ROLES:
                for model in ("m", "n"):
                    found = people.may_sign_as(holder, role, model, "stage", seq, now)
                    told = found and (
                        (found.on_behalf_of or holder).removeprefix("person/"),
                        found.delegation_seq or 0,
                    )
                    assert told == naive.may(who, role, model, day), (who, role, model, seq, events)
