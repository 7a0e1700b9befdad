"""Over random facts and random frameworks: satisfied only by entries that exist, are fresh and verify; every gap says who does what."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import VersionFacts, assess_coverage
from cognify_dagster.documents.coverage.checks import check_leaf
from cognify_dagster.documents.coverage.engine import CoverageReport
from cognify_dagster.documents.coverage.surroundings import Cited, DelegationFact, FindingFact, IncidentFact, PlanFact
from cognify_dagster.documents.coverage.types import Context
from cognify_dagster.documents.facts.human import AttestationFact, SectionFact
from cognify_dagster.documents.frameworks.loading import parse_framework
from cognify_dagster.documents.frameworks.model import KIND_CHECKS, KINDS_WITH_TABLES, Framework
from cognify_dagster.records import RetentionRule, utc
from tests.documents.test_coverage import LISTS, PARTS, bend, entries_of
from tests.documents.test_frameworks_shipped import sample

ROLES = ["model_validator", "compliance_officer", "business_owner"]
SECTIONS = ["limitations", "monitoring_plan", "scope_rationale", "own_words"]
DAY = 86_400_000_000


@st.composite
def leaves(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(KIND_CHECKS)))
    node: dict[str, Any] = {"kind": kind}
    if KIND_CHECKS[kind]:
        node["checks"] = draw(st.lists(st.sampled_from(sorted(KIND_CHECKS[kind])), max_size=3, unique=True))
    if kind in KINDS_WITH_TABLES:
        node["tables"] = draw(st.lists(st.sampled_from(["calibration", "roc", "drift"]), max_size=2, unique=True))
    if kind == "human":
        node |= {"section": draw(st.sampled_from(SECTIONS)), "min_words": draw(st.integers(1, 6))}
    if kind == "attestation":
        node |= {"role": draw(st.sampled_from(ROLES)), "text_id": draw(st.sampled_from(["", "licence", "baa"]))}
        node["section"] = draw(st.sampled_from(["", *SECTIONS]))
    if kind == "auto:approval":
        node["role"] = draw(st.sampled_from(["", *ROLES]))
    if draw(st.booleans()):
        node["max_age_days"] = draw(st.integers(1, 60))
    return node


trees = st.recursive(
    leaves(),
    lambda inner: st.builds(
        lambda name, parts: {name: parts},
        st.sampled_from(["all_of", "any_of"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


@st.composite
def frameworks(draw: st.DrawFn) -> Framework:
    data = sample()
    data["status"] = draw(st.sampled_from(["in_force", "in_force", "future", "draft"]))
    data["applicability"] = draw(st.sampled_from([None, {"uses_it": True}]))
    data["retention"] = draw(
        st.sampled_from(
            [
                [],
                [
                    {
                        "id": "r",
                        "artefacts": ["package"],
                        "years": 5,
                        "from": "created",
                        "citation": "A",
                        "basis": "memory",
                    }
                ],
            ]
        )
    )
    first = data["sections"][0]["requirements"][0]
    rows = [first]
    for number in range(draw(st.integers(1, 4))):
        rows.append(
            {
                **first,
                "id": f"s.{number}",
                "scope_determination": False,
                "force": draw(st.sampled_from(["law", "guidance", "voluntary"])),
                "mandatory": draw(st.booleans()),
                "judged_by": draw(st.sampled_from(["", *ROLES])),
                "applies_when": draw(st.sampled_from([None, {"uses_it": True}, {"not": {"uses_it": [True, "x"]}}])),
                "evidence": draw(trees),
            }
        )
    data["sections"][0]["requirements"] = rows
    return Framework.model_validate(data)


def entry(seq: int) -> Cited:
    """One entry for each number, up to 90 days old."""
    return Cited(seq, 1_763_700_000_000_000 - seq * 7 % 91 * DAY, "abcdef"[seq % 6] * 64)


cited = st.integers(900, 999).map(entry)
moments = st.integers(-40, 40).map(
    lambda days: utc(datetime(2026, 11, 21, 8, tzinfo=timezone.utc) + timedelta(days=days))
)


@st.composite
def humans(draw: st.DrawFn) -> dict[str, Any]:
    def section(name: str) -> SectionFact:
        place = draw(cited)
        return SectionFact(
            section=name,
            text=draw(st.sampled_from(["", " ", "one two", "one two three four five six seven"])),
            author="",
            author_signed=False,
            ai_drafted=draw(st.booleans()),
            approved=False,
            revision=1,
            seq=place.seq,
            leaf=place.leaf,
            time_us=place.time_us,
            declared_unavailable=draw(st.sampled_from(["", "", "nobody knows"])),
        )

    def attestation() -> AttestationFact:
        place = draw(cited)
        return AttestationFact(
            text_id=draw(st.sampled_from(["licence", "baa"])),
            about="model/x",
            role=draw(st.sampled_from(ROLES)),
            person="person/carl",
            expires=draw(st.one_of(st.none(), moments)),
            seq=place.seq,
            leaf=place.leaf,
            time_us=place.time_us,
            valid=draw(st.booleans()),
            why="its signature does not verify",
        )

    names = draw(st.lists(st.sampled_from(SECTIONS), unique=True))
    return {
        "sections": {name: section(name) for name in names},
        "attestations": tuple(attestation() for _ in range(draw(st.integers(0, 3)))),
    }


@st.composite
def oversights(draw: st.DrawFn) -> dict[str, Any]:
    entries = iter([draw(cited) for _ in range(6)])
    rule = RetentionRule(id="r", title="r", months=draw(st.sampled_from([12, 60, 120])))
    adopted = draw(st.booleans())
    return {
        "retention": (rule,) if adopted else (),
        "retention_entry": next(entries) if adopted else None,
        "plans": (PlanFact(next(entries), "p", draw(moments)),) if draw(st.booleans()) else (),
        "incidents": (IncidentFact(next(entries), "x"),) if draw(st.booleans()) else (),
        "findings": (FindingFact(next(entries), draw(st.sampled_from(["low", "high"])), "t"),)
        if draw(st.booleans())
        else (),
        "delegations": (DelegationFact(next(entries), "r", "a", "b", draw(moments), draw(moments)),)
        if draw(st.booleans())
        else (),
        "wanted_roles": tuple(draw(st.lists(st.sampled_from(ROLES), unique=True))),
        "holders": {role: (next(entries),) for role in draw(st.lists(st.sampled_from(ROLES), max_size=1))},
    }


def bent(base: VersionFacts, dropped: list[str], human: dict[str, Any], oversight: dict[str, Any]) -> VersionFacts:
    facts = replace(base, **human, oversight=replace(base.oversight, **oversight))
    return replace(facts, **{part: None if part in PARTS else () for part in dropped})


def times_of(value: Any) -> dict[int, int]:
    """When each entry that the facts hold was appended, found by walking them."""
    found: dict[int, int] = {}
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            found |= times_of(item)
    elif hasattr(value, "__dataclass_fields__"):
        if hasattr(value, "seq") and hasattr(value, "time_us"):
            found[value.seq] = value.time_us
        for name in value.__dataclass_fields__:
            if name not in ("entry", "record", "predicate", "before") or not hasattr(value, "leaf"):
                found |= times_of(getattr(value, name))
    return found


def walked(facts: VersionFacts) -> dict[int, str]:
    """Every entry that the facts hold, those too that the walk of the other test leaves out: mappings, and members named `entry`."""
    held = facts.oversight
    inner = [item.entry for part in (held.plans, held.incidents, held.findings, held.delegations) for item in part]
    found = entries_of(inner) | entries_of(facts) | entries_of(tuple(facts.sections.values()))
    return found | entries_of([entry for entries in facts.oversight.holders.values() for entry in entries])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    framework=frameworks(),
    dropped=st.lists(st.sampled_from(PARTS + LISTS), unique=True, max_size=5),
    human=humans(),
    oversight=oversights(),
    signed=st.booleans(),
    stated=st.sampled_from([None, True, False, "yes"]),
    late=st.integers(0, 100),
)
def test_satisfied_means_entries_that_exist_are_fresh_and_verify(
    facts: VersionFacts,
    released: VersionFacts,
    now: datetime,
    framework: Framework,
    dropped: list[str],
    human: dict[str, Any],
    oversight: dict[str, Any],
    signed: bool,
    stated: Any,
    late: int,
) -> None:
    base = bend(released if signed else facts, "registered", framework_facts={"uses_it": stated})
    some = bent(base, dropped, human, oversight)
    moment = now + timedelta(days=late)
    exist, times = walked(some), {**some.oversight.times, **times_of(some)}
    report = assess_coverage(some, framework, moment)
    for line in report.lines:
        assert {ref.seq: ref.leaf for ref in line.entries}.items() <= exist.items()
        if line.status == "satisfied":
            assert line.entries
            assert not line.gaps
        elif line.status == "not_applicable":
            assert line.derivation
            assert all(step["holds"] is not None for step in line.derivation), "what is not stated excludes nothing"
        else:
            assert line.gaps
            assert all(gap.text and gap.who for gap in line.gaps)
    stated_facts = {"uses_it": stated} if some.registered else {}
    context = Context(some, stated_facts, moment, framework)
    texts = [*some.attestations, *some.sections.values()]
    counting = {item.seq for item in some.attestations if item.problem(moment) is None}
    counting |= {item.seq for item in some.sections.values() if item.counts}
    void = {item.seq for item in texts} - counting - set(walked(replace(some, attestations=(), sections={})))
    for item in framework.requirements():
        for leaf in item.evidence.leaves():
            shown = check_leaf(leaf, context)
            if shown.gaps:
                continue
            used = {ref.seq for ref in shown.entries}
            assert used
            assert not used & void, "what does not count supports nothing"
            if leaf.max_age_days is not None:
                oldest = min(times[seq] for seq in used)
                age = moment - datetime.fromtimestamp(oldest / 1e6, tz=timezone.utc)
                assert age.days <= leaf.max_age_days
    _counts_agree(report)


def _counts_agree(report: CoverageReport) -> None:
    for force in ("law", "guidance"):
        counted = sum(report.counts(force).values())
        assert counted == sum(line.requirement.force == force for line in report.counted())
    for line in report.to_do():
        assert line.open
        assert line.requirement.mandatory


def test_the_same_text_gives_the_same_framework() -> None:
    import yaml

    text = yaml.safe_dump(sample())
    assert parse_framework(text).digest() == parse_framework(text).digest()
