"""A version without a package has a page: how far it is, what is missing, who can do it. Everything that names it leads there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.governance import adopt_model, complete, directory, request_release
from cognify_dagster.records import ModelRegistered, TrainingFailed, VersionOpened
from cognify_dagster.review.reading import preparation
from cognify_dagster.review.reading.preparation import preparation_of
from tests.governance.conftest import founded_template
from tests.governance.world import MODEL, World, clone
from tests.review.reading.conftest import look
from tests.review.site_world import SiteWorld, make_site_world

__all__ = ["founded_template"]
RUN = "0f7a1c1e-1111-4222-8333-123456789abc"


@pytest.fixture
def small(founded_template: World, tmp_path: Path) -> Iterator[SiteWorld]:
    found = make_site_world(clone(founded_template, tmp_path / "world"), dagster_url="https://dagster.example")
    yield found
    found.site.store.close()


def page(found: SiteWorld, version: str = "1", status: int = 200) -> str:
    answer = found.client_for("vera").get(f"/models/{MODEL}/{version}")
    assert answer.status_code == status
    text: str = answer.text
    return text


def state(found: SiteWorld, version: str = "1") -> str:
    reading = found.site.read()
    return preparation_of(reading, directory(reading), MODEL, version).state


def opened(found: SiteWorld, version: str = "1") -> None:
    found.world.register()
    found.world.write(VersionOpened(model=MODEL, version=version, run=RUN, opened_by="person/ben"))


def test_each_step_says_what_is_missing_who_can_do_it_and_how(small: SiteWorld) -> None:
    world = small.world
    opened(small)
    text = page(small)
    assert "Training is not done" in text
    assert "Ben, who opened it, or whoever may run the model" in text
    assert f"cognify status {MODEL} 1" in text
    assert f'href="https://dagster.example/runs/{RUN}"' in text
    failed = TrainingFailed(model=MODEL, version="1", run=RUN, reason="MemoryError: <b>too</b> large")
    world.write(failed.model_copy(update={"observed": {"dagster_run": RUN}}))
    text = page(small)
    assert "Training failed" in text
    assert "MemoryError: &lt;b&gt;too&lt;/b&gt; large" in text
    assert "Materialize the training asset for this version again" in text


def test_after_training_it_waits_for_evaluation_and_then_for_its_package(small: SiteWorld) -> None:
    world = small.world
    world.train("1")
    assert state(small) == preparation.TRAINED
    assert f"cognify evaluation record {MODEL} 1" in page(small)
    world.evaluate("1")
    text = page(small)
    assert state(small) == preparation.EVALUATED
    assert "Waits for its package" in text
    assert f"cognify package build {MODEL} 1" in text
    world.package("1")
    assert state(small) == preparation.PACKAGED
    assert "What is missing" not in page(small)


def test_gates_that_failed_are_named(small: SiteWorld) -> None:
    small.world.train("1")
    small.world.evaluate("1", failing=("fairness",))
    text = page(small)
    assert state(small) == preparation.GATES_FAILED
    assert "Gates did not pass: fairness" in text
    assert "failed</span>" in text
    small.world.evaluate("1")
    assert state(small) == preparation.EVALUATED, "the newest evaluation counts"


def test_a_failure_is_over_once_the_training_was_begun_again(small: SiteWorld) -> None:
    opened(small)
    small.world.write(TrainingFailed(model=MODEL, version="1", run=RUN, reason="x"))
    assert state(small) == preparation.FAILED
    small.world.write(VersionOpened(model=MODEL, version="1", run="run-2", opened_by="person/ben"))
    assert state(small) == preparation.OPENED


def test_a_model_taken_over_says_that_it_gets_no_package(small: SiteWorld) -> None:
    small.world.register()
    facts = {"model": MODEL, "version": "old", "target": "production", "known": {}, "unknown": ("who trained it",)}
    adopt_model(small.world.workspace, small.world.key("olga"), **facts)
    text = page(small, "old")
    assert "Taken over as it was" in text
    assert "a new version takes its place" in text


def test_a_version_that_nobody_opened_has_no_page(small: SiteWorld) -> None:
    small.world.register()
    page(small, "7", 404)


# --- who leads there -------------------------------------------------------------------------------------------------------


def test_model_page_and_inventory_lead_to_it(small: SiteWorld) -> None:
    opened(small)
    look(small)
    vera = small.client_for("vera")
    text = vera.get(f"/models/{MODEL}").text
    assert f'<a href="/models/{MODEL}/1">1</a>' in text
    assert "training is not done" in text
    assert "what is missing" in text
    assert f'href="/models/{MODEL}/1"' in vera.get("/models").text
    assert "What is missing, and who can do it" in vera.get(f"/models/{MODEL}/1/sign").text


def test_the_owner_finds_a_stuck_version_in_the_inbox_while_it_is_the_newest(small: SiteWorld) -> None:
    world = small.world
    opened(small)
    world.classify()
    look(small)
    olga = small.client_for("olga")
    link = f'<a href="/models/{MODEL}/1">{MODEL} 1 gets no package: training failed</a>'
    assert link not in olga.get("/").text
    world.write(TrainingFailed(model=MODEL, version="1", run=RUN, reason="x"))
    look(small)
    text = olga.get("/").text
    assert link in text
    assert text.index(link) < text.index('id="others"')
    world.write(VersionOpened(model=MODEL, version="2", run="run-2", opened_by="person/ben"))
    look(small)
    assert link not in olga.get("/").text, "a newer version took its place"


def test_a_version_opened_after_a_release_is_not_said_to_have_been_overtaken_by_it(approved_site: SiteWorld) -> None:
    world = approved_site.world
    grant = request_release(world.workspace, MODEL, "1", "production", "run", "person/ben")
    complete(world.workspace, grant, location="here", detail={})
    world.write(VersionOpened(model=MODEL, version="2", run=RUN, opened_by="person/ben"))
    world.write(TrainingFailed(model=MODEL, version="2", run=RUN, reason="x"))
    text = approved_site.client_for("vera").get(f"/models/{MODEL}").text
    look(approved_site)
    assert "training failed" in text
    assert "went live on production instead" not in text


def test_the_inventory_names_the_version_with_the_newest_package(site_world: SiteWorld) -> None:
    site_world.world.write(VersionOpened(model=MODEL, version="9", run="run-9", opened_by="person/ben"))
    look(site_world)
    rows = site_world.client_for("vera").get("/models/export.jsonl").text
    assert '"newest_version": "1"' in rows


def test_empty_pages_say_what_to_do(small: SiteWorld) -> None:
    small.world.write(ModelRegistered(model=MODEL, owner="team:x", risk_tier="high"))
    look(small)
    text = small.client_for("vera").get(f"/models/{MODEL}").text
    empty = re.findall(r'<p class="empty">([^<]+)', text)
    assert len(empty) >= 4
    for words in ("Materialize the training asset", "every stage of its tier is signed"):
        assert any(words in told for told in empty)
