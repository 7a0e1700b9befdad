"""What is told of an entry of the ledger.

Invariants: an event holds ids, digests, numbers and links; text that people wrote is never in it; who acted is held apart and
sent only to endpoints that were added with it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    FindingOpened,
    FindingResolved,
    ModelEvent,
    Package,
    Reconciliation,
    Record,
    ReleaseGranted,
    ReleaseRefused,
    ReleaseSuspended,
    SignOff,
    SignOffRefused,
    VersionOpened,
    utc,
)
from cognify_dagster.review.rendering import make_path
from cognify_dagster.workspace import Reading, Recorded

TEST = "webhook.test"
VERIFICATION = "verification.failed"
LOCKED = "signin.locked"
OVERDUE = "request.overdue"
EVENTS: Mapping[str, str] = {
    "version.opened": "a model version began to exist",
    "package.built": "a package was frozen and can be signed",
    "signoff.recorded": "a sign-off was recorded: approval, rejection, block, withdrawal, acknowledgement",
    "signoff.refused": "somebody tried to sign and was refused",
    "version.blocked": "a sign-off blocks a version",
    "release.granted": "the gate released a version to a target",
    "release.refused": "the gate refused a deployment",
    "release.suspended": "what is live does not stand any more",
    "deployment.completed": "a released version went live",
    "deployment.failed": "a released version could not be installed",
    "finding.opened": "a person or reconciliation found something",
    "finding.resolved": "a finding was closed, or its risk accepted",
    "incident": "an incident with a model was reported",
    "model.event": "data change, base model change, breach of a drift limit or framework change was reported",
    OVERDUE: "something that people were asked for was not done in time; once when it is overdue, and again at each later step",
    VERIFICATION: "the ledger did not verify",
    LOCKED: "too many attempts to sign in to the review site locked an account's password or an address",
    TEST: "somebody tests the endpoint",
}
"""Every event there is, with what it says."""


@dataclass(frozen=True)
class Event:
    """Something to tell.

    Args:
        name: a key of `EVENTS`.
        key: what it happened by, so that its id follows from it: the entry's leaf hash, or other text that is unique to it.
        when: UTC, ISO 8601.
        data: what is told.
        people: who acted, told only where that was asked for.
        seq: the entry; None if it is about no entry.
        model: the model it is about, if one.
    """

    name: str
    key: str
    when: str
    data: Mapping[str, Any]
    people: Mapping[str, Any] = field(default_factory=dict)
    seq: int | None = None
    model: str = ""

    def id_for(self, endpoint: str) -> str:
        """Return the id under which an endpoint gets it, each time it is sent."""
        parts = "\0".join(("cognify.webhook.v1", endpoint, self.name, self.key))
        return "msg_" + hashlib.sha256(parts.encode()).hexdigest()[:40]

    def body(self, *, people: bool) -> dict[str, Any]:
        """Return what is sent: `type`, `timestamp`, `data`."""
        return {
            "type": self.name,
            "timestamp": self.when,
            "data": {**self.data, **(self.people if people else {})},
        }


def events_of(reading: Reading, item: Recorded[Record], link: Callable[[str], str]) -> list[Event]:
    """Return what an entry tells; nothing for most kinds.

    Args:
        reading: the ledger with the entry.
        item: the entry.
        link: makes a full address of a path of the site.
    """
    record = item.record
    told = _TELL.get(type(record))
    if told is None:
        return []
    if isinstance(record, DeploymentCompleted) and not _granted(reading, item):
        return []  # written past the gate: the reconciliation's finding tells of it
    model: str | None = getattr(record, "model", None)
    version: str | None = getattr(record, "version", None)
    path = make_path(*(part for part in ("models", model, version) if part)) if model else "/ledger"
    shared = {
        "workspace": reading.origin,
        "entry": item.seq,
        "leaf": item.leaf,
        **({"model": model} if model else {}),
        **({"version": version} if version else {}),
        **({"target": target} if (target := getattr(record, "target", None)) else {}),
        "url": link(path),
        "entry_url": link(make_path("ledger", "entries", item.seq)),
    }
    names, facts, people = told(record)
    data = {**shared, **{key: value for key, value in facts.items() if value is not None}}
    when = utc(item.when)
    return [Event(name, item.leaf, when, data, people, item.seq, model or "") for name in names]


def verification_failed(origin: str, outcome: str, text: str, now: datetime, link: str) -> Event:
    """Return the event that a ledger did not verify; the same failure makes the same event for a day.

    Args:
        origin: the ledger.
        outcome: tampered, rolled_back or unreadable.
        text: what verification said.
        now: when.
        link: where to look.
    """
    key = hashlib.sha256("\0".join((origin, outcome, text, now.strftime("%Y-%m-%d"))).encode()).hexdigest()
    data = {"workspace": origin, "outcome": outcome, "reason": " ".join(text.split())[:500], "url": link}
    return Event(VERIFICATION, key, utc(now), data)


def sign_in_locked(origin: str, code: str, what: str, now: datetime, link: str) -> Event:
    """Return the event that signing in was locked; the same lock makes the same event for an hour.

    Args:
        origin: the ledger.
        code: locked-account or locked-address.
        what: digest of which account or address; only to tell locks apart, it is not told.
        now: when.
        link: where to look.
    """
    key = hashlib.sha256("\0".join((origin, code, what, now.strftime("%Y-%m-%dT%H"))).encode()).hexdigest()
    return Event(LOCKED, key, utc(now), {"workspace": origin, "outcome": code, "url": link})


def request_overdue(
    origin: str, request: str, step: int, when: datetime, data: Mapping[str, Any], people: Sequence[str]
) -> Event:
    """Return the event that a request is overdue; the same request and step make the same event, whoever tells it and when.

    Args:
        origin: the ledger.
        request: digest that tells the request from all others.
        step: which step it reached, from 1.
        when: the moment at which that step began.
        data: what is told besides; ids, numbers, dates and links.
        people: ids of those whom it waits for, told only where that was asked for.
    """
    key = hashlib.sha256("\0".join((origin, request, str(step))).encode()).hexdigest()
    told = {"workspace": origin, "request": request, "step": step, **data}
    return Event(OVERDUE, key, utc(when), told, {"waits_for": list(people)}, None, str(data.get("model", "")))


def trial_event(origin: str, link: str) -> Event:
    """Return an event that only says that it is a test; each has an id of its own."""
    data = {"workspace": origin, "url": link, "note": "This is a test; nothing happened."}
    return Event(TEST, secrets.token_hex(16), utc(datetime.now(timezone.utc)), data)


def _granted(reading: Reading, item: Recorded[Record]) -> bool:
    done = reading.find(DeploymentCompleted, item.seq)
    return done is not None and grant_of(reading, done) is not None


_Told = tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]


def _version(record: Any) -> _Told:
    return ("version.opened",), {"run": record.run}, {"opened_by": record.opened_by}


def _package(record: Any) -> _Told:
    facts = {"package": record.package.digest, "revision": record.revision, "model_digest": record.model_digest}
    return ("package.built",), facts, {"built_by": record.built_by}


def _sign_off(record: Any) -> _Told:
    names = ("signoff.recorded", "version.blocked") if record.decision == "block" else ("signoff.recorded",)
    facts = {
        "decision": record.decision,
        "stage": record.stage,
        "role": record.role,
        "strength": record.strength,
        "package": record.package_digest,
        "statement": record.statement_digest,
    }
    return names, facts, {"person": record.person}


def _sign_off_refused(record: Any) -> _Told:
    facts = {"decision": record.decision, "stage": record.stage, "role": record.role}
    return ("signoff.refused",), facts, {"person": record.person}


def _granting(record: Any) -> _Told:
    facts = {
        "purpose": record.purpose,
        "package": record.package_digest,
        "model_digest": record.model_digest,
        "supersedes": record.supersedes,
        "waived": list(record.waived),
        "open_conditions": len(record.conditions),
    }
    return ("release.granted",), facts, {}


def _refused(record: Any) -> _Told:
    return (
        ("release.refused",),
        {"run": record.run, "reason_codes": sorted({reason.code for reason in record.reasons})},
        {"requested_by": record.requested_by},
    )


def _suspended(record: Any) -> _Told:
    return ("release.suspended",), {"completed_entry": record.completed_seq, "reasons": len(record.reasons)}, {}


def _completed(record: Any) -> _Told:
    facts = {"grant_entry": record.grant_seq, "model_digest": record.model_digest, "supersedes": record.supersedes}
    return ("deployment.completed",), facts, {}


def _failed(record: Any) -> _Told:
    return ("deployment.failed",), {"grant_entry": record.grant_seq}, {}


def _finding(record: Any) -> _Told:
    return (
        ("finding.opened",),
        {"severity": record.severity, "due": record.due},
        {"raised_by": record.raised_by, "owner": record.owner},
    )


def _reconciliation(record: Any) -> _Told:
    return ("finding.opened",), {"code": record.code, "asset": record.asset}, {}


def _resolved(record: Any) -> _Told:
    facts = {"finding_entry": record.finding_seq, "outcome": record.outcome, "accepted_until": record.accepted_until}
    return ("finding.resolved",), facts, {"resolved_by": record.resolved_by}


def _model_event(record: Any) -> _Told:
    name = "incident" if record.event == "incident" else "model.event"
    return (name,), {"event": record.event}, {"reported_by": record.reported_by}


_TELL: Mapping[type[Record], Callable[[Any], _Told]] = {
    VersionOpened: _version,
    Package: _package,
    SignOff: _sign_off,
    SignOffRefused: _sign_off_refused,
    ReleaseGranted: _granting,
    ReleaseRefused: _refused,
    ReleaseSuspended: _suspended,
    DeploymentCompleted: _completed,
    DeploymentFailed: _failed,
    FindingOpened: _finding,
    Reconciliation: _reconciliation,
    FindingResolved: _resolved,
    ModelEvent: _model_event,
}
KINDS = frozenset(kind.kind for kind in _TELL)
"""The kinds of entry that tell anything."""
