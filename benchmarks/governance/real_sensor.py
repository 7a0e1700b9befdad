"""The approval sensor itself, as Dagster's code server evaluates it, over 10,000 versions of which 100 changed.

Ledger and Dagster instance lie both in SQLite or both in Postgres. What the daemon does with the result (storing the observations,
the cursor) is done and measured apart. Nothing was ever told about these versions, so every tick also tells as much as it may.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

import cognify_dagster as cg
from benchmarks.governance.idle import definitions, in_postgres
from benchmarks.governance.sensor import CHANGED, TICK_S, versions
from benchmarks.governance.world import gate
from benchmarks.ledger.harness import Options, Result, Row, percentile
from cognify_dagster.records import Evaluation
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL, World

_STARTING = ("not looked at yet", "at the next tick", "looking up the versions")


class Daemon:
    """Evaluates the sensor again and again, and stores what it returns."""

    def __init__(self, project: Path, instance: dg.DagsterInstance) -> None:
        self.project, self.instance = project, instance
        self.defs = definitions(project)
        self.cursor: str | None = None
        self.data: Any = None
        self.stored_s = self.used_s = 0.0

    def tick(self) -> float:
        """Return the seconds that the evaluation took."""
        context = dg.build_sensor_context(
            instance=self.instance,
            instance_ref=self.instance.get_ref(),
            definitions=self.defs,
            resources={"ledger": cg.LedgerResource(workspace=str(self.project))},
            cursor=self.cursor,
        )
        sensor = self.defs.resolve_sensor_def(f"{MODEL}_approval_sensor")
        start, used = time.perf_counter(), time.process_time()
        self.data = sensor.evaluate_tick(context)
        took, self.used_s = time.perf_counter() - start, time.process_time() - used
        start = time.perf_counter()
        for event in self.data.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = self.data.cursor or self.cursor
        self.stored_s = time.perf_counter() - start
        return took

    @property
    def starting(self) -> bool:
        """Whether there were versions that the last tick had no time for."""
        said = f"{self.data.skip_message or ''} {self.data.cursor or ''}"
        return any(words in said for words in _STARTING)


@contextmanager
def placed(world: World, folder: Path, store: str) -> Iterator[tuple[Path, dg.DagsterInstance]]:
    """A copy of the world's workspace, nothing of it verified yet, and a Dagster instance in the same kind of store."""
    project, home = folder / "project", folder / "dagster"
    home.mkdir()
    with ExitStack() as stack:
        overrides: dict[str, Any] = {}
        if store == "Postgres":
            place = in_postgres(world.folder / "project", project)
            stack.callback(place.drop)
            database = f"dagster_{place.schema}"
            place.server.execute(f"CREATE DATABASE {database}")
            url = place.server.url(database).replace("postgresql:", "postgresql+psycopg2:", 1)
            overrides = {"storage": {"postgres": {"postgres_url": url}}}
        else:
            shutil.copytree(world.folder / "project", project)
        shutil.rmtree(project / ".cognify" / "verified", ignore_errors=True)
        instance = dg.instance_for_test(temp_dir=str(home), set_dagster_home=False, overrides=overrides)
        yield project, stack.enter_context(instance)


def _measure(options: Options, store: str) -> Result:
    count = 500 if options.quick else 10_000
    world = versions(options.cache, count)
    with placed(world, options.folder, store) as (project, instance):
        instance.add_dynamic_partitions(f"{MODEL}_versions", [str(number) for number in range(1, count + 1)])
        daemon = Daemon(project, instance)
        cold = [daemon.tick()]
        while daemon.starting:
            cold.append(daemon.tick())
        changed = [str(number) for number in range(1, count + 1, max(1, count // CHANGED))][:CHANGED]
        workspace = Workspace.open(project)
        writer = World(workspace, world.folder)
        times, used, stored, idle = [], [], [], []
        for _ in range(3 if options.quick else 7):
            for version in changed:
                newest = workspace.read().latest(Evaluation, world.subject(version))
                assert newest is not None
                gate(writer, version, workspace.ledger.size(), newest.seq)
            times.append(daemon.tick())
            used.append(daemon.used_s)
            stored.append(daemon.stored_s)
            idle.append(daemon.tick())
        cursor, size = len(daemon.cursor or ""), workspace.ledger.size()
    middle = percentile(times, 0.5)
    return Result(
        f"{store}: tick of the approval sensor over {count:,} versions, {len(changed)} of them changed",
        f"< {TICK_S:.0f} s",
        f"{middle:.2f} s",
        middle < TICK_S if not options.quick else None,
        [
            f"max {max(times):.2f} s, processor time {percentile(used, 0.5):.2f} s; storing its observations took the daemon "
            f"{percentile(stored, 0.5):.2f} s; the cursor has {cursor:,} characters",
            f"nothing changed (but there is still news to tell): {percentile(idle, 0.5) * 1e3:.0f} ms",
            f"cold start, nothing verified and nothing decided: {len(cold)} ticks, median {percentile(cold, 0.5):.2f} s, longest "
            f"{max(cold):.2f} s; ledger of {size:,} entries",
        ],
    )


def sqlite(options: Options) -> Result:
    """Everything in SQLite."""
    return _measure(options, "SQLite")


def postgres(options: Options) -> Result:
    """Everything in Postgres, the server on this machine."""
    return _measure(options, "Postgres")


ROWS = [Row("real-sensor-sqlite", sqlite), Row("real-sensor-postgres", postgres)]
