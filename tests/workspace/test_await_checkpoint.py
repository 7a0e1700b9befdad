"""Waiting for a signer that is another process: only checkpoints that can cover the entry are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cognify_dagster.ledger import LedgerError
from cognify_dagster.workspace import Workspace, idempotency_key
from cognify_dagster.workspace.workspace import open_signer
from tests.workspace.conftest import register


def test_only_checkpoints_that_may_cover_the_entry_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signing = Workspace.open(folder)
    for number in range(5):
        signing.append(register(f"m{number}"), idem=idempotency_key(f"m{number}"), checkpoint=True)
    waiting = Workspace.open(folder)
    waiting.config = replace(waiting.config, signer="external", signer_wait=60.0)  # its third look is not too late
    store, asked = waiting.ledger.store, list[int]()
    honest, signer = store.checkpoints, open_signer(signing.config)
    assert signer is not None

    def checkpoints(since: int = 0) -> list[tuple[int, str]]:
        asked.append(since)
        found = honest(since)
        assert len(found) <= 2, "a ledger of many checkpoints is not read as a whole in every look"
        if len(asked) == 3:
            signer.sign(store)
        return found

    monkeypatch.setattr(store, "checkpoints", checkpoints)
    receipt = waiting.append(register("last"), idem=idempotency_key("last"), checkpoint=True)
    assert (set(asked), len(asked)) == ({receipt.seq}, 4)
    monkeypatch.setattr(store, "checkpoints", honest)
    waiting.config = replace(waiting.config, signer_wait=0.2)
    with pytest.raises(LedgerError, match="the external signer signed no checkpoint that covers"):
        waiting.append(register("more"), idem=idempotency_key("more"), checkpoint=True)
