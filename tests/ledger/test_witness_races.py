"""Case 46: two checkpoints at once never roll a witness back. An explicit-state search, then real threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

from cognify_dagster.ledger import Checkpoint, parse_note
from cognify_dagster.ledger.witness import Head, Refusal, Response, Witness, WitnessKey, WitnessStore, decide
from tests.ledger.witness_factory import Log, new_witness

A, B = Log(), Log(history="b", fork=4)


class Memory:
    """The state that requests share: the durable head, the write lock, the heads whose cosignature left."""

    def __init__(self) -> None:
        self.durable = Head(4, A.head(4).root)
        self.locked = False
        self.released = [self.durable]


def request(
    memory: Memory, log: Log, old: int, new: int, *, atomic: bool, durable_first: bool = True
) -> Iterator[bool]:
    """One request step by step; yields whether the next step may run now (it may not while another holds the lock)."""
    if atomic:
        while memory.locked:
            yield False
        memory.locked = True
        yield True
    read = memory.durable
    yield True
    decision = decide(read, old, log.proof(old, new), Head(new, log.head(new).root))
    if not isinstance(decision, Refusal):
        if not durable_first:
            memory.released.append(decision)
            yield True
        memory.durable = decision
    yield True
    if atomic:
        memory.locked = False
        yield True
    if durable_first and not isinstance(decision, Refusal):
        memory.released.append(decision)


def explore(first: tuple[Log, int, int], second: tuple[Log, int, int], **how: bool) -> tuple[int, set[str]]:
    """Run all interleavings of two requests, and a crash after each step; return their number and what went wrong."""
    wrong: set[str] = set()
    ends = 0
    stack: list[tuple[int, ...]] = [()]
    while stack:
        schedule = stack.pop()
        memory = Memory()
        steps = [request(memory, *first, **how), request(memory, *second, **how)]
        done = [False, False]
        blocked = False
        for who in schedule:
            try:
                blocked = not next(steps[who])
            except StopIteration:
                done[who] = True
        wrong |= judge(memory)
        if all(done):
            ends += 1
            continue
        if blocked:  # waiting changes nothing: this schedule equals a shorter one
            continue
        stack += [(*schedule, who) for who in (0, 1) if not done[who]]
    return ends, wrong


def judge(memory: Memory) -> set[str]:
    """The invariants, in every state: it could be the last one before a crash."""
    wrong = set()
    for first, second in product(memory.released, repeat=2):
        small, large = sorted((first, second), key=lambda head: head.size)
        if not any(
            log.head(small.size).root == small.root and log.head(large.size).root == large.root for log in (A, B)
        ):
            wrong.add("two cosigned heads exclude each other")
    if any(head.size > memory.durable.size for head in memory.released):
        wrong.add("the memory lies behind a cosignature that left")
    return wrong


PAIRS = [
    ((A, 4, 9), (A, 4, 6)),  # a larger and a smaller head of one history: the smaller one must not win last
    ((A, 4, 9), (B, 4, 9)),  # two heads of one size
    ((A, 4, 9), (B, 4, 6)),
    ((A, 4, 9), (A, 9, 12)),
    ((A, 4, 9), (A, 4, 9)),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_no_interleaving_of_two_requests_breaks_the_witness(pair: tuple[tuple[Log, int, int], ...]) -> None:
    ends, wrong = explore(*pair, atomic=True)
    assert ends >= 2
    assert wrong == set()


def test_the_search_finds_what_the_lock_and_the_order_prevent() -> None:
    assert "two cosigned heads exclude each other" in explore(*PAIRS[1], atomic=False)[1]
    assert "the memory lies behind a cosignature that left" in explore(*PAIRS[0], atomic=False)[1]
    assert explore(*PAIRS[4], atomic=True, durable_first=False)[1] == {"the memory lies behind a cosignature that left"}


def test_the_second_decision_waits_for_the_first_and_sees_its_head(tmp_path: Path) -> None:
    """The interleaving of case 46, forced: the smaller head is asked for while the larger one is being decided."""
    witness = new_witness(tmp_path, A)
    assert witness.add_checkpoint(A.request(0, 4)).status == 200
    inside, go, seen = threading.Event(), threading.Event(), list[Head]()

    def ask(size: int, wait: bool) -> str | Refusal:
        asked = Head(size, A.head(size).root)

        def slow(remembered: Head) -> Head | Refusal:
            seen.append(remembered)
            if wait:
                inside.set()
                assert go.wait(10)
            return decide(remembered, 4, A.proof(4, size), asked)

        return witness.store.check_and_store(A.origin, A.note(size), asked, slow, lambda _: (A.note(size), "line"), 0)

    with ThreadPoolExecutor(2) as pool:
        larger = pool.submit(ask, 9, True)
        assert inside.wait(10)
        smaller = pool.submit(ask, 6, False)
        time.sleep(0.3)
        assert [head.size for head in seen] == [4]
        go.set()
        assert larger.result() == "line"
        assert smaller.result() == Refusal(409, "9")
    assert [head.size for head in seen] == [4, 9]
    assert witness.store.remembered(A.origin)[0].size == 9


def test_threads_on_one_witness(tmp_path: Path) -> None:
    """Both histories and many sizes at once: the cosigned heads all lie on one history, and the memory never goes back."""
    for round_ in range(3):
        folder = tmp_path / str(round_)
        folder.mkdir()
        witness = new_witness(folder, A)
        answers: list[tuple[Log, int, Response]] = []
        statuses: set[int] = set()
        start = threading.Barrier(8)

        def client(log: Log, sizes: range, witness: Witness = witness, start: threading.Barrier = start,
                   answers: list[tuple[Log, int, Response]] = answers, statuses: set[int] = statuses) -> None:  # fmt: skip
            start.wait()
            old = 0
            for new in sizes:
                answer = witness.add_checkpoint(log.request(min(old, new), new))
                if answer.status == 409:
                    old = int(answer.body)
                    answer = witness.add_checkpoint(log.request(old, new)) if old <= new else answer
                statuses.add(answer.status)
                if answer.status == 200:
                    old = new
                    answers.append((log, new, answer))

        threads = [
            threading.Thread(target=client, args=((A, B)[at % 2], range(5 + at % 3, 30, 3 + at % 2))) for at in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers
        assert 500 not in statuses  # waiting for the lock is no failure
        assert len({id(log) for log, _, _ in answers}) == 1
        assert witness.store.remembered(A.origin)[0].size == max(size for _, size, _ in answers)


WRITER = """
import sys
from pathlib import Path
from cognify_dagster.ledger.witness import Witness, WitnessKey, WitnessStore
from tests.ledger.witness_factory import Log
key = WitnessKey.load(Path(sys.argv[1]))
log = Log(history=sys.argv[3], fork=4, size=2000)
witness = Witness(WitnessStore(sys.argv[2], key.verifier), key, [log.key])
print("ready", flush=True)
sys.stdin.readline()
old = 0
for new in range(5, 2000):
    answer = witness.add_checkpoint(log.request(old, new))
    if answer.status == 409:
        old = int(answer.body)
        answer = witness.add_checkpoint(log.request(old, new)) if old <= new else answer
    if answer.status == 200:
        old = new
        sys.stdout.buffer.write(log.note(new).encode() + answer.body + b"\\f\\n")
        sys.stdout.buffer.flush()
"""


def test_processes_on_one_memory_that_are_killed(tmp_path: Path) -> None:
    """Two processes on two histories, killed at any point: no cosignature that left is ever forgotten or contradicted."""
    key = WitnessKey.create(tmp_path / "w.key", "risk.bank.example/w1")
    store = WitnessStore.create(tmp_path / "w.db", key.verifier)
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / "w.key"), str(tmp_path / "w.db")]
    root = Path(__file__).parents[2]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": root}
    writers = [subprocess.Popen([*arguments, history], **pipe) for history in "ab"]  # type: ignore[call-overload]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    end = time.monotonic() + 60
    while store.remembered(A.origin)[0].size == 0:  # a busy disk may need longer for the first head than a writer lives
        assert time.monotonic() < end, "nothing was ever cosigned"
        time.sleep(0.01)
    for at, writer in enumerate(writers):
        threading.Timer(0.4 + 0.3 * at, writer.kill).start()
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [-9, -9]
    heads: list[Checkpoint] = []
    for output in outputs:
        for note in output.split(b"\f\n")[:-1]:
            parsed = parse_note(note)
            assert parsed.signatures[1].name == key.name
            heads.append(Checkpoint.parse(parsed.text))
    assert heads
    logs = [Log(history=history, fork=4, size=2000) for history in "ab"]
    assert any(all(log.head(head.size) == head for head in heads) for log in logs)
    assert store.remembered(A.origin)[0].size >= max(head.size for head in heads)
    again = Witness(WitnessStore(store.path, key.verifier), key, [A.key])
    assert again.add_checkpoint(A.request(0, 4)).status == 409
