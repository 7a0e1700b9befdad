"""The signed ways around the usual course: broken glass, ordered rollbacks, lifted blocks.

Invariants: an exception counts only with the signatures the policy demands of people who had no hand in the version, for one
version and target, and ends by itself; it waives sign-offs only, never gates, blocks, findings, evidence or attribution.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.involvement import hand_problem
from cognify_dagster.governance.signing.acts import act_problem, first_use, people_needed
from cognify_dagster.records import (
    BlockLifted,
    BreakGlassOpened,
    DeploymentCompleted,
    RollbackOrdered,
    SignOff,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded

Problems = list[tuple[int, str]]


@dataclass(frozen=True)
class BrokenGlass:
    """A break-glass act that counts, and whether it still opens anything at the moment asked for."""

    item: Recorded[BreakGlassOpened]
    active: bool


def broken_glass(
    reading: Reading,
    people: Directory,
    policy: Policy,
    version: tuple[str, str],
    target: str,
    now: datetime,
    excluded: Collection[str],
) -> tuple[BrokenGlass | None, Problems]:
    """Return the newest break-glass act for a version (model, version) and target that still lasts, and those without effect.

    Where none lasts any more, the newest one that counts.
    """
    found: BrokenGlass | None = None
    problems: Problems = []
    used: set[str] = set()
    for item in reading.all(BreakGlassOpened, f"model/{version[0]}@{version[1]}"):
        if item.record.target != target:
            continue
        problem = break_glass_problem(reading, item, people, policy, excluded)
        problem = problem or first_use(item.record.envelopes, used)
        if problem:
            problems.append((item.seq, f"the break-glass act does not count: {problem}"))
        else:
            active = parse_utc(item.record.expires) > now
            if (
                active or found is None or not found.active
            ):  # one that is over takes nothing from an older one that lasts
                found = BrokenGlass(item, active)
    return found, problems


def break_glass_problem(
    reading: Reading,
    item: Recorded[BreakGlassOpened],
    people: Directory,
    policy: Policy,
    excluded: Collection[str],
) -> str | None:
    """Say why a break-glass act does not count, or None."""
    rule, record = policy.break_glass, item.record
    if not rule.enabled:
        return "the policy does not allow break-glass"
    if parse_utc(record.expires) > item.when + timedelta(hours=rule.max_hours):
        return f"it would last longer than {rule.max_hours} hours"
    hand = hand_problem(people, record.signers, excluded)
    if hand:
        return hand
    roles = tuple(dict.fromkeys((*rule.roles, rule.extra_role)))
    needed = people_needed(reading) if reading.trial else rule.quorum
    problem = act_problem(
        reading, item, record.envelopes, people, roles, needed=needed, claimed=record.signers, allows=True
    )
    if problem:
        return problem
    if not any(rule.extra_role in people.roles_at(person, item.seq, item.time_us) for person in record.signers):
        return f"nobody with the role {rule.extra_role} signed it"
    return None


def rollback_order(
    reading: Reading,
    people: Directory,
    policy: Policy,
    version: tuple[str, str],
    target: str,
    current: Recorded[DeploymentCompleted] | None,
) -> tuple[Recorded[RollbackOrdered] | None, Problems]:
    """Return the order to put a version back in the place of what is live (`current`), and orders without effect.

    An order names the deployment it replaces, so it is used up once anything else went live.
    """
    found: Recorded[RollbackOrdered] | None = None
    problems: Problems = []
    for item in reading.all(RollbackOrdered, f"model/{version[0]}@{version[1]}"):
        record = item.record
        if record.target != target or current is None or record.replaces_seq != current.seq or item.seq < current.seq:
            continue
        if current.record.version == record.version:
            problems.append((item.seq, f"the rollback order does not count: {record.version} was live already"))
            continue
        problem = order_problem(reading, item, people, policy)
        if problem:
            problems.append((item.seq, f"the rollback order does not count: {problem}"))
        else:
            found = item
    return found, problems


def order_problem(reading: Reading, item: Recorded[RollbackOrdered], people: Directory, policy: Policy) -> str | None:
    """Say why nobody with the right to order a rollback signed this order, or None."""
    record, roles = item.record, policy.rollback_roles
    return act_problem(
        reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.ordered_by,), allows=True
    )


def lifted_blocks(
    reading: Reading, people: Directory, policy: Policy, subject: str, excluded: Collection[str]
) -> tuple[dict[int, int], Problems]:
    """Return the blocks of a version that two people lifted (entry of the block to entry of the lift)."""
    lifted: dict[int, int] = {}
    problems: Problems = []
    for item in reading.all(BlockLifted, subject):
        problem = lift_problem(reading, item, people, policy, excluded)
        if problem:
            problems.append((item.seq, f"the lifting of a block does not count: {problem}"))
        else:
            lifted.setdefault(item.record.sign_off_seq, item.seq)
    return lifted, problems


def lift_problem(
    reading: Reading, item: Recorded[BlockLifted], people: Directory, policy: Policy, excluded: Collection[str]
) -> str | None:
    """Say why the lifting of a block does not count, or None. Who had a hand in the version (`excluded`) lifts nothing."""
    record = item.record
    blocked = reading.find(SignOff, record.sign_off_seq, item.seq)
    if blocked is None or blocked.record.decision != "block":
        return f"entry {record.sign_off_seq} is no block before it"
    if (blocked.record.model, blocked.record.version) != (record.model, record.version):
        return f"the block of entry {record.sign_off_seq} is about another version"
    hand = hand_problem(people, record.lifted_by, excluded)
    if hand:
        return f"{hand}, and cannot lift its blocks"
    return act_problem(
        reading,
        item,
        record.envelopes,
        people,
        policy.blockers,
        needed=people_needed(reading),
        claimed=record.lifted_by,
        allows=True,
    )
