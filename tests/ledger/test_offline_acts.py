"""The offline verifier and acts about the ledger: revoked log keys, corrected clocks. They count with two admins only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import LogSigner, TrustFile, VerifierKey, new_secret
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger.note import COSIGNATURE
from cognify_dagster.records import ClockFloorCorrected, LogKeyRevoked, LogKeyRotated, Record
from tests.ledger import bundle_factory as bf

HOLDS, TAMPERED, ROLLED_BACK, UNREADABLE, UNPROVEN, USAGE = range(6)
BOTH = ("person/ada", "person/bo")
DAY_US = 86_400_000_000


def revoked(world: bf.World, size: int, *approvers: str, **changed: Any) -> LogKeyRevoked:
    fields = {"vkey": str(world.signer.verifier), "last_good_size": size, "reason": "copied", **changed}
    return LogKeyRevoked(**fields, approvers=approvers or BOTH)


def judged(world: bf.World, folder: Path, trust: str | None = None, **given: Any) -> dict[str, Any]:
    return ov.verify_bundle(bf.export(world, folder / "b", **given), trust or world.trust())


def said(report: dict[str, Any]) -> str:
    found = [f"{item['outcome']} {item['where']}: {item['message']}" for item in report["findings"]]
    return "\n".join([*found, *report["warnings"]])


@pytest.fixture
def world(tmp_path: Path) -> bf.World:
    return bf.tell(tmp_path / "w")


def test_a_checkpoint_that_a_revoked_log_key_signed_is_worth_nothing(world: bf.World, tmp_path: Path) -> None:
    seq = world.joint(revoked(world, 5), "ada", "bo")
    report = judged(world, tmp_path)
    assert (report["exit_code"], report["level"]) == (UNPROVEN, "L0")
    assert "was revoked: it counts for witnessed heads up to size 5" in said(report)
    assert "signed by" not in " ".join(report["proven"])
    assert f"entry {seq}" not in said(report)


def test_the_new_key_counts_beside_the_revoked_one(world: bf.World, tmp_path: Path) -> None:
    old = world.signer.verifier
    new_secret(tmp_path / "new.key")
    both = LogSigner([world.folder / "log.key", tmp_path / "new.key"], world.folder / "signer.json", bf.ORIGIN)
    rotation = LogKeyRotated(old=str(old), new=str(both.verifier), overlap_until_size=99, approvers=BOTH)
    world.joint(rotation, "ada", "bo")
    world.joint(revoked(world, 5, vkey=str(old)), "ada", "bo")
    world.signer = world.ledger.signer = both
    anchor = world.anchor()
    note = world.ledger.sign_checkpoint()
    trust = world.trust(logs=(old, both.verifier))
    report = judged(world, tmp_path, trust, anchor_seq=anchor, note=note)
    assert (report["exit_code"], report["level"]) == (HOLDS, "L1")
    assert "was revoked" in said(report)
    only_old = judged(world, tmp_path, world.trust(logs=(old,)), anchor_seq=anchor, note=note)
    assert (only_old["exit_code"], only_old["level"]) == (UNPROVEN, "L0")


def test_a_revoked_key_counts_up_to_its_last_good_size_where_witnesses_cosigned(
    world: bf.World, tmp_path: Path
) -> None:
    world.joint(revoked(world, 200), "ada", "bo")  # the key will be bad from there on
    anchor = world.anchor()
    note = world.ledger.sign_checkpoint()
    assert judged(world, tmp_path, anchor_seq=anchor, note=note)["exit_code"] == UNPROVEN
    key = VerifierKey("w1.example/w", bf.raw_public("w1"), COSIGNATURE)
    trust = TrustFile(
        (world.signer.verifier,), world.ledger.view(1).entries[0].entry.leaf, (("w1", key),), quorum="w1"
    ).text()
    report = judged(world, tmp_path, trust, anchor_seq=anchor, note=bf.cosign(note, "w1.example/w", "w1"))
    assert (report["exit_code"], report["level"]) == (HOLDS, "L2")


@pytest.mark.parametrize(
    ("signers", "approvers"),
    [
        ((), BOTH),
        (("ada",), ("person/ada",)),
        (("ada", "ada"), ("person/ada",)),
        (("ada", "val"), ("person/ada", "person/val")),
        (("ada", "bo"), ("person/ada",)),
    ],
    ids=["nobody", "one", "one twice", "no admin", "not all named"],
)
def test_a_revocation_without_two_admins_is_ignored_and_named(
    signers: tuple[str, ...], approvers: tuple[str, ...], world: bf.World, tmp_path: Path
) -> None:
    seq = world.joint(revoked(world, 0, *approvers), *signers)
    report = judged(world, tmp_path)
    assert (report["exit_code"], report["level"]) == (HOLDS, "L1"), said(report)
    assert f"entry {seq} (log_key_revoked): counts for nothing" in said(report)


def test_signatures_over_another_revocation_do_not_count(world: bf.World, tmp_path: Path) -> None:
    record = revoked(world, 5)
    envelopes = tuple(world.act(record, name) for name in ("ada", "bo"))
    world.append(record.model_copy(update={"envelopes": envelopes, "last_good_size": 0}), "workload/pipeline")
    report = judged(world, tmp_path)
    assert (report["exit_code"], "signs something else" in said(report)) == (HOLDS, True)


def test_an_act_of_other_subjects_is_none(world: bf.World, tmp_path: Path) -> None:
    world.joint(revoked(world, 5), "ada", "bo", subjects=("ledger", *BOTH))
    report = judged(world, tmp_path)
    assert (report["exit_code"], "counts for nothing" in said(report)) == (HOLDS, True)


def test_nonsense_in_the_place_of_a_revocation_does_not_stop_the_verifier(world: bf.World, tmp_path: Path) -> None:
    class Nonsense(Record):
        kind = "log_key_revoked"

        def subjects(self) -> tuple[str, ...]:
            return ("ledger", "log_key")

        def facts(self) -> dict[str, Any]:
            return {"vkey": [], "last_good_size": "x", "envelopes": 5}

    world.append(Nonsense(), "workload/pipeline")
    report = judged(world, tmp_path)
    assert (report["exit_code"], "counts for nothing" in said(report)) == (HOLDS, True)


@pytest.mark.parametrize("kind", ["log_key_revoked", "person_enrolled"])
def test_a_revocation_may_not_be_withheld(kind: str, world: bf.World, tmp_path: Path) -> None:
    world.joint(revoked(world, 5), "ada", "bo")
    out = bf.export(world, tmp_path / "b")
    for path in (out / "ledger" / "entries").iterdir():
        if json.loads(path.read_bytes())["body"]["kind"] == kind:
            (out / "ledger" / "payloads" / path.name).unlink()
    bf.reseal(out)
    assert ov.verify_bundle(out, world.trust())["exit_code"] == UNPROVEN


# --- the clock ---


def ahead(world: bf.World) -> tuple[int, int]:
    """One entry of a clock that ran a day ahead; return its time and the right one."""
    right = world.now
    world.now += DAY_US
    world.prepare("9")
    wrong, world.now = world.ledger.view().entries[-1].entry.time_us, right
    return wrong, right


def test_the_time_goes_back_at_a_correction_by_two_admins(world: bf.World, tmp_path: Path) -> None:
    wrong, right = ahead(world)
    seq = world.joint(ClockFloorCorrected(wrong_us=wrong, floor_us=right, reason="r", approvers=BOTH), "ada", "bo")
    report = judged(world, tmp_path)
    assert report["exit_code"] == HOLDS, said(report)
    assert f"entry {seq} (clock_floor_corrected): it corrects the clock" in said(report)
    assert report["anchor"]["time"] < "2025-10-10", "later entries follow the corrected time"


@pytest.mark.parametrize(
    ("signers", "changed"),
    [
        (("ada",), {"approvers": ("person/ada",)}),
        (("ada", "bo"), {"wrong_us": 7}),
        (("ada", "bo"), {"subject": "log_key"}),
    ],
    ids=["one admin", "another place", "other subjects"],
)
def test_it_does_not_at_any_other_entry(
    signers: tuple[str, ...], changed: dict[str, Any], world: bf.World, tmp_path: Path
) -> None:
    wrong, right = ahead(world)
    subjects = ("ledger", changed.pop("subject"), *BOTH) if "subject" in changed else None
    record = ClockFloorCorrected(**{"wrong_us": wrong, "floor_us": right, "reason": "r", "approvers": BOTH, **changed})
    seq = world.joint(record, *signers, subjects=subjects)
    report = judged(world, tmp_path)
    assert report["exit_code"] == TAMPERED
    assert f"tampered entry {seq}: its time goes back" in said(report)
    assert "counts for nothing" in said(report)
