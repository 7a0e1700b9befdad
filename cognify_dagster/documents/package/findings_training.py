"""Findings about when a training began: what rests on a machine's word, and a model file that is older than its run. Pure."""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.coverage.types import EntryRef
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.package.findings_coverage import make_finding

Json = dict[str, Any]
#: Whose word it is, by how the record came to be. For others the ledger itself held an entry of the run before it trained.
TOLD_BY = {
    "spool": "the machine that kept the journal: it was sealed after the run had ended",
    "import": "the tool that it was imported from: it was sealed after the run had ended",
}


def beginning_findings(facts: VersionFacts) -> list[Json]:
    """Return what a reader should know about the beginning of the training."""
    if facts.training is None:
        return []
    record, entry = facts.training.record, EntryRef(facts.training.seq, facts.training.leaf)
    found = []
    if record.captured_by in TOLD_BY:
        found.append(
            make_finding(
                "note",
                "When training began is not shown by the ledger",
                f"the record came through {record.captured_by}; when training began, and so that limits were adopted before, is the word "
                f"of {TOLD_BY[record.captured_by]}",
                "an entry of the run in the ledger before it trained, or a reviewer who trusts that source",
                "developer: train with the ledger in reach",
                "none",
                entry,
            )
        )
    older = record.extra.get("model_file_older_than_run")
    if isinstance(older, dict):
        count, of = older.get("count"), older.get("of")
        found.append(
            make_finding(
                "medium" if count == of else "note",
                "Model file older than its run",
                f"{count} of {of} model files were last changed before the run began ({older.get('began')}), the newest of them "
                f"{older.get('changed')}: they may come from an earlier training, before any limits were adopted",
                "the run writes its model files, or the developer says where they come from",
                "developer",
                "before sign-off",
                entry,
            )
        )
    return found
