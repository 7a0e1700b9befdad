"""Records about people's authority over time: delegation, recertification, recovery of lost keys.

None has an effect without the signatures it needs; which those are is decided in the governance room.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cognify_dagster.records.base import ModelKey, PersonId, Record, Utc, register
from cognify_dagster.records.governance import Envelope, Person


@register
class Delegated(Record):
    """A person lets another one sign in their role for a while. The delegate signs as themselves, on behalf of the delegator."""

    kind: ClassVar[str] = "delegated"
    delegator: PersonId
    delegate: PersonId
    role: str = Field(min_length=1)
    models: tuple[ModelKey, ...] = Field(default=(), description="the models it covers; empty: all")
    stages: tuple[str, ...] = Field(default=(), description="the stages it covers; empty: all of the role")
    reason: str = Field(min_length=1)
    starts: Utc
    expires: Utc
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("people", self.delegator, self.delegate)


@register
class DelegationEnded(Record):
    """A delegation counts no more from this entry on; signed by the delegator, the delegate or a workspace admin."""

    kind: ClassVar[str] = "delegation_ended"
    delegation_seq: int = Field(ge=1)
    delegator: PersonId
    delegate: PersonId
    reason: str = Field(min_length=1)
    ended_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("people", self.delegator, self.delegate)


@register
class Recertified(Record):
    """A workspace admin confirms that a person still holds these roles."""

    kind: ClassVar[str] = "person_recertified"
    person: PersonId
    roles: tuple[str, ...]
    recertified_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("people", self.person)


@register
class PersonRecovered(Record):
    """A person's keys were replaced by the founders' recovery keys, k of n: every older key of theirs counts no more."""

    kind: ClassVar[str] = "person_recovered"
    person: Person
    reason: str = Field(min_length=1)
    recovery_keys: tuple[str, ...] = Field(description="ids of the recovery keys that signed, sorted")
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return ("people", self.person.person)


@register
class EntryDisregarded(Record):
    """Decisions go on without an entry that nobody can read or prove, or that has no effect. It never takes effect from one.

    Signed by two people who are not its subjects (those who may adopt a policy, for one about the policy), or by the founders'
    recovery keys.
    """

    kind: ClassVar[str] = "entry_disregarded"
    seq: int = Field(ge=1, description="the entry that is disregarded")
    reason: str = Field(min_length=1)
    signers: tuple[PersonId, ...] = ()
    recovery_keys: tuple[str, ...] = Field(
        default=(), description="ids of the recovery keys that signed instead, sorted"
    )
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return ("people", *sorted(set(self.signers)))
