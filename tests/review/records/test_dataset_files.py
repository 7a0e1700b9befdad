"""What a dataset's pages offer to download is there: manifest, profile, description, proof of each snapshot, the difference people sign."""

from __future__ import annotations

import html
import json
import re

from cognify_dagster.datasets.recording import record_diff
from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot
from tests.review.site_world import Client, SiteWorld


def offered(client: Client, path: str) -> list[str]:
    """Every file that a page offers; each was opened."""
    lines = re.findall(r'<ul class="links files">.*?</ul>', client.get(path).text, re.DOTALL)
    found = [html.unescape(link) for line in lines for link in re.findall(r'href="([^"]+)"', line)]
    for link in found:
        assert client.get(link).status_code == 200, (path, link)
    return found


def test_each_snapshot_has_its_manifest_profile_description_and_proof(site: SiteWorld) -> None:
    site.world.workspace.ledger.sign_checkpoint()
    found = offered(site.client_for("vera"), "/datasets/claims")
    for item in site.site.read().all(DatasetSnapshot, "dataset/claims"):
        record = item.record
        for link in (
            f"/ledger/entries/{item.seq}/evidence/{record.manifest.digest}",
            f"/ledger/entries/{item.seq}/evidence/{record.profile.digest}",
            f"/datasets/claims/croissant.json?root={record.root}",
            f"/ledger/entries/{item.seq}/proof",
            f"/ledger/entries/{item.seq}/bytes",
        ):
            assert link in found or link.replace(":", "%3A") in found, link


def test_the_difference_is_at_hand_as_it_is_signed(site: SiteWorld) -> None:
    newest = site.site.read().all(DatasetSnapshot, "dataset/claims")[-1]
    record_diff(site.world.workspace, "claims", newest.seq)
    site.world.workspace.ledger.sign_checkpoint()
    vera = site.client_for("vera")
    recorded = site.site.read().all(DatasetDiffRecorded, "dataset/claims")[-1]
    assert recorded.record.report is not None
    for path in ("/datasets/claims", "/datasets/claims/diff"):
        links = [link for link in offered(vera, path) if f"/entries/{recorded.seq}/" in link]
        report = next(link for link in links if "/evidence/" in link)
        assert json.loads(vera.get(report).content)
        assert f"/ledger/entries/{recorded.seq}/proof" in links
