"""The names that a project's code has for its datasets, and the snapshots that they mean.

Invariant: a name means the snapshot that it was bound to when the run began; what is bound later changes nothing about that run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.governance import directory
from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.records import DatasetRef, DatasetsBound, DatasetSnapshot
from cognify_dagster.records.base import SNAPSHOT_NAME
from cognify_dagster.records.training import Binding
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key, os_login

Role = Literal["train", "validation", "holdout", "other"]
TRAINED_ON = ("train", "validation")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ROOT = re.compile(r"[0-9a-f]{8,64}")


def role_of(label: str) -> Role:
    """Return the role that a label's beginning says: `train…`, `validation…`, `holdout…`; any other is `other`."""
    lowered = label.lower()
    for role in ("train", "validation", "holdout"):
        if lowered.startswith(role):
            return role  # type: ignore[return-value]
    return "other"


@dataclass(frozen=True)
class BoundDataset:
    """A dataset as a run uses it.

    Attributes:
        label: the name that code has for it.
        ref: snapshot name, root, ledger entry and role.
        location: where the data lay when the snapshot was taken; empty for a table that lies in the evidence store.
        records: the snapshot's number of records, where it is known.
    """

    label: str
    ref: DatasetRef
    location: str = ""
    records: int | None = None

    @property
    def trained_on(self) -> bool:
        """Whether it counts as training data: its role is train or validation."""
        return self.ref.role in TRAINED_ON

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        found = {"label": self.label, "ref": self.ref.model_dump(mode="json"), "location": self.location}
        return found if self.records is None else {**found, "records": self.records}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BoundDataset:
        """Read what `to_json` wrote."""
        records = value.get("records")
        return cls(
            str(value["label"]),
            DatasetRef.model_validate(value["ref"]),
            str(value.get("location", "")),
            records if isinstance(records, int) else None,
        )


def find_snapshot(reading: Reading, text: str) -> Recorded[DatasetSnapshot]:
    """Return the snapshot that a text names: `NAME` (its newest), `NAME@PARTITION`, `NAME@ENTRY` or `NAME@ROOT` (first digits).

    Raises:
        SdkError: there is none, or the digits fit several.
    """
    whole = re.compile(SNAPSHOT_NAME)
    if whole.fullmatch(text):
        named = _snapshots(reading, text)
        if named:
            return named[-1]
    name, mark, which = text.rpartition("@")
    if not mark:
        known = sorted({item.record.name for item in reading.all(DatasetSnapshot)})
        hint = f"there are {', '.join(known[:10])}" if known else "nothing was snapshotted yet"
        raise SdkError(
            f"dataset {text[:100]!r} was never snapshotted ({hint}); take one with `cognify dataset snapshot DATA --name {text[:100]}`"
        )
    found = _snapshots(reading, name)
    if which.isdecimal() and len(which) < 8:
        chosen = [item for item in found if item.seq == int(which)]
    elif _ROOT.fullmatch(which.lower().removeprefix("sha256:")):
        start = which.lower().removeprefix("sha256:")
        chosen = [item for item in found if item.record.root.startswith(start)]
        if len({item.record.root for item in chosen}) > 1:
            raise SdkError(f"dataset {name}: several snapshots have roots that begin with {start}; give more digits")
    else:
        chosen = []
    if not chosen:
        entries = ", ".join(str(item.seq) for item in found[-8:]) or "none"
        raise SdkError(f"dataset {name!r} has no snapshot {which[:70]!r}; entries of its snapshots: {entries}")
    return chosen[-1]


def _snapshots(reading: Reading, name: str) -> list[Recorded[DatasetSnapshot]]:
    try:
        found = reading.all(DatasetSnapshot, f"dataset/{name}")
    except ValueError:
        return []
    return [item for item in found if item.record.name == name]


def bound(reading: Reading, label: str, text: str, role: str | None = None) -> BoundDataset:
    """Return the dataset that a label means.

    Raises:
        SdkError: an unusable label, or no such snapshot.
    """
    if not _LABEL.fullmatch(label):
        raise SdkError(f"label {label[:100]!r}: expected letters, digits, '.', '_' and '-' (at most 100)")
    item = find_snapshot(reading, text)
    return BoundDataset(label, dataset_ref(item, role or role_of(label)), _location(item), item.record.record_count)


def _location(item: Recorded[DatasetSnapshot]) -> str:
    return "" if item.record.data is not None else str(item.record.observed.get("location", ""))


def current_bindings(reading: Reading, project: str) -> Recorded[DatasetsBound] | None:
    """Return the bindings in force, None if there are none."""
    return reading.latest(DatasetsBound, f"model/{project}")


def bindings_at(reading: Reading, project: str, *, seen: int, started_us: int) -> Recorded[DatasetsBound] | None:
    """Return the bindings as they stood when a run began: the newest that it had seen, or that were appended before that moment."""
    found = [
        item for item in reading.all(DatasetsBound, f"model/{project}") if item.seq < seen or item.time_us <= started_us
    ]
    return found[-1] if found else None


def datasets_of(reading: Reading, recorded: Recorded[DatasetsBound] | None) -> tuple[BoundDataset, ...]:
    """Return the datasets of bindings, each with where its data lay."""
    result = []
    for item in recorded.record.bindings if recorded else ():
        snapshot = reading.find(DatasetSnapshot, item.dataset.seq)
        if snapshot is None or (snapshot.record.name, snapshot.record.root) != (item.dataset.name, item.dataset.root):
            raise SdkError(
                f"binding {item.label!r}: entry {item.dataset.seq} is no snapshot of {item.dataset.name} with root "
                f"{item.dataset.root[:16]}…; bind it anew with `cognify dataset bind`"
            )
        result.append(BoundDataset(item.label, item.dataset, _location(snapshot), snapshot.record.record_count))
    return tuple(result)


def asked_datasets(reading: Reading, asked: Mapping[str, str] | Sequence[str]) -> tuple[BoundDataset, ...]:
    """Return the datasets that a call names: a mapping of label to snapshot, or names of training snapshots.

    Raises:
        SdkError: one was never snapshotted.
    """
    if isinstance(asked, str):
        raise SdkError(f"datasets={asked!r}: give a list of snapshot names, or a mapping of label to snapshot name")
    if isinstance(asked, Mapping):
        return tuple(bound(reading, str(label), str(text)) for label, text in asked.items())
    return tuple(bound(reading, str(text).replace("@", "-"), str(text), "train") for text in asked)


def bind(
    workspace: Workspace,
    project: str,
    bindings: Mapping[str, str],
    *,
    remove: Sequence[str] = (),
    bound_by: str | None = None,
) -> tuple[Recorded[DatasetsBound], bool]:
    """Name the snapshots that a project's runs use; labels that are not mentioned stay.

    Args:
        workspace: where to record.
        project: the model's key.
        bindings: label -> snapshot, as `find_snapshot` reads it.
        remove: labels that are no longer bound.
        bound_by: who binds; the person that this login maps to unless given.

    Returns:
        The bindings in force, and whether they were appended now.

    Raises:
        SdkError: an unusable label, no such snapshot, or a label to remove that is not bound.
        WriterRefused: the workspace's machine key may not write such entries; the message says how to admit it.
    """
    reading = workspace.read()
    now = current_bindings(reading, project)
    kept = {item.label: item for item in now.record.bindings} if now else {}
    for label in remove:
        if label not in kept:
            raise SdkError(f"{project}: no dataset is bound to {label!r}; bound are {', '.join(kept) or 'none'}")
        del kept[label]
    for label, text in bindings.items():
        kept[label] = Binding(label=label, dataset=bound(reading, label, text).ref)
    chosen = tuple(kept[label] for label in sorted(kept))
    if now is not None and now.record.bindings == chosen:
        return now, False
    if bound_by is None:
        found, _ = directory(reading).resolve([f"os:{os_login()}"])
        bound_by = found[0] if found else "unattributed"
    record = DatasetsBound(project=project, bindings=chosen, bound_by=bound_by)
    previous = now.seq if now else -1
    key = idempotency_key("datasets_bound", project, record.facts_digest(), previous)
    seq = workspace.append(record, idem=key).seq
    appended = workspace.read().find(DatasetsBound, seq)
    if appended is None:
        raise SdkError(f"entry {seq} cannot be read back; run `cognify ledger verify`")
    return appended, True
