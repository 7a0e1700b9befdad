"""What the UI shows: whole paths, commands that run, hashes where they fit, and an owner for everything."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import dagster as dg
import pytest

from tests.orchestration import project, stock
from tests.orchestration.desk import Desk, Ran

GOVERNED = (*project.DATA, *project.BUILD, project.SERVICE)
HEX64 = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(scope="module")
def story(
    founded: stock.Stock, instance: dg.DagsterInstance, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Desk, list[Ran]]:
    """The whole path in three runs; nothing here writes to it."""
    folder = tmp_path_factory.mktemp("story") / "project"
    shutil.copytree(founded.folder, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGNIFY_WORKSPACE", str(folder))
        desk = Desk(folder, founded.keys, instance)
        runs = [desk.run(project.DATA, None), desk.run(project.BUILD)]
        desk.approve()
        runs.append(desk.run([project.SERVICE]))
    assert all(run.success for run in runs)
    return desk, runs


def test_every_governed_asset_has_a_code_version_owner_group_kind_and_description():
    specs = {spec.key.to_user_string(): spec for spec in project.defs.resolve_all_asset_specs()}
    assert set(specs) == set(GOVERNED)
    for name, spec in specs.items():
        assert spec.code_version, name
        assert list(spec.owners) == ["team:tests"], name
        assert spec.kinds, name
        assert spec.description, name
        assert spec.group_name == ("datasets" if name in project.DATA else "tiny"), name
    assert specs["tiny_package"].kinds == {"pdf", "compliance"}
    assert specs["tiny_model"].code_version != specs["tiny_eval"].code_version


def test_the_code_version_follows_the_function():
    from cognify_dagster.orchestration.calls import read_function

    namespace: dict = {}
    exec("def one():\n    return 1\n", namespace)
    assert (
        read_function(project.enter, {"step": None}).code_version
        == read_function(project.enter, {"step": None}).code_version
    )
    assert read_function(project.enter, {"step": None}).code_version != read_function(namespace["one"], {}).code_version


def test_the_checks_say_what_they_mean():
    checks = {
        f"{spec.asset_key.to_user_string()}:{spec.name}": spec
        for node in project.defs.resolve_asset_graph().asset_check_keys
        for spec in [project.defs.resolve_asset_graph().get_check_spec(node)]
    }
    assert set(checks) == {
        "tiny_holdout:no_overlap",
        "tiny_eval:performance",
        "tiny_eval:fairness",
        "tiny_eval:data_quality",
        "tiny_package:sign_off",
        "tiny_package:coverage_sr26_2",
    }
    for name, spec in checks.items():
        assert spec.blocking, name
        assert spec.description, name
        assert "leaving out" not in spec.description, name


def test_the_whole_story_in_metadata(story: tuple[Desk, list[Ran]]):
    desk, runs = story
    shown = {name: metadata for run in runs for name, metadata in run.materialized.items()}
    assert set(shown) == set(GOVERNED)
    reading = desk.workspace.read()
    for name, metadata in shown.items():
        seq = metadata["cognify/ledger_entry"].value
        assert reading.view.entries[seq].entry.leaf.hex() == metadata["cognify/entry_leaf"].value, name
    package = shown["tiny_package"]
    for key in ("cognify/pdf", "cognify/package_json", "cognify/model_card"):
        assert isinstance(package[key], dg.PathMetadataValue)
        assert Path(package[key].value).is_file()
    rows = [record.data for record in package["cognify/stages_when_built"].records]
    assert [row["stage"] for row in rows] == [
        "Automated gates",
        "Independent validation",
        "Compliance and legal review",
        "Business sign-off",
    ]
    assert [row["waiting for"] for row in rows][1:] == ["Vera", "Carl", "Olga"]
    assert package["cognify/validation_status"].value == "pending when built"
    assert package["cognify/built_by"].value == "Ben (person/ben)"
    for name in ("tiny_package", "tiny_model"):
        how = shown[name]["cognify/identified_by"].value
        assert how == "the run's tag user=ben is enrolled as an alias of Ben", name
    assert shown[project.SERVICE]["cognify/launched_by"].value.startswith(
        "Ben (person/ben); the run's tag user=ben is "
    )
    state = package["cognify/state"].value
    assert state.startswith("**Now: see Partitions → v1**, the `sign_off` check, or `cognify --workspace ")
    assert "When it was built: v1 waits for Vera" in state
    service = shown[project.SERVICE]
    for who in ("Vera", "Carl", "Olga"):
        assert who in service["cognify/who_approved"].value
    live = desk.folder / "live" / "tiny.json"
    assert service["cognify/location"].value in (str(live), f"`{live.parent}/`\n\n`tiny.json`")
    assert shown["tiny_model"]["cognify/launched_by"].value == "Ben (person/ben)"
    model = shown["tiny_model"]
    (row,) = [record.data for record in model["cognify/trained_on"].records]
    assert row["dataset"] == "tiny_train"
    assert row["records"] == "200"
    assert row["ledger entry"] == str(shown["tiny_train"]["cognify/ledger_entry"].value)
    assert model["cognify/tiny_train"].asset_key == dg.AssetKey("tiny_train")
    assert model["cognify/tiny_train/root"].value == shown["tiny_train"]["cognify/root"].value
    assert model["cognify/tiny_train/run"].run_id == runs[0].id
    assert shown["tiny_train"]["dagster/row_count"].value == 200


def test_results_come_first_and_the_tie_to_the_ledger_last(story: tuple[Desk, list[Ran]]):
    _, runs = story
    shown = {name: list(metadata) for run in runs for name, metadata in run.materialized.items()}
    first = {"tiny_model": "trained_on", "tiny_eval": "status", "tiny_package": "state", project.SERVICE: "state"}
    for name, key in first.items():
        assert shown[name][0] == f"cognify/{key}"
    for name, keys in shown.items():
        tie = ["cognify/ledger_entry", "cognify/entry_leaf", "cognify/show_entry", "cognify/checkpoint"]
        assert keys[-4:] == tie, name


def test_a_deployment_is_told_as_a_record_of_a_moment_with_the_signed_pdf(story: tuple[Desk, list[Ran]]):
    desk, runs = story
    service = runs[-1].materialized[project.SERVICE]
    state = service["cognify/state"].value
    assert state.startswith("**v1 went live** on production on ")
    assert "is live" not in state.split("What is live now")[0]
    assert f"`cognify --workspace {desk.folder} status tiny`" in state
    copy = service["cognify/final_copy"]
    assert isinstance(copy, dg.PathMetadataValue)
    assert Path(copy.value).name == "tiny-v1-final-copy.pdf"
    assert Path(copy.value).read_bytes().startswith(b"%PDF")
    assert service["cognify/refused_before"].value == "never"


def test_no_number_that_makes_an_idle_plot(story: tuple[Desk, list[Ran]]):
    """The UI plots every number over time; sizes and entries of the ledger mean nothing as a curve."""
    _, runs = story
    for run in runs:
        for name, check in run.checks.items():
            numbers = [key for key, value in check.metadata.items() if isinstance(value, dg.IntMetadataValue)]
            assert numbers in ([], ["cognify/overlapping_records"]), name


def test_how_a_run_without_a_login_was_attributed_is_said():
    from types import SimpleNamespace

    from cognify_dagster.orchestration.attribution import identified
    from cognify_dagster.workspace import os_login

    def resolve(aliases: list[str]) -> tuple[list[str], list[str]]:
        known = aliases == [f"os:{os_login()}"]
        return (["person/ben"], []) if known else ([], aliases)

    people = SimpleNamespace(resolve=resolve, name=lambda person: {"person/ben": "Ben"}[person])

    def of(**tags: str) -> str:
        return identified(SimpleNamespace(run=SimpleNamespace(tags=tags)), people)  # type: ignore[arg-type]

    assert of() == f"run without a login on this machine: OS user {os_login()} is enrolled as an alias of Ben"
    assert of(user="eve") == "the run's tag user=eve is enrolled for nobody"
    assert of(**{"dagster/sensor_name": "s"}) == "sensor s is enrolled for nobody"


def test_the_coverage_is_counted_in_the_words_of_the_pdf(story: tuple[Desk, list[Ran]]):
    from cognify_dagster.orchestration.package import coverage_row

    _, runs = story
    text = " ".join(
        row.data["requirements"] for row in runs[1].materialized["tiny_package"]["cognify/coverage"].records
    )
    assert "a person must judge or write: " in text
    assert "needs human" not in text
    assert coverage_row("f", "law", {"satisfied": 2})["requirements"] == "evidence present: 2"


def test_who_signed_tells_a_tier_without_signatures_from_one_that_waits():
    from types import SimpleNamespace

    from cognify_dagster.orchestration.standing import LIVE, WAITING, Standing

    def nobody(state: str, *kinds: str) -> str:
        stages = [SimpleNamespace(stage=SimpleNamespace(kind=kind)) for kind in kinds]
        found = SimpleNamespace(state=state, decision=SimpleNamespace(stages=stages) if kinds else None)
        return str(Standing.nobody.fget(found))  # type: ignore[attr-defined]

    assert nobody(WAITING, "automated", "sign_off") == "nobody yet"
    assert nobody(WAITING) == "nobody yet"
    assert nobody(WAITING, "automated") == "nobody: this tier asks for automated gates only"
    assert nobody(LIVE) == "nobody: this tier asks for automated gates only"


def test_a_gate_that_no_tier_asks_for_is_explained(story: tuple[Desk, list[Ran]]):
    _, runs = story
    text = runs[1].checks["sign_off"].metadata["cognify/security_scan"].value
    assert text == "no gate: the policy asks this tier for no security scan"


def test_commands_can_be_copied(story: tuple[Desk, list[Ran]]):
    """Each names the project by its whole path and parses as one command line; no link to a local file, which is dead there."""
    desk, runs = story
    commands = []
    for run in runs:
        for metadata in run.materialized.values():
            for value in metadata.values():
                assert not isinstance(value, dg.UrlMetadataValue)
                text = value.value if isinstance(value, (dg.TextMetadataValue, dg.MarkdownMetadataValue)) else ""
                assert "file://" not in text
                found = [text] if text.startswith("cognify ") else re.findall(r"`(cognify [^`]*)`", text)
                commands += [shlex.split(item) for item in found]
    assert commands
    for words in commands:
        assert words[:3] == ["cognify", "--workspace", str(desk.folder)]
    assert ["sign", "tiny", "v1", "--key"] in [words[3:7] for words in commands]
    assert ["ledger", "show"] in [words[3:5] for words in commands]


def test_no_hash_is_put_into_an_asset_tag(story: tuple[Desk, list[Ran]]):
    _, runs = story
    for spec in project.defs.resolve_all_asset_specs():
        assert not any(HEX64.search(str(value)) for value in spec.tags.values())
    for run in runs:
        for event in run.events:
            if event.is_step_materialization:
                tags = event.step_materialization_data.materialization.tags or {}
                own = {key: value for key, value in tags.items() if not key.startswith("dagster/")}
                assert not any(HEX64.search(value) for value in own.values())


def test_data_versions_are_content_hashes(story: tuple[Desk, list[Ran]]):
    desk, _ = story
    for asset in GOVERNED:
        (record,) = desk.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
        version = record.asset_materialization.tags["dagster/data_version"]
        assert HEX64.search(version), (asset, version)


def test_a_long_path_is_broken_where_it_can_be_read():
    from cognify_dagster.orchestration.metadata import place

    assert place("/srv/models/a.joblib").value == "/srv/models/a.joblib"
    long = "/srv/" + "models/" * 8 + "f" * 64 + ".joblib"
    first, last = place(long).value.replace("`", "").split("\n\n")
    assert first + last == long


def test_a_path_with_a_blank_is_quoted():
    from types import SimpleNamespace

    from cognify_dagster.orchestration.metadata import command

    workspace = SimpleNamespace(config=SimpleNamespace(path=Path("/srv/credit risk/cognify.toml")))
    assert shlex.split(command(workspace, "status tiny v1"))[2] == "/srv/credit risk"  # type: ignore[arg-type]


def test_a_translator_changes_how_assets_look_and_nothing_else():
    import cognify_dagster as cg

    class Ours(cg.GovernedModelTranslator):
        def get_asset_spec(self, data: cg.GovernedAssetData) -> dg.AssetSpec:
            return (
                super().get_asset_spec(data).replace_attributes(group_name="risk").merge_attributes(tags={"team": "a"})
            )

    model = cg.GovernedModel(key="other", owner="team:tests", risk_tier="low", translator=Ours())

    @cg.training_run(model, datasets=["tiny_train"])
    def other_model(run: cg.TrainingRecorder) -> None: ...

    defs = dg.Definitions.merge(
        dg.Definitions(resources={"ledger": cg.LedgerResource()}), model.build_defs(assets=[other_model])
    )
    for spec in defs.resolve_all_asset_specs():
        if spec.key.to_user_string() != "tiny_train":
            assert spec.group_name == "risk"
            assert spec.tags["team"] == "a"
