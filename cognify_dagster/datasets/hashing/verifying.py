"""How much a snapshot reads although an index says that it has not changed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Literal

from cognify_dagster.datasets.errors import DatasetError


@dataclass(frozen=True)
class Verify:
    """The choice.

    Attributes:
        mode: ``full`` reads everything, ``quick`` what the index does not hold as it is now, ``sample`` besides that a
            part of the rest.
        percent: that part, in percent.
        seed: what the sample is drawn with. It comes from the system when the run begins, so nobody can know before which
            files will be read; whoever has it can repeat the draw afterwards.
    """

    mode: Literal["full", "sample", "quick"]
    percent: float = 100.0
    seed: bytes = b""

    @classmethod
    def full(cls) -> Verify:
        """Read everything."""
        return cls("full")

    @classmethod
    def parse(cls, text: str) -> Verify:
        """Read ``full``, ``quick`` or ``sample:P`` (P percent, 0 < P <= 100).

        Raises:
            DatasetError: it is none of these.
        """
        word, _, number = text.partition(":")
        if text == "full":
            return cls("full")
        if text == "quick":
            return cls("quick")
        try:
            percent = float(number)
        except ValueError:
            percent = 0.0
        if word != "sample" or not 0 < percent <= 100:
            raise DatasetError(
                f"verify {text[:40]!r} is not 'full', 'quick' or 'sample:P' with P percent, such as sample:5"
            )
        return cls("sample", percent, os.urandom(32))

    @property
    def label(self) -> str:
        """As it was asked for."""
        return f"sample:{self.percent:g}" if self.mode == "sample" else self.mode

    def chooses(self, path: bytes) -> bool:
        """Whether a file is in the sample: the first 8 bytes of SHA-256(seed, path), as a share of 2**64, lie below P."""
        drawn = int.from_bytes(hashlib.sha256(self.seed + path).digest()[:8], "big")
        return drawn < self.percent / 100 * 2**64
