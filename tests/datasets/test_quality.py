"""Data-quality checks: what passed, failed or broke down is told apart, and personal values stay out of the record."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from cognify_dagster.datasets import DatasetError
from cognify_dagster.datasets.quality import run_quality
from cognify_dagster.records import QualityCheck

TABLE = pa.table({"age": [30, -1]})


def no_negative(table: pa.Table) -> str:
    bad = [value for value in table["age"].to_pylist() if value < 0]
    return f"negative: {bad}" if bad else ""


def has_rows(table: pa.Table) -> bool:
    return table.num_rows > 0


def breaks(table: pa.Table) -> bool:
    raise KeyError("age 30")


class Schema:
    """Behaves as a pandera schema."""

    name = "people"

    def validate(self, frame, lazy):
        assert lazy
        if (frame["age"] < 0).any():
            error = ValueError("SchemaErrors with values")
            error.failure_cases = [{"check": "ge(0)"}]  # type: ignore[attr-defined]
            raise error
        return frame


def test_functions_say_what_they_found() -> None:
    found = run_quality([no_negative, has_rows, breaks], TABLE)
    assert [(item.name, item.status) for item in found] == [
        ("no_negative", "fail"), ("has_rows", "pass"), ("breaks", "error"),
    ]  # fmt: skip
    assert found[0].detail == "negative: [-1]"
    assert "KeyError" in found[2].detail


def test_of_personal_data_no_value_is_told() -> None:
    found = run_quality([no_negative, breaks, Schema()], lambda: TABLE, personal=True)
    assert [item.status for item in found] == ["fail", "error", "fail"]
    assert not any("-1" in item.detail or "30" in item.detail for item in found)


def test_schemas_and_results_of_others() -> None:
    warned = SimpleNamespace(passed=False, check_name="fresh", severity=SimpleNamespace(name="WARN"), description="old")
    given = [Schema(), warned, {"name": "by hand", "status": "pass"}, QualityCheck(name="x", status="pass")]
    found = run_quality(given, TABLE)
    assert [(item.name, item.status) for item in found] == [
        ("people", "fail"), ("fresh", "warn"), ("by hand", "pass"), ("x", "pass"),
    ]  # fmt: skip
    assert found[0].detail.startswith("1 failure cases")
    assert run_quality([Schema()], pa.table({"age": [1]}))[0].status == "pass"


def test_what_is_no_check_is_refused() -> None:
    with pytest.raises(DatasetError, match="two quality checks have the name 'has_rows'"):
        run_quality([has_rows, has_rows], TABLE)
    with pytest.raises(DatasetError, match="a int is no quality check"):
        run_quality([3], TABLE)
    with pytest.raises(DatasetError, match="returned a NoneType"):
        run_quality([lambda table: None], TABLE)
    with pytest.raises(DatasetError, match="the source is no table"):
        run_quality([has_rows], None)
