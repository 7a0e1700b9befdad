"""Records of what people write about one model version: the text of a section, and signatures under exactly that text.

Invariants: whoever writes the entry only states who the author is; that a person wrote or approved a text is shown by their own
signature over its digest, never by the entry that holds the text; a text holds no control characters. What a schema cannot say (the
Unicode form, one of two fields) is asked with `problem`, before a text is written and again before it counts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import Digest, ModelKey, Part, PersonId, Record, VersionId, register
from cognify_dagster.records.governance import Envelope

SECTION_PATTERN = r"^[a-z][a-z0-9_]{0,59}$"
MAX_TEXT_BYTES = 256 * 1024
_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff"
_FORBIDDEN = re.compile(f"[{_CONTROLS}\ud800-\udfff]")
_TEXT_PATTERN = f"^[^{_CONTROLS}]*$"
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]*$"


def text_problem(text: str) -> str | None:
    """Say why a text cannot be recorded, or None: control characters, another form than NFC, or too many bytes."""
    found = _FORBIDDEN.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        return f"line {line} holds the control character U+{ord(found.group()):04X}; remove it"
    size = len(text.encode("utf-8"))
    if size > MAX_TEXT_BYTES:
        return f"the text has {size} bytes; the limit is {MAX_TEXT_BYTES}"
    return None if unicodedata.is_normalized("NFC", text) else "the text is not in the Unicode form NFC"


def text_digest(text: str) -> str:
    """Return `sha256:` and the hex digest over the UTF-8 bytes of a text: what a signature under the text names."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


HumanText = Annotated[str, Field(max_length=MAX_TEXT_BYTES, pattern=_TEXT_PATTERN)]
SectionName = Annotated[str, Field(pattern=SECTION_PATTERN)]


class CarriedFrom(Part):
    """The entry of another version of the model from which a text was taken over unchanged."""

    version: VersionId
    seq: int = Field(ge=1)
    text_digest: Digest


@register
class SectionWritten(Record):
    """The text of one section about one model version. A later entry for the same section takes its place.

    `author_stated` is what the file's front matter says; it is a claim until that person signs (`SectionApproved`, capacity
    `author`). A text that a program drafted (`ai_drafted`) counts only once a person approved it.
    """

    kind: ClassVar[str] = "section_written"
    model: ModelKey
    version: VersionId
    section: SectionName
    text: HumanText = ""
    declared_unavailable: HumanText = Field("", description="why there is no such text; then `text` is empty")
    author_stated: PersonId | None = Field(None, description="who the file says wrote it; None: not stated")
    ai_drafted: bool = False
    revision: int = Field(ge=1, description="counts the texts of this section of this version from 1")
    supersedes: int | None = Field(None, description="the entry whose place this one takes")
    source: str = Field("", max_length=500, description="path of the file, relative to the project")
    carried_from: CarriedFrom | None = None
    model_digest: Digest | None = Field(None, description="the version's model file, where it is trained already")

    @property
    def text_digest(self) -> str:
        """What a signature under the text names."""
        return text_digest(self.text)

    def problem(self) -> str | None:
        """Say why the entry holds no text that could count, or None."""
        if bool(self.text.strip()) == bool(self.declared_unavailable.strip()):
            return "it holds either a text, or the reason why there is none (declared_unavailable)"
        if self.carried_from is not None and self.carried_from.text_digest != self.text_digest:
            return "it says that it was taken over from another text"
        return text_problem(self.text) or text_problem(self.declared_unavailable)

    def subjects(self) -> tuple[str, ...]:
        people = (self.author_stated,) if self.author_stated else ()
        return (f"model/{self.model}", f"model/{self.model}@{self.version}", *people)


@register
class SectionApproved(Record):
    """A person signs under exactly one text: as who wrote it, or as who read it and answers for it in their role."""

    kind: ClassVar[str] = "section_approved"
    model: ModelKey
    version: VersionId
    section: SectionName
    section_seq: int = Field(ge=1, description="the entry that holds the text")
    text_digest: Digest
    ai_drafted: bool = Field(False, description="as the entry says, so that the signature says it too")
    capacity: Literal["approver", "author"] = "approver"
    role: str = Field(min_length=1, description="the role in which they sign")
    comment: HumanText = ""
    approved_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"model/{self.model}@{self.version}", self.approved_by)
