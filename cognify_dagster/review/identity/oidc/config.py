"""The table `[review.oidc]` of cognify.toml: the company's sign-in service.

Invariants: the issuer is reached over TLS (plain http only on this machine); a secret stands in the environment, never in the file;
an unknown field is refused.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.errors import ReviewError

CALLBACK = "/oidc/callback"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_FIELDS: dict[str, type] = {
    "issuer": str, "client_id": str, "client_secret": str, "name": str, "groups_claim": str, "person_claim": str,
    "scopes": list, "sign_scopes": list, "ca_file": str,
}  # fmt: skip
_SCOPE = re.compile(r"[!#-\[\]-~]{1,100}")


@dataclass(frozen=True)
class OidcConfig:
    """A parsed table.

    Args:
        issuer: the issuer's URL, exactly as it calls itself.
        client_id: the site as the issuer knows it.
        client_secret: the site's secret there; empty for a public client (PKCE is used in any case).
        name: how the button calls the service.
        groups_claim: the claim proposed for a group mapping.
        person_claim: a claim whose value is a person's alias `user:VALUE`; empty: only `oidc:ISSUER|SUBJECT` counts.
        scopes: asked for when somebody signs in.
        sign_scopes: asked for when somebody signs; the ID token then stays in the ledger, so ask for little.
        ca_file: certificates of the company's own authority, PEM.
    """

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    name: str = "the company's sign-in service"
    groups_claim: str = "groups"
    person_claim: str = ""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    sign_scopes: tuple[str, ...] = ("openid",)
    ca_file: str = ""

    @property
    def local(self) -> bool:
        """Whether the issuer runs on this machine without TLS, as in a test."""
        return self.issuer.startswith("http://")


def oidc_config(config: ReviewConfig) -> OidcConfig | None:
    """Read the table; None where there is none.

    Raises:
        ReviewError: naming the field that is wrong.
    """
    table = dict(config.oidc)
    if not table:
        return None
    for key, value in table.items():
        if key not in _FIELDS:
            raise _wrong(key, f"is unknown; known: {', '.join(sorted(_FIELDS))}")
        if not isinstance(value, _FIELDS[key]):
            raise _wrong(key, "has a value of the wrong type")
    issuer, parts = table.get("issuer", ""), urlsplit(table.get("issuer", ""))
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise _wrong("issuer", "must be the issuer's URL, such as https://login.bank.example")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise _wrong("issuer", "must begin with https:// (http:// is for this machine only)")
    if not table.get("client_id"):
        raise _wrong("client_id", "is missing: it is what the issuer calls this site")
    plain: dict[str, Any] = {key: table[key] for key in ("name", "groups_claim", "person_claim") if table.get(key)}
    for key in ("scopes", "sign_scopes"):
        if key in table:
            plain[key] = _scopes(key, table[key])
    ca_file = table.get("ca_file", "")
    if ca_file and not Path(ca_file).is_file():
        raise _wrong("ca_file", f"{ca_file}: there is no such file")
    secret = _secret(table.get("client_secret", ""))
    return OidcConfig(issuer=issuer, client_id=table["client_id"], client_secret=secret, ca_file=ca_file, **plain)


def _scopes(key: str, value: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(item, str) and _SCOPE.fullmatch(item) for item in value):
        raise _wrong(key, 'must be a list of words, such as ["openid", "email"]')
    return tuple(dict.fromkeys(["openid", *value]))


def _secret(value: str) -> str:
    if not value:
        return ""
    if not value.startswith("env:"):
        raise _wrong("client_secret", 'must be "env:NAME": a secret stands in the environment, not in this file')
    found = os.environ.get(value.removeprefix("env:"), "")
    if not found:
        raise _wrong("client_secret", f"the environment variable {value.removeprefix('env:')} is not set")
    return found


def _wrong(key: str, text: str) -> ReviewError:
    return ReviewError(f"[review.oidc] {key}: {text}")
