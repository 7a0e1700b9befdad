"""Validation report, deployment record and the page of six questions: what they say comes from entries, and what is missing is said."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.documents import DocumentError, load_framework
from cognify_dagster.documents.outputs.content import (
    Code,
    Document,
    Facts,
    Heading,
    Paragraph,
    Quote,
    Table,
    as_json,
    plain,
)
from cognify_dagster.documents.outputs.deployment import deployment_record
from cognify_dagster.documents.outputs.making import newest_package, render
from cognify_dagster.documents.outputs.markdown import render_markdown
from cognify_dagster.documents.outputs.provenance import (
    QUESTIONS,
    find_snapshot,
    provenance_page,
    six_answers,
    snapshots_of,
)
from cognify_dagster.documents.outputs.validation import validation_report
from cognify_dagster.governance import (
    Condition,
    EntryRef,
    attest,
    attestation_record,
    break_glass,
    open_finding,
    order_rollback,
    request_release,
)
from cognify_dagster.governance.release.granting import complete, fail
from cognify_dagster.records import AttestationMade, utc
from cognify_dagster.workspace import Reading
from tests.documents.story import POLICY, Story

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)
LATER = datetime.now(timezone.utc) + timedelta(minutes=5)


def chapter(document: Document, title: str) -> list[Any]:
    """The blocks from the heading with this title to the next one of its level or above."""
    blocks = list(document.blocks)
    at = next(i for i, b in enumerate(blocks) if isinstance(b, Heading) and title in b.text)
    level = blocks[at].level
    end = next(
        (i for i in range(at + 1, len(blocks)) if isinstance(blocks[i], Heading) and blocks[i].level <= level),
        len(blocks),
    )
    return blocks[at + 1 : end]


def rows(blocks: list[Any]) -> list[list[str]]:
    return [[shown(cell) for cell in row] for block in blocks if isinstance(block, Table) for row in block.rows]


def shown(cell: Any) -> str:
    """A cell with plain spaces inside its numbers."""
    return plain(cell).replace("\u202f", " ")


def pairs(blocks: list[Any]) -> dict[str, str]:
    return {label: plain(value) for block in blocks if isinstance(block, Facts) for label, value in block.rows}


def said(blocks: list[Any]) -> str:
    return " ".join(b.text for b in blocks if isinstance(b, (Paragraph, Quote)))


def report_on(story: Story, version: str, now: datetime = LATER) -> Document:
    reading = story.ws.read()
    return validation_report(reading, newest_package(story.ws, reading, story.model, version)[1], now=now)


# --- validation report ------------------------------------------------------------------------------------------------


def test_a_report_without_a_validator_holds_no_conclusion(two_versions: Story) -> None:
    report = report_on(two_versions, "2")
    assert "No validator has signed this package (stage “Independent validation”)" in said(
        chapter(report, "1. Conclusion")
    )
    assert "Nobody has signed this package." in {
        b.empty for b in chapter(report, "8. Effective") if isinstance(b, Table)
    }


def test_every_number_is_that_of_the_sealed_evaluation(two_versions: Story) -> None:
    report = report_on(two_versions, "2")
    found = {row[0]: row[1:] for row in rows(chapter(report, "Performance"))}
    assert found["AUC"] == ["0.7841", "0.7711 to 0.7961", "5 995", "Ranks risky accounts above safe ones."]
    assert f"entry {two_versions.evaluation_seq}" in said(chapter(report, "5. Outcomes"))
    limits = {row[0]: row[1:] for row in rows(chapter(report, "Against limits"))}
    assert limits["auc-floor"] == ["AUC, lower end of its interval", "0.7711", "≥ 0.7200", "policy", "pass"]
    assert "adopted by Vera Marković before training began" in said(chapter(report, "Against limits"))


def test_sections_of_people_are_quoted_and_missing_ones_name_who_writes_them(two_versions: Story) -> None:
    report = report_on(two_versions, "2")
    quotes = [b for b in chapter(report, "Intended use") if isinstance(b, Quote)]
    assert quotes[0].text.startswith("Ranks existing card accounts")
    assert "entry" in quotes[0].by
    assert "It is for a model validator to write, as section concept_review." in said(
        chapter(report, "Review of conceptual")
    )


def test_changes_since_the_version_released_last_are_in_it(two_versions: Story) -> None:
    changed = {row[1]: row[2:] for row in rows(chapter(report_on(two_versions, "2"), "Since the version"))}
    assert changed["loans_train: root"] == ["a" * 64, "c" * 64]


def test_decisions_conditions_and_findings_stand_in_it_with_their_state(story: Story, now: datetime) -> None:
    story.prepare_version("1")
    story.package([load_framework("sr26-2")], now)
    due = "2027-02-01T00:00:00Z"
    given = story.sign(
        "person/vera", "validation", "approve_with_conditions", comments="Sound, but narrow. <b>Really</b>",
        conditions=(Condition(text="Monitor drift monthly.", due=due),),
    )  # fmt: skip
    signed = story.sign("person/carl", "compliance")
    raised = open_finding(
        story.ws,
        story.keys["person/vera"],
        model=story.model,
        severity="low",
        title="Narrow data",
        text="One issuer.",
        version="1",
    ).seq
    report = report_on(story, "1")
    first = pairs(chapter(report, "1. Conclusion"))
    assert first["Decision"] == "approve with conditions"
    assert first["Validator"] == "Vera Marković (person/vera)"
    assert first["Signed"].endswith(f"entry {given}")
    assert "Sound, but narrow. <b>Really</b>" in said(chapter(report, "1. Conclusion"))
    assert "<b>" not in render(report, "html")
    assert [row[-1] for row in rows(chapter(report, "Decisions on this package"))] == [str(given), str(signed)]
    assert rows(chapter(report, "9. Conditions")) == [
        ["Monitor drift monthly.", "plain", "Vera Marković", due, "open", str(given)]
    ]
    after = report_on(story, "1", datetime(2027, 3, 1, tzinfo=timezone.utc))
    assert rows(chapter(after, "9. Conditions"))[0][4] == "overdue"
    (finding,) = rows(chapter(report, "Raised by people"))
    assert finding == ["low", "Narrow data", "One issuer.", "Vera Marković", "no date", "open", str(raised)]
    hand = pairs(chapter(report, "Independence"))
    assert "Ben Okafor" in hand["Had a hand in this version"]
    leaf = story.ws.read().view.entry(given).entry.leaf.hex()
    story.sign(
        "person/vera",
        "validation",
        "withdraw",
        comments="I was wrong.",
        reference=EntryRef(entry_seq=given, entry_leaf=leaf),
    )
    gone = report_on(story, "1")
    assert pairs(chapter(gone, "1. Conclusion"))["Decision"] == "approve with conditions, withdrawn since"
    assert rows(chapter(gone, "9. Conditions")) == []


def test_decisions_on_another_package_are_no_decisions_on_this_one(story: Story, now: datetime) -> None:
    story.prepare_version("1")
    story.package([load_framework("sr26-2")], now)
    story.sign("person/vera", "validation")
    story.evaluate(auc=0.79)
    story.package([load_framework("sr26-2")], now)
    report = report_on(story, "1")
    assert "No validator has signed" in said(chapter(report, "1. Conclusion"))
    assert [row[1] for row in rows(chapter(report, "Decisions on earlier revisions"))] == ["Vera Marković"]


# --- deployment record ------------------------------------------------------------------------------------------------


def test_a_version_that_was_never_released_says_so(two_versions: Story) -> None:
    record = deployment_record(two_versions.ws.read(), two_versions.model, "2", now=LATER)
    assert pairs(list(record.blocks))["Released on"] == "no target: this version was never released"
    assert "None: no release of this version was granted." in said(chapter(record, "2. Releases"))
    with pytest.raises(DocumentError, match="credit_default has no version '9'; there are"):
        deployment_record(two_versions.ws.read(), two_versions.model, "9", now=LATER)


def test_what_went_live_names_release_people_and_state(two_versions: Story) -> None:
    record = deployment_record(two_versions.ws.read(), two_versions.model, "1", now=LATER)
    assert rows(chapter(record, "1. What is live"))[0][:3] == ["production", "1", "live, and nothing stands against it"]
    release = chapter(record, "Target production")
    facts = pairs(release)
    assert facts["Release granted"].startswith(f"entry {two_versions.grant},")
    assert facts["Location"] == "models/live"
    assert facts["Live until"] == "still live, by the record"
    names = [row[:3] for row in rows(release)]
    assert names[:3] == [
        ["validation", "Vera Marković", "model validator"],
        ["compliance", "Carl Jönsson", "compliance officer"],
        ["business", "Béatrice Dupont", "business owner"],
    ]
    assert rows(chapter(record, "3. The way back"))[0][1] == "none"


def test_a_replaced_version_a_rollback_a_failure_and_a_refusal_are_told(tmp_path: Path, now: datetime) -> None:
    story = Story(tmp_path)
    frameworks = [load_framework("sr26-2")]
    story.prepare_version("1")
    story.package(frameworks, now)
    with pytest.raises(Exception, match="may not be deployed"):
        request_release(story.ws, story.model, "1", "production", "too-early", "person/ben")
    story.sign_all()
    broken = request_release(story.ws, story.model, "1", "production", "release-1", "person/ben")
    fail(story.ws, broken, attempt="1", reason="disk full")
    again = request_release(story.ws, story.model, "1", "production", "release-1", "person/ben")
    done = complete(story.ws, again, location="models/live", detail={})
    story.data("c")
    story.train("2")
    story.evaluate()
    story.package(frameworks, now)
    story.sign_all()
    story.release()
    first = deployment_record(story.ws.read(), story.model, "1", now=LATER)
    assert rows(chapter(first, "1. What is live"))[0][1:3] == ["2", "another version is live"]
    assert "replaced by version 2" in pairs(chapter(first, "Target production"))["Live until"]
    told = " ".join(chapter(first, "4. Refused and failed")[0].items)
    assert "was refused: " in told
    assert "failed: disk full" in told
    second = deployment_record(story.ws.read(), story.model, "2", now=LATER)
    assert rows(chapter(second, "3. The way back"))[0][:2] == ["production", "1"]
    assert f"entry {done}," in rows(chapter(second, "3. The way back"))[0][2]
    order_rollback(
        story.ws,
        story.keys["person/bea"],
        model=story.model,
        version="1",
        target="production",
        reason="It answered slowly.",
    )
    told = " ".join(
        chapter(deployment_record(story.ws.read(), story.model, "2", now=LATER), "Rollbacks ordered")[0].items
    )
    assert "Béatrice Dupont ordered production back to version 1" in told
    assert "It answered slowly." in told


def test_an_emergency_release_names_what_was_waived_and_by_whom(tmp_path: Path, now: datetime) -> None:
    glass = "break_glass: {enabled: true, roles: [business_owner, compliance_officer], quorum: 2}\n"
    story = Story(tmp_path, policy=POLICY + glass)
    story.prepare_version("1")
    story.package([load_framework("sr26-2")], now)
    story.sign("person/vera", "validation")
    story.sign("person/carl", "compliance")
    soon = utc(datetime.now(timezone.utc) + timedelta(hours=5))
    act = break_glass(
        story.ws, [story.keys["person/carl"], story.keys["person/bea"]], model=story.model, version="1", target="production",
        waived=("business",), reason="the old model is down", expires=soon,
    ).seq  # fmt: skip
    story.release()
    facts = pairs(chapter(deployment_record(story.ws.read(), story.model, "1", now=LATER), "Target production"))
    assert facts["Purpose"].startswith("break-glass")
    assert facts["Stages waived"] == "business"
    assert facts["Ordered by"] == f"Béatrice Dupont, Carl Jönsson, entry {act}: the old model is down"
    late = deployment_record(story.ws.read(), story.model, "1", now=datetime.now(timezone.utc) + timedelta(hours=6))
    assert "suspended" in rows(chapter(late, "1. What is live"))[0][2]
    assert "broken glass, which has expired" in said(chapter(late, "1. What is live"))


# --- six questions ----------------------------------------------------------------------------------------------------


def test_six_questions_each_with_answers_that_name_an_entry_or_who_says_it(two_versions: Story) -> None:
    reading = two_versions.ws.read()
    item = find_snapshot(reading, "loans_train", "a" * 8)
    page = provenance_page(reading, [item], now=LATER)
    for place, question in enumerate(QUESTIONS, 1):
        answers = rows(chapter(page, f"{place}. {question}"))
        assert answers, question
        for what, answer, evidence in answers:
            named = re.match(r"entry (\d+)", evidence)
            if named:
                assert reading.at(int(named[1])) is not None
            else:
                assert evidence == "–"
                assert "says it" in answer or "signs it" in answer or "on record" in answer, (what, answer)
    who = {row[0]: row[1:] for row in rows(chapter(page, QUESTIONS[0]))}
    assert who["Answers for the data"] == ["I-Cheng Yeh", f"entry {item.seq}"]
    when = {row[0]: row[1] for row in rows(chapter(page, QUESTIONS[2]))}
    assert when["Period"] == "2005-04-01 to 2005-09-30"
    done = {row[0]: row[1] for row in rows(chapter(page, QUESTIONS[4]))}
    assert "24 005 records before, 23 970 after, 35 left out" in done["exact-duplicates"]
    used = [row[0] + ": " + row[1] for row in rows(chapter(page, QUESTIONS[5]))]
    assert any(text.startswith("credit_default 1: trained on it (train), launched by Ben Okafor") for text in used)
    assert "credit_default 1: went live on production" in used
    assert not any(text.startswith("credit_default 2") for text in used), "a use is one of exactly this snapshot"


def test_what_the_owner_did_not_say_is_said_to_be_missing(story: Story) -> None:
    story.register()
    story.snapshot("bare", "e", 100, provenance={}, exclusions=(), label=None)
    reading = story.ws.read()
    page = provenance_page(reading, [find_snapshot(reading, "bare")], now=LATER)
    missing = [row[0] for question in QUESTIONS for row in rows(chapter(page, question)) if "Not recorded" in row[1]]
    for what in (
        "Answers for the data",
        "Source",
        "Address",
        "Place",
        "Period",
        "Licence or terms",
        "Attested by a person",
        "Left out",
    ):
        assert what in missing, what
    assert rows(chapter(page, QUESTIONS[5]))[0][1].startswith("No training, evaluation or comparison")


def test_personal_data_make_the_legal_ground_an_answer_that_is_missing(story: Story) -> None:
    story.register()
    story.snapshot("people", "e", 100, provenance={"owner": "the bank", "contains_phi": True})
    reading = story.ws.read()
    basis = {
        r[0]: r[1]
        for r in rows(chapter(provenance_page(reading, [find_snapshot(reading, "people")], now=LATER), QUESTIONS[3]))
    }
    assert basis["Legal ground or consent"].startswith(
        "Not recorded. The owner of the data (the bank) says it, as consent"
    )
    assert basis["De-identified by"].startswith("Not recorded.")


def test_an_attestation_is_shown_for_its_own_snapshot_only(story: Story) -> None:
    story.register()
    story.data("a")

    def made(reading: Reading) -> AttestationMade:
        text = "I know where it comes from."
        return attestation_record(
            reading,
            "data_provenance",
            "dataset/loans_train",
            text,
            "person/carl",
            role="compliance_officer",
            expires=None,
        )

    seq = attest(story.ws, story.keys["person/carl"], made).seq
    story.data("c")
    reading = story.ws.read()
    old, new = find_snapshot(reading, "loans_train", "a" * 64), find_snapshot(reading, "loans_train")
    shown = {r[0]: r for r in rows(chapter(provenance_page(reading, [old], now=LATER), QUESTIONS[3]))}
    assert shown["Attested: data provenance"][2] == f"entry {seq}"
    assert "Carl Jönsson (compliance officer) attested it" in shown["Attested: data provenance"][1]
    assert "Attested by a person" in {
        r[0] for r in rows(chapter(provenance_page(reading, [new], now=LATER), QUESTIONS[3]))
    }


def test_of_very_many_uses_the_newest_are_listed_and_that_is_said(two_versions: Story) -> None:
    reading = two_versions.ws.read()
    item = find_snapshot(reading, "loans_train", "a" * 8)
    whole = six_answers(reading, item, LATER)
    about = len(reading.view.history("dataset/loans_train"))
    assert six_answers(reading, item, LATER, about) == whole
    before: list[object] = []
    for newest in range(1, about):
        *others, (_, rows) = six_answers(reading, item, LATER, newest)
        assert others == whole[:-1]
        *uses, (label, text, _) = rows
        assert (label, f"Only the newest {newest} entries" in str(text)) == ("Earlier uses", True)
        assert [row for row in whole[-1][1] if row in uses] == uses
        assert [row for row in uses if row in before] == before
        before = uses
    assert before


def test_a_snapshot_is_found_by_its_root_or_refused(two_versions: Story) -> None:
    reading = two_versions.ws.read()
    assert find_snapshot(reading, "loans_train").record.root == "c" * 64
    with pytest.raises(DocumentError, match="no snapshot whose root begins"):
        find_snapshot(reading, "loans_train", "0" * 8)
    with pytest.raises(DocumentError, match="knows no data set nix"):
        find_snapshot(reading, "nix")
    assert [item.record.name for item in snapshots_of(reading, two_versions.model, "2")] == [
        "loans_train",
        "loans_holdout",
    ]


# --- one content, three forms -----------------------------------------------------------------------------------------


def test_the_three_forms_say_the_same_and_twice_the_same(two_versions: Story) -> None:
    report = report_on(two_versions, "2", NOW)
    for form in ("md", "html", "json"):
        assert render(report, form) == render(report_on(two_versions, "2", NOW), form)
    values = [plain(cell) for b in report.blocks if isinstance(b, Table) for row in b.rows for cell in row]
    html = (
        re.sub(r"<[^>]+>", " ", render(report, "html"))
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", '"')
    )
    flat = " ".join(html.split())
    for value in values:
        assert " ".join(value.split()) in flat, value
    assert json.loads(render(report, "json"))["content"] == as_json(report)["content"]


def test_cells_hold_whatever_they_are_given() -> None:
    nasty = [
        "a|b",
        "`x`",
        "**b**",
        "<i>",
        "1. x",
        "\u202eabc",
        "line\nbreak",
        "",
        "$1$",
        "~~s~~",
        "[l](http://x)",
        "![i](y)",
        "&lt;",
    ]
    document = Document(
        "test",
        "# <T>",
        (Table(("|", "b"), tuple((value, Code(value)) for value in nasty)), Facts((("*", Code("a`b")),))),
    )
    html = render(document, "html")
    assert html.count("<tr>") == len(nasty) + 2
    for tag in ("<i>", "<strong>", "<em>", "<a ", "<img", "<del>", "<T>"):
        assert tag not in html
    assert "&amp;lt;" in html
    assert "\u202e" not in render_markdown(document)
