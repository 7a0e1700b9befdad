"""What moves the model's scores, and how its errors trade off: small tables, as JSON documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cognify_dagster.evaluation import CalibrationBin, json_safe
from examples.credit_default.cleaning import LABEL, take_records
from examples.credit_default.model import as_frame

if TYPE_CHECKING:
    from examples.credit_default.model import CreditModel


def permutation_importances(
    model: CreditModel, data: Any, *, max_records: int = 3000, repeats: int = 5, seed: int = 0
) -> dict[str, Any]:
    """How much AUC falls when one column is shuffled, with its spread over repeats.

    Columns that carry the same information share it: bills of neighbouring months each look less important than they are
    together.

    Args:
        model: The model.
        data: A table with features and label.
        max_records: Rows used, chosen by seed.
        repeats: Shuffles of each column.
        seed: Seed of choice and shuffles.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score

    frame = take_records(as_frame(data), max_records, seed=seed)
    labels = frame[LABEL].to_numpy()
    base = float(roc_auc_score(labels, model.predict_default(frame)))
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for feature in model.features:
        shuffled = frame[list(model.features)].copy()
        drops = []
        for _ in range(repeats):
            shuffled[feature] = rng.permutation(frame[feature].to_numpy())
            drops.append(base - float(roc_auc_score(labels, model.predict_default(shuffled))))
        rows.append({"feature": feature, "auc_drop": float(np.mean(drops)), "spread": float(np.std(drops))})
    rows.sort(key=lambda row: -row["auc_drop"])
    return {
        "method": "permutation importance: fall of AUC when one column is shuffled",
        "auc": base,
        "rows": len(frame),
        "repeats": repeats,
        "seed": seed,
        "importances": rows,
    }


def roc_table(labels: Any, scores: Any, *, points: int = 21) -> list[dict[str, float]]:
    """The ROC curve at evenly spaced false positive rates: threshold, false and true positive rate of "default"."""
    import numpy as np
    from sklearn.metrics import roc_curve

    false_positive, true_positive, thresholds = roc_curve(labels, scores)
    rows = []
    for wanted in np.linspace(0.0, 1.0, points):
        at = min(int(np.searchsorted(false_positive, wanted, side="right")) - 1, len(thresholds) - 1)
        rows.append(
            {
                "threshold": float(
                    min(thresholds[at], 1.0)
                ),  # the first one is infinite: nobody is predicted to default
                "false_positive_rate": float(false_positive[at]),
                "true_positive_rate": float(true_positive[at]),
            }
        )
    return rows


def confusion_matrix(labels: Any, scores: Any, threshold: float) -> dict[str, int]:
    """Counts of (outcome, decision) at a threshold."""
    import numpy as np

    truth, declined = np.asarray(labels) == 1, np.asarray(scores) >= threshold
    return {
        "defaulted_declined": int((truth & declined).sum()),
        "defaulted_granted": int((truth & ~declined).sum()),
        "repaid_declined": int((~truth & declined).sum()),
        "repaid_granted": int((~truth & ~declined).sum()),
    }


def calibration_rows(table: tuple[CalibrationBin, ...]) -> list[dict[str, Any]]:
    """The calibration table as plain JSON values."""
    rows: list[dict[str, Any]] = json_safe(table, where="calibration")
    return rows


def as_json(document: Any) -> bytes:
    """A JSON document for people: two spaces of indentation, UTF-8, line feed at the end; equal input, equal bytes."""
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
