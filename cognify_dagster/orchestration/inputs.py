"""What user functions receive: `Snapshot`, `ModelVersion`, `Release`. Each is resolved from the ledger and checked against it."""

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import dagster as dg

from cognify_dagster.datasets import DatasetError, read_table, verify_snapshot
from cognify_dagster.datasets.partitions import partition_name
from cognify_dagster.datasets.recording import require_snapshot
from cognify_dagster.governance import Grant
from cognify_dagster.orchestration._compat import upstream_partitions
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.records import DatasetSnapshot, TrainingRun
from cognify_dagster.training.reading import copy_model
from cognify_dagster.workspace import Recorded, Workspace


class SnapshotChanged(DatasetError):
    """The data no longer have the root that was recorded."""


@dataclass(frozen=True)
class Snapshot:
    """A dataset as recorded. Reading it checks first that the data still have the recorded root."""

    workspace: Workspace
    recorded: Recorded[DatasetSnapshot]

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.recorded.record.name

    @property
    def root(self) -> str:
        """The Merkle root in hex."""
        return self.recorded.record.root

    @property
    def location(self) -> str:
        """Where the data lay when the snapshot was taken."""
        return str(self.recorded.record.observed.get("location", ""))

    @property
    def path(self) -> str:
        """The data's path or URL, after re-hashing them.

        Raises:
            SnapshotChanged: naming what differs; take a new snapshot first.
            DatasetError: if it was recorded as a table, which has no path.
        """
        if self.recorded.record.data is not None:
            raise DatasetError(f"dataset {self.name} was recorded as a table, so it has no path; use .table()")
        self.verify()
        return self.location

    def verify(self) -> None:
        """Re-hash the data once and compare them with the recorded root.

        Raises:
            SnapshotChanged: naming what differs.
        """
        _ = self._verified

    def table(self) -> Any:
        """Return the data as a pyarrow table, after re-hashing them."""
        record = self.recorded.record
        if record.data is not None:
            import pyarrow as pa
            import pyarrow.parquet as pq

            return pq.read_table(pa.BufferReader(self.workspace.evidence.get(record.data.digest)))
        return read_table(self.path, ignore=record.header["params"]["ignore"])

    @cached_property
    def _verified(self) -> bool:
        record = self.recorded.record
        if record.data is not None:  # the table itself lies in the evidence store, under its digest
            self.workspace.evidence.verify(record.data.digest)
            return True
        key = self.workspace.record_key() if record.record_digest_key else None
        manifest = self.workspace.evidence.get(record.manifest.digest)
        report = verify_snapshot(self.location, record.header, manifest, record_hmac_key=key)
        if not report.ok:
            raise SnapshotChanged(
                f"dataset {self.name}: {'; '.join(report.reasons)}. It is not the data of snapshot entry {self.recorded.seq}; "
                "restore it, or materialize the snapshot asset to record the new state"
            )
        return True


def resolve_snapshot(
    context: Any, workspace: Workspace, name: str, asset: dg.AssetKey, upstream: dg.AssetKey
) -> Recorded[DatasetSnapshot]:
    """Return the snapshot of a dataset that a step uses.

    Of a partitioned dataset it is the partition that the step's partition is mapped to; without a mapping the newest snapshot of any
    of its partitions.

    Raises:
        DatasetError: if there is none.
        UsageError: if the mapping gives several partitions.
    """
    keys = upstream_partitions(context, asset, upstream)
    if not keys:
        return require_snapshot(workspace, name)
    if len(keys) > 1:
        raise UsageError(
            f"{asset.to_user_string()}: the partition mapping gives {len(keys)} partitions of {name}; map each version to one"
        )
    return require_snapshot(workspace, partition_name(name, keys[0]))


@dataclass(frozen=True)
class ModelVersion:
    """A sealed model version. `path` gives its file or folder, checked against the recorded digest.

    A step hands it to the user's function inside `with`, which removes the copy behind `path` when the step is done. One
    that is used without `with` removes it when nobody holds the object any more, at the latest when the interpreter ends.
    """

    workspace: Workspace
    recorded: Recorded[TrainingRun]

    @property
    def version(self) -> str:
        """The version id."""
        return self.recorded.record.version

    @property
    def digest(self) -> str:
        """`sha256:` and the hex digest of the model file; of a folder, that of the list of its files."""
        return self.recorded.record.model_file.digest

    @property
    def config(self) -> dict[str, Any]:
        """The configuration it was trained with."""
        return dict(self.recorded.record.config)

    @cached_property
    def path(self) -> Path:
        """A private copy of the model, a file or a folder; its bytes were hashed while copying.

        It is there until the step ends. What has to outlive the step copies it.

        Raises:
            TrainingError: if the list of a folder's files and the files on record do not agree.
            EvidenceError: if a file is missing, or not the one that was recorded.
        """
        folder = Path(tempfile.mkdtemp(prefix="cognify-model-"))
        # The finalizer holds the folder's name only, so it does not keep this object alive.
        self.__dict__["_remove_copy"] = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return copy_model(self.workspace, self.recorded.record, folder)

    def __enter__(self) -> "ModelVersion":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the copy; asking for `path` again makes a new one."""
        self.__dict__.pop("path", None)
        remove = self.__dict__.pop("_remove_copy", None)
        if remove is not None:
            remove()


@dataclass(frozen=True)
class Release:
    """A verified release: the deployment's body is entered only with one.

    `model` gives the released file; `grant_entry` is the ledger entry that allows it.
    """

    workspace: Workspace
    grant: Grant
    model: ModelVersion

    @property
    def version(self) -> str:
        """The version to deploy."""
        return self.grant.version

    @property
    def target(self) -> str:
        """The target, such as "production"."""
        return self.grant.target

    @property
    def model_digest(self) -> str:
        """`sha256:` and the hex digest of the released model file."""
        return self.grant.model_digest

    @property
    def model_path(self) -> Path:
        """The released file, checked. It is there until the deployment's body returns: install a copy of it."""
        return self.model.path

    @property
    def purpose(self) -> str:
        """Why it goes live: "release", "rollback" or "break_glass"."""
        return self.grant.purpose

    @property
    def conditions(self) -> tuple[dict[str, Any], ...]:
        """The open conditions that the release is bound to, as the grant records them: `kind`, `text`, `limit`, `due`.

        A deployment that declares `enforces=("use_cap",)` reads here what to enforce, for example
        `[c["limit"] for c in release.conditions if c["kind"] == "use_cap"]`.
        """
        return tuple(dict(item) for item in self.grant.conditions)

    @property
    def grant_entry(self) -> int:
        """Sequence number of the grant."""
        return self.grant.seq
