"""Postgres in trouble: no space left under its data. Immediate stops, ended sessions and kills: tests/ledger/test_postgres_crash.py
and the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cognify_dagster.ledger import Ledger, LedgerError, Outcome
from tests.conformance.postgres_server import NewLedger, postgres_ledger
from tests.ledger.drafts import ORIGIN, Clock, draft

pytestmark = pytest.mark.postgres


@pytest.fixture
def place() -> Iterator[NewLedger]:
    with postgres_ledger(ORIGIN) as made:
        yield made


def test_a_full_disk_under_postgres_is_an_error_and_loses_nothing(place: NewLedger) -> None:
    """The server answers 53100 (disk_full) in the middle of an append, here from a trigger, as it does when a write fails."""
    ledger = Ledger(place.open(), clock_us=Clock())
    receipts = [ledger.append(draft(number)) for number in range(3)]
    place.overpower(
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS "
        "$f$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $f$",
        "CREATE TRIGGER full_disk AFTER INSERT ON payload FOR EACH ROW EXECUTE FUNCTION no_space()",
    )
    with pytest.raises(LedgerError, match=r"(?i)space|disk"):
        ledger.append(draft(3))
    with pytest.raises(LedgerError):
        ledger.append_many([draft(4), draft(5)])
    assert ledger.size() == 3
    place.overpower("DROP TRIGGER full_disk ON payload", "DROP FUNCTION no_space()")
    assert ledger.append(draft(3)).seq == 3
    report = Ledger(place.open()).verify()
    assert (report.outcome, report.level, report.findings) == (Outcome.UNPROVEN, "L0", ())
    assert [row.leaf for row in ledger.store.entries(0, 3)] == [receipt.leaf for receipt in receipts]
