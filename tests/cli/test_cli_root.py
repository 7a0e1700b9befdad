"""The command as a whole: help, exit codes, one clear line for every error."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cognify_dagster.cli import main
from cognify_dagster.cli.app import _COMMANDS
from cognify_dagster.cli.exits import explain
from cognify_dagster.cli.output import clean
from cognify_dagster.ledger import LedgerFull, ProofError, Tampered
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World

ROOT = Path(__file__).resolve().parents[2]


def _all_commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in _COMMANDS:
        command = main.get_command(click.Context(main), name)
        children = command.commands if isinstance(command, click.Group) else {}
        found += [(name, word) for word, child in children.items() if not child.hidden] or [(name,)]
    return found


@pytest.mark.parametrize("words", _all_commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...], cognify: Cognify) -> None:
    result = cognify(*words, "--help")
    assert result.code == 0
    assert "Example:" in result.out
    assert f"cognify {' '.join(words)}" in result.out


@pytest.mark.parametrize("words", _all_commands(), ids=" ".join)
def test_every_command_is_documented(words: tuple[str, ...]) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"`cognify {' '.join(words)}" in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, click.testing\n"
        "from cognify_dagster.cli import main\n"
        "click.testing.CliRunner().invoke(main, ['--help'])\n"
        "print([m for m in ('dagster', 'pydantic', 'cryptography', 'rich', 'yaml', 'cognify_dagster.ledger') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [("status", MODEL), ("sign", MODEL, "1", "--help"), ("ledger", "verify")])
def test_no_command_but_doctor_imports_dagster(words: tuple[str, ...], ready: World) -> None:
    code = (
        "import sys; sys.modules['dagster'] = None\n"
        "from cognify_dagster.cli import main\n"
        f"main(['--workspace', {str(ready.folder / 'project')!r}, *{words!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("status",),
        ("status", "no such key"),
        ("ledger", "verify", "--nope"),
        ("ledger", "prove"),
        ("ledger", "show", "3", "--seq", "4"),
        ("sign", "--export", "a", "--statement", __file__),
        ("sign", "--export", "a"),
        ("evidence", "get", "sha256:12", "-o", "x"),
        ("deployments", MODEL, "--at", "yesterday"),
        ("schema", "no_such_kind"),
        ("key", "new", "--person", "Vera", "--out", "x"),
    ],
)
def test_wrong_usage_ends_with_5(words: tuple[str, ...], cognify: Cognify) -> None:
    result = cognify(*words)
    assert result.code == 5
    assert "Error:" in result.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("ledger", "verify", "--trust", "absent.txt"), "--trust absent.txt: there is no such file"),
        (("sign", MODEL, "1", "--key", "."), "--key .: this is a folder"),
        (("policy", "check", "absent.yaml"), "absent.yaml: there is no such file"),
    ],
)
def test_a_file_that_is_not_there_is_unreadable_not_wrong_usage(
    words: tuple[str, ...], part: str, cognify: Cognify
) -> None:
    result = cognify(*words)
    assert result.code == 3
    assert part in result.err
    assert "Usage:" not in result.err


def test_missing_workspace_is_unreadable_and_says_what_to_do(cognify: Cognify) -> None:
    result = cognify("status", MODEL)
    assert result.code == 3
    assert result.err.startswith("Error: ")
    assert "cognify init" in result.err


def test_workspace_is_found_upward_by_variable_and_by_option(
    ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = ready.folder / "project"
    assert cognify("status", MODEL, "--workspace", project).code == 0
    assert cognify("--workspace", project / "cognify.toml", "status", MODEL).code == 0
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(project / ".cognify"))
    assert cognify("status", MODEL).code == 0
    monkeypatch.delenv("COGNIFY_WORKSPACE")
    (project / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(project / "deep" / "er")
    assert cognify("status", MODEL).code == 0


def test_debug_variable_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGNIFY_DEBUG", "1")
    result = CliRunner().invoke(main, ["status", MODEL])
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert "WorkspaceError" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (Tampered("entry 3 was changed"), 1, "entry 3 was changed"),
        (ProofError("no"), 4, "no"),
        (LedgerFull("disk full; nothing was appended"), 3, "nothing was appended"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 3, "/x/y: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 3, "/x: Permission denied"),
        (RuntimeError("two\nlines"), 3, "unexpected RuntimeError: two lines"),
    ],
)
def test_errors_get_one_line_and_their_code(error: Exception, code: int, part: str) -> None:
    text, found = explain(error)
    assert found == code
    assert part in text
    assert "\n" not in text


def test_a_full_disk_while_writing_is_said_and_leaves_nothing(
    ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cognify_dagster.cli.inputs.os.fsync", full)
    out = tmp_path / "out"
    out.mkdir()
    result = cognify("ledger", "prove", 3, "-o", out / "proof", at=ready)
    assert result.code == 3
    assert "the disk is full" in result.err
    assert list(out.iterdir()) == []


def test_foreign_text_cannot_forge_terminal_lines() -> None:
    assert clean("Ada\x1b[2K\r\nok\u202e") == "Ada<U+001B>[2K<U+000D> ok<U+202E>"


def test_a_reader_that_went_away_gets_no_traceback_and_no_verdict(ready: World) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "cognify_dagster.cli", "ledger", "verify"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, "COGNIFY_WORKSPACE": str(ready.folder / "project"), "PYTHONPATH": str(ROOT)},
    )
    os.close(writer)
    assert done.returncode == 3
    assert done.stderr == b""
