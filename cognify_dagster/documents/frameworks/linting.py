"""What is wrong with a framework beyond its form: citations, dates, references between frameworks, unconfirmed statements.

A file that loads may still cite what is not there or claim to be in force before its time. Shipped frameworks have none of these
problems, which a test holds; `cognify framework check` finds them in a user's files. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from cognify_dagster.documents.frameworks.model import Framework

#: Standards that requirements refer to and that are not shipped as frameworks.
STANDARDS = frozenset(
    {
        "iso42001",
        "iso23894",
        "iso27001",
        "iso13485",
        "iso14971",
        "iec62304",
        "nist-ai-600-1",
        "nist-csf",
        "nist-800-30",
        "nist-800-53",
        "nist-800-66",
        "gmlp",
        "gdpr",
        "treasury-fs-ai-rmf",
        "uk-ss1-23",
    }
)
_UNCONFIRMED = re.compile(r"\bunconfirmed\b|\[(?:2nd|k)\]", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """Something wrong with a framework. `where` is a field, a requirement id, or a line of the text.

    Attributes:
        level: `error` makes the file unfit for use; `note` is worth a look.
    """

    level: Literal["error", "note"]
    where: str
    text: str


def problems(
    framework: Framework,
    headings: Mapping[str, str] | None,
    known: Mapping[str, Iterable[str]],
    raw: str = "",
) -> list[Problem]:
    """Return everything wrong with a framework, errors first.

    Args:
        framework: the framework.
        headings: what it may cite, reference -> heading; None where no such list was given, which is a note.
        known: the requirement ids of every framework that cross references may name, by framework id.
        raw: the text of the file, in which nothing may be marked as unconfirmed; comments count too.
    """
    found = [
        *_dates(framework),
        *_citations(framework, headings),
        *_cross_refs(framework, known),
        *_facts(framework),
        *_unconfirmed(raw),
    ]
    return sorted(found, key=lambda item: item.level)


def _dates(framework: Framework) -> list[Problem]:
    found: list[Problem] = []

    def wrong(where: str, text: str) -> None:
        found.append(Problem("error", where, text))

    given = {
        "as_of": framework.as_of,
        "effective_from": framework.effective_from,
        "effective_to": framework.effective_to,
    }
    given |= {f"sources.{number}.retrieved": item.retrieved for number, item in enumerate(framework.sources)}
    given |= {f"{item.id}.effective_from": item.effective_from for item in framework.requirements()}
    for where, value in given.items():
        if value is None:
            continue
        try:
            date.fromisoformat(value)
        except ValueError:
            wrong(where, f"{value} is no day of the calendar")
    start, end, today, status = framework.effective_from, framework.effective_to, framework.as_of, framework.status
    if start is not None and end is not None and end < start:
        wrong("effective_to", f"{end} lies before effective_from {start}")
    if status == "in_force":
        if start is None or start > today:
            wrong("status", f"in_force needs an effective_from up to as_of ({today}), not {start or 'none'}")
        if end is not None and end < today:
            wrong("status", f"in_force, but effective_to {end} lies before as_of ({today})")
    if status == "future" and (start is None or start <= today):
        wrong("status", f"future needs an effective_from after as_of ({today}), not {start or 'none'}")
    if status in ("superseded", "withdrawn") and end is None:
        wrong("status", f"{status} needs an effective_to")
    return found


def _citations(framework: Framework, headings: Mapping[str, str] | None) -> list[Problem]:
    if headings is None:
        text = f"there is no list headings/{framework.id}.txt of what may be cited, so citations were not checked"
        return [Problem("note", "citation", text)]
    cited = [(item.id, item.citation) for item in framework.requirements()]
    cited += [(f"retention {item.id}", item.citation) for item in framework.retention]
    return [
        Problem("error", where, f"citation: {reference!r} is not in the list of headings of {framework.id}")
        for where, citation in cited
        for reference in citation.split("; ")
        if reference not in headings
    ]


def _cross_refs(framework: Framework, known: Mapping[str, Iterable[str]]) -> list[Problem]:
    found = []
    own = {item.id for item in framework.requirements()}
    for item in framework.requirements():
        for reference in item.cross_refs:
            name, _, target = reference.partition(":")
            there = own if name == framework.id else known.get(name)
            if there is not None:
                if target not in set(there):
                    found.append(Problem("error", item.id, f"cross_refs: {name} has no requirement {target!r}"))
            elif name not in STANDARDS:
                found.append(
                    Problem("note", item.id, f"cross_refs: {name!r} is neither a framework here nor a known standard")
                )
    return found


def _facts(framework: Framework) -> list[Problem]:
    names = [fact.name for fact in framework.facts]
    found = [
        Problem("error", f"facts.{name}", "is asked for twice")
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return found + [
        Problem("error", f"facts.{fact.name}", "the question has no question mark")
        for fact in framework.facts
        if "?" not in fact.question
    ]


def _unconfirmed(raw: str) -> list[Problem]:
    return [
        Problem("error", f"line {number}", f"{match.group(0)!r}: nothing unconfirmed may be stated as a fact")
        for number, line in enumerate(raw.splitlines(), 1)
        if (match := _UNCONFIRMED.search(line))
    ]
