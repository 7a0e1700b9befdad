"""Other systems are told of requests that nobody answered: once for each request and step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import delete

from cognify_dagster.review.reading.board import Board, Snapshot
from cognify_dagster.review.reminders import telling
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import webhooks as tables
from cognify_dagster.review.webhooks import service
from cognify_dagster.review.webhooks.delivering import deliver
from tests.governance.world import MODEL
from tests.review.reminders.conftest import SIGN_OFF_DAYS, Clock, run
from tests.review.site_world import SiteWorld
from tests.review.webhooks.receiver import Receiver, receiving


@pytest.fixture
def receiver(mailed: SiteWorld):
    with receiving() as found:
        add(mailed.site, found)
        yield found


def add(site: Site, receiver: Receiver, name: str = "grc", **options: object) -> None:
    service.add(site, name, receiver.url, allow_private=True, allow_http=True, **options)


def told(found: SiteWorld, receiver: Receiver) -> list[dict[str, object]]:
    """Look, deliver, and return what arrived since the last time."""
    receiver.got.clear()
    run(found)
    deliver(found.site)
    return [item.json for item in receiver.got if item.json["type"] == "request.overdue"]


def test_a_request_is_told_when_it_is_overdue_and_once_for_each_step(
    mailed: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    assert told(mailed, receiver) == []
    clock.advance(days=SIGN_OFF_DAYS, hours=1)
    (first,) = told(mailed, receiver)
    data = first["data"]
    assert isinstance(data, dict)
    assert (data["kind"], data["model"], data["version"], data["stage"]) == ("sign-off", MODEL, "1", "validation")
    assert (data["roles"], data["step"], data["overdue_days"]) == (["model_validator"], 1, 0)
    assert data["url"] == f"http://localhost:3070/models/{MODEL}/1"
    assert "waits_for" not in data
    identity = receiver.got[-1].headers["webhook-id"]
    assert told(mailed, receiver) == []
    clock.advance(days=3)
    (second,) = told(mailed, receiver)
    assert second["data"]["step"] == 2  # type: ignore[index]
    assert receiver.got[-1].headers["webhook-id"] != identity
    assert told(mailed, receiver) == []


def test_what_was_missed_while_the_site_stood_still_is_told_as_its_last_step(
    mailed: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    clock.advance(days=SIGN_OFF_DAYS + 8)
    (found,) = told(mailed, receiver)
    assert (found["data"]["step"], found["data"]["overdue_days"]) == (3, 7)  # type: ignore[index]


def test_who_could_answer_is_told_only_where_that_was_asked_for(
    mailed: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    add(mailed.site, receiver, "hr", people=True)
    clock.advance(days=SIGN_OFF_DAYS + 1)
    found = [item["data"].get("waits_for", ()) for item in told(mailed, receiver)]  # type: ignore[attr-defined]
    assert sorted(map(sorted, found)) == [[], ["person/nora", "person/vera"]]


def test_a_stage_that_is_signed_is_told_no_more_and_the_next_has_its_own_time(
    mailed: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    mailed.world.approve("vera")
    clock.advance(days=SIGN_OFF_DAYS, hours=1)
    (found,) = told(mailed, receiver)
    assert found["data"]["stage"] == "compliance"  # type: ignore[index]


def test_a_step_is_not_told_again_once_the_outbox_has_forgotten_it(
    mailed: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    clock.advance(days=SIGN_OFF_DAYS + 20)
    assert len(told(mailed, receiver)) == 1
    with mailed.site.store.begin() as connection:
        connection.execute(delete(tables.outbox))
    clock.advance(days=40)
    assert told(mailed, receiver) == []


def test_a_crash_between_a_message_and_its_mark_loses_and_repeats_nothing(
    mailed: SiteWorld, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(days=SIGN_OFF_DAYS + 1)

    def crash(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(telling.store, "keep_step", crash)
        with pytest.raises(RuntimeError):
            run(mailed)
    assert service.messages(mailed.site) == []
    assert len(told(mailed, receiver)) == 1
    assert told(mailed, receiver) == []


def test_nothing_is_told_from_a_board_that_is_still_being_read(
    mailed: SiteWorld, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(days=SIGN_OFF_DAYS + 1)
    whole = Board.current

    def half(self: Board, *given: object) -> Snapshot:
        return replace(whole(self, *given), left=3)  # type: ignore[arg-type]

    with monkeypatch.context() as reading:
        reading.setattr(Board, "current", half)
        assert run(mailed) == 5.0
        deliver(mailed.site)
    assert receiver.got == []
    assert len(told(mailed, receiver)) == 1


def test_time_that_passed_signs_nothing(mailed: SiteWorld, clock: Clock) -> None:
    size = mailed.site.read().size
    clock.advance(days=SIGN_OFF_DAYS + 100)
    run(mailed)
    assert mailed.site.read().size == size
