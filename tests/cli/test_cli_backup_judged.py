"""Backup, restore and replay weigh signed acts as `cognify ledger verify` does: what it calls tampered is not carried on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cognify_dagster.ledger import SqliteStore
from cognify_dagster.ledger.recovery.backup import backup_sqlite
from cognify_dagster.records import ClockFloorCorrected
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.cli.conftest import Cognify
from tests.cli.test_cli_backup import lose, ready
from tests.cli.test_cli_keys import both, opened
from tests.governance.world import World

__all__ = ["ready"]
DAY_US = 86_400_000_000


def run_ahead(world: World) -> int:
    """The clock runs two days ahead for one entry; return when it was right."""
    now = time.time_ns() // 1000
    world.workspace.ledger._clock = lambda: now + 2 * DAY_US
    world.workspace.append(opened("8"), idem=idempotency_key("8"))
    return now


def test_a_corrected_clock_is_backed_up_restored_and_said(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    run_ahead(ready)
    assert cognify("ledger", "correct-clock", "--reason", "host 7", *both(ready), at=ready).code == 0
    Workspace.open(ready.workspace.config.path).append(opened("9"), idem=idempotency_key("9"), checkpoint=True)
    made = cognify("ledger", "backup", tmp_path / "b.sqlite", at=ready)
    assert made.code == 0, made.err
    assert cognify("ledger", "dump", tmp_path / "d", at=ready).code == 0
    for source in ("b.sqlite", "d"):
        proof = cognify(
            "ledger", "restore", tmp_path / source, "--to", tmp_path / f"{source}.proof", "--json", at=ready
        )
        assert (proof.code, proof.json["sound"]) == (0, True)
        notes = " ".join(proof.json["notes"])
        assert "corrects the clock" in notes
        assert "taken at their word" not in notes, "who signed it was judged"


@pytest.mark.parametrize("how", ["backup", "restore a file", "restore in place"])
def test_a_correction_that_only_a_machine_signed_is_not_carried_on(
    how: str, ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    now = run_ahead(ready)
    wrong = next(
        iter(ready.workspace.ledger.store.entries(ready.workspace.ledger.size() - 1, ready.workspace.ledger.size()))
    )
    record = ClockFloorCorrected(wrong_us=wrong.time_us, floor_us=now, reason="host 7", approvers=("person/ada",))
    ready.workspace.ledger._clock = lambda: now + 5
    seq = ready.write(record)
    assert cognify("ledger", "verify", at=ready).code == 1
    taken = tmp_path / "taken.sqlite"
    backup_sqlite(SqliteStore(ready.workspace.config.ledger, read_only=True), taken)  # by its word, without a judge
    if how == "backup":
        result = cognify("ledger", "backup", tmp_path / "b.sqlite", at=ready)
        made = tmp_path / "b.sqlite"
    elif how == "restore a file":
        result = cognify("ledger", "restore", taken, "--to", tmp_path / "r.sqlite", at=ready)
        made = tmp_path / "r.sqlite"
    else:
        lose(ready, tmp_path)
        result = cognify("ledger", "restore", taken, at=ready)
        made = ready.workspace.config.ledger
    assert (result.code, f"entry {seq}: its time lies before" in result.err) == (1, True), result.err
    assert not made.exists()
