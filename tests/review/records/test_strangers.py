"""What somebody who is not signed in can write to the access log is bounded, and nothing of it goes uncounted."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from cognify_dagster.review.access import log, strangers
from cognify_dagster.review.access.strangers import COUNTED, OF_NETWORK, Strangers, network_of
from cognify_dagster.review.store import access as table
from cognify_dagster.review.store.access import Kept, Line
from tests.governance.world import World, clone
from tests.review.site_world import SiteWorld, make_site_world

MINUTE_US = 60_000_000
START_US = 29_000_000 * MINUTE_US


def asked(address: str, at_us: int = START_US, action: str = "nowhere", status: int = 404) -> Line:
    return Line(at_us, action=action, status=status, address=address)


def stands_for(line: Line) -> int:
    """How many requests a line is of."""
    if line.action != COUNTED:
        return 1
    found = re.match(r"(\d+) more", line.detail)
    assert found, line.detail
    assert sum(int(part) for part in re.findall(r"\d{3}: (\d+)", line.detail)) == int(found[1])
    return int(found[1])


def taken(gate: Strangers, lines: list[Line]) -> list[Line]:
    """The lines that are written for these requests."""
    found: list[Line] = []
    for line in lines:
        found += gate.over(line.time_us)
        found += [line] if gate.admit(line) else []
    return found + gate.all()


# --- how many lines there are ----------------------------------------------------------------------------------------------


def test_a_modest_number_has_lines_the_rest_of_the_minute_is_one() -> None:
    found = taken(Strangers(), [asked("203.0.113.7") for _ in range(5_000)])
    own, counts = found[:-1], found[-1]
    assert len(own) == OF_NETWORK.burst
    assert counts.address == "203.0.113.0/24"
    assert counts.detail.startswith(
        f"{5_000 - len(own)} more requests from 203.0.113.0/24 in the minute from 2025-02-19 21:20 UTC (unknown address)"
    )
    assert (counts.action, counts.status, counts.who) == (COUNTED, 404, "")
    assert sum(map(stands_for, found)) == 5_000


def test_an_hour_of_it_is_a_few_lines_a_minute() -> None:
    lines = [asked("203.0.113.7", START_US + number * MINUTE_US // 20) for number in range(20 * 60)]
    found = taken(Strangers(), lines)
    assert len(found) <= OF_NETWORK.burst + 60 * (OF_NETWORK.each_minute + 1) + 1
    assert sum(map(stands_for, found)) == len(lines)


def test_many_networks_are_bounded_together_and_counted_exactly() -> None:
    lines = [asked(f"{a}.{b}.{c}.9") for a in range(1, 11) for b in range(100) for c in range(20)]
    gate = Strangers()
    found = taken(gate, lines)
    assert len(found) <= strangers.OF_ALL.burst + strangers.MAX_COUNTS + 7
    assert sum(map(stands_for, found)) == len(lines) == 20_000
    assert any(line.address == strangers.ELSEWHERE for line in found)
    assert len(gate._purses) <= strangers.MAX_NETWORKS


def test_neighbours_count_together_and_networks_apart() -> None:
    assert network_of("203.0.113.7") == network_of("203.0.113.250") == "203.0.113.0/24"
    assert network_of("2001:db8:5:1::1") == network_of("2001:db8:5:ffff::9") == "2001:db8:5::/48"
    assert network_of("::ffff:203.0.113.7") == "203.0.113.0/24"
    assert network_of("testclient") == "testclient"
    gate = Strangers()
    for number in range(100):
        gate.admit(asked(f"203.0.113.{number}"))
    assert not gate.admit(asked("203.0.113.200"))
    assert gate.admit(asked("203.0.114.1"))


def test_one_class_uses_up_no_others_budget() -> None:
    gate = Strangers()
    for _ in range(1_000):
        gate.admit(asked("203.0.113.7"))
    assert not gate.admit(asked("203.0.113.7"))
    for line in (
        asked("203.0.113.7", action="ledger", status=303),
        asked("203.0.113.7", action="api list_models", status=401),
        asked("203.0.113.7", action="too_large", status=413),
        asked("203.0.113.7", action="login_password", status=403),
    ):
        assert gate.admit(line), line


def test_every_failed_sign_in_that_the_throttle_lets_through_has_its_line() -> None:
    """The throttle: a hundred from one address in fifteen minutes."""
    gate = Strangers()
    lines = [asked("203.0.113.7", START_US + n * 1_000_000, "login_password", 403) for n in range(100)]
    lines += [asked("203.0.113.7", START_US + n * 9 * 1_000_000, "login_password", 403) for n in range(101, 200)]
    assert all(gate.admit(line) for line in lines)
    locked = [asked("203.0.113.7", action="login_password", status=429) for _ in range(500)]
    assert sum(gate.admit(line) for line in locked) == OF_NETWORK.burst


def test_many_threads_lose_no_request() -> None:
    gate, found = Strangers(), list[Line]()

    def ask(number: int) -> None:
        for place in range(2_000):
            line = asked(f"198.51.{number}.{place % 250}", START_US + place * 100_000)
            found.extend(gate.over(line.time_us))
            found.extend([line] if gate.admit(line) else [])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(stands_for, [*found, *gate.all()])) == 12_000


# --- at the site -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def site_world(founded_template: World, tmp_path: Path) -> SiteWorld:
    return make_site_world(clone(founded_template, tmp_path / "world"))


def written(world: SiteWorld) -> list[Kept]:
    """Every line, after the site ended."""
    log.stop(world.site)
    with world.site.store.begin() as connection:
        return table.find_lines(connection, limit=50_000)


@pytest.mark.slow
def test_thousands_of_requests_of_a_stranger_leave_few_lines_and_an_exact_count(site_world: SiteWorld) -> None:
    stranger, number = site_world.client(), 3_000
    for place in range(number):
        path = ("/wp-login.php", "/.env", "/ledger", "/api/v1/nothing")[place % 4]
        assert stranger.get(path, headers={"Accept": "application/json"}).status_code in (303, 401, 404)
    found = written(site_world)
    assert len(found) < 250
    assert sum(map(stands_for, found)) == number
    site_world.site.store.close()


def test_who_is_signed_in_has_a_line_for_each_also_beside_a_stranger_who_floods(site_world: SiteWorld) -> None:
    stranger, vera = site_world.client(), site_world.client_for("vera")
    for _ in range(60):
        stranger.get("/nothing")
        assert vera.get("/nothing").status_code == 404
    mine = [line for line in written(site_world) if line.who == "person/vera"]
    assert len(mine) == 60
    assert {(line.action, line.status, line.subject) for line in mine} == {("nowhere", 404, "/nothing")}
    site_world.site.store.close()


def test_counts_of_a_minute_are_written_when_nobody_comes_any_more(site_world: SiteWorld) -> None:
    for _ in range(40):
        log.write(site_world.site, asked("203.0.113.7"))
    log.write_counts(site_world.site)
    log.flush(site_world.site)
    with site_world.site.store.begin() as connection:
        found = table.find_lines(connection, limit=100)
    assert sum(map(stands_for, found)) == 40
    page = site_world.client_for("ada").get("/access").text
    assert "20 more requests from 203.0.113.0/24" in page
    site_world.site.store.close()


def test_a_full_queue_makes_the_event_loop_count_and_not_wait(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log.Writer, "offer", lambda self, line: False)
    for _ in range(30):
        log.note(site_world.site, asked("203.0.113.7", status=400))
    found = written(site_world)
    assert [stands_for(line) for line in found] == [30]
    site_world.site.store.close()
