"""The public API as the documentation prints it, and what wrong use of it says."""

import json
import shutil
import textwrap
from pathlib import Path

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.records import DatasetSnapshot
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk

# The shape that the design page prints, with bodies.
PRINTED = """
import dagster as dg
import cognify_dagster as cg
from cognify_dagster.evaluation.metrics import MetricValue

credit = cg.GovernedModel(key="credit_default", owner="team:credit-risk", risk_tier="low",
                          frameworks=["sr26-2", "fair-lending"], intended_use="Rank applications", limitations="made up")

@cg.dataset_snapshot(record_key="ID", provenance=cg.Provenance(source="UCI 350", licence="CC BY 4.0"))
def loans_train() -> str:
    return "data/tiny_train.parquet"

@cg.dataset_snapshot(record_key="ID")
def loans_holdout():
    import pyarrow.parquet as pq
    return pq.read_table("data/tiny_holdout.parquet")

@cg.training_run(credit, datasets=["loans_train"])
def credit_model(run: cg.TrainingRecorder, loans_train: cg.Snapshot):
    run.log_config({"rows": loans_train.table().num_rows})
    with open("model.json", "w") as stream:
        stream.write("{}")
    return run.save_model("model.json")

@cg.eval_suite(credit, dataset="loans_holdout", gates="credit_gates")
def credit_eval(credit_model: cg.ModelVersion, loans_holdout: cg.Snapshot) -> cg.EvalResult:
    auc = MetricValue("auc", 0.9, 0.8, 1.0, loans_holdout.table().num_rows, "probability", True)
    return cg.EvalResult(metrics=(auc,), protected_attributes=("SEX",), data_checks={"fairness.SEX.ratio": 1.0}, n=200)

@cg.governed_deployment(credit, target="production")
def credit_service(release: cg.Release):
    print("live", release.version, release.model_path.read_text())

defs = dg.Definitions.merge(
    dg.Definitions(assets=[loans_train, loans_holdout], resources={"ledger": cg.LedgerResource(workspace=".cognify")},
                   asset_checks=[cg.overlap_check(train="loans_train", holdout="loans_holdout", ignore=["ID"])]),
    credit.build_defs(assets=[credit_model, credit_eval, credit_service]),
)
"""


def test_the_printed_example_runs_from_data_to_release(
    tmp_path: Path, founded: stock.Stock, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
):
    from cognify_dagster.governance import adopt_gate_set, classify_model

    folder = tmp_path / "project"
    shutil.copytree(founded.folder, folder)
    (folder / "printed_example.py").write_text(PRINTED)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    import printed_example  # type: ignore[import-not-found]

    adopt_gate_set(cg.Workspace.open(folder), "credit_gates", "credit_default", list(stock.GATES), founded.keys["vera"])
    dg.Definitions.validate_loadable(printed_example.defs)
    instance.add_dynamic_partitions("credit_default_versions", ["1"])
    job = printed_example.defs.resolve_implicit_global_asset_job_def()

    def run(partition: str | None, *assets: str) -> dg.ExecuteInProcessResult:
        return job.get_subset(asset_selection={dg.AssetKey(name) for name in assets}).execute_in_process(
            instance=instance, partition_key=partition, tags={"user": "ben"}
        )

    run(None, "loans_train", "loans_holdout")
    run("1", "credit_model")
    signers = [founded.keys["carl"], founded.keys["olga"]]
    facts = {"model": "credit_default", "tier": "low", "owner": "person/olga", "rationale": "nothing depends on it"}
    classify_model(cg.Workspace.open(folder), signers, **facts)
    run("1", "credit_eval", "credit_default_package")  # the tier in force says which sections must be written
    released = run("1", "credit_service")  # a low tier needs no signatures
    assert [event.asset_key.to_user_string() for event in released.get_asset_materialization_events()] == [
        "credit_service"
    ]
    (first,) = cg.Workspace.open(folder).read().all(DatasetSnapshot, "dataset/loans_holdout")
    assert first.record.data is not None  # a table has no file to point at, so it is kept


def test_every_public_name_exists_and_the_stub_lists_the_same():
    stub = (Path(cg.__file__).parent / "__init__.pyi").read_text()
    for name in cg.__all__:
        assert getattr(cg, name) is not None
        assert f" as {name}\n" in stub or f"{name}:" in stub, name
    with pytest.raises(AttributeError, match="no attribute 'Governed'"):
        _ = cg.Governed
    assert set(cg.__all__) <= set(dir(cg))


def test_build_defs_brings_no_resource_so_that_a_forgotten_ledger_fails_at_load():
    built = project.tiny.build_defs(assets=[project.tiny_model, project.tiny_eval, project.tiny_service])
    assert not built.resources
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="ledger"):
        dg.Definitions.validate_loadable(built)
    dg.Definitions.validate_loadable(project.defs)


def test_build_defs_adds_package_check_and_running_sensors():
    built = project.tiny.build_defs(assets=[project.tiny_model, project.tiny_eval, project.tiny_service])
    sensors = {sensor.name: sensor for sensor in built.sensors or ()}
    assert set(sensors) == {"tiny_approval_sensor", "tiny_reconciliation_sensor", "tiny_notification_sensor"}
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}
    assert [check.check_key.name for check in built.asset_checks or ()] == ["sign_off", "coverage_sr26_2"]
    names = {spec.key.to_user_string() for asset in built.assets or () for spec in asset.specs}
    assert "tiny_package" in names
    without = project.tiny.build_defs(assets=[project.tiny_model, project.tiny_eval])
    assert [sensor.name for sensor in without.sensors or ()] == [
        "tiny_reconciliation_sensor",
        "tiny_notification_sensor",
    ]


def test_two_governed_models_merge():
    other = cg.GovernedModel(key="other", owner="team:tests", risk_tier="low")

    @cg.training_run(other, datasets=["tiny_train"])
    def other_model(run: cg.TrainingRecorder) -> None: ...

    both = dg.Definitions.merge(project.defs, other.build_defs(assets=[other_model]))
    dg.Definitions.validate_loadable(both)
    names = {spec.key.to_user_string() for spec in both.resolve_all_asset_specs()}
    assert {"tiny_package", "other_package"} <= names


def test_the_target_of_the_deployment_is_the_one_that_check_and_sensor_ask_for(desk: Desk, own_instance):
    """`target=` stands at the deployment; it wins over the model's."""
    from cognify_dagster.governance import Choice, sign_off

    @cg.governed_deployment(project.tiny, target="staging", name=project.SERVICE)
    def service(release: cg.Release) -> str:
        return f"{release.target}:{release.version}"

    defs = dg.Definitions.merge(
        dg.Definitions(
            assets=[project.tiny_train, project.tiny_holdout],
            asset_checks=[project.no_overlap],
            resources={"ledger": cg.LedgerResource()},
        ),
        project.tiny.build_defs(assets=[project.tiny_model, project.tiny_eval, service]),
    )
    for name in ("vera", "carl", "olga"):
        sign_off(desk.workspace, "tiny", "v1", desk.keys[name], Choice("approve", targets=("staging",)))
    context = dg.build_sensor_context(
        instance=own_instance,
        instance_ref=own_instance.get_ref(),
        definitions=defs,
        resources={"ledger": cg.LedgerResource()},
    )
    (request,) = defs.resolve_sensor_def("tiny_approval_sensor").evaluate_tick(context).run_requests
    assert request.run_key.startswith(f"{desk.workspace.origin}/tiny/v1/staging/")
    ran = desk.run([project.SERVICE], definitions=defs, checks=[("tiny_package", "sign_off")])
    assert ran.success, ran.failure
    assert ran.checks["sign_off"].passed
    assert ran.materialized[project.SERVICE]["cognify/state"].value.startswith("**v1 went live** on staging on 2")
    assert ran.materialized[project.SERVICE]["cognify/location"].value == "staging:v1"


def test_resources_and_config_of_the_users_own_reach_the_function(new_desk: Desk):
    class Store(dg.ConfigurableResource):
        place: str

    class Settings(dg.Config):
        rows: int = 3

    seen: list[object] = []

    @cg.dataset_snapshot(name="configured")
    def configured(context: dg.AssetExecutionContext, config: Settings, store: Store, ledger: cg.LedgerResource):
        import pyarrow as pa

        seen.extend([context.run.run_id, config.rows, store.place, ledger.open().origin])
        return pa.table({"x": list(range(config.rows))})

    result = dg.materialize(
        [configured],
        instance=new_desk.instance,
        resources={"ledger": cg.LedgerResource(), "store": Store(place="here")},
        run_config={"ops": {"configured": {"config": {"rows": 5}}}},
    )
    assert seen[1:] == [5, "here", "test.example/credit"]
    (record,) = new_desk.all(DatasetSnapshot)
    assert record.record.record_count == 5
    assert record.record.observed["run"] == result.run_id


def test_a_table_without_a_file_is_kept_and_read_back(new_desk: Desk):
    from cognify_dagster.datasets import DatasetError
    from cognify_dagster.datasets.recording import require_snapshot

    @cg.dataset_snapshot
    def small():
        import pyarrow as pa

        return pa.table({"x": [1, 2]})

    dg.materialize([small], instance=new_desk.instance, resources={"ledger": cg.LedgerResource()})
    snapshot = cg.Snapshot(new_desk.workspace, require_snapshot(new_desk.workspace, "small"))
    snapshot.verify()
    assert snapshot.table().to_pydict() == {"x": [1, 2]}
    with pytest.raises(DatasetError, match=r"small was recorded as a table, so it has no path; use .table\(\)"):
        _ = snapshot.path


def test_a_decorated_function_can_be_called_directly(new_desk: Desk):
    results = list(project.tiny_train(dg.build_asset_context(), ledger=cg.LedgerResource()))
    assert isinstance(results[0], dg.MaterializeResult)
    list(project.tiny_train(dg.build_asset_context(), ledger=cg.LedgerResource()))
    assert len(new_desk.all(DatasetSnapshot)) == 2  # each call is a run of its own


def test_an_existing_asset_joins_with_a_few_changed_lines(new_desk: Desk):
    before = """
        @dg.asset
        def loans(context: dg.AssetExecutionContext):
            path = make_loans()
            return dg.MaterializeResult(metadata={"rows": 200})
    """
    after = """
        @dg.asset
        def loans(context: dg.AssetExecutionContext, ledger: cg.LedgerResource):
            path = make_loans()
            yield from ledger.record(context, dataset=path, metadata={"rows": 200})
    """
    import difflib

    old, new = (textwrap.dedent(text).splitlines() for text in (before, after))
    changed = [line for line in difflib.ndiff(old, new) if line.startswith("+ ")]
    assert len(changed) < 10
    namespace = {"dg": dg, "cg": cg, "make_loans": lambda: str(new_desk.folder / "data" / "tiny_train.parquet")}
    exec(textwrap.dedent(after), namespace)
    result = dg.materialize([namespace["loans"]], instance=new_desk.instance, resources={"ledger": cg.LedgerResource()})
    (event,) = result.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    (recorded,) = new_desk.all(DatasetSnapshot)
    assert metadata["rows"].value == 200
    assert metadata["cognify/ledger_entry"].value == recorded.seq
    assert recorded.record.name == "loans"
    assert recorded.record.missing_provenance


# What wrong use says, at load time.


def nothing() -> None: ...


def test_training_without_datasets():
    with pytest.raises(UsageError, match="nothing: name at least one dataset"):
        cg.training_run(project.tiny, datasets=[])(nothing)


def test_a_parameter_that_nobody_provides():
    def train(run: cg.TrainingRecorder, loans_trian: cg.Snapshot) -> None: ...

    with pytest.raises(
        UsageError, match=r"train: parameter 'loans_trian' cannot be provided.*loans_train, run, version"
    ):
        cg.training_run(project.tiny, datasets=["loans_train"])(train)


def test_an_evaluation_that_does_not_say_what_it_evaluates():
    with pytest.raises(UsageError, match="nothing: name the training asset"):
        cg.eval_suite(project.tiny, dataset="tiny_holdout", gates="tiny_gates")(nothing)


def test_an_asset_of_another_model():
    other = cg.GovernedModel(key="other", owner="team:tests", risk_tier="low")
    with pytest.raises(UsageError, match="asset 'tiny_model' does not belong to model 'other'"):
        other.build_defs(assets=[project.tiny_model])


def test_a_dataset_handed_to_build_defs():
    with pytest.raises(UsageError, match="asset 'tiny_train' does not belong to model 'tiny'"):
        project.tiny.build_defs(assets=[project.tiny_model, project.tiny_train])


def test_no_training_asset():
    with pytest.raises(UsageError, match="model 'tiny' has no training asset"):
        project.tiny.build_defs(assets=[project.tiny_eval])


def test_two_training_assets():
    second = cg.training_run(project.tiny, datasets=["tiny_train"], name="second")(nothing)
    with pytest.raises(UsageError, match="model 'tiny' has more than one training asset"):
        project.tiny.build_defs(assets=[project.tiny_model, second])


@pytest.mark.parametrize("key", ["credit-default", "1st", "", "a b", "a" * 81])
def test_a_key_that_cannot_name_partitions(key: str):
    with pytest.raises(UsageError, match="letters, digits and underscores"):
        cg.GovernedModel(key=key, owner="team:tests", risk_tier="low")


@pytest.mark.parametrize(
    ("returned", "text"),
    [(None, "return an EvalResult, not a NoneType"), (0.9, "return an EvalResult, not a float")],
)
def test_an_evaluation_that_returns_something_else(desk: Desk, returned: object, text: str):
    @cg.eval_suite(project.tiny, dataset="tiny_holdout", gates="tiny_gates", trained_by="tiny_model", name="tiny_eval")
    def wrong():  # type: ignore[no-untyped-def]
        return returned

    defs = dg.Definitions.merge(
        dg.Definitions(resources={"ledger": cg.LedgerResource()}),
        project.tiny.build_defs(assets=[project.tiny_model, wrong]),
    )
    ran = desk.run(["tiny_eval"], definitions=defs)
    assert text in ran.failure


@pytest.mark.parametrize(
    ("returned", "text"),
    [(None, "return the path of the saved model, or call run.save_model"), ("nowhere.bin", "no model file")],
)
def test_a_training_that_returns_no_model(desk: Desk, returned: str | None, text: str):
    @cg.training_run(project.tiny, datasets=["tiny_train"], name="tiny_model")
    def wrong() -> str | None:
        return returned

    defs = dg.Definitions.merge(
        dg.Definitions(resources={"ledger": cg.LedgerResource()}), project.tiny.build_defs(assets=[wrong])
    )
    ran = desk.run(["tiny_model"], "v2", definitions=defs)
    assert text in ran.failure
    assert "training_failed" in desk.kinds()


# The component.


def test_the_component_builds_the_same_definitions():
    from cognify_dagster.components import GovernedModelComponent

    context = dg.ComponentTree.for_test().load_context
    built = GovernedModelComponent(module="tests.orchestration.project").build_defs(context)
    defs = dg.Definitions.merge(built, dg.Definitions(resources={"ledger": cg.LedgerResource()}))
    dg.Definitions.validate_loadable(defs)
    assert {spec.key for spec in defs.resolve_all_asset_specs()} == {
        spec.key for spec in project.defs.resolve_all_asset_specs()
    }
    assert {sensor.name for sensor in built.sensors or ()} == {
        "tiny_approval_sensor",
        "tiny_reconciliation_sensor",
        "tiny_notification_sensor",
    }
    assert defs.resolve_asset_graph().asset_check_keys == project.defs.resolve_asset_graph().asset_check_keys


@pytest.mark.filterwarnings("ignore:.*currently in beta")
def test_the_component_loads_from_yaml():
    from dagster.components.testing import create_defs_folder_sandbox

    from cognify_dagster.components import GovernedModelComponent

    with create_defs_folder_sandbox() as sandbox:
        sandbox.scaffold_component(
            component_cls=GovernedModelComponent,
            defs_path="tiny",
            defs_yaml_contents={
                "type": "cognify_dagster.components.GovernedModelComponent",
                "attributes": {"module": "tests.orchestration.project"},
            },
        )
        (sandbox.defs_folder_path / "ledger.py").write_text(
            "import cognify_dagster as cg\nimport dagster as dg\n"
            "defs = dg.Definitions(resources={'ledger': cg.LedgerResource()})\n"
        )
        with sandbox.build_all_defs() as defs:
            assert dg.AssetKey("tiny_package") in {spec.key for spec in defs.resolve_all_asset_specs()}


def test_a_component_for_a_module_without_a_model():
    from cognify_dagster.components import GovernedModelComponent

    context = dg.ComponentTree.for_test().load_context
    with pytest.raises(UsageError, match="must hold exactly one GovernedModel, found 0"):
        GovernedModelComponent(module="json").build_defs(context)


def test_dg_finds_the_component(tmp_path: Path):
    """Through the entry point, as `dg list components` does."""
    from importlib.metadata import entry_points

    (entry,) = [
        item for item in entry_points(group="dagster_dg_cli.registry_modules") if item.name == "cognify_dagster"
    ]
    module = entry.load()
    assert hasattr(module.GovernedModelComponent, "__dg_package_entry__")
    assert json.dumps(module.GovernedModelComponent.get_model_cls().model_json_schema())
