"""What a verification found and how far it proves it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum


class Outcome(IntEnum):
    """Result of a verification; the number is the command's exit code."""

    HOLDS = 0
    TAMPERED = 1
    ROLLED_BACK = 2
    UNREADABLE = 3
    UNPROVEN = 4


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `seq` is the sequence number concerned, None if it concerns the ledger as a whole."""

    outcome: Outcome
    seq: int | None
    message: str

    def __str__(self) -> str:
        return f"entry {self.seq}: {self.message}" if self.seq is not None else self.message


@dataclass(frozen=True)
class Report:
    """What a verification proved.

    `level`: L0 internally consistent, L1 head signed by a log key of the trust file, L2 head cosigned by the trust file's
    quorum of witnesses, L3 head also anchored in external time; None when not even L0 holds. Each of `signed_size`,
    `witnessed_size` and `anchored_size` is the size of the largest head of that kind (0 if none); `anchored_at` is the
    UTC time that the anchor vouches for. `exposed_since_us` is the time of the oldest entry that no counted head covers.
    `intact_size` is what can be claimed of a damaged ledger too: the first so many entries are unharmed and are those that
    a trusted head signed. `checked_from` is the first entry that was read.
    """

    origin: str
    size: int
    root: bytes
    findings: tuple[Finding, ...]
    level: str | None
    signed_size: int
    erased: int = 0
    notes: tuple[str, ...] = field(default=())
    witnessed_size: int = 0
    anchored_size: int = 0
    anchored_at: str | None = None
    exposed_since_us: int | None = None
    checked_from: int = 0
    intact_size: int = 0

    @property
    def outcome(self) -> Outcome:
        """The worst finding; HOLDS without findings from L1 on, UNPROVEN when nothing signed covers the ledger."""
        if self.findings:
            return min(finding.outcome for finding in self.findings)
        return Outcome.HOLDS if self.level in ("L1", "L2", "L3") else Outcome.UNPROVEN

    @property
    def covered_size(self) -> int:
        """Size of the head that carries the level."""
        return {"L3": self.anchored_size, "L2": self.witnessed_size}.get(self.level or "", self.signed_size)

    @property
    def uncovered(self) -> int:
        """The exposure window: entries younger than the head that carries the level."""
        return self.size - self.covered_size

    def exposed(self, since_us: int | None) -> Report:
        """Return this report with the time of the oldest uncovered entry."""
        return replace(self, exposed_since_us=since_us)
