"""A run that ended, with all that it said: live from memory, or read back from its journal. Sealing needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.instrument.touching import attribution_of
from cognify_dagster.records import ModelRegistered
from cognify_dagster.training import CodeState, Environment, TrainingError, TrainingRecorder
from cognify_dagster.training._json import coerce
from cognify_dagster.training.recording import Attribution
from cognify_dagster.workspace import Reading


@dataclass(frozen=True)
class Reported:
    """Results of one evaluation as the script reported them.

    Attributes:
        results: an `EvalResult`, or a mapping of names to numbers.
        label: the benchmark version, a label of the bindings.
        gates: name of the gate set; the model's only one unless given.
        n: records evaluated, where the results do not say it.
        protected_attributes: those that were evaluated.
        plain: the results as JSON values, for an experiment.
    """

    results: Any
    label: str
    gates: str | None = None
    n: int | None = None
    protected_attributes: tuple[str, ...] = ()
    plain: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ended:
    """What a run was.

    Attributes:
        run: its id.
        project: the model's key.
        status: how it ended.
        reason: why it failed; empty where it completed.
        recorder: what it said.
        started: when it began, UTC.
        ended: when it ended, UTC; None where nobody knows (killed).
        seen: the size of the ledger that was really seen when it began.
        started_after: the ledger's size right after the version was opened; None where none was opened when it began.
        wanted: the version it asked for.
        experiment: why it is an experiment, as the script said; empty for others.
        ungoverned: why it could not be governed when it began; empty where it could, or nobody could tell.
        pins: the datasets as they were bound when it began; None where nobody could tell.
        asked: the datasets that the call named instead of the bindings.
        definition: the model's definition, in case it is not registered yet.
        evaluations: what was reported.
        login: login name of the process.
        command: command line, without secrets.
        captured_by: `sdk`, or `spool` where it was read back.
        incomplete: what is missing of the record; empty for a whole one.
    """

    run: str
    project: str
    status: Literal["completed", "failed", "killed"]
    recorder: TrainingRecorder
    started: datetime
    seen: int
    login: str
    code: CodeState
    environment: Environment
    reason: str = ""
    ended: datetime | None = None
    started_after: int | None = None
    wanted: str | None = None
    name: str = ""
    experiment: str = ""
    ungoverned: str = ""
    pins: tuple[BoundDataset, ...] | None = None
    asked: Mapping[str, str] | Sequence[str] | None = None
    definition: ModelRegistered | None = None
    evaluations: Sequence[Reported] = ()
    command: Sequence[str] = ()
    captured_by: str = "sdk"
    incomplete: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def started_us(self) -> int:
        """When it began, in microseconds since 1970."""
        return int(self.started.timestamp() * 1_000_000)

    def observed(self) -> dict[str, Any]:
        """What a record tells of the moment; not compared on a retry."""
        facts: dict[str, Any] = {
            "started_at": self.started.isoformat(),
            "ended_at": self.ended.isoformat() if self.ended else None,
            "duration_s": (self.ended - self.started).total_seconds() if self.ended else None,
            "login": self.login,
            "command": list(self.command),
        }
        if self.name:
            facts["name"] = self.name
        return facts

    def attribution(self, reading: Reading) -> Attribution:
        """Return who touched the run: the login that ran it and the authors of its code, as far as they are enrolled."""
        features = self.recorder.feature_code
        authors = [*self.code.authors, *(features.authors if features is not None else ())]
        return attribution_of(reading, [f"os:{self.login}"], (f"git:{author}" for author in authors))

    def note(self, key: str, value: Any) -> None:
        """Add a fact to what the run said. Only for sealing: it may be done after the run has frozen its record."""
        with self.recorder._lock:
            self.recorder._extra[key] = coerce(value, key=key)


def freeze_as_told(recorder: TrainingRecorder, ended: datetime | None) -> None:
    """Complete a recorder whose files nobody will store: for experiments and failed runs their digests are what was told.

    A file that changed or vanished since must not keep such a run from being recorded.
    """
    try:
        recorder._freeze(reread=False)
    except TrainingError:
        with recorder._lock:
            recorder._ended = ended or datetime.now(timezone.utc)
            recorder._duration_s = max(0.0, (recorder._ended - recorder._started).total_seconds())
            recorder._sealed = True
