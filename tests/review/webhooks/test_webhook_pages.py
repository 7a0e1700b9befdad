"""The page and the command: who may see them, what they show, what they do."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from cognify_dagster.cli import main
from cognify_dagster.review.webhooks import checking, outbox, service
from cognify_dagster.review.webhooks.jobs import check_hours, run_check
from cognify_dagster.workspace import WorkspaceError
from tests.review.api.conftest import make_token
from tests.review.site_world import SiteWorld, make_site_world
from tests.review.webhooks.conftest import Clock, add, run, tamper
from tests.review.webhooks.receiver import Receiver


def test_admins_see_endpoints_and_dead_messages_and_others_do_not(
    site_world: SiteWorld, receiver: Receiver, clock: Clock
) -> None:
    admin = site_world.client_for("ada")
    assert "No system is told anything" in admin.get("/webhooks").text
    add(site_world.site, receiver)
    receiver.answer(500)
    site_world.world.approve("vera")
    run(site_world.site)
    clock.advance(hours=30)
    run(site_world.site)
    clock.reset()  # the sessions of these tests begin now
    text = admin.get("/webhooks").text
    for shown in (
        receiver.url.partition("?")[0] + "?…",
        "signoff.recorded",
        "it answered 500",
        "Send again",
        "may lie inside",
    ):
        assert shown in text
    assert "tenant=1" not in text  # a query may hold a token
    assert site_world.client_for("vera").get("/webhooks").status_code == 403
    assert site_world.client().get("/webhooks").status_code == 303


def test_an_admin_tests_and_replays_from_the_page(site_world: SiteWorld, receiver: Receiver, clock: Clock) -> None:
    admin = site_world.client_for("ada")
    add(site_world.site, receiver)
    assert "grc answered 204" in admin.submit("/webhooks/test", endpoint="grc").text
    assert receiver.types == ["webhook.test"]
    receiver.answer(500)
    refused = admin.submit("/webhooks/test", endpoint="grc")
    assert refused.status_code == 400
    assert "grc answered 500" in refused.text
    site_world.world.approve("vera")
    run(site_world.site)
    clock.advance(hours=30)
    run(site_world.site)
    dead = [item for item in service.messages(site_world.site, outbox.DEAD) if item.event != "webhook.test"]
    receiver.answer(204)
    clock.reset()
    assert "1 message is sent again" in admin.submit("/webhooks/replay", message=dead[0].id).text
    run(site_world.site)
    assert receiver.got[-1].headers["webhook-id"] == dead[0].id


def test_the_page_changes_nothing_without_its_token_or_for_others(site_world: SiteWorld, receiver: Receiver) -> None:
    add(site_world.site, receiver)
    admin, vera = site_world.client_for("ada"), site_world.client_for("vera")
    assert admin.submit("/webhooks/test", endpoint="grc", csrf="wrong").status_code == 403
    assert vera.submit("/webhooks/test", endpoint="grc").status_code == 403
    assert admin.submit("/webhooks/test", endpoint="<b>none</b>").status_code == 400
    assert "<b>none" not in admin.submit("/webhooks/test", endpoint="<b>none</b>").text
    assert admin.submit("/webhooks/replay").status_code == 400
    assert receiver.got == []


@pytest.fixture
def cognify(site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch):
    """The command on the same workspace, with its own default database."""
    path = site_world.world.workspace.config.path

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["--workspace", str(path), *words], catch_exceptions=False)
        return done.exit_code, done.output

    return call


def test_the_command_adds_tests_replays_and_removes(
    site_world: SiteWorld, receiver: Receiver, cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = cognify("webhook", "add", "grc", receiver.url, "--allow-http", "--json", "--event", "version.blocked")
    assert code == 0
    code, text = cognify("webhook", "list", "--json")
    (row,) = json.loads(text)
    assert row["name"] == "grc"
    assert row["events"] == ["version.blocked"]
    assert row["secret"] == "file:grc"
    code, text = cognify("webhook", "test", "grc")
    assert code == 1
    assert "inside this network" in text
    assert cognify("webhook", "remove", "grc")[0] == 0
    code, text = cognify("webhook", "add", "grc", receiver.url, "--allow-http", "--allow-private", "--json")
    assert json.loads(text)["secret"].startswith("whsec_")
    assert cognify("webhook", "test", "grc")[0] == 0
    receiver.answer(500)
    assert cognify("webhook", "test", "grc")[0] == 1
    (given_up,) = json.loads(cognify("webhook", "list", "--dead", "--json")[1])
    assert given_up["event"] == "webhook.test"
    receiver.answer(200)
    code, text = cognify("webhook", "replay", "grc", "--from", "0", "--to", "100", "--now", "--json")
    assert (code, json.loads(text)["delivered"]) == (0, 2)
    assert receiver.types[-2:] == ["version.opened", "package.built"]
    assert "No system is told" in (cognify("webhook", "remove", "grc"), cognify("webhook", "list"))[1][1]


def test_adding_an_endpoint_shows_its_secret_once(receiver: Receiver, cognify) -> None:
    assert "whsec_" in cognify("webhook", "add", "grc", "https://grc.example/")[1]
    assert "whsec_" not in cognify("webhook", "list", "--json")[1]


class TestVerification:
    """The whole ledger is verified from time to time; a failure is told."""

    def test_a_new_site_waits_for_its_first_time(self, site_world: SiteWorld, clock: Clock, monkeypatch) -> None:
        ran: list[float] = []
        monkeypatch.setattr("cognify_dagster.review.webhooks.jobs.check", lambda _, hours: ran.append(hours))
        run_check(site_world.site)
        assert ran == []
        clock.advance(hours=25)
        run_check(site_world.site)
        assert ran == [24.0]
        run_check(site_world.site)  # another process, while the first is at it
        assert ran == [24.0]

    def test_what_verification_says_is_remembered_and_a_failure_told(
        self, site_world: SiteWorld, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(site_world.site, receiver)
        said = {
            "level": "L1",
            "size": 7,
            "findings": [{"outcome": "tampered", "seq": 5, "message": "entry 5: its bytes changed"}],
        }
        monkeypatch.setattr(checking, "_verify", lambda _: (1, said))
        assert checking.check(site_world.site, 24) == "tampered"
        run(site_world.site)
        assert receiver.got[0].json["data"]["reason"] == "entry 5: its bytes changed"
        text = site_world.client_for("ada").get("/webhooks").text
        assert "entry 5: its bytes changed" in text
        assert "tampered" in text
        monkeypatch.setattr(checking, "_verify", lambda _: (4, {}))
        assert checking.check(site_world.site, 24) == "unproven"
        run(site_world.site)
        assert len(receiver.got) == 1

    def test_the_real_command_is_asked(self, site_world: SiteWorld) -> None:
        outcome = checking.check(site_world.site, 24)
        found = checking.last_check(site_world.site)
        assert outcome == "holds"
        assert found["level"] == "L1"
        assert found["size"] == site_world.site.read().size
        tamper(site_world)
        assert checking.check(site_world.site, 24) == "tampered"
        assert "entry" in checking.last_check(site_world.site)["text"]

    def test_a_stop_ends_it_at_once(
        self, site_world: SiteWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stopping = threading.Event()
        stopping.set()
        site_world.site.state["stopping"] = stopping
        endless = tmp_path / "endless"
        endless.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
        endless.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(endless))
        assert checking.check(site_world.site, 24) == "stopped"

    @pytest.mark.parametrize("table", [{"check_hours": True}, {"check_hours": -1}, {"check_hours": "x"}, {"chek": 1}])
    def test_a_setting_that_makes_no_sense_is_named(self, site_world: SiteWorld, table: dict[str, object]) -> None:
        site = make_site_world(site_world.world, webhooks=table).site
        with pytest.raises(WorkspaceError, match=next(iter(table))):
            check_hours(site)
        site.store.close()


def test_the_api_lists_an_address_without_its_query_which_may_hold_a_token(
    site_world: SiteWorld, receiver: Receiver
) -> None:
    add(site_world.site, receiver)
    headers = {"Authorization": f"Bearer {make_token(site_world, 'webhooks')}"}
    (item,) = site_world.client().get("/api/v1/webhooks", headers=headers).json()["items"]
    assert item["url"] == receiver.url.partition("?")[0] + "?…"
