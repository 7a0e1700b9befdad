"""Which entries an auditor from outside sees: a list of kinds, and no kind that is not in it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cognify_dagster.ledger import Entry
from cognify_dagster.records import Reconciliation, kinds
from cognify_dagster.review.access.browsing import Filters, browse
from cognify_dagster.review.access.kinds import KINDS, Shown
from cognify_dagster.review.access.scope import sees_entry
from cognify_dagster.review.identity.user import User, user_of
from cognify_dagster.workspace import Reading
from tests.governance.world import MODEL, World, clone
from tests.review.records.test_grants import grant
from tests.review.site_world import SiteWorld, make_site_world

ALL = sorted(kinds())


@pytest.fixture(scope="module")
def site(ready_template: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteWorld]:
    found = make_site_world(clone(ready_template, tmp_path_factory.mktemp("scope") / "world"))
    yield found
    found.site.store.close()


@pytest.fixture(scope="module")
def reading(site: SiteWorld) -> Reading:
    return site.site.read()


@pytest.fixture(scope="module")
def vera(site: SiteWorld, reading: Reading) -> User:
    found = user_of(reading, site.account("vera"), site.site.now())
    assert found is not None
    return found


def auditor(vera: User, *models: str) -> User:
    """An auditor from outside of all models, or of these."""
    account = SimpleNamespace(grant_seq=7, id="a")
    return User(account, None, "Iva", frozenset(), frozenset(models) if models else None)  # type: ignore[arg-type]


def entry(kind: str, *subjects: str, seq: int = 5) -> Entry:
    """What of an entry the scope looks at."""
    found: Any = SimpleNamespace(kind=kind, subjects=subjects, seq=seq)
    return found  # type: ignore[no-any-return]


def test_every_kind_of_record_was_decided_about() -> None:
    """A new kind is hidden from every auditor. Decide in `access.kinds` to whom it is shown, and the tests below hold you to it."""
    assert set(KINDS) == set(ALL)


def test_a_kind_that_nobody_decided_about_is_hidden_from_auditors_and_not_from_people(
    reading: Reading, vera: User
) -> None:
    for subjects in (("people",), (f"model/{MODEL}",), ("dataset/loans_train",), ("ledger",)):
        found = entry("something_new", *subjects)
        assert not sees_entry(reading, auditor(vera, MODEL), found)
        assert not sees_entry(reading, auditor(vera), found)
        assert sees_entry(reading, vera, found)


@pytest.mark.parametrize("kind", ALL)
def test_no_kind_tells_an_auditor_of_one_model_about_another(reading: Reading, vera: User, kind: str) -> None:
    mine = auditor(vera, MODEL)
    for subjects in (
        ("model/other",),
        ("model/other@1", "person/vera"),
        (f"model/{MODEL}@1", "model/other@2"),
        ("oversight/other",),
        ("release/other.production",),
        ("experiment/other",),
        ("external", "external/other", "external/other@1"),
    ):
        assert not sees_entry(reading, mine, entry(kind, *subjects)), subjects
    assert sees_entry(reading, auditor(vera), entry(kind, "model/other"))


@pytest.mark.parametrize("kind", ALL)
def test_each_kind_is_shown_as_decided(reading: Reading, vera: User, kind: str) -> None:
    rule, mine = KINDS[kind], auditor(vera, MODEL)
    seen = {
        "own model": sees_entry(reading, mine, entry(kind, f"model/{MODEL}", f"model/{MODEL}@1", "person/vera")),
        "used data": sees_entry(reading, mine, entry(kind, "dataset/loans_train@2026", "person/vera")),
        "other data": sees_entry(reading, mine, entry(kind, "dataset/loans_train", "dataset/secret")),
        "nothing": sees_entry(reading, mine, entry(kind, "people", "holds", "auditors")),
        "own grant": sees_entry(reading, mine, entry(kind, "auditors", seq=7)),
    }
    expected = {
        Shown.MODEL: {"own model"},
        Shown.DATA: {"used data"},
        Shown.MODEL_OR_DATA: {"own model", "used data"},
        Shown.COMMON: set(seen),
        Shown.OWN_GRANT: {"own grant"},
        Shown.NEVER: set(),
    }[rule]
    assert {name for name, shown in seen.items() if shown} == expected


def test_a_finding_about_no_model_is_not_for_an_auditor_of_some(site: SiteWorld) -> None:
    """The list of what was hidden had forgotten it: its text names assets of any model."""
    seq = site.world.write(
        Reconciliation(code="unknown_run", asset="other_model_training", text="run 7 is in no entry")
    )
    reading = site.site.read()
    vera = user_of(reading, site.account("vera"), site.site.now())
    assert vera is not None
    found = reading.view.entry(seq).entry
    assert not sees_entry(reading, auditor(vera, MODEL), found)
    assert sees_entry(reading, auditor(vera), found)
    assert sees_entry(reading, vera, found)


def test_a_page_of_entries_is_made_by_the_same_list(site: SiteWorld) -> None:
    seq = grant(site.world, models=[MODEL])
    reading = site.site.read()
    vera = user_of(reading, site.account("vera"), site.site.now())
    assert vera is not None
    mine = auditor(vera, MODEL)
    shown = {item.entry.seq for item in browse(reading, mine, Filters(), limit=10_000).items}
    assert shown == {item.entry.seq for item in reading.view.entries if sees_entry(reading, mine, item.entry)}
    assert seq not in shown
    assert {"genesis", "sign_off", "policy_adopted"} & {reading.view.entry(number).entry.kind for number in shown}
