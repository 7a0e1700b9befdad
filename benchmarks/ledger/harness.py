"""What the rows share: drafts of realistic size, interleaved repeats, a ledger of a million entries, the machine line."""

from __future__ import annotations

import hashlib
import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path

from cognify_dagster.ledger import Draft, LedgerUnreadable, SqliteStore, filesystem_of, leaf_hash
from cognify_dagster.ledger.canonical import payload_and_digest
from cognify_dagster.ledger.entry import NO_PREVIOUS, assemble, seal_body
from cognify_dagster.ledger.sqlite.store import journal_mode
from cognify_dagster.ledger.store import StoredEntry, StoredPayload

ORIGIN = "bank.example/bench/ledger"
START_US = 1_760_000_000_000_000


@dataclass(frozen=True)
class Options:
    """How to run: `folder` is empty and on the disk to measure; `cache` keeps large ledgers between runs.

    `entries` is the size of the large ledger where it is not the usual one.
    """

    folder: Path
    cache: Path
    quick: bool = False
    entries: int = 0

    @property
    def repeats(self) -> int:
        """Interleaved repeats; a goal is judged by the median of at least 15."""
        return 5 if self.quick else 21

    @property
    def big(self) -> int:
        """Entries of the large ledger."""
        return self.entries or (20_000 if self.quick else 1_000_000)


@dataclass(frozen=True)
class Result:
    """One line of the table. `holds` is None where the run was too small to judge."""

    what: str
    goal: str
    measured: str
    holds: bool | None
    detail: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Row:
    """A benchmark: its name for `--only`, and what runs it."""

    name: str
    run: Callable[[Options], Result]


def facts(number: int) -> dict[str, object]:
    """Facts of a training run, about 0.7 KB as canonical JSON."""
    return {
        "run": f"run-{number:08d}",
        "metrics": {f"metric_{i}": 0.1 * i + number / 7 for i in range(8)},
        "parameters": {"depth": number % 9, "rate": 0.05, "rounds": 400, "seed": number},
        "image": "sha256:" + hashlib.sha256(b"%d" % number).hexdigest(),
        "note": "trained on the data of the month, thresholds as in the policy, reviewed by the second line " * 3,
    }


def make_draft(number: int, values: dict[str, object] | None = None) -> Draft:
    """A draft with canonical payload, as a caller makes one from its values (`facts` unless given).

    Ten entries in a row concern one of 200 models, as the steps of a pipeline run do.
    """
    payload, digest = payload_and_digest(facts(number) if values is None else values, {"host": "w1"})
    return Draft(
        kind="training_run",
        schema=1,
        subjects=(f"model/m{number // 10 % 200}", "policy"),
        actor="workload/pipeline",
        idem=hashlib.sha256(b"run %d" % number).hexdigest(),
        payload=payload,
        facts_digest=digest,
    )


def rate(count: int, work: Callable[[], object]) -> float:
    """Run once; return items a second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def interleave(repeats: int, cases: Sequence[Callable[[], float]]) -> list[list[float]]:
    """Run cases in turn, each repeat in the opposite order; return each case's values.

    The machine may be shared and its disk noisy: what disturbs one case then disturbs its neighbour too.
    """
    values: list[list[float]] = [[] for _ in cases]
    for case in cases:
        case()
    for repeat in range(repeats):
        order = list(range(len(cases)))
        for index in order if repeat % 2 == 0 else reversed(order):
            values[index].append(cases[index]())
    return values


def ratio(ours: Sequence[float], baseline: Sequence[float]) -> float:
    """Median over the repeats of ours ÷ baseline of the same repeat."""
    return statistics.median(a / b for a, b in zip(ours, baseline, strict=True))


def spread(values: Sequence[float]) -> str:
    """Median with the quartiles."""
    if len(values) < 2:
        return f"{values[0]:,.0f}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:,.0f} ({low:,.0f}–{high:,.0f})"


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which a part of the values lies (0.99 for p99)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Bare:
    """The baseline: rows of the same size into a table without any index, durable, same journal mode, no checks."""

    def __init__(self, path: Path, row: bytes) -> None:
        self._row = row
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute(f"PRAGMA journal_mode={journal_mode()}")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS bare (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")

    def commit(self, rows: int) -> None:
        """One durable transaction of so many rows."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO bare (bytes) VALUES (?)", [(self._row,)] * rows)
        self._db.execute("COMMIT")


def size_of_one() -> int:
    """Bytes that one entry and its payload have together."""
    draft = make_draft(1)
    sealed = seal_body(ORIGIN, draft, salt=bytes(32))
    data = assemble(ORIGIN, sealed.body, dict.fromkeys(draft.subjects, 0), NO_PREVIOUS, 1, START_US)
    return len(data) + len(draft.payload)


def full_draft(number: int) -> Draft:
    """A draft as a pipeline's workload writes it: signed, with four subjects and two evidence digests (about 0.9 KB as entry).

    The signature's bytes are made up: verification of rows does not look at them, and signing is not what is measured.
    """
    digest = hashlib.sha256(b"%d" % number).digest()
    version = f"model/m{number // 10 % 200}@v{number // 10}"
    return replace(
        make_draft(number),
        subjects=(version.split("@", maxsplit=1)[0], version, f"dataset/d{number % 50}", "policy"),
        evidence=tuple(f"sha256:{hashlib.sha256(bytes([i]) + digest).hexdigest()}" for i in range(2)),
        key_id=digest.hex()[:16],
        sign=lambda _: digest * 2,
    )


def chain(count: int, make: Callable[[int], Draft] = make_draft) -> Iterator[tuple[StoredEntry, StoredPayload]]:
    """Rows of a valid ledger, made one after the other."""
    prev, newest = NO_PREVIOUS, dict[str, int]()
    for seq in range(count):
        draft = make(seq)
        sealed = seal_body(ORIGIN, draft, salt=hashlib.sha256(b"salt %d" % seq).digest())
        subjects = tuple(sorted(draft.subjects))
        heads = {subject: newest.get(subject, -1) for subject in subjects}
        time_us = START_US + 1000 * seq
        data = assemble(ORIGIN, sealed.body, heads, prev, seq, time_us)
        leaf = leaf_hash(data)
        yield (
            StoredEntry(seq, data, leaf, prev, draft.idem, draft.kind, time_us, subjects),
            StoredPayload(seq, sealed.salt, draft.facts_digest, draft.payload),
        )
        prev = leaf.hex()
        newest.update(dict.fromkeys(subjects, seq))


def big_ledger(options: Options) -> SqliteStore:
    """The large ledger: a million entries (20,000 with --quick, or as asked), made once and kept in the cache folder (about 2.6 GB).

    Do not append to it: other rows read it too.
    """
    path = options.cache / f"ledger-{options.big}.sqlite"
    if path.exists():
        with suppress(LedgerUnreadable):  # made by another release
            store = SqliteStore(path, read_only=True)
            if store.size() == options.big and store.origin == ORIGIN:
                return store
            store.close()
        path.unlink()
    options.cache.mkdir(parents=True, exist_ok=True)
    (options.cache / ".gitignore").write_text("*\n")
    print(f"making a ledger of {options.big:,} entries in {path} (once) …", flush=True)
    entries, payloads = tee(chain(options.big))
    SqliteStore.create_from(path, ORIGIN, (e for e, _ in entries), (p for _, p in payloads), []).close()
    return SqliteStore(path, read_only=True)


def full_ledger(options: Options, size: int) -> SqliteStore:
    """A ledger of entries as workloads write them, made once and kept in the cache folder."""
    path = options.cache / f"full-{size}.sqlite"
    if path.exists():
        with suppress(LedgerUnreadable):  # made by another release
            return SqliteStore(path, read_only=True)
        path.unlink()
    options.cache.mkdir(parents=True, exist_ok=True)
    entries, payloads = tee(chain(size, full_draft))
    SqliteStore.create_from(path, ORIGIN, (e for e, _ in entries), (p for _, p in payloads), []).close()
    return SqliteStore(path, read_only=True)


def machine(folder: Path) -> str:
    """The machine line: processor, versions, disk and how long it takes to make 4 KB durable, load."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    times = _sync_times(folder / "sync")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version} "
        f"(journal {journal_mode()}), {filesystem_of(folder)}; fdatasync of 4 KB: p50 {percentile(times, 0.5) * 1e3:.2f} ms, "
        f"p95 {percentile(times, 0.95) * 1e3:.2f} ms; load {load}"
    )


def _sync_times(path: Path) -> list[float]:
    times = []
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(40):
            os.pwrite(descriptor, b"x" * 4096, 0)
            start = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return times
