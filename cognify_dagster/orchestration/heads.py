"""What Dagster remembers of the ledger: the signed heads in the metadata of materializations.

Who can write the ledger's file seldom rewrites Dagster's database too, so a ledger that was set back is often found by these
heads alone. Nothing in them is believed: whoever reaches the webserver can report a materialization with any text in it, so a
head counts only where a key of the trust file signed it.
"""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.ledger import Checkpoint, NoteError, TrustFile, parse_note
from cognify_dagster.ledger.verification.verify import Head, judge
from cognify_dagster.orchestration._compat import open_instance
from cognify_dagster.orchestration.metadata import CHECKPOINT
from cognify_dagster.workspace.anchoring import External

NAME, KIND = "Dagster runs", "dagster"
NEWEST = 50
MAX_NOTE = 64 << 10
_PAGE = 50
_KEYS_A_PAGE = 500


class InstanceError(RuntimeError):
    """A Dagster instance cannot be opened."""


def run_heads(instance: dg.DagsterInstance, newest: int = NEWEST) -> list[tuple[str, str]]:
    """Return the signed heads that an instance's event log holds, as (label, note), largest first, each once.

    Args:
        instance: the Dagster instance.
        newest: how many materializations of each asset to look at, newest first.

    Returns:
        Notes as they were found, not verified; see `trusted_heads`. A label names run, asset, partition and time.
    """
    found: dict[str, tuple[int, str]] = {}
    for key in _asset_keys(instance):
        for record in _materializations(instance, key, newest):
            note = _note(record)
            size = None if note is None or note in found else _size(note)
            if note is not None and size is not None:
                found[note] = (size, _label(key, record))
    ordered = sorted(found.items(), key=lambda item: item[1][0], reverse=True)
    return [(label, note) for note, (_, label) in ordered]


@contextlib.contextmanager
def opened(home: Path) -> Iterator[dg.DagsterInstance]:
    """Open a Dagster instance by its DAGSTER_HOME.

    Raises:
        InstanceError: if it cannot be opened.
    """
    try:
        instance = open_instance(home)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InstanceError(f"{home}: the Dagster instance cannot be opened: {text}. Mend dagster.yaml") from error
    with instance:
        yield instance


def trusted_heads(
    heads: Iterable[tuple[str, str]], trust: TrustFile, origin: str
) -> tuple[list[tuple[str, str]], list[str]]:
    """Part heads into those of this ledger that a key of the trust file signed, and remarks about the others."""
    kept, remarks = [], []
    for label, note in heads:
        judged = judge(label, note, trust, origin)
        if isinstance(judged, Head):
            kept.append((label, note))
        else:
            remarks.append(f"{judged.message}; it was not compared with")
    return kept, remarks


def ask_runs(home: Path, trust: TrustFile, origin: str) -> External:
    """Return what an instance remembers of a ledger, for `cognify ledger verify --external`. It is not outside the host in
    general, so that it cannot be asked is a remark and no failure."""
    said = External(NAME, KIND)
    try:
        with opened(home) as instance:
            said.heads, left_out = trusted_heads(run_heads(instance), trust, origin)
    except InstanceError as error:
        said.remarks.append(str(error))
        return said
    if left_out:
        said.remarks.append(f"{len(left_out)} heads in run metadata do not count; first: {left_out[0]}")
    return said


def _asset_keys(instance: dg.DagsterInstance) -> Iterator[dg.AssetKey]:
    cursor = None
    while True:
        keys = instance.get_asset_keys(limit=_KEYS_A_PAGE, cursor=cursor)
        yield from keys
        if len(keys) < _KEYS_A_PAGE:
            return
        cursor = keys[-1].to_string()


def _materializations(instance: dg.DagsterInstance, key: dg.AssetKey, newest: int) -> Iterator[Any]:
    """Yield the newest materializations of an asset, a page at a time."""
    cursor, left = None, newest
    while left > 0:
        page = instance.fetch_materializations(key, limit=min(left, _PAGE), cursor=cursor)
        yield from page.records
        left -= len(page.records)
        if not page.has_more or not page.records:
            return
        cursor = page.cursor


def _note(record: Any) -> str | None:
    """Return the note in a materialization: JSON as we write it, or a text with the note alone."""
    event = record.asset_materialization
    value = getattr(event.metadata.get(CHECKPOINT), "value", None) if event else None
    if isinstance(value, dict):
        value = value.get("note")
    return value if isinstance(value, str) and len(value) <= MAX_NOTE else None


def _size(note: str) -> int | None:
    try:
        return Checkpoint.parse(parse_note(note).text).size
    except NoteError:
        return None


def _label(key: dg.AssetKey, record: Any) -> str:
    run = f"run {record.run_id}" if record.run_id else "reported without a run"
    partition = f" {record.partition_key}" if record.partition_key else ""
    time = datetime.fromtimestamp(record.timestamp, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"Dagster {run}, {key.to_user_string()}{partition}, {time}"
