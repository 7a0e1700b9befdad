"""Changes of data in Dagster: who, why, what changed and who approved it is shown; what the policy asks for is asked for."""

import re
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import yaml

import cognify_dagster as cg
from cognify_dagster.datasets.recording import record_diff
from cognify_dagster.governance import DEFAULT_POLICY_YAML, adopt_policy, decide_change, parse_policy
from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot, TrainingRun, VersionOpened
from tests.orchestration import project
from tests.orchestration.desk import Desk

PREFIX = "cognify/"


def policy(desk: Desk, *rules: Mapping[str, Any]) -> None:
    data = yaml.safe_load(DEFAULT_POLICY_YAML) | {"datasets": list(rules)}
    adopt_policy(desk.workspace, parse_policy(data), "for this test", [desk.keys["ada"], desk.keys["finn"]])


def take(desk: Desk, asset: dg.AssetsDefinition, *more: Any, **options: Any) -> dg.ExecuteInProcessResult:
    resources = {"ledger": cg.LedgerResource()}
    return dg.materialize([asset, *more], instance=desk.instance, resources=resources, tags={"user": "ben"}, **options)


def shown(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return dict(event.metadata)


def test_training_waits_for_the_approval_and_says_whose(new_desk: Desk) -> None:
    policy(new_desk, {"names": ["tiny_train"], "approval": {"role": "model_validator"}})
    assert new_desk.run(project.DATA, None).success
    (snapshot,) = new_desk.all(DatasetSnapshot, "dataset/tiny_train")
    refused = new_desk.run(["tiny_model"])
    assert not refused.success
    for word in (
        "training tiny v1 is refused",
        "dataset tiny_train",
        snapshot.record.root[:16],
        "Vera",
        "cognify dataset approve",
    ):
        assert word in refused.failure
    assert new_desk.entered("training") == 0
    assert not new_desk.all(VersionOpened), "no version was opened for it"
    decide_change(new_desk.workspace, new_desk.keys["vera"], "tiny_train", None, "approve")
    assert new_desk.run(["tiny_model"]).success
    assert new_desk.all(TrainingRun)
    new_desk.assert_verifies()


def test_evaluation_waits_for_it_too(new_desk: Desk) -> None:
    policy(new_desk, {"names": ["tiny_holdout"], "approval": {"role": "model_validator"}})
    assert new_desk.run(project.DATA, None).success
    assert new_desk.run(["tiny_model"]).success
    refused = new_desk.run(["tiny_eval"])
    assert "evaluating tiny v1 is refused" in refused.failure
    assert new_desk.entered("evaluation") == 0


def test_a_change_is_shown_with_who_why_and_what(new_desk: Desk) -> None:
    state: dict[str, Any] = {"rows": [1, 2, 3], "reason": ""}

    @dg.asset
    def raw() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion(f"raw-{len(state['rows'])}"))

    @cg.dataset_snapshot(
        provenance=project.PROVENANCE,
        deps=[raw],
        record_key="ID",
        sources=[{"table": "warehouse.loans", "version": "17"}],
        quality=[lambda table: table.num_rows < 4],
    )
    def changing() -> cg.SnapshotSource:
        return cg.SnapshotSource(pa.table({"ID": state["rows"]}), change_reason=state["reason"])

    first = take(new_desk, changing, raw)
    seen = shown(first, "changing")
    assert seen[f"{PREFIX}reason"].text == "the first snapshot"
    assert seen[f"{PREFIX}author"].text == "Ben (person/ben)"
    assert seen[f"{PREFIX}approval"].text == "the policy asks for none"
    (check,) = first.get_asset_check_evaluations()
    assert check.passed
    state["rows"] = [1, 2, 4, 5]
    second = take(new_desk, changing, raw)
    seen = shown(second, "changing")
    assert "reason missing" in seen[f"{PREFIX}reason"].text
    assert re.fullmatch("2 records added, 1 records? removed", seen[f"{PREFIX}difference"].text)
    rows = {record.data["what"]: record.data for record in seen[f"{PREFIX}diff"].records}
    assert (rows["records"]["added"], rows["records"]["removed"]) == ("2", "1")
    (check,) = second.get_asset_check_evaluations()
    assert not check.passed
    recorded = new_desk.all(DatasetSnapshot, "dataset/changing")[-1].record
    assert [(item.name, item.version, item.kind) for item in recorded.sources] == [
        ("warehouse.loans", "17", "table"),
        ("raw", "raw-4", "asset"),
    ]
    assert recorded.sources[1].time is not None
    assert recorded.author == "person/ben"
    assert [item.status for item in recorded.quality] == ["fail"]
    assert recorded.code is not None
    assert recorded.unjustified_columns == ("ID",)
    difference = new_desk.all(DatasetDiffRecorded, "dataset/changing")[-1]
    assert seen[f"{PREFIX}diff_digest"].text == difference.record.diff_digest
    assert record_diff(new_desk.workspace, "changing", new_desk.all(DatasetSnapshot)[-1].seq, check=True) == difference
    state["reason"] = "four rows now"
    third = take(new_desk, changing, raw)
    assert shown(third, "changing")[f"{PREFIX}reason"].text == "four rows now"


def test_left_out_records_are_checked_against_the_rule(new_desk: Desk) -> None:
    whole = pa.table({"ID": [1, 2, 3]})

    def source(after: int) -> cg.SnapshotSource:
        rule = {"name": "cut", "description": "the last one", "rows_before": 3, "rows_after": 2}
        provenance = cg.Provenance.model_validate({**project.PROVENANCE.to_dict(), "processing": [rule]})
        return cg.SnapshotSource(
            whole.slice(0, 2), provenance=provenance, excluded={"cut": whole.slice(after)}, before=whole
        )

    take(new_desk, cg.build_dataset_snapshot("kept", lambda: source(2)))
    (rule,) = new_desk.all(DatasetSnapshot, "dataset/kept")[0].record.exclusions
    assert rule.verified == "count, digest and difference of the record sets"
    assert rule.excluded_digest
    with pytest.raises(dg.Failure, match="left out 1 records, but 2 are given"):
        take(new_desk, cg.build_dataset_snapshot("wrong", lambda: source(1)))
    assert not new_desk.all(DatasetSnapshot, "dataset/wrong")


def test_each_partition_is_a_dataset_version_and_training_takes_the_one_it_is_mapped_to(new_desk: Desk) -> None:
    months = dg.StaticPartitionsDefinition(["2026-01", "2026-02", "2026-03"])
    sales = cg.build_dataset_snapshot(
        "sales", lambda month: pa.table({"n": [int(month[-2:])]}), partitions_def=months, provenance=project.PROVENANCE
    )
    for month in ("2026-01", "2026-03", "2026-02"):
        take(new_desk, sales, partition_key=month)
    assert [item.record.name for item in new_desk.all(DatasetSnapshot, "dataset/sales")] == [
        "sales@2026-01",
        "sales@2026-03",
        "sales@2026-02",
    ]
    (january,) = new_desk.all(DatasetSnapshot, "dataset/sales@2026-01")
    assert january.record.parent_root is None, "a partition is compared with itself only"
    seen = []

    def train(mappings: dict[str, dg.PartitionMapping] | None, version: str) -> None:
        @cg.training_run(project.tiny, datasets=["sales"], partition_mappings=mappings)
        def sales_model(run: cg.TrainingRecorder, sales: cg.Snapshot) -> Any:
            seen.append(sales.name)
            path = new_desk.folder / f"{version}.txt"
            path.write_text(version)
            return run.save_model(path)

        new_desk.instance.add_dynamic_partitions("tiny_versions", [version])
        take(new_desk, sales_model, sales, partition_key=version, selection=[sales_model])

    train(None, "newest")
    train({"sales": dg.SpecificPartitionsPartitionMapping(["2026-01"])}, "first")
    train({"sales": dg.LastPartitionMapping()}, "last")
    assert seen == ["sales@2026-02", "sales@2026-01", "sales@2026-03"]
    (run,) = new_desk.all(TrainingRun, "model/tiny@first")
    assert run.record.datasets[0].name == "sales@2026-01"
    with pytest.raises(dg.Failure, match="gives 2 partitions of sales"):
        train({"sales": dg.SpecificPartitionsPartitionMapping(["2026-01", "2026-02"])}, "two")


def test_a_partitioned_dataset_needs_a_function_and_a_partition(new_desk: Desk) -> None:
    from cognify_dagster.orchestration.calls import UsageError

    months = dg.StaticPartitionsDefinition(["2026-01"])
    with pytest.raises(UsageError, match="needs a function that returns the source of a partition"):
        cg.build_dataset_snapshot("sales", "data/", partitions_def=months)
    with pytest.raises(UsageError, match="partition mapping for 'other'"):
        cg.training_run(project.tiny, datasets=["sales"], partition_mappings={"other": dg.LastPartitionMapping()})(
            lambda: None
        )
