"""What a one-time link opens: setting the first password, or registering the first passkey.

Invariant: opening the page uses nothing up (mail scanners do that); the credential that is kept uses it up.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import set_password_hash
from cognify_dagster.review.identity.invitations import Invitation, invited, use
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
    hashed, now = hash_password(visit.field("password")), int(visit.now.timestamp())
    with visit.site.store.begin() as connection:
        use(connection, found, now)
        set_password_hash(connection, account.id, hashed)
    sign_in(visit, account, "invitation")
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
    with visit.site.store.begin() as connection:
        use(connection, found, now)
        keep_passkey(connection, account.id, new.public, new.name, now, new.count)
    sign_in(visit, account, "passkey", new.public.key_id)
    visit.detail = f"registered passkey {new.public.key_id}"
    return JSONResponse({"target": "/account?done=passkey"})


def _invited(visit: Visit) -> tuple[Invitation, Account, User]:
    with visit.site.store.begin() as connection:
        found = invited(connection, visit.param("token"), int(visit.now.timestamp()))
    if found is None:
        raise Refused(
            410, "This invitation was used, is over, or never was. Ask a workspace admin for a new one.", "invitation"
        )
    return found[0], found[1], require_open(visit, found[1])


def _page(visit: Visit, found: Invitation, account: Account, user: User, problem: str | None = None) -> Response:
    return visit.render(
        "invite.html.j2",
        status=422 if problem else 200,
        invitation=found,
        account=account,
        invited=user,
        problem=problem,
        token=visit.param("token"),
    )
