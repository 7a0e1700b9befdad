"""`cognify ledger verify`: how far the ledger proves itself, and every finding with its sequence number."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import finish
from cognify_dagster.cli.inputs import IN_FILE, OUT_FILE, json_option, load_trust, open_workspace
from cognify_dagster.cli.ledger.group import OUTCOMES, Progress, command
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.cli.ledger.signatures import Signatures
    from cognify_dagster.ledger import Ledger, Report, TrustFile
    from cognify_dagster.workspace import WorkspaceConfig
    from cognify_dagster.workspace.anchoring import External

_LEVELS = {
    None: "nothing is proven",
    "L0": "L0: the entries do not contradict each other; no trusted signature covers them",
    "L1": "L1: internally consistent, and a head is signed by a key of the trust file",
    "L2": "L2: as L1, and the trust file's quorum of witnesses cosigned a head",
    "L3": "L3: a head that counts is also anchored in external time",
}


@dataclass
class _Target:
    """What is verified, and what was found besides the report."""

    ledger: Ledger
    trust: TrustFile | None
    source: str
    config: WorkspaceConfig | None = None
    notes: list[str] = field(default_factory=list)
    external: list[External] = field(default_factory=list)
    asked: bool = False
    depth: str = "full and deep"
    signatures: Signatures | None = None
    trial: bool | None = None


@command.command("verify")
@click.option(
    "--trust", type=IN_FILE, metavar="FILE", help="Trust file kept apart from the workspace; by default its own copy."
)
@click.option(
    "--ledger", "ledger_file", type=IN_FILE, metavar="FILE", help="Verify this ledger.sqlite, without a workspace."
)
@click.option("--url", metavar="URL", help="Verify this Postgres ledger, without a workspace: a URL or env:NAME.")
@click.option(
    "--since",
    "state",
    type=OUT_FILE,
    metavar="STATE",
    help="Read only what is new since the last time; STATE is kept where who writes the ledger cannot write.",
)
@click.option("--full", is_flag=True, help="Entries, chain, search columns and tree; payloads only with --deep.")
@click.option("--deep", is_flag=True, help="Payload commitments, and the signatures of writers and people.")
@click.option("--external", is_flag=True, help="Ask the witnesses of the trust file and the anchors of cognify.toml.")
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes to share the work."
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    trust: Path | None,
    ledger_file: Path | None,
    url: str | None,
    state: Path | None,
    full: bool,
    deep: bool,
    external: bool,
    processes: int,
    json_: bool,
) -> None:
    """Recompute every entry from its bytes and compare it with every signed head.

    Without --full and --deep everything is checked; with --since STATE only what is new, payloads included. Prints the level
    reached, L0 to L3, and the exposure window: the newest entries that no counted head covers.
    Exit codes: 0 holds, 1 tampered, 2 rolled back or forked, 3 unreadable, 4 unproven.

    \b
    Example:
      cognify ledger verify --external --trust /media/usb/trust.txt
      cognify ledger verify --since /var/lib/audit/credit.state --json
      cognify ledger verify --ledger copy.sqlite --trust trust.txt
    """
    from cognify_dagster.governance import judge_acts
    from cognify_dagster.ledger.verification.parts import Depth
    from cognify_dagster.ledger.verification.state import StateFile

    target = _target(ctx, trust, ledger_file, url)
    _mark(target)
    heads: list[tuple[str, str]] = []
    if external:
        heads = _ask(target)
    everything = not full and not deep
    payloads = deep or everything
    people = deep or (everything and state is None)
    target.depth = (
        "full and deep" if people and payloads else "full, with payloads" if payloads else "full, no payloads"
    )
    if state is not None and not people:
        target.notes.append(
            "signatures of writers and people were not checked; add --deep for them (it reads everything)"
        )
    with Progress("Entries") as progress:
        report = target.ledger.verify(
            target.trust,
            remembered=heads,
            anchored=[head for said in target.external for head in said.anchored],
            since=StateFile(state) if state is not None else None,
            acts=judge_acts,
            depth=Depth(payloads=payloads),
            processes=processes,
            progress=progress,
        )
    report = _with_external(target, report)
    if people and not report.findings:
        report = _with_signatures(target, report)
    if not report.findings:
        target.trial = _trial(target)
    if json_:
        as_json(_report_json(target, report))
    else:
        _print_report(target, report)
    finish(int(report.outcome))


def _trial(target: _Target) -> bool | None:
    """Whether it is a trial ledger, which every verification says, however little it reads."""
    from cognify_dagster.ledger import LedgerUnreadable
    from cognify_dagster.records import RecordError
    from cognify_dagster.workspace import Reading

    try:
        return Reading(target.ledger.view(1)).trial
    except (RecordError, LedgerUnreadable) as error:
        target.notes.append(str(error))
        return None


def _target(ctx: click.Context, trust: Path | None, ledger_file: Path | None, url: str | None) -> _Target:
    from cognify_dagster.ledger import Ledger, SqliteStore

    pinned = load_trust(trust) if trust is not None else None
    if ledger_file is not None and url is not None:
        raise click.UsageError("--ledger and --url name two ledgers; give one")
    if ledger_file is not None:
        return _Target(Ledger(SqliteStore(ledger_file, read_only=True)), pinned, str(trust or ""))
    if url is not None:
        from cognify_dagster.ledger.postgres.store import PostgresStore
        from cognify_dagster.workspace.stores import resolve_url

        return _Target(Ledger(PostgresStore(resolve_url(url, "--url"), read_only=True)), pinned, str(trust or ""))
    workspace = open_workspace(ctx)
    found = _Target(workspace.ledger, pinned, str(trust or workspace.config.trust), workspace.config)
    if pinned is None:
        found.trust = workspace.trust()
        found.notes.append(
            f"the workspace's own trust file was used ({workspace.config.trust}); who can change the ledger can change "
            "it too. An auditor passes --trust with a copy kept apart"
        )
    return found


def _mark(target: _Target) -> None:
    """Say that a ledger is closed for appends."""
    from cognify_dagster.ledger import RolledBack
    from cognify_dagster.ledger.recovery.rollback import mark_path, require_appendable

    if target.config is not None:
        try:
            require_appendable(mark_path(target.config.ledger))
        except RolledBack as error:
            target.notes.append(str(error))


def _ask(target: _Target) -> list[tuple[str, str]]:
    """Ask who remembers the ledger; return the notes to compare with. Asked before the ledger's size is read: it may grow
    meanwhile, but never shrink."""
    from cognify_dagster.cli.ledger.external import ask_all, joined

    if target.trust is None:
        raise click.UsageError("--external needs a trust file: heads that others remember count only with its keys")
    target.asked = True
    target.external = ask_all(target.config, target.trust, target.ledger.origin)
    notes = [item for said in target.external for item in said.heads]
    texts = {note.rpartition("\n\n")[0] for _, note in notes}
    kept = [(f"the checkpoint of size {size}", note) for size, note in target.ledger.store.checkpoints()]
    return joined([*notes, *(item for item in kept if item[1].rpartition("\n\n")[0] in texts)])


def _with_external(target: _Target, report: Report) -> Report:
    from cognify_dagster.cli.ledger.external import DAGSTER
    from cognify_dagster.ledger import Finding, Outcome

    if not target.asked:
        return report
    findings = list(report.findings)
    for said in target.external:
        findings += [Finding(Outcome.ROLLED_BACK, None, text) for text in said.conflicts]
        # a witness that is silent is for the quorum to judge; what was anchored must be compared
        if said.kind != "witness":
            findings += [Finding(Outcome.UNPROVEN, None, f"not compared: {text}") for text in said.failures]
        else:
            target.notes += [f"not compared: {text}" for text in said.failures]
        target.notes += said.remarks
    outside = [said for said in target.external if said.kind != DAGSTER]  # it often lies with who writes the ledger
    if not outside:
        text = "nothing outside was asked: the trust file has no witness with a URL, cognify.toml has no [[anchor]]"
        findings.append(Finding(Outcome.UNPROVEN, None, text))
    elif not any(said.heads or said.conflicts for said in outside):
        findings.append(
            Finding(Outcome.UNPROVEN, None, "nobody outside remembers a head of this ledger, or none answered")
        )
    level = report.level
    if any(finding.outcome in (Outcome.TAMPERED, Outcome.ROLLED_BACK) for finding in findings):
        level = None
    return replace(report, findings=tuple(findings), level=level)


def _with_signatures(target: _Target, report: Report) -> Report:
    from cognify_dagster.cli.ledger.signatures import check_signatures
    from cognify_dagster.ledger import Finding, Outcome
    from cognify_dagster.records import RecordError

    try:
        with Progress("Signatures") as progress:
            found = target.signatures = check_signatures(target.ledger.store, report.size, progress)
    except RecordError as error:
        target.notes.append(str(error))
        return report
    target.notes += [f"entry {seq} is intact but has no effect: {text}" for seq, text in found.ineffective]
    if not found.broken:
        return report
    findings = (*report.findings, *(Finding(Outcome.TAMPERED, seq, text) for seq, text in found.broken))
    return replace(report, findings=findings, level=None)


def _report_json(target: _Target, report: Report) -> dict[str, Any]:
    signed = target.signatures
    return {
        "outcome": report.outcome.name.lower(),
        "exit_code": int(report.outcome),
        "level": report.level,
        "origin": report.origin,
        "size": report.size,
        "root": report.root.hex(),
        "checked": target.depth,
        "checked_from": report.checked_from,
        "signed_size": report.signed_size,
        "witnessed_size": report.witnessed_size,
        "anchored_size": report.anchored_size,
        "anchored_at": report.anchored_at,
        "uncovered": None if report.level is None else report.uncovered,
        "uncovered_since": None if report.exposed_since_us is None else moment(report.exposed_since_us),
        "uncovered_age_s": _age(report),
        "intact_size": report.intact_size,
        "erased_payloads": report.erased,
        "signatures": None if signed is None else {"writers": signed.writers, "people": signed.people},
        "external": [
            {"name": said.name, "kind": said.kind, "size": said.size, "compared": bool(said.heads or said.conflicts)}
            for said in target.external
        ],
        "trust_file": target.source or None,
        "trial": target.trial,
        "findings": [
            {"outcome": item.outcome.name.lower(), "seq": item.seq, "message": item.message} for item in report.findings
        ],
        "notes": [*report.notes, *target.notes],
    }


def _age(report: Report) -> float | None:
    if report.exposed_since_us is None:
        return None
    return round(max(0.0, time.time() - report.exposed_since_us / 1e6), 1)


def _print_report(target: _Target, report: Report) -> None:
    signed = target.signatures
    trial_banner(bool(target.trial))
    heading(f"Ledger {report.origin}: {OUTCOMES[report.outcome.name]}")
    rows = [("Level", _LEVELS[report.level]), ("Entries", f"{report.size}, root {report.root.hex()}")]
    rows.append(("Checked", target.depth + (f", from entry {report.checked_from}" if report.checked_from else "")))
    if signed is not None:
        rows.append(("Signatures", f"{signed.writers} of writers, {signed.people} of people"))
    rows += _still_holds(report) if report.level is None else _covered(report)
    if target.asked:
        rows += [
            (
                "Remembered by",
                f"{said.name} ({said.kind}): {said.size} entries" if said.heads else f"{said.name}: nothing",
            )
            for said in target.external
        ]
    pairs([*rows, ("Erased payloads", str(report.erased)), ("Trust file", target.source or "none given")])
    if report.findings:
        say(f"Findings ({len(report.findings)}):")
        for finding in report.findings:
            say(f"  - {finding.outcome.name.lower().replace('_', ' ')}: {clean(finding)}")
    for note in dict.fromkeys((*report.notes, *target.notes)):
        say(f"Note: {clean(note)}")


def _covered(report: Report) -> list[tuple[str, str]]:
    rows = [("Signed up to", f"entry {report.signed_size - 1}" if report.signed_size else "nothing")]
    if report.witnessed_size:
        rows.append(("Witnessed up to", f"entry {report.witnessed_size - 1}"))
    if report.anchored_size:
        at = f", at {report.anchored_at}" if report.anchored_at else ""
        rows.append(("Anchored up to", f"entry {report.anchored_size - 1}{at}"))
    if not report.uncovered:
        return [*rows, ("Exposure window", f"none: every entry is under a {_HEADS.get(report.level, 'signed')} head")]
    age = _age(report)
    since = f", the oldest of them {_lasting(age)} old" if age is not None else ""
    text = f"{report.uncovered} newest entries are under no {_HEADS.get(report.level, 'signed')} head yet{since}"
    return [*rows, ("Exposure window", f"{text} ({_CURE.get(report.level, _CURE['L1'])})")]


_HEADS: dict[str | None, str] = {"L3": "anchored", "L2": "witnessed"}
_CURE: dict[str | None, str] = {
    "L1": "run `cognify ledger checkpoint`",
    "L2": "run `cognify ledger checkpoint`",
    "L3": "run `cognify ledger anchor`",
}


def _lasting(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _still_holds(report: Report) -> list[tuple[str, str]]:
    """What can be claimed of a damaged ledger: a head says nothing about entries that are not those it signed."""
    if not report.intact_size:
        return [("Still holds", "nothing: no signed head fits the entries that are here")]
    last = report.intact_size - 1
    text = f"entries 0 to {last}: they are those of the signed head of {report.intact_size} entries"
    return [("Still holds", text), ("Do not rely on", f"anything from entry {last + 1} on")]
