"""When a head existed, from receipts alone: a pure function without a socket, used for level L3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cognify_dagster.ledger.anchors.base import RFC3161, AnchorError, AnchorReceipt, AnchorTime, check_receipt, imprint
from cognify_dagster.ledger.anchors.rfc3161 import token_time

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def anchored_time(
    note: str,
    receipts: Iterable[AnchorReceipt],
    roots: Sequence[Certificate],
    intermediates: Sequence[Certificate] = (),
    *,
    problems: list[str] | None = None,
) -> list[AnchorTime]:
    """Return the times that receipts prove for a checkpoint by themselves, earliest first.

    Only RFC 3161 tokens do. Receipts of folders and buckets are pointers: add what `Anchor.check` returns for them. Nothing
    is proven without roots: the list is empty then.

    Args:
        note: the signed checkpoint; its signatures are not looked at here.
        receipts: receipts of any heads; those for other heads and of other kinds are passed over.
        roots: trusted certificates of time stamp authorities.
        intermediates: certificates in between that the tokens do not hold.
        problems: gets a line for each token for this checkpoint that does not verify. Such a token counts for nothing; it
            may be of an authority that these roots do not know.

    Raises:
        NoteError: if the note is malformed.
    """
    wanted = imprint(note)
    times = []
    for receipt in receipts if roots else ():
        if receipt.kind == RFC3161 and receipt.imprint == wanted:
            try:
                text = check_receipt(receipt, note, (RFC3161,))
                moment = token_time(receipt.token, text, roots, intermediates)
            except AnchorError as error:
                if problems is not None:
                    problems.append(f"time stamp from {receipt.location}: {error}")
                continue
            times.append(AnchorTime(receipt.size, moment, RFC3161))
    return sorted(times, key=lambda item: item.time)
