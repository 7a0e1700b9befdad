"""A workload key that was not enrolled for a kind of record is told so before anything is appended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cognify_dagster.governance import enrol_workload, public_key
from cognify_dagster.governance.people.authority import PERSON_SIGNED
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.records import KeyRevoked, ModelRegistered, VersionOpened, Workload, WorkloadEnrolled, kinds
from cognify_dagster.workspace import Workspace, Writer, idempotency_key
from cognify_dagster.workspace.writing import LET_THROUGH
from tests.governance.conftest import founded, founded_template
from tests.governance.world import MODEL, World

__all__ = ["founded", "founded_template"]

OPENED = VersionOpened(model=MODEL, version="7", run="r", opened_by="person/ben")
REGISTERED = ModelRegistered(model=MODEL, owner="o", risk_tier="low")


def second(world: World, *allowed: str) -> Workspace:
    """The workspace as another machine opens it, whose key was enrolled for some kinds."""
    ws, writer = world.workspace, Writer("workload/second", b"\x08" * 32)
    if allowed:
        workload = Workload(workload=writer.workload, key=public_key(writer.public), kinds=allowed)
        enrol_workload(ws, workload, world.key("ada"))
    return Workspace(ws.config, ws.ledger, ws.evidence, writer)


def test_a_kind_that_it_was_not_enrolled_for_is_refused_with_the_way_to_admit_it(founded: World) -> None:
    ws = second(founded, "version_opened")
    ws.append(OPENED, idem=idempotency_key("7"))
    size = ws.ledger.size()
    with pytest.raises(WriterRefused) as refused:
        ws.append(REGISTERED, idem=idempotency_key("8"))
    text = str(refused.value)
    for part in (
        "workload/second",
        Writer("workload/second", b"\x08" * 32).key_id,
        "model_registered",
        "it may write version_opened",
        "cognify people enrol-workload workload/second --kind model_registered",
    ):
        assert part in text
    assert ws.ledger.size() == size


def test_a_key_that_was_never_enrolled_writes_nothing_but_what_people_sign(founded: World) -> None:
    ws = second(founded)
    with pytest.raises(WriterRefused, match="never enrolled"):
        ws.append(OPENED, idem=idempotency_key("7"))
    finn = founded.key("finn")
    revoked = KeyRevoked.model_construct(
        holder=finn.person,
        key_id=finn.key_id,
        reason="r",
        revoked_by="person/ada",
        envelope=None,
        observed={},
        extra={},
    )
    assert ws.append(revoked, idem=idempotency_key("x")).seq == ws.ledger.size() - 1


def test_a_later_enrolment_is_seen_without_opening_anew(founded: World) -> None:
    ws = second(founded, "version_opened")
    with pytest.raises(WriterRefused):
        ws.append(REGISTERED, idem=idempotency_key("8"))
    second(founded, "model_registered", "version_opened")
    ws.append(REGISTERED, idem=idempotency_key("8"))


def test_a_retry_of_what_was_written_returns_its_receipt(founded: World) -> None:
    first = founded.workspace.append(OPENED, idem=idempotency_key("7"))
    again = second(founded, "model_registered").append(OPENED, idem=idempotency_key("7"))
    assert (again.seq, again.duplicate) == (first.seq, True)


def test_an_enrolment_that_does_not_count_takes_no_permission_away(founded: World) -> None:
    """Whoever may write unsigned rubbish about people cannot stop honest writers with it."""
    ws = founded.workspace
    assert ws.writer is not None
    narrower = Workload(workload=ws.writer.workload, key=public_key(ws.writer.public), kinds=("finding",))
    record = WorkloadEnrolled.model_construct(
        workload=narrower, enrolled_by="person/ada", envelope=None, observed={}, extra={}
    )
    ws.append(record, idem=idempotency_key("narrower"))
    Workspace.open(ws.config.path).append(OPENED, idem=idempotency_key("7"))


def test_what_people_sign_is_let_through_as_governance_lets_it_count() -> None:
    assert PERSON_SIGNED | {"genesis"} == LET_THROUGH
    assert set(kinds()) >= LET_THROUGH


def test_asking_costs_nothing_once_a_kind_was_allowed(founded: World, tmp_path: Path) -> None:
    ws = founded.workspace
    ws.append(OPENED, idem=idempotency_key("7"))
    assert ws._permission is not None
    begin = time.thread_time()  # not by the clock: another process may have the core for longer than that
    for _ in range(1_000):
        ws._permission.require("version_opened")
    assert time.thread_time() - begin < 0.1
