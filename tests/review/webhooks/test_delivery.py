"""Deliveries: signed as Standard Webhooks says, tried again, given up, replayed."""

from __future__ import annotations

import json
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.webhooks import outbox, service
from cognify_dagster.review.webhooks.endpoints import make_endpoint
from cognify_dagster.review.webhooks.feeding import feed
from cognify_dagster.review.webhooks.payloads import render_payload
from cognify_dagster.review.webhooks.sending import SendError
from cognify_dagster.review.webhooks.signing import make_secret, parse_secrets, secret_file, sign
from tests.governance.world import MODEL
from tests.review.site_world import SiteWorld
from tests.review.webhooks.conftest import Clock, add, run
from tests.review.webhooks.receiver import Receiver


@given(st.binary(min_size=24, max_size=64), st.text(min_size=1, max_size=40).filter(str.isidentifier), st.text())
def test_the_reference_library_accepts_our_signatures(key: bytes, message: str, text: str) -> None:
    import time

    body = json.dumps({"x": text}).encode()
    headers = sign([key], message, int(time.time()), body)
    assert Webhook(key).verify(body, headers) == {"x": text}
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(body + b" ", headers)


def test_while_a_secret_is_exchanged_both_verify(site_world: SiteWorld, receiver: Receiver, monkeypatch) -> None:
    old, new = make_secret(), make_secret()
    monkeypatch.setenv("GRC_SECRET", f"{new} {old}")
    endpoint, shown = add(site_world.site, receiver, secret="env:GRC_SECRET")
    assert shown == ""
    assert endpoint.secret == "env:GRC_SECRET"
    assert service.send_test(site_world.site, "grc").accepted
    for secret in (old, new):
        assert Webhook(secret).verify(receiver.got[0].body, receiver.got[0].headers)["type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        Webhook(make_secret()).verify(receiver.got[0].body, receiver.got[0].headers)


def test_a_delivery_verifies_and_its_secret_lies_in_a_file_of_its_owner(
    site_world: SiteWorld, receiver: Receiver
) -> None:
    _, secret = add(site_world.site, receiver)
    site_world.world.approve("vera")
    run(site_world.site)
    got = receiver.got[0]
    assert got.path == "/hooks/models?tenant=1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert Webhook(secret).verify(got.body, got.headers)["data"]["model"] == MODEL
    path = secret_file(site_world.world.workspace.config.home, "grc")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with site_world.site.store.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM webhook_endpoints").fetchall()
    assert secret not in str(rows)
    path.chmod(0o644)
    with pytest.raises(ReviewError, match="can be read by others"):
        service.send_test(site_world.site, "grc")


def test_what_is_refused_is_tried_again_under_the_same_id_until_it_is_taken(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    add(site_world.site, receiver)
    receiver.answer(500, 503, 302, 200)
    site_world.world.approve("vera")
    for _ in range(6):
        run(site_world.site)
        clock.advance(seconds=120)
    assert len(receiver.got) == 4
    assert len({item.headers["webhook-id"] for item in receiver.got}) == 1
    assert len({item.body for item in receiver.got}) == 1
    assert len({item.headers["webhook-timestamp"] for item in receiver.got}) == 4
    (row,) = service.overview(site_world.site)
    assert (row.waiting, row.delivered, row.dead) == (0, 1, 0)


def test_waits_grow_and_the_other_system_may_ask_for_a_longer_one(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    for attempts, least, most in ((1, 8, 12), (2, 24, 36), (3, 72, 108), (30, 8640, 12960)):
        waits = [outbox.backoff(attempts) for _ in range(50)]
        assert least <= min(waits) < max(waits) <= most
    add(site_world.site, receiver)
    receiver.answer(429, Retry_After="600")
    site_world.world.approve("vera")
    run(site_world.site)
    (message,) = service.messages(site_world.site)
    assert message.due - int(clock.now().timestamp()) >= 598


def test_after_24_hours_it_is_dead_and_a_replay_sends_it_under_its_id(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    add(site_world.site, receiver)
    receiver.answer(500)
    site_world.world.approve("vera")
    for _ in range(30):
        run(site_world.site)
        clock.advance(hours=1)
    (dead,) = service.messages(site_world.site, outbox.DEAD)
    assert dead.status == 500
    assert "answered 500" in dead.problem
    tries = len(receiver.got)
    assert 8 <= tries <= 30
    receiver.answer(200)
    run(site_world.site)
    assert len(receiver.got) == tries  # nothing by itself
    assert service.replay_dead(site_world.site) == 1
    run(site_world.site)
    assert receiver.got[-1].headers["webhook-id"] == dead.id
    assert service.messages(site_world.site)[0].state == outbox.DELIVERED
    with pytest.raises(ReviewError, match="no message"):
        service.replay(site_world.site, ["msg_unknown"])


def test_an_endpoint_that_does_not_answer_delays_only_itself_and_keeps_its_order(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    add(site_world.site, receiver, "good")
    service.add(site_world.site, "gone", "http://127.0.0.1:9/", allow_private=True, allow_http=True)
    for name in ("vera", "carl", "olga"):
        site_world.world.approve(name)
    run(site_world.site)
    assert len(receiver.got) == 3
    entries = [item.json["data"]["entry"] for item in receiver.got]
    assert entries == sorted(entries)
    waiting = service.messages(site_world.site, outbox.WAITING)
    assert sorted(item.attempts for item in waiting) == [0, 0, 1]  # one try for the three of them
    assert len({item.due for item in waiting}) == 1


def test_an_endpoint_that_is_gone_for_good_is_switched_off_until_a_test_is_accepted(
    site_world: SiteWorld, receiver: Receiver
) -> None:
    add(site_world.site, receiver)
    receiver.answer(410)
    site_world.world.approve("vera")
    run(site_world.site)
    assert service.get(site_world.site, "grc").off is not None
    site_world.world.approve("carl")
    run(site_world.site)
    assert len(receiver.got) == 1
    receiver.answer(200)
    assert service.send_test(site_world.site, "grc").accepted
    assert service.get(site_world.site, "grc").off is None


def test_after_days_without_the_site_everything_is_tried_before_it_is_given_up(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    add(site_world.site, receiver)
    site_world.world.approve("vera")
    feed(site_world.site)
    clock.advance(days=3)
    run(site_world.site)
    assert receiver.types == ["signoff.recorded"]


def test_what_waits_for_an_endpoint_that_is_off_is_given_up_after_a_day(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    add(site_world.site, receiver)
    receiver.answer(410)
    site_world.world.approve("vera")
    run(site_world.site)
    clock.advance(hours=25)
    run(site_world.site)
    (dead,) = service.messages(site_world.site, outbox.DEAD)
    assert "switched off" in dead.problem
    assert len(receiver.got) == 1


def test_a_site_that_is_stopped_begins_no_further_delivery(site_world: SiteWorld, receiver: Receiver) -> None:
    add(site_world.site, receiver)
    site_world.world.approve("vera")
    site_world.site.state["stopping"] = flag = threading.Event()
    flag.set()
    run(site_world.site)
    assert receiver.got == []
    flag.clear()
    run(site_world.site)
    assert len(receiver.got) == 1


def test_a_test_that_is_refused_is_not_sent_again_by_itself(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    add(site_world.site, receiver)
    receiver.answer(500)
    assert not service.send_test(site_world.site, "grc").accepted
    clock.advance(hours=1)
    run(site_world.site)
    assert len(receiver.got) == 1
    assert service.messages(site_world.site)[0].state == outbox.DEAD


def test_entries_are_replayed_with_the_ids_they_have(site_world: SiteWorld, receiver: Receiver) -> None:
    endpoint, _ = add(site_world.site, receiver)
    size = site_world.site.read().size
    assert (
        service.replay_entries(site_world.site, endpoint, 0, size) == 2
    )  # version and package, from before it was added
    run(site_world.site)
    assert service.replay_entries(site_world.site, endpoint, 0, size) == 2
    run(site_world.site)
    ids = [item.headers["webhook-id"] for item in receiver.got]
    assert receiver.types == ["version.opened", "package.built"] * 2
    assert ids[:2] == ids[2:]
    with pytest.raises(ReviewError, match="range"):
        service.replay_entries(site_world.site, endpoint, 5, 5)


def test_the_authorization_comes_from_a_variable_and_can_forge_no_header(
    site_world: SiteWorld, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(site_world.site, receiver, authorization="env:SNOW_AUTH")
    with pytest.raises(ReviewError, match="SNOW_AUTH is not set"):
        service.send_test(site_world.site, "grc")
    monkeypatch.setenv("SNOW_AUTH", "Bearer x\r\nX-Evil: 1")
    with pytest.raises(ReviewError, match="cannot stand in a header"):
        service.send_test(site_world.site, "grc")
    monkeypatch.setenv("SNOW_AUTH", "Basic dXNlcg==")
    service.send_test(site_world.site, "grc")
    assert receiver.got[0].headers["authorization"] == "Basic dXNlcg=="
    assert "dXNlcg" not in str(service.messages(site_world.site))


def test_what_waits_is_sent_while_the_ledger_cannot_be_read(
    site_world: SiteWorld, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.review.webhooks import jobs

    add(site_world.site, receiver)
    receiver.answer(500, 200)
    site_world.world.approve("vera")
    run(site_world.site)
    clock.advance(minutes=5)

    def broken(_: object) -> bool:
        raise OSError("disk")

    monkeypatch.setattr(jobs, "feed", broken)
    with pytest.raises(OSError, match="disk"):
        jobs.run_webhooks(site_world.site)
    assert len(receiver.got) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "Not Good"}, "a-z 0-9"),
        ({"events": ("nonsense",)}, "no event 'nonsense'"),
        ({"template": "../x"}, "no template"),
        ({"secret": "whsec_inline"}, "env:NAME"),
        ({"authorization": "Bearer x"}, "env:NAME"),
        ({"models": ("a b",)}, "by its key"),
        ({"url": "http://grc.example/"}, "https://"),
        ({"url": "https://user:pw@grc.example/"}, "no user"),
        ({"url": "https://grc.example/#x"}, "behind #"),
        ({"url": "https://grc.example/a b"}, "without spaces"),
        ({"url": "https://grc.example:0/"}, "names a host"),
        ({"url": "file:///etc/passwd"}, "https://"),
    ],
)
def test_an_endpoint_that_makes_no_sense_is_refused_by_name(options: dict[str, object], said: str) -> None:
    values: dict[str, object] = {"name": "grc", "url": "https://grc.example/", "now": 0, "since": 0} | options
    with pytest.raises(ReviewError, match=said):
        make_endpoint(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "abc", "whsec_", "whsec_" + "A" * 20, "whsec_" + "A" * 44 + " x"])
def test_a_weak_or_broken_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ReviewError) as caught:
        parse_secrets(text, "webhook grc")
    assert len(text) < 8 or text not in str(caught.value)


def test_two_endpoints_need_two_names_and_removal_leaves_nothing(site_world: SiteWorld, receiver: Receiver) -> None:
    add(site_world.site, receiver)
    with pytest.raises(ReviewError, match="already"):
        add(site_world.site, receiver)
    site_world.world.approve("vera")
    run(site_world.site)
    service.remove(site_world.site, "grc")
    assert service.overview(site_world.site) == []
    assert service.messages(site_world.site) == []
    assert os.listdir(site_world.world.workspace.config.home / "webhooks") == []


class TestTemplates:
    EVENT = {  # noqa: RUF012
        "type": "version.blocked",
        "timestamp": "2026-11-22T09:30:00.123456Z",
        "data": {"workspace": 'bank "x"', "model": "credit", "version": "3", "url": "https://r/x", "severity": "high"},
    }

    def test_the_generic_one_is_the_event(self) -> None:
        assert json.loads(render_payload(self.EVENT, "msg_1", "generic")) == self.EVENT

    def test_the_one_for_servicenow_fills_every_column_whatever_is_known(self) -> None:
        row = json.loads(render_payload(self.EVENT, "msg_1", "servicenow"))
        assert row == {
            "u_correlation_id": "msg_1",
            "u_event": "version.blocked",
            "u_occurred_at": "2026-11-22 09:30:00",
            "u_workspace": 'bank "x"',
            "u_model": "credit",
            "u_version": "3",
            "u_target": "",
            "u_decision": "",
            "u_stage": "",
            "u_severity": "2",
            "u_package_digest": "",
            "u_ledger_entry": "",
            "u_link": "https://r/x",
            "u_short_description": "version.blocked credit 3",
        }

    def test_ones_own_replaces_and_adds(self, tmp_path) -> None:
        folder = tmp_path / "webhooks"
        folder.mkdir()
        (folder / "archer.json.j2").write_text('{"Id": {{ id | tojson }}}', encoding="utf-8")
        (folder / "generic.json.j2").write_text('{"mine": 1}', encoding="utf-8")
        assert render_payload(self.EVENT, "msg_1", "archer", tmp_path) == b'{"Id":"msg_1"}'
        assert render_payload(self.EVENT, "msg_1", "generic", tmp_path) == b'{"mine":1}'

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{{ data.nothing | tojson }}", "cannot be rendered"),
            ("{{ ().__class__.__mro__ }}", "cannot be rendered"),
            ("{{ data.update({'x': 1}) }}", "cannot be rendered"),
            ("{{ cycler.__init__.__globals__.os.system('id') }}", "cannot be rendered"),
            ("{% for a in range(10**9) %}x{% endfor %}", "cannot be rendered"),
            ('{"a": }', "not JSON"),
            ('{"a": NaN}', "not JSON"),
            ('"{{ "x" * 70000 }}"', "at most"),
        ],
    )
    def test_a_bad_one_sends_nothing(self, text: str, said: str, tmp_path) -> None:
        (tmp_path / "webhooks").mkdir()
        (tmp_path / "webhooks" / "mine.json.j2").write_text(text, encoding="utf-8")
        with pytest.raises(ReviewError, match=said):
            render_payload(self.EVENT, "msg_1", "mine", tmp_path)


def test_a_refused_connection_is_an_error_that_names_the_host(site_world: SiteWorld) -> None:
    service.add(site_world.site, "gone", "http://127.0.0.1:9/", allow_private=True, allow_http=True)
    with pytest.raises(SendError, match=r"127\.0\.0\.1:9 cannot be reached"):
        service.send_test(site_world.site, "gone")
