"""A sign-off statement in plain words, taken from the statement itself, and the file that carries one to another machine.

Invariant: what is shown before signing is parsed from the exact bytes that get signed, never from a summary beside them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.inputs import program, read_text
from cognify_dagster.cli.output import clean, pairs, say

if TYPE_CHECKING:
    from cognify_dagster.governance import SignOffPredicate
    from cognify_dagster.records import Package
    from cognify_dagster.workspace import Recorded, Workspace

FORMAT = "cognify-statement/v1"
WORDS = {
    "approve": "approve",
    "approve_with_conditions": "approve with conditions",
    "reject": "reject",
    "withdraw": "withdraw an earlier sign-off",
    "block": "block the release",
    "acknowledge": "acknowledge (no approval)",
}


def describe(predicate: SignOffPredicate, statement: bytes) -> list[tuple[str, str]]:
    """Return what a statement says as (name, value) rows."""
    targets = ", ".join(predicate.target_environments) or "every target"
    rows = [
        ("Decision", WORDS[predicate.decision]),
        ("Meaning", f"“{predicate.meaning}”"),
        ("Model", f"{predicate.model}, version {predicate.version}, for {targets}"),
        ("Package", f"{predicate.package.digest} (ledger entry {predicate.package.entry_seq})"),
        ("Model file", predicate.model_digest),
        ("Viewed", f"{predicate.viewed.digest} ({predicate.viewed.media_type})"),
        ("Stage, role", f"{predicate.stage}, as {predicate.role}"),
    ]
    if predicate.comments:
        rows.append(("Comments", predicate.comments))
    for condition in predicate.conditions:
        rows.append(("Condition", f"{condition.text} (due {condition.due or 'undated'})"))
    rows += [("Link", link) for link in predicate.links]
    if predicate.reference is not None:
        rows.append(("About", f"ledger entry {predicate.reference.entry_seq} ({predicate.reference.entry_leaf})"))
    rows += [
        ("Expires", predicate.expires or "as the policy says"),
        ("Signed by", f"{predicate.printed_name} ({predicate.person}), key {predicate.key_id}"),
        ("Dated", predicate.signed_at),
        ("Ledger", f"{predicate.ledger}, {predicate.checkpoint.size} entries, root {predicate.checkpoint.root}"),
        ("Policy", predicate.policy_digest),
        ("Statement", f"sha256 {hashlib.sha256(statement).hexdigest()}"),
    ]
    return rows


def show(predicate: SignOffPredicate, statement: bytes, *, title: str = "This statement will be signed:") -> None:
    """Print a statement in plain words."""
    say(title)
    pairs(describe(predicate, statement))


def show_package(workspace: Workspace, package: Recorded[Package]) -> None:
    """Print how to read what is about to be signed, and how many findings it names."""
    call = program(workspace)
    record = package.record
    name = f"{record.model}-{record.version}"
    rows: list[tuple[str, object]] = [("Findings", findings_text(workspace, record.package.digest))]
    copy = record.review_copy
    if copy is not None:
        rows.append(("To read it", f"{call} evidence get {copy.digest} -o {name}-review.pdf"))
    else:
        rows.append(("To read it", f"{call} evidence get {record.package.digest} -o {name}-package.json"))
    say("Before you sign:")
    pairs(rows)


def findings_text(workspace: Workspace, digest: str) -> str:
    """Count the findings of a package by severity; says so where they cannot be read."""
    from cognify_dagster.evidence import EvidenceError

    try:
        value = json.loads(workspace.evidence.get(digest))
        found = value["findings"]
        counts = Counter(str(item["severity"]) for item in found)
    except (EvidenceError, ValueError, KeyError, TypeError):
        return "not readable from the package"
    if not found:
        return "none"
    return f"{len(found)} in the package ({', '.join(f'{count} {name}' for name, count in counts.items())})"


def statement_file(ledger: str, statement: bytes, predicate: SignOffPredicate) -> bytes:
    """Return the file that carries an unsigned statement. Its summary is for people; only the statement counts."""
    value = {
        "format": FORMAT,
        "ledger": ledger,
        "statement": base64.b64encode(statement).decode(),
        "statement_sha256": hashlib.sha256(statement).hexdigest(),
        "summary": dict(describe(predicate, statement)),
        "how_to_sign": "cognify sign --statement THIS_FILE --key YOUR.key.json --out ENVELOPE.json",
    }
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def read_statement_file(path: Path) -> bytes:
    """Return the statement bytes of such a file; everything else in it is ignored.

    Raises:
        click.UsageError: if it is not such a file.
    """
    try:
        value = json.loads(read_text(path))
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f"{FORMAT} expected")
        return base64.b64decode(value["statement"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise click.UsageError(f"{path}: not an exported statement: {clean(error)}") from error
