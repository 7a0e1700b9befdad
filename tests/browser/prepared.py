"""A workspace with something on every page of the site: two versions, one live with a condition, a changed data set, a finding."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.governance import Choice, Condition, SectionText, open_finding, sign_off, write_sections
from cognify_dagster.workspace import Workspace
from tests.orchestration import project
from tests.orchestration.desk import Desk
from tests.orchestration.stock import Stock

MODEL, FIRST, SECOND = "tiny", "v1", "v2"
TEXTS = ("The mean says little.", "The mean says little about a record. Beyond an amount of 1,200 it ranks by chance.")


def build(founded: Stock, folder: Path) -> Stock:
    """Version v1 up to its package, on an instance whose home is kept: nobody signed."""
    target, home = folder / "project", folder / "home"
    shutil.copytree(founded.folder, target)
    home.mkdir()
    with at_desk(Stock(target, founded.keys, home)) as desk:
        desk.build()
    return Stock(target, founded.keys, home)


def prepare(built: Stock, folder: Path) -> Stock:
    """Go on from there: v1 is approved, the last time with a condition, and live; its data changes; v2 has one signature of three."""
    shutil.copytree(built.folder, folder / "project")
    assert built.home is not None
    shutil.copytree(built.home, folder / "home")
    stock = Stock(folder / "project", built.keys, folder / "home")
    with at_desk(stock) as desk:
        desk.approve("vera", "carl")
        due = (datetime.now(timezone.utc) + timedelta(days=30)).strftime("%Y-%m-%dT00:00:00Z")
        condition = Condition(text="Say in the notice to customers what the limit means.", due=due, kind="remediation")
        sign_off(
            desk.workspace, MODEL, FIRST, desk.keys["olga"], Choice("approve_with_conditions", conditions=(condition,))
        )
        assert desk.run([project.SERVICE]).success
        project.write_data(desk.folder / "data", rows=240)
        assert desk.run(project.DATA, None).success
        desk.switch("seed", "8")
        for text in TEXTS:
            write_sections(
                desk.workspace, MODEL, SECOND, [SectionText("failure_modes", text, author="person/ben")], ahead=True
            )
        built_again = desk.run(project.BUILD, SECOND)
        assert built_again.success, built_again.failure
        facts = {
            "model": MODEL,
            "version": SECOND,
            "severity": "medium",
            "title": "The holdout grew",
            "text": "Forty records were added after the first release; say why.",
        }
        open_finding(desk.workspace, desk.keys["vera"], **facts)
        desk.approve("vera", version=SECOND)
    return stock


# The processes with which Dagster copies a run's output hang beside a browser, a minute and more for each run.
QUIET = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


class at_desk:
    """Sit down at a stock itself, not at a copy, with the instance of its home."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> Desk:
        self.patch.setenv("COGNIFY_WORKSPACE", str(self.stock.folder))
        self.opened = dg.instance_for_test(QUIET, temp_dir=str(self.stock.home), set_dagster_home=False)
        return Desk(self.stock.folder, self.stock.keys, self.opened.__enter__())

    def __exit__(self, *error: object) -> None:
        self.opened.__exit__(None, None, None)
        self.patch.undo()


def workspace(stock: Stock) -> Workspace:
    """Open a stock's workspace."""
    return Workspace.open(stock.folder)
