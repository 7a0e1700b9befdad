"""Whether a running session still holds, asked at each request.

Invariant: a session is worth no more than what it rests on: it ends, for good, as soon as its holder is nobody here any more or has other
roles than at its beginning, the passkey that opened it has ended in the ledger, passwords sign in no more, or the identity at the
company's service is not theirs any more.
"""

from __future__ import annotations

from datetime import datetime

from cognify_dagster.review.identity.user import User, user_of
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.accounts import Account
from cognify_dagster.review.store.sessions import Session, role_text
from cognify_dagster.workspace import Reading

_BY_PASSWORD = ("password", "invitation")


def holder_of(site: Site, reading: Reading, session: Session, account: Account, now: datetime) -> User | None:
    """Return whose session it is, with the roles that count in it; None if it holds no more.

    Args:
        site: the running site.
        reading: the ledger now.
        session: a session that is not over by its times.
        account: its account.
        now: the time.
    """
    user = user_of(reading, account, now)
    if user is None or session.roles not in (None, role_text(user.roles)):
        return None
    if session.method in _BY_PASSWORD and not site.config.password_login:
        return None
    if session.method == "passkey" and user.person is not None:
        from cognify_dagster.review.identity.passkeys import in_ledger

        return None if in_ledger(reading, user.person, session.credential).ended else user
    if session.method == "oidc":
        from cognify_dagster.review.identity.oidc.people import narrowed

        return narrowed(site, reading, user, session)
    return user
