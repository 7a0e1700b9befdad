"""When a training began: a record's own word only ever counts for an earlier position in the ledger."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.records import VersionOpened
from cognify_dagster.workspace import size_at, started_by


def training(claimed: int, seq: int, run: str | None) -> Any:
    observed = {} if run is None else {"run": run}
    return SimpleNamespace(seq=seq, record=SimpleNamespace(started_after_seq=claimed, observed=observed))


def opening(seq: int, run: str) -> Any:
    record = VersionOpened(model="credit", version="1", run=run, opened_by="person/ben")
    return SimpleNamespace(seq=seq, record=record)


def test_the_opening_by_the_same_run_bounds_it() -> None:
    openings = [opening(5, "first"), opening(9, "second"), opening(12, "second")]
    assert started_by(training(10**6, 20, "first"), openings) == 6
    assert started_by(training(10**6, 20, "second"), openings) == 10, "its first opening, not that of a retry"
    assert started_by(training(10**6, 20, "unheard of"), openings) == 6, "a run that opened nothing gets the earliest"
    assert started_by(training(10**6, 20, None), openings) == 6
    assert started_by(training(10**6, 20, "first"), []) == 20, "no later than it was sealed"


@given(st.integers(-10, 10**7), st.integers(1, 100), st.lists(st.integers(0, 100), max_size=4))
def test_it_is_never_later_than_claimed_sealed_or_opened_and_an_honest_claim_stands(
    claimed: int, sealed: int, opened: list[int]
) -> None:
    openings = [opening(seq, "r") for seq in sorted(opened)]
    found = started_by(training(claimed, sealed, "r"), openings)
    limits = [claimed, sealed, *([openings[0].seq + 1] if openings else [])]
    assert 0 <= found <= max(0, min(limits))
    assert found == claimed or claimed != min(limits) or claimed < 0


def test_the_size_at_a_moment_counts_what_was_there_by_then() -> None:
    times = [10, 20, 20, 30]
    entries = [SimpleNamespace(entry=SimpleNamespace(time_us=time)) for time in times]
    reading: Any = SimpleNamespace(size=4, view=SimpleNamespace(entry=lambda at: entries[at]))
    assert [size_at(reading, moment) for moment in (None, 9, 10, 19, 20, 29, 30, 99)] == [0, 0, 1, 1, 3, 3, 4, 4]
