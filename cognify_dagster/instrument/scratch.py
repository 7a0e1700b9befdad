"""A scratch workspace for a re-run: a trial ledger of its own that knows the recorded datasets, and nothing of the real one's people.

Invariants: the real workspace is only read; the scratch ledger's origin begins with `reproduce.local/`, so nothing that is written there
can be taken for an entry of another ledger; the folder is private to this login, for it may hold the key of record digests and copies of
evidence that is about people.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from cognify_dagster.datasets import verify_snapshot
from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.governance import Founder, create_key, found_workspace, parse_policy, policy_in_force
from cognify_dagster.records import (
    Binding,
    DatasetRef,
    DatasetsBound,
    DatasetSnapshot,
    EvidenceItem,
    ModelRegistered,
    TrainingRun,
)
from cognify_dagster.training import TrainingError
from cognify_dagster.training.reproducing import SCRATCH_ORIGIN
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key
from cognify_dagster.workspace.workspace import RECORD_KEY


def recorded_data(reading: Reading, run: TrainingRun) -> list[Recorded[DatasetSnapshot]]:
    """Return the snapshots that a run was trained on.

    Raises:
        TrainingError: one of them cannot be read any more.
    """
    found = []
    for ref in run.datasets:
        item = reading.find(DatasetSnapshot, ref.seq)
        if item is None:
            raise TrainingError(
                f"dataset {ref.name}: its snapshot, entry {ref.seq}, cannot be read (was its payload erased?)"
            )
        found.append(item)
    return found


def data_problem(workspace: Workspace, item: Recorded[DatasetSnapshot], location: str) -> str:
    """Why a dataset is not there as recorded, empty if it is. `location`: where to look for its files."""
    record = item.record
    if record.data is not None:
        if not workspace.evidence.exists(record.data.digest):
            return f"dataset {record.name}: its table is not in the evidence store any more"
        workspace.evidence.verify(record.data.digest)
        return ""
    try:
        report = verify_snapshot(
            location,
            record.header,
            workspace.evidence.get(record.manifest.digest),
            record_hmac_key=workspace.record_key() if record.record_digest_key else None,
        )
    except (ValueError, OSError) as error:
        return f"dataset {record.name}: {error}. Give --data {record.name}=PATH if its files are elsewhere"
    if report.ok:
        return ""
    return f"dataset {record.name} at {location} is not what was trained on: {'; '.join(report.reasons)}"


def make_scratch(
    folder: Path, source: Workspace, run: Recorded[TrainingRun], locations: Mapping[str, str]
) -> Workspace:
    """Found a workspace in a new folder in which the run can be repeated; see the module's description.

    Args:
        folder: a new folder.
        source: the workspace that holds the run. It is only read.
        run: the sealed run.
        locations: where the files of a dataset are, by name; where they were recorded unless given.
    """
    folder.mkdir(mode=0o700, parents=True)
    reading = source.read()
    rules = {**policy_in_force(reading).policy.as_json(), "datasets": []}  # what was approved there stands as recorded
    policy = parse_policy(rules, "the policy of the re-run")
    key = create_key(folder / "founder.key.json", "person/reproduction", secrets.token_urlsafe(24))
    made = found_workspace(
        folder,
        origin=f"{SCRATCH_ORIGIN}{secrets.token_hex(8)}",
        founders=[Founder(key, "Reproduction", roles=("workspace_admin",))],
        policy=policy,
        policy_text=yaml.safe_dump(policy.as_json(), sort_keys=True),
        trial=True,
    )
    items = recorded_data(reading, run.record)
    before = source.read(run.seq)
    bound = before.latest(DatasetsBound, f"model/{run.record.model}")
    if bound is not None:
        known = {item.seq for item in items}
        more = [
            reading.find(DatasetSnapshot, one.dataset.seq)
            for one in bound.record.bindings
            if one.dataset.seq not in known
        ]
        items += [item for item in more if item is not None]
    if any(item.record.record_digest_key for item in items):
        shutil.copyfile(source.config.keys / RECORD_KEY, made.config.keys / RECORD_KEY)
        (made.config.keys / RECORD_KEY).chmod(0o600)
        made = Workspace.open(made.config.path)
    registered = before.latest(ModelRegistered, f"model/{run.record.model}")
    if registered is not None:
        made.append(registered.record, idem=idempotency_key("reproduce", "model"))
    refs: dict[int, DatasetRef] = {}
    for item in sorted(items, key=lambda one: one.seq):
        place = locations.get(item.record.name, str(item.record.observed.get("location", "")))
        _copy_evidence(source, made, item.record)
        copied = item.record.model_copy(
            update={
                "parent_root": None,
                "observed": {"location": place},
                "author": "",
                "touched_by": (),
                "unattributed": (),
            }
        )
        seq = made.append(copied, idem=idempotency_key("reproduce", "dataset", item.seq)).seq
        again = made.read().find(DatasetSnapshot, seq)
        assert again is not None
        refs[item.seq] = dataset_ref(again, "train")
    if bound is not None:
        bindings = tuple(
            Binding(label=one.label, dataset=refs[one.dataset.seq].model_copy(update={"role": one.dataset.role}))
            for one in bound.record.bindings
            if one.dataset.seq in refs
        )
        record = DatasetsBound(project=bound.record.project, bindings=bindings)
        made.append(record, idem=idempotency_key("reproduce", "bound"))
    return made


def _copy_evidence(source: Workspace, target: Workspace, record: DatasetSnapshot) -> None:
    for name in type(record).model_fields:
        item = getattr(record, name)
        if isinstance(item, EvidenceItem) and source.evidence.exists(item.digest):
            target.put(item.name, source.evidence.get(item.digest), item.media_type, item.sensitivity)
