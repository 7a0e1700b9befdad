"""Who is who at a point of the ledger: people, machines, keys, roles, delegations, and the policy that was in force.

Invariants: a question names an entry (and, where time matters, a time), and what later entries say never changes its answer; only a
person's key signs, never a machine's; a role counts for a signature only while it is recertified as the policy of that
point demands; a delegated role is never handed on.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from cognify_dagster.governance.policy.document import People, Policy
from cognify_dagster.governance.signing.signatures import entry_verifies
from cognify_dagster.ledger import Entry
from cognify_dagster.records import Person, PublicKey, Workload, parse_utc

ADMIN = "workspace_admin"
RECOVERY = "recovery"
PERSON_SIGNED = frozenset(
    {
        "person_enrolled", "workload_enrolled", "key_revoked", "delegated", "delegation_ended", "person_recertified",
        "person_recovered", "entry_disregarded", "policy_adopted",
    }
)  # fmt: skip
"""Kinds that have effect only through the signatures of people inside, whoever wrote the entry."""
SHARED = frozenset({"people", "policy", "ledger"})
"""Subjects that every decision relies on."""
_DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True)
class KeySpan:
    """A key and the entries for which it is valid: after `since`, before `until` (None: still valid).

    `distrusted` is the entry from which on a later revocation says that it was not to be trusted; None if none says so.
    """

    key: PublicKey
    since: int
    until: int | None = None
    distrusted: int | None = None

    def valid_at(self, seq: int) -> bool:
        """Whether the key may have signed entry `seq`. An enrolment's own entry is not covered, genesis's is."""
        return (self.since < seq or seq == self.since == 0) and (self.until is None or seq < self.until)


@dataclass(frozen=True)
class Standing:
    """A person's state from entry `since` on, whose time is `time_us` (microseconds since 1970 UTC)."""

    since: int
    person: Person
    vouched_by: str
    witnesses: tuple[str, ...] = ()
    time_us: int = 0


@dataclass(frozen=True)
class Delegation:
    """A role that one person lets another sign in, from entry `seq` until its time or entry `ended`.

    `key_id` is the delegator's key that signed it; `distrusted` says that the key was not to be trusted then.
    """

    seq: int
    leaf: str
    delegator: str
    delegate: str
    role: str
    models: tuple[str, ...]
    stages: tuple[str, ...]
    starts: str
    expires: str
    reason: str
    ended: int | None = None
    key_id: str = ""
    distrusted: bool = False

    def covers(self, model: str, stage: str) -> bool:
        """Whether it is for this model and stage."""
        return (not self.models or model in self.models) and (not self.stages or stage in self.stages)

    def runs_at(self, seq: int, now: datetime) -> bool:
        """Whether it runs just before entry `seq` and at the time `now`."""
        over = self.distrusted or (self.ended is not None and self.ended < seq)
        return self.seq < seq and not over and parse_utc(self.starts) <= now < parse_utc(self.expires)


@dataclass(frozen=True)
class Authority:
    """With what right a person signs in a role: their own, or on behalf of a delegator."""

    person: str
    role: str
    delegation: Delegation | None = None

    @property
    def on_behalf_of(self) -> str | None:
        """The delegator, if the role is delegated."""
        return self.delegation.delegator if self.delegation else None

    @property
    def delegation_seq(self) -> int | None:
        """The entry of the delegation, if there is one."""
        return self.delegation.seq if self.delegation else None


@dataclass(frozen=True)
class PolicyInForce:
    """The policy that counts, the entry that established it, and why later ones do not count.

    `unreadable` names entries that may hold a newer policy which cannot be read here; a decision must then refuse.
    """

    policy: Policy
    seq: int
    digest: str
    problems: tuple[tuple[int, str], ...] = ()
    unreadable: tuple[tuple[int, str], ...] = ()


@dataclass
class Directory:
    """People and workloads as of the end of a reading. `problems` lists entries that had no effect, with the reason.

    `recertified` gives each person the entries and times (microseconds since 1970 UTC) of their recertifications; `disregarded` gives each entry
    that decisions go on without the entry that says so; `policies` are those that came into force, with entry and digest; `newest` is
    the newest entry that had a say.
    """

    standings: dict[str, list[Standing]] = field(default_factory=dict)
    keys: dict[str, list[KeySpan]] = field(default_factory=dict)
    workloads: list[tuple[int, Workload]] = field(default_factory=list)
    delegations: list[Delegation] = field(default_factory=list)
    recertified: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    disregarded: dict[int, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    used: set[str] = field(default_factory=set, repr=False)
    policies: list[tuple[int, Policy, str]] = field(default_factory=list, repr=False)
    policy_problems: list[tuple[int, str]] = field(default_factory=list, repr=False)
    policy_unreadable: list[tuple[int, str]] = field(default_factory=list, repr=False)
    trial: bool = False
    recovery_keys: tuple[PublicKey, ...] = ()
    recovery_threshold: int = 2
    newest: int = 0

    def copy(self) -> Directory:
        """Return a copy that can be changed without changing this one."""
        other = copy.copy(self)
        other.standings = {key: list(items) for key, items in self.standings.items()}
        other.keys = {key: list(items) for key, items in self.keys.items()}
        other.recertified = {key: list(items) for key, items in self.recertified.items()}
        other.disregarded, other.used = dict(self.disregarded), set(self.used)
        for name in ("workloads", "delegations", "problems", "policies", "policy_problems", "policy_unreadable"):
            setattr(other, name, list(getattr(self, name)))
        return other

    # --- people and keys ---------------------------------------------------------------------------------------------

    def standing_at(self, person: str, seq: int) -> Standing | None:
        """Return a person's state just before entry `seq`."""
        found = [item for item in self.standings.get(person, ()) if item.since < seq or seq == item.since == 0]
        return found[-1] if found else None

    def person_at(self, person: str, seq: int) -> Person | None:
        """Return who the person was just before entry `seq`."""
        found = self.standing_at(person, seq)
        return found.person if found else None

    def key_at(self, holder: str, key_id: str, seq: int) -> PublicKey | None:
        """Return a holder's key if it is valid for entry `seq`. A holder may be a machine: see `signing_key`."""
        for span in self.keys.get(holder, ()):
            if span.key.key_id == key_id and span.valid_at(seq):
                return span.key
        return None

    def signing_key(self, person: str, key_id: str, seq: int) -> PublicKey | None:
        """Return the key with which a person may have signed entry `seq`; None for machines, which never sign."""
        if person not in self.standings or person in {item.workload for _, item in self.workloads}:
            return None
        return self.key_at(person, key_id, seq)

    def trusted(self, holder: str, key_id: str, seq: int) -> bool:
        """Whether no revocation says that a key was not to be trusted at entry `seq`, however much later it was written.

        What such a key signed to restrain something (a block, a finding, a report) stands; what it signed to allow something does not.
        """
        spans = (span for span in self.keys.get(holder, ()) if span.key.key_id == key_id)
        return all(span.distrusted is None or seq < span.distrusted for span in spans)

    def valid_keys(self, holder: str, seq: int) -> dict[str, PublicKey]:
        """Return a holder's keys that are valid for entry `seq`, by id."""
        return {span.key.key_id: span.key for span in self.keys.get(holder, ()) if span.valid_at(seq)}

    def name(self, person: str) -> str:
        """Return the newest name of a person, or the id itself."""
        found = self.standings.get(person)
        return found[-1].person.name if found else person

    def people(self) -> list[Person]:
        """Return everyone, in their newest state."""
        return [items[-1].person for items in self.standings.values()]

    def resolve(self, aliases: Iterable[str]) -> tuple[list[str], list[str]]:
        """Map aliases such as `git:ben@bank.example` or `user:ben` to people; return (person ids, unmapped aliases)."""
        table = {alias.lower(): person.person for person in self.people() for alias in person.aliases}
        found: set[str] = set()
        unknown: list[str] = []
        for alias in aliases:
            person = alias if alias in self.standings else table.get(alias.lower())
            if person is None:
                unknown.append(alias)
            else:
                found.add(person)
        return sorted(found), unknown

    # --- roles and authority -----------------------------------------------------------------------------------------

    def with_role(self, role: str) -> list[Person]:
        """Return the people who hold a role now, recertified or not."""
        return [person for person in self.people() if role in person.roles]

    def confirmed_us(self, person: str, seq: int) -> int | None:
        """Return when a person was last enrolled, changed or recertified before entry `seq`, microseconds since 1970 UTC."""
        standing = self.standing_at(person, seq)
        if standing is None:
            return None
        return max([standing.time_us, *(time for at, time in self.recertified.get(person, ()) if at < seq)])

    def recertification_due_us(self, person: str, seq: int) -> int | None:
        """Return until when a person's roles count, microseconds since 1970 UTC; None where the policy sets no limit."""
        days, confirmed = self.rules_at(seq).recertify_days, self.confirmed_us(person, seq)
        return None if days is None or confirmed is None else confirmed + days * _DAY_US

    def roles_at(self, person: str, seq: int, time_us: int) -> frozenset[str]:
        """Return the roles that count for a signature of a person in entry `seq` at a time (microseconds since 1970 UTC).

        None count while recertification is overdue.
        """
        standing, due = self.standing_at(person, seq), self.recertification_due_us(person, seq)
        if standing is None or (due is not None and time_us > due):
            return frozenset()
        return frozenset(standing.person.roles)

    def role_holders_at(self, role: str, seq: int, time_us: int) -> list[Person]:
        """Return the people whose own role counts in entry `seq` at a time, and who have a key to sign with."""
        found = [self.person_at(who, seq) for who in self.standings if role in self.roles_at(who, seq, time_us)]
        return [person for person in found if person is not None and self.valid_keys(person.person, seq)]

    def delegation_of(self, seq: int) -> Delegation | None:
        """Return the delegation that an entry established."""
        return next((item for item in self.delegations if item.seq == seq), None)

    def delegation_problem(
        self, item: Delegation, person: str, role: str, model: str, stage: str, seq: int, now: datetime
    ) -> str | None:
        """Say why a person may not sign under a delegation in entry `seq` at the time `now`, or None."""
        who = self.name(item.delegator)
        if (item.delegate, item.role) != (person, role):
            return f"entry {item.seq} delegates {item.role} of {who} to {self.name(item.delegate)}"
        if not item.covers(model, stage):
            return f"the delegation of {who} (entry {item.seq}) is not for stage {stage!r} of {model}"
        if item.distrusted:
            return f"the delegation of {who} (entry {item.seq}) was signed with a key that was not to be trusted then"
        if not item.runs_at(seq, now):
            return f"the delegation of {who} (entry {item.seq}) does not run: it had ended, or not yet begun"
        if role not in self.roles_at(item.delegator, seq, int(now.timestamp() * 1_000_000)):
            return f"{who} did not hold the role {role} that is delegated (entry {item.seq})"
        return None

    def may_sign_as(self, person: str, role: str, model: str, stage: str, seq: int, now: datetime) -> Authority | None:
        """Return with what right a person may sign in a role for a model's stage in entry `seq` at the time `now`.

        Their own role comes first. None if they hold neither role nor delegation, or have no valid key.
        """
        if not self.valid_keys(person, seq):
            return None
        if role in self.roles_at(person, seq, int(now.timestamp() * 1_000_000)):
            return Authority(person, role)
        for item in self.delegations:
            if self.delegation_problem(item, person, role, model, stage, seq, now) is None:
                return Authority(person, role, item)
        return None

    # --- policy ------------------------------------------------------------------------------------------------------

    def policy_at(self, seq: int) -> Policy | None:
        """Return the policy in force just before entry `seq`; None if the genesis policy cannot be read here."""
        return self._policy_at(seq)[0]

    def policy_digest_at(self, seq: int) -> str | None:
        """Return the digest of the policy in force just before entry `seq`; None if the genesis policy cannot be read here."""
        return self._policy_at(seq)[1]

    def _policy_at(self, seq: int) -> tuple[Policy | None, str | None]:
        found = [(policy, digest) for since, policy, digest in self.policies if since < seq or seq == since == 0]
        return found[-1] if found else (None, None)

    def rules_at(self, seq: int) -> People:
        """Return how people were looked after just before entry `seq`; the strict defaults if that cannot be read."""
        policy = self.policy_at(seq)
        return policy.people if policy is not None else People()

    def vouchers_at(self, seq: int) -> int:
        """How many people sign an enrolment in entry `seq`: as the policy says; in a trial ledger one."""
        return 1 if self.trial else self.rules_at(seq).vouchers

    def lifted(self, subject: str, seq: int) -> bool:
        """Whether decisions go on without an entry as far as it is about this subject. About models it keeps what it says."""
        return seq in self.disregarded and (subject in SHARED or subject.startswith("person/"))

    # --- machines ----------------------------------------------------------------------------------------------------

    def writer_problem(self, entry: Entry) -> str | None:
        """Say why an entry's writer does not count, or None: it must be signed by an enrolled workload for this kind.

        Acts that have effect only through the signatures of people inside are exempt: a revoked workload key could
        otherwise never be replaced, and anybody could hold up releases with an unsigned copy.
        """
        if entry.kind in PERSON_SIGNED:
            return None
        if not entry.key_id:
            return f"entry {entry.seq} ({entry.kind}) is not signed by a workload"
        known = [item for since, item in self.workloads if item.key.key_id == entry.key_id and since <= entry.seq]
        if not known:
            return f"entry {entry.seq} ({entry.kind}): no workload enrolled before it has the key {entry.key_id}"
        workload = known[-1]
        if self.key_at(workload.workload, entry.key_id, entry.seq) is None:
            return f"entry {entry.seq} ({entry.kind}): the workload key {entry.key_id} was not valid then"
        if entry.kind not in workload.kinds:
            return f"entry {entry.seq}: {workload.workload} may not write {entry.kind} entries"
        try:
            sound = entry_verifies(base64.b64decode(workload.key.public), entry)
        except ValueError:  # the key is not base64
            sound = False
        return None if sound else f"entry {entry.seq} ({entry.kind}): the workload's signature does not verify"
