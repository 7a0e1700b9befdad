"""Periodic reviews: when the next one is due, what a restricted one demands, and what one that retires a model ends."""

from __future__ import annotations

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Choice,
    GovernanceError,
    adopt_model,
    order_rollback,
    sign_off,
)
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.records import ReviewCompleted
from tests.governance.naive_policy import Rules
from tests.governance.overseeing import (
    closed,
    later,
    policy,
    promote_ben,
    release,
    reviewed,
    state,
    stolen,
    two_releases,
)
from tests.governance.test_oversight_edges import act, released, standing
from tests.governance.world import MODEL, World

CAP = {"text": "no more than 10 a day", "kind": "use_cap", "limit": {"per_day": 10}}


def demand_reviews(world: World, days: int = 90) -> None:
    tiers = yaml.safe_load(DEFAULT_POLICY_YAML)["tiers"]
    tiers["high"] |= {"review_days": days, "overdue_review": "block"}
    policy(world, tiers=tiers)


def write(world: World, who: str, **facts: object) -> int:
    """Write a signed review past every check before signing."""
    key, reading = world.key(who), world.workspace.read()
    value = {
        "model": MODEL,
        "version": "1",
        "outcome": "confirmed",
        "text": "x",
        "reviewed_by": key.person,
        "envelope": UNSIGNED,
    }
    record = ReviewCompleted.model_validate(value | facts)
    head = reading.view.checkpoint()
    envelope = sign_act(record, key, ledger=reading.origin, role="model_validator", meaning="…", head=head)
    return world.write(record.model_copy(update={"envelope": envelope}))


@pytest.mark.parametrize(("rule", "standing_then"), [("show", "live"), ("block", "suspended")])
def test_an_overdue_review_is_shown_and_suspends_where_the_tier_says_so(rule: str, standing_then: str) -> None:
    played = released(Rules(review=rule))
    assert (standing(played, 29), standing(played, 31)) == ("live", standing_then)
    played.happen(act("review", "vito", day=20, version="1", outcome="confirmed"))
    assert (standing(played, 49), standing(played, 51)) == ("live", standing_then)
    played.happen(act("review", "vito", day=48, version="1", outcome="confirmed", until=400))
    assert (standing(played, 77), standing(played, 79)) == ("live", standing_then), "no date beyond the interval"


def test_nobody_sets_the_next_review_beyond_the_tiers_interval(founded: World) -> None:
    demand_reviews(founded)
    two_releases(founded)
    for date, text in ((later(120), "within 90 days"), (later(-1), "due already")):
        with pytest.raises(GovernanceError, match=text):
            reviewed(founded, version="2", next_due=date)
    write(founded, "vera", version="2", next_due=later(4000))  # past the check before signing: cut short
    assert state(founded, days=89).standing == "live"
    assert [reason.code for reason in state(founded, days=91).reasons] == ["review_overdue"]
    reviewed(founded, version="2", next_due=later(10))
    assert [reason.code for reason in state(founded, days=11).reasons] == ["review_overdue"]


def test_an_interval_that_a_later_policy_shortens_cuts_dates_set_before(founded: World) -> None:
    demand_reviews(founded, 300)
    two_releases(founded)
    reviewed(founded, version="2", next_due=later(299))
    demand_reviews(founded, 30)
    assert [reason.code for reason in state(founded, days=31).reasons] == ["review_overdue"]


def test_who_had_a_hand_in_a_version_does_not_review_it(approved: World) -> None:
    release(approved)
    promote_ben(approved, "model_validator")
    with pytest.raises(GovernanceError, match="had a hand"):
        reviewed(approved, who="ben")
    write(approved, "ben")
    assert any("had a hand" in note for note in approved.decide().notes)


# --- restricted


def test_a_restricted_review_names_its_limits_and_no_other_does(approved: World) -> None:
    release(approved)
    with pytest.raises(GovernanceError, match="names its limits"):
        reviewed(approved, "restricted")
    with pytest.raises(GovernanceError, match="names its limits"):
        reviewed(approved, "confirmed", conditions=[CAP])
    with pytest.raises(GovernanceError, match="expiry"):
        reviewed(approved, "restricted", conditions=[{"text": "x", "kind": "expiry", "limit": {}}])


def test_a_limit_of_a_review_is_shown_suspends_when_overdue_and_is_closed_by_a_signature(approved: World) -> None:
    release(approved)
    seq = reviewed(approved, "restricted", conditions=[{"text": "retrain without age", "due": later(30)}])
    shown = state(approved).conditions
    assert [(item.sign_off_seq, item.name, item.role, item.condition.text) for item in shown] == [
        (seq, "Vera", "reviewer", "retrain without age")
    ]
    assert state(approved).standing == "live"
    assert [reason.code for reason in state(approved, days=31).reasons] == ["condition_overdue"]
    reviewed(approved)  # a review without limits closes none
    assert state(approved, days=31).standing == "suspended"
    with pytest.raises(GovernanceError, match="roles"):
        closed(approved, "olga", seq)
    promote_ben(approved, "model_validator")
    with pytest.raises(GovernanceError, match="had a hand"):
        closed(approved, "ben", seq)
    with pytest.raises(GovernanceError, match="no condition 1"):
        closed(approved, "carl", seq, index=1)
    closed(approved, "carl", seq)
    assert state(approved, days=31).standing == "live"
    assert state(approved).conditions == ()


def test_a_limit_of_a_review_binds_the_next_release_of_that_version(founded: World) -> None:
    two_releases(founded)
    seq = reviewed(founded, "restricted", "1", conditions=[CAP])
    order_rollback(founded.workspace, founded.key("olga"), model=MODEL, version="1", target="production", reason="x")
    assert "condition_unenforced" in founded.codes("1")
    assert "condition_unenforced" not in founded.codes("2")
    closed(founded, "vera", seq)
    assert founded.codes("1") == []


def test_a_review_may_allow_further_use_until_a_day(approved: World) -> None:
    release(approved)
    limit = {"text": "until the successor is there", "kind": "expiry", "limit": {"until": later(30)}}
    reviewed(approved, "restricted", conditions=[limit])
    assert state(approved, days=29).standing == "live"
    assert [reason.code for reason in state(approved, days=31).reasons] == ["condition_overdue"]


# --- retired


def test_a_retired_model_stands_nowhere_and_releases_no_version_until_a_later_review_says_otherwise(
    founded: World,
) -> None:
    two_releases(founded)
    founded.ready("3")
    founded.approve_all("3")
    assert founded.codes("3") == []
    reviewed(founded, "retire", "1")  # a review of any version ends the use of the model
    assert [reason.code for reason in state(founded).reasons] == ["retired"]
    assert founded.codes("3") == ["retired"]
    order_rollback(founded.workspace, founded.key("olga"), model=MODEL, version="1", target="production", reason="x")
    assert founded.codes("1") == ["retired"]
    reviewed(founded, "confirmed", "2")
    assert state(founded).standing == "live"
    assert founded.codes("3") == []


def test_retiring_counts_from_who_had_a_hand_too_and_with_a_key_revoked_since(approved: World) -> None:
    release(approved)
    promote_ben(approved, "model_validator")
    seq = reviewed(approved, "retire", who="ben")
    stolen(approved, "ben", seq)
    assert [reason.code for reason in state(approved).reasons] == ["retired"]
    reviewed(approved, "confirmed")
    assert state(approved).standing == "live"
    stolen(approved, "vera", approved.workspace.ledger.size() - 1)
    assert "retired" in [reason.code for reason in state(approved).reasons], "who lifted it was not to be trusted"


def test_nobody_without_a_review_role_retires_a_model(approved: World) -> None:
    release(approved)
    with pytest.raises(GovernanceError, match="roles"):
        reviewed(approved, "retire", who="olga")
    write(approved, "olga", outcome="retire")
    assert state(approved).standing == "live"


def test_a_model_from_before_the_ledger_shows_that_it_was_retired(founded: World) -> None:
    facts = {"model": MODEL, "version": "0", "target": "production", "unknown": ("who approved it",)}
    adopt_model(founded.workspace, founded.key("ben"), **facts)
    reviewed(founded, "retire", "0")
    assert state(founded).standing == "unattested"
    assert "retired" in state(founded).notes[0]


def test_a_block_of_a_version_is_no_retirement_of_the_model(founded: World) -> None:
    two_releases(founded)
    sign_off(founded.workspace, MODEL, "2", founded.key("carl"), Choice("block", comments="no"))
    assert "retired" not in founded.codes("1")
