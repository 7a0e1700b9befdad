"""Prepared workspaces: made once a session, copied by each test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.governance import PersonalKey, adopt_gate_set
from cognify_dagster.records import GateRule
from cognify_dagster.training import capture_code
from tests.governance.world import make_world
from tests.orchestration import project

GATES = (
    GateRule(id="ranks", family="performance", metric="auc", op=">=", threshold=0.7, source="policy"),
    GateRule(
        id="sex-ratio", family="fairness", metric="fairness.SEX.ratio", op=">=", threshold=0.8, source="convention"
    ),
    GateRule(id="apart", family="data_quality", metric="data.overlap_records", op="<=", threshold=0, source="policy"),
)


@dataclass(frozen=True)
class Stock:
    """A project folder that tests copy, the keys of its people, and the DAGSTER_HOME of what ran, where it was kept."""

    folder: Path
    keys: dict[str, PersonalKey]
    home: Path | None = None


def found(folder: Path, *, gates: bool = True) -> Stock:
    """Found a workspace, enrol people (Gita stands for the authors of the code), adopt the gates, write data."""
    world = make_world(folder)
    authors = tuple(f"git:{author}" for author in capture_code(Path(project.__file__).parent).authors)
    world.enrol("gita", "data_scientist", aliases=authors)
    if gates:
        adopt_gate_set(world.workspace, "tiny_gates", "tiny", list(GATES), world.key("vera"))
    project.write_data(folder / "project" / "data")
    return Stock(folder / "project", world.keys)


def package(founded: Stock, folder: Path) -> Stock:
    """Copy a founded workspace and bring v1 up to its package."""
    from tests.orchestration.desk import Desk

    target = folder / "project"
    shutil.copytree(founded.folder, target)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("COGNIFY_WORKSPACE", str(target))
        Desk(target, founded.keys, instance).build()
    (target / "entered.txt").unlink()
    return Stock(target, founded.keys)


def release(founded: Stock, folder: Path) -> Stock:
    """Copy a founded workspace and bring v1 up to its release, on an instance that tests copy too."""
    from tests.orchestration.desk import Desk

    target, home = folder / "project", folder / "home"
    shutil.copytree(founded.folder, target)
    home.mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        dg.instance_for_test(temp_dir=str(home), set_dagster_home=False) as instance,
    ):
        patch.setenv("COGNIFY_WORKSPACE", str(target))
        desk = Desk(target, founded.keys, instance)
        desk.build()
        desk.approve()
        assert desk.run([project.SERVICE]).success
    return Stock(target, founded.keys, home)
