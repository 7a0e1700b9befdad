"""The server SQL of earlier releases: tells a ledger that waits for `init` after an upgrade from one that somebody changed.

Invariants: only what is byte for byte the SQL of a release (each function, its settings, each trigger) passes as that release;
it is never as good as this release's, so a verification that meets it proves less and says what to run.

Each release keeps its SQL as `releases/<version>.sql` in this folder, written by
`python -m cognify_dagster.ledger.postgres.earlier <version>` and never changed afterwards. There is none before the first release.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from cognify_dagster.ledger.errors import LedgerError
from cognify_dagster.ledger.files import write_private
from cognify_dagster.ledger.postgres.derived import DERIVED
from cognify_dagster.ledger.postgres.ordinary import ORDINARY
from cognify_dagster.ledger.postgres.rules import RULES
from cognify_dagster.ledger.postgres.schema import APPEND, CHECK, GUARDS, triggers
from cognify_dagster.ledger.postgres.upkeep import UPKEEP

FUNCTIONS = CHECK + RULES + APPEND + ORDINARY + UPKEEP + DERIVED
FOLDER = Path(__file__).with_name("releases")
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){2}([a-z0-9.]{1,12})?")


def current() -> str:
    """Return the guards, triggers and functions of this release, with their placeholders."""
    return GUARDS + triggers() + FUNCTIONS


def releases() -> Mapping[str, str]:
    """Return the same text of each earlier release, by version, newest first."""
    found = {path.stem: path for path in FOLDER.glob("*.sql")} if FOLDER.is_dir() else {}
    order = sorted(found, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], reverse=True)
    return {version: found[version].read_text(encoding="utf-8") for version in order}


def keep(version: str, folder: Path = FOLDER) -> Path:
    """Write this release's text, once.

    Raises:
        LedgerError: if the version is malformed, or its text was kept already and differs.
    """
    if not _VERSION.fullmatch(version):
        raise LedgerError(f"{version!r} is no version such as 1.2.0")
    path = folder / f"{version}.sql"
    if path.exists():
        if path.read_text(encoding="utf-8") != current():
            raise LedgerError(f"{path}: that release's SQL is kept already and is another; a release never changes")
        return path
    folder.mkdir(exist_ok=True)
    write_private(path, current().encode())
    path.chmod(0o644)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m cognify_dagster.ledger.postgres.earlier VERSION")
    print(keep(sys.argv[1]))
