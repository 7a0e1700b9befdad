"""Sends the digests that are planned, through the channels of `[[notify]]`.

Invariants: a mail that is not taken is tried again until it is taken or the next day's replaces it; one of which nobody knows whether it
was taken is not sent a second time; an address is looked up when a mail is sent, and who is no longer enrolled gets none. Nothing
of a password is logged: what a channel says holds none.
"""

from __future__ import annotations

import hashlib
import logging
import time

from cognify_dagster.governance import Directory, directory
from cognify_dagster.governance.oversight.news import address_of
from cognify_dagster.review.reminders.config import Reminders
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import reminders as store
from cognify_dagster.review.webhooks.delivering import stopping
from cognify_dagster.workspace.notify import DeliveryError, DeliveryUnclear, Message

MAILS_A_TIME = 200
BUDGET_S = 20.0
FAILURES_A_TIME = 3
NO_ADDRESS = "no e-mail address: enrol the alias mail:…"
_log = logging.getLogger("cognify.review")


def send_due(site: Site, config: Reminders) -> int:
    """Send what is due, for a bounded time; return how many mails were taken.

    Raises:
        LedgerError: if the ledger, which knows the addresses, cannot be read now.
    """
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        store.end_lost(connection, now)
        waiting = store.due_mails(connection, now, MAILS_A_TIME) if config.channels else []
    if not waiting:
        return 0
    reading = site.read()
    people, until = directory(reading), time.monotonic() + BUDGET_S
    taken = in_a_row = 0
    for mail in waiting:
        if stopping(site) or in_a_row >= FAILURES_A_TIME or time.monotonic() > until:
            break
        if not people.valid_keys(mail.person, reading.size):
            _end(site, mail, store.REPLACED, "no longer enrolled")
            continue
        state = _send(site, config, mail, _message(site, people, mail))
        in_a_row = in_a_row + 1 if state == store.WAITING else 0
        taken += state == store.SENT
    return taken


def _message(site: Site, people: Directory, mail: store.Mail) -> Message:
    value = mail.value
    name = hashlib.sha256("\0".join(("cognify.digest.v1", site.workspace.origin, mail.person, mail.day)).encode())
    return Message(
        person=mail.person,
        name=people.name(mail.person),
        address=address_of(people, mail.person),
        subject=mail.subject,
        lines=tuple(value["lines"]),
        items=tuple(value["items"]),
        id="digest-" + name.hexdigest()[:40],
    )


def _send(site: Site, config: Reminders, mail: store.Mail, message: Message) -> str:
    """Send one mail, if nobody else does; return what it is now."""
    channel = config.channel_for(message)
    if channel is None:
        return _end(site, mail, store.UNREACHABLE, NO_ADDRESS)
    with site.store.begin() as connection:
        if not store.claim_mail(connection, mail, int(site.now().timestamp())):
            return ""
    try:
        channel.send(message)
    except DeliveryUnclear as error:
        _log.warning("the digest of %s may have been taken, and is not sent again: %s", mail.person, error)
        return _end(site, mail, store.UNCLEAR, str(error))
    except DeliveryError as error:
        _log.warning("the digest of %s was not taken; it is tried again: %s", mail.person, error)
        return _retry(site, mail, str(error))
    except Exception as error:
        _log.exception("the digest of %s was not sent; it is tried again", mail.person)
        return _retry(site, mail, f"{type(error).__name__}; see the site's log")
    return _end(site, mail, store.SENT)


def _end(site: Site, mail: store.Mail, state: str, problem: str = "") -> str:
    with site.store.begin() as connection:
        store.end_mail(connection, mail, state, int(site.now().timestamp()), problem)
    return state


def _retry(site: Site, mail: store.Mail, problem: str) -> str:
    with site.store.begin() as connection:
        store.retry_mail(connection, mail, problem, int(site.now().timestamp()))
    return store.WAITING
