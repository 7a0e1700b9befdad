"""The real data, cleaned, split and trained on once for all tests of the example."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from cognify_dagster.evaluation import EvalResult
from examples.credit_default.cleaning import CleaningReport, SplitReport, clean, load_source, split
from examples.credit_default.evaluate import evaluate_credit
from examples.credit_default.model import CreditModel, save_model, train_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small models on busy cores: threads that wait for each other cost more than they bring."""
    with threadpool_limits(1):
        yield


@dataclass
class Credit:
    raw: pd.DataFrame
    cleaned: pd.DataFrame
    cleaning: CleaningReport
    train: pd.DataFrame
    holdout: pd.DataFrame
    split: SplitReport
    model: CreditModel
    path: Path
    digest: str


@pytest.fixture(scope="session")
def credit(tmp_path_factory) -> Credit:
    raw = load_source()
    cleaned, cleaning = clean(raw)
    train, holdout, report = split(cleaned)
    model = train_model(train)
    path = tmp_path_factory.mktemp("model") / "model.joblib"
    return Credit(raw, cleaned, cleaning, train, holdout, report, model, path, save_model(model, path))


@pytest.fixture(scope="session")
def evaluation(credit) -> EvalResult:
    return evaluate_credit(credit.model, credit.holdout, explain_rows=1000)
