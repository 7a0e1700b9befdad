"""What is told to whom follows from values alone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.records import utc
from cognify_dagster.review.reading.items import Item
from cognify_dagster.review.reminders.deciding import (
    SHOWN,
    Last,
    digest_day,
    digests,
    escalations,
    event_of,
    request_of,
    worth_sending,
)

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=timezone.utc)
STEPS = (0, 3, 7, 14)
VERA, ADA, OLGA = "person/vera", "person/ada", "person/olga"
PEOPLE = {VERA: ("model_validator",), ADA: ("workspace_admin",), OLGA: ("business_owner",), "person/ben": ()}


def item(number: int = 1, days: float | None = None, **more: object) -> Item:
    """A sign-off that Vera may give, due in so many days."""
    values: dict[str, object] = {
        "kind": "sign-off", "title": f"Read credit {number} and sign: Validation", "link": f"/models/credit/{number}",
        "people": (VERA,), "who": "Vera", "model": "credit", "version": str(number), "key": f"sign-off:credit:{number}",
        "stage": "validation", "roles": ("model_validator",), "owners": (OLGA,),
        "due": None if days is None else utc(NOW + timedelta(days=days)),
    }  # fmt: skip
    return Item(**{**values, **more})  # type: ignore[arg-type]


def link(path: str) -> str:
    return "https://review.bank.example" + path


def made(*items: Item, last: dict[str, Last] | None = None, now: datetime = NOW) -> dict[str, tuple[str, str]]:
    found = digests("bank.example/credit", items, PEOPLE, last or {}, now, link)
    return {each.person: (each.subject, "\n".join(each.lines)) for each in found}


# --- steps ---------------------------------------------------------------------------------------------------------------


def test_a_request_is_told_when_it_is_overdue_and_at_each_later_step() -> None:
    late = item(1, -0.1)
    (found,) = escalations([late, item(2, 3), item(3)], {}, STEPS, NOW)
    assert (found.item, found.step, found.days) == (late, 1, 0)
    told = {found.request: 1}
    assert escalations([late], told, STEPS, NOW + timedelta(days=2)) == []
    (again,) = escalations([late], told, STEPS, NOW + timedelta(days=3))
    assert (again.step, again.days) == (2, 3)


def test_steps_that_nobody_saw_pass_are_told_once_as_the_last_of_them() -> None:
    (found,) = escalations([item(1, -8)], {}, STEPS, NOW)
    assert (found.step, found.days) == (3, 7)


def test_a_request_with_another_date_is_another_request() -> None:
    late = item(1, -1)
    told = {request_of(late): 4}
    assert escalations([late], told, STEPS, NOW) == []
    assert len(escalations([item(1, -2)], told, STEPS, NOW)) == 1


def test_an_event_has_the_same_id_whenever_it_is_told_and_no_words_of_people() -> None:
    finding = item(1, -1, kind="finding", title="Resolve finding 7: SECRET", plain="Resolve finding 7", key="finding:7")
    first, second = (
        event_of(escalations([finding], {}, STEPS, NOW + timedelta(hours=h))[0], "o", link) for h in (0, 5)
    )
    assert first.id_for("e") == second.id_for("e")
    assert first == second
    assert "SECRET" not in str(first)
    assert first.body(people=False)["data"].keys() == {
        "workspace", "request", "step", "kind", "model", "version", "stage", "roles", "due", "overdue_days", "url",
    }  # fmt: skip
    assert first.body(people=True)["data"]["waits_for"] == [VERA]


@given(st.lists(st.floats(0.01, 9), min_size=1, max_size=30), st.sets(st.integers(0, 30), min_size=1, max_size=6))
def test_however_often_one_looks_each_step_is_told_at_most_once_and_they_rise(
    pauses: list[float], days: set[int]
) -> None:
    late, steps, now = item(1, 0), tuple(sorted(days)), NOW
    told: dict[str, int] = {}
    seen = []
    for pause in pauses:
        now += timedelta(days=pause)
        for found in escalations([late], told, steps, now):
            told[found.request] = found.step
            seen.append(found.step)
            assert NOW + timedelta(days=found.days) <= now
    assert seen == sorted(set(seen))
    assert (told.get(request_of(late), 0)) == sum(NOW + timedelta(days=each) <= now for each in steps)


# --- digests -------------------------------------------------------------------------------------------------------------


def test_a_digest_says_what_is_overdue_due_soon_and_waiting() -> None:
    subject, text = made(item(1, -3.5), item(2, 2), item(3, 30), item(4))[VERA]
    assert subject == "[bank.example/credit] 4 things wait for you, 1 overdue"
    order = [
        text.index(words) for words in ("OVERDUE", "credit 1", "DUE WITHIN A WEEK", "credit 2", "WAITING", "credit 3")
    ]
    assert order == sorted(order)
    assert "overdue for 3 days" in text
    assert "as model validator" in text
    assert "https://review.bank.example/models/credit/1" in text
    assert "approves, rejects and releases nothing" in text


def test_admins_and_owners_learn_what_is_overdue_elsewhere_and_nobody_else() -> None:
    found = made(item(1, -3.5), item(2, 2))
    assert set(found) == {VERA, ADA, OLGA}
    for person in (ADA, OLGA):
        subject, text = found[person]
        assert subject == "[bank.example/credit] 1 overdue request waits for others"
        assert "waits for Vera" in text
        assert "credit 2" not in text


def test_words_of_people_stay_on_the_site() -> None:
    secret = item(1, -1, kind="finding", title="SECRET", note="SECRET", plain="Resolve finding 7 about credit (high)")
    text = str(digests("o", [secret], PEOPLE, {}, NOW, link))
    assert "SECRET" not in text
    assert "Resolve finding 7 about credit (high)" in text


def test_nobody_gets_a_digest_about_nothing_nor_who_may_not_read_the_site() -> None:
    assert made() == {}
    assert "person/gone" not in made(item(1, 1, people=("person/gone", VERA)))


def test_a_long_digest_is_cut_and_counts_the_rest() -> None:
    _, text = made(*(item(number, -1) for number in range(SHOWN + 5)))[VERA]
    assert text.count("- Read") == SHOWN
    assert "… and 5 more" in text


@pytest.mark.parametrize(
    ("before", "days", "wanted"),
    [
        ({}, 1, True),  # it is new
        ({"sign-off:credit:1": "open"}, 1, False),
        ({"sign-off:credit:1": "due soon"}, 1, True),  # it is not as it was
        ({"sign-off:credit:1": "open", "gone": "overdue"}, 1, False),  # what was done is no news
        ({"sign-off:credit:1": "open"}, 7, True),
    ],
)
def test_what_was_said_is_said_again_only_after_a_week(before: dict[str, str], days: int, wanted: bool) -> None:
    last = {VERA: Last(NOW - timedelta(days=days), before)}
    assert (VERA in made(item(1, 30), last=last)) is wanted


def test_what_is_overdue_is_said_every_day_to_whom_it_waits_for_and_weekly_to_others() -> None:
    yesterday = NOW - timedelta(days=1)
    assert worth_sending({"a": "overdue"}, Last(yesterday, {"a": "overdue"}), NOW)
    assert not worth_sending({"a": "elsewhere"}, Last(yesterday, {"a": "elsewhere"}), NOW)


def test_a_day_begins_at_the_hour_of_the_digest() -> None:
    assert digest_day(NOW.replace(hour=6, minute=59), 7).day == 21
    assert digest_day(NOW.replace(hour=7, minute=0), 7).day == 22
