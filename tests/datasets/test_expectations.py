"""A table that is not as expected fails the check, which names the column and never a value."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cognify_dagster.datasets import DatasetError
from cognify_dagster.datasets.expectations import SchemaExpectation, expectation_from, expectation_of
from cognify_dagster.datasets.profile.statistics import schema_list
from cognify_dagster.datasets.quality import run_quality

TABLE = pa.table({"id": [1, 2, 3], "age": [30.0, None, 140.0], "sex": ["f", "m", "x"]})


def faults(**wanted: object) -> list[str]:
    return expectation_of({"columns": {"id": None, "age": None, "sex": None}, **wanted}, "e.yaml").faults(TABLE)


def test_a_table_as_expected_passes() -> None:
    check = run_quality([expectation_from(schema_list(TABLE))], TABLE)[0]
    assert (check.name, check.status, check.detail) == ("same schema", "pass", "")


def test_a_renamed_column_is_absent_and_unexpected() -> None:
    renamed = TABLE.rename_columns(["id", "years", "sex"])
    check = run_quality([expectation_from(schema_list(TABLE))], renamed, personal=True)[0]
    assert check.status == "fail"
    assert check.detail == "column 'age' is absent; column 'years' is not expected"


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"columns": {"id": "string", "age": "float64", "sex": "string"}}, "column 'id' is int64, expected string"),
        ({"columns": {"id": "int64"}}, "column 'age' is not expected"),
        ({"not_null": ["age"]}, "column 'age' has 1 missing values"),
        ({"ranges": {"age": {"least": 18, "most": 120}}}, "column 'age' has 1 values above 120"),
        ({"ranges": {"id": {"least": 2}}}, "column 'id' has 1 values below 2"),
        ({"ranges": {"sex": {"least": 2}}}, "column 'sex' is no number, so its range cannot be checked"),
        ({"allowed": {"sex": ["f", "m"]}}, "column 'sex' has 1 values that are not allowed"),
        ({"not_null": ["height"]}, "column 'height' is absent"),
    ],
)
def test_each_fault_names_its_column(wanted: dict[str, object], fault: str) -> None:
    assert fault in faults(**wanted)


def test_further_columns_may_be_let_in() -> None:
    assert faults(columns={"id": "int64"}, further_columns=True) == []


def test_not_a_number_counts_as_missing_and_lies_in_no_range_fault() -> None:
    table = pa.table({"x": [1.0, float("nan")]})
    assert SchemaExpectation(columns={"x": None}, not_null=("x",)).faults(table) == ["column 'x' has 1 missing values"]
    assert expectation_of({"columns": {"x": None}, "ranges": {"x": {"least": 0}}}, "e").faults(table) == []


def test_many_faults_are_cut_and_counted() -> None:
    table = pa.table({f"c{number}": [1] for number in range(30)})
    detail = SchemaExpectation(columns={"id": None})(table).detail
    assert detail.endswith("and 11 more")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"columns": {}}, "e.yaml, columns"),
        ({"columns": {"a": None}, "rangs": {}}, "e.yaml, rangs"),
        ({"columns": {"a": 3}}, "e.yaml, columns.a"),
        ([], "e.yaml, the file"),
    ],
)
def test_what_is_no_expectation_is_refused_with_file_and_field(value: object, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        expectation_of(value, "e.yaml")
