"""A sign-off statement in plain words, taken from the statement itself, and the file that carries one to another machine.

Invariants: what is shown before signing is parsed from the exact bytes that get signed, never from a summary beside them; a
statement says that a document was viewed only if this command opened those very bytes for the signer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cognify_dagster.cli.exits import BLOCKED, KEPT, UNREADABLE, Failure
from cognify_dagster.cli.inputs import program, read_text
from cognify_dagster.cli.output import clean, open_file, pairs, say

if TYPE_CHECKING:
    from cognify_dagster.governance import SignOffPredicate
    from cognify_dagster.governance.signing.statements import Viewed
    from cognify_dagster.records import EvidenceItem, Package
    from cognify_dagster.workspace import Workspace

FORMAT = "cognify-statement/v1"
WORDS = {
    "approve": "approve",
    "approve_with_conditions": "approve with conditions",
    "reject": "reject",
    "withdraw": "withdraw an earlier sign-off",
    "block": "block the release",
    "acknowledge": "acknowledge (no approval)",
}


@dataclass(frozen=True)
class Exported:
    """What the file of an exported statement holds. `findings` (severity → count) is the exporter's word, not signed."""

    statement: bytes
    findings: dict[str, int] | None


def describe(
    predicate: SignOffPredicate, statement: bytes, *, draft: bool = False, strength: str = ""
) -> list[tuple[str, str]]:
    """Return what a statement says as (name, value) rows. Of a draft, the date and with it the digest are still open.

    `strength` is that of the key, which the statement does not say.
    """
    from cognify_dagster.cli.sign_choice import condition_words

    viewed = predicate.viewed
    targets = ", ".join(predicate.target_environments) or "every target"
    rows = [
        ("Decision", WORDS[predicate.decision]),
        ("Meaning", f"“{predicate.meaning}”"),
        ("Model", f"{predicate.model}, version {predicate.version}, for {targets}"),
        ("Package", f"{predicate.package.digest} (ledger entry {predicate.package.entry_seq})"),
        ("Model file", predicate.model_digest),
        ("Refers to", f"{viewed.digest} ({viewed.media_type})" if viewed else "the package; no document was opened"),
        ("Stage, role", f"{predicate.stage}, as {predicate.role}"),
    ]
    behalf = predicate.on_behalf_of
    if behalf is not None:
        rows.append(
            ("On behalf of", f"{behalf.person}, by the delegation in ledger entry {behalf.delegation.entry_seq}")
        )
    if predicate.comments:
        rows.append(("Comments", predicate.comments))
    rows += [("Condition", condition_words(condition)) for condition in predicate.conditions]
    rows += [("Link", link) for link in predicate.links]
    if predicate.reference is not None:
        rows.append(("About", f"ledger entry {predicate.reference.entry_seq} ({predicate.reference.entry_leaf})"))
    rows += [
        ("Expires", predicate.expires or "as the policy says"),
        ("Signed by", f"{predicate.printed_name} ({predicate.person}), key {predicate.key_id}{_strength(strength)}"),
        ("Prepared at" if draft else "Dated", predicate.signed_at + (", dated when it is signed" if draft else "")),
        ("Ledger", f"{predicate.ledger}, {predicate.checkpoint.size} entries, root {predicate.checkpoint.root}"),
        ("Policy", predicate.policy_digest),
    ]
    return rows if draft else [*rows, ("Statement", f"sha256 {hashlib.sha256(statement).hexdigest()}")]


def _strength(strength: str) -> str:
    words = {"S2": "single sign-on", "S3": "personal key", "S4": "passkey"}
    return f", strength {strength} ({words[strength]})" if strength else ""


def show(
    predicate: SignOffPredicate,
    statement: bytes,
    *,
    title: str = "This statement will be signed:",
    draft: bool = False,
    strength: str = "",
) -> None:
    """Print a statement in plain words."""
    say(title)
    pairs(describe(predicate, statement, draft=draft, strength=strength))


def document_of(package: Package) -> EvidenceItem:
    """Return what people read before they sign: the review copy, or the package itself where there is none."""
    return package.review_copy or package.package


def document_name(model: str, version: str, media_type: str) -> str:
    """Return the file name under which that document is written and looked for."""
    return f"{model}-{version}-" + ("review.pdf" if media_type == "application/pdf" else "package.json")


def show_package(workspace: Workspace, package: Package, path: Path) -> None:
    """Print what there is to read before signing, and how many findings it names."""
    item = document_of(package)
    name = document_name(package.model, package.version, item.media_type)
    rows: list[tuple[str, object]] = [
        ("Findings", findings_text(workspace, package.package.digest)),
        ("Document", f"{item.digest} ({item.size} bytes)"),
    ]
    get = f"{program(workspace)} evidence get {item.digest} -o"
    if not path.is_file():
        rows.append(("To read it", f"{get} {name}"))
    elif sha256_of(path) == item.digest:
        rows.append(("To read it", path.resolve()))
    else:
        rows.append(("To read it", f"{get} new-{name}   ({path} is another document)"))
    say("Before you sign:")
    pairs(rows)


def fetch(workspace: Workspace, package: Package, path: Path) -> None:
    """Write the document that belongs to a package to a new file."""
    workspace.evidence.copy_to(document_of(package).digest, path)
    KEPT.append(str(path))


def check_document(path: Path, digest: str) -> None:
    """See that a file is the document that a statement is about.

    Raises:
        Failure: if it is another one.
    """
    found = sha256_of(path)
    if found != digest:
        raise Failure(f"{path}: not the document that the statement is about: {found}, not {digest}", BLOCKED)


def sha256_of(path: Path) -> str:
    """Return the digest of a file."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return "sha256:" + found.hexdigest()


def opened(path: Path, document: Viewed) -> Viewed | None:
    """Open a checked document for the signer; return what the statement may say was viewed, None without a desktop."""
    if open_file(str(path)):
        return document
    say(
        f"There is no desktop here to open {clean(path.resolve())}; the statement will not say that you viewed it.",
        err=True,
    )
    return None


def dated(predicate: SignOffPredicate, viewed: Viewed | None, now: datetime) -> bytes:
    """Return the statement with the date of signing and with what was viewed.

    Raises:
        Failure: if it was prepared too long ago, or after what this machine's clock says.
    """
    from cognify_dagster.governance import sign_off_statement
    from cognify_dagster.governance.signing.signoff import MAX_STATEMENT_AGE
    from cognify_dagster.records import parse_utc, utc

    age = now - parse_utc(predicate.signed_at)
    if age > MAX_STATEMENT_AGE:
        days = MAX_STATEMENT_AGE.days
        raise Failure(
            f"the statement was prepared at {predicate.signed_at}, over {days} days ago; export it again", BLOCKED
        )
    if age < -timedelta(minutes=5):
        raise Failure(
            f"the statement was prepared at {predicate.signed_at}; this machine's clock says {utc(now)}", BLOCKED
        )
    return sign_off_statement(predicate.model_copy(update={"signed_at": utc(now), "viewed": viewed}))


def findings_of(workspace: Workspace, digest: str) -> dict[str, int] | None:
    """Count the findings of a package by severity; None where they cannot be read."""
    from cognify_dagster.evidence import EvidenceError

    try:
        value = json.loads(workspace.evidence.get(digest))
        return dict(Counter(str(item["severity"]) for item in value["findings"]))
    except (EvidenceError, ValueError, KeyError, TypeError):
        return None


def findings_text(workspace: Workspace, digest: str) -> str:
    """Count the findings of a package by severity, in words; says so where they cannot be read."""
    return count_text(findings_of(workspace, digest))


def count_text(counts: dict[str, int] | None) -> str:
    """Return counts by severity in words."""
    if counts is None:
        return "not readable from the package"
    if not counts:
        return "none"
    return f"{sum(counts.values())} in the package ({', '.join(f'{count} {name}' for name, count in counts.items())})"


def statement_file(
    ledger: str, statement: bytes, predicate: SignOffPredicate, findings: dict[str, int] | None
) -> bytes:
    """Return the file that carries an unsigned statement. Summary and findings are for people; only the statement counts."""
    value = {
        "format": FORMAT,
        "ledger": ledger,
        "statement": base64.b64encode(statement).decode(),
        "prepared_at": predicate.signed_at,
        "findings": findings,
        "summary": dict(describe(predicate, statement, draft=True)),
        "how_to_sign": "cognify sign --statement THIS_FILE --key YOUR.key.json --out ENVELOPE.json",
    }
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def read_statement_file(path: Path) -> Exported:
    """Return the statement bytes of such a file and the findings it reports; everything else in it is ignored.

    Raises:
        Failure: if it is not such a file.
    """
    try:
        value = json.loads(read_text(path))
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f"{FORMAT} expected")
        statement = base64.b64decode(value["statement"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise Failure(f"{path}: not an exported statement: {clean(error)}", UNREADABLE) from error
    counts = value.get("findings")
    known = isinstance(counts, dict) and all(
        isinstance(name, str) and re.fullmatch("[a-z_]{1,20}", name) and type(count) is int and 0 < count < 10_000
        for name, count in counts.items()
    )
    return Exported(statement, counts if known else None)


def now() -> datetime:
    """Return the time to the second, UTC."""
    return datetime.now(timezone.utc).replace(microsecond=0)
