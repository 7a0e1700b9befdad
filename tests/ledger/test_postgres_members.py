"""The usual append: it keeps what append() keeps, byte for byte, and believes nothing that a caller says beside the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cognify_dagster.ledger import (
    ClockError,
    EntryError,
    IdempotencyConflict,
    Ledger,
    LedgerError,
    LedgerUnreadable,
    RolledBack,
    SizeChanged,
    canonical_json,
)
from cognify_dagster.ledger.entry import SealedBody, seal_body
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.ledger.postgres.rows import members, numbers
from cognify_dagster.ledger.postgres.store import PostgresStore
from tests.conformance.postgres_server import NewLedger, postgres_ledger
from tests.ledger.drafts import ORIGIN, START, draft
from tests.ledger.founded_postgres import found, signed

pytestmark = pytest.mark.postgres
TABLES = ("entry", "entry_subject", "payload", "node")
NAMES = ("body", "actor", "evidence", "idem", "key", "kind", "schema", "sig", "subjects", "salt", "facts", "payload")
DIGESTS = tuple("sha256:" + letter * 64 for letter in "cab")
DRAFTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several subjects": {"subjects": ("model/b", "model/a@1", "policy", "model/a")},
    "one digest": {"evidence": DIGESTS[:1]},
    "several digests": {"evidence": DIGESTS},
    "a long subject": {"subjects": ("model/" + "a" * 120 + "@" + "1" * 60,)},
    "a long actor": {"actor": "workload/" + "w" * 100},
    "no facts": {"payload": b"{}", "facts_digest": "00" * 32},
    "a NUL in the facts": {"facts": {"text": "\0"}},
    "beyond ASCII": {"facts": {"text": "\u20ac \u0436"}},
    "a large payload": {"facts": {"text": "x" * 100_000}},
}


def only_members(place: NewLedger) -> None:
    """Take the careful way away, so that only the usual one can succeed."""
    place.overpower("ALTER FUNCTION append(bytea, bytea, bytea, bytea, bigint, bigint) RENAME TO gone")


@pytest.fixture
def place() -> Iterator[NewLedger]:
    with postgres_ledger(ORIGIN) as made:
        found(made.open())
        yield made


def call(place: NewLedger, sealed: SealedBody, **changed: Any) -> tuple[Any, ...]:
    """Call append_members() as a holder of the writer's login who says something else beside the bytes."""
    import psycopg

    given = members(sealed)
    assert given is not None
    values = {**dict(zip(NAMES, given, strict=True)), **changed}
    with psycopg.connect(place.url("writer").replace(f"&schema={place.schema}", ""), autocommit=True) as db:
        row = db.execute(
            f"SELECT * FROM {place.schema}.append_members(%s::bytea, %s::text, %s::bytea, %s::bytea, %s::bytea, %s::text, %s::int, "
            "%s::bytea, %s::text, %s::bytea, %s::bytea, %s::bytea, %s::bigint, %s::bigint)",
            (*values.values(), *numbers(START + 10, None)),
        ).fetchone()
    assert row is not None
    return row


def test_both_ways_keep_the_same_rows() -> None:
    with postgres_ledger(ORIGIN) as one, postgres_ledger(ORIGIN) as other:
        sealed = [seal_body(ORIGIN, signed(1 + n, **DRAFTS[name])) for n, name in enumerate(DRAFTS)]
        sealed += [seal_body(ORIGIN, signed(100 + n, subjects=(f"model/{n % 3}",))) for n in range(20)]
        for place in (one, other):
            place.open().append(seal_body(ORIGIN, founding(), salt=bytes(32)), START, None)
        store = one.open()
        careful = "SELECT * FROM {s}.append(%s::bytea, %s::bytea, %s::bytea, %s::bytea, %s::bigint, %s::bigint)"
        for number, item in enumerate(sealed):
            receipt = store.append(item, START + number, number + 1)
            facts = bytes.fromhex(item.draft.facts_digest)
            rows = other.open()._write(
                careful, (item.body, item.salt, facts, item.draft.payload, *numbers(START + number, number + 1))
            )
            assert (receipt.seq, receipt.leaf, receipt.time_us, receipt.duplicate) == rows[0]
        for table in TABLES:
            assert one.sql(f"SELECT * FROM {table} ORDER BY 1, 2") == other.sql(f"SELECT * FROM {table} ORDER BY 1, 2")
        assert Ledger(store).verify().findings == ()


def founding() -> Any:
    from tests.ledger.founded_postgres import genesis

    return genesis()


@pytest.mark.parametrize("name", ["plain", "several subjects", "one digest", "several digests", "beyond ASCII"])
def test_the_usual_entry_needs_no_second_way(place: NewLedger, name: str) -> None:
    only_members(place)
    store = place.open()
    for number in range(3):
        assert store.append(seal_body(ORIGIN, signed(number + 1, **DRAFTS[name])), START, None).seq == number + 1
    found = [str(finding) for finding in Ledger(store).verify().findings]
    assert [text for text in found if "function " not in text] == []  # that append() is away is noticed, nothing else


OTHER = bytes(range(32))
LIES: dict[str, dict[str, Any]] = {
    "actor": {"actor": "workload/other"},
    "actor with more members": {"actor": 'workload/w","evidence":[],"x":"'},
    "evidence": {"evidence": OTHER},
    "half a digest": {"evidence": OTHER[:16]},
    "no evidence": {"evidence": None},
    "idem": {"idem": OTHER},
    "key": {"key": OTHER[:8]},
    "no key": {"key": b"", "sig": b""},
    "kind": {"kind": "package"},
    "schema": {"schema": 2},
    "sig": {"sig": OTHER + OTHER},
    "subjects": {"subjects": "model/hidden"},
    "subjects in one": {"subjects": 'model/a","model/b'},
    "no subjects": {"subjects": ""},
    "null": {"subjects": None},
}


@pytest.mark.parametrize("name", LIES)
def test_what_is_said_beside_the_bytes_changes_nothing(place: NewLedger, name: str) -> None:
    sealed = seal_body(ORIGIN, signed(1, subjects=("model/a", "model/b"), evidence=DIGESTS[:2]))
    assert call(place, sealed, **LIES[name])[0] == 1
    store = place.open()
    (row,) = store.entries(1, 2)
    assert sealed.body in row.data
    assert row.subjects == ("model/a", "model/b")
    assert row.kind == "training_run"
    assert Ledger(store).verify().findings == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"salt": bytes(31)},
        {"salt": OTHER},
        {"facts": OTHER},
        {"payload": b'{"facts":{},"observed":{}}'},
        {"payload": b"{"},
        {"body": b"{}"},
    ],
)
def test_payload_salt_and_digest_belong_to_the_body(place: NewLedger, changed: dict[str, Any]) -> None:
    import psycopg

    with pytest.raises(psycopg.Error) as error:
        call(place, seal_body(ORIGIN, signed(1)), **changed)
    assert error.value.sqlstate == "CG004"
    assert place.open().size() == 1


@pytest.mark.parametrize("payload", [b'{"facts":{"a":\xff}}', b'{"facts":}', b'{"facts":' + b"[" * 200_000])
def test_a_payload_that_is_no_json_is_refused(place: NewLedger, payload: bytes) -> None:
    from dataclasses import replace

    from cognify_dagster.ledger.entry import payload_commitment

    sealed = seal_body(ORIGIN, signed(1))
    old, new = payload_commitment(sealed.salt, sealed.draft.payload), payload_commitment(sealed.salt, payload)
    forged = SealedBody(
        replace(sealed.draft, payload=payload), sealed.salt, sealed.body.replace(old.encode(), new.encode())
    )
    with pytest.raises(EntryError, match="JSON"):
        place.open().append(forged, START, None)
    assert place.open().size() == 1


def test_every_refusal_is_that_of_append(place: NewLedger) -> None:
    store: PostgresStore = place.open()
    first = store.append(seal_body(ORIGIN, signed(1)), START + 1, 1)
    again = store.append(seal_body(ORIGIN, signed(1)), START + 9, None)
    assert (again.seq, again.leaf, again.duplicate) == (1, first.leaf, True)
    refused: list[tuple[type[LedgerError], SealedBody, int, int | None]] = [
        (IdempotencyConflict, seal_body(ORIGIN, signed(1, facts={"n": 2})), START, None),
        (SizeChanged, seal_body(ORIGIN, signed(2)), START, 7),
        (ClockError, seal_body(ORIGIN, signed(2)), START - 400_000_000, None),
        (WriterRefused, seal_body(ORIGIN, signed(2, kind="package")), START, None),
        (WriterRefused, seal_body(ORIGIN, draft(2)), START, None),
        (EntryError, seal_body(ORIGIN, signed(2, facts_digest="00" * 32)), START, None),
        (EntryError, seal_body(ORIGIN, signed(2, evidence=tuple(f"sha256:{n:064x}" for n in range(900)))), START, None),
    ]
    for error, sealed, now, expected in refused:
        with pytest.raises(error):
            store.append(sealed, now, expected)
    assert store.size() == 2
    place.overpower("UPDATE entry SET leaf = sha256('x') WHERE seq = 1")
    with pytest.raises(LedgerUnreadable, match="cognify ledger verify"):
        store.append(seal_body(ORIGIN, signed(2)), START, None)


def test_a_kept_checkpoint_beyond_the_end_stops_appends(place: NewLedger) -> None:
    store = place.open()
    store.add_checkpoint(9, "a head of a longer ledger")
    with pytest.raises(RolledBack):
        store.append(seal_body(ORIGIN, signed(1)), START, None)


def test_a_revoked_or_unreadable_enrolment_ends_the_usual_way_too(place: NewLedger) -> None:
    store = place.open()
    store.append(seal_body(ORIGIN, signed(1)), START, None)
    act = draft(2, kind="key_revoked", facts={"nothing": 1}, subjects=("people", "workload/w"))
    store.append(seal_body(ORIGIN, act), START, None)
    with pytest.raises(WriterRefused, match="revoked"):
        store.append(seal_body(ORIGIN, signed(3)), START, None)


def test_functions_of_an_older_release_are_named_as_such(place: NewLedger) -> None:
    place.overpower(
        "ALTER FUNCTION append_members(bytea, text, bytea, bytea, bytea, text, integer, bytea, text, bytea, bytea, bytea, bigint, bigint) "
        "RENAME TO gone"
    )
    with pytest.raises(LedgerUnreadable, match="older than this release; run `cognify ledger init --url`"):
        place.open().append(seal_body(ORIGIN, signed(1)), START, None)


def test_the_body_signs_what_the_members_say() -> None:
    """An unsigned or foreign form has no members, and goes to append() as bytes."""
    assert members(seal_body(ORIGIN, draft(1))) is None
    for body in (b"{}", b"[]", b"not json", canonical_json({"key": "zz"})):
        assert members(SealedBody(draft(1), bytes(32), body)) is None
