"""Where journals lie, and what state each run is in: live, ended and waiting, killed, damaged.

Invariants: a run's folder is private (mode 0700, owned by this login); one that others can write, that is a link, or that belongs to
somebody else is never read for sealing. The process that runs holds a lock on its folder until it ends, so a live run is told from
one that died even where the process number was given to another program.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.sdk.errors import JournalDamaged, SdkError
from cognify_dagster.instrument.sdk.journal import JOURNAL, ReadBack, read_journal

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the process number alone says whether a run lives
    fcntl = None  # type: ignore[assignment]

VARIABLE = "COGNIFY_SPOOL"
LOCK = "lock"
SEEN = "seen.json"
LATEST = 253_402_300_800
"""The year 10000, in seconds since 1970: no time that a journal tells is later."""
_RUN = re.compile(r"sdk-\d{8}T\d{6}-[0-9a-f]{12}")


def new_run_id() -> str:
    """Return the id of a new run; ids sort by the second in which runs began."""
    return f"sdk-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(6)}"


def state_folder() -> Path:
    """Return the spool of this login, for runs without a workspace in reach."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "cognify" / "spool"


def places(home: Path | None = None) -> list[Path]:
    """Return the spools that there may be, the one to write to first: `$COGNIFY_SPOOL`, the workspace's, this login's."""
    named = os.environ.get(VARIABLE)
    found = [Path(named).expanduser().absolute()] if named else []
    found += [home / "spool"] if home is not None else []
    return list(dict.fromkeys([*found, state_folder()]))


def make_folder(place: Path, run: str) -> Path:
    """Create a run's folder, private to this login.

    Raises:
        OSError: it cannot be created.
        SdkError: the spool is open to others.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    problem = open_to_others(place)
    if problem:
        raise SdkError(problem)
    folder = place / run
    folder.mkdir(mode=0o700)
    return folder


def open_to_others(path: Path) -> str:
    """Return why a folder is not private, empty if it is."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{path}: not a folder"
    if os.name != "posix":  # pragma: no cover - Windows
        return ""
    if found.st_uid != os.geteuid():
        return f"{path}: belongs to another login (uid {found.st_uid}); flush it as that login"
    if found.st_mode & 0o077:
        return f"{path}: others can read or write it; run `chmod 700 {path}` if nobody has changed what it holds"
    return ""


# Whether a process lives ------------------------------------------------------------------------------------------------


def process_start(pid: int) -> str:
    """Return when a process began as the kernel counts it, empty where that cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read(4096).rpartition(b")")[2].split()[19].decode("ascii")
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def boot_id() -> str:
    """Return what names this running kernel, empty where there is no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class FolderLock:
    """The lock on a run's folder. A process that dies lets go of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock without waiting; return whether nobody else holds it."""
        if fcntl is None:  # pragma: no cover - Windows
            return True
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(self._folder / LOCK, flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._file = handle
        return True

    def release(self) -> None:
        """Let go of it; twice does nothing."""
        handle, self._file = self._file, None
        if handle is not None:
            os.close(handle)

    def forget(self) -> None:
        """In a forked child: close the inherited handle, which lets nothing go in the parent."""
        self.release()


# Runs in a spool --------------------------------------------------------------------------------------------------------


@dataclass
class Spooled:
    """A run that lies in a spool.

    Attributes:
        folder: its folder.
        state: `live`, `waiting` (it ended, nothing is sealed yet), `killed`, `sealed` (only an evaluation or the package waits),
            `foreign` (it ran on another machine, which alone knows whether it lives), `damaged` or `refused`.
        problem: why it is damaged or refused.
        read: its journal.
    """

    folder: Path
    state: str
    problem: str = ""
    read: ReadBack | None = field(default=None, repr=False)

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.name

    @property
    def start(self) -> dict[str, Any]:
        """What the first line says; empty where nothing can be read."""
        lines = self.read.lines if self.read else ()
        return dict(lines[0]) if lines and lines[0].get("o") == "start" else {}

    @property
    def started(self) -> float:
        """When it began, in seconds since 1970; 0 where nothing says it."""
        value = self.start.get("started", 0)
        return float(value) if type(value) in (int, float) and 0 <= value < LATEST and math.isfinite(value) else 0.0

    def last(self, op: str) -> dict[str, Any] | None:
        """Return the newest line of a kind."""
        return next(
            (dict(line) for line in reversed(self.read.lines if self.read else ()) if line.get("o") == op), None
        )


def spooled(place: Path, only: frozenset[str] = frozenset()) -> list[Spooled]:
    """Return the runs in a spool, oldest first. One that cannot be read is there too, with the reason."""
    found = [_look(folder) for folder in _folders(place) if not only or folder.name in only]
    return sorted(found, key=lambda item: (item.started or 0.0, item.run))


def _folders(place: Path) -> Iterator[Path]:
    with suppress(OSError):
        for entry in sorted(os.listdir(place)):
            if _RUN.fullmatch(entry):
                yield place / entry


def _look(folder: Path) -> Spooled:
    try:
        problem = open_to_others(folder)
        if problem:
            return Spooled(folder, "refused", problem)
        lock = FolderLock(folder)
        free = lock.take()
        lock.release()
        if not (folder / JOURNAL).exists():
            return Spooled(folder, "killed" if free else "live", "", ReadBack((), 0, "0" * 16, 0))
        read = read_journal(folder)
    except JournalDamaged as error:
        return Spooled(folder, "damaged", str(error))
    except OSError as error:
        return Spooled(folder, "refused", f"{folder}: {error.strerror or error}")
    found = Spooled(folder, "live", "", read)
    if found.start and found.start.get("run") != folder.name:
        told = str(found.start.get("run"))[:100]
        problem = (
            f"{folder}: the journal says that it is run {told!r}, and its folder is named {folder.name}; it is kept as it is, and nothing "
            "of it is recorded"
        )
        return Spooled(folder, "damaged", problem)
    try:
        return _state(found, free)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        return Spooled(folder, "damaged", f"{folder}: the journal does not tell of a run: {error!r}")


def _state(found: Spooled, free: bool) -> Spooled:
    ends = {str(line.get("o")) for line in found.read.lines} if found.read is not None else set()
    if free:
        found.state = "killed"
        if found.last("sealed") is not None:
            found.state = "sealed"
        elif ends & {"complete", "fail"}:
            found.state = "waiting"
        elif not _dead(found.start):
            found.state = "foreign"
            found.problem = (
                f"it ran on {found.start.get('host')}; flush it there, or with --dead once it is surely over"
            )
    return found


def _dead(start: dict[str, Any]) -> bool:
    """Whether the process of an unlocked, unended journal is known to be gone: it ran under this kernel, or on this host before."""
    if start.get("boot") and start.get("boot") == boot_id():
        if fcntl is not None:
            return True
        return process_start(int(start.get("pid", 0))) != start.get("process")  # pragma: no cover - Windows
    return start.get("host") in ("", None, host())


def host() -> str:
    """Return this machine's name."""
    import platform

    return platform.node()


def remove(folder: Path) -> None:
    """Remove a run's folder once everything of it is in the ledger: renamed first, so that no half of it is taken for a run."""
    gone = folder.with_name(f".done-{folder.name}")
    with suppress(OSError):
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove what a killed `remove` left behind."""
    with suppress(OSError):
        for entry in os.listdir(place):
            if entry.startswith(".done-") and _RUN.fullmatch(entry.removeprefix(".done-")):
                shutil.rmtree(place / entry, ignore_errors=True)


# What this machine last saw of a ledger ---------------------------------------------------------------------------------


def remember_seen(place: Path, origin: str, size: int) -> None:
    """Keep how many entries of a ledger were really seen, for runs that start while it is out of reach."""
    with suppress(OSError, SdkError):
        seen = _seen(place)
        if seen.get(origin, -1) >= size:
            return
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if open_to_others(place):
            return
        temporary = place / f".{SEEN}.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            json.dump({**seen, origin: size}, stream)
        os.replace(temporary, place / SEEN)


def last_seen(place: Path, origin: str) -> int:
    """Return the size that was seen last, 0 if the ledger was never seen from here."""
    try:
        if open_to_others(place):
            return 0
    except OSError:
        return 0
    return _seen(place).get(origin, 0)


def _seen(place: Path) -> dict[str, int]:
    try:
        data = (place / SEEN).read_bytes()[:1_000_000]
        value = json.loads(data)
    except (OSError, ValueError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {str(key): size for key, size in value.items() if type(size) is int and size >= 0}


def process_facts() -> dict[str, Any]:
    """Return what tells this process from every other."""
    return {
        "pid": os.getpid(),
        "process": process_start(os.getpid()),
        "boot": boot_id(),
        "host": host(),
        "python": sys.version.split()[0],
    }
