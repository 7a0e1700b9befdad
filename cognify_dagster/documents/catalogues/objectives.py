"""Objectives: what each metric is evidence for in plain words, which requirements it helps to answer, and a default threshold.

Invariants: a default threshold is data for people and judges nothing: what counts is the limit that an organisation adopted before
training. A threshold labelled `law` cites the law, one labelled `policy` holds no number. A metric that no entry fits is listed,
never dropped. The shipped table is `templates/objectives.yaml`; a user's own `objectives.yaml` comes first and adds to it.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import (
    Framework,
    field_problem,
    framework_ids,
    load_framework,
    template_root,
)
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import YamlError, load_yaml, read_small_text

FILE = "objectives.yaml"
SCHEMA_ID = "urn:cognify:schema:objectives:v1"
MAX_FILE_BYTES = 1_000_000
_BOUNDS = (".ci_low", ".ci_high")
_ENDS = "[./:,]*"

Family = Literal["classic", "credit", "fairness", "llm", "privacy"]
Direction = Literal["higher", "lower", "near_zero", "near_one", "none"]
Operator = Literal[">=", "<=", ">", "<", "abs<=", "within"]
Basis = Literal["primary", "secondary", "memory"]


class ObjectivesError(DocumentError):
    """A table of objectives cannot be read or is wrong; the message names file, entry and field."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DefaultThreshold(_Strict):
    """Where to start.

    Attributes:
        label: who sets it: a convention of trade or literature, the law, or the organisation's own policy (then without number).
        op: comparison that the metric is expected to meet; `abs<=` is about the value without its sign, `within` about
            `value` to `upper`.
        value: in the metric's unit.
        text: the threshold in words.
        citation: where a law or convention is written down.
        basis: how far the number was checked.
    """

    label: Literal["convention", "law", "policy"]
    op: Operator | None = None
    value: float | None = None
    upper: float | None = None
    text: str = Field(min_length=1, max_length=300)
    citation: str = Field("", max_length=300)
    basis: Basis | None = None

    @model_validator(mode="after")
    def _complete(self) -> DefaultThreshold:
        if (self.op is None) != (self.value is None):
            raise ValueError("op and value go together")
        if (self.upper is not None) != (self.op == "within"):
            raise ValueError("upper belongs to op: within, and to nothing else")
        if self.upper is not None and self.value is not None and self.upper < self.value:
            raise ValueError("upper lies below value")
        if self.value is not None and self.basis is None:
            raise ValueError("a number needs a basis: primary, secondary or memory")
        if self.label == "law" and not self.citation:
            raise ValueError("a threshold labelled law needs a citation")
        if self.label == "policy" and self.value is not None:
            raise ValueError("a threshold of policy has no number here: the organisation adopts its own in a gate set")
        return self


class Objective(_Strict):
    """One entry: a kind of metric and what it is evidence for.

    Attributes:
        metrics: patterns over names in lower case, `_` for spaces and dashes, `*` for anything. A pattern also covers a name that
            goes on after `.`, `/`, `:` or `,`.
        objective: what the metric is evidence for, in a sentence that needs no statistics.
        direction: which way is better; `none` where it depends.
        supports: `framework-id:requirement-id` of the requirements it helps to answer.
        reference: a yardstick such as chance or human performance; no limit.
        caution: what a reader should not take from it.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    family: Family
    title: str = Field(min_length=1, max_length=120)
    metrics: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_.*?@:/,-]{1,120}$")], ...] = Field(min_length=1)
    objective: str = Field(min_length=1, max_length=200)
    direction: Direction
    supports: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,59}:[a-z][A-Za-z0-9_.-]{0,79}$")], ...] = ()
    threshold: DefaultThreshold
    reference: str = Field("", max_length=200)
    reference_basis: Basis | None = None
    caution: str = Field("", max_length=300)

    @field_validator("metrics")
    @classmethod
    def _spoken(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not pattern.strip("*?"):
                raise ValueError(f"the pattern {pattern!r} fits every metric; name some of it")
            if "-" in pattern:
                raise ValueError(f"the pattern {pattern!r} holds a dash; names are compared with _ in its place")
        return value

    def fits(self, name: str) -> bool:
        """Whether the entry is about a metric of this name."""
        plain = normalised(name)
        return any(fnmatch.fnmatchcase(plain, p) or fnmatch.fnmatchcase(plain, p + _ENDS) for p in self.metrics)


class Objectives(_Strict):
    """A table of objectives. The first entry that fits a metric counts."""

    version: str = Field(min_length=1, max_length=40)
    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    disclaimer: str = Field(min_length=1)
    objectives: tuple[Objective, ...] = Field(min_length=1, max_length=1_000)

    @model_validator(mode="after")
    def _unique(self) -> Objectives:
        names = [item.id for item in self.objectives]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the objective {repeated[0]!r} occurs twice")
        return self

    def find(self, name: str) -> Objective | None:
        """Return the entry about a metric, or None: then it is unmapped."""
        return next((item for item in self.objectives if item.fits(name)), None)

    def digest(self) -> str:
        """Return `sha256:` and the hex digest over the canonical JSON of the table."""
        return "sha256:" + hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()


def normalised(name: str) -> str:
    """Return a metric's name as patterns see it: lower case, `_` for spaces and dashes."""
    return "_".join(name.lower().replace("-", "_").split())


def objectives_schema() -> dict[str, Any]:
    """Return the JSON Schema of a table; `templates/schemas/objectives-v1.json` holds the same."""
    schema = Objectives.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "Objectives of metrics, version 1",
    }


def load_objectives(folder: str | Path | None = None) -> Objectives:
    """Load the table: the entries of `objectives.yaml` in `folder` first, then those shipped ones whose id it does not have.

    Args:
        folder: the user's own folder of frameworks; None for the shipped table alone.

    Raises:
        ObjectivesError: naming file, entry and field.
    """
    shipped = _read(template_root() / FILE)
    own_file = Path(folder) / FILE if folder is not None else None
    if own_file is None or not own_file.is_file():
        return shipped
    own = _read(own_file)
    taken = {item.id for item in own.objectives}
    rest = tuple(item for item in shipped.objectives if item.id not in taken)
    return Objectives(
        version=f"{own.version}; shipped {shipped.version}"[:40],
        as_of=min(own.as_of, shipped.as_of),
        disclaimer=own.disclaimer,
        objectives=(*own.objectives, *rest),
    )


def _read(path: Path) -> Objectives:
    return _parsed(read_small_text(path, MAX_FILE_BYTES, "a table of objectives", ObjectivesError), str(path))


@lru_cache(maxsize=8)
def _parsed(text: str, source: str) -> Objectives:
    try:
        data = load_yaml(text)
    except YamlError as error:
        raise ObjectivesError(f"{source}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise ObjectivesError(f"{source}: expected a mapping with version, as_of, disclaimer and objectives")
    try:
        return Objectives.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(field_problem(data, item, "the table") for item in error.errors()[:5])
        raise ObjectivesError(f"{source}: {problems}") from None


def unresolved(table: Objectives, folder: str | Path | None = None) -> list[str]:
    """Return what `supports` names and no framework has, as `objective: framework:requirement`.

    Raises:
        FrameworkError: if a framework file that is named cannot be read.
    """
    known: dict[str, set[str]] = {}
    there = set(framework_ids(folder))
    found = []
    for item in table.objectives:
        for reference in item.supports:
            name, _, requirement = reference.partition(":")
            if name in there and name not in known:
                known[name] = {row.id for row in load_framework(name, folder).requirements()}
            if requirement not in known.get(name, ()):
                found.append(f"{item.id}: {reference}")
    return found


def objectives_part(
    facts: VersionFacts, frameworks: Sequence[Framework], table: Objectives | None = None
) -> dict[str, Any]:
    """Return the package's part about objectives: each metric of the evaluation with what it is evidence for.

    Args:
        facts: what the ledger says about the version.
        frameworks: those of the package; only their requirements are named.
        table: the objectives; the shipped ones if left out.

    Raises:
        ObjectivesError: if the shipped table cannot be read.
    """
    table = load_objectives() if table is None else table
    named = {reference.partition(":")[0] for item in table.objectives for reference in item.supports}
    asked = {framework.id: {row.id for row in framework.requirements()} for framework in frameworks}
    adopted = _adopted(facts)
    mapped: list[dict[str, Any]] = []
    unmapped: list[dict[str, Any]] = []
    for measured in _measured(facts, adopted):
        name = measured["metric"]
        limits = [limit for limit in adopted if _base(limit["metric"]) == name]
        entry = table.find(name)
        if entry is None:
            unmapped.append({**measured, "adopted": limits})
            continue
        mapped.append(
            {
                **measured,
                "objective_id": entry.id,
                "title": entry.title,
                "family": entry.family,
                "objective": entry.objective,
                "direction": entry.direction,
                "requirements": _requirements(entry, asked, named),
                "default_threshold": entry.threshold.model_dump(mode="json"),
                "reference": entry.reference,
                "reference_basis": entry.reference_basis,
                "caution": entry.caution,
                "adopted": limits,
            }
        )
    return {
        "version": table.version,
        "as_of": table.as_of,
        "digest": table.digest(),
        "disclaimer": table.disclaimer,
        "metrics": mapped,
        "unmapped": unmapped,
    }


def _requirements(
    entry: Objective, asked: Mapping[str, Collection[str]], named: Collection[str]
) -> list[dict[str, str]]:
    """The requirements of the package's frameworks that a metric helps to answer. A framework that the table does not name (one
    that extends a shipped one, under an id of its own) is matched by the ids of its requirements."""
    found: dict[tuple[str, str], None] = {}
    for reference in entry.supports:
        framework, _, requirement = reference.partition(":")
        for name, rows in asked.items():
            if requirement in rows and (name == framework or name not in named):
                found[name, requirement] = None
    return [{"framework": framework, "requirement": requirement} for framework, requirement in found]


def _base(name: str) -> str:
    """The metric that a limit is about: one on the lower end of an interval is about its metric."""
    return next((name[: -len(end)] for end in _BOUNDS if name.endswith(end)), name)


def _adopted(facts: VersionFacts) -> list[dict[str, Any]]:
    """The limits that the evaluation was judged by, with what came of it."""
    rules = {rule.id: rule for rule in facts.gate_set.record.gates} if facts.gate_set else {}
    outcomes = facts.evaluation.record.outcomes if facts.evaluation else ()
    return [
        {
            "gate": item.id,
            "metric": item.metric,
            "op": item.op,
            "threshold": item.threshold,
            "source": rules[item.id].source if item.id in rules else None,
            "status": item.status,
        }
        for item in outcomes
    ]


def _measured(facts: VersionFacts, adopted: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every metric of the evaluation once: its own, those by group, and those that only a limit names."""
    if facts.evaluation is None:
        return []
    record = facts.evaluation.record
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, value: Any, low: Any, high: Any, n: Any, said: str, status: str) -> None:
        row = {"value": value, "ci_low": low, "ci_high": high, "n": n, "status": status, "stated_objective": said}
        found.setdefault(name, {"metric": name, **row})

    for metric in record.metrics:
        add(metric.name, metric.value, metric.ci_low, metric.ci_high, metric.n, metric.objective, "computed")
    for item in record.benchmarks:
        add(item.metric_name, item.value, item.ci_low, item.ci_high, item.n, item.objective, "computed")
    for result in record.fairness:
        for gap in result.get("disparities") or ():
            name = f"fairness.{result.get('attribute')}.{gap.get('name')}"
            status = str(gap.get("status") or "computed")
            add(name, gap.get("value"), gap.get("ci_low"), gap.get("ci_high"), gap.get("n"), "", status)
    values = {outcome.metric: outcome.value for outcome in record.outcomes}
    for limit in adopted:
        name = _base(str(limit["metric"]))
        status = str(limit["status"]) if limit["status"] in ("missing", "insufficient_data") else "computed"
        add(name, values.get(name), None, None, None, "", status)
    return list(found.values())
