"""Invitations: how somebody gets their first credential, and a new one after they lost it.

Invariants: there is no default password; a link is shown once, works once and for 24 hours; whoever has a credential gets a new
one only when two different admins say so, and then the older ones end with the new one's first use; a link made while there was none
opens nothing once there is one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import has_credential, set_password_hash
from cognify_dagster.review.store.accounts import Account, find_account
from cognify_dagster.review.store.invitations import (
    Invitation,
    find_invitation,
    open_invitations,
    put_invitation,
    set_token,
    use_invitation,
)
from cognify_dagster.review.store.passkeys import remove_passkeys
from cognify_dagster.review.store.sessions import end_sessions_of, hash_token

HOURS = 24
__all__ = ["HOURS", "Invitation", "Made", "confirm", "invite", "invited", "open_invitations", "use"]


@dataclass(frozen=True)
class Made:
    """An invitation that was made. `path` is the link's path, known only now; None: a second admin has to confirm it first."""

    invitation: Invitation
    path: str | None


def invite(connection: Connection, account: Account, by: str, now: int, *, confirmed_by: str = "") -> Made:
    """Invite the holder of an account to set a credential. Open invitations of the account end.

    Args:
        connection: the open transaction.
        account: whose.
        by: the person who invites, or words for a command.
        now: seconds since 1970.
        confirmed_by: a second admin who said so already.

    Raises:
        Refused: if the account is disabled, or one person would confirm their own reset.
    """
    if account.disabled is not None:
        raise Refused(409, "The account is disabled; enable it first.", "disabled")
    reset = has_credential(connection, account)
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
    return Made(made, f"/invite/{token}" if token else None)


def confirm(connection: Connection, account: Account, by: str, now: int) -> Made:
    """Confirm, as a second admin, a reset that waits; the link works for 24 hours from now.

    Raises:
        Refused: if none waits, or the same admin asked for it, or it is their own account.
    """
    waiting = find_invitation(connection, now, account=account.id, token_hash=None)
    if waiting is None:
        raise Refused(409, "No reset waits for a confirmation.", "not-waiting")
    if by == waiting.made_by:
        raise Refused(403, "You asked for this reset; another admin has to confirm it.", "four-eyes")
    if by == account.person:
        raise Refused(403, "This is your own account; another admin has to confirm it.", "four-eyes")
    token = secrets.token_urlsafe(32)
    if not set_token(connection, waiting.id, hash_token(token), by, now + HOURS * 3600):
        raise Refused(409, "No reset waits for a confirmation.", "not-waiting")
    return Made(waiting, f"/invite/{token}")


def invited(connection: Connection, token: str, now: int) -> tuple[Invitation, Account] | None:
    """Return the invitation of a link's token and its account; None if it was used, is over, or never was."""
    if not 20 <= len(token) <= 100:
        return None
    found = find_invitation(connection, now, token_hash=hash_token(token))
    account = find_account(connection, id=found.account) if found is not None else None
    if found is None or account is None or account.disabled is not None:
        return None
    if not found.reset and has_credential(connection, account):  # got meanwhile in another way: now it would be a reset
        return None
    return found, account


def use(connection: Connection, invitation: Invitation, now: int) -> None:
    """Use an invitation up, before the new credential is kept; a reset ends the older credentials and all sessions.

    Raises:
        Refused: if it was used meanwhile, or is no reset and the account got a credential in another way.
    """
    account = find_account(connection, id=invitation.account)
    outdated = not invitation.reset and account is not None and has_credential(connection, account)
    if outdated or not use_invitation(connection, invitation.id, now):
        raise Refused(410, "This invitation was used or is over. Ask for a new one.", "invitation")
    if invitation.reset:
        set_password_hash(connection, invitation.account, None)
        remove_passkeys(connection, invitation.account)
        end_sessions_of(connection, invitation.account)
