"""`cognify dataset snapshot` and `cognify dataset verify`: record what data is, and check that it still is."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from cognify_dagster.cli.dataset.expecting import carry_out, code_of, wanted_checks
from cognify_dagster.cli.dataset.finding import DATASET, ROOT, secret_of, snapshot_at
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.dataset.progress import SnapshotProgress, size
from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import IN_FILE, json_option, open_workspace, program
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.datasets import Provenance, Snapshot, VerifyReport
    from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot
    from cognify_dagster.workspace import Recorded, Workspace

MAX_PROVENANCE_BYTES = 1_000_000
_LINES = 50


class _Verify(click.ParamType):
    name = "verify"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from cognify_dagster.datasets import DatasetError
        from cognify_dagster.datasets.hashing.verifying import Verify

        try:
            Verify.parse(str(value))
        except DatasetError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@command.command("snapshot")
@click.argument("source", metavar="SOURCE")
@click.option("--name", required=True, type=DATASET, metavar="NAME", help="The dataset's name.")
@click.option(
    "--key", "keys", multiple=True, metavar="COLUMN", help="Column that names each record; repeat for several."
)
@click.option("--label", metavar="COLUMN", help="Label column, for the class balance.")
@click.option("--group", "groups", multiple=True, metavar="COLUMN", help="Column to count groups by; may be repeated.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave paths out, such as '*.tmp'; part of the root.")
@click.option(
    "--provenance",
    "provenance_file",
    type=IN_FILE,
    metavar="FILE.yaml",
    help="Where the data came from. Without it, what the dataset's last snapshot says.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why this version differs from the one before.")
@click.option(
    "--verify",
    type=_Verify(),
    default="quick",
    show_default=True,
    metavar="full|sample:P|quick",
    help="Read every file; or those that changed; or these and a random P percent of the others.",
)
@click.option("--trust-checksums", is_flag=True, help="S3: take SHA-256 digests that the store keeps on its word.")
@click.option(
    "--expect",
    type=IN_FILE,
    metavar="FILE.yaml",
    help="Columns, types and ranges that the table has to have: a quality check.",
)
@click.option("--same-schema", is_flag=True, help="Quality check: the columns and types of the last snapshot.")
@click.option(
    "--code",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of the code that made the data; its git commit and state are recorded.",
)
@click.option("--files-only", is_flag=True, help="Take no records, even if the files are tables.")
@json_option
@click.pass_context
def snapshot(
    ctx: click.Context,
    source: str,
    name: str,
    keys: tuple[str, ...],
    label: str | None,
    groups: tuple[str, ...],
    ignore: tuple[str, ...],
    provenance_file: Path | None,
    reason: str,
    verify: str,
    trust_checksums: bool,
    expect: Path | None,
    same_schema: bool,
    code: Path | None,
    files_only: bool,
    json_: bool,
) -> None:
    """Take a snapshot of a folder, file or fsspec address and record it.

    Files that the last snapshot read, and whose size, times and inode are still the same, are not read again unless --verify
    asks for it; the record says how many.

    \b
    Example:
      cognify dataset snapshot data/loans --name loans_train --key id --label default --reason "May figures added"
      cognify dataset snapshot data/loans --name loans_train --same-schema --code pipelines/loans
      cognify dataset snapshot s3://bank/scans --name scans --verify sample:5 --json
    """
    from cognify_dagster.datasets import take_snapshot
    from cognify_dagster.datasets.caching import kept_index
    from cognify_dagster.datasets.recording import record_snapshot

    workspace = open_workspace(ctx)
    provenance = _provenance(workspace, name, provenance_file)
    _say_what_is_left_out(workspace, name, keys, label, ignore)
    checks = wanted_checks(workspace, name, expect, same_schema)
    index = kept_index(workspace, name)
    with SnapshotProgress() as progress:
        taken = take_snapshot(
            _place(source),
            name=name,
            provenance=provenance,
            record_key=keys or None,
            label=label,
            group_columns=groups,
            record_hmac_key=workspace.record_key() if provenance.personal else None,
            ignore=ignore,
            progress=progress,
            records=not files_only,
            index=index.path,
            index_digest=index.digest,
            verify=verify,
            trust_checksums=trust_checksums,
        )
    recorded = record_snapshot(
        workspace,
        taken,
        run=f"cli-{uuid4().hex}",
        record_key=keys[0] if len(keys) == 1 else None,
        label=label,
        change_reason=reason,
        author=_author(workspace),
        code=code_of(code),
        quality=carry_out(checks, _place(source), taken),
    )
    diff = _record_change(workspace, recorded)
    if json_:
        as_json(_snapshot_json(taken, recorded, diff))
    else:
        _show_snapshot(workspace, taken, recorded, diff)


def _record_change(workspace: Workspace, recorded: Recorded[DatasetSnapshot]) -> Recorded[DatasetDiffRecorded] | None:
    """Record what changed. That it cannot be done takes nothing from the snapshot: it is done again before somebody approves it."""
    from cognify_dagster.datasets import DatasetError
    from cognify_dagster.datasets.recording import record_diff
    from cognify_dagster.evidence.errors import EvidenceError
    from cognify_dagster.ledger.errors import WriterRefused

    try:
        return record_diff(workspace, recorded.record.name, recorded.seq)
    except (DatasetError, EvidenceError, WriterRefused) as error:
        say(f"Note: what changed in {recorded.record.name} could not be recorded: {clean(error)}", err=True)
        return None


def _say_what_is_left_out(
    workspace: Workspace, name: str, keys: tuple[str, ...], label: str | None, ignore: tuple[str, ...]
) -> None:
    """Unlike the provenance, these are not taken over from the last snapshot; forgetting one makes the two hard to compare."""
    from cognify_dagster.records import DatasetSnapshot

    held = [item for item in workspace.read().all(DatasetSnapshot, f"dataset/{name}") if item.record.name == name]
    if not held:
        return
    last = held[-1].record
    given = (("--key", keys, last.header["records"].get("key_columns") or ()), ("--label", label, [last.label]))
    for option, now, before in (*given, ("--ignore", ignore, last.header["params"]["ignore"])):
        if not now and any(before):
            what = " ".join(f"{option} {item}" for item in before)
            say(f"Note: the last snapshot of {name} was taken with {clean(what)}, this one is not", err=True)


def _author(workspace: Workspace) -> str:
    """Who is logged in here, if they are enrolled under that name (`os:…`)."""
    from cognify_dagster.governance import directory
    from cognify_dagster.workspace import os_login

    found, _ = directory(workspace.read()).resolve([f"os:{os_login()}"])
    return found[0] if found else "unattributed"


def _place(source: str) -> str:
    """Local paths are recorded from the root of the file system, so that the data is found again from any folder."""
    return source if "://" in source or "::" in source or not source else os.path.abspath(source)


def _provenance(workspace: Workspace, name: str, path: Path | None) -> Provenance:
    from pydantic import ValidationError

    from cognify_dagster.datasets import Provenance
    from cognify_dagster.records import DatasetSnapshot
    from cognify_dagster.records.strict_yaml import YamlError, load_yaml, read_small_text

    if path is None:
        held = [item for item in workspace.read().all(DatasetSnapshot, f"dataset/{name}") if item.record.name == name]
        return Provenance.model_validate(held[-1].record.provenance) if held else Provenance()
    try:
        value = load_yaml(read_small_text(path, MAX_PROVENANCE_BYTES, "a provenance file", YamlError))
    except YamlError as error:
        raise Failure(f"{path}: {clean(error)}", UNREADABLE) from None
    if not isinstance(value, dict):
        raise Failure(f"{path}: a provenance file is a YAML mapping of field names to values", UNREADABLE)
    try:
        return Provenance.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        if first["type"] == "extra_forbidden":
            alike = difflib.get_close_matches(where, Provenance.model_fields, 1)
            hint = f"did you mean {alike[0]}?" if alike else f"there are {', '.join(sorted(Provenance.model_fields))}"
            raise Failure(f"{path}: there is no field {clean(where)}; {hint}", UNREADABLE) from None
        raise Failure(f"{path}, {clean(where)}: {clean(first['msg'])}", UNREADABLE) from None


def _snapshot_json(
    taken: Snapshot, recorded: Recorded[DatasetSnapshot], diff: Recorded[DatasetDiffRecorded] | None
) -> dict[str, Any]:
    record = recorded.record
    return {
        "name": record.name,
        "root": record.root,
        "data_version": record.data_version,
        "parent_root": record.parent_root,
        "entry": recorded.seq,
        "leaf": recorded.leaf,
        "files": record.file_count,
        "bytes": record.total_bytes,
        "records": record.record_count,
        "record_root": record.record_root,
        "evidence": record.header["evidence"],
        "verify": taken.observed.get("verify", "full"),
        "ignored": taken.ignored,
        "location": taken.location,
        "missing_provenance": list(record.missing_provenance),
        "change_reason": record.change_reason,
        "diff_entry": None if diff is None else diff.seq,
        "diff_digest": None if diff is None else diff.record.diff_digest,
        "difference": None if diff is None else diff.record.summary.get("text", ""),
        "warnings": taken.header["warnings"],
        "notes": taken.observed.get("notes", []),
    }


def known_by(evidence: Any) -> str:
    """What files are known by, for people."""
    parts = [f"{evidence['hashed']:,} read and hashed"]
    if evidence["reused"]:
        parts.append(f"{evidence['reused']:,} taken over as unchanged")
    if evidence["provider"]:
        parts.append(f"{evidence['provider']:,} on the provider's word")
    return ", ".join(parts)


def _show_snapshot(
    workspace: Workspace,
    taken: Snapshot,
    recorded: Recorded[DatasetSnapshot],
    diff: Recorded[DatasetDiffRecorded] | None,
) -> None:
    record = recorded.record
    trial_banner(workspace.config.trial if hasattr(workspace.config, "trial") else False)
    heading(f"Dataset {record.name}")
    changed = "first snapshot" if record.parent_root is None else f"changed from {record.parent_root[:16]}…"
    if record.parent_root == record.root:
        changed = "unchanged since the last snapshot"
    rows: list[tuple[str, object]] = [
        ("Root", record.root),
        ("Version", changed),
        ("Files", f"{record.file_count:,} ({size(record.total_bytes)}), {known_by(record.header['evidence'])}"),
    ]
    if record.record_count is not None:
        rows.append(("Records", f"{record.record_count:,}"))
    if taken.ignored:
        rows.append(("Ignored", f"{taken.ignored:,} entries, by rule"))
    rows.append(
        ("Provenance", "missing: " + ", ".join(record.missing_provenance) if record.missing_provenance else "stated")
    )
    if record.parent_root not in (None, record.root) and not record.change_reason:
        how = f"{program(workspace)} dataset reason {record.name} --text '…' --as KEYFILE"
        rows.append(("Reason", f"none given, and the policy may ask for it: {how}"))
    if diff is not None and record.parent_root not in (None, record.root):
        rows.append(
            ("Change", f"{diff.record.summary.get('text', '')} (entry {diff.seq}, {diff.record.diff_digest[:23]}…)")
        )
    rows.append(("Entry", recorded.seq))
    pairs(rows)
    for note in [*taken.header["warnings"], *taken.observed.get("notes", [])]:
        say(f"Note: {clean(note)}", err=True)
    say(f"Check it later: {program(workspace)} dataset verify {record.name}")


@command.command("verify")
@click.argument("name", metavar="NAME", type=DATASET)
@click.option("--source", metavar="SOURCE", help="Where the data are now, if not where they were.")
@click.option("--root", type=ROOT, metavar="ROOT", help="Of which version (first digits); the newest by default.")
@click.option("--full", is_flag=True, help="Read every file, also those whose size, times and inode have not changed.")
@json_option
@click.pass_context
def verify(ctx: click.Context, name: str, source: str | None, root: str | None, full: bool, json_: bool) -> None:
    """Compare data with its recorded snapshot; name each changed, missing and extra file. Ends with 1 if they differ.

    \b
    Example:
      cognify dataset verify loans_train
      cognify dataset verify loans_train --source /mnt/copy/loans --full
    """
    workspace = open_workspace(ctx)
    item = snapshot_at(workspace.read(), name, root)
    if item.record.data is not None and source is None:
        workspace.evidence.verify(item.record.data.digest)
        report = None
    else:
        report = _verify(workspace, item, source, full)
    if json_:
        as_json(_verify_json(item, report))
    else:
        _show_verified(item, report)
    if report is not None and not report.ok:
        finish(BLOCKED)


def _verify(workspace: Workspace, item: Recorded[DatasetSnapshot], source: str | None, full: bool) -> VerifyReport:
    from cognify_dagster.datasets import verify_snapshot
    from cognify_dagster.datasets.caching import kept_index

    record = item.record
    where = _place(source) if source else str(record.observed.get("location", ""))
    index = None if full else kept_index(workspace, record.name)
    with SnapshotProgress() as progress:
        return verify_snapshot(
            where,
            record.header,
            workspace.evidence.get(record.manifest.digest),
            workspace.evidence.get(record.record_manifest.digest) if record.record_manifest else None,
            record_hmac_key=secret_of(workspace, item),
            progress=progress,
            index=index.path if index and index.path.exists() else None,
            index_digest=index.digest if index else None,
        )


def _verify_json(item: Recorded[DatasetSnapshot], report: VerifyReport | None) -> dict[str, Any]:
    about = {"name": item.record.name, "entry": item.seq, "root": item.record.root}
    if report is None:
        return {**about, "ok": True, "table_in_evidence": True}
    return {**about, **report.to_dict()}


def _show_verified(item: Recorded[DatasetSnapshot], report: VerifyReport | None) -> None:
    heading(f"Dataset {item.record.name}, root {item.record.root[:16]}… of entry {item.seq}")
    if report is None:
        say("The table lies in the evidence store and has its recorded digest.")
        return
    for note in report.notes:
        say(f"Note: {clean(note)}", err=True)
    for reason in report.reasons[:_LINES]:
        say(f"  {clean(reason)}")
    if len(report.reasons) > _LINES:
        say(f"  … and {len(report.reasons) - _LINES:,} more; --json names all")
    how = f"{report.hashed:,} files were read"
    if report.reused:
        how += f", {report.reused:,} were not, since nothing about them changed (--full reads them too)"
    say(f"{'The data are those of the snapshot' if report.ok else 'The data differ from the snapshot'}; {how}.")
