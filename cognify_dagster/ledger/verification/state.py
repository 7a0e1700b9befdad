"""What a signer or verifier remembers outside the ledger's database, so that it needs to read only new entries.

Invariants: the state file alone says how far a ledger was checked and which root it had; it is replaced as a whole. The
subject heads beside it are a cache for the same size: where they are missing, damaged or of another size they are rebuilt
from entry bytes, never guessed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cognify_dagster.ledger.errors import LedgerUnreadable
from cognify_dagster.ledger.files import write_private
from cognify_dagster.ledger.note import Checkpoint
from cognify_dagster.ledger.verification.scan import Position

_AT_ONCE = 500  # subjects of one query; SQLite may not take more than 999


class SavedHeads(MutableMapping[str, int]):
    """Subject heads kept in a small SQLite file; changes stay in memory until `StateFile.save`."""

    def __init__(self, path: Path | None, size: int) -> None:
        self._path, self.size = path, size
        self.changed: dict[str, int] = {}
        self._fetched: dict[str, int] = {}
        self._db = None if path is None else sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def __getitem__(self, subject: str) -> int:
        found = self.changed.get(subject, self._fetched.get(subject))
        if found is None and self._db is not None:
            found = self._kept(subject)
        if found is None:
            raise KeyError(subject)
        return found

    def fetch(self, subjects: Iterable[str]) -> None:
        """Look up many subjects at once; those that are not kept are simply not there."""
        names = [subject for subject in subjects if subject not in self.changed and subject not in self._fetched]
        for low in range(0, len(names) if self._db is not None else 0, _AT_ONCE):
            some = names[low : low + _AT_ONCE]
            assert self._db is not None
            try:
                marks = ",".join("?" * len(some))
                found = self._db.execute(f"SELECT subject, seq FROM head WHERE subject IN ({marks})", some).fetchall()
            except sqlite3.Error as error:
                raise self._damaged(error) from error
            self._fetched.update({subject: int(seq) for subject, seq in found})

    def _damaged(self, error: sqlite3.Error) -> LedgerUnreadable:
        return LedgerUnreadable(f"{self._path} is damaged ({error}); delete it: it is rebuilt from entries")

    def _kept(self, subject: str) -> int | None:
        assert self._db is not None
        try:
            row = self._db.execute("SELECT seq FROM head WHERE subject = ?", (subject,)).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return None if row is None else int(row[0])

    def __setitem__(self, subject: str, seq: int) -> None:
        self.changed[subject] = seq

    def __delitem__(self, subject: str) -> None:
        raise TypeError("heads are never forgotten")

    def __iter__(self) -> Iterator[str]:
        raise TypeError("heads are looked up, not listed")

    def __len__(self) -> int:
        return self.size

    def kept_size(self) -> int | None:
        """The size that the file says it is for, None if it does not say so."""
        try:
            row = self._db.execute("SELECT size FROM state").fetchone() if self._db is not None else None
        except sqlite3.Error:
            return None
        return None if row is None else row[0]

    def write(self, size: int) -> None:
        """Bring the file up to date: with what changed, it is for `size` entries. A file that is for none yet is filled.

        Raises:
            sqlite3.Error: if that is not possible, or the file is not any more for the size that these heads were read at:
                somebody else wrote to it, and what both wrote would not belong together. Then it is as it was.
        """
        if self._db is None:
            raise sqlite3.ProgrammingError("the heads were released")
        self._db.execute("PRAGMA synchronous=OFF")  # a cache: a torn one has the wrong size or does not open
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if not self.size:
                self._db.execute("CREATE TABLE head (subject TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID")
                self._db.execute("CREATE TABLE state (size INTEGER NOT NULL)")
            elif self.kept_size() != self.size:
                raise sqlite3.DatabaseError("somebody else wrote to it")
            self._db.executemany("INSERT OR REPLACE INTO head VALUES (?,?)", self.changed.items())
            self._db.execute("DELETE FROM state")
            self._db.execute("INSERT INTO state VALUES (?)", (size,))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Release the file."""
        if self._db is not None:
            self._db.close()
            self._db = None


class StateFile:
    """A position in one ledger, kept in a JSON file, with the subject heads in `<file>.heads`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heads_path = path.with_name(path.name + ".heads")

    def checkpoint(self) -> Checkpoint | None:
        """Return the head kept here, None if there is none yet.

        Raises:
            LedgerUnreadable: if the file is damaged.
        """
        found = self._read()
        return found[0] if found is not None else None

    def _read(self) -> tuple[Checkpoint, dict[str, Any]] | None:
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
            return Checkpoint(str(value["origin"]), int(value["size"]), bytes.fromhex(value["root"])), value
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise LedgerUnreadable(f"{self.path}: the kept state is damaged: {error}") from error

    def position(self) -> Position | None:
        """Return where the check stood, None if only the head is known (then everything is read once more)."""
        found = self._read()
        if found is None:
            return None
        head, value = found
        try:
            peaks = tuple((int(level), bytes.fromhex(text)) for level, text in value["peaks"])
            position = Position(head.size, peaks, str(value["prev"]), int(value["time_us"]))
        except (ValueError, KeyError, TypeError):
            return None
        return position if position.root == head.root and sum(1 << level for level, _ in peaks) == head.size else None

    def heads(self, size: int) -> SavedHeads | None:
        """Return the subject heads of the first `size` entries, None if they are not kept for that size."""
        if size == 0:
            return SavedHeads(None, 0)
        if not self.heads_path.is_file():
            return None
        try:
            heads = SavedHeads(self.heads_path, size)
        except sqlite3.Error:
            return None
        if heads.kept_size() != size:
            heads.close()
            return None
        return heads

    def save(self, origin: str, position: Position, heads: Mapping[str, int]) -> None:
        """Keep a position and its heads; the position last, so that a crash in between costs one full read."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._save_heads(position.size, heads)
            self.heads_path.chmod(0o600)
        except (sqlite3.Error, FileNotFoundError):
            self.heads_path.unlink(missing_ok=True)
        value = {
            "origin": origin,
            "peaks": [[level, peak.hex()] for level, peak in position.peaks],
            "prev": position.prev,
            "root": position.root.hex(),
            "size": position.size,
            "time_us": position.time_us,
        }
        write_private(self.path, json.dumps(value, sort_keys=True).encode())

    def _save_heads(self, size: int, heads: Mapping[str, int]) -> None:
        if isinstance(heads, SavedHeads) and heads.size:
            heads.write(size)
            return
        self.heads_path.unlink(missing_ok=True)
        with closing(SavedHeads(self.heads_path, 0)) as made:
            made.changed = heads.changed if isinstance(heads, SavedHeads) else dict(heads)
            made.write(size)


def close_heads(heads: Mapping[str, int]) -> None:
    """Release the file behind subject heads, if there is one."""
    if isinstance(heads, SavedHeads):
        heads.close()
