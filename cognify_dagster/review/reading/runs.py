"""Which run wrote a record, and where it is seen in Dagster. Pure.

Invariant: an address is made only of a run id in the form that Dagster gives, below the address of the configuration; everything else
that a record calls a run is shown as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cognify_dagster.records import Record

_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = 80


@dataclass(frozen=True)
class Run:
    """A run that a record names.

    Args:
        id: as the record says it.
        address: its page in Dagster; empty where it is no run of Dagster, or nobody told the site where Dagster is.
        first: whether it is the first run of a chain of retries, of which another one wrote the record.
    """

    id: str
    address: str = ""
    first: bool = False

    @property
    def text(self) -> str:
        """What it is called, before its id."""
        what = "Dagster run" if _RUN.fullmatch(self.id) else "run"
        return f"first {what}" if self.first else what

    @property
    def short(self) -> str:
        """Its id as it is shown."""
        return self.id if len(self.id) <= _SHOWN else self.id[: _SHOWN - 1] + "…"


def runs_of(record: Record | None, dagster_url: str) -> tuple[Run, ...]:
    """Return the runs that a record names: the one that wrote it, and the first of its retries where that is another.

    Args:
        record: of any kind; None has no run.
        dagster_url: where Dagster is seen, empty if nobody said.
    """
    if record is None:
        return ()
    told = (record.observed.get("dagster_run"), record.observed.get("run"), getattr(record, "run", None))
    named = [_id(value) for value in (*told, getattr(record, "attempt", None) if not any(told) else None)]
    found = list(dict.fromkeys(name for name in named if name))
    return tuple(
        Run(name, f"{dagster_url}/runs/{name}" if dagster_url and _RUN.fullmatch(name) else "", first=place > 0)
        for place, name in enumerate(found)
    )


def _id(value: object) -> str:
    """The run in what a record says; a part of a run (`RUN/VERSION`, `RUN/ATTEMPT`) belongs to that run."""
    text = value if isinstance(value, str) else ""
    head = text.partition("/")[0]
    return head if _RUN.fullmatch(head) else text
