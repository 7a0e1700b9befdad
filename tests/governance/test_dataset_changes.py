"""What changed in a dataset, why, and who approved it: what counts, for which difference, and what it holds back."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    GovernanceError,
    PolicyError,
    SignOffDenied,
    change_of,
    changes_between,
    changes_of,
    decide_change,
    decision_record,
    directory,
    find_change,
    give_reason,
    missing_for,
    parse_policy,
    policy_in_force,
    propose_act,
    read_draft,
    require_ready,
    sign_draft,
    submit_draft,
)
from cognify_dagster.governance.policy.text import explain_policy, policy_changes
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.records import DatasetChangeDecided, DatasetSnapshot, TrainingRun
from cognify_dagster.records.dataset_acts import change_bounds
from tests.governance.overseeing import DIFFERENCE, difference, policy, stolen
from tests.governance.world import MODEL, World

ROOTS = [character * 64 for character in "123456789"]
APPROVAL = {"names": ["loans*"], "approval": {"role": "model_validator", "quorum": 1}}
REASON = {"names": ["*"], "reason": "required"}


def snap(world: World, root: str, *, take: int = 0, **facts: object) -> int:
    return world.snapshot("loans", root, take=take, **{"author": "person/ben", **facts}).seq


def codes(world: World, seq: int, before: int | None = None, tier: str | None = "high") -> list[str]:
    reading = world.workspace.read()
    found = missing_for(reading, directory(reading), policy_in_force(reading).policy, "loans", seq, tier, before)
    return [one.code for one in found]


def changed(world: World) -> tuple[int, int]:
    """Two snapshots of different roots, the second with its difference on record."""
    first = snap(world, ROOTS[0])
    second = snap(world, ROOTS[1], change_reason="March was added")
    difference(world, "loans", second, old_seq=first)
    return first, second


def approve(world: World, who: str = "vera", **more: object) -> int:
    return decide_change(world.workspace, world.key(who), "loans", None, "approve", **more).seq  # type: ignore[arg-type]


def forced(world: World, who: str, record: DatasetChangeDecided) -> int:
    """Sign a decision and write it past every check made before signing."""
    reading = world.workspace.read()
    head = reading.view.checkpoint()
    envelope = sign_act(record, world.key(who), ledger=reading.origin, role=record.role, meaning="…", head=head)
    return world.write(record.model_copy(update={"envelope": envelope}))


# --- reasons -------------------------------------------------------------------------------------------------------------


def test_a_change_without_a_reason_is_marked_and_missed(founded: World) -> None:
    first = snap(founded, ROOTS[0])
    assert codes(founded, first) == [], "a first snapshot changes nothing"
    second = snap(founded, ROOTS[1])
    change = find_change(founded.workspace.read(), "loans")
    assert (change.reason_missing, change.old_root, change.root) == (True, ROOTS[0], ROOTS[1])
    assert codes(founded, second) == ["dataset_reason_missing"]
    third = snap(founded, ROOTS[2], change_reason="a filter was mended")
    assert codes(founded, third) == []


def test_taking_the_same_data_again_hides_no_missing_reason(founded: World) -> None:
    snap(founded, ROOTS[0])
    second = snap(founded, ROOTS[1])
    again = snap(founded, ROOTS[1], take=1, parent_root=ROOTS[1])
    assert codes(founded, again) == ["dataset_reason_missing"]
    change = find_change(founded.workspace.read(), "loans")
    assert [item.seq for item in change.entries] == [second, again]


def test_the_changes_between_two_snapshots_are_the_steps_after_the_one_up_to_the_other(founded: World) -> None:
    seqs = [snap(founded, ROOTS[place], take=take) for take, place in enumerate((0, 1, 1, 2, 0))]
    reading = founded.workspace.read()

    def between(after: int | None, until: int, at_most: int = 9) -> tuple[list[str], int]:
        found, cut = changes_between(reading, directory(reading), "loans", after, until, at_most)
        return [change.root[0] for change in found], cut

    assert between(seqs[0], seqs[3]) == (["2", "3"], 0)
    assert between(seqs[1], seqs[2]) == ([], 0), "the same data were taken again"
    assert between(seqs[2], seqs[4]) == (["3", "1"], 0)
    assert between(seqs[0], seqs[4]) == ([], 0), "the data are those of then"
    assert between(None, seqs[2]) == (["2"], 0)
    assert between(seqs[3], seqs[1]) == (["2"], 0), "back to older data: the step that brought them"
    assert between(seqs[0], seqs[3], 1) == (["3"], 1)
    assert between(seqs[0], seqs[3] + 1_000) == ([], 0), "that is no snapshot"


def test_what_a_snapshot_says_of_its_parent_decides_nothing(founded: World) -> None:
    snap(founded, ROOTS[0])
    second = snap(founded, ROOTS[1], parent_root=None)
    assert codes(founded, second) == ["dataset_reason_missing"]


def test_a_reason_given_late_counts_from_then_on(founded: World) -> None:
    snap(founded, ROOTS[0])
    second = snap(founded, ROOTS[1])
    given_in = give_reason(founded.workspace, founded.key("ben"), "loans", ROOTS[1][:8], "March was added").seq
    assert codes(founded, second) == []
    assert codes(founded, second, before=given_in) == ["dataset_reason_missing"], "not before it was given"
    change = find_change(founded.workspace.read(), "loans")
    assert (change.reason, change.reasons[-1].person) == ("March was added", "person/ben")


def test_nobody_without_a_role_that_acts_gives_a_reason(founded: World) -> None:
    snap(founded, ROOTS[0])
    snap(founded, ROOTS[1])
    founded.enrol("ida", "auditor")
    with pytest.raises(GovernanceError, match="may not sign this"):
        give_reason(founded.workspace, founded.key("ida"), "loans", None, "because")
    with pytest.raises(GovernanceError, match="at least its first 8 hex digits"):
        give_reason(founded.workspace, founded.key("ben"), "loans", "12", "because")
    with pytest.raises(GovernanceError, match="no root begins with"):
        give_reason(founded.workspace, founded.key("ben"), "loans", "99" * 8, "because")
    with pytest.raises(GovernanceError, match="never snapshotted"):
        give_reason(founded.workspace, founded.key("ben"), "claims", None, "because")


# --- approvals -----------------------------------------------------------------------------------------------------------


def test_an_approval_is_asked_for_and_given(founded: World) -> None:
    policy(founded, datasets=[REASON, APPROVAL])
    first, second = changed(founded)
    reading = founded.workspace.read()
    args = (reading, directory(reading), policy_in_force(reading).policy)
    (missing,) = missing_for(*args, "loans", second, "high")
    assert missing.code == "dataset_not_approved"
    assert f"dataset loans, root {ROOTS[1][:16]}… (entry {second})" in missing.text
    assert "Vera" in missing.resolved_by
    assert "Ben" not in missing.resolved_by, "who made the snapshot cannot give it"
    assert f"cognify dataset approve loans --root {ROOTS[1][:16]}" in missing.resolved_by
    item = reading.find(DatasetSnapshot, second)
    assert item is not None
    with pytest.raises(GovernanceError, match="training is refused by the policy: dataset loans"):
        require_ready(*args, [item], "high", "training")
    given_in = approve(founded)
    assert codes(founded, second) == []
    assert codes(founded, first) == ["dataset_not_approved"], "the first snapshot has not been approved"
    assert approve(founded) == given_in, "the same is not decided twice"
    assert codes(founded, second, before=given_in) == ["dataset_not_approved"]


def test_who_made_the_snapshot_does_not_approve_it(founded: World) -> None:
    _, second = changed(founded)
    with pytest.raises(GovernanceError, match="Ben had a hand in the snapshot"):
        approve(founded, "ben", role="model_validator")
    third = snap(founded, ROOTS[2], author="person/olga", touched_by=("person/vera",), change_reason="x")
    difference(founded, "loans", third, old_seq=second)
    with pytest.raises(GovernanceError, match="Vera had a hand in the snapshot"):
        approve(founded, "vera")
    assert decide_change(founded.workspace, founded.key("ben"), "loans", ROOTS[1], "reject", comment="no").seq


def test_who_made_it_has_to_be_known(founded: World) -> None:
    first = founded.snapshot("loans", ROOTS[0], author="unattributed").seq
    difference(founded, "loans", first)
    with pytest.raises(GovernanceError, match="nobody knows who made the snapshot"):
        approve(founded)
    policy(founded, unattributed="warn")
    assert approve(founded)


def test_an_approval_of_another_difference_does_not_count(founded: World) -> None:
    policy(founded, datasets=[APPROVAL])
    _, second = changed(founded)
    right = decision_record(founded.workspace.read(), "loans", None, "approve", "person/vera")
    for update in (
        {"diff_digest": "sha256:" + "00" * 32},
        {"old_root": ROOTS[5]},
        {"old_root": None},
        {"snapshot_leaf": "00" * 32},
        {"reason": "another reason"},
        {"role": "compliance_officer"},
    ):
        forced(founded, "vera", right.model_copy(update=update))
        assert codes(founded, second) == ["dataset_not_approved"], update
    change = find_change(founded.workspace.read(), "loans")
    assert len(change.decisions) == 6
    assert all(one.why for one in change.decisions)
    forced(founded, "vera", right)
    assert codes(founded, second) == []


def test_another_difference_recorded_later_ends_nothing_that_was_judged_before(founded: World) -> None:
    """A decision is judged by the difference on record when it was made; a later one needs an approval of its own to count."""
    policy(founded, datasets=[APPROVAL])
    first, second = changed(founded)
    approve(founded)
    difference(founded, "loans", second, digest="sha256:" + "ee" * 32, old_seq=first)
    right = decision_record(founded.workspace.read(), "loans", None, "approve", "person/vera")
    assert right.diff_digest == "sha256:" + "ee" * 32
    forced(founded, "olga", right.model_copy(update={"decided_by": "person/olga", "diff_digest": DIFFERENCE}))
    assert [one.why is None for one in find_change(founded.workspace.read(), "loans").decisions] == [True, False]


def test_data_that_come_back_need_an_approval_of_their_own(founded: World) -> None:
    policy(founded, datasets=[APPROVAL])
    first = snap(founded, ROOTS[0])
    difference(founded, "loans", first)
    approve(founded)
    assert codes(founded, first) == []
    second = snap(founded, ROOTS[1], change_reason="x")
    back = snap(founded, ROOTS[0], take=1, change_reason="back")
    difference(founded, "loans", back, old_seq=second)
    assert codes(founded, back) == ["dataset_not_approved"]
    assert codes(founded, first) == []
    again = snap(founded, ROOTS[0], take=2)
    approve(founded)
    assert codes(founded, again) == []


def test_without_a_reason_there_is_nothing_to_approve(founded: World) -> None:
    policy(founded, datasets=[REASON, APPROVAL])
    first = snap(founded, ROOTS[0])
    second = snap(founded, ROOTS[1])
    with pytest.raises(GovernanceError, match="no difference is on record"):
        approve(founded)
    difference(founded, "loans", second, old_seq=first)
    with pytest.raises(GovernanceError, match="no reason for the change is declared"):
        approve(founded)
    give_reason(founded.workspace, founded.key("ben"), "loans", None, "March was added")
    approve(founded)
    assert codes(founded, second) == []


def test_a_rejection_stands_until_the_same_person_approves(founded: World) -> None:
    policy(founded, datasets=[APPROVAL])
    founded.enrol("mia", "model_validator")
    _, second = changed(founded)
    approve(founded)
    decide_change(founded.workspace, founded.key("mia"), "loans", None, "reject", comment="March is incomplete")
    assert codes(founded, second) == ["dataset_rejected"]
    first_approval = find_change(founded.workspace.read(), "loans").decisions[0].item.record
    founded.write(first_approval)  # the same statement again
    assert codes(founded, second) == ["dataset_rejected"]
    assert find_change(founded.workspace.read(), "loans").decisions[-1].why is not None
    approve(founded, "mia")
    assert codes(founded, second) == []


def test_an_old_approval_sent_again_does_not_undo_a_rejection(founded: World) -> None:
    policy(founded, datasets=[APPROVAL])
    _, second = changed(founded)
    approve(founded)
    approval = find_change(founded.workspace.read(), "loans").decisions[0].item.record
    decide_change(founded.workspace, founded.key("vera"), "loans", None, "reject", comment="on second thought")
    founded.write(approval)
    assert codes(founded, second) == ["dataset_rejected"]


def test_a_quorum_counts_different_people_and_a_key_that_was_stolen_not_at_all(founded: World) -> None:
    wanted = {"names": ["loans"], "approval": {"role": "model_validator", "quorum": 2}}
    policy(founded, datasets=[wanted])
    founded.enrol("mia", "model_validator")
    _, second = changed(founded)
    approve(founded)
    assert codes(founded, second) == ["dataset_not_approved"]
    approve(founded, "mia")
    assert codes(founded, second) == []
    stolen(founded, "mia", 1)
    assert codes(founded, second) == ["dataset_not_approved"]


def test_a_passkey_may_be_asked_for(founded: World) -> None:
    policy(founded, datasets=[{"approval": {"role": "model_validator", "strength": "S4"}}])
    _, second = changed(founded)
    approve(founded)
    assert codes(founded, second) == ["dataset_not_approved"]


def test_it_is_signed_on_another_machine(founded: World) -> None:
    policy(founded, datasets=[APPROVAL])
    _, second = changed(founded)
    reading = founded.workspace.read()
    draft = propose_act(reading, decision_record(reading, "loans", None, "approve", "person/vera"))
    assert DIFFERENCE in draft.meaning
    away = sign_draft(read_draft(draft.to_bytes()), founded.key("vera"))
    submit_draft(founded.workspace, away)
    assert codes(founded, second) == []


def test_a_role_of_the_workspaces_own_decides(founded: World) -> None:
    roles = [*parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)).roles, "data_steward"]
    policy(founded, roles=roles, datasets=[{"approval": {"role": "data_steward"}}])
    founded.enrol("dora", "data_steward")
    _, second = changed(founded)
    with pytest.raises(GovernanceError, match="may not sign this: one of the roles data_steward is needed"):
        approve(founded)
    approve(founded, "dora")
    assert codes(founded, second) == []


def test_all_bytes_have_to_be_hashed_where_the_policy_says_so(founded: World) -> None:
    policy(founded, datasets=[{"fully_hashed": True}])
    counted = {"evidence": {"hashed": 3, "reused": 2, "provider": 0}}
    assert codes(founded, snap(founded, ROOTS[0], header=counted)) == ["dataset_not_hashed"]
    assert codes(founded, snap(founded, ROOTS[1], header={"evidence": {"hashed": 5, "reused": 0, "provider": 0}})) == []
    assert codes(founded, snap(founded, ROOTS[2], header={})) == ["dataset_not_hashed"], (
        "what is not stated counts as no"
    )


# --- what it holds back --------------------------------------------------------------------------------------------------


def test_a_version_trained_on_data_that_nobody_had_approved_is_held_back(founded: World) -> None:
    policy(founded, unattributed="warn", datasets=[{"names": ["loans_train"], "tiers": ["high"], **_approval()}])
    founded.ready("1")
    assert "dataset_not_approved" in founded.codes("1")
    difference(founded, "loans_train", founded.data["train"])
    founded.enrol("mia", "model_validator")
    decide_change(founded.workspace, founded.key("mia"), "loans_train", None, "approve")
    assert "dataset_not_approved" in founded.codes("1"), "it was not approved when it was trained on"
    founded.ready("2")
    assert "dataset_not_approved" not in founded.codes("2")
    decide_change(founded.workspace, founded.key("mia"), "loans_train", None, "reject", comment="on second thought")
    assert "dataset_rejected" in founded.codes("2")


def _approval() -> dict[str, object]:
    return {"approval": {"role": "model_validator"}}


def test_the_policy_of_then_decides_about_what_was_trained_then(founded: World) -> None:
    founded.ready("1")
    policy(founded, datasets=[_approval()])
    assert "dataset_not_approved" not in founded.codes("1")


def test_a_rule_for_one_tier_says_nothing_about_another(founded: World) -> None:
    policy(founded, datasets=[{"tiers": ["high"], **_approval()}])
    _, second = changed(founded)
    assert codes(founded, second, tier="low") == []
    assert codes(founded, second, tier="high") == ["dataset_not_approved"]
    assert codes(founded, second, tier=None) == ["dataset_not_approved"]


def test_who_approved_the_data_does_not_sign_off_what_was_trained_on_them(founded: World) -> None:
    policy(founded, unattributed="warn")
    founded.ready("1")
    difference(founded, "loans_train", founded.data["train"])
    decide_change(founded.workspace, founded.key("vera"), "loans_train", None, "approve")
    with pytest.raises(SignOffDenied, match="Vera had a hand in this version"):
        founded.approve("vera")


def test_a_decision_that_cannot_be_read_counts_as_a_rejection(founded: World) -> None:
    policy(founded, datasets=[APPROVAL])
    _, second = changed(founded)
    founded.erase(approve(founded))
    assert codes(founded, second) == ["dataset_rejected"]


# --- the order of changes ------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.data())
def test_changes_are_runs_of_equal_roots(roots: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(roots) - 1))
    start, end = change_bounds(roots, place)
    assert start <= place < end
    assert set(roots[start:end]) == {roots[place]}
    assert start == 0 or roots[start - 1] != roots[place]
    assert end == len(roots) or roots[end] != roots[place]


def test_each_change_is_listed_once_and_looked_up_as_of_then(founded: World) -> None:
    seqs = [snap(founded, ROOTS[number], take=take) for take, number in enumerate((0, 0, 1, 0), start=0)]
    reading = founded.workspace.read()
    people = directory(reading)
    found = changes_of(reading, people, "loans")
    assert [[item.seq for item in change.entries] for change in found] == [seqs[:2], seqs[2:3], seqs[3:]]
    assert [change.old_root for change in found] == [None, ROOTS[0], ROOTS[1]]
    assert change_of(reading, people, "loans", seqs[2], before=seqs[2]) is None
    assert change_of(reading, people, "claims", seqs[2]) is None


# --- the policy's words --------------------------------------------------------------------------------------------------


def test_a_policy_that_asks_nothing_of_data_keeps_its_digest(founded: World) -> None:
    data = yaml.safe_load(DEFAULT_POLICY_YAML)
    data.pop("datasets")
    without = parse_policy(data)
    assert "datasets" not in without.as_json()
    assert without.digest == parse_policy({**data, "datasets": []}).digest
    asked = parse_policy({**data, "datasets": [REASON, {**APPROVAL, "tiers": ["high"], "fully_hashed": True}]})
    assert asked.digest != without.digest
    told = dict(explain_policy(asked))["Data"]
    assert told[0] == "No model is trained or evaluated on every dataset after a change without a declared reason."
    assert "1 model validator who did not make the snapshot" in told[1]
    assert "all of its bytes were read and hashed" in told[2]
    assert dict(explain_policy(without))["Data"] == ["Nothing is demanded of data before a model is trained on it."]
    (line,) = policy_changes(without, asked)
    assert line.startswith("datasets: adds")


def test_the_default_policy_asks_for_a_reason_and_no_approval() -> None:
    (rule,) = parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)).datasets
    assert (rule.names, rule.reason, rule.approval, rule.fully_hashed) == (("*",), "required", None, False)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"approval": {"role": "data_steward"}}, "datasets.0.approval.role: role 'data_steward' is not in roles"),
        ({"tiers": ["top"]}, "datasets.0.tiers: there is no tier 'top'"),
        ({"names": []}, "datasets.0.names"),
        ({"names": ["lo ans"]}, "datasets.0.names.0"),
        ({"reason": "yes"}, "datasets.0.reason"),
        ({"approval": {"role": "auditor", "quorum": 0}}, "datasets.0.approval.quorum"),
        ({"approved": True}, "datasets.0.approved"),
    ],
)
def test_a_rule_that_says_nothing_that_can_be_kept_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        parse_policy({**yaml.safe_load(DEFAULT_POLICY_YAML), "datasets": [rule]})


def test_patterns_fit_a_dataset_with_its_partitions() -> None:
    (rule,) = parse_policy({**yaml.safe_load(DEFAULT_POLICY_YAML), "datasets": [{"names": ["loans", "x_*"]}]}).datasets
    assert [rule.fits(name) for name in ("loans", "loans@2026-01", "x_1@a", "loans2")] == [True, True, True, False]


def test_training_runs_name_partitions(founded: World) -> None:
    ref = founded.snapshot("loans@2026-01", ROOTS[0])
    founded.snapshot("loans@2026-02", ROOTS[1])
    reading = founded.workspace.read()
    people = directory(reading)
    assert [item.name for item in changes_of(reading, people, "loans@2026-01")] == ["loans@2026-01"]
    assert len(reading.all(DatasetSnapshot, "dataset/loans")) == 2, "the dataset as a whole knows all of its partitions"
    founded.ready("1", datasets=(ref,))
    assert founded.workspace.read().all(TrainingRun, "dataset/loans@2026-01")
    assert MODEL
