"""Works out what the inventory shows of a model, and what the policy still asks for of a dataset. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from cognify_dagster.governance import (
    Directory,
    LiveState,
    Policy,
    classification_of,
    demands_on,
    directory,
    findings_about,
    live_state,
    missing_for,
    policy_in_force,
)
from cognify_dagster.governance.oversight.dataset_changes import makers, snapshots_of
from cognify_dagster.governance.oversight.news import REVIEW_NOTICE, owners_of
from cognify_dagster.governance.oversight.reviews import reviews_of
from cognify_dagster.governance.release.involvement import excluded_from
from cognify_dagster.records import parse_utc
from cognify_dagster.review.reading.briefs import DatasetBrief, FindingBrief, InUse, ModelBrief
from cognify_dagster.workspace import Reading

_ASKED = ("dataset_not_approved", "dataset_reason_missing", "dataset_rejected")


def model_brief(
    reading: Reading, model: str, targets: Iterable[str], found_in: Iterable[str | None], now: datetime
) -> tuple[ModelBrief, datetime | None]:
    """Return a model as the inventory shows it, and the moment from which time alone may change that.

    Args:
        reading: verified entries.
        model: model key.
        targets: the targets that it was released to.
        found_in: the versions that findings are about; None for the model as a whole.
        now: the present.
    """
    people, policy = directory(reading), policy_in_force(reading).policy
    known = classification_of(reading, people, policy, model)
    registered = known.registered.record if known.registered else None
    owners = owners_of(reading, model)
    states = [live_state(reading, model, target, now) for target in sorted(targets)]
    retired = reviews_of(reading, people, policy, model).retired is not None
    in_use = tuple(_in_use(state) for state in states if state.version is not None)
    findings = tuple(_findings(reading, people, policy, model, found_in, now))
    soon = any(item.review_due and parse_utc(item.review_due) - REVIEW_NOTICE <= now for item in in_use)
    reviewers = [person.person for role in policy.review_roles for person in people.with_role(role)] if soon else []
    value = ModelBrief(
        model=model,
        title=registered.title if registered else "",
        owner=", ".join(people.name(item) for item in owners) or "nobody named",
        owners=owners,
        tier=known.tier,
        classified=known.signed is not None,
        frameworks=registered.frameworks if registered else (),
        in_use=in_use,
        retired=retired,
        findings=findings,
        reviewers=tuple(dict.fromkeys(reviewers)),
        registered_us=known.registered.time_us if known.registered else 0,
    )
    moments = [item.review_due for item in in_use] + [item.accepted_until for item in findings]
    notices = [parse_utc(item.review_due) - REVIEW_NOTICE for item in in_use if item.review_due]
    notices += [when for text in moments if text for when in [parse_utc(text)]]
    return value, min((moment for moment in notices if moment > now), default=None)


def _in_use(state: LiveState) -> InUse:
    return InUse(
        state.target,
        state.version or "",
        state.standing,
        state.completed.time_us if state.completed else 0,
        state.review.due,
        state.review.overdue,
        state.reasons[0].text if state.reasons else "",
    )


def _findings(
    reading: Reading, people: Directory, policy: Policy, model: str, versions: Iterable[str | None], now: datetime
) -> Iterator[FindingBrief]:
    roles = {*policy.findings.close_roles, *policy.findings.accept_roles}
    seen: set[int] = set()
    for version in dict.fromkeys([None, *versions]):
        found = [
            item
            for item in findings_about(reading, people, policy, model, version, now).items
            if item.closed_seq is None and item.seq not in seen
        ]
        hands = excluded_from(reading, policy, model, version) if found and version else frozenset[str]()
        for item in found:
            seen.add(item.seq)
            may = [p.person for p in people.people() if roles & set(p.roles) and p.person not in hands]
            entry = reading.at(item.seq)
            yield FindingBrief(
                item.seq, item.version, item.severity, item.title, item.raised_by, entry.time_us if entry else 0, item.due,
                getattr(entry.record, "owner", None) if entry else None, item.accepted_until, tuple(may),
            )  # fmt: skip


def dataset_brief(reading: Reading, name: str) -> DatasetBrief | None:
    """Return what the policy asks for of a dataset's newest root, whatever tier asks, and is not there; None if nothing is."""
    people, policy = directory(reading), policy_in_force(reading).policy
    wanted = demands_on(policy, name, None)
    if not (wanted.approvals or wanted.reason):
        return None
    held = snapshots_of(reading, name)
    if not held:
        return None
    missing = [item for item in missing_for(reading, people, policy, name, held[-1].seq, None) if item.code in _ASKED]
    if not missing:
        return None
    start = next((n for n in range(len(held) - 1, 0, -1) if held[n - 1].record.root != held[-1].record.root), 0)
    made = makers(held[start:])
    roles = {item.role for item in wanted.approvals}
    may = [person.person for person in people.people() if roles & set(person.roles) and person.person not in made]
    return DatasetBrief(
        name,
        held[start].seq,
        tuple(item.text for item in missing),
        tuple(may),
        held[start].time_us,
        held[start].record.author,
    )
