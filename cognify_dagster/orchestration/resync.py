"""Rebuilds what Dagster's database says about governed models from the ledger: version partitions and materializations.

Invariants: nothing is written to the ledger, and nothing is rebuilt from one that does not hold or is older than what the
instance remembers of it; an entry that Dagster tells of gets no second materialization, and none is added behind a newer
one of the same asset and version; a rebuilt materialization says that it is one. Checks are not rebuilt: Dagster 1.13 can
store only one evaluation without a run for a partition of a check, and the gate asks the ledger anyway.
"""

import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.governance import judge_acts
from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.ledger import Outcome, VerifiedView
from cognify_dagster.orchestration._compat import run_is_over
from cognify_dagster.orchestration.accounting import entry_of, subject_of, unaccounted
from cognify_dagster.orchestration.catalogue import ROLE_OF_KIND, Asset, Catalogue
from cognify_dagster.orchestration.heads import run_heads, trusted_heads
from cognify_dagster.orchestration.rebuilding import Inputs, Where, materialization
from cognify_dagster.records import (
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    Package,
    Record,
    ReleaseGranted,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PAGE = 200
_ABOUT_VERSIONS = (VersionOpened, TrainingRun, Evaluation, Package, DeploymentCompleted)


class ResyncError(RuntimeError):
    """Nothing was rebuilt; the message says why. `outcome` is what the ledger's verification said, if that was the reason."""

    def __init__(self, message: str, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True)
class Rebuilt:
    """One materialization that was added, or would be."""

    asset: str
    partition: str | None
    seq: int
    kind: str


@dataclass
class Resync:
    """What was done. `notes` say what was left out and why."""

    size: int
    partitions: dict[str, list[str]] = field(default_factory=dict)
    rebuilt: list[Rebuilt] = field(default_factory=list)
    present: int = 0
    notes: list[str] = field(default_factory=list)


class _Told:
    """What the instance tells of already: storage ids by asset, partition and entry. Read page by page, once an asset."""

    def __init__(self, instance: dg.DagsterInstance, reading: Reading) -> None:
        self.instance, self.reading = instance, reading
        self.found: dict[tuple[dg.AssetKey, str | None], dict[int, int]] = {}
        self.scanned: set[dg.AssetKey] = set()

    def of(self, asset: Asset, partition: str | None) -> dict[int, int]:
        """Entries with the storage ids of their newest materializations."""
        if asset.key not in self.scanned:
            self.scanned.add(asset.key)
            self._scan(asset)
        return self.found.setdefault((asset.key, partition), {})

    def _scan(self, asset: Asset) -> None:
        role, name = asset.role or "dataset", asset.key.path[-1]
        cursor = None
        while True:
            page = self.instance.fetch_materializations(asset.key, limit=_PAGE, cursor=cursor, ascending=True)
            for record in page.records:
                subject = subject_of(role, asset.model, name, record.partition_key)
                release = (asset.model, asset.target) if role == "deployment" and asset.target else None
                if unaccounted(self.reading, role, subject, record, release) is None:
                    self.of(asset, record.partition_key)[entry_of(record)] = record.storage_id
            if not page.has_more or not page.records:
                return
            cursor = page.cursor

    def newest(self, asset: Asset, partition: str | None, seq: int) -> int | None:
        """The storage id of a materialization that was just reported."""
        only = dg.AssetRecordsFilter(asset_key=asset.key, asset_partitions=[partition] if partition else None)
        for record in self.instance.fetch_materializations(only, limit=5).records:
            if entry_of(record) == seq:
                return record.storage_id
        return None


def resync(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    assets: Iterable[Mapping[str, Any]],
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Resync:
    """Add what an instance lacks of what the ledger records; doing it again adds nothing.

    Args:
        workspace: the workspace whose ledger is read.
        instance: the Dagster instance to complete.
        assets: the project's assets, `health.load_location(project)["assets"]`.
        dry_run: only say what would be added.
        progress: called with (materializations done, materializations in all).

    Raises:
        ResyncError: if the ledger does not hold, or another resync is running.
    """
    with contextlib.nullcontext() if dry_run else _alone(workspace.home):
        _require_sound(workspace, instance)
        reading = workspace.read()
        catalogue = Catalogue(assets, workspace.config.path)
        done = Resync(reading.size)
        _partitions(instance, reading, catalogue, done, dry_run)
        told = _Told(instance, reading)
        missing = _missing(instance, reading, catalogue, told, done)
        if dry_run:
            return done
        prefixes = _Prefixes(workspace, reading)
        for number, (item, asset, partition) in enumerate(missing):
            inputs = _inputs(reading, catalogue, told, asset, item.record)
            target = catalogue.target(asset.model)
            enforces = catalogue.enforces(asset.model, target)
            where = Where(asset.key, partition, asset.code_version, target, enforces)
            event = materialization(workspace, prefixes.of(item.seq), item, reading, where, inputs)
            instance.report_runless_asset_event(event)
            stored = told.newest(asset, partition, item.seq)
            if stored is not None:
                told.of(asset, partition)[item.seq] = stored
            if progress is not None:
                progress(number + 1, len(missing))
        return done


def _require_sound(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    """Refuse a ledger that was changed, or set back behind what this very instance remembers."""
    trust = workspace.trust()
    heads, _ = trusted_heads(run_heads(instance), trust, workspace.origin)
    report = workspace.ledger.verify(trust, remembered=heads, acts=judge_acts)
    bad = [item for item in report.findings if item.outcome is not Outcome.UNPROVEN]
    if bad:
        raise ResyncError(
            f"nothing was rebuilt, because the ledger does not hold: {bad[0]}. Run `cognify ledger verify`",
            report.outcome,
        )


def _partitions(
    instance: dg.DagsterInstance, reading: Reading, catalogue: Catalogue, done: Resync, dry_run: bool
) -> None:
    """Add the versions that the ledger knows, in its order, to each model's partitions."""
    versions: dict[str, dict[str, None]] = {}
    for seq in range(reading.size):
        found = reading.at(seq)
        if found is not None and isinstance(found.record, _ABOUT_VERSIONS):
            versions.setdefault(found.record.model, {})[found.record.version] = None
    for model, known in versions.items():
        name = catalogue.versions(model)
        if name is None:
            continue
        there = set(instance.get_dynamic_partitions(name))
        lacking = [version for version in known if version not in there]
        if lacking:
            done.partitions[name] = lacking
            if not dry_run:
                instance.add_dynamic_partitions(name, lacking)


def _missing(
    instance: dg.DagsterInstance, reading: Reading, catalogue: Catalogue, told: _Told, done: Resync
) -> list[tuple[Recorded[Record], Asset, str | None]]:
    """Return the records that Dagster does not tell of, oldest first, and note what is left out."""
    missing = []
    left_out: Counter[str] = Counter()
    for entry in reading.view.entries:
        if entry.entry.kind not in ROLE_OF_KIND:
            continue
        item = reading.at(entry.entry.seq)
        if item is None:
            left_out["their payload was erased or cannot be read by this release"] += 1
            continue
        placed = catalogue.place(item.record)
        if placed is None:
            left_out[f"the definitions have no asset for {_name(item.record)}"] += 1
            continue
        known = told.of(*placed)
        if item.seq in known:
            done.present += 1
        elif known and max(known) > item.seq:
            left_out["Dagster tells of a newer entry of the same asset and version"] += 1
        elif not _granted(reading, item):
            left_out["a deployment that follows from no grant is not a release"] += 1
        elif not run_is_over(instance, _run(item.record)):
            left_out["the run that wrote them has not ended; it tells of them itself"] += 1
        else:
            asset, partition = placed
            missing.append((item, asset, partition))
            done.rebuilt.append(Rebuilt(asset.key.to_user_string(), partition, item.seq, item.record.kind))
    done.notes = [f"{count} entries are left out: {why}" for why, count in left_out.items()]
    return missing


def _name(record: Record) -> str:
    if isinstance(record, DatasetSnapshot):
        return f"dataset {record.name}"
    target = f" to {record.target}" if isinstance(record, DeploymentCompleted) else ""
    return f"the {ROLE_OF_KIND[record.kind]} of model {getattr(record, 'model', '?')}{target}"


def _granted(reading: Reading, item: Recorded[Record]) -> bool:
    if not isinstance(item.record, DeploymentCompleted):
        return True
    return any(
        other.seq == item.seq and grant_of(reading, other) is not None
        for other in reading.all(DeploymentCompleted, f"model/{item.record.model}@{item.record.version}")
    )


def _run(record: Record) -> str:
    """The Dagster run that wrote a record, empty if it does not say."""
    observed = record.detail if isinstance(record, DeploymentCompleted) else record.observed
    return str(observed.get("dagster_run") or observed.get("run") or "")


def _inputs(reading: Reading, catalogue: Catalogue, told: _Told, asset: Asset, record: Record) -> Inputs:
    """Return what a record was made from, as Dagster would have noted it: for each upstream asset entry and storage id."""
    sources: dict[dg.AssetKey, tuple[Asset, int]] = {}

    def add(found: Asset | None, seq: int | None) -> None:
        if found is not None and seq is not None:
            sources[found.key] = (found, seq)

    if isinstance(record, TrainingRun):
        for ref in record.datasets:
            add(catalogue.dataset(ref.name), ref.seq)
    elif isinstance(record, Evaluation):
        add(catalogue.dataset(record.dataset.name), record.dataset.seq)
        add(catalogue.of_model(record.model, "training"), record.training_seq)
    elif isinstance(record, Package):
        add(catalogue.of_model(record.model, "training"), record.training_seq)
        add(catalogue.of_model(record.model, "evaluation"), record.evaluation_seq)
    elif isinstance(record, DeploymentCompleted):
        grant = reading.at(record.grant_seq)
        if grant is not None and isinstance(grant.record, ReleaseGranted):
            add(catalogue.of_model(record.model, "package"), grant.record.package_seq)
    result: Inputs = {}
    for key in asset.deps:
        source = sources.get(key)
        item = reading.at(source[1]) if source else None
        if source is None or item is None:
            result[key] = None
            continue
        partition = getattr(item.record, "version", None) if source[0].partitioned else None
        result[key] = (item, source[0].partitioned, told.of(source[0], partition).get(item.seq))
    return result


class _Prefixes:
    """Readings of the ledger as it was at an entry, of a verified whole; asked for in rising order."""

    def __init__(self, workspace: Workspace, whole: Reading) -> None:
        self.workspace, self.whole = workspace, whole
        self.heads: dict[str, int] = {}
        self.size = 0

    def of(self, seq: int) -> Reading:
        """The entries up to and with `seq`."""
        for item in self.whole.view.entries[self.size : seq + 1]:
            self.heads.update(dict.fromkeys(item.entry.subjects, item.entry.seq))
        self.size = seq + 1
        view = self.whole.view
        root = self.workspace.ledger.root(self.size)
        return _Prefix(
            VerifiedView(view.origin, self.size, root, view.entries[: self.size], dict(self.heads)), self.whole
        )


class _Prefix(Reading):
    """The first entries of a whole that was read; records are parsed once."""

    def __init__(self, view: VerifiedView, whole: Reading) -> None:
        super().__init__(view)
        self.whole = whole

    def at(self, seq: int) -> Recorded[Record] | None:
        return self.whole.at(seq) if 0 <= seq < self.size else None

    def unreadable(self, subject: str) -> dict[int, str]:
        return {seq: text for seq, text in self.whole.unreadable(subject).items() if seq < self.size}


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keep a second resync on this host out, which would add everything a second time."""
    path = home / "locks" / "dagster_resync.lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise ResyncError("another resync is running here; wait until it has ended") from None
        yield
