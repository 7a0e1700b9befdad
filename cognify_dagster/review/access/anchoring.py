"""Puts batches of the access log into the ledger, and says of each whether the site's lines are still those that were put there.

Invariants: a batch is fixed in the site's database before it is written to the ledger, so that a killed process goes on with the same
batch; the lines lie encrypted in evidence, the entry names only their Merkle root; what a batch holds is decided from entry and
evidence, never from the site's table; erasing the entry removes the lines here, too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone

from cognify_dagster.evidence import EvidenceError
from cognify_dagster.ledger import canonical_json, leaf_hash, merkle_root
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.records import AccessLogged, RecordError, utc
from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import access as table
from cognify_dagster.review.store.access import Kept
from cognify_dagster.workspace import Reading, Recorded, idempotency_key

_log = logging.getLogger("cognify.review")
PROBLEM = "access-log-problem"
_MOST = 10_000


def line_bytes(line: Kept) -> bytes:
    """Return a line as it is anchored: canonical JSON without the number of its batch."""
    value = asdict(line)
    del value["batch"]
    return canonical_json(value)


def root_of(lines: Sequence[Kept]) -> str:
    """Return the RFC 6962 root over lines in order, in hex."""
    return merkle_root(leaf_hash(line_bytes(line)) for line in lines).hex()


# --- anchoring -------------------------------------------------------------------------------------------------------


def anchor_if_due(site: Site) -> float | None:
    """Anchor a batch once enough lines wait or the oldest waits long enough; return a short pause where more is due."""
    drop_erased(site)
    with site.store.begin() as connection:
        count, oldest = table.waiting_lines(connection)
        begun = table.open_batch(connection, 0) is not None
    age_us = int(site.now().timestamp() * 1_000_000) - oldest if oldest is not None else 0
    due = count >= site.config.access_batch or age_us >= site.config.access_minutes * 60_000_000
    if not (begun or (count and due)):
        return None
    try:
        anchor(site)
    except RecordError as error:
        site.state[PROBLEM] = str(error)
        _log.error("the access log cannot be put into the ledger: %s", error)
        return 600.0
    except WriterRefused as error:
        _log.error("the access log cannot be put into the ledger: %s", error)
        return 600.0
    return 1.0 if count > _MOST else None


def anchor(site: Site) -> int | None:
    """Put the lines that are in no batch yet, at most 10,000, into the ledger; return the entry, None if there is none.

    Raises:
        WriterRefused: if the site's workload may not write such entries.
    """
    with site.store.begin() as connection:
        batch = table.open_batch(connection, _MOST)
        if batch is None:
            return None
        lines, name = table.lines_of(connection, batch), table.site_id(connection)
        previous = table.entry_of_batch(connection, batch - 1)
    if not lines:  # somebody removed them before they were anchored
        raise RecordError(f"batch {batch} of the access log has lost all its lines before it was anchored")
    workspace = site.workspace
    data = b"".join(line_bytes(line) + b"\n" for line in lines)
    record = AccessLogged(
        site=name,
        batch=batch,
        count=len(lines),
        root=root_of(lines),
        starts=_utc(min(line.time_us for line in lines)),
        ends=_utc(max(line.time_us for line in lines)),
        previous=previous,
        lines=workspace.put(f"access-{batch}.jsonl", data, "application/jsonl", "personal"),
    )
    try:
        receipt = workspace.append(record, idem=idempotency_key("access_logged", name, batch))
    except WriterRefused as error:
        site.state[PROBLEM] = str(error)
        raise
    site.state.pop(PROBLEM, None)
    with site.store.begin() as connection:
        table.close_batch(connection, batch, receipt.seq)
    return receipt.seq


def drop_erased(site: Site) -> int:
    """Remove the lines of batches whose entry was erased; return how many batches."""
    reading = site.read()
    head = reading.view.heads.get("erasures", -1)
    if site.state.get("access-erasures") == head:
        return 0
    with site.store.begin() as connection:
        kept = table.kept_batches(connection)
    gone = [batch for batch, seq in kept if seq < reading.size and reading.view.entry(seq).payload is None]
    for batch in gone:
        with site.store.begin() as connection:
            table.drop_batch(connection, batch, int(site.now().timestamp()))
    site.state["access-erasures"] = head
    return len(gone)


def _utc(time_us: int) -> str:
    return utc(datetime.fromtimestamp(time_us / 1_000_000, timezone.utc))


# --- checking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchState:
    """What became of a batch: the entry, and every way in which the site's lines differ from it. No problem: they are the same."""

    batch: int
    seq: int
    record: AccessLogged | None
    leaf: str = ""
    problems: tuple[str, ...] = ()
    altered: frozenset[int] = field(default_factory=frozenset)

    @property
    def word(self) -> str:
        """Intact, altered or erased."""
        if self.record is None:
            return "erased"
        return "altered" if self.problems else "intact"


def batch_entries(
    reading: Reading, limit: int, before: int | None = None
) -> list[tuple[int, Recorded[AccessLogged] | None]]:
    """Return the newest entries about the access log, newest first: number and record (None if it was erased)."""
    found: list[tuple[int, Recorded[AccessLogged] | None]] = []
    seq = reading.view.heads.get("access", -1)
    while seq >= 0 and len(found) < limit:
        item = reading.view.entry(seq)
        if item.entry.kind == AccessLogged.kind and (before is None or seq < before):
            found.append((seq, reading.find(AccessLogged, seq)))
        seq = item.entry.heads["access"]
    return found


def check_batch(site: Site, reading: Reading, seq: int) -> BatchState | None:
    """Compare the site's lines with the entry of their batch; None if that entry is about none of this site's batches."""
    item = reading.find(AccessLogged, seq)
    if item is None:
        return BatchState(0, seq, None) if seq < reading.size else None
    record = item.record
    with site.store.begin() as connection:
        mine = table.site_id(connection) == record.site
        lines = table.lines_of(connection, record.batch) if mine else []
    if not mine:
        return None
    if len(lines) == record.count and root_of(lines) == record.root:
        return BatchState(record.batch, seq, record, item.leaf)
    problems, altered = _differences(site, record, lines)
    return BatchState(record.batch, seq, record, item.leaf, tuple(problems), altered)


def _differences(site: Site, record: AccessLogged, lines: Sequence[Kept]) -> tuple[list[str], frozenset[int]]:
    """Name the lines that were altered, removed or added, as far as the evidence of the batch can still be read."""
    summary = f"the {len(lines)} lines here are not the {record.count} that were put into the ledger"
    try:
        kept = site.workspace.evidence.get(record.lines.digest).splitlines()
    except (EvidenceError, OSError) as error:
        return [summary, f"which ones cannot be said: {error}"], frozenset(line.n for line in lines)
    was = {int(json.loads(line)["n"]): line for line in kept}
    now = {line.n: line_bytes(line) for line in lines}
    altered = sorted(n for n in was.keys() & now.keys() if was[n] != now[n])
    missing, added = sorted(was.keys() - now.keys()), sorted(now.keys() - was.keys())
    told = [summary]
    for word, numbers in (("altered", altered), ("missing", missing), ("added", added)):
        if numbers:
            shown = ", ".join(map(str, numbers[:20])) + (" and others" if len(numbers) > 20 else "")
            told.append(f"{word}: {'line' if len(numbers) == 1 else 'lines'} {shown}")
    return told, frozenset((*altered, *added))


JOBS.append(Job("access-log", 15.0, anchor_if_due))
