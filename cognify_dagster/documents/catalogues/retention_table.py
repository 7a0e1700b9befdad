"""Retention terms that no framework file holds, and duties to erase: the types and the reading of `templates/retention.yaml`.

Invariants: a rule to keep has a term; a duty to erase has one or says in words when; a condition asks only for facts that the table
names. A user's own `retention.yaml` comes first and adds to the shipped one.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.frameworks.conditions import Condition
from cognify_dagster.documents.frameworks.loading import template_root
from cognify_dagster.documents.frameworks.model import Artefact, FactNeeded
from cognify_dagster.records import YamlError, load_yaml, read_small_text

FILE = "retention.yaml"
MAX_FILE_BYTES = 1_000_000
Start = Literal["created", "last_in_force", "placed_on_market", "notice", "deployment_end"]


class RetentionTableError(DocumentError):
    """A table of retention rules cannot be read or is wrong; the message names file, rule and field."""


class OtherRule(BaseModel):
    """A term that no framework file holds, or a duty to erase. See `templates/retention.yaml`.

    Attributes:
        duty: `keep`: at least so long; `erase`: no longer than so long, or as `note` says where there is no term.
        start: the event from which the term counts (`from` in the file).
        frameworks: it concerns models under one of these; empty: whichever they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$")
    title: str = Field(min_length=1, max_length=200)
    duty: Literal["keep", "erase"]
    label: Literal["law", "policy"]
    artefacts: tuple[Artefact, ...] = Field(min_length=1)
    years: int | None = Field(None, ge=1, le=100)
    months: int | None = Field(None, ge=1, le=1200)
    start: Start = Field("created", alias="from")
    effective_from: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    applies_when: Condition | None = None
    frameworks: tuple[str, ...] = ()
    citation: str = Field(min_length=1, max_length=600)
    basis: Literal["primary", "secondary", "memory"]
    note: str = ""

    @field_validator("applies_when", mode="before")
    @classmethod
    def _condition(cls, value: Any) -> Condition | None:
        return value if value is None or isinstance(value, Condition) else Condition.parse(value)

    @model_validator(mode="after")
    def _term(self) -> OtherRule:
        if self.years is not None and self.months is not None:
            raise ValueError("a rule has a term in either years or months")
        if self.duty == "keep" and self.years is None and self.months is None:
            raise ValueError("a rule to keep needs years or months")
        if self.duty == "erase" and self.term is None and not self.note:
            raise ValueError("a duty to erase without a term says in `note` when")
        return self

    @property
    def term(self) -> int | None:
        """The term in months."""
        return self.months if self.years is None else 12 * self.years


class RetentionTable(BaseModel):
    """Rules outside the frameworks, and the facts that their conditions ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(min_length=1, max_length=40)
    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    facts: tuple[FactNeeded, ...] = ()
    rules: tuple[OtherRule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> RetentionTable:
        names = [rule.id for rule in self.rules]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the rule {repeated[0]!r} occurs twice")
        known = {fact.name for fact in self.facts}
        for rule in self.rules:
            for name in rule.applies_when.facts() if rule.applies_when else ():
                if name not in known:
                    raise ValueError(f"{rule.id}: a condition asks for {name!r}, which is not among the facts")
        return self


def load_retention_table(folder: str | Path | None = None) -> RetentionTable:
    """Load the rules outside the frameworks: the user's own `retention.yaml` in `folder`, then the shipped ones it does not replace.

    Raises:
        RetentionTableError: naming file, rule and field.
    """
    shipped = _read(template_root() / FILE)
    path = Path(folder) / FILE if folder is not None else None
    if path is None or not path.is_file():
        return shipped
    own = _read(path)
    taken, asked = {rule.id for rule in own.rules}, {fact.name for fact in own.facts}
    return RetentionTable(
        version=f"{own.version}; shipped {shipped.version}"[:40],
        as_of=min(own.as_of, shipped.as_of),
        facts=(*own.facts, *(fact for fact in shipped.facts if fact.name not in asked)),
        rules=(*own.rules, *(rule for rule in shipped.rules if rule.id not in taken)),
    )


def _read(path: Path) -> RetentionTable:
    return _parsed(read_small_text(path, MAX_FILE_BYTES, "a table of retention terms", RetentionTableError), str(path))


@lru_cache(maxsize=8)
def _parsed(text: str, source: str) -> RetentionTable:
    try:
        return RetentionTable.model_validate(load_yaml(text))
    except YamlError as error:
        raise RetentionTableError(f"{source}: not readable as YAML: {error}") from None
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc'])) or 'the table'}: {e['msg']}" for e in error.errors()[:5]]
        raise RetentionTableError(f"{source}: {'; '.join(found)}") from None
