"""Pages lead back to the run in Dagster, and what can be downloaded is offered where it is seen: all of it, and nothing that is not there."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from cognify_dagster.records import DatasetSnapshot, EvidenceItem, Package, Record, SignOff, TrainingRun, VersionOpened
from cognify_dagster.review.reading.runs import Run, runs_of
from tests.governance.world import MODEL
from tests.review.reading.conftest import look
from tests.review.site_world import Client, SiteWorld

RUN, OTHER = "0f7a1c1e-1111-4222-8333-123456789abc", "1f7a1c1e-1111-4222-8333-123456789abc"
URL = "https://dagster.example"


def observed(record: Record, **observed: str) -> Record:
    return record.model_copy(update={"observed": observed})


# --- runs ------------------------------------------------------------------------------------------------------------------


def opened(run: str) -> VersionOpened:
    return VersionOpened(model=MODEL, version="9", run=run, opened_by="person/ben")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (None, ()),
        (opened(RUN), (Run(RUN, f"{URL}/runs/{RUN}"),)),
        (opened("run-9"), (Run("run-9"),)),
        (opened(f"cli:{RUN}"), (Run(f"cli:{RUN}"),)),
        (observed(opened(RUN), dagster_run=RUN, run=RUN), (Run(RUN, f"{URL}/runs/{RUN}"),)),
        (
            observed(opened(RUN), dagster_run=OTHER),
            (Run(OTHER, f"{URL}/runs/{OTHER}"), Run(RUN, f"{URL}/runs/{RUN}", first=True)),
        ),
        (observed(opened(f"{RUN}/9")), (Run(RUN, f"{URL}/runs/{RUN}"),)),
        (opened("../../evil"), (Run("../../evil"),)),
    ],
)
def test_a_run_is_linked_only_in_the_form_that_dagster_gives(record: Record | None, found: tuple[Run, ...]) -> None:
    assert runs_of(record, URL) == found
    assert not any(run.address for run in runs_of(record, ""))


def put(site: SiteWorld) -> int:
    """Version 9, opened and trained by a run of Dagster, and a snapshot that another one took; return the snapshot's entry."""
    world = site.world
    base = world.workspace.read().latest(TrainingRun, f"model/{MODEL}@1")
    assert base is not None
    world.write(opened(RUN))
    world.write(observed(base.record.model_copy(update={"version": "9"}), dagster_run=RUN, run=RUN))
    snapshot = world.workspace.read().all(DatasetSnapshot)[0].record
    return world.write(observed(snapshot.model_copy(update={"root": "ef" * 32}), dagster_run=OTHER, run=OTHER))


@pytest.mark.parametrize("url", [URL, ""])
def test_every_page_of_what_a_run_wrote_leads_to_the_run(site_world: SiteWorld, url: str) -> None:
    seq = put(site_world)
    site_world.site.config = replace(site_world.site.config, dagster_url=url)
    look(site_world)
    vera = site_world.client_for("vera")
    trained = site_world.site.read().latest(TrainingRun, f"model/{MODEL}@9")
    assert trained is not None
    pages = {
        f"/models/{MODEL}": RUN,
        f"/models/{MODEL}/9": RUN,
        f"/ledger/entries/{trained.seq}": RUN,
        f"/ledger/entries/{seq}": OTHER,
        "/datasets/loans_train": OTHER,
    }
    for path, run in pages.items():
        text = vera.get(path).text
        assert run in text, path
        assert (f'href="{URL}/runs/{run}"' in text) == bool(url), path


def test_the_package_page_names_its_runs_on_paper_too(site_world: SiteWorld) -> None:
    put(site_world)
    package = site_world.site.read().latest(Package, f"model/{MODEL}@1")
    assert package is not None
    site_world.world.write(observed(package.record.model_copy(update={"version": "9"}), run=OTHER))
    site_world.site.config = replace(site_world.site.config, dagster_url=URL)
    text = site_world.client_for("vera").get(f"/models/{MODEL}/9").text
    assert text.count(f"{URL}/runs/{RUN}") == 2, "above, and where paper shows it"
    runs = text[text.index("<dt>Runs</dt>") :]
    runs = runs[: runs.index("</dd>")]
    assert f'opened and trained it: <a href="{URL}/runs/{RUN}"' in re.sub(r"\s*\n\s*", " ", runs)
    assert f"{URL}/runs/{OTHER}" in runs


# --- files -----------------------------------------------------------------------------------------------------------------


def offered(text: str) -> list[str]:
    """The addresses of the files that a page offers."""
    found = re.findall(
        r'href="([^"]*/(?:download|statements|evidence|entries/\d+/(?:proof|bytes)|croissant)[^"]*)"', text
    )
    return sorted({html.unescape(item) for item in found})


def pages_of(site: SiteWorld) -> list[str]:
    """Every page that offers files, of the newest version and of one that was signed and released."""
    reading = site.site.read()
    package, signed = reading.all(Package)[-1], reading.all(SignOff)[-1]
    version, receipt = (f"/models/{MODEL}/{item.record.version}" for item in (package, signed))
    return [
        "/", "/ledger", "/policy", f"/models/{MODEL}", version, f"{version}/sign", f"{version}/compare?with={signed.record.version}",
        f"/ledger/entries/{package.seq}", f"/ledger/entries/{signed.seq}", receipt, f"{receipt}/receipt/{signed.seq}",
    ]  # fmt: skip


def assert_all_there(client: Client, pages: list[str]) -> dict[str, list[str]]:
    """Open every file that the pages offer; return what each page offers."""
    told = {path: offered(client.get(path).text) for path in pages}
    for path, links in told.items():
        for link in links:
            answer = client.get(link, follow_redirects=True)  # a bundle that is not made yet leads to where it is
            assert answer.status_code == 200, (path, link, answer.status_code, answer.text[:300])
    return told


def test_what_is_offered_is_there(told_site: SiteWorld) -> None:
    look(told_site)
    vera = told_site.client_for("vera")
    told = assert_all_there(vera, pages_of(told_site))
    package = told_site.site.read().all(Package)[-1]
    covered = told_site.site.workspace.ledger.store.checkpoints()[-1][0] > package.seq
    assert any("2/download/proof" in link for link in told["/"]) == covered
    if not covered:
        assert "its proof follows with the next signed head" in vera.get(f"/models/{MODEL}").text
    told_site.world.workspace.ledger.sign_checkpoint()
    told = assert_all_there(vera, pages_of(told_site))
    base = f"/models/{MODEL}/2/download"
    names = ("package.json", "package.html", "model-card.md", "proof.txt", "bundle.zip")
    for path in (
        "/",
        f"/models/{MODEL}",
        f"/models/{MODEL}/2",
        f"/models/{MODEL}/2/sign",
        f"/ledger/entries/{package.seq}",
    ):
        for name in names:
            assert f"{base}/{name}" in told[path], (path, name)
        assert f"{base}/review.pdf" not in told[path], "this story made no PDF"
    assert any(link.endswith("/proof") for link in told["/ledger"])


def test_a_receipt_and_a_comparison_offer_the_files_of_their_packages(approved_site: SiteWorld) -> None:
    approved_site.world.workspace.ledger.sign_checkpoint()
    vera = approved_site.client_for("vera")
    seq = approved_site.site.read().all(SignOff)[-1].seq
    for path in (f"/models/{MODEL}/1/receipt/{seq}", f"/models/{MODEL}/1/compare?with=1", f"/ledger/entries/{seq}"):
        links = {urlsplit(link).path.rpartition("/")[2] for link in offered(vera.get(path).text)}
        assert {"review.pdf", "package.json", "package.html", "model-card.md", "proof.txt", "bundle.zip"} <= links, path


def test_evidence_that_is_sealed_is_offered_only_to_those_who_may_read_it(site_world: SiteWorld) -> None:
    world = site_world.world
    package = world.workspace.read().latest(Package, f"model/{MODEL}@1")
    assert package is not None
    sealed = world.workspace.put("package.json", b'{"secret": 1}', "application/json", sensitivity="confidential")
    assert isinstance(sealed, EvidenceItem)
    world.write(package.record.model_copy(update={"revision": 2, "package": sealed, "review_copy": None}))
    world.enrol("nora")
    look(site_world)
    path = f"/models/{MODEL}/1"
    mine, hers = (offered(site_world.client_for(name).get(path).text) for name in ("vera", "nora"))
    assert any("package.json" in link for link in mine)
    assert not any("package.json" in link or "bundle.zip" in link or "package.html" in link for link in hers)
    assert site_world.client_for("nora").get(f"{path}/download/package.json").status_code == 403
    assert not any("review.pdf" in link for link in mine), "this package has no PDF"
