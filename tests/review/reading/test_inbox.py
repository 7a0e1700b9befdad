"""The inbox says what waits for whom."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

from sqlalchemy import update

from cognify_dagster.governance import (
    Choice,
    Condition,
    adopt_policy,
    open_finding,
    policy_in_force,
    recertification,
    sign_off,
)
from cognify_dagster.records import ModelRegistered, parse_utc, utc
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.reading.board import Snapshot
from cognify_dagster.review.reading.briefs import BLOCKED, WAITING, DatasetBrief, VersionBrief
from cognify_dagster.review.reading.inbox import Item, board_items, inbox_of, oversees
from cognify_dagster.review.reading.waiting import Waiting, count_for
from cognify_dagster.review.signing.acts import start
from cognify_dagster.review.store.sessions import sessions
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
        site=found.site,
        user=user,
        now=NOW,
        reading=found.site.read(),
        person=user.person if user else None,
        acts_waiting=0,
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


# --- how many things wait ------------------------------------------------------------------------------------------------


def number(text: str) -> str:
    """What stands beside *Inbox* in the navigation, for who looks and for who listens."""
    found = re.search(r">Inbox(?: \((\d+)<span class=\"hidden\"> waiting for you</span>\))?</a>", text)
    assert found is not None
    return found[1] or ""


def test_every_page_says_how_many_things_wait_and_the_inbox_says_it_in_its_title(site_world: SiteWorld) -> None:
    start(
        site_world.site,
        recertification(site_world.site.read(), "person/vera", "person/ada"),
        ["person/ada"],
        "Recertify",
    )
    look(site_world)
    for name, count in (("vera", "1"), ("ada", "1"), ("carl", ""), ("olga", "")):
        assert number(site_world.client_for(name).get("/models").text) == count
    title = re.search(r"<title>(.*?) ·", site_world.client_for("vera").get("/").text)
    assert title is not None
    assert title[1] == "Waiting for you (1)"
    assert "<h1>Waiting for you</h1>" in site_world.client_for("vera").get("/").text
    site_world.world.approve("vera")
    look(site_world)
    assert number(site_world.client_for("vera").get("/models").text) == ""
    assert number(site_world.client_for("carl").get("/policy").text) == "1"


def test_the_number_is_that_of_the_inbox(told_site: SiteWorld) -> None:
    workspace, keys = told_site.world.workspace, told_site.world.keys
    for title in ("One", "Two"):
        open_finding(workspace, keys["person/vera"], model=MODEL, version=None, severity="low", title=title, text="x")
    snapshot = look(told_site).snapshot
    for name in ("ada", "ben", "vera", "carl", "bea"):
        user = User(told_site.account(name), f"person/{name}", name, frozenset())
        visit = visit_of(told_site, user)
        assert count_for(visit) == inbox_of(visit, snapshot).count, name


def test_before_the_board_was_read_no_number_is_said_and_auditors_get_none(site_world: SiteWorld) -> None:
    assert number(site_world.client_for("vera").get("/policy").text) == ""
    look(site_world)
    auditor = User(site_world.account("vera"), None, "Auditor", frozenset(), models=(MODEL,))
    assert count_for(visit_of(site_world, auditor)) is None


def test_only_models_of_which_the_board_said_something_new_are_gone_through_again(site_world: SiteWorld) -> None:
    reading, waiting = site_world.site.read(), Waiting()
    brief = VersionBrief(
        "m", "1", "production", WAITING, stage_title="Validation", people=("person/vera",), package_seq=1
    )
    versions = {f"m{n}": tuple(replace(brief, model=f"m{n}", version=str(v)) for v in range(4)) for n in range(50)}
    first = waiting.listing(Snapshot(9, NOW, 0, {}, versions), reading, NOW)
    assert first.counts["person/vera"] == 200
    changed = {**versions, "m7": tuple(replace(item, state=BLOCKED, people=()) for item in versions["m7"])}
    second = waiting.listing(Snapshot(10, NOW, 0, {}, changed), reading, NOW)
    assert second.counts["person/vera"] == 196
    assert [name for name in first.parts if first.parts[name] is not second.parts[name]] == ["m7", "\0datasets"]
    later = waiting.listing(second.snapshot, reading, NOW + timedelta(days=1))  # what is due soon is another day's
    assert later.counts["person/vera"] == 196
    assert later.parts["m0"] is not second.parts["m0"]


# --- what is late --------------------------------------------------------------------------------------------------------


def limit(found: SiteWorld, days: int) -> None:
    """Adopt the policy with a time within which stages should be signed."""
    world = found.world
    policy = policy_in_force(world.workspace.read()).policy
    tiers = {name: tier.model_copy(update={"sign_off_days": days}) for name, tier in policy.tiers.items()}
    changed = policy.model_copy(update={"tiers": tiers})
    adopt_policy(world.workspace, changed, "deadlines", [world.key("ada"), world.key("finn")])


def test_the_policy_says_until_when_a_stage_should_be_signed(site_world: SiteWorld) -> None:
    limit(site_world, 10)
    brief = look(site_world).snapshot.version(MODEL, "1")
    assert brief is not None
    assert brief.due is not None
    asked = datetime.fromtimestamp(brief.since_us / 1e6, timezone.utc)
    assert abs(parse_utc(brief.due) - asked - timedelta(days=10)) < timedelta(seconds=1)
    assert brief.roles == ("model_validator",)
    site_world.world.approve("vera")
    after = look(site_world).snapshot.version(MODEL, "1")
    assert after is not None
    assert after.due is not None
    assert after.since_us > brief.since_us  # the next stage has its own time: not by `due`, both may lie in one second
    asked = datetime.fromtimestamp(after.since_us / 1e6, timezone.utc)
    assert abs(parse_utc(after.due) - asked - timedelta(days=10)) < timedelta(seconds=1)


def test_an_item_says_for_how_long_it_is_overdue() -> None:
    item = Item("finding", "", "/", (), due=utc(NOW))
    said = {days: item.late(NOW + timedelta(days=days)) for days in (0.5, 1.2, 3.9)}
    assert said == {0.5: "less than a day", 1.2: "1 day", 3.9: "3 days"}
    assert [item.phase(NOW + timedelta(days=days)) for days in (-30, -3, 1)] == ["open", "due soon", "overdue"]


def test_what_is_overdue_is_marked_counted_and_shown_to_those_who_look_after_it(site_world: SiteWorld) -> None:
    limit(site_world, 5)
    ahead = timedelta(days=8, hours=1)
    snapshot = look(site_world).snapshot
    visits = {
        name: visit_of(
            site_world, User(site_world.account(name), f"person/{name}", name, frozenset(site_world.roles(name)))
        )
        for name in ("vera", "ada", "carl", "olga", "ben")
    }
    for visit in visits.values():
        visit.now = datetime.now(timezone.utc) + ahead
    found = {name: inbox_of(visit, snapshot) for name, visit in visits.items()}
    (mine,) = found["vera"].rows("overdue", visits["vera"].now)
    assert (mine.kind, mine.stage, mine.roles, mine.late(visits["vera"].now)) == (
        "sign-off", "validation", ("model_validator",), "3 days",
    )  # fmt: skip
    assert found["vera"].elsewhere == ()
    for name in ("ada", "carl"):
        assert [item.who for item in found[name].elsewhere] == ["Vera"]
        assert found[name].rows("elsewhere", visits[name].now) == found[name].elsewhere
    for name in ("olga", "ben"):
        assert found[name].elsewhere == ()
    owned = replace(mine, owners=("person/olga",))
    assert oversees("person/olga", (), owned)


def test_the_page_of_an_admin_has_a_part_for_what_is_overdue_elsewhere(site_world: SiteWorld) -> None:
    limit(site_world, 5)
    look(site_world)
    clients = {name: site_world.client_for(name) for name in ("vera", "ada")}
    ahead = timedelta(days=8, hours=1)
    with site_world.site.store.begin() as connection:
        seen = (
            datetime.now(timezone.utc) + ahead
        )  # not NOW, when the tests were collected: a session rests 30 minutes at most
        connection.execute(update(sessions).values(ends=2**31 - 1, seen=int(seen.timestamp())))
    site_world.site.now = lambda: datetime.now(timezone.utc) + ahead  # type: ignore[method-assign]
    mine = clients["vera"].get("/").text
    assert "overdue for 3 days" in mine
    assert 'href="/?kind=overdue"' in mine
    assert "Overdue elsewhere" not in mine
    text = clients["ada"].get("/").text
    part = text.partition('id="elsewhere"')[2].partition("</section>")[0]
    assert "model validator" in part
    assert "Vera" in part
    assert "3 days" in part
    assert "releases nothing" in part
    assert "Overdue elsewhere" in clients["ada"].get("/?kind=elsewhere").text
    assert "Read credit_default 1" in clients["vera"].get("/?kind=overdue").text
