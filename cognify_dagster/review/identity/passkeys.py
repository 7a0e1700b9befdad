"""Passkeys: registered here to sign in, enrolled in the ledger to sign off.

Invariants: user verification is required at registration and at each sign-in; a ceremony's challenge is used once, within five
minutes, by the one who began it; a passkey that the ledger enrolled and that ended there signs in no more; registering one
enrols nothing: that takes the signatures of an admin and a second person (`enrolment_of`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from cognify_dagster.governance import GovernanceError, directory, enrolment, rotated
from cognify_dagster.governance.signing.passkeys import passkey_public
from cognify_dagster.records import Passkey, PersonEnrolled, PublicKey
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.store import Store
from cognify_dagster.review.store.accounts import Account, find_account, lock_account
from cognify_dagster.review.store.passkeys import (
    StoredPasskey,
    add_passkey,
    begin_ceremony,
    count_use,
    find_passkey,
    passkeys_of,
    take_ceremony,
)
from cognify_dagster.workspace import Reading

MOST = 20
_KINDS = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
_BROKEN = (WebAuthnException, GovernanceError, ValueError, KeyError, TypeError, AttributeError)
_FULL = f"An account has {MOST} passkeys at most; remove one first."
_EXPIRED = "This request to your passkey is too old or was used. Please try again."


def registration_options(
    connection: Connection, config: ReviewConfig, account: Account, name: str, holder: str, now: int
) -> dict[str, Any]:
    """Begin a registration; return `{"ceremony": id, "options": PublicKeyCredentialCreationOptionsJSON}`.

    Args:
        connection: the open transaction.
        config: the site's.
        account: for whom.
        name: the person's, as the authenticator shows it.
        holder: the session or invitation that must also finish it.
        now: seconds since 1970.
    """
    mine = passkeys_of(connection, account.id)
    if len(mine) >= MOST:
        raise Refused(409, _FULL, "too-many")
    ceremony, challenge = begin_ceremony(connection, "register", holder, now)
    options = generate_registration_options(
        rp_id=config.rp_id,
        rp_name="Model review",
        user_id=account.id.encode(),
        user_name=account.login,
        user_display_name=name,
        challenge=challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(key.credential_id)) for key in mine],
        supported_pub_key_algs=_KINDS,
    )
    return {"ceremony": ceremony, "options": json.loads(options_to_json(options))}


@dataclass(frozen=True)
class Registered:
    """A passkey whose registration was checked; nothing is kept yet."""

    public: PublicKey
    name: str
    count: int


def check_registration(store: Store, config: ReviewConfig, answer: Any, holder: str, now: int) -> Registered:
    """Check a browser's answer `{"ceremony", "credential", "name"}`; the ceremony is used up whatever comes of it.

    Raises:
        Refused: if it does not answer this holder's ceremony, or the user was not verified.
    """
    challenge, credential, name = _answered(store, answer, "register", holder, now)
    try:
        found = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=config.rp_id,
            expected_origin=config.url,
            require_user_verification=True,
            supported_pub_key_algs=_KINDS,
        )
        if base64url_to_bytes(str(credential["id"])) != found.credential_id:
            raise ValueError("its id is not the one it signed")
        passkey = Passkey(
            credential_id=bytes_to_base64url(found.credential_id),
            rp_id=config.rp_id,
            origins=(config.url,),
            aaguid=str(found.aaguid),
            backed_up=found.credential_backed_up,
        )
        public = passkey_public(found.credential_public_key, passkey)
    except _BROKEN as error:
        raise Refused(400, f"This passkey cannot be registered: {_reason(error)}", "passkey") from error
    return Registered(public, name or "passkey", found.sign_count)


def keep_passkey(connection: Connection, account: str, public: PublicKey, name: str, now: int, count: int = 0) -> None:
    """Keep a passkey that was checked.

    Raises:
        Refused: if it is registered already, or the account has as many as it may have.
    """
    lock_account(connection, account)
    if len(passkeys_of(connection, account)) >= MOST:
        raise Refused(409, _FULL, "too-many")
    try:
        with connection.begin_nested():
            add_passkey(connection, account, public, name, now, count)
    except IntegrityError as error:
        raise Refused(409, "This passkey is registered already.", "passkey-known") from error


def login_options(connection: Connection, config: ReviewConfig, now: int) -> dict[str, Any]:
    """Begin a sign-in with whatever passkey the authenticator offers; return `{"ceremony", "options"}`."""
    ceremony, challenge = begin_ceremony(connection, "login", "", now)
    options = generate_authentication_options(
        rp_id=config.rp_id, challenge=challenge, user_verification=UserVerificationRequirement.REQUIRED
    )
    return {"ceremony": ceremony, "options": json.loads(options_to_json(options))}


def check_login(store: Store, config: ReviewConfig, answer: Any, now: int) -> tuple[Account, StoredPasskey]:
    """Check a browser's answer; return whose passkey it was. The ceremony is used up whatever comes of it.

    Raises:
        Refused: if it is no registered passkey's answer to this ceremony by a verified user.
    """
    challenge, credential, _ = _answered(store, answer, "login", "", now)
    with store.begin() as connection:
        passkey = find_passkey(connection, str(credential.get("id", ""))[:1400])
        account = find_account(connection, id=passkey.account) if passkey is not None else None
    if passkey is None or account is None:
        text = "This passkey is not registered here. Sign in another way, or ask for an invitation."
        raise Refused(403, text, "unknown")
    try:
        handle = credential["response"].get("userHandle")
        if handle and base64url_to_bytes(str(handle)) != account.id.encode():
            raise ValueError("it was registered for another account")
        found = verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=config.rp_id,
            expected_origin=config.url,
            credential_public_key=base64.b64decode(passkey.public.public),
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except _BROKEN as error:
        raise Refused(403, f"The passkey did not sign in: {_reason(error)}", "passkey") from error
    with store.begin() as connection:
        count_use(connection, passkey.credential_id, found.new_sign_count, now)
    return account, passkey


def _answered(store: Store, answer: Any, purpose: str, holder: str, now: int) -> tuple[bytes, dict[str, Any], str]:
    """Return challenge, credential and the name that was given. In a transaction of its own: a wrong answer uses it up, too."""
    if not isinstance(answer, dict) or not isinstance(answer.get("credential"), dict):
        raise Refused(400, "This is no answer of a passkey.", "passkey")
    with store.begin() as connection:
        challenge = take_ceremony(connection, str(answer.get("ceremony", ""))[:64], purpose, holder, now)
    if challenge is None:
        raise Refused(400, _EXPIRED, "ceremony")
    return challenge, answer["credential"], str(answer.get("name", "")).strip()[:80]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- what the ledger says of a passkey -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class InLedger:
    """What the ledger says of a key: the entry that enrolled it, and the one that ended it."""

    since: int | None = None
    until: int | None = None

    @property
    def signs(self) -> bool:
        """Whether it may sign now."""
        return self.since is not None and self.until is None

    @property
    def ended(self) -> bool:
        """Whether it may not any more."""
        return self.until is not None


def in_ledger(reading: Reading, person: str, key_id: str) -> InLedger:
    """Return what the ledger says of a person's key."""
    for span in directory(reading).keys.get(person, ()):
        if span.key.key_id == key_id:
            return InLedger(span.since, span.until)
    return InLedger()


def enrolment_of(reading: Reading, person: str, public: PublicKey, vouchers: Sequence[str]) -> PersonEnrolled:
    """Return the act that lets a person sign with a passkey: it is added, their other keys stay.

    Args:
        reading: the ledger now.
        person: whose passkey it is.
        public: the passkey.
        vouchers: who signs it: an admin and as many others as the policy demands; the person themselves may be one of them,
            with a key that the ledger knows.

    Raises:
        GovernanceError: if they may not vouch, or the ledger has the key.
    """
    return enrolment(reading, rotated(reading, person, public, False), vouchers)
