"""The inbox says what waits for whom."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

from cognify_dagster.governance import Choice, Condition, open_finding, recertification, sign_off
from cognify_dagster.records import ModelRegistered
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.reading.briefs import DatasetBrief
from cognify_dagster.review.reading.inbox import Item, board_items, inbox_of
from cognify_dagster.review.signing.acts import start
from tests.governance.world import MODEL
from tests.review.reading.conftest import look
from tests.review.site_world import SiteWorld

NOW = datetime.now(timezone.utc)
OTHERS = 'id="others"'


def parts(found: SiteWorld, name: str) -> tuple[str, str]:
    """The page of a person, before and after the heading of what others wait for."""
    answer = found.client_for(name).get("/")
    assert answer.status_code == 200
    mine, _, others = answer.text.partition(OTHERS)
    return mine, others


def visit_of(found: SiteWorld, user: User | None) -> Any:
    return SimpleNamespace(
        site=found.site, user=user, now=NOW, reading=found.site.read(), person=user.person if user else None
    )


def test_a_sign_off_waits_for_who_may_give_it_and_shows_to_others_for_whom(site_world: SiteWorld) -> None:
    mine, others = parts(site_world, "vera")
    assert "Read credit_default 1 and sign: Independent validation" in mine
    assert 'href="/models/credit_default/1"' in mine
    assert "Ben" in mine
    assert "Independent validation" not in others
    mine, others = parts(site_world, "carl")
    assert "Nothing waits for you" in mine
    assert "Independent validation" in others
    assert "Vera" in others


def test_whose_work_it_is_is_not_asked_to_sign(site_world: SiteWorld) -> None:
    assert "and sign" not in parts(site_world, "ben")[0]


def test_once_signed_it_waits_for_the_next(site_world: SiteWorld) -> None:
    parts(site_world, "carl")
    site_world.world.approve("vera")
    assert "Read credit_default 1 and sign" in parts(site_world, "carl")[0]
    assert "and sign" not in parts(site_world, "vera")[0]


def test_a_condition_shows_when_it_is_nearly_due_and_says_when_it_is_overdue(site_world: SiteWorld) -> None:
    far, near = ((NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (60, 3))
    conditions = (Condition(text="Far away", due=far), Condition(text="Watch the young", due=near))
    choice = Choice(decision="approve_with_conditions", conditions=conditions)
    sign_off(site_world.world.workspace, MODEL, "1", site_world.world.key("vera"), choice)
    mine, _ = parts(site_world, "vera")
    assert "Watch the young" in mine
    assert "soon" in mine
    assert "Far away" not in mine
    item = Item("condition", "", "/", (), due=near)
    assert not item.overdue(NOW)
    assert item.overdue(NOW + timedelta(days=4))


def test_an_act_waits_for_who_has_to_sign_it(site_world: SiteWorld) -> None:
    record = recertification(site_world.site.read(), "person/vera", "person/ada")
    act = start(site_world.site, record, ["person/ada"], "Recertify Vera")
    mine, _ = parts(site_world, "ada")
    assert f'href="/acts/{act}"' in mine
    assert "Recertify Vera" in mine
    assert "Recertify Vera" not in "".join(parts(site_world, "carl"))


def test_a_finding_waits_for_its_closers_and_text_is_never_markup(site_world: SiteWorld) -> None:
    title = "<script>alert(1)</script> & \u202eolleh"
    open_finding(
        site_world.world.workspace, site_world.world.key("vera"), model=MODEL, version=None, severity="low", title=title
    )
    mine, _ = parts(site_world, "carl")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in mine
    assert "<script>alert" not in mine


def test_a_visitor_from_outside_sees_only_granted_models(site_world: SiteWorld) -> None:
    site_world.world.write(ModelRegistered(model="secret", owner="team:x", risk_tier="high"))
    open_finding(
        site_world.world.workspace,
        site_world.world.key("vera"),
        model="secret",
        version=None,
        severity="high",
        title="Hush",
    )
    snapshot = look(site_world).snapshot
    auditor = User(site_world.account("vera"), None, "Auditor", frozenset(), models=(MODEL,))
    found = inbox_of(visit_of(site_world, auditor), snapshot)
    assert found.mine == ()
    assert {item.model for item in found.others} == {MODEL}
    assert any(item.model == "secret" for item in board_items(visit_of(site_world, auditor), snapshot))


def test_sections_that_the_package_asks_for_wait_for_the_owner_or_the_builder(told_site: SiteWorld) -> None:
    mine, _ = parts(told_site, "ben")
    assert "Write the missing sections of credit_default 2" in mine
    assert "Failure modes" in mine


def test_the_page_says_as_of_which_entry_it_is(site_world: SiteWorld) -> None:
    text = site_world.client_for("vera").get("/").text
    size = site_world.site.read().size
    assert re.search(rf"As of entry {size - 1} of the ledger", text)


def test_an_empty_inbox_says_where_to_go(founded_site: SiteWorld) -> None:
    mine, others = parts(founded_site, "olga")
    assert "Nothing waits for you" in mine
    assert 'href="/models"' in mine
    assert "Nothing waits for anybody else" in others


def test_long_lists_are_shown_page_by_page(site_world: SiteWorld) -> None:
    workspace, vera = site_world.world.workspace, site_world.world.key("vera")
    for number in range(23):
        open_finding(workspace, vera, model=MODEL, version=None, severity="low", title=f"Finding number {number:02d}")
    mine, _ = parts(site_world, "carl")
    assert mine.count("Finding number") == 20
    assert 'href="/?kind=finding"' in mine
    text = site_world.client_for("carl").get("/?kind=finding").text
    assert text.count("Finding number") == 23
    assert "page 1 of 1" in text
    assert "Waiting for you" in site_world.client_for("carl").get("/?kind=evil&page=0").text


def test_a_visitor_from_outside_sees_no_dataset_that_granted_models_do_not_use(site_world: SiteWorld) -> None:
    auditor = User(site_world.account("vera"), None, "Auditor", frozenset(), models=(MODEL,))
    brief = DatasetBrief("payroll", 1, ("nobody approved it",), (), 0, "person/ben")
    data = {"payroll": brief, "loans_train": replace(brief, name="loans_train")}
    snapshot = replace(look(site_world).snapshot, datasets=data)
    found = inbox_of(visit_of(site_world, auditor), snapshot)
    assert {item.dataset for item in found.others if item.dataset} == {"loans_train"}
