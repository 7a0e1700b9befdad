"""Dagster as people run it, `dagster dev`, on the tiny project: webserver, daemon and code location, for a browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.browser.served import ROOT, environment

T = TypeVar("T")
MODULE = "tests.browser.dagster_project"
# No copies of what runs print: the processes that make them hang beside a browser (see prepared.py).
SETTINGS = """
telemetry: {enabled: false}
nux: {enabled: false}
compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
"""
_LOADED = "query { workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"
_RUNS = "query { runsOrError(limit: 25) { ... on Runs { results { runId status tags { key value } } } } }"


@dataclass
class DagsterUi:
    """A running `dagster dev`.

    Args:
        url: its address.
        home: its DAGSTER_HOME.
        process: the process that started the others.
    """

    url: str
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """What its processes said so far."""
        return (self.home / "dagster-dev.log").read_text(encoding="utf-8", errors="replace")

    def ask(self, query: str) -> Any:
        """Send a GraphQL query, as the pages do."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return the newest runs by id, each with `status` and `tags`."""
        found = self.ask(_RUNS)["runsOrError"]["results"]
        return {
            run["runId"]: {"status": run["status"], "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in found
        }

    def ended(self, run: str, seconds: float = 120) -> str:
        """Wait until a run has ended; return its status."""

        def status() -> str | None:
            found = str(self.runs()[run]["status"])
            return found if found in ("SUCCESS", "FAILURE", "CANCELED") else None

        return self.until(status, f"run {run} has ended", seconds)

    def until(self, tried: Callable[[], T | None], what: str, seconds: float = 120) -> T:
        """Try until there is an answer; fail with what the processes said."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"dagster dev has ended\n{self.log[-4000:]}"
            with suppress(OSError, urllib.error.URLError):
                if (found := tried()) is not None:
                    return found
            time.sleep(0.3)
        raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self.log[-4000:]}")


@contextmanager
def dagster_dev(home: Path, workspace: Path, port: int) -> Iterator[DagsterUi]:
    """Run `dagster dev` until the block ends; nothing of it is left then."""
    (home / "dagster.yaml").write_text(SETTINGS, encoding="utf-8")
    variables = {**environment(), "DAGSTER_HOME": str(home), "COGNIFY_WORKSPACE": str(workspace)}
    with (home / "dagster-dev.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-m", MODULE, "-h", "127.0.0.1", "-p", str(port), "--log-level", "warning"],
            cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        found = DagsterUi(f"http://127.0.0.1:{port}", home, process)
        try:
            found.until(lambda: True if _loaded(found) else None, "the code location is loaded")
            yield found
        finally:
            _end(process)


def _loaded(ui: DagsterUi) -> bool:
    entries = ui.ask(_LOADED)["workspaceOrError"]["locationEntries"]
    for entry in entries:
        found = entry["locationOrLoadError"] or {}
        assert found.get("__typename") != "PythonError", found
    return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C for the whole group, as a terminal sends it; harder if it does not listen."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
