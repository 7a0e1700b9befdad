"""The anchors that `cognify.toml` names, and the receipts kept for what was put there.

Invariants: a receipt lies beside the note that it is for and is checked against it, never believed; a head that no key of the
trust file signed is not compared with; only an anchor that states a time which its user cannot choose (an RFC 3161
authority, a bucket with object lock, a folder declared write-once) vouches for time, all others only remember heads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cognify_dagster.ledger import (
    Checkpoint,
    LedgerError,
    NoteError,
    TrustFile,
    open_checkpoint,
    parse_note,
    write_private,
)
from cognify_dagster.ledger.anchors import (
    Anchor,
    AnchorConflict,
    AnchorError,
    AnchorReceipt,
    FolderAnchor,
    Rfc3161Anchor,
    S3Anchor,
    load_roots,
)
from cognify_dagster.ledger.verification.verify import Anchored
from cognify_dagster.workspace.config import AnchorConfig, WorkspaceConfig

RECEIPTS = "anchors"
_CHECKED = 16


@dataclass
class External:
    """What one place outside the ledger said. `heads` are notes it remembers, as (label, note); `anchored` those whose time it
    vouches for; `conflicts` are evidence of a rewrite; `failures` say why it could not be compared; `remarks` the rest."""

    name: str
    kind: str
    heads: list[tuple[str, str]] = field(default_factory=list)
    anchored: list[Anchored] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Size of the largest head it has."""
        return max((Checkpoint.parse(parse_note(note).text).size for _, note in self.heads), default=0)


def open_anchor(config: AnchorConfig) -> Anchor:
    """Open a configured anchor.

    Raises:
        AnchorError: if its library or certificates are missing, or it cannot be reached.
    """
    options = dict(config.options)
    if config.kind == "folder":
        return FolderAnchor(str(options["path"]))
    if config.kind == "s3":
        return S3Anchor(
            str(options["bucket"]),
            str(options.get("prefix", "")),
            retention_days=int(options.get("retention_days", 3653)),
            require_lock=bool(options.get("require_lock", True)),
            endpoint_url=str(options["endpoint_url"]) if "endpoint_url" in options else None,
            region=str(options["region"]) if "region" in options else None,
        )
    between = load_roots(_pem(options["intermediates"])) if "intermediates" in options else ()
    return Rfc3161Anchor(str(options["url"]), load_roots(_pem(options["roots"])), intermediates=between)


def _pem(path: object) -> bytes:
    try:
        return Path(str(path)).read_bytes()
    except OSError as error:
        raise AnchorError(f"{path}: the certificates cannot be read: {error.strerror}") from error


def put(config: WorkspaceConfig, anchor: AnchorConfig, note: str) -> AnchorReceipt:
    """Anchor a signed head and keep the receipt; doing it again for the same head is no error.

    Raises:
        AnchorConflict: if the anchor holds another head of this size.
        AnchorError: if it failed.
    """
    head = Checkpoint.parse(parse_note(note).text)
    target = _folder(config, anchor) / f"{head.size:016d}-{head.root.hex()[:16]}.json"
    place = open_anchor(anchor)
    if (
        target.exists() and place.kind == "rfc3161"
    ):  # one token is enough; the others are asked whether they still have it
        receipt, kept = _read(target)
        place.check(receipt, kept)
        return receipt
    receipt = place.put(head, note)
    write_private(target, json.dumps({"note": note, "receipt": json.loads(receipt.to_json())}, indent=1).encode())
    return receipt


def receipts(config: WorkspaceConfig, anchor: AnchorConfig) -> Iterator[tuple[AnchorReceipt, str]]:
    """Yield the newest receipts kept for an anchor, with their notes, unchecked.

    Raises:
        AnchorError: if one is damaged.
    """
    folder = _folder(config, anchor)
    for path in sorted(folder.glob("*.json"), reverse=True)[:_CHECKED] if folder.is_dir() else ():
        yield _read(path)


def _folder(config: WorkspaceConfig, anchor: AnchorConfig) -> Path:
    return config.home / RECEIPTS / anchor.name


def _read(path: Path) -> tuple[AnchorReceipt, str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return AnchorReceipt.from_json(json.dumps(value["receipt"])), str(value["note"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnchorError(f"{path}: the kept receipt cannot be read: {error}") from error


def remembered(config: WorkspaceConfig, anchor: AnchorConfig, trust: TrustFile) -> External:
    """Ask an anchor what it knows of this ledger, and check the receipts kept for it. Never raises for what it finds."""
    found = External(anchor.name, anchor.kind)
    try:
        place = open_anchor(anchor)
        states_time = place.kind in ("rfc3161", "s3-object-lock") or anchor.options.get("write_once") is True
        for head in place.heads(config.origin):
            label = f"anchor {anchor.name}, size {head.checkpoint.size}"
            if head.hidden:
                found.remarks.append(f"{label}: lies hidden under a newer version or delete marker ({head.location})")
            _add(
                found,
                trust,
                config.origin,
                label,
                head.note,
                f"{head.time:%Y-%m-%dT%H:%M:%SZ}" if states_time else None,
            )
        known = {note for _, note in found.heads}
        for receipt, note in receipts(config, anchor):
            label = f"anchor {anchor.name}, receipt for size {receipt.size}"
            try:
                when = place.check(receipt, note)
            except AnchorConflict as error:
                found.conflicts.append(f"{label}: {error}")
            except (AnchorError, NoteError) as error:
                found.failures.append(f"{label}: {error}")
            else:
                if note not in known:
                    time = f"{when.time:%Y-%m-%dT%H:%M:%SZ}" if states_time else None
                    _add(found, trust, config.origin, label, note, time)
    except AnchorConflict as error:
        found.conflicts.append(f"anchor {anchor.name}: {error}")
    except LedgerError as error:
        found.failures.append(f"anchor {anchor.name}: {error}")
    if not (found.heads or found.conflicts or found.failures):
        found.remarks.append(f"anchor {anchor.name}: nothing was anchored yet; run `cognify ledger anchor`")
    return found


def _add(found: External, trust: TrustFile, origin: str, label: str, note: str, time: str | None) -> None:
    try:
        head = open_checkpoint(note, trust.logs)
        if head.origin != origin:
            raise NoteError(f"it is about {head.origin!r}")
    except NoteError as error:
        found.remarks.append(f"{label}: {error}; it was not compared with")
        return
    found.heads.append((label, note))
    if time is not None:
        found.anchored.append(Anchored(label, head, time))
