"""The ledger's pages: entries with filters, one entry whole, its proof and evidence, signed heads and proofs of consistency."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from starlette.responses import Response

from cognify_dagster.documents.labels import words
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.governance import directory
from cognify_dagster.ledger import (
    Checkpoint,
    LedgerError,
    ProofError,
    VerifiedEntry,
    parse_note,
    verify_consistency,
)
from cognify_dagster.records import Package, Record, SignOff, kinds
from cognify_dagster.review.access.browsing import Filters, browse
from cognify_dagster.review.access.scope import evidence_items, may_open, require_open, sees_entry
from cognify_dagster.review.access.verification import checkpoint_of, checkpoints, standing
from cognify_dagster.review.errors import Refused, not_found
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.reading.runs import runs_of
from cognify_dagster.review.reading.signed import effect_problem, signed_facts, signed_statements
from cognify_dagster.review.rendering import make_path
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Reading, Recorded

MAX_EVIDENCE = 64 * 1024 * 1024
_SUBJECT = re.compile(r"[!-~]{1,200}")


@page("/ledger", Need.READ)
def ledger(visit: Visit) -> Response:
    """Show entries, newest first, and how far the ledger is proven."""
    reading, user = visit.reading, visit.user
    assert user is not None
    wanted, form, problem = _filters(visit)
    found = browse(reading, user, wanted, number(visit.query("from"), "entry"))
    people = directory(reading)
    shelf = Shelf(visit)
    rows = [_row(item, people.name, shelf) for item in found.items]
    more = (
        {**{key: value for key, value in form.items() if value}, "from": found.next} if found.next is not None else None
    )
    template = "ledger_rows.html.j2" if visit.fragment else "ledger.html.j2"
    return visit.render(
        template,
        rows=rows,
        form=form,
        problem=problem,
        more=more,
        stopped=found.stopped,
        kinds=sorted(kinds()),
        words=words,
        filtered=any(form.values()),
        standing=standing(visit.site, reading),
        checked=_last_check(visit),
    )


@page("/ledger/entries/{seq}", Need.READ)
def entry(visit: Visit) -> Response:
    """Show one entry whole."""
    item = _entry(visit)
    reading, seq = visit.reading, item.entry.seq
    recorded = reading.at(seq)
    state = standing(visit.site, reading)
    record = recorded.record if recorded is not None else None
    items = evidence_items(record)
    payload = json.dumps(item.payload, indent=2, ensure_ascii=False) if item.payload is not None else ""
    signed = signed_statements(reading, recorded) if recorded is not None else ()
    shelf, package = Shelf(visit), _package_of(reading, record)
    heads = [(subject, before) for subject, before in sorted(item.entry.heads.items())]
    return visit.render(
        "entry.html.j2",
        item=item,
        entry=item.entry,
        actor=directory(reading).name(item.entry.actor),
        payload=payload,
        unread=reading.problem(item),
        heads=heads,
        evidence=[(one, may_open(visit, record, one)) for one in items if one.digest in item.entry.evidence],
        unnamed=[digest for digest in item.entry.evidence if digest not in {one.digest for one in items}],
        covered=seq < state.covered,
        standing=state,
        words=words,
        runs=runs_of(record, visit.site.config.dagster_url),
        files=shelf.of_entry(seq),
        package_files=shelf.of_package(package) if package is not None else None,
        package_link=_package_link(package) if package is not None else "",
        signed=signed,
        facts=signed_facts(reading, recorded) if signed and recorded is not None else (),
        effect=effect_problem(reading, recorded) if recorded is not None else "",
        receipt=make_path("models", record.model, record.version, "receipt", seq)
        if isinstance(record, SignOff)
        else "",
    )


@page("/ledger/entries/{seq}/statements/{number}", Need.READ)
def entry_statement(visit: Visit) -> Response:
    """Give one signed statement of an entry (DSSE envelope), to be checked anywhere."""
    item, number = _entry(visit), visit.param("number")
    recorded = visit.reading.at(item.entry.seq)
    found = signed_statements(visit.reading, recorded) if recorded is not None else ()
    one = next((one for one in found if str(one.number) == number), None)
    if one is None:
        raise not_found(f"Signature {number[:20]} of entry {item.entry.seq}")
    visit.detail = f"statement sha256:{one.digest}"
    name = f"entry-{item.entry.seq}-signature-{one.number}.dsse.json"
    return visit.download(one.envelope.encode() + b"\n", name, "application/json")


@page("/ledger/entries/{seq}/proof", Need.READ)
def entry_proof(visit: Visit) -> Response:
    """Give the C2SP proof that an entry is in the ledger of a signed head."""
    item = _entry(visit)
    seq = item.entry.seq
    visit.detail = f"proof, leaf {item.entry.leaf.hex()[:16]}"
    return visit.download(proof_text(visit, seq).encode(), f"entry-{seq}.tlog-proof", "text/plain; charset=utf-8")


@page("/ledger/entries/{seq}/bytes", Need.READ)
def entry_bytes(visit: Visit) -> Response:
    """Give an entry's bytes as they were hashed, for `cognify ledger check-proof --entry`."""
    item = _entry(visit)
    visit.detail = f"bytes, leaf {item.entry.leaf.hex()[:16]}"
    return visit.download(item.entry.data, f"entry-{item.entry.seq}.json", "application/json")


@page("/ledger/entries/{seq}/evidence/{digest}", Need.READ)
def entry_evidence(visit: Visit) -> Response:
    """Give a blob that an entry names, verified against its digest."""
    item, digest = _entry(visit), visit.param("digest")
    recorded = visit.reading.at(item.entry.seq)
    record = recorded.record if recorded is not None else None
    items = evidence_items(record)
    found = next((one for one in items if one.digest == digest and digest in item.entry.evidence), None)
    if found is None:
        raise not_found("This evidence")
    require_open(visit, record, found)
    if found.size > MAX_EVIDENCE:
        raise Refused(413, f"{found.name} has {found.size} bytes; copy it with: cognify evidence get {digest}")
    data = read_evidence(visit, digest)
    visit.detail = f"{found.name} {digest}"
    return visit.download(data, found.name, "application/octet-stream")


@page("/ledger/checkpoints", Need.READ)
def ledger_checkpoints(visit: Visit) -> Response:
    """List the newest signed heads, and make proofs between two of them."""
    rows = []
    for size, note in checkpoints(visit.site, visit.reading.size):
        parsed = parse_note(note)
        head = Checkpoint.parse(parsed.text)
        rows.append((size, head.root.hex(), [line.name for line in parsed.signatures]))
    return visit.render("checkpoints.html.j2", rows=rows, standing=standing(visit.site, visit.reading))


@page("/ledger/checkpoint", Need.READ)
def ledger_checkpoint(visit: Visit) -> Response:
    """Give a signed head as a C2SP checkpoint: the newest, or that of `size` entries."""
    size = number(visit.query("size"), "size")
    if size is None:
        kept = checkpoints(visit.site, visit.reading.size, 1)
        size, note = kept[0] if kept else (0, None)
    else:
        note = checkpoint_of(visit.site, size) if size <= visit.reading.size else None
    if note is None:
        raise Refused(404, "No signed head of that size is kept; see the list of checkpoints.", "not-found")
    visit.detail = f"checkpoint of {size} entries"
    return visit.download(note.encode(), f"checkpoint-{size}.txt", "text/plain; charset=utf-8")


@page("/ledger/consistency", Need.READ)
def ledger_consistency(visit: Visit) -> Response:
    """Give the proof that the first `from` entries are the beginning of the first `to`, as lines of text."""
    reading = visit.reading
    first, second = number(visit.query("from"), "from"), number(visit.query("to"), "to")
    second = reading.size if second is None else second
    if first is None or not 0 < first <= second <= reading.size:
        raise Refused(
            400, f"Give two sizes: from at least 1, to at most {reading.size}, the first not above the second."
        )
    log = visit.workspace.ledger
    try:
        roots = log.root(first), log.root(second)
        path = log.consistency(first, second)
        verify_consistency(first, second, roots[0], roots[1], path)
    except LedgerError as error:
        raise Refused(409, f"The proof cannot be made: {error}") from error
    if not reading.view.consistent(second, roots[1]):
        raise Refused(409, "The stored tree is not that of the verified entries; run cognify ledger verify.")
    lines = [
        "cognify-consistency-proof/v1", reading.origin, f"from {first} {base64.b64encode(roots[0]).decode()}",
        f"to {second} {base64.b64encode(roots[1]).decode()}", *(base64.b64encode(item).decode() for item in path),
    ]  # fmt: skip
    visit.detail = f"consistency {first} to {second}"
    data = ("\n".join(lines) + "\n").encode()
    return visit.download(data, f"consistency-{first}-{second}.txt", "text/plain; charset=utf-8")


# --- what other pages use, too ---------------------------------------------------------------------------------------


def proof_text(visit: Visit, seq: int) -> str:
    """Return the proof file of an entry.

    Raises:
        Refused: 409 if no signed head covers it yet.
    """
    try:
        return visit.workspace.ledger.proof_file(seq).text()
    except ProofError as error:
        raise Refused(
            409, f"No signed head covers entry {seq} yet. One is signed with the next sign-off or release, or by "
            "cognify ledger checkpoint; ask again then.", "uncovered",
        ) from error  # fmt: skip


def read_evidence(visit: Visit, digest: str) -> bytes:
    """Return a blob, verified.

    Raises:
        Refused: 410 if it cannot be read (any more).
    """
    try:
        return visit.workspace.evidence.get(digest)
    except (EvidenceError, OSError) as error:
        raise Refused(410, f"The evidence cannot be read: {error}", "evidence") from error


def number(text: str, what: str) -> int | None:
    """Return a number of a query, None where it is empty.

    Raises:
        Refused: 400 if it is none.
    """
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refused(400, f"{what}: {text[:40]!r} is not a whole number.")
    return int(text)


def day_us(text: str, *, end: bool = False) -> int | None:
    """Return a day (`2026-11-22`) or minute (`2026-11-22T09:30`) in UTC as microseconds; with `end` that of its end.

    Raises:
        ValueError: if it is neither, or no day follows it.
    """
    if not text:
        return None
    day = re.fullmatch(r"\d{4}-\d\d-\d\d", text)
    moment = datetime.strptime(text, "%Y-%m-%d" if day else "%Y-%m-%dT%H:%M").replace(tzinfo=timezone.utc)
    if end:
        try:
            moment += timedelta(days=1) if day else timedelta(minutes=1)
        except OverflowError as error:
            raise ValueError(text) from error
    return int(moment.timestamp()) * 1_000_000


def _filters(visit: Visit) -> tuple[Filters, dict[str, str], str]:
    form = {name: visit.query(name)[:200] for name in ("kind", "subject", "person", "since", "until")}
    problem = ""
    if form["kind"] and form["kind"] not in kinds():
        problem = f"There is no kind of entry {form['kind']!r}."
    subject = form["subject"]
    if form["person"]:
        who = form["person"] if form["person"].startswith("person/") else f"person/{form['person']}"
        problem = problem or ("Choose either a subject or a person." if subject else "")
        subject = who
    if subject and not _SUBJECT.fullmatch(subject):
        problem = "A subject looks like model/credit_default@3 or dataset/loans_train."
    try:
        times = day_us(form["since"]), day_us(form["until"], end=True)
    except ValueError:
        times, problem = (None, None), "A day looks like 2026-11-22."
    return Filters("" if problem else form["kind"], "" if problem else subject, *times), form, problem


def _package_of(reading: Reading, record: Record | None) -> Recorded[Package] | None:
    """The package that an entry is, or is about: of a sign-off, a release, a final copy."""
    model, version = getattr(record, "model", None), getattr(record, "version", None)
    digest = record.package.digest if isinstance(record, Package) else getattr(record, "package_digest", None)
    if not model or not version or not digest:
        return None
    packages = reading.all(Package, f"model/{model}@{version}")
    return next((item for item in reversed(packages) if item.record.package.digest == digest), None)


def _package_link(package: Recorded[Package]) -> str:
    return make_path("models", package.record.model, package.record.version, entry=package.seq)


def _row(item: VerifiedEntry, name_of: Any, shelf: Shelf) -> dict[str, Any]:
    entry = item.entry
    return {
        "files": shelf.of_entry(entry.seq),
        "seq": entry.seq,
        "time_us": entry.time_us,
        "kind": entry.kind,
        "subjects": list(entry.subjects[:4]),
        "others": max(0, len(entry.subjects) - 4),
        "actor": name_of(entry.actor),
        "erased": item.payload is None,
    }


def _entry(visit: Visit) -> VerifiedEntry:
    user, seq = visit.user, number(visit.param("seq"), "entry")
    assert user is not None
    visit.subject = f"entry/{seq}"
    if seq is None or seq >= visit.reading.size:
        raise not_found(f"Entry {visit.param('seq')[:20]}")
    found = visit.reading.view.entry(seq)
    if not sees_entry(visit.reading, user, found.entry):
        raise not_found(f"Entry {seq}")
    return found


def _last_check(visit: Visit) -> dict[str, Any]:
    """What the last verification of the whole ledger said; empty before the first."""
    from cognify_dagster.review.webhooks.checking import last_check

    return last_check(visit.site)
