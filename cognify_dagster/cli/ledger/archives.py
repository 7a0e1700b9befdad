"""`cognify ledger archive`, `detach`, `attach`: stretches of entries as static files, out of the database and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import BLOCKED, KEPT, Failure
from cognify_dagster.cli.inputs import confirm, json_option, open_workspace, yes_option
from cognify_dagster.cli.ledger.backups import TARGET
from cognify_dagster.cli.ledger.group import command
from cognify_dagster.cli.output import as_json, clean, say

if TYPE_CHECKING:
    from cognify_dagster.ledger.archive.reader import Archive
    from cognify_dagster.workspace import Workspace

CUT = 65_536


@command.command("archive")
@click.argument("folder", metavar="DIR", type=TARGET)
@click.option(
    "--keep", type=click.IntRange(0), default=0, show_default=True, help="The newest N entries are not archived."
)
@click.option(
    "--cut", type=click.IntRange(256), default=CUT, show_default=True, help="Entries a segment (multiple of 256)."
)
@json_option
@click.pass_context
def archive(ctx: click.Context, folder: Path, keep: int, cut: int, json_: bool) -> None:
    """Write every whole segment that is not archived yet as a folder of static tlog-tiles files below DIR.

    Nothing leaves the database: look at the folders, copy them to a second place, then run `cognify ledger detach`. Each is
    covered by a signed checkpoint and its manifest is signed by the workload key. What lies in DIR already is verified and
    not written again.

    \b
    Example:
      cognify ledger archive /archive/credit --keep 100000
    """
    from cognify_dagster.governance import manifest_keys, manifest_signer
    from cognify_dagster.ledger.archive.detaching import due_segments
    from cognify_dagster.ledger.archive.export import export_archive
    from cognify_dagster.workspace.stores import keep_manifest_keys

    workspace = open_workspace(ctx)
    folder = _existing(folder)
    signer = manifest_signer(workspace)
    keep_manifest_keys(workspace.config, manifest_keys(workspace.read()))
    written, there = [], []
    for start, end in due_segments(workspace.ledger.store, cut=cut, keep=keep):
        target = folder / f"{start:012d}"
        if target.exists():
            _open(workspace, target)
            there.append(str(target))
            continue
        export_archive(workspace.ledger.store, target, start, end, signer=signer, log_keys=workspace.trust().logs)
        KEPT.append(str(target))
        written.append({"folder": str(target), "start": start, "end": end})
        if not json_:
            say(f"{clean(target)}: entries {start} to {end - 1}")
    if json_:
        as_json({"written": written, "already_there": there, "size": workspace.ledger.size()})
        return
    if not written:
        size = workspace.ledger.size()
        say(f"Nothing new to archive: the ledger has {size} entries, segments have {cut}, {max(keep, 1)} stay.")
        return
    say("Copy the folders to a second place, add to cognify.toml under [workspace]:")
    say(f'  archives = ["{clean(folder)}"]')
    say(f"and take them out of the database with: cognify ledger detach {clean(folder)}")


def _existing(folder: Path) -> Path:
    found = folder.expanduser().absolute()
    if not found.is_dir():
        raise click.UsageError(f"{folder}: no such folder; create it first")
    return found


def _open(workspace: Workspace, folder: Path) -> Archive:
    from cognify_dagster.ledger.archive.reader import open_archive
    from cognify_dagster.workspace.stores import known_manifest_keys

    keys = known_manifest_keys(workspace.config)
    if workspace.writer is not None:
        keys[workspace.writer.key_id] = workspace.writer.public
    return open_archive(folder, manifest_keys=keys, log_keys=workspace.trust().logs, origin=workspace.origin)


@command.command("detach")
@click.argument("folder", metavar="DIR", type=TARGET)
@click.option(
    "--location", default="", help="Where the folders are kept, in words for people; it stands in the ledger."
)
@yes_option
@json_option
@click.pass_context
def detach(ctx: click.Context, folder: Path, location: str, yes: bool, json_: bool) -> None:
    """Take the rows of archived segments out of the database, the oldest first.

    Each folder below DIR is verified, compared with the rows leaf by leaf, recorded in the ledger, and only then are the rows
    removed. From then on the folders are the only copy: DIR must be listed under `archives` in cognify.toml, and be backed
    up. A call that was cut off is taken up by the next one.

    \b
    Example:
      cognify ledger detach /archive/credit --location "vault 3, and bucket audit-archive"
    """
    from cognify_dagster.governance import record_archived
    from cognify_dagster.ledger.archive.detaching import detach_segment, minimum_index
    from cognify_dagster.workspace.stores import archive_folders

    workspace = open_workspace(ctx)
    folder = _existing(folder)
    listed = {item.resolve() for item in archive_folders(workspace.config.archives)}
    found = [_open(workspace, item) for item in archive_folders((folder,))]
    found = sorted((item for item in found if item.end > minimum_index(workspace.ledger.store)), key=lambda a: a.start)
    if not found:
        raise Failure(f"{folder}: no archive that is not detached yet; run `cognify ledger archive` first", BLOCKED)
    absent = [item.folder for item in found if item.folder.resolve() not in listed]
    if absent:
        raise Failure(
            f'{absent[0]} is not under `archives` in {workspace.config.path}: add archives = ["{folder}"] to [workspace] first, or '
            "the ledger could not be read afterwards",
            BLOCKED,
        )
    if not json_:
        for item in found:
            say(f"{clean(item.folder)}: entries {item.start} to {item.end - 1} will leave the database")
    confirm("Are these folders kept in at least two places?", yes)
    done = []
    for item in found:
        workspace = open_workspace(ctx)
        segment = detach_segment(workspace.ledger.store, item, record_archived(workspace, location))
        done.append({"start": segment.start, "end": segment.end, "manifest": segment.manifest})
        KEPT.append(f"segment {segment.start}")
    _told(done, "left the database", json_)


def _told(done: list[dict[str, Any]], what: str, json_: bool) -> None:
    if json_:
        as_json({"segments": done})
        return
    for item in done:
        say(f"Entries {item['start']} to {item['end'] - 1} {what} (manifest {item['manifest']})")


@command.command("attach")
@click.argument("folder", metavar="DIR", type=TARGET)
@click.option("--all", "every", is_flag=True, help="All detached segments, not the newest alone.")
@json_option
@click.pass_context
def attach(ctx: click.Context, folder: Path, every: bool, json_: bool) -> None:
    """Put detached segments back into the database, the newest first, without what was erased meanwhile.

    \b
    Example:
      cognify ledger attach /archive/credit
    """
    from cognify_dagster.ledger.archive.detaching import attach_segment
    from cognify_dagster.workspace.stores import archive_folders

    workspace = open_workspace(ctx)
    found = {
        archive.manifest: archive
        for archive in (_open(workspace, item) for item in archive_folders((_existing(folder),)))
    }
    wanted = list(reversed(workspace.ledger.store.segments()))
    if not wanted:
        raise Failure("no segment is detached", BLOCKED)
    done = []
    for segment in wanted if every else wanted[:1]:
        archive_ = found.get(segment.manifest)
        if archive_ is None:
            raise Failure(
                f"{folder}: the archive of entries {segment.start} to {segment.end - 1} is not here (manifest "
                f"{segment.manifest[:16]}…)",
                BLOCKED,
            )
        attach_segment(workspace.ledger.store, archive_)
        KEPT.append(f"segment {segment.start}")
        done.append({"start": segment.start, "end": segment.end, "manifest": segment.manifest})
    _told(done, "are in the database again", json_)
