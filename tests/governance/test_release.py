"""Granting a release: one grant a round and target, one refusal a run, the model's bytes checked each time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.governance import (
    Choice,
    GovernanceError,
    Grant,
    ReleaseBlocked,
    complete,
    fail,
    live,
    request_release,
    revoke_key,
    sign_off,
)
from cognify_dagster.ledger import Outcome, Receipt
from cognify_dagster.records import DeploymentCompleted, ReleaseGranted, ReleaseRefused, TrainingRun
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL, World


def ask(world: World, run: str = "run-1", version: str = "1", target: str = "production") -> Grant:
    return request_release(world.workspace, MODEL, version, target, run, "person/ben")


def grants(world: World) -> list[int]:
    return [item.seq for item in world.workspace.read().all(ReleaseGranted)]


def test_a_refusal_is_an_entry_with_every_reason(ready: World) -> None:
    with pytest.raises(ReleaseBlocked, match="Independent validation is not signed") as caught:
        ask(ready)
    found = ready.workspace.read().at(caught.value.seq)
    assert found is not None
    assert isinstance(found.record, ReleaseRefused)
    assert [part.code for part in found.record.reasons] == [reason.code for reason in ready.decide().reasons]
    assert found.record.requested_by == "person/ben"
    assert grants(ready) == []
    assert "cognify sign credit_default 1 " in str(caught.value)


def test_a_refusal_is_recorded_once_a_run(ready: World) -> None:
    with pytest.raises(ReleaseBlocked) as first:
        ask(ready, "run-1")
    ready.approve("vera")  # the ledger moves on, the reasons change
    with pytest.raises(ReleaseBlocked) as retry:
        ask(ready, "run-1")
    assert retry.value.seq == first.value.seq
    with pytest.raises(ReleaseBlocked) as other:
        ask(ready, "run-2")
    assert other.value.seq != first.value.seq
    assert len(ready.workspace.read().all(ReleaseRefused)) == 2


def test_a_run_once_refused_may_be_granted_later(ready: World) -> None:
    with pytest.raises(ReleaseBlocked):
        ask(ready)
    ready.approve_all()
    assert not ask(ready).continued


def test_a_retry_continues_under_the_same_grant(approved: World) -> None:
    first = ask(approved)
    fail(approved.workspace, first, attempt="1", reason="out of memory")
    again = ask(approved)
    assert again.continued
    assert (again.seq, again.leaf, again.model_digest) == (first.seq, first.leaf, first.model_digest)
    assert grants(approved) == [first.seq]


def test_after_a_completed_release_the_same_approvals_release_nothing_more(approved: World) -> None:
    complete(approved.workspace, ask(approved), location="/srv", detail={})
    with pytest.raises(ReleaseBlocked, match="were used on production already"):
        ask(approved, "run-2")


def test_a_grant_is_unique_for_round_and_target(ready: World) -> None:
    for name in ("vera", "carl", "olga"):
        ready.approve(name, targets=("production", "staging"))
    production, staging = ask(ready), ask(ready, target="staging")
    assert production.seq != staging.seq
    assert ask(ready).seq == production.seq
    ready.package("1")
    for name in ("vera", "carl", "olga"):
        ready.approve(name)
    assert ask(ready).seq not in {production.seq, staging.seq}


def test_a_block_stops_a_deployment_that_was_granted_but_has_to_be_retried(approved: World) -> None:
    ask(approved)
    sign_off(approved.workspace, MODEL, "1", approved.key("carl"), Choice("block", comments="complaint"))
    with pytest.raises(ReleaseBlocked, match="blocked this version"):
        ask(approved)


def test_a_grant_for_other_model_bytes_is_not_continued(approved: World) -> None:
    """An entry that only looks like the grant of this round must not put other bytes into the deployment's hands."""
    genuine = ask(approved)
    reading = approved.workspace.read()
    found = reading.at(genuine.seq)
    assert found is not None
    approved.write(found.record.model_copy(update={"model_digest": "sha256:" + "0" * 64}))
    assert ask(approved).seq == genuine.seq


@pytest.mark.parametrize("which", ["model", "package"])
def test_altered_bytes_in_the_evidence_store_are_refused(approved: World, which: str) -> None:
    training = approved.workspace.read().latest(TrainingRun, approved.subject("1"))
    package = approved.decide().package
    assert training is not None
    assert package is not None
    digest = training.record.model_file.digest if which == "model" else package.record.package.digest
    blob = next(
        path
        for path in (approved.workspace.home / "evidence").rglob("*")
        if path.name in digest[7:] and _is(path, digest)
    )
    blob.chmod(0o600)
    blob.write_bytes(b"other bytes")
    with pytest.raises(ReleaseBlocked, match="does not verify") as caught:
        ask(approved)
    assert [reason.code for reason in caught.value.reasons] == ["evidence_damaged"]
    assert grants(approved) == []


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and digest[7:].endswith(path.name)


def test_missing_evidence_is_refused(approved: World) -> None:
    training = approved.workspace.read().latest(TrainingRun, approved.subject("1"))
    assert training is not None
    for path in (approved.workspace.home / "evidence").rglob("*"):
        if _is(path, training.record.model_file.digest):
            path.unlink()
    with pytest.raises(ReleaseBlocked, match="does not verify"):
        ask(approved)


@pytest.mark.parametrize("target", ["", "prod/eu", "a" * 31, "prod uction", "-x"])
def test_a_target_that_cannot_be_a_subject_is_a_clear_error(approved: World, target: str) -> None:
    with pytest.raises(GovernanceError, match="target"):
        ask(approved, target=target)


def test_an_entry_in_between_makes_it_decide_again(approved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grant is appended only on exactly the entries decided on; here a block arrives in the gap."""
    genuine: Callable[..., Receipt] = approved.workspace.append
    blocked = []

    def append(record: Any, **options: Any) -> Receipt:
        if isinstance(record, ReleaseGranted) and not blocked:
            blocked.append(True)
            other = Workspace.open(approved.folder / "project")
            sign_off(other, MODEL, "1", approved.key("carl"), Choice("block", comments="at the last moment"))
        return genuine(record, **options)

    monkeypatch.setattr(approved.workspace, "append", append)
    with pytest.raises(ReleaseBlocked, match="at the last moment"):
        ask(approved)
    assert grants(approved) == []


def test_a_grant_by_another_process_in_between_is_continued(approved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It decided a second earlier, so its entry has the same key and other facts: no error, the same grant."""
    genuine: Callable[..., Receipt] = approved.workspace.append
    others: list[Grant] = []

    def append(record: Any, **options: Any) -> Receipt:
        if isinstance(record, ReleaseGranted) and not others:
            other = Workspace.open(approved.folder / "project")
            others.append(request_release(other, MODEL, "1", "production", "run-2", "person/ben"))
            record = record.model_copy(update={"decided_at": "2026-01-01T00:00:00Z"})
        return genuine(record, **options)

    monkeypatch.setattr(approved.workspace, "append", append)
    grant = ask(approved)
    assert grant.continued
    assert (grant.seq, grant.leaf) == (others[0].seq, others[0].leaf)
    assert grants(approved) == [grant.seq]


def test_a_harmless_entry_in_between_is_decided_over_again_and_granted(
    approved: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine: Callable[..., Receipt] = approved.workspace.append
    moved = []

    def append(record: Any, **options: Any) -> Receipt:
        if isinstance(record, ReleaseGranted) and not moved:
            moved.append(True)
            approved.snapshot("something_else", "77" * 32)
        return genuine(record, **options)

    monkeypatch.setattr(approved.workspace, "append", append)
    grant = ask(approved)
    found = approved.workspace.read().at(grant.seq)
    assert found is not None
    assert isinstance(found.record, ReleaseGranted)
    assert found.record.decided_on_size == grant.seq


def _ask_in_process(project: str, run: str, start: Any, results: Any) -> None:
    workspace = Workspace.open(project)
    start.wait()
    try:
        results.put(request_release(workspace, MODEL, "1", "production", run, "person/ben").seq)
    except BaseException as error:  # the parent must see what went wrong
        results.put(repr(error))


def test_requests_from_several_processes_yield_exactly_one_grant(approved: World) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.Queue()
    project = str(approved.folder / "project")
    workers = [context.Process(target=_ask_in_process, args=(project, f"run-{n}", start, results)) for n in range(4)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert len(grants(approved)) == 1
    assert answers == grants(approved) * 4
    assert approved.workspace.ledger.verify(approved.workspace.trust()).outcome is Outcome.HOLDS


def test_the_newest_completed_release_is_live_and_names_what_it_supersedes(approved: World) -> None:
    assert live(approved.workspace.read(), MODEL, "production") is None
    complete(approved.workspace, ask(approved), location="/srv/1", detail={})
    approved.ready("2")
    approved.approve_all("2")
    grant = ask(approved, "run-2", "2")
    assert grant.supersedes == "1"
    fail(approved.workspace, grant, attempt="1", reason="no space")
    found = live(approved.workspace.read(), MODEL, "production")
    assert found is not None
    assert found.record.version == "1"
    complete(approved.workspace, grant, location="/srv/2", detail={"port": 8080})
    found = live(approved.workspace.read(), MODEL, "production")
    assert found is not None
    assert (found.record.version, found.record.supersedes) == ("2", "1")


def test_approvals_stay_used_when_one_more_than_needed_is_revoked(approved: World) -> None:
    """Nobody approved anything anew, so the remaining approvals are no new round."""
    approved.enrol("walt", "model_validator")
    approved.approve("walt", stage="validation")
    complete(approved.workspace, ask(approved), location="/srv/1", detail={})
    revoke_key(approved.workspace, "person/walt", approved.key("walt").key_id, "left", approved.key("ada"))
    assert approved.codes() == ["already_released"]


@pytest.mark.parametrize("change", [{"grant_seq": 3}, {"grant_seq": 10_000}, {"model_digest": "sha256:" + "0" * 64}])
def test_a_deployment_without_its_grant_is_not_live(approved: World, change: dict[str, Any]) -> None:
    seq = complete(approved.workspace, ask(approved), location="/srv/1", detail={})
    found = approved.workspace.read().at(seq)
    assert found is not None
    assert isinstance(found.record, DeploymentCompleted)
    approved.write(found.record.model_copy(update={**change, "version": "2"}))
    approved.write(found.record.model_copy(update=change))
    newest = live(approved.workspace.read(), MODEL, "production")
    assert newest is not None
    assert newest.seq == seq
