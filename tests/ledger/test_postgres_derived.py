"""What Postgres keeps beside entries, and an owner could edit unseen: each change is found, an honest ledger raises none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.postgres.store import init_postgres
from cognify_dagster.ledger.store import DerivedStore, Segment
from tests.conformance.postgres_server import NewLedger, postgres_ledger
from tests.ledger.drafts import ORIGIN, START, draft
from tests.ledger.founded_postgres import KEY_ID, found, signed

pytestmark = pytest.mark.postgres


def fill(place: NewLedger) -> None:
    store = place.open()
    found(store)
    for number in range(1, 4):
        store.append(seal_body(ORIGIN, signed(number)), START, None)
    act = draft(9, kind="workload_enrolled", facts={"nothing": 1}, subjects=("people", "workload/x"))
    store.append(seal_body(ORIGIN, act), START, None)


@pytest.fixture
def place() -> Iterator[NewLedger]:
    with postgres_ledger(ORIGIN) as made:
        fill(made)
        yield made


def test_an_honest_ledger_raises_no_alarm_and_nothing_is_changed(place: NewLedger) -> None:
    before = place.sql("SELECT * FROM writer"), place.sql("SELECT * FROM act ORDER BY seq")
    for login in ("writer", "reader", "signer"):
        store = place.open(login, read_only=login == "reader")
        assert isinstance(store, DerivedStore)
        assert store.check_derived() == []
    assert (place.sql("SELECT * FROM writer"), place.sql("SELECT * FROM act ORDER BY seq")) == before
    init_postgres(place.server.url(), ORIGIN, schema=place.schema)
    assert place.open().check_derived() == []


def test_erasure_copy_and_the_servers_clock_raise_none(place: NewLedger) -> None:
    store = place.open()
    store.erase([2, 4])
    assert store.check_derived() == []
    with postgres_ledger(ORIGIN, server_clock=True) as other:
        copy = other.open()
        copy.load(store.entries(0, 5), store.payloads(0, 5), [])
        assert copy.check_derived() == []
        assert other.sql("SELECT * FROM writer") == place.sql("SELECT * FROM writer")
        assert other.sql("SELECT seq, holder FROM act ORDER BY seq, pos") == [
            (0, "ledger"),
            (0, "workload/w"),
            (4, "workload/x"),
        ]


def test_an_empty_ledger_is_as_it_should_be() -> None:
    with postgres_ledger(ORIGIN) as place:
        assert place.open("reader", read_only=True).check_derived() == []


CHANGES = {
    "UPDATE writer SET kinds = kinds || ARRAY['package']": "table writer holds a row that no entry accounts for",
    "INSERT INTO writer VALUES ('0123456789abcdef', 'workload/evil', '{package}')": "table writer holds.*evil",
    "DELETE FROM writer": f"table writer lacks a row.*{KEY_ID}",
    "DELETE FROM act WHERE seq = 4": "table act lacks",
    "UPDATE act SET kinds = '{package}' WHERE seq = 4": "table act holds",
    "INSERT INTO act VALUES (3, 0, 'workload/w', NULL, NULL)": "table act holds.*workload/w",
    "UPDATE meta SET value = 'true' WHERE key = 'server_clock'": "function append(_members)? is not as this release made it",
    "UPDATE meta SET value = 'yes' WHERE key = 'server_clock'": "server_clock is 'yes'",
    "UPDATE meta SET value = 'other' WHERE key = 'roles'": "not to other_owner",
    "DELETE FROM meta WHERE key = 'roles'": "table meta holds",
    "INSERT INTO meta VALUES ('more', '1')": "table meta holds",
    "CREATE OR REPLACE FUNCTION ledger_writer_problem(v_seq bigint, v_kind text, v_key text) RETURNS text LANGUAGE sql AS "
    "$$ SELECT NULL::text $$": "function ledger_writer_problem is not as",
    "CREATE FUNCTION help() RETURNS int LANGUAGE sql AS 'SELECT 1'": "function help is not one of this release",
    "DROP FUNCTION ledger_check(bytea, bytea, bytea, bytea)": "function ledger_check is not there",
    "ALTER FUNCTION append(bytea, bytea, bytea, bytea, bigint, bigint) RESET ALL": "function append is not as",
    "DROP TRIGGER no_update ON entry": "trigger no_update of table entry is not there",
    "GRANT INSERT ON entry TO PUBLIC": "everybody may INSERT table entry",
    "ALTER TABLE node OWNER TO postgres": "node belongs to postgres",
}


@pytest.mark.parametrize("statement", CHANGES)
def test_a_change_past_the_guards_is_found(place: NewLedger, statement: str) -> None:
    import re

    place.overpower(statement)
    found = place.open().check_derived()
    assert any(re.search(CHANGES[statement], text) for _, text in found), found


def test_a_guard_that_is_off_is_found(place: NewLedger) -> None:
    place.sql(f"ALTER EVENT TRIGGER {place.schema}_guard_ddl DISABLE", "ALTER TABLE entry DISABLE TRIGGER no_update")
    texts = [text for _, text in place.open().check_derived()]
    assert any("trigger no_update of table entry is off" in text for text in texts)
    assert any("event trigger" in text for text in texts)


def test_the_entry_of_a_row_is_named(place: NewLedger) -> None:
    place.overpower("UPDATE act SET holder = 'workload/y' WHERE seq = 4")
    assert {seq for seq, _ in place.open().check_derived()} == {4}


def test_acts_in_a_detached_segment_keep_their_effect(place: NewLedger) -> None:
    store = place.open()
    store.append_many([seal_body(ORIGIN, signed(number)) for number in range(10, 300)], START)
    rows, payloads = list(store.entries(0, 256)), list(store.payloads(0, 256))
    kept = place.sql("SELECT * FROM act ORDER BY seq, pos"), place.sql("SELECT * FROM writer")
    segment = Segment(0, 256, "ab" * 32)
    store.detach(segment)
    assert store.check_derived() == []
    store.append(seal_body(ORIGIN, signed(400)), START, None)
    store.attach(segment, rows, payloads)
    assert store.check_derived() == []
    assert (place.sql("SELECT * FROM act ORDER BY seq, pos"), place.sql("SELECT * FROM writer")) == kept
