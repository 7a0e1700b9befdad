"""What can be wrong with a sharded checkpoint, and the error that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SHOWN = 20


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, with the shard it is about.

    Attributes:
        kind: ``missing``, ``altered``, ``surplus``, ``duplicated``, ``gap``, ``overlap``, ``incomplete`` or ``malformed``.
        text: What was expected and what was found.
        file: Path inside the checkpoint, where it is about a file.
        rank: The rank that wrote it, or should have; None where nobody knows.
        tensor: Fully qualified name, where it is about a tensor.
    """

    kind: str
    text: str
    file: str = ""
    rank: int | None = None
    tensor: str = ""

    def __str__(self) -> str:
        about = [] if self.rank is None else [f"rank {self.rank}"]
        about += [f"file {self.file}"] if self.file else []
        about += [f"tensor {self.tensor}"] if self.tensor else []
        return f"{self.kind}: {', '.join(about)}{': ' if about else ''}{self.text}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"kind": self.kind, "file": self.file, "rank": self.rank, "tensor": self.tensor, "text": self.text}


class CheckpointError(ValueError):
    """A sharded checkpoint is refused; the message names file, rank and tensor, and `faults` holds them one by one."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        shown = [str(fault) for fault in faults[:_SHOWN]]
        if len(faults) > _SHOWN:
            shown.append(f"and {len(faults) - _SHOWN} more")
        super().__init__("; ".join([message, *shown]) if shown else message)
        self.faults = tuple(faults)
