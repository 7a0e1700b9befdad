"""How long the records of a version are to be kept, as a package says it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cognify_dagster.documents.catalogues.retention_classes import retention_classes
from cognify_dagster.documents.catalogues.retention_table import RetentionTable
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import Framework


def retention_part(facts: VersionFacts, frameworks: Sequence[Framework], table: RetentionTable) -> dict[str, Any]:
    """Return for each class of records the longest term that a framework or another rule asks for, and why.

    Args:
        facts: what the ledger says about the version; its framework facts decide what applies.
        frameworks: those of the package.
        table: the rules outside the frameworks.
    """
    stated = dict(facts.registered.record.framework_facts) if facts.registered else {}
    found = retention_classes(frameworks, stated, table)
    return {
        "table": {"version": table.version, "as_of": table.as_of},
        "artefacts": [
            {
                "artefact": item.artefact,
                "months": item.longest.months if item.longest else None,
                "starts": item.longest.start if item.longest else None,
                "reason": item.reason,
            }
            for item in found.artefacts
        ],
        "silent": list(found.silent),
        "left_out": dict(sorted(found.left_out.items())),
        "undecided": {name: list(facts_) for name, facts_ in sorted(found.undecided.items())},
    }
