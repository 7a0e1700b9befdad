"""`cognify dataset prove`, `records`, `check-proof`: which records and files were in a snapshot, and proofs for others to check."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.dataset.finding import (
    DATASET,
    PERSONAL,
    ROOT,
    entry_of,
    manifest_of,
    require_values_allowed,
    secret_of,
    snapshot_at,
    table_of,
)
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.exits import BLOCKED, UNPROVEN, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import IN_FILE, OUT_FILE, json_option, open_workspace, read_text, write_new
from cognify_dagster.cli.output import as_json, clean, pairs, say, table

if TYPE_CHECKING:
    from cognify_dagster.records import DatasetSnapshot
    from cognify_dagster.workspace import Recorded, Workspace

root_option = click.option(
    "--root",
    type=ROOT,
    metavar="ROOT",
    help="A certain version, by the first digits of its root; the newest by default.",
)


@command.command("prove")
@click.argument("name", type=DATASET)
@click.option("--record", "record", type=IN_FILE, metavar="FILE", help="A record: a JSON object of its columns.")
@click.option(
    "--key", "keys", multiple=True, metavar="COLUMN=VALUE", help="A record by its record key; repeat for each."
)
@click.option("--file", "path", metavar="PATH", help="A file of the dataset, by its path within it.")
@root_option
@click.option("-o", "--out", type=OUT_FILE, metavar="FILE", help="Write the proof to this new file.")
@json_option
@click.pass_context
def prove(
    ctx: click.Context,
    name: str,
    record: Path | None,
    keys: Sequence[str],
    path: str | None,
    root: str | None,
    out: Path | None,
    json_: bool,
) -> None:
    """Prove that a record or file was in a version of a dataset, and how often, or that it was not.

    The proof file holds digests, never values, and can be checked by anybody who knows the root: `cognify dataset check-proof`,
    or offline with the file verify_dataset_proof.py of any bundle. Ends with 0 in either case.

    \b
    Example:
      cognify dataset prove loans_train --record person.json --out proof.json
      cognify dataset prove loans_train --key ID=4711
      cognify dataset prove loans_train --file part-0003.parquet
    """
    from cognify_dagster.datasets import check_proof_file, file_proof_file, read_file_manifest, record_proof_file
    from cognify_dagster.datasets.compare.snapshots import LARGE_FILES
    from cognify_dagster.datasets.scale import LargeManifest

    if sum((record is not None, bool(keys), path is not None)) != 1:
        raise click.UsageError("say what to prove: one of --record, --key or --file")
    workspace = open_workspace(ctx)
    item = snapshot_at(workspace.read(), name, root)
    entry = entry_of(workspace, item)
    if path is not None:
        data = workspace.evidence.get(item.record.manifest.digest)
        large = item.record.file_count > LARGE_FILES
        files = LargeManifest(data, item.record.header) if large else read_file_manifest(data)
        value = file_proof_file(item.record.header, files, path.encode("utf-8", "surrogateescape"), entry=entry)
    else:
        manifest = manifest_of(workspace, item)
        digest = (
            _digest_of_file(workspace, item, record) if record is not None else _digest_of_key(workspace, item, keys)
        )
        value = record_proof_file(item.record.header, manifest, digest, entry=entry)
    shown = check_proof_file(value, bytes.fromhex(item.record.root))
    if out is not None:
        write_new(out, (json.dumps(value, indent=1) + "\n").encode())
    if json_:
        as_json({"proof": value, "shows": shown})
        return
    say(_sentence(shown, name))
    pairs([("Root", item.record.root), ("Entry", item.seq), (shown["what"].capitalize(), path or shown["subject"])])
    if item.record.record_digest_key and shown["what"] == "record":
        say(
            "The digest is keyed: who is to check that it is this record needs the record key, or trusts who computed it."
        )
    if out is not None:
        say(f"Proof written to {clean(out)}.")


def _sentence(shown: dict[str, Any], name: str) -> str:
    if not shown["present"]:
        return f"The {shown['what']} is NOT in dataset {clean(name)}."
    times = f", {shown['count']} times" if shown["count"] > 1 else ""
    return f"The {shown['what']} is in dataset {clean(name)}{times}."


def _digest_of_file(workspace: Workspace, item: Recorded[DatasetSnapshot], path: Path) -> bytes:
    from cognify_dagster.datasets import TableError, typed_digest

    try:
        return typed_digest(_cells(path, item.record.header["schema"]), secret_of(workspace, item))
    except TableError as error:
        raise Failure(f"{path}: {error}", UNREADABLE) from error


def _cells(path: Path, schema: Sequence[Sequence[Any]] | None) -> dict[str, Any]:
    """The record in a file as typed cells; plain values get their types from the snapshot's schema."""
    from cognify_dagster.datasets import typed_record

    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path}: not JSON: {' '.join(str(error).split())}", UNREADABLE) from error
    if isinstance(value, dict) and set(value) == {"cells"} and isinstance(value["cells"], dict):
        return dict(value["cells"])
    if not isinstance(value, dict):
        raise Failure(f"{path}: a record is a JSON object with a value for each column", UNREADABLE)
    return typed_record(value, schema or ())


def _digest_of_key(workspace: Workspace, item: Recorded[DatasetSnapshot], given: Sequence[str]) -> bytes:
    """The record digest that the snapshot's record index has for a key."""
    from cognify_dagster.datasets import TableError, read_index, typed_digest, typed_record

    record = item.record
    if record.record_index is None:
        raise Failure(f"dataset {record.name}: this snapshot has no record key; use --record", BLOCKED)
    values = dict(part.partition("=")[::2] for part in given)
    columns = list(record.header["records"].get("key_columns") or ())
    if set(values) != set(columns):
        wanted = " ".join(f"--key {name}=…" for name in columns)
        raise click.UsageError(f"the record key of {record.name} is {', '.join(columns)}: give {wanted}")
    schema = [column for column in record.header["schema"] if column[0] in columns]
    try:
        key = typed_digest(typed_record(values, schema), secret_of(workspace, item))
    except TableError as error:
        raise click.UsageError(f"--key: the record key is {', '.join(columns)}; {error}") from error
    index = read_index(workspace.evidence.get(record.record_index.digest), manifest_of(workspace, item))
    place = index.keys.index(key).as_py()
    if place < 0:
        raise Failure(
            f"dataset {record.name}: no record has this key, by the record index of entry {item.seq}. That is no proof for others: "
            "the tree is over whole records; with --record the absence of a whole record can be proven",
            UNPROVEN,
        )
    return bytes(index.rows[place].as_py())


@command.command("records")
@click.argument("name", type=DATASET)
@click.option(
    "--contains", type=IN_FILE, metavar="FILE", help="A table (CSV, JSON Lines, Parquet): which rows were in?"
)
@root_option
@click.option(
    "--with-keys", is_flag=True, help="Show the record key of each: reads the data, if they are still at hand."
)
@click.option(PERSONAL, "personal", is_flag=True, help="With --with-keys: show keys of personal data.")
@click.option("--data", "source", metavar="SOURCE", help="With --with-keys: where the data are now.")
@click.option("--csv", "csv_", is_flag=True, help="Print all of them as CSV.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Lines to show without --csv.")
@json_option
@click.pass_context
def records(
    ctx: click.Context,
    name: str,
    contains: Path | None,
    root: str | None,
    with_keys: bool,
    personal: bool,
    source: str | None,
    csv_: bool,
    limit: int,
    json_: bool,
) -> None:
    """List exactly which records were in a version of a dataset, by their digests; or ask which rows of a file were.

    With --contains it ends with 1 if a row was not in.

    \b
    Example:
      cognify dataset records loans_train --csv > records.csv
      cognify dataset records loans_train --contains asked.csv
    """
    workspace = open_workspace(ctx)
    item = snapshot_at(workspace.read(), name, root)
    manifest = manifest_of(workspace, item)
    if contains is not None:
        _contains(workspace, item, manifest, contains, csv_, json_, limit)
        return
    head, rows, total = _listed(workspace, item, manifest, with_keys, personal, source)
    if csv_:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([_formula(cell) for cell in row] for row in rows)
        return
    first = [row for _, row in zip(range(limit), rows, strict=False)]
    about = {"dataset": name, "root": item.record.root, "entry": item.seq, "records": total}
    if json_:
        as_json({**about, "columns": head, "rows": first, "shown": len(first)})
        return
    pairs([("Root", item.record.root), ("Entry", item.seq), ("Records", total)])
    say(clean("  ".join(head)))
    for row in first:  # in lines, since a table would break the digests
        say(clean("  ".join(str(cell) for cell in row)))
    if total > len(first):
        say(f"{total - len(first)} more; --csv prints all, --limit shows more.")


def _formula(cell: Any) -> Any:
    """Text that a spreadsheet would take for a formula is marked as text."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _listed(
    workspace: Workspace,
    item: Recorded[DatasetSnapshot],
    manifest: Any,
    with_keys: bool,
    personal: bool,
    source: str | None,
) -> tuple[list[str], Any, int]:
    from cognify_dagster.datasets import read_index, record_digests

    total = len(manifest.digests)
    if with_keys:
        require_values_allowed(item, personal, "--with-keys")
        columns = list(item.record.header["records"].get("key_columns") or ())
        if not columns:
            raise Failure(f"dataset {item.record.name}: this snapshot has no record key", BLOCKED)
        data = table_of(workspace, item, source)
        digests = record_digests(data, key=secret_of(workspace, item))
        values = zip(*(data.column(name).to_pylist() for name in columns), strict=True)
        rows = ((digest.hex(), *map(str, key)) for digest, key in zip(digests, values, strict=True))
        return ["record digest", *columns], rows, total
    if item.record.record_index is not None:
        index = read_index(workspace.evidence.get(item.record.record_index.digest), manifest)
        both = zip(index.rows.to_pylist(), index.keys.to_pylist(), strict=True)
        return ["record digest", "key digest"], ((row.hex(), key.hex()) for row, key in both), total
    return ["record digest"], ((digest.hex(),) for digest in manifest.digests), total


def _contains(
    workspace: Workspace,
    item: Recorded[DatasetSnapshot],
    manifest: Any,
    path: Path,
    csv_: bool,
    json_: bool,
    limit: int,
) -> None:
    from cognify_dagster.datasets import record_set, schema_id
    from cognify_dagster.datasets.records.tables import MAX_TABLE_BYTES, parse_table

    schema = item.record.header["schema"] or ()
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise Failure(f"{path}: larger than {MAX_TABLE_BYTES} bytes; split it", UNREADABLE)
    asked = parse_table(path.read_bytes(), str(path.name).encode(), {str(c[0]): str(c[1]) for c in schema})
    if schema_id(asked.column_names) != manifest.schema_id:
        wanted = ", ".join(str(column[0]) for column in schema)
        raise Failure(f"{path}: a record of this dataset has the columns {wanted}; give exactly these", UNREADABLE)
    digests = record_set(asked, key=secret_of(workspace, item)).digests
    wanted_digests = set(digests)
    held = Counter(digest for digest in manifest.digests if digest in wanted_digests)
    rows = [(number, digest.hex(), held[digest]) for number, digest in enumerate(digests, start=1)]
    missing = sum(1 for row in rows if not row[2])
    if csv_:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("row", "record digest", "times in the dataset"))
        writer.writerows(rows)
    elif json_:
        listed = [{"row": row, "digest": digest, "count": count} for row, digest, count in rows]
        as_json({"dataset": item.record.name, "root": item.record.root, "rows": listed, "missing": missing})
    else:
        pairs([("Root", item.record.root), ("Rows asked", len(rows)), ("In the dataset", len(rows) - missing)])
        table(("row", "record digest", "times in the dataset"), [(a, b, c or "not in") for a, b, c in rows[:limit]])
    if missing:
        finish(BLOCKED)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the digest of the file that checks proofs offline, as `sha256sum` does."""
    if not wanted or ctx.resilient_parsing:
        return
    from cognify_dagster.datasets import proof_verifier

    digest = hashlib.sha256(Path(proof_verifier.__file__).read_bytes()).hexdigest()
    click.echo(f"{digest}  verify_dataset_proof.py")
    ctx.exit()


@command.command("check-proof")
@click.argument("proof", type=IN_FILE)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Print the SHA-256 of verify_dataset_proof.py, which each release publishes.",
)  # fmt: skip
@click.option("--root", "root", metavar="ROOT", help="The root to check against, if this workspace does not have it.")
@click.option("--record", type=IN_FILE, metavar="FILE", help="The record: its digest has to be the one proven.")
@json_option
@click.pass_context
def check_proof(ctx: click.Context, proof: Path, root: str | None, record: Path | None, json_: bool) -> None:
    """Check a proof file: against the root that the ledger records, or one that you give.

    With --root no workspace is needed; keyed digests of personal data are recomputed with the workspace's record key. Ends with 1
    if the proof does not hold.

    \b
    Example:
      cognify dataset check-proof proof.json
      cognify dataset check-proof proof.json --root 3fa2… --record person.json
    """
    from cognify_dagster.datasets import ProofError, TableError, check_proof_file, typed_digest

    try:
        value = json.loads(read_text(proof))
        own = str(value["root"])
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise Failure(
            f"{proof}: this is no proof file, such as `cognify dataset prove` writes with --out", UNREADABLE
        ) from error
    found: Recorded[DatasetSnapshot] | None = None
    workspace = None
    if root is None:
        workspace = open_workspace(ctx)
        found = snapshot_at(workspace.read(), str(value.get("dataset", "")), own)
    wanted = root.lower().removeprefix("sha256:") if root is not None else own
    try:
        against = bytes.fromhex(wanted)
    except ValueError:
        raise click.UsageError("--root: 64 hex digits are needed") from None
    if len(against) != 32:
        raise click.UsageError("--root: 64 hex digits are needed")
    try:
        shown = check_proof_file(value, against)
    except ProofError as error:
        unreadable = "cannot be read" in str(error)
        raise Failure(f"{proof}: {error}", UNREADABLE if unreadable else BLOCKED) from error
    if record is not None:
        schema = found.record.header["schema"] if found is not None else None
        try:
            secret = secret_of(workspace, found) if workspace is not None and found is not None else None
            digest = typed_digest(_cells(record, schema), secret)
        except TableError as error:
            hint = "" if found is not None else " (with --root, give typed cells: the schema is in the workspace)"
            raise Failure(f"{record}: {error}{hint}", UNREADABLE) from error
        if digest.hex() != shown["subject"]:
            raise Failure(f"{record}: this is not the record that the proof is about", BLOCKED)
    if json_:
        as_json({**shown, "root": against.hex(), "entry": found.seq if found else None})
        return
    say(_sentence(shown, str(value.get("dataset", ""))))
    pairs([("Root", against.hex()), ("Recorded in", f"entry {found.seq}" if found else "the root was given")])
