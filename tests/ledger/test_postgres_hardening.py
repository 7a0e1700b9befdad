"""What a Postgres ledger refuses, to whom; and that verification shows what only a superuser can still do."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cognify_dagster.ledger import (
    EntryError,
    IdempotencyConflict,
    Ledger,
    LedgerError,
    LedgerUnreadable,
    Outcome,
    canonical_json,
)
from cognify_dagster.ledger.entry import payload_commitment, seal_body
from cognify_dagster.ledger.postgres.store import PostgresStore, init_postgres
from cognify_dagster.ledger.store import Segment
from tests.conformance.postgres_server import NewLedger, postgres_ledger, shared_server
from tests.ledger.drafts import ORIGIN, START, draft

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def place() -> Iterator[NewLedger]:
    with postgres_ledger(ORIGIN) as ledger:
        store = ledger.open()
        for number in range(4):
            store.append(seal_body(ORIGIN, draft(number)), START + number, None)
        yield ledger


def call(
    place: NewLedger, body: bytes, payload: bytes, *, salt: bytes = bytes(32), before: tuple[str, ...] = ()
) -> list[Any]:
    """Call append() as somebody who holds the writer's login, but does not use this package."""
    import psycopg

    with psycopg.connect(place.url("writer").replace(f"&schema={place.schema}", ""), autocommit=True) as db:
        for statement in before:
            db.execute(statement.encode())
        return db.execute(
            f"SELECT * FROM {place.schema}.append(%s::bytea, %s::bytea, %s::bytea, %s::bytea, {START + 10}, NULL)",
            (body, salt, hashlib.sha256(b"{}").digest(), payload),
        ).fetchall()


def body(**changed: Any) -> dict[str, Any]:
    payload = canonical_json({"facts": {}, "observed": {}})
    return {
        "actor": "workload/w",
        "evidence": [],
        "idem": "ab" * 32,
        "key": "",
        "kind": "training_run",
        "payload": payload_commitment(bytes(32), payload),
        "schema": 1,
        "sig": "",
        "subjects": ["model/a"],
        **changed,
    }


GOOD = canonical_json({"facts": {}, "observed": {}})
REFUSED_BODIES: dict[str, bytes] = {
    "not JSON": b"{",
    "an array": b"[]",
    "NUL": canonical_json(body(actor="workload/w")).replace(b"workload/w", b"workload/\\u0000"),
    "raw NUL": canonical_json(body()).replace(b"workload/w", b"workload/\x00"),
    "invalid UTF-8": canonical_json(body()).replace(b"workload/w", b"workload/\xff"),
    "spaces": canonical_json(body()).replace(b":", b": "),
    "another order": b'{"subjects":["model/a"],'
    + canonical_json({k: v for k, v in body().items() if k != "subjects"})[1:],
    "one more member": canonical_json(body(more=1)),
    "a member less": canonical_json({k: v for k, v in body().items() if k != "schema"}),
    "a member twice": canonical_json(body()).replace(b'"key":""', b'"key":"","key":""'),
    "schema as text": canonical_json(body(schema="1")),
    "schema 0": canonical_json(body(schema=0)),
    "schema 1.0": canonical_json(body()).replace(b'"schema":1', b'"schema":1.0'),
    "no subject": canonical_json(body(subjects=[])),
    "unsorted subjects": canonical_json(body(subjects=["model/b", "model/a"])),
    "one subject twice": canonical_json(body(subjects=["model/a", "model/a"])),
    "65 subjects": canonical_json(body(subjects=sorted(f"model/{n}" for n in range(65)))),
    "a long subject": canonical_json(body(subjects=["model/" + "a" * 121])),
    "a long word": canonical_json(body(subjects=["m" * 41])),
    "a subject with a quote": canonical_json(body(subjects=['model/a"'])),
    "a subject with a comma": canonical_json(body(subjects=["model/a,model/b"])),
    "a Cyrillic subject": canonical_json(body(subjects=["model/\u0430"])),
    "a newline at the end": canonical_json(body(actor="workload/w\n")),
    "a long kind": canonical_json(body(kind="k" * 61)),
    "capitals in the key": canonical_json(body(idem="AB" * 32)),
    "unsorted evidence": canonical_json(body(evidence=["sha256:" + "b" * 64, "sha256:" + "a" * 64])),
    "evidence of another kind": canonical_json(body(evidence=["md5:" + "a" * 32])),
    "a key without signature": canonical_json(body(key="0123456789abcdef")),
    "a signature without key": canonical_json(body(sig=base64.b64encode(bytes(64)).decode())),
    "a signature with loose bits": canonical_json(body(key="0123456789abcdef", sig="A" * 85 + "B==")),
    "nested subjects": canonical_json(body(subjects=[["model/a"]])),
    "null": canonical_json(body(actor=None)),
    "another payload's commitment": canonical_json(body(payload="00" * 32)),
}


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_a_writer_past_this_package_cannot_add_what_would_not_verify(place: NewLedger, name: str) -> None:
    import psycopg

    before = place.open().size()
    with pytest.raises(psycopg.Error) as found:
        call(place, REFUSED_BODIES[name], GOOD)
    assert found.value.sqlstate == "CG004", found.value
    assert place.open().size() == before


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\x00", b'"text"', b'{"a":"\xff"}', b"[" * 100_000])
def test_a_payload_is_a_json_object(place: NewLedger, payload: bytes) -> None:
    import psycopg

    with pytest.raises(psycopg.Error) as found:
        call(place, canonical_json(body(payload=payload_commitment(bytes(32), payload))), payload)
    assert found.value.sqlstate == "CG004"


def test_sizes_are_limited_before_anything_is_hashed(place: NewLedger) -> None:
    import psycopg

    for text, payload in ((b"x" * 70_000, GOOD), (canonical_json(body()), b"x" * (4 * 1024 * 1024 + 1))):
        with pytest.raises(psycopg.Error, match="evidence"):
            call(place, text, payload)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_snapshot_older_than_the_lock_is_refused(place: NewLedger, isolation: str) -> None:
    import psycopg

    with pytest.raises(psycopg.Error, match="READ COMMITTED"):
        call(place, canonical_json(body()), GOOD, before=(f"SET default_transaction_isolation = '{isolation}'",))
    escaped = isolation.replace(" ", "\\ ")
    url = place.server.url(user=place.logins["writer"], options=f"-c default_transaction_isolation={escaped}")
    with pytest.raises(LedgerUnreadable, match="default_transaction_isolation is"):
        PostgresStore(url, schema=place.schema)


def test_a_session_that_does_not_wait_for_the_disk_is_refused(place: NewLedger) -> None:
    import psycopg

    with pytest.raises(psycopg.Error, match="synchronous_commit = on"):
        call(place, canonical_json(body()), GOOD, before=("SET synchronous_commit = off",))
    url = place.server.url(user=place.logins["writer"], options="-c synchronous_commit=off")
    with pytest.raises(LedgerUnreadable, match=r"synchronous_commit is off \(set by: client\)"):
        PostgresStore(url, schema=place.schema)


def reloaded(place: NewLedger, statement: str, setting: str, value: str) -> None:
    """Change a setting of the server; wait until its sessions begin with it, which takes a busy one a while."""
    place.server.execute(statement, "SELECT pg_reload_conf()")
    end = time.monotonic() + 30
    while place.server.execute(f"SHOW {setting}") != [(value,)]:
        assert time.monotonic() < end, f"{setting} never became {value}"
        time.sleep(0.05)
    time.sleep(0.1)  # the sessions that were open are told at the same moment


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_could_lose_entries_is_refused(place: NewLedger, setting: str) -> None:
    store = place.open()
    other = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}[setting]
    try:
        reloaded(place, f"ALTER SYSTEM SET {setting} = {other}", setting, other)
        with pytest.raises(LedgerUnreadable, match=f"{setting} is off .*Set {setting} = on"):
            place.open()
        with pytest.raises(LedgerUnreadable, match=f"{setting}"):
            store.append(seal_body(ORIGIN, draft(900)), START + 20, None)
        assert place.open("reader", read_only=True).size() >= 4  # reading harms nobody
    finally:
        reloaded(place, f"ALTER SYSTEM RESET {setting}", setting, "on")
    place.open()


BY_OWNER = (
    "UPDATE entry SET bytes = '\\x00' WHERE seq = 1",
    "DELETE FROM entry WHERE seq = 1",
    "TRUNCATE entry",
    "UPDATE payload SET bytes = '\\x00' WHERE seq = 1",
    "DELETE FROM payload WHERE seq = 1",
    "UPDATE entry_subject SET subject = 'model/hidden'",
    "DELETE FROM entry_subject",
    "UPDATE node SET hash = '\\x00'",
    "DELETE FROM node",
    "DELETE FROM checkpoint",
    "UPDATE meta SET value = 'x'",
    "DELETE FROM detached WHERE true; TRUNCATE detached",
    "ALTER TABLE entry DISABLE TRIGGER ALL",
    "ALTER TABLE entry DISABLE TRIGGER no_update",
    "ALTER TABLE entry ADD COLUMN more int",
    "ALTER TABLE entry SET SCHEMA public",
    "DROP TRIGGER no_update ON entry",
    "DROP TABLE entry CASCADE",
    "DROP FUNCTION append(bytea, bytea, bytea, bytea, bigint, bigint)",
    "CREATE OR REPLACE FUNCTION guard_refuse() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN new; END $f$",
    "CREATE RULE quiet AS ON INSERT TO entry DO INSTEAD NOTHING",
    "GRANT INSERT ON entry TO PUBLIC",
    "ALTER SCHEMA @schema@ RENAME TO other",
    "DROP SCHEMA @schema@ CASCADE",
)


@pytest.mark.parametrize("replica", [False, True], ids=["", "replica"])
@pytest.mark.parametrize("statement", BY_OWNER)
def test_the_owner_is_held_up_too(place: NewLedger, statement: str, replica: bool) -> None:
    import psycopg

    before = place.sql("SELECT * FROM entry ORDER BY seq")
    first = ("SET session_replication_role = replica",) if replica else ()
    with pytest.raises(psycopg.Error) as found:
        place.sql(*first, f"SET ROLE {place.setup.roles['owner']}", statement.replace("@schema@", place.schema))
    assert found.value.sqlstate in ("CG009", "42501"), found.value
    assert place.sql("SELECT * FROM entry ORDER BY seq") == before


@pytest.mark.parametrize(
    "change",
    [
        "leaf = idem",
        "time_us = 1",
        "idem = leaf",
        "facts_digest = leaf",
        "leaf = idem, facts_digest = NULL",
        "seq = 999",
    ],
)
def test_of_a_detached_entry_even_a_superuser_can_only_forget_the_digest(change: str) -> None:
    import psycopg

    with postgres_ledger(ORIGIN) as place:
        store = place.open()
        store.append_many([seal_body(ORIGIN, draft(number)) for number in range(257)], START)
        store.detach(Segment(0, 256, "ab" * 32))
        before = place.sql("SELECT * FROM detached ORDER BY seq")
        with pytest.raises(psycopg.Error, match="only the facts digest can be forgotten"):
            place.sql(f"UPDATE detached SET {change} WHERE seq = 5")
        assert place.sql("SELECT * FROM detached ORDER BY seq") == before
        place.sql("UPDATE detached SET facts_digest = NULL WHERE seq = 5")
        with pytest.raises(LedgerError, match="lacks a role"):
            place.open("writer").forget([6])
        place.open("eraser").forget([6])
        assert [stone.seq for stone in store.tombstones(0, 256) if stone.facts_digest is None] == [5, 6]
        assert store.check_derived() == []


def test_nobody_can_log_in_as_owner_and_no_role_may_write_tables(place: NewLedger) -> None:
    for role in place.setup.roles.values():
        row = place.sql(
            f"SELECT rolcanlogin, rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = '{role}'"
        )
        assert row == [(False, False, False, False)]
    for name, role in place.setup.roles.items():
        if name != "owner":
            rights = "INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
            held = place.sql(
                f"SELECT c.relname FROM pg_class c WHERE c.relnamespace = '{place.schema}'::regnamespace AND c.relkind = 'r' AND "
                f"has_table_privilege('{role}', c.oid, '{rights}')"
            )
            assert held == [], name


def test_every_function_that_runs_as_owner_pins_its_search_path(place: NewLedger) -> None:
    rows = place.sql(
        f"SELECT proname, proconfig, prosecdef FROM pg_proc WHERE pronamespace = '{place.schema}'::regnamespace AND prosecdef"
    )
    assert {row[0] for row in rows} >= {"append", "append_members", "append_batch", "erase", "add_checkpoint", "detach"}
    for name, config, _ in rows:
        assert config[0] == f"search_path=pg_catalog, {place.schema}, pg_temp", name
        assert set(config[1:]) <= {"plan_cache_mode=force_generic_plan", "enable_seqscan=off"}, name
    public = place.sql(
        f"SELECT proname FROM pg_proc WHERE pronamespace = '{place.schema}'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')"
    )
    assert public == []


def test_a_callers_search_path_and_temporary_tables_change_nothing(place: NewLedger) -> None:
    before = place.open().size()
    text = canonical_json(body(idem=hashlib.sha256(b"path").hexdigest()))
    tricks = (
        "CREATE TEMP TABLE entry (LIKE pg_class)",
        "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$",
        "SET search_path = pg_temp, pg_catalog",
    )
    rows = call(place, text, GOOD, before=tricks)
    assert rows[0][0] == before
    assert Ledger(place.open()).view().entries[before].entry.leaf == rows[0][1]


@pytest.mark.parametrize(
    ("login", "work"),
    [
        ("reader", lambda s: s.append(seal_body(ORIGIN, draft(50)), START, None)),
        ("signer", lambda s: s.append(seal_body(ORIGIN, draft(50)), START, None)),
        ("writer", lambda s: s.add_checkpoint(1, "note")),
        ("writer", lambda s: s.erase([1])),
        ("eraser", lambda s: s.append(seal_body(ORIGIN, draft(50)), START, None)),
        ("archivist", lambda s: s.erase([1])),
    ],
)
def test_each_role_may_do_its_own_task_only(place: NewLedger, login: str, work: Any) -> None:
    with pytest.raises(LedgerError, match="lacks a role of this ledger; ask for GRANT"):
        work(place.open(login))


def test_what_a_superuser_does_past_the_guards_is_found_by_verification() -> None:
    changes = {
        "UPDATE entry SET bytes = overlay(bytes PLACING '\\x39' FROM octet_length(bytes) - 8) WHERE seq = 1": "entry 1",
        "UPDATE entry SET time_us = time_us + 1 WHERE seq = 2": "entry 2.*time_us",
        "UPDATE entry SET kind = 'quiet' WHERE seq = 2": "entry 2.*kind",
        "UPDATE entry_subject SET subject = 'model/hidden' WHERE seq = 2": "entry 2.*subjects",
        "DELETE FROM entry WHERE seq = 1": "missing",
        "UPDATE payload SET bytes = '\\x7b7d' WHERE seq = 1": "entry 1.*payload",
        "UPDATE node SET hash = sha256('x') WHERE level = 1": "tree cache",
    }
    for statement, text in changes.items():
        with postgres_ledger(ORIGIN) as place:
            ledger = Ledger(place.open())
            for number in range(5):
                ledger.store.append(seal_body(ORIGIN, draft(number)), START + number, None)
            assert ledger.verify().findings == ()
            place.overpower(statement)
            report = ledger.verify()
            assert report.outcome is Outcome.TAMPERED, statement
            assert any(__import__("re").search(text, str(finding)) for finding in report.findings), report.findings


def test_nothing_is_appended_after_a_damaged_last_entry() -> None:
    with postgres_ledger(ORIGIN) as place:
        store = place.open()
        for number in range(3):
            store.append(seal_body(ORIGIN, draft(number)), START + number, None)
        place.overpower("UPDATE entry SET leaf = sha256('x') WHERE seq = 2")
        with pytest.raises(LedgerUnreadable, match="cognify ledger verify"):
            store.append(seal_body(ORIGIN, draft(3)), START + 5, None)
        assert store.size() == 3


def test_setting_up_twice_changes_nothing_and_another_ledger_is_refused() -> None:
    with postgres_ledger(ORIGIN) as place:
        store = place.open()
        receipt = store.append(seal_body(ORIGIN, draft(1)), START, None)
        again = init_postgres(place.server.url(), ORIGIN, schema=place.schema)
        assert (again.roles, again.event_triggers) == (place.setup.roles, True)
        assert store.append(seal_body(ORIGIN, draft(1)), START, None).leaf == receipt.leaf
        with pytest.raises(LedgerError, match=r"this is the ledger 'bank.example/demo/store'"):
            init_postgres(place.server.url(), "bank.example/other/one", schema=place.schema)
        with pytest.raises(LedgerUnreadable, match=r"not 'bank.example/other/one'"):
            PostgresStore(place.url(), "bank.example/other/one")
        with pytest.raises(LedgerError, match="owns another ledger on this server"):
            init_postgres(place.server.url(), ORIGIN, schema="elsewhere", roles=place.schema)
        import psycopg

        with pytest.raises(psycopg.Error, match="locked"):  # the guards are on again
            place.sql("ALTER TABLE entry DISABLE TRIGGER ALL")


def test_a_setup_that_cannot_be_finished_leaves_nothing() -> None:
    server = shared_server()
    server.execute("CREATE SCHEMA taken", "CREATE TABLE taken.entry (x int)", "CREATE ROLE nobody_much LOGIN")
    try:
        with pytest.raises(LedgerError, match="holds other tables"):
            init_postgres(server.url(), ORIGIN, schema="taken")
        with pytest.raises(LedgerError, match="CREATEROLE"):
            init_postgres(server.url(user="nobody_much"), ORIGIN, schema="mine")
        with pytest.raises(LedgerError, match="no login 'ghost'"):
            init_postgres(server.url(), ORIGIN, schema="mine", grant={"writer": ["ghost"]})
        assert server.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE 'mine%'") == []
        assert server.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'mine'") == []
        for schema in ("public", "pg_x", "a b", 'a"b', ""):
            with pytest.raises(LedgerError):
                init_postgres(server.url(), ORIGIN, schema=schema or "-")
    finally:
        server.execute("DROP SCHEMA taken CASCADE", "DROP ROLE nobody_much")


def test_without_a_superuser_the_event_triggers_are_said_to_be_missing() -> None:
    server = shared_server()
    server.execute("CREATE ROLE setter LOGIN CREATEROLE", "GRANT CREATE ON DATABASE postgres TO setter")
    try:
        setup = init_postgres(server.url(user="setter"), ORIGIN, schema="plain")
        assert not setup.event_triggers
        assert any("superuser" in note for note in setup.notes)
        server.execute("CREATE ROLE plain_login LOGIN", f"GRANT {setup.roles['writer']} TO plain_login")
        store = PostgresStore(server.url(user="plain_login"), ORIGIN, schema="plain")
        assert store.append(seal_body(ORIGIN, draft(1)), START, None).seq == 0
        again = init_postgres(server.url(user="setter"), ORIGIN, schema="plain")
        assert again.roles == setup.roles
        store.close()
    finally:
        server.execute("DROP SCHEMA plain CASCADE", "DROP ROLE plain_login")
        server.execute(
            *(f"DROP ROLE plain_{name}" for name in ("owner", "writer", "reader", "signer", "eraser", "archivist"))
        )
        server.execute("REVOKE CREATE ON DATABASE postgres FROM setter", "DROP ROLE setter")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:geheim-1234@127.0.0.1:1/none?connect_timeout=1",
        "postgresql://ada:geheim-1234@[::1",
        "postgresql://ada:geheim-1234@127.0.0.1:1/x?geheim-1234=1",
        "host=127.0.0.1 port=1 password=geheim-1234 connect_timeout=1",
        "password=geheim-1234 nonsense",
    ],
)
def test_no_message_carries_the_password(url: str) -> None:
    import traceback

    for work in (lambda: PostgresStore(url), lambda: init_postgres(url, ORIGIN)):
        with pytest.raises(LedgerUnreadable) as found:
            work()
        assert "geheim" not in "".join(traceback.format_exception(found.value))


def test_an_open_store_does_not_show_or_pickle_its_password(place: NewLedger) -> None:
    import pickle

    store = PostgresStore(place.url().replace("@/", ":geheim-1234@/"))
    assert "geheim" not in repr(store)
    with pytest.raises(TypeError, match="open it anew"):
        pickle.dumps(store)


def test_nobody_is_served_by_an_empty_database() -> None:
    with pytest.raises(LedgerUnreadable, match="no ledger here; run `cognify ledger init"):
        PostgresStore(shared_server().url(), schema="nothing_here")


def test_the_servers_clock_can_be_the_only_one() -> None:
    import time

    with postgres_ledger(ORIGIN, server_clock=True) as place:
        store = place.open()
        before = time.time_ns() // 1000
        receipt = store.append(seal_body(ORIGIN, draft(1)), START, None)
        assert before - 1_000_000 <= receipt.time_us <= time.time_ns() // 1000 + 1_000_000


def test_a_conflict_says_which_entry(place: NewLedger) -> None:
    with pytest.raises(IdempotencyConflict, match="entry 1 already has this"):
        place.open().append(seal_body(ORIGIN, draft(1, facts_digest="00" * 32)), START, None)
    with pytest.raises(EntryError):
        place.open().append_many([seal_body("other/origin", draft(77)).__class__(draft(77), bytes(32), b"{}")], START)
