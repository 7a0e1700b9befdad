"""Two processes of one site over one database put the access log into the ledger: each line once, each batch once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from cognify_dagster.records import AccessLogged
from cognify_dagster.review.access import anchoring
from cognify_dagster.review.app import open_site
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import access as table
from cognify_dagster.review.store.access import Line, access_lines
from cognify_dagster.workspace import Workspace
from tests.governance.world import World, clone
from tests.review.site_world import SiteWorld, make_site_world


@pytest.fixture
def sites(founded_template: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, Site]]:
    """Two sites as two processes have them: each with its own pool of connections and its own workspace."""
    monkeypatch.setenv("COGNIFY_TEST_SITE", "postgres")
    world = clone(founded_template, tmp_path / "world")
    first: SiteWorld = make_site_world(world)
    second = open_site(Workspace.open(world.workspace.config.path), first.site.config)
    assert second.store.engine.dialect.name == "postgresql"
    yield first.site, second
    first.site.store.close()
    second.store.close()


def lines(number: int) -> list[Line]:
    return [
        Line(1_700_000_000_000_000 + place, who="person/vera", action="package", status=200) for place in range(number)
    ]


def while_open(first: Site, second: Site, act: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Do something in both processes, the second while the transaction of the first is not finished."""
    found: list[Any] = []

    def run() -> None:
        try:
            with second.store.begin() as connection:
                found.append(act(connection))
        except Exception as error:  # told by the assertion below
            found.append(error)

    thread = threading.Thread(target=run)
    with first.store.begin() as connection:
        mine = act(connection)
        thread.start()
        thread.join(0.5)
    thread.join(20)
    assert found, "it hung"
    return mine, found[0]


def test_both_know_the_database_by_one_id(sites: tuple[Site, Site]) -> None:
    """Else the second would anchor the same lines as those of another site, and hold the first one's batches for foreign."""
    mine, theirs = while_open(*sites, table.site_id)
    assert mine == theirs
    with sites[0].store.begin() as connection:
        assert len(connection.execute(select(table.access_site)).all()) == 1


def test_a_batch_is_begun_once(sites: tuple[Site, Site]) -> None:
    with sites[0].store.begin() as connection:
        table.add_lines(connection, lines(10))
    assert while_open(*sites, lambda connection: table.open_batch(connection, 100)) == (1, 1)


def test_a_line_that_is_written_while_a_batch_is_made_is_in_the_next_though_its_number_is_smaller(
    sites: tuple[Site, Site],
) -> None:
    first, second = sites
    with second.store.begin() as slow:
        table.add_lines(slow, lines(1))  # has number 1, and is not there for others yet
        with first.store.begin() as connection:
            table.add_lines(connection, lines(3))
        one = anchoring.anchor(first)
    two = anchoring.anchor(second)
    found = {item.seq: item.record for item in first.read().all(AccessLogged)}
    assert one is not None
    assert two is not None
    assert (found[one].count, found[two].count) == (3, 1)
    for site in sites:
        for seq in (one, two):
            state = anchoring.check_batch(site, site.read(), seq)
            assert state is not None
            assert state.word == "intact"


def test_processes_that_write_and_anchor_all_the_time_put_each_line_in_once(sites: tuple[Site, Site]) -> None:
    rounds, each = 12, 7
    gate = threading.Barrier(4)

    def write(site: Site) -> None:
        gate.wait(10)
        for _ in range(rounds):
            with site.store.begin() as connection:
                table.add_lines(connection, lines(each))

    def put(site: Site) -> None:
        gate.wait(10)
        for _ in range(rounds):
            anchoring.anchor(site)

    with ThreadPoolExecutor(4) as pool:
        for done in [
            pool.submit(write, sites[0]),
            pool.submit(write, sites[1]),
            *(pool.submit(put, site) for site in sites),
        ]:
            done.result(120)
    while anchoring.anchor(sites[1]) is not None:
        pass
    reading = sites[0].read()
    entries = reading.all(AccessLogged)
    assert sum(item.record.count for item in entries) == 2 * rounds * each
    assert Counter(item.record.batch for item in entries) == Counter(range(1, len(entries) + 1))
    before = [None, *(item.seq for item in entries[:-1])]
    assert [item.record.previous for item in entries] == before
    with sites[1].store.begin() as connection:
        kept = connection.execute(select(access_lines.c.batch)).scalars().all()
    assert Counter(kept) == {item.record.batch: item.record.count for item in entries}
    for item in entries:
        state = anchoring.check_batch(sites[1], reading, item.seq)
        assert state is not None
        assert state.word == "intact"


def test_lines_that_somebody_removed_before_they_were_anchored_are_told_on_the_page(sites: tuple[Site, Site]) -> None:
    site = sites[0]
    with site.store.begin() as connection:
        table.add_lines(connection, lines(3))
        table.open_batch(connection, 100)
        connection.execute(delete(access_lines))
    assert anchoring.anchor_if_due(site) == 600.0
    assert "lost all its lines" in site.state[anchoring.PROBLEM]
