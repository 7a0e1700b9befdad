"""The run coordinator believes the proxy's header and nothing that a request claims. A real webserver, real headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cognify_dagster.governance import directory
from cognify_dagster.orchestration.attribution import attribute, launcher
from cognify_dagster.orchestration.coordinator import ProxyUserRunCoordinator
from cognify_dagster.training import capture_code
from tests.orchestration import project, stock
from tests.orchestration.webserver import Webserver, serve

YAML = """
run_coordinator:
  module: cognify_dagster.orchestration.coordinator
  class: ProxyUserRunCoordinator
  config: {header: X-Forwarded-User, missing: %s, max_concurrent_runs: 3}
telemetry: {enabled: false}
"""


def home_of(folder: Path, missing: str) -> Path:
    home = folder / f"home-{missing}"
    home.mkdir()
    (home / "dagster.yaml").write_text(YAML % missing)
    return home


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coordinator")


@pytest.fixture(scope="module")
def refusing(folder: Path, founded: stock.Stock) -> Iterator[tuple[Webserver, dg.DagsterInstance]]:
    home = home_of(folder, "refuse")
    with serve(home, founded.folder) as server, dg.DagsterInstance.from_config(str(home)) as instance:
        yield server, instance


def tags_of(instance: dg.DagsterInstance, answer: Any) -> dict[str, str]:
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run = instance.get_run_by_id(answer["run"]["runId"])
    assert run is not None
    return dict(run.tags)


def test_the_header_is_who_launched_it_whatever_the_request_claims(refusing: tuple[Webserver, dg.DagsterInstance]):
    server, instance = refusing
    answer = server.launch("tiny_data", {"user": "vera", "cognify/user_from": "forged"}, {"X-Forwarded-User": "ben"})
    tags = tags_of(instance, answer)
    assert tags["user"] == "ben"
    assert tags["cognify/user_from"] == "header X-Forwarded-User"
    assert answer["run"]["status"] == "QUEUED"
    assert tags_of(instance, server.launch("tiny_data", {}, {"x-forwarded-user": "ben@bank.example"}))["user"] == (
        "ben@bank.example"
    )


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-User": ""}, {"X-Forwarded-User": "!unauthenticated"}])
def test_without_a_usable_header_nothing_is_launched(
    refusing: tuple[Webserver, dg.DagsterInstance], headers: dict[str, str]
):
    server, instance = refusing
    before = {run.run_id for run in instance.get_runs()}
    answer = server.launch("tiny_data", {"user": "ben"}, headers)
    assert answer["__typename"] == "PythonError"
    assert "the request names no user in the header X-Forwarded-User" in answer["message"]
    left = [run for run in instance.get_runs() if run.run_id not in before]
    assert [run.status for run in left] == [dg.DagsterRunStatus.FAILURE]


def test_marked_runs_belong_to_nobody(folder: Path, founded: stock.Stock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(founded.folder))
    home = home_of(folder, "mark")
    with serve(home, founded.folder) as server, dg.DagsterInstance.from_config(str(home)) as instance:
        tags = tags_of(instance, server.launch("tiny_data", {"user": "ben", "dagster/schedule_name": "nightly"}))
        assert tags["user"] == "!unauthenticated"

    class Context:
        class run:
            pass

    context: Any = Context()
    context.run.tags = tags
    from cognify_dagster.workspace import Workspace

    people = directory(Workspace.open(founded.folder).read())
    assert launcher(context, people) == "unattributed"
    found = attribute(context, people, capture_code(Path(project.__file__).parent))
    assert found.launched_by == "unattributed"
    assert "user:!unauthenticated" in found.unattributed


def test_without_a_request_a_claimed_user_counts_for_nobody_and_a_retry_keeps_its_own(tmp_path: Path):
    home = home_of(tmp_path, "refuse")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        coordinator = instance.run_coordinator
        assert isinstance(coordinator, ProxyUserRunCoordinator)
        assert coordinator.get_run_queue_config().max_concurrent_runs == 3
        job = project.defs.resolve_job_def("tiny_data")

        def submitted(**tags: str) -> dict[str, str]:
            run = instance.create_run_for_job(job, tags=tags)
            coordinator_tags = coordinator._otherwise(run)
            if coordinator_tags:
                instance.add_run_tags(run.run_id, coordinator_tags)
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            return {**found.tags, "id": run.run_id}

        assert submitted(user="vera")["user"] == "!unauthenticated"
        assert submitted(user="vera", **{"dagster/backfill": "abc"})["user"] == "!unauthenticated"
        assert "user" not in submitted(**{"dagster/sensor_name": "tiny_approval_sensor"})
        parent = instance.create_run_for_job(job, tags={"user": "ben"})
        assert submitted(user="ben", **{"dagster/parent_run_id": parent.run_id})["user"] == "ben"
        assert submitted(user="vera", **{"dagster/parent_run_id": parent.run_id})["user"] == "!unauthenticated"
        assert submitted(user="vera", **{"dagster/parent_run_id": "no such run"})["user"] == "!unauthenticated"


@pytest.mark.parametrize(
    ("config", "said"),
    [({"missing": "allow"}, "missing must be refuse or mark"), ({"header": "X User\r\n"}, "is no name of a header")],
)
def test_a_wrong_configuration_is_refused(config: dict[str, str], said: str):
    with pytest.raises(ValueError, match=said):
        ProxyUserRunCoordinator.from_config_value(None, {"header": "X-User", "missing": "refuse", **config})
