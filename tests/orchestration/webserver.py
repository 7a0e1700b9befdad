"""A real Dagster webserver on the tiny project, and what a browser or a script sends it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId status tags { key value } } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""


@dataclass
class Webserver:
    """A running webserver."""

    url: str
    location: str

    def request(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """POST JSON; return status and answer."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            return error.code, json.loads(text) if text.startswith(("{", "[")) else text

    def graphql(self, query: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Send a GraphQL mutation with its `params`."""
        _, value = self.request("/graphql", {"query": query, "variables": {"params": params}}, headers)
        assert "errors" not in value, value
        return value["data"]

    def launch(self, job: str, tags: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Any:
        """Launch a job as the UI's Launchpad does."""
        params = {
            "selector": {
                "repositoryLocationName": self.location,
                "repositoryName": "__repository__",
                "jobName": job,
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        return self.graphql(_LAUNCH, params, headers)["launchRun"]

    def backfill(self, asset: str, partitions: list[str], tags: Mapping[str, str]) -> str:
        """Start a backfill of one asset; return its id."""
        params = {
            "assetSelection": [{"path": [asset]}],
            "partitionNames": partitions,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        found = self.graphql(_BACKFILL, params)["launchPartitionBackfill"]
        assert found["__typename"] == "LaunchBackfillSuccess", found
        return str(found["backfillId"])


@contextmanager
def serve(home: Path, workspace: Path) -> Iterator[Webserver]:
    """Run a webserver on an instance's home until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    module = "tests.orchestration.project"
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "COGNIFY_WORKSPACE": str(workspace),
        "PYTHONPATH": str(ROOT),
    }
    log = (home / "webserver.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-m", module],
        cwd=home,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        found = Webserver(f"http://127.0.0.1:{port}", module)
        deadline = time.monotonic() + 180  # a busy machine
        while True:
            try:
                urllib.request.urlopen(found.url + "/server_info", timeout=2).read()
                break
            except (OSError, urllib.error.URLError):
                assert process.poll() is None, (home / "webserver.log").read_text()
                assert time.monotonic() < deadline, "the webserver did not start"
                time.sleep(0.2)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()
