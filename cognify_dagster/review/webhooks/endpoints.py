"""The endpoints: other systems that are told. They are added on the machine that runs the site, not through its pages."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.store import webhooks as tables
from cognify_dagster.review.webhooks.address import parse_target
from cognify_dagster.review.webhooks.events import EVENTS, TEST, Event
from cognify_dagster.review.webhooks.payloads import GENERIC, templates
from cognify_dagster.review.webhooks.signing import read_text

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,99}")
_HEADER = re.compile(r"[\x20-\x7e]{1,4000}")


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Args:
        id: unique for ever, part of every message's id.
        name: what people call it.
        url: where it is.
        events, models: what is told; empty for all.
        template: which template makes the body.
        secret: where the signing secret is: `env:NAME` or `file:NAME`.
        authorization: where the value of an Authorization header is, `env:NAME`; empty without one.
        allow_private, allow_http: whether it may lie inside the network, or be reached without TLS.
        people: whether it is told who acted.
        since: the first entry that is told.
        created, off: seconds since 1970; `off`: when it was switched off, None while it is on.
        off_because: why.
    """

    id: str
    name: str
    url: str
    events: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    template: str = GENERIC
    secret: str = ""
    authorization: str = ""
    allow_private: bool = False
    allow_http: bool = False
    people: bool = False
    since: int = 0
    created: int = 0
    off: int | None = None
    off_because: str = ""

    def wants(self, event: Event) -> bool:
        """Whether it is told of an event."""
        if event.name == TEST:
            return True
        named = not self.events or event.name in self.events
        return named and (not self.models or not event.model or event.model in self.models)

    @property
    def shown_url(self) -> str:
        """The address without its query, which may hold a token."""
        place, mark, _ = self.url.partition("?")
        return place + ("?…" if mark else "")

    def header(self) -> dict[str, str]:
        """Return the Authorization header, if it has one.

        Raises:
            ReviewError: if its variable is not set, or cannot stand in a header.
        """
        if not self.authorization:
            return {}
        value = read_text(Path(), self.authorization, f"webhook {self.name}")
        if not _HEADER.fullmatch(value):
            raise ReviewError(f"webhook {self.name}: the value of {self.authorization} cannot stand in a header")
        return {"Authorization": value}


def make_endpoint(
    name: str,
    url: str,
    *,
    now: int,
    since: int,
    events: Sequence[str] = (),
    models: Sequence[str] = (),
    template: str = GENERIC,
    secret: str = "",
    authorization: str = "",
    allow_private: bool = False,
    allow_http: bool = False,
    people: bool = False,
    override: Path | None = None,
) -> Endpoint:
    """Check what an endpoint is made of.

    Args:
        name: up to 40 of a-z 0-9 _ -.
        url: where it is.
        now: seconds since 1970.
        since: the first entry that is told.
        events, models: what is told; empty for all.
        template: name of a template.
        secret: `env:NAME`; empty: `file:NAME`, which the caller writes.
        authorization: `env:NAME` or empty.
        allow_private, allow_http, people: see `Endpoint`.
        override: the folder of `[review] templates`.

    Raises:
        ReviewError: naming what is wrong.
    """
    if not NAME.fullmatch(name):
        raise ReviewError("a webhook's name is up to 40 of a-z 0-9 _ -")
    unknown = sorted(set(events) - (set(EVENTS) - {TEST}))
    if unknown:
        raise ReviewError(f"there is no event {unknown[0]!r}; there are {', '.join(sorted(set(EVENTS) - {TEST}))}")
    if template not in templates(override):
        raise ReviewError(f"there is no template {template!r}; there are {', '.join(templates(override))}")
    for option, value in (("--secret", secret), ("--authorization", authorization)):
        if value and not _VARIABLE.fullmatch(value):
            raise ReviewError(f"{option} names a variable of the site's process: env:NAME")
    if any(not re.fullmatch(r"[A-Za-z0-9._-]{1,80}", model) for model in models):
        raise ReviewError("a model is named by its key")
    parse_target(url, allow_http=allow_http)
    return Endpoint(
        id=secrets.token_hex(16), name=name, url=url, events=tuple(dict.fromkeys(events)),
        models=tuple(dict.fromkeys(models)), template=template, secret=secret or f"file:{name}",
        authorization=authorization, allow_private=allow_private, allow_http=allow_http, people=people, since=since, created=now,
    )  # fmt: skip


def add_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Store an endpoint.

    Raises:
        ReviewError: if its name is taken.
    """
    if find_endpoint(connection, endpoint.name) is not None:
        raise ReviewError(f"there is a webhook {endpoint.name!r} already; remove it first, or choose another name")
    values = {column.name: getattr(endpoint, column.name) for column in tables.endpoints.columns}
    values |= {"events": " ".join(endpoint.events), "models": " ".join(endpoint.models)}
    values |= {name: int(values[name]) for name in ("allow_private", "allow_http", "people")}
    connection.execute(insert(tables.endpoints).values(values))


def find_endpoint(connection: Connection, name: str) -> Endpoint | None:
    """Return the endpoint of a name."""
    return next((item for item in list_endpoints(connection) if item.name == name), None)


def list_endpoints(connection: Connection) -> list[Endpoint]:
    """Return all endpoints by name, also those that are switched off."""
    rows = connection.execute(select(tables.endpoints).order_by(tables.endpoints.c.name)).mappings()
    return [_endpoint(dict(row)) for row in rows]


def remove_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Forget an endpoint and all that was or is to be sent to it."""
    connection.execute(delete(tables.outbox).where(tables.outbox.c.endpoint == endpoint.id))
    connection.execute(delete(tables.endpoints).where(tables.endpoints.c.id == endpoint.id))


def switch(connection: Connection, endpoint: Endpoint, off: int | None, because: str = "") -> None:
    """Switch an endpoint off (at a time, with the reason) or on again (None)."""
    change = update(tables.endpoints).where(tables.endpoints.c.id == endpoint.id)
    connection.execute(change.values(off=off, off_because=because[:300]))


def _endpoint(row: dict[str, Any]) -> Endpoint:
    row["events"], row["models"] = tuple(row["events"].split()), tuple(row["models"].split())
    for name in ("allow_private", "allow_http", "people"):
        row[name] = bool(row[name])
    return Endpoint(**row)
