"""Which entries about a subject cannot be read, or were written by somebody who may not write them.

Invariants: every entry of the subject's verified history is judged by the directory at the end of the reading, but for those that
only name the subject (an evaluation says nothing about the thresholds it used, nor a training run about its data): they are
judged where they say something, in the history of their own version; what was judged once is not judged again only while the directory
is the same (no entry was added or erased from which it follows), and only by readings of one workspace, whose history can grow but not
change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.workspace import Reading

#: By the beginning of a subject: kinds of entry that name such a subject and say nothing about it.
ONLY_NAMES = {"gates/": frozenset({"evaluation"}), "dataset/": frozenset({"training_run", "evaluation"})}

#: What every decision rests on.
SHARED = ("people", "policy", "ledger")


@dataclass(frozen=True)
class Unproven:
    """An entry that proves nothing: `unreadable` says why this release cannot read it, else `writer` what is wrong with who
    wrote it."""

    seq: int
    unreadable: str = ""
    writer: str = ""


def unproven(reading: Reading, people: Directory, subject: str) -> list[Unproven]:
    """Return the entries about a subject that prove nothing, oldest first. The first entry of a ledger has no writer to judge."""
    heads = reading.view.heads
    if people is not directory(reading):
        return _judge(reading, people, subject, -1)
    key = ("unproven", subject, people.newest, heads.get("erasures", -1))
    head = heads.get(subject, -1)
    upto, known = reading.memo.get(key, (-1, ()))
    if head > upto:
        with reading.finding_out:
            upto, known = reading.memo.get(key, (-1, ()))
            if head > upto:
                known = (*known, *_judge(reading, people, subject, upto))
                reading.memo[key] = (head, known)
    return [item for item in known if item.seq < reading.size]


def judge_shared(reading: Reading) -> None:
    """Judge what every decision of this workspace rests on, so that the first one need not: the longest histories there are."""
    people = directory(reading)
    for subject in SHARED:
        unproven(reading, people, subject)


def _judge(reading: Reading, people: Directory, subject: str, after: int) -> list[Unproven]:
    found = []
    silent = ONLY_NAMES.get(subject.partition("/")[0] + "/", frozenset())
    newer = takewhile(lambda item: item.entry.seq > after, reading.view.walk(subject))
    for item in newer:
        if item.entry.kind in silent:
            continue
        seq = item.entry.seq
        if text := reading.problem(item):
            found.append(Unproven(seq, unreadable=text))
        elif seq and (problem := people.writer_problem(item.entry)):
            found.append(Unproven(seq, writer=problem))
    found.reverse()
    return found
