"""Which of a training's processes writes its record.

Invariant: of the processes of one training only rank 0 writes, and never a forked child of it, nor a worker that only imports the
main script again.
"""

from __future__ import annotations

import multiprocessing
import os
import sys

_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes: of an initialised torch.distributed, else as the launcher set it."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    for rank, size in zip(_RANKS, _SIZES, strict=True):
        found = _number(rank)
        if found is not None:
            return found, max(_number(size) or 1, found + 1)
    return 0, 1


def imports_main_again() -> bool:
    """Whether this is a spawned worker that is importing the main script: what stands at its top level is not to be run twice."""
    return bool(getattr(multiprocessing.process.current_process(), "_inheriting", False))


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None
