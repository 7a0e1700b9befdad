"""Coverage checks on what people and the ledger as a whole contribute: approvals, sections, attestations, history.

Invariants: an approval is counted from sign-off entries whose signature verified, and from nothing else; a person's section counts only
where the model's registration holds the text; each answer that a demand is met names its entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.coverage_types import Context, EntryRef, Gap, Shown, not_there, ref
from cognify_dagster.documents.facts import Statement, VersionFacts
from cognify_dagster.documents.frameworks import EvidenceNode
from cognify_dagster.documents.labels import section_title, words

HUMAN_FIELDS = ("intended_use", "out_of_scope", "limitations", "failure_modes")
APPROVING = ("approve", "approve_with_conditions")
ANY_ROLE = "*"
_LEDGER_WORDS = {
    "history": "history of the version",
    "inventory": "entry in the inventory",
    "policy": "policy in force",
    "next_due": "term of the next review",
    "approved_before_release": "approval before release",
}


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


def _unsigned(role: str, name: str) -> Shown:
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
    return _approval(leaf.role, context, independent="independent" in leaf.checks)


def _approval(wanted: str, context: Context, *, independent: bool) -> Shown:
    facts = context.facts
    found = [i for i in counted_sign_offs(facts) if not wanted or i.record.role == wanted]
    role = words(wanted) or "an approving role"
    if not found:
        return _unsigned(wanted or ANY_ROLE, role)
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


def check_ledger(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    entries: list[EntryRef] = []
    gaps: list[Gap] = []
    for check in leaf.checks or ("history",):
        if check == "history":
            first = facts.opened or (facts.events[0] if facts.events else None)
            entries += [ref(item) for item in (first, facts.training, facts.evaluation) if item is not None]
            if not entries:
                gaps.append(
                    Gap("missing", "the version has no history in the ledger", "developer: train through the recorder")
                )
            if facts.unreadable:
                gaps.append(
                    Gap(
                        "missing",
                        f"{len(facts.unreadable)} entries about the version cannot be read by this release",
                        "operator: upgrade and build again",
                    )
                )
        elif check == "inventory":
            if facts.registered is None:
                gaps.append(
                    Gap("missing", "the model is not registered", "model owner: register it with owner, tier and use")
                )
            else:
                entries.append(ref(facts.registered))
        elif check == "policy":
            if facts.policy is None:
                gaps.append(Gap("missing", "no policy is in force", "workspace admin: adopt one"))
            else:
                entries.append(EntryRef(facts.policy.seq, facts.policy.leaf))
        elif check == "next_due":
            days = approval_days(facts)
            if facts.policy is None or days is None:
                gaps.append(
                    Gap(
                        "needs_human",
                        "the policy sets no term after which this tier is reviewed again",
                        "workspace admin: set approval_days",
                    )
                )
            else:
                entries.append(EntryRef(facts.policy.seq, facts.policy.leaf))
        elif check == "approved_before_release":
            early = [
                g
                for g in facts.releases
                if any(seq >= g.seq for seq in g.record.sign_off_seqs) or not g.record.sign_off_seqs
            ]
            if early:
                gaps.append(
                    Gap("missing", "a release names no sign-off before it", "workspace admin: look into the release")
                )
            approved = counted_sign_offs(facts)
            entries += [ref(item) for item in approved]
            if not approved:
                gaps.append(
                    Gap(
                        "needs_human",
                        "nobody has approved this package yet",
                        "the approvers of the tier: review and sign",
                        answered_by=ANY_ROLE,
                    )
                )
    shown = ", ".join(_LEDGER_WORDS[check] for check in leaf.checks or ("history",))
    return Shown(f"ledger: {shown}", tuple(entries), tuple(gaps))


def approval_days(facts: VersionFacts) -> int | None:
    """Return after how many days the policy has this tier approved anew; None if it does not say."""
    if facts.policy is None or facts.registered is None:
        return None
    tiers = facts.policy.body.get("tiers")
    tier = tiers.get(facts.tier) if isinstance(tiers, Mapping) else None
    days = tier.get("approval_days") if isinstance(tier, Mapping) else None
    return days if isinstance(days, int) and not isinstance(days, bool) else None


def stated_text(facts: VersionFacts, stated: Mapping[str, Any], section: str) -> Any:
    """Return what people wrote for a section: a field of the registration, or a value of its framework facts."""
    if facts.registered is not None and section in HUMAN_FIELDS:
        return getattr(facts.registered.record, section)
    value = stated.get(section)
    return value["text"] if isinstance(value, Mapping) and "text" in value else value


def check_human(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    who, section = words(leaf.role) or "model owner", _named(leaf.section)
    value = stated_text(facts, context.stated, leaf.section)
    unavailable = _unavailable(leaf.section, value, who)
    if unavailable is not None:
        return unavailable
    count = len(str(value).split()) if isinstance(value, str) else 0
    if facts.registered is None or count == 0:
        return not_there(f"{section} is not written", f"{who}: write it", "needs_human")
    if count < leaf.min_words:
        return not_there(
            f"{section} has {count} words, fewer than {leaf.min_words}",
            f"{who}: complete it",
            "needs_human",
        )
    return Shown(f"section “{section_title(leaf.section)}”, {count} words", (ref(facts.registered),))


def _named(section: str) -> str:
    """A section by title, with the name under which somebody writes it."""
    return f"section “{section_title(section)}” ({section})"


def _unavailable(section: str, value: Any, who: str) -> Shown | None:
    if not isinstance(value, Mapping) or not value.get("declared_unavailable"):
        return None
    reason = str(value["declared_unavailable"])
    return not_there(
        f"{_named(section)} is declared unavailable: {reason}",
        f"{who}: none, unless that changes",
        "declared_unavailable",
    )


def check_attestation(leaf: EvidenceNode, context: Context) -> Shown:
    """The claim stands in the registration (where a section is named), and somebody of the role signed the package that shows it."""
    facts = context.facts
    gaps: list[Gap] = []
    entries: list[EntryRef] = []
    name = words(leaf.role)
    if leaf.section:
        value = stated_text(facts, context.stated, leaf.section)
        unavailable = _unavailable(leaf.section, value, words(leaf.role))
        if unavailable is not None:
            return unavailable
        if facts.registered is None or not isinstance(value, str) or not value.strip():
            gaps.append(
                Gap(
                    "needs_human",
                    f"the claim in {_named(leaf.section)} is not stated",
                    f"{name}: state it in the model's registration",
                )
            )
        else:
            entries.append(ref(facts.registered))
    signed = [item for item in counted_sign_offs(facts) if item.record.role == leaf.role]
    entries += [ref(item) for item in signed]
    if not signed:
        gaps += _unsigned(leaf.role, name).gaps
    return Shown(f"attested by the {name}", tuple(entries), tuple(gaps))
