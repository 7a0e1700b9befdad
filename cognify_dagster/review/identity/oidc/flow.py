"""The way to the issuer and back.

Invariants: an answer is taken once, from the browser that asked, within ten minutes, with the state, nonce and PKCE verifier of that
one request; an answer of another issuer is refused; a signature ends in the session in which it was begun. What goes wrong at
the issuer's side signs nobody in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import RedirectResponse, Response

from cognify_dagster.governance import SignatureError, claim_groups
from cognify_dagster.governance.signing.sso import lifetime_problem
from cognify_dagster.ledger import LedgerError
from cognify_dagster.records import IssuerKey
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import account_for
from cognify_dagster.review.identity.oidc.http import IssuerError
from cognify_dagster.review.identity.oidc.people import alias_of, find_person, kept_claims, narrowed
from cognify_dagster.review.identity.oidc.provider import Provider, provider_of
from cognify_dagster.review.identity.signing_in import require_open, sign_in
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.oidc import FLOW_S, Flow, Identity, begin_flow, keep_identity, take_flow
from cognify_dagster.review.visit import Visit

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Answer:
    """What the issuer said, verified: the flow it belongs to, the token with its claims, and the keys that verify it."""

    flow: Flow
    token: str
    claims: Mapping[str, Any]
    keys: tuple[IssuerKey, ...]


def require_provider(visit: Visit) -> Provider:
    """Return the configured issuer.

    Raises:
        Refused: 404 where single sign-on is not set up.
    """
    provider = provider_of(visit.site)
    if provider is None:
        raise Refused(404, "Single sign-on is not set up here.", "not-found")
    return provider


def cookie_name(site: Site) -> str:
    """Return the name of the cookie that ties a sign-in to the browser that began it."""
    return "__Host-cognify-oidc" if site.config.secure else f"cognify-oidc-{site.config.port}"


def leave(visit: Visit, purpose: str, target: str, nonce: str = "") -> tuple[str, str]:
    """Begin a sign-in; return the issuer's address for it and the value of the browser's cookie (see `tie`).

    Args:
        visit: the request.
        purpose: login or sign.
        target: the page that follows a login; the pending statement of a signature.
        nonce: that of a signature; a random one for a login.

    Raises:
        IssuerError: if the issuer cannot be reached.
    """
    provider = require_provider(visit)
    given = visit.request.cookies.get(cookie_name(visit.site), "")
    browser = given if _TOKEN.fullmatch(given) else secrets.token_urlsafe(32)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    nonce = nonce or secrets.token_urlsafe(32)
    url = provider.authorize_url(state, verifier, nonce, again=purpose == "sign")
    session = visit.session.token_hash if visit.session is not None and purpose == "sign" else ""
    flow = Flow(_hash(state), _hash(browser), purpose, nonce, verifier, target, session, int(visit.now.timestamp()))
    with visit.site.store.begin() as connection:
        begin_flow(connection, flow)
    return url, browser


def tie(visit: Visit, response: Response, browser: str) -> Response:
    """Set the cookie that ties a sign-in to this browser."""
    response.set_cookie(
        cookie_name(visit.site), browser, max_age=FLOW_S, path="/", httponly=True, secure=visit.https, samesite="lax"
    )
    return response


def go_sign_in(visit: Visit, target: str) -> Response:
    """Send a browser to the issuer to sign in."""
    url, browser = leave(visit, "login", target)
    return tie(visit, RedirectResponse(url, 303), browser)


def come_back(visit: Visit) -> Answer:
    """Take the issuer's answer from the address it sent the browser to.

    Raises:
        Refused: if it is not the answer to a question that this browser asked, or the issuer refused, or its token does not hold.
    """
    provider = require_provider(visit)
    state, code = visit.query("state"), visit.query("code")
    now = int(visit.now.timestamp())
    with visit.site.store.begin() as connection:
        flow = take_flow(connection, _hash(state), now) if _TOKEN.fullmatch(state) else None
    browser = visit.request.cookies.get(cookie_name(visit.site), "")
    if flow is None or not hmac.compare_digest(flow.browser_hash, _hash(browser)):
        raise Refused(
            400, "This sign-in was not begun in this browser, was used before, or took too long. Begin again.", "state"
        )
    if flow.purpose == "sign" and (visit.session is None or visit.session.token_hash != flow.session_hash):
        raise Refused(
            403, "This signature was begun in another session. Open the version's page and sign again.", "session"
        )
    named = visit.query("iss")
    if (named or provider.names_itself()) and named != provider.config.issuer:
        raise Refused(400, "The answer names another sign-in service. Begin again.", "issuer")
    if visit.query("error") or not code:
        word = re.sub(r"[^a-z_]", "", visit.query("error"))[:40] or "no code"
        raise Refused(403, f"The sign-in service signed nobody in ({word}). Nothing was changed.", "not-signed-in")
    try:
        token, claims, keys = provider.exchange(code, flow.verifier, flow.nonce)
        problem = lifetime_problem(claims, visit.now)
    except (SignatureError, IssuerError) as error:
        raise Refused(
            403, f"The sign-in service's answer does not hold: {error}. Nothing was changed.", "token"
        ) from error
    if problem:
        raise Refused(403, f"The sign-in service's answer does not hold: {problem}.", "token")
    return Answer(flow, token, claims, keys)


def finish_login(visit: Visit, answer: Answer) -> str | None:
    """Begin a session for whom the answer names; return None, or the identity if nobody of the ledger has it.

    Raises:
        Refused: if their account is closed, or a change of their groups cannot be recorded.
    """
    config, claims = require_provider(visit).config, answer.claims
    subject = str(claims["sub"])
    person = find_person(visit.reading, config, subject, claims)
    if person is None:
        return alias_of(config.issuer, subject)
    now = int(visit.now.timestamp())
    with visit.site.store.begin() as connection:
        account = account_for(connection, person, now)
    require_open(visit, account)  # of an account that is closed nothing is written to the ledger
    try:
        claim_groups(visit.workspace, person, config.issuer, claims, hashlib.sha256(answer.token.encode()).hexdigest())
    except LedgerError as error:
        raise Refused(
            503, f"Your groups cannot be recorded in the ledger, so nobody is signed in: {error}", "ledger"
        ) from error
    kept = kept_claims(visit.refresh(), config, claims)
    sign_in(visit, account, "oidc")
    assert visit.session is not None
    with visit.site.store.begin() as connection:
        keep_identity(connection, Identity(visit.session.token_hash, config.issuer, subject, kept, now))
    if visit.user is not None:
        visit.user = narrowed(visit.site, visit.reading, visit.user, visit.session)
    return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
