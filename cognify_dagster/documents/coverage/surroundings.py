"""What coverage asks of the ledger beyond the entries about one version: retention, change plans, findings, people, the log key.

Invariants: every fact comes from a verified entry and keeps its sequence number and leaf; acts count only where governance counts
them (signatures, roles, order); what ends by time keeps its end, and whoever reads it compares that with their own moment, so that
the same reading always gives the same facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from cognify_dagster.governance import directory, findings_about, policy_in_force, schedule_in_force
from cognify_dagster.governance.changes.adopted import plans_in_force
from cognify_dagster.governance.custody.ledger_keys import ledger_acts
from cognify_dagster.governance.oversight.voids import event_problem
from cognify_dagster.governance.release.case import Case
from cognify_dagster.records import ModelEvent, RetentionRule
from cognify_dagster.workspace import Reading

_BEFORE_ALL = datetime(1970, 1, 2, tzinfo=timezone.utc)
"""Asked for this moment, nothing has run out yet; the end is kept with each fact."""


@dataclass(frozen=True)
class Cited:
    """An entry: sequence number, time (microseconds since 1970 UTC) and leaf hash (hex)."""

    seq: int
    time_us: int
    leaf: str


@dataclass(frozen=True)
class PlanFact:
    """A change plan that was adopted with all its signatures and was not ended. `expires` is UTC."""

    entry: Cited
    plan: str
    expires: str


@dataclass(frozen=True)
class IncidentFact:
    """An incident that was reported about the model or this version."""

    entry: Cited
    text: str


@dataclass(frozen=True)
class FindingFact:
    """A finding about the model or this version; `closed` is the entry that closed it, `accepted_until` (UTC) while its risk is accepted."""

    entry: Cited
    severity: str
    title: str
    closed: Cited | None = None
    accepted_until: str | None = None


@dataclass(frozen=True)
class DelegationFact:
    """A role that one person lets another sign in, for this model, not ended by an entry. Times are UTC."""

    entry: Cited
    role: str
    delegator: str
    delegate: str
    starts: str
    expires: str


@dataclass(frozen=True)
class OversightFacts:
    """See the module.

    Attributes:
        retention: the retention rules that were adopted; empty unless people adopted some.
        retention_entry: the entry that adopted them.
        wanted_roles: the roles that the policy demands signatures of for the model's tier.
        holders: role -> the entries that gave it to the people who can sign in it now.
        log_key: the entry that names the key which signs the ledger's heads.
        times: sequence number -> time (microseconds since 1970 UTC) of every entry that a check may cite by number alone.
    """

    retention: tuple[RetentionRule, ...] = ()
    retention_entry: Cited | None = None
    plans: tuple[PlanFact, ...] = ()
    incidents: tuple[IncidentFact, ...] = ()
    findings: tuple[FindingFact, ...] = ()
    delegations: tuple[DelegationFact, ...] = ()
    wanted_roles: tuple[str, ...] = ()
    holders: Mapping[str, tuple[Cited, ...]] = field(default_factory=dict)
    log_key: Cited | None = None
    times: Mapping[int, int] = field(default_factory=dict)

    def cited(self) -> tuple[Cited, ...]:
        """Return every entry that a check may cite."""
        found = [self.retention_entry, self.log_key, *(item.closed for item in self.findings)]
        found += [item.entry for item in self.plans]
        found += [item.entry for item in self.incidents]
        found += [item.entry for item in self.findings]
        found += [item.entry for item in self.delegations]
        found += [item for entries in self.holders.values() for item in entries]
        return tuple(item for item in found if item is not None)

    def entries(self) -> dict[int, str]:
        """Return sequence number and leaf of these entries."""
        return {item.seq: item.leaf for item in self.cited()}


def collect_oversight(reading: Reading, model: str, version: str, tier: str, cited: Iterable[int]) -> OversightFacts:
    """Gather them.

    Args:
        reading: verified entries.
        model: model key.
        version: version id.
        tier: the tier in force for the model; empty where none is known.
        cited: further entries whose time may be asked for.
    """
    people, policy = directory(reading), policy_in_force(reading).policy
    schedule = schedule_in_force(reading)
    case = Case(reading, model, version, _BEFORE_ALL, "")
    known = tier in policy.tiers
    wanted = sorted({role for _, stage in policy.stages_of(tier) for role in stage.wanted}) if known else []
    now_us = _entry(reading, reading.size - 1).time_us
    holders = {
        role: tuple(
            _entry(reading, standing.since)
            for person in people.role_holders_at(role, reading.size, now_us)
            if (standing := people.standing_at(person.person, reading.size)) is not None
        )
        for role in wanted
    }
    rotations = ledger_acts(reading).rotations
    times = {seq: _entry(reading, seq).time_us for seq in cited if 0 <= seq < reading.size}
    return OversightFacts(
        retention=schedule.rules if schedule.seq is not None else (),
        retention_entry=_entry(reading, schedule.seq) if schedule.seq is not None else None,
        plans=tuple(
            PlanFact(_entry(reading, item.seq), item.record.plan, item.record.expires)
            for item in (plans_in_force(case, tier) if known else [])
        ),
        incidents=_incidents(reading, model, version),
        findings=tuple(
            FindingFact(
                _entry(reading, item.seq),
                item.severity,
                item.title,
                _entry(reading, item.closed_seq) if item.closed_seq is not None else None,
                item.accepted_until,
            )
            for item in findings_about(reading, people, policy, model, version, _BEFORE_ALL).items
        ),
        delegations=tuple(
            DelegationFact(
                _entry(reading, item.seq), item.role, item.delegator, item.delegate, item.starts, item.expires
            )
            for item in people.delegations
            if item.ended is None and (not item.models or model in item.models)
        ),
        wanted_roles=tuple(wanted),
        holders=holders,
        log_key=_entry(reading, rotations[-1].seq if rotations else 0),
        times=times,
    )


def _entry(reading: Reading, seq: int) -> Cited:
    entry = reading.view.entry(seq).entry
    return Cited(entry.seq, entry.time_us, entry.leaf.hex())


def _incidents(reading: Reading, model: str, version: str) -> tuple[IncidentFact, ...]:
    people, policy = directory(reading), policy_in_force(reading).policy
    found = [
        IncidentFact(_entry(reading, item.seq), item.record.text)
        for subject in (f"oversight/{model}", f"model/{model}@{version}")
        for item in reading.all(ModelEvent, subject)
        if item.record.event == "incident" and event_problem(reading, item, people, policy) is None
    ]
    return tuple(sorted(found, key=lambda item: item.entry.seq))
