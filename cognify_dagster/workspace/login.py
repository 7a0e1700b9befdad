"""Who runs this process, as the operating system knows it.

Invariant: no environment variable has a say. `getpass.getuser()` believes `$LOGNAME`, so anybody could act under another
person's alias with it.
"""

from __future__ import annotations

import os

try:
    import pwd
except ImportError:  # pragma: no cover - Windows
    pwd = None  # type: ignore[assignment]


def os_login() -> str:
    """Return the login name of the effective user; `uid-<number>` where the user has no name, as in some containers."""
    if pwd is None:  # pragma: no cover - Windows, where the system itself answers
        try:
            return os.getlogin()
        except OSError:
            return "unknown"
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid-{number}"
