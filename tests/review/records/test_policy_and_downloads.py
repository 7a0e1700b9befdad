"""The policy's page and the downloads of a version: bytes of evidence, each in the access log with its digest."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from cognify_dagster.documents import build_and_record
from cognify_dagster.governance import DEFAULT_POLICY_YAML, adopt_policy, parse_policy
from cognify_dagster.ledger import ProofFile
from cognify_dagster.records import Package
from cognify_dagster.review.access import log
from cognify_dagster.review.store import access as table
from tests.governance.world import MODEL, World, clone
from tests.review.site_world import Client, SiteWorld, make_site_world

BASE = f"/models/{MODEL}/1/download"


@pytest.fixture
def vera(site: SiteWorld) -> Client:
    return site.client_for("vera")


def package(site: SiteWorld) -> Package:
    return site.site.read().all(Package)[-1].record


def last_line(site: SiteWorld) -> table.Kept:
    log.flush(site.site)
    with site.site.store.begin() as connection:
        return table.find_lines(connection, limit=1)[0]


# --- policy ------------------------------------------------------------------------------------------------------------


def test_the_policy_in_force_is_told_in_words(vera: Client) -> None:
    text = vera.get("/policy").text
    assert "in force" in text
    assert "Tier high" in text
    assert "Nobody signs off a version who had a hand in it" in text
    assert "Signed by Ada, Finn" in text


def test_the_history_says_what_changed_and_older_ones_stay_readable(founded_template: World, tmp_path: Path) -> None:
    found = make_site_world(clone(founded_template, tmp_path / "world"))
    world = found.world
    changed = yaml.safe_load(DEFAULT_POLICY_YAML)
    changed["title"] = "Policy <2>"
    changed["tiers"]["high"]["approval_days"] = 30
    signers = [world.key("ada"), world.key("finn")]
    seq = adopt_policy(world.workspace, parse_policy(changed), "shorter terms", signers).seq
    vera = found.client_for("vera")
    text = vera.get("/policy").text
    assert "Policy &lt;2&gt;" in text
    assert "tier high: approvals last 30 days instead of 180" in text
    assert "Reason: shorter terms" in text
    first = vera.get("/policy?at=0").text
    assert "not in force any more" in first
    assert json.loads(vera.get(f"/policy/download?at={seq}").content)["title"] == "Policy <2>"
    assert (
        json.loads(vera.get("/policy/download?at=0").content)
        == parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)).as_json()
    )
    assert vera.get("/policy?at=1").status_code == 404
    found.site.store.close()


# --- downloads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "field", "media_type"),
    [
        ("package.json", "package", "application/json"),
        ("review.pdf", "review_copy", "application/pdf"),
        ("model-card.md", "model_card", "text/markdown"),
    ],
)
def test_files_are_the_bytes_of_evidence(site: SiteWorld, vera: Client, what: str, field: str, media_type: str) -> None:
    answer = vera.get(f"{BASE}/{what}")
    digest = getattr(package(site), field).digest
    assert "sha256:" + hashlib.sha256(answer.content).hexdigest() == digest
    assert answer.headers["content-type"].startswith(media_type)
    assert answer.headers["content-disposition"] == f'attachment; filename="{MODEL}-1-{what}"'
    line = last_line(site)
    assert (line.action, line.subject, line.detail) == ("download", f"model/{MODEL}@1", f"{what} {digest}")


def test_the_proof_of_the_package_checks_apart_from_the_site(site: SiteWorld, vera: Client) -> None:
    item = site.site.read().all(Package)[-1]
    proof = ProofFile.parse(vera.get(f"{BASE}/proof.txt").text)
    proof.verify(bytes.fromhex(item.leaf), site.world.workspace.trust().logs)
    assert proof.index == item.seq


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        (f"{BASE}/final.pdf", 404, "no final copy yet"),
        (f"{BASE}/secret.key", 404, "not in this workspace"),
        (f"{BASE}/..%2f..%2fpackage.json", 404, ""),
        (f"/models/{MODEL}/99/download/package.json", 404, "not in this workspace"),
        ("/models/nothing/1/download/package.json", 404, "not in this workspace"),
        (f"{BASE}/package.json?revision=7", 404, "not in this workspace"),
        (f"{BASE}/package.html", 409, "cannot be made"),
    ],
)
def test_what_is_not_there_is_said(vera: Client, path: str, status: int, told: str) -> None:
    answer = vera.get(path)
    assert answer.status_code == status
    assert told in answer.text


def test_html_and_bill_of_materials_of_a_real_package(founded_template: World, tmp_path: Path) -> None:
    """Made from a package that the product built itself."""
    world = clone(founded_template, tmp_path / "world")
    world.train("1")
    world.evaluate("1")
    build_and_record(world.workspace, MODEL, "1", run="r", built_by="person/ben", now=datetime.now(timezone.utc))
    found = make_site_world(world)
    vera = found.client_for("vera")
    page = vera.get(f"{BASE}/package.html")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["content-disposition"].startswith("attachment")
    bom = vera.get(f"{BASE}/bom.json")
    assert json.loads(bom.content)["bomFormat"] == "CycloneDX"
    found.site.store.close()
