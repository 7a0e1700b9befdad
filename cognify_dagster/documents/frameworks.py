"""Frameworks: a regulation as data. Loads and checks the YAML files under `templates/frameworks`.

Invariants: a file with an unknown field, an unknown evidence kind or check, a repeated id or an empty evidence tree is refused,
so a misspelt demand cannot quietly count as met; conditions are data (never evaluated as code); the first requirement of every
framework is its scope determination. The file format is described in docs/package-format.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cognify_dagster.documents.errors import FrameworkError
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import YamlError, load_yaml

MAX_FRAMEWORK_BYTES = 1_000_000
MAX_CONDITION_DEPTH = 8

Force = Literal["law", "guidance", "voluntary", "draft"]
FrameworkStatus = Literal["in_force", "future", "draft", "superseded", "withdrawn"]
Basis = Literal["primary", "secondary", "memory"]

BASIS_TEXT: dict[str, str] = {
    "primary": "checked against the source",
    "secondary": "from secondary sources",
    "memory": "from memory, not checked against the source",
}

#: What a framework file may demand of each kind of evidence. Each name is a function in `coverage_checks`.
KIND_CHECKS: dict[str, frozenset[str]] = {
    "auto:dataset": frozenset({"provenance", "profile", "schema", "splits_disjoint", "feature_inventory"}),
    "auto:training": frozenset({"config", "data_pinned", "code_known", "code_clean", "base_model", "model_kind"}),
    "auto:environment": frozenset({"packages", "seed"}),
    "auto:eval": frozenset(
        {"passed", "intervals", "calibration", "thresholds_before_training", "reason_codes", "alternatives"}
    ),
    "auto:fairness": frozenset({"selection_rates", "attributes_declared", "bases_compared", "proxy_review"}),
    "auto:approval": frozenset({"independent"}),
    "auto:deployment": frozenset(),
    "auto:monitoring": frozenset(),
    "auto:ledger": frozenset({"history", "inventory", "policy", "next_due", "approved_before_release"}),
    "human": frozenset(),
    "attestation": frozenset(),
}

Scalar = str | int | float | bool


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Strict):
    """A tiny expression over facts: `{fact: value}`, `{fact: [values]}`, `{all: [..]}`, `{any: [..]}`, `{not: ..}`."""

    op: Literal["fact", "all", "any", "not"]
    fact: str = ""
    values: tuple[Scalar, ...] = ()
    parts: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, data: Any, depth: int = 0) -> Condition:
        """Read the dict form.

        Raises:
            ValueError: if it is not such an expression.
        """
        if depth > MAX_CONDITION_DEPTH:
            raise ValueError(f"the condition is nested more than {MAX_CONDITION_DEPTH} levels deep")
        if not isinstance(data, Mapping) or len(data) != 1:
            raise ValueError("a condition has exactly one key: a fact, or one of all, any, not")
        key, value = next(iter(data.items()))
        if key in ("all", "any"):
            if not isinstance(value, list) or not value:
                raise ValueError(f"{key!r} needs a list of conditions")
            return cls(op=key, parts=tuple(cls.parse(item, depth + 1) for item in value))
        if key == "not":
            return cls(op="not", parts=(cls.parse(value, depth + 1),))
        if not isinstance(key, str) or not key:
            raise ValueError("a fact's name is text")
        values = value if isinstance(value, list) else [value]
        if not values or any(not isinstance(item, (str, int, float, bool)) for item in values):
            raise ValueError(f"fact {key!r}: compare with text, a number, true or false, or a list of them")
        return cls(op="fact", fact=key, values=tuple(values))

    def facts(self) -> Iterator[str]:
        """Yield the names of the facts it asks for."""
        if self.op == "fact":
            yield self.fact
        for part in self.parts:
            yield from part.facts()

    def evaluate(self, facts: Mapping[str, Any], derivation: list[dict[str, Any]]) -> bool | None:
        """Return whether it holds; None where a fact that decides is not stated. Every look-up joins the derivation."""
        if self.op == "fact":
            known = self.fact in facts and facts[self.fact] is not None
            value = facts.get(self.fact)
            result = any(_same(value, wanted) for wanted in self.values) if known else None
            derivation.append(
                {"fact": self.fact, "expected": list(self.values), "actual": value if known else None, "holds": result}
            )
            return result
        results = [part.evaluate(facts, derivation) for part in self.parts]
        if self.op == "not":
            return None if results[0] is None else not results[0]
        deciding = self.op == "any"
        if deciding in results:
            return deciding
        return None if None in results else not deciding


def _same(value: Any, wanted: Scalar) -> bool:
    """Equality that does not take 1 for true."""
    return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted


class EvidenceNode(_Strict):
    """One demand for evidence, or a group of them (`all_of`, `any_of`)."""

    all_of: tuple[EvidenceNode, ...] = ()
    any_of: tuple[EvidenceNode, ...] = ()
    kind: str = ""
    checks: tuple[str, ...] = ()
    section: str = Field("", pattern=r"^[a-z][a-z0-9_]{0,59}$|^$")
    role: str = ""
    min_words: int = Field(1, ge=1, le=10_000)
    max_age_days: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_form(self) -> EvidenceNode:
        forms = sum((bool(self.all_of), bool(self.any_of), bool(self.kind)))
        if forms != 1:
            raise ValueError(
                "evidence is exactly one of: kind, all_of with at least one item, any_of with at least one item"
            )
        if not self.kind:
            return self
        if self.kind not in KIND_CHECKS:
            raise ValueError(f"unknown evidence kind {self.kind!r}; known: {', '.join(sorted(KIND_CHECKS))}")
        if unknown := sorted(set(self.checks) - KIND_CHECKS[self.kind]):
            known = ", ".join(sorted(KIND_CHECKS[self.kind])) or "none"
            raise ValueError(f"{self.kind} has no check {unknown[0]!r}; known: {known}")
        if self.kind == "human" and not self.section:
            raise ValueError("human evidence names its section")
        if self.kind == "attestation" and not self.role:
            raise ValueError("an attestation names the role that signs it")
        return self

    def leaves(self) -> Iterator[EvidenceNode]:
        """Yield the single demands."""
        if self.kind:
            yield self
        for part in (*self.all_of, *self.any_of):
            yield from part.leaves()


class Requirement(_Strict):
    """One requirement, in our own words.

    Attributes:
        judged_by: role whose signature answers the requirement once all its evidence is there. Where it is set, evidence alone
            never counts as the answer: somebody has to judge it.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,79}$")
    citation: str = Field(min_length=1, max_length=200)
    basis: Basis
    paraphrase: str = Field(min_length=10, max_length=300)
    force: Force
    mandatory: bool
    scope_determination: bool = False
    applies_when: Condition | None = None
    evidence: EvidenceNode
    judged_by: str = Field("", pattern=r"^[a-z][a-z0-9_]{0,59}$|^$")
    cross_refs: tuple[str, ...] = ()

    @field_validator("applies_when", mode="before")
    @classmethod
    def _condition(cls, value: Any) -> Condition | None:
        return value if value is None or isinstance(value, Condition) else Condition.parse(value)


class Section(_Strict):
    """A titled group of requirements."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    title: str = Field(min_length=1)
    requirements: tuple[Requirement, ...] = Field(min_length=1)


class Source(_Strict):
    """Where the requirements come from."""

    title: str = Field(min_length=1)
    url: str | None = Field(None, pattern=r"^https://")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    retrieved: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    note: str = ""


class FactNeeded(_Strict):
    """A fact that scope and conditions ask for; stated in the model's `framework_facts`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    question: str = Field(min_length=1)


class ProhibitedBasis(_Strict):
    """A trait on whose basis nobody may be treated worse, and names by which columns about it are recognised.

    Attributes:
        columns: patterns (`*` stands for anything) over the lower-case name of a column.
    """

    basis: str = Field(min_length=1)
    columns: tuple[str, ...] = Field(min_length=1)


Date = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")


class Framework(_Strict):
    """A regulation or guidance document as data."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,59}$")
    title: str = Field(min_length=1)
    version: str = Field(min_length=1)
    jurisdiction: str
    industry: str
    status: FrameworkStatus
    effective_from: str | None = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    effective_to: str | None = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    supersedes: tuple[str, ...] = ()
    as_of: str = Date
    sources: tuple[Source, ...] = Field(min_length=1)
    disclaimer: str = Field(min_length=1)
    notes: tuple[str, ...] = ()
    facts: tuple[FactNeeded, ...] = ()
    prohibited_bases: tuple[ProhibitedBasis, ...] = ()
    applicability: Condition | None = None
    sections: tuple[Section, ...] = Field(min_length=1)

    @field_validator("applicability", mode="before")
    @classmethod
    def _condition(cls, value: Any) -> Condition | None:
        return value if value is None or isinstance(value, Condition) else Condition.parse(value)

    @model_validator(mode="after")
    def _consistent(self) -> Framework:
        seen: set[str] = set()
        for item in self.requirements():
            if item.id in seen:
                raise ValueError(f"requirement id {item.id!r} occurs twice; ids are never reused")
            seen.add(item.id)
        first = next(iter(self.requirements()))
        if not first.scope_determination:
            raise ValueError(f"the first requirement ({first.id}) has to be the scope determination")
        known = {fact.name for fact in self.facts}
        conditions = [self.applicability, *(item.applies_when for item in self.requirements())]
        for condition in conditions:
            for name in condition.facts() if condition else ():
                if name not in known:
                    raise ValueError(f"a condition asks for {name!r}, which is not among the framework's facts")
        return self

    def requirements(self) -> Iterator[Requirement]:
        """Yield all requirements in order."""
        for section in self.sections:
            yield from section.requirements

    def digest(self) -> str:
        """Return `sha256:` and the hex digest over the canonical JSON of the parsed file."""
        return "sha256:" + hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()

    def scored(self, today: str) -> bool:
        """Whether results count: in force on the day (`YYYY-MM-DD`). Drafts, future and withdrawn texts are listed only."""
        started = self.effective_from is None or self.effective_from <= today
        return self.status == "in_force" and started and (self.effective_to is None or today <= self.effective_to)


def template_root() -> Path:
    """Return the folder of the shipped templates: inside the installed package, or the repository's own in a checkout.

    Raises:
        FrameworkError: if neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for root in (package / "_templates", package.parent / "templates"):
        if (root / "frameworks").is_dir():
            return root
    raise FrameworkError(f"no templates beside {package}: the installation is incomplete; install the package again")


def template_path(relative: str, folder: str | Path | None = None) -> Path:
    """Return a template file: the user's own where `folder` has it, else the shipped one.

    Raises:
        FrameworkError: if the path leaves the folder or there is no such file.
    """
    roots = ([Path(folder)] if folder is not None else []) + [template_root()]
    for root in roots:
        path = (root / relative).resolve()
        if not path.is_relative_to(root.resolve()):
            raise FrameworkError(f"{relative!r} leads outside the template folder")
        if path.is_file():
            return path
    raise FrameworkError(f"there is no template {relative!r} in {' or '.join(str(root) for root in roots)}")


def parse_framework(text: str, *, source: str = "framework") -> Framework:
    """Read a framework from YAML text.

    Raises:
        FrameworkError: naming the source and the field.
    """
    try:
        data = load_yaml(text)
    except YamlError as error:
        raise FrameworkError(f"{source}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise FrameworkError(f"{source}: expected a mapping with the fields of a framework")
    try:
        return Framework.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(data, item) for item in error.errors()[:5])
        raise FrameworkError(f"{source}: {problems}") from None


def _problem(data: Mapping[str, Any], error: Any) -> str:
    where, node = [], data
    for part in error["loc"]:
        where.append(str(part))
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(part, int) and isinstance(node, dict) and "id" in node:
            where[-1] = f"{part} ({node['id']})"
    message = {"missing": "is required", "extra_forbidden": "is not a known field"}.get(error["type"], error["msg"])
    return f"{'.'.join(where) or 'the framework'}: {message.removeprefix('Value error, ')}"


def load_framework(name: str, folder: str | Path | None = None) -> Framework:
    """Load a framework by id: from `folder` (a folder of `<id>.yaml` files) if it has it, else the shipped one.

    Raises:
        FrameworkError: if there is none, or it is wrong; the message names file and field.
    """
    shipped = template_root() / "frameworks"
    for root in ([Path(folder)] if folder is not None else []) + [shipped]:
        path = (root / f"{name}.yaml").resolve()
        if path.is_relative_to(root.resolve()) and path.is_file():
            return _load_file(path, name)
    known = ", ".join(framework_ids(folder))
    raise FrameworkError(f"there is no framework {name!r}; known: {known}")


def _load_file(path: Path, name: str) -> Framework:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FRAMEWORK_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FrameworkError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if len(raw) > MAX_FRAMEWORK_BYTES:
        raise FrameworkError(f"{path}: larger than {MAX_FRAMEWORK_BYTES} bytes")
    framework = parse_framework(text, source=str(path))
    if framework.id != name:
        raise FrameworkError(f"{path}: id: the file is named {name!r} but says {framework.id!r}")
    return framework


def framework_ids(folder: str | Path | None = None) -> list[str]:
    """Return the ids of all frameworks that can be loaded."""
    roots = [template_root() / "frameworks"] + ([Path(folder)] if folder is not None else [])
    return sorted({path.stem for root in roots for path in root.glob("*.yaml")})
