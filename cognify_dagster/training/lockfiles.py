"""The lock files that lie beside the training code: which exact dependencies a person or a tool had fixed.

Invariant: files are read, never run; links, special files and files above the bound are passed over.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.files import sha256_file

#: A lock file above this is none.
MAX_LOCK_BYTES = 64 * 1024 * 1024

_NAMES = frozenset({"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "conda-lock.yml"})
_PATTERN = re.compile(r"(requirements|constraints)[A-Za-z0-9._-]{0,80}\.txt|pylock\.[A-Za-z0-9_-]{1,80}\.toml")
_MAX_FILES = 50
_MAX_LEVELS = 64


class LockFile(BaseModel):
    """A file that fixes dependencies.

    Attributes:
        name: Its own name.
        sha256: SHA-256 of its bytes, in lower-case hex.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


def find_lock_files(start: str | Path) -> tuple[LockFile, ...]:
    """Returns the lock files of the nearest folder that has any, from the code's folder up to the repository's top, sorted by name.

    Known are uv, Poetry, PDM, Pipenv, conda-lock and PEP 751 (``pylock.toml``), and ``requirements*.txt`` and ``constraints*.txt``.
    Without a repository only the code's own folder is looked at.

    Args:
        start: The folder or file of the training code.
    """
    place = Path(start).absolute()
    folder = place if place.is_dir() else place.parent
    chain = [folder, *folder.parents][:_MAX_LEVELS]
    top = next((index for index, item in enumerate(chain) if (item / ".git").exists()), 0)
    for candidate in chain[: top + 1]:
        found = _in_folder(candidate)
        if found:
            return found
    return ()


def _in_folder(folder: Path) -> tuple[LockFile, ...]:
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in _NAMES and not _PATTERN.fullmatch(entry.name):
                    continue
                plain = entry.is_file(follow_symlinks=False)
                if plain and entry.stat(follow_symlinks=False).st_size <= MAX_LOCK_BYTES:
                    names.append(entry.name)
    except OSError:
        return ()
    found = []
    for name in sorted(names)[:_MAX_FILES]:
        try:
            found.append(LockFile(name=name, sha256=sha256_file(folder / name)))
        except TrainingError:
            continue
    return tuple(found)
