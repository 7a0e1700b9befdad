"""Text made comparable: normalised, cut into words, hashed in batches.

Two forms. *Normalised* text is NFKC, case-folded, without characters that are not seen (zero-width, soft hyphen), white
space collapsed. *Words* are what white space separates in it once punctuation is deleted (the rule of GPT-3, appendix C).

Words are hashed where they lie, all of a batch at once: a polynomial of their bytes modulo 2^64 (Karp and Rabin), then mixed. That is
no hash for evidence: it only finds candidates, and nothing is reported that was not compared as text.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    U64 = np.ndarray[Any, np.dtype[np.uint64]]
    I64 = np.ndarray[Any, np.dtype[np.int64]]

PIECE = 1_000_000
"""Characters that are hashed at a time (one text at least)."""

_UNSEEN = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_SPACES = frozenset((*range(9, 14), *range(28, 33)))  # what str.split takes for white space in ASCII
_DELETED = string.punctuation.encode() + bytes(code for code in (*range(32), 127) if code not in _SPACES)
_TABLE = bytes(
    10 if code == 10 else 32 if code in _SPACES else code + 32 if 65 <= code <= 90 else code for code in range(256)
)
_STEP = 0x9E3779B97F4A7C15
_MIX = 0xD6E8FEB86659FD93
_MASK = 2**64 - 1


def normalise(text: str) -> str:
    """Text at the level ``normalised``: NFKC, case-folded, unseen characters dropped, white space collapsed."""
    if not text.isascii():
        text = _UNSEEN.sub("", unicodedata.normalize("NFKC", text).casefold())
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def word_lists(texts: Sequence[str]) -> list[list[bytes]]:
    """The words of each text, as UTF-8: normalised, punctuation deleted."""
    return [line.split() for line in _lines(texts).split(b"\n")] if texts else []


def _lines(texts: Sequence[str]) -> bytes:
    """The words of each text on a line of their own, separated by spaces."""
    lines = [
        (text if "\n" not in text else text.replace("\n", " "))
        if text.isascii()
        else _PUNCTUATION.sub("", normalise(text))
        for text in texts
    ]
    return "\n".join(lines).encode().translate(_TABLE, _DELETED)


def row_texts(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """The text of each row: its text columns in the given order, missing ones left out."""
    import pyarrow as pa

    lists = []
    for name in columns:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        lists.append(column.to_pylist())
    if len(lists) == 1:
        return [text or "" for text in lists[0]]
    return [" ".join(part for part in parts if part) for parts in zip(*lists, strict=True)]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    import pyarrow.types as t

    if t.is_dictionary(kind):
        kind = kind.value_type
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


@dataclass(frozen=True)
class WordBatch:
    """The words of many texts, hashed; text i has ``hashes[starts[i]:starts[i + 1]]``."""

    lines: list[bytes]
    hashes: U64 = field(repr=False)
    starts: I64 = field(repr=False)

    @classmethod
    def of(cls, texts: Sequence[str], seed: int) -> WordBatch:
        """Cut texts into words and hash these.

        Args:
            texts: the texts, at least one.
            seed: of the hash.
        """
        import numpy as np

        data = _lines(texts)
        codes = np.frombuffer(data, np.uint8)
        apart = np.ones(len(codes) + 2, np.bool_)
        apart[1:-1] = (codes == 32) | (codes == 10)
        first = np.flatnonzero(apart[:-2] & ~apart[1:-1])
        after = np.flatnonzero(~apart[1:-1] & apart[2:]) + 1
        factor = drawn(seed, 1)[0] | 1  # odd, so that it has an inverse
        powers = _powers(factor, len(codes) + 1)
        sums = np.zeros(len(codes) + 1, np.uint64)
        np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:])
        hashes = (sums[after] - sums[first]) * _powers(pow(factor, -1, 2**64), len(codes) + 1)[first]
        hashes ^= (after - first).astype(np.uint64) * np.uint64(_STEP)
        _finish(hashes)
        line_ends = np.flatnonzero(codes == 10)
        starts = np.concatenate([[0], np.searchsorted(first, line_ends), [len(first)]]).astype(np.int64)
        return cls(data.split(b"\n"), hashes, starts)

    def words(self, text: int) -> list[bytes]:
        """The words of a text."""
        return self.lines[text].split()


def drawn(seed: int, count: int) -> list[int]:
    """Numbers of 64 bits that look random (splitmix64): the same on every machine, whatever its libraries."""
    out = []
    for step in range(1, count + 1):
        value = (seed + step * _STEP) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        out.append(value ^ (value >> 31))
    return out


_KNOWN_POWERS: dict[int, Any] = {}


def _powers(factor: int, count: int) -> U64:
    """The first powers of a number modulo 2^64, from 0; those of the last two numbers are kept."""
    import numpy as np

    known: U64 | None = _KNOWN_POWERS.get(factor)
    if known is None or len(known) < count:
        factors = np.full(max(count, PIECE * 5 // 4), factor, np.uint64)
        factors[0] = 1
        known = np.multiply.accumulate(factors)
        while len(_KNOWN_POWERS) >= 2 and factor not in _KNOWN_POWERS:
            _KNOWN_POWERS.pop(next(iter(_KNOWN_POWERS)))
        _KNOWN_POWERS[factor] = known
    return known[:count]


def pieces(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Texts in parts of at most `PIECE` characters, each with the position of its first text."""
    start = size = 0
    for position, text in enumerate(texts):
        if size and size + len(text) > PIECE:
            yield start, texts[start:position]
            start, size = position, 0
        size += len(text) + 1
    if start < len(texts):
        yield start, texts[start:]


@dataclass(frozen=True)
class Grams:
    """Hashes of n words in a row, the text each stands in and the word it starts with, in the order of the texts.

    A text with fewer than n words (but at least one) has one gram: all its words.
    """

    hashes: U64 = field(repr=False)
    texts: I64 = field(repr=False)
    positions: I64 = field(repr=False)


def grams(batch: WordBatch, n: int) -> Grams:
    """All grams of n words of a batch of texts."""
    import numpy as np

    total = len(batch.hashes)
    lengths = np.diff(batch.starts)
    count = max(total - n + 1, 0)
    if count:
        rolling = batch.hashes[:count].copy()
        step = np.uint64(_STEP)
        for shift in range(1, n):
            np.multiply(rolling, step, out=rolling)
            np.add(rolling, batch.hashes[shift : shift + count], out=rolling)
        _finish(rolling)
        text = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        inside = text[:count] == text[n - 1 :]
        where = np.flatnonzero(inside)
        hashes, texts, positions = rolling[inside], text[:count][inside], where - batch.starts[text[where]]
    else:
        hashes, texts, positions = np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    short = np.flatnonzero((lengths > 0) & (lengths < n))
    if len(short):
        whole = _whole(batch, short, lengths[short], n)
        hashes, texts = np.concatenate([hashes, whole]), np.concatenate([texts, short])
        positions = np.concatenate([positions, np.zeros(len(short), np.int64)])
        order = np.argsort(texts, kind="stable")
        hashes, texts, positions = hashes[order], texts[order], positions[order]
    return Grams(hashes, texts, positions)


def _whole(batch: WordBatch, short: I64, lengths: I64, n: int) -> U64:
    """Hashes of all words of texts that are shorter than a gram; their number goes in, so none equals a gram's by design."""
    import numpy as np

    out = lengths.astype(np.uint64) * np.uint64(_MIX)
    for position in range(n - 1):
        has = lengths > position
        out[has] = out[has] * np.uint64(_STEP) + batch.hashes[batch.starts[short[has]] + position]
    _finish(out)
    return out


def _finish(values: U64) -> None:
    """Spread the bits, in place: the table of known hashes is entered by the upper ones."""
    import numpy as np

    for shift in (32, 29):
        np.bitwise_xor(values, values >> np.uint64(shift), out=values)
        np.multiply(values, np.uint64(_MIX), out=values)
    np.bitwise_xor(values, values >> np.uint64(32), out=values)


def gram_set(words: Sequence[bytes], n: int) -> set[tuple[bytes, ...]]:
    """The grams themselves, for the exact comparison."""
    if len(words) < n:
        return {tuple(words)} if words else set()
    return set(zip(*(words[shift:] for shift in range(n)), strict=False))


class KnownHashes:
    """A set of hashes that a batch is looked up in: a table entered by the upper bits first, then the sorted hashes."""

    _MAX_BITS = 26

    def __init__(self, hashes: U64) -> None:
        import numpy as np

        self.hashes = np.unique(hashes)
        bits = min(self._MAX_BITS, max(10, (8 * len(self.hashes)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._seen = np.zeros(1 << bits, np.bool_)
        self._seen[self.hashes >> self._shift] = True

    def find(self, hashes: U64) -> tuple[I64, I64]:
        """Which of the given hashes are known, and where each stands among ``self.hashes``."""
        import numpy as np

        if not len(self.hashes):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        maybe = np.flatnonzero(self._seen[hashes >> self._shift])
        picked = hashes[maybe]
        at = np.minimum(np.searchsorted(self.hashes, picked), len(self.hashes) - 1)
        same = self.hashes[at] == picked
        return maybe[same], at[same].astype(np.int64)


def joined(words: Iterable[bytes]) -> bytes:
    """Words with a space before, between and after, so that a run of words is found as a whole."""
    return b" " + b" ".join(words) + b" "
