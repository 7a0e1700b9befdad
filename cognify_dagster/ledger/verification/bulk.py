"""The quick way through rows in which nothing is wrong.

Invariant: `Sweep.check` accepts a run of rows only if the strict way, row by row, would accept each of them; on any doubt it
returns None and the caller takes the strict way, which also words the finding. It does not parse. The members that no other
column of the row holds (actor, evidence, key, commitment, schema, signature) are cut out of the entry's text, first from where
they stood in the first entry of the same kind (a guess that may fail), and looked at in bulk; all others are what the columns,
the entry before and the newest entries of its subjects demand. The text is then put together again from these and compared: so
every byte of it is either demanded or was looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from operator import itemgetter, lt

from cognify_dagster.ledger.entry import MAX_ENTRY, MAX_INTEGER, MAX_SCHEMA, MAX_SUBJECTS
from cognify_dagster.ledger.errors import EntryError
from cognify_dagster.ledger.names import KIND, check_origin_once, check_subject_once
from cognify_dagster.ledger.store import Columns

_MEMBERS = re.compile(
    r'\{"body":\{"actor":"([^"]*)","evidence":\[([^]]*)\],"idem":"[^"]*","key":"([^"]*)","kind":"[^"]*",'
    r'"payload":"([^"]*)","schema":([^,]*),"sig":"([^"]*)"'
)  # actor, evidence, key, commitment, schema, signature
_HEX_DIGITS = b"0123456789abcdef"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SIGNATURE = 88  # characters of a signature in base64
_QUOTED = 73  # characters of a quoted evidence digest
_FIXED = [*enumerate('"sha256:'), (_QUOTED - 1, '"')]  # its characters that are no hex digits of the digest
_HEADS = '"heads":{'
_LIST, _MORE = '","', ',"'
_SCHEMA = re.compile(r"[1-9][0-9]{0,4}")
_HEAD = re.compile(r"-1|0|[1-9][0-9]{0,15}")

_Cut = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Run:
    """What a run of sound rows says: leaf hash, payload commitment and kind of each, the previous leaf that the first one
    names, first and last time."""

    leaves: list[bytes]
    commitments: list[str]
    kinds: list[str]
    first_prev: str
    first_time: int
    last_time: int


class Sweep:
    """Checks the runs of one part in order. After a run that was not accepted it is of no further use."""

    def __init__(self, origin: str, start: int) -> None:
        """Begin at entry `start` of the ledger `origin`."""
        self._origin, self._start = origin, start
        self._marks = _Marks()
        self._cuts: dict[str, _Cut] = {}  # kind -> how to cut the members out of its entries
        self.claims: dict[str, tuple[int, int]] = {}
        """Subject -> (its first entry of the part, the entry before the part that this one names, -1 for none)."""

    @property
    def heads(self) -> dict[str, int]:
        """The newest entry of each subject."""
        return {subject: int(mark[len(subject) + 2 :]) for subject, mark in self._marks.items()}

    def check(
        self, rows: Sequence[Columns], subjects: Sequence[list[str]], deviating: Sequence[object], start: int, end: int
    ) -> Run | None:
        """Check all rows [start, end); None unless every one is there and sound.

        Args:
            rows: the raw rows in order.
            subjects: the last column of each, cut at the spaces by the store (which turns what is no text into some).
            deviating: where the search index of subjects deviates from the rows.
            start: first sequence number.
            end: one more than the last.
        """
        if deviating or not len(rows) == len(subjects) == end - start > 0:
            return None
        try:
            return self._check(rows, subjects, start, end)
        except (LookupError, TypeError, ValueError, AttributeError, EntryError):  # what a wrong value in a row leads to
            return None

    def _check(self, rows: Sequence[Columns], subjects: Sequence[list[str]], start: int, end: int) -> Run | None:
        check_origin_once(self._origin)
        seqs, datas, leaves, prevs, idems, kinds, times, named = map(list, zip(*rows, strict=True))
        before = [prevs[0], *leaves[:-1]]
        if (
            leaves != leaf_hashes(datas)
            or prevs != before
            or {*map(len, before), *map(len, idems)} != {32}
            or not _numbers(seqs, times, start, end)
            or max(map(len, datas)) > MAX_ENTRY
            or max(map(len, subjects)) > MAX_SUBJECTS
            or {*map(type, named)} != {str}
            or not all(map(KIND.fullmatch, {*kinds}))
        ):
            return None
        members = self._members(datas, seqs, idems, kinds, subjects, before, times)
        return None if members is None else Run(leaves, members, kinds, prevs[0].hex(), times[0], times[-1])

    def _members(
        self,
        datas: list[bytes],
        seqs: list[int],
        idems: list[bytes],
        kinds: list[str],
        subjects: Sequence[list[str]],
        prevs: list[bytes],
        times: list[int],
    ) -> list[str] | None:
        """Put each entry together again; return the payload commitments if that gives the same text and all is sound."""
        marks, mark_of, cuts, origin, join = self._marks, self._marks.__getitem__, self._cuts, self._origin, _MORE.join
        found: list[tuple[str, ...]] = []
        for data, seq, idem, kind, names, prev, time_us in zip(
            datas,
            map(str, seqs),
            map(bytes.hex, idems),
            kinds,
            subjects,
            map(bytes.hex, prevs),
            map(str, times),
            strict=True,
        ):
            line = data.decode()  # what is not ASCII is not what is demanded, nor sound as a member
            heads = join(map(mark_of, names))
            if marks.missed:
                heads = join([marks.get(name) or self._claim(name, int(seq), line) for name in names])
                marks.missed = False
            last = ""
            number = '":' + seq
            for name in names:
                if name <= last:
                    return None
                last = name
                marks[name] = name + number
            cut = cuts.get(kind, _searched)
            while True:
                members = actor, evidence, key, commitment, schema, signature = cut(line)
                # every byte of the line is demanded, or in a member that is looked at below
                if line == (
                    f'{{"body":{{"actor":"{actor}","evidence":[{evidence}],"idem":"{idem}","key":"{key}","kind":"{kind}",'
                    f'"payload":"{commitment}","schema":{schema},"sig":"{signature}","subjects":["{_LIST.join(names)}"]}},'
                    f'"heads":{{"{heads}}},"ledger":"{origin}","prev":"{prev}","seq":{seq},"time_us":{time_us},"v":1}}'
                ):
                    break
                if cut is _searched:
                    return None
                cut = cuts[kind] = _searched  # entries of this kind are shaped in several ways: no more guesses
            if cut is _searched and kind not in cuts:
                cuts[kind] = _cut_as(line)
            found.append(members)
        actors, evidences, keys, commitments, schemas, signatures = map(list, zip(*found, strict=True))
        sound = (
            all(map(check_subject_once, {*actors}))
            and _evidence(evidences)
            and {*map(len, commitments)} == {64}
            and _are_hex([*keys, *commitments])
            and all(map(_schema, {*schemas}))
            and _signatures(signatures, keys)
        )
        return commitments if sound else None

    def _claim(self, subject: str, number: int, line: str) -> str:
        """What the first entry about a subject says of the entries before the part, as text."""
        check_subject_once(subject)
        inside = line.index(_HEADS) + len(_HEADS)  # a subject may be called `heads` or `seq`; none holds a quote
        found = _HEAD.match(line, line.index(f'"{subject}":', inside) + len(subject) + 3)
        if found is None or (head := int(found[0])) >= self._start:
            raise ValueError("a head within the part, of an entry that is not about the subject")
        self.claims[subject] = number, head
        return f'{subject}":{found[0]}'


class _Marks(dict[str, str]):
    """Subject -> `subject":` and the number of its newest entry, as the next entry about it must say.

    Looking up one that is not here gives nothing and is noted: an exception takes longer, and in some ledgers every few entries
    are about a new version.
    """

    missed = False

    def __missing__(self, subject: str) -> str:
        self.missed = True
        return ""


def _searched(line: str) -> tuple[str, ...]:
    """The members of an entry's text that are looked at by themselves."""
    found = _MEMBERS.match(line)
    return () if found is None else found.groups()


def _cut_as(line: str) -> _Cut:
    """What cuts these members out of other entries in which they lie at the same places. It only guesses: what it gives is
    compared with the whole text."""
    found = _MEMBERS.match(line)
    assert found is not None
    return itemgetter(*(slice(*found.span(group)) for group in range(1, found.re.groups + 1)))


def leaf_hashes(datas: Iterable[bytes]) -> list[bytes]:
    """The leaf hash of each; a copied hash starts sooner than a new one."""
    leaves: list[bytes] = []
    begun = sha256(b"\x00").copy
    for data in datas:
        leaf = begun()
        leaf.update(data)
        leaves.append(leaf.digest())
    return leaves


def _numbers(seqs: list[int], times: list[int], start: int, end: int) -> bool:
    return (
        {*map(type, seqs), *map(type, times)} == {int}
        and seqs == list(range(start, end))
        and times == sorted(times)
        and times[0] >= 0
        and max(times[-1], end) <= MAX_INTEGER
    )


def _signatures(texts: list[str], keys: list[str]) -> bool:
    """Whether each is the canonical base64 of 64 bytes where a key is named, and empty where none is; keys have 16 characters."""
    joined = "".join(texts)
    count = len(joined) // _SIGNATURE
    return (
        {*zip(map(len, keys), map(len, texts), strict=True)} <= {(0, 0), (16, _SIGNATURE)}
        and joined[86::_SIGNATURE] == joined[87::_SIGNATURE] == "=" * count
        and {*joined[85::_SIGNATURE]} <= {*"AQgw"}
        and joined.encode("ascii").translate(None, _BASE64) == b"==" * count
    )


def _are_hex(texts: list[str]) -> bool:
    return not "".join(texts).encode("ascii").translate(None, _HEX_DIGITS)


def _schema(piece: str) -> bool:
    return _SCHEMA.fullmatch(piece) is not None and int(piece) <= MAX_SCHEMA


def _evidence(lists: list[str]) -> bool:
    """Whether each is empty or a sorted list of distinct quoted digests. Those of one length have as many."""
    by_length: dict[int, list[str]] = {}
    for text in filter(None, lists):
        by_length.setdefault(len(text), []).append(text)
    digests: list[str] = []
    for length, texts in by_length.items():
        count, odd = divmod(length + 1, _QUOTED + 1)
        some = ",".join(texts).split(",")
        columns = [some[at::count] for at in range(count)]
        if odd or len(some) != count * len(texts) or not all(map(lt, chain(*columns[:-1]), chain(*columns[1:]))):
            return False
        digests += some
    joined = "".join(digests)
    return (
        {*map(len, digests)} <= {_QUOTED}
        and all(joined[at::_QUOTED] == sign * len(digests) for at, sign in _FIXED)
        and joined.encode("ascii").translate(None, _HEX_DIGITS) == b'"sh:"' * len(digests)
    )
