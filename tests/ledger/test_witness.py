"""A witness answers as tlog-witness says, remembers durably, and never cosigns two heads that exclude each other."""

from __future__ import annotations

import base64
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.ledger import (
    Checkpoint,
    LedgerError,
    LedgerUnreadable,
    NoteError,
    VerifierKey,
    leaf_hash,
    merkle_root,
    open_checkpoint,
    parse_note,
    sign_note,
)
from cognify_dagster.ledger.quorum import verify_cosignature
from cognify_dagster.ledger.witness import AddCheckpoint, Head, Refusal, Witness, WitnessKey, WitnessStore, decide
from tests.ledger.witness_factory import NOW, Log, new_witness, private

LOG = Log()
FORK = Log(history="b", fork=7)  # signed with the same key, another history from entry 7 on


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return new_witness(tmp_path, LOG)


def size_of(witness: Witness) -> int:
    return witness.store.remembered(LOG.origin)[0].size


# ---- the request


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.text(max_size=50))
def test_requests_round_trip(old: int, proof: list[bytes], note: str) -> None:
    request = AddCheckpoint(old, tuple(proof), note)
    assert AddCheckpoint.parse(request.body()) == request


HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n\n", b"old 1", b"old 1\n", b"old\n\nx", b"old 01\n\nx", b"old -1\n\nx", b"old 1 \n\nx", b"old 1\r\n\r\nx", b"OLD 1\n\nx",
        b"old 9223372036854775808\n\nx", b"old 99999999999999999999\n\nx", "old ١\n\nx".encode(), b"old 1\nAAAA\n\nx",
        f"old 1\n{HASH} \n\nx".encode(), f"old 1\n{HASH[:-2]}B=\n\nx".encode(), f"old 1\n{HASH[:-1]}\n\nx".encode(),
        ("old 1\n" + f"{HASH}\n" * 64 + "\nx").encode(), b"old 1\n\n\xff", b"old 1\n\n" + b"x" * 65_536,
    ],
)  # fmt: skip
def test_malformed_requests_are_400(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(NoteError):
        AddCheckpoint.parse(body)
    assert new_witness(tmp_path, LOG).add_checkpoint(body).status == 400


@pytest.mark.parametrize(
    "note",
    [
        "",
        "x",
        LOG.note(3)[:-1],
        LOG.note(3).replace("\n3\n", "\n03\n"),
        LOG.note(3).replace("\n3\n", "\n9223372036854775808\n"),
    ],
)
def test_malformed_checkpoints_are_400(note: str, witness: Witness) -> None:
    assert witness.add_checkpoint(f"old 0\n\n{note}".encode()).status == 400
    assert size_of(witness) == 0


# ---- the answers


def test_a_growing_log_is_cosigned_at_every_step(witness: Witness) -> None:
    old = 0
    for new in (0, 1, 1, 2, 3, 8, 8, 21, 40):
        answer = witness.add_checkpoint(LOG.request(old, new))
        assert (answer.status, answer.content_type) == (200, "text/plain; charset=utf-8")
        note = parse_note(LOG.note(new).encode() + answer.body)
        assert verify_cosignature(note.text, note.signatures[1], witness.key.verifier) == NOW
        assert size_of(witness) == new
        old = new


def test_the_first_checkpoint_may_have_any_size_and_needs_no_proof(witness: Witness) -> None:
    with_proof = AddCheckpoint(0, (bytes(32),), LOG.note(21)).body()
    assert witness.add_checkpoint(with_proof).status == 422
    assert witness.add_checkpoint(LOG.request(0, 21)).status == 200


def test_another_old_size_is_409_with_the_remembered_size(witness: Witness) -> None:
    witness.add_checkpoint(LOG.request(0, 8))
    for old, new in ((0, 21), (3, 21), (9, 21), (0, 8), (3, 5), (0, 0)):
        answer = witness.add_checkpoint(LOG.request(old, new))
        assert (answer.status, answer.body, answer.content_type) == (409, b"8\n", "text/x.tlog.size")
    assert size_of(witness) == 8


def test_an_old_size_above_the_checkpoints_is_400(witness: Witness) -> None:
    witness.add_checkpoint(LOG.request(0, 8))
    assert witness.add_checkpoint(LOG.request(8, 5)).status == 400
    assert size_of(witness) == 8


def test_a_proof_that_does_not_fit_is_422(witness: Witness) -> None:
    witness.add_checkpoint(LOG.request(0, 8))
    good = LOG.proof(8, 21)
    for proof in (good[:-1], [*good, good[0]], good[::-1], [bytes(32), *good[1:]], [], FORK.proof(8, 21)):
        body = AddCheckpoint(8, tuple(proof), LOG.note(21)).body()
        assert witness.add_checkpoint(body).status == 422
    assert witness.add_checkpoint(AddCheckpoint(8, (bytes(32),), LOG.note(8)).body()).status == 422
    assert size_of(witness) == 8
    assert witness.add_checkpoint(LOG.request(8, 21)).status == 200


def test_case_10_14_a_regrown_history_is_refused_also_with_the_logs_own_key(witness: Witness) -> None:
    witness.add_checkpoint(LOG.request(0, 8))
    assert witness.add_checkpoint(FORK.request(8, 21)).status == 422
    assert witness.add_checkpoint(FORK.request(8, 8)).status == 422
    assert witness.add_checkpoint(FORK.request(0, 21)).status == 409
    assert witness.store.remembered(LOG.origin)[0] == Head(8, LOG.head(8).root)


def test_case_17_an_older_ledger_is_refused(witness: Witness) -> None:
    witness.add_checkpoint(LOG.request(0, 21))
    assert witness.add_checkpoint(LOG.request(8, 13)).body == b"21\n"


def test_case_11_two_heads_of_one_size_are_kept_as_evidence(witness: Witness) -> None:
    witness.add_checkpoint(LOG.request(0, 8))
    assert witness.store.forks() == []
    for body in (FORK.request(8, 8), FORK.request(8, 8), FORK.request(0, 8)):  # also behind a wrong old size, kept once
        assert "FORK" in witness.add_checkpoint(body).about
    ((origin, size, _, ours, other),) = witness.store.forks()
    assert (origin, size) == (LOG.origin, 8)
    heads = {open_checkpoint(note, [LOG.key]).root for note in (ours, other)}
    assert heads == {LOG.head(8).root, FORK.head(8).root}


def test_only_the_key_of_the_log_opens_the_door(witness: Witness) -> None:
    stranger, impostor = Log("other.example/log"), Log(key="other")
    assert witness.add_checkpoint(stranger.request(0, 5)).status == 404
    assert witness.add_checkpoint(impostor.request(0, 5)).status == 403  # same name, other key: an unknown key
    forged = LOG.note(5).replace("\n5\n", "\n6\n")
    assert witness.add_checkpoint(f"old 0\n\n{forged}".encode()).status == 403
    assert size_of(witness) == 0
    unsigned_by_us = sign_note(LOG.head(5).text(), "other.example/log", stranger.private)
    assert witness.add_checkpoint(f"old 0\n\n{unsigned_by_us}".encode()).status == 403


def test_unknown_keys_beside_the_logs_are_ignored_and_not_kept(witness: Witness) -> None:
    foreign = sign_note(LOG.head(5).text(), "x.example/y", private("x")).split("\n\n")[1]
    answer = witness.add_checkpoint(f"old 0\n\n{LOG.note(5)}{foreign}".encode())
    assert answer.status == 200
    kept = parse_note(witness.store.remembered(LOG.origin)[1] or "")
    assert [line.name for line in kept.signatures] == [LOG.origin, witness.key.name]


def test_a_log_may_have_two_keys_while_one_replaces_the_other(tmp_path: Path) -> None:
    old, new, third = Log(), Log(key="second"), Log(key="third")
    witness = new_witness(tmp_path, old, new)
    assert witness.origins == (LOG.origin,)
    assert witness.add_checkpoint(old.request(0, 5)).status == 200
    assert witness.add_checkpoint(new.request(5, 8)).status == 200
    assert witness.add_checkpoint(third.request(8, 9)).status == 403


def test_logs_do_not_mix(tmp_path: Path) -> None:
    other = Log("bank.example/demo/fraud", history="c")
    witness = new_witness(tmp_path, LOG, other)
    assert witness.add_checkpoint(LOG.request(0, 8)).status == 200
    assert witness.add_checkpoint(other.request(0, 5)).status == 200
    assert witness.add_checkpoint(LOG.request(8, 9)).status == 200
    assert witness.store.heads() == [(LOG.origin, 9, NOW), (other.origin, 5, NOW)]
    with pytest.raises(NoteError):
        Witness(witness.store, witness.key, [])


def test_the_stated_time_never_goes_back(tmp_path: Path) -> None:
    witness = new_witness(tmp_path, LOG)
    times = []
    for old, new, now in ((0, 1, NOW), (1, 2, NOW - 1000), (2, 3, NOW + 5)):
        again = Witness(witness.store, witness.key, [LOG.key], clock=lambda now=now: now)
        note = parse_note(LOG.note(new).encode() + again.add_checkpoint(LOG.request(old, new)).body)
        times.append(verify_cosignature(note.text, note.signatures[1], witness.key.verifier))
    assert times == [NOW, NOW, NOW + 5]


def test_what_was_cosigned_last_can_be_asked_for(witness: Witness) -> None:
    import hashlib

    name = hashlib.sha256(LOG.origin.encode()).hexdigest()
    assert witness.head(name).status == 404
    witness.add_checkpoint(LOG.request(0, 8))
    answer = witness.head(name)
    assert answer.status == 200
    assert open_checkpoint(answer.body, [LOG.key]) == LOG.head(8)
    assert witness.head("0" * 64).status == 404


# ---- the decision


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.sampled_from("ab"), st.sampled_from("ab"))
def test_the_decision_agrees_only_to_heads_that_contain_the_remembered_one(
    remembered: int, old: int, new: int, first: str, second: str
) -> None:
    before, after = Log(history=first, fork=3), Log(history=second, fork=3)
    had = Head(remembered, before.head(remembered).root)
    asked = Head(new, after.head(new).root)
    decision = decide(had, old, after.proof(old, new), asked)
    if isinstance(decision, Head):
        assert decision == asked
        assert merkle_root(after.leaves[:remembered]) == had.root
        assert old == remembered <= new
    else:
        contained = old == remembered <= new and merkle_root(after.leaves[:remembered]) == had.root
        assert not contained
        assert decision.status == (400 if old > new else 409 if old != remembered else 422)
        assert decision.fork == (new == remembered and asked.root != had.root)


def test_an_empty_tree_has_one_root() -> None:
    assert decide(Head(), 0, [], Head()) == Head()
    refused = decide(Head(), 0, [], Head(0, leaf_hash(b"")))
    assert isinstance(refused, Refusal)
    assert refused.status == 422


# ---- key and memory


def test_key_files_are_private_and_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "w.key"
    key = WitnessKey.create(path, "risk.bank.example/w1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(WitnessKey.load(path).verifier) == str(key.verifier)
    assert VerifierKey.parse(str(key.verifier), 4) == key.verifier
    secret = path.read_text().split("+", 4)[4].strip()
    assert len(secret) == 44
    assert secret not in repr(key) + str(key)
    with pytest.raises(LedgerError, match="never overwritten"):
        WitnessKey.create(path, "risk.bank.example/w1")
    os.chmod(path, 0o640)
    with pytest.raises(LedgerUnreadable, match="chmod 600"):
        WitnessKey.load(path)
    with pytest.raises(LedgerUnreadable, match="cannot be read"):
        WitnessKey.load(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "a", "a b", "a+b", "é.example/w", "a\nb", "/x/y", "w" * 201])
def test_odd_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NoteError):
        WitnessKey.create(tmp_path / "w.key", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [("PRIVATE", "PUBLIC"), ("w1+", "w2+"), ("+BA", "+AQ"), ("+", ""), ("=", "=x")])
def test_damaged_key_files_are_refused_without_showing_them(tmp_path: Path, change: tuple[str, str]) -> None:
    path = tmp_path / "w.key"
    WitnessKey.create(path, "risk.bank.example/w1")
    text = path.read_text()
    secret = text.strip().split("+", 4)[4]
    path.write_text(text.replace(*change) if change[0] in text else text[:60])
    with pytest.raises(LedgerUnreadable) as caught:
        WitnessKey.load(path)
    assert secret[4:] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_is_never_used_with_another_or_a_lost_memory(tmp_path: Path, witness: Witness) -> None:
    with pytest.raises(LedgerUnreadable, match="missing"):
        WitnessStore(tmp_path / "none.db", witness.key.verifier)
    other = WitnessKey.create(tmp_path / "o.key", "other.example/w")
    with pytest.raises(LedgerUnreadable, match="another witness key"):
        WitnessStore(witness.store.path, other.verifier)
    with pytest.raises(LedgerError, match="never overwritten"):
        WitnessStore.create(witness.store.path, witness.key.verifier)
    assert witness.store.path.stat().st_mode & 0o777 == 0o600
    for data in (b"", b"no database at all, but long enough to be looked at" * 50):
        foreign = tmp_path / "foreign.db"
        foreign.write_bytes(data)
        with pytest.raises(LedgerUnreadable):
            WitnessStore(foreign, witness.key.verifier)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE head SET size = 3", "DELETE FROM head", "INSERT OR REPLACE INTO head SELECT origin, 1, root, time, note FROM head",
        "UPDATE head SET origin = 'x'",
    ],
)  # fmt: skip
def test_the_memory_resists_going_back(witness: Witness, statement: str) -> None:
    witness.add_checkpoint(LOG.request(0, 8))
    with sqlite3.connect(witness.store.path) as db, pytest.raises(sqlite3.IntegrityError, match="a witness never"):
        db.execute(statement)
    assert size_of(witness) == 8


def test_what_cannot_be_kept_is_not_cosigned(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    witness.add_checkpoint(LOG.request(0, 8))
    with sqlite3.connect(witness.store.path) as db:
        db.execute("CREATE TRIGGER full BEFORE UPDATE ON head BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    answer = witness.add_checkpoint(LOG.request(8, 9))
    assert answer.status == 500
    assert b"\xe2\x80\x94" not in answer.body
    assert str(witness.store.path) not in answer.body.decode()
    with sqlite3.connect(witness.store.path) as db:
        db.execute("DROP TRIGGER full")
    assert size_of(witness) == 8
    assert witness.add_checkpoint(LOG.request(8, 9)).status == 200


def test_a_checkpoint_is_cosigned_with_its_extension_lines(witness: Witness) -> None:
    text = LOG.head(5).text() + "extension line\n"
    note = sign_note(text, LOG.origin, LOG.private)
    answer = witness.add_checkpoint(f"old 0\n\n{note}".encode())
    parsed = parse_note(note.encode() + answer.body)
    assert parsed.text == text
    assert verify_cosignature(text, parsed.signatures[1], witness.key.verifier) == NOW
    assert Checkpoint.parse(parsed.text) == LOG.head(5)


def test_the_page_names_the_true_limits_and_answers() -> None:
    import re

    from cognify_dagster.ledger.witness import server
    from cognify_dagster.ledger.witness.client import Verdict
    from cognify_dagster.ledger.witness.request import MAX_BODY, MAX_PROOF, SIZE_TYPE
    from cognify_dagster.ledger.witness.state import _MAX_FORKS

    page = (Path(__file__).parents[2] / "docs/witness.md").read_text(encoding="utf-8")
    for text in (f"{MAX_BODY:,} bytes", f"up to {MAX_PROOF} lines", SIZE_TYPE, f"take {server.TIMEOUT_S:.0f} seconds", f"connection {server.MAX_AGE_S:.0f} seconds",
                 f"{server.MAX_CONNECTIONS} connections", f"up to {_MAX_FORKS} a ledger", "127.0.0.1:7380"):  # fmt: skip
        assert text in page, text
    rows = re.findall(r"^\| `([a-z_]+)` \|", page, re.M)
    assert rows == [verdict.value for verdict in Verdict]
