"""Sign-off: the one function through which every surface submits a signed statement.

Invariants: nothing becomes a `sign_off` entry that does not verify, is not about the current package, or breaks role, order
or separation of duties; a refused attempt becomes a `sign_off_refused` entry with its reasons.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

from cognify_dagster.governance.errors import GovernanceError, SignatureError, SignOffDenied
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.people.groups import sso_problem
from cognify_dagster.governance.release.approvals import check_sign_off
from cognify_dagster.governance.signing.eligibility import MAX_STATEMENT_AGE, Attempt, rule_problems
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.proposing import Choice, propose
from cognify_dagster.governance.signing.statements import SignOffPredicate, envelope_statement, read_sign_off, seal
from cognify_dagster.ledger import Receipt, SizeChanged
from cognify_dagster.records import Envelope, SignOff, SignOffRefused
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

__all__ = ["MAX_STATEMENT_AGE", "Choice", "sign_off", "submit"]
_RETRIES = 5


def sign_off(workspace: Workspace, model: str, version: str, key: PersonalKey, choice: Choice) -> Receipt:
    """Propose, sign and submit in one step.

    Raises:
        SignOffDenied: with every reason; the attempt is recorded.
    """
    statement = propose(workspace.read(), model, version, key.person, key.key_id, choice)
    return submit(workspace, seal(statement, key.key_id, key.sign))


def submit(workspace: Workspace, envelope: Envelope) -> Receipt:
    """Verify a signed statement and append it, or record the refusal.

    Raises:
        SignatureError: if the envelope holds no sign-off statement for this ledger at all.
        SignOffDenied: with every reason; the attempt is recorded.
    """
    statement = envelope_statement(envelope)
    predicate = read_sign_off(statement)
    if predicate.ledger != workspace.origin:
        raise SignatureError(
            f"the statement is for workspace {predicate.ledger!r}, this is {workspace.origin!r}; it is worthless here"
        )
    digest = hashlib.sha256(statement).hexdigest()
    reading = workspace.read()
    key = directory(reading).key_at(predicate.person, predicate.key_id, reading.size)
    strength = key.strength if key is not None else "S3"
    record = SignOff(
        model=predicate.model,
        version=predicate.version,
        stage=predicate.stage,
        decision=predicate.decision,
        role=predicate.role,
        person=predicate.person,
        key_id=predicate.key_id,
        strength=strength,
        package_digest=predicate.package.digest,
        package_seq=predicate.package.entry_seq,
        statement_digest=digest,
        signed_at=predicate.signed_at,
        envelope=envelope,
    )
    for attempt in range(_RETRIES):
        reading = workspace.read() if attempt else reading
        reasons = _problems(reading, record, predicate)
        if reasons:
            _record_refusal(workspace, record, reasons)
            raise SignOffDenied(reasons)
        try:
            return workspace.append(
                record,
                actor=predicate.person,
                idem=idempotency_key("sign_off", digest),
                expected_size=None if _submitted(reading, record) else reading.size,
                checkpoint=True,
            )
        except SizeChanged:
            continue
    raise GovernanceError("the ledger kept changing while signing; try again")


def _submitted(reading: Reading, record: SignOff) -> bool:
    """Whether `submit` itself appended this statement before; an entry that only claims the digest does not have its key."""
    idem = idempotency_key("sign_off", record.statement_digest)
    return reading.view.find(idem, f"model/{record.model}@{record.version}") is not None


def _problems(reading: Reading, record: SignOff, predicate: SignOffPredicate) -> list[str]:
    """Return every reason why this sign-off must not enter the ledger."""
    if _submitted(reading, record):
        return []  # a retry: the append below returns the old receipt
    people = directory(reading)
    checked = check_sign_off(_as_next_entry(reading, record), reading, people)
    if isinstance(checked, str):
        return [checked]
    stale = sso_problem(reading, people, _as_next_entry(reading, record), predicate, datetime.now(timezone.utc))
    return ([stale] if stale else []) + rule_problems(Attempt.now(reading, predicate, record.strength))


def _as_next_entry(reading: Reading, record: SignOff) -> Recorded[SignOff]:
    last = reading.view.entries[-1]
    return Recorded(reading.size, last.entry.time_us, "", record.person, record.key_id, record, last)


def _record_refusal(workspace: Workspace, record: SignOff, reasons: list[str]) -> None:
    refusal = SignOffRefused(
        model=record.model,
        version=record.version,
        stage=record.stage,
        decision=record.decision,
        role=record.role,
        person=record.person,
        statement_digest=record.statement_digest,
        reasons=tuple(reasons),
    )
    workspace.append(
        refusal,
        actor=record.person,
        idem=idempotency_key("sign_off_refused", record.statement_digest, *reasons),
        checkpoint=True,
    )
