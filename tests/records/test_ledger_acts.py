"""Records about the ledger itself: the members that the ledger room reads by name, and what they are about."""

from __future__ import annotations

from typing import Any

import pytest

from cognify_dagster.ledger import parse_canonical
from cognify_dagster.ledger.archive.format import erased_by
from cognify_dagster.records import (
    ClockFloorCorrected,
    LedgerContinued,
    LegalHoldLifted,
    LegalHoldPlaced,
    LogKeyRevoked,
    LogKeyRotated,
    PayloadErased,
    Record,
    RecordError,
    Restored,
    RetentionAdopted,
    RetentionRule,
    SegmentArchived,
    build,
    kinds,
    read_record,
)
from cognify_dagster.records.governance import Envelope, EnvelopeSignature

ENVELOPE = Envelope(payload="", payloadType="", signatures=(EnvelopeSignature(keyid="", sig=""),))
VKEY = "bank.example/log+00000000+AAAA"
EXAMPLES: list[Record] = [
    PayloadErased(seq=4, basis="Art. 17", approved_by="person/ada"),
    PayloadErased(seq=4, seqs=(4, 7), basis="Art. 17", approved_by="person/ada", approvers=("person/ada", "person/bo")),
    LegalHoldPlaced(hold="case-1", held_subjects=("model/m",), reason="r", placed_by="person/ada", envelope=ENVELOPE),
    LegalHoldLifted(hold="case-1", placed_seq=3, reason="r", approvers=("person/ada", "person/bo")),
    RetentionAdopted(rules=(RetentionRule(id="a", title="A", months=6),), reason="r", approvers=("person/ada",)),
    SegmentArchived(start=0, end=256, manifest="a" * 64, root="b" * 64),
    LogKeyRotated(old=VKEY, new=VKEY, overlap_until_size=10),
    LogKeyRevoked(vkey=VKEY, last_good_size=10, reason="stolen"),
    LedgerContinued(previous_origin="a/b", checkpoint="note", lost_start=3, lost_end=9, reason="r"),
    ClockFloorCorrected(wrong_us=9, floor_us=3, reason="r"),
    Restored(backup="a" * 64, size=7, root="b" * 64, compared_with=("witness",)),
]


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: record.kind)
def test_they_are_registered_and_read_back(record: Record) -> None:
    assert kinds()[record.kind] is type(record)
    assert read_record(record.kind, 1, parse_canonical(record.payload())) == record
    assert record.subjects() == tuple(dict.fromkeys(record.subjects()))


@pytest.mark.parametrize(
    ("record", "members"),
    [
        (EXAMPLES[0], {"seq", "seqs", "basis"}),
        (EXAMPLES[5], {"start", "end", "manifest", "root"}),
        (EXAMPLES[6], {"old", "new", "overlap_until_size"}),
        (EXAMPLES[7], {"vkey", "last_good_size", "reason"}),
        (EXAMPLES[2], {"hold", "held_subjects", "seqs"}),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_ledger_room_knows_these_members_by_name(record: Record, members: set[str]) -> None:
    assert members <= set(record.facts())


@pytest.mark.parametrize(("record", "named"), [(EXAMPLES[0], {4}), (EXAMPLES[1], {4, 7})], ids=["one", "several"])
def test_the_ledger_reads_from_the_payload_what_was_erased(record: PayloadErased, named: set[int]) -> None:
    assert record.named() == erased_by(record.payload()) == named


def test_an_erasure_of_the_first_form_still_reads() -> None:
    old = {"facts": {"approved_by": "person/ada", "basis": "b", "seq": 3}, "observed": {}}
    record = read_record("payload_erased", 1, old)
    assert isinstance(record, PayloadErased)
    assert record.named() == {3}


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (LegalHoldPlaced, {"hold": "Case 1"}, "hold"),
        (SegmentArchived, {"start": -1, "end": 256, "manifest": "a" * 64, "root": "b" * 64}, "start"),
        (SegmentArchived, {"start": 0, "end": 256, "manifest": "x", "root": "b" * 64}, "manifest"),
        (LogKeyRevoked, {"vkey": VKEY, "last_good_size": -1, "reason": "r"}, "last_good_size"),
        (Restored, {"backup": "a" * 64, "size": 0, "root": "b" * 64}, "size"),
        (RetentionAdopted, {"rules": [{"id": "a", "title": "A", "months": 0}], "reason": "r"}, "rules.0.months"),
        (
            PayloadErased,
            {"seq": 1, "basis": "b", "approved_by": "person/ada", "evidence_erased": ["md5:1"]},
            "evidence_erased",
        ),
    ],
)
def test_bad_fields_are_named(kind: type[Record], fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RecordError) as caught:
        build(kind, fields)
    assert named in str(caught.value)
