"""One run of a training script: what it logs goes to its journal and into memory; at the end it is sealed.

Invariants: nothing that cannot be written (a full disk, a ledger that does not answer) stops the training; it is said once. What a call
refuses (a value of no use, a setting recorded twice with different values) it refuses at once. Secrets are taken out before anything is
kept. In a process that is not to write (another rank, a forked child) every call does nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import MappingProxyType, TracebackType
from typing import Any

from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.instrument.sdk.ended import Ended, Reported
from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.instrument.sdk.from_mlflow import take_model
from cognify_dagster.instrument.sdk.journal import Journal
from cognify_dagster.instrument.sdk.keeping import keep_links
from cognify_dagster.instrument.sdk.outcomes import NotPackaged, Outcome
from cognify_dagster.instrument.sdk.redaction import redact_text
from cognify_dagster.instrument.sdk.results import encode, reported
from cognify_dagster.instrument.sdk.telling import Telling
from cognify_dagster.training import SealedError

MAX_EVALUATIONS = 1000


@dataclass
class Desk:
    """What a run needs of the session that began it: how to seal, and what to do when it is over."""

    seal: Any
    over: Any


@dataclass
class Told:
    """What is known of a run from its beginning.

    Attributes:
        ended: the run as it will be sealed; `recorder` and `evaluations` fill up while it goes on.
        version: the version it opened; None for an experiment, or where the ledger was out of reach.
        governed: whether a version will come of it; None where nobody can tell yet.
        reason: why it is an experiment.
        labels: its datasets by label.
        gate_sets: names of the thresholds that were adopted before it began.
    """

    ended: Ended
    version: str | None = None
    governed: bool | None = None
    reason: str = ""
    labels: dict[str, BoundDataset] = field(default_factory=dict)
    gate_sets: tuple[str, ...] = ()


class Run(Telling):
    """A run. `cognify.run()` makes it; `complete()` or `fail()` ends it. Safe to use from several threads.

    Attributes:
        id: its id.
        project: the model's key.
        rank: rank of this process.
        world_size: number of processes of this training.
    """

    def __init__(
        self,
        told: Told,
        desk: Desk,
        *,
        journal: Journal | None,
        rank: int = 0,
        world_size: int = 1,
        writes: bool = True,
        attached: bool = False,
    ) -> None:
        super().__init__(told.ended.recorder, journal, writes=writes)
        self.id = told.ended.run
        self.project = told.ended.project
        self.rank, self.world_size = rank, world_size
        self._told, self._desk, self._attached = told, desk, attached
        self._end = threading.RLock()
        self._outcome: Outcome | None = None
        self._evaluations: list[Reported] = []
        told.ended.evaluations = self._evaluations

    # What it is -----------------------------------------------------------------------------------------------------

    @property
    def version(self) -> str | None:
        """The model version it trains; None for an experiment, and while the ledger is out of reach."""
        return self._told.version

    @property
    def governed(self) -> bool | None:
        """Whether it becomes a sealed model version; None while the ledger is out of reach."""
        return self._told.governed

    @property
    def datasets(self) -> Mapping[str, BoundDataset]:
        """The snapshots it is bound to, by the labels that code has for them."""
        return MappingProxyType(self._told.labels)

    @property
    def outcome(self) -> Outcome | None:
        """What `complete()` or `fail()` returned; None while it goes on."""
        return self._outcome

    def __repr__(self) -> str:
        what = (
            f"version {self.version}"
            if self.version
            else "an experiment"
            if self.governed is False
            else "no version yet"
        )
        return f"<cognify run {self.id} of {self.project}, {what}>"

    # Evaluation and end ---------------------------------------------------------------------------------------------

    def eval(
        self,
        results: Any,
        benchmark_version: str = "",
        *,
        gates: str | None = None,
        n: int | None = None,
        protected_attributes: Sequence[str] = (),
    ) -> BoundDataset | None:
        """Report the results of an evaluation; `complete()` records and judges them.

        Args:
            results: an `EvalResult`, or a mapping of names to numbers (or to `value`, `ci_low`, `ci_high`, `stderr`, `n`).
            benchmark_version: the label that `cognify dataset bind` gave the evaluation snapshot, such as `holdout-v3`.
            gates: name of the gate set, where the model has several.
            n: records evaluated; those of the snapshot unless given.
            protected_attributes: protected attributes that were evaluated.

        Returns:
            The snapshot that the label means; None for an experiment, and while the ledger is out of reach.

        Raises:
            EvaluationError: results in no usable form, a label that no snapshot is bound to, or thresholds that do not count.
        """
        if not self.writes:
            return None
        self._require_open("eval")
        if len(self._evaluations) >= MAX_EVALUATIONS:
            raise SdkError(f"eval: more than {MAX_EVALUATIONS} evaluations in one run")
        item = reported(results, benchmark_version, gates=gates, n=n, protected_attributes=tuple(protected_attributes))
        found = None
        if self.governed:
            from cognify_dagster.instrument.sdk.judging import benchmark_of, require_gates

            found = benchmark_of(self._told.labels, benchmark_version)
            require_gates(self._told.gate_sets, self.project, gates)
        self._evaluations.append(item)
        self._line(lambda: {"o": "eval", "eval": self._packed(encode(item))}, sync=True)
        return found

    def complete(self, selection_note: str | None = None) -> Outcome:
        """End the run: seal it, record its evaluations, build the package. A second call returns the same.

        Args:
            selection_note: why this configuration was chosen.

        Returns:
            `Packaged`, `NotPackaged` with the reason, or `Pending` where the record waits in the spool.

        Raises:
            SdkError: a governed run has saved no model; save it and call `complete()` again.
            TrainingError: a file changed after it was handed over; hand it over again.
        """
        with self._end:
            if self._outcome is not None:
                return self._outcome
            if not self.writes:
                return NotPackaged(f"process {os.getpid()} (rank {self.rank}) does not write the record; rank 0 does")
            if selection_note:
                self.note_selection(selection_note)
            if not self._attached:
                if self.governed and not self.recorder.models and not take_model(self):
                    raise SdkError("no model was saved: call run.save_model(PATH) first, then run.complete() again")
                self.recorder._freeze(reread=False)
            return self._finish("completed", "")

    def fail(self, reason: str) -> Outcome:
        """End the run as failed; a failed run is recorded too. After the end it does nothing."""
        with self._end:
            if self._outcome is not None:
                return self._outcome
            if not self.writes:
                return NotPackaged(f"process {os.getpid()} (rank {self.rank}) does not write the record; rank 0 does")
            return self._finish("failed", redact_text(str(reason))[:2000] or "failed")

    def _finish(self, status: Any, reason: str) -> Outcome:
        ended = self._told.ended
        ended.status, ended.reason, ended.ended = status, reason, datetime.now(timezone.utc)
        if not self._attached:
            stamp = ended.ended.timestamp()
            line = (
                {"o": "complete", "ended": stamp}
                if status == "completed"
                else {"o": "fail", "reason": reason, "ended": stamp}
            )
            if self._journal is not None and status == "completed":
                with suppress(OSError):  # records that wait should outlive a temporary folder that is deleted
                    keep_links(self._journal.folder, self.recorder, self._numbers)
            self._line(lambda: line, sync=True)
        try:
            self._outcome = self._desk.seal(self, self._journal)
        finally:
            if self._journal is not None:
                self._journal.close()
            self._desk.over(self)
        assert self._outcome is not None
        return self._outcome

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the run; after an exception it is recorded as failed, and the exception goes on."""
        if error is None:
            if self._outcome is None:
                self.complete()
            return
        self.fail(f"{type(error).__name__}: {error}")

    def _require_open(self, call: str) -> None:
        if self._outcome is not None or self.recorder.sealed:
            raise SealedError(f"{call}: the run is over; begin a new one with cognify.run()")
