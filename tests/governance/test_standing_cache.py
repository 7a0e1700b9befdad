"""Standings are decided anew exactly when something they rely on moved, or their time has come; proofs are remembered, not assumed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from cognify_dagster.governance import decide, revoke_key
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.release import standing_cache
from cognify_dagster.governance.release.provable import unproven
from cognify_dagster.governance.release.standing_cache import PackagedVersions, StandingCache
from cognify_dagster.governance.signing import signatures
from cognify_dagster.records import GateResult, VersionOpened
from tests.governance.world import MODEL, World

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Desk:
    """Decides through a cache, as a sensor does."""

    def __init__(self, world: World, **options: float) -> None:
        self.world = world
        self.cache: StandingCache[bool] = StandingCache(**options)

    def look(self, *versions: str, now: datetime | None = None, limit: int | None = None) -> list[str]:
        """Return the versions that were decided."""
        moment = now or datetime.now(timezone.utc)
        reading = self.world.workspace.read()
        stale = self.cache.stale(reading, versions, moment, limit)
        for version in stale:
            with self.cache.deciding(reading, version, moment) as answer:
                answer.value = decide(reading, MODEL, version, "production", moment).released
        return stale


def gate(world: World, version: str, status: str = "fail") -> None:
    value = {"model": MODEL, "version": version, "family": "fairness", "status": status, "based_on": (1,)}
    world.write(GateResult.model_validate(value))


def test_only_what_moved_is_decided_again(approved: World) -> None:
    approved.ready("2")
    desk = Desk(approved)
    assert desk.look("1", "2") == ["1", "2"]
    assert (desk.cache.get("1"), desk.cache.get("2")) == (True, False)
    assert desk.look("1", "2") == []
    gate(approved, "1")
    assert desk.look("1", "2") == ["1"]
    assert desk.cache.get("1") is False
    approved.approve("vera", "2")
    assert "2" in desk.look("1", "2")


def test_what_every_version_relies_on_makes_all_stale(approved: World) -> None:
    desk = Desk(approved)
    desk.look("1")
    key = approved.key("vera")
    revoke_key(approved.workspace, key.person, key.key_id, "lost", key)
    assert desk.look("1") == ["1"]
    assert desk.cache.get("1") is False


def test_a_bounded_look_takes_what_moved_first_and_leaves_the_rest_for_later(approved: World) -> None:
    for version in ("2", "3", "4"):
        approved.write(VersionOpened(model=MODEL, version=version, run=f"run-{version}", opened_by="person/ben"))
    desk = Desk(approved)
    assert desk.look("1") == ["1"]
    gate(approved, "1")
    assert desk.look("4", "3", "2", "1", limit=2) == ["1", "4"]
    assert desk.look("4", "3", "2", "1", limit=2) == ["3", "2"]
    assert desk.look("4", "3", "2", "1") == []


def test_time_alone_makes_an_answer_stale_at_its_moment_and_at_its_greatest_age(approved: World) -> None:
    reading = approved.workspace.read()
    cache: StandingCache[str] = StandingCache(max_age_s=600)
    with cache.deciding(reading, "1", NOW) as answer:
        answer.value, answer.until = "yes", NOW + timedelta(seconds=60)
    with cache.deciding(reading, "2", NOW) as answer:
        answer.value, answer.until = "yes", NOW + timedelta(days=60)
    assert cache.stale(reading, ["1", "2"], NOW + timedelta(seconds=59)) == []
    assert cache.stale(reading, ["1", "2"], NOW + timedelta(seconds=60)) == ["1"]
    assert cache.stale(reading, ["2", "1"], NOW + timedelta(seconds=600)) == ["1", "2"]


def test_a_decision_that_fails_leaves_no_answer(approved: World) -> None:
    reading = approved.workspace.read()
    cache: StandingCache[str] = StandingCache()
    with pytest.raises(ZeroDivisionError), cache.deciding(reading, "1", NOW):
        raise ZeroDivisionError
    assert cache.get("1") is None
    assert cache.stale(reading, ["1"], NOW) == ["1"]


def test_a_subject_without_entries_is_relied_on_too(approved: World) -> None:
    """Somebody writes the first entry about a version that did not exist."""
    desk = Desk(approved)
    assert desk.look("9") == ["9"]
    approved.write(VersionOpened(model=MODEL, version="9", run="run-9", opened_by="person/ben"))
    assert desk.look("9") == ["9"]


def test_packaged_versions_are_found_among_new_entries(approved: World) -> None:
    packaged, fresh = PackagedVersions(MODEL), PackagedVersions("other")
    assert packaged.update(approved.workspace.read()) == ["1"]
    approved.ready("2")
    assert packaged.update(approved.workspace.read()) == ["2", "1"]
    approved.package("1")
    reading = approved.workspace.read()
    assert packaged.update(reading) == ["1", "2"] == PackagedVersions(MODEL).update(reading)
    assert fresh.update(reading) == []


def test_the_first_look_up_of_packages_ends_with_its_time_and_goes_on_the_next(
    approved: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved.ready("2")
    approved.package("1")
    reading, packaged = approved.workspace.read(), PackagedVersions(MODEL)
    monkeypatch.setattr(standing_cache, "LOOKUP_S", -1.0)  # whatever was read took too long
    assert packaged.update(reading, 10_000) == ["1"]
    assert not packaged.complete(reading)
    for _ in range(3):
        packaged.update(reading, 10_000)
    assert packaged.complete(reading)
    assert packaged.update(reading, 10_000) == ["1", "2"] == PackagedVersions(MODEL).update(reading)


def test_entries_that_prove_nothing_are_found_by_each_reading_however_often_they_are_asked(founded: World) -> None:
    subject = f"model/{MODEL}@7"
    opened = VersionOpened(model=MODEL, version="7", run="run-7", opened_by="person/ben")
    founded.write(opened)
    first = founded.workspace.read()
    assert unproven(first, directory(first), subject) == []
    founded.workspace.writer, writer = None, founded.workspace.writer
    unsigned = founded.write(opened.model_copy(update={"run": "run-8"}))
    founded.workspace.writer = writer
    later = founded.workspace.read()
    for _ in range(2):
        (found,) = unproven(later, directory(later), subject)
        assert found.seq == unsigned
        assert "not signed by a workload" in found.writer
    before = founded.workspace.read(unsigned)
    assert unproven(before, directory(before), subject) == []


def test_a_signature_that_verified_is_remembered_and_no_other(founded: World) -> None:
    entry = founded.workspace.read().view.entry(1).entry
    workload = directory(founded.workspace.read()).workloads[0][1]
    import base64
    from dataclasses import replace

    public = base64.b64decode(workload.key.public)
    signatures._verified.clear()
    for _ in range(2):
        assert signatures.entry_verifies(public, entry)
        assert not signatures.entry_verifies(bytes(32), entry)
        assert not signatures.entry_verifies(public, replace(entry, signature=bytes(64), leaf=bytes(32)))
    assert len(signatures._verified) == 1
    key = founded.key("ada")
    good = key.sign(b"yes")
    own = base64.b64decode(key.public.public)
    for _ in range(2):
        assert signatures.verifies(own, good, b"yes")
        assert not signatures.verifies(own, good, b"no")
        assert not signatures.verifies(own, bytes(64), b"yes")
        assert not signatures.verifies(b"short", good, b"yes")


def test_what_is_remembered_of_signatures_is_bounded(founded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    key = founded.key("ada")
    own = base64.b64decode(key.public.public)
    monkeypatch.setattr(signatures, "LIMIT", 3)
    for number in range(8):
        assert signatures.verifies(own, key.sign(b"%d" % number), b"%d" % number)
        assert len(signatures._verified) <= 3
