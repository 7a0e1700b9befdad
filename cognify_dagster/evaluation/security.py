"""The gate family `security`: do the packages that a model was trained with have known vulnerabilities?

Judged offline, against a snapshot of advisories (`cognify_dagster.evaluation.snapshots`).

Invariants:

* The gate fails closed: on a package whose version cannot be judged, on advisories that cannot be read, are too old or dated
  in the future, and on an environment that cannot be read.
* A vulnerability of unknown severity counts at every threshold.
* Only what a person signed in the gate set is accepted, only for the id (and package) named, and only until the time it says.
* The result names the snapshot by digest, and says so where it is a partial one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from packaging.version import InvalidVersion, Version

from cognify_dagster.evaluation._errors import AdvisoryError
from cognify_dagster.evaluation.advisories import Advisory, fixes, judge, merge, normalise
from cognify_dagster.evaluation.cvss import ORDER, Severity
from cognify_dagster.evaluation.pins import Pin, Pins
from cognify_dagster.evaluation.snapshots import OBTAIN, Snapshot, SnapshotInfo
from cognify_dagster.records import AcceptedAdvisory, GateRule, SecurityTerms, parse_utc
from cognify_dagster.records import GateOutcome as OutcomeRecord

FAMILY = "security"
METRIC = "vulnerabilities"
#: Accepts a package whose version cannot be read: ``unknown-version/<package>``.
UNKNOWN_VERSION = "unknown-version"

#: What counts where the gate set says nothing about this family.
DEFAULT_RULE = GateRule(
    id="no-known-vulnerabilities",
    family="security",
    metric=METRIC,
    op="<=",
    threshold=0,
    source="convention",
    reason="The adopted gate set has no gate of family security, so the strictest one counts.",
)
_SHOWN = 10
_OPERATORS = {"<=": lambda value, limit: value <= limit, "<": lambda value, limit: value < limit}


@dataclass(frozen=True)
class Finding:
    """One known vulnerability in one package version.

    Attributes:
        package: Normalised name.
        version: The version.
        origins: Where the version is from: ``environment``, ``requirements``.
        ids: Its ids and aliases in all databases of the snapshot, sorted.
        severity: The highest that any of its advisories states; ``unknown`` if none does.
        score: The highest CVSS v3 base score, or None.
        fixed_in: The lowest version above this one that an advisory calls fixed, or empty.
        summary: One line.
    """

    package: str
    version: str
    origins: tuple[str, ...]
    ids: tuple[str, ...]
    severity: Severity
    score: float | None
    fixed_in: str
    summary: str

    @property
    def name(self) -> str:
        """The id that people know: the CVE where there is one."""
        return next((item for item in self.ids if item.startswith("CVE-")), self.ids[0])

    def __str__(self) -> str:
        fix = f"fixed in {self.fixed_in}" if self.fixed_in else "no fixed version known"
        return f"{self.package} {self.version}: {self.name} ({self.severity}; {fix})"

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "package": self.package,
            "version": self.version,
            "origins": list(self.origins),
            "id": self.name,
            "ids": list(self.ids),
            "severity": self.severity,
            "score": self.score,
            "fixed_in": self.fixed_in,
            "summary": self.summary,
        }


@dataclass(frozen=True)
class Scan:
    """What a snapshot says about some packages. `snapshot` is None where it cannot be read; `unjudged` says what and why.

    `unknown_versions` are the packages whose version cannot be read at all.
    """

    snapshot: SnapshotInfo | None
    pins: tuple[Pin, ...]
    findings: tuple[Finding, ...]
    unjudged: tuple[str, ...]
    unknown_versions: tuple[tuple[str, str], ...] = ()


def scan(pins: Pins, snapshot: Snapshot | AdvisoryError, now: datetime) -> Scan:
    """Look every package up. Pure.

    Args:
        pins: What is to be judged, and what cannot be.
        snapshot: The advisories about these packages, or why they cannot be read.
        now: Advisories withdrawn up to then count for nothing.
    """
    unknown = tuple(sorted({(pin.name, pin.version) for pin in pins.pins if not _readable(pin.version)}))
    if isinstance(snapshot, AdvisoryError):
        return Scan(None, pins.pins, (), (*pins.problems, f"{snapshot}"), unknown)
    findings: list[Finding] = []
    unjudged = list(pins.problems)
    versions: dict[tuple[str, str], list[str]] = {}
    for pin in pins.pins:
        versions.setdefault((pin.name, pin.version), []).append(pin.origin)
    for (name, version), origins in sorted(versions.items()):
        hits: list[Advisory] = []
        for advisory in snapshot.by_package.get(name, ()):
            verdict = judge(advisory, name, version, now)
            if verdict == "affected":
                hits.append(advisory)
            elif verdict == "unjudged" and (name, version) not in unknown:
                unjudged.append(f"{name} {version}: advisory {advisory.id} names no versions that can be compared")
        findings += [_finding(group, name, version, tuple(sorted(origins))) for group in merge(hits)]
    return Scan(snapshot.info, pins.pins, tuple(findings), tuple(unjudged), unknown)


def _readable(version: str) -> bool:
    try:
        Version(version)
    except InvalidVersion:
        return False
    return True


def _finding(group: Sequence[Advisory], name: str, version: str, origins: tuple[str, ...]) -> Finding:
    known = [item.severity for item in group if item.severity != "unknown"]
    scores = [item.score for item in group if item.score is not None]
    later = sorted({fix for item in group for fix in fixes(item, name, version)[:1]}, key=Version)
    return Finding(
        package=name,
        version=version,
        origins=origins,
        ids=tuple(sorted({name for item in group for name in item.names})),
        severity=max(known, key=ORDER.index) if known else "unknown",
        score=max(scores, default=None),
        fixed_in=later[0] if later else "",
        summary=next((item.summary for item in group if item.summary), ""),
    )


def judge_scan(result: Scan, rules: Sequence[GateRule], now: datetime) -> tuple[OutcomeRecord, ...]:
    """Judge a scan by the adopted rules. Pure: same input, same outcomes.

    Besides one outcome a rule there are always two that no rule can take away: how old the advisories are, and that
    everything could be judged. The strictest of the rules' terms count for them; what any rule accepts, for that rule only.

    Args:
        result: The scan.
        rules: The gate set's rules; those of other families are left out. Without one of this family `DEFAULT_RULE` counts.
        now: The moment that age and acceptance are judged at, with time zone.
    """
    own = [rule for rule in rules if rule.family == FAMILY] or [DEFAULT_RULE]
    return (
        *(_judge_rule(result, rule, now) for rule in own),
        _judge_age(result, own, now),
        _judge_whole(result, own, now),
    )


def accepted_in(result: Scan, rules: Sequence[GateRule], now: datetime) -> list[tuple[Finding, AcceptedAdvisory]]:
    """The vulnerabilities that were found and are accepted, with what accepts them."""
    own = [rule for rule in rules if rule.family == FAMILY]
    found = ((item, acceptance(item, rule, now)) for rule in own for item in result.findings)
    return [(item, accepted) for item, accepted in found if accepted is not None]


def acceptance(finding: Finding, rule: GateRule, now: datetime) -> AcceptedAdvisory | None:
    """Return what in a rule accepts a vulnerability at a moment, or None."""
    for item in _terms(rule).accepted:
        about = not item.package or normalise(item.package) == finding.package
        if about and item.id in finding.ids and now <= parse_utc(item.expires):
            return item
    return None


def _terms(rule: GateRule) -> SecurityTerms:
    return rule.security or SecurityTerms()


def _counts(finding: Finding, terms: SecurityTerms) -> bool:
    if terms.min_severity == "any" or finding.severity == "unknown":
        return True
    return ORDER.index(finding.severity) >= ORDER.index(terms.min_severity)


def _judge_rule(result: Scan, rule: GateRule, now: datetime) -> OutcomeRecord:
    terms = _terms(rule)
    if rule.metric != METRIC or rule.op not in _OPERATORS:
        text = f"{rule.metric} {rule.op} is nothing that a security gate judges; use {METRIC} with <="
        return _outcome(rule.id, rule.metric, rule.op, rule.threshold, None, False, text)
    wanted = f"{METRIC} {rule.op} {rule.threshold:g}"
    if result.snapshot is None:
        return _outcome(
            rule.id, METRIC, rule.op, rule.threshold, None, False, f"Nothing could be judged; {wanted} is not shown."
        )
    counted = [item for item in result.findings if _counts(item, terms) and acceptance(item, rule, now) is None]
    accepted = sum(acceptance(item, rule, now) is not None for item in result.findings)
    passed = _OPERATORS[rule.op](len(counted), rule.threshold)
    scope = "" if terms.min_severity == "any" else f" of severity {terms.min_severity} or above (or unknown)"
    text = f"{len(counted)} known vulnerabilities{scope} in {len({pin.name for pin in result.pins})} packages"
    text += f", {accepted} accepted" if accepted else ""
    expired = [
        item.id
        for item in terms.accepted
        if now > parse_utc(item.expires) and any(item.id in found.ids for found in counted)
    ]
    if counted:
        text += ": " + "; ".join(str(item) for item in counted[:_SHOWN])
        text += f"; and {len(counted) - _SHOWN} more, see the report" if len(counted) > _SHOWN else ""
    if expired:
        text += f". The acceptance of {', '.join(expired)} has expired"
    return _outcome(
        rule.id,
        METRIC,
        rule.op,
        rule.threshold,
        len(counted),
        passed,
        f"{text}. {wanted} {'holds' if passed else 'does not hold'}.",
    )


def _judge_age(result: Scan, rules: Sequence[GateRule], now: datetime) -> OutcomeRecord:
    limit = min(_terms(rule).max_age_days for rule in rules)
    known = result.snapshot
    if known is None:
        text = f"The advisories cannot be read, so nothing is shown: {OBTAIN}."
        return _outcome("security.snapshot", "advisories.age_days", "<=", limit, None, False, text)
    age = known.age_days(now.astimezone(timezone.utc).date())
    text = f"Advisories of {known.date} ({known.source}, {known.digest}), {age} days old"
    refuse_partial = known.partial and any(_terms(rule).partial_snapshot == "fail" for rule in rules)
    passed = 0 <= age <= limit and not refuse_partial
    if known.partial:
        text += f"; {known.why_partial}"
        text += ", which the gate set does not accept" if refuse_partial else ""
    if age < 0:
        text += ": dated in the future; check the clock, and import the advisories again"
    elif age > limit:
        text += f": older than the {limit} days that count, so newer vulnerabilities would be missed"
    return _outcome(
        "security.snapshot",
        "advisories.age_days",
        "<=",
        limit,
        age,
        passed,
        f"{text}." if passed else f"{text}. To pass: {OBTAIN}.",
    )


def _judge_whole(result: Scan, rules: Sequence[GateRule], now: datetime) -> OutcomeRecord:
    problems = list(result.unjudged)
    for name, version in result.unknown_versions:
        ids = (f"{UNKNOWN_VERSION}/{name}",)
        stand_in = Finding(name, version, (), ids, "unknown", None, "", "")
        if not all(acceptance(stand_in, rule, now) for rule in rules):
            problems.append(f"{name}: version {version[:60]!r} is unknown, cannot be judged")
    if not result.pins and not problems:
        problems.append("no package is named")
    text = "Every package version could be judged."
    if problems:
        more = f"; and {len(problems) - _SHOWN} more, see the report" if len(problems) > _SHOWN else ""
        text = f"{len(problems)} cannot be judged: {'; '.join(problems[:_SHOWN])}{more}."
    return _outcome("security.judged", "unjudged", "<=", 0, len(problems), not problems, text)


def _outcome(
    name: str, metric: str, op: str, threshold: float, value: int | None, passed: bool, message: str
) -> OutcomeRecord:
    status = "pass" if passed else ("missing" if value is None else "fail")
    return OutcomeRecord.model_validate(
        {
            "id": name,
            "family": FAMILY,
            "metric": metric,
            "op": op,
            "threshold": float(threshold),
            "value": value,
            "status": status,
            "passed": passed,
            "message": message,
        }
    )
