"""Signing with a passkey (S4): what the browser is asked, and the signature that it answers with.

Invariants: the challenge is that of exactly one statement; user verification is required; only a credential that is enrolled in the
ledger for this person and this site is asked. Whether the answer holds is judged by the governance room alone.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from starlette.responses import Response

from cognify_dagster.governance import SignatureError, directory
from cognify_dagster.governance.signing.passkeys import assertion_parts, challenge_of
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE
from cognify_dagster.ledger import pae
from cognify_dagster.records import EnvelopeSignature, PublicKey
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.signing.methods import METHODS
from cognify_dagster.review.store.pending import PendingStatement
from cognify_dagster.review.visit import Visit

FIELD = "assertion"
_MAX_ANSWER = 32 * 1024


def passkeys_of(visit: Visit) -> list[PublicKey]:
    """Return the visitor's passkeys that are enrolled in the ledger and belong to this site."""
    config, reading = visit.site.config, visit.reading
    return [
        key
        for key in directory(reading).valid_keys(visit.person, reading.size).values()
        if key.passkey is not None and key.passkey.rp_id == config.rp_id and config.url in key.passkey.origins
    ]


def request_options(visit: Visit, pending: PendingStatement) -> dict[str, Any]:
    """Return the `PublicKeyCredentialRequestOptionsJSON` (WebAuthn Level 3) for a prepared statement.

    Raises:
        ReviewError: if its key is not one of the visitor's passkeys any more.
    """
    key = next((item for item in passkeys_of(visit) if item.key_id == pending.key_id), None)
    if key is None or key.passkey is None:
        raise ReviewError(
            "the passkey that this statement names is not yours here any more; prepare the statement anew"
        )
    challenge = challenge_of(pae(PAYLOAD_TYPE, pending.statement))
    left_s = max(pending.expires - int(visit.now.timestamp()), 1)
    return {
        "challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
        "rpId": key.passkey.rp_id,
        "allowCredentials": [{"type": "public-key", "id": key.passkey.credential_id}],
        "userVerification": "required",
        "timeout": left_s * 1000,
    }


def signature_of(visit: Visit, pending: PendingStatement) -> EnvelopeSignature:
    """Return the signature that the browser sent in the field `assertion`.

    Raises:
        ReviewError: if it is no answer of a passkey.
    """
    text = visit.field(FIELD)
    if not text:
        raise ReviewError("the passkey was not used; this step needs JavaScript. Prepare the statement anew")
    try:
        if len(text) > _MAX_ANSWER:
            raise SignatureError("it is too long")
        value = json.loads(text)
        if not isinstance(value, dict):
            raise SignatureError("a JSON object was expected")
        assertion, signature = assertion_parts(value)
    except (ValueError, RecursionError) as error:
        raise ReviewError(f"this is no answer of a passkey: {error}") from error
    return EnvelopeSignature(keyid=pending.key_id, sig=base64.b64encode(signature).decode(), webauthn=assertion)


class PasskeyMethod:
    """The shipped method: the confirmation page asks the passkey by script and posts its answer."""

    name = "passkey"
    label = "passkey"

    def available(self, visit: Visit, stage: str) -> list[PublicKey]:
        """Return the visitor's enrolled passkeys of this site."""
        return passkeys_of(visit)

    def start(self, visit: Visit, pending: PendingStatement) -> Response:
        """Finish at once: the answer came with the form."""
        from cognify_dagster.review.signing import flow

        return flow.complete(visit, pending.id, lambda item: signature_of(visit, item))


METHODS.insert(0, PasskeyMethod())
