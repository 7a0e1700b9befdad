"""What people write about a version: whose word a text is, when it counts, and what survives a new version."""

from __future__ import annotations

from typing import Any

import pytest

from cognify_dagster.governance import (
    GovernanceError,
    Section,
    SectionChange,
    SectionText,
    approve_section,
    carry_over,
    directory,
    propose_act,
    read_draft,
    revoke_key,
    rotate_key,
    section_approval,
    sections_of,
    sign_draft,
    submit_draft,
    write_sections,
)
from cognify_dagster.governance.signing.keys import create_key
from cognify_dagster.records import SectionApproved, SectionWritten, TrainingRun
from tests.governance.memory import founded as memory_ledger
from tests.governance.world import MODEL, PASSPHRASE, World

LIMITS = "One issuer in Taiwan, 2005.\n\n- incomes have moved since\n"


def write(
    world: World, text: str = LIMITS, *, version: str = "1", section: str = "limitations", **more: Any
) -> SectionChange:
    return write_sections(world.workspace, MODEL, version, [SectionText(section, text, **more)])[0]


def claimed(text: str, **fields: Any) -> dict[str, Any]:
    """The fields of an entry that says whatever its writer likes."""
    return {"text": text, **fields}


def standing(world: World, version: str = "1", section: str = "limitations") -> Section:
    reading = world.workspace.read()
    return sections_of(reading, directory(reading), MODEL, version).items[section]


def problems(world: World, version: str = "1") -> list[str]:
    reading = world.workspace.read()
    return [text for _, text in sections_of(reading, directory(reading), MODEL, version).problems]


def approve(world: World, name: str = "vera", role: str = "model_validator", **more: Any) -> int:
    section, version = more.pop("section", "limitations"), more.pop("version", "1")
    return approve_section(world.workspace, MODEL, version, section, world.key(name), role=role, **more).seq


def test_a_text_is_recorded_once_and_an_edit_is_the_next_revision_of_the_same_model(ready: World) -> None:
    first = write(ready, author="person/ben")
    assert (first.revision, first.unchanged) == (1, False)
    size = ready.workspace.ledger.size()
    assert write(ready, author="person/ben").unchanged
    assert ready.workspace.ledger.size() == size
    second = write(ready, LIMITS + "- prices too\n", author="person/ben")
    assert second.revision == 2
    reading = ready.workspace.read()
    texts = sections_of(reading, directory(reading), MODEL, "1").history["limitations"]
    trained = reading.latest(TrainingRun, ready.subject("1"))
    assert trained is not None
    assert [text.record.model_digest for text in texts] == [trained.record.model_file.digest] * 2
    assert [text.record.supersedes for text in texts] == [None, first.seq]
    assert standing(ready).item.seq == second.seq


def test_who_is_named_as_author_has_only_been_named(ready: World) -> None:
    write(ready, author="person/ben")
    found = standing(ready)
    assert (found.author, found.author_signed, found.counts, found.reviewed) == ("person/ben", None, True, False)
    assert found.item.actor == "workload/pipeline"
    approve(ready, "ben", "data_scientist", as_author=True)
    signed = standing(ready).author_signed
    assert signed is not None
    assert signed.person == "person/ben"
    assert standing(ready).approvals == (), "an author's signature approves nothing"


def test_nobody_signs_as_author_for_somebody_else(ready: World) -> None:
    write(ready, author="person/ben")
    with pytest.raises(GovernanceError, match="Vera is not the stated author"):
        approve(ready, as_author=True)
    write(ready, LIMITS + "no author\n")
    with pytest.raises(GovernanceError, match="is not the stated author"):
        approve(ready, "ben", "data_scientist", as_author=True)


def test_an_author_is_enrolled_or_not_stated(ready: World) -> None:
    with pytest.raises(GovernanceError, match="person/zoe is not enrolled"):
        write(ready, author="person/zoe")
    forged = claimed("x", model=MODEL, version="1", section="limitations", revision=1, author_stated="person/zoe")
    ready.write(SectionWritten.model_validate(forged))
    assert standing(ready).author is None


def test_a_text_that_a_program_drafted_counts_once_a_person_signed_it(ready: World) -> None:
    write(ready, ai_drafted=True, author="person/ben")
    assert not standing(ready).counts
    approve(ready, "ben", "data_scientist", as_author=True)
    assert not standing(ready).counts
    approve(ready, comment="read and corrected")
    found = standing(ready)
    assert found.counts
    assert [(item.person, item.role, item.comment) for item in found.approvals] == [
        ("person/vera", "model_validator", "read and corrected")
    ]


def test_another_text_needs_another_signature(ready: World) -> None:
    write(ready, ai_drafted=True)
    approve(ready)
    write(ready, LIMITS + "- one more line\n", ai_drafted=True)
    assert not standing(ready).counts
    assert problems(ready) == [], "the old signature was right about the old text"


def test_taking_the_flag_away_from_the_same_text_changes_nothing(ready: World) -> None:
    write(ready, ai_drafted=True)
    assert write(ready, ai_drafted=False).unchanged
    forged = claimed(LIMITS, model=MODEL, version="1", section="limitations", revision=2, ai_drafted=False)
    ready.write(SectionWritten.model_validate(forged))
    assert standing(ready).ai_drafted
    assert not standing(ready).counts


def test_signing_twice_is_signing_once(ready: World) -> None:
    write(ready)
    assert approve(ready) == approve(ready)
    assert len(standing(ready).approvals) == 1


@pytest.mark.parametrize(
    ("name", "role", "part"),
    [
        ("vera", "compliance_officer", "Vera may not sign this"),
        ("carl", "auditor", "may not sign this"),
        ("vera", "nobody", "may not sign this"),
    ],
)
def test_only_in_a_role_that_one_holds_and_that_acts(ready: World, name: str, role: str, part: str) -> None:
    write(ready)
    with pytest.raises(GovernanceError, match=part):
        approve(ready, name, role)


def test_a_signature_is_for_the_newest_text_only(ready: World) -> None:
    write(ready)
    old = section_approval(ready.workspace.read(), MODEL, "1", "limitations", "person/vera", role="model_validator")
    draft = sign_draft(propose_act(ready.workspace.read(), old), ready.key("vera"))
    write(ready, "Rewritten meanwhile.")
    with pytest.raises(GovernanceError, match="is not the newest text"):
        submit_draft(ready.workspace, draft)


def test_it_is_signed_on_another_machine(ready: World) -> None:
    write(ready, ai_drafted=True)
    record = section_approval(ready.workspace.read(), MODEL, "1", "limitations", "person/vera", role="model_validator")
    draft = read_draft(propose_act(ready.workspace.read(), record).to_bytes())
    assert "which a program drafted" in draft.meaning
    signed = read_draft(sign_draft(draft, ready.key("vera")).to_bytes())
    submit_draft(ready.workspace, signed)
    assert standing(ready).counts


@pytest.mark.parametrize("field", ["text_digest", "section", "version", "ai_drafted", "role"])
def test_a_changed_signature_counts_for_nothing(ready: World, field: str) -> None:
    write(ready, ai_drafted=True)
    write(ready, "Ranks accounts.", section="intended_use", ai_drafted=True)
    approve(ready)
    reading = ready.workspace.read()
    given = reading.all(SectionApproved, ready.subject("1"))[0].record
    other = {
        "text_digest": "sha256:" + "0" * 64,
        "section": "intended_use",
        "version": "2",
        "ai_drafted": False,
        "role": "compliance_officer",
    }
    ready.write(given.model_copy(update={field: other[field]}))
    assert (
        not sections_of(ready.workspace.read(), directory(ready.workspace.read()), MODEL, "1")
        .items["intended_use"]
        .counts
    )
    assert len(standing(ready).approvals) == 1


def test_a_signature_has_its_effect_once(ready: World) -> None:
    write(ready, ai_drafted=True)
    approve(ready)
    given = ready.workspace.read().all(SectionApproved, ready.subject("1"))[0].record
    write(ready, "Other words.")
    write(ready, ai_drafted=True)  # the old text again, as a new entry
    ready.write(given)
    assert not standing(ready).counts


def test_a_revoked_key_takes_its_signatures_with_it_and_a_replaced_one_does_not(ready: World) -> None:
    write(ready, ai_drafted=True)
    approve(ready)
    new = create_key(ready.folder / "vera2.key.json", "person/vera", PASSPHRASE)
    rotate_key(ready.workspace, "person/vera", new.public, [ready.key("vera"), ready.key("ada")])
    assert standing(ready).counts
    write(ready, "Newer words.", ai_drafted=True)
    approve_section(ready.workspace, MODEL, "1", "limitations", new, role="model_validator")
    assert standing(ready).counts
    revoke_key(ready.workspace, "person/vera", new.key_id, "lost", ready.key("ada"))
    assert not standing(ready).counts
    assert any("was revoked" in text for text in problems(ready))


def test_a_text_counts_only_where_its_writer_may_write_it() -> None:
    memory = memory_ledger()
    text = claimed(LIMITS, model=MODEL, version="1", section="limitations", revision=1)
    memory.append(SectionWritten.model_validate(text), 1)
    forged = claimed("All is well.", model=MODEL, version="1", section="limitations", revision=2)
    memory.append(SectionWritten.model_validate(forged), 2, signed=False)
    reading = memory.reading()
    found = sections_of(reading, directory(reading), MODEL, "1")
    assert found.items["limitations"].item.record.text == LIMITS
    assert "is not signed by a workload" in found.problems[0][1]


def test_texts_survive_a_new_version_and_say_where_they_came_from(ready: World) -> None:
    write(ready, author="person/ben", source="sections/limitations.md")
    write(ready, "Ranks accounts.", section="intended_use", ai_drafted=True)
    approve(ready, section="intended_use")
    ready.train("2")
    write(ready, "Ranks accounts anew.", version="2", section="intended_use")
    changes = carry_over(ready.workspace, MODEL, "2")
    assert [(change.section, change.unchanged) for change in changes] == [("limitations", False)]
    old, new = standing(ready, "1"), standing(ready, "2")
    assert new.item.record.text == old.item.record.text
    assert new.author == "person/ben"
    carried = new.item.record.carried_from
    assert carried is not None
    assert (carried.version, carried.seq) == ("1", old.item.seq)
    assert not new.reviewed
    assert carry_over(ready.workspace, MODEL, "2") == []
    approve(ready, version="2")
    assert standing(ready, "2").reviewed


def test_no_signature_is_carried_over(ready: World) -> None:
    write(ready, ai_drafted=True)
    approve(ready)
    ready.train("2")
    carry_over(ready.workspace, MODEL, "2")
    assert standing(ready, "1").counts
    assert not standing(ready, "2").counts


def test_what_claims_to_be_carried_over_and_is_not_counts_for_nothing(ready: World) -> None:
    first = write(ready, ai_drafted=True)
    ready.train("2")
    text = standing(ready).item.record
    base = {"model": MODEL, "version": "2", "section": "limitations", "revision": 1}
    carried = {"version": "1", "seq": first.seq, "text_digest": text.text_digest}
    lies = [
        claimed(LIMITS, **base, carried_from=carried),  # says nothing of the program
        claimed(LIMITS, **{**base, "section": "intended_use"}, carried_from=carried, ai_drafted=True),
        claimed(LIMITS, **base, carried_from={**carried, "seq": 1}, ai_drafted=True),
        claimed(LIMITS, **base, carried_from={**carried, "version": "0"}, ai_drafted=True),
    ]
    for lie in lies:
        ready.write(SectionWritten.model_validate(lie))
    reading = ready.workspace.read()
    found = sections_of(reading, directory(reading), MODEL, "2")
    assert found.items == {}
    assert len(found.problems) == len(lies)


def test_nothing_is_recorded_where_one_text_is_wrong(ready: World) -> None:
    size = ready.workspace.ledger.size()
    texts = [SectionText("limitations", LIMITS), SectionText("intended_use", "x", author="person/zoe")]
    with pytest.raises(GovernanceError, match="person/zoe"):
        write_sections(ready.workspace, MODEL, "1", texts)
    with pytest.raises(GovernanceError, match="given twice"):
        write_sections(ready.workspace, MODEL, "1", [SectionText("limitations", "a"), SectionText("limitations", "b")])
    with pytest.raises(GovernanceError, match="was never opened; the newest ones are: 1"):
        write(ready, version="11")
    with pytest.raises(GovernanceError, match="no model 'other'"):
        write_sections(ready.workspace, "other", "1", [SectionText("limitations", "a")])
    assert ready.workspace.ledger.size() == size


def test_a_text_may_be_written_before_the_training_where_that_is_said(ready: World) -> None:
    write_sections(ready.workspace, MODEL, "2", [SectionText("limitations", LIMITS)], ahead=True)
    assert standing(ready, "2").item.record.model_digest is None


def test_sections_hold_no_release_back_by_themselves(approved: World) -> None:
    write(approved, ai_drafted=True)
    assert approved.codes() == []
