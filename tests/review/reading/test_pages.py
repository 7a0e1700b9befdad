"""The pages of a model, a package and a comparison: in order, true at the moment of display, and safe to show."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from cognify_dagster.records import Package, SignOff, TrainingRun, VersionOpened
from cognify_dagster.review.reading.comparison import shown_value
from tests.governance.world import MODEL
from tests.review.reading.conftest import look
from tests.review.site_world import SiteWorld

TEMPLATES = Path(__file__).parents[3] / "templates"
REPORT_ORDER = (
    "Identity and verification", "Where it stands", "Coverage by requirement", "Evaluation", "Training and data", "Lineage",
    "Changes since I last approved", "Findings", "Evidence register", "Sections written by people", "Signatures", "Downloads",
)  # fmt: skip


def page(found: SiteWorld, name: str, path: str, status: int = 200) -> str:
    answer = found.client_for(name).get(path)
    assert answer.status_code == status, answer.text[:500]
    text: str = answer.text
    return text


def headings(text: str) -> list[str]:
    return re.findall(r"<h2 id=\"[^\"]+\">([^<]+)</h2>", text)


def digest_of(found: SiteWorld, version: str) -> str:
    package = found.site.read().latest(Package, f"model/credit_default@{version}")
    assert package is not None
    return package.record.package.digest.removeprefix("sha256:")


# --- the package page ----------------------------------------------------------------------------------------------------


def test_the_package_is_read_in_the_order_of_an_audit_report(told_site: SiteWorld) -> None:
    found = headings(page(told_site, "vera", "/models/credit_default/2"))
    places = [found.index(title) for title in REPORT_ORDER]
    assert places == sorted(places)


def test_the_page_shows_the_digest_that_it_computed_and_the_checkpoint_that_covers_it(told_site: SiteWorld) -> None:
    told_site.world.workspace.ledger.sign_checkpoint()
    text = page(told_site, "vera", "/models/credit_default/2")
    digits = digest_of(told_site, "2")
    assert " ".join(digits[n : n + 8] for n in range(0, 64, 8)) in text
    assert "the stored bytes have this digest" in text
    size = told_site.site.read().size
    assert f"of the first {size} of {size} entries, signed by example.org/credit" in text
    assert "L1" in text
    assert "covered by that checkpoint" in text
    assert told_site.site.read().view.root.hex()[:8] in text


def test_bytes_that_are_not_those_of_the_ledger_are_not_shown(
    told_site: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the stored bytes have this digest" in page(
        told_site, "vera", "/models/credit_default/2"
    )  # rendered and kept
    real = told_site.site.workspace.evidence.get
    monkeypatch.setattr(
        told_site.site.workspace.evidence, "get", lambda digest: real(digest).replace(b"credit", b"kredit")
    )
    text = page(told_site, "vera", "/models/credit_default/2")
    assert "cannot be shown" in text
    assert "other bytes" in text
    assert "the stored bytes have this digest" not in text
    assert "Ranks existing card accounts" not in text


def test_a_package_of_an_older_form_is_told_and_its_standing_still_shown(site_world: SiteWorld) -> None:
    text = page(site_world, "vera", f"/models/{MODEL}/1")
    assert "cannot be shown" in text
    assert "Independent validation" in text
    assert 'href="/models/credit_default/1/sign"' in text


def test_where_it_stands_is_decided_for_the_page_not_taken_from_the_board(site_world: SiteWorld) -> None:
    look(site_world)
    site_world.world.approve("vera")
    text = page(site_world, "carl", f"/models/{MODEL}/1")
    assert re.search(r"/models/credit_default/1/receipt/\d+", text)
    site_world.world.force(site_world.world.sign("carl", "block", comments="Stop <i>here</i>"))
    text = page(site_world, "carl", f"/models/{MODEL}/1")
    assert "Stop &lt;i&gt;here&lt;/i&gt;" in text
    assert "Stop <i>" not in text


def test_who_approved_before_sees_what_changed_since(told_site: SiteWorld) -> None:
    text = page(told_site, "vera", "/models/credit_default/2")
    mine = text[text.index('id="since-mine"') : text.index(">Findings</h2>")]
    assert "You approved version 1 (package revision 1)" in mine
    assert "learning rate" in mine
    assert "0.0600" in mine
    assert "intervals overlap" in mine


def test_who_approved_this_very_package_is_told_that_nothing_changed(told_site: SiteWorld) -> None:
    look(told_site)
    assert "this very package" in page(told_site, "vera", "/models/credit_default/1")
    told_site.world.sign("vera", "2")
    assert "this very package" in page(told_site, "vera", "/models/credit_default/2")


def test_a_rejection_is_no_approval_to_compare_with(told_site: SiteWorld) -> None:
    assert "You have not approved a version" in page(told_site, "ben", "/models/credit_default/2")
    told_site.world.sign("vera", "2", "reject", comments="No")
    assert "You approved version 1" in page(told_site, "vera", "/models/credit_default/2")


def test_signatures_appear_in_the_document_once_they_are_given(told_site: SiteWorld) -> None:
    assert "FOR REVIEW" in page(told_site, "carl", "/models/credit_default/2")
    seq = told_site.world.sign("vera", "2", comments="<img src=x onerror=alert(1)>")
    text = page(told_site, "carl", "/models/credit_default/2")
    assert f"/models/credit_default/2/receipt/{seq}" in text
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_an_earlier_revision_keeps_its_address_and_says_that_it_is_replaced(site_world: SiteWorld) -> None:
    first = site_world.site.read().latest(Package, f"model/{MODEL}@1")
    assert first is not None
    site_world.world.package("1", text="again")
    text = page(site_world, "vera", f"/models/{MODEL}/1?entry={first.seq}")
    assert "earlier revision" in text
    assert "Decide and sign" not in text
    links = re.findall(r'/download/(\S+?)"', text)
    assert links
    assert all(link.endswith("?revision=1") for link in links), "what is downloaded is what is shown"
    assert not any(link.startswith(("bundle.zip", "bom.json")) for link in links), "these are of the newest alone"
    old = site_world.client_for("vera").get(f"/models/{MODEL}/1/download/package.json?revision=1")
    assert "sha256:" + hashlib.sha256(old.content).hexdigest() == first.record.package.digest
    assert "earlier revision" not in page(site_world, "vera", f"/models/{MODEL}/1")
    assert page(site_world, "vera", f"/models/{MODEL}/1?entry=3", 404)


def test_a_version_without_a_package_says_what_happened_so_far(site_world: SiteWorld) -> None:
    site_world.world.write(VersionOpened(model=MODEL, version="9", run="run-9", opened_by="person/ben"))
    text = page(site_world, "vera", f"/models/{MODEL}/9")
    assert "no package yet" in text
    assert "opened" in text


@pytest.mark.parametrize(
    "path", ["/models/nobody", "/models/nobody/1", "/models/credit_default/77", "/models/credit_default/..%2f1"]
)
def test_what_is_not_there_is_not_found(site_world: SiteWorld, path: str) -> None:
    assert page(site_world, "vera", path, 404)


def test_the_run_in_dagster_is_linked_only_by_a_run_id(told_site: SiteWorld) -> None:
    assert "dagster.example" not in page(told_site, "vera", "/models/credit_default/2")
    run = "0f7a1c1e-1111-4222-8333-123456789abc"
    reading = told_site.site.read()
    training = reading.latest(TrainingRun, "model/credit_default@2")
    assert training is not None
    put = told_site.world.workspace.append
    put(VersionOpened(model="credit_default", version="3", run=run, opened_by="person/ben"), idem="a" * 64)
    package = reading.latest(Package, "model/credit_default@2")
    assert package is not None
    put(package.record.model_copy(update={"version": "3"}), idem="b" * 64)
    assert f'href="https://dagster.example/runs/{run}"' in page(told_site, "vera", "/models/credit_default/3")


def test_every_address_needs_a_signed_in_visitor(site_world: SiteWorld) -> None:
    client = site_world.client()
    for path in (
        "/",
        "/models",
        "/models/export.csv",
        f"/models/{MODEL}",
        f"/models/{MODEL}/1",
        f"/models/{MODEL}/1/compare",
    ):
        answer = client.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")


def test_the_blocks_are_those_of_the_document() -> None:
    document = (TEMPLATES / "documents/package.html.j2").read_text()
    macros = document[document.index("{% macro runs") : document.index("<!doctype html>")].rstrip()
    assert (TEMPLATES / "review/blocks.html.j2").read_text().rstrip().endswith(macros)


# --- comparison ----------------------------------------------------------------------------------------------------------


def test_two_versions_stand_side_by_side(told_site: SiteWorld) -> None:
    text = page(told_site, "vera", "/models/credit_default/2/compare?with=1")
    for words in (
        "version 1 beside version 2",
        "Metrics: 1 difference",
        "0.7841",
        "learning rate",
        "No difference in:",
    ):
        assert words in text
    assert digest_of(told_site, "1")[:8] in text


def test_a_version_compared_with_itself_differs_in_nothing(told_site: SiteWorld) -> None:
    assert "Nothing that is compared differs" in page(told_site, "vera", "/models/credit_default/2/compare?with=2")


def test_the_other_version_is_chosen_from_those_with_a_package(told_site: SiteWorld) -> None:
    text = page(told_site, "vera", "/models/credit_default/2/compare")
    assert "<option>1</option>" in text
    assert page(told_site, "vera", "/models/credit_default/2/compare?with=9", 404)
    answer = told_site.client_for("vera").get("/models/credit_default?version=2&with=1")
    assert answer.headers["location"] == "/models/credit_default/2/compare?with=1"


def test_packages_that_cannot_be_read_are_told(site_world: SiteWorld) -> None:
    assert "cannot be compared" in page(site_world, "vera", f"/models/{MODEL}/1/compare?with=1")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), ([], "–"), (0.5, "0.5000"), (True, "yes"), (["a", 1], "a; 1"), ({"b": 1}, '{"b": 1}'), ("x", "x")],
)
def test_values_are_shown_as_a_reader_reads_them(value: object, text: str) -> None:
    assert shown_value(value) == text


# --- the model page ------------------------------------------------------------------------------------------------------


def test_a_model_shows_what_is_in_use_its_versions_their_course_and_its_releases(told_site: SiteWorld) -> None:
    text = page(told_site, "vera", "/models/credit_default")
    assert headings(text) == [
        "In use",
        "Findings that are not closed",
        "Versions",
        "Course",
        "Releases and rollbacks",
        "Periodic reviews",
    ]
    assert "<svg" in text
    assert "style=" not in text  # the content policy would drop it
    for words in ("live on production", "approve: Vera", "package revision 1 built", "(granted)", "in use"):
        assert words in text


def test_each_table_has_a_caption_and_heads(told_site: SiteWorld) -> None:
    for path in (
        "/",
        "/models",
        "/models/credit_default",
        "/models/credit_default/2",
        "/models/credit_default/2/compare?with=1",
    ):
        text = page(told_site, "vera", path)
        tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
        assert tables
        for table in tables:
            assert "<caption" in table
            assert 'scope="col"' in table
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), f"{path}: {sorted(i for i in ids if ids.count(i) > 1)}"


def test_what_waits_is_rendered_before_it_is_opened(told_site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.review.reading import package, preparing

    look(told_site)
    while preparing.prepare(told_site.site, 0.0) is not None:
        pass
    monkeypatch.setattr(package, "build_view", lambda *_, **__: pytest.fail("it was rendered again"))
    assert "FOR REVIEW" in page(told_site, "vera", "/models/credit_default/2")
    assert "the stored bytes have this digest" in page(told_site, "vera", "/models/credit_default/1")


# --- signatures and files, wherever they are shown ------------------------------------------------------------------------


def test_a_signature_is_shown_with_name_time_and_meaning(site_world: SiteWorld) -> None:
    """21 CFR 11.50: the printed name, when it was signed, and what it means, on each display."""
    seq = site_world.world.approve("vera")
    item = site_world.site.read().find(SignOff, seq)
    assert item is not None
    signed = item.record.signed_at.replace("T", " ").removesuffix("Z")
    for path in (f"/models/{MODEL}/1", f"/models/{MODEL}/1/sign", f"/models/{MODEL}/1/receipt/{seq}"):
        text = page(site_world, "carl", path)
        assert "Vera" in text
        assert signed in text.replace("T", " "), path
        meaning = re.search(r"“(I [^”]+|[^”]*independent[^”]*)”", text)
        assert meaning is not None, path


FILES = ("package.json", "proof.txt", "bundle.zip")


def test_files_are_at_hand_wherever_a_package_is_shown(told_site: SiteWorld, approved_site: SiteWorld) -> None:
    base = f"/models/{MODEL}"
    for site, names in ((told_site, FILES), (approved_site, ("review.pdf", *FILES))):
        look(site)
        seq = next(item.seq for item in site.site.read().all(SignOff, f"model/{MODEL}@1"))
        for path in (base, f"{base}/1", f"{base}/1/sign", f"{base}/1/receipt/{seq}"):
            text = page(site, "vera", path)
            for name in names:
                assert f"{base}/1/download/{name}" in text, (path, name)
    assert f"{base}/1/download/bundle.zip" in page(told_site, "vera", f"{base}/2/compare?with=1")
    assert "review.pdf" not in page(told_site, "vera", base), "no link to a file that was not made"


def test_the_entry_of_a_sign_off_leads_to_its_receipt(site_world: SiteWorld) -> None:
    seq = site_world.world.approve("vera")
    assert f'href="/models/{MODEL}/1/receipt/{seq}"' in page(site_world, "carl", f"/ledger/entries/{seq}")
    assert "Read this sign-off" not in page(site_world, "carl", "/ledger/entries/0")
