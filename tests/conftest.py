"""With COGNIFY_REQUIRE_ALL=1, as CI sets it, a skipped test is a failed test: nothing passes by not running."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

_MESSAGE = "skipped, but COGNIFY_REQUIRE_ALL=1 demands every test: "


def _fail_if_skipped(report: Any) -> None:
    if os.environ.get("COGNIFY_REQUIRE_ALL") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = _MESSAGE + reason


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report
