"""Overlap level by level: what each level finds and does not find, on planted and on real data."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import string
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    OverlapFindings,
    OverlapOptions,
    TableError,
    check_overlap,
    duplicate_groups,
    miss_probability,
    record_digests,
)
from cognify_dagster.datasets.overlap import reading
from cognify_dagster.datasets.overlap.hits import MAX_ROWS
from cognify_dagster.datasets.overlap.texts import normalise, word_lists

ROOT = Path(__file__).resolve().parents[2]
KEY = bytes(range(32))
LEVELS = ("exact", "normalised", "ngram", "near-duplicate")
WORDS = [f"{a}{b}{c}" for a in "bcdfgklm" for b in "aeiou" for c in "nrstx"]


def sentence(rnd: random.Random, words: int = 30) -> str:
    return " ".join(rnd.choice(WORDS) for _ in range(words))


def changed(rnd: random.Random, text: str, words: int = 2) -> str:
    """The text with some words next to each other replaced."""
    parts = text.split()
    at = rnd.randrange(len(parts) - words)
    parts[at : at + words] = ["quux"] * words
    return " ".join(parts)


def compare(holdout: Sequence[str], train: Sequence[str], *levels: str, **options: object) -> OverlapFindings:
    sides = (pa.table({"text": pa.array(list(side), pa.string())}) for side in (holdout, train))
    return check_overlap(*sides, OverlapOptions(levels=levels or LEVELS, **options))  # type: ignore[arg-type]


def found(findings: OverlapFindings) -> dict[str, list[int]]:
    return {item.level: [match.holdout_row for match in item.matches] for item in findings.levels}


# --- what each level is ----------------------------------------------------------------------------------------------------


def test_three_exact_and_two_near_duplicates_are_all_reported_with_the_records_they_match() -> None:
    rnd = random.Random(5)
    train = [sentence(rnd) for _ in range(400)]
    holdout = [sentence(rnd) for _ in range(60)]
    for row, source in ((4, 17), (20, 300), (59, 0)):
        holdout[row] = train[source]
    for row, source in ((9, 111), (33, 250)):
        holdout[row] = changed(rnd, train[source])
    findings = compare(holdout, train)
    assert findings.holdout_rows == (4, 9, 20, 33, 59)
    assert found(findings) == {
        "exact": [4, 20, 59],
        "normalised": [4, 20, 59],
        "13-gram": [4, 9, 20, 33, 59],
        "near-duplicate": [4, 9, 20, 33, 59],
    }
    pairs = {match.holdout_row: match for match in findings.levels[3].matches}
    assert {row: match.train_rows for row, match in pairs.items()} == {
        4: (17,),
        9: (111,),
        20: (300,),
        33: (250,),
        59: (0,),
    }
    assert pairs[4].similarity == 1.0
    # 28 shingles each, two changed words spoil four of them: 24 shared of 32
    assert pairs[9].similarity == pytest.approx(24 / 32)
    digests = record_digests(pa.table({"text": train}))
    assert pairs[9].train_digests == (digests[111].hex(),)
    assert findings.failed == ("exact", "normalised", "13-gram", "near-duplicate")
    assert not findings.separate("near-duplicate")


@pytest.mark.parametrize(
    ("holdout", "train", "levels"),
    [
        ("Call me  now", "call me now", ["normalised", "13-gram", "near-duplicate"]),
        ("STRASSE", "straße", ["normalised", "13-gram", "near-duplicate"]),
        ("ﬁne café", "fine cafe\u0301", ["normalised", "13-gram", "near-duplicate"]),
        ("soft\u00adly zero\u200bwidth é", "softly zerowidth é", ["normalised", "13-gram", "near-duplicate"]),
        ("Call me, now!", "call me now", ["13-gram", "near-duplicate"]),
        ("a\u00a0b c\nd\te", "A B C D E", ["normalised", "13-gram", "near-duplicate"]),
        ("call me later", "call me now", []),
        ("one two", "one two three", []),
        ("…", "!", []),
        ("", "", ["exact", "normalised"]),
    ],
)
def test_levels_differ_in_what_is_the_same(holdout: str, train: str, levels: list[str]) -> None:
    assert list(compare([holdout], [train]).failed) == levels


def test_thirteen_words_in_a_row_mark_a_record_and_twelve_do_not() -> None:
    rnd = random.Random(1)
    run = [f"w{i}" for i in range(14)]
    twelve = " ".join([*run[:12], "x", sentence(rnd)])
    thirteen = " ".join(["y", *run[:13], "z"])
    train = [sentence(rnd), sentence(rnd) + " " + ", ".join(run).upper() + ". " + sentence(rnd)]
    findings = compare([twelve, thirteen, sentence(rnd)], train, "ngram")
    assert found(findings) == {"13-gram": [1]}
    assert found(compare([twelve], train, "ngram", ngram=12)) == {"12-gram": [0]}
    # a shorter record counts as a whole: it is not found inside a longer one
    assert found(compare([" ".join(run[:6])], train, "ngram")) == {"13-gram": []}
    assert found(compare([" ".join(run[:6])], [*train, " ".join(run[:6]) + "!"], "ngram")) == {"13-gram": [0]}


def test_runs_of_words_do_not_reach_from_one_record_into_the_next() -> None:
    words = [f"w{i}" for i in range(20)]
    train = [" ".join(words[:10]), " ".join(words[10:])]
    assert compare([" ".join(words)], train).failed == ()


def test_the_threshold_is_inclusive_and_exact() -> None:
    base = [f"w{i}" for i in range(12)]  # 10 shingles
    other = [*base[:10], "x", "y"]  # 8 shared, 2 new on either side: 8 of 12
    assert found(compare([" ".join(base)], [" ".join(other)], "near-duplicate", threshold=8 / 12))[
        "near-duplicate"
    ] == [0]
    assert found(compare([" ".join(base)], [" ".join(other)], "near-duplicate", threshold=0.67))["near-duplicate"] == []


def test_recall_of_planted_near_duplicates_and_no_false_hit() -> None:
    rnd = random.Random(11)
    train = [sentence(rnd, 35) for _ in range(3000)]
    planted, holdout = [], []
    for row in range(600):
        if row % 2:
            text = train[rnd.randrange(len(train))]
            for _ in range(2):
                text = changed(rnd, text, 1)
            planted.append(row)
        else:
            text = sentence(rnd, 35)
        holdout.append(text)
    (level,) = compare(holdout, train, "near-duplicate").levels
    assert len(level.matches) >= 0.95 * len(planted)
    for match in level.matches:
        one = set(zip(*(holdout[match.holdout_row].split()[i:] for i in range(3)), strict=False))
        for row in match.train_rows:
            other = set(zip(*(train[row].split()[i:] for i in range(3)), strict=False))
            assert len(one & other) / len(one | other) >= 0.6


TOKENS = st.sampled_from(["a", "b", "C", "ä", "x1", "don't", "…", "ÿ", "ab"])
TEXTS = st.lists(st.lists(TOKENS, max_size=8).map(" ".join), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([0.5, 0.6, 0.8, 1.0]))
def test_every_hit_is_one_by_a_naive_reckoning_and_no_ngram_is_missed(
    holdout: list[str], train: list[str], threshold: float
) -> None:
    findings = compare(holdout, train, "normalised", "ngram", "near-duplicate", threshold=threshold, ngram=8)

    def words(text: str) -> list[str]:
        kept = "".join(c for c in text.casefold() if c not in string.punctuation + "…")
        return kept.split()

    def parts(text: str, n: int) -> set[tuple[str, ...]]:
        own = words(text)
        return {tuple(own[i : i + n]) for i in range(max(len(own) - n, 0) + 1)} if own else set()

    def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
        return len(a & b) / len(a | b) if a and b else 0.0

    rows = found(findings)
    folded = {" ".join(text.casefold().split()) for text in train}
    assert rows["normalised"] == [i for i, text in enumerate(holdout) if " ".join(text.casefold().split()) in folded]
    assert rows["8-gram"] == [
        i for i, text in enumerate(holdout) if any(parts(text, 8) & parts(other, 8) for other in train)
    ]
    near = {i: max(jaccard(parts(text, 3), parts(other, 3)) for other in train) for i, text in enumerate(holdout)}
    for match in findings.levels[2].matches:
        assert near[match.holdout_row] >= threshold
        assert match.similarity <= near[match.holdout_row]
    # the same words are never overlooked: equal sets have equal signatures
    assert {i for i, value in near.items() if value == 1.0} <= set(rows["near-duplicate"])


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_normalising_twice_changes_nothing_and_words_never_hold_separators(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert normalise(normalise(text)) == normalise(text)
    (words,) = word_lists([text])
    assert all(word and not set(word) & set(b" \n\t\r") for word in words)
    assert word_lists([normalise(text)]) == [words]


# --- real data ------------------------------------------------------------------------------------------------------------


def sms() -> list[tuple[str, str]]:
    data = gzip.decompress((Path(__file__).parent / "data" / "sms_spam_collection.tsv.gz").read_bytes()).decode()
    return [tuple(line.split("\t", 1)) for line in data.splitlines()]  # type: ignore[misc]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_split_of_real_messages_leaks_and_every_leak_is_found(seed: int) -> None:
    rows = sms()
    assert len(rows) == 4862
    random.Random(seed).shuffle(rows)
    cut = len(rows) // 5
    sides = [
        pa.table({"label": [label for label, _ in part], "text": [text for _, text in part]})
        for part in (rows[:cut], rows[cut:])
    ]
    findings = check_overlap(*sides, OverlapOptions(columns=("text",)))
    known = {text for _, text in rows[cut:]}
    assert found(findings)["exact"] == [row for row, (_, text) in enumerate(rows[:cut]) if text in known]
    assert 85 <= findings.levels[0].overlap_holdout <= 115  # about one in ten of 972
    # exact copies are found again at every wider level, and more besides
    exact = set(found(findings)["exact"])
    for level in findings.levels[1:3]:
        assert exact <= {match.holdout_row for match in level.matches} | _wordless(rows[:cut])
    assert findings.levels[3].overlap_holdout > findings.levels[0].overlap_holdout
    assert findings.levels[3].parameters["miss_probability_at_threshold"] == pytest.approx(0.0117, abs=1e-3)


def _wordless(rows: Sequence[tuple[str, str]]) -> set[int]:
    return {row for row, (_, text) in enumerate(rows) if not word_lists([text])[0]}


def test_the_duplicates_of_the_raw_credit_data_are_found_within_and_across_a_split() -> None:
    data = gzip.decompress((ROOT / "examples/credit_default/data/taiwan_credit_default.csv.gz").read_bytes())
    reader = list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    names, rows = reader[0], reader[1:]
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})
    numbers = pa.table({name: table.column(name).cast(pa.float64()).cast(pa.int64()) for name in names})
    groups = duplicate_groups(numbers, ignore=["ID"])
    assert sum(len(group.rows) - 1 for group in groups) == 35
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    held, rest = sorted(order[:6000]), sorted(order[6000:])
    findings = check_overlap(numbers.take(held), numbers.take(rest), OverlapOptions(ignore=("ID",)))
    assert findings.level == "exact"  # numbers have no text to compare in any wider sense
    inside = set(held)
    expected = {row for group in groups for row in group.rows if row in inside and not inside.issuperset(group.rows)}
    assert {held[row] for row in findings.holdout_rows} == expected
    assert expected


# --- sources ---------------------------------------------------------------------------------------------------------------


def test_the_corpus_may_be_files_of_any_kind_a_folder_or_batches(tmp_path: Path, memory_url: str, put) -> None:
    rnd = random.Random(2)
    train = [sentence(rnd) for _ in range(100)]
    holdout = pa.table({"text": [train[3], train[77], sentence(rnd)], "n": [3, 77, 500]})
    table = pa.table({"text": train, "n": list(range(100))})
    places: list[object] = [
        table,
        table.to_batches(max_chunksize=7),
        (part for part in table.to_batches(max_chunksize=13)),
    ]
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=9)
    places.append(str(tmp_path / "a.parquet"))
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "n"), *zip(train, range(100), strict=True)])
    places.append(tmp_path / "a.csv")
    (tmp_path / "many").mkdir()
    for part in range(4):
        lines = [json.dumps({"text": train[i], "n": i}) for i in range(part * 25, part * 25 + 25)]
        (tmp_path / "many" / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        put(f"{part}.jsonl", "\n".join(lines).encode())
    places += [tmp_path / "many", memory_url]
    for place in places:
        findings = check_overlap(holdout, place, OverlapOptions(columns=("text", "n")))
        assert [match.train_rows for match in findings.levels[0].matches] == [(3,), (77,)], place
        assert found(findings) == {level.level: [0, 1] for level in findings.levels}, place
        assert (findings.train_count, len(findings.levels)) == (100, 4)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_large_files_are_read_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, put, memory_url: str
) -> None:
    monkeypatch.setattr(reading, "STREAM_BYTES", 10)
    rnd = random.Random(2)
    table = pa.table({"text": [sentence(rnd, 8) for _ in range(100)], "n": list(range(100))})
    for part in range(2):
        path = tmp_path / f"{part}.{ending}"
        rows = table.slice(50 * part, 50)
        if ending == "parquet":
            pq.write_table(rows, path, row_group_size=9)
        elif ending == "csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([rows.column_names, *zip(*rows.to_pydict().values(), strict=True)])
        else:
            path.write_text("\n".join(json.dumps(row) for row in rows.to_pylist()), encoding="utf-8")
        put(path.name, path.read_bytes())
    for place in (tmp_path, memory_url):
        findings = check_overlap(table.slice(70, 3), place)
        assert [match.train_rows for match in findings.levels[0].matches] == [(70,), (71,), (72,)]


@pytest.mark.parametrize("limit", [0, 1_000])
def test_parts_of_a_corpus_may_hold_numbers_of_different_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(reading, "STREAM_BYTES", limit)
    (tmp_path / "1.jsonl").write_text('{"x": 1, "t": "a"}\n{"x": 2, "t": "b"}\n')
    (tmp_path / "2.jsonl").write_text('{"x": 3.0, "t": "c"}\n{"x": 4.5, "t": "D"}\n')
    holdout = pa.table({"x": [1, 3, 4], "t": ["a", "C", "d"]})
    findings = check_overlap(holdout, tmp_path, OverlapOptions(levels=("exact", "normalised")))
    assert found(findings) == {"exact": [0], "normalised": [0, 1]}


def test_memory_follows_the_holdout_only() -> None:
    """What is kept for a corpus is bounded: 20 rows a holdout record, however often it occurs."""
    rnd = random.Random(8)
    text = sentence(rnd)
    findings = compare([text, text, sentence(rnd)], [text] * 500)
    for level in findings.levels:
        assert level.overlap_holdout == 2
        assert level.overlap_train == 500
        assert [len(match.train_rows) for match in level.matches] == [MAX_ROWS, MAX_ROWS]


def test_text_that_stands_in_every_record_is_found_in_all_of_them() -> None:
    rnd = random.Random(9)
    footer = " ".join(f"f{i}" for i in range(15))
    holdout = [f"{sentence(rnd, 20)} {footer}" for _ in range(60)]
    train = [f"{sentence(rnd, 20)} {footer}" for _ in range(300)]
    (level,) = compare(holdout, train, "ngram").levels
    assert (level.overlap_holdout, level.overlap_train) == (60, 300)


def test_templates_that_nearly_all_records_follow_cost_no_more_than_their_number() -> None:
    rnd = random.Random(10)
    frame = [f"t{i}" for i in range(30)]

    def message() -> str:
        return " ".join([*frame[:15], rnd.choice(WORDS), *frame[15:]])

    holdout, train = [message() for _ in range(150)], [message() for _ in range(10_000)]
    started = time.process_time()
    (level,) = compare(holdout, train, "near-duplicate").levels
    assert (level.overlap_holdout, level.overlap_train) == (150, 10_000)
    # comparing every pair of different texts would take minutes
    assert time.process_time() - started < 10


# --- what is said, and what is refused ------------------------------------------------------------------------------------


def test_nothing_is_said_about_a_level_that_was_not_asked() -> None:
    findings = compare(["a b c"], ["x y z"], "exact")
    assert findings.separate("exact")
    with pytest.raises(KeyError, match="'near-duplicate' was not compared"):
        findings.separate("near-duplicate")


def test_columns_decide_the_levels_where_none_are_named() -> None:
    mixed = pa.table({"town": ["Bern", "Basel"], "n": [1, 2]})
    assert check_overlap(mixed, mixed).level == "exact, normalised"
    assert (
        check_overlap(mixed, mixed, OverlapOptions(columns=("town",))).level
        == "exact, normalised, 13-gram, near-duplicate"
    )
    assert check_overlap(mixed.select(["n"]), mixed.select(["n"])).level == "exact"
    with pytest.raises(DatasetError, match="compares text, and no compared column"):
        check_overlap(mixed, mixed, OverlapOptions(levels=("ngram",), ignore=("town",)))


def test_reports_hold_no_values_and_keyed_digests_for_personal_data() -> None:
    rnd = random.Random(4)
    train = [sentence(rnd) for _ in range(30)]
    sides = (pa.table({"text": [train[3]]}), pa.table({"text": train}))
    plain, keyed = (check_overlap(*sides, OverlapOptions(levels=LEVELS), key=key) for key in (None, KEY))
    text = json.dumps(keyed.to_dict())
    words = train[3].split()
    assert not any(f"{one} {other}" in text for one, other in pairwise(words))
    assert keyed.digest == "hmac-sha256"
    assert keyed.levels[0].matches[0].train_digests == (record_digests(sides[1], key=KEY)[3].hex(),)
    assert plain.levels[0].matches[0].holdout_digest != keyed.levels[0].matches[0].holdout_digest
    assert (plain.holdout_root, plain.train_root) != (keyed.holdout_root, keyed.train_root)


def test_the_same_parameters_give_the_same_report_and_they_are_in_it() -> None:
    rnd = random.Random(6)
    train = [sentence(rnd) for _ in range(50)]
    holdout = [changed(rnd, train[i]) for i in range(10)]
    one, two = (compare(holdout, train).to_dict() for _ in range(2))
    assert json.dumps(one) == json.dumps(two)
    near = one["levels"][3]["parameters"]
    assert (near["threshold"], near["permutations"], near["bands"], near["band_rows"], near["seed"]) == (
        0.6,
        128,
        32,
        4,
        1,
    )
    assert near["miss_probability_at_threshold"] == pytest.approx(miss_probability(0.6), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ("fuzzy",)}, "no overlap level 'fuzzy'; the levels are exact"),
        ({"levels": ()}, "no overlap level is named"),
        ({"threshold": 0.3}, "0.3 is not from 0.5 to 1"),
        ({"ngram": 5}, "ngram 5 is not from 8 to 13"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        OverlapOptions(**options)  # type: ignore[arg-type]


def test_sides_that_can_never_match_are_refused() -> None:
    texts, numbers = pa.table({"a": ["x"]}), pa.table({"a": [1]})
    with pytest.raises(TableError, match="'a' is text in holdout and int in train"):
        check_overlap(texts, numbers, OverlapOptions(levels=("ngram",)))
    with pytest.raises(TableError, match="'a' is int in holdout and string in train"):
        check_overlap(numbers, texts)
    with pytest.raises(TableError, match="differ in column 'b'"):
        check_overlap(texts, texts.append_column("b", pa.array([1])))
    with pytest.raises(TableError, match="no column 'b'"):
        check_overlap(texts, texts, OverlapOptions(columns=("b",)))
    with pytest.raises(TableError, match="the holdout has no records"):
        check_overlap(texts.slice(0, 0), texts)
    with pytest.raises(TableError, match="the training data has no records"):
        check_overlap(texts, texts.slice(0, 0))
    with pytest.raises(TableError, match="a batch is a int"):
        check_overlap(texts, [1])
