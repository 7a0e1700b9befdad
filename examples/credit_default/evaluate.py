"""Evaluates the model on the holdout: performance, calibration, and groups by sex, age band and marital status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cognify_dagster.evaluation import (
    DecisionThreshold,
    EvalArtifact,
    EvalResult,
    evaluate_fairness,
    evaluate_performance,
)
from examples.credit_default import explain
from examples.credit_default.cleaning import LABEL
from examples.credit_default.model import as_frame

if TYPE_CHECKING:
    from examples.credit_default.model import CreditModel

#: The favourable decision, in the words that every document uses.
FAVOURABLE = "credit granted (predicted probability of default below the threshold)"

AGE_BANDS: tuple[tuple[str, int, int], ...] = (
    ("<30", 0, 29),
    ("30-39", 30, 39),
    ("40-49", 40, 49),
    ("50-59", 50, 59),
    ("60+", 60, 200),
)
SEX_NAMES = {1: "men", 2: "women"}
#: Code 0 occurs too and is not explained by the source: those records are in no group, and the evaluation says how many.
MARRIAGE_NAMES = {1: "married", 2: "single", 3: "other"}

#: Only for reading the data: education is neither a feature nor compared. Codes 0, 5 and 6 are not explained by the source.
EDUCATION_NAMES = {1: "graduate school", 2: "university", 3: "high school", 4: "others"}

#: Attributes on whose basis a credit decision must not be taken, and which these data hold in a form that can be compared.
PROTECTED_ATTRIBUTES = ("SEX", "AGE_BAND", "MARRIAGE")

MIN_CELL = 30


def age_band(age: int) -> str | None:
    """The band of an age in years; None outside all bands."""
    return next((name for name, low, high in AGE_BANDS if low <= age <= high), None)


def evaluate_credit(
    model: CreditModel, holdout: Any, *, n_boot: int = 200, seed: int = 0, explain_rows: int = 3000
) -> EvalResult:
    """Evaluates a model on a table it was not trained on.

    Args:
        model: The model; its own threshold decides who is granted credit.
        holdout: A pandas or Arrow table with features, label, SEX, AGE and MARRIAGE.
        n_boot: Bootstrap replicates of the performance intervals.
        seed: Seed of all resampling.
        explain_rows: Rows used for the permutation importances.
    """
    import fairlearn
    import sklearn

    frame = as_frame(holdout)
    labels = frame[LABEL].to_numpy()
    scores = model.predict_default(frame)
    performance = evaluate_performance(labels, scores, n_boot=n_boot, seed=seed)
    granted = (scores < model.threshold).astype(int)
    groups: dict[str, tuple[list[str | None], tuple[str, ...]]] = {
        "SEX": ([SEX_NAMES.get(int(code)) for code in frame["SEX"]], tuple(SEX_NAMES.values())),
        "AGE_BAND": ([age_band(int(age)) for age in frame["AGE"]], tuple(name for name, _, _ in AGE_BANDS)),
        "MARRIAGE": ([MARRIAGE_NAMES.get(int(code)) for code in frame["MARRIAGE"]], tuple(MARRIAGE_NAMES.values())),
    }
    fairness = tuple(
        evaluate_fairness(
            attribute,
            values,
            good_outcome=1 - labels,
            favourable_decision=granted,
            favourable=FAVOURABLE,
            score=1.0 - scores,
            group_order=order,
            min_cell=MIN_CELL,
            auc_n_boot=n_boot,
            seed=seed,
        )
        for attribute, (values, order) in groups.items()
    )
    documents = {
        "permutation_importances.json": explain.permutation_importances(
            model, frame, max_records=explain_rows, seed=seed
        ),
        "roc.json": explain.roc_table(labels, scores),
        "confusion_matrix.json": explain.confusion_matrix(labels, scores, model.threshold),
        "calibration.json": explain.calibration_rows(performance.calibration),
    }
    notes = (
        f"Favourable decision: {FAVOURABLE}. TPR: share of those who repaid that was granted credit.",
        "Group numbers are a screen: a reason to look closer, not a test that can be passed.",
        "MARRIAGE code 3 is “others” in the source, without explanation.",
        *(note for result in fairness for note in result.notes),
    )
    return EvalResult(
        metrics=performance.metrics,
        calibration=performance.calibration,
        fairness=fairness,
        threshold=DecisionThreshold(
            value=model.threshold, rule=model.threshold_rule, chosen_on="training data, out of fold"
        ),
        protected_attributes=PROTECTED_ATTRIBUTES,
        n=len(frame),
        settings={
            "n_boot": n_boot,
            "confidence": performance.confidence,
            "seed": seed,
            "resampling": "stratified by label; by group for comparisons between groups",
            "min_cell": MIN_CELL,
            "libraries": {"scikit-learn": sklearn.__version__, "fairlearn": fairlearn.__version__},
        },
        notes=notes,
        artifacts=tuple(
            EvalArtifact(name=name, media_type="application/json", data=explain.as_json(document))
            for name, document in documents.items()
        ),
    )
