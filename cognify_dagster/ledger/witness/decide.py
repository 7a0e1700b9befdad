"""What a witness answers, as a pure function of what it remembers and what it is asked. No I/O, no clock, no keys.

Invariant: `decide` returns a head only if that head contains the remembered one; so a witness that replaces its memory with
what `decide` returned, and does both under one lock, never cosigns two heads of which neither contains the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cognify_dagster.ledger.errors import ProofError
from cognify_dagster.ledger.merkle import EMPTY_ROOT, verify_consistency


@dataclass(frozen=True)
class Head:
    """Size and root of a tree. A witness that never cosigned for a log remembers the empty tree."""

    size: int = 0
    root: bytes = EMPTY_ROOT


@dataclass(frozen=True)
class Refusal:
    """A refusal: HTTP status, text, and whether the checkpoint proves that the log signed two histories."""

    status: int
    message: str
    fork: bool = False


def decide(remembered: Head, old: int, proof: Sequence[bytes], asked: Head) -> Head | Refusal:
    """Decide on a checkpoint whose log signature was verified before.

    Args:
        remembered: the newest head cosigned for this origin.
        old: the size that the client thinks is remembered.
        proof: consistency proof from `old` to the asked head.
        asked: the head of the signed checkpoint.

    Returns:
        The head to remember and cosign, or the refusal: 400 if `old` is above the asked size, 409 if it is not the
        remembered size, 422 if the proof or, for equal sizes, the root does not fit.
    """
    fork = asked.size == remembered.size and asked.root != remembered.root
    if old > asked.size:
        return Refusal(400, "the old size is larger than the checkpoint's size", fork)
    if old != remembered.size:
        return Refusal(409, str(remembered.size), fork)
    if fork:
        return Refusal(422, "another root was cosigned for this size", fork)
    if old == 0:
        if proof:
            return Refusal(422, "from size 0 there is no consistency proof; send none")
        return asked
    try:
        verify_consistency(old, asked.size, remembered.root, asked.root, proof)
    except ProofError as error:
        return Refusal(422, str(error))
    return asked
