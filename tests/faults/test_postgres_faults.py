"""Postgres in trouble: no space left under its data. Immediate stops, ended sessions and kills: tests/ledger/test_postgres_crash.py
and the conformance suite."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator

import pytest

from cognify_dagster.ledger import Draft, Ledger, LedgerError, LedgerFull, Outcome, Receipt
from tests.conformance.postgres_server import NewLedger, Server, postgres_ledger
from tests.ledger.drafts import ORIGIN, START, Clock, draft

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


# --- real failing writes: the kernel refuses to let the server's files grow, as any user may ask it to ---------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    own = Server()
    yield own
    own.stop()


def restart(server: Server, limit: int | None = None) -> None:
    """Stop the server at once and start it so that none of its files can grow beyond `limit` bytes; None: as far as the disk goes."""
    server.stop_at_once()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft if limit is None else limit, hard))  # what it starts inherits this
    try:
        server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def append_until_it_fails(ledger: Ledger, receipts: dict[int, Receipt], most: int) -> int:
    """Append large entries 1, 2, … until one raises; return its number."""
    for number in range(1, most):
        try:
            receipts[number] = ledger.append(large(number))
        except LedgerError:
            return number
    raise AssertionError("nothing failed")


def large(number: int) -> Draft:
    """About 4 MB that hardly compress, so that the file of payloads grows."""
    text = b"".join(hashlib.sha512(b"%d %d" % (number, part)).digest() for part in range(30_000)).hex()
    return draft(number, facts={"text": text})


def nothing_lost(place: NewLedger, receipts: dict[int, Receipt]) -> None:
    """Every acknowledged entry is there; a retry gives its receipt; verification has nothing to say."""
    ledger = Ledger(place.open(), clock_us=Clock(START + 1_000_000_000))
    assert ledger.size() >= len(receipts)
    leaves = {row.seq: row.leaf for row in ledger.store.entries(0, ledger.size())}
    for receipt in receipts.values():
        assert leaves[receipt.seq] == receipt.leaf
    report = Ledger(place.open()).verify()
    assert (report.outcome, report.findings) == (Outcome.UNPROVEN, ())


def test_a_table_that_cannot_grow_is_an_error_and_the_server_goes_on(server: Server) -> None:
    place = NewLedger(ORIGIN, server)
    restart(server, 20 * 1024 * 1024)  # above a segment of the write-ahead log, so that only tables are concerned
    ledger = Ledger(place.open(), clock_us=Clock())
    receipts: dict[int, Receipt] = {0: ledger.append(draft(0))}
    failed = append_until_it_fails(ledger, receipts, 12)
    assert failed > 1
    with pytest.raises(LedgerFull, match="nothing was appended"):
        ledger.append(large(failed))
    with pytest.raises(LedgerFull, match="nothing was appended"):
        ledger.append_many([draft(100), large(failed)])
    assert ledger.size() == len(receipts)
    receipts[101] = ledger.append(draft(101))  # what still fits is kept
    nothing_lost(place, receipts)

    restart(server)
    receipts[failed] = ledger.append(large(failed))
    assert receipts[failed].seq == len(receipts) - 1
    nothing_lost(place, receipts)


def test_a_write_ahead_log_that_cannot_grow_stops_the_server_and_loses_nothing(server: Server) -> None:
    """Postgres panics rather than go on without its log. The caller gets an error; once there is room, the server recovers."""
    place = NewLedger(ORIGIN, server)
    restart(server, 12 * 1024 * 1024)  # below a segment of the log, which is soon reached
    ledger = Ledger(place.open(patience_s=0.5), clock_us=Clock())
    receipts: dict[int, Receipt] = {0: ledger.append(draft(0))}
    failed = append_until_it_fails(ledger, receipts, 12)

    restart(server)
    nothing_lost(place, receipts)
    again = Ledger(place.open(), clock_us=Clock()).append(large(failed))
    assert again.seq == len(receipts)  # whether it was kept or not, it is there once
    nothing_lost(place, {**receipts, failed: again})
