"""Records about the ledger itself: erasures, legal holds, retention, archived segments, log keys, restores and continuations.

The ledger room knows these only by the names of kinds and members; what they mean, and whose signature they need, is decided
in the governance room. None of them can ever be erased.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from cognify_dagster.records.base import Digest, Hex64, Part, PersonId, Record, register
from cognify_dagster.records.governance import Envelope

HOLD_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,59}$"
_VKEY = Field(min_length=10, max_length=400, description="C2SP verifier key: name+id+base64")


@register
class PayloadErased(Record):
    """Payloads were erased lawfully. `seq` is the entry concerned, `seqs` all of them if there are several.

    `evidence_erased` are the blobs whose data keys were destroyed with them. The envelopes are the approvers' signatures.
    """

    kind: ClassVar[str] = "payload_erased"
    seq: int = Field(ge=1)
    seqs: tuple[int, ...] = Field(default=(), description="all entries concerned, sorted; empty: only `seq`")
    basis: str = Field(min_length=1, description="the duty or request in whose name it was erased")
    approved_by: PersonId
    approvers: tuple[PersonId, ...] = Field(default=(), description="everyone who signed")
    evidence_erased: tuple[Digest, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return ("erasures", *sorted({self.approved_by, *self.approvers}))

    def named(self) -> frozenset[int]:
        """Return the sequence numbers that this erasure accounts for."""
        return frozenset({self.seq, *self.seqs})


@register
class LegalHoldPlaced(Record):
    """From here on nothing about these subjects, and none of these entries, may be erased, collected or left to lapse."""

    kind: ClassVar[str] = "legal_hold_placed"
    hold: str = Field(pattern=HOLD_PATTERN)
    held_subjects: tuple[str, ...] = Field(
        default=(), description="subject ids; model/x covers its versions, ledger covers everything"
    )
    seqs: tuple[int, ...] = ()
    reason: str = Field(min_length=1)
    placed_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("holds", f"hold/{self.hold}", self.placed_by)


@register
class LegalHoldLifted(Record):
    """A legal hold ended; signed by two people, since it lets things be destroyed again."""

    kind: ClassVar[str] = "legal_hold_lifted"
    hold: str = Field(pattern=HOLD_PATTERN)
    placed_seq: int = Field(ge=1, description="the entry that placed it")
    reason: str = Field(min_length=1)
    approvers: tuple[PersonId, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return ("holds", f"hold/{self.hold}", *sorted(set(self.approvers)))


class RetentionRule(Part):
    """How long entries must be kept. A rule without kinds is about all kinds, one without frameworks about all models.

    `starts` says from when the months count: from when the entry was recorded, from when the model version it is about first
    went live, or from when that version's use ended.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$")
    title: str = Field(min_length=1)
    months: int = Field(ge=1, le=1200)
    kinds: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ()
    source: str = Field("", description="where the duty is written down")
    starts: Literal["recorded", "first_live", "use_ended"] = "recorded"

    @model_serializer(mode="wrap")
    def _without_the_usual_start(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A rule that counts from the entry has the form, and so the digest, that it had before there was a choice."""
        data: dict[str, Any] = handler(self)
        if data.get("starts") == "recorded":
            data.pop("starts")
        return data


@register
class RetentionAdopted(Record):
    """The retention rules in force from here on, signed by two people."""

    kind: ClassVar[str] = "retention_adopted"
    rules: tuple[RetentionRule, ...]
    reason: str = Field(min_length=1)
    approvers: tuple[PersonId, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return ("retention", *sorted(set(self.approvers)))


@register
class SegmentArchived(Record):
    """Entries [start, end) were written to an archive folder, whose manifest has this digest, and left the database."""

    kind: ClassVar[str] = "segment_archived"
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    manifest: Hex64 = Field(description="SHA-256 of the manifest's bytes")
    root: Hex64 = Field(description="root of the first `end` entries")
    location: str = Field("", max_length=500, description="where the folder was put, for people")

    def subjects(self) -> tuple[str, ...]:
        return ("ledger", "archive")


@register
class LogKeyRotated(Record):
    """The log key changed. Until the ledger has `overlap_until_size` entries both keys sign its checkpoints. Two workspace
    admins sign; without them it counts for nothing."""

    kind: ClassVar[str] = "log_key_rotated"
    old: str = _VKEY
    new: str = _VKEY
    overlap_until_size: int = Field(ge=1)
    reason: str = ""
    approvers: tuple[PersonId, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return ("ledger", "log_key", *sorted(set(self.approvers)))


@register
class LogKeyRevoked(Record):
    """A log key counts only for heads of at most `last_good_size` entries. Two workspace admins sign; without them it counts
    for nothing, so that a machine alone cannot take a log key away."""

    kind: ClassVar[str] = "log_key_revoked"
    vkey: str = _VKEY
    last_good_size: int = Field(ge=0)
    reason: str = Field(min_length=1)
    approvers: tuple[PersonId, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return ("ledger", "log_key", *sorted(set(self.approvers)))


@register
class LedgerContinued(Record):
    """This ledger goes on where another one lost entries: it cites the other's last witnessed head and what was lost.

    It is the entry right after genesis and is signed by two people.
    """

    kind: ClassVar[str] = "ledger_continued"
    previous_origin: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{2,199}$")
    checkpoint: str = Field(description="the signed checkpoint note that covers the lost entries")
    lost_start: int = Field(ge=0, description="first entry that is lost")
    lost_end: int = Field(ge=1, description="one past the last entry that is lost")
    reason: str = Field(min_length=1)
    approvers: tuple[PersonId, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return ("ledger", *sorted(set(self.approvers)))


@register
class ClockFloorCorrected(Record):
    """A clock that had run ahead was corrected: this entry may lie before the one before it, at `wrong_us`, but not before
    `floor_us`. Later times follow from its own, as always. Two workspace admins sign."""

    kind: ClassVar[str] = "clock_floor_corrected"
    wrong_us: int = Field(ge=0, description="time of the entry right before this one, microseconds UTC")
    floor_us: int = Field(ge=0, description="neither this entry nor a later one lies before this, microseconds UTC")
    reason: str = Field(min_length=1)
    approvers: tuple[PersonId, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return ("ledger", "clock", *sorted(set(self.approvers)))


@register
class Restored(Record):
    """The ledger was restored from a backup and verified; written as the first entry after it."""

    kind: ClassVar[str] = "restored"
    backup: Hex64 = Field(description="SHA-256 of the backup's manifest, or of its database file")
    size: int = Field(ge=1, description="entries after the restore, replayed ones included")
    root: Hex64 = Field(description="root of these entries")
    replayed_from: int | None = Field(None, description="first entry that was replayed, if any")
    compared_with: tuple[str, ...] = Field((), description="the heads held elsewhere that it was compared with")
    reason: str = ""

    def subjects(self) -> tuple[str, ...]:
        return ("ledger", "restore")
