"""The doctor finds what is wrong and says what to do."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.cli.doctor import _sqlite
from cognify_dagster.records import VersionOpened
from cognify_dagster.workspace import idempotency_key
from tests.cli.conftest import Cognify, damage, flip_byte
from tests.governance.world import MODEL, World


def _checks(cognify: Cognify, world: World, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = cognify("doctor", "--json", *words, at=world)
    return result.code, {check["name"]: check for check in result.json["checks"]}


@pytest.fixture
def sound(ready: World) -> World:
    ready.workspace.ledger.sign_checkpoint()
    return ready


def test_a_sound_workspace_passes(sound: World, cognify: Cognify) -> None:
    code, checks = _checks(cognify, sound, "--no-dagster")
    assert code == 0
    assert {check["status"] for check in checks.values()} == {"ok"}, checks
    assert {
        "workspace",
        "ledger",
        "exposure window",
        "keys",
        "filesystem",
        "sqlite",
        "evidence",
        "clock",
        "policy",
    } <= set(checks)
    assert "0 fail" in cognify("doctor", "--no-dagster", at=sound).out


def test_no_workspace_fails_with_what_to_do(cognify: Cognify) -> None:
    result = cognify("doctor", "--json")
    assert result.code == 1
    assert "cognify init" in result.json["checks"][0]["text"]


def test_a_readable_key_fails_and_says_chmod(sound: World, cognify: Cognify) -> None:
    (sound.workspace.config.keys / "evidence.key").chmod(0o644)
    code, checks = _checks(cognify, sound, "--no-dagster")
    assert code == 1
    assert checks["key evidence.key"]["status"] == "fail"
    assert "chmod 600" in checks["key evidence.key"]["do"]
    assert checks["workspace"]["status"] == "fail", "such a workspace does not open at all"


def test_a_missing_log_key_and_an_unknown_workload_key(sound: World, cognify: Cognify) -> None:
    (sound.workspace.config.keys / "log.key").unlink()
    (sound.workspace.config.keys / "workload.key").write_bytes(bytes(32))
    code, checks = _checks(cognify, sound, "--no-dagster")
    assert code == 1
    assert checks["key log.key"]["status"] == "warn"
    assert checks["workload"]["status"] == "fail"


def test_damage_is_found(sound: World, cognify: Cognify) -> None:
    flip_byte(sound.workspace.config.ledger, 5)
    code, checks = _checks(cognify, sound, "--no-dagster")
    assert code == 1
    assert checks["ledger"]["status"] == "fail"
    assert "entry 5" in checks["ledger"]["text"]


def test_the_exposure_window_and_an_edited_policy_are_warnings(sound: World, cognify: Cognify) -> None:
    record = VersionOpened(model=MODEL, version="9", run="r9", opened_by="person/ben")
    sound.workspace.append(record, idem=idempotency_key("late"))
    policy = sound.workspace.config.policy
    policy.write_text(policy.read_text().replace("approval_days: 180", "approval_days: 9"))
    code, checks = _checks(cognify, sound, "--no-dagster")
    assert code == 0
    assert checks["exposure window"]["status"] == "warn"
    assert checks["policy"]["status"] == "warn"
    assert "no effect" in checks["policy"]["text"]
    policy.write_text("nonsense: [")
    assert _checks(cognify, sound, "--no-dagster")[1]["policy"]["status"] == "fail"


def test_a_clock_behind_the_ledger_fails(sound: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("cognify_dagster.cli.doctor.time.time", lambda: now - 3600)
    code, checks = _checks(cognify, sound, "--no-dagster")
    assert code == 1
    assert checks["clock"]["status"] == "fail"
    assert "correct this machine's clock" in checks["clock"]["do"]


def test_a_network_filesystem_fails_and_the_journal_is_named(
    sound: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cognify_dagster.ledger.filesystem_of", lambda _path: "nfs4")
    code, checks = _checks(cognify, sound, "--no-dagster")
    assert code == 1
    assert checks["filesystem"]["status"] == "fail"
    assert "journal " in checks["sqlite"]["text"]


def test_a_wal_database_under_a_library_that_could_damage_it_fails(
    sound: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store turns such a file back when it opens it, unless another process holds it: then the doctor says so."""
    monkeypatch.setattr("cognify_dagster.ledger.sqlite.store.WAL_SAFE", (99, 0, 0))
    sound.workspace.ledger.store.close()  # the journal's kind changes only while nobody else has the file open
    damage(sound.workspace.config.ledger, "PRAGMA journal_mode=WAL")
    (check,) = _sqlite(sound.workspace.config)
    assert check.status == "fail"
    assert "can damage a WAL database" in check.text


def test_one_admin_left_is_a_warning(sound: World, cognify: Cognify) -> None:
    from cognify_dagster.governance import revoke_key

    finn = sound.key("finn")
    revoke_key(sound.workspace, "person/finn", finn.key_id, "left", finn)
    _, checks = _checks(cognify, sound, "--no-dagster")
    assert checks["people"]["status"] == "warn"


GOOD = """\
import dagster as dg
from cognify_dagster.orchestration import LedgerResource

print("user code may print")

@dg.asset
def report(): ...

def sensor(name, on):
    status = dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
    tags = {"cognify/sensor": "approval"}
    return dg.SensorDefinition(name=name, asset_selection="*", evaluation_fn=lambda _: None, default_status=status, tags=tags)

defs = dg.Definitions(
    assets=[report],
    sensors=[sensor("credit_approval_sensor", True), sensor("credit_reconciliation_sensor", True)],
    resources={"ledger": LedgerResource(workspace=".cognify")},
)
"""


@pytest.fixture
def with_dagster(sound: World) -> World:
    """The world's project is a Dagster project with an instance beside the ledger."""
    home = sound.folder / "project" / ".cognify" / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    (sound.folder / "project" / "definitions.py").write_text(GOOD)
    return sound


def test_dagster_is_only_looked_at_where_it_is_set_up(sound: World, cognify: Cognify) -> None:
    code, checks = _checks(cognify, sound)
    assert code == 0
    assert "no instance" in checks["dagster"]["text"]


def test_a_daemon_that_never_ran_fails_and_the_rest_is_read_from_the_code(
    with_dagster: World, cognify: Cognify
) -> None:
    code, checks = _checks(cognify, with_dagster)
    assert code == 1
    assert checks["dagster daemon"]["status"] == "fail"
    assert "dagster dev" in checks["dagster daemon"]["do"]
    assert checks["definitions"]["status"] == "ok"
    assert checks["ledger resource"]["status"] == "ok"
    assert checks["sensors"]["status"] == "ok"
    assert checks["run retries"]["status"] == "ok"


def test_the_switches_of_a_running_instance(with_dagster: World, tmp_path: Path) -> None:
    import dagster as dg
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        InstigatorType,
        SensorInstigatorData,
    )
    from dagster._daemon.types import DaemonHeartbeat

    from cognify_dagster.orchestration.health import daemon_check, retries_check, sensor_check

    home = tmp_path / "instance"
    home.mkdir()
    (home / "dagster.yaml").write_text("run_retries:\n  enabled: true\n  max_retries: 2\n")
    location = {"sensors": {"credit_approval_sensor": True, "credit_reconciliation_sensor": False}}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert retries_check(instance).status == "warn"
        now = time.time()
        for daemon in ("SENSOR", "SCHEDULER"):
            instance.add_daemon_heartbeat(DaemonHeartbeat(now, daemon, "x", []))
        assert daemon_check(instance, now + 10).status == "ok"
        assert daemon_check(instance, now + 1000).status == "fail"
        off = sensor_check(instance, location)
        assert off.status == "fail"
        assert "credit_reconciliation_sensor" in off.text
        assert "credit_approval_sensor" not in off.text
        repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "r")
        origin = RemoteInstigatorOrigin(repository, "credit_approval_sensor")
        instance.add_instigator_state(
            InstigatorState(
                origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData(min_interval=30)
            )
        )
        assert "credit_approval_sensor" in sensor_check(instance, location).text
        assert sensor_check(instance, {"sensors": {}}).status == "fail"
    (home / "dagster.yaml").write_text("run_retries:\n  enabled: true\n  retry_on_asset_or_op_failure: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert retries_check(instance).status == "ok"


@pytest.mark.parametrize(
    ("code", "status", "part"),
    [
        ("import dagster as dg\ndefs = dg.Definitions()\n", "ok", "missing"),
        ("raise SystemExit('no')\n", "fail", "does not load"),
        ("x = 1\n", "fail", "holds no Definitions"),
        ("import os; os._exit(7)\n", "fail", "ended its process"),
    ],
)
def test_code_locations_that_lack_something(code: str, status: str, part: str, tmp_path: Path) -> None:
    from cognify_dagster.orchestration.health import load_location, location_checks

    (tmp_path / "definitions.py").write_text(code)
    checks = location_checks(load_location(tmp_path))
    assert checks[0].status == status
    assert checks[-1].status == "fail"
    assert part in checks[-1].text


def test_a_code_location_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.orchestration import health

    def hang(*_arguments: object, **_more: object) -> None:
        raise subprocess.TimeoutExpired("x", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert health.location_checks(health.load_location(tmp_path))[0].status == "fail"
