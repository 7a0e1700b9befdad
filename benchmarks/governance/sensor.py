"""A sensor's tick over 10,000 versions of one model of which 100 changed, and the cold start of a large ledger in bounded steps."""

from __future__ import annotations

import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.governance.world import gate, governed, reopened
from benchmarks.ledger.harness import Options, Result, Row, percentile
from cognify_dagster.governance import Decision, decide
from cognify_dagster.governance.release.standing_cache import PackagedVersions, StandingCache
from cognify_dagster.ledger import Draft
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.records import Evaluation, GateResult, Package, Record, TrainingRun, VersionOpened
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.governance.world import MODEL, World, make_world

CHANGED = 100
TICK_S = 1.0
COLD_LIMIT = 500
STEP = 50_000


def _draft(workspace: Workspace, record: Record, number: int) -> Draft:
    writer = workspace.writer
    assert writer is not None
    return Draft(
        kind=record.kind,
        schema=record.schema_version,
        subjects=record.subjects(),
        actor=writer.workload,
        idem=idempotency_key("bench", number),
        payload=record.payload(),
        facts_digest=record.facts_digest(),
        evidence=record.evidence(),
        key_id=writer.key_id,
        sign=writer.sign,
    )


def versions(cache: Path, count: int) -> World:
    """A model with so many versions that wait for their first signature, made once and copied from version 1."""
    folder = cache / f"versions-{count}"
    if (folder / "done").exists():
        return World(Workspace.open(folder / "project"), folder)
    print(f"making {count:,} versions in {folder} (once) …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    world = make_world(folder)
    world.ready("1")
    workspace = world.workspace
    reading = workspace.read()
    records = [item.record for item in reading.history(world.subject("1"))]
    training = next(record for record in records if isinstance(record, TrainingRun))
    evaluation = next(record for record in records if isinstance(record, Evaluation))
    package = next(record for record in records if isinstance(record, Package))
    gates = [record for record in records if isinstance(record, GateResult)]
    drafts: list[Draft] = []
    size = reading.size
    for number in range(2, count + 1):
        seq, version = size + len(drafts), str(number)
        made: list[Record] = [
            VersionOpened(model=MODEL, version=version, run=f"run-{version}", opened_by="person/ben"),
            training.model_copy(update={"version": version, "started_after_seq": seq}),
            evaluation.model_copy(update={"version": version, "training_seq": seq + 1}),
            *(item.model_copy(update={"version": version, "based_on": (seq + 2,)}) for item in gates),
            package.model_copy(update={"version": version, "training_seq": seq + 1, "evaluation_seq": seq + 2}),
        ]
        drafts += [_draft(workspace, record, seq + offset) for offset, record in enumerate(made)]
    for start in range(0, len(drafts), 2_000):
        sealed = [seal_body(workspace.origin, draft) for draft in drafts[start : start + 2_000]]
        workspace.ledger.store.append_many(sealed, time.time_ns() // 1000)
    (folder / "done").touch()
    return world


class _Sensor:
    """What a tick does: read, find what changed, decide that."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.packaged = PackagedVersions(MODEL)
        self.cache: StandingCache[Decision] = StandingCache(max_age_s=86_400)

    def tick(self, limit: int | None = None) -> tuple[float, int, int]:
        """Return seconds, versions decided and versions in all."""
        start = time.perf_counter()
        now = datetime.now(timezone.utc)
        reading = self.workspace.read()
        versions = self.packaged.update(reading)
        stale = self.cache.stale(reading, versions, now, limit)
        for version in stale:
            with self.cache.deciding(reading, version, now) as answer:
                answer.value = decide(reading, MODEL, version, "production", now)
                answer.relied_on = answer.value.relied_on
        return time.perf_counter() - start, len(stale), len(versions)


def tick(options: Options) -> Result:
    """Warm ticks, each after one more entry about 100 versions; and the ticks of a process that has just started."""
    count = 500 if options.quick else 10_000
    world = versions(options.cache, count)
    sensor = _Sensor(reopened(world.workspace))
    cold = []
    while True:
        took, decided, _ = sensor.tick(COLD_LIMIT)
        if not decided:
            break
        cold.append(took)
    step = max(1, count // CHANGED)
    changed = [str(number) for number in range(1, count + 1, step)][:CHANGED]
    times, idle, alone = [], [], []
    for number in range(3 if options.quick else 7):
        for version in changed:
            newest = world.workspace.read().latest(Evaluation, world.subject(version))
            assert newest is not None
            gate(world, version, world.workspace.ledger.size(), newest.seq)
        took, decided, known = sensor.tick()
        if (decided, known) != (len(changed), count):
            raise SystemExit(f"tick {number}: {decided} of {known} versions were decided, not {len(changed)}")
        times.append(took)
        idle.append(sensor.tick()[0])
        reading, now = sensor.workspace.read(), datetime.now(timezone.utc)
        start = time.perf_counter()
        decide(reading, MODEL, changed[0], "production", now)
        alone.append(time.perf_counter() - start)
    middle = percentile(times, 0.5)
    return Result(
        f"tick over {count:,} versions of a model, {len(changed)} of them changed",
        f"< {TICK_S:.0f} s",
        f"{middle:.2f} s",
        middle < TICK_S if not options.quick else None,
        [
            f"{middle / percentile(alone, 0.5):.0f} × one decision that stands alone ({percentile(alone, 0.5) * 1e3:.1f} ms); max {max(times):.2f} s",
            f"nothing changed: {percentile(idle, 0.5) * 1e3:.0f} ms",
            f"process just started: {len(cold)} ticks of at most {COLD_LIMIT} decisions, {percentile(cold, 0.5):.2f} s each, "
            f"longest {max(cold):.2f} s; ledger of {world.workspace.ledger.size():,} entries",
        ],
    )


def cold(options: Options) -> Result:
    """The first look at a large ledger: nothing is kept, each tick verifies a bounded number of entries."""
    workspace = governed(options.cache, options.big)
    index = workspace.ledger.index
    assert index is not None
    assert index._file is not None
    shutil.rmtree(index._file.path.parent, ignore_errors=True)
    times: list[float] = []
    while True:
        fresh = reopened(workspace)  # each tick in a new process: only what is kept goes on
        start = time.perf_counter()
        done = fresh.catch_up(STEP)
        times.append(time.perf_counter() - start)
        if done.complete:
            break
    return Result(
        f"cold start over {options.big:,} entries, {STEP:,} a tick",
        "bounded",
        f"{len(times)} ticks, longest {max(times):.2f} s",
        max(times) < 4 * percentile(times, 0.5) if not options.quick else None,
        [
            f"median {percentile(times, 0.5):.2f} s, {options.big / sum(times):,.0f} entries/s, the index kept after each"
        ],
    )


ROWS = [Row("sensor-tick", tick), Row("sensor-cold", cold)]
