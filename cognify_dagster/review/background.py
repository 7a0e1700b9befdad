"""Work that goes on beside requests. Modules register what they do; one thread each calls it again and again.

Invariant: where several processes serve one site, a job runs in one of them at a time (a lease in the site's database).
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Column, Integer, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from cognify_dagster.review.site import Site
from cognify_dagster.review.store.database import metadata

leases = Table(
    "leases",
    metadata,
    Column("job", String(60), primary_key=True),
    Column("holder", String(60), nullable=False),
    Column("until", Integer, nullable=False),
)
_log = logging.getLogger("cognify.review")


@dataclass(frozen=True)
class Job:
    """Something to do every so many seconds. `alone`: in one process of the site only. `run` returns seconds to the next run or None."""

    name: str
    every_s: float
    run: Callable[[Site], float | None]
    alone: bool = True


JOBS: list[Job] = []


class Worker:
    """Runs the jobs of a site until it is stopped."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.stopping = threading.Event()
        site.state["stopping"] = self.stopping  # for jobs that wait for something long
        self.holder = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.threads = [
            threading.Thread(target=self._loop, args=(job,), name=f"review-{job.name}", daemon=True) for job in JOBS
        ]

    def start(self) -> None:
        """Start all jobs."""
        for thread in self.threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let each job finish what it does."""
        self.stopping.set()
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _loop(self, job: Job) -> None:
        pause = 0.0
        while not self.stopping.wait(pause):
            pause = job.every_s
            try:
                if not job.alone or self._leased(job):
                    pause = job.run(self.site) or job.every_s
            except Exception:
                _log.exception("the job %s failed; it is tried again in %.0f s", job.name, pause)

    def _leased(self, job: Job) -> bool:
        now, until = int(time.time()), int(time.time() + max(60.0, 3 * job.every_s))
        try:
            with self.site.store.begin() as connection:
                row = connection.execute(select(leases).where(leases.c.job == job.name)).mappings().first()
                if row is None:
                    connection.execute(insert(leases).values(job=job.name, holder=self.holder, until=until))
                    return True
                mine = update(leases).where(
                    leases.c.job == job.name, leases.c.holder == row["holder"], leases.c.until == row["until"]
                )
                if row["holder"] != self.holder and row["until"] > now:
                    return False
                return connection.execute(mine.values(holder=self.holder, until=until)).rowcount == 1
        except (IntegrityError, OperationalError):
            return False
