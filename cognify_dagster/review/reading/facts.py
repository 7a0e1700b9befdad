"""The facts of a record in words, as people sign and read them. Pure.

Invariant: every value comes from the payload that stands in the ledger. What is left out (a member without a value, the bytes of a
public key, a whole policy that has a page of its own) stands in the JSON that is shown with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cognify_dagster.documents.labels import words
from cognify_dagster.governance import Directory
from cognify_dagster.review.rendering import make_path, utc_text
from cognify_dagster.review.signing.statements import STRENGTHS

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}")
_SPOKEN = frozenset(
    {"role", "roles", "decision", "outcome", "capacity", "severity", "stage", "stages", "waived", "kinds"}
)
_SIGNATURES = frozenset({"envelope", "envelopes"})
_ALL = {
    ("auditor_granted", "models"): "all models",
    ("auditor_granted", "classes"): "none: no confidential or personal evidence",
    ("delegated", "models"): "all models",
    ("delegated", "stages"): "all stages of the role",
}
"""What an empty list of a kind of record means, where that is not nothing."""
_NAMES = {"rp_id": "site", "seq": "entry", "seqs": "entries", "leaf": "leaf hash", "oidc": "company account"}


@dataclass(frozen=True)
class Fact:
    """One line: what it is about, its value, where it leads to. `text` marks words that a person wrote, `exact` a digest."""

    name: str
    value: str
    link: str = ""
    text: bool = False
    exact: bool = False


def facts_in_words(
    kind: str, facts: Mapping[str, Any], people: Directory, order: Iterable[str] = ()
) -> tuple[Fact, ...]:
    """Return the facts of a record, one line a value.

    Args:
        kind: the record's kind.
        facts: as they stand in the ledger.
        people: for names.
        order: the names that come first, in this order.
    """
    found: list[Fact] = []
    for name in dict.fromkeys((*(name for name in order if name in facts), *facts)):
        value = facts[name]
        if name in _SIGNATURES:
            continue
        if (kind, name) in _ALL and not value:
            found.append(Fact(_name(name), _ALL[kind, name]))
        elif name == "policy" and isinstance(value, Mapping):
            found.append(Fact("policy", "the whole policy, by the digest below"))
        else:
            found += _told(_name(name), name, value, people)
    return tuple(found)


def _name(name: str) -> str:
    known = _NAMES.get(name)
    if known is not None:
        return known
    if name.endswith("_seq"):
        return words(name.removesuffix("_seq")) + " (entry)"
    return words(name)


def _told(label: str, name: str, value: Any, people: Directory) -> Iterator[Fact]:
    if value is None or value in ("", [], {}):
        return
    if isinstance(value, Mapping):
        line = _line(value)
        if line:
            yield Fact(label, line)
            return
        for part, inner in value.items():
            yield from _told(label if _name(part) == label else f"{label}, {_name(part)}", part, inner, people)
    elif isinstance(value, list):
        yield from _listed(label, name, value, people)
    else:
        yield _single(label, name, value, people)


def _listed(label: str, name: str, value: list[Any], people: Directory) -> Iterator[Fact]:
    if not any(isinstance(item, (Mapping, list)) for item in value):
        told = [_single(label, name, item, people) for item in value]
        if any(item.text for item in told):
            yield from told
        else:
            yield Fact(label, ", ".join(item.value for item in told), exact=all(item.exact for item in told))
        return
    for number, item in enumerate(value, 1):
        yield from _told(f"{label} {number}" if len(value) > 1 else label, name, item, people)


def _single(label: str, name: str, value: Any, people: Directory) -> Fact:
    if isinstance(value, bool):
        return Fact(label, "yes" if value else "no")
    if isinstance(value, int) and (name in ("seq", "seqs") or name.endswith("_seq")):
        return Fact(label, f"entry {value}", make_path("ledger", "entries", value))
    if not isinstance(value, str):
        return Fact(label, str(value))
    if value.startswith("person/"):
        known = people.name(value)
        return Fact(label, f"{known} ({value})" if known != value else value, make_path("people", value[7:]))
    if _TIME.fullmatch(value):
        return Fact(label, utc_text(value))
    if _DIGEST.fullmatch(value):
        return Fact(label, value, exact=True)
    if name in _SPOKEN:
        return Fact(label, words(value))
    return Fact(label, value, text="\n" in value or len(value) > 120)


def _line(value: Mapping[str, Any]) -> str:
    """A part that reads better in one line: a public key, a threshold."""
    if {"key_id", "algorithm", "public"} <= set(value):
        return key_words(str(value["key_id"]), str(value.get("strength", "")))
    if {"metric", "op", "threshold"} <= set(value):
        why = f": {value['reason']}" if value.get("reason") else ""
        family, source = value.get("family", "gate"), value.get("source", "")
        return f"{value['metric']} {value['op']} {value['threshold']} ({words(str(family))}, from {source}){why}"
    return ""


def key_words(key_id: str, strength: str) -> str:
    """Return what a key is called: its id and what kind of key it is."""
    return f"{key_id}, {STRENGTHS[strength]} ({strength})" if strength in STRENGTHS else key_id
