"""`cognify ledger restore`, `replay` and `continue`: what to do after a ledger was lost or rolled back.

Invariant: a ledger that is older than what anybody remembers is closed for appends, and opened again only by replay of what it
lost, compared with everyone who showed the rollback.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import KEPT, ROLLED_BACK, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import (
    IN_FILE,
    json_option,
    load_trust,
    open_workspace,
    read_text,
    signing_options,
)
from cognify_dagster.cli.joint import ask, recorded, unlocked
from cognify_dagster.cli.ledger.backups import TARGET, discard, open_target
from cognify_dagster.cli.ledger.group import Progress, command
from cognify_dagster.cli.ledger.sources import Backup, Lost, lost_workspace, open_backup
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say

if TYPE_CHECKING:
    from cognify_dagster.ledger import Store
    from cognify_dagster.ledger.archive.reader import Archive
    from cognify_dagster.ledger.recovery.rollback import RestoreReport
    from cognify_dagster.workspace import WorkspaceConfig

_WAYS_OUT = (
    "Two ways out:",
    "  1. The lost entries exist somewhere (a newer backup, a dump, an archive, a copy):",
    "       cognify ledger replay PATH",
    "  2. They are lost for good: found a new ledger under another origin, and cite the loss right after:",
    "       cognify ledger continue --help",
)


def _heads(lost: Lost, files: Sequence[Path], offline: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """Collect what others remember: files, witnesses, anchors. Returns heads and what could not be asked."""
    from cognify_dagster.cli.ledger.external import ask_all, newest_heads

    heads = [(f"head {path.resolve()}", read_text(path)) for path in files]
    if offline:
        return heads, ["witnesses and anchors were not asked (--offline)"]
    found = ask_all(lost.config, lost.trust, lost.config.origin)
    heads += newest_heads(found)
    return heads, [text for said in found for text in (*said.conflicts, *said.failures, *said.remarks)]


_head_option = click.option(
    "--head",
    "head_files",
    type=IN_FILE,
    multiple=True,
    metavar="FILE",
    help="A checkpoint somebody kept: Dagster run metadata, a bundle, an auditor's file. May be repeated.",
)
_offline_option = click.option("--offline", is_flag=True, help="Ask neither witnesses nor anchors.")


@command.command("restore")
@click.argument("source", metavar="PATH", type=TARGET)
@click.option("--to", "target", metavar="URL|FILE", help="Restore there instead, to prove a backup.")
@click.option("--reason", default="", help="Why; it stands in the ledger.")
@_head_option
@_offline_option
@json_option
@click.pass_context
def restore(
    ctx: click.Context,
    source: Path,
    target: str | None,
    reason: str,
    head_files: tuple[Path, ...],
    offline: bool,
    json_: bool,
) -> None:
    """Restore the ledger from a backup file or dump, verify it, and compare it with everybody who remembers it.

    The signer's state, the witnesses of the trust file, the anchors of cognify.toml and every --head are compared. If one of them
    knows more entries, or other ones, the ledger was rolled back: it is marked, nothing can be appended, and the code is 2.
    Nothing is overwritten: move a damaged ledger away first. With --to the workspace's own ledger is left alone.

    \b
    Example:
      cognify ledger restore /backup/credit.sqlite --to /tmp/proof.sqlite
      mv .cognify/ledger.sqlite damaged.sqlite; cognify ledger restore /backup/credit.sqlite --head run-metadata.txt
    """
    from cognify_dagster.ledger.recovery.rollback import mark_path, resolve

    lost = lost_workspace(ctx)
    own = target is None
    place = _own_place(lost) if target is None else target
    file = None if place.startswith(("env:", "postgres")) else Path(place).expanduser()
    if file is not None and file.exists():
        raise Failure(
            f"{file}: there is a ledger here; it is never overwritten. Move it away first, or name another --to",
            UNREADABLE,
        )
    archives = _archives(lost, source)
    backup = open_backup(source, lost, archives)
    if backup.start:
        raise Failure(
            f"{source}: holds entries from {backup.start} on only; restore a whole backup, then replay this", UNREADABLE
        )
    heads, remarks = _heads(lost, head_files, offline)
    mark = lost.mark if own else mark_path(file) if file is not None else None
    report = _fill(lost, backup, place, file, heads, mark, archives)
    if own and report.sound:
        if lost.mark.exists():  # of a restore before this one: who showed the rollback then is compared with again
            resolve(lost.mark, report)
        _record(lost.config, report, backup.digest, reason, None)
    _print(report, place, own, remarks, json_)
    finish(ROLLED_BACK if report.rolled_back else 0)


def _own_place(lost: Lost) -> str:
    return str(lost.config.ledger) if lost.config.ledger_url is None else lost.config.ledger_url


def _archives(lost: Lost, source: Path) -> list[Archive]:
    """Open the archive folders of the segments that a backup of the SQLite file has detached."""
    from cognify_dagster.ledger import SqliteStore
    from cognify_dagster.workspace.stores import open_archives

    if not source.is_file():
        return []
    return open_archives(lost.config, SqliteStore(source, read_only=True), lost.trust, lost.keys)


def _known(lost: Lost, heads: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What a restored ledger is verified and compared with: as `cognify ledger verify` does it."""
    from cognify_dagster.governance import judge_acts

    return {"trust": lost.trust, "heads": heads, "signer_head": lost.signer_head, "acts": judge_acts}


def _fill(
    lost: Lost,
    backup: Backup,
    place: str,
    file: Path | None,
    heads: Sequence[tuple[str, str]],
    mark: Path | None,
    archives: Sequence[Archive],
) -> RestoreReport:
    from cognify_dagster.ledger.recovery.backup import restore_into, restore_sqlite
    from cognify_dagster.ledger.recovery.rollback import put_back, read_mark

    known = _known(lost, heads)
    if backup.sqlite is not None and file is not None:
        with Progress("Entries restored and verified") as progress:
            report = restore_sqlite(backup.path, file, archives=archives, progress=progress, **known)
        KEPT.append(str(file))
        return report
    earlier = read_mark(mark)
    store, made = open_target(place, lost.config.origin)
    try:
        with Progress("Entries restored and verified") as progress:
            report = restore_into(
                backup.source,
                store,
                size=backup.size,
                checkpoints=backup.notes,
                mark=mark,
                progress=progress,
                **known,
            )
    except BaseException:
        if made is not None:  # the file goes, and with it what its mark was about
            discard(made)
            put_back(mark, earlier)
        raise
    KEPT.append(clean(made or "the Postgres ledger"))
    return report


def _record(config: WorkspaceConfig, report: RestoreReport, digest: str, reason: str, since: int | None) -> None:
    from cognify_dagster.governance import record_restored
    from cognify_dagster.workspace import Workspace

    record_restored(Workspace.of(config), report, digest, replayed_from=since, reason=reason)


def _print(report: RestoreReport, place: str, own: bool, remarks: Sequence[str], json_: bool) -> None:
    if json_:
        as_json(
            {
                "origin": report.origin,
                "size": report.size,
                "root": report.root.hex(),
                "sound": report.sound,
                "rolled_back": report.rolled_back,
                "lost": list(report.lost) if report.lost else None,
                "compared_with": list(report.compared_with),
                "findings": [str(finding) for finding in report.findings],
                "unusable": list(report.unusable),
                "notes": [*report.notes, *remarks],
            }
        )
        return
    heading(
        f"Ledger {report.origin}: {'ROLLED BACK' if report.rolled_back else 'restored, and as new as everybody remembers'}"
    )
    shown = "the Postgres ledger" if place.startswith(("env:", "postgres")) else place
    compared = ", ".join(report.compared_with) or "nobody: whether entries are missing at its end is not known"
    rows = [
        ("Restored to", shown),
        ("Entries", f"{report.size}, root {report.root.hex()}"),
        ("Compared with", compared),
    ]
    if report.lost:
        rows.append(("Lost", f"entries {report.lost[0]} to {report.lost[1] - 1}"))
    pairs(rows)
    for text in (*map(str, report.findings), *report.unusable, *report.notes, *remarks):
        say(f"Note: {clean(text)}")
    if report.rolled_back:
        say("Nothing is appended to it until that is resolved.")
        for line in _WAYS_OUT:
            say(line)
    elif own:
        say("It is open for appends; that it was restored is recorded.")


@command.command("replay")
@click.argument("source", metavar="PATH", type=TARGET)
@click.option(
    "--to", "target", metavar="URL", help="For a ledger in Postgres: another, empty one that takes its place."
)
@click.option("--reason", default="", help="Why; it stands in the ledger.")
@_head_option
@_offline_option
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    source: Path,
    target: str | None,
    reason: str,
    head_files: tuple[Path, ...],
    offline: bool,
    json_: bool,
) -> None:
    """Bring lost entries back, byte for byte, from a newer backup, a dump, an archive folder or a copy.

    The whole is built in a new store beside the restored one, verified and compared again with everybody who showed the
    rollback; give the same --head files. Only then does it take the restored ledger's place and may be appended to.

    \b
    Example:
      cognify ledger replay /backup/newer.sqlite
      cognify ledger replay /archive/000000065536
    """
    from cognify_dagster.ledger.recovery.backup import replay as build
    from cognify_dagster.ledger.recovery.rollback import check_restored, resolve
    from cognify_dagster.workspace.stores import open_rows

    lost = lost_workspace(ctx)
    base = open_rows(lost.config)
    if base.segments():
        raise Failure(
            "segments of this ledger are detached; put them back with `cognify ledger attach` first", UNREADABLE
        )
    in_postgres = lost.config.ledger_url is not None
    if not in_postgres and target is not None:
        raise click.UsageError("the ledger is a SQLite file, which is replaced in its place; leave --to out")
    if in_postgres and target is None:
        raise click.UsageError("the ledger is in Postgres: name another, empty one with --to (`cognify ledger init`)")
    backup = open_backup(source, lost, _archives(lost, source))
    first = base.size()
    if backup.start > first:
        raise Failure(
            f"{source}: begins at entry {backup.start}, the ledger ends at {first}: bring what lies between", UNREADABLE
        )
    heads, remarks = _heads(lost, head_files, offline)
    known = _known(lost, heads)
    if backup.size <= first:
        # nothing to add: it may have been replayed, and cut off before it was opened again
        report = check_restored(base, **known)
        resolve(lost.mark, report)
        _record(lost.config, report, backup.digest, reason, None)
        _print(report, _own_place(lost), True, remarks, json_)
        return
    built = lost.config.ledger.with_name(lost.config.ledger.name + ".replayed")
    if not in_postgres:
        discard(built)
    store, file = open_target(target if in_postgres and target else str(built), lost.config.origin)
    try:
        with Progress("Entries replayed and verified") as progress:
            report = build(
                base, backup.source, backup.size, store, checkpoints=backup.notes, progress=progress, **known
            )
        _require_resolved(lost.mark, report)
        if file is not None:
            _swap(lost, base, store, file)
    except BaseException:
        discard(file)
        raise
    resolve(lost.mark, report)
    _record(replace(lost.config, ledger_url=target), report, backup.digest, reason, first)
    _print(report, _own_place(lost) if file is not None else "env:", file is not None, remarks, json_)
    if file is None and not json_:
        name = target if target and target.startswith("env:") else "env:COGNIFY_LEDGER_URL"
        say(f'Set in cognify.toml: ledger = "{clean(name)}", naming the ledger that was filled now, and verify it.')


def _require_resolved(mark: Path, report: RestoreReport) -> None:
    """Raise if the mark would not go for this report. The mark itself stays until the replayed ledger is in place."""
    from cognify_dagster.ledger.recovery.rollback import resolve

    trial = mark.with_name(mark.name + ".trial")
    if mark.exists():
        shutil.copyfile(mark, trial)
    try:
        resolve(trial, report)
    finally:
        trial.unlink(missing_ok=True)


def _swap(lost: Lost, base: Store, store: Store, file: Path) -> None:
    """Put the replayed file in the place of the restored one, which is kept beside it."""
    path = lost.config.ledger
    before = path.with_name(path.name + ".before-replay")
    for item in (base, store):
        close = getattr(item, "close", None)
        if close is not None:
            close()
    before.unlink(missing_ok=True)
    os.link(path, before)
    os.replace(file, path)
    KEPT.append(str(before))


@command.command("continue")
@click.option("--previous-trust", type=IN_FILE, required=True, metavar="FILE", help="Trust file of the lost ledger.")
@click.option(
    "--checkpoint", "head", type=IN_FILE, required=True, metavar="FILE", help="Its last remembered checkpoint."
)
@click.option(
    "--lost-start", type=click.IntRange(0), required=True, metavar="N", help="How many of its entries still exist."
)
@click.option("--reason", required=True, help="What happened; it stands in the ledger.")
@signing_options
@click.pass_context
def continue_(
    ctx: click.Context,
    previous_trust: Path,
    head: Path,
    lost_start: int,
    reason: str,
    **signing: Any,
) -> None:
    """Say in a new ledger, right after its founding, that it goes on where another one lost entries for good.

    The new ledger has another origin (`cognify init --origin …`). Two of its workspace admins sign. The checkpoint of the
    lost one is verified with the lost one's trust file.

    \b
    Example:
      cognify ledger continue --previous-trust old/trust.txt --checkpoint witness-head.txt --lost-start 4096 \\
          --reason "disk and newest backup lost" --as ada.key.json --as finn.key.json
    """
    from cognify_dagster.governance import continue_ledger

    keys = unlocked(signing)
    workspace = open_workspace(ctx)
    note = read_text(head)
    if not signing["json_"]:
        say("Checkpoint of the lost ledger:")
        say(clean(note, keep_newlines=True))
    rows = [("New ledger", workspace.origin), ("Still there", f"{lost_start} entries"), ("Reason", reason)]
    ask(signing, workspace.read(), rows, keys, "Cite this loss for ever?")
    receipt = continue_ledger(
        workspace,
        previous_trust=load_trust(previous_trust),
        checkpoint=note,
        lost_start=lost_start,
        reason=reason,
        signers=keys,
    )
    recorded(signing, receipt, ". Keep what is left of the old ledger, and its trust file, readable.")
