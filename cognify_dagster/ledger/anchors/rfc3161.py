"""An anchor that states time: an RFC 3161 time stamp authority signs SHA-256 of a checkpoint's text (extra `timestamp`).

Invariants: a token counts only if its certificate leads to a root that the caller gives, was meant for time stamping and was
valid when it signed, and its imprint is SHA-256 of exactly this text; nothing is fetched to verify a token; the root never
comes from the token.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from cognify_dagster.ledger.anchors.base import (
    MAX_TOKEN,
    RFC3161,
    AnchoredHead,
    AnchorError,
    AnchorReceipt,
    AnchorTime,
    check_receipt,
    imprint,
    matched,
)
from cognify_dagster.ledger.note import Checkpoint

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SHA256 = "2.16.840.1.101.3.4.2.1"


class Rfc3161Anchor:
    """Asks a time stamp authority over HTTP."""

    kind = RFC3161

    def __init__(
        self,
        url: str,
        roots: Sequence[Certificate],
        *,
        intermediates: Sequence[Certificate] = (),
        timeout: float = 10.0,
    ) -> None:
        """Take the authority's URL and the root certificates it is trusted under.

        Args:
            url: http or https; tokens are signed, so plain http does not weaken them.
            roots: trusted certificates, got from the authority by another way than its answers.
            intermediates: certificates in between, if the authority does not send them.
            timeout: seconds for one read.

        Raises:
            AnchorError: if there is no root or the URL is not one.
        """
        if not re.match(r"https?://[^/\s]", url):
            raise AnchorError(f"{url[:80]!r} is not an http(s) URL")
        if not roots:
            raise AnchorError("a time stamp authority needs a trusted root certificate")
        self.url = url
        self.timeout = timeout
        self._roots = tuple(roots)
        self._intermediates = tuple(intermediates)

    def put(self, checkpoint: Checkpoint, note: str) -> AnchorReceipt:
        """Get a token for the head and verify it; see `Anchor.put`."""
        client = _library()
        text = matched(checkpoint, note)
        builder = client.TimestampRequestBuilder().data(text.encode()).hash_algorithm(client.HashAlgorithm.SHA256)
        request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
        token = self._post(request.as_bytes())
        token_time(token, text, self._roots, self._intermediates, nonce=request.nonce)
        return AnchorReceipt(
            self.kind, checkpoint.origin, checkpoint.size, imprint(note), _without_user(self.url), token=token
        )

    def heads(self, origin: str) -> Iterator[AnchoredHead]:
        """Yield nothing: an authority keeps no list."""
        return iter(())

    def check(self, receipt: AnchorReceipt, note: str) -> AnchorTime:
        """Return the token's time; see `Anchor.check`. Needs no network."""
        text = check_receipt(receipt, note, (self.kind,))
        return AnchorTime(receipt.size, token_time(receipt.token, text, self._roots, self._intermediates), self.kind)

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, data=body, method="POST")  # noqa: S310 (checked above)
        request.add_header("Content-Type", "application/timestamp-query")
        request.add_header("Accept", "application/timestamp-reply")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:  # noqa: S310
                data: bytes = response.read(MAX_TOKEN + 1)
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise AnchorError(f"{_without_user(self.url)}: the time stamp authority gave no token: {error}") from error
        if len(data) > MAX_TOKEN:
            raise AnchorError(f"{_without_user(self.url)}: the time stamp authority's answer is too large")
        return data


def token_time(
    token: bytes,
    text: str,
    roots: Sequence[Certificate],
    intermediates: Sequence[Certificate] = (),
    *,
    nonce: int | None = None,
) -> datetime:
    """Verify an RFC 3161 response over checkpoint text and return its genTime, UTC. Opens no socket.

    Args:
        token: DER of the whole response.
        text: the checkpoint's signed text.
        roots: trusted root certificates.
        intermediates: certificates in between that the token does not hold.
        nonce: the nonce that was asked with, if this is the answer to a question.

    Raises:
        AnchorError: saying what does not hold.
    """
    client = _library()
    if not roots:
        raise AnchorError("a time stamp can be verified only against a trusted root certificate")
    if len(token) > MAX_TOKEN:
        raise AnchorError("the time stamp is too large")
    try:
        response = client.decode_timestamp_response(token)
        if response.status != client.PKIStatus.GRANTED:
            raise AnchorError(
                f"the time stamp authority refused: {' '.join(response.status_string)[:200] or response.status}"
            )
        info = response.tst_info
        if info.message_imprint.hash_algorithm.dotted_string != _SHA256:
            raise AnchorError("the time stamp's imprint is not SHA-256")
        builder = client.VerifierBuilder(roots=list(roots), intermediates=list(intermediates), nonce=nonce)
        builder.build().verify(response, hashlib.sha256(text.encode()).digest())
        moment: datetime = info.gen_time
    except client.VerificationError as error:
        raise AnchorError(f"the time stamp does not verify: {error}") from error
    except AnchorError:
        raise
    except Exception as error:  # the parsers of tokens and certificates raise many kinds for bytes that make no sense
        raise AnchorError(f"not a time stamp: {error}") from error
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def load_roots(pem: bytes) -> tuple[Certificate, ...]:
    """Read certificates from PEM.

    Raises:
        AnchorError: if there is none or one is malformed.
    """
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return tuple(load_pem_x509_certificates(pem))
    except ValueError as error:
        raise AnchorError(f"no certificates in PEM form: {error}") from error


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise AnchorError("time stamps need the extra `timestamp`: pip install 'cognify-dagster[timestamp]'") from error
    return rfc3161_client


def _without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
