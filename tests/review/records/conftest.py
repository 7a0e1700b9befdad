"""A site that the tests of this folder share: built once, and what a test adds to it matters to no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from cognify_dagster.datasets import Provenance, take_snapshot
from cognify_dagster.datasets.recording import record_snapshot
from tests.governance.world import World, clone
from tests.review.site_world import SiteWorld, make_site_world

OLD: dict[str, Any] = {
    "id": [1, 2, 3, 4],
    "income": [10.0, 20.0, None, 40.0],
    "sex": ["f", "m", "f", "m"],
    "y": [0, 1, 0, 1],
}
NEW: dict[str, Any] = {
    "id": [5, 4, 2, 3],
    "income": [50.0, 40.0, 21.0, None],
    "sex": ["f", "m", "m", "f"],
    "y": [1, 1, 0, 0],
}


def snapshot(world: World, columns: dict[str, Any], run: str, name: str = "claims", reason: str = "") -> Any:
    """Take and record a real snapshot of a small table."""
    told = Provenance(
        source="Claims <b>2025</b>", owner="team:claims", licence="internal", collected_unknown="made up",
        collected_how="by form",
    )  # fmt: skip
    taken = take_snapshot(
        pa.table(columns), name=name, provenance=told, record_key="id", label="y", group_columns=["sex"]
    )
    table = pa.table(columns)
    return record_snapshot(
        world.workspace, taken, run=run, record_key="id", label="y", change_reason=reason, table=table,
        author="person/ben",
    )  # fmt: skip


@pytest.fixture(scope="session")
def site(approved_template: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteWorld]:
    """Version 1 is approved; the dataset `claims` has two snapshots; a personal blob is named by an evaluation."""
    world = clone(approved_template, tmp_path_factory.mktemp("records") / "world")
    snapshot(world, OLD, "one")
    snapshot(world, NEW, "two", reason="the quarter ended")
    found = make_site_world(world)
    yield found
    found.site.store.close()
