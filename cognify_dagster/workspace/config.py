"""`cognify.toml`: where a workspace keeps its ledger, evidence and keys. Paths are relative to the file's folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib

CONFIG_NAME = "cognify.toml"
_KEYS = {"origin", "home", "ledger", "evidence", "trust", "policy", "workload"}


class WorkspaceError(ValueError):
    """The workspace cannot be opened or created; the message says what to do."""


@dataclass(frozen=True)
class WorkspaceConfig:
    """A parsed configuration, all paths absolute. `evidence` may also be an fsspec URL such as `s3://bucket/prefix`."""

    path: Path
    origin: str
    home: Path
    ledger: Path
    evidence: str
    trust: Path
    policy: Path
    workload: str

    @property
    def keys(self) -> Path:
        """Folder of the machine's private keys."""
        return self.home / "keys"

    @property
    def people_keys(self) -> Path:
        """Folder for encrypted personal keys, where people share this machine (as in the demo)."""
        return self.home / "people"


def find_config(start: str | os.PathLike[str]) -> Path:
    """Find `cognify.toml`: the path itself, in the folder, or in a parent of the folder.

    Raises:
        WorkspaceError: if there is none.
    """
    here = Path(start).expanduser().resolve()
    if here.name == CONFIG_NAME and here.is_file():
        return here
    for folder in (here, *here.parents):
        candidate = folder / CONFIG_NAME
        if candidate.is_file():
            return candidate
    raise WorkspaceError(f"{here}: no {CONFIG_NAME} here or in a folder above. Create a workspace with `cognify init`")


def load_config(path: Path) -> WorkspaceConfig:
    """Read a configuration file.

    Raises:
        WorkspaceError: naming the field that is wrong.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WorkspaceError(f"{path}: cannot be read: {error}") from error
    table = data.get("workspace")
    if not isinstance(table, dict):
        raise WorkspaceError(f"{path}: the table [workspace] is missing")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise WorkspaceError(f"{path}: [workspace] has unknown field {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    base = path.parent
    home = base / _text(path, table, "home", ".cognify")
    evidence = _text(path, table, "evidence", str(home / "evidence"))
    return WorkspaceConfig(
        path=path,
        origin=_text(path, table, "origin", None),
        home=home,
        ledger=base / _text(path, table, "ledger", str(home / "ledger.sqlite")),
        evidence=evidence if "://" in evidence else str(base / evidence),
        trust=base / _text(path, table, "trust", "trust.txt"),
        policy=base / _text(path, table, "policy", "policy.yaml"),
        workload=_text(path, table, "workload", "workload/pipeline"),
    )


def _text(path: Path, table: dict[str, Any], key: str, default: str | None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise WorkspaceError(f"{path}: [workspace] {key} must be text")
    return value
