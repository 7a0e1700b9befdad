"""Runs the few outside commands that describe a machine or a repository.

Invariants: the argument vector is fixed by the caller (no shell), standard input is closed, output and time are bounded,
and variables that would point git elsewhere are taken out of the environment. Nothing of the environment is returned.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Upper bound on the output kept of one command.
MAX_OUTPUT_BYTES = 64 * 1024 * 1024

_REMOVED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_COUNT", "GIT_PAGER")


@dataclass(frozen=True)
class CommandResult:
    """What a command gave. ``problem`` is empty where it ended with status 0, else one plain sentence."""

    stdout: bytes
    problem: str


def run_command(argv: Sequence[str], *, cwd: Path | None = None, timeout_s: float = 20.0) -> CommandResult:
    """Runs ``argv`` without a shell and returns its output; failures come back as ``problem``, never as an exception."""
    environment = {name: value for name, value in os.environ.items() if name not in _REMOVED}
    environment.update(LC_ALL="C", GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0")
    try:
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        return CommandResult(b"", f"{argv[0]} is not installed")
    except subprocess.TimeoutExpired:
        return CommandResult(b"", f"{argv[0]} gave no answer within {timeout_s:g} s")
    except OSError as error:
        return CommandResult(b"", f"{argv[0]} can't be run ({error.strerror})")
    if done.returncode != 0:
        first_line = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[0]
        return CommandResult(b"", f"{argv[0]} ended with status {done.returncode}: {first_line[:300]}")
    if len(done.stdout) > MAX_OUTPUT_BYTES:
        return CommandResult(b"", f"{argv[0]} gave more than {MAX_OUTPUT_BYTES} bytes")
    return CommandResult(done.stdout, "")
