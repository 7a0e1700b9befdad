"""`make demo`: the whole story on a real Dagster instance, from raw data to a released deployment behind signatures.

Nothing is simulated: the runs are launched through the webserver as the UI's buttons do, the daemon evaluates the approval
sensor, people sign with their own encrypted keys, and every check goes through the command line that users have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from cognify_dagster.documents.package.findings_evaluation import CLOSER_TITLE, INTERVAL_TITLE
from cognify_dagster.governance import directory, find_change, live, missing_for, policy_in_force
from cognify_dagster.records import Package, ReleaseRefused, VersionOpened
from cognify_dagster.workspace import Workspace
from examples.credit_default.instance import ROOT, Instance, interrupt_on_signals, prepare_home, running
from examples.credit_default.lock import BusyError, exclusive
from examples.credit_default.people import (
    BEN,
    CARL,
    DATASETS,
    DORA,
    MODEL,
    OLGA,
    PASSPHRASE,
    VERA,
    Actor,
    enrol,
    found,
    key_path,
    sign_gates,
)
from examples.credit_default.reset import SEAL_CERTIFICATE
from examples.credit_default.story import Progress, Story, runnable

TARGET = "production"
DATA = ("credit_clean", "loans_train", "loans_holdout")
BUILD = ("credit_model", "credit_eval", "credit_default_package")
SENSOR_TIMEOUT_S = 90

VERA_SAYS = (
    "Read: the review copy with evaluation, limits and evidence register. The recorded values keep to the limits, which I adopted "
    "myself. I have not reproduced them, and conceptual soundness and challenges are not written up: hence the conditions. Fit for "
    "the demonstrated use only."
)
CARL_SAYS = (
    "Scope (a demonstration, no decision about a real client), list of features and origin of the attributes are as stated. Approved on condition that the points of law "
    "that the package shows as open are closed in time."
)
DORA_SAYS = "The published file, cleaned and split by the recorded rules; the counts add up."
OLGA_SAYS = "Accepted for the demonstration of limit reviews and extensions on historical data; for no decision about a real client."

#: Carl's condition for a requirement that is open, with the days he gives for it.
CONDITIONS = {
    "fl.proxy": (
        60,
        "test how well the features predict sex, age band and marital status, and write the review of those that could "
        "stand in for them",
    ),
    "fl.aa.reasons": (
        30,
        "test and write down the reason codes; until then a credit officer decides every refusal that the score proposes "
        "from the client's file, and states the reasons",
    ),
    "fl.aa.notice": (
        30,
        "write the adverse action notice and who sends it; compliance writes it with the head of cards",
    ),
    "fl.records": (
        60,
        "write down how long applications and scores are kept, and where; adopt retention rules of at least 25 months",
    ),
}

#: Vera's conditions, by requirement (guidance) or by how a finding's title begins; the last one is no finding's.
VALIDATION_CONDITIONS = {
    "mrm.effective_challenge": (30, "write the record of challenges: what was questioned, the answers, what changed"),
    "mrm.val.concept": (60, "write the review of conceptual soundness, with a benchmark against logistic regression"),
    CLOSER_TITLE: (60, "train over several seeds, find out what moved these metrics, and record it"),
    INTERVAL_TITLE: (
        90,
        "repeat the comparison on more records or with merged groups; until then the value alone is no evidence that the groups "
        "fare alike",
    ),
}
REPRODUCE = (
    30,
    "reproduce the holdout metrics from the recorded snapshot and model file in a run of my own, and record it",
)


class DemoError(RuntimeError):
    """The story did not go as it must; the message says where."""


def next_version(workspace: Workspace) -> str:
    """Return v1, v2, …: the first number no version has."""
    taken = {item.record.version for item in workspace.read().all(VersionOpened, f"model/{MODEL}")}
    numbers = [int(match.group(1)) for name in taken if (match := re.fullmatch(r"v(\d+)", name))]
    return f"v{max(numbers, default=0) + 1}"


def run(
    story: Story,
    instance: Instance,
    assets: Sequence[str],
    *,
    partition: str | None,
    checks: Sequence[tuple[str, str]] = (),
) -> tuple[str, str, str]:
    """Launch assets as Ben would from the UI and wait, showing each step; return run id, status and what failed."""
    run_id = instance.launch(assets, partition=partition, checks=checks, tags={"user": "ben"})
    story.say(f"Run {run_id} is launched; its process takes a few seconds to start")
    return run_id, *follow(instance, run_id)


def follow(instance: Instance, run_id: str) -> tuple[str, str]:
    """Show each step of a run as it ends; return the run's status and what the first failed step said."""
    progress = Progress()
    try:
        return instance.wait(run_id, on_event=progress), progress.failure
    finally:
        progress.close()


def build(story: Story, instance: Instance, workspace: Workspace, version: str) -> None:
    """Snapshots, their approval, training, evaluation, package."""
    succeed(story, instance, DATA, partition=None, checks=[("loans_holdout", "no_overlap")])
    approve_data(story, workspace)
    instance.add_partition(f"{MODEL}_versions", version)
    checks = [("credit_eval", name) for name in ("performance", "fairness", "data_quality")]
    checks += [("credit_default_package", name) for name in ("sign_off", "coverage_sr26_2", "coverage_fair_lending")]
    succeed(story, instance, BUILD, partition=version, checks=checks)


def approve_data(story: Story, workspace: Workspace) -> None:
    """The data steward approves what changed in the data, where she has not approved it yet: nothing is trained on it before."""
    reading = workspace.read()
    people, policy = directory(reading), policy_in_force(reading).policy
    for name in DATASETS:
        change = find_change(reading, name)
        if not missing_for(reading, people, policy, name, change.entries[-1].seq, "high"):
            story.say(f"{name}: nothing is asked for that is not there; root {change.root[:16]}…")
            continue
        done = cognify(
            workspace, "dataset", "approve", name, "--key", str(key_path(workspace.home, DORA)), "--yes",
            "--comment", DORA_SAYS,
        )  # fmt: skip
        story.say(f"{DORA.name} ({DORA.title}) approves what changed in {name}: {_last_lines(done.stdout, 1)}")


def succeed(
    story: Story,
    instance: Instance,
    assets: Sequence[str],
    *,
    partition: str | None,
    checks: Sequence[tuple[str, str]],
) -> None:
    """Run assets that must succeed.

    Raises:
        DemoError: with what the failed step said.
    """
    run_id, status, failure = run(story, instance, assets, partition=partition, checks=checks)
    if status != "SUCCESS":
        raise DemoError(
            f"run {run_id} ended with {status}. {failure}\nAfter `make up` the run is at /runs/{run_id} below its address."
        )


def try_to_deploy(story: Story, instance: Instance, workspace: Workspace, version: str) -> None:
    """Press Materialize on the deployment asset before anybody signed."""
    run_id, status, _ = run(story, instance, ["credit_service"], partition=version)
    if status != "FAILURE":
        raise DemoError(f"the deployment of {version} was not refused: the run ended with {status}")
    refusals = [
        item for item in workspace.read().all(ReleaseRefused, f"model/{MODEL}@{version}") if item.record.run == run_id
    ]
    if len(refusals) != 1:
        raise DemoError(f"expected one refusal entry for the run, found {len(refusals)}")
    story.say(f"Refused: run {run_id} failed, ledger entry {refusals[0].seq} says why:")
    story.say("\n".join(f"- {reason.text} → {reason.resolved_by}" for reason in refusals[0].record.reasons))
    time.sleep(3)
    retries = instance.runs({"dagster/root_run_id": run_id})
    if [item for item in retries if item["runId"] != run_id]:
        raise DemoError("Dagster retried the refused deployment")
    story.say("Nothing was installed, and Dagster does not retry it: a refusal is no crash.")


def cognify(workspace: Workspace, *arguments: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the `cognify` command as a user would."""
    command = [
        sys.executable,
        "-m",
        "cognify_dagster.cli",
        "--workspace",
        str(workspace.config.path.parent),
        *arguments,
    ]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env=_environment(), check=False)
    if check is not None and result.returncode != check:
        raise DemoError(
            f"`cognify {' '.join(arguments)}` ended with {result.returncode}, not {check}:\n{result.stdout}{result.stderr}"
        )
    return result


def _environment() -> dict[str, str]:
    return {**os.environ, "COGNIFY_PASSPHRASE": PASSPHRASE, "COLUMNS": "110"}


def sign(
    story: Story,
    workspace: Workspace,
    actor: Actor,
    version: str,
    *,
    expect: int = 0,
    comments: str = "",
    conditions: Sequence[str] = (),
) -> None:
    """A person signs on the command line."""
    decision = [item for text in conditions for item in ("--condition", text)]
    if conditions:
        decision = ["--decision", "approve-with-conditions", *decision]
    result = cognify(
        workspace, "sign", MODEL, version, "--key", str(key_path(workspace.home, actor)), "--yes",
        "--comments", comments, *decision, check=expect,
    )  # fmt: skip
    if expect:
        story.say(f"{actor.name} is refused:")
        story.say(result.stderr or result.stdout)
    else:
        story.say(f"{actor.name} ({actor.title}): “{comments}”")
        for text in conditions:
            story.say(f"  Condition: {text}")
        story.say(_last_lines(result.stdout, 4))


def conditions_for(findings: Sequence[Mapping[str, Any]], today: date) -> list[str]:
    """Carl's conditions: one for each finding of severity high and each open requirement that he gives days for."""
    conditions = []
    for finding in findings:
        requirement = str(finding["title"]).partition(":")[0]
        if finding["severity"] != "high" and requirement not in CONDITIONS:
            continue
        days, text = CONDITIONS.get(requirement, (30, f"Resolve it: {finding['expected']}"))
        conditions.append(f"{finding['id']} ({requirement}): {text}; due={today + timedelta(days=days)}")
    return conditions


def validation_conditions(findings: Sequence[Mapping[str, Any]], today: date) -> list[str]:
    """Vera's conditions: what her validation still lacks, by finding, and that she has reproduced nothing yet."""
    conditions = []
    for finding in findings:
        for name, (days, text) in VALIDATION_CONDITIONS.items():
            if name in finding["requirements"] or str(finding["title"]).startswith(name):
                what = name if name in finding["requirements"] else finding["title"]
                conditions.append(f"{finding['id']} ({what}): {text}; due={today + timedelta(days=days)}")
    days, text = REPRODUCE
    return [*conditions, f"{text}; due={today + timedelta(days=days)}"]


def findings_of(workspace: Workspace, package: Package) -> list[dict[str, Any]]:
    """The findings that the frozen package names."""
    content = json.loads(workspace.evidence.get(package.package.digest))
    found: list[dict[str, Any]] = content["findings"]
    return found


def _last_lines(text: str, count: int) -> str:
    return "\n".join(line for line in text.rstrip().splitlines()[-count:])


def wait_until_live(story: Story, instance: Instance, workspace: Workspace, version: str) -> None:
    """The daemon's sensor notices the approvals and requests the release run."""
    story.say("Waiting for the sensor, which looks every 5 seconds …")
    followed = ""
    end = time.monotonic() + SENSOR_TIMEOUT_S
    while time.monotonic() < end:
        instance.check_alive()
        runs = instance.runs({"dagster/sensor_name": f"{MODEL}_approval_sensor", "dagster/partition": version})
        if runs and runs[0]["runId"] != followed:
            followed = runs[0]["runId"]
            story.say(f"The approval sensor launched run {followed}; its process takes a few seconds to start")
            follow(instance, followed)
        found = live(workspace.read(), MODEL, TARGET)
        if found is not None and found.record.version == version:
            story.say(
                f"{MODEL} {version} is live on {TARGET}{_superseding(found.record.supersedes)}: ledger entry {found.seq}"
            )
            story.say(f"Installed as {found.record.location}")
            return
        time.sleep(1)
    raise DemoError(
        f"{version} did not go live within {SENSOR_TIMEOUT_S} s; see {instance.log}, or `make up` and Automation"
    )


def _superseding(version: str | None) -> str:
    return f", superseding {version}" if version else ""


def score_one(story: Story, workspace: Workspace) -> None:
    """Score one record with the service, which loads only what the ledger says is live."""
    import pandas as pd

    from examples.credit_default.live import live_digest
    from examples.credit_default.model import FEATURES
    from examples.credit_default.scoring import ScoringService

    row = pd.read_parquet(workspace.home / "data" / "credit_default" / "loans_holdout.parquet").iloc[0]
    service = ScoringService(workspace.home / "service" / "credit_default", live_digest)
    score = service.score({name: float(row[name]) for name in FEATURES})
    told = score.to_json()
    story.say("The scoring service asked the ledger what is live, loaded just that file, and scored one record:")
    story.say(f"probability of default {told['probability_of_default']:.3f}, decision: {told['decision']}")


def export_and_verify(story: Story, workspace: Workspace, version: str) -> Path:
    """Export the bundle and verify it offline with the trust file."""
    bundle = workspace.home / "bundles" / f"{MODEL}-{version}"
    if bundle.exists():
        shutil.rmtree(bundle)
    bundle.parent.mkdir(exist_ok=True)
    cognify(workspace, "package", "export", MODEL, version, "-o", str(bundle))
    verdict = cognify(workspace, "verify", str(bundle), "--trust", str(workspace.config.trust))
    story.say(verdict.stdout)
    certificate = workspace.config.path.parent / SEAL_CERTIFICATE
    if certificate.exists():  # a workspace that an earlier release of the demo founded has none
        copy = bundle / "package" / "final-copy.pdf"
        story.say(cognify(workspace, "seal", "check", str(copy), "--certificate", str(certificate)).stdout)
    return bundle


def tamper_with_a_copy(story: Story, workspace: Workspace, version: str) -> None:
    """Change one byte in a copy of the ledger; the verifier names the entry."""
    copy = workspace.home / "tampered-copy.sqlite"  # kept, so that anybody can look at it and verify it again
    shutil.copyfile(workspace.config.ledger, copy)
    package = workspace.read().latest(Package, f"model/{MODEL}@{version}")
    if package is None:
        raise DemoError("the version has no package")
    db = sqlite3.connect(copy)
    with db:
        db.execute("DROP TRIGGER entry_no_update")
        data = bytearray(db.execute("SELECT bytes FROM entry WHERE seq = ?", (package.seq,)).fetchone()[0])
        position = data.index(b'"payload":"') + len(b'"payload":"')
        data[position] = ord("0") if data[position] != ord("0") else ord("1")
        db.execute("UPDATE entry SET bytes = ? WHERE seq = ?", (bytes(data), package.seq))
    db.close()
    result = cognify(
        workspace, "ledger", "verify", "--ledger", str(copy), "--trust", str(workspace.config.trust), check=1
    )
    if f"{package.seq}" not in result.stdout:
        raise DemoError(f"the verifier did not name entry {package.seq}:\n{result.stdout}")
    story.say(f"One byte of entry {package.seq} (the package) was changed in {_short(copy)}:")
    story.say(result.stdout)
    story.say(
        f"Exit code 1. Again: cognify ledger verify --ledger {_short(copy)} --trust {_short(workspace.config.trust)}"
    )
    story.say("The real ledger still holds:")
    story.say(cognify(workspace, "ledger", "verify").stdout)


def _short(path: Path) -> Path:
    """A path as seen from the demo's folder."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


GO_ON = """\
What the ledger has recorded stays; nothing has to be cleaned up.
  make demo        goes on: it skips what exists, and builds the next version
  make up          shows the runs so far in Dagster
  make demo-reset  removes the demo's ledger and keys, to start over"""


def main() -> int:
    """Tell the story; return 0 if every part of it happened."""
    interrupt_on_signals()
    try:
        with exclusive(ROOT, "make demo"):
            tell()
    except BusyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nThe demo was interrupted. {GO_ON}", file=sys.stderr)
        return 130
    except Exception as error:  # whatever it is, the reader needs to know how to go on
        if os.environ.get("COGNIFY_DEBUG"):
            traceback.print_exc()
        name = "" if isinstance(error, (RuntimeError, ValueError)) else f"{type(error).__name__}: "
        print(f"\nThe demo stopped: {runnable(f'{name}{error}', ROOT)}\n\n{GO_ON}", file=sys.stderr)
        log = ROOT / ".cognify" / "dagster_home" / "dagster-dev.log"
        if log.exists():
            print(f"Dagster's log: {_short(log)}. COGNIFY_DEBUG=1 shows where in the code it stopped.", file=sys.stderr)
        return 1
    return 0


def tell() -> None:
    """Tell the story."""
    story = Story(ROOT)
    workspace = found(story)
    enrol(story, workspace)
    sign_gates(story, workspace)
    version = next_version(workspace)
    story.step("Dagster starts: webserver, daemon and code location")
    story.say("It takes 10 to 30 seconds …")
    with running(prepare_home(workspace.home)) as instance:
        story.say(f"{instance.url} until this demo ends (log: {_short(instance.log)})")
        story.step(f"Data, training, evaluation and package of {version}")
        build(story, instance, workspace, version)
        package = workspace.read().latest(Package, f"model/{MODEL}@{version}")
        if package is None:
            raise DemoError("no package was recorded")
        findings = findings_of(workspace, package.record)
        pdf = next((workspace.home / "packages" / MODEL / version).glob("*-review-copy.pdf"))
        story.say(f"Package: ledger entry {package.seq}, digest {package.record.package.digest}")
        story.say(f"Review copy: {_short(pdf)}")
        story.say("It names what is still open, of high severity:")
        story.say("\n".join(f"- {f['id']} {f['title']}: {f['observed']}" for f in findings if f["severity"] == "high"))
        story.say("All findings: " + "; ".join(f"{f['id']} {f['title']} ({f['severity']})" for f in findings))
        story.step("Somebody presses Materialize on the deployment before anybody signed")
        try_to_deploy(story, instance, workspace, version)
        story.step("The builder tries to approve his own model")
        sign(story, workspace, BEN, version, expect=1)
        story.step("Validator, compliance officer and business owner sign with their own keys")
        sign(
            story,
            workspace,
            VERA,
            version,
            comments=VERA_SAYS,
            conditions=validation_conditions(findings, date.today()),
        )
        sign(story, workspace, CARL, version, comments=CARL_SAYS, conditions=conditions_for(findings, date.today()))
        sign(story, workspace, OLGA, version, comments=OLGA_SAYS)
        story.step("The approval sensor releases the version")
        wait_until_live(story, instance, workspace, version)
        score_one(story, workspace)
    story.step("The bundle is exported and verified offline")
    bundle = export_and_verify(story, workspace, version)
    story.step("One byte is changed in a copy of the ledger")
    tamper_with_a_copy(story, workspace, version)
    story.step(f"Done in {story.seconds:.0f} s")
    story.say(f"PDF         {_short(bundle / 'package' / 'final-copy.pdf')}")
    story.say(f"Bundle      {_short(bundle)}")
    story.say(f"Ledger      {_short(workspace.config.ledger)}")
    story.say(f"Status      cognify status {MODEL} {version}")
    story.say("UI          make up")
    story.say(f"Again       make demo        (makes v{int(version[1:]) + 1}, which supersedes {version})")
    story.say("Start over  make demo-reset")
    by_hand(story, workspace)


def by_hand(story: Story, workspace: Workspace) -> None:
    """Say how to sign as one of the demo's people."""
    story.say(
        "Sign by hand, after materializing credit_model, credit_eval and credit_default_package of a new version in the UI:"
    )
    for actor in (VERA, CARL, OLGA):
        story.say(f"  cognify sign {MODEL} VERSION --key {_short(key_path(workspace.home, actor))}    # {actor.name}")
    story.say(f"  They sign in this order. The pass phrase of each: {PASSPHRASE}")
    story.say("  (Keys and pass phrase are made for the demo, and worth nothing elsewhere.)")


if __name__ == "__main__":
    raise SystemExit(main())
