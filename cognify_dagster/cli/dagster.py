"""`cognify dagster`: what Dagster remembers of the ledger, and how a lost Dagster database is rebuilt from it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import UNPROVEN, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import IN_FILE, json_option, load_trust, open_workspace, write_new
from cognify_dagster.cli.output import as_json, clean, say, table

if TYPE_CHECKING:
    from cognify_dagster.ledger import TrustFile
    from cognify_dagster.orchestration.resync import Resync
    from cognify_dagster.workspace import WorkspaceConfig

HOME_VARIABLE = "DAGSTER_HOME"
_FOLDER = click.Path(file_okay=False, path_type=Path)
_home_option = click.option(
    "--dagster-home",
    "home",
    type=_FOLDER,
    metavar="DIR",
    help=f"The instance. Default: ${HOME_VARIABLE}, else dagster_home beside the ledger.",
)


@click.group(cls=Group, name="dagster")
def command() -> None:
    """Read the signed heads that Dagster runs remember; rebuild a lost Dagster database from the ledger.

    \b
    Example:
      cognify dagster resync --dry-run
    """


@command.command("heads")
@_home_option
@click.option(
    "-o", "folder", type=_FOLDER, metavar="DIR", help="Write each head into this folder, as a file for `--head`."
)
@click.option(
    "--trust", type=IN_FILE, metavar="FILE", help="Trust file kept apart; by default the workspace's, if any."
)
@click.option(
    "--newest",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="How many materializations of each asset to look at.",
)
@json_option
@click.pass_context
def heads(
    ctx: click.Context, home: Path | None, folder: Path | None, trust: Path | None, newest: int, json_: bool
) -> None:
    """List the signed heads in the metadata of Dagster's materializations, largest first, each once.

    The ledger is not opened: it may be lost. With a trust file only heads that one of its log keys signed are listed; what else
    the metadata claim is said on stderr. Each file that -o writes is one signed note. Exit code 4 if there is no head.

    \b
    Example:
      cognify dagster heads -o heads
      cognify ledger restore /backup/credit.sqlite --head heads/000000000042-0f3a91c2-5be01d77.checkpoint
    """
    from cognify_dagster.ledger import Checkpoint, parse_note

    config = _config(ctx)
    pinned = load_trust(trust) if trust is not None else _own_trust(config)
    with _instance(config, home) as instance:
        from cognify_dagster.orchestration.heads import run_heads, trusted_heads

        found = run_heads(instance, newest)
    remarks: list[str] = []
    if pinned is not None:
        origin = config.origin if config is not None and trust is None else _origin(pinned)
        found, remarks = trusted_heads(found, pinned, origin)
    rows = []
    for label, note in found:
        head = Checkpoint.parse(parse_note(note).text)
        rows.append(
            {
                "label": label,
                "origin": head.origin,
                "size": head.size,
                "root": head.root.hex(),
                "note": note,
                "file": str(_write(folder, head.size, head.root, note)) if folder is not None else None,
            }
        )
    if json_:
        as_json({"verified": pinned is not None, "heads": rows, "notes": remarks})
    else:
        _print_heads(rows, remarks, pinned is not None)
    finish(0 if rows else UNPROVEN)


def _print_heads(rows: Sequence[dict[str, Any]], remarks: Sequence[str], verified: bool) -> None:
    if rows:
        table(("entries", "root", "remembered by"), [(row["size"], row["root"][:16], row["label"]) for row in rows])
    else:
        say("No signed head was found in the metadata of any materialization.")
    if rows and not verified:
        say("No trust file was at hand, so no signature was checked; give one with --trust.")
    if rows and rows[0]["file"]:
        say(f"{len(rows)} files were written. The largest head, for --head: {clean(rows[0]['file'])}")
    for text in remarks[:20]:
        say(f"Note: {clean(text)}", err=True)
    if len(remarks) > 20:
        say(f"Note: and {len(remarks) - 20} more like these", err=True)


def _write(folder: Path, size: int, root: bytes, note: str) -> Path:
    """Write a note as a file of its own, named after what it says; one that is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    data = note.encode()
    path = folder / f"{size:012d}-{root.hex()[:8]}-{hashlib.sha256(data).hexdigest()[:8]}.checkpoint"
    if not (path.is_file() and path.read_bytes() == data):
        write_new(path, data)
    return path


@command.command("resync")
@_home_option
@click.option(
    "--project", type=_FOLDER, metavar="DIR", help="Where `dagster dev` is started; by default the workspace's project."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be added.")
@json_option
@click.pass_context
def resync(ctx: click.Context, home: Path | None, project: Path | None, dry_run: bool, json_: bool) -> None:
    """Rebuild what a lost or incomplete Dagster database said about governed models: versions and materializations.

    Everything is read from the ledger, which must verify and is never written to. What Dagster tells of already is left alone, so a
    second resync adds nothing. Stop the daemon first, or let no run of these assets begin meanwhile. Checks are not rebuilt; the
    next run or the approval sensor evaluates them anew.

    \b
    Example:
      cognify dagster resync --dry-run
      cognify dagster resync --dagster-home /srv/dagster
    """
    workspace = open_workspace(ctx)
    with _instance(workspace.config, home) as instance:
        from cognify_dagster.cli.ledger.group import Progress
        from cognify_dagster.orchestration.health import load_location
        from cognify_dagster.orchestration.resync import ResyncError
        from cognify_dagster.orchestration.resync import resync as rebuild

        location = load_location(project or workspace.config.path.parent)
        if "error" in location and not location.get("absent"):
            raise Failure(
                f"the project's definitions are needed for the names of the assets: {location['error']}. See "
                "`dagster definitions validate`, or name the project's folder with --project",
                UNREADABLE,
            )
        progress = Progress("Materializations")
        try:
            done = rebuild(workspace, instance, location.get("assets", ()), dry_run=dry_run, progress=progress)
        except ResyncError as error:
            raise Failure(str(error), int(error.outcome) if error.outcome else UNREADABLE) from error
        finally:
            progress.end()
    if "error" in location:
        done.notes.insert(0, f"{location['error']}; only datasets and packages could be named without definitions")
    if json_:
        as_json(_resync_json(done, dry_run))
    else:
        _print_resync(done, dry_run)


def _resync_json(done: Resync, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "ledger_size": done.size,
        "partitions": done.partitions,
        "materializations": [
            {"asset": item.asset, "partition": item.partition, "entry": item.seq, "kind": item.kind}
            for item in done.rebuilt
        ],
        "present": done.present,
        "notes": done.notes,
    }


def _print_resync(done: Resync, dry_run: bool) -> None:
    verb = "would be added" if dry_run else "were added"
    counts = Counter(item.asset for item in done.rebuilt)
    newest = {item.asset: item.seq for item in done.rebuilt}
    if counts:
        table(("asset", "materializations", "newest entry"), [(name, counts[name], newest[name]) for name in counts])
    for name, versions in done.partitions.items():
        say(f"Partitions of {clean(name)}: {len(versions)} {verb}")
    say(f"{len(done.rebuilt)} materializations {verb}; {done.present} were there already.")
    for text in done.notes:
        say(f"Note: {clean(text)}")


@contextmanager
def _instance(config: WorkspaceConfig | None, home: Path | None) -> Iterator[Any]:
    """Open the instance that is meant; Dagster is imported only here."""
    if importlib.util.find_spec("dagster") is None:
        raise Failure("Dagster is not installed in this environment", UNREADABLE)
    variable = os.environ.get(HOME_VARIABLE)
    place = home or (Path(variable) if variable else config.home / "dagster_home" if config is not None else None)
    if place is None:
        raise click.UsageError(f"name the instance with --dagster-home or ${HOME_VARIABLE}; there is no workspace here")
    place = place.expanduser()
    if not place.is_dir():
        raise Failure(
            f"{place}: no such folder. For a lost database create it, with the dagster.yaml that it had", UNREADABLE
        )
    from cognify_dagster.orchestration.heads import InstanceError, opened

    try:
        with opened(place) as instance:
            yield instance
    except InstanceError as error:
        raise Failure(str(error), UNREADABLE) from error


def _config(ctx: click.Context) -> WorkspaceConfig | None:
    """Read the workspace's configuration without opening its ledger; None if there is no workspace."""
    from cognify_dagster.workspace import WorkspaceError, find_config, load_config
    from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE

    given = (ctx.obj or {}).get("workspace") or os.environ.get(ENVIRONMENT_VARIABLE)
    try:
        return load_config(find_config(given or "."))
    except WorkspaceError:
        if given:
            raise
        return None


def _own_trust(config: WorkspaceConfig | None) -> TrustFile | None:
    return load_trust(config.trust) if config is not None and config.trust.is_file() else None


def _origin(trust: TrustFile) -> str:
    """The ledger that a trust file is about: the name of its log keys."""
    return trust.logs[0].name if trust.logs else ""
