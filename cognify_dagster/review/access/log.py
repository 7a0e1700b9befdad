"""One line for each use of a logged route, written beside the request.

Invariants: a line is in the queue before the response leaves; a queue that is full makes requests wait, it drops nothing; a clean stop
writes what is queued. What a killed process had queued (a few milliseconds' worth) is lost, and so is nothing that was written.
Requests of who is not signed in get lines of their own up to a bound, beyond it they are counted (`access.strangers`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, SQLAlchemyError

from cognify_dagster.review.access.strangers import Strangers
from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import Store
from cognify_dagster.review.store.access import Line, add_lines

if TYPE_CHECKING:
    from cognify_dagster.review.visit import Visit

_log = logging.getLogger("cognify.review")
_KEY = "access-writer"
_STRANGERS = "access-strangers"
_QUEUED = 10_000
_AT_ONCE = 500
_STOP_S = 10.0


def write_line(visit: Visit, action: str, status: int) -> None:
    """Write what a visit was to the access log.

    Args:
        visit: the request; `subject` and `detail` as its page set them.
        action: the route's name.
        status: the response's status.
    """
    write(visit.site, line_of(visit, action, status))


def line_of(visit: Visit, action: str, status: int) -> Line:
    """Return the line of a visit, see `write_line`."""
    user, session = visit.user, visit.session
    who = ""
    if user is not None:
        who = user.person or f"auditor/{user.account.grant_seq}"
    return Line(
        time_us=int(visit.now.timestamp() * 1_000_000),
        account=user.account.id if user is not None else "",
        who=who,
        method=session.method if session is not None else "",
        action=action,
        subject=visit.subject,
        detail=visit.detail,
        status=status,
        address=visit.address,
        agent=visit.agent,
    )


def write(site: Site, line: Line) -> None:
    """Write a line, also of something that is no page; one of a stranger may be counted instead. Waits while the queue is full."""
    writer = _writer(site)
    if not line.who and not line.account:
        for item in _strangers(site).over(line.time_us):
            writer.add(item)
        if not _strangers(site).admit(line):
            return
    writer.add(line)


def note(site: Site, line: Line) -> None:
    """Write a line of a stranger without ever waiting, from the event loop: while the queue is full it is counted."""
    if _strangers(site).admit(line) and not _writer(site).offer(line):
        _strangers(site).count(line)


def write_counts(site: Site) -> None:
    """Write the counts of the minute that is over (a job does so, for when nobody comes any more)."""
    for line in _strangers(site).over(int(site.now().timestamp() * 1_000_000)):
        _writer(site).add(line)


def flush(site: Site, timeout_s: float = _STOP_S) -> bool:
    """Wait until what was queued is in the table; False if that takes longer."""
    return _writer(site).flush(timeout_s)


def stop(site: Site) -> None:
    """Write what is queued and counted and end the writer; a later line begins a new one."""
    for line in _strangers(site).all():
        _writer(site).add(line)
    with site.lock:
        writer = site.state.pop(_KEY, None)
    if isinstance(writer, Writer):
        writer.stop()


def _strangers(site: Site) -> Strangers:
    found = site.remember(_STRANGERS, Strangers)
    assert isinstance(found, Strangers)
    return found


def _writer(site: Site) -> Writer:
    found = site.remember(_KEY, lambda: Writer(site.store))
    assert isinstance(found, Writer)
    return found


class Writer:
    """A thread that takes lines from a queue and writes them, all that wait in one transaction."""

    def __init__(self, store: Store, queued: int = _QUEUED) -> None:
        self._store = store
        self._queue: queue.Queue[Line | None] = queue.Queue(queued)
        self._idle = threading.Condition()
        self._added = self._written = 0
        self._thread = threading.Thread(target=self._run, name="review-access-log", daemon=True)
        self._thread.start()

    def add(self, line: Line) -> None:
        """Queue a line; waits while the queue is full."""
        with self._idle:
            self._added += 1
        self._queue.put(line)

    def offer(self, line: Line) -> bool:
        """Queue a line if there is room, without waiting; return whether there was."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            return False
        with self._idle:
            self._added += 1
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until every line that was added before is written; False if that takes longer."""
        with self._idle:
            goal = self._added
            return self._idle.wait_for(lambda: self._written >= goal, timeout_s)

    def stop(self) -> None:
        """Write what is queued, then end."""
        self._queue.put(None)
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _log.error("%d lines of the access log could not be written", self._added - self._written)

    def _run(self) -> None:
        ended = False
        while not ended:
            lines = [self._queue.get()]
            while len(lines) < _AT_ONCE and not self._queue.empty():
                lines.append(self._queue.get())
            ended = None in lines
            self._write([line for line in lines if line is not None])

    def _write(self, lines: list[Line]) -> None:
        """Write lines, again and again until the database takes them."""
        pause = 0.05
        while lines:
            try:
                with self._store.begin() as connection:
                    add_lines(connection, lines)
                break
            except DataError:
                _log.exception("a line of the access log is of a form that the database refuses")
                if len(lines) > 1:
                    for line in lines:
                        self._write([line])
                    return
                lines = [replace(lines[0], subject="", detail="this line could not be written as it was", agent="")]
            except SQLAlchemyError:
                _log.exception("the access log could not be written; it is tried again in %.1f s", pause)
                time.sleep(pause)
                pause = min(pause * 2, 5.0)
        with self._idle:
            self._written += len(lines)
            self._idle.notify_all()


JOBS.append(Job("access-counts", 15.0, write_counts, alone=False))
