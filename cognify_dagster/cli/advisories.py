"""`cognify advisories`: what the security gate judges by, and judging by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import IN_FILE, MODEL, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.evaluation.security import Scan
    from cognify_dagster.evaluation.snapshots import SnapshotInfo
    from cognify_dagster.records import GateOutcome

_CROSS_CHECK_SECONDS = 300


@click.group(cls=Group, name="advisories")
def command() -> None:
    """Security advisories in the OSV format: the gate `security` judges by them, offline.

    \b
    Example:
      cognify advisories import all.zip
      cognify advisories scan credit_default 3
    """


@command.command("import")
@click.argument("file", type=IN_FILE)
@click.option("--allow-older", is_flag=True, help="Also one that knows less than the one in use.")
@json_option
@click.pass_context
def import_(ctx: click.Context, file: Path, allow_older: bool, json_: bool) -> None:
    """Check a file of advisories and judge by it from now on.

    FILE is the zip that OSV exports for PyPI (all.zip), or JSON lines of OSV advisories. It is copied into the workspace's
    home; its digest stands in every gate result.

    \b
    Example:
      cognify advisories import all.zip
    """
    from cognify_dagster.evaluation import AdvisoryError
    from cognify_dagster.evaluation.snapshots import import_snapshot

    workspace = open_workspace(ctx)
    try:
        info = import_snapshot(workspace.home, file, allow_older=allow_older)
    except AdvisoryError as error:
        raise Failure(clean(error), UNREADABLE) from error
    if json_:
        as_json(info.as_json())
        return
    say("Imported; the gate `security` judges by these advisories from now on.")
    _describe(info)


@command.command("show")
@json_option
@click.pass_context
def show(ctx: click.Context, json_: bool) -> None:
    """Show which advisories the gate judges by, and how old they are.

    \b
    Example:
      cognify advisories show
    """
    from cognify_dagster.evaluation import AdvisoryError
    from cognify_dagster.evaluation.snapshots import OBTAIN, current_info, snapshot_of

    workspace = open_workspace(ctx)
    try:
        imported = current_info(workspace.home) is not None
        info = snapshot_of(workspace.home, ()).info
    except AdvisoryError as error:
        raise Failure(clean(error), UNREADABLE) from error
    if json_:
        as_json({**info.as_json(), "imported": imported, "age_days": info.age_days(_today())})
        return
    say(
        "Imported advisories."
        if imported
        else "None were imported: the shipped sample is in use, and protects of little."
    )
    _describe(info)
    if info.partial:
        say(f"To get all: {OBTAIN}.")


@command.command("scan")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--requirements", type=IN_FILE, metavar="FILE", help="Judge the pins of this file too.")
@click.option(
    "--record", is_flag=True, help="Append the result as the version's security gate (then rebuild the package)."
)
@click.option(
    "--pip-audit", "cross_check", is_flag=True, help="Ask pip-audit too, if it is installed. It needs a network."
)
@json_option
@click.pass_context
def scan(
    ctx: click.Context,
    model: str,
    version: str,
    requirements: Path | None,
    record: bool,
    cross_check: bool,
    json_: bool,
) -> None:
    """Judge the packages that a version was trained with, by the gate set of its evaluation.

    Without --record nothing is written. Exit code 1: the gate fails.

    \b
    Example:
      cognify advisories scan credit_default 3
      cognify advisories scan credit_default 3 --record
    """
    from cognify_dagster.evaluation.security import judge_scan
    from cognify_dagster.evaluation.security_recording import record_security, rules_of, scan_version
    from cognify_dagster.records import Evaluation, TrainingRun

    workspace = open_workspace(ctx)
    reading = workspace.read()
    subject = f"model/{model}@{version}"
    training, evaluation = reading.latest(TrainingRun, subject), reading.latest(Evaluation, subject)
    if training is None or evaluation is None or evaluation.record.training_seq != training.seq:
        raise Failure(
            f"{model} {version} has no sealed training run with an evaluation of it; train and evaluate it", BLOCKED
        )
    now = datetime.now(timezone.utc)
    found = scan_version(workspace, training, now=now, requirements=requirements)
    outcomes: Sequence[GateOutcome] = judge_scan(found, rules_of(reading, evaluation), now)
    seq = None
    if record:
        written = record_security(workspace, evaluation, training, now=now, requirements=requirements, again=True)
        outcomes, seq = written.record.outcomes, written.seq
    passed = all(item.passed for item in outcomes)
    other = _pip_audit(found) if cross_check else None
    if json_:
        as_json(_as_json(found, outcomes, passed, seq, other))
    else:
        trial_banner(reading.trial)
        _print(found, outcomes)
        say(
            f"Gate security: {'pass' if passed else 'fail'}" + (f", recorded as entry {seq}" if seq is not None else "")
        )
        for line in other or ():
            say(f"pip-audit: {clean(line)}")
    if not passed:
        finish(BLOCKED)


def _as_json(
    found: Scan, outcomes: Sequence[GateOutcome], passed: bool, seq: int | None, other: list[str] | None
) -> dict[str, Any]:
    return {
        "passed": passed,
        "entry": seq,
        "snapshot": found.snapshot.as_json() if found.snapshot else None,
        "findings": [item.as_json() for item in found.findings],
        "outcomes": [item.model_dump(mode="json") for item in outcomes],
        "pip_audit": other,
    }


def _print(found: Scan, outcomes: Sequence[GateOutcome]) -> None:
    if found.findings:
        rows = [
            (f"{item.package} {item.version}", item.name, item.severity, item.fixed_in or "–", item.summary)
            for item in found.findings
        ]
        table(("package", "vulnerability", "severity", "fixed in", "what"), rows)
    rows = [(item.id, item.status, item.message) for item in outcomes]  # type: ignore[misc]
    table(("gate", "result", "why"), rows)


def _describe(info: SnapshotInfo) -> None:
    pairs(
        [
            ("Of", f"{info.date}, {info.age_days(_today())} days old"),
            ("Advisories", info.advisories),
            ("Source", info.source),
            ("Digest", info.digest),
            ("Partial", info.why_partial or "no"),
        ]
    )


def _today() -> Any:
    return datetime.now(timezone.utc).date()


def _pip_audit(found: Scan) -> list[str]:
    """What pip-audit finds that the advisories do not, one line each. It only informs: the gate never depends on a network."""
    program = shutil.which("pip-audit")
    if program is None:
        return ["not installed; nothing was compared"]
    versions = sorted({f"{pin.name}=={pin.version}\n" for pin in found.pins})
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "requirements.txt"
        listing.write_text("".join(versions), encoding="utf-8")
        arguments = [
            program,
            "-r",
            str(listing),
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        try:
            done = subprocess.run(arguments, capture_output=True, timeout=_CROSS_CHECK_SECONDS, check=False)
            listed = json.loads(done.stdout)["dependencies"]
            theirs = {
                (str(item["name"]), str(vuln["id"]), *map(str, vuln.get("aliases") or ()))
                for item in listed
                for vuln in item.get("vulns") or ()
            }
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
            return [f"gave no readable answer ({type(error).__name__}); nothing was compared"]
    known = {name for item in found.findings for name in item.ids}
    missed = sorted(item for item in theirs if not known & set(item[1:]))
    return [f"{name}: {', '.join(ids)} is not among the advisories used here" for name, *ids in missed] or [
        f"{len(theirs)} vulnerabilities, all of them found here too"
    ]
