"""German Credit with a logistic regression and its decisions, for tests of group fairness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from cognify_dagster.evaluation import FairnessResult, evaluate_fairness

FILE = Path(__file__).parent / "data" / "german_credit.csv"
ATTRIBUTES = ("age_25", "foreign_worker", "personal_status_and_sex")
_FEATURES = ("duration_in_month", "credit_amount", "installment_rate_in_percentage_of_disposable_income")


@dataclass(frozen=True)
class German:
    """The table, the good outcomes and the decisions of a model."""

    frame: pd.DataFrame
    good: Any
    granted: Any
    score: Any

    def fairness(self, attribute: str, **settings: Any) -> FairnessResult:
        """The comparison of one attribute's groups."""
        return evaluate_fairness(
            attribute,
            list(self.frame[attribute]),
            good_outcome=self.good,
            favourable_decision=self.granted,
            favourable="credit granted",
            n_boot=50,
            source="column of the file; age as stated by the applicant",
            **settings,
        )


@cache
def german_credit() -> German:
    """Fit on the first 300 records, decide all."""
    frame = pd.read_csv(FILE)
    good = (frame["credit_risk"] == 1).astype(int).to_numpy()
    checking = pd.get_dummies(frame["status_of_existing_checking_account"]).astype(float)
    features = pd.concat([frame[list(_FEATURES)].astype(float), checking], axis=1)
    features = (features - features.mean()) / features.std()
    model = LogisticRegression().fit(features[:300], good[:300])
    score = model.predict_proba(features)[:, 1]
    frame["age_25"] = np.where(frame["age_in_years"] > 25, "over 25", "up to 25")
    return German(frame, good, (score >= 0.6).astype(int), score)
