"""Plain `@dg.asset` functions that record themselves: how runs become versions, and what is refused."""

# Dagster reads the annotation of `context` when the module is loaded, so annotations are not postponed here.

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster.governance import adopt_gate_set
from cognify_dagster.records import DatasetSnapshot, Evaluation, TrainingFailed, TrainingRun
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk

SWITCH: dict[str, Any] = {}


@dg.asset(name="tiny_train")
def data(context, ledger: cg.LedgerResource):
    """The data, recorded where they are made."""
    yield from ledger.record(
        context, dataset=str(project.place() / "data" / "tiny_train.parquet"), record_key="ID", label="late"
    )


def save(content: str = "model") -> Path:
    """A model file of this content."""
    path = project.place() / "model.bin"
    path.write_text(SWITCH.get("content", content))
    return path


@dg.asset(name="plain_model", deps=[data])
def recorded(context, ledger: cg.LedgerResource):
    """Sealed by the line that ends it."""
    yield from ledger.record(
        context, model=project.tiny, file=save(), trained_on=["tiny_train"], config={"seed": 3}, metrics={"auc": 0.5}
    )
    if SWITCH.pop("crash", False):
        raise dg.RetryRequested(max_retries=1)


@dg.asset(name="block_model", deps=[data])
def in_a_block(context, ledger: cg.LedgerResource):
    """Sealed when its block ends; returns a value as before."""
    with ledger.attach(context, model=project.tiny, trained_on=["tiny_train"]) as run:
        run.log_metric("rows", run.datasets["tiny_train"].table().num_rows)
        if SWITCH.get("fail"):
            raise RuntimeError("no memory")
        run.save_model(save())
    return {"weights": 1}


MONTHS = dg.StaticPartitionsDefinition(["2026-01", "north/east"])


@dg.asset(name="monthly_model", deps=[data], partitions_def=MONTHS)
def monthly(context, ledger: cg.LedgerResource):
    """With partitions of its own."""
    yield from ledger.record(context, model=project.tiny, file=save(context.partition_key), trained_on=["tiny_train"])


@dg.asset(name="versioned_model", deps=[data], partitions_def=project.tiny.partitions)
def versioned(context, ledger: cg.LedgerResource):
    """Partitioned by the model's versions."""
    yield from ledger.record(context, model="tiny", file=save(), trained_on=["tiny_train"])


@dg.asset(name="plain_eval", deps=[recorded])
def evaluation(context, ledger: cg.LedgerResource):
    """Numbers of the file that lies there."""
    yield from ledger.record(
        context,
        model=project.tiny,
        file=project.place() / "model.bin",
        evaluation={"auc": 0.8, "fairness.SEX.ratio": 0.9},
        evaluated_on="tiny_holdout",
        gates="tiny_gates",
        protected_attributes=["SEX"],
    )


defs = dg.Definitions(
    assets=[data, recorded, in_a_block, monthly, versioned, evaluation, project.tiny_holdout],
    resources={"ledger": cg.LedgerResource()},
)


@pytest.fixture(autouse=True)
def _switches() -> None:
    SWITCH.clear()


@pytest.fixture
def plain(new_desk: Desk) -> Desk:
    """A desk whose data are recorded."""
    assert new_desk.run(["tiny_train"], None, definitions=defs).success
    return new_desk


def newest(desk: Desk) -> TrainingRun:
    """The newest sealed run."""
    return desk.all(TrainingRun)[-1].record


def test_a_run_without_partitions_is_a_version_named_after_it(plain: Desk) -> None:
    ran = plain.run(["plain_model"], None, definitions=defs)
    assert ran.success, ran.failure
    run = newest(plain)
    assert run.version == f"run-{ran.id[:8]}"
    assert (run.config, run.seed, run.metrics) == ({"seed": 3}, 3, {"auc": 0.5})
    assert ran.materialized["plain_model"]["cognify/version"].value == run.version
    assert plain.workspace.evidence.get(run.model_file.digest) == b"model"
    plain.assert_verifies()


def test_data_that_the_same_run_recorded_count(new_desk: Desk) -> None:
    assert new_desk.run(["tiny_train", "plain_model"], None, definitions=defs).success
    assert newest(new_desk).datasets[0].seq == new_desk.all(DatasetSnapshot)[0].seq


def test_thresholds_that_came_after_the_training_began_do_not_count(plain: Desk) -> None:
    started = plain.workspace.ledger.size()

    @dg.asset(name="slow_model", deps=[data])
    def slow(context, ledger: cg.LedgerResource):
        adopt_gate_set(ledger.open(), "late_gates", "tiny", list(stock.GATES), plain.keys["vera"])
        yield from ledger.record(context, model=project.tiny, file=save(), trained_on=["tiny_train"])

    late = dg.Definitions(assets=[data, slow], resources={"ledger": cg.LedgerResource()})
    assert plain.run(["slow_model"], None, definitions=late).success
    assert newest(plain).started_after_seq == started


def test_a_partition_of_the_project_stands_before_the_run(plain: Desk) -> None:
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("monthly_model")})
    for key, begins in (("2026-01", "2026-01.run-"), ("north/east", "north-east-")):
        done = job.execute_in_process(instance=plain.instance, partition_key=key, tags={"user": "ben"})
        assert done.success
        assert newest(plain).version.startswith(begins)
        assert newest(plain).version.endswith(f"run-{done.run_id[:8]}")


def test_a_partition_that_is_a_version_is_the_version(plain: Desk) -> None:
    assert not plain.run(["versioned_model"], "v7", definitions=defs).success  # nobody registered the model yet
    assert plain.run(["plain_model"], None, definitions=defs).success
    assert plain.run(["versioned_model"], "v8", definitions=defs).success
    assert newest(plain).version == "v8"


def test_a_retry_of_the_step_returns_what_was_sealed(plain: Desk) -> None:
    SWITCH["crash"] = True
    ran = plain.run(["plain_model"], None, definitions=defs)
    assert ran.success, ran.failure
    assert len(plain.all(TrainingRun)) == 1


def test_a_block_seals_when_it_ends_and_the_value_goes_on(plain: Desk) -> None:
    ran = plain.run(["block_model"], None, definitions=defs)
    assert ran.success, ran.failure
    run = newest(plain)
    assert run.metrics == {"rows": 200}
    assert ran.materialized["block_model"]["cognify/model_digest"].value == run.model_file.digest


def test_an_error_in_the_block_is_a_failed_training(plain: Desk) -> None:
    SWITCH["fail"] = True
    assert not plain.run(["block_model"], None, definitions=defs).success
    assert [item.record.reason for item in plain.all(TrainingFailed)] == ["RuntimeError: no memory"]
    assert plain.all(TrainingRun) == []


def test_data_that_changed_since_their_snapshot_are_refused(plain: Desk) -> None:
    project.write_data(plain.folder / "data", rows=150)
    ran = plain.run(["plain_model"], None, definitions=defs)
    assert not ran.success
    assert "is not the data of snapshot entry" in ran.failure
    assert plain.all(TrainingRun) == []


def test_training_without_a_snapshot_is_refused(new_desk: Desk) -> None:
    ran = new_desk.run(["plain_model"], None, definitions=defs)
    assert not ran.success
    assert "was not snapshotted before this training began" in ran.failure


def test_an_evaluation_is_of_the_bytes_that_it_evaluated(plain: Desk) -> None:
    assert plain.run(["plain_model", "tiny_holdout"], None, definitions=defs).success
    first = newest(plain).version
    SWITCH["content"] = "another"
    assert plain.run(["plain_model"], None, definitions=defs).success
    (plain.folder / "model.bin").write_text("model")  # the first one again
    ran = plain.run(["plain_eval"], None, definitions=defs)
    assert ran.success, ran.failure
    found = plain.all(Evaluation)[0].record
    assert found.version == first
    assert ran.materialized["plain_eval"]["cognify/performance"].value.startswith("passed")


def test_an_evaluation_of_a_file_that_nobody_sealed_is_refused(plain: Desk) -> None:
    assert plain.run(["plain_model", "tiny_holdout"], None, definitions=defs).success
    (plain.folder / "model.bin").write_text("tampered")
    ran = plain.run(["plain_eval"], None, definitions=defs)
    assert not ran.success
    assert "is the model file of no sealed run" in ran.failure


def test_a_call_of_no_form_says_which_there_are() -> None:
    with pytest.raises(cg.orchestration.names.UsageError, match="takes one of"):
        list(cg.LedgerResource().record(None, model="tiny"))


def test_a_model_of_plain_assets_brings_its_package_and_deployment(plain: Desk) -> None:
    governed = project.tiny.build_defs(assets=[project.tiny_service], recorded_by=[evaluation])
    merged = dg.Definitions.merge(defs, governed)
    graph = merged.resolve_asset_graph()
    assert graph.get(dg.AssetKey("tiny_package")).parent_keys == {dg.AssetKey("plain_eval")}
    assert plain.run(["plain_model", "tiny_holdout"], None, definitions=defs).success
    assert plain.run(["plain_eval"], None, definitions=defs).success
    built = plain.run(["tiny_package"], newest(plain).version, definitions=merged)
    assert built.success, built.failure


def test_the_sdk_inside_a_block_writes_to_the_same_record(plain: Desk) -> None:
    @dg.asset(name="sdk_model", deps=[data])
    def with_sdk(context, ledger: cg.LedgerResource):
        from cognify_dagster.instrument import sdk

        with ledger.attach(context, model=project.tiny, trained_on=["tiny_train"]):
            run = sdk.run(config={"rate": 0.5})
            run.log_metric("auc", 0.75)
            run.save_model(save())
            run.complete()

    own = dg.Definitions(assets=[data, with_sdk], resources={"ledger": cg.LedgerResource()})
    ran = plain.run(["sdk_model"], None, definitions=own)
    assert ran.success, ran.failure
    run = newest(plain)
    assert (run.config, run.metrics) == ({"rate": 0.5}, {"auc": 0.75})
    assert len(plain.all(TrainingRun)) == 1


def test_the_sdk_inside_a_training_asset_writes_to_the_assets_record(plain: Desk) -> None:
    @cg.training_run(project.tiny, datasets=["tiny_train"])
    def sdk_training(version: str) -> None:
        from cognify_dagster.instrument import sdk

        run = sdk.run(config={"rate": 0.5})
        if version == "v2":
            run.fail("the loss is NaN")
            return
        run.save_model(save())
        run.complete()

    own = dg.Definitions(assets=[data, sdk_training], resources={"ledger": cg.LedgerResource()})
    ran = plain.run(["sdk_training"], "v1", definitions=own)
    assert ran.success, ran.failure
    assert newest(plain).config == {"rate": 0.5}
    assert not plain.run(["sdk_training"], "v2", definitions=own).success
    assert "the loss is NaN" in plain.all(TrainingFailed)[-1].record.reason


def test_a_recorder_that_the_function_has_completed_is_sealed_as_it_is(plain: Desk) -> None:
    @cg.training_run(project.tiny, datasets=["tiny_train"])
    def completed(run: cg.TrainingRecorder) -> Path:
        path = run.save_model(save())
        run.complete()
        return path

    own = dg.Definitions(assets=[data, completed], resources={"ledger": cg.LedgerResource()})
    ran = plain.run(["completed"], "v1", definitions=own)
    assert ran.success, ran.failure
    assert newest(plain).rerun is None
