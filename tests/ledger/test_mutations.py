"""The mutation matrix: every stored column × {bit flip, deletion, swap, older value}, below a signed checkpoint.

The insider is the file's owner or a superuser: guards, keys and constraints are gone, so nothing but verification is left.
Both stores; the tests print caught/total. COGNIFY_MUTATIONS=all also changes every row of the ledger whose first entries lie in
an archive; otherwise a sample of those rows is changed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import Ledger, LedgerUnreadable, Outcome, Store, Tampered, TrustFile
from cognify_dagster.ledger.archive.detaching import ArchivedStore
from cognify_dagster.ledger.archive.reader import Archive
from cognify_dagster.ledger.verification import erasures
from tests.attacks.places import Place, PostgresPlace, Row, SqlitePlace, Tables, build
from tests.ledger import archive_world
from tests.ledger.drafts import draft

# who may write what, derived from entries inside Postgres: it decides what is let in, never what is read; a verifier judges every
# entry by the entries before it (tests/ledger/test_postgres_rules.py)
DERIVED = {"act", "writer"}
KNOWN = {
    "archived",
    "checkpoint",
    "detached",
    "entry",
    "entry_subject",
    "meta",
    "node",
    "payload",
    "segment",
} | DERIVED


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    made: list[Place] = []

    def make(origin: str) -> Place:
        path = tmp_path / f"ledger-{len(made)}.sqlite"
        made.append(SqlitePlace(path, origin) if request.param == "sqlite" else PostgresPlace(origin))
        return made[-1]

    yield make
    for place in made:
        place.close()


def flipped(value: Any) -> Any:
    """The value with one bit changed; something where nothing was."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, bytes):
        middle = len(value) // 2
        return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :] if value else b"\0"
    if isinstance(value, str):
        middle = len(value) // 2
        return value[:middle] + chr(ord(value[middle]) ^ 1) + value[middle + 1 :] if value else "x"
    return b"\1"


@dataclass(frozen=True)
class Mutation:
    table: str
    how: str
    column: str
    row: int
    rows: tuple[Row, ...]
    """The table's rows afterwards."""

    def __str__(self) -> str:
        return f"{self.how} {self.table}.{self.column} row {self.row}"


def listed(rows: Sequence[Row]) -> list[str]:
    """The rows in no order."""
    return sorted(repr(list(row.items())) for row in rows)


def mutations(tables: Tables, chosen: Callable[[Row], bool] = lambda _: True) -> Iterator[Mutation]:
    """Every column of the chosen rows flipped, emptied, exchanged with the next row's, set to an older row's value; every chosen
    row deleted, and replaced by an older one; every chosen entry doubled."""
    for table, rows in tables.items():
        for number, row in enumerate(rows):
            if not chosen(row):
                continue
            rest = (*rows[:number], *rows[number + 1 :])
            new: list[tuple[str, str, tuple[Row, ...]]] = [("delete", "*", rest)]
            if table == "entry":  # elsewhere the same row twice says nothing new
                new.append(("double", "*", (*rows, row)))
            if number:
                new.append(("older", "*", (*rest, rows[number - 1])))
            for column, value in row.items():
                new.append(("flip", column, (*rest, {**row, column: flipped(value)})))
                new.append(("delete", column, (*rest, {**row, column: None})))
                if number + 1 < len(rows):
                    other = rows[number + 1]
                    swapped = ({**row, column: other[column]}, {**other, column: value})
                    new.append(("swap", column, (*rows[:number], *swapped, *rows[number + 2 :])))
                older = next((item[column] for item in reversed(rows[:number]) if item[column] != value), value)
                new.append(("older", column, (*rest, {**row, column: older})))
            before = listed(rows)
            for how, column, after in new:
                if listed(after) != before:
                    yield Mutation(table, how, column, number, after)


def told(place: Place, trust: TrustFile, wrap: Callable[[Store], Store], *, anew: bool) -> set[str]:
    """What an auditor is told; any error but these, which name the damage, fails the test."""
    try:
        store = place.fresh() if anew else place.open()
        report = Ledger(wrap(store)).verify(trust)
    except (LedgerUnreadable, Tampered) as error:  # Tampered: an archive that does not fit what the database says of it
        return {str(error)}
    assert report.findings or report.outcome in (Outcome.HOLDS, Outcome.UNPROVEN)
    return {str(item) for item in report.findings} or ({"unproven"} if report.outcome is Outcome.UNPROVEN else set())


@dataclass
class Score:
    caught: Counter[str]
    missed: list[Mutation]

    @property
    def text(self) -> str:
        tables: dict[str, list[int]] = {}
        for table, count in self.caught.items():
            tables.setdefault(table, [0, 0])[0] = count
        for mutation in self.missed:
            tables.setdefault(mutation.table, [0, 0])[1] += 1
        total = sum(self.caught.values())
        each = ", ".join(f"{name} {c}/{c + m}" for name, (c, m) in sorted(tables.items()))
        return f"mutations caught: {total}/{total + len(self.missed)} ({each})"


def run(
    place: Place,
    trust: TrustFile,
    chosen: Callable[[Row], bool] = lambda _: True,
    wrap: Callable[[Store], Store] = lambda store: store,
) -> Score:
    before = place.read()
    assert set(before) <= KNOWN, "a new table: say here who watches it"
    assert told(place, trust, wrap, anew=False) == set()
    place.strip()
    known = told(place, trust, wrap, anew=False)
    assert all("guard" in text or "trigger" in text for text in known), "without guards it is the same ledger"
    score = Score(Counter(), [])
    for mutation in mutations({table: rows for table, rows in before.items() if table not in DERIVED}, chosen):
        place.write({mutation.table: list(mutation.rows)})
        if told(place, trust, wrap, anew=mutation.table == "meta") <= known:
            score.missed.append(mutation)
        else:
            score.caught[mutation.table] += 1
        place.write({mutation.table: before[mutation.table]})
    assert place.read() == before
    assert told(place, trust, wrap, anew=False) == known
    return score


APART = {
    "checkpoint": "a kept checkpoint that is lost only widens the exposure window, which the report states",
    "digest": "names a kept note for its key; nobody reads it",
    "entry_subject": "the search index of detached entries: what is read and proven comes from the archive",
    "roles": "the prefix of the roles' names, read by `cognify ledger init` only",
    "server_clock": "whose clock is used from now on",
    "erased": "there is nothing left in an erased payload's row",
}


def apart(mutation: Mutation, before: Tables, archived: int = 0) -> str | None:
    """Why a mutation harms neither an entry, a payload, a proof nor a head; None if it may."""
    row = before[mutation.table][mutation.row]
    if mutation.table == "checkpoint" and mutation.column == "*":
        return "checkpoint"
    if (mutation.table, mutation.column) == ("checkpoint", "digest"):
        return mutation.column
    if mutation.table == "entry_subject" and row["seq"] < archived:
        return "entry_subject"
    if mutation.table == "meta" and row["key"] in ("roles", "server_clock"):
        return str(row["key"])
    if mutation.table == "payload" and row["bytes"] is None and mutation.column in ("*", "seq"):
        return "erased"
    return None


def judge(score: Score, before: Tables, archived: int = 0) -> None:
    print(score.text)
    reasons = Counter(apart(mutation, before, archived) for mutation in score.missed)
    for reason, count in reasons.items():
        print(f"  counted apart: {count}: {APART[reason] if reason else 'MISSED'}")
    assert [str(mutation) for mutation in score.missed if apart(mutation, before, archived) is None] == []


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No erasure is being carried out here that would have to be waited for."""
    monkeypatch.setattr(erasures, "PATIENCE_S", 0.0)


def test_every_stored_column_is_watched(new_place: Callable[..., Place], tmp_path: Path) -> None:
    from tests.ledger.drafts import ORIGIN

    world = build(new_place(ORIGIN), tmp_path / "keys")
    ledger = world.ledger(signer=True)
    ledger.append(draft(70, kind="payload_erased", facts={"seq": 3, "basis": "Art. 17"}, subjects=("erasures",)))
    ledger.store.erase([3])
    ledger.sign_checkpoint()
    before = world.place.read()
    score = run(world.place, world.trust)
    judge(score, before)
    assert sum(score.caught.values()) > 250


def test_every_stored_column_of_a_ledger_with_an_archived_segment_is_watched(
    new_place: Callable[..., Place], tmp_path: Path
) -> None:
    """The first 256 entries are detached: their receipts, the segment and the upper tree stay in the database."""
    place = new_place(archive_world.ORIGIN)
    store = place.open()
    archive_world.fill(store, 258)
    archive_world.checkpoint(store, 258)
    archive = archive_world.export(store, tmp_path / "segment", 0, 256)
    archive_world.detach(store, archive)
    note = signed_head(store, archive)
    store.add_checkpoint(store.size(), note)
    trust = TrustFile((archive_world.log_key(),), None)

    def wrap(opened: Store) -> Store:
        return ArchivedStore(opened, [archive])

    everything = os.environ.get("COGNIFY_MUTATIONS") == "all"

    def chosen(row: Row) -> bool:
        seq = row.get("seq", 256)
        return everything or seq >= 256 or seq in (0, 128, 255)

    before = place.read()
    score = run(place, trust, chosen, wrap)
    judge(score, before, archived=256)


def signed_head(store: Store, archive: Archive) -> str:
    """A signed head over all entries, archived ones included."""
    from cognify_dagster.ledger import Checkpoint, sign_note

    root = Ledger(ArchivedStore(store, [archive])).root(store.size())
    head = Checkpoint(store.origin, store.size(), root)
    return sign_note(head.text(), store.origin, archive_world.LOG)
