"""Data-quality checks: functions, pandera schemas, or results from elsewhere, turned into what a snapshot records.

Invariants: a check that raises is recorded as `error`, never as passed; values of records reach no message when the data is personal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.records import QualityCheck

MAX_DETAIL = 4000
Check = QualityCheck | Mapping[str, Any] | Callable[[Any], Any]


def run_quality(checks: Iterable[Any], table: Any = None, *, personal: bool = False) -> tuple[QualityCheck, ...]:
    """Carry out checks and return their results, in order.

    A check is a `QualityCheck`, a mapping with its fields, a result of a Dagster asset check, a pandera schema (anything with
    `validate`, which is given a pandas frame), or a function of the Arrow table. A function returns True or False, a text that says
    what is wrong (empty: nothing), or any of the results above.

    Args:
        checks: the checks.
        table: the Arrow table, or a function that returns it; needed only by those that look at data. It is read once.
        personal: leave out texts that may hold values of records.

    Raises:
        DatasetError: for something that is no check, or two of one name.
    """
    data = _Lazy(table)
    found = [_one(check, data, personal) for check in checks]
    names = [item.name for item in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"two quality checks have the name {twice[0]!r}; give each its own")
    return tuple(found)


class _Lazy:
    """The table, read when the first check asks for it."""

    def __init__(self, table: Any) -> None:
        self._table, self._read = table, not callable(table)

    def get(self) -> Any:
        if not self._read:
            self._table, self._read = self._table(), True
        if self._table is None:
            raise DatasetError("the source is no table, so checks that look at its records cannot be carried out")
        return self._table


def _one(check: Any, data: _Lazy, personal: bool) -> QualityCheck:
    result = _result(check)
    if result is not None:
        return result
    if not callable(check) and not hasattr(check, "validate"):
        raise DatasetError(
            f"a {type(check).__name__} is no quality check; give a function, a pandera schema or a result"
        )
    name = check_name(check)
    try:
        if hasattr(check, "validate"):
            return _pandera(check, data.get(), personal)
        return _called(name, check(data.get()), personal)
    except DatasetError:
        raise
    except Exception as error:  # a check that breaks down is a result of its own
        text = type(error).__name__ if personal else f"{type(error).__name__}: {error}"
        return QualityCheck(name=name, status="error", detail=text[:MAX_DETAIL])


def check_name(check: Any) -> str:
    """Return the name of a check before it was carried out."""
    for attribute in ("check_name", "name", "__name__"):
        value = getattr(check, attribute, None)
        if isinstance(value, str) and value:
            return value
    if isinstance(check, Mapping) and check.get("name"):
        return str(check["name"])
    return type(check).__name__


def _result(check: Any) -> QualityCheck | None:
    """What is a result already."""
    if isinstance(check, QualityCheck):
        return check
    if isinstance(check, Mapping):
        return QualityCheck.model_validate(dict(check))
    if isinstance(
        getattr(check, "passed", None), bool
    ):  # a result of a Dagster asset check, which this room does not import
        severity = getattr(getattr(check, "severity", None), "name", "ERROR")
        status = "pass" if check.passed else "warn" if severity == "WARN" else "fail"
        detail = str(getattr(check, "description", None) or "")[:MAX_DETAIL]
        return QualityCheck.model_validate(
            {"name": check_name(check), "status": status, "detail": detail, "tool": "dagster"}
        )
    return None


def _called(name: str, value: Any, personal: bool) -> QualityCheck:
    made = _result(value)
    if made is not None:
        return made
    if isinstance(value, bool):
        return QualityCheck(name=name, status="pass" if value else "fail")
    if isinstance(value, str):
        detail = "" if personal else value[:MAX_DETAIL]
        return QualityCheck(name=name, status="fail" if value else "pass", detail=detail)
    raise DatasetError(
        f"quality check {name!r} returned a {type(value).__name__}; return True, False, a text or a result"
    )


def _pandera(schema: Any, table: Any, personal: bool) -> QualityCheck:
    name = check_name(schema)
    tool = f"{type(schema).__module__.partition('.')[0]} {_version(type(schema).__module__.partition('.')[0])}".strip()
    try:
        schema.validate(table.to_pandas(), lazy=True)
    except Exception as error:  # its own error class: SchemaErrors; whatever else it is, it did not pass
        cases = getattr(error, "failure_cases", None)
        if cases is None:
            raise
        named = sorted({str(item) for item in _column(cases, "check")})
        detail = (
            f"{len(cases)} failure cases; checks: {', '.join(named)}" if not personal else f"{len(cases)} failure cases"
        )
        return QualityCheck(name=name, status="fail", detail=detail[:MAX_DETAIL], tool=tool)
    return QualityCheck(name=name, status="pass", tool=tool)


def _column(cases: Any, name: str) -> list[Any]:
    try:
        return list(cases[name])
    except (KeyError, TypeError, IndexError):
        return []


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
