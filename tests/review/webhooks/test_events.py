"""What is told of the ledger: each entry once, ids and digests only."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from cognify_dagster.governance import complete, request_release
from cognify_dagster.records import (
    DeploymentFailed,
    FindingOpened,
    ModelEvent,
    ReleaseRefused,
    SignOff,
    SignOffRefused,
    VersionOpened,
    kinds,
)
from cognify_dagster.review.webhooks.events import _TELL, EVENTS, LOCKED, TEST, VERIFICATION
from cognify_dagster.review.webhooks.feeding import entry_events, feed
from tests.governance.world import MODEL
from tests.review.site_world import SiteWorld
from tests.review.webhooks.conftest import Clock, add, run, tamper
from tests.review.webhooks.receiver import Receiver


def _told(world: SiteWorld, start: int = 0):
    reading = world.site.read()
    return list(entry_events(world.site, reading, start, reading.size))


def test_the_history_of_a_released_version_is_told_in_order(approved_site: SiteWorld) -> None:
    workspace = approved_site.world.workspace
    grant = request_release(workspace, MODEL, "1", "production", "run-1", "person/ben")
    complete(workspace, grant, location="here", detail={"run": "run-1"})
    events = _told(approved_site)
    assert [event.name for event in events] == [
        "version.opened", "package.built", "signoff.recorded", "signoff.recorded", "signoff.recorded",
        "release.granted", "deployment.completed",
    ]  # fmt: skip
    package = events[1].body(people=False)
    entry = workspace.read().at(events[1].seq)
    assert package == {
        "type": "package.built",
        "timestamp": package["timestamp"],
        "data": {
            "workspace": workspace.origin,
            "entry": entry.seq,
            "leaf": entry.leaf,
            "model": MODEL,
            "version": "1",
            "package": entry.record.package.digest,
            "revision": 1,
            "model_digest": entry.record.model_digest,
            "url": f"http://localhost:3070/models/{MODEL}/1",
            "entry_url": f"http://localhost:3070/ledger/entries/{entry.seq}",
        },
    }


def test_a_block_is_a_sign_off_and_a_block(site_world: SiteWorld) -> None:
    size = site_world.site.read().size
    site_world.world.force(site_world.world.sign("carl", "block", comments="Secret words about Ben"))
    events = _told(site_world, size)
    assert [event.name for event in events] == ["signoff.recorded", "version.blocked"]
    assert events[0].id_for("a") != events[1].id_for("a")


def test_nobodys_text_is_told_and_who_acted_only_where_asked_for(site_world: SiteWorld) -> None:
    world, size = site_world.world, site_world.site.read().size
    signed = world.sign("carl", "reject", comments="SECRET of the committee")
    world.force(signed)
    world.write(
        FindingOpened(
            model=MODEL, version="1", severity="high", title="SECRET title", text="SECRET text", owner="person/olga",
            raised_by="person/vera", envelope=signed,
        )
    )  # fmt: skip
    world.write(ModelEvent(model=MODEL, event="incident", text="SECRET incident", reported_by="person/ben"))
    world.write(ModelEvent(model=MODEL, event="drift_breach", text="SECRET drift", reported_by="workload/pipeline"))
    world.write(
        SignOffRefused(
            model=MODEL, version="1", stage="compliance", decision="approve", role="x", person="person/ben",
            statement_digest="a" * 64, reasons=("SECRET reason",),
        )
    )  # fmt: skip
    world.write(
        ReleaseRefused(
            model=MODEL, version="1", target="production", run="r", decided_on_size=3, policy_digest="sha256:" + "a" * 64,
            reasons=({"code": "not_signed", "text": "SECRET"},), requested_by="person/ben",
        )
    )  # fmt: skip
    world.write(
        DeploymentFailed(model=MODEL, version="1", target="production", grant_seq=1, attempt="a", reason="SECRET path")
    )
    events = _told(site_world, size)
    assert [event.name for event in events] == [
        "signoff.recorded", "finding.opened", "incident", "model.event", "signoff.refused", "release.refused", "deployment.failed",
    ]  # fmt: skip
    plain = json.dumps([event.body(people=False) for event in events])
    assert "SECRET" not in plain
    assert "person/" not in plain
    named = json.dumps([event.body(people=True) for event in events])
    assert "SECRET" not in named
    assert named.count("person/") == 6


def test_a_deployment_past_the_gate_is_not_told_as_one(approved_site: SiteWorld) -> None:
    from cognify_dagster.records import DeploymentCompleted

    size = approved_site.site.read().size
    approved_site.world.write(
        DeploymentCompleted(
            model=MODEL, version="1", target="production", grant_seq=1, model_digest="sha256:" + "a" * 64
        )
    )
    assert _told(approved_site, size) == []


def test_every_event_is_told_by_some_kind_of_entry_or_by_the_site() -> None:
    assert {kind.kind for kind in _TELL} <= set(kinds())
    assert {TEST, VERIFICATION, LOCKED} < set(EVENTS)


def test_each_entry_is_told_once_to_each_endpoint_and_only_from_its_addition_on(
    site_world: SiteWorld, receiver: Receiver
) -> None:
    first, _ = add(site_world.site, receiver, "first")
    run(site_world.site)
    assert receiver.got == []  # what was there before is not told
    site_world.world.approve("vera")
    run(site_world.site)
    second, _ = add(site_world.site, receiver, "second")
    site_world.world.approve("carl")
    for _ in range(3):
        run(site_world.site)
    ids = [item.headers["webhook-id"] for item in receiver.got]
    signed = [item.seq for item in site_world.site.read().all(SignOff)]
    assert len(ids) == len(set(ids)) == 3
    events = [event for event in _told(site_world) if event.seq in signed]
    assert set(ids) == {events[0].id_for(first.id), events[1].id_for(first.id), events[1].id_for(second.id)}


def test_an_endpoint_is_told_what_it_asked_for(site_world: SiteWorld, receiver: Receiver) -> None:
    add(site_world.site, receiver, "blocks", events=("version.blocked", "signoff.recorded"), models=(MODEL,))
    site_world.world.write(VersionOpened(model=MODEL, version="9", run="r", opened_by="person/ben"))
    site_world.world.write(VersionOpened(model="other", version="9", run="r", opened_by="person/ben"))
    site_world.world.approve("vera")
    run(site_world.site)
    assert receiver.types == ["signoff.recorded"]


def test_a_crash_between_telling_and_remembering_tells_nothing_twice(
    site_world: SiteWorld, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(site_world.site, receiver)
    site_world.world.approve("vera")
    from cognify_dagster.review.webhooks import feeding

    def crash(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(feeding, "write_mark", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            feed(site_world.site)
    run(site_world.site)
    assert receiver.types == ["signoff.recorded"]


def test_a_tampered_ledger_is_told_once_a_day(site_world: SiteWorld, receiver: Receiver, clock: Clock) -> None:
    add(site_world.site, receiver)
    run(site_world.site)
    site_world.world.approve("vera")
    last = tamper(site_world)
    for _ in range(3):
        run(site_world.site)
    assert receiver.types == ["verification.failed"]
    told = receiver.got[0].json["data"]
    assert told["outcome"] == "tampered"
    assert str(last) in told["reason"]
    clock.advance(days=1, seconds=1)
    run(site_world.site)
    assert len(receiver.got) == 2


def test_a_ledger_that_became_shorter_is_told_and_what_follows_is_told_too(
    site_world: SiteWorld, receiver: Receiver
) -> None:
    from cognify_dagster.review.webhooks.outbox import read_mark, write_mark

    add(site_world.site, receiver)
    site_world.world.approve("vera")
    run(site_world.site)
    with site_world.site.store.begin() as connection:
        mark = read_mark(connection, "told")
        write_mark(connection, "told", {"next": mark["next"] + 5, "leaf": "ab" * 32})
    run(site_world.site)
    site_world.world.approve("carl")
    run(site_world.site)
    assert receiver.types == ["signoff.recorded", "verification.failed", "signoff.recorded"]
    assert receiver.got[1].json["data"]["outcome"] == "rolled_back"


def test_an_entry_that_was_exchanged_is_told(site_world: SiteWorld, receiver: Receiver) -> None:
    from cognify_dagster.review.webhooks.outbox import read_mark, write_mark

    add(site_world.site, receiver)
    site_world.world.approve("vera")
    run(site_world.site)
    with site_world.site.store.begin() as connection:
        mark = read_mark(connection, "told")
        write_mark(connection, "told", {"next": mark["next"], "leaf": "ab" * 32})
    site_world.world.approve("carl")
    run(site_world.site)
    assert receiver.types == ["signoff.recorded", "verification.failed", "signoff.recorded"]


def test_time_of_the_event_is_that_of_the_entry(site_world: SiteWorld, receiver: Receiver, clock: Clock) -> None:
    add(site_world.site, receiver)
    seq = site_world.world.approve("vera")
    clock.advance(hours=3)
    run(site_world.site)
    when = site_world.site.read().at(seq).when
    assert receiver.got[0].json["timestamp"][:19] == when.strftime("%Y-%m-%dT%H:%M:%S")
    sent = int(receiver.got[0].headers["webhook-timestamp"])
    assert timedelta(hours=2.9) < timedelta(seconds=sent - when.timestamp()) < timedelta(hours=3.1)


def test_a_lock_of_signing_in_is_an_alarm_told_once(site_world: SiteWorld, receiver: Receiver) -> None:
    add(site_world.site, receiver)
    run(site_world.site)
    browser = site_world.client()
    answers = [browser.submit("/login", login="vera", password=f"guess {n} of many").status_code for n in range(13)]
    assert answers == [403] * 10 + [429] * 3
    run(site_world.site)
    assert receiver.types == ["signin.locked"]
    told = receiver.got[0].json["data"]
    assert told["outcome"] == "locked-account"
    assert told["url"].endswith("/access?outcome=refused")
    assert "vera" not in str(told), "whose it is stands in the access log"
