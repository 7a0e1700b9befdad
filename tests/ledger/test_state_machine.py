"""Random histories of one ledger against a naive Merkle tree that shares no code with the product.

The model is the list of leaf hashes in the order in which appends were acknowledged; roots and proofs are worked out from it
by the definitions of RFC 6962 §2.1, recursively. COGNIFY_HISTORIES and COGNIFY_STEPS choose how many histories and how long;
Postgres, where each takes longer, goes through a quarter of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cognify_dagster.ledger import (
    Checkpoint,
    IdempotencyConflict,
    Ledger,
    LedgerFull,
    LedgerUnreadable,
    LogSigner,
    Outcome,
    Report,
    Tampered,
    TrustFile,
    VerifierKey,
    new_secret,
    parse_note,
)
from cognify_dagster.ledger.archive.detaching import ArchivedStore, attach_segment, detach_segment
from cognify_dagster.ledger.archive.export import export_archive
from cognify_dagster.ledger.archive.reader import Archive, open_archive
from cognify_dagster.ledger.verification.state import StateFile
from cognify_dagster.ledger.witness import AddCheckpoint, Witness, WitnessKey, WitnessStore
from tests.attacks.places import Place, PostgresPlace, SqlitePlace, Tables, cut
from tests.ledger.archive_world import MANIFEST_KEYS, SIGNER
from tests.ledger.drafts import ORIGIN, Clock, draft

HISTORIES = int(os.environ.get("COGNIFY_HISTORIES", "8"))
STEPS = int(os.environ.get("COGNIFY_STEPS", "25"))
SEGMENT = 256


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split(count: int) -> int:
    """The largest power of two below."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha(b"\x01" + mth(leaves[:k]) + mth(leaves[k:]))


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), mth(leaves[k:])]
    return [*path(index - k, leaves[k:]), mth(leaves[:k])]


def subproof(size: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if size <= k:
        return [*subproof(size, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(size - k, leaves[k:], False), mth(leaves[:k])]


# --- what an insider may do to the first `size` entries, which a signed head covers ---


def edit(column: str, change: Callable[[Any], Any], table: str = "entry") -> Callable[[Tables, int], None]:
    def attack(tables: Tables, seq: int) -> None:
        for row in tables[table]:
            if row["seq"] == seq:
                row[column] = change(row[column])

    return attack


def remove(table: str) -> Callable[[Tables, int], None]:
    def attack(tables: Tables, seq: int) -> None:
        tables[table] = [row for row in tables[table] if row["seq"] != seq]

    return attack


def exchange(tables: Tables, seq: int) -> None:
    """Exchange the bytes of an entry with those of another one."""
    first = next(row for row in tables["entry"] if row["seq"] == seq)
    second = next(row for row in tables["entry"] if row["seq"] != seq)
    first["bytes"], second["bytes"] = second["bytes"], first["bytes"]


TAMPERINGS: dict[str, Callable[[Tables, int], None]] = {
    "bytes": edit("bytes", lambda value: value.replace(b'"v":1', b'"v":2')),
    "kind": edit("kind", lambda _: "quiet"),
    "time": edit("time_us", lambda value: value - 1),
    "leaf": edit("leaf", lambda _: bytes(32)),
    "payload": edit("bytes", lambda _: b'{"facts":{},"observed":{}}', "payload"),
    "salt": edit("salt", lambda _: bytes(32), "payload"),
    "subject": edit("subjects", lambda _: "model/hidden"),
    "row": remove("entry"),
    "payload row": remove("payload"),
    "exchange": exchange,
    "cut": cut,
}


def hide_subject(tables: Tables, seq: int) -> None:
    """Change the search copy of an entry's subjects, wherever a store keeps it."""
    table, column = ("entry", "subjects") if "subjects" in tables["entry"][0] else ("entry_subject", "subject")
    edit(column, lambda _: "model/hidden", table)(tables, seq)


TAMPERINGS["subject"] = hide_subject


class Histories(RuleBasedStateMachine):
    def new_place(self) -> Place:
        """Where the ledger of this history lies."""
        return SqlitePlace(self.folder / "ledger.sqlite")

    def copied(self) -> tuple[Place, Tables]:
        """A second place without guards for a changed copy, and the rows of this one."""
        copy = SqlitePlace.__new__(SqlitePlace)
        copy.path = self.folder / "copy.sqlite"
        shutil.copy(self.folder / "ledger.sqlite", copy.path)
        tables = copy.read()
        copy.strip()
        return copy, tables

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-machine-"))
        self.clock = Clock()
        self.leaves: list[bytes] = []
        self.numbers: list[int] = []
        self.next = 0
        self.moves = 0
        self.keys: list[Path] = []
        self.published: list[VerifierKey] = []
        self.note: str | None = None
        self.signed = 0
        self.witnessed = 0
        self.erased: set[int] = set()
        self.archives: list[Archive] = []
        self.place = self.new_place()
        self.witness_key = WitnessKey.create(self.folder / "w.key", "witness.example/audit")
        WitnessStore.create(self.folder / "w.sqlite", self.witness_key.verifier)
        self.new_key()
        self.reopen()
        # a start from which every rule but `attach` can be reached at once
        self.append_many(5)
        self.sign()
        self.witness()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.place.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- helpers ---

    def reopen(self) -> None:
        """Forget everything that a process holds in memory."""
        self.signer = LogSigner(self.keys[-2:], self.folder / "signer.json", ORIGIN)
        self.published = list(dict.fromkeys([*self.published, *self.signer.verifiers]))
        store = ArchivedStore(self.place.fresh(), self.archives)
        self.ledger = Ledger(store, signer=self.signer, clock_us=self.clock)

    def new_key(self) -> None:
        self.keys.append(self.folder / f"log-{len(self.keys)}.key")
        new_secret(self.keys[-1])

    def fresh(self, count: int) -> list[int]:
        self.next += count
        return list(range(self.next - count, self.next))

    def draft(self, number: int) -> Any:
        return draft(number, subjects=(f"model/m{number % 4}", "policy") if number % 3 else ("model/m0",))

    def acknowledged(self, numbers: list[int], receipts: list[Any]) -> None:
        for number, receipt in zip(numbers, receipts, strict=True):
            assert (receipt.seq, receipt.duplicate) == (len(self.leaves), False)
            self.leaves.append(receipt.leaf)
            self.numbers.append(number)

    def about_itself(self, kind: str, facts: dict[str, Any]) -> Any:
        (number,) = self.fresh(1)
        receipt = self.ledger.append(draft(number, kind=kind, facts=facts, subjects=("ledger",)))
        self.acknowledged([-1], [receipt])  # not repeated by `retry`
        return receipt

    def trust(self) -> TrustFile:
        return TrustFile(tuple(self.published), self.leaves[0] if self.leaves else None)

    def sound(self, report: Report) -> None:
        """No false alarm: nothing is found but that there is nothing yet."""
        bad = [item for item in report.findings if item.outcome is not Outcome.UNPROVEN]
        assert bad == []
        assert report.outcome is (Outcome.HOLDS if self.signed else Outcome.UNPROVEN)
        assert report.uncovered == len(self.leaves) - self.signed

    # --- what happens ---

    @rule()
    def append(self) -> None:
        numbers = self.fresh(1)
        self.acknowledged(numbers, [self.ledger.append(self.draft(numbers[0]))])

    @rule(count=st.integers(2, 9))
    def append_many(self, count: int) -> None:
        numbers = self.fresh(count)
        self.acknowledged(numbers, self.ledger.append_many([self.draft(number) for number in numbers]))

    @precondition(lambda self: len(self.leaves) < 600)
    @rule()
    def append_a_segment(self) -> None:
        numbers = self.fresh(SEGMENT)
        self.acknowledged(numbers, self.ledger.append_many([self.draft(number) for number in numbers]))

    @precondition(lambda self: any(number >= 0 for number in self.numbers))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """The same step again: its old receipt; of an erased one a refusal; never a second entry."""
        seq = data.draw(st.sampled_from([seq for seq, number in enumerate(self.numbers) if number >= 0]))
        try:
            receipt = self.ledger.append(self.draft(self.numbers[seq]))
        except IdempotencyConflict:
            assert seq in self.erased
            return
        assert seq not in self.erased
        assert (receipt.seq, receipt.leaf, receipt.duplicate) == (seq, self.leaves[seq], True)

    @rule()
    def crash(self) -> None:
        self.reopen()

    @precondition(lambda self: self.leaves)
    @rule()
    def crash_while_signing(self) -> None:
        """The signer's state is kept, the note is not: a stricter signer, no second head of that size."""

        def full(*_: Any) -> None:
            raise LedgerFull("no space left")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.ledger.store.store, "add_checkpoint", full)
            with pytest.raises(LedgerFull):
                self.ledger.sign_checkpoint()
        self.reopen()
        assert self.signer.last_signed() == Checkpoint(ORIGIN, len(self.leaves), mth(self.leaves))

    @precondition(lambda self: self.leaves)
    @rule()
    def sign(self) -> None:
        self.note = self.ledger.sign_checkpoint()
        self.signed = len(self.leaves)
        assert Checkpoint.parse(parse_note(self.note).text) == Checkpoint(ORIGIN, self.signed, mth(self.leaves))

    @precondition(lambda self: self.note is not None)
    @rule()
    def witness(self) -> None:
        assert self.note is not None
        store = WitnessStore(self.folder / "w.sqlite", self.witness_key.verifier)
        witness = Witness(store, self.witness_key, self.published)
        proof = subproof(self.witnessed, self.leaves[: self.signed], True) if 0 < self.witnessed < self.signed else []
        answer = witness.add_checkpoint(AddCheckpoint(self.witnessed, tuple(proof), self.note).body())
        assert answer.status == 200
        self.witnessed = self.signed
        self.ledger.store.add_checkpoint(self.signed, self.note + answer.body.decode())

    @precondition(lambda self: self.leaves and len(self.keys) < 5)
    @rule()
    def rotate(self) -> None:
        old = self.signer.verifier
        self.new_key()
        self.reopen()
        facts = {"new": str(self.signer.verifier), "old": str(old), "overlap_until_size": len(self.leaves) + 100}
        self.about_itself("log_key_rotated", facts)

    @property
    def erasable(self) -> list[int]:
        return [
            seq for seq in range(self.detached, len(self.leaves)) if seq not in self.erased and self.numbers[seq] >= 0
        ]

    @precondition(lambda self: self.erasable)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(self.erasable))
        self.about_itself("payload_erased", {"seq": seq, "basis": "Art. 17"})
        self.ledger.store.erase([seq])
        self.erased.add(seq)

    @property
    def detached(self) -> int:
        return SEGMENT * len(self.archives)

    @precondition(lambda self: self.signed > self.detached + SEGMENT)
    @rule()
    def detach(self) -> None:
        start, end = self.detached, self.detached + SEGMENT
        folder = self.folder / f"segment-{self.next}-{start}"
        export_archive(self.ledger.store, folder, start, end, signer=SIGNER, log_keys=self.published)
        archive = open_archive(folder, manifest_keys=MANIFEST_KEYS, log_keys=self.published, origin=ORIGIN)

        def record(found: Archive) -> Any:
            facts = {"end": end, "manifest": found.manifest, "root": found.root.hex(), "start": start}
            return self.about_itself("segment_archived", facts)

        detach_segment(self.ledger.store, archive, record)
        self.archives.append(archive)
        self.reopen()

    @precondition(lambda self: self.archives)
    @rule()
    def attach(self) -> None:
        attach_segment(self.ledger.store, self.archives.pop())
        self.reopen()

    @precondition(lambda self: self.signed > self.detached + 1)
    @rule(data=st.data(), how=st.sampled_from(sorted(TAMPERINGS)))
    def tamper(self, data: st.DataObject, how: str) -> None:
        """On a copy, below the signed head: always found."""
        seq = data.draw(st.integers(self.detached, self.signed - 1))
        if how in ("payload", "payload row", "salt") and seq in self.erased:
            return
        copy, tables = self.copied()
        TAMPERINGS[how](tables, seq)
        copy.write(tables)
        try:
            store = ArchivedStore(copy.open(), self.archives)
            outcome = Ledger(store).verify(self.trust(), remembered=[("a kept note", str(self.note))]).outcome
        except (LedgerUnreadable, Tampered):
            outcome = Outcome.TAMPERED
        assert outcome in (Outcome.TAMPERED, Outcome.ROLLED_BACK), f"{how} at {seq}: {outcome}"

    # --- what always holds ---

    @rule()
    def verify_since(self) -> None:
        if self.signed:
            report = self.ledger.verify(self.trust(), since=StateFile(self.folder / "auditor.json"))
            assert report.findings == ()

    @invariant()
    def verification_raises_no_alarm(self) -> None:
        if self.leaves:
            self.sound(Ledger(self.ledger.store).verify(self.trust()))

    @invariant()
    def root_and_proofs_are_those_of_the_model(self) -> None:
        size = len(self.leaves)
        assert self.ledger.size() == size
        assert self.ledger.root(size) == mth(self.leaves)
        if not size:
            return
        self.moves += 1
        for index in {0, size // 3, (2 * size) // 3, size - 1, self.moves * 31 % size}:
            row = next(iter(self.ledger.store.entries(index, index + 1)))
            assert sha(b"\x00" + row.data) == self.leaves[index]
            assert self.ledger.inclusion(index, size) == path(index, self.leaves)
            assert self.ledger.consistency(index + 1, size) == subproof(index + 1, self.leaves, True)


class PostgresHistories(Histories):
    """The same in a schema of a Postgres server."""

    scratch: ClassVar[list[PostgresPlace]] = []

    def new_place(self) -> Place:
        return PostgresPlace()

    def copied(self) -> tuple[Place, Tables]:
        if not self.scratch:
            self.scratch.append(PostgresPlace())
            self.scratch[0].strip()
        assert isinstance(self.place, PostgresPlace)
        return self.scratch[0], self.place.read()


@pytest.fixture(scope="module", autouse=True)
def _no_scratch_left() -> Iterator[None]:
    yield
    while PostgresHistories.scratch:
        PostgresHistories.scratch.pop().close()


def _settings(histories: int) -> settings:
    return settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


Histories.TestCase.settings = _settings(HISTORIES)
PostgresHistories.TestCase.settings = _settings(max(2, HISTORIES // 4))
TestHistories = Histories.TestCase
TestPostgresHistories = pytest.mark.postgres(PostgresHistories.TestCase)
MACHINES = [Histories, pytest.param(PostgresHistories, marks=pytest.mark.postgres)]


@pytest.mark.parametrize("machine", MACHINES)
@settings(max_examples=1, deadline=None, phases=[Phase.generate])  # nothing to shrink: the steps are given
@given(data=st.data())
def test_one_history_in_which_everything_happens(machine: type[Histories], data: st.DataObject) -> None:
    """However short the random histories are, each rule is gone through once, each tampering tried, each invariant checked."""
    world = machine()
    world.begin()

    def check() -> None:
        world.verification_raises_no_alarm()
        world.root_and_proofs_are_those_of_the_model()

    try:
        steps: list[Callable[[], Any]] = [world.append, lambda: world.append_many(4), lambda: world.retry(data)]
        steps += [world.crash, world.crash_while_signing, world.sign, world.witness, world.verify_since, world.rotate]
        steps += [world.sign, world.witness, lambda: world.erase(data), world.append_a_segment, world.sign]
        steps += [world.detach, world.append, world.sign, world.witness, world.verify_since]
        steps += [lambda how=how: world.tamper(data, how) for how in sorted(TAMPERINGS)]
        steps += [world.crash, world.attach, world.sign, lambda: world.tamper(data, "bytes"), world.verify_since]
        for step in steps:
            step()
            check()
        assert world.witnessed > 256
        assert len(world.keys) == 2
        assert len(world.erased) == 1
    finally:
        world.teardown()


def test_the_naive_model_is_that_of_the_rfc() -> None:
    """The three-leaf example by hand, and the empty tree."""
    a, b, c = (sha(b"\x00" + name) for name in (b"a", b"b", b"c"))
    ab = sha(b"\x01" + a + b)
    assert mth([]) == sha(b"")
    assert mth([a, b, c]) == sha(b"\x01" + ab + c)
    assert path(0, [a, b, c]) == [b, c]
    assert subproof(2, [a, b, c], True) == [c]
