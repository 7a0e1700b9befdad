"""What people do with webhooks: add, test, replay, remove. The command and the page both come here."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.site import Site
from cognify_dagster.review.webhooks import outbox
from cognify_dagster.review.webhooks.delivering import attempt
from cognify_dagster.review.webhooks.endpoints import (
    Endpoint,
    add_endpoint,
    find_endpoint,
    list_endpoints,
    make_endpoint,
    remove_endpoint,
    switch,
)
from cognify_dagster.review.webhooks.events import trial_event
from cognify_dagster.review.webhooks.feeding import entry_events
from cognify_dagster.review.webhooks.outbox import Message
from cognify_dagster.review.webhooks.payloads import render_payload
from cognify_dagster.review.webhooks.sending import Answer, SendError
from cognify_dagster.review.webhooks.signing import make_secret, parse_secrets, read_text, secret_file, store_secret

MAX_REPLAY = 10_000


@dataclass(frozen=True)
class Overview:
    """An endpoint with what waits, was delivered in the last 30 days, and is dead."""

    endpoint: Endpoint
    waiting: int
    delivered: int
    dead: int


def add(site: Site, name: str, url: str, **options: Any) -> tuple[Endpoint, str]:
    """Add an endpoint; it is told what comes from now on.

    Args:
        site: the site.
        name, url: the endpoint.
        options: see `make_endpoint`.

    Returns:
        The endpoint, and its secret if one was made: it is shown this once.

    Raises:
        ReviewError: naming what is wrong.
        AddressRefused: if the URL may not be sent to.
    """
    config = site.workspace.config
    now = int(site.now().timestamp())
    since = site.workspace.ledger.size()
    endpoint = make_endpoint(name, url, now=now, since=since, override=site.config.templates, **options)
    event = trial_event(site.workspace.origin, site.url("/webhooks"))
    render_payload(event.body(people=False), "msg_0", endpoint.template, site.config.templates)
    if endpoint.secret.startswith("env:"):
        with contextlib.suppress(_NotSet):
            parse_secrets(_if_set(site, endpoint), f"webhook {name}")
        with site.store.begin() as connection:
            add_endpoint(connection, endpoint)
        return endpoint, ""
    secret = make_secret()
    with site.store.begin() as connection:
        add_endpoint(connection, endpoint)
        store_secret(config.home, name, secret)
    return endpoint, secret


class _NotSet(Exception):
    """The variable is not set here; it may be for the site's process."""


def _if_set(site: Site, endpoint: Endpoint) -> str:
    try:
        return read_text(site.workspace.config.home, endpoint.secret, f"webhook {endpoint.name}")
    except ReviewError as error:
        raise _NotSet from error


def get(site: Site, name: str) -> Endpoint:
    """Return the endpoint of a name.

    Raises:
        ReviewError: if there is none.
    """
    with site.store.begin() as connection:
        found = find_endpoint(connection, name)
    if found is None:
        raise ReviewError(f"there is no webhook {name!r}; `cognify webhook list` shows them")
    return found


def remove(site: Site, name: str) -> Endpoint:
    """Forget an endpoint, its messages and its secret.

    Raises:
        ReviewError: if there is none.
    """
    endpoint = get(site, name)
    with site.store.begin() as connection:
        remove_endpoint(connection, endpoint)
    if endpoint.secret.startswith("file:"):
        secret_file(site.workspace.config.home, name).unlink(missing_ok=True)
    return endpoint


def overview(site: Site) -> list[Overview]:
    """Return all endpoints with their counts."""
    with site.store.begin() as connection:
        endpoints, counts = list_endpoints(connection), outbox.counts(connection)
    return [
        Overview(item, *(counts.get((item.id, state), 0) for state in (outbox.WAITING, outbox.DELIVERED, outbox.DEAD)))
        for item in endpoints
    ]


def messages(site: Site, state: str | None = None, endpoint: Endpoint | None = None, limit: int = 100) -> list[Message]:
    """Return messages, newest first."""
    with site.store.begin() as connection:
        return outbox.list_messages(connection, state, endpoint.id if endpoint is not None else None, limit)


def send_test(site: Site, name: str) -> Answer:
    """Send a test now; one that is accepted switches an endpoint on again.

    Raises:
        ReviewError: if there is no such endpoint, or nothing may be sent there.
        SendError: if it did not come to an answer.
    """
    endpoint = get(site, name)
    event = trial_event(site.workspace.origin, site.url("/webhooks"))
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        outbox.put(connection, endpoint, event, now)
        message = outbox.find_message(connection, event.id_for(endpoint.id))
    assert message is not None  # it was put in just now
    try:
        answer = attempt(site, endpoint, message)
    finally:
        _forget_unsent(site, message)
    if answer.accepted and endpoint.off is not None:
        with site.store.begin() as connection:
            switch(connection, endpoint, None)
    return answer


def _forget_unsent(site: Site, message: Message) -> None:
    """A test that was not accepted is not sent later by itself: whoever tested knows."""
    with site.store.begin() as connection:
        found = outbox.find_message(connection, message.id)
        if found is not None and found.state == outbox.WAITING:
            now = int(site.now().timestamp())
            late = Message(**{**vars(found), "first": now - outbox.GIVE_UP_S})
            outbox.failed(connection, late, found.status, found.problem, now)


def replay(site: Site, ids: Collection[str]) -> int:
    """Send messages once more, under their ids; return how many.

    Raises:
        ReviewError: if one is not there.
    """
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        for message in ids:
            if outbox.find_message(connection, message) is None:
                raise ReviewError(f"there is no message {message[:80]!r}; `cognify webhook list --messages` shows them")
        return outbox.revive(connection, ids, now) if ids else 0


def replay_dead(site: Site, endpoint: Endpoint | None = None) -> int:
    """Send what was given up once more; return how many messages."""
    found = messages(site, outbox.DEAD, endpoint, MAX_REPLAY)
    return replay(site, [item.id for item in found])


def replay_entries(site: Site, endpoint: Endpoint, start: int, end: int) -> int:
    """Tell an endpoint again what the entries from `start` to before `end` tell, also those before it was added.

    Returns:
        How many messages are to be sent.

    Raises:
        ReviewError: for more than 10,000 entries at once.
    """
    if not 0 <= start < end or end - start > MAX_REPLAY:
        raise ReviewError(f"name a range of at most {MAX_REPLAY} entries, the first before the last")
    reading = site.read()
    now = int(site.now().timestamp())
    found = [event for event in entry_events(site, reading, start, end) if endpoint.wants(event)]
    with site.store.begin() as connection:
        return sum(outbox.put(connection, endpoint, event, now, again=True) for event in found)


def deliver_now(site: Site, endpoints: Sequence[Endpoint]) -> Mapping[str, str]:
    """Send what waits from this process, once each; return what came of each message by its id, empty for accepted."""
    said: dict[str, str] = {}
    now = int(site.now().timestamp())
    for endpoint in endpoints:
        with site.store.begin() as connection:
            waiting = outbox.due(connection, [endpoint.id], now, MAX_REPLAY)
        for message in waiting:
            try:
                answer = attempt(site, endpoint, message)
                said[message.id] = "" if answer.accepted else f"it answered {answer.status}"
            except (ReviewError, SendError) as error:
                said[message.id] = str(error)
            if said[message.id]:
                break
    return said
