"""What is known of a verified ledger: leaf hashes, subject heads, entries by kind; on a kept base and in memory.

Invariants: a chunk of the base is used only with the digest that the base's state names; a state that another process of the
workspace kept meanwhile is taken only if both agree on the root of what both verified; whatever is missing or damaged makes the
subclass verify the ledger anew, so that a lookup never answers from less than verified bytes.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from cognify_dagster.ledger.errors import LedgerUnreadable, Tampered
from cognify_dagster.ledger.merkle import EMPTY_ROOT, node_hash, root_at
from cognify_dagster.ledger.tree import Position, Tree
from cognify_dagster.ledger.verification.indexfile import IndexFile, Kept, Writing

LEVEL = 9
CHUNK = 1 << LEVEL
LISTED = 4_096
BUCKETS = 1_024
CACHE = 64 * 1024 * 1024
_ROOTS = 4_096
_NONE = bytes(32)


class Known:
    """Lookups in what was verified, and keeping it. `Index` adds how it is verified."""

    def __init__(self, file: IndexFile | None) -> None:
        self._file = file
        self._lock = threading.RLock()
        self._cache: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._cached = 0
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._roots: dict[int, bytes] = {}
        self._take(Kept(Position()))

    @property
    def size(self) -> int:
        """How many entries were verified."""
        return self._position.size

    def _take(self, base: Kept) -> bool:
        """Take a kept state, and nothing else, as what was verified; False if its last chunk is damaged."""
        first, tail = base.position.size // CHUNK * CHUNK, b""
        if first < base.position.size:
            found = self._fetch(f"l/{first >> LEVEL}", base.leaves[-32:])
            if found is None:
                return False
            tail = found
        self._base = base
        self._position = base.position
        self._genesis = base.genesis
        self._erased = set(base.erased)
        self._missing: set[int] = set()
        self._first = first
        self._leaves = bytearray(tail)
        self._heads: dict[str, int] = {}
        self._kinds: dict[str, array[int]] = {}
        self._full: list[bytes] = [base.nodes[at : at + 32] for at in range(0, len(base.nodes), 32)]
        return True

    def leaf(self, seq: int) -> bytes:
        """Return the verified leaf hash of an entry."""
        with self._lock:
            while True:
                if not 0 <= seq < self.size:
                    raise IndexError(f"entry {seq} was not verified yet")
                if seq >= self._first:
                    at = (seq - self._first) * 32
                    return bytes(self._leaves[at : at + 32])
                number = seq >> LEVEL
                try:
                    data = self._chunk(f"l/{number}", self._base.leaves[number * 32 : number * 32 + 32])
                except _Stale:
                    continue
                at = seq % CHUNK * 32
                return data[at : at + 32]

    def head(self, subject: str) -> int:
        """Return the newest verified entry about a subject, -1 if there is none."""
        with self._lock:
            while True:
                found = self._heads.get(subject)
                if found is not None:
                    return found
                try:
                    data = self._bucket(_bucket_of(subject))
                except _Stale:
                    continue
                mark = f"\n{subject} ".encode()
                at = data.find(mark)
                return -1 if at < 0 else int(data[at + len(mark) : data.index(b"\n", at + 1)])

    def subjects(self) -> Iterator[tuple[str, int]]:
        """Yield every subject with its newest entry, in no order; a list of what was known when this was called."""
        with self._lock:
            found: dict[str, int] = {}
            number = 0
            while number < BUCKETS:
                try:
                    found |= _heads_in(self._bucket(number))
                    number += 1
                except _Stale:
                    found, number = {}, 0
            return iter((found | self._heads).items())

    def of_kind(self, kind: str, size: int) -> Sequence[int]:
        """Return the sequence numbers, below `size`, of all entries of a kind, in order."""
        with self._lock:
            while True:
                try:
                    found = self._listed(kind)
                except _Stale:
                    continue
                found.extend(self._kinds.get(kind, ()))
                while found and found[-1] >= size:
                    found.pop()
                return found

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` verified entries; O(log n), from verified leaves alone."""
        with self._lock:
            if size == self.size:
                return self._position.root
            if not 0 <= size <= self.size:
                raise IndexError(f"entry {size - 1} was not verified yet")
            found = self._roots.get(size)
            if found is None:
                found = root_at(size, self._node) if size else EMPTY_ROOT
                if len(self._roots) >= _ROOTS:
                    self._roots.clear()
                self._roots[size] = found
            return found

    def _node(self, level: int, index: int) -> bytes:
        if level == LEVEL:
            return self._full[index]
        if level > LEVEL:
            key = (level, index)
            if key not in self._nodes:
                self._nodes[key] = node_hash(self._node(level - 1, index * 2), self._node(level - 1, index * 2 + 1))
            return self._nodes[key]
        tree = Tree()
        tree.extend([self.leaf(seq) for seq in range(index << level, (index + 1) << level)])
        return tree.root()

    def _rebuild(self) -> None:
        """Verify the ledger anew because the file cannot be believed; it must have the root that was known before."""
        raise NotImplementedError

    def _way_out(self) -> str:
        where = f"; if that was lawful and is settled, delete {self._file.path.parent}" if self._file else ""
        return f"Compare it with the heads that others remember: `cognify ledger verify`{where}"

    # --- what is kept -----------------------------------------------------------------------------------------------------

    def keep(self) -> bool:
        """Write what was verified to the file; False if another process is writing, or the place cannot be written to."""
        with self._lock:
            if self._file is None or self.size <= self._base.position.size or self._missing - self._erased:
                return False
            with suppress(_Stale), self._file.writing() as transaction:
                if transaction is None:
                    return False
                newer = self._file.load()
                if newer is None and self._base.mac:  # somebody removed or damaged the file: its chunks are gone
                    self._rebuild()
                    return False
                if newer is not None and newer.mac != self._base.mac:
                    self._adopt(newer)
                    if self._base is not newer or newer.position.size >= self.size:
                        return False
                self._write(transaction)
                return True
            return False

    def _write(self, transaction: Writing) -> None:
        base = self._base
        leaves = bytearray(base.leaves[: self._first // CHUNK * 32])
        for at in range(0, len(self._leaves), CHUNK * 32):
            data = bytes(self._leaves[at : at + CHUNK * 32])
            leaves += transaction.put(f"l/{len(leaves) // 32}", data)
        changed: dict[int, dict[str, int]] = {}
        for subject, seq in self._heads.items():
            changed.setdefault(_bucket_of(subject), {})[subject] = seq
        buckets = bytearray(base.buckets or bytes(32 * BUCKETS))
        for number, heads in changed.items():
            merged = _heads_in(self._bucket(number)) | heads
            text = "\n".join(f"{subject} {seq}" for subject, seq in sorted(merged.items()))
            buckets[number * 32 : number * 32 + 32] = transaction.put(f"b/{number}", f"\n{text}\n".encode())
        kinds = dict(base.kinds or {})
        for kind, added in self._kinds.items():
            count, digests = kinds.get(kind, (0, ()))
            full = count // LISTED
            tail = self._listed(kind, full)
            tail.extend(added)
            new = [
                transaction.put(f"k/{kind}/{full + number}", tail[number * LISTED : (number + 1) * LISTED].tobytes())
                for number in range((len(tail) + LISTED - 1) // LISTED)
            ]
            kinds[kind] = (count + len(added), (*digests[:full], *new))
        kept = Kept(
            self._position,
            self._genesis,
            tuple(sorted(self._erased)),
            bytes(leaves),
            b"".join(self._full),
            bytes(buckets),
            kinds,
        )
        mac = transaction.commit(kept)
        self._base = replace(kept, mac=mac)
        self._heads, self._kinds = {}, {}
        first = self.size // CHUNK * CHUNK
        del self._leaves[: (first - self._first) * 32]
        self._first = first

    def _chunk(self, name: str, digest: bytes) -> bytes:
        """Return a chunk of the kept state.

        Raises:
            _Stale: if it had to be taken anew; ask again.
        """
        data = self._fetch(name, digest)
        if data is None:
            newer = self._file.load() if self._file is not None else None
            if newer is None or newer.mac == self._base.mac:
                self._rebuild()
            else:
                self._adopt(newer)
            raise _Stale
        return data

    def _fetch(self, name: str, digest: bytes) -> bytes | None:
        key = (name, digest)
        data = self._cache.get(key)
        if data is not None:
            self._cache.move_to_end(key)
            return data
        data = self._file.chunk(name, digest) if self._file is not None else None
        if data is None:
            return None
        self._cache[key] = data
        self._cached += len(data)
        while self._cached > CACHE and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return data

    def _bucket(self, number: int) -> bytes:
        digest = self._base.buckets[number * 32 : number * 32 + 32]
        return b"" if digest in (b"", _NONE) else self._chunk(f"b/{number}", digest)

    def _listed(self, kind: str, start: int = 0) -> array[int]:
        found = array("Q")
        _, digests = (self._base.kinds or {}).get(kind, (0, ()))
        for number in range(start, len(digests)):
            found.frombytes(self._chunk(f"k/{kind}/{number}", digests[number]))
        return found

    def _adopt(self, newer: Kept) -> None:
        """Take what another process of this workspace kept as the base, and keep on top of it what only this one verified."""
        size, known, root = newer.position.size, self.size, self._position.root
        first = size // CHUNK * CHUNK
        if size >= known:
            if not self._take(newer):
                self._rebuild()
            elif known and self.root(known) != root:
                raise Tampered(f"the first {known} entries that another process verified are others. {self._way_out()}")
        elif first < self._first:  # an older file was put in the place of ours, with what lies between
            self._rebuild()
        elif size and self.root(size) != newer.position.root:
            raise Tampered(f"the first {size} entries that another process verified are others. {self._way_out()}")
        else:
            del self._leaves[: (first - self._first) * 32]
            self._first, self._base = first, newer
            self._kinds = {kind: array("Q", [seq for seq in has if seq >= size]) for kind, has in self._kinds.items()}


class _Stale(LedgerUnreadable):
    """The base changed while something was looked up in it: look again."""


def _bucket_of(subject: str) -> int:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:2], "big") % BUCKETS


def _heads_in(data: bytes) -> dict[str, int]:
    return {subject: int(seq) for subject, _, seq in (line.partition(" ") for line in data.decode().split("\n")[1:-1])}
