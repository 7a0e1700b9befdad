"""`cognify status`: what a model's versions are, what one of them still needs, and whether what is live still stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import BLOCKED, OK, finish
from cognify_dagster.cli.inputs import MODEL, TARGET, VERSION, json_option, open_workspace
from cognify_dagster.cli.moments import read_at
from cognify_dagster.cli.output import as_json, moment

if TYPE_CHECKING:
    from cognify_dagster.governance import Classification, Decision, Finding, LiveState, Reason
    from cognify_dagster.records import DeploymentCompleted
    from cognify_dagster.workspace import Reading, Recorded

_AFTER_RELEASE = "already_released"


@dataclass(frozen=True)
class Standing:
    """One version's state on a target in a word, and what else blocks it. `live` is set where this version is live.

    `to_resolve` are the open findings that block it or show an unattested event.
    """

    state: str
    decision: Decision
    blocking: tuple[Reason, ...]
    superseded_by: Recorded[DeploymentCompleted] | None = None
    live: LiveState | None = None
    to_resolve: frozenset[int] = frozenset()

    @property
    def superseded(self) -> str:
        """By what, when and where it was superseded; empty if it was not."""
        if self.superseded_by is None:
            return ""
        by = self.superseded_by
        return f"superseded by {by.record.version} at {moment(by.time_us)} (entry {by.seq})"

    @property
    def next(self) -> str:
        """One sentence: what happens or has to happen next."""
        if self.state == "superseded":
            return self.superseded
        if self.state in ("suspended", "unattested") and self.live is not None:
            told = [*(reason.text for reason in self.live.reasons), *self.live.notes]
            return told[0] if told else ""
        if self.state == "live":
            return self.blocking[0].text if self.blocking else ""
        if self.state in ("ready", "releasing"):
            return f"the approval sensor releases it to {self.decision.target}"
        stage = self.decision.next_stage
        open_codes = {f"stage_{item.name}" for item in self.decision.stages}
        first = next((reason for reason in self.blocking if reason.code not in open_codes), None)
        if first is None and stage is not None and stage.waiting_for:
            return f"{stage.stage.title or stage.name} waits for {' or '.join(stage.waiting_for)}"
        reason = first or (self.blocking[0] if self.blocking else None)
        return reason.text if reason else ""

    @property
    def holds(self) -> bool:
        """Whether the version is live or may be released, and nothing speaks against it."""
        return self.state in ("live", "ready", "releasing") and not self.blocking


@dataclass(frozen=True)
class Overview:
    """A model with its versions on one target, what is live on every target, and its findings that are not closed."""

    model: str
    target: str
    at: datetime
    classified: Classification
    versions: dict[str, Standing]
    live: tuple[LiveState, ...]
    findings: tuple[Finding, ...]
    unattested: tuple[Finding, ...]
    blocking: tuple[Finding, ...]
    problems: tuple[tuple[int, str], ...]

    @property
    def alarms(self) -> list[str]:
        """What makes the exit code 1."""
        told = [
            f"version {item.version} on {item.target} is suspended"
            for item in self.live
            if item.standing == "suspended"
        ]
        told += [
            f"version {item.version} on {item.target} is unattested"
            for item in self.live
            if item.standing == "unattested"
        ]
        told += [f"finding {item.seq} is open and holds releases back" for item in self.blocking]
        told += [
            f"finding {item.seq} shows an unattested event" for item in self.unattested if item not in self.blocking
        ]
        return told


@click.command(cls=Command, name="status")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option(
    "--target", type=TARGET, help="The target asked about; production, and without VERSION what is live on every one."
)
@click.option("--at", metavar="UTC", help="Answer for this moment, with the entries, policy and keys of then.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, model: str, version: str | None, target: str | None, at: str | None, json_: bool
) -> None:
    """Show all versions of a model and what is live, or one version stage by stage: what is missing, and who can give it.

    Exit code 1 without a version: what is live is suspended or unattested, a finding that blocks is open, or an unattested event was
    found. With a version it is 0 if it is live or may be released and nothing speaks against it, else 1.

    \b
    Example:
      cognify status credit_default
      cognify status credit_default 3 --target production --json
      cognify status credit_default --at 2026-11-01
    """
    from cognify_dagster.cli import status_json, status_show

    workspace = open_workspace(ctx)
    reading, when = read_at(workspace, at)
    versions = _versions(reading, model)
    if version is None:
        found = overview(reading, model, versions, target, when, workspace.config.frameworks)
        if json_:
            as_json(status_json.model_json(reading, found, at))
        else:
            status_show.show_model(workspace, reading, found, at)
        finish(BLOCKED if found.alarms else OK)
    if version not in versions and f"model/{model}@{version}" not in reading.view.heads:
        listed = f"there are {', '.join(versions)}" if versions else "none was opened yet"
        raise click.ClickException(f"{model} has no version {version!r}{_then(at)}; {listed}")
    unattested = _unattested(reading, model, version, when)
    one = standing(reading, model, version, target or "production", when, workspace.config.frameworks)
    one = replace(one, to_resolve=unattested | _blocking(reading, one.decision))
    if json_:
        as_json(status_json.version_json(reading, one, at))
    else:
        status_show.show_version(workspace, reading, one, at)
    finish(OK if one.holds and not unattested else BLOCKED)


def _then(at: str | None) -> str:
    return f" at {at}" if at else ""


def _versions(reading: Reading, model: str) -> list[str]:
    """Return the versions of a model in the order in which they appeared.

    Raises:
        click.ClickException: if there is no such model.
    """
    from cognify_dagster.records import ModelAdopted, VersionOpened
    from cognify_dagster.workspace import unknown_model

    opened = [(item.seq, item.record.version) for item in reading.all(VersionOpened, f"model/{model}")]
    adopted = [(item.seq, item.record.version) for item in reading.all(ModelAdopted, f"model/{model}")]
    missing = unknown_model(reading, model)
    if not opened and not adopted and missing:
        raise click.ClickException(missing)
    return list(dict.fromkeys(version for _, version in sorted([*opened, *adopted])))


def standing(
    reading: Reading, model: str, version: str, target: str, at: datetime, folder: Path | None = None
) -> Standing:
    """Work out the state of a version on a target at a moment; `folder` holds the organisation's own framework files."""
    from cognify_dagster.documents.coverage.blocking import held_back
    from cognify_dagster.governance import decide, live_state
    from cognify_dagster.governance.oversight.conditions import ENFORCED
    from cognify_dagster.governance.release.history import completions

    # what the deployment enforces only its code says: it is told as a condition, and refused by the deployment if it does not
    decision = decide(reading, model, version, target, at, enforces=ENFORCED)
    current = live_state(reading, model, target, at)
    history = completions(reading, model, target)
    own = [item for item in history if item.record.version == version]
    later = next((item for item in history if own and item.seq > own[-1].seq), None)
    blocking = tuple(reason for reason in decision.reasons if reason.code != _AFTER_RELEASE)
    if current.version == version:
        return Standing(current.standing, decision, blocking, None, current)
    held = held_back(reading, decision, folder) if decision.released else ()
    if held:
        return Standing("blocked", decision, held)
    if decision.released:
        return Standing("releasing" if decision.grant is not None else "ready", decision, blocking)
    if own:
        return Standing("superseded", decision, blocking, later)
    return Standing("blocked", decision, blocking)


def overview(
    reading: Reading, model: str, versions: list[str], target: str | None, at: datetime, folder: Path | None = None
) -> Overview:
    """Work out the state of a model. Without a target everything that is live counts; with one only what is live there."""
    from cognify_dagster.cli.finding import findings_of_model
    from cognify_dagster.governance import classification_of, directory, live_state, policy_in_force
    from cognify_dagster.governance.oversight.reviews import reviews_of
    from cognify_dagster.governance.release.history import said_again
    from cognify_dagster.records import DeploymentCompleted, ModelAdopted, Reconciliation

    people, policy = directory(reading), policy_in_force(reading).policy
    chosen = target or "production"
    targets = {chosen}
    if target is None:
        targets |= {item.record.target for item in reading.all(DeploymentCompleted, f"model/{model}")}
        targets |= {item.record.target for item in reading.all(ModelAdopted, f"model/{model}")}
    found, problems = findings_of_model(reading, model, None, at)
    classified = classification_of(reading, people, policy, model)
    problems += classified.problems
    problems += reviews_of(reading, people, policy, model).problems
    problems += [line for version in versions for line in said_again(reading, model, version, chosen)]
    left = tuple(item for item in found if item.closed_seq is None)
    events = {item.seq for item in reading.all(Reconciliation, f"model/{model}")}
    return Overview(
        model,
        chosen,
        at,
        classified,
        {item: standing(reading, model, item, chosen, at, folder) for item in versions},
        tuple(live_state(reading, model, name, at) for name in sorted(targets)),
        left,
        tuple(item for item in left if item.open and item.seq in events),
        tuple(item for item in left if item.open and item.severity in policy.findings.blocking),
        tuple(problems),
    )


def _blocking(reading: Reading, decision: Decision) -> frozenset[int]:
    from cognify_dagster.governance import policy_in_force

    severities = policy_in_force(reading).policy.findings.blocking
    return frozenset(item.seq for item in decision.findings if item.open and item.severity in severities)


def _unattested(reading: Reading, model: str, version: str, at: datetime) -> frozenset[int]:
    """Return the unattested events about the version that are unresolved, whatever severities the policy lets block."""
    from cognify_dagster.cli.finding import findings_of_model
    from cognify_dagster.records import Reconciliation

    events = {item.seq for item in reading.all(Reconciliation, f"model/{model}")}
    found, _ = findings_of_model(reading, model, version, at)
    return frozenset(item.seq for item in found if item.open and item.seq in events)
