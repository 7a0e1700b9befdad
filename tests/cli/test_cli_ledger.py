"""Ledger commands: verdicts and exit codes on sound, damaged, truncated and foreign ledgers; proofs; checkpoints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cognify_dagster.ledger import ProofFile, TrustFile, VerifierKey
from cognify_dagster.records import VersionOpened
from cognify_dagster.workspace import idempotency_key
from tests.cli.conftest import Cognify, damage, flip_byte, key_file
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
    assert report["uncovered"] is None
    assert report["intact_size"] <= 5
    assert "Signed up to" not in result.out
    assert "Exposure window" not in result.out
    assert "Still holds" in result.out
    assert result.out.count("history was rewritten") <= 1


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
    assert result.out.count("were cut off") == 1, "many heads that say the same are one line"
    assert "Signed up to" not in result.out
    held = cognify("ledger", "verify", "--json", at=ready).json["intact_size"]
    assert 0 < held <= cut
    assert f"Still holds      entries 0 to {held - 1}" in result.out
    assert f"anything from entry {held} on" in result.out
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


def test_the_trust_file_of_a_ledger_with_another_name_proves_nothing(
    ready: World, cognify: Cognify, tmp_path: Path
) -> None:
    made = cognify(
        "init", tmp_path / "o", "--trial", "--origin", "other.example/x",
        "--founder", f"Ada={key_file(ready, 'ada')}", "--yes",
    )  # fmt: skip
    assert made.code == 0, made.err
    result = cognify("ledger", "verify", "--trust", tmp_path / "o" / "trust.txt", at=ready)
    assert result.code == 4
    assert "UNPROVEN" in result.out
    assert "the trust file is for the ledger other.example/x, this one is test.example/credit" in result.out
    assert "rolled back" not in result.out


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
    assert cognify("ledger", "prove", "--seq", 4, at=ready).out == out.read_text()
    assert cognify("ledger", "prove", 4, "-o", out, at=ready).code == 5
    assert cognify("ledger", "prove", 999, at=ready).code == 5
    assert cognify("ledger", "prove", 4, "--json", at=ready).json["proof"] == out.read_text()


@pytest.fixture
def proven(ready: World, cognify: Cognify, tmp_path: Path) -> dict[str, Path]:
    """A proof of entry 4, the entry's bytes and a trust file, as another person gets them."""
    files = {"proof": tmp_path / "4.tlog-proof", "entry": tmp_path / "4.json", "trust": tmp_path / "kept.txt"}
    result = cognify("ledger", "prove", 4, "-o", files["proof"], "--entry", files["entry"], at=ready)
    assert result.code == 0, result.err
    shutil.copy(ready.workspace.config.trust, files["trust"])
    shutil.rmtree(ready.folder / "project")
    return files


def _check(cognify: Cognify, files: dict[str, Path], *words: object) -> tuple[int, str, str]:
    result = cognify("ledger", "check-proof", files["proof"], "--trust", files["trust"], *words)
    return result.code, result.out, result.err


def test_a_proof_is_checked_without_the_workspace(proven: dict[str, Path], cognify: Cognify) -> None:
    code, out, _ = _check(cognify, proven, "--entry", proven["entry"])
    assert code == 0
    assert "HOLDS" in out
    assert "entry 4 is in the ledger of" in out
    value = cognify(
        "ledger", "check-proof", proven["proof"], "--trust", proven["trust"], "--entry", proven["entry"], "--json"
    ).json
    assert (value["outcome"], value["entry"]) == ("holds", 4)
    assert _check(cognify, proven, "--leaf", value["leaf"])[0] == 0
    assert _check(cognify, proven, "--leaf", "0" * 64)[0] == 1
    code, _, err = _check(cognify, proven)
    assert code == 5
    assert "proves entry 4 but does not hold it" in err


def test_a_proof_of_something_else_is_tampered_unproven_or_unreadable(
    proven: dict[str, Path], cognify: Cognify
) -> None:
    entry = proven["entry"].read_bytes()
    proven["entry"].write_bytes(entry.replace(b'"schema":1', b'"schema":2'))
    assert _check(cognify, proven, "--entry", proven["entry"])[0] == 1
    proven["entry"].write_bytes(b"{}")
    assert _check(cognify, proven, "--entry", proven["entry"])[0] == 3
    proven["entry"].write_bytes(entry)
    text = proven["proof"].read_text()
    signature = text.rstrip().rsplit(" ", 1)[1]
    other = signature[:40] + ("A" if signature[40] != "A" else "B") + signature[41:]
    proven["proof"].write_text(text.replace(signature, other))
    assert _check(cognify, proven, "--entry", proven["entry"])[0] == 1
    proven["proof"].write_text("not a proof")
    assert _check(cognify, proven, "--entry", proven["entry"])[0] == 3
    proven["proof"].write_text(text)
    foreign = VerifierKey("other.example/x", bytes(range(32)))
    proven["trust"].write_text(TrustFile((foreign,), None).text())
    code, out, _ = _check(cognify, proven, "--entry", proven["entry"])
    assert code == 4
    assert "the trust file is for the ledger other.example/x" in out


def test_show_takes_the_number_either_way_and_says_when_it_left_entries_out(ready: World, cognify: Cognify) -> None:
    assert cognify("ledger", "show", 0, at=ready).out == cognify("ledger", "show", "--seq", 0, at=ready).out
    size = ready.workspace.ledger.size()
    shown = cognify("ledger", "show", "--limit", 2, at=ready).out
    assert f"The newest 2 of {size} matching entries; --limit {size} shows all of them." in shown
    assert cognify("ledger", "show", "--limit", 2, "--json", at=ready).json["limited"] is True
    everything = cognify("ledger", "show", "--limit", size, at=ready).out
    assert f"All {size} matching entries." in everything


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
