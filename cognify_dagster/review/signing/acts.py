"""Acts that one or several people sign: kept here as a draft until all have signed, then submitted to the ledger.

    id = start(visit, record, ["person/ada", "person/finn"], "Enrol Vera's passkey")   # `record` with UNSIGNED / () for its envelopes
    waiting_for(site, "person/ada")           -> [PendingAct]                          # what an inbox shows
    add_signed(visit, id, envelope)           -> PendingAct                            # also from an uploaded draft; submits when complete
    path_of(id)                               -> "/acts/<id>"                          # where people read and sign it

Invariants: what can be started would count if its signatories signed it now; a signature is kept only if it verifies over exactly these
facts with a key valid now; what is submitted goes through `governance.submit_draft`, which judges anew. A draft is nobody's word.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cognify_dagster.governance import (
    ActDraft,
    GovernanceError,
    add_signature,
    check_signature,
    propose_act,
    read_draft,
    submit_draft,
)
from cognify_dagster.governance.signing.drafts import MAX_AGE
from cognify_dagster.governance.signing.statements import act_content_digest
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import Envelope, Record
from cognify_dagster.review.errors import Refused, ReviewError, not_found
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.pending import (
    ActRow,
    add_act,
    close_act,
    find_act,
    find_open_act,
    keep_draft,
    list_acts,
    new_id,
    note_on_act,
)
from cognify_dagster.review.visit import Visit

_ATTEMPTS = 8
MAX_OPEN, MAX_OPEN_EACH = 1000, 50
"""How many acts wait at the same time: of all people, and of those that one person started."""
Finished = Callable[[Site, "PendingAct", Receipt], None]
_finished: dict[str, list[Finished]] = {}


@dataclass(frozen=True)
class PendingAct:
    """An act with the signatures it has so far.

    Attributes:
        state: open, done (then `seq` is its entry), declined or lapsed.
        note: why it was declined, or why submitting it failed last.
    """

    id: str
    kind: str
    title: str
    draft: ActDraft
    state: str
    created: int
    created_by: str
    expires: int
    seq: int | None
    note: str

    @property
    def people(self) -> frozenset[str]:
        """Who may see it besides the admins: who signs it and who started it."""
        return frozenset({item.person for item in self.draft.signatories} | {self.created_by})

    @property
    def missing(self) -> tuple[str, ...]:
        """Who has not signed yet."""
        return tuple(map(str, self.draft.missing()))


def when_done(kind: str, call: Finished) -> None:
    """Call a function after an act of a kind was recorded. What it does must not matter for the act: it may fail."""
    _finished.setdefault(kind, []).append(call)


def start(at: Visit | Site, record: Record, signers: Sequence[str] = (), title: str = "") -> str:
    """Keep an act to be signed; return its id. An open act with the same content and signatories is returned instead.

    Args:
        at: the visit of who starts it, or the site.
        record: the act, naming its signers where its kind does, without signatures.
        signers: who has to sign, in order, where the record does not say.
        title: what it is, in a few words.

    Raises:
        ReviewError: if it would not count, or one of the signers may not sign it.
    """
    site = at.site if isinstance(at, Visit) else at
    reading = at.reading if isinstance(at, Visit) else at.read()
    try:
        draft = propose_act(reading, record, signers)
    except GovernanceError as error:
        raise ReviewError(str(error)) from error
    now = int(time.time())
    content = act_content_digest({"kind": draft.kind, "facts": draft.facts, "by": [str(i) for i in draft.signatories]})
    row = ActRow(
        id=new_id(),
        kind=draft.kind,
        title=(title or draft.meaning)[:300],
        draft=draft.to_bytes().decode(),
        content=content,
        state="open",
        created=now,
        created_by=at.person if isinstance(at, Visit) else "",
        expires=now + int(MAX_AGE.total_seconds()),
        revision=0,
        seq=None,
        note="",
    )
    with site.store.begin() as connection:
        same = find_open_act(connection, content, now)
        if same is not None:
            return same.id
        waiting = [item.created_by for item in list_acts(connection, now, limit=MAX_OPEN)]
        if len(waiting) >= MAX_OPEN or (row.created_by and waiting.count(row.created_by) >= MAX_OPEN_EACH):
            raise ReviewError("too many acts wait for signatures already; sign or decline some of them first")
        add_act(connection, row, [str(item) for item in draft.signatories])
    return row.id


def path_of(act_id: str) -> str:
    """Return the address of an act's page."""
    return f"/acts/{act_id}"


def find(site: Site, act_id: str) -> PendingAct | None:
    """Return an act, None if there is none."""
    with site.store.begin() as connection:
        row = find_act(connection, act_id)
    return next(iter(_readable([row] if row is not None else [])), None)


def act_for(visit: Visit, act_id: str) -> PendingAct:
    """Return an act that the visitor may see: who signs it, who started it, an admin.

    Raises:
        Refused: 404 for everybody else.
    """
    found = find(visit.site, act_id) if act_id.isalnum() and len(act_id) <= 32 else None
    if found is None or not (visit.person in found.people or (visit.user is not None and visit.user.admin)):
        raise not_found("This act")
    return found


def waiting_for(site: Site, person: str) -> list[PendingAct]:
    """Return the open acts that a person has to sign and has not signed yet, newest first."""
    with site.store.begin() as connection:
        return _readable(list_acts(connection, int(time.time()), signatory=person, unsigned=True))


def acts_of(site: Site, person: str, state: str = "open") -> list[PendingAct]:
    """Return the acts in a state that a person has to sign, signed or not, newest first."""
    with site.store.begin() as connection:
        return _readable(list_acts(connection, int(time.time()), signatory=person, state=state))


def all_acts(site: Site, state: str = "open") -> list[PendingAct]:
    """Return all acts in a state, newest first."""
    with site.store.begin() as connection:
        return _readable(list_acts(connection, int(time.time()), state=state))


def add_signed(visit: Visit, act_id: str, *envelopes: Envelope) -> PendingAct:
    """Add signatures to an act; once all have signed, submit it.

    Raises:
        ReviewError: if a signature does not hold or is nobody's who has to sign; the act is then as it was.
    """
    for _ in range(_ATTEMPTS):
        with visit.site.store.begin() as connection:
            row = find_act(connection, act_id)
        if row is None or row.state != "open" or row.expires <= int(time.time()):
            raise ReviewError("this act is not open any more; nothing was signed")
        draft, signed = read_draft(row.draft.encode()), list[str]()
        try:
            for envelope in envelopes:
                check_signature(visit.refresh(), draft, envelope)
                before = set(draft.envelopes)
                draft = add_signature(draft, envelope)
                signed += [name for name in draft.envelopes if name not in before]
        except GovernanceError as error:
            raise ReviewError(str(error)) from error
        with visit.site.store.begin() as connection:
            kept = keep_draft(connection, row, draft.to_bytes().decode(), signed, int(time.time()))
        if kept:
            return submit(visit.site, act_id) if not draft.missing() else _found(visit.site, act_id)
    raise ReviewError("others sign this act at the same moment; try again")


def add_uploaded(visit: Visit, act_id: str, data: bytes) -> PendingAct:
    """Add what an uploaded copy of the draft, signed elsewhere, holds beyond what is here.

    Raises:
        ReviewError: if it is another draft, or holds nothing new, or a signature does not hold.
    """
    current = act_for(visit, act_id)
    try:
        uploaded = read_draft(data, "the uploaded file")
    except GovernanceError as error:
        raise ReviewError(str(error)) from error
    if uploaded.model_copy(update={"envelopes": {}}) != current.draft.model_copy(update={"envelopes": {}}):
        raise ReviewError("the uploaded file is the draft of another act, or of this one prepared anew")
    new = [envelope for name, envelope in uploaded.envelopes.items() if name not in current.draft.envelopes]
    if not new:
        raise ReviewError("the uploaded file holds no signature that is not here already")
    return add_signed(visit, act_id, *new)


def submit(site: Site, act_id: str) -> PendingAct:
    """Record an act that all have signed. Where it does not count any more, it stays open and `note` says why.

    Raises:
        ReviewError: if somebody has not signed yet.
    """
    found = _found(site, act_id)
    if found.state != "open":
        return found
    if found.missing:
        raise ReviewError(f"not signed yet by {', '.join(found.missing)}")
    try:
        receipt = submit_draft(site.workspace, found.draft)
    except GovernanceError as error:
        with site.store.begin() as connection:
            note_on_act(connection, act_id, f"It was not recorded: {error}")
        return _found(site, act_id)
    with site.store.begin() as connection:
        first = close_act(connection, act_id, "done", "", receipt.seq)
    done = _found(site, act_id)
    for call in _finished.get(done.kind, ()) if first else ():
        _tell(call, site, done, receipt)
    return done


def decline(visit: Visit, act_id: str, reason: str) -> None:
    """End an act that one of its people will not sign, or that was started by mistake.

    Raises:
        ReviewError: if it is not open any more, or no reason is given.
    """
    found = act_for(visit, act_id)
    if not reason.strip():
        raise ReviewError("say why, so that the others know")
    note = f"{visit.user.name if visit.user else visit.person}: {reason.strip()[:1000]}"
    with visit.site.store.begin() as connection:
        if not close_act(connection, found.id, "declined", note):
            raise ReviewError("this act is not open any more")


def _tell(call: Finished, site: Site, done: PendingAct, receipt: Receipt) -> None:
    try:
        call(site, done, receipt)
    except Exception:
        logging.getLogger("cognify.review").exception("after the act %s (entry %d)", done.kind, receipt.seq)


def _found(site: Site, act_id: str) -> PendingAct:
    found = find(site, act_id)
    if found is None:
        raise Refused(404, "This act is not here any more.", "not-found")
    return found


def _readable(rows: Sequence[ActRow]) -> list[PendingAct]:
    """Leave out what another release wrote and this one cannot read: one such draft must not hide the others."""
    found = []
    for row in rows:
        try:
            found.append(_read(row))
        except GovernanceError as error:
            logging.getLogger("cognify.review").warning("the act %s cannot be read: %s", row.id, error)
    return found


def _read(row: ActRow) -> PendingAct:
    lapsed = row.state == "open" and row.expires <= int(time.time())
    return PendingAct(
        row.id,
        row.kind,
        row.title,
        read_draft(row.draft.encode(), "an act"),
        "lapsed" if lapsed else row.state,
        row.created,
        row.created_by,
        row.expires,
        row.seq,
        row.note,
    )
