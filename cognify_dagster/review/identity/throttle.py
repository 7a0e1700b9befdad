"""Bounds attempts to sign in, per account and per address.

Invariants: a lock is an alarm, told once; an attempt is counted before it is judged, so that many at once gain nothing; a locked account is not told from one that
does not exist; the processes of one site count together, in its database.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import time

from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy.exc import IntegrityError

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import Store
from cognify_dagster.review.store import throttles as table

_log = logging.getLogger("cognify.review")
MINUTES = 15
_LOCKS_TOLD = 20
"""Locks that a process tells of in an hour."""
PER_ACCOUNT = RateLimitItemPerMinute(10, MINUTES)
PER_ADDRESS = RateLimitItemPerMinute(100, MINUTES)


class DatabaseStorage(Storage):
    """Storage of the library `limits` in the site's database."""

    STORAGE_SCHEME = None

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    @property
    def base_exceptions(self) -> type[Exception]:
        """What a failing database raises."""
        return Exception

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter."""
        now = int(time.time())
        try:
            with self.store.begin() as connection:
                return table.add_to(connection, _short(key), amount, now, now + expiry)
        except IntegrityError:  # another process made it first
            with self.store.begin() as connection:
                return table.add_to(connection, _short(key), amount, now, now + expiry)

    def get(self, key: str) -> int:
        """Return a counter."""
        with self.store.begin() as connection:
            return table.read_counter(connection, _short(key), int(time.time()))[0]

    def get_expiry(self, key: str) -> float:
        """Return when a counter ends."""
        with self.store.begin() as connection:
            return table.read_counter(connection, _short(key), int(time.time()))[1]

    def check(self) -> bool:
        """Whether the database answers."""
        return self.store.alive()

    def reset(self) -> int | None:
        """Remove all counters."""
        with self.store.begin() as connection:
            return table.clear(connection)

    def clear(self, key: str) -> None:
        """Remove a counter."""
        with self.store.begin() as connection:
            table.clear(connection, _short(key))


def _short(key: str) -> str:
    """What people type is not kept as it is: somebody may type their password where the login belongs."""
    return hashlib.sha256(key.encode()).hexdigest()


def attempt(site: Site, address: str, login: str | None = None) -> None:
    """Count an attempt to sign in.

    Args:
        site: the running site.
        address: where it comes from.
        login: for which account; None where the attempt names none (a passkey).

    Raises:
        Refused: 429 once there were too many.
    """
    limiter = _limiter(site)
    if not limiter.hit(PER_ADDRESS, "address", _network(address)):
        _refuse(site, limiter, "locked-address", PER_ADDRESS, "address", _network(address))
    if login is not None and not limiter.hit(PER_ACCOUNT, "account", login.lower()):
        _refuse(site, limiter, "locked-account", PER_ACCOUNT, "account", login.lower())


def succeeded(site: Site, login: str) -> None:
    """Forget the failed attempts of an account."""
    _limiter(site).clear(PER_ACCOUNT, "account", login.lower())


def _limiter(site: Site) -> FixedWindowRateLimiter:
    found: FixedWindowRateLimiter = site.remember(
        "throttle", lambda: FixedWindowRateLimiter(DatabaseStorage(site.store))
    )
    return found


def _refuse(site: Site, limiter: FixedWindowRateLimiter, code: str, limit: RateLimitItemPerMinute, *names: str) -> None:
    _alarm(site, code, _short(" ".join(names)))
    left = limiter.get_window_stats(limit, *names).reset_time - time.time()
    minutes = max(1, -(-int(left) // 60))
    raise Refused(
        429,
        f"Too many attempts. Try again in {minutes} {'minute' if minutes == 1 else 'minutes'}, or sign in with a passkey.",
        code,
    )


def _alarm(site: Site, code: str, what: str) -> None:
    """Tell once of each lock: in the process's log, and to the webhooks that want to know."""
    from cognify_dagster.review.webhooks.feeding import tell_lock

    hour = int(site.now().timestamp()) // 3600
    with site.lock:
        told: dict[str, int] = site.remember("locks told", dict)
        if told.get(what) == hour:
            return
        for old in [name for name, when in told.items() if when != hour]:
            del told[old]
        if len(told) >= _LOCKS_TOLD:  # one alarm more says no more
            return
        told[what] = hour
    _log.warning("signing in was locked (%s): too many attempts; see the access log", code)
    tell_lock(site, code, what)


def _network(address: str) -> str:
    """One household's or server's IPv6 addresses count together."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
