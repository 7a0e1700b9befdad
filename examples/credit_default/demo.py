"""`make demo`: the whole story on a real Dagster instance, from raw data to a released deployment behind signatures.

Nothing is simulated: the runs are launched through the webserver as the UI's buttons do, the daemon evaluates the approval
sensor, people sign with their own encrypted keys, and every check goes through the command line that users have.
"""

from __future__ import annotations

import getpass
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.evaluation import load_gate_set
from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Founder,
    PersonalKey,
    adopt_gate_set,
    create_key,
    enrol_person,
    found_workspace,
    live,
    parse_policy,
    unlock_key,
)
from cognify_dagster.ledger import LedgerError
from cognify_dagster.records import GateRule, GateSetAdopted, Package, Person, ReleaseRefused, VersionOpened
from cognify_dagster.training import capture_code
from cognify_dagster.workspace import Workspace, WorkspaceError
from examples.credit_default.instance import ROOT, Instance, InstanceError, prepare_home, running

ORIGIN = "northbank.example/credit-risk/ledger"
MODEL = "credit_default"
TARGET = "production"
DATA = ("credit_clean", "loans_train", "loans_holdout")
BUILD = ("credit_model", "credit_eval", "credit_default_package")
GATES = Path(__file__).with_name("gates.yaml")
SENSOR_TIMEOUT_S = 90

# The demo stands for several people at one keyboard, so it holds their pass phrases. Real people type their own.
PASSPHRASE = "only for the demonstration"


@dataclass(frozen=True)
class Actor:
    """A person of the story."""

    person: str
    name: str
    title: str
    roles: tuple[str, ...]


ADA = Actor("person/ada", "Ada Okafor", "Head of Model Governance", ("workspace_admin",))
FINN = Actor("person/finn", "Finn Larsen", "Chief Risk Officer", ("workspace_admin",))
BEN = Actor("person/ben", "Ben Ito", "Data Scientist", ("data_scientist", "ml_engineer"))
VERA = Actor("person/vera", "Vera Santos", "Model Validator", ("model_validator",))
CARL = Actor("person/carl", "Carl Weiss", "Compliance Officer", ("compliance_officer",))
OLGA = Actor("person/olga", "Olga Petrova", "Head of Cards", ("business_owner",))


class DemoError(RuntimeError):
    """The story did not go as it must; the message says where."""


class Story:
    """Prints numbered steps with the time they took."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._number = 0

    def step(self, text: str) -> None:
        """Begin a step."""
        self._number += 1
        print(f"\n[{time.monotonic() - self._start:5.1f} s] {self._number}. {text}", flush=True)

    def say(self, text: str) -> None:
        """Print an indented line or lines."""
        for line in text.rstrip().splitlines():
            print(f"          {line}", flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start


def key_path(workspace_home: Path, actor: Actor) -> Path:
    """Where the demo keeps a person's encrypted key."""
    return workspace_home / "people" / f"{actor.person.split('/')[1]}.key.json"


def unlock(workspace: Workspace, actor: Actor) -> PersonalKey:
    """Unlock a person's key."""
    return unlock_key(key_path(workspace.home, actor), PASSPHRASE)


def found(story: Story) -> Workspace:
    """Open the demo's workspace, founding it first if there is none."""
    try:
        workspace = Workspace.open(ROOT)
        story.say(f"The workspace exists already: {workspace.config.path}")
        return workspace
    except WorkspaceError:
        pass
    import yaml

    staging = ROOT / ".cognify-demo-keys"
    shutil.rmtree(staging, ignore_errors=True)
    founders = []
    for actor in (ADA, FINN):
        key = create_key(staging / f"{actor.person.split('/')[1]}.key.json", actor.person, PASSPHRASE)
        founders.append(Founder(key, actor.name, actor.roles, actor.title))
    workspace = found_workspace(
        ROOT,
        origin=ORIGIN,
        founders=founders,
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
        recovery_threshold=2,
    )
    for actor in (ADA, FINN):
        target = key_path(workspace.home, actor)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.move(staging / target.name, target)
    shutil.rmtree(staging, ignore_errors=True)
    story.say(f"{ADA.name} and {FINN.name} signed the genesis entry of {ORIGIN}")
    story.say(f"Trust file for auditors, to be kept apart from the ledger: {workspace.config.trust}")
    return workspace


def enrol(story: Story, workspace: Workspace) -> None:
    """Enrol builder, validator, compliance officer and business owner; Ada vouches for each."""
    voucher = unlock(workspace, ADA)
    aliases = ["user:ben", f"os:{getpass.getuser()}", "schedule:credit_weekly_retraining"]
    aliases += [f"git:{author}" for author in capture_code(Path(__file__).parent).authors]
    for actor in (BEN, VERA, CARL, OLGA):
        path = key_path(workspace.home, actor)
        key = unlock(workspace, actor) if path.exists() else create_key(path, actor.person, PASSPHRASE)
        person = Person(
            person=actor.person,
            name=actor.name,
            title=actor.title,
            roles=actor.roles,
            aliases=tuple(aliases) if actor is BEN else (),
            keys=(key.public,),
        )
        enrol_person(workspace, person, voucher)
        story.say(f"{actor.name}, {actor.title}: {', '.join(actor.roles)}; key {key.key_id}, encrypted in {path}")
    story.say(f"{BEN.name} is the builder: runs and commits here are attributed to him, so he cannot approve them.")


def sign_gates(story: Story, workspace: Workspace) -> None:
    """Vera adopts the thresholds before any result exists."""
    gates = load_gate_set(GATES)
    rules = [GateRule.model_validate(gate.model_dump()) for gate in gates.gates]
    receipt = adopt_gate_set(workspace, gates.name, MODEL, rules, unlock(workspace, VERA))
    story.say(f"{VERA.name} signed {len(rules)} thresholds as gate set {gates.name!r}: ledger entry {receipt.seq}")


def next_version(workspace: Workspace) -> str:
    """Return v1, v2, …: the first number no version has."""
    taken = {item.record.version for item in workspace.read().all(VersionOpened, f"model/{MODEL}")}
    numbers = [int(match.group(1)) for name in taken if (match := re.fullmatch(r"v(\d+)", name))]
    return f"v{max(numbers, default=0) + 1}"


def run(
    instance: Instance, assets: Sequence[str], *, partition: str | None, checks: Sequence[tuple[str, str]] = ()
) -> str:
    """Launch assets as Ben would from the UI and wait; return the status."""
    run_id = instance.launch(assets, partition=partition, checks=checks, tags={"user": "ben"})
    return instance.wait(run_id)


def build(story: Story, instance: Instance, version: str) -> None:
    """Snapshots, training, evaluation, package."""
    status = run(instance, DATA, partition=None, checks=[("loans_holdout", "no_overlap")])
    if status != "SUCCESS":
        raise DemoError(f"the data run ended with {status}; look at {instance.url}/runs")
    story.say("credit_clean → loans_train, loans_holdout: snapshots recorded, no record on both sides")
    instance.add_partition(f"{MODEL}_versions", version)
    checks = [("credit_eval", name) for name in ("performance", "fairness", "data_quality")]
    checks.append(("credit_default_package", "sign_off"))
    status = run(instance, BUILD, partition=version, checks=checks)
    if status != "SUCCESS":
        raise DemoError(f"the training run ended with {status}; look at {instance.url}/runs")


def try_to_deploy(story: Story, instance: Instance, workspace: Workspace, version: str) -> None:
    """Press Materialize on the deployment asset before anybody signed."""
    run_id = instance.launch(["credit_service"], partition=version, tags={"user": "ben"})
    status = instance.wait(run_id)
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
    story.say("Not retried, although the instance retries failed runs twice.")


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
    import os

    return {**os.environ, "COGNIFY_PASSPHRASE": PASSPHRASE, "COLUMNS": "110"}


def sign(
    story: Story, workspace: Workspace, actor: Actor, version: str, *, expect: int = 0, comments: str = ""
) -> None:
    """A person signs on the command line."""
    result = cognify(
        workspace, "sign", MODEL, version, "--key", str(key_path(workspace.home, actor)), "--yes",
        "--comments", comments, check=expect,
    )  # fmt: skip
    if expect:
        story.say(f"{actor.name} is refused:")
        story.say(result.stderr or result.stdout)
    else:
        story.say(f"{actor.name} ({actor.title}) signed.")
        story.say(_last_lines(result.stdout, 4))


def _last_lines(text: str, count: int) -> str:
    return "\n".join(line for line in text.rstrip().splitlines()[-count:])


def wait_until_live(story: Story, instance: Instance, workspace: Workspace, version: str) -> None:
    """The daemon's sensor notices the approvals and requests the release run."""
    end = time.monotonic() + SENSOR_TIMEOUT_S
    while time.monotonic() < end:
        instance.check_alive()
        found = live(workspace.read(), MODEL, TARGET)
        if found is not None and found.record.version == version:
            runs = instance.runs({"dagster/sensor_name": f"{MODEL}_approval_sensor", "dagster/partition": version})
            story.say(f"The approval sensor launched run {runs[0]['runId'] if runs else '?'}; entry {found.seq}:")
            story.say(f"{MODEL} {version} is live on {TARGET}" + _superseding(found.record.supersedes))
            story.say(f"Installed as {found.record.location}")
            return
        time.sleep(1)
    raise DemoError(f"{version} did not go live within {SENSOR_TIMEOUT_S} s; look at {instance.url}/automation")


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
    return bundle


def tamper_with_a_copy(story: Story, workspace: Workspace, version: str) -> None:
    """Change one byte in a copy of the ledger; the verifier names the entry."""
    copy = workspace.home / "tampered-copy.sqlite"
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
    story.say(f"One byte of entry {package.seq} (the package) was changed in {copy}:")
    story.say(result.stdout)
    story.say("Exit code 1. The real ledger still holds:")
    story.say(cognify(workspace, "ledger", "verify").stdout)
    copy.unlink()


def main() -> int:
    """Tell the story; return 0 if every part of it happened."""
    try:
        tell()
    except (DemoError, InstanceError, LedgerError, WorkspaceError) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 0


def tell() -> None:
    """Tell the story."""
    story = Story()
    story.step("Genesis: two founders open the ledger")
    workspace = found(story)
    first = not workspace.read().all(GateSetAdopted)
    if first:
        story.step("People are enrolled; a second person vouches for each")
        enrol(story, workspace)
        story.step("Thresholds are signed before any result exists")
        sign_gates(story, workspace)
    version = next_version(workspace)
    story.step("Dagster starts: webserver, daemon and code location")
    with running(prepare_home(workspace.home)) as instance:
        story.say(f"{instance.url}  (log: {instance.log})")
        story.step(f"Data, training, evaluation and package of {version}")
        build(story, instance, version)
        package = workspace.read().latest(Package, f"model/{MODEL}@{version}")
        if package is None:
            raise DemoError("no package was recorded")
        pdf = next((workspace.home / "packages" / MODEL / version).glob("*-review-copy.pdf"))
        story.say(f"Package entry {package.seq}, digest {package.record.package.digest}")
        story.say(f"Review copy: {pdf}")
        story.step("Somebody presses Materialize on the deployment before anybody signed")
        try_to_deploy(story, instance, workspace, version)
        story.step("The builder tries to approve his own model")
        sign(story, workspace, BEN, version, expect=1)
        story.step("Validator, compliance officer and business owner sign with their own keys")
        sign(story, workspace, VERA, version, comments="Reproduced the holdout metrics; group gaps are small.")
        sign(
            story,
            workspace,
            CARL,
            version,
            comments="Fair lending screen read; adverse action reasons still to be written.",
        )
        sign(story, workspace, OLGA, version, comments="For limit reviews only.")
        story.step("The approval sensor releases the version")
        wait_until_live(story, instance, workspace, version)
        score_one(story, workspace)
    story.step("The bundle is exported and verified offline")
    bundle = export_and_verify(story, workspace, version)
    story.step("One byte is changed in a copy of the ledger")
    tamper_with_a_copy(story, workspace, version)
    story.step(f"Done in {story.seconds:.0f} s")
    story.say(f"PDF       {bundle / 'package' / 'final-copy.pdf'}")
    story.say(f"Bundle    {bundle}")
    story.say(f"Ledger    {workspace.config.ledger}")
    story.say(f"Status    cognify status {MODEL} {version}")
    story.say("UI        make up")
    story.say(f"Again     make demo   (makes v{int(version[1:]) + 1}, which supersedes {version})")
    story.say("Start over  make demo-reset")


if __name__ == "__main__":
    raise SystemExit(main())
