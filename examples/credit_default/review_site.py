"""The review site of the example: a process beside Dagster, which knows nothing of it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from cognify_dagster.workspace import Workspace
from examples.credit_default.instance import ROOT, InstanceError, free_port

SITE_PORT = 3070
"""Where the links in Dagster lead; another is taken if something else listens there."""
START_TIMEOUT_S = 60


class Site:
    """A running `cognify review serve`."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url, self.process, self.log = url, process, log

    def check_alive(self) -> None:
        """Raise if the process has died."""
        code = self.process.poll()
        if code is not None:
            raise InstanceError(f"the review site ended with status {code}; see {self.log}")

    def stop(self) -> None:
        """Stop it: requests that run are finished first."""
        for number, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            if self.process.poll() is not None:
                return
            self.process.send_signal(number)
            try:
                self.process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                continue


def site_port() -> int:
    """Return the port of the site: the usual one if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", SITE_PORT))
        except OSError:
            return free_port()
    return SITE_PORT


def start_site(workspace: Workspace, dagster_url: str = "") -> Site:
    """Start the site; return once it can read the ledger.

    Args:
        workspace: whose site it is.
        dagster_url: where its links to runs lead.

    Raises:
        InstanceError: if its extra is not installed, or it does not come up.
    """
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("webauthn") is None:
        raise InstanceError("the extra 'review' is not installed: pip install 'cognify-dagster[review]'")
    port = site_port()
    url, log = f"http://localhost:{port}", workspace.home / "review.log"
    place = ["--workspace", str(workspace.config.path), "review", "serve", "--port", str(port), "--url", url]
    linked = ["--dagster-url", dagster_url] if dagster_url else []
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cognify_dagster.cli", *place, *linked],
            cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    site = Site(url, process, log)
    end = time.monotonic() + START_TIMEOUT_S
    try:
        while time.monotonic() < end:
            site.check_alive()
            if _ready(url):
                return site
            time.sleep(0.2)
        raise InstanceError(f"the review site did not come up within {START_TIMEOUT_S} s; see {log}")
    except BaseException:
        site.stop()
        raise


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
