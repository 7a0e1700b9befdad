"""A ledger in one SQLite file.

Invariants: one transaction an append (BEGIN IMMEDIATE, synchronous FULL), so that an acknowledged entry survives a crash and
a failed one leaves nothing; rows are never updated or deleted through this module, and triggers refuse it to others (this
delays an attacker, it does not stop the file's owner: only signed checkpoints do). SQLite before 3.51.3 can corrupt a WAL
database under two connections, so those versions use the DELETE journal.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cognify_dagster.ledger.entry import MAX_SUBJECTS, NO_PREVIOUS, SealedBody, assemble, check_origin
from cognify_dagster.ledger.errors import (
    ClockError,
    EntryError,
    IdempotencyConflict,
    LedgerFull,
    LedgerUnreadable,
    SizeChanged,
)
from cognify_dagster.ledger.merkle import Frontier, leaf_hash
from cognify_dagster.ledger.store import Receipt, StoredEntry, StoredPayload

APPLICATION_ID = 0x434F474E  # "COGN"
SCHEMA_VERSION = 1
MAX_SKEW_US = 5 * 60 * 1_000_000
BUSY_TIMEOUT_S = 30.0
WAL_SAFE = (3, 51, 3)
_NETWORK_FILESYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "fuse.sshfs",
    "glusterfs",
    "ceph",
    "lustre",
    "afs",
    "9p",
}
_RANGE = 2_000

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY, idem TEXT NOT NULL UNIQUE, prev TEXT NOT NULL UNIQUE, leaf BLOB NOT NULL,
    kind TEXT NOT NULL, time_us INTEGER NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE entry_subject (
    subject TEXT NOT NULL, seq INTEGER NOT NULL REFERENCES entry(seq), PRIMARY KEY (subject, seq)) WITHOUT ROWID;
CREATE INDEX entry_subject_seq ON entry_subject(seq);
CREATE TABLE payload (seq INTEGER PRIMARY KEY REFERENCES entry(seq), salt BLOB, facts_digest TEXT, bytes BLOB);
CREATE TABLE node (level INTEGER, idx INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, idx)) WITHOUT ROWID;
CREATE TABLE checkpoint (size INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY (size, note)) WITHOUT ROWID;
CREATE TRIGGER entry_in_order BEFORE INSERT ON entry
    WHEN new.seq IS NOT (SELECT coalesce(max(seq), -1) + 1 FROM entry)
        OR EXISTS (SELECT 1 FROM entry WHERE idem = new.idem OR prev = new.prev)
    BEGIN SELECT raise(ABORT, 'append-only: not the next entry'); END;
CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER subject_in_order BEFORE INSERT ON entry_subject
    WHEN new.seq IS NOT (SELECT max(seq) FROM entry) BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER subject_no_update BEFORE UPDATE ON entry_subject BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER subject_no_delete BEFORE DELETE ON entry_subject BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER payload_no_delete BEFORE DELETE ON payload BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER payload_only_erase BEFORE UPDATE ON payload
    WHEN new.bytes IS NOT NULL OR new.salt IS NOT NULL OR new.facts_digest IS NOT NULL OR new.seq IS NOT old.seq
    BEGIN SELECT raise(ABORT, 'append-only: a payload can only be erased'); END;
CREATE TRIGGER payload_in_order BEFORE INSERT ON payload
    WHEN new.seq IS NOT (SELECT max(seq) FROM entry) OR EXISTS (SELECT 1 FROM payload WHERE seq = new.seq) BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER meta_no_update BEFORE UPDATE ON meta BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER meta_once BEFORE INSERT ON meta
    WHEN EXISTS (SELECT 1 FROM meta) BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoint_no_update BEFORE UPDATE ON checkpoint BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoint_no_delete BEFORE DELETE ON checkpoint BEGIN SELECT raise(ABORT, 'append-only'); END;
"""


class SqliteStore:
    """A `Store` in one SQLite file. Each operation opens its own short-lived connection, so threads, forks and processes
    may share the object's path freely."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._read_only = read_only
        if not self.path.is_file():
            raise LedgerUnreadable(f"{self.path}: no ledger here. Create one with `cognify init`")
        with self._connect() as db:
            self._origin = self._check_schema(db)

    @classmethod
    def create(cls, path: str | os.PathLike[str], origin: str) -> SqliteStore:
        """Create an empty ledger file.

        Raises:
            LedgerUnreadable: if the file exists or lies on a network filesystem, where SQLite locks cannot be trusted.
        """
        check_origin(origin)
        target = Path(path)
        if target.exists():
            raise LedgerUnreadable(f"{target}: there is already a file; a ledger is never overwritten")
        filesystem = filesystem_of(target.parent)
        if filesystem in _NETWORK_FILESYSTEMS:
            raise LedgerUnreadable(f"{target}: {filesystem} is a network filesystem; put the ledger on a local disk")
        partial = target.with_name(target.name + ".new")
        partial.unlink(missing_ok=True)
        try:
            db = sqlite3.connect(partial, isolation_level=None)
            try:
                db.execute("PRAGMA synchronous=FULL")
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                db.executescript("BEGIN;" + _SCHEMA + "COMMIT;")
                db.execute("INSERT INTO meta VALUES ('origin', ?)", (origin,))
            finally:
                db.close()
            os.chmod(partial, 0o600)
            os.replace(partial, target)
        except (sqlite3.Error, OSError) as error:
            partial.unlink(missing_ok=True)
            raise LedgerFull(f"{target}: the ledger could not be created: {error}") from error
        return cls(target)

    @property
    def origin(self) -> str:
        """The origin of the ledger kept here."""
        return self._origin

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        mode = "ro" if self._read_only else "rw"
        try:
            db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
            )
        except sqlite3.Error as error:
            raise LedgerUnreadable(f"{self.path}: cannot be opened: {error}") from error
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA trusted_schema=OFF")
            yield db
        except sqlite3.OperationalError as error:
            text = str(error)
            if "full" in text or "disk I/O" in text or "readonly" in text or "read-only" in text:
                raise LedgerFull(f"{self.path}: {text}; nothing was appended. Free space or mend the disk") from error
            raise LedgerUnreadable(f"{self.path}: {text}") from error
        except sqlite3.DatabaseError as error:
            raise LedgerUnreadable(f"{self.path}: {error}") from error
        finally:
            db.close()

    def _check_schema(self, db: sqlite3.Connection) -> str:
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise LedgerUnreadable(f"{self.path}: this file is not a ledger")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise LedgerUnreadable(f"{self.path}: ledger schema {version}; this release reads {SCHEMA_VERSION}")
        row = db.execute("SELECT value FROM meta WHERE key = 'origin'").fetchone()
        if row is None:
            raise LedgerUnreadable(f"{self.path}: the ledger does not name its origin")
        return str(row[0])

    def size(self) -> int:
        """Return the number of entries (one more than the highest sequence number)."""
        with self._connect() as db:
            return _size(db)

    def append(self, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        """Append one entry; see `Store.append`.

        Raises:
            IdempotencyConflict: the key is taken by an entry with other facts.
            SizeChanged: `expected_size` is given and no longer true.
            ClockError: the clock lies more than five minutes before the last entry.
            LedgerFull: the disk refused; nothing was appended.
        """
        draft = sealed.draft
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                receipt = self._existing(db, draft.idem, draft.facts_digest)
                if receipt is None:
                    receipt = self._insert(db, sealed, now_us, expected_size)
                db.execute("COMMIT")
                return receipt
            except BaseException:
                if db.in_transaction:  # a full disk rolls back by itself
                    db.execute("ROLLBACK")
                raise

    def _existing(self, db: sqlite3.Connection, idem: str, facts_digest: str) -> Receipt | None:
        row = db.execute(
            "SELECT e.seq, e.leaf, e.time_us, p.facts_digest FROM entry e LEFT JOIN payload p USING (seq) WHERE e.idem = ?",
            (idem,),
        ).fetchone()
        if row is None:
            return None
        if row[3] != facts_digest:
            raise IdempotencyConflict(
                f"entry {row[0]} already has this idempotency key with other facts; a retry must record the same facts"
            )
        return Receipt(row[0], row[1], row[2], duplicate=True)

    def _insert(self, db: sqlite3.Connection, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        draft = sealed.draft
        seq = _size(db)
        if expected_size is not None and seq != expected_size:
            raise SizeChanged(f"the ledger has {seq} entries, not {expected_size}; decide again")
        last = db.execute("SELECT leaf, time_us FROM entry WHERE seq = ?", (seq - 1,)).fetchone()
        prev, floor = (last[0].hex(), last[1]) if last else (NO_PREVIOUS, 0)
        if now_us < floor - MAX_SKEW_US:
            raise ClockError(
                f"this machine's clock is {(floor - now_us) / 1e6:.0f} s before entry {seq - 1}; correct the clock"
            )
        time_us = max(now_us, floor)
        subjects = sorted(set(draft.subjects))
        heads = {
            subject: db.execute(
                "SELECT coalesce(max(seq), -1) FROM entry_subject WHERE subject = ? AND seq < ?", (subject, seq)
            ).fetchone()[0]
            for subject in subjects
        }
        data = assemble(self._origin, sealed.body, heads, prev, seq, time_us)
        leaf = leaf_hash(data)
        frontier = Frontier.load(seq, lambda level, index: _node(db, level, index))
        db.execute("INSERT INTO entry VALUES (?,?,?,?,?,?,?)", (seq, draft.idem, prev, leaf, draft.kind, time_us, data))
        db.executemany("INSERT INTO entry_subject VALUES (?,?)", [(subject, seq) for subject in subjects])
        db.execute("INSERT INTO payload VALUES (?,?,?,?)", (seq, sealed.salt, draft.facts_digest, draft.payload))
        db.executemany("INSERT INTO node VALUES (?,?,?)", frontier.append(leaf))
        if db.execute("SELECT bytes FROM entry WHERE seq = ?", (seq,)).fetchone()[0] != data:
            raise EntryError("the database did not keep the entry's bytes; nothing was appended")
        return Receipt(seq, leaf, time_us)

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end) in short ranges, so that writers are never held up."""
        for low in range(start, end, _RANGE):
            high = min(end, low + _RANGE)
            with self._connect() as db:
                rows = db.execute(
                    "SELECT seq, bytes, leaf, prev, idem, kind, time_us FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq",
                    (low, high),
                ).fetchall()
                subjects: dict[int, list[str]] = {}
                for seq, subject in db.execute(
                    "SELECT seq, subject FROM entry_subject WHERE seq >= ? AND seq < ? ORDER BY seq, subject LIMIT ?",
                    (low, high, (high - low) * (MAX_SUBJECTS + 1)),
                ):
                    subjects.setdefault(seq, []).append(subject)
            for seq, data, leaf, prev, idem, kind, time_us in rows:
                yield StoredEntry(
                    seq,
                    _blob(data),
                    _blob(leaf),
                    str(prev),
                    str(idem),
                    str(kind),
                    time_us,
                    tuple(subjects.get(seq, ())),
                )

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield payload rows of entries [start, end)."""
        for low in range(start, end, _RANGE):
            with self._connect() as db:
                rows = db.execute(
                    "SELECT seq, salt, facts_digest, bytes FROM payload WHERE seq >= ? AND seq < ? ORDER BY seq",
                    (low, min(end, low + _RANGE)),
                ).fetchall()
            for seq, salt, facts_digest, data in rows:
                yield StoredPayload(
                    seq,
                    None if salt is None else _blob(salt),
                    None if facts_digest is None else str(facts_digest),
                    None if data is None else _blob(data),
                )

    def node(self, level: int, index: int) -> bytes:
        """Return the cached hash of a complete subtree."""
        with self._connect() as db:
            return _node(db, level, index)

    def nodes(self, size: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield the cached subtrees of the first `size` entries as (level, index, hash), level by level."""
        last = (-1, -1)
        while True:
            with self._connect() as db:
                rows = db.execute(
                    "SELECT level, idx, hash FROM node WHERE (level, idx) > (?, ?) AND (idx + 1) << level <= ? "
                    "ORDER BY level, idx LIMIT ?",
                    (*last, size, _RANGE),
                ).fetchall()
            for level, index, value in rows:
                yield level, index, _blob(value)
            if not rows:
                return
            last = (rows[-1][0], rows[-1][1])

    def add_checkpoint(self, size: int, note: str) -> None:
        """Keep a signed checkpoint."""
        with self._connect() as db:
            db.execute("INSERT OR IGNORE INTO checkpoint VALUES (?,?)", (size, note))

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return all kept checkpoints, smallest size first."""
        with self._connect() as db:
            return [
                (int(size), str(note)) for size, note in db.execute("SELECT size, note FROM checkpoint ORDER BY size")
            ]


def _size(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(seq), -1) + 1 FROM entry").fetchone()[0])


def _node(db: sqlite3.Connection, level: int, index: int) -> bytes:
    row = db.execute("SELECT hash FROM node WHERE level = ? AND idx = ?", (level, index)).fetchone()
    if row is None:
        raise LedgerUnreadable(f"the tree cache misses node {level}/{index}; run `cognify ledger verify`")
    return _blob(row[0])


def _blob(value: object) -> bytes:
    """Columns that hold bytes; a row edited into another type must not crash the verifier."""
    return value if isinstance(value, bytes) else repr(value).encode()


def journal_mode() -> str:
    """Return the journal mode this SQLite library is used with."""
    return "wal" if sqlite3.sqlite_version_info >= WAL_SAFE else "delete"


def filesystem_of(path: Path) -> str:
    """Return the filesystem type that holds a path, or "unknown" where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    resolved = str(path.resolve())
    best, kind = "", "unknown"
    for line in mounts:
        parts = line.split(" ")
        if len(parts) >= 3:
            point = parts[1].replace("\\040", " ")
            inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, parts[2]
    return kind
