"""What commands share whose act people sign with the keys that are here, and nowhere else: unlock, show, ask, say what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.cli.inputs import confirm, unlock_all
from cognify_dagster.cli.output import as_json, pairs, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import PersonalKey
    from cognify_dagster.ledger import Receipt
    from cognify_dagster.workspace import Reading


def unlocked(signing: Mapping[str, Any]) -> list[PersonalKey]:
    """Unlock the keys of `signing_options`, before anything is shown."""
    return unlock_all(signing["key_files"], signing["passphrase_files"])


def ask(
    signing: Mapping[str, Any],
    reading: Reading,
    rows: Sequence[tuple[str, object]],
    keys: Sequence[PersonalKey],
    question: str,
) -> None:
    """Show what will be signed and by whom, and ask."""
    if not signing["json_"]:
        trial_banner(reading.trial)
        pairs([*rows, ("Signed by", ", ".join(key.person for key in keys))])
    confirm(question, signing["yes"])


def recorded(signing: Mapping[str, Any], receipt: Receipt, text: str = "", **more: object) -> None:
    """Say which entry it became, with `more` for programs and `text` for people."""
    if signing["json_"]:
        as_json({"entry": receipt.seq, "leaf": receipt.leaf.hex(), "duplicate": receipt.duplicate, **more})
        return
    say(f"{'It stands already, since' if receipt.duplicate else 'Recorded as'} entry {receipt.seq}{text}")
