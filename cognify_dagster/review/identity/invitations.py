"""Invitations: how somebody gets their first credential, and a new one after they lost it.

Invariants: there is no default password; a link is shown once, works once and for 24 hours; whoever has a credential (a password, a
passkey, or an account at the company's sign-in service) gets a new one only when two different admins say so, and then the older ones
of this site end with the new one's first use; a link made while there was none opens nothing once there is one; of two links at a
moment one is left, of two uses one counts; each link that was made, and each use, is noted for the account's holder.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import has_credential, set_password_hash
from cognify_dagster.review.store.accounts import Account, find_account, lock_account
from cognify_dagster.review.store.invitations import (
    Invitation,
    find_invitation,
    open_invitations,
    put_invitation,
    set_token,
    use_invitation,
    used_invitation,
)
from cognify_dagster.review.store.links import MADE, USED, KeptEvent, LinkEvent, add_event, event_of_use
from cognify_dagster.review.store.passkeys import remove_passkeys
from cognify_dagster.review.store.sessions import end_sessions_of, hash_token

HOURS = 24
__all__ = [
    "HOURS",
    "Invitation",
    "Made",
    "Use",
    "confirm",
    "invite",
    "invited",
    "open_invitations",
    "use",
    "used_before",
]


@dataclass(frozen=True)
class Made:
    """An invitation that was made. `path` is the link's path, known only now; None: a second admin has to confirm it first."""

    invitation: Invitation
    path: str | None


@dataclass(frozen=True)
class Use:
    """A use of a link: when (seconds since 1970), which credential it set, from where and with what."""

    now: int
    what: str
    address: str
    agent: str


def invite(
    connection: Connection, account: Account, by: str, now: int, *, company: bool, confirmed_by: str = ""
) -> Made:
    """Invite the holder of an account to set a credential. Open invitations of the account end.

    Args:
        connection: the open transaction.
        account: whose.
        by: the person who invites, or words for a command.
        now: seconds since 1970.
        company: whether the holder signs in at the company's service (`company.signs_in_at_company`); that is a credential.
        confirmed_by: a second admin who said so already.

    Raises:
        Refused: if the account is disabled, or one person would confirm their own reset.
    """
    current = lock_account(connection, account.id)
    if current is None or current.disabled is not None:
        raise Refused(409, "The account is disabled; enable it first.", "disabled")
    reset = company or has_credential(connection, current)
    if reset and confirmed_by == by:
        raise Refused(403, "A second admin has to confirm a reset.", "four-eyes")
    token = None if reset and not confirmed_by else secrets.token_urlsafe(32)
    made = Invitation(
        id=secrets.token_hex(16),
        account=account.id,
        token_hash=hash_token(token) if token else None,
        reset=reset,
        made_by=by[:80],
        made=now,
        confirmed_by=confirmed_by[:80] or None,
        expires=now + HOURS * 3600,
        used=None,
    )
    put_invitation(connection, made)
    if token:
        add_event(connection, _event(made, MADE, now))
    return Made(made, f"/invite/{token}" if token else None)


def confirm(connection: Connection, account: Account, by: str, now: int) -> Made:
    """Confirm, as a second admin, a reset that waits; the link works for 24 hours from now.

    Raises:
        Refused: if none waits, or the same admin asked for it, or it is their own account.
    """
    lock_account(connection, account.id)
    waiting = find_invitation(connection, now, account=account.id, token_hash=None)
    if waiting is None:
        raise Refused(409, "No reset waits for a confirmation.", "not-waiting")
    if by == waiting.made_by:
        raise Refused(403, "You asked for this reset; another admin has to confirm it.", "four-eyes")
    if by == account.person:
        raise Refused(403, "This is your own account; another admin has to confirm it.", "four-eyes")
    token, expires = secrets.token_urlsafe(32), now + HOURS * 3600
    if not set_token(connection, waiting.id, hash_token(token), by, expires):
        raise Refused(409, "No reset waits for a confirmation.", "not-waiting")
    confirmed = replace(waiting, confirmed_by=by[:80], expires=expires)
    add_event(connection, _event(confirmed, MADE, now))
    return Made(confirmed, f"/invite/{token}")


def invited(
    connection: Connection, token: str, now: int, company: Callable[[Account], bool]
) -> tuple[Invitation, Account] | None:
    """Return the invitation of a link's token and its account; None if it was used, is over, or never was.

    Args:
        connection: the open transaction.
        token: what the link holds.
        now: seconds since 1970.
        company: tells whether an account's holder signs in at the company's service.
    """
    if not 20 <= len(token) <= 100:
        return None
    found = find_invitation(connection, now, token_hash=hash_token(token))
    account = find_account(connection, id=found.account) if found is not None else None
    if found is None or account is None or account.disabled is not None:
        return None
    if _outdated(connection, found, account, company(account)):
        return None
    return found, account


def used_before(connection: Connection, token: str) -> KeptEvent | None:
    """Return when, and from where, the link with this token was used; None if it never was, or that is forgotten."""
    found = used_invitation(connection, hash_token(token)) if 20 <= len(token) <= 100 else None
    return event_of_use(connection, found.id) if found is not None else None


def use(connection: Connection, invitation: Invitation, company: bool, how: Use) -> None:
    """Use an invitation up, before the new credential is kept; a reset ends the older credentials and all sessions.

    Raises:
        Refused: if it was used meanwhile, the account is closed, or it is no reset and there is a credential by now.
    """
    account = lock_account(connection, invitation.account)
    closed = account is None or account.disabled is not None
    if (
        closed
        or _outdated(connection, invitation, account, company)
        or not use_invitation(connection, invitation.id, how.now)
    ):
        raise Refused(410, "This invitation was used or is over. Ask for a new one.", "invitation")
    add_event(connection, _event(invitation, USED, how.now, how))
    if invitation.reset:
        set_password_hash(connection, invitation.account, None)
        remove_passkeys(connection, invitation.account)
        end_sessions_of(connection, invitation.account)


def _outdated(connection: Connection, invitation: Invitation, account: Account | None, company: bool) -> bool:
    """Whether a link for a first credential meets an account that got one in another way: now it would be a reset."""
    return not invitation.reset and (company or (account is not None and has_credential(connection, account)))


def _event(invitation: Invitation, kind: str, now: int, how: Use | None = None) -> LinkEvent:
    return LinkEvent(
        account=invitation.account,
        invitation=invitation.id,
        kind=kind,
        time=now,
        made=invitation.expires - HOURS * 3600,
        made_by=invitation.made_by,
        confirmed_by=invitation.confirmed_by or "",
        what=how.what if how else "",
        address=how.address if how else "",
        agent=how.agent if how else "",
    )
