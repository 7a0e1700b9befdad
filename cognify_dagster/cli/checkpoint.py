"""`cognify checkpoint`: sharded checkpoints of distributed trainings: manifest, check, consolidated model and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, OK, UNPROVEN, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import MODEL, OUT_FILE, VERSION, json_option, open_workspace, write_new
from cognify_dagster.cli.output import as_json, clean, pairs, say

if TYPE_CHECKING:
    from cognify_dagster.instrument.distributed import CheckpointError, Fault, Lineage, ShardManifest

F = TypeVar("F", bound=Callable[..., Any])
_SHOWN = 50
FOLDER = click.Path(path_type=Path)


@click.group(cls=Group, name="checkpoint")
def command() -> None:
    """Sharded checkpoints: record, check, consolidate, and show where a model's tensors come from.

    Nothing in a checkpoint is run, and PyTorch is not needed. (Files of a checkpoint of one process: `cognify training verify`.)

    \b
    Example:
      cognify checkpoint verify runs/step-200 --model credit_default --version 3
      cognify checkpoint consolidate runs/step-200 -o model.safetensors
    """


def _model_options(function: F) -> F:
    function = click.option("--part", metavar="FOLDER", help="Folder inside the checkpoint that holds the model.")(
        function
    )
    return click.option(
        "--prefix", metavar="TEXT", help="What the model's tensors begin with in the checkpoint, such as 'model.'."
    )(function)


@command.command("manifest", short_help="Join what the ranks recorded, or digest a checkpoint, into a manifest.")
@click.argument("folder", type=FOLDER)
@click.option("--world-size", type=click.IntRange(1, 1_000_000), help="Ranks; else as many as file names show.")
@click.option("--step", type=click.IntRange(0), help="Optimizer step.")
@click.option("--name", default="", help="The checkpoint's name; else the folder's.")
@click.option("--dry-run", is_flag=True, help="Write nothing; say what the root would be.")
@json_option
def manifest_(folder: Path, world_size: int | None, step: int | None, name: str, dry_run: bool, json_: bool) -> None:
    """Write FOLDER/cognify-shards/manifest.json: every file and shard with rank, offsets and digest, under one root.

    Where the ranks recorded their shards, their files are joined; a rank that did not finish is named and nothing is written. Any other
    checkpoint (PyTorch's distributed ones, safetensors, sharded or not) is digested here. Exit code 1 if it is not whole.

    \b
    Example:
      cognify checkpoint manifest runs/step-200 --world-size 4
    """
    from cognify_dagster.instrument.distributed import CheckpointError, RunHeader, join, make_manifest, save_manifest
    from cognify_dagster.instrument.distributed.ranks import read_ranks

    _require_folder(folder)
    try:
        recorded = bool(read_ranks(folder))
        if recorded:
            found = join(folder)
        else:
            header = None
            if world_size or step is not None or name:
                known = world_size or make_world_size(folder)
                header = RunHeader(world_size=known, name=name or folder.resolve().name, step=step)
            found = make_manifest(folder, header)
        path = None if dry_run else save_manifest(folder, found)
    except CheckpointError as error:
        _refuse(error, json_)
    if json_:
        as_json({**_facts(found), "from_ranks": recorded, "manifest": None if path is None else str(path)})
        return
    _show(found)
    say("Joined from what each rank recorded." if recorded else "Digested here; no rank had recorded it.")
    say("Nothing was written." if path is None else f"Written: {clean(path)}")


def make_world_size(folder: Path) -> int:
    """As many ranks as the names of a checkpoint's files show."""
    from cognify_dagster.instrument.distributed.survey import list_files, writer_of

    ranks = [rank for rank in map(writer_of, list_files(folder)) if rank is not None]
    return max(ranks, default=0) + 1


@command.command("verify", short_help="Compare a checkpoint with its manifest, every byte.")
@click.argument("folder", type=FOLDER)
@click.option("--root", metavar="HEX", help="The root it has to have.")
@click.option("--model", type=MODEL, help="Take root and manifest from this model's sealed run, with --version.")
@click.option("--version", type=VERSION, help="The model's version.")
@click.option(
    "--checkpoint", "name", default="", help="Which of the run's checkpoints; else the one with the folder's root."
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context, folder: Path, root: str | None, model: str | None, version: str | None, name: str, json_: bool
) -> None:
    """Check a sharded checkpoint: each missing, altered or surplus shard is named with its file, rank and tensor.

    With --model and --version the manifest comes from the evidence that the sealed run names. Without these and without --root the
    folder is only compared with its own manifest, which shows no more than that both belong together: exit code 4.

    \b
    Example:
      cognify checkpoint verify runs/step-200 --model credit_default --version 3
    """
    from cognify_dagster.instrument.distributed import CheckpointError, check, load_manifest
    from cognify_dagster.instrument.distributed.recorded import choose, recorded_manifests

    if (model is None) != (version is None):
        raise click.UsageError("--model and --version are given together")
    if name and model is None:
        raise click.UsageError("--checkpoint names one of a run's checkpoints; give --model and --version too")
    _require_folder(folder)
    seq = None
    try:
        if model is not None and version is not None:
            manifests = recorded_manifests(open_workspace(ctx), model, version)
            entry = choose(manifests, name=name) if name else choose(manifests, root=load_manifest(folder).root)
            found, seq = entry.manifest, entry.seq
        else:
            found = load_manifest(folder)
        if root is not None and found.root != root.lower():
            raise CheckpointError(f"{folder}: the manifest has the root {found.root}, not {root}")
        faults = check(folder, found)
    except CheckpointError as error:
        _refuse(error, json_)
    proven = seq is not None or root is not None
    code = BLOCKED if faults else OK if proven else UNPROVEN
    if json_:
        as_json({**_facts(found), "entry": seq, "proven": proven, "faults": [fault.to_json() for fault in faults]})
        finish(code)
    _show(found)
    _list(faults)
    if faults:
        say("The checkpoint is not what was recorded.")
    elif seq is not None:
        say(f"Every byte is as the sealed run recorded it (entry {seq}).")
    elif root is not None:
        say("Every byte is as the manifest with this root says.")
    else:
        say(
            "Folder and manifest belong together. Nothing here shows that this is the recorded root: give --root, or --model and --version."
        )
    finish(code)


@command.command("consolidate", short_help="Write the model of a sharded checkpoint as one safetensors file.")
@click.argument("folder", type=FOLDER)
@click.option("-o", "--out", type=OUT_FILE, required=True, metavar="FILE", help="Where; never overwritten.")
@_model_options
@json_option
def consolidate_(folder: Path, out: Path, prefix: str | None, part: str | None, json_: bool) -> None:
    """Write one safetensors file from a checkpoint's shards, each compared with the manifest as it is read, and say its lineage.

    \b
    Example:
      cognify checkpoint consolidate runs/step-200 -o model.safetensors
    """
    from cognify_dagster.instrument.distributed import CheckpointError, consolidate, load_manifest

    _require_folder(folder)
    if not out.parent.is_dir():
        raise click.UsageError(f"{out.parent}: no such folder; create it first")
    try:
        lineage = consolidate(folder, load_manifest(folder), out, prefix=prefix, part=part)
    except CheckpointError as error:
        _refuse(error, json_)
    _lineage_out(lineage, out, None, json_)


@command.command("lineage", short_help="Prove that a model's tensors are a checkpoint's shards.")
@click.argument("source", type=FOLDER)
@click.argument("model_path", metavar="MODEL", type=FOLDER)
@click.option(
    "-o", "--out", type=OUT_FILE, metavar="FILE", help="Write the lineage document (JSON); never overwritten."
)
@_model_options
@json_option
def lineage_(
    source: Path, model_path: Path, out: Path | None, prefix: str | None, part: str | None, json_: bool
) -> None:
    """Compare every tensor of MODEL (safetensors, a torch.save file, or a folder) with the shards of SOURCE, block by block.

    SOURCE is a checkpoint's folder or the manifest alone: the shards themselves are not needed. Exit code 1 if a tensor is missing,
    surplus or holds other values; the rank whose shard differs is named.

    \b
    Example:
      cognify checkpoint lineage runs/step-200 model.safetensors -o lineage.json
    """
    from cognify_dagster.instrument.distributed import (
        CheckpointError,
        load_manifest,
        parse_manifest,
        verify_consolidated,
    )

    if out is not None and out.exists():
        raise click.UsageError(f"{out}: there is already a file; it is not overwritten")
    try:
        found = parse_manifest(source.read_bytes(), str(source)) if source.is_file() else load_manifest(source)
        lineage = verify_consolidated(found, model_path, prefix=prefix, part=part)
    except CheckpointError as error:
        _refuse(error, json_)
    if out is not None:
        write_new(out, lineage.to_bytes())
    _lineage_out(lineage, model_path, out, json_)


# Inside ---------------------------------------------------------------------------------------------------------------


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise Failure(f"{folder}: no such folder; give the folder of one checkpoint", UNREADABLE)


def _facts(found: ShardManifest) -> dict[str, Any]:
    resumed = found.header.resumed_from
    return {
        "root": found.root,
        "name": found.header.name,
        "step": found.header.step,
        "world_size": found.header.world_size,
        "strategy": found.header.strategy,
        "resumed_from": None if resumed is None else resumed.to_json(),
        "files": len(found.files),
        "shards": len(found.pieces),
        "tensors": len(found.tensors()),
        "bytes": sum(item.size for item in found.files),
    }


def _show(found: ShardManifest) -> None:
    facts = _facts(found)
    resumed = found.header.resumed_from
    pairs(
        [
            ("Checkpoint", facts["name"] or "(unnamed)"),
            ("Step", "unknown" if facts["step"] is None else facts["step"]),
            ("Ranks", f"{facts['world_size']} {facts['strategy']}".strip()),
            ("Files", f"{facts['files']} ({facts['bytes']} bytes)"),
            ("Shards", f"{facts['shards']} of {facts['tensors']} tensors"),
            ("Resumed from", "nothing" if resumed is None else f"{resumed.name} (root {resumed.root})"),
            ("Root", facts["root"]),
        ]
    )


def _list(faults: list[Fault]) -> None:
    for fault in faults[:_SHOWN]:
        say(f"  {clean(fault)}")
    if len(faults) > _SHOWN:
        say(f"  and {len(faults) - _SHOWN} more (--json lists all)")


def _refuse(error: CheckpointError, json_: bool) -> NoReturn:
    if json_:
        as_json({"error": str(error), "faults": [fault.to_json() for fault in error.faults]})
        finish(BLOCKED)
    raise Failure(clean(error), BLOCKED)


def _lineage_out(lineage: Lineage, model: Path, out: Path | None, json_: bool) -> None:
    if json_:
        as_json(
            {
                "checkpoint_root": lineage.root,
                "model": str(model),
                "model_files": list(lineage.files),
                "tensors": len(lineage.tensors),
                "shards": sum(len(item.pieces) for item in lineage.tensors),
                "shards_not_in_the_model": lineage.unused,
                "document": None if out is None else str(out),
            }
        )
        return
    shards = sum(len(item.pieces) for item in lineage.tensors)
    say(f"{clean(model)}: all {len(lineage.tensors)} tensors consist of {shards} shards of the checkpoint.")
    pairs(
        [
            *[("Model file", f"{item['path']} sha256:{item['sha256']}") for item in lineage.files],
            ("Tied", ", ".join(f"{item.name} = {item.same_as}" for item in lineage.tensors if item.same_as) or "none"),
            ("Shards not in the model", lineage.unused),
            ("Checkpoint root", lineage.root),
        ]
    )
    if out is not None:
        say(f"Written: {clean(out)}")
