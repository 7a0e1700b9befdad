"""Coverage checks on approvals: who signed the package, in which role, and who objects.

Invariants: an approval is counted from sign-off entries whose signature verified, and from nothing else; each answer that a demand is
met names its entries.
"""

from __future__ import annotations

from collections.abc import Mapping

from cognify_dagster.documents.coverage.types import Context, Gap, Shown, not_there, ref
from cognify_dagster.documents.facts.version import Statement, VersionFacts
from cognify_dagster.documents.frameworks.loading import EvidenceNode
from cognify_dagster.documents.labels import HUMAN_FIELDS, words

__all__ = [
    "ANY_ROLE",
    "APPROVING",
    "HUMAN_FIELDS",
    "approval_days",
    "builders",
    "check_approval",
    "check_judgement",
    "counted_sign_offs",
    "objections",
    "unsigned",
]

APPROVING = ("approve", "approve_with_conditions")
ANY_ROLE = "*"


def counted_sign_offs(facts: VersionFacts) -> list[Statement]:
    """Return the sign-offs that stand for the newest package: each person's last word on it, if that is an approval.

    This is a reading for documents. Whether a release is allowed is decided in governance, with keys, quorum and expiry.
    """
    return [item for item in _last_words(facts) if item.record.decision in APPROVING]


def objections(facts: VersionFacts) -> list[Statement]:
    """Return rejections, blocks and withdrawals that are a person's last word on the newest package."""
    return [item for item in _last_words(facts) if item.record.decision in ("reject", "block", "withdraw")]


def _last_words(facts: VersionFacts) -> list[Statement]:
    if facts.package is None:
        return []
    digest = facts.package.record.package.digest
    last: dict[tuple[str, str], Statement] = {}
    for item in facts.sign_offs:
        if item.record.package_digest == digest:
            last[(item.record.person, item.record.stage)] = item
    return sorted(last.values(), key=lambda item: item.seq)


def unsigned(role: str, name: str) -> Shown:
    """Say that nobody of a role signed the package."""
    return not_there(
        f"no sign-off by the {name} on this package", f"{name}: review and sign", "needs_human", answered_by=role
    )


def check_judgement(role: str, context: Context) -> Shown:
    """Whether somebody of the role signed the package that shows the evidence: a machine finds evidence, a person judges it."""
    found = _approval(role, context, independent=False)
    if found.entries:
        return found
    name = words(role)
    return not_there(
        "the evidence is there; whether it is enough is for a person to judge",
        f"{name}: judge and sign",
        "needs_human",
        answered_by=role,
    )


def builders(facts: VersionFacts) -> set[str]:
    """Return everyone who built the version: launcher, code authors, package builder."""
    people: set[str] = set()
    if facts.training is not None:
        people |= {facts.training.record.launched_by, *facts.training.record.touched_by}
    if facts.package is not None:
        people.add(facts.package.record.built_by)
    return {person for person in people if person.startswith("person/")}


def check_approval(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand for an approval: by a role, or by anybody; by people who did not build the version where it says so."""
    return _approval(leaf.role, context, independent="independent" in leaf.checks)


def _approval(wanted: str, context: Context, *, independent: bool) -> Shown:
    facts = context.facts
    found = [i for i in counted_sign_offs(facts) if not wanted or i.record.role == wanted]
    role = words(wanted) or "an approving role"
    if not found:
        return unsigned(wanted or ANY_ROLE, role)
    gaps = [
        Gap(
            "needs_human",
            f"{facts.name_of(item.record.person)} objects ({item.record.decision}, entry {item.seq})",
            f"{item.record.role}: settle the objection",
        )
        for item in objections(facts)
        if item.record.decision != "withdraw"
    ]
    if independent:
        inside = builders(facts)
        outside = [item for item in found if item.record.person not in inside]
        if not outside:
            gaps.append(
                Gap(
                    "needs_human",
                    f"every sign-off by {role} is by someone who built the version",
                    f"{role} from outside the team: review and sign",
                )
            )
        found = outside or found
    who = ", ".join(facts.name_of(item.record.person) for item in found)
    return Shown(f"signed by {who}", tuple(ref(item) for item in found), tuple(gaps))


def approval_days(facts: VersionFacts) -> int | None:
    """Return after how many days the policy has this tier approved anew; None if it does not say."""
    if facts.policy is None or facts.registered is None:
        return None
    tiers = facts.policy.body.get("tiers")
    tier = tiers.get(facts.tier) if isinstance(tiers, Mapping) else None
    days = tier.get("approval_days") if isinstance(tier, Mapping) else None
    return days if isinstance(days, int) and not isinstance(days, bool) else None
