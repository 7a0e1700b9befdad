"""Which prohibited bases stand in the data, and which of them the evaluation did not compare. Pure.

Columns are recognised by their names alone, with the patterns of the framework: a prompt to look, and no proof that nothing else
in the data stands for such a trait.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import ProhibitedBasis


def uncompared_bases(facts: VersionFacts, bases: Iterable[ProhibitedBasis]) -> list[tuple[str, tuple[str, ...]]]:
    """Return each basis that is in the data but in no comparison by group, with its columns; [] without a current evaluation."""
    if facts.evaluation is None or not facts.evaluation_current:
        return []
    compared = {str(item.get("attribute")) for item in facts.evaluation.record.fairness}
    columns = data_columns(facts)
    found = []
    for basis in bases:
        if any(_matches(name, basis) for name in compared):
            continue
        present = tuple(name for name in columns if _matches(name, basis))
        if present:
            found.append((basis.basis, present))
    return found


def data_columns(facts: VersionFacts) -> tuple[str, ...]:
    """Return the names of the columns that the snapshots state a purpose for, and of the attributes declared as protected."""
    names: set[str] = set()
    for item in facts.all_datasets():
        purposes = item.snapshot.record.provenance.get("column_purposes") if item.snapshot else None
        if isinstance(purposes, dict):
            names |= {str(name) for name in purposes}
    if facts.registered is not None:
        names |= set(facts.registered.record.protected_attributes)
    return tuple(sorted(names))


def _matches(name: str, basis: ProhibitedBasis) -> bool:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return any(fnmatchcase(plain, pattern) for pattern in basis.columns)
