"""The quick way through rows in which nothing is wrong.

Invariant: `Sweep.check` accepts a run of rows only if the strict way, row by row, would accept each of them; on any doubt it
returns None and the caller takes the strict way, which also words the finding. It does not parse. The members that no other
column of the row holds (actor, evidence, key, commitment, schema, signature) are cut out of the entry's text from where they
must stand, and looked at in bulk; all others are what the columns, the entry before and the newest entries of its subjects
demand. The text is then put together again from these and compared: so every byte of it is either demanded or was looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from operator import lt

from cognify_dagster.ledger.entry import MAX_ENTRY, MAX_INTEGER, MAX_SCHEMA, MAX_SUBJECTS
from cognify_dagster.ledger.errors import EntryError
from cognify_dagster.ledger.names import KIND, SUBJECT, check_origin_once, check_subject_once
from cognify_dagster.ledger.store import Columns

_FIRST, _THEN = '{"body":{"actor":"', '","evidence":['
_AFTER_IDEM = len('],"idem":"') + 64 + len('","key":"')
_AFTER_KEY = len('","kind":"') + len('","payload":"')
_AFTER_COMMITMENT = 64 + len('","schema":')
_HEX_DIGITS = b"0123456789abcdef"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SIGNATURE = 88  # characters of a signature in base64
_QUOTED = 73  # characters of a quoted evidence digest
_FIXED = [*enumerate('"sha256:'), (_QUOTED - 1, '"')]  # its characters that are no hex digits of the digest
_HEADS = '"heads":{'
_LIST, _MEMBERS = '","', ',"'
_SCHEMA = re.compile(r"[1-9][0-9]{0,4}")
_HEAD = re.compile(r"-1|0|[1-9][0-9]{0,15}")


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
        self._marks: dict[str, str] = {}  # subject -> `":` and the number of its newest entry, as the next one must say
        self.claims: dict[str, tuple[int, int]] = {}
        """Subject -> (its first entry of the part, the entry before the part that this one names, -1 for none)."""

    @property
    def heads(self) -> dict[str, int]:
        """The newest entry of each subject."""
        return {subject: int(mark[2:]) for subject, mark in self._marks.items()}

    def check(self, rows: Sequence[Columns], deviating: Sequence[object], start: int, end: int) -> Run | None:
        """Check all rows [start, end); None unless every one is there and sound.

        Args:
            rows: the raw rows in order.
            deviating: where the search index of subjects deviates from the rows.
            start: first sequence number.
            end: one more than the last.
        """
        if deviating or len(rows) != end - start or not rows:
            return None
        try:
            return self._check(rows, start, end)
        except (LookupError, TypeError, ValueError, AttributeError, EntryError):  # what a wrong value in a row leads to
            return None

    def _check(self, rows: Sequence[Columns], start: int, end: int) -> Run | None:
        check_origin_once(self._origin)
        seqs, datas, leaves, prevs, idems, kinds, times, named = map(list, zip(*rows, strict=True))
        before = [prevs[0], *leaves[:-1]]
        if (
            leaves != leaf_hashes(datas)
            or prevs != before
            or not _numbers(seqs, times, start, end)
            or max(map(len, datas)) > MAX_ENTRY
            or not all(map(KIND.fullmatch, {*kinds}))
        ):
            return None
        subjects = [text.split(" ") for text in named]
        if max(map(len, subjects)) > MAX_SUBJECTS:
            return None
        lines = [data.decode("ascii") for data in datas]
        members = self._members(lines, seqs, _hexes(idems), kinds, subjects, _hexes(before), times)
        if members is None:
            return None
        return Run(leaves, members, kinds, prevs[0].hex(), times[0], times[-1])

    def _members(
        self,
        lines: list[str],
        seqs: list[int],
        idems: list[str],
        kinds: list[str],
        subjects: list[list[str]],
        prevs: list[str],
        times: list[int],
    ) -> list[str] | None:
        """Put each entry together again; return the payload commitments if that gives the same text and all is sound."""
        marks, known, claim, origin = self._marks, self._marks.get, self._claim, self._origin
        actors: set[str] = set()
        evidence: list[str] = []
        keys: list[str] = []
        commitments: list[str] = []
        schemas: set[str] = set()
        signatures: list[str] = []
        for line, seq, idem, kind, names, prev, time_us in zip(
            lines, seqs, idems, kinds, subjects, prevs, times, strict=True
        ):
            opened = line.index("[") + 1
            at = line.index("]", opened)
            actor, digests = line[:opened], line[opened:at]
            at += _AFTER_IDEM
            key = line[at : at + 16]
            if key[0] == '"':
                key = ""
            at += len(key) + _AFTER_KEY + len(kind)
            commitment = line[at : at + 64]
            until = line.index(",", at + _AFTER_COMMITMENT)
            schema = line[at + _AFTER_COMMITMENT : until]
            signature = line[until + 8 : until + 8 + _SIGNATURE] if key else ""
            number = str(seq)
            mark = '":' + number
            heads = []
            last = ""
            for name in names:
                if name <= last:
                    return None
                last = name
                heads.append(name + (known(name) or claim(name, seq, line)))
                marks[name] = mark
            actors.add(actor)
            evidence.append(digests)
            keys.append(key)
            commitments.append(commitment)
            schemas.add(schema)
            signatures.append(signature)
            # every byte of the line is demanded, or in a member that is looked at below
            if line != (
                f'{actor}{digests}],"idem":"{idem}","key":"{key}","kind":"{kind}","payload":"{commitment}","schema":{schema},'
                f'"sig":"{signature}","subjects":["{_LIST.join(names)}"]}},"heads":{{"{_MEMBERS.join(heads)}}},'
                f'"ledger":"{origin}","prev":"{prev}","seq":{number},"time_us":{time_us},"v":1}}'
            ):
                return None
        sound = (
            all(map(_actor, actors))
            and _evidence(evidence)
            and {*map(len, keys)} <= {0, 16}
            and {*map(len, commitments)} == {64}
            and _are_hex([*keys, *commitments])
            and all(map(_schema, schemas))
            and _signatures(signatures, keys)
        )
        return commitments if sound else None

    def _claim(self, subject: str, number: int, line: str) -> str:
        """What the first entry about a subject says of the entries before the part."""
        if SUBJECT.fullmatch(subject) is None:
            raise ValueError("not a subject")
        inside = line.index(_HEADS) + len(_HEADS)  # a subject may be called `heads` or `seq`; none holds a quote
        found = _HEAD.match(line, line.index(f'"{subject}":', inside) + len(subject) + 3)
        if found is None or int(found[0]) >= self._start:
            raise ValueError("a head within the part, of an entry that is not about the subject")
        self.claims[subject] = (number, int(found[0]))
        return '":' + found[0]


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


def _hexes(values: list[bytes]) -> list[str]:
    """Each 32-byte value in hex.

    Raises:
        ValueError: if one of them has another length.
    """
    if {*map(len, values)} != {32}:
        raise ValueError("not 32 bytes")
    text = b"".join(values).hex()
    return [text[at : at + 64] for at in range(0, len(text), 64)]


def _signatures(texts: list[str], keys: list[str]) -> bool:
    """Whether each is the canonical base64 of 64 bytes where a key is named, and empty elsewhere."""
    joined = "".join(texts)
    count, odd = divmod(len(joined), _SIGNATURE)
    return (
        not odd
        and {*map(len, texts)} <= {0, _SIGNATURE}
        and count == len(keys) - keys.count("")
        and joined[86::_SIGNATURE] == joined[87::_SIGNATURE] == "=" * count
        and {*joined[85::_SIGNATURE]} <= {*"AQgw"}
        and joined.encode("ascii").translate(None, _BASE64) == b"==" * count
    )


def _are_hex(texts: list[str]) -> bool:
    return not "".join(texts).encode("ascii").translate(None, _HEX_DIGITS)


def _schema(piece: str) -> bool:
    return _SCHEMA.fullmatch(piece) is not None and int(piece) <= MAX_SCHEMA


def _actor(text: str) -> bool:
    """Whether an entry may begin so, up to its list of evidence."""
    actor = text[len(_FIRST) : -len(_THEN)]
    check_subject_once(actor)
    return text == _FIRST + actor + _THEN


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
