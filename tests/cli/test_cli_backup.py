"""Backup, restore, replay, continue, copy, dump, upgrade: nothing is resumed silently, and a restore can be proven."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cognify_dagster.ledger import RolledBack, SqliteStore
from cognify_dagster.ledger.recovery.rollback import mark_path
from cognify_dagster.records import Restored
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import Cognify, flip_byte, key_file
from tests.cli.test_cli_verify import add_config, grow
from tests.governance.world import World
from tests.ledger.test_witnessed_ledger import witness
from tests.workspace.test_witnessed_workspace import demand


@pytest.fixture
def ready(ready: World) -> World:
    ready.workspace.ledger.sign_checkpoint()
    return ready


def lose(world: World, tmp_path: Path) -> Path:
    """Move the ledger away, as after a damage."""
    return Path(shutil.move(world.workspace.config.ledger, tmp_path / "damaged.sqlite"))


def sign(world: World) -> str:
    return Workspace.open(world.workspace.config.path).ledger.sign_checkpoint()


def test_a_backup_is_proven_elsewhere_and_restored_in_place(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    made = cognify("ledger", "backup", tmp_path / "b.sqlite", "--json", at=ready).json
    size = ready.workspace.ledger.size()
    assert made["size"] == size
    assert cognify("ledger", "backup", tmp_path / "b.sqlite", at=ready).code == 3, "never overwritten"
    proof = cognify("ledger", "restore", tmp_path / "b.sqlite", "--to", tmp_path / "proof.sqlite", at=ready)
    assert proof.code == 0
    assert ready.workspace.ledger.size() == size, "the workspace's own ledger is left alone"
    over = cognify("ledger", "restore", tmp_path / "b.sqlite", at=ready)
    assert (over.code, "Move it away first" in over.err) == (3, True)
    lose(ready, tmp_path)
    assert cognify("ledger", "verify", at=ready).code == 3
    result = cognify("ledger", "restore", tmp_path / "b.sqlite", "--reason", "drill", "--json", at=ready)
    assert result.code == 0
    assert result.json["sound"]
    assert result.json["compared_with"] == ["the signer's state"]
    assert cognify("ledger", "verify", at=ready).code == 0
    (entry,) = Workspace.open(ready.workspace.config.path).read().all(Restored)
    assert (entry.seq, entry.record.backup, entry.record.reason) == (size, made["sha256"], "drill")


def test_an_older_backup_is_closed_until_the_lost_entries_are_replayed(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    cognify("ledger", "backup", tmp_path / "old.sqlite", at=ready)
    size = ready.workspace.ledger.size()
    grow(ready, 3)
    sign(ready)
    cognify("ledger", "backup", tmp_path / "new.sqlite", at=ready)
    lose(ready, tmp_path)
    result = cognify("ledger", "restore", tmp_path / "old.sqlite", at=ready)
    assert result.code == 2
    assert f"entries {size} to {size + 2}" in result.out
    assert "cognify ledger replay" in result.out
    assert "cognify ledger continue" in result.out
    with pytest.raises(RolledBack, match="cognify ledger replay"):
        grow(ready, 1, prefix="refused")
    verified = cognify("ledger", "verify", at=ready)
    assert verified.code == 2
    assert "nothing is appended" in verified.out
    same = cognify("ledger", "replay", tmp_path / "old.sqlite", at=ready)
    assert same.code == 2
    assert "stays closed" in same.err
    done = cognify("ledger", "replay", tmp_path / "new.sqlite", "--reason", "disk", at=ready)
    assert done.code == 0, done.err
    reading = Workspace.open(ready.workspace.config.path).read()
    assert [item.record.replayed_from for item in reading.all(Restored)] == [size]
    assert reading.size == size + 4
    grow(ready, 1, prefix="open-again")
    assert cognify("ledger", "verify", at=ready).code == 0
    assert not list(ready.workspace.config.home.glob("*.replayed"))


def test_a_head_that_somebody_kept_shows_the_rollback_and_must_be_given_again(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    cognify("ledger", "backup", tmp_path / "old.sqlite", at=ready)
    state = ready.workspace.config.home / "signer-state.json"
    kept = state.read_bytes()
    grow(ready, 2)
    (tmp_path / "run.txt").write_text(sign(ready))
    cognify("ledger", "dump", tmp_path / "dump", at=ready)
    lose(ready, tmp_path)
    state.write_bytes(kept)  # the signer's memory was restored, too
    assert cognify("ledger", "restore", tmp_path / "old.sqlite", "--to", tmp_path / "x.sqlite", at=ready).code == 0
    result = cognify("ledger", "restore", tmp_path / "old.sqlite", "--head", tmp_path / "run.txt", at=ready)
    assert result.code == 2
    assert "run.txt" in result.out
    forgetful = cognify("ledger", "replay", tmp_path / "dump", at=ready)
    assert forgetful.code == 2
    assert "was not compared with" in forgetful.err
    assert SqliteStore(ready.workspace.config.ledger).size() == ready.workspace.ledger.size(), "nothing was replaced"
    done = cognify("ledger", "replay", tmp_path / "dump", "--head", tmp_path / "run.txt", at=ready)
    assert done.code == 0, done.err
    grow(ready, 1, prefix="open-again")


def test_a_replay_that_was_cut_off_before_it_was_opened_is_taken_up(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    cognify("ledger", "backup", tmp_path / "old.sqlite", at=ready)
    grow(ready, 2)
    sign(ready)
    cognify("ledger", "backup", tmp_path / "new.sqlite", at=ready)
    lose(ready, tmp_path)
    assert cognify("ledger", "restore", tmp_path / "old.sqlite", at=ready).code == 2
    mark = mark_path(ready.workspace.config.ledger)
    text = mark.read_bytes()
    assert cognify("ledger", "replay", tmp_path / "new.sqlite", at=ready).code == 0
    mark.write_bytes(text)  # as if it had been killed before the mark went
    with pytest.raises(RolledBack):
        grow(ready, 1, prefix="refused")
    assert cognify("ledger", "replay", tmp_path / "new.sqlite", at=ready).code == 0
    grow(ready, 1, prefix="open-again")


def test_a_witness_and_an_anchor_show_the_rollback(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    signer = ready.workspace.ledger.signer
    assert signer is not None
    (tmp_path / "vault").mkdir()
    add_config(ready, f'\n[[anchor]]\nkind = "folder"\nname = "vault"\npath = "{tmp_path / "vault"}"\n')
    with witness(tmp_path, "audit", signer.verifier) as remote:
        demand(ready, remote)
        cognify("ledger", "backup", tmp_path / "old.sqlite", at=ready)
        grow(ready, 2)
        sign(ready)
        assert cognify("ledger", "anchor", at=ready).code == 0
        lose(ready, tmp_path)
        (ready.workspace.config.home / "signer-state.json").unlink()
        result = cognify("ledger", "restore", tmp_path / "old.sqlite", "--json", at=ready)
        assert result.code == 2
        assert result.json["compared_with"] == ["witness audit", "anchor vault"]
        assert result.json["lost"] == [result.json["size"], result.json["size"] + 2]
        offline = cognify(
            "ledger", "restore", tmp_path / "old.sqlite", "--offline", "--to", tmp_path / "o.sqlite", "--json", at=ready
        )
        assert offline.json["compared_with"] == []
        assert any("not asked" in note for note in offline.json["notes"])


def test_a_newer_backup_that_holds_everything_takes_the_mark_away(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    cognify("ledger", "backup", tmp_path / "old.sqlite", at=ready)
    grow(ready, 2)
    sign(ready)
    cognify("ledger", "backup", tmp_path / "new.sqlite", at=ready)
    lose(ready, tmp_path)
    assert cognify("ledger", "restore", tmp_path / "old.sqlite", at=ready).code == 2
    lose(ready, tmp_path)
    done = cognify("ledger", "restore", tmp_path / "new.sqlite", at=ready)
    assert done.code == 0, done.err
    grow(ready, 1, prefix="open-again")


def test_a_damaged_backup_restores_nothing(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    cognify("ledger", "backup", tmp_path / "b.sqlite", at=ready)
    flip_byte(tmp_path / "b.sqlite", 5)
    result = cognify("ledger", "restore", tmp_path / "b.sqlite", "--to", tmp_path / "p.sqlite", at=ready)
    assert result.code == 1
    assert "take an older backup" in result.err
    assert not (tmp_path / "p.sqlite").exists()
    flip_byte(ready.workspace.config.ledger, 5)
    refused = cognify("ledger", "backup", tmp_path / "c.sqlite", at=ready)
    assert refused.code == 1
    assert not (tmp_path / "c.sqlite").exists()


def test_what_is_no_backup_is_refused(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    assert cognify("ledger", "restore", tmp_path / "absent", "--to", tmp_path / "x", at=ready).code == 3
    (tmp_path / "text").write_text("hello")
    assert cognify("ledger", "restore", tmp_path / "text", "--to", tmp_path / "x", at=ready).code == 3
    SqliteStore.create(tmp_path / "empty.sqlite", "test.example/credit")
    result = cognify("ledger", "restore", tmp_path / "empty.sqlite", "--to", tmp_path / "x", at=ready)
    assert result.code == 3
    assert "no entries" in result.err
    SqliteStore.create(tmp_path / "other.sqlite", "other.example/credit")
    foreign = cognify("ledger", "restore", tmp_path / "other.sqlite", "--to", tmp_path / "x", at=ready)
    assert foreign.code == 3
    assert "other.example/credit" in foreign.err
    assert not (tmp_path / "x").exists()


def test_a_dump_restores_into_a_new_file_and_a_changed_one_does_not(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    made = cognify("ledger", "dump", tmp_path / "dump", "--json", at=ready).json
    result = cognify("ledger", "restore", tmp_path / "dump", "--to", tmp_path / "x.sqlite", "--json", at=ready)
    assert (result.code, result.json["root"]) == (0, made["root"])
    first = cognify("ledger", "verify", "--ledger", tmp_path / "x.sqlite", "--trust", ready.workspace.config.trust)
    assert first.code == 0
    listed = tmp_path / "dump" / "backup.json"
    listed.write_text(listed.read_text().replace('"payload":"', '"payload":"A', 1))
    broken = cognify("ledger", "restore", tmp_path / "dump", "--to", tmp_path / "y.sqlite", at=ready)
    assert broken.code in (1, 3)
    assert not (tmp_path / "y.sqlite").exists()


def test_a_copy_has_every_byte_and_goes_on_in_its_place(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    before = cognify("ledger", "verify", "--json", at=ready).json
    result = cognify("ledger", "copy", "--to", tmp_path / "moved.sqlite", at=ready)
    assert result.code == 0
    line = next(text.strip() for text in result.out.splitlines() if text.strip().startswith("ledger ="))
    path = ready.workspace.config.path
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    after = cognify("ledger", "verify", "--json", at=ready).json
    assert before == after
    grow(ready, 1)
    assert cognify("ledger", "copy", "--to", tmp_path / "moved.sqlite", at=ready).code == 3, "never overwritten"


def test_a_loss_for_good_is_cited_by_a_new_ledger(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    size = ready.workspace.ledger.size()
    (tmp_path / "head.txt").write_text(sign(ready))
    founders = [f"Ada={key_file(ready, 'ada')}", f"Finn={key_file(ready, 'finn')}"]
    new = tmp_path / "new"
    made = cognify(
        "init", new, "--origin", "test.example/credit-2", "--founder", founders[0], "--founder", founders[1], "--yes"
    )
    assert made.code == 0, made.err
    words = (
        "ledger", "continue", "--workspace", new, "--previous-trust", ready.workspace.config.trust,
        "--checkpoint", tmp_path / "head.txt", "--reason", "all backups lost", "--yes", "--json",
    )  # fmt: skip
    one = cognify(*words, "--lost-start", 3, "--as", key_file(ready, "ada"))
    assert one.code == 1
    assert "2 different people" in one.err
    none = cognify(*words, "--lost-start", size, "--as", key_file(ready, "ada"), "--as", key_file(ready, "finn"))
    assert none.code == 1
    assert "nothing is lost" in none.err
    done = cognify(*words, "--lost-start", 3, "--as", key_file(ready, "ada"), "--as", key_file(ready, "finn"))
    assert (done.code, done.json["entry"]) == (0, 1)
    assert cognify("ledger", "verify", "--workspace", new).code == 0


def test_upgrade_backs_up_verifies_and_says_that_nothing_was_to_do(ready: World, cognify: Cognify) -> None:
    result = cognify("upgrade", at=ready)
    assert result.code == 0
    assert "nothing to migrate" in result.out
    (made,) = (ready.workspace.config.home / "backups").glob("*.sqlite")
    assert SqliteStore(made, read_only=True).size() == ready.workspace.ledger.size()
    value = cognify("upgrade", "--backup", made.with_name("second.sqlite"), "--json", at=ready).json
    assert (value["migrated"], value["outcome"]) == ([], "holds")
    flip_byte(ready.workspace.config.ledger, 5)
    refused = cognify("upgrade", "--backup", made.with_name("third.sqlite"), at=ready)
    assert refused.code == 1
    assert "nothing was done" in refused.err
    assert not made.with_name("third.sqlite").exists()
