"""Terms that count from going live or from the end of use, and rules that reach data through the models that used it."""

from __future__ import annotations

from datetime import datetime

import pytest

from cognify_dagster.governance import (
    ErasureRefused,
    adopt_model,
    adopt_retention,
    complete,
    complete_review,
    due_items,
    erase,
    order_rollback,
    request_release,
    retention_list,
)
from cognify_dagster.governance.custody.retention import Retention, add_months
from cognify_dagster.governance.custody.use import OPEN, moment_of, uses
from cognify_dagster.records import DeploymentCompleted, RetentionRule, TrainingRun
from tests.governance.test_retention import now, signers, snapshot
from tests.governance.world import MODEL, World

SR = ("sr26-2",)


def rule(starts: str = "recorded", **more: object) -> RetentionRule:
    facts = {
        "id": f"r-{starts.replace('_', '-')}",
        "title": "T",
        "months": 1,
        "frameworks": SR,
        "starts": starts,
        **more,
    }
    return RetentionRule.model_validate(facts)


def adopt(world: World, *rules: RetentionRule) -> None:
    adopt_retention(world.workspace, rules, "r", signers(world))


def release(world: World, version: str, target: str = "production") -> datetime:
    """Release a version; return when it went live, to the microsecond."""
    grant = request_release(world.workspace, MODEL, version, target, f"run-{version}-{target}", "person/ben")
    seq = complete(world.workspace, grant, location="here", detail={})
    return moment_of(world.workspace.read().view.entries[seq].entry.time_us)


def kept(world: World, seq: int) -> Retention:
    return retention_list(world.workspace.read())[seq]


def training(world: World, version: str = "1") -> int:
    found = world.workspace.read().latest(TrainingRun, world.subject(version))
    assert found is not None
    return found.seq


def second(world: World) -> datetime:
    world.ready("2")
    world.approve_all("2")
    return release(world, "2")


def test_the_end_of_use_is_open_while_a_version_is_live_and_dated_once_it_was_replaced(approved: World) -> None:
    adopt(approved, rule("use_ended"))
    release(approved, "1")
    one = training(approved)
    item = kept(approved, one)
    assert item.until == OPEN
    assert "while the model it is about is in use, and 1 months after" in (item.refusal(now(500)) or "")
    assert one not in [due.seq for due in due_items(approved.workspace.read(), now(500))]
    ended = second(approved)
    assert kept(approved, one).until == add_months(ended, 1)
    assert kept(approved, training(approved, "2")).until == OPEN


def test_a_version_live_on_another_target_is_still_in_use(ready: World) -> None:
    adopt(ready, rule("use_ended"))
    for name in ("vera", "carl", "olga"):
        ready.approve(name, "1", targets=("production", "batch"))
    release(ready, "1")
    release(ready, "1", "batch")
    second(ready)
    assert kept(ready, training(ready)).until == OPEN


def test_a_version_that_is_rolled_back_to_is_in_use_again(approved: World) -> None:
    release(approved, "1")
    second(approved)
    assert uses(approved.workspace.read(), MODEL)["1"].ended != OPEN
    order_rollback(
        approved.workspace, approved.key("olga"), model=MODEL, version="1", target="production", reason="2 is worse"
    )
    release(approved, "1")
    found = uses(approved.workspace.read(), MODEL)
    assert (found["1"].ended, found["2"].ended == OPEN) == (OPEN, False)


def test_a_version_that_never_went_live_is_kept_from_its_entry(approved: World) -> None:
    adopt(approved, rule("use_ended"), rule("first_live"))
    item = kept(approved, training(approved))
    assert {end for _, end in item.rules} == {add_months(item.recorded, 1)}


def test_going_live_starts_a_term_and_what_is_recorded_later_starts_its_own(approved: World) -> None:
    adopt(approved, rule("first_live", months=120))
    began = release(approved, "1")
    assert kept(approved, training(approved)).until == add_months(began, 120)
    second(approved)
    assert kept(approved, training(approved)).until == add_months(began, 120), "another version does not move it"
    last = kept(approved, approved.workspace.ledger.size() - 1)
    assert last.until == add_months(last.recorded, 120)


def test_a_review_that_retires_the_model_ends_its_use(approved: World) -> None:
    adopt(approved, rule("use_ended"))
    release(approved, "1")
    seq = complete_review(
        approved.workspace, approved.key("vera"), model=MODEL, version="1", outcome="retire", text="replaced by rules"
    ).seq
    ended = moment_of(approved.workspace.read().view.entries[seq].entry.time_us)
    assert kept(approved, training(approved)).until == add_months(ended, 1)


def test_a_deployment_that_follows_from_no_grant_ends_nothing(approved: World) -> None:
    adopt(approved, rule("use_ended"))
    release(approved, "1")
    digest = "sha256:" + "0" * 64
    approved.write(DeploymentCompleted(model=MODEL, version="9", target="production", grant_seq=1, model_digest=digest))
    assert kept(approved, training(approved)).until == OPEN


def test_while_a_deployment_cannot_be_read_nothing_has_ended(approved: World) -> None:
    adopt(approved, rule("use_ended"))
    release(approved, "1")
    second(approved)
    completed = approved.workspace.read().all(DeploymentCompleted)[-1]
    approved.erase(completed.seq)
    assert kept(approved, training(approved)).until == OPEN


def test_a_model_from_before_the_ledger_is_in_use_until_it_is_replaced(ready: World) -> None:
    adopt_model(ready.workspace, ready.key("ben"), model=MODEL, version="0", target="production", unknown=("who",))
    assert uses(ready.workspace.read(), MODEL)["0"].ended == OPEN
    ready.approve_all("1")
    replaced = release(ready, "1")
    assert uses(ready.workspace.read(), MODEL)["0"].ended == replaced


def test_a_rule_that_names_snapshots_reaches_the_data_of_its_models_and_no_other(approved: World) -> None:
    used = approved.data["train"]
    other, _ = snapshot(approved, "unrelated")
    adopt(
        approved, rule(kinds=("dataset_snapshot",), months=60), rule("use_ended", kinds=("dataset_snapshot",), months=6)
    )
    release(approved, "1")
    assert [item.id for item, _ in kept(approved, used).rules] == ["r-use-ended", "r-recorded"]
    assert kept(approved, used).until == OPEN
    assert kept(approved, other).rules == ()
    with pytest.raises(ErasureRefused, match="in use"):
        erase(approved.workspace, [used], "storage", signers(approved))


def test_a_rule_about_all_kinds_of_a_framework_leaves_data_to_rules_that_name_it(approved: World) -> None:
    adopt(approved, rule(months=84))
    assert kept(approved, approved.data["train"]).rules == ()


def test_a_rule_of_the_usual_start_has_the_form_that_it_had_before() -> None:
    assert "starts" not in rule().model_dump(mode="json")
    assert rule("use_ended").model_dump(mode="json")["starts"] == "use_ended"
    assert RetentionRule.model_validate(rule().model_dump(mode="json")) == rule()
