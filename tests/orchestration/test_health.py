"""`cognify doctor` knows a governed model's sensors by their tag, and whether its deployments may overlap."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from cognify_dagster.orchestration.health import load_location, pool_checks, sensor_check

PROJECT = """\
import dagster as dg

def sensor(name, **tags):
    return dg.SensorDefinition(name=name, asset_selection="*", evaluation_fn=lambda _: None, tags=tags)

@dg.asset(metadata={"cognify/pool": "credit_production_deployment"})
def service(): ...

defs = dg.Definitions(
    assets=[service],
    sensors=[
        sensor("releases", **{"cognify/sensor": "approval"}),
        sensor("somebody_elses_approval_sensor"),
    ],
)
"""


def test_a_renamed_sensor_is_found_and_a_foreign_one_of_that_name_is_not(
    tmp_path: Path, own_instance: dg.DagsterInstance
):
    (tmp_path / "definitions.py").write_text(PROJECT)
    location = load_location(tmp_path)
    assert location["sensors"] == {"releases": False}
    found = sensor_check(own_instance, location)
    assert found.status == "fail"
    assert found.text == "switched off: releases"


def test_the_sensors_of_build_defs_are_recognised(tmp_path: Path):
    (tmp_path / "definitions.py").write_text("from tests.orchestration.project import defs\n")
    location = load_location(tmp_path)
    assert location["sensors"] == dict.fromkeys(
        ("tiny_approval_sensor", "tiny_reconciliation_sensor", "tiny_notification_sensor"), True
    )
    assert location["pools"] == ["tiny_production_deployment"]


def test_pools_without_a_limit_are_told_with_the_command_that_sets_it(own_instance: dg.DagsterInstance):
    location = {"pools": ["credit_production_deployment"]}
    assert pool_checks(own_instance, {}) == []
    (free,) = pool_checks(own_instance, location)
    assert free.status == "ok"
    assert "enough if all deployments run on this host" in free.text
    assert "dagster instance concurrency set credit_production_deployment 1" in free.do
    own_instance.event_log_storage.set_concurrency_slots("credit_production_deployment", 1)
    (limited,) = pool_checks(own_instance, location)
    assert limited.text == "limit 1: credit_production_deployment"
    assert limited.do == ""
