"""The tables and triggers of a ledger in SQLite, and on which disks and journals it may live.

Invariants kept by triggers (they delay whoever writes past this package; they do not stop the file's owner): an entry is
only ever inserted as the next one; the index of subjects says only what rows of a complete block say; a payload changes only
by being erased; rows go only if a recorded segment keeps their tombstones. `INSERT OR REPLACE` slips past DELETE triggers, so every INSERT trigger
refuses what would replace a row.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

APPLICATION_ID = 0x434F474E  # "COGN"
SCHEMA_VERSION = 5
WAL_SAFE = (3, 51, 3)
SEGMENT_LEVEL = 8
SEGMENT_UNIT = 1 << SEGMENT_LEVEL  # an archived segment ends where complete subtrees of this many entries end
BLOCK = 64  # entries of which the index of subjects is written at once; segments end where blocks end
_NETWORK_FILESYSTEMS = {
    "9p",
    "afs",
    "afpfs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.gcsfuse",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "glusterfs",
    "fuse.glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
    "webdav",
}

_NEXT = "max(coalesce((SELECT max(seq) FROM entry), -1), coalesce((SELECT max(seq) FROM archived), -1)) + 1"
_PREV = """coalesce((SELECT leaf FROM entry WHERE seq = new.seq - 1),
        (SELECT leaf FROM archived WHERE seq = new.seq - 1), zeroblob(32))"""

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY, idem BLOB NOT NULL UNIQUE, prev BLOB NOT NULL, leaf BLOB NOT NULL,
    kind TEXT NOT NULL, time_us INTEGER NOT NULL, subjects TEXT NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE entry_subject (subject TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (subject, seq)) WITHOUT ROWID;
CREATE INDEX entry_subject_seq ON entry_subject(seq);
CREATE TABLE payload (seq INTEGER PRIMARY KEY, salt BLOB, facts_digest BLOB, bytes BLOB);
CREATE TABLE node (pos INTEGER PRIMARY KEY, level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE checkpoint (size INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY (size, note)) WITHOUT ROWID;
CREATE TABLE segment (first INTEGER PRIMARY KEY, past INTEGER NOT NULL, manifest TEXT NOT NULL);
CREATE TABLE archived (
    seq INTEGER PRIMARY KEY, idem BLOB NOT NULL UNIQUE, leaf BLOB NOT NULL, time_us INTEGER NOT NULL, facts_digest BLOB);

CREATE TRIGGER entry_in_order BEFORE INSERT ON entry
    WHEN EXISTS (SELECT 1 FROM entry WHERE seq = new.seq) OR EXISTS (SELECT 1 FROM entry WHERE idem = new.idem)
        OR ((new.seq IS NOT {_NEXT} OR new.prev IS NOT {_PREV} OR EXISTS (SELECT 1 FROM archived WHERE idem = new.idem))
            AND NOT EXISTS (SELECT 1 FROM archived WHERE seq = new.seq AND idem = new.idem AND leaf = new.leaf))
    BEGIN SELECT raise(ABORT, 'append-only: not the next entry'); END;
CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER entry_only_archive BEFORE DELETE ON entry
    WHEN NOT EXISTS (SELECT 1 FROM archived WHERE seq = old.seq AND idem = old.idem AND leaf = old.leaf)
    BEGIN SELECT raise(ABORT, 'append-only'); END;

CREATE TRIGGER subject_in_order BEFORE INSERT ON entry_subject
    WHEN NOT EXISTS (SELECT 1 FROM entry WHERE seq = new.seq / {BLOCK} * {BLOCK} + {BLOCK - 1})
        OR NOT EXISTS (SELECT 1 FROM entry
            WHERE seq = new.seq AND instr(' ' || subjects || ' ', ' ' || new.subject || ' '))
    BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER subject_no_update BEFORE UPDATE ON entry_subject BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER subject_only_archive BEFORE DELETE ON entry_subject
    WHEN NOT EXISTS (SELECT 1 FROM archived WHERE seq = old.seq)
        OR NOT EXISTS (SELECT 1 FROM entry_subject WHERE subject = old.subject AND seq > old.seq)
    BEGIN SELECT raise(ABORT, 'append-only'); END;

CREATE TRIGGER payload_in_order BEFORE INSERT ON payload
    WHEN NOT EXISTS (SELECT 1 FROM entry WHERE seq = new.seq) OR EXISTS (SELECT 1 FROM payload WHERE seq = new.seq)
    BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER payload_only_erase BEFORE UPDATE ON payload
    WHEN new.bytes IS NOT NULL OR new.salt IS NOT NULL OR new.facts_digest IS NOT NULL OR new.seq IS NOT old.seq
    BEGIN SELECT raise(ABORT, 'append-only: a payload can only be erased'); END;
CREATE TRIGGER payload_only_archive BEFORE DELETE ON payload
    WHEN NOT EXISTS (SELECT 1 FROM archived WHERE seq = old.seq) BEGIN SELECT raise(ABORT, 'append-only'); END;

CREATE TRIGGER segment_apart BEFORE INSERT ON segment
    WHEN new.first < 0 OR new.past <= new.first OR new.past > {_NEXT}
        OR EXISTS (SELECT 1 FROM segment WHERE new.first < past AND first < new.past)
    BEGIN SELECT raise(ABORT, 'append-only: not a segment'); END;
CREATE TRIGGER segment_no_update BEFORE UPDATE ON segment BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER segment_only_attach BEFORE DELETE ON segment
    WHEN EXISTS (SELECT 1 FROM archived WHERE seq >= old.first AND seq < old.past)
    BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER archived_in_segment BEFORE INSERT ON archived
    WHEN EXISTS (SELECT 1 FROM archived WHERE seq = new.seq OR idem = new.idem)
        OR NOT EXISTS (SELECT 1 FROM segment WHERE new.seq >= first AND new.seq < past)
        OR NOT EXISTS (SELECT 1 FROM entry WHERE seq = new.seq AND idem = new.idem AND leaf = new.leaf)
    BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER archived_only_erase BEFORE UPDATE ON archived
    WHEN new.facts_digest IS NOT NULL OR new.seq IS NOT old.seq OR new.idem IS NOT old.idem OR new.leaf IS NOT old.leaf
        OR new.time_us IS NOT old.time_us
    BEGIN SELECT raise(ABORT, 'append-only: of an archived entry only the digest can be erased'); END;
CREATE TRIGGER archived_only_attach BEFORE DELETE ON archived
    WHEN NOT EXISTS (SELECT 1 FROM entry WHERE seq = old.seq AND leaf = old.leaf)
    BEGIN SELECT raise(ABORT, 'append-only'); END;

CREATE TRIGGER meta_no_update BEFORE UPDATE ON meta BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER meta_once BEFORE INSERT ON meta
    WHEN EXISTS (SELECT 1 FROM meta) BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoint_no_update BEFORE UPDATE ON checkpoint BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoint_no_delete BEFORE DELETE ON checkpoint BEGIN SELECT raise(ABORT, 'append-only'); END;
"""


def journal_mode() -> str:
    """Return the journal mode in which this SQLite library writes ledgers."""
    return "wal" if sqlite3.sqlite_version_info >= WAL_SAFE else "truncate"


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
