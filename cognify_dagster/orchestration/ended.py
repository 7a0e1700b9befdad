"""Trainings that ended without a word: a run whose process was killed cannot record that it failed, so this does.

Invariants: only runs that Dagster knows and says are over are recorded, each once; what a run has recorded itself (a sealed run or
its own failure) is never recorded again. Nothing here blocks or releases anything.
"""

import time
from collections.abc import Collection, Iterable

import dagster as dg

from cognify_dagster.orchestration._compat import runs_of, step_was_started
from cognify_dagster.records import Record, TrainingFailed, TrainingRun, VersionOpened
from cognify_dagster.training.recording import KILLED, record_failure
from cognify_dagster.workspace import Reading, Recorded, Workspace

VERSIONS_A_TICK = 50
RUNS_OF_A_VERSION = 20
LOOKED_BACK_S = 30 * 86_400.0
_LOST = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def record_ended_trainings(
    instance: dg.DagsterInstance,
    workspace: Workspace,
    model: str,
    training_steps: Collection[str],
    entries: Iterable[Recorded[Record]] | None = None,
) -> int:
    """Record a `TrainingFailed` for each run that began to train a version, is over, and left neither a model nor a failure.

    Args:
        instance: where the runs are known.
        workspace: where to record.
        model: model key; its newest `VERSIONS_A_TICK` versions are looked at that were opened in the last `LOOKED_BACK_S` seconds.
        training_steps: keys of the steps that train the model.
        entries: the model's newest entries, where the caller has read them already.

    Returns:
        How many were recorded.
    """
    reading = workspace.read()
    if entries is None:
        entries = reading.recent(f"model/{model}", VERSIONS_A_TICK, {VersionOpened.kind})
    since_us = (time.time() - LOOKED_BACK_S) * 1e6
    opened = [item.record for item in entries if item.time_us >= since_us and isinstance(item.record, VersionOpened)]
    found = [
        (record, run)
        for record in opened[-VERSIONS_A_TICK:]
        for run in _without_a_word(instance, reading, record, training_steps)
    ]
    if not found:
        return 0
    reading = workspace.read()  # again: a run writes its last entry before Dagster says that it is over
    count = 0
    for record, run in found:
        if _accounted(reading, record, run.run_id):
            continue
        record_failure(
            workspace,
            model,
            record.version,
            run=record.run,
            attempt=run.run_id,
            reason=KILLED,  # the same words as `open_version`, so that both of them write one entry
            observed={"dagster_run": run.run_id, "dagster_status": run.status.value, "found_by": "reconciliation"},
        )
        count += 1
    return count


def _without_a_word(
    instance: dg.DagsterInstance, reading: Reading, opened: VersionOpened, training_steps: Collection[str]
) -> list[dg.DagsterRun]:
    if reading.latest(TrainingRun, _subject(opened)) is not None:
        return []
    return [
        run
        for run in runs_of(instance, opened.run, RUNS_OF_A_VERSION)
        if run.status in _LOST
        and not _accounted(reading, opened, run.run_id)
        # the first run opened the version, so it trained; a later one may have ended before
        and (run.run_id == opened.run or any(step_was_started(instance, run.run_id, key) for key in training_steps))
    ]


def _accounted(reading: Reading, opened: VersionOpened, run: str) -> bool:
    """Whether the ledger says what became of a run: its failure, or that the version was sealed."""
    if reading.latest(TrainingRun, _subject(opened)) is not None:
        return True
    return any(_ended(item) == run for item in reading.all(TrainingFailed, _subject(opened)))


def _ended(item: Recorded[TrainingFailed]) -> str:
    """The run that a failure is about; entries of earlier releases name the first run of its retries only."""
    return str(item.record.observed.get("dagster_run") or item.record.run)


def _subject(opened: VersionOpened) -> str:
    return f"model/{opened.model}@{opened.version}"
