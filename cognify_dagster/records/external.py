"""Decisions that were made in another system (a GRC tool) and reported to this one.

Invariants: such an entry records that somebody said something elsewhere; no release decision reads it, and it names no subject whose
history a release decision walks. A sign-off is a person's signature over a package, never a message from another machine.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cognify_dagster.records.base import ModelKey, Record, Utc, VersionId, register
from cognify_dagster.records.sections import LINE_PATTERN, HumanText, text_problem

SYSTEM_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,59}$"


@register
class ExternalDecision(Record):
    """What another system reported about a model or one version of it, once for each reference of that system.

    `decided_by` is a name as the other system knows it; it stands for nobody's signature here.
    """

    kind: ClassVar[str] = "external_decision"
    personal_data: ClassVar[bool] = True

    system: str = Field(pattern=SYSTEM_PATTERN, description="the other system, such as servicenow")
    reference: str = Field(min_length=1, max_length=200, pattern=LINE_PATTERN, description="its own id of the decision")
    model: ModelKey
    version: VersionId | None = Field(None, description="none: it is about the model as a whole")
    decision: str = Field(min_length=1, max_length=200, pattern=LINE_PATTERN, description="in that system's own words")
    text: HumanText = Field("", max_length=10_000)
    decided_by: str = Field("", max_length=200, pattern=LINE_PATTERN, description="who decided, as that system says")
    decided_at: Utc
    link: str = Field("", max_length=1000, pattern=LINE_PATTERN)

    def problem(self) -> str | None:
        """Say what of the text cannot be recorded, or None."""
        return text_problem(self.text)

    def subjects(self) -> tuple[str, ...]:
        about = f"external/{self.model}"
        return ("external", about, *([f"{about}@{self.version}"] if self.version else []))
