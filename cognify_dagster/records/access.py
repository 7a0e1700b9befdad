"""Records about who looked: batches of the review site's access log, and read-only grants to auditors from outside.

Invariants: a batch is named by the Merkle root over its lines, which are personal data and lie encrypted in evidence, never in the entry;
a grant names its end, and nothing that an auditor does with it can change the record.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import Hex64, ModelKey, PersonId, Record, Utc, register
from cognify_dagster.records.data import EvidenceItem
from cognify_dagster.records.governance import Envelope
from cognify_dagster.records.sections import LINE_PATTERN

SealedClass = Literal["confidential", "personal"]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=LINE_PATTERN)]


@register
class AccessLogged(Record):
    """A batch of lines of the access log. `lines` holds them as JSON Lines; the root is that of RFC 6962 over these lines, in order.

    `previous` is the entry of the batch before it from the same site, None for the first.
    """

    kind: ClassVar[str] = "access_logged"
    personal_data: ClassVar[bool] = True
    site: str = Field(pattern=r"^[0-9a-f]{16}$", description="which site's database the lines come from")
    batch: int = Field(ge=1)
    count: int = Field(ge=1)
    root: Hex64
    starts: Utc
    ends: Utc
    previous: int | None = Field(default=None, ge=1)
    lines: EvidenceItem

    def subjects(self) -> tuple[str, ...]:
        return ("access",)

    def evidence(self) -> tuple[str, ...]:
        return (self.lines.digest,)


@register
class AuditorGranted(Record):
    """Somebody from outside may read for a while: all models or those named, from this entry on until a time.

    They see public and internal evidence; of what is encrypted only those in `classes`.
    """

    kind: ClassVar[str] = "auditor_granted"
    name: Line
    organisation: Line
    models: tuple[ModelKey, ...] = Field(default=(), description="the models that may be seen; empty: all")
    classes: tuple[SealedClass, ...] = ()
    until: Utc
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    granted_by: tuple[PersonId, ...]
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return ("auditors", *sorted(set(self.granted_by)))


@register
class AuditorGrantEnded(Record):
    """A grant counts no more from this entry on."""

    kind: ClassVar[str] = "auditor_grant_ended"
    grant_seq: int = Field(ge=1)
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    ended_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("auditors", self.ended_by)
