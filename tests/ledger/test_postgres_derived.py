"""What Postgres keeps beside entries, and an owner could edit unseen: each change is found, an honest ledger raises none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.ledger import Ledger, LedgerError, LedgerUnreadable, Outcome
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.postgres import earlier, setup
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


OVERLOADED = """
CREATE FUNCTION append(v_body bytea) RETURNS bigint LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; END $f$
"""
REDIRECTED = "ALTER FUNCTION add_checkpoint(bigint, bytea) SET search_path = elsewhere, pg_catalog, pg_temp"


@pytest.mark.parametrize(
    ("statement", "text"),
    [(OVERLOADED, "function append is there 2 times"), (REDIRECTED, "function add_checkpoint is not as")],
)
def test_a_second_form_and_another_search_path_are_found(place: NewLedger, statement: str, text: str) -> None:
    """With its text untouched a function would work on other tables; a second form could hide what was done to the first."""
    place.overpower(statement)
    assert any(text in found for _, found in place.open().check_derived())


# --- after an upgrade, before `init` was run again ---


def older() -> str:
    """The SQL as an earlier release might have had it: without a function and a trigger of today, with another text."""
    sql = earlier.current()
    begin = sql.index("CREATE OR REPLACE FUNCTION forget(")
    sql = sql[:begin] + sql[sql.index("CREATE OR REPLACE FUNCTION detach(") :]
    trigger = re.search(r"CREATE OR REPLACE TRIGGER only_forget .*?TRIGGER only_forget;", sql)
    assert trigger is not None
    return sql.replace(trigger[0], "").replace("the tree cache misses node", "the cache of the tree misses node")


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[NewLedger]:
    """A founded ledger that an earlier release set up, seen by this one."""
    sql = older()
    with monkeypatch.context() as patch:
        patch.setattr(earlier, "current", lambda: sql)
        patch.setattr(setup, "_EXECUTE", {**setup._EXECUTE, "eraser": ("erase(bigint[])",)})
        made = NewLedger(ORIGIN)
        fill(made)
        assert made.open().check_derived() == []
    try:
        yield made
    finally:
        made.drop()


def test_a_server_that_waits_for_init_after_an_upgrade_is_told_what_to_do(
    behind: NewLedger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(earlier, "releases", lambda: {"0.2.0": "nothing", "0.1.0": older()})
    ((seq, text),) = behind.open().check_derived()
    assert seq is None
    assert text.startswith(
        "outdated: the server's functions and guards are those of release 0.1.0; run `cognify ledger init"
    )
    report = Ledger(behind.open()).verify()
    assert (report.outcome, [item.outcome for item in report.findings]) == (Outcome.UNPROVEN, [Outcome.UNPROVEN])
    with pytest.raises(LedgerUnreadable, match=r"older than this release; run `cognify ledger init --url`"):
        behind.open().forget([1])
    init_postgres(behind.server.url(), ORIGIN, schema=behind.schema)
    assert behind.open().check_derived() == []
    behind.open("eraser").forget([1])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE OR REPLACE FUNCTION ledger_size() RETURNS bigint STABLE LANGUAGE plpgsql SET search_path = pg_catalog, "
        '"@schema@", pg_temp AS $f$ BEGIN RETURN 7; END $f$',
        "ALTER TABLE entry DISABLE TRIGGER no_update",
        "CREATE FUNCTION help() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE writer SET kinds = kinds || ARRAY['package']",
        "GRANT INSERT ON entry TO PUBLIC",
    ],
)
def test_a_change_is_tampering_whatever_release_set_the_server_up(
    behind: NewLedger, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr(earlier, "releases", lambda: {"0.1.0": older()})
    switched = "DISABLE TRIGGER" in statement
    if switched:
        behind.overpower("SELECT 1")
        behind.sql(f"ALTER EVENT TRIGGER {behind.schema}_guard_ddl DISABLE", statement)
    else:
        behind.overpower(statement.replace("@schema@", behind.schema))
    assert Ledger(behind.open()).verify().outcome is Outcome.TAMPERED


def test_the_sql_of_a_release_that_is_not_known_is_no_excuse_but_the_way_out_is_named(behind: NewLedger) -> None:
    """Before the first release there is no earlier one to compare with."""
    report = Ledger(behind.open()).verify()
    assert report.outcome is Outcome.TAMPERED
    assert any(
        "If this package was upgraded since the server was set up, run `cognify ledger init --url`" in item.message
        for item in report.findings
    )
    init_postgres(behind.server.url(), ORIGIN, schema=behind.schema)
    assert behind.open().check_derived() == []


def test_a_release_keeps_its_sql_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "releases"
    monkeypatch.setattr(earlier, "FOLDER", folder)
    assert earlier.releases() == {}
    for version in ("0.9.0", "0.10.0", "0.10.0"):
        assert earlier.keep(version, folder).read_text(encoding="utf-8") == earlier.current()
    assert list(earlier.releases()) == ["0.10.0", "0.9.0"]
    (folder / "0.9.0.sql").write_text("other", encoding="utf-8")
    with pytest.raises(LedgerError, match="never changes"):
        earlier.keep("0.9.0", folder)
    with pytest.raises(LedgerError, match="no version"):
        earlier.keep("../0.9.0", folder)


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
