"""The gate "completeness": the sections that the policy demands of people are written, and signed where a program drafted them.

Invariant: a text counts here exactly where it counts in coverage; an empty text and an unsigned draft fail the gate.
"""

from __future__ import annotations

from collections.abc import Iterable

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.section_files import human_text, section_roles
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import Framework
from cognify_dagster.documents.labels import section_title
from cognify_dagster.governance import Policy
from cognify_dagster.records import GateOutcome, GateResult


def required_sections(policy: Policy, tier: str) -> tuple[str, ...]:
    """Return the sections that the policy demands: of every model, and of this tier."""
    own = policy.tiers[tier].required_sections if tier in policy.tiers else ()
    return tuple(dict.fromkeys((*policy.required_fields, *own)))


def completeness(facts: VersionFacts, policy: Policy, frameworks: Iterable[Framework]) -> GateResult:
    """Return the result of the gate for a version under a policy, with the frameworks that it is under.

    Raises:
        DocumentError: if the version is not registered or not evaluated.
    """
    if facts.registered is None or facts.evaluation is None:
        raise DocumentError(f"{facts.model} {facts.version} is not registered and evaluated; there is nothing to judge")
    scope, based_on, outcomes = tuple(frameworks), {facts.registered.seq, facts.evaluation.seq}, []
    for name in required_sections(policy, facts.tier):
        outcome, seqs = _outcome(facts, name, section_roles(name, scope, policy.roles))
        outcomes.append(outcome)
        based_on |= seqs
    return GateResult(
        model=facts.model,
        version=facts.version,
        family="completeness",
        status="pass" if all(item.passed for item in outcomes) else "fail",
        outcomes=tuple(outcomes),
        based_on=tuple(sorted(based_on)),
    )


def _outcome(facts: VersionFacts, name: str, roles: tuple[str, ...]) -> tuple[GateOutcome, set[int]]:
    found, title = human_text(facts, name, roles=roles), name.replace("_", " ")
    seqs: set[int] = set()
    if found is None or not (found.text.strip() or found.declared_unavailable):
        message = f"{title} is empty: write it as a section “{section_title(name)}” ({name}.md) or in the registration"
        passed = False
    elif found.declared_unavailable:
        message, passed = f"{title} is declared unavailable: {found.declared_unavailable}", False
    elif not found.counts:
        message, passed = f"{title} does not count: {found.why} (`cognify section approve`)", False
    else:
        message, passed = f"{title} is stated", True
    if found is not None and found.recorded:
        seqs = {found.seq, *(item.seq for item in facts.sections[name].approvals)}
    outcome = GateOutcome(
        id=f"section-{name.replace('_', '-')}",
        family="completeness",
        metric=name,
        op=">=",
        threshold=1.0,
        value=1 if passed else 0,
        status="pass" if passed else "fail",
        passed=passed,
        message=message,
    )
    return outcome, seqs
