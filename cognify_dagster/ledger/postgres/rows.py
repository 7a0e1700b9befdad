"""Entries as parameters of the server's functions: one as its members, many as columns."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from cognify_dagster.ledger.entry import SealedBody
from cognify_dagster.ledger.entry import _loads as loads
from cognify_dagster.ledger.errors import LedgerError
from cognify_dagster.ledger.store import StoredEntry, StoredPayload

CHUNK = 500
ROW = "SELECT e.seq, e.bytes, e.leaf, e.prev, e.idem, e.kind, e.time_us, p.salt, p.facts_digest, p.bytes"

ROW_TYPES = ", ".join(
    f"%b::{kind}[]"
    for kind in ("bigint", "bytea", "bytea", "bytea", "text", "bigint", "text", "bytea", "bytea", "bytea")
)


def numbers(now_us: int, expected_size: int | None) -> tuple[Any, Any]:
    """Numbers of one type whatever their size, so that one prepared statement serves all calls."""
    from psycopg.types.numeric import Int8

    return Int8(now_us), None if expected_size is None else Int8(expected_size)


def members(sealed: SealedBody) -> tuple[Any, ...] | None:
    """Return a signed body's members beside its bytes, as `append_members()` takes them; None if it is of another form.

    They are read from the bytes, and the server compares them with the bytes.
    """
    from psycopg.types.numeric import Int4

    try:
        body = loads(sealed.body)
        return (
            (
                sealed.body,
                body["actor"],
                bytes.fromhex("".join([digest[7:] for digest in body["evidence"]])),
                bytes.fromhex(body["idem"]),
                bytes.fromhex(body["key"]),
                body["kind"],
                Int4(body["schema"]),
                base64.b64decode(body["sig"]),
                ",".join(body["subjects"]),
                sealed.salt,
                bytes.fromhex(sealed.draft.facts_digest),
                sealed.draft.payload,
            )
            if body["key"]
            else None
        )
    except (KeyError, TypeError, ValueError):
        return None


def columns(
    entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], start: int, prev: str
) -> Iterator[tuple[int, tuple[list[Any], ...]]]:
    """Rows of another store, in chunks, as columns; the server compares each column with the bytes.

    Raises:
        LedgerError: if rows are missing or do not follow one another.
    """
    from psycopg.types.numeric import Int8

    rows, beside, seq = iter(entries), iter(payloads), start
    while chunk := list(islice(rows, CHUNK)):
        kept = list(islice(beside, len(chunk)))
        if [payload.seq for payload in kept] != [row.seq for row in chunk]:
            raise LedgerError(f"the payload rows beside entries {chunk[0].seq}..{chunk[-1].seq} do not fit them")
        for row in chunk:
            if row.seq != seq or row.prev != prev:
                raise LedgerError(f"entry {row.seq} does not follow entry {seq - 1}; verify the ledger it comes from")
            seq, prev = seq + 1, row.leaf.hex()
        try:
            idems = [bytes.fromhex(row.idem) for row in chunk]
            facts = [None if payload.facts_digest is None else bytes.fromhex(payload.facts_digest) for payload in kept]
        except ValueError as error:
            raise LedgerError(
                f"entries {chunk[0].seq}..{seq - 1}: {error}; verify the ledger they come from"
            ) from error
        yield (
            chunk[0].seq,
            (
                [Int8(row.seq) for row in chunk],
                [row.data for row in chunk],
                [row.leaf for row in chunk],
                idems,
                [row.kind for row in chunk],
                [Int8(row.time_us) for row in chunk],
                [",".join(row.subjects) for row in chunk],
                [payload.salt for payload in kept],
                facts,
                [payload.data for payload in kept],
            ),
        )
    if next(beside, None) is not None:
        raise LedgerError(f"there are payload rows beyond entry {seq - 1}")


def stored(row: tuple[Any, ...]) -> tuple[StoredEntry, StoredPayload]:
    """Return an entry's row, without subjects, and its payload's from the columns of `ROW`."""
    seq, data, leaf, prev, idem, kind, time_us, salt, facts, payload = row
    return (
        StoredEntry(seq, data, leaf, prev.hex(), idem.hex(), kind, time_us, ()),
        StoredPayload(seq, salt, None if facts is None else facts.hex(), payload),
    )
