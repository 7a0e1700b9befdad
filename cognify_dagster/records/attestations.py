"""Records of what a person declares under their own signature: agreements, licences, provenance, certification.

Invariants: an attestation is one person's signed word about one thing in one state (a snapshot by its root, a version by its model
file), up to a date; it says nothing about any other state of that thing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from cognify_dagster.records.base import SNAPSHOT_NAME, Digest, PersonId, Record, Utc, register
from cognify_dagster.records.data import EvidenceItem
from cognify_dagster.records.governance import Envelope
from cognify_dagster.records.sections import LINE_PATTERN, HumanText, text_digest, text_problem

TEXT_ID_PATTERN = r"^[a-z][a-z0-9_]{0,59}$"
ABOUT_PATTERN = (
    r"^((model/[A-Za-z][A-Za-z0-9_]{0,79})(@[A-Za-z0-9][A-Za-z0-9_.+-]{0,49})?|dataset/" + SNAPSHOT_NAME + r")$"
)
AboutId = Annotated[str, Field(pattern=ABOUT_PATTERN)]


@register
class AttestationMade(Record):
    """One person attests a text about a model, a version or a data set.

    `about_digest` binds it to a state: `sha256:` and the snapshot's root for a data set, the digest of the sealed model file for a
    version; None for a model as a whole. `about_seq` is the entry that holds that state.
    """

    kind: ClassVar[str] = "attestation_made"
    text_id: str = Field(pattern=TEXT_ID_PATTERN)
    text: HumanText = Field(min_length=1)
    text_version: str = Field(
        "", max_length=60, description="version of the shipped text, or of the organisation's own"
    )
    about: AboutId
    about_digest: Digest | None = None
    about_seq: int | None = Field(None, ge=1)
    party: str = Field(
        "", max_length=200, pattern=LINE_PATTERN, description="the vendor, licensor or other side of an agreement"
    )
    role: str = Field(min_length=1, description="the role in which the person attests it")
    documents: tuple[EvidenceItem, ...] = Field((), max_length=20, description="such as the signed contract")
    expires: Utc | None = None
    attested_by: PersonId
    envelope: Envelope

    @property
    def text_digest(self) -> str:
        """The digest of the text that is attested."""
        return text_digest(self.text)

    def problem(self) -> str | None:
        """Say why the entry attests nothing, or None."""
        bound = "@" in self.about or self.about.startswith("dataset/")
        if bound != (self.about_digest is not None) or bound != (self.about_seq is not None):
            return "about_digest and about_seq name the state of a version or data set, and only of those"
        return text_problem(self.text) if self.text.strip() else "it holds no text"

    def subjects(self) -> tuple[str, ...]:
        return _about(self.about, self.attested_by)

    def evidence(self) -> tuple[str, ...]:
        return tuple(item.digest for item in self.documents)


@register
class AttestationWithdrawn(Record):
    """An attestation counts no more from this entry on."""

    kind: ClassVar[str] = "attestation_withdrawn"
    attestation_seq: int = Field(ge=1)
    text_id: str = Field(pattern=TEXT_ID_PATTERN)
    about: AboutId
    reason: HumanText = Field(min_length=1)
    withdrawn_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return _about(self.about, self.withdrawn_by)


def _about(subject: str, person: str) -> tuple[str, ...]:
    """The thing, for a version also its model, and the person."""
    return tuple(sorted({subject, subject.partition("@")[0], person}))
