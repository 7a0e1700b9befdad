"""A local Dagster instance for the example: its home, its processes, and the two requests that the UI's buttons send."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOCATION = "credit_default"
REPOSITORY = "__repository__"
ASSET_JOB = "__ASSET_JOB"
START_TIMEOUT_S = 90

DAGSTER_YAML = """\
# Runs that crash are retried, runs whose step failed are not; a refused deployment is never retried (see docs/dagster.md).
telemetry:
  enabled: false
nux:
  enabled: false
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
run_monitoring:
  enabled: false
sensors:
  use_threads: true
  num_workers: 2
"""

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on InvalidSubsetError { message }
    ... on UnauthorizedError { message }
  }
}"""

_RUN = """
query Run($id: ID!) {
  runOrError(runId: $id) { __typename ... on Run { status tags { key value } } }
}"""

_RUNS = """
query Runs($filter: RunsFilter!) {
  runsOrError(filter: $filter) { __typename ... on Runs { results { runId status tags { key value } } } }
}"""

_EVENTS = """
query Events($id: ID!, $cursor: String) {
  logsForRun(runId: $id, afterCursor: $cursor, limit: 1000) {
    __typename
    ... on EventConnection { cursor events {
      __typename
      ... on MessageEvent { eventType stepKey timestamp }
      ... on ExecutionStepFailureEvent { error { message cause { message } } }
    } }
  }
}"""

_CANCEL = """
mutation Cancel($id: String!) {
  terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) { __typename }
}"""

_ADD_PARTITION = """
mutation Add($partitionsDefName: String!, $partitionKey: String!, $repositorySelector: RepositorySelector!) {
  addDynamicPartition(partitionsDefName: $partitionsDefName, partitionKey: $partitionKey,
                      repositorySelector: $repositorySelector) {
    __typename ... on PythonError { message } ... on UnauthorizedError { message }
  }
}"""


class InstanceError(RuntimeError):
    """The local Dagster instance did not do what was asked; the message says what to look at."""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def prepare_home(workspace: Path) -> Path:
    """Create DAGSTER_HOME below the workspace's folder; its settings are the example's, whatever an earlier release wrote."""
    home = workspace / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(DAGSTER_YAML, encoding="utf-8")
    return home


class Instance:
    """A running `dagster dev`: webserver, daemon and code location."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.process = process
        self.log = log

    def graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Send a GraphQL request to the webserver, as the UI does."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer: dict[str, Any] = json.load(response)
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise InstanceError(f"the Dagster webserver did not answer: {error}; see {self.log}") from error
        if answer.get("errors"):
            raise InstanceError(f"Dagster refused the request: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data

    def add_partition(self, name: str, key: str) -> None:
        """Add a version as a partition, as the UI's "Add partition" does."""
        answer = self.graphql(
            _ADD_PARTITION,
            {
                "partitionsDefName": name,
                "partitionKey": key,
                "repositorySelector": {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION},
            },
        )["addDynamicPartition"]
        if answer["__typename"] not in ("AddDynamicPartitionSuccess", "DuplicateDynamicPartitionError"):
            raise InstanceError(f"partition {key}: {answer.get('message', answer['__typename'])}")

    def launch(
        self,
        assets: Sequence[str],
        *,
        checks: Sequence[tuple[str, str]] = (),
        partition: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Launch a run of these assets exactly as the UI's Materialize button does; return its id."""
        run_tags = {"dagster/from_ui": "true", **(tags or {})}
        if partition is not None:
            run_tags["dagster/partition"] = partition
        params = {
            "selector": {
                "repositoryName": REPOSITORY,
                "repositoryLocationName": LOCATION,
                "pipelineName": ASSET_JOB,
                "assetSelection": [{"path": [name]} for name in assets],
                "assetCheckSelection": [{"assetKey": {"path": [asset]}, "name": name} for asset, name in checks],
            },
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in run_tags.items()]},
        }
        answer = self.graphql(_LAUNCH, {"params": params})["launchPipelineExecution"]
        if answer["__typename"] != "LaunchRunSuccess":
            detail = answer.get("message") or "; ".join(item["message"] for item in answer.get("errors", ()))
            raise InstanceError(f"the run was not launched: {answer['__typename']} {detail}")
        run_id: str = answer["run"]["runId"]
        return run_id

    def wait(
        self, run_id: str, timeout_s: float = 600, on_event: Callable[[Mapping[str, Any]], None] | None = None
    ) -> str:
        """Wait until a run has ended; return its status. An interrupt cancels the run, so that none is left half done.

        Args:
            run_id: the run.
            timeout_s: seconds to wait at most.
            on_event: called with each event of the run's log (`eventType`, `stepKey`, `timestamp` in milliseconds, `error`
                of a failed step), in order.

        Raises:
            InstanceError: if Dagster dies or the time is over.
        """
        end = time.monotonic() + timeout_s
        cursor: str | None = None
        try:
            while time.monotonic() < end:
                self.check_alive()
                status: str = self.graphql(_RUN, {"id": run_id})["runOrError"].get("status", "")
                if on_event is not None:
                    cursor = self._events(run_id, cursor, on_event)
                if status in ("SUCCESS", "FAILURE", "CANCELED"):
                    return status
                time.sleep(0.5)
        except KeyboardInterrupt:
            with contextlib.suppress(InstanceError):
                self.graphql(_CANCEL, {"id": run_id})
            raise
        raise InstanceError(f"run {run_id} did not end within {timeout_s:.0f} s; see {self.url}/runs/{run_id}")

    def _events(self, run_id: str, cursor: str | None, on_event: Callable[[Mapping[str, Any]], None]) -> str | None:
        """Hand on what the run's log holds after the cursor; return the new one."""
        answer = self.graphql(_EVENTS, {"id": run_id, "cursor": cursor})["logsForRun"]
        for event in answer.get("events", ()):
            on_event(event)
        following: str | None = answer.get("cursor")
        return following or cursor

    def runs(self, tags: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return runs that carry all these tags, newest first."""
        wanted = [{"key": key, "value": value} for key, value in tags.items()]
        found = self.graphql(_RUNS, {"filter": {"tags": wanted}})["runsOrError"]
        results: list[dict[str, Any]] = found.get("results", [])
        return results

    def check_alive(self) -> None:
        """Raise if the processes have died."""
        code = self.process.poll()
        if code is not None:
            raise InstanceError(f"dagster dev ended with status {code}; see {self.log}")

    def stop(self) -> None:
        """Stop webserver, daemon and code location."""
        with _uninterrupted():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                if self.process.poll() is not None:
                    return
                os.killpg(self.process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=8)


def interrupt_on_signals() -> None:
    """Let Ctrl-C, `kill` and a closed terminal all end the program in the same orderly way."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # a background shell starts its jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore a second Ctrl-C while the processes are stopped: it would leave them running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def running(home: Path, *, port: int | None = None) -> Iterator[Instance]:
    """Start `dagster dev` on a free port and stop it at the end."""
    instance = start(home, port=port)
    try:
        yield instance
    except KeyboardInterrupt:
        print("\nStopping Dagster …", flush=True)
        raise
    finally:
        instance.stop()


def start(home: Path, *, port: int | None = None, workspace: Path | None = None) -> Instance:
    """Start `dagster dev`; return once the webserver answers and the code location is loaded.

    Raises:
        InstanceError: if it does not come up.
    """
    chosen = port or free_port()
    log = home / "dagster-dev.log"
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    environment["COGNIFY_WORKSPACE"] = str(workspace or home.parent.parent)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml"),
                "-h", "127.0.0.1", "-p", str(chosen), "--log-level", "warning",
            ],
            cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    instance = Instance(f"http://127.0.0.1:{chosen}", process, log)
    end = time.monotonic() + START_TIMEOUT_S
    try:
        while time.monotonic() < end:
            instance.check_alive()
            if _loaded(instance):
                return instance
            time.sleep(0.5)
        raise InstanceError(f"Dagster did not come up within {START_TIMEOUT_S} s; see {log}")
    except BaseException:
        instance.stop()
        raise


def _loaded(instance: Instance) -> bool:
    query = "query { workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"
    try:
        entries = instance.graphql(query, {})["workspaceOrError"]["locationEntries"]
    except (InstanceError, KeyError):
        return False
    for entry in entries:
        found = entry.get("locationOrLoadError") or {}
        if found.get("__typename") == "PythonError":
            raise InstanceError(f"the code location does not load: {found['message'][:2000]}")
    return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)
