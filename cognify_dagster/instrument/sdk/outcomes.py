"""What `complete()` returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packaged:
    """The version is sealed, evaluated and packaged; people can sign.

    Attributes:
        project: the model's key.
        version: the version's id.
        package_digest: `sha256:` and the hex digest that people sign.
        entry: ledger entry of the package.
        training_entry: ledger entry of the sealed run.
        evaluation_entries: ledger entries of the evaluations.
        path: the review copy (PDF) for reading; a copy, the evidence store holds the truth.
    """

    project: str
    version: str
    package_digest: str
    entry: int
    training_entry: int
    evaluation_entries: tuple[int, ...]
    path: Path

    def __str__(self) -> str:
        return f"{self.project} {self.version}: packaged in entry {self.entry}, {self.package_digest}; read {self.path}"


@dataclass(frozen=True)
class NotPackaged:
    """Recorded, but no package was built.

    Attributes:
        reason: why, and what to do.
        version: the version's id; None for an experiment.
        entry: the ledger entry that records the run, None if nothing was recorded by this process.
    """

    reason: str
    version: str | None = None
    entry: int | None = None

    def __str__(self) -> str:
        where = f" (entry {self.entry})" if self.entry is not None else ""
        return f"not packaged{where}: {self.reason}"


@dataclass(frozen=True)
class Pending:
    """Nothing is in the ledger yet.

    Attributes:
        reason: why.
        spool: the folder where the run's records wait for `cognify spool flush`; None inside a Dagster asset, which seals itself.
    """

    reason: str
    spool: Path | None = None

    def __str__(self) -> str:
        where = f"; its records wait in {self.spool}" if self.spool is not None else ""
        return f"pending: {self.reason}{where}"


Outcome = Packaged | NotPackaged | Pending
