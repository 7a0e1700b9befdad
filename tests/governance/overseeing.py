"""What tests of overseen models share: policies, releases, exceptions and plans in a line each."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Choice,
    Condition,
    LiveState,
    adopt_change_plan,
    adopt_policy,
    break_glass,
    close_condition,
    complete,
    complete_review,
    live_state,
    open_finding,
    parse_policy,
    request_release,
    resolve_finding,
    revoke_key,
    sign_off,
)
from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot, utc
from tests.governance.world import MODEL, World

ALL_STAGES = ["stage_business", "stage_compliance", "stage_validation"]
BEN_ALIASES = ("user:ben", "git:ben@bank.example")


def now() -> datetime:
    return datetime.now(timezone.utc)


def later(days: float) -> str:
    return utc(now() + timedelta(days=days))


DIFFERENCE = "sha256:" + "d1" * 32


def difference(world: World, name: str, seq: int, digest: str = DIFFERENCE, old_seq: int | None = None) -> int:
    """Record what changed with a snapshot, as the pipeline does; return the entry."""
    reading = world.workspace.read()
    old = reading.find(DatasetSnapshot, old_seq) if old_seq is not None else None
    new = reading.find(DatasetSnapshot, seq)
    assert new is not None
    return world.write(
        DatasetDiffRecorded(
            name=name,
            old_root=old.record.root if old is not None else None,
            new_root=new.record.root,
            old_seq=old_seq,
            new_seq=seq,
            diff_digest=digest,
            summary={"text": "3 records added"},
        )
    )


def policy(world: World, **changes: object) -> None:
    """Adopt the default policy with changes, as the founders."""
    value = yaml.safe_load(DEFAULT_POLICY_YAML) | changes
    adopt_policy(world.workspace, parse_policy(value), "for this test", [world.key("ada"), world.key("finn")])


def release(world: World, version: str = "1", target: str = "production", **more: object) -> int:
    """Release a version as a run would; return the completing entry."""
    grant = request_release(world.workspace, MODEL, version, target, f"run-{version}-{target}", "person/ben", **more)  # type: ignore[arg-type]
    return complete(world.workspace, grant, location="here", detail={})


def state(world: World, days: float = 0) -> LiveState:
    return live_state(world.workspace.read(), MODEL, "production", now() + timedelta(days=days))


def approve_with(world: World, *conditions: Condition) -> int:
    """Approve version 1 by all stages, the last one with conditions; return that sign-off's entry."""
    world.approve("vera")
    world.approve("carl")
    choice = Choice("approve_with_conditions", conditions=conditions)
    return sign_off(world.workspace, MODEL, "1", world.key("olga"), choice).seq


def broken(world: World, *names: str, **changes: object) -> None:
    facts = {
        "model": MODEL,
        "version": "1",
        "target": "production",
        "waived": ("business", "compliance"),
        "reason": "the live model fails in production",
        "expires": later(1),
    }
    break_glass(world.workspace, [world.key(name) for name in names], **{**facts, **changes})


def two_releases(world: World) -> None:
    for version in ("1", "2"):
        world.ready(version)
        world.approve_all(version)
        release(world, version)


def plan(world: World, *names: str, **changes: object) -> int:
    facts = {
        "plan": "refresh-2026",
        "model": MODEL,
        "base_version": "1",
        "bounds": {"datasets": ["loans_train"], "hyperparameters": {"learning_rate": {"min": 0.05, "max": 0.2}}},
        "stages": ("validation", "compliance"),
        "reason": "the same model on newer data",
        "expires": later(180),
    }
    signers = [world.key(name) for name in names or ("vera", "carl", "olga")]
    return adopt_change_plan(world.workspace, signers, **{**facts, **changes}).seq


def based(world: World, **changes: object) -> int:
    """Release version 1 and adopt a plan on it."""
    world.ready("1")
    world.approve_all("1")
    release(world)
    return plan(world, **changes)


def promote_ben(world: World, *roles: str) -> None:
    """Give ben, who launched and wrote every version, further roles."""
    world.enrol("ben", "data_scientist", *roles, aliases=BEN_ALIASES)


def found(world: World, version: str | None = "1", severity: str = "high") -> int:
    """Raise a finding as vera; return its entry."""
    facts = {"model": MODEL, "version": version, "severity": severity, "title": "leak"}
    return open_finding(world.workspace, world.key("vera"), **facts).seq


def resolved(world: World, who: str, seq: int, version: str | None = "1", **more: object) -> int:
    """Close a finding, or with `accepted_until` accept its risk."""
    outcome = "accepted" if "accepted_until" in more else "closed"
    facts = {"model": MODEL, "version": version, "finding_seq": seq, "outcome": outcome, "reason": "looked at"}
    return resolve_finding(world.workspace, world.key(who), **facts, **more).seq


def closed(world: World, who: str, seq: int, version: str = "1", index: int = 0) -> int:
    """Close a condition of an approval or review."""
    facts = {"model": MODEL, "version": version, "sign_off_seq": seq, "condition": index, "reason": "done"}
    return close_condition(world.workspace, world.key(who), **facts).seq


def reviewed(world: World, outcome: str = "confirmed", version: str = "1", who: str = "vera", **more: object) -> int:
    """Review a version."""
    facts = {"model": MODEL, "version": version, "outcome": outcome, "text": "as expected"}
    return complete_review(world.workspace, world.key(who), **facts, **more).seq


def stolen(world: World, who: str, since: int | None) -> int:
    """Revoke somebody's key, with effect from an earlier entry if one is given."""
    key = world.key(who)
    return revoke_key(world.workspace, key.person, key.key_id, "copied", world.key("ada"), effective_from=since).seq
