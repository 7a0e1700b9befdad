"""Coverage of every shipped framework for one version of a model with a thousand entries."""

from __future__ import annotations

import statistics

from benchmarks.documents.world import NOW, all_frameworks, crowded, processor_time, seconds
from benchmarks.ledger.harness import Options, Result, Row, interleave, ratio
from cognify_dagster.documents import assess_coverage, collect
from cognify_dagster.ledger import Entry, leaf_hash, parse_canonical

LIMIT_MS = 50.0
ENTRIES = 1_000


def _coverage(options: Options) -> Result:
    story = crowded(options.folder, ENTRIES)
    frameworks = all_frameworks()
    reading = story.ws.read()
    count = len(reading.history(f"model/{story.model}"))
    store = story.ws.ledger.store
    seqs = [item.seq for item in reading.history(f"model/{story.model}")]
    stored = [
        (next(iter(store.entries(seq, seq + 1))).data, next(iter(store.payloads(seq, seq + 1))).data or b"")
        for seq in seqs
    ]

    def ours() -> None:
        facts = collect(story.ws.read(), story.model, "1")
        for framework in frameworks:
            assess_coverage(facts, framework, NOW)

    def judged_only() -> None:
        for framework in frameworks:
            assess_coverage(facts, framework, NOW)

    def baseline_work() -> None:
        for data, payload in stored:
            leaf_hash(data)
            Entry.parse(data)
            parse_canonical(payload)

    facts = collect(reading, story.model, "1")
    measured, alone, baseline = interleave(
        options.repeats, [lambda: seconds(ours), lambda: seconds(judged_only), lambda: seconds(baseline_work)]
    )
    median = statistics.median(measured) * 1e3
    return Result(
        f"coverage of {len(frameworks)} frameworks for one version, {count} entries of its model, ledger open",
        f"≤ {LIMIT_MS:.0f} ms",
        f"{median:.0f} ms; {ratio(measured, baseline):.2f} × hashing and parsing these entries",
        None if options.quick else median <= LIMIT_MS,
        [
            f"processor time: {processor_time(ours) * 1e3:.0f} ms",
            f"of it judging the facts: {statistics.median(alone) * 1e3:.0f} ms",
            f"hashing and parsing the {len(stored)} entries: {statistics.median(baseline) * 1e3:.0f} ms",
        ],
    )


ROWS = [Row("coverage", _coverage)]
