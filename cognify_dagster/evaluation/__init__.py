"""Evaluation: metrics with intervals, slices and sites, group fairness as a screen, sensitivity, explanations, champion and
challenger, and gates stated before results.

What is named here is pure: it reads and writes no ledger (`recording`, `comparing` and `explaining.find_explanation` do). numpy,
pandas and fairlearn are imported when first used.
"""

from __future__ import annotations

from cognify_dagster.evaluation._errors import AdvisoryError, EvaluationError, GateSetError
from cognify_dagster.evaluation._json import json_safe, metric_json
from cognify_dagster.evaluation.comparing import (
    compare_evaluations,
    compare_on_snapshot,
    differences,
    predictions_artifact,
)
from cognify_dagster.evaluation.explaining import (
    DecisionExplanation,
    decision_explanations,
    find_explanation,
    global_explanation,
    linear_contributions,
)
from cognify_dagster.evaluation.fairness import evaluate_fairness, wilson_interval
from cognify_dagster.evaluation.fairness_results import Disparity, FairnessResult, GroupResult, Rate
from cognify_dagster.evaluation.gates import (
    INSUFFICIENT_DATA,
    Gate,
    GateOutcome,
    GateSet,
    all_passed,
    evaluate_gates,
    load_gate_set,
    parse_gate_set,
)
from cognify_dagster.evaluation.metrics import (
    CalibrationBin,
    MetricValue,
    PerformanceResult,
    best_ks_threshold,
    evaluate_performance,
)
from cognify_dagster.evaluation.results import as_eval_result
from cognify_dagster.evaluation.scoring import SCORERS, Scorer
from cognify_dagster.evaluation.sensitivity import Case, Change, Edit, Missing, Noise, Shift, Typos, perturbation_table
from cognify_dagster.evaluation.slices import evaluate_slices
from cognify_dagster.evaluation.suite import DecisionThreshold, EvalArtifact, EvalResult

__all__ = [
    "INSUFFICIENT_DATA",
    "SCORERS",
    "AdvisoryError",
    "CalibrationBin",
    "Case",
    "Change",
    "DecisionExplanation",
    "DecisionThreshold",
    "Disparity",
    "Edit",
    "EvalArtifact",
    "EvalResult",
    "EvaluationError",
    "FairnessResult",
    "Gate",
    "GateOutcome",
    "GateSet",
    "GateSetError",
    "GroupResult",
    "MetricValue",
    "Missing",
    "Noise",
    "PerformanceResult",
    "Rate",
    "Scorer",
    "Shift",
    "Typos",
    "all_passed",
    "as_eval_result",
    "best_ks_threshold",
    "compare_evaluations",
    "compare_on_snapshot",
    "decision_explanations",
    "differences",
    "evaluate_fairness",
    "evaluate_gates",
    "evaluate_performance",
    "evaluate_slices",
    "find_explanation",
    "global_explanation",
    "json_safe",
    "linear_contributions",
    "load_gate_set",
    "metric_json",
    "parse_gate_set",
    "perturbation_table",
    "predictions_artifact",
    "wilson_interval",
]
