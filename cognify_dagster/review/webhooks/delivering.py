"""Sends what is due. Endpoints are served side by side, the messages of one in order; one that does not answer delays only itself."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag

from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.site import Site
from cognify_dagster.review.webhooks import outbox
from cognify_dagster.review.webhooks.endpoints import Endpoint, list_endpoints, switch
from cognify_dagster.review.webhooks.outbox import Message
from cognify_dagster.review.webhooks.payloads import render_payload
from cognify_dagster.review.webhooks.sending import Answer, SendError, post
from cognify_dagster.review.webhooks.signing import parse_secrets, read_text, sign

MESSAGES_A_TIME = 200
BUDGET_S = 20.0
THREADS = 4
KEEP_S = 30 * 24 * 3600
_GONE = 410
_log = logging.getLogger("cognify.review")


def deliver(site: Site) -> int:
    """Send what is due, for a bounded time; return how many messages were accepted."""
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        endpoints = {item.id: item for item in list_endpoints(connection) if item.off is None}
        outbox.give_up(connection, endpoints.keys(), now)
        outbox.purge(connection, now - KEEP_S)
        waiting = outbox.due(connection, endpoints.keys(), now, MESSAGES_A_TIME)
    by_endpoint: dict[str, list[Message]] = defaultdict(list)
    for message in waiting:
        by_endpoint[message.endpoint].append(message)
    if not by_endpoint:
        return 0
    until = time.monotonic() + BUDGET_S
    with ThreadPoolExecutor(THREADS, thread_name_prefix="webhook") as pool:
        jobs = [pool.submit(_serve, site, endpoints[key], found, until) for key, found in by_endpoint.items()]
        return sum(job.result() for job in jobs)


def stopping(site: Site) -> bool:
    """Whether the site is being stopped: whoever works in the background ends then."""
    flag = site.state.get("stopping")
    return isinstance(flag, Flag) and flag.is_set()


def attempt(site: Site, endpoint: Endpoint, message: Message) -> Answer:
    """Send one message and note what came of it.

    Raises:
        ReviewError: if it cannot be made or may not be sent.
        SendError: if it did not come to an answer.
    """
    now = int(site.now().timestamp())
    try:
        answer = _send(site, endpoint, message, now)
    except (ReviewError, SendError) as error:
        with site.store.begin() as connection:
            outbox.failed(connection, message, None, str(error), now)
        raise
    except Exception as error:
        with site.store.begin() as connection:
            outbox.failed(connection, message, None, f"{type(error).__name__}; see the site's log", now)
        raise
    with site.store.begin() as connection:
        if answer.accepted:
            outbox.delivered(connection, message, answer.status, now)
        else:
            outbox.failed(connection, message, answer.status, f"it answered {answer.status}", now, answer.wait_s)
        if answer.status == _GONE:
            switch(
                connection, endpoint, now, "it answered 410: it wants no more; a test that it accepts switches it on"
            )
    return answer


def _send(site: Site, endpoint: Endpoint, message: Message, now: int) -> Answer:
    what = f"webhook {endpoint.name}"
    body = render_payload(message.content, message.id, endpoint.template, site.config.templates)
    keys = parse_secrets(read_text(site.workspace.config.home, endpoint.secret, what), what)
    headers = sign(keys, message.id, now, body) | endpoint.header()
    return post(
        endpoint.url, body, headers, allow_private=endpoint.allow_private, allow_http=endpoint.allow_http
    )  # fmt: skip


def _serve(site: Site, endpoint: Endpoint, messages: Sequence[Message], until: float) -> int:
    """Send the messages of one endpoint until one is not accepted: the others wait then as long as that one."""
    accepted = 0
    for number, message in enumerate(messages):
        if stopping(site) or (number and time.monotonic() > until):
            break
        try:
            done = attempt(site, endpoint, message).accepted
        except (ReviewError, SendError) as error:
            done = False
            _log.warning("webhook %s: %s was not delivered: %s", endpoint.name, message.id, error)
        except Exception:
            done = False
            _log.exception("webhook %s: %s was not delivered", endpoint.name, message.id)
        if done:
            accepted += 1
            continue
        with site.store.begin() as connection:
            now = outbox.find_message(connection, message.id)
            if now is not None and now.state == outbox.WAITING:
                outbox.postpone(connection, messages[number + 1 :], now.due)
        break
    return accepted
