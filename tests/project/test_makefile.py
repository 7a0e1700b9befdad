"""The Makefile installs for each target what that target needs, and its help names every target it has."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-adapters.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def planned(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["make", "-n", *arguments], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_demo_installs_its_own_extra_and_the_tests_the_rest(checkout: Path) -> None:
    for target in ("demo", "up"):
        assert "-e '.[demo]'" in planned(checkout, target)
        assert ".[dev]" not in planned(checkout, target)
    assert "-e '.[dev]'" in planned(checkout, "test")
    assert ".[demo]" not in planned(checkout, "test")


def test_every_installation_keeps_to_the_pins(checkout: Path) -> None:
    for target in ("demo", "test"):
        calls = [line for line in planned(checkout, target).splitlines() if "pip install" in line]
        assert calls
        assert all("-c constraints.txt" in line for line in calls)


def test_after_the_tests_the_demo_installs_nothing_more_until_the_pins_change(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    for name in (".installed-demo", ".installed"):
        (checkout / ".venv" / name).touch()
    assert "pip install" not in planned(checkout, "demo")
    assert "pip install" not in planned(checkout, "test")
    assert "-e '.[demo]'" in planned(checkout, "-W", "constraints.txt", "demo")
    assert "-e '.[dev]'" in planned(checkout, "-W", "pyproject.toml", "test")


def test_the_reset_installs_nothing(checkout: Path) -> None:
    assert "pip" not in planned(checkout, "demo-reset")


def test_the_help_names_only_targets_that_exist(checkout: Path) -> None:
    done = subprocess.run(["make"], cwd=checkout, capture_output=True, text=True, check=True)
    named = re.findall(r"^make (\S+)", done.stdout, re.MULTILINE)
    assert {"demo", "up", "demo-reset", "test", "lint"} <= set(named)
    for target in named:
        planned(checkout, target)


def test_the_adapters_are_tested_in_an_environment_of_their_own_with_pins_of_their_own(checkout: Path) -> None:
    plan = planned(checkout, "test-adapters")
    calls = [line for line in plan.splitlines() if "pip install" in line]
    assert calls
    assert all(line.startswith(".venv-adapters/") and "-c constraints-adapters.txt" in line for line in calls)
    assert "COGNIFY_ADAPTERS=1" in plan
    assert ".[adapters]" not in planned(checkout, "test")
