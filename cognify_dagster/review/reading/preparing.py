"""Renders what waits before somebody opens it, so that nobody waits for it: the newest packages that wait or are in use.

Invariant: what is prepared is kept by the package's digest and its sign-offs like any rendering; each page still fetches and hashes the
package's bytes.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.html.recorded import signatures_of
from cognify_dagster.records import Package
from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.reading.board import board_of
from cognify_dagster.review.reading.briefs import BLOCKED, LIVE, READY, SUSPENDED, WAITING, VersionBrief
from cognify_dagster.review.reading.package import body_of

if TYPE_CHECKING:
    from cognify_dagster.review.site import Site

AT_MOST = 2_000
WORK_S, REST_S, IDLE_S = 0.25, 0.5, 5.0
_STATES = frozenset({WAITING, BLOCKED, READY, LIVE, SUSPENDED})


def prepare(site: Site, seconds: float = WORK_S) -> float | None:
    """Render for so many seconds; return how long to rest, None once nothing is left."""
    snapshot = board_of(site).snapshot
    if snapshot.left:
        return None
    found = (item for versions in snapshot.versions.values() for item in versions)
    wanted = sorted((item for item in found if item.state in _STATES), key=lambda item: -(item.package_seq or 0))
    done: dict[tuple[str, str], tuple[object, ...]] = site.remember("reading.prepared", dict)
    until, reading = time.monotonic() + seconds, None
    for item in islice(wanted, AT_MOST):
        name, mark = (item.model, item.version), _mark(item)
        if done.get(name) == mark or item.package_seq is None:
            continue
        if reading is not None and time.monotonic() > until:
            return site.traffic.rest(REST_S)
        site.traffic.give_way()
        reading = reading or site.read()
        package = reading.find(Package, item.package_seq)
        done[name] = mark
        try:
            if package is not None:
                body_of(site, reading, package, signatures_of(reading, package))
        except DocumentError:
            continue  # the page says why
    return None


def _mark(item: VersionBrief) -> tuple[object, ...]:
    return item.package_seq, item.approved, item.signed, item.state, item.reasons


JOBS.append(Job("rendering", IDLE_S, prepare, alone=False))
