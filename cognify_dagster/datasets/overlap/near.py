"""Near-duplicates: MinHash over word 3-shingles with the holdout as the indexed side, every hit confirmed exactly.

Similarity is the Jaccard index of the two sets of shingles. 128 permutations in 32 bands of 4 rows find candidates: a pair of
similarity J is one with probability 1 - (1 - J^4)^32. What is found is compared on the words themselves, so there is no false
hit; `miss_probability` says how likely a pair at the threshold is overlooked.

Before any MinHash is computed, a corpus record is dropped if too few of its shingles stand anywhere in the holdout: with
|A ∩ B| >= t |A ∪ B| >= t |A|, at least the part t of its own different shingles has to. But for a collision of hashes this loses no pair.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.overlap.hits import Units
from cognify_dagster.datasets.overlap.texts import KnownHashes, WordBatch, drawn, gram_set, grams

if TYPE_CHECKING:
    from cognify_dagster.datasets.overlap.texts import I64, U64

SHINGLE = 3
BANDS = 32
BAND_ROWS = 4
PERMUTATIONS = BANDS * BAND_ROWS
MAX_TRIED = 64
"""So many units that have all their rows named are compared with a corpus row, to see whether it counts."""
_CHUNK = 1 << 15
_STEP = 0xC2B2AE3D27D4EB4F


def miss_probability(similarity: float) -> float:
    """How likely a pair of this Jaccard similarity is no candidate."""
    return float((1.0 - similarity**BAND_ROWS) ** BANDS)


class NearIndex:
    """The MinHash bands of a holdout: about 700 bytes a text, besides its words.

    Args:
        batch: the words of the holdout's different texts.
        units: what is found; unit i is text i.
        threshold: least Jaccard similarity, inclusive.
        seed: of the permutations.
    """

    def __init__(self, batch: WordBatch, units: Units, threshold: float, seed: int) -> None:
        import numpy as np

        self.units, self.threshold = units, threshold
        self._lines = batch.lines
        numbers = np.array(drawn(seed, 1 + 2 * PERMUTATIONS)[1:], np.uint64)  # the first one made the hashes
        self._factor, self._offset = numbers[:PERMUTATIONS] | np.uint64(1), numbers[PERMUTATIONS:]
        self._set = lru_cache(maxsize=4096)(self._shingles)
        own = grams(batch, SHINGLE)
        self._known = KnownHashes(own.hashes)
        texts, keys = self._bands(own.hashes, own.texts)
        self._sorted: list[tuple[U64, I64]] = []
        for band in range(BANDS):
            order = np.argsort(keys[:, band], kind="stable")
            self._sorted.append((keys[order, band], texts[order]))
        self._open, self._dropped = self._sorted, 0
        self._full: list[tuple[U64, I64]] = []

    def _shingles(self, unit: int) -> frozenset[tuple[bytes, ...]]:
        return frozenset(gram_set(self._lines[unit].split(), SHINGLE))

    def search(self, batch: WordBatch, first_row: int) -> None:
        """Look a batch of corpus texts up; the first one stands in corpus row `first_row`."""
        import numpy as np

        found = grams(batch, SHINGLE)
        where, _ = self._known.find(found.hashes)
        if not len(where):
            return
        known = np.zeros(len(found.hashes), np.bool_)
        known[where] = True
        inside = np.zeros(len(batch.lines), np.bool_)
        inside[found.texts[where]] = True
        kept = inside[found.texts]
        hashes, texts, known = found.hashes[kept], found.texts[kept], known[kept]
        worth = self._worth(hashes, texts, known, len(batch.lines))
        kept = worth[texts]
        hashes, texts = hashes[kept], texts[kept]
        if not len(texts):
            return
        rows, keys = self._bands(hashes, texts)
        self._drop_full()
        for text, (units, full) in self._candidates(rows, keys).items():
            self.units.corpus_rows += self._confirm(batch.words(text), units, full, first_row + text)

    def _drop_full(self) -> None:
        """Take units that have all their rows named out of the bands, now and then: text that stands in very many records
        would otherwise be compared with itself without end."""
        import numpy as np

        full = [unit for unit in self.units.found if self.units.full(unit)]
        if len(full) <= 1.05 * self._dropped:
            return
        self._dropped = len(full)
        done = np.zeros(len(self._lines), np.bool_)
        done[full] = True
        self._open = [(keys[~done[texts]], texts[~done[texts]]) for keys, texts in self._sorted]
        self._full = [(keys[done[texts]], texts[done[texts]]) for keys, texts in self._sorted]

    def _worth(self, hashes: U64, texts: I64, known: Any, count: int) -> Any:
        """Which texts have enough different shingles that stand in the holdout."""
        import numpy as np

        # One number a shingle: its text, the upper bits of its hash, whether it is known. Numbers sort several times faster
        # than pairs.
        bits = max(count.bit_length(), 1)
        packed = (texts.astype(np.uint64) << np.uint64(64 - bits)) | ((hashes >> np.uint64(bits + 1)) << np.uint64(1))
        packed = np.sort(packed | known)
        packed = packed[np.r_[True, packed[1:] != packed[:-1]]]
        of = (packed >> np.uint64(64 - bits)).astype(np.int64)
        shared = np.bincount(of[(packed & np.uint64(1)) == 1], minlength=count)
        # the slack: a product of floats may be a hair too large
        return (shared > 0) & (shared + 1e-6 >= self.threshold * np.bincount(of, minlength=count))

    def _bands(self, hashes: U64, texts: I64) -> tuple[I64, U64]:
        """Texts with at least one shingle, and the 32 band keys of each."""
        import numpy as np

        starts = np.flatnonzero(np.r_[True, texts[1:] != texts[:-1]]) if len(texts) else np.zeros(0, np.int64)
        rows = texts[starts]
        keys = np.zeros((len(rows), BANDS), np.uint64)
        bounds = np.append(starts, len(texts))
        begin = 0
        while begin < len(rows):  # so many texts that their shingles stay in the processor's cache
            end = int(np.searchsorted(bounds, bounds[begin] + _CHUNK, side="right")) - 1
            end = min(max(end, begin + 1), len(rows))
            part, at = hashes[bounds[begin] : bounds[end]], starts[begin:end] - bounds[begin]
            keys[begin:end] = self._keys(part, at)
            begin = end
        return rows, keys

    def _keys(self, hashes: U64, starts: I64) -> U64:
        import numpy as np

        step = np.uint64(_STEP)
        permuted = np.empty_like(hashes)
        out = np.zeros((len(starts), BANDS), np.uint64)
        for band in range(BANDS):
            key = np.zeros(len(starts), np.uint64)
            for index in range(band * BAND_ROWS, (band + 1) * BAND_ROWS):
                np.multiply(hashes, self._factor[index], out=permuted)
                np.add(permuted, self._offset[index], out=permuted)
                least = np.minimum.reduceat(permuted, starts)
                key = (key ^ least) * step
                key ^= key >> np.uint64(31)
            out[:, band] = key
        return out

    def _candidates(self, rows: I64, keys: U64) -> dict[int, tuple[set[int], list[I64]]]:
        """For each corpus text the units that share a band with it: those still looked for, and by band those that are full."""
        import numpy as np

        out: dict[int, tuple[set[int], list[I64]]] = {}
        for wanted, known, texts, full in (
            (keys[:, band], *half[band], full)
            for full, half in ((False, self._open), (True, self._full))
            for band in range(len(half))
        ):
            low, high = np.searchsorted(known, wanted), np.searchsorted(known, wanted, side="right")
            for index in np.flatnonzero(high > low).tolist():
                units, more = out.setdefault(int(rows[index]), (set(), []))
                found = texts[low[index] : high[index]]
                if full:
                    more.append(found[:MAX_TRIED])
                else:
                    units.update(found.tolist())
        return out

    def _confirm(self, words: list[bytes], units: set[int], full: list[I64], row: int) -> bool:
        own = gram_set(words, SHINGLE)
        confirmed = False
        done = {unit for unit in units if self.units.full(unit)}  # since the bands were last looked through
        for unit in sorted(units - done):
            similarity = self._similarity(own, unit)
            if similarity >= self.threshold:
                confirmed = True
                self.units.hit(unit, row, similarity)
        if not confirmed:  # the row counts if one of the units that have their rows is near it
            some = list(dict.fromkeys((*sorted(done), *(unit for part in full for unit in part.tolist()))))[:MAX_TRIED]
            confirmed = any(self._similarity(own, unit) >= self.threshold for unit in some)
        return confirmed

    def _similarity(self, own: set[tuple[bytes, ...]], unit: int) -> float:
        other = self._set(unit)
        small, large = sorted((len(own), len(other)))
        if small < self.threshold * large - 1e-9:
            return 0.0
        shared = len(own & other)
        return shared / (len(own) + len(other) - shared)
