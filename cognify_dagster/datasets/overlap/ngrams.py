"""Shared runs of words: the contamination rule of GPT-3 (appendix C) with the holdout as the indexed side.

A holdout record counts as found when any n words of it in a row (13 unless chosen otherwise) stand in a corpus record. One
with fewer words is compared as a whole. Every hit is confirmed on the words themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cognify_dagster.datasets.overlap.hits import MAX_ROWS, Units
from cognify_dagster.datasets.overlap.texts import Grams, KnownHashes, WordBatch, grams, joined

if TYPE_CHECKING:
    import numpy as np


class NgramIndex:
    """The grams of a holdout.

    Args:
        batch: the words of the holdout's different texts.
        units: what is found; unit i is text i.
        n: words in a gram.
    """

    def __init__(self, batch: WordBatch, units: Units, n: int) -> None:
        import numpy as np

        self.n, self.units = n, units
        self._texts = [joined(line.split()) for line in batch.lines]
        self._lengths = [text.count(b" ") - 1 for text in self._texts]
        own = grams(batch, n)
        order = np.argsort(own.hashes, kind="stable")
        self._known = KnownHashes(own.hashes)
        bounds = np.searchsorted(own.hashes[order], self._known.hashes)
        self._bounds = np.append(bounds, len(order)).tolist()
        self._unit: np.ndarray = own.texts[order]  # type: ignore[type-arg]
        # A gram that so many corpus records had names no further rows: its units have theirs. This bounds the work for
        # text that stands in every record, such as a footer.
        self._used = [0] * len(self._known.hashes)

    def search(self, batch: WordBatch, first_row: int) -> None:
        """Look a batch of corpus texts up; the first one stands in corpus row `first_row`."""
        found: Grams = grams(batch, self.n)
        where, which = self._known.find(found.hashes)
        hits: dict[int, list[tuple[int, int]]] = {}
        for text, position, gram in zip(
            found.texts[where].tolist(), found.positions[where].tolist(), which.tolist(), strict=True
        ):
            hits.setdefault(text, []).append((position, gram))
        for text, places in hits.items():
            self.units.corpus_rows += self._confirm(batch.words(text), places, first_row + text)

    def _confirm(self, words: list[bytes], places: list[tuple[int, int]], row: int) -> bool:
        confirmed, done = False, set[int]()
        for position, gram in places:
            used = self._used[gram] >= MAX_ROWS
            if (used and confirmed) or gram in done:
                continue
            done.add(gram)
            run = joined(words[position : position + self.n])
            candidates = self._unit[self._bounds[gram] : self._bounds[gram + 1]].tolist()
            hit = False
            for unit in candidates[:1] if used else candidates:
                if row in self.units.found.get(unit, ()):
                    hit = True
                elif self._same(unit, run, len(words)):
                    hit = True
                    self.units.hit(unit, row)
            if hit:
                confirmed = True
                self._used[gram] += 1
        return confirmed

    def _same(self, unit: int, run: bytes, length: int) -> bool:
        if self._lengths[unit] < self.n or length < self.n:  # compared as a whole
            return self._texts[unit] == run
        return run in self._texts[unit]
