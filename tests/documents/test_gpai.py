"""The compute criterion for those who modify general-purpose models: figures in, a cautious verdict out, nothing hidden."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents.coverage.gpai import (
    FACT,
    GPAI_FLOP,
    MARGIN,
    SYSTEMIC_FLOP,
    VERDICT_WORDS,
    Determination,
    determine,
    gpai_facts,
)
from cognify_dagster.documents.coverage.gpai_compute import plain_number
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import CodeRef, DatasetRef, EnvironmentRef, EvidenceItem, TrainingRun, to_json

BLOB = EvidenceItem(name="m", digest="sha256:" + "1" * 64, size=1, media_type="application/octet-stream")
BASE = {"name": "base-7b", "sha256": "2" * 64, "licence": "apache-2.0", "source": "hub"}
#: A stated original of 1.7e24 FLOP: the line is 5.67e23.
KNOWN = {"training_compute_flop": 1.7e24, "training_compute_source": "model report, table 2", "parameters": 7e9}


def run(
    compute: Any = None, details: Any = None, *, base: bool = True, architecture: Any = None, duration_s: Any = None
) -> TrainingRun:
    base_model = {**BASE, "details": {} if details is None else details} if base else {}
    return TrainingRun(
        model="assistant",
        version="1",
        datasets=(DatasetRef(name="letters", root="a" * 64, seq=3, role="train"),),
        model_file=BLOB,
        architecture=architecture or {},
        base_model=base_model,
        code=CodeRef(vcs="git"),
        environment=EnvironmentRef(
            python="3.12", platform="Linux", packages_digest="6" * 64, gpu="H200", container_image="none", detail=BLOB
        ),
        launched_by="person/ben",
        started_after_seq=4,
        extra={} if compute is None else {"compute": compute},
        observed={} if duration_s is None else {"duration_s": duration_s},
    )


def of_size(flop: float, details: Any = None) -> Determination:
    return determine(run({"flop": flop, "flop_method": "counter"}, details))


# Published worked examples of the guidelines' annex on training compute, recomputed by the same formulas.


@pytest.mark.parametrize(
    ("parameters", "tokens", "published"),
    [
        (3.8e9, 3.3e12, 7.5e22),
        (0.6e9, 36e12, 1.3e23),
        (1.54e9, 18e12, 1.663e23),
        (1.7e9, 36e12, 3.7e23),
        (2.5e9, 12e12, 1.8e23),
        (2.6e9, 61e9 * 164, 1.5e23),
    ],
)
def test_the_architecture_formula_gives_the_published_examples(
    parameters: float, tokens: float, published: float
) -> None:
    result = determine(run({"parameters": parameters, "tokens": tokens}))
    assert result.modification_flop == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(("unit_hours", "peak", "published"), [(200_000, 300e12, 1.08e23), (370_000, 989e12, 6.6e23)])
def test_the_hardware_formula_gives_the_published_examples(unit_hours: float, peak: float, published: float) -> None:
    hardware = {"units": 100, "seconds": unit_hours * 36, "peak_flop_per_second": peak, "utilisation": 0.5}
    result = determine(run({"hardware": hardware}))
    assert result.modification_flop == pytest.approx(published, rel=0.02)
    assert "N·L·H·U" in result.estimates[0].working


def test_periods_with_other_numbers_of_units_add_up() -> None:
    period = {"units": 8, "seconds": 3600, "peak_flop_per_second": 1e15, "utilisation": 0.4}
    one = determine(run({"hardware": period})).modification_flop
    two = determine(run({"hardware": [period, {**period, "units": 16}]})).modification_flop
    assert one is not None
    assert two == pytest.approx(3 * one)


# The verdict


def test_a_usual_adapter_lies_far_below_the_line_and_its_figures_are_shown() -> None:
    compute = {"tokens": 5_000_000, "synthetic_data_flop": 0, "earlier_modifications_flop": 0}
    result = determine(run(compute, KNOWN, architecture={"name": "LoRA", "parameters": 4_194_304}))
    assert result.verdict == "below"
    assert result.above_third is False
    assert gpai_facts(run(compute, KNOWN)) == {FACT: False}
    assert result.modification_flop == 6 * 7e9 * 5e6, "all parameters count, not those of the adapter"
    assert result.highest_flop == pytest.approx(1.3 * 6 * 7e9 * 5e6)
    assert result.original_basis == "stated"
    assert result.ratio == pytest.approx(2.1e17 / 1.7e24)
    assert not result.missing
    text = " ".join(result.basis)
    for figure in (
        "2.1e+17 FLOP",
        "P=7e+09",
        "D=5e+06",
        "margin of 30 %",
        "1.7e+24 FLOP",
        "5.67e+23 FLOP",
        "indicative",
    ):
        assert figure in text


def test_the_trained_part_alone_is_never_taken_for_the_model() -> None:
    result = determine(run({"tokens": 1e12}, {"training_compute_flop": 1e23}, architecture={"parameters": 4e6}))
    assert result.verdict == "open"
    assert not result.estimates
    assert any("base_model.details.parameters" in item for item in result.missing)


def test_more_than_a_third_is_above_and_exactly_a_third_is_not() -> None:
    line = 1.7e24 / 3
    assert of_size(line * 1.0001, KNOWN).verdict == "above"
    assert of_size(line * 1.0001, KNOWN).above_third is True
    assert of_size(1.7e24 * (1 / 3), KNOWN).verdict == "open"
    assert of_size(line / 1.3 * 0.9999, KNOWN).verdict == "below"
    assert of_size(line / 1.3 * 1.0001, KNOWN).verdict == "open"


def test_a_margin_that_reaches_across_the_line_is_said_and_stays_open() -> None:
    close = of_size(0.9 * 1.7e24 / 3, KNOWN)
    assert close.verdict == "open"
    assert close.near_line
    assert close.above_third is None
    assert not gpai_facts(run({"flop": 0.9 * 1.7e24 / 3}, KNOWN))
    assert any("clearly on one side" in step for step in close.basis)
    over = of_size(1.2 * 1.7e24 / 3, KNOWN)
    assert over.verdict == "above"
    assert over.near_line


@pytest.mark.parametrize(("systemic", "threshold"), [(False, GPAI_FLOP), (True, SYSTEMIC_FLOP)])
def test_an_unknown_original_is_replaced_by_the_threshold_of_its_class(systemic: bool, threshold: float) -> None:
    details = {"systemic_risk": systemic}
    assert of_size(0.34 * threshold, details).verdict == "above"
    assert of_size(0.2 * threshold, details).verdict == "below"
    assert of_size(0.2 * threshold, details).line_flop == pytest.approx(threshold / 3)
    assert of_size(0.2 * threshold, details).ratio is None


def test_without_the_class_of_the_original_only_what_holds_for_both_is_said() -> None:
    assert of_size(1e22).verdict == "below"
    assert of_size(4e24).verdict == "above"
    between = of_size(1e24)
    assert between.verdict == "open"
    assert between.line_flop is None
    assert any("systemic_risk" in item for item in between.missing)


def test_the_original_is_estimated_before_the_threshold_takes_its_place() -> None:
    details = {"parameters": 7e9, "training_tokens": 2e12, "systemic_risk": False}
    result = of_size(1e20, details)
    assert result.original_basis == "estimated"
    assert result.original_flop == pytest.approx(8.4e22)
    assert result.verdict == "below"
    line = 8.4e22 / 3
    assert of_size(line * 0.7 / 1.3 * 1.01, details).verdict == "open", "an estimated original has a margin too"


def test_unknown_utilisation_counts_as_full_use_and_cannot_put_a_run_above() -> None:
    hardware = {"units": 8, "seconds": 3600, "peak_flop_per_second": 1e15}
    small = determine(run({"hardware": hardware}, KNOWN))
    assert small.verdict == "below"
    assert small.upper_bound
    assert any("full use" in item for item in small.assumptions)
    large = determine(run({"hardware": {**hardware, "units": 1e9}}, KNOWN))
    assert large.verdict == "open"
    assert any("utilisation" in item for item in large.missing)


def test_a_percentage_for_utilisation_is_refused_by_name() -> None:
    hardware = {"units": 8, "seconds": 3600, "peak_flop_per_second": 1e15, "utilisation": 45}
    result = determine(run({"hardware": hardware}, KNOWN))
    assert result.upper_bound
    assert any("utilisation: 45 is not a share" in item for item in result.missing)


def test_the_recorders_own_duration_serves_where_no_seconds_are_stated() -> None:
    hardware = {"units": 8, "peak_flop_per_second": 1e15, "utilisation": 0.4}
    result = determine(run({"hardware": hardware}, KNOWN, duration_s=3600.0))
    assert result.modification_flop == pytest.approx(8 * 3600 * 1e15 * 0.4)
    assert any("as long as the recorder ran" in item for item in result.assumptions)
    assert determine(run({"hardware": hardware}, KNOWN)).modification_flop is None


def test_of_two_estimates_the_larger_counts_and_a_contradiction_is_said() -> None:
    hardware = {"units": 8, "seconds": 3600, "peak_flop_per_second": 1e15, "utilisation": 0.4}
    result = determine(run({"hardware": hardware, "tokens": 1e9}, KNOWN))
    assert result.modification_flop == pytest.approx(6 * 7e9 * 1e9)
    assert {item.method for item in result.estimates} == {"hardware", "architecture"}
    assert any("second look" in step for step in result.basis)


def test_synthetic_data_and_earlier_modifications_are_added() -> None:
    more = {"flop": 1e20, "flop_method": "counter", "synthetic_data_flop": 2e20, "earlier_modifications_flop": 3e20}
    result = determine(run(more, KNOWN))
    assert result.modification_flop == pytest.approx(6e20)
    plain = of_size(1e20, KNOWN)
    assert len([item for item in plain.assumptions if "none is recorded" in item]) == 2


def test_a_figure_that_cannot_be_read_is_named_and_rules_out_below() -> None:
    for name in ("synthetic_data_flop", "earlier_modifications_flop", "tokens", "parameters"):
        result = determine(run({"flop": 1e18, "flop_method": "counter", name: "lots"}, KNOWN))
        assert result.verdict == "open", name
        assert any(f"extra.compute.{name}: 'lots'" in item for item in result.missing)
    details = {**KNOWN, "training_compute_flop": "a great deal"}
    assert of_size(1e18, details).verdict == "open", "a larger line must not slip in through an unreadable figure"


def test_integers_too_large_for_json_are_read_from_their_text() -> None:
    stored = to_json({"flop": 10**24, "flop_method": "counter"})
    assert stored["flop"] == "1" + "0" * 24
    assert determine(run(stored, KNOWN)).modification_flop == 1e24


def test_no_base_model_means_the_question_is_not_asked() -> None:
    result = determine(run({"flop": 1e25}, base=False))
    assert result.verdict == "no_base_model"
    assert gpai_facts(run({"flop": 1e25}, base=False)) == {}
    assert gpai_facts(None) == {}


def test_nothing_recorded_is_open_and_says_what_to_record() -> None:
    result = determine(run(None, KNOWN))
    assert result.verdict == "open"
    assert any("extra.compute" in item for item in result.missing)


def test_an_original_under_the_general_purpose_line_is_pointed_out() -> None:
    assert any("no general-purpose model" in step for step in of_size(1e18, {"training_compute_flop": 9e22}).basis)


# Properties

FLOPS = st.floats(min_value=1e10, max_value=1e30)
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
COMPUTE_KEYS = ("flop", "hardware", "tokens", "parameters", "synthetic_data_flop", "earlier_modifications_flop")
DETAIL_KEYS = ("training_compute_flop", "training_compute_source", "parameters", "training_tokens", "systemic_risk")


def some(keys: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(keys), values, max_size=len(keys)) | values


@settings(deadline=None)
@given(some(COMPUTE_KEYS, JUNK | FLOPS), some(DETAIL_KEYS, JUNK | FLOPS), JUNK, st.booleans())
def test_whatever_a_run_holds_gives_an_honest_verdict(compute: Any, details: Any, parameters: Any, base: bool) -> None:
    record = run(compute, details, base=base, architecture={"parameters": parameters})
    result = determine(record)
    assert result.verdict in VERDICT_WORDS
    assert result == determine(record)
    canonical_json(to_json(result.to_json()))
    if result.verdict in ("above", "below"):
        assert result.modification_flop is not None
        assert result.basis
    else:
        assert result.above_third is None
    if result.verdict == "open" and result.modification_flop is None:
        assert result.missing
    if result.verdict == "below" and result.line_flop is not None:
        assert result.modification_flop is not None
        assert result.modification_flop * (1 + MARGIN) <= result.line_flop
    if result.verdict == "above" and result.line_flop is not None:
        assert result.modification_flop is not None
        assert result.modification_flop > result.line_flop
        assert not result.upper_bound


@settings(deadline=None)
@given(FLOPS, FLOPS, st.floats(min_value=1.0, max_value=1e6))
def test_more_compute_never_moves_a_verdict_down(flop: float, original: float, factor: float) -> None:
    order = {"below": 0, "open": 1, "above": 2}
    details = {"training_compute_flop": original}
    assert order[of_size(flop, details).verdict] <= order[of_size(flop * factor, details).verdict]


@settings(deadline=None)
@given(FLOPS, FLOPS, st.integers(min_value=-10, max_value=10))
def test_only_the_ratio_to_a_known_original_matters(flop: float, original: float, shift: int) -> None:
    scale = 2.0**shift  # exact in binary, so that rounding plays no part
    before = of_size(flop, {"training_compute_flop": original}).verdict
    assert of_size(flop * scale, {"training_compute_flop": original * scale}).verdict == before


@settings(deadline=None)
@given(FLOPS, st.floats(min_value=0.001, max_value=1.0), st.floats(min_value=1e20, max_value=1e26))
def test_what_is_below_with_unknown_utilisation_is_below_with_any(peak: float, used: float, original: float) -> None:
    hardware = {"units": 8, "seconds": 3600, "peak_flop_per_second": peak}
    details = {"training_compute_flop": original}
    if determine(run({"hardware": hardware}, details)).verdict == "below":
        assert determine(run({"hardware": {**hardware, "utilisation": used}}, details)).verdict == "below"


@settings(deadline=None)
@given(JUNK)
def test_a_plain_number_is_finite_or_none(value: Any) -> None:
    number = plain_number(value)
    assert number is None or (number == number and abs(number) != float("inf"))
