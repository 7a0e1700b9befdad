"""The issuer as it describes itself (OpenID Connect Discovery 1.0), its keys, and the two requests of the code flow.

Invariants: the description names the configured issuer and no other; every address in it is reached over TLS; keys come from the
issuer's own key set, fetched anew at most once for a token with an unknown key; while a service does not answer, one visitor in a few
seconds waits for it and the others are told at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from cognify_dagster.governance import SignatureError
from cognify_dagster.governance.signing.sso import read_key_set, read_token, verify_token
from cognify_dagster.records import IssuerKey
from cognify_dagster.review.identity.oidc import http
from cognify_dagster.review.identity.oidc.config import CALLBACK, OidcConfig, oidc_config
from cognify_dagster.review.identity.oidc.http import IssuerError
from cognify_dagster.review.site import Site

KEEP_S = 3600
AGAIN_S = 5.0
"""How long after a failure nobody asks the issuer again for what it says of itself."""
_BASIC = "client_secret_basic"
_METHODS = ("client_secret_post", _BASIC)
"""In the body first: how a secret with special characters stands in a Basic header is read in two ways."""


class Provider:
    """The configured issuer; safe for many threads.

    Args:
        config: the table.
        site_url: the site's address, without a path.
    """

    def __init__(self, config: OidcConfig, site_url: str) -> None:
        self.config = config
        self.redirect = site_url + CALLBACK
        self._lock = threading.Lock()
        self._described: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, tuple[IssuerKey, ...]] | None = None
        self._failed: tuple[float, str] | None = None

    def describe(self) -> Mapping[str, Any]:
        """Return what the issuer says of itself, fetched once an hour.

        Raises:
            IssuerError: if it cannot be had, or is another issuer's.
        """
        with self._lock:
            if self._described is None or time.monotonic() - self._described[0] > KEEP_S:
                found = self._fetch(self.config.issuer.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != self.config.issuer:
                    raise IssuerError(
                        f"the sign-in service calls itself {str(found.get('issuer'))[:200]!r}, [review.oidc] issuer is "
                        f"{self.config.issuer!r}; they must be the same text"
                    )
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                    self._check_address(name, found.get(name))
                self._described = (time.monotonic(), found)
            return self._described[1]

    def keys(self, token: str = "") -> tuple[IssuerKey, ...]:
        """Return the issuer's keys, fetched once an hour, and anew if a token names one that is not among them.

        Raises:
            IssuerError: if they cannot be had.
            SignatureError: if the token is none.
        """
        address = str(self.describe()["jwks_uri"])
        kid = read_token(token).header.get("kid") if token else None
        with self._lock:
            kept = self._keys
            old = kept is None or time.monotonic() - kept[0] > KEEP_S
            if old or (kid is not None and kept is not None and kid not in {key.kid for key in kept[1]}):
                try:
                    self._keys = (time.monotonic(), read_key_set(self._fetch(address)))
                except SignatureError as error:
                    raise IssuerError(f"{error} ({address})") from error
            assert self._keys is not None
            return self._keys[1]

    def authorize_url(self, state: str, verifier: str, nonce: str, *, again: bool = False) -> str:
        """Return the address at which a person signs in.

        Args:
            state: what comes back, so that the answer belongs to this browser.
            verifier: of PKCE.
            nonce: what the token has to name.
            again: whether they have to sign in although the issuer knows them (to sign).
        """
        scopes = " ".join(self.config.sign_scopes if again else self.config.scopes)
        more = {"prompt": "login", "max_age": "0"} if again else {}
        endpoint = str(self.describe()["authorization_endpoint"])
        return http.authorize_url(self.config, endpoint, self.redirect, state, verifier, nonce, scopes, **more)

    def exchange(self, code: str, verifier: str, nonce: str) -> tuple[str, Mapping[str, Any], tuple[IssuerKey, ...]]:
        """Return the ID token for a code, its verified claims, and the keys that verify it. Its times are not judged here.

        Raises:
            IssuerError: if there is no token.
            SignatureError: if it does not verify.
        """
        described = self.describe()
        offered = described.get("token_endpoint_auth_methods_supported") or [_BASIC]
        method = next((name for name in _METHODS if name in offered), _BASIC) if self.config.client_secret else "none"
        token = http.exchange(self.config, str(described["token_endpoint"]), method, self.redirect, code, verifier)
        keys = self.keys(token)
        config = self.config
        return token, verify_token(token, keys, issuer=config.issuer, client_id=config.client_id, nonce=nonce), keys

    def names_itself(self) -> bool:
        """Whether the issuer says its name in each answer (RFC 9207)."""
        return self.describe().get("authorization_response_iss_parameter_supported") is True

    def _fetch(self, address: str) -> dict[str, Any]:
        """Ask the issuer for JSON; who waited for the lock while that failed does not wait for the same again."""
        if self._failed is not None and time.monotonic() - self._failed[0] < AGAIN_S:
            raise IssuerError(self._failed[1])
        try:
            found = http.get_json(self.config, address)
        except IssuerError as error:
            self._failed = (time.monotonic(), str(error))
            raise
        self._failed = None
        return found

    def _check_address(self, name: str, value: object) -> None:
        parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
        local = self.config.local and parts.scheme == "http"
        if not parts.hostname or (parts.scheme != "https" and not local):
            raise IssuerError(f"the sign-in service names no https address as its {name}")


def provider_of(site: Site) -> Provider | None:
    """Return the configured issuer of a site, None if there is none.

    Raises:
        ReviewError: if [review.oidc] is wrong.
    """

    def make() -> Provider | None:
        config = oidc_config(site.config)
        return Provider(config, site.config.url) if config is not None else None

    found: Provider | None = site.remember("oidc-provider", make)
    return found
