"""Signing in at the company's sign-in service, and coming back from there."""

from __future__ import annotations

from starlette.responses import Response

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.oidc.flow import come_back, finish_login, go_sign_in
from cognify_dagster.review.identity.oidc.http import IssuerError
from cognify_dagster.review.identity.oidc.signing import finish_signature
from cognify_dagster.review.identity.signing_in import safe_next
from cognify_dagster.review.identity.throttle import attempt
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit


@page("/oidc/login", Need.PUBLIC)
def oidc_login(visit: Visit) -> Response:
    """Send the browser to the sign-in service. A link, not a form: a form's answer may not lead away from this site."""
    attempt(visit.site, visit.address)  # one address must not use up the sign-ins that may be open at a time
    try:
        return go_sign_in(visit, safe_next(visit.query("next", "/")))
    except IssuerError as error:
        visit.detail = str(error)[:300]
        raise Refused(
            503,
            "The company's sign-in service does not answer as it should. Sign in another way, or try again later.",
            "issuer",
        ) from error


@page("/oidc/callback", Need.PUBLIC)
def oidc_callback(visit: Visit) -> Response:
    """Take the sign-in service's answer: a session begins, or a statement is signed."""
    answer = come_back(visit)
    if answer.flow.purpose == "sign":
        return finish_signature(visit, answer)
    unknown = finish_login(visit, answer)
    if unknown is not None:
        visit.detail = f"nobody of the ledger is {unknown}"[:300]
        return visit.render("oidc-unknown.html.j2", status=403, identity=unknown)
    return visit.redirect(answer.flow.target)
