"""Acts about log keys and clock count with two workspace admins only, whoever else can write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Founder,
    GovernanceError,
    PersonalKey,
    correct_clock,
    create_key,
    found_workspace,
    judge_acts,
    ledger_acts,
    parse_policy,
    revoke_key,
    revoke_log_key,
    rotate_log_key,
)
from cognify_dagster.governance.custody.ledger_keys import Act
from cognify_dagster.governance.signing.acts import sign_jointly
from cognify_dagster.ledger import ClockError, Outcome, Report, VerifierKey
from cognify_dagster.ledger.verification.parts import Depth
from cognify_dagster.ledger.verification.state import StateFile
from cognify_dagster.records import ClockFloorCorrected, LogKeyRevoked, LogKeyRotated, VersionOpened
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.governance.world import MODEL, PASSPHRASE, World

DAY_US = 86_400_000_000


def log_key(world: World) -> str:
    signer = world.workspace.ledger.signer
    assert signer is not None
    return str(signer.verifier)


def verify(world: World, **given: object) -> Report:
    return world.workspace.ledger.verify(world.workspace.trust(), acts=judge_acts, **given)  # type: ignore[arg-type]


def signed(world: World, record: Act, names: Sequence[str], roles: tuple[str, ...] = ("workspace_admin",)) -> Act:
    """The record with signatures of these people, past every check of who may sign."""
    keys = [world.key(name) for name in names]
    envelopes = sign_jointly(world.workspace.read(), record, keys, roles, "meant", needed=1)
    return record.model_copy(update={"envelopes": envelopes})


def revocation(world: World, *approvers: str, size: int = 3) -> LogKeyRevoked:
    named = tuple(f"person/{name}" for name in approvers)
    return LogKeyRevoked(vkey=log_key(world), last_good_size=size, reason="copied", approvers=named)


def admins(world: World, *names: str) -> list[PersonalKey]:
    return [world.key(name) for name in names or ("ada", "finn")]


def test_a_revocation_by_two_admins_counts(founded: World) -> None:
    receipt = revoke_log_key(
        founded.workspace, log_key(founded), last_good_size=3, reason="copied", signers=admins(founded)
    )
    again = revoke_log_key(
        founded.workspace, log_key(founded), last_good_size=3, reason="copied", signers=admins(founded)
    )
    assert (again.seq, again.duplicate) == (receipt.seq, True)
    assert ledger_acts(founded.workspace.read()).revoked() == {log_key(founded): 3}
    report = verify(founded)
    assert (report.outcome, report.signed_size) == (Outcome.UNPROVEN, 0)
    assert any("does not count" in note for note in report.notes)


def test_whoever_holds_the_workload_key_alone_cannot_revoke_a_log_key(founded: World) -> None:
    seq = founded.write(revocation(founded, "ada", "finn"))
    founded.workspace.ledger.sign_checkpoint()
    report = verify(founded)
    assert (report.outcome, report.level, report.uncovered) == (Outcome.HOLDS, "L1", 0)
    assert any(f"entry {seq} is intact but counts for nothing: log_key_revoked" in note for note in report.notes)
    assert ledger_acts(founded.workspace.read()).revoked() == {}


@pytest.mark.parametrize(
    ("signers", "claimed", "why"),
    [
        (("ada",), ("ada",), "signed by 1 people"),
        (("ada", "ada"), ("ada",), "signed by 1 people"),
        (("ada", "finn"), ("ada",), "other people than those who signed"),
        (("ada", "vera"), ("ada", "vera"), "signed by 1 people"),
    ],
    ids=["one", "one twice", "not all named", "no admin"],
)
def test_other_signatures_than_those_of_two_admins_do_not_count(
    founded: World, signers: Sequence[str], claimed: Sequence[str], why: str
) -> None:
    record = signed(founded, revocation(founded, *claimed), signers, ("workspace_admin", "model_validator"))
    seq = founded.write(record)
    founded.workspace.ledger.sign_checkpoint()
    ((where, text),) = ledger_acts(founded.workspace.read()).void
    assert (where, why in text) == (seq, True)
    assert verify(founded).level == "L1"


def test_a_signed_revocation_counts_for_the_size_that_was_signed(founded: World) -> None:
    record = signed(founded, revocation(founded, "ada", "finn", size=3), ("ada", "finn"))
    founded.write(record.model_copy(update={"last_good_size": 0}))
    ((_, text),) = ledger_acts(founded.workspace.read()).void
    assert "something else" in text


def test_an_admin_whose_key_was_revoked_before_does_not_count(founded: World) -> None:
    record = signed(founded, revocation(founded, "ada", "finn"), ("ada", "finn"))
    finn = founded.key("finn")
    revoke_key(founded.workspace, finn.person, finn.key_id, "left", founded.key("ada"))
    founded.write(record)
    ((_, text),) = ledger_acts(founded.workspace.read()).void
    assert "no valid key" in text


def test_the_functions_refuse_what_would_not_count(founded: World) -> None:
    size = founded.workspace.ledger.size()
    for names in (("ada",), ("ada", "ada"), ("ada", "vera")):
        with pytest.raises(GovernanceError):
            revoke_log_key(
                founded.workspace, log_key(founded), last_good_size=1, reason="r", signers=admins(founded, *names)
            )
        with pytest.raises(GovernanceError):
            rotate_log_key(
                founded.workspace, "o" * 20, "n" * 20, overlap=5, reason="r", signers=admins(founded, *names)
            )
    with pytest.raises(GovernanceError, match="last good size"):
        revoke_log_key(founded.workspace, log_key(founded), last_good_size=99, reason="r", signers=admins(founded))
    assert founded.workspace.ledger.size() == size


def test_a_rotation_without_its_signatures_is_none(founded: World) -> None:
    new = str(VerifierKey(founded.workspace.origin, b"n" * 32))
    record = LogKeyRotated(old=log_key(founded), new=new, overlap_until_size=50, reason="yearly")
    seq = founded.write(record)
    found = ledger_acts(founded.workspace.read())
    assert (found.rotation_to(new), [where for where, _ in found.void]) == (None, [seq])
    receipt = rotate_log_key(
        founded.workspace, log_key(founded), new, overlap=50, reason="yearly", signers=admins(founded)
    )
    counted = ledger_acts(founded.workspace.read()).rotation_to(new)
    assert counted is not None
    assert (counted.seq, counted.record.overlap_until_size) == (receipt.seq, receipt.seq + 51)


@pytest.mark.parametrize("depth", [Depth(), Depth(payloads=False)], ids=["deep", "no payloads"])
def test_a_revocation_counts_also_where_only_newer_entries_are_read(
    depth: Depth, founded: World, tmp_path: Path
) -> None:
    revoke_log_key(founded.workspace, log_key(founded), last_good_size=3, reason="copied", signers=admins(founded))
    state = StateFile(tmp_path / "audit.state")
    assert verify(founded, since=state, depth=depth).signed_size == 0
    founded.workspace.append(VersionOpened(model=MODEL, version="7", run="r", opened_by="person/ben"), idem="7" * 64)
    founded.workspace.ledger.sign_checkpoint()
    report = verify(founded, since=state, depth=depth)
    assert report.checked_from > 0
    assert (report.outcome, report.signed_size) == (Outcome.UNPROVEN, 0)


def test_the_signer_knows_what_was_revoked_up_to_what_it_signed(founded: World) -> None:
    signer = founded.workspace.ledger.signer
    assert signer is not None
    seq = founded.write(revocation(founded, "ada", "finn"))
    founded.workspace.ledger.sign_checkpoint()
    acts = signer.acts(founded.workspace.ledger.store, judge_acts)
    assert (acts.revoked, [where for where, _ in acts.void]) == ({}, [seq])
    revoke_log_key(founded.workspace, log_key(founded), last_good_size=3, reason="copied", signers=admins(founded))
    assert signer.acts(founded.workspace.ledger.store, judge_acts).revoked == {log_key(founded): 3}


def test_in_a_trial_ledger_one_admin_is_enough(tmp_path: Path) -> None:
    world = trial(tmp_path, lambda: time.time_ns() // 1000)
    revoke_log_key(world.workspace, log_key(world), last_good_size=1, reason="copied", signers=admins(world, "ada"))
    assert verify(world).signed_size == 0


# --- the clock ---


def trial(folder: Path, clock: Callable[[], int]) -> World:

    key = create_key(folder / "ada.key.json", "person/ada", PASSPHRASE)
    workspace = found_workspace(
        folder / "project",
        origin="test.example/trial",
        founders=[Founder(key, "Ada")],
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
        trial=True,
    )
    workspace.ledger._clock = clock
    return World(workspace, folder, {"ada": key})


class Hand:
    """A clock that is set by hand, microseconds from now."""

    def __init__(self, world: World) -> None:
        self.start, self.ahead = time.time_ns() // 1000, 0
        world.workspace.ledger._clock = self

    def __call__(self) -> int:
        return self.start + self.ahead


def opened(world: World, version: str) -> int:
    record = VersionOpened(model=MODEL, version=version, run="r", opened_by="person/ben")
    return world.workspace.append(record, idem=idempotency_key("opened", version)).time_us


def jumped(world: World) -> Hand:
    """The clock ran two days ahead for one entry and is right again."""
    clock = Hand(world)
    opened(world, "1")
    clock.ahead = 2 * DAY_US
    opened(world, "2")
    clock.ahead = 1_000_000
    return clock


def test_after_a_clock_ran_ahead_two_admins_take_the_time_back(founded: World) -> None:
    clock = jumped(founded)
    with pytest.raises(ClockError):
        opened(founded, "3")
    receipt = correct_clock(founded.workspace, reason="host 7", signers=admins(founded), now_us=clock())
    assert receipt.time_us == clock()
    clock.ahead += 5
    assert opened(founded, "3") == clock(), "later entries follow the corrected time"
    founded.workspace.ledger.sign_checkpoint()
    report = verify(founded)
    assert (report.outcome, report.level, report.uncovered) == (Outcome.HOLDS, "L1", 0)
    assert any(f"entry {receipt.seq} corrects the clock" in note for note in report.notes)
    assert founded.workspace.read().size == receipt.seq + 2
    with pytest.raises(GovernanceError, match="no clock to correct"):
        correct_clock(founded.workspace, reason="again", signers=admins(founded), now_us=clock())


def test_a_correction_that_two_admins_did_not_sign_is_a_finding(founded: World) -> None:
    clock = jumped(founded)
    wrong = founded.workspace.read().view.entries[-1].entry.time_us
    named = ("person/ada",)
    record = ClockFloorCorrected(wrong_us=wrong, floor_us=clock.start, reason="host 7", approvers=named)
    seq = founded.write(signed(founded, record, ("ada",)))
    report = verify(founded)
    assert report.outcome is Outcome.TAMPERED
    assert [finding.seq for finding in report.findings] == [seq]
    assert "no valid correction" in report.findings[0].message
    assert any("signed by 1 people" in note for note in report.notes)


def test_a_signed_correction_has_its_effect_at_the_place_that_it_names_only(founded: World) -> None:
    clock = jumped(founded)
    newest = founded.workspace.read().view.entries[-1].entry.time_us
    both = ("person/ada", "person/finn")
    record = ClockFloorCorrected(wrong_us=newest - 1, floor_us=clock.start, reason="host 7", approvers=both)
    seq = founded.write(signed(founded, record, ("ada", "finn")))
    assert [finding.seq for finding in verify(founded).findings] == [seq]


def test_no_entry_lies_before_the_floor_of_a_correction(founded: World) -> None:
    clock = jumped(founded)
    clock.ahead = -60_000_000  # a minute before the last good entry, within the skew allowed
    receipt = correct_clock(founded.workspace, reason="host 7", signers=admins(founded), now_us=clock.start + 5)
    assert receipt.time_us == clock.start
    clock.ahead = -DAY_US
    with pytest.raises(ClockError):
        opened(founded, "3")


def test_where_a_later_verification_goes_on_after_a_correction_it_holds_too(founded: World, tmp_path: Path) -> None:
    clock = jumped(founded)
    state = StateFile(tmp_path / "audit.state")
    verify(founded, since=state)
    correct_clock(founded.workspace, reason="host 7", signers=admins(founded), now_us=clock())
    report = verify(founded, since=state)
    assert (report.outcome, report.checked_from > 0) == (Outcome.HOLDS, True)
    opened(founded, "3")
    report = verify(founded, since=state)
    assert (report.outcome, report.checked_from > 0) == (Outcome.HOLDS, True)


def test_other_workspaces_read_a_corrected_ledger(founded: World) -> None:
    clock = jumped(founded)
    correct_clock(founded.workspace, reason="host 7", signers=admins(founded), now_us=clock())
    again = Workspace.open(founded.workspace.config.path)
    assert [item.record.reason for item in ledger_acts(again.read()).corrections] == ["host 7"]
    founded.workspace = again
    assert not verify(founded).findings
