"""Names of files as records and manifests hold them."""

from __future__ import annotations

from pathlib import PurePosixPath


def stays_inside(name: str) -> bool:
    """Whether a recorded name is a relative POSIX path, written in its plainest form, that cannot leave the folder it is put below."""
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and not {"\\", "\0"} & set(name)
        and ".." not in parts
        and "/".join(parts) == name
    )
