"""What other systems send and are sent, as OpenAPI describes it: reported decisions, webhooks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cognify_dagster.review.api.schemas import Schema


class HookOut(Schema):
    """A webhook endpoint and how many of its messages wait, were delivered lately, and were given up."""

    name: str
    url: str
    events: list[str]
    models: list[str]
    off_because: str | None
    waiting: int
    delivered: int
    dead: int


class DeliveryOut(Schema):
    """A message to an endpoint. `id` is its webhook-id, the same at each attempt."""

    id: str
    endpoint: str
    event: str
    entry: int | None
    state: str
    attempts: int
    status: int | None
    problem: str
    created: str
    due: str


class ReplayOut(Schema):
    """How many messages are sent again."""

    sent_again: int


class ExternalIn(Schema):
    """A decision that was made in another system. It is recorded and shown; it never counts as a sign-off."""

    system: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$", examples=["servicenow"])
    reference: str = Field(
        min_length=1, max_length=200, description="that system's id of the decision", examples=["CHG0030001"]
    )
    model: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$", examples=["credit_default"])
    version: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,49}$", examples=["1"])
    decision: str = Field(min_length=1, max_length=200, examples=["approved"])
    text: str = Field("", max_length=10_000)
    decided_by: str = Field("", max_length=200, description="who decided, as that system says")
    decided_at: str = Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$", examples=["2026-11-21T08:00:00Z"]
    )
    link: str = Field("", max_length=1000, description="an https:// address")


class ExternalOut(Schema):
    """A reported decision as it is recorded. `counts_as_sign_off` is always false."""

    entry: int
    time: str
    leaf: str
    system: str
    reference: str
    model: str
    version: str | None
    decision: str
    text: str | None = Field(description="null without the scope read:personal")
    decided_by: str | None = Field(description="null without the scope read:personal")
    decided_at: str
    link: str
    counts_as_sign_off: Literal[False] = False
    recorded_before: bool = False
