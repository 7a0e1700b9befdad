"""Making a new workspace: keys and an empty ledger in a folder of its own, moved into place once the genesis entry stands in it.

Invariants: `cognify.toml` is written last, so a process killed before that leaves no workspace; nothing of another one is overwritten.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from cognify_dagster.ledger import Ledger, LogSigner, SqliteStore, new_secret, read_secret
from cognify_dagster.workspace.config import CONFIG_NAME, WorkspaceConfig, WorkspaceError, load_config
from cognify_dagster.workspace.stores import open_rows
from cognify_dagster.workspace.workspace import (
    EVIDENCE_KEY,
    LOG_KEY,
    RECORD_KEY,
    SIGNER_STATE,
    WORKLOAD_KEY,
    Workspace,
    Writer,
    open_evidence,
)

TRUST_NAME = "trust.txt"
_UNPUBLISHED = "unpublished"


def prepare(
    folder: Path, origin: str, *, workload: str = "workload/pipeline", ledger_url: str | None = None
) -> WorkspaceConfig:
    """Create keys and an empty ledger for a new workspace in a folder of its own that nothing reads yet.

    With `ledger_url` (`env:NAME`, or a URL without password) the ledger is the empty one that `cognify ledger init` made in
    Postgres. The caller appends the genesis entry to it and calls `publish`. A process killed before that leaves only the partial
    folder, which the next call replaces.

    Raises:
        WorkspaceError: if the folder already has a workspace, or the trust file of one.
    """
    folder = folder.resolve()
    if (folder / CONFIG_NAME).exists():
        raise WorkspaceError(f"{folder / CONFIG_NAME}: there is already a workspace here")
    _clear_unpublished(folder)
    if (folder / ".cognify").exists():
        raise WorkspaceError(
            f"{folder / '.cognify'} exists without {CONFIG_NAME}: restore the file, or move the folder away to start over"
        )
    if (folder / TRUST_NAME).exists():
        raise WorkspaceError(f"{folder / TRUST_NAME}: the trust file of another workspace; move it away to start over")
    home = folder / ".cognify.partial"
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True, mode=0o700)
    (home / ".gitignore").write_text("*\n", encoding="utf-8")
    for name in (LOG_KEY, WORKLOAD_KEY, EVIDENCE_KEY, RECORD_KEY):
        new_secret(home / "keys" / name)
    if ledger_url is None:
        SqliteStore.create(home / "ledger.sqlite", origin)
    (home / CONFIG_NAME).write_text(_config_text(origin, home.name, workload, ledger_url), encoding="utf-8")
    config = load_config(home / CONFIG_NAME)
    ledger = home / config.ledger.name
    config = replace(config, home=home, ledger=ledger, evidence=str(home / "evidence"))
    if ledger_url is not None and (size := open_rows(config).size()):
        shutil.rmtree(home)
        raise WorkspaceError(
            f"the ledger {origin!r} in Postgres has {size} entries already. A ceremony that was cut off cannot be taken up again "
            "there: make another schema with `cognify ledger init`, and found with that one"
        )
    return config


def open_prepared(config: WorkspaceConfig) -> Workspace:
    """Open a workspace that `prepare` made and `publish` has not yet moved into place."""
    signer = LogSigner(config.keys / LOG_KEY, config.home / SIGNER_STATE, config.origin)
    writer = Writer(config.workload, read_secret(config.keys / WORKLOAD_KEY))
    return Workspace(config, Ledger(open_rows(config), signer=signer), open_evidence(config), writer)


def publish(config: WorkspaceConfig, files: dict[str, str]) -> Path:
    """Move a prepared workspace into place and write `cognify.toml` last.

    Args:
        config: what `prepare` returned.
        files: further files of the project folder (trust file, policy), never overwriting one that exists.

    Returns:
        The path of `cognify.toml`.
    """
    folder = config.home.parent
    ours = [name for name in files if not (folder / name).exists()]
    (config.home / _UNPUBLISHED).write_text("\n".join(ours), encoding="utf-8")
    (config.home / CONFIG_NAME).unlink()
    config.home.rename(folder / ".cognify")
    for name in ours:
        (folder / name).write_text(files[name], encoding="utf-8")
    path = folder / CONFIG_NAME
    temporary = path.with_suffix(".new")
    text = _config_text(config.origin, ".cognify", config.workload, config.ledger_url)
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    (folder / ".cognify" / _UNPUBLISHED).unlink()
    return path


def _clear_unpublished(folder: Path) -> None:
    """Remove what a ceremony left behind that was killed before `cognify.toml` was written: nothing but genesis is in it."""
    marker = folder / ".cognify" / _UNPUBLISHED
    ledger = folder / ".cognify" / "ledger.sqlite"
    # without the file the ledger is in Postgres, where `prepare` looks at its size
    if marker.is_file() and (not ledger.exists() or SqliteStore(ledger).size() <= 1):
        for name in marker.read_text(encoding="utf-8").splitlines():
            (folder / Path(name).name).unlink(missing_ok=True)
        shutil.rmtree(folder / ".cognify")


def _config_text(origin: str, home: str, workload: str, ledger_url: str | None) -> str:
    return (
        "# Where this project keeps its ledger and evidence. Paths are relative to this file.\n"
        "[workspace]\n"
        f'origin = "{origin}"\n'
        f'home = "{home}"\n' + (f'ledger = "{ledger_url}"\n' if ledger_url else "") + 'trust = "trust.txt"\n'
        'policy = "policy.yaml"\n'
        f'workload = "{workload}"\n'
    )
