"""Puts what is new in the ledger into the outbox, each entry once; tells when the ledger does not verify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cognify_dagster.ledger import RolledBack, Tampered
from cognify_dagster.review.site import Site
from cognify_dagster.review.webhooks.endpoints import Endpoint, list_endpoints
from cognify_dagster.review.webhooks.events import KINDS, Event, events_of, sign_in_locked, verification_failed
from cognify_dagster.review.webhooks.outbox import put, read_mark, write_mark
from cognify_dagster.workspace import Reading

ENTRIES_A_TIME = 2_000
CATCH_UP = 20_000
_MARK = "told"


def feed(site: Site) -> bool:
    """Tell what is new; return whether there is more.

    Raises:
        LedgerError: if the ledger cannot be read now.
    """
    with site.store.begin() as connection:
        endpoints = [item for item in list_endpoints(connection) if item.off is None]
    if not endpoints:
        return False
    try:
        if not site.workspace.catch_up(CATCH_UP).complete:
            return True
        return _tell(site, site.read(), endpoints)
    except (Tampered, RolledBack) as error:
        outcome = "rolled_back" if isinstance(error, RolledBack) else "tampered"
        tell_failure(site, outcome, str(error))
        return False


def tell_failure(site: Site, outcome: str, text: str) -> None:
    """Tell every endpoint that wants to know that the ledger did not verify; once a day for the same failure."""
    _tell_now(site, verification_failed(site.workspace.origin, outcome, text, site.now(), site.url("/ledger")))


def tell_lock(site: Site, code: str, what: str) -> None:
    """Tell every endpoint that wants to know that attempts to sign in were locked; once an hour for the same account or address."""
    link = site.url("/access?outcome=refused")
    _tell_now(site, sign_in_locked(site.workspace.origin, code, what, site.now(), link))


def _tell_now(site: Site, event: Event) -> None:
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        for endpoint in list_endpoints(connection):
            if endpoint.off is None and endpoint.wants(event):
                put(connection, endpoint, event, now)


def _tell(site: Site, reading: Reading, endpoints: Sequence[Endpoint]) -> bool:
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        mark = read_mark(connection, _MARK) or {"next": 0, "leaf": ""}
    start = max(int(mark["next"]), min(item.since for item in endpoints))
    if mark["leaf"] and mark["next"] <= reading.size:
        before = reading.view.entry(mark["next"] - 1).entry.leaf.hex()
        if before != mark["leaf"]:
            text = f"entry {mark['next'] - 1} is no longer the one that was there when it was told"
            tell_failure(site, "tampered", text)
    elif mark["next"] > reading.size:  # what follows now are other entries, to be told anew
        tell_failure(site, "rolled_back", f"the ledger has {reading.size} entries; {mark['next']} were told of")
        with site.store.begin() as connection:
            write_mark(
                connection, _MARK, {"next": reading.size, "leaf": reading.view.entry(reading.size - 1).entry.leaf.hex()}
            )
        return False
    end = min(reading.size, start + ENTRIES_A_TIME)
    if end <= start:
        return False
    found = list(entry_events(site, reading, start, end))
    leaf = reading.view.entry(end - 1).entry.leaf.hex()
    with site.store.begin() as connection:
        for event in found:
            for endpoint in endpoints:
                if event.seq is not None and event.seq >= endpoint.since and endpoint.wants(event):
                    put(connection, endpoint, event, now)
        write_mark(connection, _MARK, {"next": end, "leaf": leaf})
    return end < reading.size


def entry_events(site: Site, reading: Reading, start: int, end: int) -> Iterator[Event]:
    """Yield what the entries from `start` to before `end` tell."""
    for item in reading.view.entries[max(start, 0) : min(end, reading.size)]:
        if item.entry.kind in KINDS:
            found = reading.at(item.entry.seq)  # None where the payload was erased: nothing is left to tell
            if found is not None:
                yield from events_of(reading, found, site.url)
