"""Servers that die at once, connections that break, processes that fork: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from cognify_dagster.ledger import Ledger, LedgerUnreadable, Receipt
from cognify_dagster.ledger.entry import SealedBody, seal_body
from cognify_dagster.ledger.postgres.store import PostgresStore
from tests.conformance.postgres_server import NewLedger, Server, postgres_ledger
from tests.ledger.drafts import ORIGIN, START, draft

pytestmark = pytest.mark.postgres
STOPS = int(os.environ.get("COGNIFY_STOPS", "2"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    own = Server()
    yield own
    own.stop()


def test_an_immediate_stop_in_the_middle_of_appends(server: Server) -> None:
    place = NewLedger(ORIGIN, server)
    stores = [place.open(patience_s=30.0) for _ in range(4)]
    acked: dict[int, Receipt] = {}
    errors: list[BaseException] = []
    stopping = threading.Event()

    def write(store: PostgresStore, worker: int) -> None:
        number = worker
        try:
            while not stopping.is_set():
                receipt = store.append(seal_body(ORIGIN, draft(number)), START + len(acked), None)
                acked[number] = receipt
                number += len(stores)
        except BaseException as error:
            errors.append(error)

    crew = [threading.Thread(target=write, args=(store, number)) for number, store in enumerate(stores)]
    for member in crew:
        member.start()
    for _ in range(STOPS):
        known = len(acked)
        deadline = time.monotonic() + 20
        while len(acked) < known + 40 and time.monotonic() < deadline and not errors:
            time.sleep(0.01)
        server.stop_at_once()
        time.sleep(0.1)
        server.start()
    known = len(acked)
    deadline = time.monotonic() + 20
    while len(acked) < known + 8 and time.monotonic() < deadline and not errors:
        time.sleep(0.01)
    stopping.set()
    for member in crew:
        member.join(60)
    assert not errors, errors
    store = place.open()
    view = Ledger(store).view()
    assert view.size == len(
        acked
    )  # acknowledged once each; what was kept but not acknowledged was found by its key again
    for number, receipt in acked.items():
        assert view.entries[receipt.seq].entry.leaf == receipt.leaf
        again = store.append(seal_body(ORIGIN, draft(number)), START + view.size, None)
        assert (again.seq, again.leaf, again.duplicate) == (receipt.seq, receipt.leaf, True)
    assert Ledger(store).verify().findings == ()


def test_a_server_that_stays_away_is_an_error_that_says_what_is_unknown(server: Server) -> None:
    place = NewLedger(ORIGIN, server)
    store = place.open(patience_s=0.5)
    store.append(seal_body(ORIGIN, draft(1)), START, None)
    server.stop_at_once()
    try:
        with pytest.raises(LedgerUnreadable, match="retry with the same idempotency key"):
            store.append(seal_body(ORIGIN, draft(2)), START, None)
    finally:
        server.start()
    assert store.append(seal_body(ORIGIN, draft(2)), START, None).seq == 1


def test_a_session_ended_by_the_administrator_is_opened_anew() -> None:
    with postgres_ledger(ORIGIN) as place:
        store = place.open()
        store.append(seal_body(ORIGIN, draft(1)), START, None)
        login = place.logins["all"]
        place.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{login}'")
        assert store.append(seal_body(ORIGIN, draft(2)), START, None).seq == 1
        assert store.size() == 2


def test_a_forked_process_does_not_share_the_parents_connections() -> None:
    with postgres_ledger(ORIGIN) as place:
        store = place.open()
        store.append(seal_body(ORIGIN, draft(0)), START, None)
        children = []
        for number in range(1, 4):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    for n in range(5):
                        store.append(seal_body(ORIGIN, draft(number * 100 + n)), START, None)
                    code = 0
                finally:
                    os._exit(code)
            children.append(pid)
        for n in range(1, 6):
            store.append(seal_body(ORIGIN, draft(n)), START, None)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
        assert Ledger(store).view().size == 21


def test_a_lock_held_by_somebody_else_delays_and_does_not_fork() -> None:
    import psycopg

    with postgres_ledger(ORIGIN) as place:
        store = place.open()
        with psycopg.connect(
            place.url("writer").replace(f"&schema={place.schema}", "")
        ) as slow:  # a transaction left open
            sealed = seal_body(ORIGIN, draft(1))
            slow.execute(
                f"SELECT {place.schema}.append(%s::bytea, %s::bytea, %s::bytea, %s::bytea, {START}, NULL)",
                (sealed.body, sealed.salt, bytes.fromhex(sealed.draft.facts_digest), sealed.draft.payload),
            )
            done: list[Receipt] = []
            waiting = threading.Thread(
                target=lambda: done.append(store.append(seal_body(ORIGIN, draft(2)), START, None))
            )
            waiting.start()
            time.sleep(0.2)
            assert not done
            assert store.size() == 0
            slow.rollback()
            waiting.join(20)
        assert done[0].seq == 0
        assert Ledger(store).view().size == 1


def test_one_key_from_many_connections_at_the_same_moment_is_one_entry() -> None:
    with postgres_ledger(ORIGIN) as place:
        store = place.open(connections=8)
        for number in range(10):
            sealed = seal_body(ORIGIN, draft(number))
            start = threading.Barrier(8)
            found: list[Receipt] = []

            def work(
                sealed: SealedBody = sealed, start: threading.Barrier = start, found: list[Receipt] = found
            ) -> None:
                start.wait()
                found.append(store.append(sealed, START, None))

            crew = [threading.Thread(target=work) for _ in range(8)]
            for member in crew:
                member.start()
            for member in crew:
                member.join()
            assert {receipt.seq for receipt in found} == {number}
            assert len(found) == 8
            assert sum(not receipt.duplicate for receipt in found) == 1
        assert Ledger(store).view().size == 10
