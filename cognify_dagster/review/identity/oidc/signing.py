"""Signing by single sign-on (S2): the person signs in again at the issuer, for one statement.

Invariants: only sign-offs are signed so, and only with an identity that is enrolled for this issuer and client; the nonce is that of
the prepared statement; the issuer's keys are archived in the ledger before the signature is submitted. Whether it counts is judged by
the governance room alone.
"""

from __future__ import annotations

import hashlib

from starlette.responses import Response

from cognify_dagster.governance import SignatureError, archive_keys, claim_groups, directory
from cognify_dagster.governance.signing.sso import nonce_of, sso_signature
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE
from cognify_dagster.ledger import LedgerError, pae
from cognify_dagster.records import EnvelopeSignature, PublicKey
from cognify_dagster.review.errors import Refused, ReviewError
from cognify_dagster.review.identity.oidc.flow import Answer, leave, tie
from cognify_dagster.review.identity.oidc.provider import provider_of
from cognify_dagster.review.signing.methods import METHODS
from cognify_dagster.review.signing.statements import word_code
from cognify_dagster.review.store.pending import PendingStatement
from cognify_dagster.review.visit import Visit


def identities_of(visit: Visit) -> list[PublicKey]:
    """Return the visitor's enrolled identities at the configured issuer."""
    provider = provider_of(visit.site)
    if provider is None:
        return []
    reading, wanted = visit.reading, (provider.config.issuer, provider.config.client_id)
    keys = directory(reading).valid_keys(visit.person, reading.size).values()
    return [key for key in keys if key.oidc is not None and (key.oidc.issuer, key.oidc.client_id) == wanted]


class SsoMethod:
    """Signing in again at the company's sign-in service."""

    name = "sso"
    label = "Single sign-on"

    def available(self, visit: Visit, stage: str) -> list[PublicKey]:
        """Return the visitor's identities; none for acts, which need a key."""
        return identities_of(visit) if stage else []

    def start(self, visit: Visit, pending: PendingStatement) -> Response:
        """Show where one signs in. A page with a link: the answer to a form may not lead away from this site."""
        provider = provider_of(visit.site)
        if provider is None or pending.purpose != "sign_off":
            raise ReviewError("single sign-on signs sign-offs only; an act needs a passkey or a personal key")
        url, browser = leave(visit, "sign", pending.id, nonce_of(pae(PAYLOAD_TYPE, pending.statement)))
        digest = hashlib.sha256(pending.statement).hexdigest()
        back = f"/models/{pending.ref.replace('@', '/')}/sign"
        shown = visit.render(
            "oidc-sign.html.j2",
            target=url,
            service=provider.config,
            digest=digest,
            words=word_code(digest),
            back=back,
        )
        return tie(visit, shown, browser)


def finish_signature(visit: Visit, answer: Answer) -> Response:
    """Submit the statement that a person signed in for.

    Raises:
        Refused: if the issuer's keys cannot be archived.
        ReviewError: if the statement is not theirs to sign any more.
    """
    from cognify_dagster.review.signing import flow

    provider = provider_of(visit.site)
    assert provider is not None  # the answer came from it
    token_digest = hashlib.sha256(answer.token.encode()).hexdigest()

    def make(pending: PendingStatement) -> EnvelopeSignature:
        key = next((item for item in identities_of(visit) if item.key_id == pending.key_id), None)
        if pending.method != SsoMethod.name or key is None:
            raise ReviewError("this statement names no identity that is enrolled for you here; prepare it anew")
        try:
            if key.oidc is not None and answer.claims["sub"] == key.oidc.subject:
                claim_groups(visit.workspace, visit.person, provider.config.issuer, answer.claims, token_digest)
            archive_keys(visit.workspace, provider.config.issuer, answer.keys)
            return sso_signature(key, answer.token, answer.keys)
        except LedgerError as error:
            raise Refused(
                503, f"The issuer's keys cannot be archived, so nothing was signed: {error}", "ledger"
            ) from error
        except SignatureError as error:
            raise ReviewError(str(error)) from error

    return flow.complete(visit, answer.flow.target, make)


METHODS.append(SsoMethod())
