"""Conditions over stated facts: which requirement applies to whom.

Invariants: conditions are data and never evaluated as code; a fact that is not stated, or stated in another type than the condition
compares with, is never taken for no.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

MAX_CONDITION_DEPTH = 8

Scalar = str | int | float | bool


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(Strict):
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

    def words(self) -> str:
        """Return it in words: `state is CA or TX`."""
        if self.op == "fact":
            values = " or ".join(str(item).lower() if isinstance(item, bool) else str(item) for item in self.values)
            return f"{self.fact} is {values}"
        if self.op == "not":
            return f"not ({self.parts[0].words()})"
        return f" {'and' if self.op == 'all' else 'or'} ".join(
            f"({part.words()})" if part.op in ("all", "any") else part.words() for part in self.parts
        )

    def facts(self) -> Iterator[str]:
        """Yield the names of the facts it asks for."""
        if self.op == "fact":
            yield self.fact
        for part in self.parts:
            yield from part.facts()

    def evaluate(self, facts: Mapping[str, Any], derivation: list[dict[str, Any]]) -> bool | None:
        """Return whether it holds; None where a fact that decides is not stated. Every look-up joins the derivation.

        A fact stated as a list (`state: [CA, TX]`) holds where one of its items does. A fact stated in another type than the
        condition compares with ("yes" where true or false is asked) counts as not stated, never as no.
        """
        if self.op == "fact":
            value = facts.get(self.fact)
            given = [
                item for item in (value if isinstance(value, (list, tuple)) else [value]) if item not in (None, "")
            ]
            known = bool(given) and all(any(_comparable(item, wanted) for wanted in self.values) for item in given)
            result = any(_same(item, wanted) for item in given for wanted in self.values) if known else None
            derivation.append(
                {"fact": self.fact, "expected": list(self.values), "actual": value if given else None, "holds": result}
            )
            return result
        results = [part.evaluate(facts, derivation) for part in self.parts]
        if self.op == "not":
            return None if results[0] is None else not results[0]
        deciding = self.op == "any"
        if deciding in results:
            return deciding
        return None if None in results else not deciding


def _comparable(value: Any, wanted: Scalar) -> bool:
    """Whether both are true/false, both numbers, or both text."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return isinstance(value, bool) and isinstance(wanted, bool)
    return isinstance(value, str) == isinstance(wanted, str)


def _same(value: Any, wanted: Scalar) -> bool:
    """Equality that does not take 1 for true."""
    return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted
