"""Records about models and their versions."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cognify_dagster.records.base import Json, ModelKey, Record, VersionId, register


@register
class ModelRegistered(Record):
    """A governed model's definition: owner, tier, frameworks in scope, intended use."""

    kind: ClassVar[str] = "model_registered"
    model: ModelKey
    title: str = ""
    owner: str
    risk_tier: str
    frameworks: tuple[str, ...] = ()
    framework_facts: dict[str, Json] = Field(default_factory=dict)
    intended_use: str = ""
    out_of_scope: str = ""
    limitations: str = ""
    failure_modes: str = ""
    protected_attributes: tuple[str, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"oversight/{self.model}")


@register
class VersionOpened(Record):
    """A model version began to exist. `run` is the root run that opened it."""

    kind: ClassVar[str] = "version_opened"
    model: ModelKey
    version: VersionId
    run: str
    opened_by: str = Field(description="person/… or unattributed")

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"model/{self.model}@{self.version}")
