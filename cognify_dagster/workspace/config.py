"""`cognify.toml`: where a workspace keeps its ledger, evidence and keys. Paths are relative to the file's folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib

CONFIG_NAME = "cognify.toml"
_KEYS = {
    "origin", "home", "ledger", "evidence", "evidence_keys", "trust", "policy", "workload", "archives", "witnessed", "signer",
    "signer_wait", "frameworks",
}  # fmt: skip
_TABLES = {"workspace", "anchor", "notify", "seal", "review"}
_ANCHOR_KEYS: dict[str, dict[str, type]] = {
    "folder": {"path": str, "write_once": bool},
    "s3": {
        "bucket": str, "prefix": str, "retention_days": int, "require_lock": bool, "endpoint_url": str, "region": str,
    },
    "rfc3161": {"url": str, "roots": str, "intermediates": str},
}  # fmt: skip
_ANCHOR_NEEDS = {"folder": ("path",), "s3": ("bucket",), "rfc3161": ("url", "roots")}
SIGNERS = ("local", "external")
SIGNER_WAIT_S = 90.0
WITNESSED = ("release_granted", "sign_off")


class WorkspaceError(ValueError):
    """The workspace cannot be opened or created; the message says what to do."""


@dataclass(frozen=True)
class AnchorConfig:
    """An `[[anchor]]` table: `kind` is folder, s3 or rfc3161, `options` its settings with paths made absolute."""

    kind: str
    name: str
    options: Mapping[str, str | int | bool]


@dataclass(frozen=True)
class SealConfig:
    """The `[seal]` table: PEM files of the key and certificate that seal final copies, and a time-stamping authority's URL."""

    key: Path
    certificate: Path
    chain: tuple[Path, ...] = ()
    tsa: str = ""


@dataclass(frozen=True)
class WorkspaceConfig:
    """A parsed configuration, all paths absolute. `evidence` may also be an fsspec URL such as `s3://bucket/prefix`;
    `evidence_keys` is where the erasable keys of encrypted evidence lie, if not beside it (needed where `evidence` keeps old
    versions or is under a retention lock).

    `ledger` is an SQLite file; with `ledger_url` (a libpq URL, or `env:NAME` of a variable that holds one) the ledger is in
    Postgres, and `ledger` only says where marks about it are kept. `archives` are folders of detached segments. `witnessed`
    are the kinds of record that fail unless the trust file's quorum of witnesses cosigned the checkpoint after them.

    `signer` is `local` (this process signs checkpoints with the log key in `keys`) or `external` (`cognify signer run` does,
    under another login: no log key is opened here, and an append that asks for a checkpoint waits `signer_wait` seconds
    for it). `anchors` are the places that remember heads. `frameworks` is the folder of the organisation's own framework files,
    None if it has none. `notify` are the `[[notify]]` tables as they stand in the file; see `cognify_dagster.workspace.notify`.
    `review` is the `[review]` table as it stands there; the review site reads it.
    """

    path: Path
    origin: str
    home: Path
    ledger: Path
    evidence: str
    trust: Path
    policy: Path
    workload: str
    ledger_url: str | None = None
    archives: tuple[Path, ...] = ()
    witnessed: tuple[str, ...] = WITNESSED
    signer: str = SIGNERS[0]
    signer_wait: float = SIGNER_WAIT_S
    anchors: tuple[AnchorConfig, ...] = ()
    evidence_keys: str | None = None
    notify: tuple[Mapping[str, Any], ...] = ()
    seal: SealConfig | None = None
    frameworks: Path | None = None
    review: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        """Folder of the machine's private keys."""
        return self.home / "keys"

    @property
    def people_keys(self) -> Path:
        """Folder for encrypted personal keys, where people share this machine (as in the demo)."""
        return self.home / "people"


def review_page(config: WorkspaceConfig, model: str, version: str = "") -> str:
    """Return the address of a model's or version's page on the review site; empty where `[review] url` names no site."""
    url = config.review.get("url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return ""
    return "/".join((url.rstrip("/"), "models", *(quote(part, safe="") for part in (model, version) if part)))


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
    strangers = sorted(set(data) - _TABLES)
    if strangers:
        hint = "; it belongs under [workspace]" if strangers[0] in _KEYS else ""
        known = ", ".join(sorted(_TABLES))
        raise WorkspaceError(f"{path}: unknown table or field {strangers[0]!r}{hint}; tables are: {known}")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise WorkspaceError(f"{path}: [workspace] has unknown field {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    base = path.parent
    home = base / _text(path, table, "home", ".cognify")
    evidence = _place(base, _text(path, table, "evidence", str(home / "evidence")))
    keys = _place(base, _text(path, table, "evidence_keys", "")) if "evidence_keys" in table else None
    ledger = _text(path, table, "ledger", str(home / "ledger.sqlite"))
    in_postgres = ledger.startswith(("env:", "postgresql://", "postgres://"))
    return WorkspaceConfig(
        path=path,
        origin=_text(path, table, "origin", None),
        home=home,
        ledger=home / "ledger.postgres" if in_postgres else base / ledger,
        evidence=evidence,
        trust=base / _text(path, table, "trust", "trust.txt"),
        policy=base / _text(path, table, "policy", "policy.yaml"),
        workload=_text(path, table, "workload", "workload/pipeline"),
        ledger_url=ledger if in_postgres else None,
        archives=tuple(base / name for name in _texts(path, table, "archives", ())),
        witnessed=_texts(path, table, "witnessed", WITNESSED),
        signer=_signer(path, table),
        signer_wait=_wait(path, table),
        anchors=_anchors(path, data.get("anchor", [])),
        evidence_keys=keys,
        notify=_tables(path, data.get("notify", [])),
        seal=_seal(path, data.get("seal")),
        frameworks=base / _text(path, table, "frameworks", None) if "frameworks" in table else None,
        review=_review(path, data.get("review", {})),
    )


def _place(base: Path, where: str) -> str:
    """An fsspec URL as it is, a path made absolute."""
    return where if "://" in where else str(base / where)


def _signer(path: Path, table: dict[str, Any]) -> str:
    value = _text(path, table, "signer", SIGNERS[0])
    if value not in SIGNERS:
        raise WorkspaceError(f"{path}: [workspace] signer must be one of {', '.join(SIGNERS)}")
    return value


def _wait(path: Path, table: dict[str, Any]) -> float:
    value = table.get("signer_wait", SIGNER_WAIT_S)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3600:
        raise WorkspaceError(f"{path}: [workspace] signer_wait must be a number of seconds, at most 3600")
    return float(value)


def _review(path: Path, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise WorkspaceError(f"{path}: [review] must be a table")
    return table


def _seal(path: Path, table: Any) -> SealConfig | None:
    if table is None:
        return None
    known = {"key", "certificate", "chain", "tsa"}
    if not isinstance(table, dict) or set(table) - known:
        raise WorkspaceError(f"{path}: the table [seal] has the fields {', '.join(sorted(known))}")
    for name in ("key", "certificate"):
        if not isinstance(table.get(name), str) or not table[name]:
            raise WorkspaceError(f"{path}: [seal] {name} must name a PEM file")
    chain, tsa = table.get("chain", []), table.get("tsa", "")
    if not isinstance(chain, list) or not all(isinstance(item, str) and item for item in chain):
        raise WorkspaceError(f"{path}: [seal] chain must be a list of PEM files")
    if not isinstance(tsa, str) or (tsa and not tsa.startswith(("https://", "http://"))):
        raise WorkspaceError(f"{path}: [seal] tsa must be the URL of a time-stamping authority")
    base = path.parent
    return SealConfig(base / table["key"], base / table["certificate"], tuple(base / item for item in chain), tsa)


def _tables(path: Path, tables: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(tables, list) or not all(isinstance(item, dict) for item in tables):
        raise WorkspaceError(f"{path}: who is told is written as tables [[notify]]")
    return tuple(tables)


def _anchors(path: Path, tables: Any) -> tuple[AnchorConfig, ...]:
    if not isinstance(tables, list) or not all(isinstance(item, dict) for item in tables):
        raise WorkspaceError(f"{path}: anchors are written as tables [[anchor]]")
    found = [_anchor(path, number, item) for number, item in enumerate(tables, 1)]
    names = [item.name for item in found]
    for name in names:
        if names.count(name) > 1:
            raise WorkspaceError(f"{path}: two [[anchor]] tables have the name {name!r}; give each its own")
    return tuple(found)


def _anchor(path: Path, number: int, table: dict[str, Any]) -> AnchorConfig:
    where = f"{path}: [[anchor]] number {number}"
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in _ANCHOR_KEYS:
        raise WorkspaceError(f"{where}: kind must be one of {', '.join(sorted(_ANCHOR_KEYS))}")
    name = table.get("name", f"{kind}-{number}")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise WorkspaceError(f"{where}: name must be up to 40 of a-z 0-9 _ -")
    options = {key: value for key, value in table.items() if key not in ("kind", "name")}
    known = _ANCHOR_KEYS[kind]
    for key, value in options.items():
        if key not in known:
            raise WorkspaceError(
                f"{where}: unknown field {key!r}; an anchor of kind {kind} has {', '.join(sorted(known))}"
            )
        if type(value) is not known[key]:
            raise WorkspaceError(f"{where}: {key} must be of type {known[key].__name__}")
    missing = [key for key in _ANCHOR_NEEDS[kind] if not options.get(key)]
    if missing:
        raise WorkspaceError(f"{where}: {missing[0]} is missing")
    for key in ("path", "roots", "intermediates"):
        if key in options:
            options[key] = str(path.parent / options[key])
    return AnchorConfig(kind, name, options)


def _texts(path: Path, table: dict[str, Any], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = table.get(key, list(default))
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise WorkspaceError(f"{path}: [workspace] {key} must be a list of texts")
    return tuple(value)


def _text(path: Path, table: dict[str, Any], key: str, default: str | None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise WorkspaceError(f"{path}: [workspace] {key} must be text")
    return value
