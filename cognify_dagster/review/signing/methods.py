"""With what somebody can sign on this site: a list of methods, each with the keys it offers and how it begins.

A method that ends on another page (single sign-on) sends the browser there in `start` and, when it comes back, calls
`flow.complete(visit, pending_id, make)`, where `make(pending)` returns the `EnvelopeSignature` over `flow.message_of(pending)`.
Whatever it returns is verified by the governance room with the key that is enrolled in the ledger.

Invariant: a method offers only keys that are enrolled for the person and valid now; it never decides whether a signature counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.responses import Response

from cognify_dagster.governance import directory
from cognify_dagster.records import PublicKey
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.store.pending import PendingStatement
from cognify_dagster.review.visit import Visit


class Method(Protocol):
    """A way to sign."""

    name: str
    label: str

    def available(self, visit: Visit, stage: str) -> Sequence[PublicKey]:
        """Return the visitor's keys with which they can sign by this method here and now; `stage` is empty for acts."""
        ...

    def start(self, visit: Visit, pending: PendingStatement) -> Response:
        """Answer the click on "Sign" on the confirmation page (a POST; the statement was shown and is not used up yet)."""
        ...


METHODS: list[Method] = []
"""Passkeys first; further modules append theirs when they are imported."""


@dataclass(frozen=True)
class SigningKey:
    """A key with which the visitor can sign here."""

    key: PublicKey
    method: Method

    @property
    def label(self) -> str:
        """How a form names it."""
        return (
            f"{self.method.label[:1].upper()}{self.method.label[1:]} {self.key.key_id} (strength {self.key.strength})"
        )


def keys_here(visit: Visit, stage: str = "") -> list[SigningKey]:
    """Return the keys with which the visitor can sign on this site, the strongest and newest first."""
    found = [SigningKey(key, method) for method in METHODS for key in method.available(visit, stage)]
    people = directory(visit.reading)
    since = {span.key.key_id: span.since for span in people.keys.get(visit.person, ())}
    return sorted(found, key=lambda item: (item.key.strength, since.get(item.key.key_id, 0)), reverse=True)


def choose_key(visit: Visit, key_id: str, stage: str = "") -> SigningKey:
    """Return the key that a form names, or the first one.

    Raises:
        ReviewError: if there is no such key.
    """
    found = keys_here(visit, stage)
    chosen = next((item for item in found if not key_id or item.key.key_id == key_id), None)
    if chosen is None:
        raise ReviewError(
            "you have no key with which you could sign here; see your account page, or sign with `cognify`"
        )
    return chosen


def method_of(pending: PendingStatement) -> Method:
    """Return the method of a prepared statement.

    Raises:
        ReviewError: if it is not offered any more.
    """
    found = next((item for item in METHODS if item.name == pending.method), None)
    if found is None:
        raise ReviewError(f"signing with {pending.method} is not offered here any more; prepare the statement anew")
    return found
