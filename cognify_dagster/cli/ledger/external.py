"""What others remember of a ledger: anchors of `cognify.toml` and witnesses of the trust file, asked over the network, and the
metadata of Dagster's runs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cognify_dagster.ledger import TrustFile
    from cognify_dagster.workspace import WorkspaceConfig
    from cognify_dagster.workspace.anchoring import External

TIMEOUT_S = 5.0
DAGSTER = "dagster"


def ask_witnesses(trust: TrustFile, origin: str) -> list[External]:
    """Fetch the newest head that each witness of the trust file cosigned, and verify it."""
    from cognify_dagster.ledger import LedgerError
    from cognify_dagster.ledger.witness import fetch_head, remotes
    from cognify_dagster.workspace.anchoring import External

    found = []
    for remote in remotes(trust):
        said = External(remote.name, "witness")
        try:
            head = fetch_head(remote, origin, trust.logs, TIMEOUT_S)
            if head is None:
                said.remarks.append(f"witness {remote.name}: it cosigned nothing of this ledger yet")
            else:
                said.heads.append((f"witness {remote.name}", head[1]))
        except LedgerError as error:
            said.failures.append(f"witness {remote.name}: {str(error).removeprefix(f'witness {remote.name} ')}")
        found.append(said)
    return found


def ask_all(config: WorkspaceConfig | None, trust: TrustFile, origin: str) -> list[External]:
    """Ask witnesses, anchors and Dagster. Cosignatures of one head that come from several witnesses are joined."""
    from cognify_dagster.workspace.anchoring import remembered

    found = ask_witnesses(trust, origin)
    if config is not None:
        found += [remembered(config, anchor, trust) for anchor in config.anchors]
        found += ask_dagster(config, trust, origin)
    return found


def ask_dagster(config: WorkspaceConfig, trust: TrustFile, origin: str) -> list[External]:
    """Ask the metadata of Dagster's runs, where Dagster and its instance are here: `$DAGSTER_HOME`, else beside the ledger."""
    variable = os.environ.get("DAGSTER_HOME")
    home = Path(variable).expanduser() if variable else config.home / "dagster_home"
    if not home.is_dir() or importlib.util.find_spec("dagster") is None:
        return []
    from cognify_dagster.orchestration.heads import ask_runs

    return [ask_runs(home, trust, origin)]


def joined(notes: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put the signature lines of notes with the same text together: the quorum counts them all."""
    texts: dict[str, tuple[str, dict[str, None]]] = {}
    for label, note in notes:
        text, _, lines = note.rpartition("\n\n")
        first, known = texts.setdefault(text, (label, {}))
        known.update(dict.fromkeys(line for line in lines.split("\n") if line))
        texts[text] = (first if label in first else f"{first}, {label}", known)
    return [(label, f"{text}\n\n" + "".join(f"{line}\n" for line in lines)) for text, (label, lines) in texts.items()]


def newest_heads(found: Iterable[External]) -> list[tuple[str, str]]:
    """Return the largest head of each place, labelled with its name alone, for comparing a restored ledger."""
    from cognify_dagster.ledger import Checkpoint, parse_note

    result = []
    for said in found:
        if said.heads:
            _, note = max(said.heads, key=lambda item: Checkpoint.parse(parse_note(item[1]).text).size)
            place = {"witness": "witness ", DAGSTER: ""}.get(said.kind, "anchor ")
            result.append((f"{place}{said.name}", note))
    return result
