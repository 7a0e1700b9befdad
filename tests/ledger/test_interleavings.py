"""Every interleaving of two writers, a signer that may crash, a witness, backups and restores: an explicit-state search.

The decisions are the product's own: `LogSigner.sign` over a real tree, `decide` of the witness. The state around them is small,
so that all of it is visited: which entries the database holds, what the signer and the witness remember, the backups, and the
heads that were ever signed or cosigned. Heads are written as the entries that they cover. A head counts as signed from the
moment that the signer's state holds it, though the note may have been lost: it may also have left. A signer that refuses a
database which lost entries puts the note of the head it remembers there: nothing new is signed, but a witness may meet it.

COGNIFY_MODEL chooses how many entries there are at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import Checkpoint, LedgerFull, LogSigner, Tampered, new_secret
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.merkle import EMPTY_ROOT, consistency_proof, root_at
from cognify_dagster.ledger.note import parse_note
from cognify_dagster.ledger.verification.scan import Position
from cognify_dagster.ledger.verification.state import SavedHeads
from cognify_dagster.ledger.witness import Head, Refusal, decide
from tests.ledger.drafts import ORIGIN, START, draft
from tests.ledger.memory_store import MemoryStore

LONGEST = int(os.environ.get("COGNIFY_MODEL", "4"))
Entries = str
"""Who appended each entry: "aab" is two entries of writer a and one of writer b. A signer or witness knows a head as such."""


@cache
def store(entries: Entries) -> MemoryStore:
    made = MemoryStore(ORIGIN)
    for seq, writer in enumerate(entries):
        body = seal_body(
            ORIGIN, draft(1000 * ord(writer) + seq, subjects=("model/a", f"model/{writer}")), salt=b"s" * 32
        )
        made.append(body, START + seq, None)
    return made


@cache
def head(entries: Entries) -> Head:
    return Head(len(entries), root_at(len(entries), store(entries).node) if entries else EMPTY_ROOT)


class Memory:
    """The signer's state file, in memory."""

    def __init__(self, kept: tuple[Position, dict[str, int]] | None) -> None:
        self.kept = kept

    def checkpoint(self) -> Checkpoint | None:
        return Checkpoint(ORIGIN, self.kept[0].size, self.kept[0].root) if self.kept else None

    def position(self) -> Position | None:
        return self.kept[0] if self.kept else None

    def heads(self, size: int) -> SavedHeads | None:
        if self.kept is None:
            return None
        heads = SavedHeads(None, size)
        heads.changed.update(self.kept[1])
        return heads

    def save(self, origin: str, position: Position, heads: Any) -> None:
        self.kept = (position, dict(heads.changed if isinstance(heads, SavedHeads) else heads))


class Signing:
    """The product's signer, asked about each pair of its memory and a database once."""

    def __init__(self, folder: Path) -> None:
        new_secret(folder / "log.key")
        self.signer = LogSigner(folder / "log.key", folder / "signer.json", ORIGIN)
        self.signer.exclusive = nullcontext  # type: ignore[method-assign,assignment]
        self.memories: dict[Entries, tuple[Position, dict[str, int]] | None] = {"": None}
        self.known: dict[tuple[Entries, Entries], tuple[bool, Entries | None]] = {}

    def asked(self, remembered: Entries, entries: Entries) -> tuple[bool, Entries | None]:
        """Whether a signer that remembers one head signs a database's, which it remembers from then on; and the head of which
        it kept a note there."""
        asked = (remembered, entries)
        if asked not in self.known:
            memory = Memory(self.memories[remembered])
            self.signer.state = memory  # type: ignore[assignment]
            notes: list[tuple[int, str]] = []
            target = store(entries)
            target.add_checkpoint = lambda size, text: notes.append((size, text))  # type: ignore[method-assign]
            try:
                self.signer.sign(target)
            except Tampered:
                assert memory.kept == self.memories[remembered], "a refusal changes nothing that the signer remembers"
                signed, expected = False, remembered if len(entries) < len(remembered) else None
            else:
                assert Checkpoint(ORIGIN, *vars_of(head(entries))) == memory.checkpoint()
                self.memories.setdefault(entries, memory.kept)
                signed, expected = True, entries
            # whatever it does, no note leaves the signer but of the head that it remembers now
            assert [(size, stated(note)) for size, note in notes] == (
                [] if expected is None else [(len(expected), memory.checkpoint())]
            )
            self.known[asked] = (signed, expected)
        return self.known[asked]


def stated(note: str) -> Checkpoint:
    return Checkpoint.parse(parse_note(note).text)


def vars_of(found: Head) -> tuple[int, bytes]:
    return found.size, found.root


@cache
def cosigns(remembered: Entries, asked: Entries) -> bool:
    """Whether the witness cosigns; it is given the best proof there is."""
    size = len(remembered)
    proof = consistency_proof(size, len(asked), store(asked).node) if 0 < size < len(asked) else []
    return not isinstance(decide(head(remembered), size, proof, head(asked)), Refusal)


@dataclass(frozen=True)
class State:
    database: Entries = ""
    signer: Entries = ""
    witness: Entries = ""
    notes: frozenset[Entries] = frozenset()
    """Signed notes kept in the database."""
    backup: tuple[Entries, frozenset[Entries]] | None = None
    signer_backup: Entries | None = None
    signed: frozenset[Entries] = frozenset()
    cosigned: frozenset[Entries] = frozenset()


def following(
    state: State, signing: Signing, longest: int, *, both: bool, remembers: bool, witness_remembers: bool
) -> Iterator[tuple[str, State]]:
    """Every next step. `both`: the signer's state is backed up and restored too."""
    if len(state.database) < longest:
        for writer in "ab" if state != State() else "a":  # who is called a makes no difference
            yield f"append {writer}", replace(state, database=state.database + writer)
    if state.database:
        signs, kept = signing.asked(state.signer if remembers else "", state.database)
        if signs:
            after = replace(state, signer=state.database, signed=state.signed | {state.database})
            yield "sign and crash before the note is kept", after
            yield "sign", replace(after, notes=after.notes | {state.database})
        elif kept is not None:
            yield "refuse, and keep the note signed last", replace(state, notes=state.notes | {kept})
    for note in state.notes:
        if cosigns(state.witness if witness_remembers else "", note):
            yield f"cosign {note}", replace(state, witness=note, cosigned=state.cosigned | {note})
    if state.backup is None:
        yield "back up", replace(state, backup=(state.database, state.notes), signer_backup=state.signer)
    else:
        restored = replace(state, database=state.backup[0], notes=state.backup[1])
        yield "restore the database", restored
        if both:
            yield "restore database and signer", replace(restored, signer=state.signer_backup or "")


def exclude(heads: frozenset[Entries]) -> bool:
    """Whether two heads contradict each other: neither is a prefix of the other."""
    ordered = sorted(heads, key=len)
    return any(not long.startswith(short) for short, long in pairwise(ordered))


def search(signing: Signing, longest: int, **how: bool) -> tuple[int, dict[str, list[str]]]:
    """Visit every reachable state; return their number and, for each rule broken, the shortest way there."""
    options = {"both": False, "remembers": True, "witness_remembers": True, **how}
    seen: dict[State, tuple[State, str] | None] = {State(): None}
    level, wrong = [State()], dict[str, list[str]]()
    while level:
        found = []
        for state in level:
            for step, after in following(state, signing, longest, **options):
                if after in seen:
                    continue
                seen[after] = (state, step)
                broken = [
                    rule
                    for rule, bad in (
                        ("the log signed two heads that exclude each other", exclude(after.signed)),
                        ("the witness cosigned two heads that exclude each other", exclude(after.cosigned)),
                        ("something was cosigned that was not signed", not after.cosigned <= after.signed),
                    )
                    if bad
                ]
                for rule in broken:
                    wrong.setdefault(rule, way(seen, after))
                if not broken or (
                    options["both"] and not exclude(after.cosigned)
                ):  # go on only where more can be learnt
                    found.append(after)
        level = found
    return len(seen), wrong


def way(seen: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps: list[str] = []
    while (before := seen[state]) is not None:
        state, step = before
        steps.append(step)
    return steps[::-1]


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    return Signing(tmp_path_factory.mktemp("signer"))


def test_no_crash_and_no_restored_database_makes_the_log_contradict_itself(signing: Signing) -> None:
    states, wrong = search(signing, LONGEST)
    print(f"{states} states of at most {LONGEST} entries")
    assert wrong == {}
    assert states > 5000


def test_where_the_signers_state_is_restored_too_the_witness_still_never_contradicts_itself(signing: Signing) -> None:
    """The signer alone cannot know it: that is why its state is not restored with the database, and why there is a witness."""
    states, wrong = search(signing, LONGEST - 2, both=True)
    print(f"{states} states of at most {LONGEST - 2} entries")
    assert list(wrong) == ["the log signed two heads that exclude each other"]
    (steps,) = wrong.values()
    assert "restore database and signer" in steps


def test_the_search_finds_what_the_two_memories_prevent(signing: Signing) -> None:
    assert "the log signed two heads that exclude each other" in search(signing, 2, remembers=False)[1]
    _, wrong = search(signing, 2, both=True, witness_remembers=False)
    assert "the witness cosigned two heads that exclude each other" in wrong


def test_a_crash_between_state_and_note_leaves_a_signer_that_goes_on(tmp_path: Path) -> None:
    """The same with files: after the crash the head is signed again, the same one; a shorter ledger is refused."""
    new_secret(tmp_path / "log.key")
    signer = LogSigner(tmp_path / "log.key", tmp_path / "signer.json", ORIGIN)
    lost = MemoryStore(ORIGIN)
    for seq in range(3):
        lost.append(seal_body(ORIGIN, draft(seq), salt=b"s" * 32), START, None)

    def full(*_: Any) -> None:
        raise LedgerFull("no space left")

    keep, lost.add_checkpoint = lost.add_checkpoint, full  # type: ignore[method-assign]
    with pytest.raises(LedgerFull):
        signer.sign(lost)
    assert lost.checkpoints() == []
    lost.add_checkpoint = keep  # type: ignore[method-assign]
    again = LogSigner(tmp_path / "log.key", tmp_path / "signer.json", ORIGIN)
    assert again.last_signed() == Checkpoint(ORIGIN, 3, root_at(3, lost.node))
    assert Checkpoint.parse(again.sign(lost).partition("\n\n")[0] + "\n") == again.last_signed()
    shorter = MemoryStore(ORIGIN)
    shorter.append(seal_body(ORIGIN, draft(0), salt=b"s" * 32), START, None)
    with pytest.raises(Tampered, match="rolled back"):
        again.sign(shorter)
    # the note signed before lies there now: whoever verifies or writes that database meets it
    assert [(size, stated(note)) for size, note in shorter.checkpoints()] == [(3, again.last_signed())]
