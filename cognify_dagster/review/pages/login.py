"""Signing in with a passkey or a password, and signing out."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import set_password_hash
from cognify_dagster.review.identity.passkeys import check_login, in_ledger, login_options
from cognify_dagster.review.identity.passwords import check_password, hash_password, outdated
from cognify_dagster.review.identity.signing_in import safe_next, sign_in, sign_out
from cognify_dagster.review.identity.throttle import attempt, succeeded
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store.accounts import find_account
from cognify_dagster.review.visit import Visit

WRONG = "Login or password is wrong."


@page("/login", Need.PUBLIC)
def login(visit: Visit) -> Response:
    """Show the ways to sign in."""
    return _form(visit, safe_next(visit.query("next", "/")))


@page("/login", Need.PUBLIC, methods=("POST",))
def login_password(visit: Visit) -> Response:
    """Sign in with a password: to read. The same answer, after the same time, whether the login exists or not."""
    target, name = safe_next(visit.field("next", "/")), visit.field("login").lower()[:200]
    if not visit.site.config.password_login:
        raise Refused(403, "Passwords do not sign in here; use a passkey.", "no-passwords")
    try:
        attempt(visit.site, visit.address, name)
        with visit.site.store.begin() as connection:
            account = find_account(connection, login=name)
        if account is not None:
            visit.subject = account.person or f"account/{account.login}"
        if not check_password(account.password_hash if account else None, visit.field("password")) or account is None:
            raise Refused(403, WRONG, "wrong")
        sign_in(visit, account, "password")
    except Refused as refused:
        visit.detail = f"{refused.code}: {refused}"
        return _form(visit, target, refused, name)
    succeeded(visit.site, name)
    if account.password_hash and outdated(account.password_hash):
        with visit.site.store.begin() as connection:
            set_password_hash(connection, account.id, hash_password(visit.field("password")))
    return visit.redirect(target)


@page("/login/passkey/options", Need.PUBLIC, methods=("POST",), logged=False)
def login_passkey_options(visit: Visit) -> Response:
    """Begin a sign-in with a passkey."""
    attempt(visit.site, visit.address)
    with visit.site.store.begin() as connection:
        return JSONResponse(login_options(connection, visit.site.config, int(visit.now.timestamp())))


@page("/login/passkey", Need.PUBLIC, methods=("POST",))
def login_passkey(visit: Visit) -> Response:
    """Sign in with a passkey."""
    attempt(visit.site, visit.address)
    account, passkey = check_login(visit.site.store, visit.site.config, visit.json, int(visit.now.timestamp()))
    visit.subject = account.person or f"account/{account.login}"
    if account.person is not None:
        known = in_ledger(visit.reading, account.person, passkey.key_id)
        if known.ended:
            raise Refused(403, f"This passkey was ended by entry {known.until} of the ledger.", "revoked")
    sign_in(visit, account, "passkey", passkey.key_id)
    target = visit.json.get("next") if isinstance(visit.json, dict) else None
    return JSONResponse({"target": safe_next(target if isinstance(target, str) else "/")})


@page("/logout", Need.PUBLIC, methods=("POST",))
def logout(visit: Visit) -> Response:
    """End the session."""
    sign_out(visit)
    return visit.redirect("/login")


def _form(visit: Visit, target: str, refused: Refused | None = None, name: str = "") -> Response:
    return visit.render(
        "login.html.j2", status=refused.status if refused else 200, target=target, problem=refused, name=name
    )
