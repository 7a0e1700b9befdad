"""`cognify status`: what a model's versions are, and what one of them still needs."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import BLOCKED, OK, finish
from cognify_dagster.cli.inputs import MODEL, TARGET, VERSION, json_option, open_workspace, program
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import Decision, StageState
    from cognify_dagster.records import DeploymentCompleted
    from cognify_dagster.workspace import Reading, Recorded, Workspace

_AFTER_RELEASE = "already_released"


@dataclass(frozen=True)
class Standing:
    """One version's state in a word, and what else blocks it."""

    state: str
    decision: Decision
    blocking: tuple[Any, ...]
    superseded_by: Recorded[DeploymentCompleted] | None = None

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


@click.command(cls=Command, name="status")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@click.option("--target", type=TARGET, default="production", show_default=True)
@json_option
@click.pass_context
def command(ctx: click.Context, model: str, version: str | None, target: str, json_: bool) -> None:
    """Show all versions of a model, or one version stage by stage.

    With a version the exit code is 0 if it is live or may be released, and 1 if anything blocks it or it is superseded.

    \b
    Example:
      cognify status credit_default
      cognify status credit_default 3 --target production --json
    """
    from cognify_dagster.records import ModelRegistered, VersionOpened

    workspace = open_workspace(ctx)
    reading = workspace.read()
    versions = list(dict.fromkeys(item.record.version for item in reading.all(VersionOpened, f"model/{model}")))
    registered = reading.latest(ModelRegistered, f"model/{model}")
    if registered is None and not versions:
        known = sorted({item.record.model for item in reading.all(ModelRegistered)})
        listed = f"; it has {', '.join(known)}" if known else "; none is registered yet"
        raise click.ClickException(f"this workspace has no model {model!r}{listed}")
    if version is None:
        standings = {item: standing(reading, model, item, target) for item in versions}
        _show_model(workspace, reading, model, target, standings, json_)
        return
    if version not in versions and f"model/{model}@{version}" not in reading.view.heads:
        listed = f"there are {', '.join(versions)}" if versions else "none was opened yet"
        raise click.ClickException(f"{model} has no version {version!r}; {listed}")
    found = standing(reading, model, version, target)
    if json_:
        as_json(version_json(reading, found))
    else:
        _show_version(workspace, reading, found)
    finish(OK if found.state in ("live", "ready", "releasing") and not found.blocking else BLOCKED)


def standing(reading: Reading, model: str, version: str, target: str) -> Standing:
    """Work out the state of a version on a target."""
    from cognify_dagster.governance import decide, live
    from cognify_dagster.records import DeploymentCompleted

    decision = decide(reading, model, version, target, datetime.now(timezone.utc))
    current = live(reading, model, target)
    history = reading.all(DeploymentCompleted, f"release/{model}.{target}")
    own = [item for item in history if item.record.version == version]
    later = next((item for item in history if own and item.seq > own[-1].seq), None)
    blocking = tuple(reason for reason in decision.reasons if reason.code != _AFTER_RELEASE)
    if current is not None and current.record.version == version:
        state = "live"
    elif decision.released:
        state = "releasing" if decision.grant is not None else "ready"
    elif own:
        state = "superseded"
    else:
        state = "blocked"
    return Standing(state, decision, blocking, later if state == "superseded" else None)


def _show_model(
    workspace: Workspace, reading: Reading, model: str, target: str, standings: dict[str, Standing], json_: bool
) -> None:
    from cognify_dagster.records import ModelRegistered

    registered = reading.latest(ModelRegistered, f"model/{model}")
    if json_:
        as_json(
            {
                "model": model,
                "target": target,
                "origin": reading.origin,
                "trial": reading.trial,
                "size": reading.size,
                "tier": registered.record.risk_tier if registered else None,
                "owner": registered.record.owner if registered else None,
                "live": next((item for item, found in standings.items() if found.state == "live"), None),
                "versions": [
                    {
                        "version": item,
                        "state": found.state,
                        "package_digest": found.decision.package.record.package.digest
                        if found.decision.package
                        else None,
                        "next": found.next,
                        "waiting_for": list(found.decision.next_stage.waiting_for) if found.decision.next_stage else [],
                    }
                    for item, found in standings.items()
                ],
            }
        )
        return
    trial_banner(reading.trial)
    owner = f", tier {registered.record.risk_tier}, owner {registered.record.owner}" if registered else ""
    heading(f"{model}{owner}; target {target}")
    rows = []
    for item, found in standings.items():
        package = found.decision.package
        digest = package.record.package.digest[:19] + "…" if package else "–"
        rows.append((item, found.state, digest, found.next))
    if rows:
        table(("version", "state", "package", "next"), rows)
    else:
        say("No version was opened yet.")
    say(f"Details: {program(workspace)} status {model} VERSION")


def _show_version(workspace: Workspace, reading: Reading, found: Standing) -> None:
    decision, call = found.decision, program(workspace)
    trial_banner(reading.trial)
    heading(f"{decision.model} {decision.version} on {decision.target}: {found.state}")
    package = decision.package
    rows: list[tuple[str, object]] = [("Tier", decision.tier or "unknown")]
    if found.superseded_by is not None:
        rows.append(("Superseded", f"by {found.superseded.removeprefix('superseded by ')}; it is not live any more"))
    if package is None:
        rows.append(("Package", "none yet"))
    else:
        record = package.record
        rows.append(("Package", f"{record.package.digest} (entry {package.seq}, revision {record.revision})"))
        copy = record.review_copy
        if copy is not None:
            rows.append(("Review copy", f"{copy.digest} ({copy.size} bytes)"))
            rows.append(
                ("  open it", f"{call} evidence get {copy.digest} -o {decision.model}-{decision.version}-review.pdf")
            )
    if decision.completed is not None:
        rows.append(("Deployed", f"entry {decision.completed.seq}, {moment(decision.completed.time_us)}"))
    pairs(rows)
    table(("stage", "state", "by", "waits for"), [_stage_row(state) for state in decision.stages])
    if found.blocking:
        titles = {
            "live": "Live, but it would not be released again today:",
            "superseded": "It would not be released again today:",
        }
        title = titles.get(found.state, "What is missing:")
        say(title)
        for reason in found.blocking:
            say(f"  - {clean(reason.text)}" + (f"  → {clean(reason.resolved_by)}" if reason.resolved_by else ""))
    refusals = _refusals(reading, decision)
    if refusals:
        last = refusals[-1]
        count = f"{len(refusals)} refused" if len(refusals) > 1 else "Refused"
        say(f"{count} so far, last in entry {last['entry']} ({last['time']}): {call} ledger show --seq {last['entry']}")
    commands = sign_commands(workspace, reading, found)
    if commands:
        say("To sign:")
        for line in commands:
            say(f"  {line}")
    elif found.state == "ready":
        say(f"Every stage is done: the approval sensor releases it to {decision.target}.")


def _stage_row(state: StageState) -> tuple[str, str, str, str]:
    if state.stage.kind == "automated":
        by = "\n".join(
            f"{family}: {status}" + (f" (entry {seq})" if seq is not None else "")
            for family, status, seq in state.gates
        )
    else:
        by = "\n".join(
            f"{clean(item.name)}, {item.predicate.signed_at} (entry {item.seq})"
            + (", with conditions" if item.predicate.conditions else "")
            for item in state.signed
        )
    title = state.stage.title or state.name
    return title, "done" if state.done else "open", by, "\n".join(clean(name) for name in state.waiting_for)


def sign_commands(workspace: Workspace, reading: Reading, found: Standing) -> list[str]:
    """Return the command of each person who can sign the next stage."""
    from cognify_dagster.governance import directory

    stage = found.decision.next_stage
    if found.state != "blocked" or stage is None or stage.stage.kind != "sign_off" or found.decision.package is None:
        return []
    people = directory(reading)
    by_name = {person.name: person for person in people.with_role(stage.stage.role)}
    lines = []
    for name in stage.waiting_for:
        person = by_name.get(name)
        file = _key_file(workspace, person.person) if person else "KEYFILE"
        target = found.decision.target
        more = "" if target == "production" else f" --target {target}"
        lines.append(
            f"{program(workspace)} sign {found.decision.model} {found.decision.version} --key {file}{more}"
            f"    # {clean(name)}"
        )
    return lines


def _key_file(workspace: Workspace, person: str) -> str:
    """Return a person's key file where people keep their keys in the workspace, as in the demo; else a word in its place."""
    from cognify_dagster.governance import KeyFileError, read_public

    folder = workspace.config.people_keys
    for path in sorted(folder.glob("*.key.json")) if folder.is_dir() else ():
        with suppress(KeyFileError, OSError):
            if read_public(path)[0] == person:
                return shlex.quote(str(path))
    return "KEYFILE"


def _refusals(reading: Reading, decision: Decision) -> list[dict[str, Any]]:
    from cognify_dagster.records import ReleaseRefused

    return [
        {
            "entry": item.seq,
            "time": moment(item.time_us),
            "run": item.record.run,
            "requested_by": item.record.requested_by,
            "reasons": [reason.text for reason in item.record.reasons],
        }
        for item in reading.all(ReleaseRefused, f"model/{decision.model}@{decision.version}")
        if item.record.target == decision.target
    ]


def version_json(reading: Reading, found: Standing) -> dict[str, Any]:
    """Return a version's state as JSON values."""
    from cognify_dagster.governance import directory

    decision, people = found.decision, directory(reading)
    package = decision.package
    copy = package.record.review_copy if package else None
    return {
        "model": decision.model,
        "version": decision.version,
        "target": decision.target,
        "origin": reading.origin,
        "trial": reading.trial,
        "state": found.state,
        "superseded_by": found.superseded_by
        and {
            "version": found.superseded_by.record.version,
            "entry": found.superseded_by.seq,
            "time": moment(found.superseded_by.time_us),
        },
        "may_be_released": decision.released,
        "tier": decision.tier,
        "policy_digest": decision.policy_digest,
        "decided_on_size": decision.size,
        "decided_at": decision.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "package": package
        and {
            "digest": package.record.package.digest,
            "entry": package.seq,
            "leaf": package.leaf,
            "revision": package.record.revision,
            "review_copy": copy.digest if copy else None,
            "built_by": people.name(package.record.built_by),
        },
        "stages": [
            {
                "stage": state.name,
                "title": state.stage.title,
                "kind": state.stage.kind,
                "role": state.stage.role or None,
                "done": state.done,
                "gates": [{"family": family, "status": status, "entry": seq} for family, status, seq in state.gates],
                "signed": [
                    {
                        "entry": item.seq,
                        "person": item.person,
                        "name": item.name,
                        "decision": item.predicate.decision,
                        "signed_at": item.predicate.signed_at,
                        "conditions": [part.model_dump() for part in item.predicate.conditions],
                    }
                    for item in state.signed
                ],
                "waiting_for": list(state.waiting_for),
            }
            for state in decision.stages
        ],
        "reasons": [
            {"code": reason.code, "text": reason.text, "resolved_by": reason.resolved_by} for reason in found.blocking
        ],
        "notes": list(decision.notes),
        "refusals": _refusals(reading, decision),
        "grant_entry": decision.grant.seq if decision.grant else None,
        "deployed_entry": decision.completed.seq if decision.completed else None,
    }
