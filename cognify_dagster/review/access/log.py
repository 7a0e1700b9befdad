"""One line for each use of a logged route, written beside the request.

Invariants: a line is in the queue before the response leaves; a queue that is full makes requests wait, it drops nothing; a clean stop
writes what is queued. What a killed process had queued (a few milliseconds' worth) is lost, and so is nothing that was written.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, SQLAlchemyError

from cognify_dagster.review.site import Site
from cognify_dagster.review.store import Store
from cognify_dagster.review.store.access import Line, add_lines

if TYPE_CHECKING:
    from cognify_dagster.review.visit import Visit

_log = logging.getLogger("cognify.review")
_KEY = "access-writer"
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
    user, session = visit.user, visit.session
    who = ""
    if user is not None:
        who = user.person or f"auditor/{user.account.grant_seq}"
    line = Line(
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
    write(visit.site, line)


def write(site: Site, line: Line) -> None:
    """Write a line of something that is no page: a call with a token."""
    _writer(site).add(line)


def flush(site: Site, timeout_s: float = _STOP_S) -> bool:
    """Wait until what was queued is in the table; False if that takes longer."""
    return _writer(site).flush(timeout_s)


def stop(site: Site) -> None:
    """Write what is queued and end the writer; a later line begins a new one."""
    with site.lock:
        writer = site.state.pop(_KEY, None)
    if isinstance(writer, Writer):
        writer.stop()


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
