"""How a statement is shown: in words, as JSON, by its digest and by a short code that can be read aloud.

Invariant: every line is taken from the exact bytes that get signed, never from a summary beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cognify_dagster.governance import Condition, Directory, SignOffPredicate, read_sign_off
from cognify_dagster.governance.signing.statements import SIGN_OFF

DECISIONS = {
    "approve": "Approve",
    "approve_with_conditions": "Approve with conditions",
    "reject": "Reject",
    "block": "Block the release",
    "acknowledge": "Acknowledge (no approval)",
    "withdraw": "Withdraw an earlier sign-off",
}
STRENGTHS = {"S2": "single sign-on", "S3": "personal key", "S4": "passkey"}
KINDS = {
    "text": "condition",
    "monitoring": "monitoring",
    "remediation": "remediation",
    "use_cap": "use cap",
    "population": "population",
    "expiry": "end of the approval",
}
_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aiou"


@dataclass(frozen=True)
class Shown:
    """A statement as a page shows it: rows in words, the JSON that is signed, its digest and word code."""

    rows: tuple[tuple[str, str], ...]
    text: str
    digest: str
    words: str


def shown(statement: bytes, people: Directory, *, strength: str = "", to_signer: bool = True) -> Shown:
    """Return how statement bytes are shown.

    Args:
        statement: the exact bytes.
        people: for the names.
        strength: of the key that signs, which the statement does not say.
        to_signer: whether who reads it is who signs it.
    """
    value = json.loads(statement)
    if value.get("predicateType") == SIGN_OFF:
        rows = sign_off_rows(read_sign_off(statement), people, strength=strength, to_signer=to_signer)
    else:
        rows = act_rows(value, people, strength=strength)
    digest = hashlib.sha256(statement).hexdigest()
    return Shown(tuple(rows), json.dumps(value, indent=2, ensure_ascii=False), digest, word_code(digest))


def word_code(digest: str) -> str:
    """Return the first 64 bits of a digest as four pronounceable words (proquints, arXiv:0901.4016)."""
    data = bytes.fromhex(digest.removeprefix("sha256:")[:16])
    return "-".join(_word(int.from_bytes(data[start : start + 2], "big")) for start in range(0, 8, 2))


def _word(number: int) -> str:
    c, v = _CONSONANTS, _VOWELS
    return c[number >> 12] + v[number >> 10 & 3] + c[number >> 6 & 15] + v[number >> 4 & 3] + c[number & 15]


def sign_off_rows(
    predicate: SignOffPredicate, people: Directory, *, strength: str = "", to_signer: bool = True
) -> list[tuple[str, str]]:
    """Return what a sign-off statement says, one (name, value) a line."""
    reader, nothing = ("you", "you opened no document here") if to_signer else ("the signer", "no document was opened")
    targets, viewed = ", ".join(predicate.target_environments) or "every target", predicate.viewed
    rows = [
        ("Decision", DECISIONS[predicate.decision]),
        ("Meaning", f"“{predicate.meaning}”"),
        ("Model", f"{predicate.model}, version {predicate.version}, for {targets}"),
        ("Package", f"{predicate.package.digest} (entry {predicate.package.entry_seq})"),
        ("Model file", predicate.model_digest),
        (f"Displayed to {reader}", f"{viewed.digest} ({viewed.media_type})" if viewed else f"nothing: {nothing}"),
        ("Stage and role", f"{predicate.stage}, as {predicate.role.replace('_', ' ')}"),
    ]
    behalf = predicate.on_behalf_of
    if behalf is not None:
        by = f"by the delegation in entry {behalf.delegation.entry_seq}; it uses up {'your signature and theirs' if to_signer else 'the signatures of both'}"
        rows.append(("On behalf of", f"{people.name(behalf.person)} ({behalf.person}), {by}"))
    if predicate.comments:
        rows.append(("Comments", predicate.comments))
    rows += [("Condition", condition_words(item)) for item in predicate.conditions]
    rows += [("Link", link) for link in predicate.links]
    if predicate.reference is not None:
        rows.append(("About", f"entry {predicate.reference.entry_seq} ({predicate.reference.entry_leaf})"))
    rows += [
        ("Ends", predicate.expires or "as the policy says"),
        ("Signed by", f"{predicate.printed_name} ({predicate.person}), key {predicate.key_id}{_strength(strength)}"),
        ("Dated", predicate.signed_at),
        ("Ledger", f"{predicate.ledger}, {predicate.checkpoint.size} entries, root {predicate.checkpoint.root}"),
        ("Policy", predicate.policy_digest),
    ]
    return rows


def act_rows(value: dict[str, Any], people: Directory, *, strength: str = "") -> list[tuple[str, str]]:
    """Return what the statement of an act says. Its facts are shown beside it; the statement holds their digest."""
    said, head = value["predicate"], value["predicate"]["checkpoint"]
    rows = [
        ("Act", str(said["kind"]).replace("_", " ")),
        ("Meaning", f"“{said['meaning']}”"),
        ("Facts", f"sha256:{value['subject'][0]['digest']['sha256']}"),
    ]
    if said["role"]:
        rows.append(("Role", str(said["role"]).replace("_", " ")))
    return [
        *rows,
        ("Signed by", f"{people.name(said['person'])} ({said['person']}), key {said['key_id']}{_strength(strength)}"),
        ("Dated", str(said["signed_at"])),
        ("Ledger", f"{said['ledger']}, {head['size']} entries, root {head['root']}"),
    ]


def fact_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return every fact of an act, one line a value, so that nothing that is signed is left out."""
    return [(name.replace("_", " "), value) for part in sorted(facts) for name, value in _flat(part, facts[part])]


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key in sorted(value) for row in _flat(f"{name}.{key}", value[key])] or [(name, "none")]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [row for number, item in enumerate(value) for row in _flat(f"{name}[{number}]", item)]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [(name, "none" if value is None or value == "" else str(value))]


def condition_words(condition: Condition) -> str:
    """Return a condition in one line: its kind and what a program checks first, then its text and when it is due."""
    limit = ", ".join(f"{name}={value}" for name, value in condition.limit.items())
    head = (
        f"[{', '.join(part for part in (KINDS[condition.kind], limit) if part)}] " if condition.kind != "text" else ""
    )
    if condition.kind in ("use_cap", "population", "expiry") and condition.due is None:
        return f"{head}{condition.text}"
    return f"{head}{condition.text} (due {condition.due or 'undated'})"


def _strength(strength: str) -> str:
    return f", strength {strength} ({STRENGTHS[strength]})" if strength in STRENGTHS else ""


def names_of(people: Directory, persons: Sequence[str]) -> str:
    """Return the names of people, joined."""
    return ", ".join(people.name(person) for person in persons)
