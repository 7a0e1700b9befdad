"""The table `[review]` of cognify.toml: where the site is reached, what it is allowed to do.

Invariants: a site that is not reached at https:// listens on this machine alone; limits have bounds; an unknown field is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cognify_dagster.workspace import WorkspaceConfig, WorkspaceError

DEFAULT_URL = "http://localhost:3070"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "url": str, "host": str, "port": int, "database": str, "workload": str, "proxies": list, "dagster_url": str,
    "session_minutes": int, "session_hours": int, "password_login": bool, "access_batch": int, "access_minutes": int,
    "templates": str, "oidc": dict, "webhooks": dict, "contact": str, "reminders": dict,
}  # fmt: skip


@dataclass(frozen=True)
class ReviewConfig:
    """A parsed table, with its defaults.

    Args:
        url: the address people use, without a path; passkeys and cookies are bound to it.
        host, port: where the process listens.
        database: SQLAlchemy URL of the site's own database, or `env:NAME`.
        proxies: addresses of reverse proxies whose `X-Forwarded-For` is believed.
        dagster_url: where Dagster's UI is reached, for links; empty without.
        session_minutes, session_hours: a session ends after so many minutes without a visit, and after so many hours in any case.
        password_login: whether a password alone signs in (to read; it never signs anything off).
        access_batch, access_minutes: the access log is anchored in the ledger after so many lines or minutes.
        templates: folder whose `review/…` files replace the shipped ones.
        oidc, webhooks, reminders: tables read by their own modules.
        contact: whom people ask for help; shown on each page.
    """

    url: str = DEFAULT_URL
    host: str = "127.0.0.1"
    port: int = 3070
    database: str = ""
    workload: str = ""
    proxies: tuple[str, ...] = ()
    dagster_url: str = ""
    session_minutes: int = 30
    session_hours: int = 12
    password_login: bool = True
    access_batch: int = 500
    access_minutes: int = 60
    templates: Path | None = None
    oidc: Mapping[str, Any] = field(default_factory=dict)
    webhooks: Mapping[str, Any] = field(default_factory=dict)
    reminders: Mapping[str, Any] = field(default_factory=dict)
    contact: str = ""

    @property
    def secure(self) -> bool:
        """Whether the site is reached over TLS."""
        return self.url.startswith("https://")

    @property
    def rp_id(self) -> str:
        """The WebAuthn relying party: the host of `url`."""
        return urlsplit(self.url).hostname or ""


def review_config(config: WorkspaceConfig, **overrides: Any) -> ReviewConfig:
    """Read the table of a workspace; `overrides` (not None) win, as options of a command do.

    Raises:
        WorkspaceError: naming the field that is wrong.
    """
    where = f"{config.path}: [review]"
    table = dict(config.review) | {key: value for key, value in overrides.items() if value is not None}
    for key, value in table.items():
        if key not in _FIELDS:
            raise WorkspaceError(f"{where} has unknown field {key!r}; known: {', '.join(sorted(_FIELDS))}")
        if not isinstance(value, _FIELDS[key]) or (isinstance(value, bool) and _FIELDS[key] is int):
            raise WorkspaceError(f"{where} {key} has a value of the wrong type")
    for key, least, most in (
        ("port", 0, 65535), ("session_minutes", 1, 480), ("session_hours", 1, 24), ("access_batch", 1, 10_000), ("access_minutes", 1, 1440),
    ):  # fmt: skip
        if key in table and not least <= table[key] <= most:
            raise WorkspaceError(f"{where} {key} must be from {least} to {most}")
    url = str(table.get("url", f"http://localhost:{table['port']}" if table.get("port") else DEFAULT_URL)).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.username:
        raise WorkspaceError(f"{where} url must be like https://review.bank.example, without a path")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise WorkspaceError(f"{where} url must begin with https:// (http:// is for localhost only)")
    host = str(table.get("host", "127.0.0.1"))
    if parts.scheme == "http" and host not in _LOCAL:
        raise WorkspaceError(f"{where} host: without https:// the site listens on this machine alone")
    proxies = table.get("proxies", [])
    if not all(isinstance(item, str) and item for item in proxies):
        raise WorkspaceError(f"{where} proxies must be a list of addresses")
    templates = table.get("templates")
    plain = {
        key: table[key]
        for key in ("session_minutes", "session_hours", "password_login", "access_batch", "access_minutes", "contact")
        if key in table
    }
    return ReviewConfig(
        url=url,
        host=host,
        port=table.get("port", parts.port or 3070),
        database=_database(where, str(table.get("database", "")), config),
        workload=str(table.get("workload", "")),
        proxies=tuple(proxies),
        dagster_url=str(table.get("dagster_url", "")).rstrip("/"),
        templates=config.path.parent / templates if templates else None,
        oidc=table.get("oidc", {}),
        webhooks=table.get("webhooks", {}),
        reminders=table.get("reminders", {}),
        **plain,
    )


def _database(where: str, value: str, config: WorkspaceConfig) -> str:
    if not value:
        return f"sqlite:///{config.home / 'review.sqlite'}"
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        value = os.environ.get(name, "")
        if not value:
            raise WorkspaceError(f"{where} database: the environment variable {name} is not set")
    for prefix in ("postgresql://", "postgres://"):
        if value.startswith(prefix):
            return "postgresql+psycopg://" + value.removeprefix(prefix)
    if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise WorkspaceError(f"{where} database must be sqlite:///FILE, a Postgres URL or env:NAME")
    return value
