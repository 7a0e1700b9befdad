"""Legal holds: while one stands, nothing about its subjects is erased, collected or left to lapse.

Invariants: one compliance officer or workspace admin may place a hold, two people are needed to lift one; a placement counts even
if its signature cannot be judged any more (keeping too much is the safe side), a lifting counts only with valid signatures; holds
are found by walking the verified history of `holds`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cognify_dagster.governance.custody.joint import append_jointly, approvers, joint_problem
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.signing.acts import (
    KEEPERS,
    UNSIGNED,
    act_problem,
    already,
    decide_and_append,
    first_use,
    sign_jointly,
)
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Entry, EntryError, Receipt, check_subject
from cognify_dagster.records import LegalHoldLifted, LegalHoldPlaced
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

EVERYTHING = "ledger"


@dataclass(frozen=True)
class Hold:
    """A legal hold that stands. `seq` is the entry that placed it, `problem` why its signature does not verify, if so."""

    hold: str
    seq: int
    subjects: tuple[str, ...]
    seqs: tuple[int, ...]
    reason: str
    placed_by: str
    problem: str | None = None

    def covers(self, entry: Entry) -> bool:
        """Whether an entry is under this hold: by number, by a subject, or by the model whose version it is about."""
        if EVERYTHING in self.subjects or entry.seq in self.seqs:
            return True
        return any(
            subject == held or subject.startswith(held + "@") for held in self.subjects for subject in entry.subjects
        )


@dataclass(frozen=True)
class Holds:
    """All holds that stand, and the entries about holds that have no effect, with the reason."""

    standing: tuple[Hold, ...]
    problems: tuple[tuple[int, str], ...] = ()

    def over(self, entry: Entry) -> list[Hold]:
        """Return the holds that an entry is under."""
        return [hold for hold in self.standing if hold.covers(entry)]

    @property
    def freeze(self) -> list[Hold]:
        """Return the holds on the whole ledger: nothing at all is removed while one stands."""
        return [hold for hold in self.standing if EVERYTHING in hold.subjects]


def holds(reading: Reading) -> Holds:
    """Return the holds at the end of a reading."""
    people = directory(reading)
    standing: dict[str, Hold] = {}
    problems: list[tuple[int, str]] = []
    used: set[str] = set()
    # an entry that cannot be read may have placed a hold on anything
    for entry in (item.entry for item in reading.view.history("holds")):
        item = reading.at(entry.seq)
        if item is None:
            text = "an entry about holds cannot be read; everything is taken to be held"
            standing[f"unreadable-{entry.seq}"] = Hold(
                f"unreadable-{entry.seq}", entry.seq, (EVERYTHING,), (), text, entry.actor, text
            )
            problems.append((entry.seq, text))
            continue
        record = item.record
        if isinstance(record, LegalHoldPlaced):
            problem = act_problem(
                reading, item, (record.envelope,), people, KEEPERS, needed=1, claimed=(record.placed_by,)
            )
            if problem:
                problems.append((item.seq, problem))
            name = record.hold if record.hold not in standing else f"{record.hold}#{item.seq}"
            standing[name] = Hold(
                record.hold, item.seq, record.held_subjects, record.seqs, record.reason, record.placed_by, problem
            )
        elif isinstance(record, LegalHoldLifted):
            lifting = Recorded(item.seq, item.time_us, item.leaf, item.actor, item.key_id, record, item.entry)
            problem = joint_problem(reading, lifting, people=people)
            found = [
                key for key, hold in standing.items() if hold.seq == record.placed_seq and hold.hold == record.hold
            ]
            if problem is None and not found:
                problem = f"there was no standing hold {record.hold!r} of entry {record.placed_seq}"
            problem = problem or first_use(record.envelopes, used)
            if problem:
                problems.append((item.seq, problem))
                continue
            del standing[found[0]]
    return Holds(tuple(standing.values()), tuple(problems))


def place_hold(
    workspace: Workspace,
    hold: str,
    *,
    by: PersonalKey,
    reason: str,
    subjects: Sequence[str] = (),
    seqs: Sequence[int] = (),
) -> Receipt:
    """Place a legal hold.

    Args:
        workspace: where.
        hold: its name, such as `case-2026-17`.
        by: a compliance officer or workspace admin.
        reason: why.
        subjects: what is held: `model/credit` (with its versions), `dataset/loans`, …; `ledger` holds everything.
        seqs: single entries.

    Raises:
        GovernanceError: if nothing is held, a hold of this name stands already, or the person may not place holds.
    """
    held = tuple(sorted(set(subjects)))
    try:
        for subject in held:
            check_subject(subject)
    except EntryError as error:
        raise GovernanceError(str(error)) from error
    if not held and not seqs:
        raise GovernanceError("a hold names subjects or entries; use the subject `ledger` to hold everything")

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        wrong = [seq for seq in seqs if not 0 <= seq < reading.size]
        if wrong:
            raise GovernanceError(f"there is no entry {wrong[0]}")
        for other in holds(reading).standing:
            if other.hold == hold and (other.subjects, other.seqs) == (held, tuple(sorted(set(seqs)))):
                return already(reading, other.seq)
            if other.hold == hold:
                raise GovernanceError(f"the hold {hold!r} stands already (entry {other.seq}); choose another name")
        record = LegalHoldPlaced(
            hold=hold,
            held_subjects=held,
            seqs=tuple(sorted(set(seqs))),
            reason=reason,
            placed_by=by.person,
            envelope=UNSIGNED,
        )
        (envelope,) = sign_jointly(
            reading, record, [by], KEEPERS, "Nothing about these subjects may be destroyed.", needed=1
        )
        return lambda: workspace.append(
            record.model_copy(update={"envelope": envelope}),
            actor=by.person,
            idem=idempotency_key("hold", hold, reading.view.heads.get(f"hold/{hold}", -1)),
            expected_size=reading.size,
            checkpoint=True,
        )

    return decide_and_append(workspace, attempt)


def lift_hold(workspace: Workspace, hold: str, *, signers: Sequence[PersonalKey], reason: str) -> Receipt:
    """Lift a legal hold; two different compliance officers or workspace admins sign.

    Raises:
        GovernanceError: if no such hold stands, or not enough people with the right roles sign.
    """

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        found = [item for item in holds(reading).standing if item.hold == hold]
        if not found:
            raise GovernanceError(f"no hold {hold!r} stands; `cognify hold list` shows those that do")
        record = LegalHoldLifted(
            hold=hold,
            placed_seq=found[0].seq,
            reason=reason,
            approvers=approvers(signers),
        )
        key = idempotency_key("lift", hold, found[0].seq)
        return append_jointly(workspace, reading, record, signers, "This legal hold is no longer needed.", key)

    return decide_and_append(workspace, attempt)
