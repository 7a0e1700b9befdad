"""Log keys: rotation with overlap, revocation; the signer as a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cognify_dagster.ledger import LedgerError, LogSigner, NotWitnessed, TrustFile
from cognify_dagster.records import LogKeyRevoked, LogKeyRotated, VersionOpened
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.cli.conftest import ROOT, Cognify, damage, key_file
from tests.cli.test_cli_verify import add_config, grow
from tests.governance.world import MODEL, World
from tests.ledger.test_witnessed_ledger import witness
from tests.workspace.test_witnessed_workspace import demand


@pytest.fixture
def ready(ready: World) -> World:
    ready.workspace.ledger.sign_checkpoint()
    return ready


def keys_of(world: World) -> list[str]:
    return sorted(path.name for path in world.workspace.config.keys.glob("log*.key"))


def logs_of(world: World) -> list[str]:
    return [str(key) for key in TrustFile.parse(world.workspace.config.trust.read_text(encoding="utf-8")).logs]


def both(world: World) -> tuple[object, ...]:
    """The signatures of two workspace admins."""
    return ("--as", key_file(world, "ada"), "--as", key_file(world, "finn"), "--yes")


def test_a_rotation_overlaps_and_then_drops_the_old_key(ready: World, cognify: Cognify) -> None:
    trust = ready.workspace.config.trust
    trust.write_text(trust.read_text(encoding="utf-8") + "# a note of ours\n", encoding="utf-8")
    (old,) = logs_of(ready)
    made = cognify("ledger", "rotate-key", "--overlap", 2, "--reason", "yearly", *both(ready), at=ready)
    assert made.code == 0, made.err
    assert keys_of(ready) == ["log.2.key", "log.key"]
    assert logs_of(ready)[0] == old
    new = logs_of(ready)[1]
    assert f"log {new}" in made.out
    assert "# a note of ours" in trust.read_text(encoding="utf-8")
    (entry,) = Workspace.open(ready.workspace.config.path).read().all(LogKeyRotated)
    assert (entry.record.old, entry.record.new) == (old, new)
    assert cognify("ledger", "checkpoint", at=ready).out.count("\n— ") == 2
    assert cognify("ledger", "verify", at=ready).code == 0
    twice = cognify("ledger", "rotate-key", *both(ready), at=ready)
    assert (twice.code, "--finish" in twice.err) == (1, True)
    early = cognify("ledger", "rotate-key", "--finish", "--yes", at=ready)
    assert early.code == 1
    assert "overlap lasts" in early.err
    grow(ready, 2)
    assert cognify("ledger", "rotate-key", "--finish", "--yes", at=ready).code == 0
    assert keys_of(ready) == ["log.2.key"]
    grow(ready, 1, prefix="after")
    assert cognify("ledger", "checkpoint", at=ready).out.count("\n— ") == 1
    report = cognify("ledger", "verify", "--json", at=ready).json
    assert (report["exit_code"], report["uncovered"]) == (0, 0)
    assert cognify("doctor", "--no-dagster", at=ready).code == 0
    assert cognify("ledger", "rotate-key", *both(ready), at=ready).code == 0
    assert keys_of(ready) == ["log.2.key", "log.3.key"]


@pytest.mark.parametrize("after", ["key", "trust"])
def test_a_rotation_that_was_cut_off_is_taken_up(
    after: str, ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "_add_to_trust" if after == "key" else None
    with monkeypatch.context() as patch:
        if place:
            patch.setattr(f"cognify_dagster.cli.ledger.log_keys.{place}", _killed)
        else:
            patch.setattr(Workspace, "append", _killed)
        assert cognify("ledger", "rotate-key", *both(ready), at=ready).code == 3
    assert len(keys_of(ready)) == 2
    assert cognify("ledger", "rotate-key", "--finish", "--now", "--yes", at=ready).code == 1
    assert cognify("ledger", "rotate-key", *both(ready), at=ready).code == 0
    assert (len(keys_of(ready)), len(logs_of(ready))) == (2, 2)
    assert len(Workspace.open(ready.workspace.config.path).read().all(LogKeyRotated)) == 1


def _killed(*_: object, **__: object) -> None:
    raise OSError("killed")


def test_a_revoked_key_counts_up_to_its_last_good_size_where_others_remember(ready: World, cognify: Cognify) -> None:
    (old,) = logs_of(ready)
    good = ready.workspace.ledger.size()
    words = ("ledger", "revoke-key", old, "--last-good-size", good, "--reason", "copied", *both(ready))
    refused = cognify(*words, at=ready)
    assert refused.code == 1
    assert "rotate-key" in refused.err
    cognify("ledger", "rotate-key", *both(ready), at=ready)
    assert cognify("ledger", "revoke-key", "nonsense", *words[3:], at=ready).code == 5
    assert cognify(*words[:3], "--last-good-size", 999, *words[5:], at=ready).code == 5
    assert cognify(*words, at=ready).code == 0
    assert cognify("ledger", "rotate-key", "--finish", "--now", "--yes", at=ready).code == 0
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 0
    assert "was revoked" in result.out
    damage(ready.workspace.config.ledger, f"DELETE FROM checkpoint WHERE size > {good}")
    only_old = cognify("ledger", "verify", "--json", at=ready).json
    assert only_old["signed_size"] == 0, "what the stolen key alone signed proves nothing"


def test_log_keys_change_with_two_admins_only(ready: World, cognify: Cognify) -> None:
    (old,) = logs_of(ready)
    ada, vera = key_file(ready, "ada"), key_file(ready, "vera")
    rotate = ("ledger", "rotate-key", "--yes")
    revoke = ("ledger", "revoke-key", old, "--last-good-size", 1, "--reason", "copied", "--yes")
    for signers in ((ada,), (ada, ada), (ada, vera)):
        named = [word for path in signers for word in ("--as", path)]
        assert cognify(*rotate, *named, at=ready).code == 1
    assert (keys_of(ready), logs_of(ready)) == (["log.key"], [old]), "nothing was made before it was refused"
    for words in (rotate, revoke):
        assert cognify(*words, at=ready).code == 5, "without any signature"
    assert cognify("ledger", "rotate-key", "--finish", *both(ready), at=ready).code == 5
    assert cognify(*rotate[:-1], *both(ready), at=ready).code == 0
    refused = cognify(*revoke, "--as", ada, "--as", vera, at=ready)
    assert (refused.code, "may not do this" in refused.err) == (1, True)


def test_a_revocation_that_only_a_machine_signed_is_named_and_ignored(ready: World, cognify: Cognify) -> None:
    (old,) = logs_of(ready)
    seq = ready.write(LogKeyRevoked(vkey=old, last_good_size=0, reason="mischief"))
    assert cognify("ledger", "checkpoint", at=ready).code == 0
    report = cognify("ledger", "verify", "--json", at=ready).json
    assert (report["exit_code"], report["level"], report["uncovered"]) == (0, "L1", 0)
    assert any(f"entry {seq} is intact but counts for nothing" in note for note in report["notes"])
    rotated = cognify("ledger", "rotate-key", *both(ready), at=ready)
    assert (rotated.code, f"Warning: entry {seq} counts for nothing" in rotated.err) == (0, True)


def test_a_rotation_that_only_a_machine_signed_does_not_end_the_overlap(ready: World, cognify: Cognify) -> None:
    assert cognify("ledger", "rotate-key", "--overlap", 1, *both(ready), at=ready).code == 0
    config = ready.workspace.config
    (config.keys / "log.3.key").write_bytes(bytes(range(32)))
    (config.keys / "log.3.key").chmod(0o600)
    new = LogSigner(config.keys / "log.3.key", config.home / "none.json", config.origin).verifier
    ready.write(LogKeyRotated(old=logs_of(ready)[1], new=str(new), overlap_until_size=1))
    result = cognify("ledger", "rotate-key", "--finish", "--yes", at=ready)
    assert (result.code, "two workspace admins" in result.err) == (1, True)
    assert len(keys_of(ready)) == 3


def test_two_admins_take_the_time_back_after_a_clock_ran_ahead(ready: World, cognify: Cognify) -> None:
    early = cognify("ledger", "correct-clock", "--reason", "host 7", *both(ready), at=ready)
    assert (early.code, "no clock to correct" in early.err) == (1, True)
    now = time.time_ns() // 1000
    ready.workspace.ledger._clock = lambda: now + 172_800_000_000
    ready.workspace.append(opened("8"), idem=idempotency_key("8"))
    alone = cognify("ledger", "correct-clock", "--reason", "host 7", "--as", key_file(ready, "ada"), "--yes", at=ready)
    assert alone.code == 1
    done = cognify("ledger", "correct-clock", "--reason", "host 7", *both(ready), at=ready)
    assert done.code == 0, done.err
    Workspace.open(ready.workspace.config.path).append(opened("9"), idem=idempotency_key("9"), checkpoint=True)
    result = cognify("ledger", "verify", at=ready)
    assert (result.code, "corrects the clock" in result.out) == (0, True)


def test_a_signer_whose_key_was_revoked_does_not_start(ready: World, cognify: Cognify) -> None:
    (old,) = logs_of(ready)
    config = ready.workspace.config
    secret = (config.keys / "log.key").read_bytes()
    assert cognify("ledger", "rotate-key", *both(ready), at=ready).code == 0
    words = ("ledger", "revoke-key", old, "--last-good-size", 3, "--reason", "copied")
    assert cognify(*words, *both(ready), at=ready).code == 0
    assert cognify("ledger", "rotate-key", "--finish", "--now", "--yes", at=ready).code == 0
    (config.keys / "log.2.key").unlink()
    (config.keys / "log.key").write_bytes(secret)
    (config.keys / "log.key").chmod(0o600)
    result = cognify("signer", "run", at=ready)
    assert (result.code, "was revoked" in result.err) == (1, True)


# --- the signer as a process of its own ---


def split(world: World, tmp_path: Path, wait: float) -> tuple[Path, Path]:
    """Take the log key from the writers' workspace to that of a signer; return both folders."""
    project = world.folder / "project"
    signer = tmp_path / "signer"
    (signer / ".cognify" / "keys").mkdir(parents=True, mode=0o700)
    for name in ("keys/log.key", "signer-state.json"):
        (project / ".cognify" / name).rename(signer / ".cognify" / name)
    for name in ("trust.txt", "cognify.toml"):
        (signer / name).write_text((project / name).read_text(encoding="utf-8"), encoding="utf-8")
    config = signer / "cognify.toml"
    text = f'ledger = "{project / ".cognify" / "ledger.sqlite"}"\n'
    config.write_text(config.read_text(encoding="utf-8") + text, encoding="utf-8")
    add_config(world, f'signer = "external"\nsigner_wait = {wait}\n')
    return project, signer


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cognify_dagster.cli", "--workspace", str(folder), "signer", "run", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "Signer of test.example/credit runs" in process.stdout.readline()
    return process


def opened(version: str) -> VersionOpened:
    return VersionOpened(model=MODEL, version=version, run="r", opened_by="person/ben")


def test_writers_without_a_log_key_wait_for_the_signer(ready: World, tmp_path: Path, cognify: Cognify) -> None:
    project, folder = split(ready, tmp_path, wait=20)
    process = start(folder, "--every", "0.2")
    try:
        workspace = Workspace.open(project)
        assert workspace.ledger.signer is None
        begin = time.monotonic()
        receipt = workspace.append(opened("7"), idem=idempotency_key("7"), checkpoint=True)
        assert time.monotonic() - begin < 15
        assert max(size for size, _ in workspace.ledger.store.checkpoints()) > receipt.seq
        assert cognify("ledger", "verify", "--workspace", project).code == 0
        grow(ready, 1)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Signer stopped." in out
    report = cognify("ledger", "verify", "--json", "--workspace", project).json
    assert report["uncovered"] == 0, "what waited was signed at the end"


def test_without_a_signer_an_append_that_needs_a_checkpoint_says_what_to_do(ready: World, tmp_path: Path) -> None:
    project, _ = split(ready, tmp_path, wait=0.2)
    workspace = Workspace.open(project)
    with pytest.raises(LedgerError, match="cognify signer run"):
        workspace.append(opened("7"), idem=idempotency_key("7"), checkpoint=True)
    size = workspace.ledger.size()
    with pytest.raises(LedgerError):
        workspace.append(opened("7"), idem=idempotency_key("7"), checkpoint=True)
    assert workspace.ledger.size() == size, "nothing is appended twice"
    workspace.append(opened("8"), idem=idempotency_key("8"))


def test_a_witnessed_kind_waits_for_the_quorum_too(ready: World, tmp_path: Path) -> None:
    log = ready.workspace.ledger.signer
    assert log is not None
    project, folder = split(ready, tmp_path, wait=3)  # it is waited to its end; a busy machine signs within it
    with witness(tmp_path, "audit", log.verifier) as remote:
        demand(ready, remote)
        workspace = Workspace.open(project)
        workspace.config = replace(workspace.config, witnessed=("version_opened",))
        process = start(folder, "--every", "0.1")  # its trust file asks no witness
        try:
            with pytest.raises(NotWitnessed, match="is kept and signed"):
                workspace.append(opened("7"), idem=idempotency_key("7"), checkpoint=True)
        finally:
            process.terminate()
            process.communicate(timeout=20)
        (folder / "trust.txt").write_text((project / "trust.txt").read_text(encoding="utf-8"), encoding="utf-8")
        workspace.config = replace(workspace.config, signer_wait=20.0)
        process = start(folder, "--every", "0.1")
        try:
            workspace.append(opened("8"), idem=idempotency_key("8"), checkpoint=True)
            workspace.require_witnessed("version_opened", workspace.ledger.size() - 1)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_the_signer_ends_when_the_ledger_was_cut(ready: World, tmp_path: Path) -> None:
    project, folder = split(ready, tmp_path, wait=1)
    process = start(folder, "--every", "0.1")
    try:
        size = Workspace.open(project).ledger.size()
        damage(
            project / ".cognify" / "ledger.sqlite",
            *(f"DELETE FROM {table} WHERE seq >= {size - 2}" for table in ("entry_subject", "payload", "entry")),
        )
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 2
    assert "rolled back" in err


def test_the_signer_ends_when_a_witness_proves_another_history(ready: World, tmp_path: Path) -> None:
    log = ready.workspace.ledger.signer
    assert log is not None
    with witness(tmp_path, "audit", log.verifier) as remote:
        demand(ready, remote)
        ledger = ready.workspace.config.ledger
        state = ready.workspace.config.home / "signer-state.json"
        old = shutil.copy(ledger, tmp_path / "old.sqlite"), shutil.copy(state, tmp_path / "old.json")
        grow(ready, 3)
        Workspace.open(ready.workspace.config.path).ledger.sign_checkpoint()
        shutil.copy(old[0], ledger)  # database and signer's memory were put back together
        shutil.copy(old[1], state)
        project, folder = split(ready, tmp_path, wait=1)
        process = start(folder, "--every", "0.1")
        try:
            Workspace.open(project).append(opened("7"), idem=idempotency_key("7"))
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 2
    assert "rolled_back" in err
    assert "nothing is signed any more: witness audit" in err


def test_a_signer_needs_a_key_that_the_trust_file_knows(ready: World, tmp_path: Path, cognify: Cognify) -> None:
    _, folder = split(ready, tmp_path, wait=1)
    key = folder / ".cognify" / "keys" / "log.key"
    secret = key.read_bytes()
    key.unlink()
    assert cognify("signer", "run", "--workspace", folder).code == 3
    key.write_bytes(bytes(reversed(secret)))
    key.chmod(0o600)
    result = cognify("signer", "run", "--workspace", folder)
    assert result.code == 3
    assert "is not in" in result.err


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('signer = "me"', "signer must be one of"),
        ("signer_wait = 0", "signer_wait"),
        ("signer_wait = true", "signer_wait"),
    ],
)
def test_wrong_signer_settings_are_named(line: str, part: str, ready: World, cognify: Cognify) -> None:
    add_config(ready, line + "\n")
    result = cognify("ledger", "verify", at=ready)
    assert result.code == 3
    assert part in result.err
