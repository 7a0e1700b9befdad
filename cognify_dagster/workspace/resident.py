"""Workspaces that a process which goes on living keeps open, so that looking again costs only what is new.

A sensor is evaluated every few seconds in the same process. Opening the workspace anew each time would parse and verify the same
entries again. What is kept here is the opened workspace with its verified index and parsed records.

Invariants: nothing is believed that a fresh `Workspace.open` would not believe: each reading compares every row it uses with what
was verified. A workspace is opened anew once its configuration, trust file, keys or ledger file are other files than they were,
in another process (after a fork), and after any error while it was used.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cognify_dagster.workspace.config import WorkspaceConfig, find_config, load_config
from cognify_dagster.workspace.workspace import Workspace

LIMIT = 8
T = TypeVar("T")
_lock = threading.Lock()
_kept: OrderedDict[Path, Resident] = OrderedDict()


@dataclass
class Resident:
    """An opened workspace, and what its users found out and want to find again at their next look, by key."""

    workspace: Workspace
    stamp: tuple[Hashable, ...]
    state: dict[Hashable, Any] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, made now if there is nothing yet. It is lost when the workspace is opened anew."""
        with self.lock:
            if key not in self.state:
                self.state[key] = make()
            found: T = self.state[key]
            return found


@contextmanager
def resident(path: str | os.PathLike[str]) -> Iterator[Resident]:
    """Lend the workspace at a path, opened now or kept from before; of at most `LIMIT` those used last are kept.

    Args:
        path: as for `Workspace.open`.

    Raises:
        WorkspaceError, LedgerUnreadable: as `Workspace.open`.
    """
    place = find_config(path)
    config = load_config(place)
    stamp = _stamp(config)
    with _lock:
        found = _kept.get(place)
        if found is None or found.stamp != stamp:
            found = _kept[place] = Resident(Workspace.of(config), stamp)
        _kept.move_to_end(place)
        while len(_kept) > LIMIT:
            _kept.popitem(last=False)
    try:
        yield found
    except BaseException:
        with _lock:
            if _kept.get(place) is found:
                del _kept[place]
        raise


def _stamp(config: WorkspaceConfig) -> tuple[Hashable, ...]:
    """What has to be the same for a kept workspace to be used: process, configuration, and which files they are.

    The ledger grows in place, so of it only the identity of the file counts.
    """
    keys = sorted(config.keys.glob("*")) if config.keys.is_dir() else []
    url = os.environ.get(config.ledger_url.removeprefix("env:")) if config.ledger_url is not None else None
    return (
        os.getpid(),
        url,
        *(_file(path) for path in (config.path, config.trust, *keys)),
        _file(config.ledger)[:3],
    )


def _file(path: Path) -> tuple[Hashable, ...]:
    try:
        found = path.stat()
    except OSError:
        return (str(path), 0, 0, 0, 0)
    return (str(path), found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
