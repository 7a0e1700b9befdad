"""The offline verifier and acts on a model: listed with their signatures; what a release may rest on besides sign-offs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.records import (
    BlockLifted,
    BreakGlassOpened,
    ChangePlanAdopted,
    ChangePlanEnded,
    FindingOpened,
    ModelClassified,
    ModelEvent,
    Record,
    RollbackOrdered,
)
from tests.ledger import bundle_factory as bf

HOLDS, TAMPERED, ROLLED_BACK, UNREADABLE, UNPROVEN, USAGE = range(6)
POLICY: dict[str, Any] = {
    "version": 1, "adopters": ["workspace_admin"], "policy_quorum": 2, "people": {"vouchers": 2},
    "classifiers": ["compliance_officer"], "blockers": ["compliance_officer", "model_validator"], "voids": ["incident"],
    "rollback_roles": ["business_owner"],
    "break_glass": {"enabled": True, "roles": ["business_owner"], "extra_role": "compliance_officer", "quorum": 2},
}  # fmt: skip
Step = Callable[[bf.World, int], Any]
LATER = "2026-01-01T00:00:00Z"


def judged(tmp_path: Path, step: Step) -> dict[str, Any]:
    world = bf.tell(tmp_path / "w", policy=POLICY, before_anchor=step)
    return ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust())


def said(report: dict[str, Any]) -> str:
    found = [f"{item['outcome']} {item['where']}: {item['message']}" for item in report["findings"]]
    return "\n".join([*found, *report["warnings"]])


def act(world: bf.World, record: Record, *signers: str) -> int:
    """Append an act with the signatures of these people, in `envelope` or `envelopes`."""
    if "envelope" in type(record).model_fields:
        update: dict[str, Any] = {"envelope": world.act(record, signers[0]) if signers else bf.PLACEHOLDER}
    else:
        update = {"envelopes": tuple(world.act(record, name) for name in signers)}
    return world.append(record.model_copy(update=update), "workload/pipeline", writer=None)


def ids(*names: str) -> tuple[str, ...]:
    return tuple(sorted(f"person/{name}" for name in names))


def glass(world: bf.World, *signers: str, **changed: Any) -> int:
    fields = {"model": bf.MODEL, "version": bf.VERSION, "target": "staging", "waived": ("compliance", "business"),
              "reason": "outage of the old model", "expires": LATER, "signers": ids(*signers), "envelopes": (), **changed}  # fmt: skip
    return act(world, BreakGlassOpened(**fields), *signers)


def plan(world: bf.World, *signers: str, **changed: Any) -> int:
    fields = {"plan": "retrain", "model": bf.MODEL, "base_version": "0", "bounds": {}, "stages": ("compliance",),
              "reason": "monthly", "expires": LATER, "signers": ids(*signers), "envelopes": (), **changed}  # fmt: skip
    return act(world, ChangePlanAdopted(**fields), *signers)


def order(world: bf.World, by: str, **changed: Any) -> int:
    fields = {"model": bf.MODEL, "version": bf.VERSION, "target": "staging", "replaces_seq": 3, "reason": "worse",
              "ordered_by": f"person/{by}", "envelope": bf.PLACEHOLDER, **changed}  # fmt: skip
    return act(world, RollbackOrdered(**fields), by)


def release(world: bf.World, package: int, **facts: Any) -> int:
    signed = world.sign_off("val", package, target_environments=["staging"])
    return world.grant(package, [signed], target="staging", **facts)


# --- what is listed ---


def test_acts_on_the_model_and_the_version_are_listed_with_their_signers(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        classified = ModelClassified(model=bf.MODEL, tier="high", owner="person/biz", rationale="large book", signers=ids("com"), envelopes=())  # fmt: skip
        act(world, classified, "com")
        finding = {"model": bf.MODEL, "severity": "high", "title": "Drift\x1b[2K", "envelope": bf.PLACEHOLDER}
        act(world, FindingOpened(version=bf.VERSION, raised_by="person/val", **finding), "val")
        act(world, FindingOpened(raised_by="person/com", **finding), "biz")
        world.append(
            ModelEvent(model=bf.MODEL, event="incident", text="down", reported_by="workload/pipeline"),
            "workload/pipeline",
        )

    report = judged(tmp_path, step)
    assert report["exit_code"] == HOLDS, said(report)
    found = [(item["kind"], item["signers"], item["counts"]) for item in report["acts"]]
    assert found == [
        ("model_classified", ["person/com"], True), ("finding_opened", ["person/val"], True),
        ("finding_opened", [], False), ("model_event", [], True),
    ]  # fmt: skip
    text = ov.report_text(report)
    assert "model_classified, entry 17, signed by person/com [counts]" in text
    assert "tier: high" in text
    assert "counts for nothing: it names other people than those who signed" in text
    assert "\x1b" not in text


def test_a_classification_without_the_role_for_it_counts_for_nothing(tmp_path: Path) -> None:
    record = ModelClassified(
        model=bf.MODEL, tier="low", owner="person/biz", rationale="x", signers=ids("biz"), envelopes=()
    )
    report = judged(tmp_path, lambda w, p: act(w, record, "biz"))
    assert (report["exit_code"], report["acts"][0]["counts"]) == (HOLDS, False)


def test_a_machine_may_not_report_an_event_in_a_persons_name(tmp_path: Path) -> None:
    record = ModelEvent(model=bf.MODEL, event="incident", text="down", reported_by="person/val")
    report = judged(tmp_path, lambda w, p: w.append(record, "workload/pipeline"))
    assert [item["counts"] for item in report["acts"]] == [False]


@pytest.mark.parametrize("whole", [True, False])
def test_an_act_on_the_model_may_not_be_withheld(whole: bool, tmp_path: Path) -> None:
    world = bf.tell(tmp_path / "w", policy=POLICY)
    version = None if whole else bf.VERSION
    finding = {"severity": "low", "title": "x", "raised_by": "person/val", "envelope": bf.PLACEHOLDER}
    seq = act(world, FindingOpened(model=bf.MODEL, version=version, **finding), "val")
    out = bf.export(world, tmp_path / "b")
    (out / f"ledger/payloads/{seq:08d}.json").unlink()
    bf.reseal(out)
    assert ov.verify_bundle(out, world.trust())["exit_code"] == UNPROVEN


def test_an_anchor_without_the_models_oversight_proves_nothing(tmp_path: Path) -> None:
    world = bf.tell(tmp_path / "w", policy=POLICY)
    anchor = world.anchor(leave_out=(f"oversight/{bf.MODEL}",))
    report = ov.verify_bundle(bf.export(world, tmp_path / "b", anchor_seq=anchor), world.trust())
    assert (report["exit_code"], "does not cover oversight/credit_default" in said(report)) == (UNPROVEN, True)


# --- releases that rest on more than sign-offs ---


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda w, p: release(w, p, purpose="break_glass", order_seq=glass(w, "com", "biz"), waived=("compliance",)),
         "by break_glass_opened of entry 17, signed by person/biz, person/com: outage of the old model"),
        (lambda w, p: release(w, p, plan_seq=plan(w, "val", "com"), waived=("compliance",)),
         "by change_plan_adopted of entry 17, signed by person/com, person/val: monthly"),
        (lambda w, p: release(w, p, purpose="rollback", order_seq=order(w, "biz")),
         "by rollback_ordered of entry 17, signed by person/biz: worse"),
    ],
    ids=["break glass", "change plan", "rollback"],
)  # fmt: skip
def test_a_release_says_what_it_rests_on(step: Step, words: str, tmp_path: Path) -> None:
    report = judged(tmp_path, step)
    assert report["exit_code"] == HOLDS, said(report)
    text = ov.report_text(report)
    assert words in text
    assert ("without the sign-off of: compliance" in text) == ("rollback" not in words)


def _plan_ended(world: bf.World, package: int) -> None:
    seq = plan(world, "val", "com")
    ended = ChangePlanEnded(plan_seq=seq, model=bf.MODEL, reason="r", ended_by="person/val", envelope=bf.PLACEHOLDER)
    act(world, ended, "val")
    release(world, package, plan_seq=seq, waived=("compliance",))


def broken(world: bf.World, package: int, seq: int, **changed: Any) -> int:
    return release(world, package, **{"purpose": "break_glass", "order_seq": seq, "waived": ("compliance",), **changed})


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda w, p: release(w, p, waived=("compliance",)), "goes without stages that nobody waived"),
        (lambda w, p: broken(w, p, glass(w, "com", "biz"), waived=("validation",)), "goes without stages that nobody waived"),
        (lambda w, p: broken(w, p, glass(w, "com")), "no break_glass_opened that counts"),
        (lambda w, p: broken(w, p, glass(w, "com", "val")), "no break_glass_opened that counts"),
        (lambda w, p: broken(w, p, glass(w, "biz", "biz")), "no break_glass_opened that counts"),
        (lambda w, p: broken(w, p, glass(w, "com", "biz", signers=ids("com", "val"))), "no break_glass_opened that counts"),
        (lambda w, p: broken(w, p, glass(w, "com", "biz", target="live")), "is about something else"),
        (lambda w, p: broken(w, p, glass(w, "com", "biz", expires="2025-10-09T08:00:00Z")), "had ended"),
        (lambda w, p: broken(w, p, plan(w, "val", "com")), "no break_glass_opened that counts"),
        (lambda w, p: broken(w, p, p), "no break_glass_opened that counts"),
        (lambda w, p: release(w, p, purpose="rollback", order_seq=order(w, "val")), "no rollback_ordered that counts"),
        (lambda w, p: release(w, p, plan_seq=plan(w, "val", "com", model="other"), waived=("compliance",)), "no change_plan_adopted"),
        (_plan_ended, "had ended"),
    ],
)  # fmt: skip
def test_a_release_on_an_act_that_does_not_carry_it(step: Step, reason: str, tmp_path: Path) -> None:
    report = judged(tmp_path, step)
    assert (report["exit_code"], reason in said(report)) == (TAMPERED, True), said(report)


def test_a_release_on_an_act_that_is_withheld_is_unproven(tmp_path: Path) -> None:
    seqs: list[int] = []

    def step(world: bf.World, package: int) -> None:
        seqs.append(glass(world, "com", "biz"))
        broken(world, package, seqs[0])

    world = bf.tell(tmp_path / "w", policy=POLICY, before_anchor=step)
    out = bf.export(world, tmp_path / "b")
    (out / f"ledger/payloads/{seqs[0]:08d}.json").unlink()
    bf.reseal(out)
    assert ov.verify_bundle(out, world.trust())["exit_code"] == UNPROVEN


def test_a_purpose_of_a_later_release_is_unproven(tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        class Granted(bf.ReleaseGranted):
            def facts(self) -> dict[str, Any]:
                return {**super().facts(), "purpose": "shadow"}

        seq = world.sign_off("val", package, target_environments=["staging"])
        made: list[Record] = []
        keep, world.append = world.append, lambda record, actor, **more: made.append(record) or 0  # type: ignore[method-assign,func-returns-value,assignment,misc]
        world.grant(package, [seq], target="staging")
        world.append = keep  # type: ignore[method-assign]
        world.append(Granted(**made[0].model_dump()), "workload/pipeline")

    report = judged(tmp_path, step)
    assert (report["exit_code"], "'shadow' is not known" in said(report)) == (UNPROVEN, True)


def test_conditions_are_printed_with_the_sign_off_and_the_release(tmp_path: Path) -> None:
    condition = {"text": "below 10,000", "due": None, "kind": "use_cap", "limit": {"amount": 10_000}}

    def step(world: bf.World, package: int) -> None:
        seq = world.sign_off("val", package, decision="approve_with_conditions", conditions=[condition])
        world.grant(package, [seq], conditions=({**condition, "sign_off_seq": seq, "condition": 0},))

    text = ov.report_text(judged(tmp_path, step))
    assert "      Condition: below 10,000 (use_cap {'amount': 10000}, due not dated)" in text
    assert "bound to the condition: below 10,000 (use_cap {'amount': 10000}, due not dated)" in text


# --- what undoes a sign-off, and what undoes that ---


def test_an_approval_that_its_own_condition_ended_carries_no_release(tmp_path: Path) -> None:
    condition = {"text": "until spring", "due": None, "kind": "expiry", "limit": {"until": "2025-10-09T08:00:00Z"}}

    def step(world: bf.World, package: int) -> None:
        world.grant(
            package, [world.sign_off("val", package, decision="approve_with_conditions", conditions=[condition])]
        )

    report = judged(tmp_path, step)
    assert (report["exit_code"], "which had expired" in said(report)) == (TAMPERED, True)


@pytest.mark.parametrize(("event", "void"), [("incident", True), ("drift_breach", False)])
def test_an_event_that_the_policy_names_voids_earlier_approvals(event: Any, void: bool, tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        record = ModelEvent(model=bf.MODEL, event=event, text="x", reported_by="person/val", envelope=bf.PLACEHOLDER)
        seq = world.sign_off("val", package)
        act(world, record, "val")
        world.grant(package, [seq])

    report = judged(tmp_path, step)
    assert (report["exit_code"] == TAMPERED, "was undone by the model_event" in said(report)) == (void, void), said(
        report
    )


@pytest.mark.parametrize(("signers", "fine"), [(("com", "val"), True), (("com",), False), (("com", "biz"), False)])
def test_a_block_is_lifted_by_two_who_may_block(signers: tuple[str, ...], fine: bool, tmp_path: Path) -> None:
    def step(world: bf.World, package: int) -> None:
        seq = world.sign_off("com", package, decision="block")
        lift = BlockLifted(
            model=bf.MODEL, version=bf.VERSION, sign_off_seq=seq, reason="r", lifted_by=ids(*signers), envelopes=()
        )
        act(world, lift, *signers)
        release(world, package)

    report = judged(tmp_path, step)
    assert (report["exit_code"] == HOLDS) == fine, said(report)
    assert ("stands under the block" in said(report)) != fine
