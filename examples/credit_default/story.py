"""What the demo prints: numbered steps, the progress of Dagster's runs, and commands that can be copied and run as they stand."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What a step of the example does, by its name in Dagster.
STEPS: Mapping[str, str] = {
    "credit_clean": "cleaning and splitting the published data",
    "loans_train": "snapshot of the training data",
    "loans_holdout": "snapshot of the holdout data",
    "loans_holdout_no_overlap": "check: no record on both sides",
    "credit_model": "training",
    "credit_eval": "evaluation, with bootstrap intervals by group",
    "credit_default_package": "package and review copy (PDF)",
    "credit_default_package_sign_off": "check: the sign-offs",
    "credit_default_package_coverage_sr26_2": "check: what is open of sr26-2",
    "credit_default_package_coverage_fair_lending": "check: what is open of fair-lending",
    "credit_service": "deployment, behind the gate",
}
_INDENT = " " * 10
_SUBCOMMANDS = "dataset|deployments|dagster|doctor|evidence|gates|init|key|ledger|package|people|policy|schema|seal|sign|status|verify"
_CALL = re.compile(rf"(?<![\w./-])cognify(?= (?:--workspace |{_SUBCOMMANDS}))")


def cognify_command(root: Path) -> str:
    """How to call `cognify` from the demo's folder: it lies beside the running interpreter, which need not be on PATH."""
    script = Path(sys.executable).parent / "cognify"
    if not script.exists():
        return f"{sys.executable} -m cognify_dagster.cli"
    inside = os.path.relpath(script, root)
    return str(script) if inside.startswith(os.pardir) else inside


def runnable(text: str, root: Path) -> str:
    """Put the callable path in place of a bare `cognify` before a subcommand."""
    call = cognify_command(root)
    return _CALL.sub(lambda _: call, text)


class Story:
    """Prints numbered steps with the time they took."""

    def __init__(self, root: Path) -> None:
        self._start = time.monotonic()
        self._number = 0
        self.root = root

    def step(self, text: str) -> None:
        """Begin a step."""
        self._number += 1
        print(f"\n[{self.seconds:5.1f} s] {self._number}. {text}", flush=True)

    def say(self, text: str) -> None:
        """Print an indented line or lines."""
        for line in runnable(text, self.root).rstrip().splitlines():
            print(f"{_INDENT}{line}".rstrip(), flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start


class Progress:
    """Prints a line for each step of a run: its name when it starts, its seconds when it has ended.

    Attributes:
        failure: what the first failed step said, with the step's name; empty while none failed.
    """

    def __init__(self) -> None:
        self.failure = ""
        self._started: dict[str, float] = {}
        self._open = ""

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take one event of Dagster's log, in order."""
        kind, step = event.get("eventType"), event.get("stepKey") or ""
        if kind == "STEP_START":
            self._started[step] = _seconds(event)
            self.close()
            self._write(step)
        elif kind in ("STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED") and step in self._started:
            if self._open != step:  # steps ran side by side
                self.close()
                self._write(step)
            word = {"STEP_SUCCESS": "", "STEP_FAILURE": "failed, ", "STEP_SKIPPED": "skipped, "}[str(kind)]
            print(f"{word}{_seconds(event) - self._started[step]:.1f} s", flush=True)
            self._open = ""
        if kind == "STEP_FAILURE" and not self.failure:
            self.failure = f"{step}: {_reason(event)}"

    def close(self) -> None:
        """End a line that is still open."""
        if self._open:
            print(flush=True)
            self._open = ""

    def _write(self, step: str) -> None:
        print(f"{_INDENT}{step}: {STEPS.get(step, 'running')} … ", end="", flush=True)
        self._open = step


def _seconds(event: Mapping[str, Any]) -> float:
    """The time of an event in seconds; Dagster writes milliseconds as text."""
    return float(event.get("timestamp") or 0) / 1000


def _reason(event: Mapping[str, Any]) -> str:
    """What the step raised; Dagster wraps it into an error of its own."""
    error = event.get("error") or {}
    told = str((error.get("cause") or error).get("message") or "no reason on record")
    return " ".join(told.split())[:600]
