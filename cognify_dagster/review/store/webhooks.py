"""Where webhooks go, and what waits to be sent.

Invariant: no secret is stored here, only where it is: a variable (`env:NAME`) or a file of the workspace (`file:NAME`).
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, Text, UniqueConstraint

from cognify_dagster.review.store.database import metadata

endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(40), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("events", String(1000), nullable=False),
    Column("models", Text, nullable=False),
    Column("template", String(40), nullable=False),
    Column("secret", String(200), nullable=False),
    Column("authorization", String(200), nullable=False),
    Column("allow_private", Integer, nullable=False),
    Column("allow_http", Integer, nullable=False),
    Column("people", Integer, nullable=False),
    Column("since", Integer, nullable=False),
    Column("created", Integer, nullable=False),
    Column("off", Integer),
    Column("off_because", String(300), nullable=False, default=""),
    UniqueConstraint("name"),
)
"""`events` and `models`: words apart by spaces, empty for all. `since`: the first entry that is told. `off`: when it was switched off."""

outbox = Table(
    "webhook_outbox",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("endpoint", String(32), nullable=False, index=True),
    Column("event", String(40), nullable=False),
    Column("seq", Integer),
    Column("body", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("first", Integer, nullable=False),
    Column("due", Integer, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("state", String(12), nullable=False, index=True),
    Column("status", Integer),
    Column("problem", String(300), nullable=False, default=""),
    Column("ended", Integer),
)
"""`state`: waiting, delivered or dead. `first`: when trying began; 24 hours later it is dead. `body`: the event as JSON."""

marks = Table(
    "webhook_marks",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the work in the background remembers: how far the ledger was told, when it was checked and what came of it."""
