"""Checking a C2SP tlog-proof offline (docs/ledger-format.md §7): one entry, one signed head, nothing else.

Invariant: "holds" is said only if a key of the trust file signed the head and the path leads from the given entry to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import MAX_INPUT, read_text
from cognify_dagster.cli.output import moment

if TYPE_CHECKING:
    from cognify_dagster.ledger import Checkpoint, Entry, Outcome, ProofFile, TrustFile


@dataclass(frozen=True)
class Checked:
    """What a proof file shows. `entry` is None if only a leaf hash was given; `head` if no head could be trusted."""

    outcome: Outcome
    message: str
    index: int
    leaf: bytes
    entry: Entry | None
    head: Checkpoint | None

    def rows(self) -> list[tuple[str, object]]:
        """Return the result as (name, value) rows."""
        rows: list[tuple[str, object]] = [("Result", self.message), ("Leaf", self.leaf.hex())]
        if self.entry is not None:
            about = ", ".join(self.entry.subjects)
            rows.append(("Entry", f"{self.index}: {self.entry.kind} about {about}, by {self.entry.actor}"))
            rows.append(("Recorded", moment(self.entry.time_us)))
        if self.head is not None:
            rows.append(("Head", f"{self.head.origin}, {self.head.size} entries, root {self.head.root.hex()}"))
        return rows

    def as_json(self, file: Path) -> dict[str, Any]:
        """Return the result as JSON values."""
        entry, head = self.entry, self.head
        return {
            "file": str(file),
            "outcome": self.outcome.name.lower(),
            "exit_code": int(self.outcome),
            "message": self.message,
            "entry": self.index,
            "leaf": self.leaf.hex(),
            "kind": entry.kind if entry else None,
            "subjects": list(entry.subjects) if entry else None,
            "actor": entry.actor if entry else None,
            "time": moment(entry.time_us) if entry else None,
            "checkpoint": {"origin": head.origin, "size": head.size, "root": head.root.hex()} if head else None,
        }


def check_proof(file: Path, trust: TrustFile, entry_file: Path | None, leaf: str | None) -> Checked:
    """Check a proof file under a trust file.

    Args:
        file: the proof.
        trust: keys and first entry from outside.
        entry_file: the entry's bytes; looked for in the bundle around the proof if neither it nor `leaf` is given.
        leaf: the entry's leaf hash in hex.

    Raises:
        Failure: if a file is no proof or no entry.
        click.UsageError: if it is not said which entry the proof is for.
    """
    from cognify_dagster.ledger import NoteError, Outcome, ProofError, ProofFile, open_checkpoint, parse_note

    try:
        proof = ProofFile.parse(read_text(file))
        note = parse_note(proof.checkpoint_note)
    except NoteError as error:
        raise Failure(f"{file}: {error}", UNREADABLE) from error
    entry, digest = _entry(file, proof, entry_file, leaf)

    def result(outcome: Outcome, message: str, head: Checkpoint | None = None) -> Checked:
        return Checked(outcome, message, proof.index, digest, entry, head)

    known = {(key.name, key.key_id) for key in trust.logs}
    if not any((line.name, line.key_id) in known for line in note.signatures):
        named, signed = ", ".join(key.name for key in trust.logs), ", ".join(line.name for line in note.signatures)
        return result(Outcome.UNPROVEN, f"the trust file is for the ledger {named}; this head was signed as {signed}")
    try:
        head = open_checkpoint(proof.checkpoint_note, trust.logs)
        proof.verify(digest, trust.logs)
    except (NoteError, ProofError) as error:
        return result(Outcome.TAMPERED, f"{error}: the entry, the proof or the head was changed")
    if entry is not None and (entry.seq, entry.ledger) != (proof.index, head.origin):
        return result(Outcome.TAMPERED, f"the entry says it is number {entry.seq} of the ledger {entry.ledger}", head)
    if proof.index == 0 and trust.genesis is not None and trust.genesis != digest:
        return result(Outcome.ROLLED_BACK, "the first entry is not the one the trust file pins", head)
    return result(
        Outcome.HOLDS, f"entry {proof.index} is in the ledger of {head.size} entries that {head.origin} signed", head
    )


def _entry(file: Path, proof: ProofFile, entry_file: Path | None, leaf: str | None) -> tuple[Entry | None, bytes]:
    from cognify_dagster.ledger import Entry, EntryError

    if entry_file is not None and leaf is not None:
        raise click.UsageError("use either --entry or --leaf")
    if leaf is not None:
        if not re.fullmatch("[0-9a-f]{64}", leaf):
            raise click.UsageError("--leaf: 64 hex digits are expected")
        return None, bytes.fromhex(leaf)
    beside = file.resolve().parent.parent / "entries" / f"{proof.index:08d}.json"
    path = entry_file or (beside if beside.is_file() else None)
    if path is None:
        raise click.UsageError(
            f"{file} proves entry {proof.index} but does not hold it: give its bytes with --entry, or its leaf hash with --leaf"
        )
    with path.open("rb") as stream:
        data = stream.read(MAX_INPUT)
    try:
        entry = Entry.parse(data)
    except EntryError as error:
        raise Failure(f"{path}: {error}", UNREADABLE) from error
    return entry, entry.leaf
