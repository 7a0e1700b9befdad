"""The command is run on real workspaces, copied from those of the governance tests."""

from __future__ import annotations

import json
import os
import sqlite3
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
