"""Two workspaces in one Dagster instance: no names in common, no signature of one counts in the other, no ledger read by the other."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

import cognify_dagster as cg
from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Choice,
    Founder,
    PersonalKey,
    adopt_gate_set,
    found_workspace,
    parse_policy,
    sign_off,
)
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.health import load_location, location_checks
from cognify_dagster.orchestration.resync import resync
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.records import DeploymentCompleted, Reconciliation, ReleaseGranted, ReleaseRefused, SignOff
from cognify_dagster.training import capture_code
from cognify_dagster.workspace import Workspace, WorkspaceError, idempotency_key
from tests.governance.world import World
from tests.orchestration import project, spaces_project
from tests.orchestration.desk import Ran
from tests.orchestration.stock import GATES

BUILD = ("scorer", "evaluation", "tiny_package")


@dataclass
class Two:
    """Two workspaces with the same people, who sign with the same keys, and one instance."""

    root: Path
    keys: dict[str, PersonalKey]
    instance: dg.DagsterInstance

    def workspace(self, space: str) -> Workspace:
        return Workspace.open(self.root / space)

    def run(
        self,
        space: str,
        *names: str,
        version: str | None = "v1",
        check: bool = False,
        definitions: dg.Definitions = spaces_project.defs,
    ) -> Ran:
        if version is not None:
            self.instance.add_dynamic_partitions(f"{space}__tiny_versions", [version])
        job = definitions.resolve_implicit_global_asset_job_def()
        checks = {dg.AssetCheckKey(dg.AssetKey([space, "tiny_package"]), "sign_off")} if check else None
        subset = job.get_subset(
            asset_selection={dg.AssetKey([space, name]) for name in names}, asset_check_selection=checks
        )
        done = subset.execute_in_process(
            instance=self.instance, partition_key=version, raise_on_error=False, tags={"user": "ben"}
        )
        return Ran(done.run_id, done.success, list(done.all_events))

    def build(self, space: str) -> None:
        for names, version in ((("rows_train", "rows_holdout"), None), (BUILD, "v1")):
            ran = self.run(space, *names, version=version)
            assert ran.success, ran.failure

    def approve(self, space: str) -> None:
        for name in ("vera", "carl", "olga"):
            sign_off(self.workspace(space), "tiny", "v1", self.keys[name], Choice("approve"))

    def tick(self, space: str, role: str = "approval", cursor: str | None = None) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance,
            instance_ref=self.instance.get_ref(),
            definitions=spaces_project.defs,
            resources={f"ledger_{name}": cg.LedgerResource(space=name) for name in spaces_project.SPACES},
            cursor=cursor,
        )
        return spaces_project.defs.resolve_sensor_def(f"{space}__tiny_{role}_sensor").evaluate_tick(context)

    def kinds(self, space: str) -> list[str]:
        return [item.entry.kind for item in self.workspace(space).read().view.entries]


def found(folder: Path, origin: str, keys: dict[str, PersonalKey]) -> None:
    """Found a workspace with people whose keys another one may have enrolled too."""
    folder.mkdir(parents=True)
    world = World(None, folder, keys)  # type: ignore[arg-type]
    world.workspace = found_workspace(
        folder,
        origin=origin,
        founders=[Founder(world.key("ada"), "Ada"), Founder(world.key("finn"), "Finn")],
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
    )
    authors = tuple(f"git:{author}" for author in capture_code(Path(spaces_project.__file__).parent).authors)
    world.enrol("ben", "data_scientist", aliases=("user:ben",))
    world.enrol("gita", "data_scientist", aliases=authors)
    for name, role in (("vera", "model_validator"), ("carl", "compliance_officer"), ("olga", "business_owner")):
        world.enrol(name, role)
    adopt_gate_set(world.workspace, "tiny_gates", "tiny", list(GATES), world.key("vera"))
    project.write_data(folder / "data")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Two:
    """Both workspaces with version v1 trained, evaluated and packaged, on one instance."""
    root = tmp_path_factory.mktemp("spaces")
    keys: dict[str, PersonalKey] = {}
    home = root / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for space in spaces_project.SPACES:
            found(root / space, f"test.example/{space}", keys)
            patch.setenv(f"COGNIFY_WORKSPACE_{space.upper()}", str(root / space))
        with dg.instance_for_test(temp_dir=str(home), set_dagster_home=False) as instance:
            two = Two(root, keys, instance)
            for space in spaces_project.SPACES:
                two.build(space)
    return two


@pytest.fixture
def two(prepared: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """A copy of both, and of the instance that remembers how they were built."""
    root = tmp_path / "spaces"
    shutil.copytree(prepared.root, root)
    for space in spaces_project.SPACES:
        monkeypatch.setenv(f"COGNIFY_WORKSPACE_{space.upper()}", str(root / space))
    with dg.instance_for_test(temp_dir=str(root / "home"), set_dagster_home=False) as instance:
        yield dataclasses.replace(prepared, root=root, instance=instance)


def test_a_name_of_one_space_is_none_of_the_other():
    repository = spaces_project.defs.get_repository_def()
    names = {
        space: {
            *(sensor.name for sensor in repository.sensor_defs if sensor.name.startswith(f"{space}__")),
            *(key.to_user_string() for key in spaces_project.defs.resolve_asset_graph().get_all_asset_keys()),
        }
        for space in spaces_project.SPACES
    }
    assert {name for name in names["emea"] if "__" in name} == {
        "emea__tiny_approval_sensor",
        "emea__tiny_reconciliation_sensor",
        "emea__tiny_notification_sensor",
    }
    keys = spaces_project.defs.resolve_asset_graph().get_all_asset_keys()
    assert {key.path[0] for key in keys} == {"emea", "us"}
    specs = spaces_project.defs.resolve_all_asset_specs()
    assert {spec.group_name for spec in specs if spec.metadata.get("cognify/model")} == {"emea/tiny", "us/tiny"}
    assert {spec.partitions_def.name for spec in specs if spec.partitions_def is not None} == {  # type: ignore[attr-defined]
        "emea__tiny_versions",
        "us__tiny_versions",
    }
    pools = {spec.metadata["cognify/pool"] for spec in specs if "cognify/pool" in spec.metadata}
    assert pools == {"emea__tiny_production_deployment", "us__tiny_production_deployment"}
    dg.Definitions.validate_loadable(spaces_project.defs)


def test_a_release_in_one_workspace_is_none_in_the_other(two: Two):
    two.approve("emea")
    (request,) = two.tick("emea").run_requests
    assert request.asset_selection == [dg.AssetKey(["emea", "service"])]
    waiting = two.tick("us")
    assert waiting.run_requests == []
    assert waiting.skip_message.startswith("v1 waits for Vera")
    assert not two.run("us", "service").success
    assert two.run("emea", "service", check=True).success
    assert (two.root / "emea" / "live.json").is_file()
    assert not (two.root / "us" / "live.json").exists()
    assert two.kinds("us").count("release_refused") == 1
    assert not {"sign_off", "release_granted", "deployment_completed"} & set(two.kinds("us"))
    for space in spaces_project.SPACES:
        assert "accounted for" in two.tick(space, "reconciliation").skip_message
        assert two.workspace(space).read().all(Reconciliation) == []
        workspace = two.workspace(space)
        assert not workspace.ledger.verify(workspace.trust()).findings


def test_a_statement_of_one_workspace_counts_for_nothing_in_the_other(two: Two):
    """The same person, the same key, the same model and version; the very entries, written by the other's own workload."""
    two.approve("emea")
    copies = two.workspace("emea").read().all(SignOff)
    there = two.workspace("us")
    for item in copies:
        there.append(item.record, idem=idempotency_key("copied", item.seq))
    assert [item for item in two.tick("us").run_requests if item.asset_selection] == []
    assert not two.run("us", "service", check=True).success  # the check stops it
    refused = two.run("us", "service")  # and so does the body
    assert not refused.success
    (entry,) = there.read().all(ReleaseRefused)
    assert {reason.code for reason in entry.record.reasons} >= {
        "stage_validation",
        "stage_compliance",
        "stage_business",
    }
    assert there.read().all(ReleaseGranted) == []
    assert two.run("emea", "service").success


def test_a_deployment_never_touches_the_other_ledger(two: Two):
    """The other workspace is gone, and the release goes through; what needs it says so."""
    two.approve("emea")
    os.rename(two.root / "us", two.root / "us-away")
    assert two.tick("emea").run_requests
    assert two.run("emea", "service", check=True).success
    (done,) = two.workspace("emea").read().all(DeploymentCompleted)
    assert done.record.version == "v1"
    assert not two.run("us", "service").success


def test_two_code_locations_on_one_instance_stay_apart_too(two: Two):
    apart = {space: spaces_project.build(space) for space in spaces_project.SPACES}
    two.approve("us")
    assert two.run("us", "service", check=True, definitions=apart["us"]).success
    assert not two.run("emea", "service", definitions=apart["emea"]).success
    assert [len(two.workspace(space).read().all(DeploymentCompleted)) for space in spaces_project.SPACES] == [0, 1]
    assert sorted(two.instance.get_dynamic_partitions("emea__tiny_versions")) == ["v1"]


def test_the_wrong_ledger_for_a_space_is_refused(two: Two, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UsageError, match="serves the space 'us'"):
        Space("emea").checked(cg.LedgerResource(space="us"))
    with pytest.raises(UsageError, match="not a LedgerResource"):
        Space("emea").checked(object())
    for name in ("EMEA", "a__b", "1a", "a-b", "x" * 41):
        with pytest.raises(UsageError, match="small letters"):
            Space(name)
    # a space whose folder holds the other's ledger: what Dagster shows of its own is then not accounted for
    monkeypatch.setenv("COGNIFY_WORKSPACE_EMEA", str(two.root / "us"))
    assert "new findings" in two.tick("emea", "reconciliation").skip_message
    found = two.workspace("us").read().all(Reconciliation)
    assert all("test.example/emea" in item.record.text for item in found)
    with pytest.raises(WorkspaceError, match="resource is for test"):
        cg.LedgerResource(space="emea", origin="test.example/emea").open()


def test_a_lost_dagster_is_rebuilt_from_the_ledger_of_each_space_alone(two: Two):
    program = "from tests.orchestration.spaces_project import defs\n"
    where = two.root / "location"
    where.mkdir()
    (where / "definitions.py").write_text(program)
    location = load_location(where)
    assert location.get("error") is None
    assert [(item.status, item.text) for item in location_checks(location)][1:] == [
        ("ok", 'resource "ledger_emea" is a LedgerResource'),
        ("ok", 'resource "ledger_us" is a LedgerResource'),
    ]
    with dg.instance_for_test(set_dagster_home=False) as lost:
        done = resync(two.workspace("us"), lost, location["assets"])
        assert {item.asset.split("/")[0] for item in done.rebuilt} == {"us"}
        assert done.partitions == {"us__tiny_versions": ["v1"]}
        assert lost.fetch_materializations(dg.AssetKey(["emea", "tiny_package"]), limit=1).records == []
        assert len(lost.fetch_materializations(dg.AssetKey(["us", "tiny_package"]), limit=5).records) == 1
