"""One command of the demo at a time: `make demo`, `make up` and `make demo-reset` share a folder, and two would spoil each other.

Invariants: the lock is the kernel's (`flock`), so it ends with the process that holds it, however that process ends; a file left
behind blocks nobody. What stands in the file only says who holds the lock, and decides nothing.

Standard library only: `make demo-reset` runs before anything is installed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Apart from `.cognify`, which `make demo-reset` removes while it holds the lock.
FOLDER = ".cognify-demo"
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_MAX_BYTES = 200


class BusyError(RuntimeError):
    """Another command of the demo is running; the message says which, and what to do."""


@contextmanager
def exclusive(root: Path, command: str) -> Iterator[None]:
    """Hold the demo's lock.

    Args:
        root: folder of the demo.
        command: what to call again, such as `make demo`; others are told that it is running.

    Raises:
        BusyError: if another command holds it. Nothing was changed.
    """
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                raise BusyError(f"{folder / 'lock'} cannot be locked: {error.strerror}; use a local disk") from error
            holder = os.pread(descriptor, _MAX_BYTES, 0).decode("utf-8", "replace").strip()
            raise BusyError(
                f"{holder or 'Another command of the demo'} is running here. Wait for it, or stop it with Ctrl-C in its "
                f"terminal; then call `{command}` again. Nothing was changed."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"`{command}` (process {os.getpid()}, since {time.strftime('%H:%M:%S')})".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
