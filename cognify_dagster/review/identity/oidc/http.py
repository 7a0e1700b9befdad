"""The one module that talks HTTP to the issuer; no other knows which client library that is.

Invariants: certificates are verified; redirects are not followed; a request takes ten seconds at most, however slowly the answer
drips; of an answer no more than 256 KiB is read, and none is unpacked. The token request is made by Authlib, with PKCE (RFC 7636, S256).
"""

from __future__ import annotations

import json
import ssl
from typing import Any

from cognify_dagster.review.identity.oidc.bounds import Bounds, IssuerError, httpx
from cognify_dagster.review.identity.oidc.config import OidcConfig

__all__ = ["IssuerError", "authorize_url", "exchange", "get_json"]


def get_json(config: OidcConfig, url: str) -> dict[str, Any]:
    """Return the JSON object at an address of the issuer.

    Raises:
        IssuerError: if it cannot be had.
    """
    bounds = Bounds(url)
    try:
        with bounds, httpx.Client(**_settings(config), event_hooks=bounds.hooks) as client:
            response = client.get(url, headers={"Accept": "application/json"})
            bounds.require_in_time()
            if response.status_code != 200:
                raise IssuerError(f"the sign-in service answers {response.status_code} at {url}")
            value = json.loads(response.content)
    except (httpx.HTTPError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, IssuerError):
            raise
        bounds.require_in_time()
        raise IssuerError(
            f"the sign-in service does not answer as it should at {url}: {type(error).__name__}"
        ) from error
    if not isinstance(value, dict):
        raise IssuerError(f"the sign-in service does not answer with a JSON object at {url}")
    return value


def authorize_url(
    config: OidcConfig, endpoint: str, redirect: str, state: str, verifier: str, nonce: str, scopes: str, **more: str
) -> str:
    """Return the address at which a browser signs in, for the code flow with PKCE."""
    with _client(config, "none", redirect) as client:
        url, _ = client.create_authorization_url(
            endpoint, state=state, code_verifier=verifier, nonce=nonce, scope=scopes, **more
        )
    return str(url)


def exchange(config: OidcConfig, endpoint: str, method: str, redirect: str, code: str, verifier: str) -> str:
    """Return the ID token for a code.

    Args:
        config: the table.
        endpoint: the issuer's token endpoint.
        method: how the site authenticates there: client_secret_basic, client_secret_post or none.
        redirect: the address to which the code came.
        code: what came.
        verifier: of PKCE.

    Raises:
        IssuerError: if there is none.
    """
    from authlib.common.errors import AuthlibBaseError

    bounds = Bounds(endpoint)
    try:
        with bounds, _client(config, method, redirect, event_hooks=bounds.hooks) as client:
            answer = client.fetch_token(
                endpoint, grant_type="authorization_code", code=code, code_verifier=verifier, redirect_uri=redirect
            )
            bounds.require_in_time()
    except (AuthlibBaseError, httpx.HTTPError, OSError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, IssuerError):
            raise
        bounds.require_in_time()
        said = getattr(error, "error", "") or type(error).__name__
        raise IssuerError(f"the sign-in service gave no token: {str(said)[:80]}") from error
    if bounds.status != 200:
        raise IssuerError(f"the sign-in service gave no token: it answers {bounds.status}")
    token = answer.get("id_token") if isinstance(answer, dict) else None
    if not isinstance(token, str):
        raise IssuerError("the sign-in service gave no ID token; is the scope openid allowed for this client?")
    return token


def _client(config: OidcConfig, method: str, redirect: str, **more: Any) -> Any:
    from authlib.integrations.httpx_client import OAuth2Client

    return OAuth2Client(
        client_id=config.client_id,
        client_secret=config.client_secret or None,
        token_endpoint_auth_method=method,
        redirect_uri=redirect,
        code_challenge_method="S256",
        **_settings(config),
        **more,
    )


def _settings(config: OidcConfig) -> dict[str, Any]:
    from cognify_dagster.review.identity.oidc import bounds

    verify = ssl.create_default_context(cafile=config.ca_file) if config.ca_file else True
    return {"timeout": bounds.SECONDS, "follow_redirects": False, "verify": verify}
