"""Ways back: the founders' recovery keys set a person anew; an entry that nobody can judge is disregarded.

Invariants: recovery needs as many of the genesis entry's recovery keys as it says, in a real ledger never fewer than two, so that no single
person resets a credential and signs with it; it works with no admin left. Disregarding an entry gives nobody anything: it lifts
only the stop that the entry is to every decision.
"""

from __future__ import annotations

from collections.abc import Sequence

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.authority import RECOVERY
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.people.enrol import check_roles, people_form
from cognify_dagster.governance.signing.drafts import perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import EntryDisregarded, Person, PersonRecovered
from cognify_dagster.workspace import Reading, Workspace


def recover_person(workspace: Workspace, person: Person, reason: str, recovery: Sequence[PersonalKey]) -> Receipt:
    """Set a person's roles and keys with the founders' recovery keys; every older key of theirs ends.

    Args:
        workspace: where.
        person: the new state, with new keys only; it may be a new admin where none is left.
        reason: what happened.
        recovery: the recovery keys that sign, as many as the genesis entry demands (two or more).

    Raises:
        GovernanceError: if too few recovery keys sign, or a key was the person's before or is somebody else's.
    """
    ids = [key.key_id for key in recovery]
    return perform_act(workspace, lambda reading: recovery_record(reading, person, reason, ids), recovery)


def recovery_record(reading: Reading, person: Person, reason: str, recovery_keys: Sequence[str]) -> PersonRecovered:
    """Return the record of a recovery, for `propose_act`.

    Raises:
        GovernanceError: if a key id is none of the genesis entry's recovery keys, or a role is not in the policy.
    """
    check_roles(reading, person)
    _known(reading, recovery_keys)
    return PersonRecovered(person=person, reason=reason, recovery_keys=tuple(sorted(recovery_keys)), envelopes=())


def disregard_entry(workspace: Workspace, seq: int, reason: str, signers: Sequence[PersonalKey]) -> Receipt:
    """Let decisions go on without an entry about people or policy that cannot be read, proven or given an effect.

    Args:
        workspace: where.
        seq: the entry.
        reason: what is known about it.
        signers: two workspace admins whom the entry is not about (for one about the policy: people who may adopt a policy), or
            the founders' recovery keys.

    Raises:
        GovernanceError: if the entry is valid or not about people or policy, or they may not sign this.
    """
    return perform_act(workspace, lambda reading: disregarding(reading, seq, reason, _as(reading, signers)), signers)


def disregarding(reading: Reading, seq: int, reason: str, signers: Sequence[str]) -> EntryDisregarded:
    """Return the record that disregards an entry, for `propose_act`; signers are person ids or `recovery:<key id>`.

    Raises:
        GovernanceError: if a recovery key is none of the genesis entry's.
    """
    keys = [name.partition(":")[2] for name in signers if name.startswith(f"{RECOVERY}:")]
    _known(reading, keys)
    persons = [name for name in signers if not name.startswith(f"{RECOVERY}:")]
    return EntryDisregarded(
        seq=seq, reason=reason, signers=tuple(sorted(persons)), recovery_keys=tuple(sorted(keys)), envelopes=()
    )


def _as(reading: Reading, signers: Sequence[PersonalKey]) -> list[str]:
    """Sign as the person where they are enrolled with the key, else with a recovery key."""
    people = directory(reading)
    return [
        key.person
        if people.signing_key(key.person, key.key_id, reading.size) is not None
        else f"{RECOVERY}:{key.key_id}"
        for key in signers
    ]


def _known(reading: Reading, key_ids: Sequence[str]) -> None:
    known = {key.key_id for key in directory(reading).recovery_keys}
    for key_id in key_ids:
        if key_id not in known:
            raise GovernanceError(f"{key_id} is no recovery key of this ledger; the genesis entry names {len(known)}")


register_form(
    people_form(
        PersonRecovered,
        lambda record: tuple(f"{RECOVERY}:{key}" for key in record.recovery_keys),
        lambda record: f"{record.person.person} is given these roles and new keys; their older keys count no more.",
    )
)
register_form(
    people_form(
        EntryDisregarded,
        lambda record: (*record.signers, *(f"{RECOVERY}:{key}" for key in record.recovery_keys)),
        lambda record: f"Decisions go on without entry {record.seq}: I looked at it, and it says nothing that counts.",
    )
)
