"""What signing here and signing elsewhere share: unlocking, the document, the questions, the receipt.

Invariant: a key that cannot sign fails before the statement is shown.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import confirm, unlock
from cognify_dagster.cli.output import as_json, clean, pairs, say
from cognify_dagster.cli.statement import WORDS, check_document, document_name, opened

if TYPE_CHECKING:
    from cognify_dagster.governance import PersonalKey, SignOffPredicate
    from cognify_dagster.governance.signing.statements import Viewed
    from cognify_dagster.ledger import Receipt
    from cognify_dagster.workspace import Reading, Workspace


def unlocked(given: dict[str, Any], draft: SignOffPredicate) -> PersonalKey:
    """Unlock the signer's key; before anything is shown, so that nobody reads a statement that cannot be signed."""
    from cognify_dagster.governance import GovernanceError

    key = unlock(given["key"], given["passphrase_files"])
    if (key.person, key.key_id) != (draft.person, draft.key_id):
        raise GovernanceError(f"{given['key']}: the key file changed meanwhile; nothing was signed")
    return key


def document_path(given: dict[str, Any], draft: SignOffPredicate, media_type: str) -> Path:
    """Return where the document to read lies, or would be written."""
    return given["review_copy"] or Path(document_name(draft.model, draft.version, media_type))


def viewed(given: dict[str, Any], path: Path, document: Viewed) -> Viewed | None:
    """Check the document where it lies here, and open it if that is wanted; return what was viewed with this command."""
    wanted = given["open_"] or given["review_copy"] is not None
    if not path.is_file():
        if wanted:
            raise Failure(
                f"{path}: there is no such file; bring the review copy, or name it with --review-copy", UNREADABLE
            )
        return None
    if wanted:
        check_document(path, document.digest)
    return opened(path, document) if given["open_"] else None


def ask(given: dict[str, Any], predicate: SignOffPredicate, document: Viewed) -> None:
    """Ask whether the document was read, by its name and digest, and whether to sign; `--yes` answers both."""
    if predicate.decision not in ("withdraw", "block"):
        name = document_name(predicate.model, predicate.version, document.media_type)
        confirm(f"Have you read {name} ({document.digest})?", given["yes"])
    confirm("Sign this statement?", given["yes"])


def authority_lines(reading: Reading, predicate: SignOffPredicate) -> list[str]:
    """Say in plain words with what right somebody signs who does not hold the role, and what the stage asks of the signature."""
    from cognify_dagster.governance import directory, policy_in_force

    people, lines = directory(reading), []
    behalf = predicate.on_behalf_of
    if behalf is not None:
        found = people.delegation_of(behalf.delegation.entry_seq)
        until = f" until {found.expires}" if found else ""
        lines.append(
            clean(
                f"You sign ON BEHALF OF {people.name(behalf.person)} ({behalf.person}), who delegated the role {predicate.role} to "
                f"you{until} (entry {behalf.delegation.entry_seq}). It uses up your signature and theirs."
            )
        )
    stage = policy_in_force(reading).policy.stages.get(predicate.stage)
    if stage is not None and stage.min_strength != "S3" and predicate.decision.startswith("approve"):
        lines.append(f"This stage needs a signature of strength {stage.min_strength} or more.")
    return lines


def print_receipt(
    workspace: Workspace, predicate: SignOffPredicate, statement: bytes, receipt: Receipt, json_: bool
) -> None:
    """Print the receipt; the last lines say what comes next."""
    from datetime import datetime, timezone

    from cognify_dagster.governance import decide, directory
    from cognify_dagster.governance.oversight.conditions import ENFORCED
    from cognify_dagster.records import SignOff

    digest = hashlib.sha256(statement).hexdigest()
    reading = workspace.read()
    entry = reading.at(receipt.seq)
    strength = entry.record.strength if entry is not None and isinstance(entry.record, SignOff) else None
    target = predicate.target_environments[0] if predicate.target_environments else "production"
    now = datetime.now(timezone.utc)
    decision = decide(reading, predicate.model, predicate.version, target, now, enforces=ENFORCED)
    if json_:
        as_json(
            {
                "entry": receipt.seq,
                "leaf": receipt.leaf.hex(),
                "statement_sha256": digest,
                "duplicate": receipt.duplicate,
                "decision": predicate.decision,
                "stage": predicate.stage,
                "person": predicate.person,
                "on_behalf_of": predicate.on_behalf_of.person if predicate.on_behalf_of else None,
                "strength": strength,
                "released": decision.released,
                "waiting_for": list(decision.next_stage.waiting_for) if decision.next_stage else [],
                "trial": reading.trial,
            }
        )
        return
    stage = decision.next_stage
    if decision.released:
        after = f"every stage is signed; the approval sensor releases it to {target}"
    elif stage is not None and stage.waiting_for:
        after = f"{stage.stage.title or stage.name} waits for {' or '.join(stage.waiting_for)}"
    else:
        after = decision.reasons[0].text if decision.reasons else "nothing is open"
    already = " (it was submitted before)" if receipt.duplicate else ""
    say()
    behalf = f" on behalf of {directory(reading).name(predicate.on_behalf_of.person)}" if predicate.on_behalf_of else ""
    say(f"{clean(predicate.printed_name + behalf)}: {WORDS[predicate.decision]} is recorded{already}.")
    pairs(
        [
            ("Entry", f"{receipt.seq}, leaf {receipt.leaf.hex()}"),
            ("Statement", f"sha256 {digest}"),
            ("Strength", strength or "unknown"),
            ("Next", after),
        ]
    )
