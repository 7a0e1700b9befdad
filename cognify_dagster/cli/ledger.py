"""`cognify ledger`: verify, show, prove, sign a checkpoint."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import finish
from cognify_dagster.cli.inputs import IN_FILE, OUT_FILE, json_option, load_trust, open_workspace, write_new
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.ledger import Report
    from cognify_dagster.workspace import Reading, Workspace

_WORDS = {
    "HOLDS": "HOLDS",
    "TAMPERED": "TAMPERED",
    "ROLLED_BACK": "ROLLED BACK OR FORKED",
    "UNREADABLE": "UNREADABLE",
    "UNPROVEN": "UNPROVEN",
}
_LEVELS = {
    None: "nothing is proven",
    "L0": "L0: the entries do not contradict each other; no trusted signature covers them",
    "L1": "L1: internally consistent, and a head is signed by a key of the trust file",
}


@click.group(cls=Group, name="ledger")
def command() -> None:
    """Verify, show and prove ledger entries; sign a checkpoint.

    \b
    Example:
      cognify ledger verify
    """


@command.command("verify")
@click.option(
    "--trust", type=IN_FILE, metavar="FILE", help="Trust file kept apart from the workspace; by default its own copy."
)
@click.option(
    "--ledger", "ledger_file", type=IN_FILE, metavar="FILE", help="Verify this ledger.sqlite, without a workspace."
)
@json_option
@click.pass_context
def verify(ctx: click.Context, trust: Path | None, ledger_file: Path | None, json_: bool) -> None:
    """Recompute every entry from its bytes and compare it with every signed head.

    Exit codes: 0 holds, 1 tampered, 2 rolled back or forked, 3 unreadable, 4 unproven.

    \b
    Example:
      cognify ledger verify --trust /media/usb/trust.txt
      cognify ledger verify --ledger copy.sqlite --trust trust.txt --json
    """
    from cognify_dagster.ledger import Ledger, SqliteStore

    trial: bool | None = None
    notes: list[str] = []
    pinned = load_trust(trust) if trust is not None else None
    if ledger_file is not None:
        ledger = Ledger(SqliteStore(ledger_file, read_only=True))
        source = str(trust) if trust else ""
    else:
        workspace = open_workspace(ctx)
        ledger = workspace.ledger
        source = str(trust or workspace.config.trust)
        if pinned is None:
            pinned = workspace.trust()
            notes.append(
                f"the workspace's own trust file was used ({workspace.config.trust}); who can change the ledger can change "
                "it too. An auditor passes --trust with a copy kept apart"
            )
    report = ledger.verify(pinned)
    if not report.findings:
        trial, more = _judged(ledger)
        notes += more
    if json_:
        as_json(_report_json(report, source, trial, notes))
    else:
        _print_report(report, source, trial, notes)
    finish(int(report.outcome))


def _judged(ledger: Any) -> tuple[bool | None, list[str]]:
    """Return whether it is a trial ledger, and entries that are intact but have no effect."""
    from cognify_dagster.governance import directory, policy_in_force
    from cognify_dagster.records import RecordError
    from cognify_dagster.workspace import Reading

    reading = Reading(ledger.view())
    try:
        in_force = policy_in_force(reading)
        problems = [*directory(reading).problems, *in_force.problems, *in_force.unreadable]
        return reading.trial, [f"entry {seq} is intact but has no effect: {text}" for seq, text in sorted(problems)]
    except RecordError as error:
        return None, [str(error)]


def _report_json(report: Report, source: str, trial: bool | None, notes: list[str]) -> dict[str, Any]:
    return {
        "outcome": report.outcome.name.lower(),
        "exit_code": int(report.outcome),
        "level": report.level,
        "origin": report.origin,
        "size": report.size,
        "root": report.root.hex(),
        "signed_size": report.signed_size,
        "uncovered": None if report.level is None else report.uncovered,
        "intact_size": report.intact_size,
        "erased_payloads": report.erased,
        "trust_file": source or None,
        "trial": trial,
        "findings": [
            {"outcome": item.outcome.name.lower(), "seq": item.seq, "message": item.message} for item in report.findings
        ],
        "notes": [*report.notes, *notes],
    }


def _print_report(report: Report, source: str, trial: bool | None, notes: list[str]) -> None:
    trial_banner(bool(trial))
    heading(f"Ledger {report.origin}: {_WORDS[report.outcome.name]}")
    rows = [("Level", _LEVELS[report.level]), ("Entries", f"{report.size}, root {report.root.hex()}")]
    rows += _still_holds(report) if report.level is None else _covered(report)
    pairs([*rows, ("Erased payloads", str(report.erased)), ("Trust file", source or "none given")])
    if report.findings:
        say(f"Findings ({len(report.findings)}):")
        for finding in report.findings:
            say(f"  - {finding.outcome.name.lower().replace('_', ' ')}: {clean(finding)}")
    for note in (*report.notes, *notes):
        say(f"Note: {clean(note)}")


def _covered(report: Report) -> list[tuple[str, str]]:
    window = "none: every entry is under a signed head"
    if report.uncovered:
        window = f"{report.uncovered} newest entries are under no signed head yet (run `cognify ledger checkpoint`)"
    signed = f"entry {report.signed_size - 1}" if report.signed_size else "nothing"
    return [("Signed up to", signed), ("Exposure window", window)]


def _still_holds(report: Report) -> list[tuple[str, str]]:
    """What can be claimed of a damaged ledger: a head says nothing about entries that are not those it signed."""
    if not report.intact_size:
        return [("Still holds", "nothing: no signed head fits the entries that are here")]
    last = report.intact_size - 1
    text = f"entries 0 to {last}: they are those of the signed head of {report.intact_size} entries"
    return [("Still holds", text), ("Do not rely on", f"anything from entry {last + 1} on")]


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
        heading(f"{clean(file)}: {_WORDS[found.outcome.name]}")
        pairs(found.rows())
    finish(int(found.outcome))


@command.command("checkpoint")
@json_option
@click.pass_context
def checkpoint(ctx: click.Context, json_: bool) -> None:
    """Sign the present head, after recomputing every entry. Prints the signed note.

    \b
    Example:
      cognify ledger checkpoint
    """
    from cognify_dagster.ledger import Tampered

    workspace = open_workspace(ctx)
    try:
        note = workspace.ledger.sign_checkpoint()
    except Tampered as error:
        report = workspace.ledger.verify(workspace.trust())
        say(f"Error: nothing was signed: {clean(error)}", err=True)
        finish(int(report.outcome) or 1)
    if not json_:
        click.echo(note, nl=False)
        return
    origin, size, root = note.split("\n")[:3]
    as_json({"origin": origin, "size": int(size), "root": base64.b64decode(root).hex(), "note": note})
