"""Acts about the ledger and its records that two people sign together: making one, and whether it counts.

Invariants: such an act names exactly the people who signed it, each with one of its roles; it is appended only to the entries on which it
was decided. Whether the same signatures had their effect before is for the caller to say, with `first_use`, once all else holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.signing.acts import KEEPERS, act_problem, people_needed, sign_jointly
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import (
    ClockFloorCorrected,
    LedgerContinued,
    LegalHoldLifted,
    LogKeyRevoked,
    LogKeyRotated,
    PayloadErased,
    RetentionAdopted,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

Joint = (
    PayloadErased
    | LegalHoldLifted
    | RetentionAdopted
    | LogKeyRotated
    | LogKeyRevoked
    | ClockFloorCorrected
    | LedgerContinued
)
"""Records with `approvers`, the people who sign, and their `envelopes`."""


def joint_problem(
    reading: Reading, item: Recorded[Joint], roles: Collection[str] = KEEPERS, people: Directory | None = None
) -> str | None:
    """Say why such an act does not count, or None: enough different people signed it, each with one of the roles."""
    return act_problem(
        reading,
        item,
        item.record.envelopes,
        people or directory(reading),
        roles,
        needed=people_needed(reading),
        claimed=item.record.approvers,
    )


def approvers(signers: Sequence[PersonalKey]) -> tuple[str, ...]:
    """Return the people whom an act names as those who sign it."""
    return tuple(sorted({key.person for key in signers}))


def append_jointly(
    workspace: Workspace,
    reading: Reading,
    record: Joint,
    signers: Sequence[PersonalKey],
    meaning: str,
    idem: str,
    roles: Sequence[str] = KEEPERS,
) -> Callable[[], Receipt]:
    """Have all of them sign a record; return the append, for `decide_and_append`.

    Raises:
        GovernanceError: if there are too few different people, or one of them may not sign this.
    """
    envelopes = sign_jointly(reading, record, signers, roles, meaning, needed=people_needed(reading))
    return lambda: workspace.append(
        record.model_copy(update={"envelopes": envelopes}),
        actor=signers[0].person,
        idem=idem,
        expected_size=reading.size,
        checkpoint=True,
    )
