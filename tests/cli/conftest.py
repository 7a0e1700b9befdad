"""The command is run on real workspaces, copied from those of the governance tests."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sqlite3
import sys
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cognify_dagster.cli import main
from cognify_dagster.governance import complete, request_release
from tests.governance.conftest import (
    approved,
    approved_template,
    founded,
    founded_template,
    ready,
    ready_template,
)
from tests.governance.world import MODEL, PASSPHRASE, World

__all__ = ["approved", "approved_template", "founded", "founded_template", "ready", "ready_template"]


@dataclass
class Outcome:
    """What a call of the command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


ROOT = Path(__file__).resolve().parents[2]
Cognify = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("COGNIFY_WORKSPACE", "COGNIFY_DEBUG", "DAGSTER_HOME", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cognify() -> Cognify:
    """Call the command in this process. No call may ever show a traceback."""

    def call(*arguments: object, passphrase: str | None = PASSPHRASE, at: World | None = None) -> Outcome:
        words: Sequence[str] = [str(item) for item in arguments]
        if at is not None:
            words = ["--workspace", str(at.folder / "project"), *words]
        result: Result = CliRunner().invoke(main, words, env={"COGNIFY_PASSPHRASE": passphrase})
        outcome = Outcome(result.exit_code, result.stdout, result.stderr)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in outcome.out + outcome.err
        assert PASSPHRASE not in outcome.out + outcome.err
        if outcome.code and not outcome.out:
            assert outcome.err.strip(), "a failure says something"
        return outcome

    return call


@pytest.fixture
def released(approved: World) -> World:
    """Version 1 is live on production."""
    grant = request_release(approved.workspace, MODEL, "1", "production", "run-release", "person/olga")
    complete(approved.workspace, grant, location="/srv/model", detail={})
    return approved


def key_file(world: World, name: str) -> Path:
    """Return the path of a person's key, making the key first if there is none."""
    world.key(name)
    return world.folder / f"{name}.key.json"


def damage(path: Path, *statements: str) -> None:
    """Change a ledger file as its owner can: triggers dropped first."""
    with sqlite3.connect(path) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
    db.close()


def flip_byte(path: Path, seq: int) -> None:
    """Change one byte inside the stored bytes of an entry, in the file itself."""
    with sqlite3.connect(path) as db:
        (data,) = db.execute("SELECT bytes FROM entry WHERE seq = ?", (seq,)).fetchone()
    db.close()
    content = path.read_bytes()
    at = content.index(data) + data.index(b'"idem":"') + 8
    other = b"0" if content[at : at + 1] != b"0" else b"1"
    with open(path, "r+b") as stream:
        stream.seek(at)
        stream.write(other)
        stream.flush()
        os.fsync(stream.fileno())


def _echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def at_terminal(
    variables: dict[str, str],
    arguments: list[str],
    answers: list[tuple[bytes, bytes]],
    program: Sequence[str] = (sys.executable, "-m", "cognify_dagster.cli"),
) -> tuple[int, str]:
    """Run the command at a pseudo terminal; give each answer when its prompt has appeared. Kill it if it asks more.

    An answer waits for a prompt, not for a remark before it: what is typed before the echo is off is thrown away.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COGNIFY")}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    words = [*program, *arguments]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(words[0], words, environment)
    shown, fresh = b"", b""
    left = list(answers)
    until = time.monotonic() + 60
    while True:
        if left and left[0][0] in fresh:
            hidden = b"ass phrase" in left[0][0] or b"Repeat" in left[0][0]
            if not (hidden and _echoes(terminal)):
                os.write(terminal, left.pop(0)[1])
                fresh = b""
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            break
        if not select.select([terminal], [], [], 0.02)[0]:  # the child waits until its output is read: keep reading
            continue
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the terminal closes when the child ends
            break
        if not part:
            break
        shown, fresh = shown + part, fresh + part
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown.decode()
