"""Ledger commands: verdicts and exit codes on sound, damaged, truncated and foreign ledgers; proofs; checkpoints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cognify_dagster.ledger import ProofFile
from cognify_dagster.records import VersionOpened
from cognify_dagster.workspace import idempotency_key
from tests.cli.conftest import Cognify, damage, flip_byte
from tests.governance.world import MODEL, World, make_world

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ready(ready: World) -> World:
    """A ready world whose every entry is under a signed head."""
    ready.workspace.ledger.sign_checkpoint()
    return ready


def _late_entry(world: World) -> int:
    """Append an entry that no checkpoint covers."""
    record = VersionOpened(model=MODEL, version="9", run="r9", opened_by="person/ben")
    return world.workspace.append(record, idem=idempotency_key("late")).seq


def test_a_sound_ledger_holds_and_says_whose_trust_file_was_used(ready: World, cognify: Cognify) -> None:
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 0
    assert "HOLDS" in result.out
    assert "L1" in result.out
    assert "own trust file" in result.out
    assert "Exposure window  none" in result.out


def test_json_report_and_own_copy_of_the_trust_file(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    trust = shutil.copy(ready.workspace.config.trust, tmp_path / "kept-apart.txt")
    report = cognify("ledger", "verify", "--trust", trust, "--json", at=ready).json
    assert report["outcome"] == "holds"
    assert report["exit_code"] == 0
    assert report["level"] == "L1"
    assert report["size"] == ready.workspace.ledger.size()
    assert report["trial"] is False
    assert report["findings"] == []
    assert not any("own trust file" in note for note in report["notes"])


def test_exposure_window_counts_unsigned_entries(ready: World, cognify: Cognify) -> None:
    _late_entry(ready)
    assert cognify("ledger", "verify", "--json", at=ready).json["uncovered"] == 1
    assert "1 newest entries" in cognify("ledger", "verify", at=ready).out
    assert cognify("ledger", "checkpoint", at=ready).out.startswith("test.example/credit\n")
    assert cognify("ledger", "verify", "--json", at=ready).json["uncovered"] == 0


def test_one_flipped_byte_is_tampered_and_named(ready: World, cognify: Cognify) -> None:
    flip_byte(ready.workspace.config.ledger, 5)
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 1
    assert "TAMPERED" in result.out
    assert "entry 5:" in result.out
    report = cognify("ledger", "verify", "--json", at=ready).json
    assert 5 in {finding["seq"] for finding in report["findings"]}
    assert report["level"] is None


@pytest.mark.parametrize(
    "words",
    [
        ("status", MODEL),
        ("ledger", "show"),
        ("people", "list"),
        ("policy", "show"),
        ("deployments", MODEL),
        ("ledger", "prove", "3"),
    ],
)
def test_nothing_is_read_from_a_damaged_ledger(words: tuple[str, ...], ready: World, cognify: Cognify) -> None:
    flip_byte(ready.workspace.config.ledger, 5)
    result = cognify(*words, at=ready)
    assert result.code == 1
    assert "entry 5" in result.err
    assert "cognify ledger verify" in result.err


def test_a_changed_payload_is_named(ready: World, cognify: Cognify) -> None:
    damage(ready.workspace.config.ledger, "UPDATE payload SET bytes = '{}' WHERE seq = 4")
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 1
    assert "entry 4: its payload is not the one the entry commits to" in result.out


def test_a_truncated_ledger_is_rolled_back(ready: World, cognify: Cognify) -> None:
    size = ready.workspace.ledger.size()
    cut = size - 3
    damage(
        ready.workspace.config.ledger,
        *(f"DELETE FROM {table} WHERE seq >= {cut}" for table in ("entry_subject", "payload", "entry")),
    )
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 2
    assert "ROLLED BACK" in result.out
    assert f"entries {cut}..{size - 1} were cut off" in result.out
    refused = cognify("ledger", "checkpoint", at=ready)
    assert refused.code == 2
    assert "nothing was signed" in refused.err


def test_another_ledger_in_its_place_is_rolled_back_or_tampered(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other")
    result = cognify(
        "ledger", "verify", "--ledger", other.workspace.config.ledger, "--trust", ready.workspace.config.trust
    )
    assert result.code in (1, 2)
    assert "the first entry is not the one the trust file pins" in result.out


def test_a_bare_copy_of_the_file(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    copy = Path(shutil.copy(ready.workspace.config.ledger, tmp_path / "copy.sqlite"))
    trust = ready.workspace.config.trust
    assert cognify("ledger", "verify", "--ledger", copy, "--trust", trust).code == 0
    without = cognify("ledger", "verify", "--ledger", copy)
    assert without.code == 4
    assert "no trust file was given" in without.out
    flip_byte(copy, 7)
    damaged = cognify("ledger", "verify", "--ledger", copy, "--trust", trust)
    assert damaged.code == 1
    assert "entry 7:" in damaged.out


def test_no_ledger_at_all_is_unreadable(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(b"not a database" * 100)
    assert cognify("ledger", "verify", "--ledger", junk).code == 3
    ready.workspace.config.ledger.unlink()
    assert cognify("ledger", "verify", at=ready).code == 3


def test_a_malformed_trust_file_names_itself(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    trust = tmp_path / "bad-trust.txt"
    trust.write_text("log nonsense\n")
    result = cognify("ledger", "verify", "--trust", trust, at=ready)
    assert result.code == 3
    assert str(trust) in result.err
    assert "line 1" in result.err


def test_show_filters_and_whole_entries(ready: World, cognify: Cognify) -> None:
    listed = cognify(
        "ledger", "show", "--subject", f"model/{MODEL}@1", "--kind", "gate_result", "--json", at=ready
    ).json
    assert listed["matching"] == 4
    assert {entry["kind"] for entry in listed["entries"]} == {"gate_result"}
    assert len(cognify("ledger", "show", "--limit", 2, "--json", at=ready).json["entries"]) == 2
    whole = cognify("ledger", "show", "--seq", 0, "--json", at=ready).json
    assert whole["kind"] == "genesis"
    assert whole["record"]["facts"]["origin"] == "test.example/credit"
    assert "Record:" in cognify("ledger", "show", "--seq", 0, at=ready).out
    assert cognify("ledger", "show", "--seq", 999, at=ready).code == 5
    assert cognify("ledger", "show", "--kind", "nonsense", at=ready).code == 5


def test_a_proof_verifies_under_the_trust_file(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    out = tmp_path / "entry.tlog-proof"
    assert cognify("ledger", "prove", 4, "-o", out, at=ready).code == 0
    leaf = ready.workspace.read().view.entries[4].entry.leaf
    checkpoint = ProofFile.parse(out.read_text()).verify(leaf, ready.workspace.trust().logs)
    assert checkpoint.size == ready.workspace.ledger.size()
    assert cognify("ledger", "prove", 4, at=ready).out == out.read_text()
    assert cognify("ledger", "prove", 4, "-o", out, at=ready).code == 5
    assert cognify("ledger", "prove", 999, at=ready).code == 5


def test_an_uncovered_entry_is_unproven(ready: World, cognify: Cognify) -> None:
    seq = _late_entry(ready)
    result = cognify("ledger", "prove", seq, at=ready)
    assert result.code == 4
    assert "cognify ledger checkpoint" in result.err


def test_exit_codes_of_the_real_process(ready: World) -> None:
    project = ready.folder / "project"

    def run(*words: str) -> int:
        command = [sys.executable, "-m", "cognify_dagster.cli", "--workspace", str(project), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode

    assert run("ledger", "verify") == 0
    flip_byte(ready.workspace.config.ledger, 3)
    assert run("ledger", "verify") == 1
    assert run("no-such-command") == 5
