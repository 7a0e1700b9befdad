"""What a witness remembers, in its own SQLite file.

Invariants: reading the remembered head and replacing it is one transaction under the write lock (BEGIN IMMEDIATE), durable
before its cosignature leaves the process; the remembered size never goes down; a file belongs to one witness key, and a key
is never used with a new, empty file, which would have forgotten what was cosigned.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cognify_dagster.ledger.errors import LedgerError, LedgerFull, LedgerUnreadable
from cognify_dagster.ledger.note import VerifierKey
from cognify_dagster.ledger.witness.decide import Head, Refusal

APPLICATION_ID = 0x434F4757  # "COGW"
_VERSION = 1
_MAX_FORKS = 100  # an origin; each is at most 64 KiB, and only the holder of a log key can add any
_SCHEMA = """
CREATE TABLE witness (vkey TEXT NOT NULL);
CREATE TABLE head (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, time INTEGER NOT NULL, note TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE fork (id INTEGER PRIMARY KEY, origin TEXT NOT NULL, size INTEGER NOT NULL, time INTEGER NOT NULL,
  remembered TEXT NOT NULL, note TEXT NOT NULL, UNIQUE (origin, note));
CREATE TRIGGER head_grows BEFORE UPDATE ON head WHEN new.size < old.size OR new.origin <> old.origin
  BEGIN SELECT RAISE(ABORT, 'a witness never goes back'); END;
CREATE TRIGGER head_new BEFORE INSERT ON head WHEN EXISTS (SELECT 1 FROM head WHERE origin = new.origin)
  BEGIN SELECT RAISE(ABORT, 'a witness never goes back'); END;
CREATE TRIGGER head_stays BEFORE DELETE ON head BEGIN SELECT RAISE(ABORT, 'a witness never forgets'); END;
"""


class WitnessStore:
    """A witness's memory. Safe for many threads and processes: every call has its own connection."""

    def __init__(self, path: str | os.PathLike[str], key: VerifierKey) -> None:
        """Open a state file that was created for this key.

        Raises:
            LedgerUnreadable: if it is missing, foreign, damaged, or of another key.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise LedgerUnreadable(
                f"{self.path}: the witness's state is missing. It is created with the key and never replaced: a witness that "
                f"lost its memory could cosign a rewritten ledger. Make a new key with a new state"
            )
        with self._connect() as db:
            try:
                if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                    raise LedgerUnreadable(f"{self.path}: not a witness's state")
                if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                    raise LedgerUnreadable(f"{self.path}: written by another version; install that version")
                owners = [row[0] for row in db.execute("SELECT vkey FROM witness")]
            except sqlite3.DatabaseError as error:
                raise LedgerUnreadable(f"{self.path}: damaged or not a witness's state: {error}") from error
        if owners != [str(key)]:
            raise LedgerUnreadable(f"{self.path}: this state belongs to another witness key than {key.name!r}")

    @classmethod
    def create(cls, path: str | os.PathLike[str], key: VerifierKey) -> WitnessStore:
        """Create the state of a new witness key, file mode 0600.

        Raises:
            LedgerError: if there is a file already.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError as error:
            raise LedgerError(f"{target}: there is already a file; a witness's state is never overwritten") from error
        try:
            db = _open(target)
            try:
                db.executescript(
                    f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={_VERSION}; BEGIN; {_SCHEMA}"
                )
                db.execute("INSERT INTO witness VALUES (?)", (str(key),))
                db.execute("COMMIT")
            finally:
                db.close()
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return cls(target, key)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            db = _open(self.path)
        except sqlite3.Error as error:
            raise LedgerUnreadable(f"{self.path}: the witness's state cannot be opened: {error}") from error
        try:
            yield db
        finally:
            db.close()

    def remembered(self, origin: str) -> tuple[Head, str | None]:
        """Return the newest head cosigned for a log, and its note with our cosignature; the empty tree if there is none."""
        with self._connect() as db:
            try:
                return _read(db, origin)
            except sqlite3.DatabaseError as error:
                raise LedgerUnreadable(f"{self.path}: the witness's state cannot be read: {error}") from error

    def check_and_store(
        self,
        origin: str,
        note: str,
        asked: Head,
        decide: Callable[[Head], Head | Refusal],
        cosign: Callable[[int], tuple[str, str]],
        now: int,
    ) -> str | Refusal:
        """Ask `decide` about the remembered head and, if it agrees, remember the new one, all under the write lock.

        Args:
            origin: the log.
            note: the checkpoint as sent, kept as evidence if it proves a fork.
            asked: its size and root.
            decide: the pure decision.
            cosign: returns the note to remember and our cosignature line for a time.
            now: POSIX seconds; what is stated never goes back behind what was stated before.

        Returns:
            The cosignature line, after it is durable, or the refusal.

        Raises:
            LedgerFull: if it could not be kept; then nothing was cosigned.
        """
        with self._connect() as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    answer = self._decided(db, origin, note, asked, decide, cosign, now)
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:  # SQLite rolls back by itself when the disk is full
                        db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise LedgerFull(f"{self.path}: the witness could not keep the head: {error}") from error
        return answer

    def _decided(
        self,
        db: sqlite3.Connection,
        origin: str,
        note: str,
        asked: Head,
        decide: Callable[[Head], Head | Refusal],
        cosign: Callable[[int], tuple[str, str]],
        now: int,
    ) -> str | Refusal:
        before, kept = _read(db, origin)
        decision = decide(before)
        stated = max(now, db.execute("SELECT coalesce(max(time), 0) FROM head").fetchone()[0])
        if isinstance(decision, Refusal):
            if decision.fork and kept is not None:
                known = db.execute("SELECT count(*) FROM fork WHERE origin = ?", (origin,)).fetchone()[0]
                if known < _MAX_FORKS:
                    db.execute(
                        "INSERT OR IGNORE INTO fork (origin, size, time, remembered, note) VALUES (?, ?, ?, ?, ?)",
                        (origin, asked.size, stated, kept, note),
                    )
            return decision
        full, line = cosign(stated)
        row = (decision.size, decision.root, stated, full, origin)
        if db.execute("UPDATE head SET size = ?, root = ?, time = ?, note = ? WHERE origin = ?", row).rowcount == 0:
            db.execute("INSERT INTO head (size, root, time, note, origin) VALUES (?, ?, ?, ?, ?)", row)
        return line

    def forks(self) -> list[tuple[str, int, int, str, str]]:
        """Return the evidence of forks: (origin, size, time, the note we had cosigned, the other note the log signed)."""
        with self._connect() as db:
            query = "SELECT origin, size, time, remembered, note FROM fork ORDER BY id"
            return [(str(o), int(s), int(t), str(r), str(n)) for o, s, t, r, n in db.execute(query)]

    def heads(self) -> list[tuple[str, int, int]]:
        """Return (origin, size, time) of every log this witness has cosigned for."""
        with self._connect() as db:
            query = "SELECT origin, size, time FROM head ORDER BY origin"
            return [(str(o), int(s), int(t)) for o, s, t in db.execute(query)]


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=20)
    # DELETE: no WAL bug of older libraries. EXTRA also syncs the folder after the journal is gone; with FULL a power cut
    # could bring the journal back and undo a commit whose cosignature has left.
    db.execute("PRAGMA journal_mode=DELETE")
    db.execute("PRAGMA synchronous=EXTRA")
    return db


def _read(db: sqlite3.Connection, origin: str) -> tuple[Head, str | None]:
    row = db.execute("SELECT size, root, note FROM head WHERE origin = ?", (origin,)).fetchone()
    return (Head(), None) if row is None else (Head(int(row[0]), bytes(row[1])), str(row[2]))
