"""Dataset pages: six questions, snapshots, the difference with plots, and decisions that go to be signed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cognify_dagster.datasets import diff_digest, diff_snapshots
from cognify_dagster.datasets.recording import record_diff
from cognify_dagster.documents.outputs.provenance import QUESTIONS
from cognify_dagster.governance import decide_change, directory
from cognify_dagster.governance.oversight.dataset_changes import changes_of
from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot
from tests.governance.world import World, clone
from tests.review.records.conftest import NEW, OLD, snapshot
from tests.review.site_world import Client, SiteWorld, make_site_world


@pytest.fixture
def vera(site: SiteWorld) -> Client:
    return site.client_for("vera")


def held(site: SiteWorld) -> list[DatasetSnapshot]:
    return [item.record for item in site.site.read().all(DatasetSnapshot, "dataset/claims")]


def test_the_list_names_every_data_set_with_its_newest_snapshot(site: SiteWorld, vera: Client) -> None:
    text = vera.get("/datasets").text
    for name in ("claims", "loans_train", "loans_holdout"):
        assert f'href="/datasets/{name}"' in text
    assert held(site)[-1].root[:12] in text
    assert held(site)[0].root[:12] not in text
    assert "loans_train" not in vera.get("/datasets?q=claims").text
    assert "No dataset has this" in vera.get("/datasets?q=%3Cscript%3E").text


def test_a_new_snapshot_shows_in_the_list_at_once(founded_template: World, tmp_path: Path) -> None:
    found = make_site_world(clone(founded_template, tmp_path / "world"))
    vera = found.client_for("vera")
    assert "No dataset was snapshotted yet" in vera.get("/datasets").text
    snapshot(found.world, OLD, "1")
    assert vera.get("/datasets").text.count("claims") >= 1
    found.site.store.close()


def test_the_page_answers_the_six_questions_with_entries(site: SiteWorld, vera: Client) -> None:
    text = vera.get("/datasets/claims").text
    for question in QUESTIONS:
        assert question.replace("'", "&#39;") in text
    assert "team:claims" in text
    assert "Claims &lt;b&gt;2025&lt;/b&gt;" in text
    newest = site.site.read().all(DatasetSnapshot, "dataset/claims")[-1]
    assert f'<a href="/ledger/entries/{newest.seq}">entry {newest.seq}</a>' in text
    older = vera.get(f"/datasets/claims?root={held(site)[0].root}").text
    assert "an earlier one" in older


def test_a_data_set_that_is_not_there(vera: Client) -> None:
    for path in (
        "/datasets/nothing",
        "/datasets/claims?root=ffffffff",
        "/datasets/claims/diff?from=abcdabcd",
        "/datasets/%2e%2e",
    ):
        assert vera.get(path).status_code == 404


def test_the_difference_shows_what_the_digest_covers_with_plots(site: SiteWorld, vera: Client) -> None:
    reading = site.site.read()
    old, new = reading.all(DatasetSnapshot, "dataset/claims")
    diff = diff_snapshots(site.world.workspace, old, new)
    text = vera.get("/datasets/claims/diff").text
    assert diff_digest(diff) in text
    assert diff.summary[1:20] in text
    assert "<svg" in text
    assert " style=" not in text
    assert "income" in text
    same = vera.get(f"/datasets/claims/diff?from={old.record.root}&to={new.record.root}").text
    assert diff_digest(diff) in same
    back = vera.get(f"/datasets/claims/diff?from={new.record.root}&to={old.record.root}").text
    assert diff_digest(diff) not in back


def test_snapshots_that_cannot_be_compared_are_said_so(site: SiteWorld, vera: Client) -> None:
    answer = vera.get("/datasets/loans_train/diff")  # its profile is no profile
    assert answer.status_code in (200, 409)
    if answer.status_code == 409:
        assert "cannot be compared" in answer.text


def test_the_croissant_description_is_a_download(vera: Client) -> None:
    answer = vera.get("/datasets/claims/croissant.json")
    assert answer.headers["content-disposition"] == 'attachment; filename="claims.croissant.json"'
    assert json.loads(answer.content)["name"] == "claims"


def test_changes_show_reason_difference_and_decisions(founded_template: World, tmp_path: Path) -> None:
    found = make_site_world(clone(founded_template, tmp_path / "world"))
    world = found.world
    snapshot(world, OLD, "1")
    snapshot(world, NEW, "2", reason="the quarter <ended>")
    vera = found.client_for("vera")
    assert "the quarter &lt;ended&gt;" in vera.get("/datasets/claims").text
    newest = world.workspace.read().all(DatasetSnapshot, "dataset/claims")[-1]
    record_diff(world.workspace, "claims", newest.seq)
    decide_change(world.workspace, world.key("carl"), "claims", None, "reject", comment="why so few?")
    text = vera.get("/datasets/claims").text
    assert "rejected</span> by Carl" in text.replace("\n", "")
    assert "why so few?" in text
    assert "rejected" in vera.get("/datasets").text
    found.site.store.close()


def test_an_approval_goes_to_be_signed_for_exactly_this_difference(site: SiteWorld) -> None:
    root = held(site)[-1].root
    vera = site.client_for("vera")
    answer = vera.submit(
        "/datasets/claims/decide", root=root, decision="approve", role="model_validator", comment="looks right"
    )
    assert answer.status_code == 303
    assert re.fullmatch(r"/acts/[\w-]+", answer.headers["location"])
    page = vera.get(answer.headers["location"]).text
    recorded = site.site.read().all(DatasetDiffRecorded, "dataset/claims")[-1]
    assert recorded.record.diff_digest in page
    assert "looks right" in page
    change = changes_of(site.site.read(), directory(site.site.read()), "claims")[-1]
    assert change.state == "not approved"  # nothing counts before it is signed


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("decide", {"decision": ""}, "Choose whether"),
        ("decide", {"decision": "approve", "root": "ffffffffffff"}, "no root begins with"),
        ("decide", {"decision": "approve", "role": "nonsense"}, "may not sign this"),
        ("reason", {"reason": ""}, "Write why"),
    ],
)
def test_what_cannot_be_signed_is_said_before(site: SiteWorld, path: str, fields: dict[str, str], told: str) -> None:
    values = {"root": held(site)[-1].root} | fields
    answer = site.client_for("vera").submit(f"/datasets/claims/{path}", **values)
    assert answer.status_code == 400
    assert told in answer.text


def test_who_has_no_role_that_decides_is_offered_no_form(site: SiteWorld) -> None:
    site.world.enrol("nils")
    assert "Approve or reject" not in site.client_for("nils").get("/datasets/claims").text
    assert "Approve or reject" in site.client_for("vera").get("/datasets/claims").text
    answer = site.client_for("nils").submit("/datasets/claims/decide", root=held(site)[-1].root, decision="approve")
    assert answer.status_code == 400


def test_who_may_not_decide_has_nothing_recorded(founded_template: World, tmp_path: Path) -> None:
    site = make_site_world(clone(founded_template, tmp_path / "world"))
    snapshot(site.world, OLD, "one")
    snapshot(site.world, NEW, "two", reason="the quarter ended")
    site.world.enrol("nils")
    before, root = site.site.read().size, held(site)[-1].root
    answer = site.client_for("nils").submit("/datasets/claims/decide", root=root, decision="approve")
    assert (answer.status_code, "are decided by" in answer.text) == (400, True)
    assert site.site.read().size == before
