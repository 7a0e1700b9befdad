"""The quick way through sound rows: it takes every honest run, and never one that the strict way would refuse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import Draft, Entry, leaf_hash
from cognify_dagster.ledger.entry import NO_PREVIOUS, assemble, seal_body
from cognify_dagster.ledger.errors import EntryError
from cognify_dagster.ledger.sqlite.subjects import listed
from cognify_dagster.ledger.store import Columns, StoredEntry
from cognify_dagster.ledger.verification.bulk import Run, Sweep
from cognify_dagster.ledger.verification.parts import Depth, Part, _Rows

ORIGIN = "bank.example/demo/ledger"
START_US = 1_760_000_000_000_000
NAMES = ["heads", "ledger", "policy", "model/a", "model/a@v1", "model/b", "dataset/d.x+y-z_1", "m", "seq", "v"]

Rows = tuple[list[Columns], int]


def made(seq: int, prev: str, heads: dict[str, int], subjects: Sequence[str], evidence: int, signed: bool) -> Columns:
    """An honest row."""
    digest = hashlib.sha256(b"%d" % seq).digest()
    draft = Draft(
        kind="training_run" if seq % 3 else "k",
        schema=1 + seq * 997 % 10_000,
        subjects=tuple(subjects),
        actor="workload/pipeline" if seq % 2 else "person/ada",
        idem=digest.hex(),
        payload=b'{"facts":{}}',
        facts_digest=digest.hex(),
        evidence=tuple("sha256:" + hashlib.sha256(b"%d %d" % (seq, i)).hexdigest() for i in range(evidence)),
        key_id=digest.hex()[:16] if signed else "",
        sign=(lambda _: digest * 2) if signed else None,
    )
    data = assemble(
        ORIGIN,
        seal_body(ORIGIN, draft, salt=digest).body,
        {s: heads.get(s, -1) for s in subjects},
        prev,
        seq,
        START_US + seq,
    )
    return seq, data, leaf_hash(data), bytes.fromhex(prev), digest, draft.kind, START_US + seq, " ".join(subjects)


@st.composite
def runs(draw: st.DrawFn) -> Rows:
    """Rows of a ledger from entry `start` on."""
    start = draw(st.sampled_from([0, 1, 300]))
    prev = NO_PREVIOUS if start == 0 else hashlib.sha256(b"before").hexdigest()
    heads = {} if start == 0 else {name: draw(st.integers(-1, start - 1)) for name in NAMES}
    rows: list[Columns] = []
    for seq in range(start, start + draw(st.integers(1, 6))):
        subjects = sorted(draw(st.sets(st.sampled_from(NAMES), min_size=1, max_size=4)))
        row = made(seq, prev, heads, subjects, draw(st.integers(0, 3)), draw(st.booleans()))
        rows.append(row)
        heads.update(dict.fromkeys(subjects, seq))
        prev = row[2].hex()
    return rows, start


def named(rows: list[Columns]) -> list[list[str]]:
    """The subjects as a store reads them."""
    return [listed(row[7]) for row in rows]


def quick(rows: list[Columns], start: int) -> Run | None:
    return Sweep(ORIGIN, start).check(rows, named(rows), [], start, start + len(rows))


def strict(rows: list[Columns], start: int) -> Part:
    part = Part(start, start + len(rows))
    checker = _Rows(part, ORIGIN, Depth())
    for seq, data, leaf, prev, idem, kind, time_us, names in rows:
        subjects = tuple(names.split(" "))
        checker.feed(StoredEntry(seq, data, leaf, prev.hex(), idem.hex(), kind, time_us, subjects))
    return part


@given(runs())
def test_every_honest_run_is_taken_and_read_as_the_strict_way_reads_it(run: Rows) -> None:
    rows, start = run
    found = quick(*run)
    part = strict(*run)
    assert found is not None
    assert part.findings == []
    entries = [Entry.parse(row[1]) for row in rows]
    assert found.leaves == [entry.leaf for entry in entries]
    assert found.commitments == [entry.commitment for entry in entries]
    assert found.kinds == [entry.kind for entry in entries]
    assert (found.first_prev, found.first_time, found.last_time) == (
        entries[0].prev,
        entries[0].time_us,
        entries[-1].time_us,
    )
    sweep = Sweep(ORIGIN, start)
    for row in rows:  # in runs of one: what one run leaves behind, the next one goes on from
        assert sweep.check([row], named([row]), [], row[0], row[0] + 1) is not None
    assert (sweep.heads, sweep.claims) == (part.heads, part.claims)


PIECES = [
    "",
    " ",
    "\n",
    "\t",
    "0",
    "1",
    "-1",
    "1.0",
    "1e21",
    "1E2",
    "-0",
    "9007199254740993",
    "null",
    "true",
    '"',
    "\\u0041",
]
PIECES += [
    "\\",
    "é",
    "\U0001f600",
    "\ue000",
    "a",
    "A",
    "f",
    "F",
    "g",
    "=",
    "==",
    "AQgw",
    ",",
    ":",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
]
PIECES += [
    '","',
    '":"',
    '"policy"',
    '"policy":-1',
    '"v":1',
    ',"v":1',
    '"v":2',
    '"x":1,',
    "sha256:",
    '"sha256:',
    "\x00",
    "\x7f",
]


@st.composite
def forged(draw: st.DrawFn) -> Rows:
    """A run whose last entry's text was edited by someone who then made every column anew."""
    rows, start = draw(runs())
    seq, data, _, *rest = rows[-1]
    text = data.decode()
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 8))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.just(text[at : at + cut]), st.text(max_size=3)))
        text = text[:at] + piece + text[at + cut :]
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
    rows[-1] = (seq, data, leaf_hash(data), *rest)
    return rows, start


@settings(max_examples=400, deadline=None)
@given(forged())
def test_no_edit_passes_that_the_strict_way_refuses(run: Rows) -> None:
    if quick(*run) is not None:
        Entry.parse(run[0][-1][1])
        assert strict(*run).findings == []


def edited(old: str, new: str) -> Rows:
    """One signed entry with evidence whose text was changed in one place, columns made to fit it."""
    row = made(0, NO_PREVIOUS, {}, ["model/a", "policy"], 2, True)
    assert row[1].count(old.encode()) >= 1
    data = row[1].replace(old.encode(), new.encode(), 1)
    return [(0, data, leaf_hash(data), *row[3:])], 0


def test_the_entry_that_the_following_cases_edit_is_sound() -> None:
    assert quick(*edited("model/a", "model/a")) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schema":1,', '"schema":1.0,'),
        ('"schema":1,', '"schema":1e0,'),
        ('"schema":1,', '"schema":01,'),
        ('"schema":1,', '"schema":10001,'),
        ('"schema":1,', '"schema":1 ,'),
        ('"schema":1,', '"schema":true,'),
        ('"schema":1,', '"schema":1,"schema":1,'),
        ('"v":1}', '"v":1.0}'),
        ('"v":1}', '"v":1}\n'),
        ('"v":1}', '"v":1} '),
        ('{"body"', ' {"body"'),
        ('"policy":-1', '"policy":-0'),
        ('"policy":-1', '"policy":-1.0'),
        ('"policy":-1', '"policy":-1,"policy":-1'),
        ('"policy":-1', '"policy":-2'),
        ('"policy":-1', '"policy":0'),
        ('"model/a":-1', '"model\\u002fa":-1'),
        ('"person/ada"', '"person\\/ada"'),
        ('"person/ada"', '"person/ad\\u0061"'),
        ('"person/ada"', '"person/\U0001f600"'),
        ('"person/ada"', '"Person/ada"'),
        ('"actor":"person/ada",', ''),
        ('"actor":"person/ada",', '"actor":"person/ada","actor":"person/ada",'),
        ('"sha256:', '"SHA256:'),
        ('","sha256:', '", "sha256:'),
        ('"key":"', '"key":"A'),
        ("==", "="),
        ('=="', '=A"'),
        (',"sig"', ',"x":1,"sig"'),
        (ORIGIN, "bank.example/demo/other"),
        ('"seq":0', '"seq":0.0'),
        ('"seq":0', '"seq":1'),
        (str(START_US), str(START_US) + ".0"),
        (str(START_US), "1.76e15"),
        ('"kind":"k"', '"kind":"K"'),
    ],
)  # fmt: skip
def test_a_form_that_is_not_the_canonical_one_is_left_to_the_strict_way(old: str, new: str) -> None:
    run = edited(old, new)
    assert quick(*run) is None
    assert strict(*run).findings != []


def resealed(rows: list[Columns], edit: Callable[[int, str], str]) -> list[Columns]:
    """Rows whose texts were edited by someone who then made every hash anew."""
    made_anew: list[Columns] = []
    for number, (seq, data, _, named_prev, *rest) in enumerate(rows):
        text, prev = edit(number, data.decode()), named_prev
        if made_anew:
            text = text.replace(prev.hex(), made_anew[-1][2].hex())
            prev = made_anew[-1][2]
        made_anew.append((seq, text.encode(), leaf_hash(text.encode()), prev, *rest))
    return made_anew


def test_a_key_without_signature_and_a_signature_without_key_do_not_make_up_for_each_other() -> None:
    first = made(0, NO_PREVIOUS, {}, ["m"], 0, True)
    second = made(1, first[2].hex(), {"m": 0}, ["m"], 0, False)
    sig = json.loads(first[1])["body"]["sig"]

    def moved(number: int, text: str) -> str:
        old, new = (f'"sig":"{sig}"', '"sig":""')[:: 1 if number == 0 else -1]
        return text.replace(old, new)

    rows = resealed([first, second], moved)
    assert quick(resealed([first, second], lambda _, text: text), 0) is not None
    assert quick(rows, 0) is None
    assert len({finding.seq for finding in strict(rows, 0).findings}) == 2


def test_entries_of_one_kind_may_be_shaped_differently() -> None:
    """How the first one was cut is tried on the others too; that it does not fit them is no finding."""
    rows: list[Columns] = []
    prev, head = NO_PREVIOUS, -1
    for seq, (evidence, signed) in enumerate([(0, True), (2, True), (0, False), (2, False), (0, True), (1, False)] * 3):
        row = made(6 * seq, prev, {"m": head}, ["m"], evidence, signed)  # multiples of six: one kind, one actor
        text = (
            row[1]
            .decode()
            .replace(f'"seq":{6 * seq},', f'"seq":{seq},')
            .replace(f'"time_us":{row[6]}', f'"time_us":{START_US}')
        )
        rows.append((seq, text.encode(), leaf_hash(text.encode()), *row[3:6], START_US, row[7]))
        prev, head = rows[-1][2].hex(), seq
    assert strict(rows, 0).findings == []
    assert quick(rows, 0) is not None


def test_evidence_out_of_order_or_twice_is_left_to_the_strict_way() -> None:
    row = made(0, NO_PREVIOUS, {}, ["policy"], 3, False)
    text = row[1].decode()
    begin, end = text.index("[") + 1, text.index("]")
    first, second, third = text[begin:end].split(",")
    for forgery in ([second, first, third], [first, first, third], [first, third, second], [first, second, third, ""]):
        data = (text[:begin] + ",".join(forgery) + text[end:]).encode()
        assert quick([(0, data, leaf_hash(data), *row[3:])], 0) is None


def test_subjects_out_of_order_or_twice_are_left_to_the_strict_way_even_if_the_column_says_the_same() -> None:
    row = made(0, NO_PREVIOUS, {}, ["model/a", "policy"], 0, False)
    for names in (["policy", "model/a"], ["model/a", "model/a", "policy"], ["Policy"], [""], ["model/\u00e9"]):
        listed = ",".join(f'"{name}"' for name in names)
        heads = ",".join(f'"{name}":-1' for name in names)
        text = row[1].decode()
        text = (
            text[: text.index('"subjects"')]
            + f'"subjects":[{listed}]}},"heads":{{{heads}}}'
            + text[text.index(',"ledger"') :]
        )
        data = text.encode()
        with pytest.raises(EntryError):
            Entry.parse(data)
        assert quick([(0, data, leaf_hash(data), *row[3:7], " ".join(names))], 0) is None


WRONG = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.floats(),
    st.binary(max_size=40),
    st.text(max_size=5),
    st.just(b"\0" * 32),
    st.just(True),
)


@settings(max_examples=200, deadline=None)
@given(run=runs(), column=st.integers(0, 7), value=WRONG, data=st.data())
@example(run=([made(0, NO_PREVIOUS, {}, ["m"], 0, False)], 0), column=6, value=float(START_US), data=None)
def test_a_row_with_any_other_value_is_left_to_the_strict_way(
    run: Rows, column: int, value: object, data: st.DataObject | None
) -> None:
    rows, start = run
    number = data.draw(st.integers(0, len(rows) - 1)) if data is not None else 0
    row = list(rows[number])
    if type(row[column]) is type(value) and row[column] == value:
        return
    row[column] = value
    changed = [*rows[:number], tuple(row), *rows[number + 1 :]]
    assert quick(changed, start) is None  # type: ignore[arg-type]


@given(runs())
def test_where_the_index_of_subjects_deviates_it_is_left_to_the_strict_way(run: Rows) -> None:
    rows, start = run
    assert Sweep(ORIGIN, start).check(rows, named(rows), [(start, "policy")], start, start + len(rows)) is None


def test_a_run_with_more_or_fewer_rows_is_left_to_the_strict_way() -> None:
    rows = [made(0, NO_PREVIOUS, {}, ["m"], 0, False)]
    sweep = Sweep(ORIGIN, 0)
    assert sweep.check(rows, named(rows), [], 0, 2) is None
    assert sweep.check([], [], [], 0, 0) is None
    assert sweep.check(rows, [], [], 0, 1) is None
    assert Sweep("another/ledger", 0).check(rows, named(rows), [], 0, 1) is None
    assert Sweep('no"origin', 0).check(rows, named(rows), [], 0, 1) is None
