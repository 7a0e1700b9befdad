"""The demo's model: deterministic, without prohibited bases, honest numbers, loaded only when its digest is known."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from cognify_dagster.evaluation import all_passed, evaluate_gates, load_gate_set
from cognify_dagster.training import TrainingRecorder
from examples.credit_default import explain
from examples.credit_default.cleaning import COLUMNS, LABEL, CreditDataError
from examples.credit_default.evaluate import age_band, evaluate_credit
from examples.credit_default.model import (
    EXCLUDED_FEATURES,
    FEATURES,
    ModelFileError,
    TrainConfig,
    load_model,
    read_verified,
    save_model,
    train_model,
    write_atomically,
)

ROOT = Path(__file__).resolve().parents[2]
GATES = ROOT / "examples" / "credit_default" / "gates.yaml"


def test_prohibited_bases_are_no_features_and_every_column_is_accounted_for(credit):
    assert not {"SEX", "MARRIAGE", "AGE", "EDUCATION", "ID", LABEL} & set(FEATURES)
    assert set(FEATURES) | set(EXCLUDED_FEATURES) == set(COLUMNS)
    changed = credit.holdout.head(200).assign(SEX=1, MARRIAGE=3, AGE=79, EDUCATION=0)
    assert (credit.model.predict_default(changed) == credit.model.predict_default(credit.holdout.head(200))).all()


def test_training_again_gives_the_same_file_and_takes_seconds(credit, tmp_path):
    start = time.monotonic()
    again = train_model(credit.train)
    assert time.monotonic() - start < 20
    assert save_model(again, tmp_path / "again.joblib") == credit.digest


def test_another_process_with_more_threads_gives_the_same_predictions(credit, tmp_path):
    code = (
        "import sys; from examples.credit_default import cleaning, model\n"
        "train, holdout, _ = cleaning.split(cleaning.clean(cleaning.load_source())[0])\n"
        "m = model.train_model(train, model.TrainConfig(max_records=3000))\n"
        "print(m.threshold.hex(), sum(m.predict_default(holdout.head(500))).hex())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    here = train_model(credit.train, TrainConfig(max_records=3000))
    assert out == [here.threshold.hex(), sum(here.predict_default(credit.holdout.head(500))).hex()]


def test_seed_and_number_of_records_make_another_model(credit):
    base = train_model(credit.train, TrainConfig(max_records=3000))
    other = train_model(credit.train, TrainConfig(max_records=3000, seed=7))
    assert base.train_rows == other.train_rows == 3000
    sample = credit.holdout.head(100)
    assert (base.predict_default(sample) != other.predict_default(sample)).any()


def test_an_arrow_table_trains_like_a_pandas_one(credit):
    config = TrainConfig(max_records=2000)
    arrow = train_model(pa.Table.from_pandas(credit.train), config)
    pandas = train_model(credit.train, config)
    sample = credit.holdout.head(100)
    assert (arrow.predict_default(pa.Table.from_pandas(sample)) == pandas.predict_default(sample)).all()


def test_what_is_recorded_is_what_the_trainer_got(credit, tmp_path):
    run = TrainingRecorder()
    model = train_model(credit.train, TrainConfig(max_records=2000), recorder=run)
    save_model(model, run_file := tmp_path / "m.joblib")
    run.save_model(run_file)
    run.complete()
    facts = run.to_facts()["facts"]
    assert facts["config"]["estimator"] == json.loads(json.dumps(model.estimator.get_params()))
    assert facts["config"]["threshold"] == model.threshold
    assert facts["config"]["features"] == list(FEATURES)
    curve = json.loads(run.metric_series())["train/log_loss"]
    assert [step for step, _ in curve] == list(range(10, 151, 10))
    assert curve[-1][1] < curve[0][1]
    assert facts["architecture"]["framework"] == "scikit-learn"
    assert facts["selection_note"]
    assert facts["models"][0]["sha256"] == hashlib.sha256(run_file.read_bytes()).hexdigest()


def test_too_few_rows_are_refused(credit):
    with pytest.raises(CreditDataError, match="too few of one label"):
        train_model(credit.train.head(40))
    with pytest.raises(CreditDataError, match="PAY_0"):
        train_model(credit.train.drop(columns="PAY_0"))
    with pytest.raises(CreditDataError, match="label column"):
        train_model(credit.train.drop(columns=LABEL))


def test_the_numbers_are_those_of_the_holdout(credit, evaluation):
    flat = evaluation.flat()
    scores = credit.model.predict_default(credit.holdout)
    assert flat["auc"] == pytest.approx(roc_auc_score(credit.holdout[LABEL], scores), abs=1e-12)
    assert 0.75 < flat["auc.ci_low"] < flat["auc"] < flat["auc.ci_high"] < 0.82
    assert flat["n"] == len(credit.holdout)
    women = credit.holdout["SEX"] == 2
    granted = scores < credit.model.threshold
    assert flat["fairness.SEX.groups.women.selection_rate"] == pytest.approx(granted[women].mean())
    assert flat["fairness.SEX.groups.women.n"] == women.sum()
    oldest = credit.holdout["AGE"] >= 60
    repaid = credit.holdout[LABEL] == 0
    assert flat["fairness.AGE_BAND.groups.60+.n"] == oldest.sum()
    assert flat["fairness.AGE_BAND.groups.60+.tpr"] == pytest.approx(granted[oldest & repaid].mean())
    rates = [granted[women].mean(), granted[~women].mean()]
    assert flat["fairness.SEX.adverse_impact_ratio"] == pytest.approx(min(rates) / max(rates))
    assert sum(row.n for row in evaluation.fairness[1].groups) == len(credit.holdout)


def test_every_prohibited_basis_that_the_data_hold_is_compared_and_unexplained_codes_are_in_no_group(
    credit, evaluation
):
    assert [result.attribute for result in evaluation.fairness] == ["SEX", "AGE_BAND", "MARRIAGE"]
    assert evaluation.protected_attributes == ("SEX", "AGE_BAND", "MARRIAGE")
    flat = evaluation.flat()
    granted = credit.model.predict_default(credit.holdout) < credit.model.threshold
    codes = {"married": 1, "single": 2, "other": 3}
    rates = {name: granted[credit.holdout["MARRIAGE"] == code].mean() for name, code in codes.items()}
    for name, rate in rates.items():
        assert flat[f"fairness.MARRIAGE.groups.{name}.selection_rate"] == pytest.approx(rate)
    assert flat["fairness.MARRIAGE.adverse_impact_ratio"] == pytest.approx(min(rates.values()) / max(rates.values()))
    unexplained = int((~credit.holdout["MARRIAGE"].isin(codes.values())).sum())
    assert evaluation.fairness[2].missing == unexplained > 0
    assert any(f"{unexplained} records have no known group" in note for note in evaluation.notes)


def test_the_threshold_was_chosen_without_the_holdout(credit, evaluation):
    assert evaluation.threshold.value == credit.model.threshold
    assert "training" in evaluation.threshold.chosen_on
    declined = (credit.model.predict_default(credit.holdout) >= credit.model.threshold).mean()
    assert declined == pytest.approx(credit.train[LABEL].mean(), abs=0.02)


def test_the_model_meets_its_gates_and_a_model_without_skill_does_not(credit, evaluation):
    gates = load_gate_set(GATES)
    outcomes = evaluate_gates(gates, evaluation.with_data_checks(overlap_records=0).flat())
    assert all_passed(outcomes), [o.message for o in outcomes if not o.passed]
    missing = evaluate_gates(gates, evaluation.flat())
    assert [o.id for o in missing if o.status == "missing"] == ["no-shared-records"]
    leaked = evaluate_gates(gates, evaluation.with_data_checks(overlap_records=1).flat())
    assert [o.id for o in leaked if not o.passed] == ["no-shared-records"]

    noise = credit.train.assign(**{LABEL: credit.train[LABEL].sample(frac=1.0, random_state=0).to_numpy()})
    unskilled = evaluate_credit(train_model(noise), credit.holdout, n_boot=20, explain_rows=200)
    failed = {o.id for o in evaluate_gates(gates, unskilled.flat()) if o.status == "fail"}
    assert {"ranks-risk", "ranks-risk-surely", "separates", "probabilities-close"} <= failed


def test_no_gate_claims_to_be_law():
    for gate in load_gate_set(GATES).gates:
        assert gate.source in ("policy", "convention")
        if "adverse_impact_ratio" in gate.metric:
            assert gate.source == "convention"
            assert "screen" in gate.reason


@pytest.mark.parametrize(
    ("age", "band"), [(21, "<30"), (29, "<30"), (30, "30-39"), (59, "50-59"), (60, "60+"), (79, "60+"), (-1, None)]
)
def test_age_bands(age, band):
    assert age_band(age) == band


def test_small_groups_are_not_compared(credit):
    young = credit.holdout[(credit.holdout["AGE"] < 60) | (credit.holdout["AGE"] > 66)]
    result = evaluate_credit(credit.model, young, n_boot=20, explain_rows=200)
    oldest = result.fairness[1].groups[-1]
    assert (oldest.group, oldest.status) == ("60+", "insufficient_data")
    assert 0 < oldest.n < 30
    assert any("60+" in note for note in result.notes)


def test_attachments_are_real_tables(credit, evaluation):
    documents = {item.name: json.loads(item.data) for item in evaluation.artifacts}
    importances = documents["permutation_importances.json"]["importances"]
    assert importances[0]["feature"] == "PAY_0"  # the latest repayment status, as every study of these data finds
    assert {row["feature"] for row in importances} == set(FEATURES)
    counts = documents["confusion_matrix.json"]
    assert sum(counts.values()) == len(credit.holdout)
    assert counts["defaulted_declined"] + counts["defaulted_granted"] == credit.holdout[LABEL].sum()
    roc = documents["roc.json"]
    assert (roc[-1]["false_positive_rate"], roc[-1]["true_positive_rate"]) == (1.0, 1.0)
    assert all(a["true_positive_rate"] <= b["true_positive_rate"] for a, b in itertools.pairwise(roc))
    assert sum(row["n"] for row in documents["calibration.json"]) == len(credit.holdout)


def test_the_evaluation_is_repeatable(credit):
    sample = credit.holdout.head(1500)
    one, other = (evaluate_credit(credit.model, sample, n_boot=30, explain_rows=300) for _ in range(2))
    assert one == other
    assert json.dumps(one.to_facts(), allow_nan=False) == json.dumps(other.to_facts(), allow_nan=False)


def test_equal_documents_are_equal_bytes():
    assert explain.as_json({"a": 1, "ä": [1.5]}) == '{\n  "a": 1,\n  "ä": [\n    1.5\n  ]\n}\n'.encode()
    with pytest.raises(ValueError):
        explain.as_json(float("nan"))


class Mark:
    """Unpickling this writes a file: it shows whether something was loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_file_with_another_digest_is_never_unpickled(credit, tmp_path):
    mark, file = tmp_path / "ran", tmp_path / "model.joblib"
    file.write_bytes(pickle.dumps(Mark(str(mark))))
    with pytest.raises(ModelFileError, match="not loaded"):
        load_model(file, credit.digest)
    assert not mark.exists()
    pickle.loads(file.read_bytes())
    assert mark.exists()  # so the check above could have failed


def test_a_known_file_is_loaded_and_predicts_the_same(credit):
    for digest in (credit.digest, f"sha256:{credit.digest}", credit.digest.upper()):
        loaded = load_model(credit.path, digest)
        sample = credit.holdout.head(50)
        assert (loaded.predict_default(sample) == credit.model.predict_default(sample)).all()
        assert loaded.threshold == credit.model.threshold


def test_unusable_model_files_are_named(credit, tmp_path):
    with pytest.raises(ModelFileError, match="can't be read"):
        read_verified(tmp_path / "none", credit.digest)
    with pytest.raises(ModelFileError, match="is not a SHA-256"):
        read_verified(credit.path, "abc")
    buffer = io.BytesIO()
    joblib.dump({"format": "other/1"}, buffer)
    file = tmp_path / "other.joblib"
    file.write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError, match="not a model file of format"):
        load_model(file, hashlib.sha256(buffer.getvalue()).hexdigest())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "model.joblib"
    file.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["model.joblib"]
