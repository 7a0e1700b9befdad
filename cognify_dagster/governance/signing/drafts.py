"""Acts as drafts: proposed where the workspace is, signed by each person where their key is, submitted once all have signed.

Invariants: everybody signs the same canonical facts, for one ledger, naming the head that was exported; a draft is nobody's word: who
signs sees its facts and not a summary of them; nothing is appended that would not count as the next entry; a statement older
than 14 days is not taken. Signing needs no workspace.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from cognify_dagster.governance.errors import GovernanceError, SignatureError
from cognify_dagster.governance.people.authority import RECOVERY
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.signing.acts import UNSIGNED, already, decide_and_append
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.statements import (
    act_content_digest,
    act_predicate,
    act_statement,
    read_act,
    seal,
    statement_digest,
)
from cognify_dagster.ledger import Checkpoint, Receipt, merkle_root
from cognify_dagster.records import Envelope, PublicKey, Record, RecordError, build, kinds, parse_utc, read_record, utc
from cognify_dagster.records.base import Hex64, Json, Part, Utc
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

FORMAT: Literal["cognify-act/v1"] = "cognify-act/v1"
MAX_AGE = timedelta(days=14)
MAX_DRAFT = 1_000_000
_SKEW = timedelta(minutes=5)
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class ActForm(Generic[R]):
    """How a kind of act is signed and judged.

    `signers` says who has to sign, in order: person ids, or `recovery:<key id>`; where a record does not name its signers, they are
    given when it is proposed. `roles` gives the roles of which a signer needs one (none: any role will do). `judge` says why a
    record does not count as the entry it would become, with its signatures; `check` the same before anybody signed.
    """

    record: type[R]
    signers: Callable[[R], Sequence[str]]
    roles: Callable[[Reading, R, str], Sequence[str]]
    meaning: Callable[[R], str]
    judge: Callable[[Reading, Recorded[R]], str | None]
    check: Callable[[Reading, R, Sequence[str]], str | None] = lambda reading, record, signers: None


_FORMS: dict[str, ActForm[Any]] = {}


def register_form(form: ActForm[R]) -> ActForm[R]:
    """Make a kind of act one that can be proposed, signed apart and submitted."""
    _FORMS[form.record.kind] = form
    return form


def form_of(kind: str) -> ActForm[Any]:
    """Return the form of a kind of act.

    Raises:
        GovernanceError: if no act of this kind is known.
    """
    if kind not in _FORMS:
        raise GovernanceError(f"{kind[:60]!r} is no act that people sign with this release")
    return _FORMS[kind]


class Signatory(Part):
    """Who has to sign a draft, and in which role; `key_id` only for a recovery key, which belongs to no person here."""

    person: str = Field(pattern=r"^(person/[a-z0-9][a-z0-9-]{1,60}|recovery)$")
    role: str = ""
    key_id: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")

    def __str__(self) -> str:
        return f"recovery key {self.key_id}" if self.key_id else self.person


class ActDraft(Part):
    """An act with the signatures it has so far."""

    format: Literal["cognify-act/v1"] = FORMAT
    ledger: str
    kind: str
    schema_version: int = Field(ge=1)
    facts: dict[str, Json]
    meaning: str
    signatories: tuple[Signatory, ...] = Field(min_length=1, max_length=40)
    size: int = Field(ge=1, description="the ledger's head that was exported: entries")
    root: Hex64
    prepared_at: Utc
    envelopes: dict[str, Envelope] = Field(default_factory=dict, description="signatory to signature")

    def record(self) -> Record:
        """Return the record that is signed, without signatures.

        Raises:
            RecordError: if the facts are those of no such record.
        """
        model = kinds().get(self.kind)
        unsigned = {"envelope": UNSIGNED.model_dump(), "envelopes": []}
        added = {name: value for name, value in unsigned.items() if model and name in model.model_fields}
        record = read_record(self.kind, self.schema_version, {"facts": {**self.facts, **added}})
        if act_content_digest(record.facts()) != act_content_digest(self.facts):
            raise RecordError(f"{self.kind}: the draft's facts are not in their canonical form")
        return record

    def missing(self) -> tuple[Signatory, ...]:
        """Return who has not signed yet."""
        return tuple(item for item in self.signatories if str(item) not in self.envelopes)

    def sealed(self) -> Record:
        """Return the record with its signatures, the first signatory's in `envelope` where the record has that field.

        Raises:
            GovernanceError: if somebody has not signed yet.
        """
        if self.missing():
            raise GovernanceError(f"not signed yet by {', '.join(map(str, self.missing()))}")
        record, signed = self.record(), [self.envelopes[str(item)] for item in self.signatories]
        update: dict[str, Any] = {}
        if "envelope" in type(record).model_fields:
            update["envelope"] = signed.pop(0)
        if "envelopes" in type(record).model_fields:
            update["envelopes"] = tuple(signed)
        elif signed:
            raise GovernanceError(f"a {self.kind} record has room for one signature only")
        return record.model_copy(update=update)

    def to_bytes(self) -> bytes:
        """Return the draft as a file's content."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False).encode() + b"\n"


def read_draft(data: bytes, source: str = "the draft") -> ActDraft:
    """Read a draft file strictly.

    Raises:
        GovernanceError: naming source and field.
    """
    try:
        if len(data) > MAX_DRAFT:
            raise RecordError(f"larger than {MAX_DRAFT} bytes")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise RecordError("a JSON object was expected")
        draft = build(ActDraft, value)
        if form_of(draft.kind).meaning(draft.record()) != draft.meaning:
            raise RecordError("its meaning is not the one that acts of this kind have")
    except (ValueError, RecursionError, GovernanceError) as error:
        raise GovernanceError(f"{source}: not the draft of an act: {' '.join(str(error).split())}") from error
    names = [str(item) for item in draft.signatories]
    if len(set(names)) != len(names) or not set(draft.envelopes) <= set(names):
        raise GovernanceError(f"{source}: a signatory stands there twice, or a signature is nobody's")
    return draft


def propose_act(reading: Reading, record: Record, signers: Sequence[str] = ()) -> ActDraft:
    """Return a draft that nobody has signed yet; nothing is written.

    Args:
        reading: the ledger as it is now.
        record: the act, naming its signers where its kind does.
        signers: who has to sign, where the record does not say.

    Raises:
        GovernanceError: if the act would not count, or one of the signers may not sign it.
    """
    form = form_of(record.kind)
    names = tuple(form.signers(record)) or tuple(signers)
    people, now = directory(reading), time.time_ns() // 1000
    for name in names:
        if not name.startswith(f"{RECOVERY}:") and people.person_at(name, reading.size) is None:
            raise GovernanceError(f"{name} is not enrolled in this workspace; see `cognify people enrol --help`")
    problem = form.check(reading, record, names)
    if problem:
        raise GovernanceError(problem)
    signatories = []
    for name in names:
        if name.startswith(f"{RECOVERY}:"):
            signatories.append(Signatory(person=RECOVERY, role=RECOVERY, key_id=name.partition(":")[2]))
            continue
        wanted, held = tuple(form.roles(reading, record, name)), people.roles_at(name, reading.size, now)
        role = next((role for role in wanted or sorted(held) if role in held), "")
        if wanted and not role:
            raise GovernanceError(
                f"{people.name(name)} may not sign this: one of the roles {', '.join(wanted)} is needed"
            )
        signatories.append(Signatory(person=name, role=role))
    facts = {key: value for key, value in record.facts().items() if key not in ("envelope", "envelopes")}
    return ActDraft(
        ledger=reading.origin,
        kind=record.kind,
        schema_version=record.schema_version,
        facts=facts,
        meaning=form.meaning(record),
        signatories=tuple(signatories),
        size=reading.size,
        root=reading.view.root.hex(),
        prepared_at=utc(),
    )


def sign_draft(draft: ActDraft, key: PersonalKey) -> ActDraft:
    """Return the draft with one more signature. Needs no workspace.

    Raises:
        GovernanceError: if the key is none of a person who has to sign, or they signed already.
    """
    return add_signature(draft, seal(draft_statement(draft, key.person, key.key_id), key.key_id, key.sign))


def draft_statement(draft: ActDraft, person: str, key_id: str) -> bytes:
    """Return the statement that a person signs of a draft with a key, dated now; its signature goes to `add_signature`.

    Raises:
        GovernanceError: if the key is none of a person who has to sign, or they signed already.
    """
    who = signatory_for(draft, person, key_id)
    if str(who) in draft.envelopes:
        raise GovernanceError(f"{who} signed this already")
    return act_statement(
        draft.record(),
        ledger=draft.ledger,
        person=who.person,
        key_id=key_id,
        role=who.role,
        meaning=draft.meaning,
        head=Checkpoint(draft.ledger, draft.size, bytes.fromhex(draft.root)),
    )


def add_signature(draft: ActDraft, envelope: Envelope) -> ActDraft:
    """Return the draft with one more signature, which is not verified here: see `check_signature`.

    Raises:
        GovernanceError: if it is nobody's who has to sign, or they signed already.
    """
    predicate = act_predicate(envelope)
    who = signatory_for(draft, str(predicate.get("person")), str(predicate.get("key_id")))
    if str(who) in draft.envelopes:
        raise GovernanceError(f"{who} signed this already")
    return draft.model_copy(update={"envelopes": {**draft.envelopes, str(who): envelope}})


def check_signature(reading: Reading, draft: ActDraft, envelope: Envelope) -> None:
    """See that one signature of a draft would hold if it were submitted now, the others aside.

    Raises:
        GovernanceError: saying why it would not.
    """
    record, people = draft.record(), directory(reading)
    keys = {key.key_id: key for key in people.recovery_keys}

    def find(person: str, key_id: str) -> PublicKey | None:
        return keys.get(key_id) if person == RECOVERY else people.signing_key(person, key_id, reading.size)

    predicate = read_act(next_entry(reading, record), envelope, reading.origin, find)
    who = signatory_for(draft, str(predicate["person"]), str(predicate["key_id"]))
    _check_signed(reading, draft.model_copy(update={"envelopes": {str(who): envelope}}), record)


def signatory_for(draft: ActDraft, person: str, key_id: str) -> Signatory:
    """Return as whom the holder of a key signs a draft.

    Raises:
        GovernanceError: if they do not have to sign it.
    """
    found = next(
        (item for item in draft.signatories if (item.key_id == key_id if item.key_id else item.person == person)), None
    )
    if found is None:
        raise GovernanceError(
            f"{person} (key {key_id}) does not sign this: it is for {', '.join(map(str, draft.signatories))}"
        )
    return found


def merge_drafts(drafts: Sequence[ActDraft]) -> ActDraft:
    """Join the signatures of copies of one draft that were signed apart.

    Raises:
        GovernanceError: if they are drafts of different acts.
    """
    first = drafts[0]
    joined: dict[str, Envelope] = {}
    for draft in drafts:
        if draft.model_copy(update={"envelopes": {}}) != first.model_copy(update={"envelopes": {}}):
            raise GovernanceError("these files are not copies of the same draft")
        joined |= draft.envelopes
    return first.model_copy(update={"envelopes": joined})


def submit_draft(workspace: Workspace, draft: ActDraft) -> Receipt:
    """Append an act once all have signed. Submitting it again returns the old receipt.

    Raises:
        GovernanceError: if a signature is missing, too old or does not count, or the act would have no effect now.
    """
    return decide_and_append(workspace, lambda reading: _append(workspace, reading, draft))


def perform_act(
    workspace: Workspace,
    make: Callable[[Reading], Record | Callable[[], Receipt]],
    keys: Sequence[PersonalKey],
) -> Receipt:
    """Propose, sign and append an act for which all keys are here.

    Args:
        workspace: where.
        make: returns the record for a reading, or `already(…)` where nothing is left to do.
        keys: of all who sign, as the record names them; where its kind names nobody, their holders are the signers.

    Raises:
        GovernanceError: if the act would have no effect, or a signature is missing.
    """

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        record = make(reading)
        if not isinstance(record, Record):
            return record
        people, draft = directory(reading), propose_act(reading, record, [key.person for key in keys])
        for key in keys:
            person, key_id = signatory_for(draft, key.person, key.key_id).person, key.key_id
            if person != RECOVERY and people.signing_key(person, key_id, reading.size) is None:
                name = people.name(person)
                raise GovernanceError(f"the key {key_id} of {name} is not valid here (not enrolled, or revoked)")
            draft = sign_draft(draft, key)
        return _append(workspace, reading, draft)

    return decide_and_append(workspace, attempt)


def next_entry(reading: Reading, record: R) -> Recorded[R]:
    """Return a record as the next entry of a reading would hold it, to be judged before it is appended."""
    last = reading.view.entries[-1]
    now = max(last.entry.time_us, time.time_ns() // 1000)
    entry = replace(last, payload=json.loads(record.payload()), salt=None)
    return Recorded(reading.size, now, "", "", "", record, entry)


def _append(workspace: Workspace, reading: Reading, draft: ActDraft) -> Callable[[], Receipt]:
    if draft.ledger != reading.origin:
        raise SignatureError(
            f"the draft is for workspace {draft.ledger!r}, this is {reading.origin!r}; it is worthless here"
        )
    record = draft.sealed()
    idem = idempotency_key(draft.kind, *sorted(statement_digest(item) for item in draft.envelopes.values()))
    done = next((item.entry.seq for item in reading.view.entries if item.entry.idem == idem), None)
    if done is not None:
        return already(reading, done)
    _check_signed(reading, draft, record)
    problem = form_of(draft.kind).judge(reading, next_entry(reading, record))
    if problem:
        raise GovernanceError(problem)
    actor = next((item.person for item in draft.signatories if not item.key_id), RECOVERY)
    return lambda: workspace.append(record, actor=actor, idem=idem, expected_size=reading.size, checkpoint=True)


def _check_signed(reading: Reading, draft: ActDraft, record: Record) -> None:
    """What a signature must say besides the facts: the meaning of this act, a date not too long ago, a head of this ledger."""
    if draft.meaning != form_of(draft.kind).meaning(record):
        raise SignatureError("the draft says of itself another meaning than acts of this kind have")
    known: dict[int, str] = {reading.size: reading.view.root.hex()}
    now = datetime.now(timezone.utc)
    for who, envelope in draft.envelopes.items():
        predicate = act_predicate(envelope)
        try:
            signed_at, head = parse_utc(str(predicate["signed_at"])), predicate["checkpoint"]
            size, root, meaning = int(head["size"]), str(head["root"]), predicate["meaning"]
        except (KeyError, TypeError, ValueError) as error:
            raise SignatureError(f"the statement of {who} is malformed") from error
        if meaning != draft.meaning:
            raise SignatureError(f"{who} signed another meaning")
        if not -_SKEW <= now - signed_at <= MAX_AGE:
            raise SignatureError(f"the statement of {who} is dated {utc(signed_at)}; check the clock and sign again")
        if not 0 < size <= reading.size:
            raise SignatureError(f"{who} signed after seeing another history of this ledger")
        if size not in known:
            known[size] = merkle_root(item.entry.leaf for item in reading.view.entries[:size]).hex()
        if known[size] != root:
            raise SignatureError(f"{who} signed after seeing another history of this ledger")
