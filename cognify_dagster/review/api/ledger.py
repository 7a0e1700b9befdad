"""Entries, proofs, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from cognify_dagster import __version__
from cognify_dagster.ledger import ProofError, VerifiedEntry, open_checkpoint, parse_note
from cognify_dagster.ledger.note import Checkpoint
from cognify_dagster.records import kinds
from cognify_dagster.review.api.calls import ApiRoute, Call, needs
from cognify_dagster.review.api.models import LIST, READ, Called
from cognify_dagster.review.api.paging import number_in
from cognify_dagster.review.api.parameters import Cursor, EntryId, Limit, SubjectFilter
from cognify_dagster.review.api.personal import plain_facts
from cognify_dagster.review.api.problems import problems
from cognify_dagster.review.api.schemas import ApiInfo, ConsistencyOut, EntryDetail, EntryOut, Page
from cognify_dagster.review.api.standing import clock
from cognify_dagster.review.api.tokens import Scope
from cognify_dagster.review.errors import Refused, not_found
from cognify_dagster.workspace import Reading

router = APIRouter(route_class=ApiRoute)
LOOKED_AT = 2_000
"""Entries that a filtered page reads at most; it may then be short, or empty, and still have a next one."""
Size = Annotated[int, Query(ge=1, le=2**53 - 1)]
_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}
_TEXTS: dict[str, Any] = {"response_class": Response, "openapi_extra": needs(Scope.READ), "tags": ["ledger"]}


@router.get("/ledger", response_model=ApiInfo, tags=["ledger"], **READ)
def get_ledger(call: Called) -> Response:
    """Say which ledger this is, how many entries it has and their root."""
    reading = call.reading
    root = reading.view.root.hex()
    note = call.site.workspace.ledger.latest_checkpoint()
    size = Checkpoint.parse(parse_note(note).text).size if note else None
    call.set_tag(root, size)
    return call.answer(
        ApiInfo(
            origin=reading.origin,
            trial=reading.trial,
            size=reading.size,
            root=root,
            checkpoint_size=size,
            version=__version__,
        )
    )


@router.get("/entries", response_model=Page[EntryOut], tags=["ledger"], **LIST)
def list_entries(
    call: Called,
    kind: Annotated[
        str | None, Query(pattern=r"^[a-z][a-z0-9_]{0,59}$", description="only entries of this kind")
    ] = None,
    subject: SubjectFilter = None,
    since: Annotated[int, Query(ge=-1, le=2**53 - 1, description="only entries after this one")] = -1,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """List entries, newest first. A page that is filtered may have fewer items than asked for and still have a next one."""
    about = {"list": "entries", "kind": kind, "subject": subject, "since": str(since)}
    if kind is not None and kind not in kinds():
        raise Refused(400, f"there is no kind {kind!r} of entry", "kind")
    reading, place = call.begin(cursor, about)
    call.visit.subject = subject or ""
    call.set_tag(reading.size if subject is None else reading.view.heads.get(subject, -1), place and place.at)
    first = reading.size if place is None else number_in(place, reading.size)
    items: list[EntryOut] = []
    looked, last = 0, first
    more = False
    for item in _walk(reading, subject, first, since):
        if len(items) >= limit or looked >= LOOKED_AT:
            more = True
            break
        looked, last = looked + 1, item.entry.seq
        if kind in (None, item.entry.kind):
            items.append(_entry(call, reading, item))
    following = call.next(reading, last, about) if more else None
    return call.answer(Page[EntryOut](items=items, size=reading.size, next_cursor=following))


def _walk(reading: Reading, subject: str | None, before: int, since: int) -> Iterator[VerifiedEntry]:
    """Yield the entries before entry `before` and after `since`, newest first, of a subject or all."""
    view = reading.view
    if subject is None:
        yield from reversed(view.entries[max(since + 1, 0) : before])
        return
    seq = view.heads.get(subject, -1)
    if before < reading.size:  # the last entry of the page before is one about the subject
        item = view.entry(before)
        if subject not in item.entry.heads:
            raise Refused(400, "This cursor names no entry of this list; begin without one.", "cursor")
        seq = item.entry.heads[subject]
    while seq > since:
        item = view.entry(seq)
        yield item
        seq = item.entry.heads[subject]


@router.get("/entries/{entry}", response_model=EntryDetail, tags=["ledger"], **READ)
def get_entry(call: Called, entry: EntryId) -> Response:
    """Return one entry with its links into the chain."""
    item = _existing(call, entry)
    head = item.entry
    call.set_tag(head.leaf.hex(), item.payload is None, call.reading.view.heads.get("people", -1))
    return call.answer(
        EntryDetail(
            **_entry(call, call.reading, item).model_dump(),
            previous_leaf=head.prev,
            heads=dict(head.heads),
            key_id=head.key_id,
            size=call.reading.size,
        )
    )


@router.get(
    "/entries/{entry}/bytes",
    responses=READ["responses"] | {200: _TEXT | {"description": "The entry's exact bytes (canonical JSON)."}},
    **_TEXTS,
)
def get_entry_bytes(call: Called, entry: EntryId) -> Response:
    """Return the bytes whose leaf hash stands in the tree. They hold a commitment to the payload, never the payload."""
    item = _existing(call, entry)
    call.set_tag(item.entry.leaf.hex())
    return call.respond(item.entry.data, "text/plain; charset=utf-8")


@router.get(
    "/entries/{entry}/proof",
    responses=READ["responses"] | problems(409) | {200: _TEXT | {"description": "A C2SP tlog-proof file."}},
    **_TEXTS,
)
def get_proof(call: Called, entry: EntryId) -> Response:
    """Return the path from an entry to a signed checkpoint (C2SP tlog-proof); `cognify ledger check-proof` checks it offline."""
    item = _existing(call, entry)
    workspace = call.site.workspace
    try:
        proof = workspace.ledger.proof_file(entry)
        proof.verify(item.entry.leaf, workspace.trust().logs)
    except ProofError as error:
        raise Refused(
            409, f"entry {entry} is under no signed checkpoint yet; one is signed regularly", "unproven"
        ) from error
    call.visit.detail = item.entry.leaf.hex()
    text = proof.text()
    call.set_tag(text)
    return call.respond(text.encode(), "text/plain; charset=utf-8")


@router.get(
    "/checkpoint",
    responses=READ["responses"] | {200: _TEXT | {"description": "A C2SP checkpoint, a signed note."}},
    **_TEXTS,
)
def get_checkpoint(call: Called) -> Response:
    """Return the newest signed checkpoint with its cosignatures, checked with the workspace's trust file."""
    workspace = call.site.workspace
    note = workspace.ledger.latest_checkpoint()
    if note is None:
        raise not_found("A signed checkpoint")
    open_checkpoint(note, workspace.trust().logs)
    call.set_tag(note)
    return call.respond(note.encode(), "text/plain; charset=utf-8")


@router.get("/consistency", response_model=ConsistencyOut, tags=["ledger"], **LIST)
def get_consistency(call: Called, old: Size, new: Size) -> Response:
    """Prove that the ledger of `old` entries is the beginning of the ledger of `new` entries (RFC 6962)."""
    ledger = call.site.workspace.ledger
    if not old <= new <= call.reading.size:
        raise Refused(400, f"old must be no more than new, and new no more than {call.reading.size}", "sizes")
    roots = [call.site.workspace.read(size).view.root.hex() for size in (old, new)]
    call.set_tag(*roots)
    path = [value.hex() for value in ledger.consistency(old, new)]
    return call.answer(ConsistencyOut(old=old, new=new, old_root=roots[0], new_root=roots[1], path=path))


def _existing(call: Call, entry: int) -> VerifiedEntry:
    call.visit.subject = f"entry/{entry}"
    if entry >= call.reading.size:
        raise not_found(f"Entry {entry}")
    return call.reading.view.entry(entry)


def _entry(call: Call, reading: Reading, item: VerifiedEntry) -> EntryOut:
    head = item.entry
    facts, withheld = None, None
    found = reading.at(head.seq)
    if item.payload is None:
        withheld = "erased"
    elif found is None:
        withheld = "unreadable"
    else:
        facts = found.record.facts()
        if not call.personal:
            facts = plain_facts(head.kind, facts)
            withheld = "personal" if facts is None else None
    return EntryOut.model_validate(
        {
            "entry": head.seq,
            "time": clock(head.time_us),
            "kind": head.kind,
            "schema_version": head.schema,
            "subjects": list(head.subjects),
            "actor": head.actor,
            "leaf": head.leaf.hex(),
            "evidence": list(head.evidence),
            "facts": facts,
            "withheld": withheld,
        }
    )
