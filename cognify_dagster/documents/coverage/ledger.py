"""Coverage checks on the ledger as a whole: history, policy, retention, change plans, incidents, findings, people. Pure.

Invariants: each answer that a demand is met names its entries; acts count only as governance counts them; where nothing was
recorded the answer is that nothing is on record, never that there was nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cognify_dagster.documents.coverage.people import ANY_ROLE, approval_days, counted_sign_offs
from cognify_dagster.documents.coverage.retention import unkept
from cognify_dagster.documents.coverage.surroundings import Cited
from cognify_dagster.documents.coverage.types import Context, EntryRef, Gap, Shown, Status, not_there, ref
from cognify_dagster.documents.frameworks.loading import EvidenceNode
from cognify_dagster.documents.labels import words
from cognify_dagster.records import parse_utc

_WORDS = {
    "history": "history of the version",
    "inventory": "entry in the inventory",
    "policy": "policy in force",
    "next_due": "term of the next review",
    "approved_before_release": "approval before release",
    "retention": "retention rules in force",
    "checkpoint": "signed head of the ledger",
    "change_plan": "change plan in force",
    "incidents": "record of incidents",
    "findings": "record of findings",
    "delegation": "delegation of roles",
    "people": "people enrolled for the roles of the policy",
}


def check_ledger(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand on the ledger; without named checks it is about the version's history."""
    checks = leaf.checks or ("history",)
    parts = [_CHECKS[check](context) for check in checks]
    return Shown(
        f"ledger: {', '.join(_WORDS[check] for check in checks)}",
        tuple(entry for part in parts for entry in part.entries),
        tuple(gap for part in parts for gap in part.gaps),
    )


def _found(*entries: EntryRef | Cited | None, gaps: list[Gap] | None = None) -> Shown:
    refs = [EntryRef(item.seq, item.leaf) for item in entries if item is not None]
    return Shown("", tuple(refs), tuple(gaps or ()))


def _history(context: Context) -> Shown:
    facts, gaps = context.facts, list[Gap]()
    first = facts.opened or (facts.events[0] if facts.events else None)
    entries = [ref(item) for item in (first, facts.training, facts.evaluation) if item is not None]
    if not entries:
        gaps.append(Gap("missing", "the version has no history in the ledger", "developer: train through the recorder"))
    if facts.unreadable:
        gaps.append(
            Gap(
                "missing",
                f"{len(facts.unreadable)} entries about the version cannot be read by this release",
                "operator: upgrade and build again",
            )
        )
    return _found(*entries, gaps=gaps)


def _inventory(context: Context) -> Shown:
    facts = context.facts
    if facts.registered is None:
        return not_there("the model is not registered", "model owner: register it with owner, tier and use")
    return _found(ref(facts.registered))


def _policy(context: Context) -> Shown:
    facts = context.facts
    if facts.policy is None:
        return not_there("no policy is in force", "workspace admin: adopt one")
    return _found(EntryRef(facts.policy.seq, facts.policy.leaf))


def _next_due(context: Context) -> Shown:
    facts = context.facts
    if facts.policy is None or approval_days(facts) is None:
        return not_there(
            "the policy sets no term after which this tier is reviewed again",
            "workspace admin: set approval_days",
            "needs_human",
        )
    return _found(EntryRef(facts.policy.seq, facts.policy.leaf))


def _approved_before_release(context: Context) -> Shown:
    facts, gaps = context.facts, list[Gap]()
    early = [
        g for g in facts.releases if any(seq >= g.seq for seq in g.record.sign_off_seqs) or not g.record.sign_off_seqs
    ]
    if early:
        gaps.append(Gap("missing", "a release names no sign-off before it", "workspace admin: look into the release"))
    approved = counted_sign_offs(facts)
    if not approved:
        gaps.append(
            Gap(
                "needs_human",
                "nobody has approved this package yet",
                "the approvers of the tier: review and sign",
                answered_by=ANY_ROLE,
            )
        )
    return _found(*map(ref, approved), gaps=gaps)


def _retention(context: Context) -> Shown:
    oversight = context.facts.oversight
    if oversight.retention_entry is None:
        return not_there(
            "no retention rules were adopted (retention_adopted)",
            "compliance officer and workspace admin: adopt them (`cognify retention adopt`)",
        )
    gaps = [
        Gap("missing", text, "compliance officer: adopt longer rules (`cognify retention adopt`)")
        for text in unkept(context.framework, oversight.retention)
    ]
    return _found(oversight.retention_entry, gaps=gaps)


def _checkpoint(context: Context) -> Shown:
    """The ledger's heads are signed with a known key, and a person's statement about the version names such a head."""
    facts = context.facts
    named = [item for item in facts.sign_offs if item.predicate.checkpoint.size > 0]
    if not named:
        return not_there(
            "no signed statement about this version names a signed head of the ledger yet (checkpoint)",
            "the approvers of the tier: review and sign",
            "needs_human",
            answered_by=ANY_ROLE,
        )
    return _found(facts.oversight.log_key, ref(named[-1]))


def _change_plan(context: Context) -> Shown:
    plans = [item for item in context.facts.oversight.plans if parse_utc(item.expires) > context.now]
    if plans:
        return _found(*(item.entry for item in plans))
    ended = context.facts.oversight.plans
    if ended:
        return Shown(
            "",
            (EntryRef(ended[-1].entry.seq, ended[-1].entry.leaf),),
            (
                Gap(
                    "stale",
                    f"the change plan {ended[-1].plan} ended on {ended[-1].expires}",
                    "the approvers of the tier: adopt a new one (`cognify model plan`)",
                ),
            ),
        )
    return not_there(
        "no change plan is on record for the model (change_plan_adopted)",
        "the approvers of the tier: adopt one (`cognify model plan`)",
    )


def _incidents(context: Context) -> Shown:
    facts = context.facts
    if facts.oversight.incidents:
        return _found(*(item.entry for item in facts.oversight.incidents))
    status: Status = "missing" if facts.deployments else "after_release"
    return not_there(
        "no incident is on record, which does not say that there was none (model_event)",
        "model owner: report incidents (`cognify model event`), or state in a signed text that there was none",
        status,
    )


def _findings(context: Context) -> Shown:
    """Findings were recorded, and none that weighs heavily is open."""
    found = context.facts.oversight.findings
    if not found:
        return not_there(
            "no finding is on record, which does not say that nobody looked (finding_opened)",
            "model validator: record what the review found (`cognify finding open`)",
        )
    gaps = []
    for item in found:
        accepted = item.accepted_until is not None and parse_utc(item.accepted_until) > context.now
        if item.closed is None and not accepted and item.severity in ("high", "critical"):
            gaps.append(
                Gap(
                    "needs_human",
                    f"finding {item.entry.seq} is open ({item.severity}): {item.title}",
                    "owner of the finding: resolve it (`cognify finding resolve`)",
                )
            )
    return _found(*(item.entry for item in found), *(item.closed for item in found), gaps=gaps)


def _delegation(context: Context) -> Shown:
    running = [
        item
        for item in context.facts.oversight.delegations
        if parse_utc(item.starts) <= context.now < parse_utc(item.expires)
    ]
    if running:
        return _found(*(item.entry for item in running))
    return not_there(
        "no delegation of a role is on record that runs now (delegated)",
        "whoever delegates a role: record it (`cognify people delegate`)",
    )


def _people(context: Context) -> Shown:
    oversight = context.facts.oversight
    if not oversight.wanted_roles:
        return not_there(
            "the policy names no role that signs for this tier", "workspace admin: adopt a policy with sign-off stages"
        )
    gaps = [
        Gap(
            "missing",
            f"nobody with a valid key holds the role {words(role)} now",
            "workspace admin: enrol somebody (`cognify people enrol`)",
        )
        for role in oversight.wanted_roles
        if not oversight.holders.get(role)
    ]
    return _found(*(item for role in oversight.wanted_roles for item in oversight.holders.get(role, ())), gaps=gaps)


_CHECKS: Mapping[str, Callable[[Context], Shown]] = {
    "history": _history,
    "inventory": _inventory,
    "policy": _policy,
    "next_due": _next_due,
    "approved_before_release": _approved_before_release,
    "retention": _retention,
    "checkpoint": _checkpoint,
    "change_plan": _change_plan,
    "incidents": _incidents,
    "findings": _findings,
    "delegation": _delegation,
    "people": _people,
}
