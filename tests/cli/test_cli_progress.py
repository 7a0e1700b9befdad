"""Long work over a ledger says how far it is, at a terminal only; Ctrl-C leaves nothing half-written and ends with code 130."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from cognify_dagster.cli.ledger import group
from cognify_dagster.ledger.recovery.progress import Telling
from cognify_dagster.ledger.recovery.rollback import mark_path
from tests.cli.conftest import Cognify, at_terminal
from tests.cli.test_cli_backup import lose, sign
from tests.cli.test_cli_verify import grow
from tests.governance.world import World

CALLS = ("backup", "dump", "copy", "restore", "restore a dump", "replay", "replay a dump", "upgrade", "verify")


def everything_in(folder: Path) -> dict[str, bytes]:
    """Every file but the list of known public keys, which is whole at any moment and may grow."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "archive-keys.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def prepare(call: str, world: World, cognify: Cognify, folder: Path) -> list[object]:
    """Bring a workspace to where a call makes sense; return its words."""
    sign(world)
    base, _, of_dump = call.partition(" a ")
    if base in ("backup", "dump"):
        return ["ledger", base, folder / "made"]
    if base == "copy":
        return ["ledger", "copy", "--to", folder / "made.sqlite"]
    if base == "upgrade":
        return ["upgrade", "--backup", folder / "made.sqlite"]
    if base == "verify":
        return ["ledger", "verify"]
    assert cognify("ledger", "backup", folder / "old.sqlite", at=world).code == 0
    if base == "replay":
        grow(world, 2)
        sign(world)
    source = folder / "newest"
    assert cognify("ledger", "dump" if of_dump else "backup", source, at=world).code == 0
    lose(world, folder)
    if base == "replay":
        assert cognify("ledger", "restore", folder / "old.sqlite", at=world).code == 2
    return ["ledger", base, source]


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_leaves_everything_as_it_was(
    call: str, ready: World, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    words = prepare(call, ready, cognify, outside)
    before = everything_in(outside) | everything_in(ready.folder)
    seen: list[tuple[str, int, int]] = []

    def pressed(self: group.Progress, done: int, total: int) -> None:
        seen.append((self.what, done, total))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(group.Progress, "__call__", pressed)
        result = cognify(*words, at=ready)
    assert seen, "the command tells how far it is"
    assert result.code == 130
    assert (result.out, result.err) == ("", "Stopped; nothing half-written was kept.\n")
    assert everything_in(outside) | everything_in(ready.folder) == before
    if call.startswith("restore"):
        assert not mark_path(ready.workspace.config.ledger).exists()
    again = cognify(*words, at=ready)
    assert again.code == 0, again.err


def test_a_restore_that_is_stopped_keeps_the_mark_that_was_there(
    ready: World, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = prepare("restore a dump", ready, cognify, tmp_path)
    mark = mark_path(ready.workspace.config.ledger)
    mark.write_bytes(b"of an earlier restore")

    def pressed(self: group.Progress, done: int, total: int) -> None:
        if self.what.startswith("Entries restored"):
            assert mark.read_bytes() != b"of an earlier restore", "closed while it is filled"
            raise KeyboardInterrupt

    monkeypatch.setattr(group.Progress, "__call__", pressed)
    assert cognify(*words, at=ready).code == 130
    assert mark.read_bytes() == b"of an earlier restore"


SCRIPT = """
import os, signal, sys, time
from cognify_dagster.cli.ledger import group
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job started in the background inherits it ignored
group._SHOW_AFTER_S = 0.0
if sys.argv[1] == "stop":
    said = group.Progress.__call__
    group.Progress.__call__ = lambda self, *at: (said(self, *at), os.kill(os.getpid(), signal.SIGINT), time.sleep(30))
from cognify_dagster.cli import main
main(sys.argv[2:], prog_name="cognify")
"""


def shown_at_terminal(world: World, tmp_path: Path, *words: object, stop: bool = False) -> tuple[int, str]:
    (tmp_path / "run.py").write_text(SCRIPT)
    where = {"COGNIFY_WORKSPACE": str(world.folder / "project")}
    arguments = ["stop" if stop else "go", *map(str, words)]
    return at_terminal(where, arguments, [], program=[sys.executable, str(tmp_path / "run.py")])


def test_at_a_terminal_it_says_how_far_it_is(ready: World, tmp_path: Path) -> None:
    size = ready.workspace.ledger.size()
    code, shown = shown_at_terminal(ready, tmp_path, "ledger", "backup", tmp_path / "b.sqlite")
    assert code == 0, shown
    assert f"\rEntries of the copy verified: {size} of {size} (100 %)" in shown


def test_not_with_json(ready: World, tmp_path: Path) -> None:
    code, shown = shown_at_terminal(ready, tmp_path, "ledger", "backup", tmp_path / "b.sqlite", "--json")
    assert code == 0, shown
    assert shown.startswith("{")
    assert "Entries" not in shown


def test_a_real_signal_stops_it(ready: World, tmp_path: Path) -> None:
    begin = time.monotonic()
    code, shown = shown_at_terminal(ready, tmp_path, "ledger", "backup", tmp_path / "b.sqlite", stop=True)
    assert code == 130, shown
    assert time.monotonic() - begin < 25
    assert shown.rstrip().endswith("Stopped; nothing half-written was kept.")
    assert "Traceback" not in shown
    assert not [path for path in tmp_path.iterdir() if "b.sqlite" in path.name]


def test_nobody_is_told_before_a_second_has_passed_or_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = group.Progress("Entries")
    told.begin -= 10
    told(1, 2)
    assert capsys.readouterr().err == "", "stderr is no terminal"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with group.Progress("Entries") as told:
        told(1, 2)
        assert capsys.readouterr().err == "", "in the first second"
        told.begin -= 10
        told.last -= 10
        told(1, 2)
        assert capsys.readouterr().err == "\rEntries: 1 of 2 (50 %)"
    assert capsys.readouterr().err == "\n"


def test_several_passes_count_as_one_piece_of_work() -> None:
    told: list[tuple[int, int]] = []
    work = Telling(lambda done, total: told.append((done, total)), 3_000)
    assert list(work.each(range(1_500))) == list(range(1_500))
    second = work.part()
    second(700, 1_500)
    second(1_500, 1_500)
    assert told == [(1_000, 3_000), (2_200, 3_000), (3_000, 3_000)]
    assert list(Telling(None, 5).each("abcde")) == list("abcde")
