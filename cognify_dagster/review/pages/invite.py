"""What a one-time link opens: setting the first password, or registering the first passkey.

Invariant: opening the page uses nothing up (mail scanners do that); the credential that is kept uses it up.
"""

from __future__ import annotations

from datetime import datetime, timezone

from starlette.responses import JSONResponse, Response

from cognify_dagster.governance import directory
from cognify_dagster.records import utc
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import set_password_hash
from cognify_dagster.review.identity.company import signs_in_at_company
from cognify_dagster.review.identity.invitations import Invitation, Use, invited, use, used_before
from cognify_dagster.review.identity.passkeys import check_registration, keep_passkey, registration_options
from cognify_dagster.review.identity.passwords import hash_password, password_problem
from cognify_dagster.review.identity.signing_in import require_open, sign_in
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store.accounts import Account
from cognify_dagster.review.visit import Visit


@page("/invite/{token}", Need.PUBLIC)
def invitation(visit: Visit) -> Response:
    """Show what the link is for."""
    found, account, user = _invited(visit)
    return _page(visit, found, account, user)


@page("/invite/{token}", Need.PUBLIC, methods=("POST",))
def invitation_password(visit: Visit) -> Response:
    """Set the password, use the link up and sign in."""
    found, account, user = _invited(visit)
    if not visit.site.config.password_login:
        raise Refused(403, "Passwords do not sign in here; register a passkey.", "no-passwords")
    problem = password_problem(visit.field("password"), account.login, *user.name.split())
    if problem is None and visit.field("password") != visit.field("again"):
        problem = "The two fields differ. Paste the same password into both."
    if problem is not None:
        visit.detail = "the password was refused"
        return _page(visit, found, account, user, problem)
    hashed = hash_password(visit.field("password"))
    company = _company(visit, account)
    with visit.site.store.begin() as connection:
        use(connection, found, company, _use(visit, "a password"))
        set_password_hash(connection, account.id, hashed)
    sign_in(visit, account, "invitation")
    visit.detail = f"set a password by a link of {found.made_by}"
    return visit.redirect("/account?done=password")


@page("/invite/{token}/passkey/options", Need.PUBLIC, methods=("POST",), logged=False)
def invitation_passkey_options(visit: Visit) -> Response:
    """Begin the registration of a passkey."""
    found, account, user = _invited(visit)
    with visit.site.store.begin() as connection:
        now = int(visit.now.timestamp())
        return JSONResponse(registration_options(connection, visit.site.config, account, user.name, found.id, now))


@page("/invite/{token}/passkey", Need.PUBLIC, methods=("POST",))
def invitation_passkey(visit: Visit) -> Response:
    """Register the passkey, use the link up and sign in."""
    found, account, _ = _invited(visit)
    now = int(visit.now.timestamp())
    new = check_registration(visit.site.store, visit.site.config, visit.json, found.id, now)
    company = _company(visit, account)
    with visit.site.store.begin() as connection:
        use(connection, found, company, _use(visit, f"the passkey {new.public.key_id}"))
        keep_passkey(connection, account.id, new.public, new.name, now, new.count)
    sign_in(visit, account, "passkey", new.public.key_id)
    visit.detail = f"registered passkey {new.public.key_id} by a link of {found.made_by}"
    return JSONResponse({"target": "/account?done=passkey"})


def _invited(visit: Visit) -> tuple[Invitation, Account, User]:
    token, now, reading = visit.param("token"), int(visit.now.timestamp()), visit.reading

    def company(account: Account) -> bool:
        return signs_in_at_company(reading, visit.site.config, account.person)

    with visit.site.store.begin() as connection:
        found = invited(connection, token, now, company)
        before = used_before(connection, token) if found is None else None
    if before is not None:
        raise Refused(
            410,
            f"This link was used on {utc(datetime.fromtimestamp(before.time, timezone.utc))} from {before.address or 'an unknown address'}. "
            "If that was not you, tell a workspace admin at once: somebody else has set a credential for your account.",
            "invitation",
        )
    if found is None:
        raise Refused(
            410, "This invitation was used, is over, or never was. Ask a workspace admin for a new one.", "invitation"
        )
    return found[0], found[1], require_open(visit, found[1])


def _company(visit: Visit, account: Account) -> bool:
    return signs_in_at_company(visit.reading, visit.site.config, account.person)


def _use(visit: Visit, what: str) -> Use:
    return Use(int(visit.now.timestamp()), what, visit.address, visit.agent)


def _page(visit: Visit, found: Invitation, account: Account, user: User, problem: str | None = None) -> Response:
    return visit.render(
        "invite.html.j2",
        status=422 if problem else 200,
        invitation=found,
        makers=[directory(visit.reading).name(who) for who in (found.made_by, found.confirmed_by) if who],
        company=_company(visit, account),
        account=account,
        invited=user,
        problem=problem,
        token=visit.param("token"),
    )
