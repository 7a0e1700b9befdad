"""The quick way through rows in which nothing is wrong.

Invariant: `check` accepts a run of rows only if the strict way, row by row, would accept each of them; on any doubt it returns
None and the caller takes the strict way, which also words the finding. Members are tested in bulk; the entry's bytes are put
together again from its members and compared, so no JSON parser's leniency can let another form pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import repeat
from typing import Any

from cognify_dagster.ledger.entry import (
    _DIGEST,
    _KEY_ID,
    _KIND,
    MAX_ENTRY,
    MAX_INTEGER,
    MAX_SCHEMA,
    MAX_SUBJECTS,
    check_subject,
)
from cognify_dagster.ledger.errors import EntryError
from cognify_dagster.ledger.store import Columns

_loads: Callable[[bytes], Any]
try:
    from orjson import loads as _loads
except ImportError:  # pragma: no cover - only slower without it
    _loads = json.loads

_HEX = re.compile(r"(?:[0-9a-f]{64})*")
_SIGNATURES = re.compile(r"(?:[A-Za-z0-9+/]{85}[AQgw]==)*")


@dataclass(frozen=True)
class Run:
    """What a run of sound rows says: leaf hashes, (seq, commitment, kind) of each, first claims about earlier entries, the
    newest entry of each subject, first and last time."""

    leaves: list[bytes]
    committed: list[tuple[int, str, str]]
    claims: dict[str, tuple[int, int]]
    heads: dict[str, int]
    first_prev: str
    first_time: int
    last_time: int


def check(
    rows: Sequence[Columns], subjects: Sequence[tuple[int, str]], origin: str, start: int, end: int
) -> Run | None:
    """Check all rows [start, end); None unless every one is there and sound.

    Args:
        rows: the raw rows in order.
        subjects: the search index of subjects, (seq, subject) in order.
        origin: the ledger's origin.
        start: first sequence number.
        end: one more than the last.
    """
    if len(rows) != end - start or not rows:
        return None
    try:
        return _check(rows, subjects, origin, start)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, EntryError):
        return None


def _check(rows: Sequence[Columns], subjects: Sequence[tuple[int, str]], origin: str, start: int) -> Run | None:
    expected: list[Columns] = []
    index: list[tuple[int, str]] = []
    claims: dict[str, tuple[int, int]] = {}
    heads: dict[str, int] = {}
    all_heads: list[int] = []
    members: list[tuple[str, str, str, str, str]] = []
    groups: dict[str, list[str]] = {}
    templates: dict[str, str] = {}
    digests: set[str] = set()
    last = rows[0][3]
    if type(last) is not bytes or len(last) != 32:
        return None
    prev = first_prev = last.hex()
    unhex = bytes.fromhex
    tail = f',"ledger":"{origin}","prev":"'
    for number, row in enumerate(rows, start):
        data = row[1]
        value = _loads(data)
        body, time_us, links = value["body"], value["time_us"], value["heads"]
        listed, evidence, kind, schema = body["subjects"], body["evidence"], body["kind"], body["schema"]
        idem, key, commitment, sig, actor = body["idem"], body["key"], body["payload"], body["sig"], body["actor"]
        if (
            type(schema) is not int
            or not 1 <= schema <= MAX_SCHEMA
            or len(links) != len(listed)
            or bool(key) != bool(sig)
        ):
            return None
        for subject, head in links.items():
            if subject not in heads:
                claims[subject] = (number, head)
            elif heads[subject] != head:
                return None
            heads[subject] = number
        positions = (*links.values(),)
        all_heads += positions
        index += zip(repeat(number), listed)
        inside = ""
        if evidence:
            inside = '"' + '","'.join(evidence) + '"'
            digests.update(evidence)
            if len(evidence) > 1 and evidence != sorted(set(evidence)):
                return None
        joined = '","'.join(listed)
        template = templates.get(joined)
        if template is None:
            template = templates[joined] = '"' + '":%d,"'.join(listed) + '":%d'
            groups[joined] = listed
        text = (
            f'{{"body":{{"actor":"{actor}","evidence":[{inside}],"idem":"{idem}","key":"{key}","kind":"{kind}",'
            f'"payload":"{commitment}","schema":{schema},"sig":"{sig}","subjects":["{joined}"]}},"heads":{{{template % positions}}}'
            f'{tail}{prev}","seq":{number},"time_us":{time_us},"v":1}}'
        )
        if text.encode("ascii") != data:
            return None
        leaf = sha256(b"\x00" + data).digest()
        expected.append((number, data, leaf, last, unhex(idem), kind, time_us))
        members.append((idem, commitment, key, sig, actor))
        last, prev = leaf, leaf.hex()
    if expected != rows or index != subjects or set(map(type, all_heads)) != {int}:
        return None
    if not all(-1 <= head < start for _, head in claims.values()):
        return None
    if not _members_sound(expected, members, groups, digests):
        return None
    return Run(
        [row[2] for row in expected],
        [(row[0], member[1], row[5]) for row, member in zip(expected, members, strict=True)],
        claims,
        heads,
        first_prev,
        expected[0][6],
        expected[-1][6],
    )


def _members_sound(
    expected: Sequence[Columns],
    members: Sequence[tuple[str, str, str, str, str]],
    groups: dict[str, list[str]],
    digests: set[str],
) -> bool:
    """Whether the members of all rows have their form; each distinct value is looked at once."""
    idems, commitments, keys, signatures, actors = zip(*members, strict=True)
    hexes = (*idems, *commitments)
    times = [row[6] for row in expected]
    for listed in groups.values():
        if not 1 <= len(listed) <= MAX_SUBJECTS or listed != sorted(set(listed)):
            return False
    for name in {*actors, *(name for listed in groups.values() for name in listed)}:
        check_subject(name)
    return (
        set(map(len, hexes)) == {64}
        and _HEX.fullmatch("".join(hexes)) is not None
        and set(map(len, signatures)) <= {0, 88}
        and _SIGNATURES.fullmatch("".join(signatures)) is not None
        and set(map(type, times)) == {int}
        and times == sorted(times)
        and times[0] >= 0
        and times[-1] <= MAX_INTEGER
        and max(len(row[1]) for row in expected) <= MAX_ENTRY
        and all(_KIND.fullmatch(kind) for kind in {row[5] for row in expected})
        and all(_KEY_ID.fullmatch(key) for key in set(keys))
        and all(map(_DIGEST.fullmatch, digests))
    )
