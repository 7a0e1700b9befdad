"""Bounds what somebody who is not signed in can write to the access log: a few lines of their own, then one line a minute with a count.

Invariants: every request is either a line or counted in one, and none is both; lines and counters are bounded however many requests come
and from however many networks; a request of somebody who is signed in is never counted here. A killed process loses the counts of the
minute that it was in.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import datetime, timezone

from cognify_dagster.review.store.access import Line

COUNTED = "requests_counted"
"""The action of a line that stands for many requests."""
ELSEWHERE = "other networks"
MAX_NETWORKS = 4_096
"""Networks whose budget is remembered; the one that was quiet longest gives way."""
MAX_COUNTS = 50
"""Lines with counts in a minute; networks beyond them are counted together, one line a class."""
_MINUTE_US = 60_000_000
_SIGN_IN = ("login", "logout", "oidc", "invit")
_CUT_SHORT = frozenset({400, 408, 413, 414, 503})


@dataclass(frozen=True)
class Budget:
    """How many lines there may be: `burst` at once, then `each_minute` more a minute."""

    burst: int
    each_minute: int


OF_NETWORK = Budget(20, 2)
OF_ALL = Budget(120, 20)
SIGN_IN_OF_NETWORK = Budget(100, 10)
"""Failed sign-ins: more than the throttle of sign-ins lets through from one address, so that each has its line with the account."""
SIGN_IN_OF_ALL = Budget(300, 60)


@dataclass
class _Purse:
    """What is left of a budget."""

    left: float
    at_us: int

    def take(self, budget: Budget, now_us: int) -> bool:
        """Take one, if there is one."""
        gained = max(0, now_us - self.at_us) / _MINUTE_US * budget.each_minute
        self.left, self.at_us = min(float(budget.burst), self.left + gained), max(self.at_us, now_us)
        if self.left < 1:
            return False
        self.left -= 1
        return True


_Key = tuple[int, str, str]
"""Minute, network, class."""


class Strangers:
    """Decides which requests of strangers get a line, and counts the others by minute, network and class. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._purses: OrderedDict[tuple[str, str], _Purse] = OrderedDict()
        self._all: dict[str, _Purse] = {}
        self._written = 0  # counts of minutes before this one were handed out
        self._counts: dict[_Key, Counter[int]] = {}

    def admit(self, line: Line) -> bool:
        """Whether a request gets a line of its own; it is counted if not."""
        network, kind = network_of(line.address), class_of(line)
        with self._lock:
            if self._may(network, kind, line.time_us):
                return True
            self._add(network, kind, line)
        return False

    def count(self, line: Line) -> None:
        """Count a request, whatever its budget."""
        with self._lock:
            self._add(network_of(line.address), class_of(line), line)

    def over(self, now_us: int) -> list[Line]:
        """Return the counts of minutes that are over, each once."""
        minute = now_us // _MINUTE_US
        with self._lock:
            if minute <= self._written:
                return []
            self._written = minute
            return self._taken([key for key in self._counts if key[0] < minute])

    def all(self) -> list[Line]:
        """Return what is counted now, once: the site ends."""
        with self._lock:
            return self._taken(list(self._counts))

    def _may(self, network: str, kind: str, now_us: int) -> bool:
        sign_in = kind == "sign-in"
        mine, everybodys = (SIGN_IN_OF_NETWORK, SIGN_IN_OF_ALL) if sign_in else (OF_NETWORK, OF_ALL)
        key = (network, kind)
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = _Purse(mine.burst, now_us)
            while len(self._purses) > MAX_NETWORKS:
                self._purses.popitem(last=False)
        self._purses.move_to_end(key)
        if not purse.take(mine, now_us):
            return False
        return self._all.setdefault(kind, _Purse(everybodys.burst, now_us)).take(everybodys, now_us)

    def _add(self, network: str, kind: str, line: Line) -> None:
        minute = max(
            line.time_us // _MINUTE_US, self._written
        )  # a slow request of a minute that was written counts in this one
        key = (minute, network, kind)
        if key not in self._counts and len(self._counts) >= MAX_COUNTS:
            key = (minute, ELSEWHERE, kind)
        self._counts.setdefault(key, Counter())[line.status] += 1

    def _taken(self, keys: list[_Key]) -> list[Line]:
        return [_line(*key, self._counts.pop(key)) for key in keys]


def class_of(line: Line) -> str:
    """Return what sort of request a line is of: each sort has a budget of its own, so that none uses up another's."""
    if line.status == 429:
        return "locked"
    if line.action.startswith("api "):
        return "api"
    if line.action.startswith(_SIGN_IN):
        return "sign-in" if line.status >= 400 else "sign-in page"
    if line.status in _CUT_SHORT:
        return "cut short"
    return "unknown address" if line.status in (404, 405) else "page"


def network_of(address: str) -> str:
    """Return the network that an address is counted with: /24 for IPv4, /48 for IPv6; what is no address as it is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64] or "no address"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(ipaddress.ip_network((str(found), 24 if found.version == 4 else 48), strict=False))


def _line(minute: int, network: str, kind: str, statuses: Counter[int]) -> Line:
    when = datetime.fromtimestamp(minute * 60, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    total = statuses.total()
    words = f"{total} more {'request' if total == 1 else 'requests'} from {network} in the minute from {when} ({kind})"
    told = ", ".join(f"{status}: {number}" for status, number in statuses.most_common(8))
    return Line(
        time_us=minute * _MINUTE_US,
        action=COUNTED,
        detail=f"{words}, by status {told}",
        status=statuses.most_common(1)[0][0],
        address=network,
    )
