"""Facts come from verified entries, keep their sequence numbers, and follow what the training run pinned."""

from __future__ import annotations

import pytest

from cognify_dagster.documents import DocumentError, VersionFacts, collect
from cognify_dagster.documents.coverage.people import counted_sign_offs
from cognify_dagster.records import DatasetSnapshot, ModelRegistered, SignOff
from cognify_dagster.workspace import idempotency_key
from tests.documents.story import Story


def test_a_version_is_gathered_from_the_ledger(two_versions: Story, facts: VersionFacts) -> None:
    reading = two_versions.ws.read()
    assert (facts.origin, facts.size, facts.root) == (reading.origin, reading.size, reading.view.root.hex())
    assert facts.trial is False
    assert facts.evaluation_current
    assert [item.ref.name for item in facts.datasets] == ["loans_train"]
    assert facts.evaluation_data.ref.name == "loans_holdout"
    assert facts.gate_set.record.adopted_by == "person/vera"
    assert facts.policy.body["tiers"]["high"]["approval_days"] == 180
    assert facts.name_of("person/vera") == "Vera Marković"
    assert facts.name_of("person/nobody") == "person/nobody"
    assert [item.record.family for item in facts.gate_results] == ["performance", "fairness"]


def test_every_cited_entry_stands_in_the_ledger(two_versions: Story, facts: VersionFacts) -> None:
    entries = two_versions.ws.read().view.entries
    cited = facts.entries()
    assert facts.training.seq in cited
    assert all(entries[seq].entry.leaf.hex() == leaf for seq, leaf in cited.items())


def test_data_are_the_pinned_entries_and_not_the_newest(two_versions: Story, released: VersionFacts) -> None:
    newest = two_versions.ws.read().latest(DatasetSnapshot, "dataset/loans_train")
    assert newest.record.root == "c" * 64
    assert released.datasets[0].snapshot.record.root == "a" * 64
    assert [item.record.train.root for item in released.overlaps] == ["a" * 64]


def test_a_pin_that_the_entry_does_not_hold_is_no_snapshot(story: Story) -> None:
    story.register()
    story.gates()
    story.data()
    wrong = story.train_ref.model_copy(update={"root": "9" * 64})
    story.train("1", datasets=(wrong,))
    found = collect(story.ws.read(), story.model, "1")
    assert found.datasets[0].snapshot is None
    assert found.evaluation is None


def test_the_previous_release_and_what_is_live(
    two_versions: Story, facts: VersionFacts, released: VersionFacts
) -> None:
    assert facts.previous.version == "1"
    assert facts.previous.release.seq == two_versions.grant
    assert facts.supersedes == "1"
    assert released.previous is None
    assert released.supersedes is None


def test_an_unknown_version_is_a_clear_error(two_versions: Story) -> None:
    with pytest.raises(DocumentError, match="credit_default has no version '77'; there are 1, 2"):
        collect(two_versions.ws.read(), "credit_default", "77")


def test_reading_an_earlier_size_gives_the_facts_of_then(two_versions: Story, released: VersionFacts) -> None:
    before = released.sign_offs[0].seq
    then = collect(two_versions.ws.read(before), two_versions.model, "1")
    assert then.size == before
    assert then.sign_offs == ()
    assert then.releases == ()


def test_a_sign_off_whose_signature_does_not_verify_is_kept_apart(story: Story, frameworks: list, now) -> None:
    story.prepare_version()
    story.package(frameworks, now)
    story.sign("person/vera", "validation")
    good = collect(story.ws.read(), story.model, "1").sign_offs[0]
    forged = good.record.model_copy(
        update={"person": "person/carl", "role": "compliance_officer", "stage": "compliance"}
    )
    assert isinstance(forged, SignOff)
    story.ws.append(forged, idem=idempotency_key("forged"), actor="person/carl")
    found = collect(story.ws.read(), story.model, "1")
    assert [item.record.person for item in found.sign_offs] == ["person/vera"]
    assert list(found.invalid_sign_offs) == [found.size - 1]
    assert [item.record.person for item in counted_sign_offs(found)] == ["person/vera"]


def test_the_newest_registration_counts(story: Story) -> None:
    story.prepare_version()
    story.register(limitations="Rewritten after review, with more words than before.")
    found = collect(story.ws.read(), story.model, "1")
    assert isinstance(found.registered.record, ModelRegistered)
    assert found.registered.record.limitations.startswith("Rewritten")
