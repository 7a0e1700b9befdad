"""Evaluation: metrics with intervals, group fairness as a screen, and gates stated before results.

Pure: nothing here reads or writes a ledger. numpy, pandas and fairlearn are imported when first used.
"""

from __future__ import annotations

from cognify_dagster.evaluation._errors import AdvisoryError, EvaluationError, GateSetError
from cognify_dagster.evaluation._json import json_safe, metric_json
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
from cognify_dagster.evaluation.suite import DecisionThreshold, EvalArtifact, EvalResult

__all__ = [
    "INSUFFICIENT_DATA",
    "AdvisoryError",
    "CalibrationBin",
    "DecisionThreshold",
    "Disparity",
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
    "PerformanceResult",
    "Rate",
    "all_passed",
    "best_ks_threshold",
    "evaluate_fairness",
    "evaluate_gates",
    "evaluate_performance",
    "json_safe",
    "load_gate_set",
    "metric_json",
    "parse_gate_set",
    "wilson_interval",
]
