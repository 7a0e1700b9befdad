"""Pages that share a route with others but look otherwise: entries of signed acts, a version without a package, an earlier revision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cognify_dagster.records import (
    DatasetSnapshot,
    FindingOpened,
    PersonEnrolled,
    Record,
    SignOff,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
)
from tests.browser.chromium import Someone
from tests.browser.prepared import MODEL
from tests.browser.served import Served
from tests.browser.test_pages import WIDE, assert_accessible

RUN = "0f7a1c1e-1111-4222-8333-123456789abc"
LATER = "v9"


@pytest.fixture(scope="module")
def carl(running: Served) -> Iterator[Someone]:
    """A compliance officer."""
    yield running.signed_in("carl", viewport=WIDE)
    running.close_windows()


@pytest.fixture(scope="module")
def failed(running: Served) -> str:
    """The page of a version whose training failed."""
    put = running.site.workspace.append
    put(VersionOpened(model=MODEL, version=LATER, run=RUN, opened_by="person/ben"), idem="1" * 64)
    put(
        TrainingFailed(model=MODEL, version=LATER, run=RUN, reason="MemoryError: the table is too large"), idem="2" * 64
    )
    return f"/models/{MODEL}/{LATER}"


def newest(site: Served, kind: type[Record]) -> str:
    return f"/ledger/entries/{site.site.read().all(kind)[-1].seq}"


@pytest.mark.parametrize("kind", [SignOff, FindingOpened, PersonEnrolled, DatasetSnapshot, TrainingRun])
def test_an_entry_is_accessible(kind: type[Record], running: Served, carl: Someone) -> None:
    assert_accessible(carl, newest(running, kind))


def test_the_first_entry_is_accessible(carl: Someone) -> None:
    assert_accessible(carl, "/ledger/entries/0")
    assert carl.page.get_by_text("the signature verifies").count() == 2, "both founders"


def test_a_version_without_a_package_is_accessible_and_says_what_to_do(failed: str, carl: Someone) -> None:
    assert_accessible(carl, failed)
    assert "Training failed" in carl.text
    assert "Materialize the training asset for this version again" in carl.text
    carl.page.goto(f"/models/{MODEL}")
    carl.page.get_by_role("link", name=LATER, exact=True).first.click()
    assert carl.page.url.endswith(failed)


def test_the_envelope_opens_without_a_script(running: Served) -> None:
    reader = running.signed_in("carl", scripts=False)
    reader.page.goto(newest(running, FindingOpened))
    raw = reader.page.get_by_label("Envelope (DSSE)")
    assert not raw.is_visible()
    reader.page.get_by_text("The exact statement and its envelope").click()
    assert raw.is_visible()
    assert '"payloadType": "application/vnd.in-toto+json"' in raw.inner_text()
    running.close_windows()
