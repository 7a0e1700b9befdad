"""The weekly schedule opens a new version, and its run goes as far as the package."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.records import Package, TrainingRun
from examples.credit_default import demo, people


@pytest.mark.slow
def test_a_weekly_tick_trains_a_new_version_that_is_attributed_and_waits_for_signatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "COGNIFY_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    story = demo.Story(tmp_path)
    workspace = people.found(story)
    people.enrol(story, workspace)
    people.sign_gates(story, workspace)
    from examples.credit_default.definitions import defs

    repository = defs.get_repository_def()
    schedule = repository.get_schedule_def("credit_weekly_retraining")
    monday = dt.datetime(2026, 11, 23, 3, tzinfo=dt.timezone.utc)
    with dg.instance_for_test() as instance:
        data = defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={dg.AssetKey(name) for name in demo.DATA}
        )
        assert data.execute_in_process(instance=instance, tags={"user": "ben"}).success
        demo.approve_data(story, workspace)  # once: the weekly run takes the same data again
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=monday, repository_def=repository
        )
        requests = schedule.evaluate_tick(context).run_requests
        assert requests is not None
        assert [request.partition_key for request in requests] == ["v2026.11.23"]
        result = repository.get_job(schedule.job_name).execute_in_process(
            instance=instance,
            partition_key="v2026.11.23",
            tags={"dagster/schedule_name": schedule.name},
            raise_on_error=False,
        )
    assert result.success
    reading = workspace.read()
    training = reading.latest(TrainingRun, "model/credit_default@v2026.11.23")
    assert training is not None
    assert training.record.launched_by == demo.BEN.person
    assert training.record.unattributed == ()
    assert reading.latest(Package, "model/credit_default@v2026.11.23") is not None
    assert workspace.ledger.verify(workspace.trust()).level == "L1"
