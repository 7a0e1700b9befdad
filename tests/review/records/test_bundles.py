"""The bundle of a version: a person exports it, which is an entry of the ledger; downloading it writes nothing there."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from cognify_dagster.governance import DEFAULT_POLICY_YAML, adopt_policy, parse_policy
from cognify_dagster.ledger import Checkpoint, LedgerError, parse_note
from cognify_dagster.records import BundleExported, FinalCopy, Package, VersionOpened
from cognify_dagster.review.access import log
from cognify_dagster.review.access.anchoring import anchor
from cognify_dagster.review.reading import bundles
from cognify_dagster.review.reading.bundles import export_state
from cognify_dagster.review.store import access as table
from tests.governance.world import MODEL, World, clone
from tests.review.records.test_grants import grant, visitor
from tests.review.site_world import Client, SiteWorld, make_site_world

PAGE = f"/models/{MODEL}/1/bundle"
FILE = f"/models/{MODEL}/1/download/bundle.zip"


@pytest.fixture
def site(approved_template: World, tmp_path: Path) -> Iterator[SiteWorld]:
    found = make_site_world(clone(approved_template, tmp_path / "world"))
    yield found
    found.site.store.close()


@pytest.fixture
def vera(site: SiteWorld) -> Client:
    return site.client_for("vera")


def exports(site: SiteWorld) -> list[BundleExported]:
    return [item.record for item in site.site.read().all(BundleExported)]


def size(site: SiteWorld) -> int:
    return site.site.read().size


def last_line(site: SiteWorld) -> table.Kept:
    log.flush(site.site)
    with site.site.store.begin() as connection:
        return table.find_lines(connection, limit=1)[0]


def again(site: SiteWorld) -> SiteWorld:
    """The same site in a process that was started anew."""
    return make_site_world(site.world)


# --- downloading writes nothing --------------------------------------------------------------------------------------------


def test_a_download_writes_nothing_to_the_ledger_however_often_it_is_asked_for(site: SiteWorld, vera: Client) -> None:
    before = size(site)
    for _ in range(5):
        answer = vera.get(FILE)
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        assert vera.head(FILE).status_code == 303
    assert size(site) == before, "nobody exported one yet, and asking for it exports none"
    assert vera.submit(PAGE).headers["location"] == PAGE
    assert size(site) == before + 1
    heads = len(site.world.workspace.ledger.store.checkpoints())
    files = {vera.get(FILE).content for _ in range(5)}
    assert len(files) == 1
    assert len(next(iter(files))) > 1_000
    assert size(site) == before + 1
    fresh = again(site)
    assert fresh.client_for("carl").get(FILE).content in files, "after a restart, too"
    assert size(site) == before + 1
    assert len(site.world.workspace.ledger.store.checkpoints()) == heads, "the signed head that covers it is used again"
    fresh.site.store.close()


def test_batches_of_the_access_log_are_all_that_downloads_lead_to(site: SiteWorld, vera: Client) -> None:
    vera.submit(PAGE)
    before = size(site)
    first = vera.get(FILE).content
    for _ in range(4):
        log.flush(site.site)
        anchor(site.site)
        assert vera.get(FILE).content == first
    kinds = [item.entry.kind for item in site.site.read().view.entries[before:]]
    assert kinds == ["access_logged"] * 4


def test_bundles_of_two_versions_do_not_make_each_other_old(site: SiteWorld, vera: Client) -> None:
    """Every export is about policy, people and ledger: each made the other's out of date, and so every download an entry."""
    world = site.world
    world.train("2")
    world.evaluate("2")
    world.package("2")
    other = PAGE.replace("/1/", "/2/")
    vera.submit(PAGE)
    vera.submit(other)
    before = size(site)
    for _ in range(3):
        assert vera.get(FILE).status_code == 200
        assert vera.get(FILE.replace("/1/", "/2/")).status_code == 200
        vera.submit(PAGE)
        vera.submit(other)
    assert size(site) == before
    assert len(exports(site)) == 2


def test_work_on_another_version_does_not_make_a_bundle_old(site: SiteWorld, vera: Client) -> None:
    """Its people, data and model are subjects of the other version's entries, too."""
    vera.submit(PAGE)
    before, world = vera.get(FILE).content, site.world
    world.ready("2")
    world.approve("vera", "2")
    assert vera.get(FILE).status_code == 200
    world.workspace.ledger.sign_checkpoint()
    with zipfile.ZipFile(io.BytesIO(vera.get(FILE).content)) as new, zipfile.ZipFile(io.BytesIO(before)) as old:
        assert {name for name in new.namelist() if "proof" not in name} == {
            name for name in old.namelist() if "proof" not in name
        }
        for name in old.namelist():
            if name.startswith(("package/", "evidence/", "ledger/entries", "ledger/payloads")):
                assert new.read(name) == old.read(name), name


@pytest.mark.parametrize("what", ["sign-off", "policy", "oversight", "data", "gates", "people"])
def test_what_a_bundle_tells_of_makes_it_old(site: SiteWorld, vera: Client, what: str) -> None:
    vera.submit(PAGE)
    assert vera.get(FILE).status_code == 200
    world = site.world
    if what == "sign-off":
        world.force(world.sign("vera", "block", comments="stop"))
    elif what == "policy":
        changed = yaml.safe_load(DEFAULT_POLICY_YAML)
        changed["title"] = "another"
        adopt_policy(world.workspace, parse_policy(changed), "x", [world.key("ada"), world.key("finn")])
    elif what == "oversight":
        world.classify(tier="high")
    elif what == "data":
        world.snapshot("loans_train", "ef" * 32)
    elif what == "gates":
        world.adopt_gates(threshold=0.9)
    else:
        world.enrol("newcomer")
    assert vera.get(FILE).status_code == 303


# --- exporting ---------------------------------------------------------------------------------------------------------------


def test_the_bundle_is_whole_and_names_who_exported_it(site: SiteWorld, vera: Client) -> None:
    assert "No bundle of this version was exported so far" in vera.get(PAGE).text
    vera.submit(PAGE)
    assert [item.exported_by for item in exports(site)] == ["person/vera"]
    answer = vera.get(FILE)
    assert answer.headers["content-disposition"] == f'attachment; filename="{MODEL}-1-bundle.zip"'
    assert last_line(site).detail == "bundle.zip sha256:" + hashlib.sha256(answer.content).hexdigest()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("bundle.json"))
    state = export_state(site.site.read(), MODEL, "1")
    assert state.export is not None
    assert (manifest["model"], manifest["anchor_seq"]) == (MODEL, state.export.seq)
    text = vera.get(PAGE).text
    assert "exported by Vera" in text
    assert f'href="{FILE}"' in text
    assert "<form method" not in text.partition("<main")[2], "nothing to export"


def test_it_verifies_apart_from_the_site(site: SiteWorld, vera: Client, tmp_path: Path) -> None:
    vera.submit(PAGE)
    (tmp_path / "b.zip").write_bytes(vera.get(FILE).content)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "b")
    trust = site.world.workspace.config.trust
    command = [sys.executable, "-I", str(tmp_path / "b" / "verify.py"), str(tmp_path / "b"), "--trust", str(trust)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 1, done.stdout + done.stderr
    assert "entries are not in the anchored history" not in done.stdout
    assert "is left out" in done.stdout


def test_what_happens_afterwards_asks_for_a_new_export(site: SiteWorld, vera: Client) -> None:
    vera.submit(PAGE)
    first = vera.get(FILE).content
    world = site.world
    world.write(VersionOpened(model="another", version="1", run="r", opened_by="person/ben"))
    assert vera.get(FILE).content == first, "nothing of it is about this version"
    world.enrol("newcomer")  # people are part of what a bundle tells of
    assert vera.get(FILE).status_code == 303
    text = vera.get(PAGE).text
    assert "Does not tell everything any more" in text
    assert f"entry {size(site) - 1}" in text
    vera.submit(PAGE)
    second = vera.get(FILE)
    assert (second.status_code, second.content != first) == (200, True)
    package = site.site.read().all(Package)[-1].record.package
    copy = world.workspace.put("final.pdf", b"%PDF", "application/pdf")
    world.write(FinalCopy(model=MODEL, version="1", package_digest=package.digest, final_copy=copy))
    assert vera.get(FILE).status_code == 303


def test_a_new_subject_that_a_bundle_has_to_tell_of_makes_it_old(site: SiteWorld, vera: Client) -> None:
    vera.submit(PAGE)
    site.world.erase(3)  # the first erasure: before it, no bundle was about erasures
    assert not export_state(site.site.read(), MODEL, "1").current


def test_a_program_is_told_and_not_sent_to_a_page(vera: Client) -> None:
    answer = vera.get(FILE, headers={"Accept": "application/json"})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:cognify:problem:bundle"


def test_an_auditor_from_outside_may_have_it_exported_and_is_not_taken_for_a_person(site: SiteWorld) -> None:
    seq = grant(site.world, models=[MODEL])
    iva = visitor(site, seq)
    iva.submit(PAGE)
    assert [item.exported_by for item in exports(site)] == ["unattributed"]
    assert iva.get(FILE).status_code == 200
    assert last_line(site).who == f"auditor/{seq}"


def test_another_site_cannot_have_a_bundle_exported(site: SiteWorld, vera: Client) -> None:
    before = size(site)
    answer = vera.post(PAGE, data={"csrf": vera.csrf}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert vera.post(PAGE, data={}, headers={"Origin": site.site.config.url}).status_code == 403
    assert site.client().post(PAGE, data={}, headers={"Origin": site.site.config.url}).status_code == 401
    assert size(site) == before


@pytest.mark.parametrize("path", [PAGE.replace("/1/", "/9/"), PAGE.replace(MODEL, "nothing")])
def test_there_is_none_of_what_has_no_package(vera: Client, path: str) -> None:
    assert vera.get(path).status_code == 404
    assert vera.submit(path).status_code == 404


def test_a_bundle_over_the_bound_is_not_handed_out(vera: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_BUNDLE", 100)
    vera.submit(PAGE)
    assert vera.get(FILE).status_code == 413


# --- signed heads --------------------------------------------------------------------------------------------------------------


def test_an_export_whose_recording_was_cut_off_is_covered_once(
    site: SiteWorld, vera: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = site.world.workspace.ledger
    sign = ledger.sign_checkpoint
    monkeypatch.setattr(ledger, "sign_checkpoint", _no_signer)
    vera.submit(PAGE)
    assert len(exports(site)) == 1
    monkeypatch.setattr(ledger, "sign_checkpoint", sign)
    heads = len(ledger.store.checkpoints())
    assert {vera.get(FILE).status_code for _ in range(3)} == {200}
    assert len(ledger.store.checkpoints()) == heads + 1


def _no_signer() -> str:
    raise LedgerError("the signer does not answer")


def test_where_another_process_signs_one_waits_for_its_head(
    site: SiteWorld, vera: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = site.world.workspace.ledger
    signer = ledger.signer
    monkeypatch.setattr(ledger, "signer", None)
    vera.submit(PAGE)
    answer = vera.get(FILE)
    assert (answer.status_code, "No signed head covers" in answer.text) == (409, True)
    ledger.signer = signer
    ledger.sign_checkpoint()
    ledger.signer = None
    assert vera.get(FILE).status_code == 200


def test_a_younger_head_is_used_once_it_is_there(site: SiteWorld, vera: Client) -> None:
    vera.submit(PAGE)
    vera.get(FILE)
    site.world.write(VersionOpened(model="another", version="1", run="r", opened_by="person/ben"))
    site.world.workspace.ledger.sign_checkpoint()
    with zipfile.ZipFile(io.BytesIO(vera.get(FILE).content)) as archive:
        head = Checkpoint.parse(parse_note(archive.read("ledger/checkpoint.txt").decode()).text)
    assert head.size == size(site)


def test_many_at_once_export_one(site: SiteWorld) -> None:
    browsers = [site.client_for(name) for name in ("vera", "carl", "olga", "ada")]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda browser: browser.submit(PAGE).status_code, browsers))
    assert statuses == [303] * 4
    assert len(exports(site)) == 1
