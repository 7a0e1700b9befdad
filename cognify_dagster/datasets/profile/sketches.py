"""Small summaries of long columns: moments, different values, an even sample. Each says whether it is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

EXACT_DISTINCT = 1_000_000
KEPT_HASHES = 65_536
SAMPLE = 1_000_000
_SEED = 20_240_601


@dataclass
class Moments:
    """Mean and deviation of values that come in parts (Chan, Golub, LeVeque 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Any) -> None:
        """Take in a numpy array of floats without NaN."""
        import numpy as np

        size = len(values)
        if not size:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            mean = float(np.mean(values))
            squares = float(np.sum((values - mean) ** 2))
            delta, total = mean - self.mean, self.count + size
            if self.count == 0:
                self.mean, self.squares = mean, squares
            else:
                self.mean += delta * size / total
                self.squares += squares + delta * delta * self.count * size / total
        self.count = total

    def deviation(self) -> float | None:
        """Standard deviation with divisor n-1; None for one value."""
        return None if self.count < 2 else math.sqrt(self.squares / (self.count - 1))


@dataclass
class DistinctCounter:
    """How many different values there are: by 64-bit hashes, exact up to a million, then from the 65,536 smallest of them.

    The estimate (k minimum values) has a standard error of about 0.4 %.
    """

    exact: bool = True
    _hashes: Any = None
    _pending: list[Any] = field(default_factory=list)
    _waiting: int = 0

    @property
    def error(self) -> float:
        """The relative standard error of an estimate."""
        return float(f"{1 / math.sqrt(KEPT_HASHES - 2):.3g}")

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in present values of one type that is not nested."""
        hashes = _hash(values)
        self._pending.append(hashes)
        self._waiting += len(hashes)
        if self._waiting >= EXACT_DISTINCT:
            self._merge()

    def _merge(self) -> None:
        import numpy as np

        if not self._pending:
            return
        parts = self._pending if self._hashes is None else [self._hashes, *self._pending]
        self._hashes, self._pending, self._waiting = np.unique(np.concatenate(parts)), [], 0
        if not self.exact or len(self._hashes) > EXACT_DISTINCT:
            self.exact = False
            self._hashes = self._hashes[:KEPT_HASHES]

    def count(self) -> int:
        """The number, or its estimate where ``exact`` is False."""
        self._merge()
        if self._hashes is None:
            return 0
        if self.exact:
            return len(self._hashes)
        return round((KEPT_HASHES - 1) / ((int(self._hashes[-1]) + 1) / 2**64))


def _hash(values: pa.ChunkedArray) -> Any:
    """A 64-bit hash for each different value of a part; for types of up to 64 bits different values never collide."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t
    import xxhash

    unique = pc.unique(values)
    kind = unique.type
    if t.is_floating(kind):
        bits = (unique.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0).view(np.uint64)
    elif t.is_boolean(kind):
        bits = unique.cast(pa.uint8()).to_numpy(zero_copy_only=False).astype(np.uint64)
    elif t.is_unsigned_integer(kind):
        bits = unique.to_numpy(zero_copy_only=False).astype(np.uint64)
    elif t.is_integer(kind):
        bits = unique.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    elif t.is_temporal(kind) and not t.is_interval(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        bits = unique.cast(width).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    else:
        texts = (value if isinstance(value, bytes) else str(value).encode() for value in unique.to_pylist())
        return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(unique))
    mixed = bits + np.uint64(0x9E3779B97F4A7C15)  # splitmix64, a bijection
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass
class Sample:
    """All values up to a million, then an even sample of so many (those with the smallest of drawn numbers, seeded)."""

    exact: bool = True
    size: int = SAMPLE
    _parts: list[Any] = field(default_factory=list)
    _drawn: list[Any] = field(default_factory=list)
    _held: int = 0
    _random: Any = None

    def add(self, values: Any) -> None:
        """Take in a numpy array of floats."""
        import numpy as np

        if self._random is None:
            self._random = np.random.default_rng(_SEED)
        self._parts.append(values)
        self._drawn.append(self._random.random(len(values)))
        self._held += len(values)
        if self._held > 2 * self.size:
            self._shrink()

    def _shrink(self) -> None:
        import numpy as np

        values, drawn = np.concatenate(self._parts), np.concatenate(self._drawn)
        if len(values) > self.size:
            self.exact = False
            kept = np.argpartition(drawn, self.size)[: self.size]
            values, drawn = values[kept], drawn[kept]
        self._parts, self._drawn, self._held = [values], [drawn], len(values)

    def __len__(self) -> int:
        return self._held

    def quantiles(self, at: Sequence[float]) -> list[float]:
        """Quantiles with linear interpolation."""
        import numpy as np

        self._shrink()
        with np.errstate(invalid="ignore"):
            return [float(value) for value in np.quantile(self._parts[0], list(at))]
