"""Run by tests in another process, to be killed: archives and detaches segments, or writes backups, until it is stopped."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cognify_dagster.ledger import SqliteStore
from cognify_dagster.ledger.archive.detaching import ArchivedStore, due_segments
from cognify_dagster.ledger.recovery.backup import backup_sqlite
from tests.ledger.archive_world import attach, checkpoint, detach, export, fill, opened


def main(folder: Path) -> None:
    store = SqliteStore(folder / "ledger.sqlite")
    print("ready", flush=True)
    while True:
        fill(store, store.size() + 8)
        names = sorted(path for path in folder.iterdir() if path.name.startswith("segment-"))
        archives = [opened(path) for path in names]
        checkpoint(ArchivedStore(store, archives))
        for start, end in due_segments(store, cut=256):
            target = folder / f"segment-{start:06d}"
            detach(store, opened(target) if target.exists() else export(store, target, start, end))
        for segment in reversed(store.segments()):
            attach(store, opened(folder / f"segment-{segment.start:06d}"))
        for path in folder.glob("segment-*"):
            path.rename(folder / f"old-{path.name}")  # a folder half removed would look like a damaged archive
        for path in folder.glob("old-*"):
            shutil.rmtree(path)
        (folder / "backup.sqlite").unlink(missing_ok=True)
        backup_sqlite(store, folder / "backup.sqlite")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
