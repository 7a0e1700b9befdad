"""The ledger under attack, in SQLite and in Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.places import Place, PostgresPlace, SqlitePlace, World, build
from tests.ledger.drafts import ORIGIN

STORES = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


@pytest.fixture(params=STORES)
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes empty ledgers of one kind."""
    made: list[Place] = []

    def make(origin: str = ORIGIN) -> Place:
        path = tmp_path / f"ledger-{len(made)}.sqlite"
        made.append(SqlitePlace(path, origin) if request.param == "sqlite" else PostgresPlace(origin))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def world(new_place: Callable[..., Place], tmp_path: Path) -> World:
    """Seven entries, signed heads over three and over seven, an auditor's trust file."""
    return build(new_place(), tmp_path / "keys")


@pytest.fixture(autouse=True)
def _guards_are_not_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacker took Postgres' guards away first. That alone would be a finding in every case (`check_derived`, which has its
    own tests); here the entries, payloads and heads have to show the attack by themselves."""
    monkeypatch.setattr("cognify_dagster.ledger.postgres.store.PostgresStore.check_derived", lambda _: [])
