"""Attacks on the stored ledger, by their number in `catalogue.py`; each names what detects it. The rest of the catalogue is
tested where it belongs, see there. Outcomes are also exit codes: TAMPERED 1, ROLLED_BACK 2, UNREADABLE 3, UNPROVEN 4."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import (
    Checkpoint,
    EntryError,
    Ledger,
    LedgerError,
    LedgerUnreadable,
    LogSigner,
    Outcome,
    Report,
    SqliteStore,
    Tampered,
    TrustFile,
    VerifierKey,
    canonical_json,
    leaf_hash,
    merkle_root,
    new_secret,
    sign_note,
)
from cognify_dagster.ledger.errors import CanonicalJsonError
from cognify_dagster.ledger.verification.verify import Anchored
from cognify_dagster.ledger.witness import AddCheckpoint, Witness, WitnessKey, WitnessStore
from tests.attacks.places import Place, Row, SqlitePlace, Tables, World, build, cut
from tests.ledger.drafts import ORIGIN, Clock, draft


def one(tables: Tables, table: str, **match: Any) -> Row:
    (row,) = [row for row in tables[table] if all(row[key] == value for key, value in match.items())]
    return row


def entry(tables: Tables, seq: int) -> Row:
    return one(tables, "entry", seq=seq)


def edited(data: bytes) -> bytes:
    """An entry's bytes telling another story of the same length."""
    assert b"training_run" in data
    return data.replace(b"training_run", b"training_fun")


def says(report: Report, pattern: str, seq: int | None = None) -> bool:
    return any(re.search(pattern, item.message) and (seq is None or item.seq == seq) for item in report.findings)


def rehashed(tables: Tables) -> None:
    """Recompute every stored leaf and tree node from the entries' bytes, as a careful insider does."""
    for row in tables["entry"]:
        row["leaf"] = leaf_hash(bytes(row["bytes"]))
    leaves = [row["leaf"] for row in tables["entry"]]
    for row in tables["node"]:
        first = row["idx"] << row["level"]
        row["hash"] = merkle_root(leaves[first : first + (1 << row["level"])])


def cosignature(folder: Path, name: str) -> WitnessKey:
    return WitnessKey.create(folder / f"{name}.key", f"witness.example/{name}")


def two_of_two(world: World, *keys: WitnessKey) -> TrustFile:
    named = tuple((key.name.rpartition("/")[2], key.verifier) for key in keys)
    return TrustFile(world.trust.logs, None, named, (("both", 2, tuple(name for name, _ in named)),), "both")


def asked(witness: Witness, ledger: Ledger, note: str, old: int) -> str:
    """Ask a witness in this process for its line; raise what it refuses with."""
    head = Checkpoint.parse(note.partition("\n\n")[0] + "\n")
    proof = tuple(ledger.consistency(old, head.size)) if 0 < old < head.size else ()
    answer = witness.add_checkpoint(AddCheckpoint(old, proof, note).body())
    if answer.status != 200:
        raise PermissionError(answer.status)
    return note + answer.body.decode()


def witness_of(world: World, key: WitnessKey) -> Witness:
    store = WitnessStore.create(world.folder / (key.name.replace("/", "_") + ".sqlite"), key.verifier)
    return Witness(store, key, list(world.trust.logs))


# --- what lies in a row ---


def test_01_the_bytes_of_an_entry_are_edited(world: World) -> None:
    """Leaf mismatch; the entry is named."""

    def attack(tables: Tables) -> None:
        row = entry(tables, 4)
        row["bytes"] = edited(row["bytes"])

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "leaf hash is not that of the entry's bytes", 4)
    assert report.intact_size == 3, "the first signed head still holds"


def test_02_the_bytes_of_a_payload_are_edited(world: World) -> None:
    """Salted commitment."""

    def attack(tables: Tables) -> None:
        row = one(tables, "payload", seq=4)
        row["bytes"] = row["bytes"].replace(b'"n":4', b'"n":5')

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "payload is not the one the entry commits to", 4)


@pytest.mark.parametrize("where", ["bytes", "column"])
def test_03_the_time_of_an_entry_is_edited(world: World, where: str) -> None:
    """In the bytes: leaf mismatch. In the search column alone: comparison of the column with the bytes."""

    def attack(tables: Tables) -> None:
        row = entry(tables, 4)
        if where == "bytes":
            old = str(row["time_us"]).encode()
            row["bytes"] = row["bytes"].replace(old, str(row["time_us"] + 1).encode())
        else:
            row["time_us"] += 1

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "leaf hash" if where == "bytes" else "search column 'time_us'", 4)


@pytest.mark.parametrize("column", ["kind", "subject"])
def test_04_a_search_column_is_edited_to_hide_a_row(world: World, column: str) -> None:
    """Comparison of the search columns with the bytes."""

    def attack(tables: Tables) -> None:
        if column == "kind":
            entry(tables, 4)["kind"] = "quiet"
        else:
            row = entry(tables, 4)
            if "subjects" in row:  # SQLite names them in the entry's row
                row["subjects"] = row["subjects"].replace("model/b", "model/hidden")
            else:
                one(tables, "entry_subject", seq=4, subject="model/b")["subject"] = "model/hidden"

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, f"search column '{column}", 4)


def test_05_the_last_row_is_deleted(world: World) -> None:
    """The signed head covers more than there is."""
    world.change(lambda tables: cut(tables, 6))
    report = world.report()
    assert report.outcome is Outcome.ROLLED_BACK
    assert says(report, r"covers 7 entries, the ledger has 6: entries 6\.\.6 were cut off")


def test_06_the_last_row_is_deleted_before_any_checkpoint_covers_it(world: World) -> None:
    """Nothing stored can show it: the exposure window said so before, and the receipt that the run kept convicts."""
    receipt = world.ledger().append(draft(50))
    before = world.report()
    assert (before.outcome, before.uncovered) == (Outcome.HOLDS, 1), "the report says how much is exposed"
    assert before.exposed_since_us == receipt.time_us
    world.change(lambda tables: cut(tables, 7))
    assert world.outcome() is Outcome.HOLDS, "a shorter honest ledger looks the same"
    store = world.place.open()
    assert store.find(draft(50).idem) is None
    assert store.size() < receipt.size, "the receipt names an entry that the ledger does not have"


@pytest.mark.parametrize("renumbered", [False, True], ids=["07_left_as_a_gap", "08_and_renumbered"])
def test_07_08_a_row_in_the_middle_is_deleted(world: World, renumbered: bool) -> None:
    """The gap; the number and the previous leaf inside the next entry's bytes; the signed root."""

    def attack(tables: Tables) -> None:
        for table in ("entry", "payload", "entry_subject"):
            tables[table] = [row for row in tables[table] if row["seq"] != 3]
            for row in tables[table]:
                row["seq"] -= renumbered and row["seq"] > 3
        if renumbered:
            leaves = [row["leaf"] for row in tables["entry"]]
            tables["entry"][3]["prev"] = leaves[2]
            rehashed(tables)

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "its bytes say sequence number 4" if renumbered else "entry 3 is missing before it")
    assert any(item.outcome is Outcome.ROLLED_BACK for item in report.findings), "and no signed root fits"


def test_09_two_rows_change_places(world: World) -> None:
    """The number and the previous leaf inside the bytes."""

    def attack(tables: Tables) -> None:
        for table in ("entry", "payload", "entry_subject"):
            for row in tables[table]:
                row["seq"] = {3: 4, 4: 3}.get(row["seq"], row["seq"])
            tables[table].sort(key=lambda row: row["seq"])

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "its bytes say sequence number 4", 3)


def test_10_the_ledger_is_cut_and_grown_again_with_other_content(world: World) -> None:
    """The signed head of the old history, wherever it is kept: here the auditor's copy; the signer refuses to go on."""
    kept = world.ledger().latest_checkpoint()
    assert kept is not None
    world.change(lambda tables: cut(tables, 3, checkpoints=True))
    grown = regrow(world, range(200, 206))
    assert grown.size() == 9, "longer than it was"
    alone = world.report()
    assert (alone.outcome, alone.signed_size) == (Outcome.HOLDS, 3), "alone it is an honest ledger with a long window"
    assert alone.uncovered == 6
    report = world.report(remembered=[("the auditor's copy", kept)])
    assert report.outcome is Outcome.ROLLED_BACK
    assert says(report, "the first 7 entries do not have the root that the auditor's copy signed")
    with pytest.raises(Tampered, match="history was rewritten"):
        world.ledger(signer=True).sign_checkpoint()


def regrow(world: World, numbers: Any) -> Ledger:
    """Append with the product itself on what the insider left."""
    ledger = world.ledger()
    ledger.append_many([draft(number) for number in numbers])
    return ledger


def test_12_a_number_is_taken_twice_or_the_ledger_begins_twice(world: World) -> None:
    """Guards and keys of the database refuse it (conformance suite); without them the verifier finds the row."""
    before = world.place.read()
    for seq in (0, 4):

        def attack(tables: Tables, seq: int = seq) -> None:
            tables["entry"] = [*before["entry"], dict(entry(before, seq))]

        world.change(attack)
        report = world.report()
        assert report.outcome is Outcome.TAMPERED
        assert says(report, "out of order|missing|found")


def test_13_everything_is_rewritten_and_rehashed_without_the_key(world: World, new_place: Callable[..., Place]) -> None:
    """A consistent other history: the old signed heads do not fit, and a head by another key is no head."""
    before = world.place.read()["checkpoint"]
    other = build(new_place(), world.folder / "other", 9)
    assert other.outcome() is Outcome.HOLDS
    forged = World(other.place, other.folder, other.signer, world.trust, other.receipts)
    assert forged.outcome() is Outcome.TAMPERED
    assert says(forged.report(), "no key of the trust file signed it|no signature")
    forged.change(lambda tables: tables.update(checkpoint=before))
    report = forged.report()
    assert report.outcome is Outcome.ROLLED_BACK
    assert says(report, "history was rewritten")
    forged.change(lambda tables: tables.update(checkpoint=[]))
    assert forged.outcome() is Outcome.ROLLED_BACK, "the trust file pins the first entry"
    without = World(other.place, other.folder, other.signer, TrustFile(world.trust.logs, None), other.receipts)
    assert without.outcome() is Outcome.UNPROVEN


# --- stolen keys and other heads ---


def test_15_a_stolen_log_key_rewrites_only_what_no_witness_covers(world: World) -> None:
    """The exposure window is what the thief has; the receipts of the runs convict."""
    audit, risk = cosignature(world.folder, "audit"), cosignature(world.folder, "risk")
    trust = two_of_two(world, audit, risk)
    ledger = world.ledger(signer=True)
    note = ledger.latest_checkpoint()
    assert note is not None
    for key in (audit, risk):
        note = asked(witness_of(world, key), ledger, note, 0)
    ledger.store.add_checkpoint(7, note)
    receipts = ledger.append_many([draft(300), draft(301)])
    kept = ledger.sign_checkpoint()  # signed, not yet cosigned
    honest = ledger.verify(trust)
    assert (honest.level, honest.witnessed_size, honest.uncovered) == ("L2", 7, 2)
    world.change(lambda tables: cut(tables, 7, checkpoints=True))
    forged = regrow(world, (400, 401))
    shutil.copy(world.folder / "log.key", world.folder / "stolen.key")
    thief = LogSigner(world.folder / "stolen.key", world.folder / "thief.json", ORIGIN)
    thief.sign(forged.store)
    report = world.ledger().verify(trust)
    assert (report.outcome, report.level, report.uncovered) == (Outcome.HOLDS, "L2", 2), "the window is stated"
    stored = {row.seq: row.leaf for row in forged.store.entries(7, 9)}
    assert all(stored[receipt.seq] != receipt.leaf for receipt in receipts), "each receipt contradicts the ledger"
    report = world.ledger().verify(trust, remembered=[("the run's metadata", kept)])
    assert report.outcome is Outcome.ROLLED_BACK


def test_16_the_log_key_and_one_witness_key_are_stolen(world: World, new_place: Callable[..., Place]) -> None:
    """The quorum needs the other witness too; what is anchored outside differs."""
    audit, risk = cosignature(world.folder, "audit"), cosignature(world.folder, "risk")
    trust = two_of_two(world, audit, risk)
    ledger = world.ledger()
    note = ledger.latest_checkpoint()
    assert note is not None
    honest = asked(witness_of(world, audit), ledger, note, 0)
    other = witness_of(world, risk)
    ledger.store.add_checkpoint(7, asked(other, ledger, honest, 0))
    assert ledger.verify(trust).level == "L2"
    head = Checkpoint(ORIGIN, 7, ledger.root(7))

    forged = Ledger(new_place().open(), clock_us=Clock())
    forged.append_many([draft(500 + number) for number in range(8)])
    thief = LogSigner(world.folder / "log.key", world.folder / "thief.json", ORIGIN)
    fake = thief.sign(forged.store)
    (world.folder / "thief").mkdir()
    twin = Witness(
        WitnessStore.create(world.folder / "thief" / "w.sqlite", audit.verifier), audit, list(world.trust.logs)
    )  # the stolen witness key with an empty memory cosigns anything
    forged.store.add_checkpoint(8, asked(twin, forged, fake, 0))
    with pytest.raises(PermissionError, match=r"409|422"):
        asked(other, forged, fake, 7)
    report = forged.verify(trust)
    assert report.outcome is Outcome.UNPROVEN
    assert says(report, "no checkpoint carries the witness quorum")
    anchored = [Anchored("the object lock", head, "2026-01-01T00:00:00Z")]
    assert forged.verify(trust, anchored=anchored).outcome is Outcome.ROLLED_BACK


def test_17_an_older_backup_is_played_back(world: World) -> None:
    """The signer's own state; a witness (409); whoever keeps a newer head."""
    older = world.place.read()
    ledger = world.ledger(signer=True)
    ledger.append(draft(60))
    kept = ledger.sign_checkpoint()
    world.change(lambda tables: tables.update(older))
    assert world.outcome() is Outcome.HOLDS, "alone an older ledger is an honest ledger"
    own = world.ledger(signer=True).verify(world.trust)
    assert own.outcome is Outcome.ROLLED_BACK
    assert says(own, "the signer's own memory covers 8 entries, the ledger has 7")
    assert world.outcome(remembered=[("run metadata", kept)]) is Outcome.ROLLED_BACK
    with pytest.raises(Tampered, match="rolled back"):
        world.ledger(signer=True).sign_checkpoint()


def test_18_a_database_file_is_copied_without_its_journal(tmp_path: Path) -> None:
    """In WAL mode the newest entries may lie in `-wal` alone: a copy without it is never "empty, therefore fine"."""
    world = build(SqlitePlace(tmp_path / "l.sqlite"), tmp_path / "keys", 0)
    trust = TrustFile(world.trust.logs, None)
    filled = build(SqlitePlace(tmp_path / "filled.sqlite"), tmp_path / "other", 5)
    tables = filled.place.read()
    path, copy = tmp_path / "l.sqlite", tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        for table in ("entry", "entry_subject", "payload", "node"):
            for row in tables[table]:
                marks = ", ".join("?" for _ in row)
                db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        assert db.execute("SELECT count(*) FROM entry").fetchone() == (5,)
        shutil.copy(path, copy)
    copied = Ledger(SqliteStore(copy))
    assert copied.size() == 0
    assert copied.verify(trust).outcome is Outcome.UNPROVEN
    whole = Ledger(SqliteStore(path), signer=world.signer)
    whole.sign_checkpoint()
    assert whole.verify(trust).outcome is Outcome.HOLDS
    copied.signer = world.signer
    report = copied.verify(trust)
    assert report.outcome is Outcome.ROLLED_BACK
    assert says(report, "the signer's own memory covers 5 entries, the ledger has 0")


@pytest.mark.parametrize("how", ["swapped", "copied across"])
def test_19_two_ledgers_are_swapped_or_mixed(world: World, new_place: Callable[..., Place], how: str) -> None:
    """The origin inside every entry and checkpoint."""
    origin = "bank.example/demo/other"
    other = build(new_place(origin), world.folder / "other")
    if how == "swapped":
        mixed = World(other.place, other.folder, other.signer, world.trust, other.receipts)
        report = mixed.report()
        assert report.outcome is Outcome.UNPROVEN
        assert says(report, f"the trust file is for the ledger {ORIGIN}, this one is {origin}")
        other.change(lambda tables: relabelled(tables, origin, ORIGIN))
        report = Ledger(other.place.fresh(ORIGIN)).verify(world.trust)
        assert report.outcome is Outcome.TAMPERED
        assert says(report, f"it belongs to ledger '{origin}', not '{ORIGIN}'", 0)
        return
    theirs = other.place.read()

    def attack(tables: Tables) -> None:
        for table in ("entry", "payload"):
            tables[table] = [row for row in tables[table] if row["seq"] != 6] + [
                row for row in theirs[table] if row["seq"] == 6
            ]

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, f"it belongs to ledger '{origin}'", 6)


def relabelled(tables: Tables, old: str, new: str) -> None:
    for row in tables["meta"]:
        row["value"] = row["value"].replace(old, new)


def test_20_the_cached_tree_is_edited(world: World) -> None:
    """The verifier compares it with the entries; appending refuses to build on it, or what it builds is found."""

    def attack(tables: Tables) -> None:
        for row in tables["node"]:
            row["hash"] = bytes(32)

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "the tree cache is wrong at node")
    with pytest.raises(Tampered):
        world.ledger(signer=True).sign_checkpoint()


def test_20_the_head_of_the_cached_tree_is_missing(world: World) -> None:
    """No append is built on a tree that lacks a node."""
    world.change(lambda tables: tables.update(node=[]))
    assert world.outcome() is Outcome.TAMPERED
    ledger = world.ledger()
    with pytest.raises(LedgerError):
        ledger.append_many([draft(number) for number in range(70, 80)])


def test_21_a_checkpoint_is_replaced_by_an_older_valid_one(world: World) -> None:
    """A note kept under another size is named; a lost newer one only widens the window, until somebody outside brings it."""
    kept = world.ledger().latest_checkpoint()
    assert kept is not None
    before = world.place.read()

    def replaced(tables: Tables) -> None:
        old, new = sorted(tables["checkpoint"], key=lambda row: row["size"])
        new["note"] = old["note"]

    world.change(replaced)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "the checkpoint kept as of size 7 is of another")
    world.change(lambda tables: tables.update(checkpoint=[row for row in before["checkpoint"] if row["size"] == 3]))
    assert (world.report().outcome, world.report().uncovered) == (Outcome.HOLDS, 4)
    world.change(lambda tables: cut(tables, 5))
    assert world.outcome(remembered=[("a checkpoint kept elsewhere", kept)]) is Outcome.ROLLED_BACK


def test_22_a_key_of_the_same_name(world: World) -> None:
    """Keys come from the trust file only: a line by another key of that name is ignored, and then nothing is signed."""
    stranger = Ed25519PrivateKey.generate()
    head = Checkpoint(ORIGIN, 7, world.ledger().root(7))
    world.change(lambda tables: tables.update(checkpoint=[]))
    world.place.open().add_checkpoint(7, sign_note(head.text(), ORIGIN, stranger))
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert (report.signed_size, report.level) == (0, None)
    own = TrustFile((VerifierKey(ORIGIN, stranger.public_key().public_bytes_raw()),), None)
    assert world.ledger().verify(own).level == "L1", "the note itself is sound: only the key is not trusted"


def test_27_a_bit_flips_in_a_leaf_before_it_is_signed(world: World) -> None:
    """The signer recomputes leaves from the entries' bytes."""
    world.ledger().append(draft(80))

    def attack(tables: Tables) -> None:
        row = entry(tables, 7)
        row["leaf"] = bytes([row["leaf"][0] ^ 1]) + row["leaf"][1:]
        for node in tables["node"]:
            if (node["idx"] + 1) << node["level"] == 8:
                node["hash"] = merkle_root([item["leaf"] for item in tables["entry"]][node["idx"] << node["level"] : 8])

    world.change(attack)
    with pytest.raises(Tampered, match="entry 7"):
        world.ledger(signer=True).sign_checkpoint()
    assert world.signer.last_signed() == Checkpoint(ORIGIN, 7, world.ledger().root(7))


def test_28_the_storage_cuts_a_long_value(world: World) -> None:
    """An entry is bounded before it is hashed; a value cut off afterwards does not fit its leaf."""
    with pytest.raises(EntryError):
        world.ledger().append(draft(81, subjects=tuple(f"model/{'x' * 100}{n}" for n in range(900))))

    def attack(tables: Tables) -> None:
        row = one(tables, "payload", seq=5)
        row["bytes"] = row["bytes"][:-1]
        row = entry(tables, 4)
        row["bytes"] = row["bytes"][:-1]

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert {4, 5} <= {item.seq for item in report.findings}


def test_29_no_precision_of_a_time_is_lost(new_place: Callable[..., Place]) -> None:
    """Times are whole microseconds and part of the hashed bytes, which are stored as they are."""
    ledger = Ledger(new_place().open(), clock_us=lambda: 1_760_000_000_123_457)
    receipt = ledger.append(draft(1))
    (row,) = ledger.store.entries(0, 1)
    assert receipt.time_us == row.time_us == 1_760_000_000_123_457
    assert b'"time_us":1760000000123457,' in row.data
    assert leaf_hash(row.data) == receipt.leaf


# --- what is handed in ---


def test_37_38_what_could_deceive_or_exhaust_is_refused_before_it_is_hashed(world: World) -> None:
    """Bounded errors, nothing stored: look-alike and control characters in identifiers, depth, size, many keys."""
    before = world.place.read()
    names = [
        "model/\u0430",
        "model/a\u202e",
        "model/a\n",
        "model/\ud800",
        "model/a\x00",
        "model/e\u0301",
        "Model/a",
        "",
    ]
    for name in names:
        with pytest.raises(LedgerError):
            world.ledger().append(draft(90, subjects=(name,)))
    for actor in ("person/\u0430da", "person/a\nb", "person/a\u200f", "\x00"):
        with pytest.raises(LedgerError):
            world.ledger().append(draft(90, actor=actor))
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(CanonicalJsonError):
        canonical_json({"facts": deep})
    many = b"{" + b",".join(b'"%07d":0' % n for n in range(1_000_000)) + b"}"
    for payload in (many, b'{"a":"' + b"x" * 100_000_000 + b'"}', b"[" * 10_000 + b"]" * 10_000, b'{"a":NaN}'):
        with pytest.raises(LedgerError):
            world.ledger().append(draft(90, payload=payload))
    assert world.place.read() == before


# --- guards, erasure, mixtures ---


def test_39_the_owner_of_a_file_edits_it_through_its_schema(tmp_path: Path) -> None:
    """`writable_schema` takes the triggers away without a DROP; verification is what is left."""
    world = build(SqlitePlace(tmp_path / "l.sqlite"), tmp_path / "keys")
    with closing(sqlite3.connect(tmp_path / "l.sqlite", isolation_level=None)) as db:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute("UPDATE entry SET kind = 'quiet' WHERE seq = 4")
        db.execute("PRAGMA writable_schema=ON")
        db.execute("DELETE FROM sqlite_master WHERE type = 'trigger'")
    with closing(sqlite3.connect(tmp_path / "l.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE entry SET kind = 'quiet' WHERE seq = 4")
    assert world.outcome() is Outcome.TAMPERED


def test_40_a_payload_is_removed_without_and_with_its_erasure_entry(world: World) -> None:
    """Without: TAMPERED. With: erased. Under a legal hold the governance room refuses (see the catalogue)."""
    before = world.place.read()

    def attack(tables: Tables) -> None:
        one(tables, "payload", seq=4).update(bytes=None, salt=None, facts_digest=None)

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    assert says(report, "payload is missing and no erasure entry accounts for it", 4)
    world.change(lambda tables: tables.update(payload=before["payload"]))
    ledger = world.ledger(signer=True)
    ledger.append(draft(61, kind="payload_erased", facts={"seq": 4, "basis": "Art. 17"}))
    ledger.sign_checkpoint()
    ledger.store.erase([4])
    report = world.report()
    assert (report.outcome, report.erased, report.uncovered) == (Outcome.HOLDS, 1, 0)
    assert {row.seq for row in ledger.store.payloads(0, 8) if row.data is None} == {4}


@pytest.mark.parametrize(
    "columns", [("salt",), ("bytes",), ("bytes", "facts_digest"), ("salt", "bytes", "facts_digest")]
)
def test_41_salts_or_payloads_are_swapped_between_two_entries(world: World, columns: tuple[str, ...]) -> None:
    """Each entry commits to its own salt and payload."""

    def attack(tables: Tables) -> None:
        first, second = one(tables, "payload", seq=3), one(tables, "payload", seq=4)
        for column in columns:
            first[column], second[column] = second[column], first[column]

    world.change(attack)
    report = world.report()
    assert report.outcome is Outcome.TAMPERED
    for seq in (3, 4):
        assert says(report, "payload is not the one the entry commits to", seq)


def test_43_nothing_of_ours_is_never_fine(world: World) -> None:
    """Emptied tables: never HOLDS; the trust file, a signed head or the emptiness itself says why."""
    before = world.place.read()
    everything: Tables = {table: [] for table in before if table != "meta"}
    world.change(lambda tables: tables.update(everything))
    assert world.outcome() is Outcome.UNPROVEN
    assert world.outcome(remembered=[("a copy", sign_copy(world))]) is Outcome.ROLLED_BACK
    world.change(lambda tables: tables.update({**before, "meta": []}))
    with pytest.raises(LedgerUnreadable):
        world.place.fresh()


def sign_copy(world: World) -> str:
    last = world.signer.last_signed()
    assert last is not None
    return world.signer.sign_text(last.text())


def test_23_a_key_that_was_revoked_without_naming_itself(world: World, tmp_path: Path) -> None:
    """After its last good size a revoked key proves nothing; before it only what somebody outside remembers."""
    new_secret(world.folder / "new.key")
    both = LogSigner([world.folder / "log.key", world.folder / "new.key"], world.folder / "signer.json", ORIGIN)
    ledger = Ledger(world.place.open(), signer=both, clock_us=Clock())
    facts = {"vkey": str(world.signer.verifier), "last_good_size": 7, "reason": "stolen"}
    ledger.append(draft(62, kind="log_key_revoked", facts=facts))
    note = ledger.sign_checkpoint()
    old, new = both.verifiers
    only_old = ledger.verify(TrustFile((old,), None))
    assert (only_old.outcome, only_old.signed_size) == (Outcome.UNPROVEN, 0)
    head = Checkpoint(ORIGIN, 7, ledger.root(7))
    known = ledger.verify(TrustFile((old,), None), anchored=[Anchored("object lock", head, None)])
    assert (known.signed_size, known.uncovered) == (7, 1)
    assert ledger.verify(TrustFile((old, new), None)).signed_size == 8, "the new key counts"
    assert note.count("\u2014") == 2
