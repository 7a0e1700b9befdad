"""A snapshot in Dagster steps: the same root under any executor, with a worker killed, and nothing on record before the end."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster.datasets import Provenance, take_snapshot
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot
from tests.orchestration import distributed_project as project
from tests.orchestration.desk import Desk

PREFIX = "cognify/"


@pytest.fixture
def parts(new_desk: Desk) -> Path:
    return project.write(new_desk.folder / "data" / "parts")


def truth(parts: Path, **options: Any) -> Any:
    return take_snapshot(parts, name="parts", provenance=project.PROVENANCE, **options)


def job(desk: Desk, *, retries: int, records: bool = True) -> Any:
    """The project's job, to be made again in each step's process."""
    arguments = (str(desk.folder), retries, records)
    return dg.build_reconstructable_job(project.__name__, "job", reconstructable_args=arguments)


def take(desk: Desk, *assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    resources = {"ledger": cg.LedgerResource()}
    return dg.materialize(list(assets), instance=desk.instance, resources=resources, tags={"user": "ben"}, **options)


def failure(result: dg.ExecuteInProcessResult | dg.JobExecutionResult) -> str:
    event = next(event for event in result.all_events if event.is_step_failure)
    data = event.step_failure_data
    if data.user_failure_data is not None:
        return str(data.user_failure_data.description)
    return str(data.error)


def began(desk: Desk, step: str) -> int:
    path = desk.folder / "began.txt"
    return path.read_text().split().count(step) if path.exists() else 0


def staged(desk: Desk) -> list[Path]:
    place = desk.workspace.home / "cache" / "staging"
    return [item for folder in place.glob("*") for item in folder.iterdir()]


def test_it_records_what_a_plain_snapshot_records(new_desk: Desk, parts: Path) -> None:
    result = take(new_desk, project.asset())
    (event,) = result.asset_materializations_for_node("parts")
    shown = dict(event.metadata)
    (recorded,) = new_desk.all(DatasetSnapshot, "dataset/parts")
    record, one = recorded.record, truth(parts)
    assert record.data_version == one.data_version
    assert event.tags["dagster/data_version"] == one.data_version
    assert (record.record_count, record.record_root) == (150, one.record_root)
    assert shown[f"{PREFIX}ledger_entry"].value == recorded.seq
    assert shown[f"{PREFIX}author"].text == "Ben (person/ben)"
    assert shown["dagster/row_count"].value == 150
    assert record.change_reason == "for this test"
    assert record.observed["run"] == result.run_id
    assert record.observed["verify"] == "full"
    assert new_desk.all(DatasetDiffRecorded)[-1].record.new_root == one.root
    assert staged(new_desk) == []
    plain = cg.build_dataset_snapshot("plain", str(parts), provenance=project.PROVENANCE, change_reason="for this test")
    (other,) = take(new_desk, plain).asset_materializations_for_node("plain")
    assert set(dict(other.metadata)) == set(shown)
    again = cg.Snapshot(new_desk.workspace, recorded)
    assert again.table().num_rows == 150
    new_desk.assert_verifies()


def test_a_worker_that_is_killed_is_replaced_and_the_root_is_the_same(
    new_desk: Desk, own_instance: dg.DagsterInstance, parts: Path
) -> None:
    for step in ("map_portion", "map_records", "reduce_step"):
        (new_desk.folder / f"kill-{step}").touch()
    with dg.execute_job(
        job(new_desk, retries=1), instance=own_instance, tags={"user": "ben"}, raise_on_error=False
    ) as result:
        assert result.success, failure(result)
        restarted = [event.step_key for event in result.all_events if event.event_type_value == "STEP_RESTARTED"]
    assert len(restarted) == 3
    assert (began(new_desk, "map_portion"), began(new_desk, "reduce_step")) == (3, 3)
    (recorded,) = new_desk.all(DatasetSnapshot, "dataset/parts")
    assert recorded.record.root == truth(parts).root
    new_desk.assert_verifies()


def test_without_a_retry_the_run_fails_with_nothing_on_record_and_goes_on_from_there(
    new_desk: Desk, own_instance: dg.DagsterInstance, parts: Path
) -> None:
    (new_desk.folder / "kill-reduce_step").touch()
    plain = job(new_desk, retries=0, records=False)
    size = new_desk.workspace.ledger.size()
    with dg.execute_job(plain, instance=own_instance, tags={"user": "ben"}, raise_on_error=False) as failed:
        assert not failed.success
    assert new_desk.workspace.ledger.size() == size, "nothing is on record"
    assert len(staged(new_desk)) == 1
    options = dg.ReexecutionOptions.from_failure(failed.run_id, own_instance)
    with dg.execute_job(
        plain, instance=own_instance, tags={"user": "ben"}, reexecution_options=options, raise_on_error=False
    ) as second:
        assert second.success, failure(second)
    assert (began(new_desk, "list_portions"), began(new_desk, "map_portion")) == (1, 2)
    (recorded,) = new_desk.all(DatasetSnapshot, "dataset/parts")
    assert recorded.record.root == truth(parts, records=False).root
    assert recorded.record.observed["run"] == failed.run_id
    assert staged(new_desk) == []


def test_a_file_that_is_gone_when_its_turn_comes_fails_the_run_by_name(
    new_desk: Desk, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = project.distributed.map_portion

    def after_a_loss(*given: Any) -> str:
        (parts / "d1" / "part-001.csv").unlink(missing_ok=True)
        return real(*given)

    monkeypatch.setattr(project.distributed, "map_portion", after_a_loss)
    result = take(new_desk, project.asset(), raise_on_error=False)
    assert not result.success
    assert "part-001.csv" in failure(result)
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert new_desk.all(DatasetSnapshot) == []


def test_staged_rows_that_were_altered_are_refused(
    new_desk: Desk, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = project.distributed.reduce_step

    def after_a_forgery(staging: Any, *given: Any) -> str:
        (folder,) = staged(new_desk)
        for item in folder.glob("rows-*"):
            item.write_bytes(item.read_bytes()[:-1] + b"!")
        return real(staging, *given)

    monkeypatch.setattr(project.distributed, "reduce_step", after_a_forgery)
    result = take(new_desk, project.asset(), raise_on_error=False)
    assert "does not hold what an earlier step left" in failure(result)
    assert new_desk.all(DatasetSnapshot) == []


def test_partitions_upstream_assets_and_a_staging_address(new_desk: Desk, tmp_path: Path) -> None:
    @dg.asset
    def raw() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("raw-1"))

    @cg.distributed_snapshot(
        provenance=project.PROVENANCE,
        deps=[raw],
        partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
        records=False,
        staging=f"file://{tmp_path}/staging",
        owners=["team:tests"],
    )
    def many(context: dg.AssetExecutionContext, partition: str) -> cg.SnapshotSource:
        """Many files."""
        folder = project.write(tmp_path / partition, 3)
        return cg.SnapshotSource(
            folder,
            change_reason=f"part {partition}",
            sources=[{"table": "warehouse.many", "version": "3"}],
            metadata={"cut": partition},
            provenance=Provenance(source="elsewhere", owner="team:tests"),
        )

    result = take(new_desk, raw, many, partition_key="b")
    assert result.success
    (recorded,) = new_desk.all(DatasetSnapshot, "dataset/many@b")
    record = recorded.record
    assert record.root == take_snapshot(tmp_path / "b", name="x", provenance=Provenance(), records=False).root
    assert record.change_reason == "part b"
    assert record.provenance["source"] == "elsewhere"
    assert {item.name for item in record.sources} == {"warehouse.many", "raw"}
    (event,) = result.asset_materializations_for_node("many")
    assert event.metadata["cut"].text == "b"
    assert event.partition == "b"
    (spec,) = many.specs
    assert (spec.group_name, spec.owners, spec.metadata["cognify/role"]) == ("datasets", ["team:tests"], "dataset")
    assert "dataset" in spec.kinds
    assert spec.partitions_def is not None
    assert not list((tmp_path / "staging").rglob("rows-*"))


def test_a_change_is_compared_with_the_version_before(new_desk: Desk, parts: Path) -> None:
    assert take(new_desk, project.asset()).success
    (parts / "d0" / "part-000.csv").write_text("id,amount\n0,9.5\n")
    result = take(new_desk, project.asset())
    (event,) = result.asset_materializations_for_node("parts")
    assert event.metadata[f"{PREFIX}difference"].text == "1 file changed, 1 record added, 5 records removed"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (17, "return a path or an fsspec address"),
        (cg.SnapshotSource("x", quality=[len]), "not offered by distributed_snapshot"),
        (cg.SnapshotSource("x", metadata={"a": object()}), "has to be a text, number or boolean"),
        ("nowhere/at/all", "does not exist"),
    ],
    ids=["number", "quality", "metadata", "missing"],
)
def test_what_is_not_possible_in_steps_is_refused(new_desk: Desk, returned: Any, message: str) -> None:
    found = cg.build_distributed_snapshot("odd", lambda: returned, provenance=project.PROVENANCE)
    result = take(new_desk, found, raise_on_error=False)
    assert message in failure(result)
    assert new_desk.all(DatasetSnapshot) == []


def test_a_partitioned_one_needs_a_function() -> None:
    with pytest.raises(UsageError, match="needs a function"):
        cg.build_distributed_snapshot("odd", "a/path", partitions_def=dg.StaticPartitionsDefinition(["a"]))
