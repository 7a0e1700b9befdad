"""A sensor's tick when nothing is new, on a small and on a large ledger, against a full reading of the large one.

The real sensors of a governed model, evaluated as Dagster's daemon evaluates them: a sensor context with a cursor, the workspace
opened from its configuration. What Dagster itself does around a tick (loading the code location, storing the tick) is not in the
time. A full reading verifies every entry, as a process does that finds nothing kept.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg

import cognify_dagster as cg
from benchmarks.governance.world import filler
from benchmarks.ledger.harness import Options, Result, Row, interleave, percentile, ratio
from cognify_dagster.ledger.verification.index import Index
from cognify_dagster.orchestration.names import APPROVAL
from cognify_dagster.orchestration.watching import ModelWatch, catching_up
from cognify_dagster.workspace import Workspace, resident
from tests.governance.world import MODEL, make_world

SMALL, LARGE = 100, 20_000
SAME = 1.5
"""A tick over the large ledger may cost so many times that over the small one."""
SENSORS = ("approval", "reconciliation")


def definitions(place: Path) -> dg.Definitions:
    """A governed model over a workspace; nothing of it ever runs here."""
    model = cg.GovernedModel(key=MODEL, owner="team:bench", risk_tier="high")

    @cg.dataset_snapshot(record_key="ID")
    def rows() -> None: ...

    @cg.training_run(model, datasets=["rows"])
    def trained(run: cg.TrainingRecorder) -> None: ...

    @cg.governed_deployment(model)
    def service(release: cg.Release) -> None: ...

    return dg.Definitions.merge(
        dg.Definitions(assets=[rows], resources={"ledger": cg.LedgerResource(workspace=str(place))}),
        model.build_defs(assets=[trained, service]),
    )


def waiting(cache: Path, size: int) -> Path:
    """A workspace of so many entries in which a version waits for its signatures; made once."""
    folder = cache / f"waiting-{size}"
    if not (folder / "done").exists():
        print(f"making a ledger of {size:,} entries in {folder} (once) …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        world = make_world(folder)
        world.ready("1")
        filler(world.workspace, size - world.workspace.ledger.size())
        (folder / "done").touch()
    return folder / "project"


def in_postgres(project: Path, folder: Path) -> Any:
    """Copy a workspace into a folder with its ledger in Postgres, byte for byte; return the server's ledger."""
    from tests.conformance.postgres_server import NewLedger

    source = Workspace.open(project)
    rows = source.ledger.store
    place = NewLedger(source.origin)
    size = rows.size()
    place.open().load(rows.entries(0, size), rows.payloads(0, size), rows.checkpoints())
    shutil.copytree(project, folder)
    shutil.rmtree(folder / ".cognify" / "verified", ignore_errors=True)
    config = folder / "cognify.toml"
    config.write_text(config.read_text().replace("[workspace]", f'[workspace]\nledger = "{place.url()}"', 1))
    return place


class Watched:
    """The sensors over a workspace, with their cursors."""

    def __init__(self, project: Path, instance: dg.DagsterInstance) -> None:
        self.project, self.instance = project, instance
        self.defs = definitions(project)
        self.cursors: dict[str, str | None] = dict.fromkeys(SENSORS)

    def tick(self) -> float:
        """Evaluate each sensor once; return the seconds that takes."""
        took = 0.0
        for name in SENSORS:
            sensor = self.defs.resolve_sensor_def(f"{MODEL}_{name}_sensor")
            context = dg.build_sensor_context(
                instance=self.instance,
                instance_ref=self.instance.get_ref(),
                definitions=self.defs,
                resources={"ledger": cg.LedgerResource(workspace=str(self.project))},
                cursor=self.cursors[name],
            )
            start = time.perf_counter()
            data = sensor.evaluate_tick(context)
            took += time.perf_counter() - start
            self.cursors[name] = data.cursor or self.cursors[name]
        return took

    def ledger(self) -> float:
        """What such a tick asks the ledger, without Dagster's queries: find nothing new, decide nothing; return the seconds."""
        start = time.perf_counter()
        with resident(self.project) as place:
            watch = place.remember((APPROVAL, MODEL), lambda: ModelWatch(MODEL))
            if catching_up(place.workspace) is None:
                reading = place.workspace.read()
                now, until = datetime.now(timezone.utc), time.monotonic() + 1
                watch.lane("production", ()).look(place.workspace, reading, watch.packaged.update(reading), now, until)
        return time.perf_counter() - start

    def full(self) -> float:
        """Open the workspace and verify everything; return the seconds that takes."""
        start = time.perf_counter()
        workspace = Workspace.open(self.project)
        workspace.ledger.index = Index(workspace.ledger.store)
        workspace.read()
        return time.perf_counter() - start


def _measure(options: Options, projects: tuple[Path, Path], store: str) -> Result:
    with dg.instance_for_test(set_dagster_home=False) as instance:
        small, large = (Watched(project, instance) for project in projects)
        for one in (small, large):
            for _ in range(3):  # a process that has just started, and what it tells once
                one.tick()
        cases: list[Callable[[], float]] = [small.tick, large.tick, small.ledger, large.ledger, large.full]
        few, many, less, more, whole = interleave(5 if options.quick else 15, cases)
    same = ratio(many, few)
    return Result(
        f"tick with nothing new, {LARGE:,} against {SMALL} entries, {store}",
        f"≤ {SAME:g} ×",
        f"{same:.2f} ×",
        same <= SAME,
        [
            f"approval and reconciliation sensor: {percentile(few, 0.5) * 1e3:.1f} ms and {percentile(many, 0.5) * 1e3:.1f} ms",
            f"of that the ledger {percentile(less, 0.5) * 1e3:.1f} ms and {percentile(more, 0.5) * 1e3:.1f} ms "
            f"({ratio(more, less):.2f} ×); the rest are Dagster's queries",
            f"a full reading of {LARGE:,} entries {percentile(whole, 0.5):.2f} s; a tick is {ratio(many, whole) * 100:.0f} % of it, what it "
            f"asks the ledger {ratio(more, whole) * 100:.1f} %",
        ],
    )


def sqlite(options: Options) -> Result:
    """In SQLite."""
    return _measure(options, (waiting(options.cache, SMALL), waiting(options.cache, LARGE)), "SQLite")


def postgres(options: Options) -> Result:
    """In Postgres, the server on this machine."""
    places, projects = [], []
    try:
        for size in (SMALL, LARGE):
            projects.append(options.folder / f"postgres-{size}")
            places.append(in_postgres(waiting(options.cache, size), projects[-1]))
        return _measure(options, (projects[0], projects[1]), "Postgres")
    finally:
        for place in places:
            place.drop()


ROWS = [Row("sensor-idle-sqlite", sqlite), Row("sensor-idle-postgres", postgres)]
