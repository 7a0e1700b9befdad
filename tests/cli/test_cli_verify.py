"""`cognify ledger verify`: levels up to L3, the exposure window, depth, incremental and concurrent verification; anchors."""

from __future__ import annotations

import base64
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cognify_dagster.governance import GovernanceError, submit
from cognify_dagster.ledger import Checkpoint, SqliteStore, TrustFile, sign_note
from cognify_dagster.records import GateSetAdopted, VersionOpened
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.cli.conftest import Cognify, damage
from tests.governance.world import MODEL, World
from tests.ledger.test_witnessed_ledger import witness
from tests.workspace.test_witnessed_workspace import demand

Configure = Callable[[World, str], None]


def add_config(world: World, text: str) -> None:
    """Add lines to cognify.toml."""
    path = world.workspace.config.path
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def grow(world: World, count: int = 1, *, prefix: str = "g") -> None:
    """Append entries that no checkpoint covers."""
    workspace = Workspace.open(world.workspace.config.path)
    for number in range(count):
        record = VersionOpened(model=MODEL, version=f"{prefix}{number}", run=f"r{number}", opened_by="person/ben")
        workspace.append(record, idem=idempotency_key(prefix, number))


@pytest.fixture
def ready(ready: World) -> World:
    ready.workspace.ledger.sign_checkpoint()
    return ready


@pytest.fixture
def vault(ready: World, tmp_path: Path) -> Path:
    """A folder anchor on write-once storage."""
    folder = tmp_path / "vault"
    folder.mkdir()
    add_config(ready, f'\n[[anchor]]\nkind = "folder"\nname = "vault"\npath = "{folder}"\nwrite_once = true\n')
    return folder


# --- depth ---


def test_without_flags_everything_is_checked_and_signatures_are_counted(ready: World, cognify: Cognify) -> None:
    report = cognify("ledger", "verify", "--json", at=ready).json
    assert report["checked"] == "full and deep"
    assert report["signatures"]["writers"] == report["size"]
    assert report["signatures"]["people"] >= 7, "two founders, four enrolments, one gate set"


def test_full_alone_leaves_payloads_out_and_deep_finds_them(ready: World, cognify: Cognify) -> None:
    damage(ready.workspace.config.ledger, "UPDATE payload SET bytes = '{}' WHERE seq = 4")
    full = cognify("ledger", "verify", "--full", "--json", at=ready)
    assert (full.code, full.json["signatures"]) == (0, None)
    assert "no payloads" in full.json["checked"]
    deep = cognify("ledger", "verify", "--deep", at=ready)
    assert deep.code == 1
    assert "entry 4: its payload is not the one the entry commits to" in deep.out


def test_a_forged_writer_signature_is_found_by_deep(ready: World, cognify: Cognify) -> None:
    workspace = Workspace.open(ready.workspace.config.path)
    assert workspace.writer is not None
    workspace.writer.sign = lambda data: bytes(64)  # type: ignore[method-assign]
    record = VersionOpened(model=MODEL, version="7", run="r", opened_by="person/ben")
    seq = workspace.append(record, idem=idempotency_key("forged"), checkpoint=True).seq
    assert cognify("ledger", "verify", "--full", at=ready).code == 0
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 1
    assert f"entry {seq}: " in result.out
    assert "signature does not verify" in result.out


@pytest.mark.parametrize("how", ["altered", "stranger"])
def test_a_forged_signature_of_a_person_is_found_by_deep(how: str, ready: World, cognify: Cognify) -> None:
    item = ready.workspace.read().at(ready.data["gates"])
    assert item is not None
    record = item.record
    assert isinstance(record, GateSetAdopted)
    (signature,) = record.envelope.signatures
    change = {"sig": base64.b64encode(bytes(64)).decode()} if how == "altered" else {"keyid": "0" * 16}
    envelope = record.envelope.model_copy(update={"signatures": (signature.model_copy(update=change),)})
    seq = ready.write(record.model_copy(update={"envelope": envelope}))
    ready.workspace.ledger.sign_checkpoint()
    assert cognify("ledger", "verify", "--full", at=ready).code == 0
    result = cognify("ledger", "verify", "--deep", at=ready)
    assert result.code == 1
    assert f"entry {seq}: " in result.out
    assert ("does not verify" if how == "altered" else "never enrolled") in result.out


def test_a_refused_sign_off_with_a_bad_signature_is_no_finding(ready: World, cognify: Cognify) -> None:
    envelope = ready.sign("vera")
    broken = envelope.signatures[0].model_copy(update={"sig": base64.b64encode(bytes(64)).decode()})
    with pytest.raises(GovernanceError):
        submit(ready.workspace, envelope.model_copy(update={"signatures": (broken,)}))
    ready.workspace.ledger.sign_checkpoint()
    assert cognify("ledger", "verify", at=ready).code == 0


def test_an_unsigned_entry_is_intact_but_has_no_effect(ready: World, cognify: Cognify) -> None:
    workspace = Workspace.open(ready.workspace.config.path)
    workspace.writer = None
    record = VersionOpened(model=MODEL, version="7", run="r", opened_by="person/ben")
    seq = workspace.append(record, idem=idempotency_key("unsigned"), checkpoint=True).seq
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 0
    assert f"entry {seq} is intact but has no effect" in result.out


# --- since, processes, a ledger in use ---


def test_since_reads_only_what_is_new(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    first = cognify("ledger", "verify", "--since", state, "--json", at=ready).json
    assert (first["checked_from"], first["exit_code"]) == (0, 0)
    grow(ready, 3)
    cognify("ledger", "checkpoint", at=ready)
    second = cognify("ledger", "verify", "--since", state, "--json", at=ready).json
    assert (second["checked_from"], second["size"], second["exit_code"]) == (first["size"], first["size"] + 3, 0)
    assert any("--deep" in note for note in second["notes"])


def test_since_finds_entries_cut_off_after_the_last_look(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    grow(ready, 2)
    assert cognify("ledger", "verify", "--since", tmp_path / "s", at=ready).code == 0
    size = ready.workspace.ledger.size()
    damage(
        ready.workspace.config.ledger,
        *(f"DELETE FROM {table} WHERE seq >= {size - 2}" for table in ("entry_subject", "payload", "entry")),
    )
    result = cognify("ledger", "verify", "--since", tmp_path / "s", at=ready)
    assert result.code == 2
    assert f"entries {size - 2}..{size - 1} were cut off" in result.out


def test_the_state_of_another_ledger_is_refused(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    assert cognify("ledger", "verify", "--since", tmp_path / "s", at=ready).code == 0
    text = (tmp_path / "s").read_text()
    (tmp_path / "s").write_text(text.replace("test.example/credit", "other.example/credit"))
    result = cognify("ledger", "verify", "--since", tmp_path / "s", at=ready)
    assert result.code == 3
    assert "other.example/credit" in result.err


def test_a_ledger_that_is_written_to_gives_no_false_alarm(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            grow(ready, 2, prefix=f"w{number}-")
            Workspace.open(ready.workspace.config.path).ledger.sign_checkpoint()
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        codes = [cognify("ledger", "verify", "--since", tmp_path / "s", at=ready).code for _ in range(4)]
        codes += [cognify("ledger", "verify", at=ready).code for _ in range(4)]
    finally:
        stop.set()
        thread.join()
    assert codes == [0] * 8


def test_an_empty_ledger_is_never_ok(cognify: Cognify, tmp_path: Path, ready: World) -> None:
    SqliteStore.create(tmp_path / "empty.sqlite", "test.example/credit")
    trust = ready.workspace.config.trust
    result = cognify("ledger", "verify", "--ledger", tmp_path / "empty.sqlite", "--trust", trust)
    assert result.code == 4
    assert "empty" in result.out
    (tmp_path / "foreign.sqlite").write_bytes(b"not a database at all" * 50)
    assert cognify("ledger", "verify", "--ledger", tmp_path / "foreign.sqlite", "--trust", trust).code == 3


def test_several_processes_find_the_same(ready: World, cognify: Cognify) -> None:
    one = cognify("ledger", "verify", "--json", at=ready).json
    two = cognify("ledger", "verify", "--processes", 2, "--json", at=ready).json
    assert one == two


def test_the_exposure_window_has_an_age(ready: World, cognify: Cognify) -> None:
    grow(ready, 2)
    report = cognify("ledger", "verify", "--json", at=ready).json
    assert report["uncovered"] == 2
    assert report["uncovered_age_s"] >= 0
    assert re.search(
        r"2 newest entries .* the oldest of them \d+ seconds old", cognify("ledger", "verify", at=ready).out
    )


# --- witnesses ---


def test_a_witness_takes_it_to_l2_and_notices_a_rollback(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    signer = ready.workspace.ledger.signer
    assert signer is not None
    with witness(tmp_path, "audit", signer.verifier) as remote:
        demand(ready, remote)
        unproven = cognify("ledger", "verify", "--external", at=ready)
        assert unproven.code == 4
        assert "cosigned nothing of this ledger yet" in unproven.out
        signed = cognify("ledger", "checkpoint", at=ready)
        assert (signed.code, "cosigned" in signed.err) == (0, True)
        assert cognify("ledger", "checkpoint", "--json", at=ready).json["witnesses"][0]["verdict"] == "cosigned"
        held = cognify("ledger", "verify", "--external", at=ready)
        assert held.code == 0
        assert "L2" in held.out
        assert "audit (witness)" in held.out
        old = shutil.copy(ready.workspace.config.ledger, tmp_path / "old.sqlite")
        grow(ready, 2)
        assert cognify("ledger", "checkpoint", at=ready).code == 0
        # a database, a signer state and a trust file set back together: only the witness knows better
        shutil.copy(old, ready.workspace.config.ledger)
        ready.workspace.config.home.joinpath("signer-state.json").unlink()
        assert cognify("ledger", "verify", at=ready).code == 0
        caught = cognify("ledger", "verify", "--external", at=ready)
        assert caught.code == 2
        assert "witness audit" in caught.out
        again = cognify("ledger", "checkpoint", at=ready)
        assert again.code == 2
        assert "rolled_back" in again.err
    silent = cognify("ledger", "verify", "--external", at=ready)
    assert silent.code == 4
    assert "not compared: witness audit" in silent.out


def test_asking_outside_where_nothing_is_configured_is_unproven(ready: World, cognify: Cognify) -> None:
    result = cognify("ledger", "verify", "--external", at=ready)
    assert result.code == 4
    assert "nothing outside was asked" in result.out


# --- anchors ---


def test_an_anchored_head_reaches_l3(ready: World, cognify: Cognify, vault: Path) -> None:
    before = cognify("ledger", "verify", "--external", at=ready)
    assert before.code == 4
    assert "nothing was anchored yet" in before.out
    assert cognify("ledger", "anchor", at=ready).code == 0
    assert cognify("ledger", "anchor", "--json", at=ready).json["anchors"][0]["error"] is None
    assert len(list((ready.workspace.config.home / "anchors" / "vault").iterdir())) == 1
    result = cognify("ledger", "verify", "--external", "--json", at=ready)
    report = result.json
    assert (result.code, report["level"], report["anchored_size"]) == (0, "L3", report["size"])
    assert re.fullmatch(r"20\d\d-.*Z", report["anchored_at"])
    grow(ready, 1)
    cognify("ledger", "checkpoint", at=ready)
    later = cognify("ledger", "verify", "--external", at=ready)
    assert "1 newest entries are under no anchored head yet" in later.out
    assert cognify("ledger", "verify", at=ready).out.count("L1") == 1, "nobody was asked"


def test_a_folder_that_is_not_write_once_remembers_but_vouches_for_no_time(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    (tmp_path / "share").mkdir()
    add_config(ready, f'\n[[anchor]]\nkind = "folder"\npath = "{tmp_path / "share"}"\n')
    assert cognify("ledger", "anchor", at=ready).code == 0
    report = cognify("ledger", "verify", "--external", "--json", at=ready).json
    assert (report["exit_code"], report["level"]) == (0, "L1")


def test_an_anchor_notices_a_rollback(ready: World, cognify: Cognify, vault: Path, tmp_path: Path) -> None:
    old = shutil.copy(ready.workspace.config.ledger, tmp_path / "old.sqlite")
    grow(ready, 2)
    cognify("ledger", "checkpoint", at=ready)
    cognify("ledger", "anchor", at=ready)
    shutil.copy(old, ready.workspace.config.ledger)
    ready.workspace.config.home.joinpath("signer-state.json").unlink()
    result = cognify("ledger", "verify", "--external", at=ready)
    assert result.code == 2
    assert "anchor vault" in result.out


def test_another_head_of_the_same_size_in_the_anchor_is_a_fork(ready: World, cognify: Cognify, vault: Path) -> None:
    cognify("ledger", "anchor", at=ready)
    (kept,) = [path for path in vault.rglob("*") if path.is_file()]
    signer = ready.workspace.ledger.signer
    assert signer is not None
    head = Checkpoint("test.example/credit", int(kept.name), bytes(32))
    kept.chmod(0o644)
    kept.write_text(sign_note(head.text(), signer.origin, signer._private[0]))
    result = cognify("ledger", "verify", "--external", at=ready)
    assert result.code == 2
    assert "anchor vault" in result.out
    again = cognify("ledger", "anchor", at=ready)
    assert again.code == 2
    assert "another head of the same size" in again.out


def test_a_head_taken_away_from_the_anchor_is_noticed_by_its_receipt(
    ready: World, cognify: Cognify, vault: Path
) -> None:
    cognify("ledger", "anchor", at=ready)
    for path in vault.rglob("*"):
        if path.is_file():
            path.unlink()
    result = cognify("ledger", "verify", "--external", at=ready)
    assert result.code == 2
    assert "is gone" in result.out


def test_an_anchor_out_of_reach_is_unproven_not_fine(ready: World, cognify: Cognify, vault: Path) -> None:
    cognify("ledger", "anchor", at=ready)
    vault.rename(vault.with_name("unmounted"))
    assert cognify("ledger", "anchor", at=ready).code == 4
    result = cognify("ledger", "verify", "--external", at=ready)
    assert result.code == 4
    assert "not compared: anchor vault" in result.out


def test_a_note_that_the_log_did_not_sign_is_not_compared_with(ready: World, cognify: Cognify, vault: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    cognify("ledger", "anchor", at=ready)
    folder = next(path for path in vault.iterdir() if path.is_dir())
    head = Checkpoint("test.example/credit", 999_999, bytes(32))
    (folder / "999999").write_text(sign_note(head.text(), "test.example/credit", Ed25519PrivateKey.generate()))
    result = cognify("ledger", "verify", "--external", at=ready)
    assert result.code == 0
    assert "was not compared with" in result.out


def test_a_time_stamp_reaches_l3(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    pytest.importorskip("rfc3161_client")
    from tests.ledger.anchor_servers import Authority, tsa_server

    authority = Authority(tmp_path)
    roots = authority.folder / "ca.pem"
    with tsa_server(lambda query: (200, authority.reply(query))) as url:
        add_config(ready, f'\n[[anchor]]\nkind = "rfc3161"\nname = "tsa"\nurl = "{url}"\nroots = "{roots}"\n')
        assert cognify("ledger", "anchor", at=ready).code == 0
        assert cognify("ledger", "anchor", at=ready).code == 0
    assert authority.hits == 1, "one token a head is enough"
    report = cognify("ledger", "verify", "--external", "--json", at=ready)
    assert (report.code, report.json["level"]) == (0, "L3"), "the receipt is verified without the authority"


def test_an_anchor_that_cannot_be_configured_is_named(ready: World, cognify: Cognify) -> None:
    assert cognify("ledger", "anchor", at=ready).code == 3
    add_config(ready, '\n[[anchor]]\nkind = "folder"\n')
    result = cognify("ledger", "anchor", at=ready)
    assert result.code == 3
    assert "[[anchor]] number 1: path is missing" in result.err


def test_a_quorum_of_two_is_met_by_joining_what_two_witnesses_send(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    signer = ready.workspace.ledger.signer
    assert signer is not None
    with witness(tmp_path, "a", signer.verifier) as one, witness(tmp_path, "b", signer.verifier) as two:
        path = ready.workspace.config.trust
        trust = TrustFile.parse(path.read_text(encoding="utf-8"))
        path.write_text(
            replace(
                trust,
                witnesses=(("a", one.key), ("b", two.key)),
                groups=(("both", 2, ("a", "b")),),
                quorum="both",
                urls=(("a", one.url), ("b", two.url)),
            ).text(),
            encoding="utf-8",
        )
        assert cognify("ledger", "checkpoint", at=ready).code == 0
        # what the database kept of it loses the witnesses' lines: they are fetched from them
        with sqlite3.connect(ready.workspace.config.ledger) as db:
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                db.execute(f"DROP TRIGGER {name}")
            db.execute("DELETE FROM checkpoint WHERE instr(note, 'witness.example') > 0")
        db.close()
        assert cognify("ledger", "verify", at=ready).code == 4
        report = cognify("ledger", "verify", "--external", "--json", at=ready).json
        assert (report["exit_code"], report["level"]) == (0, "L2")
