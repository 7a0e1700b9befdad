"""Older Postgres: what is declared to be enough is, as far as this machine has it, and anything older is refused in plain words.

The whole suites run on another version with COGNIFY_POSTGRES=16, or COGNIFY_POSTGRES=/usr/lib/postgresql/15/bin.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognify_dagster.ledger import Ledger, LedgerUnreadable
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.postgres import connection, schema, upkeep
from cognify_dagster.ledger.postgres.connection import Place, preflight
from cognify_dagster.ledger.postgres.earlier import FUNCTIONS
from tests.conformance.postgres_server import NewLedger, Server
from tests.ledger.drafts import ORIGIN, START, draft
from tests.ledger.founded_postgres import found, signed

pytestmark = pytest.mark.postgres

OTHERS = ["16", *sorted(str(path.parent) for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))]

# what Postgres learnt after 14, as far as it would come in handy here
NEWER = (
    "MERGE", "NULLS NOT DISTINCT", "IS JSON", "JSON_TABLE", "JSON_QUERY", "JSON_VALUE", "JSON_EXISTS", "JSON_SCALAR", "JSON_ARRAYAGG",
    "ANY_VALUE", "array_sample", "array_shuffle", "array_sort", "array_reverse", "random_normal", "regexp_like", "regexp_count",
    "regexp_substr", "regexp_instr", "pg_input_is_valid", "pg_input_error_info", "uuidv7", "casefold", "crc32", "WITHOUT OVERLAPS",
    "VIRTUAL", "MAINTAIN", "security_invoker", "0x", "RETURNING WITH", "merge_action", "to_bin", "to_oct", "unistr_", "xmltext",
)  # fmt: skip


def test_the_sql_uses_nothing_that_came_after_postgres_14() -> None:
    sql = schema.TABLES + schema.SETTINGS + schema.GUARDS + schema.triggers() + FUNCTIONS + upkeep.EVENT_TRIGGERS
    sql = re.sub(r"--[^\n]*", "", sql)
    assert [word for word in NEWER if re.search(rf"(?<![A-Za-z_]){re.escape(word)}", sql)] == []
    assert connection.MIN_VERSION == 140_000


@pytest.mark.parametrize("version", [90_600, 130_022])
def test_an_older_server_is_refused_by_name(version: int) -> None:
    row = ("pg_catalog", version, False, "UTF8", False, {})
    session = SimpleNamespace(execute=lambda _: SimpleNamespace(fetchone=lambda: row))
    for writing in (True, False):
        with pytest.raises(LedgerUnreadable, match=rf"Postgres {version // 10_000} is too old; use 14 or newer"):
            preflight(cast(Any, session), Place("postgresql://x@/y", None), writing=writing)


@pytest.mark.parametrize("which", OTHERS)
def test_a_short_history_on_another_version(which: str) -> None:
    server = Server(which)
    try:
        (version,) = server.execute("SELECT current_setting('server_version_num')::int")[0]
        assert version // 10_000 < 18
        place = NewLedger(ORIGIN, server)
        store = place.open()
        found(store)
        receipts = [store.append(seal_body(ORIGIN, signed(number)), START + number, None) for number in range(1, 6)]
        receipts += store.append_many([seal_body(ORIGIN, signed(number)) for number in range(6, 300)], START + 10)
        store.append(
            seal_body(ORIGIN, draft(900, kind="key_revoked", facts={}, subjects=("people", "workload/x"))), START, None
        )
        store.erase([3])
        assert [receipt.seq for receipt in receipts] == list(range(1, 300))
        assert store.append(seal_body(ORIGIN, signed(2)), START + 20, None) == receipts[1].__class__(
            2, receipts[1].leaf, receipts[1].time_us, True
        )
        copy = NewLedger(ORIGIN, server)
        copy.open().load(store.entries(0, 301), store.payloads(0, 301), [])
        for one in (store, copy.open()):
            assert one.check_derived() == []
        erased = [item.seq for item in Ledger(store).verify().findings]
        assert erased == [3]  # no entry says that it was erased
        store.close()
    finally:
        server.stop()
