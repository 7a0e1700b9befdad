"""Collects the digests of the files that each process of a distributed training wrote into a checkpoint.

Every process hashes its own files (random states, shards) and puts the list into the key-value store that the processes share already;
the first process reads the lists. No collective call is made, so a process without the callback, or one that died, cannot make
the others wait for longer than a bounded time: it is named instead.

Invariants: what is read is bounded JSON and checked field by field; nothing is unpickled.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cognify_dagster.training import sha256_file

_LOG = logging.getLogger("cognify_dagster.huggingface")

#: Seconds that the first process waits for another one's list; a slow shared disk may need more.
WAIT_S = 60.0
WAIT_VARIABLE = "COGNIFY_RANK_WAIT_S"
_POLL_S = 0.02
_LONGEST_S = 86_400
_MAX_BYTES = 4 * 1024 * 1024
_HEX = re.compile(r"[0-9a-f]{64}")
_OWN = (
    re.compile(r"(?:^|/)rng_state_(\d+)\.pth$"),
    re.compile(r"(?:^|/)__(\d+)_\d+\.distcp$"),
    re.compile(r"(?:^|/)(?:bf16_|fp16_)?zero_pp_rank_(\d+)_"),
    re.compile(r"(?:^|/)(?:model|optimizer)_rank_(\d+)[._]"),
)


def rank_wait() -> float:
    """Return how long to wait, in seconds: `COGNIFY_RANK_WAIT_S`, or 60. A value that is no such number is named and not used."""
    given = os.environ.get(WAIT_VARIABLE, "").strip()
    if not given:
        return WAIT_S
    try:
        found = float(given)
    except ValueError:
        found = -1.0
    if 0 <= found <= _LONGEST_S:
        return found
    _LOG.warning(
        "%s=%.40r is not a number of seconds from 0 to %d; %d are used", WAIT_VARIABLE, given, _LONGEST_S, WAIT_S
    )
    return WAIT_S


def rank_of_file(name: str) -> int | None:
    """Return the process that wrote a checkpoint file, by its name; None for a file of them all."""
    for pattern in _OWN:
        found = pattern.search(name)
        if found:
            return int(found.group(1))
    return None


def own_rows(folder: Path, rank: int, checkpoint: str) -> list[dict[str, Any]]:
    """Digest the files below a checkpoint that this process wrote."""
    rows = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if rank_of_file(name) == rank and path.is_file() and not path.is_symlink():
            rows.append(_row(checkpoint, rank, name, path.stat().st_size, sha256_file(path)))
    return rows


def _row(checkpoint: str, rank: int, name: str, size: int, digest: str) -> dict[str, Any]:
    return {"checkpoint": checkpoint, "rank": rank, "file": name, "size": size, "sha256": digest}


class RankStore:
    """The processes' shared key-value store, as far as it is needed here."""

    def __init__(self, store: Any, run: str) -> None:
        self._store, self._run = store, run
        self.silent: set[int] = set()

    @classmethod
    def open(cls, run: str) -> RankStore | None:
        """Return the default process group's store; None where there is none."""
        try:
            from torch.distributed import distributed_c10d

            return cls(distributed_c10d._get_default_store(), run)
        except (ImportError, AttributeError, RuntimeError, ValueError):
            return None

    def put(self, checkpoint: str, rank: int, rows: list[dict[str, Any]]) -> None:
        """Leave this process's rows for the first process."""
        self._store.set(self._key(checkpoint, rank), json.dumps(rows, separators=(",", ":")))

    def collect(
        self, checkpoint: str, world_size: int, wait_s: float | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> list[dict[str, Any]]:
        """Return the rows of all other processes; who did not answer in time is added to `silent` and not waited for again."""
        rows: list[dict[str, Any]] = []
        end = time.monotonic() + (rank_wait() if wait_s is None else wait_s)
        for rank in range(1, world_size):
            if rank in self.silent:
                continue
            key = self._key(checkpoint, rank)
            while not self._store.check([key]):
                if time.monotonic() > end:
                    self.silent.add(rank)
                    break
                sleep(_POLL_S)
            else:
                rows += read_rows(bytes(self._store.get(key)), checkpoint, rank)
        return rows

    def _key(self, checkpoint: str, rank: int) -> str:
        return f"cognify/{self._run}/{checkpoint}/{rank}"


def read_rows(data: bytes, checkpoint: str, rank: int) -> list[dict[str, Any]]:
    """Read another process's rows.

    Raises:
        ValueError: too large, or not of the expected form.
    """
    if len(data) > _MAX_BYTES:
        raise ValueError(f"rank {rank} sent {len(data)} bytes about {checkpoint}; at most {_MAX_BYTES} are read")
    rows = []
    for item in json.loads(data.decode("utf-8")):
        name, size, digest = item.get("file"), item.get("size"), item.get("sha256")
        if not isinstance(name, str) or not isinstance(size, int) or not _HEX.fullmatch(str(digest)):
            raise ValueError(f"rank {rank} sent a row about {checkpoint} that can't be read: {str(item)[:200]}")
        rows.append(_row(checkpoint, rank, name[:1000], size, str(digest)))
    return rows
