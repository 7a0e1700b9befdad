"""Garbage collection: slow, in two steps, never of what is named or held, and safe against runs that are still going on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.evidence import EvidenceError, EvidenceMissing, EvidenceStore, LocalKeyProvider, Marks, collect

GRACE = 10 * 86_400.0
NOW = time.time()


def put(store: EvidenceStore, text: str, sensitivity: Any = "internal") -> str:
    return store.put(text.encode(), media_type="text/plain", sensitivity=sensitivity).digest


def after(days: float, store: EvidenceStore, *live: str, **options: Any) -> Any:
    marks = Marks(frozenset(live or {"sha256:" + "0" * 64}))
    return collect(store, lambda: marks, grace_s=GRACE, now=NOW + days * 86_400, **options)


def test_an_orphan_goes_in_two_steps_and_what_is_named_stays(store: EvidenceStore, root: Path) -> None:
    named, orphan, sealed = put(store, "named"), put(store, "orphan"), put(store, "secret", "personal")
    assert after(9, store, named).kept == 3
    first = after(11, store, named)
    assert (sorted(first.moved), first.removed, first.kept) == (sorted([orphan, sealed]), (), 1)
    assert store.list_digests() == [named]
    assert after(9, store, named).removed == ()  # it was moved aside now, and the grace period begins anew
    second = after(11, store, named)
    assert sorted(second.removed) == sorted([orphan, sealed])
    assert [path for path in (root / "trash").rglob("*") if path.is_file()] == []
    assert store.get(named) == b"named"


def test_what_is_named_after_all_comes_back(store: EvidenceStore) -> None:
    orphan, sealed = put(store, "late"), put(store, "late secret", "personal")
    after(11, store)
    with pytest.raises(EvidenceMissing):
        store.get(orphan)
    report = after(100, store, orphan, sealed)
    assert sorted(report.restored) == sorted([orphan, sealed])
    assert (store.get(orphan), store.get(sealed)) == (b"late", b"late secret")


def test_a_blob_stored_again_meanwhile_survives(store: EvidenceStore) -> None:
    orphan = put(store, "twice")
    after(11, store)
    assert put(store, "twice") == orphan  # a new run stores it again while it lies in the trash
    assert after(100, store, orphan).restored == (orphan,)
    assert store.get(orphan) == b"twice"


def test_an_entry_appended_while_the_sweep_runs_is_seen(store: EvidenceStore) -> None:
    orphan, other = put(store, "raced"), put(store, "other")
    calls = 0

    def marks() -> Marks:
        nonlocal calls
        calls += 1
        return Marks(frozenset({other} if calls < 3 else {other, orphan}))  # the run appends between decision and end

    report = collect(store, marks, grace_s=GRACE, now=NOW + 11 * 86_400)
    assert (report.moved, report.restored) == ((), (orphan,))
    assert store.get(orphan) == b"raced"


def test_content_that_is_stored_again_is_young_again(store: EvidenceStore, root: Path) -> None:
    put(store, "old")
    for path in (root / "blobs").rglob("*"):
        os.utime(path, (NOW - 100 * 86_400,) * 2)
    put(store, "old")
    assert after(1, store).moved == ()


def test_nothing_goes_under_a_hold(store: EvidenceStore) -> None:
    orphan = put(store, "held")
    held = Marks(frozenset({"sha256:" + "0" * 64}), held=frozenset({orphan}))
    assert collect(store, lambda: held, grace_s=GRACE, now=NOW + 1e9).moved == ()
    frozen = Marks(frozenset({"sha256:" + "0" * 64}), frozen="hold x")
    report = collect(store, lambda: frozen, grace_s=GRACE, now=NOW + 1e9)
    assert (report.moved, report.removed, report.frozen) == ((), (), "hold x")
    after(11, store)
    assert collect(store, lambda: frozen, grace_s=GRACE, now=NOW + 1e9).removed == ()
    assert collect(store, lambda: held, grace_s=GRACE, now=NOW + 1e9).restored == (orphan,)


def test_a_hold_placed_while_the_sweep_runs_stops_the_removal(store: EvidenceStore) -> None:
    put(store, "x")
    after(11, store)
    states = iter([None, "hold", "hold"])
    report = collect(
        store, lambda: Marks(frozenset({"sha256:" + "0" * 64}), frozen=next(states)), grace_s=GRACE, now=NOW + 1e9
    )
    assert report.removed == ()


def test_empty_marks_and_short_graces_are_refused(store: EvidenceStore) -> None:
    put(store, "x")
    with pytest.raises(EvidenceError, match="names no evidence at all"):
        collect(store, lambda: Marks(frozenset()), grace_s=GRACE, now=NOW + 1e9)
    with pytest.raises(EvidenceError, match="shorter than a day"):
        collect(store, lambda: Marks(frozenset({"a"})), grace_s=60)
    with pytest.raises(ZeroDivisionError):  # a ledger that cannot be read stops everything
        collect(store, lambda: 1 / 0, grace_s=GRACE)  # type: ignore[arg-type,return-value]
    assert len(store.list_digests()) == 1


def test_a_trial_run_changes_nothing(store: EvidenceStore) -> None:
    orphan = put(store, "x")
    assert after(11, store, dry_run=True).moved == (orphan,)
    assert store.list_digests() == [orphan]


def test_a_kill_at_any_point_loses_nothing(store: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = put(store, "x")

    class Killed(BaseException):
        pass

    for function in ("utime", "link", "unlink"):

        def die(*_: Any, **__: Any) -> Any:
            raise Killed

        monkeypatch.setattr(os, function, die)
        with pytest.raises(Killed):
            after(11, store)
        monkeypatch.undo()
        assert after(0, store, orphan).kept == 1
        assert store.get(orphan) == b"x"


def test_one_blob_that_cannot_be_moved_does_not_stop_the_others(
    store: EvidenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = sorted([put(store, "one"), put(store, "two")])
    real = store._blobs.move

    def move(name: str, target: str) -> None:
        if one[9:] in name:
            raise EvidenceError("under a retention lock")
        real(name, target)

    monkeypatch.setattr(store._blobs, "move", move)
    report = after(11, store)
    assert report.moved == (two,)
    assert report.failed == (f"{one}: under a retention lock",)


def test_remote_evidence_is_collected_too(kek: LocalKeyProvider) -> None:
    store = EvidenceStore("memory://collection", keys=kek)
    named, orphan = put(store, "named"), put(store, "orphan")
    assert after(11, store, named).moved == (orphan,)
    assert store.list_digests() == [named]
    assert after(30, store, named).removed == (orphan,)
    assert store.get(named) == b"named"
