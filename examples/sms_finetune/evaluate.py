"""Evaluates the model on the holdout: how well it ranks, what it catches and blocks, by length and content, and with typing errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.evaluation import (
    Case,
    DecisionThreshold,
    EvalResult,
    MetricValue,
    Typos,
    evaluate_fairness,
    evaluate_performance,
    evaluate_slices,
    perturbation_table,
)
from cognify_dagster.evaluation.fairness import wilson_interval
from examples.sms_finetune.finetune import spam_scores
from examples.sms_finetune.messages import LABEL, SPAM, TEXT

#: A message is taken for spam where the model gives spam the larger probability.
THRESHOLD = 0.5
MIN_CELL = 20
#: Whether a message is wanted must not hang on whose English it is in. The data do not say; these words tell it roughly.
DIALECT = "DIALECT"
SINGAPORE, OTHER = "Singapore English", "other English"
DIALECT_SOURCE = (
    "Inferred here from words typical of Singapore English (lah, lor, leh, ü for you, and others); nobody stated it. It measures this "
    "inference as well as the model."
)
_SINGAPORE_WORDS = frozenset(
    ["lah", "lor", "leh", "lar", "liao", "meh", "hor", "sia", "oso", "juz", "haf", "dun", "izzit", "ü"]
)
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d{4,}")
_LENGTHS = ((40, "up to 40 characters"), (100, "41 to 100"), (10_000, "over 100"))


def evaluate_spam(
    folder: Path, rows: Sequence[dict[str, Any]], *, n_boot: int = 200, seed: int = 0, changed: int = 300
) -> EvalResult:
    """Evaluate the model in a folder on messages that it was not trained on.

    Args:
        folder: the model.
        rows: dicts with text and label.
        n_boot: bootstrap replicates of the intervals.
        seed: of all resampling.
        changed: messages of the sensitivity table; 0 leaves it out.
    """
    texts = [str(row[TEXT]) for row in rows]
    labels = [int(row[LABEL] == SPAM) for row in rows]
    scores = spam_scores(folder, texts)
    performance = evaluate_performance(labels, scores, n_boot=n_boot, seed=seed)
    taken = [score >= THRESHOLD for score in scores]
    spam = [hit for hit, label in zip(taken, labels, strict=True) if label]
    ham = [hit for hit, label in zip(taken, labels, strict=True) if not label]
    table = {
        "length": [next(name for limit, name in _LENGTHS if len(text) <= limit) for text in texts],
        "long_number": ["yes" if _NUMBER.search(text) else "no" for text in texts],
        "label": labels,
        "score": scores,
    }
    slices = evaluate_slices(
        table,
        by=["length", "long_number"],
        label="label",
        score="score",
        metrics=("recall", "specificity"),
        threshold=THRESHOLD,
        min_cell=MIN_CELL,
        n_boot=n_boot,
        seed=seed,
    )
    perturbations: Any = ()
    if changed:
        perturbations = perturbation_table(
            lambda given: spam_scores(folder, given),
            texts[:changed],
            labels[:changed],
            [Typos(0.05), Typos(0.15), Case("upper")],
            metrics=("recall", "specificity"),
            threshold=THRESHOLD,
            seed=seed,
        )
    fairness = evaluate_fairness(
        DIALECT,
        [dialect(text) for text in texts],
        good_outcome=[1 - label for label in labels],
        favourable_decision=[int(not hit) for hit in taken],
        favourable="message let through (probability of spam below one half)",
        group_order=(SINGAPORE, OTHER),
        min_cell=MIN_CELL,
        n_boot=n_boot,
        auc_n_boot=n_boot,
        seed=seed,
        source=DIALECT_SOURCE,
    )
    return EvalResult(
        metrics=(
            *performance.metrics,
            _share("spam_caught", spam, True, "share of spam that is recognised"),
            _share("ham_blocked", ham, False, "share of wanted messages that are taken for spam"),
        ),
        calibration=performance.calibration,
        fairness=(fairness,),
        protected_attributes=(DIALECT,),
        slices=slices,
        perturbations=perturbations,
        threshold=DecisionThreshold(
            value=THRESHOLD, rule="the label with the larger probability", chosen_on="no data: fixed before"
        ),
        n=len(rows),
        settings={"n_boot": n_boot, "confidence": performance.confidence, "seed": seed, "min_cell": MIN_CELL},
        notes=(
            "The messages say nothing about who wrote them. Compared are messages with and without words of Singapore English, as the only "
            "sign of a group of people that the text gives; in this holdout no spam has such words.",
            *fairness.notes,
            "Messages like those of the training data, from before 2011: the numbers say nothing about today's spam.",
        ),
    )


def dialect(text: str) -> str:
    """Which English a message is in, roughly, by its words."""
    return SINGAPORE if _SINGAPORE_WORDS & set(_WORD.findall(text.casefold())) else OTHER


def _share(name: str, hits: Sequence[bool], higher: bool, objective: str) -> MetricValue:
    low, high = wilson_interval(sum(hits), len(hits))
    return MetricValue(name, sum(hits) / len(hits), low, high, len(hits), "ratio", higher, objective)
