"""The checks behind evidence kinds: what exactly has to stand in the ledger for a single demand to count as met.

Invariants: a check answers `satisfied` only together with at least one entry; it reads typed records, never free text claims of
the pipeline about itself; an approval is counted from sign-off entries alone; a person's section counts only where the model's
registration holds the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from cognify_dagster.documents.facts import Statement, VersionFacts
from cognify_dagster.documents.frameworks import EvidenceNode
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Recorded

Status = Literal[
    "satisfied", "missing", "needs_human", "stale", "insufficient_data", "declared_unavailable", "not_applicable"
]
HUMAN_FIELDS = ("intended_use", "out_of_scope", "limitations", "failure_modes")
APPROVING = ("approve", "approve_with_conditions")


@dataclass(frozen=True)
class EntryRef:
    """A ledger entry that a result rests on: sequence number and leaf hash (hex)."""

    seq: int
    leaf: str


@dataclass(frozen=True)
class Gap:
    """What is not there, and who has to do what. `after_release`: such evidence cannot exist before the release."""

    status: Status
    text: str
    who: str
    after_release: bool = False


@dataclass(frozen=True)
class Shown:
    """What a single demand found: the entries it rests on and, if it is not met, the gaps."""

    text: str
    entries: tuple[EntryRef, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class Context:
    """What checks may look at."""

    facts: VersionFacts
    stated: Mapping[str, Any]
    now: datetime


def check_leaf(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer one demand for evidence. Pure."""
    shown = _KINDS[leaf.kind](leaf, context)
    if leaf.max_age_days is None or not shown.entries or shown.gaps:
        return shown
    oldest = min(_time(context, ref.seq) for ref in shown.entries)
    age = (context.now - oldest).days
    if age <= leaf.max_age_days:
        return shown
    gap = Gap("stale", f"the evidence is {age} days old; the limit is {leaf.max_age_days}", "the model's developers")
    return Shown(shown.text, shown.entries, (gap,))


def _time(context: Context, seq: int) -> datetime:
    facts = context.facts
    known = [
        *facts.events,
        *(d.snapshot for d in facts.all_datasets()),
        *facts.overlaps,
        facts.registered,
        facts.gate_set,
    ]
    for item in known:
        if item is not None and item.seq == seq:
            return datetime.fromtimestamp(item.time_us / 1e6, tz=timezone.utc)
    return context.now


def ref(item: Recorded[Any] | Statement) -> EntryRef:
    """Return the reference to an entry."""
    return EntryRef(item.seq, item.leaf)


def _missing(text: str, who: str, status: Status = "missing", *, after_release: bool = False) -> Shown:
    return Shown("", (), (Gap(status, text, who, after_release),))


def _dataset(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if not facts.datasets:
        return _missing("no training run pins a snapshot", "developer: run the training through the recorder")
    entries: list[EntryRef] = []
    gaps: list[Gap] = []
    for item in facts.datasets:
        if item.snapshot is None:
            gaps.append(
                Gap(
                    "missing",
                    f"entry {item.ref.seq} does not hold the pinned root of {item.ref.name}",
                    "developer: retrain on a recorded snapshot",
                )
            )
            continue
        entries.append(ref(item.snapshot))
        for check in leaf.checks:
            gaps += _SNAPSHOT_CHECKS.get(check, _no_gaps)(item.snapshot)
    if "splits_disjoint" in leaf.checks:
        entries += [ref(item) for item in facts.overlaps if item.record.passed]
        gaps += _split_gaps(facts)
    names = ", ".join(item.ref.name for item in facts.datasets)
    return Shown(f"snapshots of {names}, pinned by root", tuple(entries), tuple(gaps))


def _no_gaps(_: Recorded[DatasetSnapshot]) -> list[Gap]:
    return []


def _provenance_gaps(item: Recorded[DatasetSnapshot]) -> list[Gap]:
    record = item.record
    if not record.missing_provenance and record.provenance:
        return []
    lacking = ", ".join(record.missing_provenance) or "all of it"
    return [
        Gap("needs_human", f"provenance of {record.name} lacks {lacking}", "data owner: state it and snapshot again")
    ]


def _schema_gaps(item: Recorded[DatasetSnapshot]) -> list[Gap]:
    if item.record.schema_hash:
        return []
    return [Gap("missing", f"{item.record.name} has no schema on record", "developer: snapshot it as a table")]


def _feature_gaps(item: Recorded[DatasetSnapshot]) -> list[Gap]:
    gaps = _schema_gaps(item)
    if not item.record.provenance.get("column_purposes"):
        gaps.append(
            Gap(
                "needs_human",
                f"no purpose is stated for the columns of {item.record.name}",
                "data owner: fill column_purposes and snapshot again",
            )
        )
    return gaps


_SNAPSHOT_CHECKS: dict[str, Callable[[Recorded[DatasetSnapshot]], list[Gap]]] = {
    "provenance": _provenance_gaps,
    "schema": _schema_gaps,
    "feature_inventory": _feature_gaps,
}


def _split_gaps(facts: VersionFacts) -> list[Gap]:
    if not facts.overlaps:
        return [
            Gap(
                "missing",
                "no comparison of training and evaluation records is on record",
                "developer: run the overlap check",
            )
        ]
    return [
        Gap(
            "missing",
            f"{item.record.train.name} and {item.record.holdout.name} share {item.record.overlapping_records} records",
            "developer: split again and retrain",
        )
        for item in facts.overlaps
        if not item.record.passed
    ]


def _training(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if facts.training is None:
        return _missing("no sealed training run", "developer: train the version through the recorder")
    record, who = facts.training.record, "developer: record it and retrain as a new version"
    gaps: list[Gap] = []
    unpinned = [item.ref.name for item in facts.datasets if item.snapshot is None]
    tests: dict[str, tuple[bool, Gap]] = {
        "config": (bool(record.config), Gap("missing", "the run recorded no configuration", who)),
        "data_pinned": (not unpinned, Gap("missing", f"not pinned to a snapshot: {', '.join(unpinned)}", who)),
        "code_known": (bool(record.code.commit), Gap("missing", "the code's commit is not known", who)),
        "code_clean": (
            record.code.dirty is False,
            Gap(
                "missing",
                "the code differed from its commit, or that is not known",
                "developer: commit and retrain as a new version",
            ),
        ),
        "base_model": (bool(record.base_model), Gap("missing", "no base model is recorded", who)),
        "model_kind": (
            bool(record.architecture),
            Gap("missing", "the kind of model is not recorded (architecture)", who),
        ),
    }
    gaps = [gap for name, (holds, gap) in tests.items() if name in leaf.checks and not holds]
    return Shown("sealed training run", (ref(facts.training),), tuple(gaps))


def _environment(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if facts.training is None:
        return _missing(
            "no sealed training run, so no environment", "developer: train the version through the recorder"
        )
    gaps = []
    if "seed" in leaf.checks and facts.training.record.seed is None:
        gaps.append(Gap("missing", "no seed is recorded", "developer: record it and retrain as a new version"))
    if "packages" in leaf.checks and not facts.training.record.environment.packages_digest:
        gaps.append(Gap("missing", "no list of packages is recorded", "developer: retrain as a new version"))
    return Shown("environment of the training run, packages by digest", (ref(facts.training),), tuple(gaps))


def _evaluation_gap(facts: VersionFacts) -> Gap | None:
    if facts.evaluation is None:
        return Gap("missing", "no evaluation is on record", "developer: evaluate the version")
    if not facts.evaluation_current:
        return Gap(
            "stale",
            "the newest evaluation is of another training run or model file",
            "developer: evaluate this version again",
        )
    return None


def _evaluation(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    gap = _evaluation_gap(facts)
    if facts.evaluation is None or gap is not None:
        return Shown("", (), (gap,) if gap else ())
    record = facts.evaluation.record
    entries = [ref(facts.evaluation)]
    gaps: list[Gap] = []
    who = "developer: add it to the evaluation and run it again"
    if "passed" in leaf.checks and record.status != "passed":
        gaps.append(
            Gap("missing", "the evaluation did not pass its gates", "developer: improve the model, as a new version")
        )
    if "intervals" in leaf.checks and not any(m.ci_low is not None and m.ci_high is not None for m in record.metrics):
        gaps.append(Gap("missing", "no metric has an interval", who))
    for name, words in (
        ("calibration", "calibration table"),
        ("reason_codes", "test of reason codes (how faithful, how stable)"),
        ("alternatives", "comparison with alternatives"),
    ):
        if name in leaf.checks and not record.tables.get(name):
            gaps.append(Gap("missing", f"the evaluation holds no {words} (tables.{name})", who))
    if "thresholds_before_training" in leaf.checks:
        started = facts.training.record.started_after_seq if facts.training else 0
        if facts.gate_set is None:
            gaps.append(
                Gap(
                    "missing",
                    "the gate set that was used is not on record",
                    "validator: sign a gate set before training",
                )
            )
        elif facts.gate_set.seq >= started:
            gaps.append(
                Gap(
                    "missing",
                    "limits were adopted after training had started",
                    "validator: sign them first, then train a new version",
                )
            )
        else:
            entries.append(ref(facts.gate_set))
    return Shown(f"evaluation on {record.dataset.name}", tuple(entries), tuple(gaps))


def _fairness(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    gap = _evaluation_gap(facts)
    if facts.evaluation is None or gap is not None:
        return Shown("", (), (gap,) if gap else ())
    record, who = facts.evaluation.record, "developer: measure it and evaluate again"
    declared = set(record.protected_attributes) | set(
        facts.registered.record.protected_attributes if facts.registered else ()
    )
    measured = {str(item.get("attribute")) for item in record.fairness}
    gaps = [Gap("missing", f"no fairness result for {name}", who) for name in sorted(declared - measured)]
    if not record.fairness:
        gaps.append(Gap("missing", "no fairness result by group is on record", who))
    gaps += insufficient_groups(record.fairness)
    if "selection_rates" in leaf.checks:
        for item in record.fairness:
            if not any(d.get("name") == "adverse_impact_ratio" for d in item.get("disparities", ())):
                gaps.append(Gap("missing", f"no ratio of selection rates for {item.get('attribute')}", who))
    if "attributes_declared" in leaf.checks and not declared:
        gaps.append(
            Gap(
                "needs_human",
                "no protected attribute is declared",
                "model owner: declare them, or declare why there are none",
            )
        )
    if "proxy_review" in leaf.checks and not record.tables.get("proxy_review"):
        gaps.append(Gap("missing", "no test how well features predict protected traits (tables.proxy_review)", who))
    return Shown(f"fairness by {', '.join(sorted(measured)) or 'no attribute'}", (ref(facts.evaluation),), tuple(gaps))


def insufficient_groups(fairness: tuple[dict[str, Any], ...]) -> list[Gap]:
    """Name what was too small to measure."""
    gaps = []
    for item in fairness:
        attribute = str(item.get("attribute"))
        small = [str(group) for group in item.get("excluded_groups", ())]
        small += [str(g.get("group")) for g in item.get("groups", ()) if g.get("status") == "insufficient_data"]
        unmeasured = [str(d.get("name")) for d in item.get("disparities", ()) if d.get("status") == "insufficient_data"]
        who = "developer: gather more data or merge groups, with a reason; else the validator accepts the limit in writing"
        if small:
            names = ", ".join(sorted(set(small)))
            cell = item.get("min_cell", "the minimum cell size")
            gaps.append(Gap("insufficient_data", f"{attribute}: too few records in {names} (fewer than {cell})", who))
        elif unmeasured:
            gaps.append(Gap("insufficient_data", f"{attribute}: too few groups for {', '.join(unmeasured)}", who))
    return gaps


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


def builders(facts: VersionFacts) -> set[str]:
    """Return everyone who built the version: launcher, code authors, package builder."""
    people: set[str] = set()
    if facts.training is not None:
        people |= {facts.training.record.launched_by, *facts.training.record.touched_by}
    if facts.package is not None:
        people.add(facts.package.record.built_by)
    return {person for person in people if person.startswith("person/")}


def _approval(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    found = [i for i in counted_sign_offs(facts) if not leaf.role or i.record.role == leaf.role]
    role = leaf.role or "an approving role"
    if not found:
        return _missing(f"no sign-off by {role} on this package", f"{role}: review and sign", "needs_human")
    gaps = [
        Gap(
            "needs_human",
            f"{facts.name_of(item.record.person)} objects ({item.record.decision}, entry {item.seq})",
            f"{item.record.role}: settle the objection",
        )
        for item in objections(facts)
        if item.record.decision != "withdraw"
    ]
    if "independent" in leaf.checks:
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


def _deployment(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if not facts.deployments:
        return _missing("the version is not deployed", "the release run records it", after_release=not facts.releases)
    return Shown("deployment under a release grant", tuple(ref(item) for item in facts.deployments))


def _monitoring(leaf: EvidenceNode, context: Context) -> Shown:
    return _missing(
        "no monitoring result is on record",
        "model owner: monitor the deployed version",
        after_release=not context.facts.releases,
    )


def _ledger(leaf: EvidenceNode, context: Context) -> Shown:
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
                    )
                )
    return Shown(f"ledger: {', '.join(leaf.checks) or 'history'}", tuple(entries), tuple(gaps))


def approval_days(facts: VersionFacts) -> int | None:
    """Return after how many days the policy has this tier approved anew; None if it does not say."""
    if facts.policy is None or facts.registered is None:
        return None
    tiers = facts.policy.body.get("tiers")
    tier = tiers.get(facts.registered.record.risk_tier) if isinstance(tiers, Mapping) else None
    days = tier.get("approval_days") if isinstance(tier, Mapping) else None
    return days if isinstance(days, int) and not isinstance(days, bool) else None


def stated_text(facts: VersionFacts, stated: Mapping[str, Any], section: str) -> Any:
    """Return what people wrote for a section: a field of the registration, or a value of its framework facts."""
    if facts.registered is not None and section in HUMAN_FIELDS:
        return getattr(facts.registered.record, section)
    value = stated.get(section)
    return value["text"] if isinstance(value, Mapping) and "text" in value else value


def _human(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    who = leaf.role or "model owner"
    value = stated_text(facts, context.stated, leaf.section)
    unavailable = _unavailable(leaf.section, value, who)
    if unavailable is not None:
        return unavailable
    words = len(str(value).split()) if isinstance(value, str) else 0
    if facts.registered is None or words == 0:
        return _missing(f"section {leaf.section} is not written", f"{who}: write it", "needs_human")
    if words < leaf.min_words:
        return _missing(
            f"section {leaf.section} has {words} words, fewer than {leaf.min_words}",
            f"{who}: complete it",
            "needs_human",
        )
    return Shown(f"section {leaf.section}, {words} words", (ref(facts.registered),))


def _unavailable(section: str, value: Any, who: str) -> Shown | None:
    if not isinstance(value, Mapping) or not value.get("declared_unavailable"):
        return None
    reason = str(value["declared_unavailable"])
    return _missing(
        f"section {section} is declared unavailable: {reason}",
        f"{who}: none, unless that changes",
        "declared_unavailable",
    )


def _attestation(leaf: EvidenceNode, context: Context) -> Shown:
    """The claim stands in the registration (where a section is named), and somebody of the role signed the package that shows it."""
    facts = context.facts
    gaps: list[Gap] = []
    entries: list[EntryRef] = []
    if leaf.section:
        value = stated_text(facts, context.stated, leaf.section)
        unavailable = _unavailable(leaf.section, value, leaf.role)
        if unavailable is not None:
            return unavailable
        if facts.registered is None or not isinstance(value, str) or not value.strip():
            gaps.append(
                Gap(
                    "needs_human",
                    f"the claim {leaf.section} is not stated",
                    f"{leaf.role}: state it in the model's registration",
                )
            )
        else:
            entries.append(ref(facts.registered))
    signed = [item for item in counted_sign_offs(facts) if item.record.role == leaf.role]
    entries += [ref(item) for item in signed]
    if not signed:
        gaps.append(Gap("needs_human", f"no sign-off by {leaf.role} on this package", f"{leaf.role}: review and sign"))
    return Shown(f"attested by {leaf.role}", tuple(entries), tuple(gaps))


_KINDS: dict[str, Callable[[EvidenceNode, Context], Shown]] = {
    "auto:dataset": _dataset,
    "auto:training": _training,
    "auto:environment": _environment,
    "auto:eval": _evaluation,
    "auto:fairness": _fairness,
    "auto:approval": _approval,
    "auto:deployment": _deployment,
    "auto:monitoring": _monitoring,
    "auto:ledger": _ledger,
    "human": _human,
    "attestation": _attestation,
}
