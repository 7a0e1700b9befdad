"""The security gate: which packages are judged, what counts, what fails closed, what a signature may accept."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.evaluation import AdvisoryError, Gate, GateSetError, parse_gate_set
from cognify_dagster.evaluation.advisories import read_advisory
from cognify_dagster.evaluation.pins import Pin, Pins, environment_pins, requirement_pins
from cognify_dagster.evaluation.security import DEFAULT_RULE, accepted_in, judge_scan, scan
from cognify_dagster.evaluation.snapshots import Snapshot, SnapshotInfo
from cognify_dagster.governance import gate_digest
from cognify_dagster.records import GateOutcome, GateRule, SecurityTerms

NOW = datetime(2026, 11, 21, 8, tzinfo=timezone.utc)


def advisory(name: str, package: str = "demo", fixed: str = "2.0", **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
    affected = [{"package": {"ecosystem": "PyPI", "name": package}, "ranges": ranges}]
    return {"id": name, "modified": "2026-11-01T00:00:00Z", "affected": affected, **more}


def snapshot(*rows: dict[str, Any], day: str = "2026-11-20", partial: str = "") -> Snapshot:
    kept: dict[str, list[Any]] = {}
    for row in rows:
        found = read_advisory(row, "test")
        kept.setdefault(found.affected[0].package, []).append(found)
    info = SnapshotInfo("sha256:" + "0" * 64, day, bool(partial), partial, "a test", len(rows))
    return Snapshot(info, {name: tuple(found) for name, found in kept.items()})


def pins(**versions: str) -> Pins:
    return Pins(tuple(Pin(name, version, "environment") for name, version in versions.items()))


def rule(threshold: float = 0, **terms: Any) -> GateRule:
    return GateRule(
        id="known",
        family="security",
        metric="vulnerabilities",
        op="<=",
        threshold=threshold,
        source="policy",
        security=SecurityTerms(**terms) if terms else None,
    )


def judged(
    found: Snapshot | AdvisoryError,
    rules: list[GateRule] | None = None,
    packages: Pins | None = None,
    now: datetime = NOW,
) -> dict[str, GateOutcome]:
    result = scan(packages or pins(demo="1.0"), found, NOW)
    return {item.id: item for item in judge_scan(result, rules if rules is not None else [rule()], now)}


def passes(outcomes: dict[str, GateOutcome]) -> bool:
    return all(item.passed for item in outcomes.values())


LOW = {"database_specific": {"severity": "LOW"}}
HIGH = {"database_specific": {"severity": "HIGH"}}


# -- what counts --------------------------------------------------------------------------------------------------------


def test_no_known_vulnerability_passes_and_the_result_names_the_advisories() -> None:
    outcomes = judged(snapshot(advisory("A-1", fixed="0.5")))
    assert passes(outcomes)
    assert "0 known vulnerabilities in 1 packages" in outcomes["known"].message
    assert "sha256:" + "0" * 64 in outcomes["security.snapshot"].message


def test_a_known_vulnerable_version_fails_and_says_what_to_install() -> None:
    row = advisory("GHSA-1111-2222-3333", aliases=["CVE-2026-1"], summary="bad", **HIGH)
    outcome = judged(snapshot(row))["known"]
    assert (outcome.status, outcome.passed, outcome.value) == ("fail", False, 1)
    assert "demo 1.0: CVE-2026-1 (high; fixed in 2.0)" in outcome.message


def test_two_databases_that_know_the_same_vulnerability_count_once() -> None:
    found = scan(
        pins(demo="1.0"),
        snapshot(advisory("PYSEC-1", aliases=["CVE-2026-1"]), advisory("GHSA-1", aliases=["CVE-2026-1"], **HIGH)),
        NOW,
    )
    assert [(item.name, item.severity, item.ids) for item in found.findings] == [
        ("CVE-2026-1", "high", ("CVE-2026-1", "GHSA-1", "PYSEC-1"))
    ]


def test_without_a_gate_of_this_family_the_strictest_one_counts() -> None:
    performance = GateRule(id="a", family="performance", metric="auc", op=">=", threshold=0.7, source="policy")
    outcomes = judged(snapshot(advisory("A-1", **LOW)), [performance])
    assert not outcomes[DEFAULT_RULE.id].passed
    assert set(outcomes) == {DEFAULT_RULE.id, "security.snapshot", "security.judged"}


@pytest.mark.parametrize(
    ("severity", "minimum", "counts"),
    [
        ("LOW", "any", 1), ("LOW", "medium", 0), ("MODERATE", "medium", 1), ("HIGH", "critical", 0), ("CRITICAL", "high", 1),
        ("", "critical", 1),  # unknown counts at every threshold
    ],
)  # fmt: skip
def test_severities_below_the_threshold_do_not_count_but_unknown_ones_do(
    severity: str, minimum: str, counts: int
) -> None:
    row = advisory("A-1", database_specific={"severity": severity})
    assert judged(snapshot(row), [rule(min_severity=minimum)])["known"].value == counts


def test_each_rule_counts_for_itself() -> None:
    rows = [advisory("A-1", **LOW), advisory("A-2", **HIGH)]
    loose = rule(threshold=5).model_copy(update={"id": "loose"})
    outcomes = judged(snapshot(*rows), [rule(min_severity="critical"), loose])
    assert (outcomes["known"].value, outcomes["loose"].value) == (0, 2)
    assert passes(outcomes)


@given(
    fixed=st.lists(st.integers(1, 9), max_size=6),
    version=st.integers(0, 9),
    severities=st.lists(st.sampled_from(["LOW", "MODERATE", "HIGH", "CRITICAL", ""]), min_size=6, max_size=6),
)
def test_a_stricter_threshold_never_counts_less(fixed: list[int], version: int, severities: list[str]) -> None:
    rows = [
        advisory(f"A-{n}", fixed=str(bound), database_specific={"severity": severities[n]})
        for n, bound in enumerate(fixed)
    ]
    counts = [
        judged(snapshot(*rows), [rule(min_severity=level)], pins(demo=str(version)))["known"].value
        for level in ("any", "low", "medium", "high", "critical")
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == sum(version < bound for bound in fixed)


# -- what fails closed --------------------------------------------------------------------------------------------------


def test_a_version_that_cannot_be_read_fails_even_where_no_advisory_is_about_it() -> None:
    outcomes = judged(snapshot(advisory("A-1", fixed="0.1")), packages=pins(demo="1.0", own="unknown"))
    assert outcomes["known"].passed
    assert "own: version 'unknown' is unknown, cannot be judged" in outcomes["security.judged"].message
    assert not passes(outcomes)


def test_an_advisory_that_cannot_be_compared_fails() -> None:
    outcomes = judged(snapshot(advisory("A-1", fixed="latest")))
    assert "advisory A-1 names no versions that can be compared" in outcomes["security.judged"].message
    assert not passes(outcomes)


@pytest.mark.parametrize(
    ("day", "limit", "fine"),
    [
        ("2026-11-21", 30, True),
        ("2026-10-22", 30, True),
        ("2026-10-21", 30, False),
        ("2026-11-13", 7, False),
        ("2026-11-22", 30, False),
    ],
)
def test_advisories_that_are_too_old_or_of_the_future_judge_nothing(day: str, limit: int, fine: bool) -> None:
    outcomes = judged(snapshot(advisory("A-1", fixed="0.1"), day=day), [rule(max_age_days=limit)])
    assert passes(outcomes) is fine
    assert ("cognify advisories import" in outcomes["security.snapshot"].message) is not fine


def test_the_strictest_age_counts_whatever_other_rules_say() -> None:
    loose = rule(max_age_days=3650).model_copy(update={"id": "loose"})
    outcomes = judged(snapshot(advisory("A-1", fixed="0.1"), day="2026-10-01"), [loose, rule()])
    assert not outcomes["security.snapshot"].passed


def test_advisories_that_cannot_be_read_fail_every_outcome_they_are_needed_for() -> None:
    outcomes = judged(AdvisoryError("the imported advisories were changed since"))
    assert [item.passed for item in outcomes.values()] == [False, False, False]
    assert outcomes["known"].status == "missing"


def test_a_partial_snapshot_is_said_to_be_one_and_can_be_made_to_fail() -> None:
    found = snapshot(advisory("A-1", fixed="0.1"), partial="partial sample of 21 advisories")
    noted = judged(found)["security.snapshot"]
    assert noted.passed
    assert "partial sample of 21 advisories" in noted.message
    assert not judged(found, [rule(partial_snapshot="fail")])["security.snapshot"].passed


def test_no_package_at_all_fails() -> None:
    assert not passes(judged(snapshot(advisory("A-1")), packages=Pins(())))


def test_a_rule_about_something_else_fails() -> None:
    odd = rule().model_copy(update={"metric": "bugs"})
    assert not judged(snapshot(advisory("A-1", fixed="0.1")), [odd])["known"].passed


# -- what is accepted ---------------------------------------------------------------------------------------------------


def accept(name: str = "CVE-2026-1", expires: str = "2026-12-31", package: str = "") -> dict[str, Any]:
    return {"id": name, "reason": "the function is never called", "expires": expires, "package": package}


@pytest.mark.parametrize(
    ("item", "fine"),
    [
        (accept(), True),
        (accept("GHSA-1"), True),
        (accept(package="Demo"), True),
        (accept(expires="2026-11-21"), True),
        (accept(expires="2026-11-20"), False),
        (accept(expires="2026-11-21T08:00:00Z"), True),
        (accept(expires="2026-11-21T07:59:59Z"), False),
        (accept(package="other"), False),
        (accept("CVE-2026-2"), False),
    ],
)
def test_only_the_named_vulnerability_is_accepted_only_there_and_only_until_its_day(
    item: dict[str, Any], fine: bool
) -> None:
    own = rule(accepted=(item,))
    row = advisory("GHSA-1", aliases=["CVE-2026-1"])
    outcomes = judged(snapshot(row), [own])
    assert passes(outcomes) is fine
    assert ("1 accepted" in outcomes["known"].message) is fine
    assert bool(accepted_in(scan(pins(demo="1.0"), snapshot(row), NOW), [own], NOW)) is fine


def test_an_acceptance_that_has_expired_is_named() -> None:
    outcome = judged(snapshot(advisory("CVE-2026-1")), [rule(accepted=(accept(expires="2026-11-20"),))])["known"]
    assert "The acceptance of CVE-2026-1 has expired" in outcome.message


def test_an_acceptance_of_one_rule_does_not_count_for_another() -> None:
    other = rule().model_copy(update={"id": "other"})
    outcomes = judged(snapshot(advisory("CVE-2026-1")), [rule(accepted=(accept(),)), other])
    assert (outcomes["known"].passed, outcomes["other"].passed) == (True, False)


def test_a_package_of_unknown_version_can_be_accepted_by_name() -> None:
    rules = [rule(accepted=(accept("unknown-version/own"),))]
    assert passes(judged(snapshot(advisory("A-1", fixed="0.1")), rules, pins(demo="1.0", own="unknown")))
    assert not passes(judged(snapshot(advisory("A-1", fixed="0.1")), rules, pins(demo="1.0", other="unknown")))


# -- the gate file and the record ---------------------------------------------------------------------------------------

GATE_FILE = """\
name: credit_gates
gates:
  - id: no-known-vulnerabilities
    family: security
    metric: vulnerabilities
    op: "<="
    threshold: 0
    source: policy
    reason: We release nothing with a known hole.
    security:
      min_severity: high
      max_age_days: 7
      accepted:
        - id: CVE-2026-1
          package: demo
          reason: the function is never called
          expires: 2026-12-31
"""


def test_a_gate_file_states_the_terms_that_people_sign() -> None:
    gate = parse_gate_set(GATE_FILE).gates[0]
    assert gate.security is not None
    assert gate.security.accepted[0].expires == "2026-12-31T23:59:59Z"
    assert GateRule(**gate.model_dump()).security == gate.security


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("metric: vulnerabilities", "metric: auc", "metric: vulnerabilities"),
        ('op: "<="', 'op: ">="', "op: <="),
        ("max_age_days: 7", "max_age_days: 0", "max_age_days"),
        ("min_severity: high", "min_severity: hihg", "min_severity"),
        ("expires: 2026-12-31", "expires: never", "expires"),
        ("reason: the function is never called", "reason: ' '", "reason"),
        ("family: security", "family: performance", "only a gate of family security"),
        ("max_age_days: 7", "max_days: 7", "max_days"),
    ],
)
def test_a_wrong_term_is_an_error_that_names_it(old: str, new: str, says: str) -> None:
    with pytest.raises(GateSetError, match=says):
        parse_gate_set(GATE_FILE.replace(old, new))


def test_rules_without_terms_keep_the_digest_they_had_before_there_were_any() -> None:
    own = GateRule(id="a", family="performance", metric="auc", op=">=", threshold=0.7, source="policy")
    # computed before the field `security` existed
    assert gate_digest([own]) == "sha256:786441aaffd57207dbb7033d5f5cf39060abfc2769c77cf66ac212a04771cf20"
    assert "security" not in own.model_dump(mode="json")
    assert gate_digest([rule(max_age_days=7)]) != gate_digest([rule(max_age_days=8)]) != gate_digest([rule()])


def test_the_terms_are_only_for_this_family() -> None:
    with pytest.raises(ValueError, match="family security"):
        Gate(id="a", family="performance", metric="auc", op=">=", threshold=1, source="law", reason="x", security={})


# -- which packages -----------------------------------------------------------------------------------------------------


def environment(*packages: tuple[str, str]) -> tuple[bytes, str]:
    listed = [{"name": name, "version": version} for name, version in packages]
    text = "".join(sorted(f"{name}=={version}\n" for name, version in packages))
    return json.dumps({"packages": listed}).encode(), hashlib.sha256(text.encode()).hexdigest()


def test_the_recorded_environment_is_judged_as_recorded() -> None:
    detail, digest = environment(("click", "8.1"), ("Jinja2", "3.1"))
    assert environment_pins(detail, digest).pins == (
        Pin("click", "8.1", "environment"),
        Pin("jinja2", "3.1", "environment"),
    )


@pytest.mark.parametrize(
    "detail", [b"", b"{}", b"[]", b'{"packages": 5}', b'{"packages": [{"name": "a"}]}', b"[" * 5000]
)
def test_an_environment_that_cannot_be_read_is_a_problem(detail: bytes) -> None:
    found = environment_pins(detail, "0" * 64)
    assert not found.pins
    assert found.problems


def test_another_list_than_the_run_names_is_a_problem() -> None:
    detail, _ = environment(("click", "8.1"))
    _, other = environment(("click", "8.2"))
    assert "not the one that the training run names" in environment_pins(detail, other).problems[0]
    assert environment_pins(*environment()).problems


def requirements(tmp_path: Path, text: str) -> Pins:
    path = tmp_path / "constraints.txt"
    path.write_text(text, encoding="utf-8")
    return requirement_pins(path)


def test_pins_are_read_as_pip_writes_them(tmp_path: Path) -> None:
    found = requirements(
        tmp_path,
        "--index-url https://example.org/simple\n# comment\n\nDemo_Pkg==1.0  # why\nother[extra]==2.0 ; python_version < '3.12'\n"
        "hashed==3.0 \\\n    --hash=sha256:abc \\\n    --hash=sha256:def\nexact===4.0+local\n",
    )
    assert not found.problems
    assert [(pin.name, pin.version) for pin in found.pins] == [
        ("demo-pkg", "1.0"),
        ("exact", "4.0+local"),
        ("hashed", "3.0"),
        ("other", "2.0"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "demo", "demo>=1.0", "demo==1.*", "demo==1.0,!=1.1", "demo @ https://example.org/demo.whl", "-r other.txt", "-c other.txt",
        "-e .", "./demo-1.0.whl", "--editable=.", "demo = 1.0",
    ],
)  # fmt: skip
def test_a_line_that_pins_no_version_is_never_skipped(tmp_path: Path, line: str) -> None:
    found = requirements(tmp_path, f"click==8.1\n{line}\n")
    assert len(found.pins) == 1
    assert "line 2" in found.problems[0]
    assert "cannot be judged" in found.problems[0]


def test_a_file_that_cannot_be_read_is_a_problem_and_not_an_exception(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"\xff\xfe==1")
    assert requirement_pins(tmp_path / "bad").problems
    assert requirement_pins(tmp_path / "missing").problems
    assert requirement_pins(tmp_path).problems
    assert requirements(tmp_path, "# nothing\n").problems


def test_the_same_pin_from_both_places_is_one_and_two_versions_are_two() -> None:
    both = pins(demo="1.0") + Pins((Pin("demo", "1.0", "requirements"), Pin("demo", "1.5", "requirements")))
    found = scan(both, snapshot(advisory("A-1")), NOW)
    assert [(item.version, item.origins) for item in found.findings] == [
        ("1.0", ("environment", "requirements")),
        ("1.5", ("requirements",)),
    ]
