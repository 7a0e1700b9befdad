"""What the commands about a recorded snapshot share: finding it, its evidence, and its data where they are still at hand."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure

if TYPE_CHECKING:
    from cognify_dagster.datasets import RecordManifest
    from cognify_dagster.records import DatasetSnapshot
    from cognify_dagster.workspace import Reading, Recorded, Workspace

PERSONAL = "--show-personal-values"


class _Dataset(click.ParamType):
    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,99}(@[\x21-\x7e]{1,100})?", str(value)):
            self.fail(f"{str(value)[:80]!r} is not the name of a dataset (letters, digits, . _ -)", param, ctx)
        return str(value)


class _Root(click.ParamType):
    name = "root"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{8,64}", text):
            self.fail(f"{str(value)[:80]!r} is not a root: give at least its first 8 hex digits", param, ctx)
        return text


DATASET = _Dataset()
ROOT = _Root()


def history(reading: Reading, name: str) -> list[Recorded[DatasetSnapshot]]:
    """All snapshots of a dataset, oldest first.

    Raises:
        Failure: if it was never recorded.
    """
    from cognify_dagster.records import DatasetSnapshot

    require_dataset(reading, name)
    return [item for item in reading.all(DatasetSnapshot, f"dataset/{name}") if item.record.name == name]


def require_dataset(reading: Reading, name: str) -> None:
    """Refuse a name that no snapshot has, and say which it may have meant.

    Raises:
        Failure: naming its partitions, or names that are written alike.
    """
    from cognify_dagster.records import DatasetSnapshot

    names = sorted({item.record.name for item in reading.all(DatasetSnapshot)})
    if name in names:
        return
    parts = [other for other in names if other.partition("@")[0] == name]
    if parts:
        more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
        raise Failure(
            f"dataset {name} is snapshotted by partition; name one of them: {', '.join(parts[-3:])}{more}", UNREADABLE
        )
    alike = difflib.get_close_matches(name, names, 3, 0.7)
    hint = f"did you mean {' or '.join(alike)}?" if alike else "`cognify dataset show` lists those it knows"
    raise Failure(f"the ledger knows no dataset {name}; {hint}", UNREADABLE)


def snapshot_at(reading: Reading, name: str, root: str | None = None) -> Recorded[DatasetSnapshot]:
    """The newest snapshot of a dataset, or the newest one with a root given by its first digits.

    Raises:
        Failure: if there is none, or the digits fit several roots.
    """
    held = history(reading, name)
    if root is None:
        return held[-1]
    found = {item.record.root: item for item in held if item.record.root.startswith(root)}
    if len(found) != 1:
        what = "several snapshots whose roots begin" if found else "no snapshot whose root begins"
        raise Failure(f"dataset {name}: the ledger holds {what} with {root}", UNREADABLE)
    return next(iter(found.values()))


def before(reading: Reading, item: Recorded[DatasetSnapshot]) -> Recorded[DatasetSnapshot] | None:
    """The newest earlier snapshot of the same dataset with another root."""
    earlier = [
        old for old in history(reading, item.record.name) if old.seq < item.seq and old.record.root != item.record.root
    ]
    return earlier[-1] if earlier else None


def manifest_of(workspace: Workspace, item: Recorded[DatasetSnapshot]) -> RecordManifest:
    """The record manifest of a snapshot.

    Raises:
        Failure: if the snapshot has no records.
        EvidenceError: if it was erased or is missing.
    """
    from cognify_dagster.datasets import unpack_records

    if item.record.record_manifest is None:
        raise Failure(f"dataset {item.record.name}: this snapshot has files only, no records", BLOCKED)
    return unpack_records(workspace.evidence.get(item.record.record_manifest.digest))


def secret_of(workspace: Workspace, item: Recorded[DatasetSnapshot]) -> bytes | None:
    """The record key, where the snapshot's digests are keyed.

    Raises:
        Failure: if the workspace's key is another one.
    """
    from cognify_dagster.datasets import key_id

    wanted = item.record.record_digest_key
    if wanted is None:
        return None
    key = workspace.record_key()
    if key_id(key) != wanted:
        raise Failure(
            f"dataset {item.record.name}: its record digests were made with key {wanted}; this workspace has {key_id(key)}",
            BLOCKED,
        )
    return key


def entry_of(workspace: Workspace, item: Recorded[Any]) -> dict[str, Any]:
    """How a file names the ledger entry that it rests on."""
    return {"ledger": workspace.origin, "seq": item.seq, "leaf": item.leaf}


def require_values_allowed(item: Recorded[DatasetSnapshot], allowed: bool, option: str) -> None:
    """Refuse to show values of personal data unless that was asked for in so many words.

    Raises:
        Failure: if it was not.
    """
    if item.record.record_digest_key is not None and not allowed:
        raise Failure(
            f"dataset {item.record.name} holds personal data; {option} would show values of people. Nothing is shown unless "
            f"you add {PERSONAL}",
            BLOCKED,
        )


def table_of(
    workspace: Workspace, item: Recorded[DatasetSnapshot], source: str | None = None, *, option: str = "--data"
) -> Any:
    """The table of a snapshot: from evidence, or from its source after that was found to be unchanged.

    Args:
        workspace: where it is recorded.
        item: the snapshot.
        source: where the data are now, if not where they were.
        option: the option that says so, for the message.

    Raises:
        Failure: if the data are no longer there, or no longer those of the snapshot.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cognify_dagster.datasets import DatasetError, read_table, verify_snapshot

    record = item.record
    if record.data is not None:
        return pq.read_table(pa.BufferReader(workspace.evidence.get(record.data.digest)))
    where = source or str(record.observed.get("location", ""))
    about = f"dataset {record.name}, root {record.root[:16]}…"
    try:
        report = verify_snapshot(
            where,
            record.header,
            workspace.evidence.get(record.manifest.digest),
            record_hmac_key=secret_of(workspace, item),
        )
        if not report.ok:
            raise Failure(
                f"{about}: the data at {where} are not those of the snapshot any more ({'; '.join(report.reasons[:3])}). If these "
                f"data are still somewhere, name the place with {option}",
                UNREADABLE,
            )
        return read_table(where, ignore=record.header["params"]["ignore"])
    except DatasetError as error:
        raise Failure(f"{about}: its data cannot be read: {error}", UNREADABLE) from error
