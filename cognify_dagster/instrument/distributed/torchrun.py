"""Saving, recording and resuming sharded checkpoints from inside a distributed training.

Every rank calls the same function; each digests its own files while the others digest theirs, and rank 0 joins what they wrote beside the
checkpoint. Between ranks only flags and digests travel, as tensors of bytes: nothing is pickled.

Invariants:

* Either every rank gets the same root, or every rank that still lives gets an error: no rank goes on with a checkpoint that another
  refused.
* The manifest is written last. A rank that was killed leaves none, and is named.
* Only rank 0 writes to the training record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cognify_dagster.instrument.distributed.checking import check
from cognify_dagster.instrument.distributed.digesting import digest_share, share_of
from cognify_dagster.instrument.distributed.errors import CheckpointError
from cognify_dagster.instrument.distributed.manifest import ResumedFrom, RunHeader, ShardManifest
from cognify_dagster.instrument.distributed.ranks import (
    join,
    load_manifest,
    manifest_path,
    new_token,
    read_ranks,
    save_manifest,
    unfinished,
    write_rank,
)
from cognify_dagster.instrument.distributed.recorded import MEDIA_TYPE, artifact_name
from cognify_dagster.instrument.distributed.survey import SHARDS_FOLDER, list_files, survey
from cognify_dagster.instrument.recording import Recording
from cognify_dagster.training.recorder import MAX_ARTIFACT_BYTES

T = TypeVar("T")
_SETTLE_S = 3.0
_MAX_ROWS = 1_000_000  # that a training record takes


class Ranks:
    """This process among the others: an initialised process group, or one process alone."""

    def __init__(self, group: Any = None) -> None:
        self._group = group
        self.rank, self.world_size, self.backend = 0, 1, ""
        self._torch: Any = None
        try:
            import torch
            import torch.distributed as dist
        except ImportError:
            return
        if dist.is_available() and dist.is_initialized():
            self._torch = torch
            self.rank = dist.get_rank(group)
            self.world_size = dist.get_world_size(group)
            self.backend = str(dist.get_backend(group))

    def _device(self) -> Any:
        if "nccl" in self.backend:
            return self._torch.device("cuda", self._torch.cuda.current_device())
        return self._torch.device("cpu")

    def from_first(self, data: bytes) -> bytes:
        """Give every rank what rank 0 holds; all ranks pass equally many bytes.

        Raises:
            CheckpointError: a rank is gone.
        """
        if self._torch is None:
            return data
        tensor = self._torch.tensor(list(data), dtype=self._torch.uint8, device=self._device())
        source = 0 if self._group is None else self._torch.distributed.get_global_rank(self._group, 0)
        try:
            self._torch.distributed.broadcast(tensor, src=source, group=self._group)
        except RuntimeError as error:
            raise CheckpointError(f"a rank is gone ({' '.join(str(error).split())[:200]})") from error
        return bytes(tensor.cpu().tolist())

    def all_well(self, well: bool) -> bool:
        """Whether all ranks are well."""
        if self._torch is None:
            return well
        flag = self._torch.tensor([1 if well else 0], dtype=self._torch.int32, device=self._device())
        self._torch.distributed.all_reduce(flag, op=self._torch.distributed.ReduceOp.MIN, group=self._group)
        return bool(flag.item())

    def together(self, what: str, act: Callable[[], T], *, rank_0_only: bool = False) -> T | None:
        """Do something on every rank (or on rank 0 alone); raise on all of them if it fails on one.

        Raises:
            CheckpointError: this rank's own error, or that another rank failed or is gone.
        """
        result, problem = None, None
        try:
            if self.rank == 0 or not rank_0_only:
                result = act()
        except Exception as error:
            problem = error
        try:
            well = self.all_well(problem is None)
        except RuntimeError as error:  # the connection to a rank broke
            if problem is None:
                problem = CheckpointError(f"{what}: a rank is gone ({' '.join(str(error).split())[:200]})")
            well = False
        if problem is not None:
            if isinstance(problem, CheckpointError):
                raise problem
            raise CheckpointError(f"{what}: {type(problem).__name__}: {problem}") from problem
        if not well:
            raise CheckpointError(f"{what}: another rank failed; its own message says why")
        return result


def record_checkpoint(
    folder: str | Path,
    *,
    step: int | None = None,
    name: str = "",
    strategy: str = "",
    mesh: Any = None,
    resumed_from: ResumedFrom | None = None,
    run: Recording | None = None,
    group: Any = None,
) -> ShardManifest:
    """Record a checkpoint that was just saved: every rank digests its own shards, rank 0 joins them. All ranks call it.

    For checkpoints that ``torch.distributed.checkpoint``, Accelerate or a Trainer saved. `save_checkpoint` saves and records.

    Args:
        folder: The checkpoint, on storage that all ranks share.
        step: Optimizer step.
        name: Its name; ``step-N`` or the folder's name unless given.
        strategy: Such as ``fsdp2``.
        mesh: The `DeviceMesh`, or its description as a mapping.
        resumed_from: What `resume_from` returned, where the run went on from a checkpoint.
        run: The training record; only rank 0 writes to it.
        group: The process group that saved; the default one unless given.

    Returns:
        The manifest, the same on every rank.

    Raises:
        CheckpointError: on every rank alike, if a rank failed or is gone, or the shards don't make up one checkpoint.
    """
    ranks = Ranks(group)
    path = Path(folder)
    header = _header(ranks, path, step, name, strategy, mesh, resumed_from)
    token = ranks.from_first(bytes.fromhex(new_token())).hex()
    ranks.together(f"{path}: starting", lambda: _start(path, ranks, None), rank_0_only=True)
    return _record(path, ranks, token, header, run)


def save_checkpoint(
    state_dict: Mapping[str, Any],
    folder: str | Path,
    *,
    step: int | None = None,
    name: str = "",
    strategy: str = "",
    mesh: Any = None,
    resumed_from: ResumedFrom | None = None,
    run: Recording | None = None,
    group: Any = None,
    **options: Any,
) -> ShardManifest:
    """Save a sharded state dict with ``torch.distributed.checkpoint.save`` and record it. All ranks call it.

    Before anything is saved every rank leaves a note that it has started, so that a rank that is killed meanwhile can be named. Mesh and
    strategy are taken from the first sharded tensor unless given. Further options go to ``torch.distributed.checkpoint.save``.

    Args:
        state_dict: As for ``torch.distributed.checkpoint.save``.
        folder: A folder that does not exist yet, or is empty.
        step: See `record_checkpoint`, as for the other arguments.
        name: See there.
        strategy: See there.
        mesh: See there.
        resumed_from: See there.
        run: See there.
        group: See there.
        options: For ``torch.distributed.checkpoint.save``, such as ``storage_writer`` or ``planner``.

    Raises:
        CheckpointError: as `record_checkpoint`, or the folder holds something already.
    """
    import torch.distributed.checkpoint as dcp

    ranks = Ranks(group)
    path = Path(folder)
    if mesh is None:
        mesh = _mesh_in(state_dict)
    header = _header(ranks, path, step, name, strategy, mesh, resumed_from)
    token = ranks.from_first(bytes.fromhex(new_token())).hex()
    ranks.together(f"{path}: starting", lambda: _start(path, ranks, header), rank_0_only=True)
    ranks.together(f"{path}: starting", lambda: write_rank(path, ranks.rank, token, header, state="started"))
    if "storage_writer" not in options:
        options["checkpoint_id"] = path
    try:
        dcp.save(dict(state_dict), process_group=group, no_dist=ranks.world_size == 1 and group is None, **options)
    except Exception as error:
        _say_failed(path, ranks, token, header, error)
        text = f"saving failed on rank {ranks.rank} ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
        raise _named(path, CheckpointError(text)) from error
    return _record(path, ranks, token, header, run)


def resume_from(
    folder: str | Path, *, run: Recording | None = None, root: str | None = None, group: Any = None
) -> ResumedFrom:
    """Check a recorded checkpoint before it is loaded, each rank a share of its files. All ranks call it, before they load.

    Args:
        folder: The checkpoint.
        run: The training record; rank 0 notes there what the run goes on from.
        root: The root that the checkpoint has to have, such as the one in the ledger.
        group: The process group; the default one unless given.

    Returns:
        What to hand to `save_checkpoint` and `record_checkpoint`, so that the later checkpoints link to this one.

    Raises:
        CheckpointError: on every rank alike, if the checkpoint was never whole (its missing rank is named), or a shard is missing,
            altered or surplus, or the root is another.
    """
    ranks = Ranks(group)
    path = Path(folder)

    def verify() -> ResumedFrom:
        manifest = load_manifest(path)
        found = manifest.root
        if root is not None and found != root:
            raise CheckpointError(f"{path}: its manifest has the root {found}, not {root}")
        share = [item.path for index, item in enumerate(manifest.files) if index % ranks.world_size == ranks.rank]
        faults = check(path, manifest, threads=1 if ranks.world_size > 1 else None, only=share)
        if faults:
            raise CheckpointError(
                f"{path}: the checkpoint is not what was recorded; nothing is resumed from it", faults
            )
        return ResumedFrom(found, manifest.header.name, manifest.header.step)

    resumed = ranks.together(f"{path}: checking", verify)
    assert resumed is not None
    if run is not None and ranks.rank == 0:
        run.log_extra("resumed_from", resumed.to_json())
    return resumed


# Inside ---------------------------------------------------------------------------------------------------------------


def _record(path: Path, ranks: Ranks, token: str, header: RunHeader, run: Recording | None) -> ShardManifest:
    def digest() -> None:
        try:
            found = survey(path)
            files, pieces = digest_share(found, share_of(found, ranks.rank, ranks.world_size), threads=_threads(ranks))
            write_rank(path, ranks.rank, token, header, files=files, pieces=pieces)
        except Exception as error:
            _say_failed(path, ranks, token, header, error)
            raise

    try:
        ranks.together(f"{path}: digesting", digest)
    except CheckpointError as error:
        raise _named(path, error) from error

    def finish() -> ShardManifest:
        manifest = join(path)
        save_manifest(path, manifest)
        return manifest

    ranks.together(f"{path}: joining", finish, rank_0_only=True)
    manifest = ranks.together(f"{path}: reading", lambda: load_manifest(path))
    assert manifest is not None
    if ranks.from_first(bytes.fromhex(manifest.root)).hex() != manifest.root:
        raise CheckpointError(
            f"{path}: rank {ranks.rank} reads another manifest than rank 0; the storage is not shared"
        )
    if run is not None and ranks.rank == 0:
        _write(run, path, manifest)
    return manifest


def _write(run: Recording, path: Path, manifest: ShardManifest) -> None:
    header = manifest.header
    run.log_checkpoint(
        manifest_path(path),
        step=header.step,
        name=header.name,
        note=f"manifest of the shards of {header.world_size} ranks, root {manifest.root}",
    )
    data = manifest.to_bytes()  # as bytes: the checkpoint's folder may be rotated away before the run is sealed
    rows = manifest.rows
    content = data if len(data) <= MAX_ARTIFACT_BYTES else manifest_path(path)
    run.log_artifact(artifact_name(header.name), content, MEDIA_TYPE)
    run.set_distributed(
        world_size=header.world_size,
        backend=header.backend,
        strategy=header.strategy,
        mesh=header.mesh,
        rows=rows if len(rows) <= _MAX_ROWS else None,  # more than that: the artefact alone holds them
    )


def _header(
    ranks: Ranks, path: Path, step: int | None, name: str, strategy: str, mesh: Any, resumed_from: ResumedFrom | None
) -> RunHeader:
    found = name or (f"step-{step}" if step is not None else path.name)
    described = describe_mesh(mesh)
    if not strategy and mesh is not None and not isinstance(mesh, Mapping):
        strategy = "dtensor"
    return RunHeader(ranks.world_size, found, step, ranks.backend, strategy, described, resumed_from)


def describe_mesh(mesh: Any) -> dict[str, Any]:
    """A device mesh as plain values: device type, names of its axes, and the ranks in its order."""
    if mesh is None:
        return {}
    if isinstance(mesh, Mapping):
        return dict(mesh)
    names = mesh.mesh_dim_names
    return {
        "device_type": str(mesh.device_type),
        "names": [] if names is None else [str(name) for name in names],
        "shape": [int(size) for size in mesh.mesh.shape],
        "ranks": [int(rank) for rank in mesh.mesh.flatten().tolist()],
    }


def _mesh_in(value: Any, depth: int = 0) -> Any:
    """The mesh of the first sharded tensor of a state dict; None if nothing is sharded."""
    found = getattr(value, "device_mesh", None)
    if found is not None:
        return found
    if depth < 8 and isinstance(value, Mapping):
        for item in value.values():
            found = _mesh_in(item, depth + 1)
            if found is not None:
                return found
    return None


def _start(path: Path, ranks: Ranks, saving: RunHeader | None) -> None:
    """Refuse a folder that was recorded already, and remove what an earlier attempt of recording left."""
    if manifest_path(path).exists():
        raise CheckpointError(f"{path}: a recorded checkpoint lies there; save to a folder of its own")
    if saving is None:
        for item in read_ranks(path):
            (path / SHARDS_FOLDER / f"rank-{item.rank:05d}.json").unlink(missing_ok=True)
        return
    if path.exists() and (list_files(path) or read_ranks(path)):
        faults = unfinished(read_ranks(path))
        raise CheckpointError(
            f"{path}: holds an unfinished checkpoint or other files; remove it or save elsewhere", faults
        )


def _say_failed(path: Path, ranks: Ranks, token: str, header: RunHeader, error: BaseException) -> None:
    """Leave the reason beside the checkpoint, where it can be written."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    try:
        write_rank(path, ranks.rank, token, header, state="failed", reason=text)
    except CheckpointError:
        return


def _named(path: Path, error: CheckpointError) -> CheckpointError:
    """Add which ranks did not finish. Those that live say so within moments; who is still only started then, is gone."""
    if error.faults:
        return error
    end = time.monotonic() + _SETTLE_S
    try:
        while any(item.state == "started" for item in read_ranks(path)) and time.monotonic() < end:
            time.sleep(0.1)
        faults = unfinished(read_ranks(path))
    except CheckpointError:
        return error
    return CheckpointError(f"{path}: the checkpoint is incomplete and is not to be used: {error}", faults)


def _threads(ranks: Ranks) -> int:
    """The cores of this machine shared by the ranks on it."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "") or ranks.world_size)
    return max(1, min(8, (os.cpu_count() or 1) // max(1, local)))
