"""The reconciliation sensor reports materializations that the ledger does not account for, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster import LedgerResource
from cognify_dagster.records import Reconciliation
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk


class Watch:
    """The sensor over several ticks, with the cursor that the daemon keeps."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> str:
        """Evaluate once; return what it says."""
        context = dg.build_sensor_context(
            instance=self.instance,
            instance_ref=self.instance.get_ref(),
            definitions=project.defs,
            resources={"ledger": LedgerResource()},
            cursor=self.cursor,
        )
        data = project.defs.resolve_sensor_def("tiny_reconciliation_sensor").evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        assert not data.run_requests
        return data.skip_message or ""


@pytest.fixture
def watched(sit: Callable[[stock.Stock], Desk], released: stock.Stock, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose instance holds honest materializations of every asset."""
    desk = sit(released)
    assert released.home is not None
    shutil.copytree(released.home, tmp_path / "home")
    with dg.instance_for_test(temp_dir=str(tmp_path / "home"), set_dagster_home=False) as instance:
        desk.instance = instance
        yield desk


def findings(desk: Desk) -> list[Reconciliation]:
    return [item.record for item in desk.all(Reconciliation)]


def forge(desk: Desk, asset: str, partition: str | None, **metadata: object) -> None:
    desk.instance.report_runless_asset_event(
        dg.AssetMaterialization(asset_key=asset, partition=partition, metadata=metadata)
    )


def test_honest_materializations_give_no_finding(watched: Desk):
    watch = Watch(watched.instance)
    assert watch.tick() == "every materialization is accounted for by a ledger entry"
    assert findings(watched) == []


@pytest.mark.parametrize(
    ("asset", "partition"),
    [
        ("tiny_model", "v1"),
        ("tiny_package", "v1"),
        (project.SERVICE, "v1"),
        ("tiny_train", None),
        ("tiny_holdout", None),
    ],
)
def test_a_materialization_reported_by_hand_is_one_finding_within_one_tick(
    watched: Desk, asset: str, partition: str | None
):
    watch = Watch(watched.instance)
    watch.tick()
    forge(watched, asset, partition)
    assert "1 new findings" in watch.tick()
    (finding,) = findings(watched)
    assert finding.code == "unattested_materialization"
    assert finding.asset == asset
    assert finding.model == "tiny"
    assert finding.version == partition
    assert "without a run" in finding.text
    watch.tick()
    assert len(findings(watched)) == 1


def test_a_sensor_that_lost_its_cursor_reports_nothing_twice(watched: Desk):
    forge(watched, "tiny_model", "v1")
    Watch(watched.instance).tick()
    Watch(watched.instance).tick()
    assert len(findings(watched)) == 1
    watch = Watch(watched.instance)
    watch.cursor = "not json"
    watch.tick()
    assert len(findings(watched)) == 1


def bypass(desk: Desk, **metadata: object) -> None:
    """Another code location materializes the deployment in a real run, with metadata of its choice."""

    @dg.asset(name=project.SERVICE, partitions_def=project.tiny.partitions)
    def service() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=metadata)

    assert dg.materialize([service], instance=desk.instance, partition_key="v1").success


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, "it names no ledger entry"),
        (
            {"cognify/ledger_entry": 10_000, "cognify/entry_leaf": "00"},
            "names entry 10000, which the ledger does not have",
        ),
        ({"cognify/ledger_entry": -1, "cognify/entry_leaf": "00"}, "names entry -1, which the ledger does not have"),
        ({"cognify/ledger_entry": "5", "cognify/entry_leaf": "00"}, "names entry 5, which the ledger does not have"),
        ({"cognify/ledger_entry": 5, "cognify/entry_leaf": "00"}, "names entry 5 with another leaf hash"),
    ],
)
def test_a_run_that_made_up_its_entry_is_a_finding(watched: Desk, metadata: dict, text: str):
    bypass(watched, **metadata)
    Watch(watched.instance).tick()
    (finding,) = findings(watched)
    assert text in finding.text


def test_a_run_that_names_an_honest_entry_of_something_else_is_a_finding(watched: Desk):
    """Entry and leaf are no secrets; they must be those of a completed deployment of this very version."""
    entry = watched.workspace.read().view.entries[5].entry
    bypass(watched, **{"cognify/ledger_entry": 5, "cognify/entry_leaf": entry.leaf.hex()})
    Watch(watched.instance).tick()
    (finding,) = findings(watched)
    assert "not of model/tiny@v1" in finding.text


def test_wiped_assets_and_deleted_runs_do_not_stop_the_sensor(watched: Desk):
    watch = Watch(watched.instance)
    watch.tick()
    watched.instance.wipe_assets([dg.AssetKey("tiny_model"), dg.AssetKey("tiny_package")])
    for run in watched.instance.get_runs():
        watched.instance.delete_run(run.run_id)
    said = watch.tick()
    assert said.startswith("every materialization is accounted for by a ledger entry; Dagster no longer shows v1 of ")
    assert "tiny_model" in said
    assert "`cognify dagster resync`" in said
    assert findings(watched) == []
    forge(watched, "tiny_model", "v1")
    watch.tick()
    assert len(findings(watched)) == 1
    watched.instance.wipe_assets([dg.AssetKey("tiny_model")])
    assert Watch(watched.instance).tick().startswith("every materialization is accounted for by a ledger entry; ")
    assert len(findings(watched)) == 1  # what was found stays found
    watched.assert_verifies()


def test_many_events_are_read_over_several_ticks(watched: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cognify_dagster.orchestration.reconciling.EVENTS_A_TICK", 2)
    for _ in range(5):
        forge(watched, "tiny_model", "v1")
    watch = Watch(watched.instance)
    seen = []
    for _ in range(4):
        watch.tick()
        seen.append(len(findings(watched)))
    assert seen == [1, 3, 5, 5]
