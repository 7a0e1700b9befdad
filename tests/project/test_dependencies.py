"""What comes with a plain installation: the training libraries and trackers that adapters speak to are extras."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "accelerate", "datasets", "mlflow", "mlflow-skinny", "wandb", "comet-ml", "lm-eval")


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9._-]+", item) for item in requirements)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


@pytest.mark.parametrize("heavy", HEAVY)
def test_a_plain_installation_brings_no_training_library_and_no_tracker(heavy: str) -> None:
    assert heavy not in names(project()["dependencies"])


def test_each_of_them_that_is_spoken_to_is_an_extra() -> None:
    extras = project()["optional-dependencies"]
    assert {"torch", "transformers"} <= names(extras["huggingface"])
    assert "mlflow-skinny" in names(extras["mlflow"])
    assert "wandb" in names(extras["wandb"])
