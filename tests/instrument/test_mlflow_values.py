"""How recorded values and MLflow's text are compared, and what is asked before a store is opened. No server is needed for these."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.instrument.mlflow.comparing import _flat, _points, _same_value
from cognify_dagster.instrument.mlflow.store import MlflowStore, patient
from cognify_dagster.instrument.trackers import TrackerError, TrackerUnreachable
from cognify_dagster.training._json import coerce

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text(max_size=30)
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@given(
    value=st.one_of(
        PLAIN, st.lists(st.integers(-1000, 1000), max_size=4), st.dictionaries(st.text("ab"), st.booleans())
    )
)
def test_what_a_script_logs_to_both_stores_is_the_same(value: Any) -> None:
    """MLflow keeps the text of a value, the record its JSON form."""
    assert _same_value(coerce(value, key="value"), str(value))


@pytest.mark.parametrize(
    ("recorded", "text"), [(0.1, "0.2"), (True, "1"), ("a", "b"), ([1, 2], "[2, 1]"), (None, ""), ({"a": 1}, "{}")]
)
def test_other_values_are_not(recorded: Any, text: str) -> None:
    assert not _same_value(recorded, text)


def test_text_that_would_be_code_is_only_read_as_data() -> None:
    assert not _same_value([1], "__import__('os').getcwd()")
    assert not _same_value([1], "[" * 5000)


def test_nested_settings_stand_under_dotted_names_unless_mlflow_has_them_whole() -> None:
    config = {"opt": {"lr": 1, "inner": {"a": 2}}, "sched": {"warm": 3}, "short": {"sha256": "ab", "characters": 1}}
    assert _flat(config, {"sched"}) == {
        "opt.lr": 1,
        "opt.inner.a": 2,
        "sched": {"warm": 3},
        "short": {"sha256": "ab", "characters": 1},
    }


def test_a_point_without_a_step_is_one_at_step_0_as_mlflow_has_it() -> None:
    assert _points([[None, 0.5]]) == _points([[0, 0.5]])
    assert _points([[0, "NaN"], [1, 2]]) == _points([[1, 2.0], [0, "NaN"]])
    assert _points([[0, "Infinity"]]) == _points([[0, 1.7976931348623157e308]])
    assert _points([[0, 0.1]]) != _points([[0, 0.1000000001]])


def test_looking_for_a_run_creates_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for uri in (f"sqlite:///{tmp_path}/none.db", f"file://{tmp_path}/none", str(tmp_path / "none")):
        with pytest.raises(TrackerUnreachable, match="there is no MLflow store"):
            MlflowStore(uri)
    assert list(tmp_path.iterdir()) == []


def test_without_an_address_nothing_is_asked() -> None:
    code = (
        "import os; os.environ.pop('MLFLOW_TRACKING_URI', None)\n"
        "from cognify_dagster.instrument.mlflow.store import MlflowStore\n"
        "from cognify_dagster.instrument.trackers import TrackerError\n"
        "import sys\n"
        "assert 'mlflow' not in sys.modules and 'wandb' not in sys.modules and 'dagster' not in sys.modules\n"
        "try: MlflowStore()\n"
        "except TrackerError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("which MLflow?")


def test_bounded_patience_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with patient():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7", "the user's own word counts"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_an_address_with_a_password_is_not_shown() -> None:
    with pytest.raises(TrackerError) as caught:
        MlflowStore("unknown://ben:hunter2@place")
    assert "hunter2" not in str(caught.value)
