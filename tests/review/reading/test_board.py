"""The board keeps where versions stand, and looks again at exactly what an entry may have changed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from cognify_dagster.governance import Condition, open_finding, resolve_finding
from cognify_dagster.records import ModelRegistered, VersionOpened, parse_utc
from cognify_dagster.review.reading import board as boards
from cognify_dagster.review.reading.board import Board
from cognify_dagster.review.reading.briefs import (
    BLOCKED,
    LIVE,
    OVERTAKEN,
    PREPARING,
    READY,
    SUPERSEDED,
    WAITING,
    aged,
    main_target,
)
from cognify_dagster.review.reading.inventory import status_of
from tests.governance.world import MODEL
from tests.review.reading.conftest import look
from tests.review.site_world import SiteWorld

NOW = datetime.now(timezone.utc)


def test_a_version_waits_for_those_who_may_sign_its_next_stage(site_world: SiteWorld) -> None:
    brief = look(site_world).snapshot.version(MODEL, "1")
    assert brief is not None
    assert brief.state == WAITING
    assert brief.people == ("person/vera",)  # ben is a validator too, but it is his own work
    assert brief.asked_by == "person/ben"
    assert (brief.signed, brief.wanted) == (0, 3)
    assert brief.due is None


def test_after_a_signature_it_waits_for_the_next_and_must_be_done_before_the_first_approval_lapses(
    site_world: SiteWorld,
) -> None:
    board = look(site_world)
    before = board.snapshot
    seq = site_world.world.approve("vera")
    look(site_world)
    brief = board.snapshot.version(MODEL, "1")
    assert brief is not None
    assert brief.people == ("person/carl",)
    assert brief.signed == 1
    assert [item[:2] for item in brief.approved] == [("person/vera", seq)]
    assert brief.due is not None
    assert parse_utc(brief.due) > NOW + timedelta(days=30)
    old = before.version(MODEL, "1")
    assert old is not None
    assert old.people == ("person/vera",)  # a snapshot never changes


def test_everything_signed_is_ready_and_a_block_holds_it_up(approved_site: SiteWorld) -> None:
    board = look(approved_site)
    brief = board.snapshot.version(MODEL, "1")
    assert brief is not None
    assert brief.state == READY
    approved_site.world.force(approved_site.world.sign("carl", "block", comments="The data are wrong"))
    look(approved_site)
    brief = board.snapshot.version(MODEL, "1")
    assert brief is not None
    assert brief.state == BLOCKED
    assert "The data are wrong" in brief.text


def test_who_is_enrolled_later_may_sign_too(site_world: SiteWorld) -> None:
    board = look(site_world)
    site_world.world.enrol("nina", "model_validator")
    look(site_world)
    brief = board.snapshot.version(MODEL, "1")
    assert brief is not None
    assert set(brief.people) == {"person/vera", "person/nina"}


def test_an_entry_about_something_else_makes_nothing_be_looked_at_again(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = look(site_world)
    looked: list[str] = []
    real = boards.version_brief

    def counting(*args: object) -> object:
        looked.append(f"{args[2]}@{args[3]}")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(boards, "version_brief", counting)
    site_world.world.write(ModelRegistered(model="other", owner="team:other", risk_tier="high"))
    site_world.world.write(VersionOpened(model="other", version="7", run="run", opened_by="person/ben"))
    look(site_world)
    assert looked == ["other@7"]
    found = board.snapshot.version("other", "7")
    assert found is not None
    assert found.state == PREPARING
    site_world.world.approve("vera")
    look(site_world)
    assert looked == ["other@7", f"{MODEL}@1"]


def test_a_look_without_time_goes_on_where_it_stopped(site_world: SiteWorld) -> None:
    board = Board(site_world.site.workspace)
    reading, rounds = site_world.site.read(), 0
    left = board.look(reading, NOW, 0.0)
    assert left > 0
    assert board.snapshot.left == left
    while left:
        before, rounds = left, rounds + 1
        left = board.look(reading, NOW, 0.0)
        assert left < before
    assert board.snapshot.version(MODEL, "1") is not None
    assert board.snapshot.size == reading.size


def test_an_older_reading_takes_nothing_back(site_world: SiteWorld) -> None:
    old = site_world.site.read()
    site_world.world.approve("vera")
    board = look(site_world)
    board.look(old, NOW, 10.0)
    brief = board.snapshot.version(MODEL, "1")
    assert brief is not None
    assert brief.signed == 1


def test_a_finding_is_open_until_somebody_closed_it(site_world: SiteWorld) -> None:
    board = look(site_world)
    assert board.snapshot.models[MODEL].open_findings == ()
    vera, workspace = site_world.world.key("vera"), site_world.world.workspace
    seq = open_finding(workspace, vera, model=MODEL, version="1", severity="high", title="Ages are missing").seq
    look(site_world)
    finding = board.snapshot.models[MODEL].open_findings[0]
    assert (finding.seq, finding.version, finding.severity) == (seq, "1", "high")
    assert "person/carl" in finding.people
    assert "person/ben" not in finding.people  # it is his own work
    assert site_world.world.decide().released is False
    resolve_finding(
        workspace,
        site_world.world.key("carl"),
        finding_seq=seq,
        model=MODEL,
        version="1",
        outcome="closed",
        reason="They were there",
    )
    look(site_world)
    assert board.snapshot.models[MODEL].findings == ()


def test_what_was_released_is_live_then_superseded_and_what_was_passed_over_is_told_as_that(
    told_site: SiteWorld,
) -> None:
    board = look(told_site)
    model = board.snapshot.models["credit_default"]
    versions = board.snapshot.versions["credit_default"]
    assert [item.version for item in versions] == ["2", "1"]
    assert [item.state for item in versions] == [WAITING, LIVE]
    assert status_of(model, versions) == LIVE
    assert [(item.target, item.version, item.standing) for item in model.in_use] == [("production", "1", "live")]
    assert "failure_modes" in versions[0].unwritten
    assert {SUPERSEDED, OVERTAKEN} & {item.state for item in versions} == set()


def test_a_condition_of_an_approval_stays_until_it_is_closed(site_world: SiteWorld) -> None:
    due = (NOW + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = Condition(text="Watch the young", due=due)
    from cognify_dagster.governance import Choice, sign_off

    choice = Choice(decision="approve_with_conditions", conditions=(condition,))
    seq = sign_off(site_world.world.workspace, MODEL, "1", site_world.world.key("vera"), choice).seq
    brief = look(site_world).snapshot.version(MODEL, "1")
    assert brief is not None
    assert [(item.seq, item.text, item.due) for item in brief.conditions] == [(seq, "Watch the young", due)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "just now"), (61, "1 minute"), (7_300, "2 hours"), (86_400, "1 day"), (864_000, "10 days")],
)
def test_ages_are_told_in_words(seconds: int, words: str) -> None:
    assert aged(int((NOW.timestamp() - seconds) * 1e6), NOW) == words


def test_the_main_target_is_production_unless_a_model_never_went_there() -> None:
    assert main_target([]) == "production"
    assert main_target(["canary", "production"]) == "production"
    assert main_target(["edge"]) == "edge"
