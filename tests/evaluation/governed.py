"""A version that can be evaluated: model, snapshots, thresholds and a sealed run on record, in a real workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cognify_dagster.governance import adopt_gate_set
from cognify_dagster.records import (
    CodeRef,
    DatasetRef,
    GateRule,
    ModelRegistered,
    OverlapChecked,
    TrainingRun,
)
from cognify_dagster.workspace import Recorded
from tests.governance.world import MODEL, World

HOLDOUT = "cd" * 32
CODE = CodeRef(vcs="git", commit="c" * 40, dirty=False)


def rule(metric: str, op: str, threshold: float, family: str = "performance", **more: Any) -> GateRule:
    """A threshold called after its metric."""
    name = metric.lower().replace("_", "-")[:60]
    return GateRule.model_validate(
        {"id": name, "family": family, "metric": metric, "op": op, "threshold": threshold, "source": "policy", **more}
    )


def prepare(
    world: World,
    gates: Sequence[GateRule] = (rule("auc", ">=", 0.7),),
    *,
    protected: tuple[str, ...] = (),
    records: int | None = 200,
    compared: bool = True,
) -> Recorded[TrainingRun]:
    """Bring version 1 up to the point where it is evaluated; return its sealed run."""
    world.write(ModelRegistered(model=MODEL, owner="team:risk", risk_tier="high", protected_attributes=protected))
    world.data["train"] = world.snapshot("loans_train").seq
    world.data["holdout"] = world.snapshot("loans_holdout", HOLDOUT, record_count=records).seq
    world.data["gates"] = adopt_gate_set(world.workspace, "credit_gates", MODEL, list(gates), world.key("vera")).seq
    if compared:
        overlap(world)
    return train(world, "1")


def train(world: World, version: str) -> Recorded[TrainingRun]:
    """Seal a version."""
    world.train(version)
    found = world.workspace.read().latest(TrainingRun, f"model/{MODEL}@{version}")
    assert found is not None
    return found


def overlap(world: World, root: str = HOLDOUT, name: str = "holdout", dataset: str = "loans_holdout") -> None:
    """Record that training and evaluation data share nothing."""
    world.write(
        OverlapChecked(
            train=DatasetRef(name="loans_train", root="ab" * 32, seq=world.data["train"], role="train"),
            holdout=DatasetRef(name=dataset, root=root, seq=world.data[name], role="holdout"),
            level="exact",
            compared_columns=("a",),
            ignored_columns=(),
            overlapping_records=0,
            passed=True,
        )
    )


def holdout(world: World) -> DatasetRef:
    """The evaluation snapshot."""
    return DatasetRef(name="loans_holdout", root=HOLDOUT, seq=world.data["holdout"], role="evaluation")
