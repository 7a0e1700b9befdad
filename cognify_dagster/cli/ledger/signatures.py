"""Every signature inside the entries, checked: those of writers and those of people.

Invariants: keys come from the ledger's own enrolments, which begin with the genesis entry that the trust file pins; a
signature that does not verify is a finding, a valid one of somebody who might not do this is a remark: the entry is intact and has
no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cognify_dagster.ledger import Tampered, VerifiedEntry, VerifiedView, parse_canonical
from cognify_dagster.ledger.verification.scan import Depth, scan

if TYPE_CHECKING:
    from cognify_dagster.governance import Directory
    from cognify_dagster.governance.signing.sso import IssuerKeys
    from cognify_dagster.ledger import Store
    from cognify_dagster.records import Envelope, Record

_ABOUT = frozenset({"people", "policy"})
_BROKEN = "signature does not verify"


@dataclass
class Signatures:
    """How many signatures were checked, which do not verify (entry, text), and which are valid but have no effect."""

    writers: int = 0
    people: int = 0
    unsigned: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)
    ineffective: list[tuple[int, str]] = field(default_factory=list)


def check_signatures(store: Store, size: int, progress: Callable[[int, int], None] | None = None) -> Signatures:
    """Check the signatures of all writers and people in the first `size` entries, which were verified before.

    The entries are streamed twice, first for who is who; only those about people, policy and issuers' keys stay in memory.

    Raises:
        RecordError: if the ledger does not begin with a genesis entry.
        Tampered: if an entry was changed since.
    """
    from cognify_dagster.governance import directory, policy_in_force
    from cognify_dagster.governance.people.groups import archived_keys
    from cognify_dagster.records import kinds
    from cognify_dagster.workspace import Reading

    result = Signatures()
    kept: dict[int, VerifiedEntry] = {}
    heads: dict[str, int] = {}
    for item in _stream(store, size):
        about = {name for name in item.entry.subjects if name in _ABOUT or name.startswith("issuer/")}
        heads.update(dict.fromkeys(about, item.entry.seq))
        if item.entry.seq == 0 or about:
            kept[item.entry.seq] = item
    # a view with holes: the directory and the policy walk the heads of their subjects, which are all there
    reading = Reading(VerifiedView(store.origin, size, b"", cast(Any, kept), heads))
    people = directory(reading)
    in_force = policy_in_force(reading)
    known = {*people.problems, *in_force.problems, *in_force.unreadable}
    signed = {kind for kind, record in kinds().items() if {"envelope", "envelopes"} & set(record.model_fields)}
    for item in _stream(store, size):
        entry = item.entry
        problem = people.writer_problem(entry)
        if entry.key_id:
            result.writers += 1
        else:
            result.unsigned += 1
        if problem is not None and entry.seq:
            (result.broken if _BROKEN in problem else result.ineffective).append((entry.seq, problem))
        for envelope in _envelopes(item) if entry.kind in signed else ():
            result.people += 1
            wrong = _wrong(people, envelope, archived_keys(reading, people, entry.seq))
            if wrong:
                result.broken.append((entry.seq, wrong))
        if progress is not None and entry.seq % 1_000 == 0:
            progress(entry.seq + 1, size)
    broken = {seq for seq, _ in result.broken}
    result.ineffective += [(seq, text) for seq, text in known if seq not in broken]
    result.ineffective.sort()
    result.broken.sort()
    return result


def _stream(store: Store, size: int) -> Iterator[VerifiedEntry]:
    depth = Depth(nodes=False, keep=True)
    for part in scan(store, 0, size, depth=depth):
        if part.findings:
            raise Tampered(f"{part.findings[0]}; it was changed meanwhile: run `cognify ledger verify` again")
        for entry, row in zip(part.entries, part.payloads, strict=True):
            data = row.data if row is not None else None
            yield VerifiedEntry(entry, None if data is None else parse_canonical(data), row.salt if row else None)


def _envelopes(item: VerifiedEntry) -> list[Envelope]:
    from cognify_dagster.records import RecordError, read_record

    if item.payload is None:
        return []
    try:
        return envelopes_of(read_record(item.entry.kind, item.entry.schema, item.payload))
    except RecordError:
        return []  # nobody reads it, so it has no effect


def envelopes_of(record: Record) -> list[Envelope]:
    """Return the signed envelopes inside a record."""
    one, several = getattr(record, "envelope", None), getattr(record, "envelopes", ())
    return [item for item in (one, *(several or ())) if item is not None]


def _wrong(people: Directory, envelope: Envelope, issuer_keys: IssuerKeys) -> str | None:
    """Say why an envelope's signature is none of a known key, or None. Whether the key counted then is judged elsewhere."""
    from cognify_dagster.governance import SignatureError
    from cognify_dagster.governance.signing.statements import open_envelope

    names = {signature.keyid for signature in envelope.signatures}
    keys = [span.key for spans in people.keys.values() for span in spans if span.key.key_id in names]
    if not keys:
        return f"it is signed with a key that was never enrolled ({', '.join(sorted(names))[:80] or 'none named'})"
    problem = ""
    for key in keys:
        try:
            open_envelope(envelope, key, issuer_keys)
            return None
        except SignatureError as error:
            problem = str(error)
    return f"the signature of a person does not verify: {problem}"
