"""Begins and ends sessions.

Invariants: signing in always makes a new session and ends the one that the browser had, so a planted cookie gains nothing; no session
begins on a credential that ended at that moment; after signing in a browser goes to a page of this site only.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from sqlalchemy import Connection

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.user import User, user_of
from cognify_dagster.review.store.accounts import Account, lock_account
from cognify_dagster.review.store.oidc import move_identity
from cognify_dagster.review.store.passkeys import passkeys_of
from cognify_dagster.review.store.sessions import end_session, find_session, hash_token, open_session, renew_token
from cognify_dagster.review.visit import Visit, cookie_name

FRESH_S = 600


def strong(visit: Visit) -> bool:
    """Whether the visitor signed in so that they may do more than read: with a company account, or with a passkey that two people
    vouched for in the ledger. A password alone, a one-time link, or a passkey that nobody vouched for yet, reads: whoever got hold
    of somebody's password or link gains no more."""
    from cognify_dagster.review.identity.passkeys import in_ledger

    session, user = visit.session, visit.user
    if session is None or user is None or user.person is None:
        return False
    if session.method == "oidc":
        return True
    return session.method == "passkey" and in_ledger(visit.reading, user.person, session.credential).signs


def require_strong(visit: Visit) -> None:
    """Refuse a visitor whose sign-in only reads.

    Raises:
        Refused: 403.
    """
    if not strong(visit):
        text = "The way you signed in only reads. To change this, sign in with a passkey that was vouched for."
        raise Refused(403, text, "stronger-login")


def require_open(visit: Visit, account: Account) -> User:
    """Return who an account belongs to now.

    Raises:
        Refused: 403 if it may see nothing now: disabled, not in the ledger any more, or the grant is over.
    """
    visit.subject = account.person or f"account/{account.login}"
    user = user_of(visit.reading, account, visit.now)
    if user is None:
        text = "This account is closed: its holder has no valid key in the ledger, or the time of the grant is over."
        raise Refused(403, f"{text} Ask a workspace admin.", "closed")
    return user


def sign_in(visit: Visit, account: Account, method: str, credential: str = "") -> None:
    """Begin a session for the holder of an account, who has just proved to be it, by the passkey `credential` where it was one.

    Raises:
        Refused: as `require_open`.
    """
    user = require_open(visit, account)
    config, now = visit.site.config, int(visit.now.timestamp())
    old = visit.request.cookies.get(cookie_name(visit.site))
    with visit.site.store.begin() as connection:
        _require_credential(connection, account, method, credential)
        if old:
            end_session(connection, hash_token(old))
        token = open_session(
            connection,
            account.id,
            method,
            now,
            config.session_hours,
            visit.address,
            visit.agent,
            user.roles,
            credential,
        )
        visit.session = find_session(connection, token, now, config.session_minutes * 60)
    visit.user = user
    visit.new_cookie = token
    visit.detail = method


def _require_credential(connection: Connection, account: Account, method: str, credential: str) -> None:
    """Refuse to begin a session on what was right a moment ago, but ended since: whoever ended it ended its sessions before.

    Raises:
        Refused: 403.
    """
    current = lock_account(connection, account.id)
    ended = current is None or current.disabled is not None
    if method == "password":
        ended = ended or current is None or current.password_hash != account.password_hash
    if method == "passkey":
        ended = ended or all(key.key_id != credential for key in passkeys_of(connection, account.id))
    if ended:
        raise Refused(403, "This way to sign in has ended at this moment. Ask a workspace admin.", "closed")


def renew(visit: Visit) -> None:
    """Give the visitor's session a new token, as after a change of password. It does not last any longer for it."""
    old = visit.session
    assert old is not None
    with visit.site.store.begin() as connection:
        token = renew_token(connection, old.token_hash, int(visit.now.timestamp()))
        move_identity(connection, old.token_hash, hash_token(token))
    visit.session = replace(old, token_hash=hash_token(token))
    visit.new_cookie = token


def sign_out(visit: Visit) -> None:
    """End the session of a request, and its cookie."""
    if visit.session is not None:
        with visit.site.store.begin() as connection:
            end_session(connection, visit.session.token_hash)
    visit.new_cookie = ""


def fresh(visit: Visit) -> bool:
    """Whether the visitor signed in within the last ten minutes."""
    return visit.session is not None and visit.now.timestamp() - visit.session.created <= FRESH_S


def require_fresh(visit: Visit) -> None:
    """Refuse to change credentials in a session that is older: somebody else may sit at the desk.

    Raises:
        Refused: 403.
    """
    if not fresh(visit):
        raise Refused(403, "Sign in again first: changing how you sign in asks for that.", "sign-in-again")


def safe_next(text: str) -> str:
    """Return a path of this site that a visitor may be sent to, `/` if the text is anything else."""
    plain = text.isprintable() and "\\" not in text and text.isascii() and len(text) <= 2000
    if not plain or not text.startswith("/") or text.startswith("//"):
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or parts.path.split("/")[1] in ("login", "logout", "invite"):
        return "/"
    return text
