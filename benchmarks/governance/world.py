"""A founded workspace with real people, keys and signatures, and between its entries those of many other models."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.ledger.harness import make_draft
from cognify_dagster.ledger import SqliteStore
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.verification.index import Index
from cognify_dagster.ledger.verification.indexfile import IndexFile, index_key
from cognify_dagster.records import GateResult
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL, World, make_world

OF_VERSION = 200
"""Entries about the version that is decided."""
_BATCH = 2_000
_FAMILIES = ("performance", "fairness", "data_quality", "completeness")


def filler(workspace: Workspace, count: int) -> None:
    """Append entries about other models, straight into the store."""
    store = workspace.ledger.store
    while count > 0:
        start = store.size()
        sealed = []
        for number in range(start, start + min(_BATCH, count)):
            version = f"model/other{number // 10 % 200}@v{number // 10}"
            draft = replace(
                make_draft(number), subjects=(version.split("@", maxsplit=1)[0], version, f"dataset/d{number % 50}")
            )
            sealed.append(seal_body(store.origin, draft))
        store.append_many(sealed, time.time_ns() // 1000)
        count -= len(sealed)


def gate(world: World, version: str, number: int, based_on: int) -> None:
    """One more entry about a version: a gate result that was measured again, with the same outcome."""
    family = _FAMILIES[number % len(_FAMILIES)]
    value = {"model": MODEL, "version": version, "family": family, "status": "pass", "based_on": (based_on,)}
    world.write(GateResult.model_validate(value))


def governed(cache: Path, size: int) -> Workspace:
    """A workspace whose version 1 has `OF_VERSION` entries, all approvals among them, spread over a ledger of `size`; made once
    and kept in the cache folder."""
    folder = cache / f"governed-{size}"
    if (folder / "done").exists():
        return Workspace.open(folder / "project")
    print(f"making a governed ledger of {size:,} entries in {folder} (once) …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    world = make_world(folder)
    workspace = world.workspace
    world.train("1")
    based_on = world.evaluate("1")
    space = size // (OF_VERSION - 10)
    while len(workspace.read().view.history(world.subject("1"))) < OF_VERSION - 4:
        filler(workspace, space)
        gate(world, "1", workspace.ledger.size(), based_on)
    world.package("1")
    world.approve_all("1")
    filler(workspace, size - workspace.ledger.size())
    (folder / "done").touch()
    workspace.ledger.store.close()  # type: ignore[attr-defined]
    return Workspace.open(folder / "project")


def in_postgres(workspace: Workspace, folder: Path) -> tuple[Workspace, Any]:
    """The same ledger in Postgres, byte for byte, with an index of its own; and the server's ledger, to be dropped."""
    from tests.conformance.postgres_server import NewLedger

    source = workspace.ledger.store
    size = source.size()
    place = NewLedger(workspace.origin)
    store = place.open()
    print(f"copying {size:,} entries to Postgres …", flush=True)
    store.load(source.entries(0, size), source.payloads(0, size), source.checkpoints())
    key = index_key(b"b" * 32, workspace.origin)
    index = Index(store, file=IndexFile(folder / "verified" / "index.sqlite", key, workspace.origin))
    other = Workspace.open(workspace.config.path.parent)
    other.ledger.store, other.ledger.index = store, index
    return other, place


def reopened(workspace: Workspace) -> Workspace:
    """The same workspace as a new process finds it: nothing in memory, the kept index on disk."""
    fresh = Workspace.open(workspace.config.path.parent)
    index = workspace.ledger.index
    assert index is not None
    file = index._file
    assert file is not None
    store = workspace.ledger.store
    if isinstance(store, SqliteStore):
        return fresh
    fresh.ledger.store = store
    fresh.ledger.index = Index(store, file=IndexFile(file.path, file._key, file._origin))
    return fresh
