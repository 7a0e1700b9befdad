"""Records about datasets: old ones read as they were written, partitions are about their dataset too."""

from __future__ import annotations

import json

import pytest

from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    CodeRef,
    DatasetChangeDecided,
    DatasetDiffRecorded,
    DatasetReasonGiven,
    DatasetSnapshot,
    QualityCheck,
    RecordError,
    SourceRef,
    build,
    read_record,
)
from cognify_dagster.records.governance import Envelope, EnvelopeSignature

UNSIGNED = Envelope(payload="", payloadType="", signatures=(EnvelopeSignature(keyid="", sig=""),))
ITEM = {
    "name": "x.json",
    "digest": "sha256:" + "a" * 64,
    "size": 1,
    "media_type": "application/json",
    "sensitivity": "internal",
}
#: The facts of a snapshot as releases before author, code, sources and checks wrote them.
EARLIER = {
    "name": "loans",
    "root": "1" * 64,
    "data_version": "sha256:" + "1" * 64,
    "file_count": 1,
    "total_bytes": 3,
    "record_count": None,
    "record_root": None,
    "record_digest_key": None,
    "schema_hash": None,
    "record_key": None,
    "label": None,
    "provenance": {},
    "missing_provenance": [],
    "exclusions": [{"rule": "cut", "description": "", "rows_before": 3, "rows_after": 2, "excluded_digest": ""}],
    "parent_root": None,
    "change_reason": "",
    "header": {},
    "profile": ITEM,
    "manifest": ITEM,
    "record_manifest": None,
    "data": None,
}


def test_an_earlier_snapshot_reads_and_its_facts_are_what_they_were() -> None:
    record = read_record("dataset_snapshot", 1, {"facts": EARLIER, "observed": {}})
    assert isinstance(record, DatasetSnapshot)
    assert canonical_json(record.facts()) == canonical_json(EARLIER)
    assert (record.author, record.code, record.sources, record.quality) == ("", None, (), ())


def test_what_came_later_comes_back_from_its_payload() -> None:
    record = build(
        DatasetSnapshot,
        {
            **EARLIER,
            "author": "person/ben",
            "touched_by": ["person/ben"],
            "unattributed": ["git:x@y"],
            "code": CodeRef(vcs="git", commit="c" * 40, dirty=True),
            "sources": [SourceRef(name="raw", version="7", time="2026-01-01T00:00:00Z", kind="asset")],
            "quality": [QualityCheck(name="a", status="pass"), QualityCheck(name="b", status="error")],
            "unjustified_columns": ["age"],
        },
    )
    again = read_record("dataset_snapshot", 1, json.loads(record.payload()))
    assert again == record
    assert [item.name for item in record.failed_quality] == ["b"]


def test_a_partition_is_about_its_dataset_too() -> None:
    record = build(DatasetSnapshot, {**EARLIER, "name": "loans@2026-01"})
    assert record.subjects() == ("dataset/loans", "dataset/loans@2026-01")
    assert build(DatasetSnapshot, EARLIER).subjects() == ("dataset/loans",)
    for bad in ("loans@", "@x", "loans@a b", "loans@a@b", "loäns", "loans@" + "x" * 61):
        with pytest.raises(RecordError, match="name"):
            build(DatasetSnapshot, {**EARLIER, "name": bad})


def test_acts_are_about_dataset_and_person() -> None:
    about = {"name": "loans@2026-01", "old_root": None, "new_root": "1" * 64, "snapshot_seq": 3, "envelope": UNSIGNED}
    reason = build(DatasetReasonGiven, {**about, "reason": "x", "given_by": "person/ben"})
    decision = build(
        DatasetChangeDecided,
        {
            **about,
            "snapshot_leaf": "2" * 64,
            "diff_digest": "sha256:" + "3" * 64,
            "decision": "approve",
            "role": "model_validator",
            "decided_by": "person/ben",
        },
    )
    subjects = ("dataset/loans", "dataset/loans@2026-01", "person/ben")
    assert reason.subjects() == decision.subjects() == subjects
    with pytest.raises(RecordError, match="decision"):
        build(DatasetChangeDecided, {**decision.facts(), "decision": "maybe"})
    with pytest.raises(RecordError, match="reason"):
        build(DatasetReasonGiven, {**reason.facts(), "reason": ""})


def test_a_difference_names_its_report_as_evidence() -> None:
    facts = {
        "name": "loans", "old_root": None, "new_root": "1" * 64, "old_seq": None, "new_seq": 3,
        "diff_digest": "sha256:" + "3" * 64, "summary": {"text": "x"},
    }  # fmt: skip
    assert build(DatasetDiffRecorded, facts).evidence() == ()
    assert build(DatasetDiffRecorded, {**facts, "report": ITEM}).evidence() == (ITEM["digest"],)
