"""Where a verified index is kept between processes: one small SQLite file outside the ledger's database.

Invariants: the state row names the SHA-256 of every chunk and carries a MAC under a key of the workspace, so nothing in the file
is used unless this workspace wrote it; a chunk whose digest does not fit is never used. The file is a cache: whoever cannot read,
write or believe it verifies the ledger itself. One transaction a change under SQLite's lock, so a killed process leaves the old
state or the new one; who finds another writer at work does not wait but keeps its own work in memory.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.ledger.tree import Position

_CONTEXT = b"cognify/verified-index/v1\x00"
_BUSY_S = 0.2
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), value BLOB NOT NULL, leaves BLOB NOT NULL, "
    "nodes BLOB NOT NULL, buckets BLOB NOT NULL, mac BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS chunk (name TEXT PRIMARY KEY, data BLOB NOT NULL)",
)


def index_key(secret: bytes, origin: str) -> bytes:
    """Derive the key of an index from a secret of the workspace."""
    return hmac.digest(secret, _CONTEXT + origin.encode(), "sha256")


@dataclass(frozen=True)
class Kept:
    """The state of a kept index: what was verified, and the digests of the chunks that hold the rest.

    `leaves` are digests of the chunks of leaf hashes (the last one may be partly filled), `nodes` the subtree hashes over the full
    ones, `buckets` digests of the subject buckets (32 zero bytes for an empty one), `kinds` gives for each kind how many entries
    it has and the digests of the chunks that list them.
    """

    position: Position
    genesis: bytes = b""
    erased: tuple[int, ...] = ()
    leaves: bytes = b""
    nodes: bytes = b""
    buckets: bytes = b""
    kinds: Mapping[str, tuple[int, tuple[bytes, ...]]] | None = None
    mac: bytes = b""


class IndexFile:
    """The file of a verified index.

    Args:
        path: the SQLite file; its folder is made (mode 0700) when something is kept.
        key: from `index_key`; who lacks it can neither read nor forge a state that is believed.
        origin: the ledger.
        keep_every: how many newly verified entries are worth a write.
    """

    def __init__(self, path: Path, key: bytes, origin: str, *, keep_every: int = 1_024) -> None:
        self.path = path
        self.keep_every = keep_every
        self._key = key
        self._origin = origin
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._damaged = False

    def load(self) -> Kept | None:
        """Return the kept state; None if there is none that can be believed."""
        if self._db is None and not self.path.is_file():
            return None
        try:
            row = self._connection().execute("SELECT value, leaves, nodes, buckets, mac FROM state").fetchone()
        except sqlite3.OperationalError:  # in use, out of reach, or no table yet
            return None
        except (sqlite3.Error, OSError):
            self._damaged = True
            return None
        found = None if row is None else self._believed(*row)
        self._damaged = row is not None and found is None
        return found

    def _believed(self, value: object, leaves: object, nodes: object, buckets: object, mac: object) -> Kept | None:
        parts = (value, leaves, nodes, buckets)
        if not isinstance(mac, bytes) or not all(isinstance(part, bytes) for part in parts):
            return None
        assert isinstance(value, bytes)
        assert isinstance(leaves, bytes)
        assert isinstance(nodes, bytes)
        assert isinstance(buckets, bytes)
        if not hmac.compare_digest(mac, self._mac(value, leaves, nodes, buckets)):
            return None
        found = json.loads(value)
        peaks = tuple((int(level), bytes.fromhex(text)) for level, text in found["peaks"])
        return Kept(
            Position(found["size"], peaks, found["prev"], found["time_us"]),
            bytes.fromhex(found["genesis"]),
            tuple(found["erased"]),
            leaves,
            nodes,
            buckets,
            {kind: (count, tuple(map(bytes.fromhex, digests))) for kind, (count, digests) in found["kinds"].items()},
            mac,
        )

    def _mac(self, *parts: bytes) -> bytes:
        digest = hmac.new(self._key, _CONTEXT + self._origin.encode() + b"\x00", "sha256")
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + hashlib.sha256(part).digest())
        return digest.digest()

    def chunk(self, name: str, digest: bytes) -> bytes | None:
        """Return a chunk if it is the one with this SHA-256."""
        try:
            row = self._connection().execute("SELECT data FROM chunk WHERE name = ?", (name,)).fetchone()
        except (sqlite3.Error, OSError):
            return None
        data = row[0] if row else None
        return data if isinstance(data, bytes) and hashlib.sha256(data).digest() == digest else None

    @contextmanager
    def writing(self) -> Iterator[Writing | None]:
        """A transaction; None if another process is writing now, or the place cannot be written to."""
        db = None
        with suppress(sqlite3.Error, OSError):
            if self._damaged:
                self.discard()
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = self._connection(create=True)
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                db.execute(statement)
        if db is None or not db.in_transaction:
            yield None
            return
        try:
            yield Writing(self, db)
        except sqlite3.Error:  # a full disk: the old state stays, and nothing is lost but time
            pass
        finally:
            with suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def seal(self, kept: Kept) -> tuple[bytes, bytes]:
        """Return the state's value and its MAC."""
        position = kept.position
        value = json.dumps(
            {
                "erased": list(kept.erased),
                "genesis": kept.genesis.hex(),
                "kinds": {kind: [n, [d.hex() for d in digests]] for kind, (n, digests) in (kept.kinds or {}).items()},
                "peaks": [[level, peak.hex()] for level, peak in position.peaks],
                "prev": position.prev,
                "size": position.size,
                "time_us": position.time_us,
            },
            sort_keys=True,
        ).encode()
        return value, self._mac(value, kept.leaves, kept.nodes, kept.buckets)

    def discard(self) -> None:
        """Remove a file that cannot be believed; processes that have it open go on with their own copy."""
        self.close()
        self._damaged = False
        for name in (self.path, self.path.with_name(self.path.name + "-journal")):
            with suppress(OSError):
                name.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the file."""
        if self._db is not None and self._pid == os.getpid():
            self._db.close()
        self._db = None

    def _connection(self, *, create: bool = False) -> sqlite3.Connection:
        if self._db is not None and self._pid == os.getpid():
            return self._db
        if not create and not self.path.is_file():
            raise FileNotFoundError(self.path)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        try:
            if create:
                self.path.chmod(0o600)
            db.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            db.close()
            raise
        self._db, self._pid = db, os.getpid()
        return db


class Writing:
    """An open transaction on an index file."""

    def __init__(self, file: IndexFile, db: sqlite3.Connection) -> None:
        self._file, self._db = file, db

    def put(self, name: str, data: bytes) -> bytes:
        """Keep a chunk; return its SHA-256."""
        self._db.execute("INSERT OR REPLACE INTO chunk VALUES (?,?)", (name, data))
        return hashlib.sha256(data).digest()

    def commit(self, kept: Kept) -> bytes:
        """Keep the state that names the chunks, and commit; return its MAC."""
        value, mac = self._file.seal(kept)
        row = (value, kept.leaves, kept.nodes, kept.buckets, mac)
        self._db.execute("INSERT OR REPLACE INTO state VALUES (1,?,?,?,?,?)", row)
        self._db.execute("COMMIT")
        return mac
