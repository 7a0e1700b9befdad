"""The daily digest: through a real mail server, at most one a person and day, none lost."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from sqlalchemy import select, update

from cognify_dagster.governance import open_finding, revoke_key
from cognify_dagster.review.reminders.config import Reminders, reminders_of
from cognify_dagster.review.reminders.jobs import KEY, config_of
from cognify_dagster.review.reminders.mailing import send_due
from cognify_dagster.review.store import reminders as store
from cognify_dagster.review.store.accounts import accounts
from cognify_dagster.workspace import WorkspaceError
from cognify_dagster.workspace.notify import EmailChannel
from tests.governance.world import MODEL, World, clone
from tests.review.reminders.conftest import SIGN_OFF_DAYS, Clock, Post, configure, limit, mail_table, run, visitor
from tests.review.site_world import SiteWorld, make_site_world

NORA, MIA = "nora@bank.example", "mia@bank.example"


def states(found: SiteWorld) -> dict[str, str]:
    """Where the mails of the last days stand, by person and day."""
    with found.site.store.begin() as connection:
        return {f"{mail.person} {mail.day}": mail.state for mail in store.list_mails(connection, 100)}


def state_of(found: SiteWorld, person: str) -> str:
    with found.site.store.begin() as connection:
        return next(mail.state for mail in store.list_mails(connection, 100) if mail.person == f"person/{person}")


def test_who_is_asked_gets_one_digest_a_day_with_links_and_without_words_of_people(
    mailed: SiteWorld, post: Post, clock: Clock
) -> None:
    world = mailed.world
    open_finding(
        world.workspace,
        world.key("vera"),
        model=MODEL,
        version=None,
        severity="low",
        title="SECRET finding",
        text="SECRET",
    )
    clock.to_hour(8)
    run(mailed)
    (mail,) = [found for to, found in post.take().items() if to == NORA]
    assert mail["Subject"] == "[test.example/credit] 2 things wait for you"
    assert mail["Message-ID"].startswith("<digest-")
    text = mail.get_content()
    assert f"- Read {MODEL} 1 and sign: Independent validation (as model validator, due " in text
    assert f"http://localhost:3070/models/{MODEL}/1" in text
    assert "Resolve finding" in text
    assert "SECRET" not in mail.as_string()
    for _ in range(3):
        clock.advance(hours=2)
        run(mailed)
    assert post.take() == {}


def test_what_waits_unchanged_is_mailed_again_only_when_it_is_pressing(
    mailed: SiteWorld, post: Post, clock: Clock
) -> None:
    days = []
    clock.to_hour(8)
    for day in range(8):
        run(mailed)
        days += [day] * (NORA in post.take())
        clock.advance(days=1)
    assert days == [0, 5, 6, 7]  # new, and then every day once it is overdue


def test_admins_learn_what_is_overdue_elsewhere(mailed: SiteWorld, post: Post, clock: Clock) -> None:
    clock.to_hour(8)
    run(mailed)
    assert MIA not in post.take()
    clock.advance(days=SIGN_OFF_DAYS + 1)
    run(mailed)
    found = post.take()
    assert found[MIA]["Subject"] == "[test.example/credit] 1 overdue request waits for others"
    assert "Vera" in found[MIA].get_content()
    assert found[NORA]["Subject"] == "[test.example/credit] 1 thing waits for you, 1 overdue"


def test_a_mail_that_is_not_taken_is_tried_again_and_comes_once(mailed: SiteWorld, post: Post, clock: Clock) -> None:
    clock.to_hour(8)
    post.answer = "451 come back later"
    run(mailed)
    run(mailed)  # not at once
    with mailed.site.store.begin() as connection:
        (mail,) = store.list_mails(connection, 9, ["waiting"])
    assert (mail.person, mail.attempts) == ("person/nora", 1)
    assert "451" in mail.problem
    post.answer = "250 taken"
    clock.advance(minutes=3)
    run(mailed)
    assert list(post.take()) == [NORA]
    clock.advance(hours=3)
    run(mailed)
    assert post.take() == {}
    assert state_of(mailed, "nora") == "sent"


def test_a_server_that_is_away_all_day_loses_nothing(mailed: SiteWorld, post: Post, clock: Clock) -> None:
    clock.to_hour(8)
    post.answer = "451 come back later"
    for _ in range(10):
        run(mailed)
        clock.advance(hours=2)
    clock.to_hour(8)
    run(mailed)
    post.answer = "250 taken"
    clock.advance(hours=2)
    run(mailed)
    assert list(post.take()) == [NORA]
    assert sorted(state for who, state in states(mailed).items() if "nora" in who) == ["replaced", "sent"]


def test_a_mail_whose_answer_is_lost_is_not_sent_twice_and_the_next_day_says_what_waits(
    mailed: SiteWorld, post: Post, clock: Clock
) -> None:
    clock.to_hour(8)
    post.answer = None
    run(mailed)
    assert list(post.take()) == [NORA]
    assert state_of(mailed, "nora") == "unclear"
    post.answer = "250 taken"
    clock.advance(hours=5)
    run(mailed)
    assert post.take() == {}
    clock.to_hour(8)
    run(mailed)
    assert list(post.take()) == [NORA]


def test_a_mail_that_was_being_sent_when_the_site_was_killed_is_not_sent_again_that_day(
    mailed: SiteWorld, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.to_hour(8)
    real = EmailChannel.send

    def killed(self: EmailChannel, message: object) -> None:
        real(self, message)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(EmailChannel, "send", killed)
        with pytest.raises(KeyboardInterrupt):
            run(mailed)
    assert list(post.take()) == [NORA]
    clock.advance(minutes=20)
    run(mailed)
    assert post.take() == {}
    assert state_of(mailed, "nora") == "unclear"


def test_a_crash_while_planning_plans_nothing_and_the_day_is_planned_later(
    mailed: SiteWorld, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.review.reminders import telling

    clock.to_hour(8)

    def crash(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(telling, "write_mark", crash)
        with pytest.raises(RuntimeError):
            run(mailed)
    assert states(mailed) == {}
    run(mailed)
    assert list(post.take()) == [NORA]


def test_two_who_send_at_the_same_moment_send_one(mailed: SiteWorld, post: Post, clock: Clock) -> None:
    clock.to_hour(8)
    post.answer = "451 later"
    run(mailed)
    post.answer = "250 taken"
    clock.advance(hours=1)
    config, start = config_of(mailed.site), threading.Barrier(4)

    def send() -> None:
        start.wait()
        send_due(mailed.site, config)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(post.take()) == [NORA]


def test_who_has_no_address_is_named_and_who_is_gone_or_shut_out_gets_nothing(
    mailed: SiteWorld, post: Post, clock: Clock
) -> None:
    mailed.account("mia")
    with mailed.site.store.begin() as connection:
        connection.execute(update(accounts).where(accounts.c.person == "person/mia").values(disabled=1))
    clock.to_hour(8, days=SIGN_OFF_DAYS + 1)
    key = mailed.world.key("nora")
    revoke_key(mailed.world.workspace, key.person, key.key_id, "left", mailed.world.key("ada"))
    run(mailed)
    assert post.take() == {}
    assert states(mailed) == {}
    page = visitor(mailed, "ada").get("/reminders").text
    assert "No digest reaches Ada, Finn, Ben, Vera, Carl, Olga: no e-mail address is enrolled" in page


def test_whose_address_is_gone_after_the_planning_is_said_not_to_be_reached(
    mailed: SiteWorld, post: Post, clock: Clock
) -> None:
    clock.to_hour(8)
    post.answer = "451 later"
    run(mailed)
    post.answer = "250 taken"
    mailed.world.enrol("nora", "model_validator")
    clock.advance(hours=1)
    run(mailed)
    assert post.take() == {}
    assert state_of(mailed, "nora") == "unreachable"
    assert "no e-mail address: enrol the alias" in visitor(mailed, "ada").get("/reminders").text


def test_who_is_revoked_after_the_planning_gets_nothing(mailed: SiteWorld, post: Post, clock: Clock) -> None:
    clock.to_hour(8)
    post.answer = "451 later"
    run(mailed)
    post.answer = "250 taken"
    key = mailed.world.key("nora")
    revoke_key(mailed.world.workspace, key.person, key.key_id, "left", mailed.world.key("ada"))
    clock.advance(hours=1)
    run(mailed)
    assert post.take() == {}


def test_no_mail_before_the_hour_and_none_where_it_is_switched_off(mailed: SiteWorld, post: Post, clock: Clock) -> None:
    clock.to_hour(8)
    run(mailed)
    post.take()
    clock.advance(days=SIGN_OFF_DAYS + 1)
    clock.to_hour(5)
    run(mailed)
    assert NORA in post.take()  # yesterday's, which nobody had sent
    clock.advance(hours=1)
    run(mailed)
    assert post.take() == {}
    mailed.site.state[KEY] = Reminders()
    clock.advance(days=3)
    run(mailed)
    assert post.take() == {}


def test_the_password_of_the_mail_server_stands_in_no_log_and_not_in_the_database(
    ready_template: World,
    tmp_path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    post = Post()
    server = Controller(
        post, hostname="127.0.0.1", port=post.port, auth_require_tls=False,
        authenticator=lambda *_: AuthResult(success=False, handled=False),
    )  # fmt: skip
    server.start()
    monkeypatch.setenv("MAIL_PASSWORD", "hunter2-of-the-bank")
    world = clone(ready_template, tmp_path / "world")
    configure(world, mail_table(post.port, 'username = "bot"\npassword_env = "MAIL_PASSWORD"'))
    world.enrol("nora", "model_validator", aliases=(f"mail:{NORA}",))
    found = make_site_world(world)
    found.site.now = clock.now  # type: ignore[method-assign]
    try:
        with caplog.at_level(logging.DEBUG):
            run(found)
        with found.site.store.begin() as connection:
            (mail,) = [item for item in store.list_mails(connection, 9) if item.person == "person/nora"]
            rows = str(connection.execute(select(store.mails)).all())
    finally:
        server.stop()
        found.site.store.close()
    assert mail.state == "waiting"
    assert "refused the login of bot" in mail.problem
    assert "hunter2" not in caplog.text + rows


# --- configuration -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("hour = 24", "hour must be a whole hour"),
        ("hour = true", "hour must be a whole hour"),
        ('mail = "no"', "mail must be true or false"),
        ("steps = []", "steps must be a list"),
        ("steps = [0, 400]", "steps must be a list"),
        ("steps = [3, 0]", "steps must rise"),
        ("often = 1", "unknown field 'often'"),
    ],
)
def test_a_wrong_table_is_said_when_the_site_starts(
    ready_template: World, tmp_path: Path, table: str, said: str
) -> None:
    from cognify_dagster.review.app import open_site
    from cognify_dagster.review.config import review_config

    world = clone(ready_template, tmp_path / "world")
    configure(world, f"[review.reminders]\n{table}\n")
    with pytest.raises(WorkspaceError, match=r"\[review\.reminders\]") as caught:
        open_site(world.workspace, review_config(world.workspace.config))
    assert said in str(caught.value)


def test_digests_go_by_mail_and_by_commands_that_ask_for_them(ready_template: World, tmp_path: Path) -> None:
    from cognify_dagster.review.config import ReviewConfig

    world = clone(ready_template, tmp_path / "world")
    configure(
        world,
        '[[notify]]\nkind = "command"\nname = "chat"\ncommand = ["./chat"]\n'
        '[[notify]]\nkind = "command"\nname = "daily"\ncommand = ["./daily"]\nevents = ["digest"]\n'
        + mail_table(25)
        + mail_table(26, 'events = ["waiting"]').replace('"post"', '"news"'),
    )
    assert [item.name for item in reminders_of(world.workspace, ReviewConfig()).channels] == ["post", "daily"]
    assert reminders_of(world.workspace, ReviewConfig(reminders={"mail": False})).channels == ()


# --- the page ------------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_is_overdue_what_was_told_and_the_mails(
    mailed: SiteWorld, post: Post, clock: Clock
) -> None:
    clock.to_hour(8, days=SIGN_OFF_DAYS + 1)
    run(mailed)
    text = visitor(mailed, "ada").get("/reminders").text
    assert "step 1 of 4" in text
    assert "From 07:00 UTC each day" in text
    assert "1 thing waits for you, 1 overdue" in text
    assert visitor(mailed, "vera").get("/reminders").status_code == 403


def test_the_page_says_how_to_switch_it_on(site_world: SiteWorld) -> None:
    text = site_world.client_for("ada").get("/reminders").text
    assert "Nobody gets a digest" in text
    assert "Nothing is overdue" in text


def test_without_a_date_in_the_policy_no_sign_off_is_overdue(mailed: SiteWorld, post: Post, clock: Clock) -> None:
    limit(mailed.world, None)
    clock.advance(days=60)
    assert "Nothing is overdue" in visitor(mailed, "ada").get("/reminders").text
