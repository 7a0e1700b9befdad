"""Auditors from outside: who may read what, until when, by whose word.

Invariants: a grant counts only with valid signatures of a workspace admin and a second person who acts here (in a trial ledger one
admin), lasts at most 90 days from its entry, and gives nothing but reading; an ending needs one admin or somebody who signed the grant,
and an entry about auditors that cannot be read ends every grant before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognify_dagster.governance.people.directory import ADMIN, Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.signing.acts import UNSIGNED, act_problem, first_use, people_needed
from cognify_dagster.governance.signing.drafts import ActForm, next_entry, register_form
from cognify_dagster.governance.signing.statements import act_predicate
from cognify_dagster.records import AuditorGranted, AuditorGrantEnded, build, parse_utc
from cognify_dagster.workspace import Reading, Recorded

MAX_DAYS = 90
SUBJECT = "auditors"
Granted = Recorded[AuditorGranted]


@dataclass(frozen=True)
class AuditorGrant:
    """A grant and where it stands. `why` says why it never counted; `ended` is the entry that ended it early."""

    item: Granted
    why: str | None = None
    ended: int | None = None

    @property
    def until(self) -> datetime:
        """When it ends at the latest."""
        return parse_utc(self.item.record.until)

    def holds(self, now: datetime) -> bool:
        """Whether it gives anything at a moment."""
        return self.why is None and self.ended is None and now < self.until


def auditor_grants(reading: Reading) -> list[AuditorGrant]:
    """Return every grant, oldest first, with where it stands at the end of a reading."""
    head = reading.view.heads.get(SUBJECT, -1)
    key = ("auditor grants", reading.origin)
    kept = reading.memo.get(key)
    if kept is not None and kept[0] == (head, _people_mark(reading)):
        return list(kept[1])
    found = _judged(reading)
    reading.memo[key] = ((head, _people_mark(reading)), tuple(found))
    return found


def _people_mark(reading: Reading) -> tuple[int, ...]:
    """What a signature's worth depends on besides the entries about auditors."""
    heads = reading.view.heads
    return tuple(heads.get(subject, -1) for subject in ("people", "policy", "ledger"))


def _judged(reading: Reading) -> list[AuditorGrant]:
    people, used = directory(reading), set[str]()
    found: dict[int, AuditorGrant] = {}
    for entry in (item.entry for item in reading.view.history(SUBJECT)):
        item = reading.at(entry.seq)
        if item is None:
            found = {seq: _ended(one, entry.seq) for seq, one in found.items()}
        elif isinstance(item.record, AuditorGranted):
            granted = reading.find(AuditorGranted, entry.seq)
            assert granted is not None
            why = grant_problem(reading, granted, people) or first_use(granted.record.envelopes, used)
            found[entry.seq] = AuditorGrant(granted, why)
        elif isinstance(item.record, AuditorGrantEnded):
            ending = reading.find(AuditorGrantEnded, entry.seq)
            assert ending is not None
            seq = ending.record.grant_seq
            problem = end_problem(reading, ending, people) or first_use((ending.record.envelope,), used)
            if problem is None and seq in found:
                found[seq] = _ended(found[seq], entry.seq)
    return list(found.values())


def _ended(grant: AuditorGrant, seq: int) -> AuditorGrant:
    return grant if grant.ended is not None else AuditorGrant(grant.item, grant.why, seq)


def auditor_grant(reading: Reading, seq: int) -> AuditorGrant | None:
    """Return the grant of an entry, None if that entry is none."""
    return next((one for one in auditor_grants(reading) if one.item.seq == seq), None)


def grant_problem(reading: Reading, item: Granted, people: Directory) -> str | None:
    """Say why a grant does not count as the entry it is, or None."""
    record = item.record
    until = parse_utc(record.until)
    if until <= item.when:
        return f"it had ended ({record.until}) when it was granted"
    if until > item.when + timedelta(days=MAX_DAYS):
        return f"a grant lasts at most {MAX_DAYS} days; this one would end {record.until}"
    policy = people.policy_at(item.seq)
    roles = set(policy.acting_roles if policy is not None else ())
    problem = act_problem(
        reading, item, record.envelopes, people, roles, needed=people_needed(reading), claimed=record.granted_by,
        allows=True,
    )  # fmt: skip
    if problem:
        return problem
    signed = {str(act_predicate(envelope)["person"]) for envelope in record.envelopes}
    if not any(ADMIN in people.roles_at(who, item.seq, item.time_us) for who in signed):
        return f"it is signed by nobody with the role {ADMIN}"
    return None


def end_problem(reading: Reading, item: Recorded[AuditorGrantEnded], people: Directory) -> str | None:
    """Say why an ending does not count, or None."""
    record = item.record
    grant = reading.find(AuditorGranted, record.grant_seq, item.seq)
    if grant is None:
        return f"entry {record.grant_seq} is no grant before it"
    policy = people.policy_at(item.seq)
    own = record.ended_by in grant.record.granted_by
    roles = policy.acting_roles if own and policy is not None else (ADMIN,)
    return act_problem(reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.ended_by,))


# --- making ----------------------------------------------------------------------------------------------------------


def grant_record(
    name: str,
    organisation: str,
    *,
    until: str,
    reason: str,
    signers: Sequence[str],
    models: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> AuditorGranted:
    """Return the record of a grant, without signatures, for `propose_act`.

    Args:
        name: of the auditor.
        organisation: where they come from.
        until: `YYYY-MM-DDTHH:MM:SSZ`, at most 90 days from now.
        reason: what the audit is about.
        signers: person ids of an admin and a second person.
        models: the models that may be seen; all if empty.
        classes: `confidential`, `personal`: encrypted classes that may be read; none unless given.

    Raises:
        RecordError: naming the field that is wrong.
    """
    facts = {
        "name": name, "organisation": organisation, "models": tuple(sorted(set(models))),
        "classes": tuple(sorted(set(classes))), "until": until, "reason": reason,
        "granted_by": tuple(sorted(set(signers))), "envelopes": (),
    }  # fmt: skip
    return build(AuditorGranted, facts)


def ending_record(seq: int, reason: str, by: str) -> AuditorGrantEnded:
    """Return the record that ends a grant, without its signature.

    Raises:
        RecordError: naming the field that is wrong.
    """
    return build(AuditorGrantEnded, {"grant_seq": seq, "reason": reason, "ended_by": by, "envelope": UNSIGNED})


# --- how they are signed and judged ----------------------------------------------------------------------------------


def _meaning(record: AuditorGranted) -> str:
    what = f"the models {', '.join(record.models)}" if record.models else "all models"
    sealed = f", with {' and '.join(record.classes)} evidence" if record.classes else ""
    return f"{record.name} of {record.organisation} may read about {what}{sealed} until {record.until}."


def _roles(reading: Reading, record: AuditorGranted, _person: str) -> tuple[str, ...]:
    acting = policy_in_force(reading).policy.acting_roles
    return (ADMIN, *(role for role in acting if role != ADMIN))


def _ending_roles(reading: Reading, record: AuditorGrantEnded, person: str) -> tuple[str, ...]:
    grant = reading.find(AuditorGranted, record.grant_seq)
    own = grant is not None and person in grant.record.granted_by
    return policy_in_force(reading).policy.acting_roles if own else (ADMIN,)


def _judge(reading: Reading, item: Granted) -> str | None:
    return grant_problem(reading, item, directory(reading))


def _judge_ending(reading: Reading, item: Recorded[AuditorGrantEnded]) -> str | None:
    problem = end_problem(reading, item, directory(reading))
    grant = auditor_grant(reading, item.record.grant_seq)
    if problem is None and grant is not None and grant.ended is not None:
        return f"the grant of entry {item.record.grant_seq} was ended already, by entry {grant.ended}"
    return problem


def _check(reading: Reading, record: AuditorGranted, signers: Sequence[str]) -> str | None:
    people, item = directory(reading), next_entry(reading, record)
    until = parse_utc(record.until)
    if not item.when < until <= item.when + timedelta(days=MAX_DAYS):
        return f"a grant ends after it begins, and within {MAX_DAYS} days; {record.until} is not such a time"
    if len(set(signers)) < people_needed(reading):
        return f"this needs the signatures of {people_needed(reading)} different people, one of them a {ADMIN}"
    if not any(ADMIN in people.roles_at(who, item.seq, item.time_us) for who in signers):
        return f"one of those who sign must hold the role {ADMIN}"
    unknown = [name for name in record.models if f"model/{name}" not in reading.view.heads]
    return f"there is no model {unknown[0]}" if unknown else None


def _check_ending(reading: Reading, record: AuditorGrantEnded, signers: Sequence[str]) -> str | None:
    grant = auditor_grant(reading, record.grant_seq)
    if grant is None:
        return f"entry {record.grant_seq} is no grant; see the page of grants"
    if grant.ended is not None:
        return f"the grant of entry {record.grant_seq} was ended already, by entry {grant.ended}"
    return None


register_form(
    ActForm(
        record=AuditorGranted,
        signers=lambda record: record.granted_by,
        roles=_roles,
        meaning=_meaning,
        judge=_judge,
        check=_check,
    )
)
register_form(
    ActForm(
        record=AuditorGrantEnded,
        signers=lambda record: (record.ended_by,),
        roles=_ending_roles,
        meaning=lambda record: f"The auditor's grant of entry {record.grant_seq} ends now.",
        judge=_judge_ending,
        check=_check_ending,
    )
)
