"""The access log: each use leaves a line, lines go into the ledger in batches, and a changed or missing line shows."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from limits import RateLimitItemPerMinute
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import DataError, OperationalError

from cognify_dagster.governance import erase
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.records import AccessLogged
from cognify_dagster.review.access import anchoring, log
from cognify_dagster.review.app import make_app
from cognify_dagster.review.store import access as table
from cognify_dagster.review.store.access import Line, access_lines
from tests.review.site_world import SiteWorld, make_site_world


def lines(world: SiteWorld) -> list[table.Kept]:
    assert log.flush(world.site)
    with world.site.store.begin() as connection:
        return list(reversed(table.find_lines(connection, limit=10_000)))


def change(world: SiteWorld, statement: Any) -> None:
    with world.site.store.begin() as connection:
        connection.execute(statement)


def use(world: SiteWorld, number: int, subject: str = "model/m@1") -> None:
    for place in range(number):
        line = Line(1_700_000_000_000_000 + place, who="person/vera", action="package", subject=subject, status=200)
        log.write(world.site, line)
    assert log.flush(world.site)


def state(world: SiteWorld, seq: int) -> anchoring.BatchState:
    found = anchoring.check_batch(world.site, world.site.read(), seq)
    assert found is not None
    return found


# --- lines -----------------------------------------------------------------------------------------------------------


def test_a_page_that_was_read_leaves_a_line_with_who_what_when_how_from_where(site_world: SiteWorld) -> None:
    vera = site_world.client_for("vera")
    vera.get("/models/credit_default/1/download/package.json", headers={"User-Agent": "Firefox"})
    (line,) = lines(site_world)
    assert (line.who, line.method, line.action) == ("person/vera", "passkey", "download")
    assert line.subject == "model/credit_default@1"
    assert line.detail.startswith("package.json sha256:")
    assert (line.status, line.address, line.agent) == (200, "testclient", "Firefox")
    assert abs(line.time_us / 1e6 - time.time()) < 60


def test_refused_and_signed_out_visits_leave_lines_too(site_world: SiteWorld) -> None:
    site_world.client().get("/ledger")
    site_world.client_for("vera").get("/grants")
    site_world.client_for("vera").get("/ledger/entries/99999")
    assert [(line.who, line.action, line.status) for line in lines(site_world)] == [
        ("", "ledger", 303), ("person/vera", "grants", 403), ("person/vera", "entry", 404),
    ]  # fmt: skip


def test_what_is_too_long_is_cut_and_hostile_text_is_kept_as_text(site_world: SiteWorld) -> None:
    log.write(site_world.site, Line(1, subject="x" * 5000, agent="<script>'\x00;--", action="a" * 100))
    (line,) = lines(site_world)
    assert (len(line.subject), len(line.action)) == (300, 60)
    page = site_world.client_for("ada").get("/access").text
    assert "<script>'" not in page
    assert "&lt;script&gt;" in page


def test_a_clean_stop_loses_nothing(site_world: SiteWorld) -> None:
    for number in range(500):
        log.write(site_world.site, Line(number, who="person/vera", action="x"))
    log.stop(site_world.site)
    with site_world.site.store.begin() as connection:
        assert len(table.find_lines(connection, limit=1000)) == 500


def test_the_sites_own_end_writes_what_is_queued(site_world: SiteWorld) -> None:
    closed: list[int] = []
    store = site_world.site.store
    original = store.close

    def count() -> None:
        with store.begin() as connection:
            closed.append(len(table.find_lines(connection, limit=10)))
        original()

    store.close = count  # type: ignore[method-assign]
    with site_world.client_for("vera") as vera:
        vera.get("/policy")
    assert closed == [1]


def test_a_database_that_fails_for_a_while_loses_nothing(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OperationalError("insert", {}, Exception("locked"))] * 2
    add = log.add_lines

    def flaky(connection: Any, added: Any) -> None:
        if failures:
            raise failures.pop()
        add(connection, added)

    monkeypatch.setattr(log, "add_lines", flaky)
    use(site_world, 3)
    assert len(lines(site_world)) == 3


def test_a_line_that_the_database_refuses_holds_up_no_other(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = log.add_lines

    def strict(connection: Any, added: Any) -> None:
        if any(line.agent == "poison" for line in added):
            raise DataError("insert", {}, Exception("invalid byte"))
        add(connection, added)

    monkeypatch.setattr(log, "add_lines", strict)
    for agent in ("a", "poison", "b"):
        log.write(site_world.site, Line(1, who="person/vera", agent=agent))
    assert [line.agent for line in lines(site_world)] == ["a", "", "b"]
    assert "could not be written" in lines(site_world)[1].detail


def test_many_threads_write_each_line_once(site_world: SiteWorld) -> None:
    def write(number: int) -> None:
        for place in range(50):
            log.write(site_world.site, Line(1, who="person/vera", detail=f"{number}-{place}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [line.detail for line in lines(site_world)]
    assert sorted(found) == sorted(f"{a}-{b}" for a in range(6) for b in range(50))
    assert len({line.n for line in lines(site_world)}) == 300


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_an_entry_with_root_count_span_and_the_batch_before(site_world: SiteWorld) -> None:
    use(site_world, 5)
    first = anchoring.anchor(site_world.site)
    use(site_world, 2)
    second = anchoring.anchor(site_world.site)
    reading = site_world.site.read()
    one, two = (reading.find(AccessLogged, seq or 0) for seq in (first, second))
    assert one is not None
    assert two is not None
    assert (one.record.batch, one.record.count, one.record.previous) == (1, 5, None)
    assert (two.record.batch, two.record.count, two.record.previous) == (2, 2, first)
    assert one.record.starts == "2023-11-14T22:13:20Z"
    assert one.record.lines.sensitivity == "personal"
    kept = site_world.world.workspace.evidence.get(one.record.lines.digest).splitlines()
    assert [json.loads(line)["n"] for line in kept] == [line.n for line in lines(site_world)[:5]]
    assert state(site_world, one.seq).word == state(site_world, two.seq).word == "intact"


def test_the_entry_holds_no_personal_data(site_world: SiteWorld) -> None:
    log.write(site_world.site, Line(1, who="person/vera", address="203.0.113.7", agent="Firefox"))
    log.flush(site_world.site)
    seq = anchoring.anchor(site_world.site)
    assert seq is not None
    item = site_world.site.read().view.entry(seq)
    text = item.entry.data.decode() + json.dumps(item.payload)
    assert "203.0.113.7" not in text
    assert "vera" not in text


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (lambda n: update(access_lines).where(access_lines.c.n == n).values(who="person/carl"), "altered: line"),
        (lambda n: update(access_lines).where(access_lines.c.n == n).values(time_us=1), "altered: line"),
        (lambda n: delete(access_lines).where(access_lines.c.n == n), "missing: line"),
        (lambda n: update(access_lines).where(access_lines.c.n == n).values(batch=None), "missing: line"),
        (
            lambda n: insert(access_lines).values(
                time_us=1, account="", who="person/x", method="", action="", subject="", detail="", status=1,
                address="", agent="", batch=1,
            ),
            "added: line",
        ),
    ],
    ids=["who", "when", "deleted", "taken out", "added"],
)  # fmt: skip
def test_a_line_that_was_altered_removed_or_added_shows(site_world: SiteWorld, tamper: Any, told: str) -> None:
    use(site_world, 4)
    seq = anchoring.anchor(site_world.site)
    assert seq is not None
    change(site_world, tamper(lines(site_world)[2].n))
    found = state(site_world, seq)
    assert found.word == "altered"
    assert any(text.startswith(told) for text in found.problems), found.problems
    ada = site_world.client_for("ada")
    assert "is not what was put into the ledger" in ada.get("/access").text
    assert "altered" in ada.get("/access/batches").text


def test_a_whole_batch_that_was_deleted_shows(site_world: SiteWorld) -> None:
    use(site_world, 3)
    seq = anchoring.anchor(site_world.site)
    change(site_world, delete(access_lines))
    change(site_world, delete(table.access_batches))
    assert seq is not None
    assert state(site_world, seq).word == "altered"
    assert "missing: lines" in site_world.client_for("ada").get("/access/batches").text


def test_a_process_killed_between_batch_and_entry_goes_on_with_the_same_batch(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(site_world, 3)
    with site_world.site.store.begin() as connection:
        assert table.open_batch(connection, 100) == 1
    use(site_world, 2)  # later lines are not part of it
    seq = anchoring.anchor(site_world.site)
    assert seq is not None
    with site_world.site.store.begin() as connection:  # killed before the entry's number was noted
        connection.execute(update(table.access_batches).values(seq=None))
    size = site_world.site.read().size
    assert anchoring.anchor(site_world.site) == seq
    assert site_world.site.read().size == size
    assert state(site_world, seq).word == "intact"
    again = anchoring.anchor(site_world.site)
    assert again is not None
    assert again > seq


def test_batches_come_after_so_many_lines_or_minutes(site_world: SiteWorld) -> None:
    site = site_world.site
    site.config = replace(site.config, access_batch=3, access_minutes=60)
    now = int(time.time() * 1e6)
    log.write(site, Line(now))
    log.flush(site)
    anchoring.anchor_if_due(site)
    assert not site.read().all(AccessLogged)
    log.write(site, Line(now))
    log.write(site, Line(now))
    log.flush(site)
    anchoring.anchor_if_due(site)
    assert len(site.read().all(AccessLogged)) == 1
    log.write(site, Line(now - 61 * 60_000_000))
    log.flush(site)
    anchoring.anchor_if_due(site)
    assert len(site.read().all(AccessLogged)) == 2


def test_a_workload_that_may_not_write_batches_is_told_on_the_page(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WriterRefused("the workload may not write access_logged")

    use(site_world, 1)
    monkeypatch.setattr(site_world.site.workspace, "append", refuse)
    assert anchoring.anchor_if_due(site_world.site) == 600.0
    assert "may not write access_logged" in site_world.client_for("ada").get("/access").text


def test_erasing_a_batch_removes_its_lines_and_breaks_nothing(site_world: SiteWorld) -> None:
    use(site_world, 3)
    seq = anchoring.anchor(site_world.site)
    assert seq is not None
    record = site_world.site.read().find(AccessLogged, seq)
    assert record is not None
    use(site_world, 1, "model/other@1")
    world = site_world.world
    signers = [world.key("carl"), world.key("ada")]
    erase(world.workspace, [seq], "storage limitation", signers, evidence=[record.record.lines.digest])
    assert anchoring.drop_erased(site_world.site) == 1
    assert [line.subject for line in lines(site_world)] == ["model/other@1"]
    assert state(site_world, seq).word == "erased"
    assert "erased" in site_world.client_for("ada").get("/access/batches").text


# --- pages -----------------------------------------------------------------------------------------------------------


def test_who_may_not_see_the_log_sees_their_own_lines(site_world: SiteWorld) -> None:
    vera, olga = site_world.client_for("vera"), site_world.client_for("olga")
    vera.get("/policy")
    olga.get("/datasets")
    page = olga.get("/access?who=person/vera").text
    assert "datasets" in page
    assert "policy</td>" not in page
    for path in ("/access/export", "/access/batches"):
        assert olga.get(path).status_code == 403
    whole = site_world.client_for("carl").get("/access?who=vera").text
    assert "person" in whole
    assert "policy" in whole


def test_filters_leave_what_they_say(site_world: SiteWorld) -> None:
    for number, (who, status) in enumerate([("person/vera", 200), ("person/olga", 403), ("person/vera", 500)]):
        when = 1_700_000_000_000_000 + number * 86_400_000_000
        log.write(
            site_world.site, Line(when, who=who, status=status, subject=f"model/m@{number}", action=f"act{number}")
        )
    log.flush(site_world.site)
    ada = site_world.client_for("ada")

    def found(query: str) -> list[str]:
        rows = csv.DictReader(io.StringIO(ada.get(f"/access/export?{query}").text))
        return [row["subject"] for row in rows if row["subject"].startswith("model/m")]

    assert found("who=vera") == ["model/m@2", "model/m@0"]
    assert found("outcome=refused") == ["model/m@1"]
    assert found("outcome=failed") == ["model/m@2"]
    assert found("subject=model/m") == ["model/m@2", "model/m@1", "model/m@0"]
    assert found("action=act1") == ["model/m@1"]
    assert found("since=2023-11-15&until=2023-11-15") == ["model/m@1"]
    assert ada.get("/access?since=yesterday").status_code == 200
    assert "A day looks like" in ada.get("/access?since=yesterday").text


def test_pages_follow_one_another_without_gap(site_world: SiteWorld) -> None:
    use(site_world, 250)
    ada = site_world.client_for("ada")
    seen: list[int] = []
    path: str | None = "/access?action=package"
    while path:
        text = ada.get(path).text
        seen += [int(part.split("</th>")[0]) for part in text.split('<th scope="row">')[1:]]
        part = text.partition('<p class="pages"><a href="')[2]
        path = part.partition('"')[0].replace("&amp;", "&") or None
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 250


def test_an_export_is_safe_in_a_spreadsheet_and_stands_in_the_log(site_world: SiteWorld) -> None:
    log.write(site_world.site, Line(1, agent='=HYPERLINK("http://evil")', who="person/vera"))
    ada = site_world.client_for("ada")
    answer = ada.get("/access/export?format=csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="access.csv"'
    assert "'=HYPERLINK" in answer.text
    first = json.loads(ada.get("/access/export?format=jsonl").text.splitlines()[0])
    assert first["action"] == "access_export"
    assert first["detail"] == "1 lines as csv"
    assert ada.get("/access/export?format=xml").status_code == 400


def test_a_second_site_over_the_same_ledger_has_batches_of_its_own(site_world: SiteWorld) -> None:
    use(site_world, 2)
    seq = anchoring.anchor(site_world.site)
    other = make_site_world(site_world.world, database=f"sqlite:///{site_world.world.folder / 'other.sqlite'}")
    use(other, 2)
    theirs = anchoring.anchor(other.site)
    assert seq is not None
    assert theirs is not None
    assert anchoring.check_batch(other.site, other.site.read(), seq) is None
    assert state(other, theirs).word == "intact"
    other.site.store.close()


def test_jobs_run_in_the_background_of_the_app(site_world: SiteWorld) -> None:
    from cognify_dagster.review.background import JOBS

    make_app(site_world.site, jobs=False)
    assert {"access-log", "anchors"} <= {job.name for job in JOBS}


def test_the_lines_of_a_batch_are_no_evidence_for_who_may_not_see_the_log(site_world: SiteWorld) -> None:
    use(site_world, 2)
    seq = anchoring.anchor(site_world.site)
    batch = site_world.site.read().find(AccessLogged, seq or 0)
    assert batch is not None
    path = f"/ledger/entries/{seq}/evidence/{batch.record.lines.digest}"
    assert site_world.client_for("carl").get(path).status_code == 200
    olga = site_world.client_for("olga")
    assert olga.get(path).status_code == 403
    assert path not in olga.get(f"/ledger/entries/{seq}").text


def test_what_cannot_be_read_and_attempts_that_are_stopped_leave_lines(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Origin": "http://localhost:3070", "Content-Type": "application/json"}
    answer = site_world.client_for("vera").post("/login/passkey", content="{", headers=headers)
    assert answer.status_code == 400
    line = lines(site_world)[0]
    assert (line.action, line.who, line.status) == ("login_passkey", "person/vera", 400)
    monkeypatch.setattr("cognify_dagster.review.identity.throttle.PER_ADDRESS", RateLimitItemPerMinute(1, 15))
    statuses = [site_world.client().call("/login/passkey/options").status_code for _ in range(3)]
    assert statuses == [200, 429, 429], "what begins a sign-in is not logged, what is stopped is"
    assert [one.status for one in lines(site_world) if one.action == "login_passkey_options"] == [429, 429]
