"""`cognify ledger show`, `prove` and `check-proof`: single entries, and proofs that they are in the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import finish
from cognify_dagster.cli.inputs import IN_FILE, OUT_FILE, json_option, load_trust, open_workspace, write_new
from cognify_dagster.cli.ledger.group import OUTCOMES, command
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.workspace import Reading, Workspace


@command.command("show")
@click.argument("number", metavar="[SEQ]", type=click.IntRange(0), required=False)
@click.option("--subject", help="Only entries about this subject, such as model/credit_default@3.")
@click.option("--kind", help="Only entries of this kind, such as release_refused.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Newest n.")
@click.option("--seq", type=click.IntRange(0), help="One entry, whole; the same as SEQ.")
@json_option
@click.pass_context
def show(
    ctx: click.Context,
    number: int | None,
    subject: str | None,
    kind: str | None,
    limit: int,
    seq: int | None,
    json_: bool,
) -> None:
    """Show entries, or the entry SEQ whole. The whole ledger is verified first; a damaged one ends with exit code 1.

    \b
    Example:
      cognify ledger show --subject model/credit_default@3
      cognify ledger show 17
    """
    from cognify_dagster.records import kinds

    seq = _one(number, seq)
    if kind is not None and kind not in kinds():
        raise click.UsageError(f"there is no kind {kind[:60]!r}; `cognify schema --list` names them")
    reading = open_workspace(ctx).read()
    if seq is not None:
        value = _entry_json(reading, _existing(reading, seq), whole=True)
        if json_:
            as_json(value)
            return
        trial_banner(reading.trial)
        heading(f"Entry {seq}: {value['kind']}")
        record = value.pop("record")
        pairs((name, ", ".join(item) if isinstance(item, list) else item) for name, item in value.items())
        say("Record:")
        shown = "(payload erased, or of a kind this release does not know)"
        if record is not None:
            shown = json.dumps(record, indent=2, ensure_ascii=False)
        say(clean(shown, keep_newlines=True))
        return
    items = reading.view.entries if subject is None else reading.view.history(subject)
    chosen = [item.entry.seq for item in items if kind in (None, item.entry.kind)]
    values = [_entry_json(reading, number, whole=False) for number in chosen[-limit:]]
    if json_:
        as_json(
            {
                "origin": reading.origin,
                "size": reading.size,
                "matching": len(chosen),
                "limited": len(values) < len(chosen),
                "entries": values,
            }
        )
        return
    trial_banner(reading.trial)
    table(
        ("entry", "time", "kind", "about", "actor"),
        [(v["seq"], v["time"], v["kind"], ", ".join(v["subjects"]), v["actor"]) for v in values],
    )
    if len(values) < len(chosen):
        say(f"The newest {len(values)} of {len(chosen)} matching entries; --limit {len(chosen)} shows all of them.")
    else:
        say(f"All {len(chosen)} matching entries.")
    say(f"The ledger has {reading.size} entries, all verified.")


def _one(number: int | None, seq: int | None) -> int | None:
    """Accept SEQ and --seq alike."""
    if number is not None and seq is not None and number != seq:
        raise click.UsageError(f"SEQ {number} and --seq {seq} name different entries")
    return number if number is not None else seq


def _existing(reading: Reading, seq: int) -> int:
    if seq >= reading.size:
        raise click.UsageError(f"there is no entry {seq}; the ledger has {reading.size} (0 to {reading.size - 1})")
    return seq


def _entry_json(reading: Reading, seq: int, *, whole: bool) -> dict[str, Any]:
    entry = reading.view.entries[seq].entry
    value: dict[str, Any] = {
        "seq": seq,
        "time": moment(entry.time_us),
        "kind": entry.kind,
        "subjects": list(entry.subjects),
        "actor": entry.actor,
        "leaf": entry.leaf.hex(),
    }
    if whole:
        found = reading.at(seq)
        value |= {
            "previous_leaf": entry.prev,
            "heads": json.dumps(dict(entry.heads)),
            "key_id": entry.key_id,
            "evidence": list(entry.evidence),
            "record": None if found is None else {"facts": found.record.facts(), "observed": found.record.observed},
        }
        value["heads"] = [f"{name} → {number}" for name, number in sorted(entry.heads.items())]
    return value


@command.command("prove")
@click.argument("number", metavar="SEQ", type=click.IntRange(0), required=False)
@click.option("--seq", type=click.IntRange(0), help="The same as SEQ.")
@click.option("-o", "--out", type=OUT_FILE, metavar="FILE", help="Where to write the proof; printed by default.")
@click.option(
    "--entry", "entry_out", type=OUT_FILE, metavar="FILE", help="Write the entry's bytes too: who checks needs them."
)
@json_option
@click.pass_context
def prove(
    ctx: click.Context, number: int | None, seq: int | None, out: Path | None, entry_out: Path | None, json_: bool
) -> None:
    """Write a C2SP tlog-proof of one entry: the path from its leaf to a signed checkpoint.

    \b
    Example:
      cognify ledger prove 17 -o entry-17.tlog-proof --entry entry-17.json
      cognify ledger check-proof entry-17.tlog-proof --entry entry-17.json --trust trust.txt
    """
    seq = _one(number, seq)
    if seq is None:
        raise click.UsageError("name the entry: cognify ledger prove SEQ")
    workspace = open_workspace(ctx)
    entry = workspace.read().view.entries[_in_range(workspace, seq)].entry
    proof = workspace.ledger.proof_file(seq)
    checkpoint = proof.verify(entry.leaf, workspace.trust().logs)
    if out is not None:
        write_new(out, proof.text().encode())
    if entry_out is not None:
        write_new(entry_out, entry.data)
    if json_:
        as_json(
            {
                "entry": seq,
                "leaf": entry.leaf.hex(),
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "proof": proof.text(),
            }
        )
    elif out is None:
        click.echo(proof.text(), nl=False)
    else:
        say(f"{clean(out)}: entry {seq}, leaf {entry.leaf.hex()}, is in the ledger of {checkpoint.size} signed entries")


def _in_range(workspace: Workspace, seq: int) -> int:
    size = workspace.ledger.size()
    if seq >= size:
        raise click.UsageError(f"there is no entry {seq}; the ledger has {size} (0 to {size - 1})")
    return seq


@command.command("check-proof")
@click.argument("file", type=IN_FILE)
@click.option("--trust", type=IN_FILE, required=True, metavar="FILE", help="Trust file kept apart from the ledger.")
@click.option(
    "--entry",
    "entry_file",
    type=IN_FILE,
    metavar="FILE",
    help="The entry's bytes; in a bundle they are found beside it.",
)
@click.option("--leaf", metavar="HEX", help="Instead of --entry: the entry's leaf hash, 64 hex digits.")
@json_option
def check_proof_(file: Path, trust: Path, entry_file: Path | None, leaf: str | None, json_: bool) -> None:
    """Check a proof file offline, without a workspace: that the entry is in the ledger whose head was signed.

    A proof does not hold the entry that it is about, so the entry's bytes or its leaf hash are needed.
    Exit codes: 0 holds, 1 tampered, 3 unreadable, 4 unproven (signed by no key of the trust file).

    \b
    Example:
      cognify ledger check-proof entry-17.tlog-proof --entry entry-17.json --trust trust.txt
      cognify ledger check-proof bundle/ledger/proofs/00000017.tlog-proof --trust trust.txt --json
    """
    from cognify_dagster.cli.proof import check_proof

    found = check_proof(file, load_trust(trust), entry_file, leaf)
    if json_:
        as_json(found.as_json(file))
    else:
        heading(f"{clean(file)}: {OUTCOMES[found.outcome.name]}")
        pairs(found.rows())
    finish(int(found.outcome))
