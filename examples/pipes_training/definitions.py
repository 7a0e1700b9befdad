"""The code location: a snapshot, and a training asset that is a command."""

import sys
from pathlib import Path

import dagster as dg

import cognify_dagster as cg

HERE = Path(__file__).parent

exam = cg.GovernedModel(
    key="exam_line",
    owner="team:examples",
    risk_tier="low",
    intended_use="Show a governed training in a process of its own",
)


@cg.dataset_snapshot(
    provenance=cg.Provenance(source="made up for this example", licence="CC0 1.0"),
    change_reason="The example's data as shipped",
)
def exam_scores() -> str:
    """Hours of study and the score that followed."""
    return str(HERE / "exam_scores.csv")


exam_model = cg.pipes_training_run(
    exam,
    name="exam_model",
    datasets=["exam_scores"],
    command=[sys.executable, str(HERE / "train.py")],
)

defs = dg.Definitions.merge(
    dg.Definitions(assets=[exam_scores], resources={"ledger": cg.LedgerResource()}),
    exam.build_defs(assets=[exam_model]),
)
