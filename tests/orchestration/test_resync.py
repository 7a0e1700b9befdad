"""A lost Dagster database is rebuilt from the ledger, and what Dagster remembers of the ledger shows that it was set back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cognify_dagster import LedgerResource
from cognify_dagster.ledger import Checkpoint, Outcome, open_checkpoint, parse_note
from cognify_dagster.orchestration import heads
from cognify_dagster.orchestration.heads import run_heads, trusted_heads
from cognify_dagster.orchestration.health import _asset
from cognify_dagster.orchestration.resync import Resync, ResyncError, resync
from cognify_dagster.records import TrainingRun
from cognify_dagster.workspace import Workspace
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk
from tests.orchestration.test_reconciliation import Watch, findings, forge

GOVERNED = (*project.DATA, *project.BUILD, project.SERVICE)
ASSETS = [_asset(spec) for spec in project.defs.resolve_all_asset_specs()]
# what a materialization shows of the moment it was made, or of the present
_OF_THE_MOMENT = {"cognify/checkpoint", "cognify/state"}


@contextmanager
def instance_at(folder: Path) -> Iterator[dg.DagsterInstance]:
    folder.mkdir(exist_ok=True)
    with dg.instance_for_test(temp_dir=str(folder), set_dagster_home=False) as made:
        yield made


@pytest.fixture
def kept(sit: Callable[[stock.Stock], Desk], released: stock.Stock, tmp_path: Path) -> Iterator[Desk]:
    """A desk where v1 is live, with the instance that ran it all."""
    desk = sit(released)
    assert released.home is not None
    shutil.copytree(released.home, tmp_path / "home")
    with instance_at(tmp_path / "home") as instance:
        desk.instance = instance
        yield desk


@pytest.fixture
def lost(sit: Callable[[stock.Stock], Desk], released: stock.Stock, tmp_path: Path) -> Iterator[Desk]:
    """A desk where v1 is live, with an empty instance: the database was lost."""
    desk = sit(released)
    with instance_at(tmp_path / "new_home") as instance:
        desk.instance = instance
        yield desk


def again(desk: Desk, **options: Any) -> Resync:
    return resync(desk.workspace, desk.instance, ASSETS, **options)


def records(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> list[Any]:
    """Materializations, newest first."""
    only = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition] if partition else None)
    return list(instance.fetch_materializations(only, limit=100).records)


def entries(instance: dg.DagsterInstance, asset: str) -> list[int]:
    """The entries that an asset's materializations name, oldest first."""
    found = [item.asset_materialization.metadata["cognify/ledger_entry"].value for item in records(instance, asset)]
    return found[::-1]


def stale(instance: dg.DagsterInstance, *assets: str, version: str = "v1") -> list[str]:
    """Which assets Dagster shows as stale or missing, with the reasons."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    resolver = CachingStaleStatusResolver(instance, project.defs.resolve_asset_graph(), LoadingContextForTest(instance))
    found = []
    for name in assets or GOVERNED:
        partition = None if name in project.DATA else version
        status = resolver.get_status(dg.AssetKey(name), partition)
        if status.value != "FRESH":
            causes = resolver.get_stale_causes(dg.AssetKey(name), partition)
            found.append(f"{name}: {status.value} {[cause.reason for cause in causes]}")
    return found


def approval_tick(desk: Desk) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=desk.instance,
        instance_ref=desk.instance.get_ref(),
        definitions=project.defs,
        resources={"ledger": LedgerResource()},
    )
    return project.defs.resolve_sensor_def("tiny_approval_sensor").evaluate_tick(context)


def _plain(event: dg.AssetMaterialization, key: str, *folders: Path) -> Any:
    """A metadata value without the folder that the test happens to run in."""
    value = event.metadata[key].value
    text = json.dumps(value if isinstance(value, (dict, list, str, int, float)) else repr(value))
    for folder in folders:
        text = text.replace(str(folder), "")
    return json.loads(text)


def test_the_rebuilt_instance_tells_what_the_lost_one_told(lost: Desk, released: stock.Stock, tmp_path: Path):
    done = again(lost)
    assert lost.instance.get_dynamic_partitions("tiny_versions") == ["v1"]
    assert done.partitions == {"tiny_versions": ["v1"]}
    assert sorted(item.asset for item in done.rebuilt) == sorted(GOVERNED)
    assert [item.seq for item in done.rebuilt] == sorted(item.seq for item in done.rebuilt)
    assert done.notes == []
    assert released.home is not None
    shutil.copytree(released.home, tmp_path / "home")
    with instance_at(tmp_path / "home") as before:
        for name in GOVERNED:
            (old,), (new,) = records(before, name), records(lost.instance, name)
            first, second = old.asset_materialization, new.asset_materialization
            assert new.partition_key == old.partition_key
            own = {"cognify/rebuilt_from_ledger", "cognify/recorded_at"}
            assert set(second.metadata) == set(first.metadata) | own, name
            assert second.metadata["cognify/rebuilt_from_ledger"].value is True
            assert abs(second.metadata["cognify/recorded_at"].value - old.timestamp) < 60
            run_only = {"cognify/identified_by"} | ({"cognify/launched_by"} if name == project.SERVICE else set())
            for key in run_only & set(first.metadata):
                assert second.metadata[key].value.startswith("not kept in the ledger"), (name, key)
            for key in set(first.metadata) - _OF_THE_MOMENT - run_only:
                told, now = (_plain(item, key, lost.folder, released.folder) for item in (first, second))
                assert now == told, (name, key)
            pointers = {key for key in first.tags if "input_event_pointer" in key}
            for key in set(first.tags) - pointers:
                assert second.tags[key] == first.tags[key], (name, key)
            assert pointers <= set(second.tags)
    state = records(lost.instance, "tiny_package")[0].asset_materialization.metadata["cognify/state"].value
    assert "When it was built: v1 waits for Vera" in state


def test_doing_it_again_adds_nothing_and_the_ledger_is_never_written(lost: Desk):
    before = lost.workspace.ledger.size()
    first = again(lost)
    assert len(first.rebuilt) == len(GOVERNED)
    second = again(lost)
    assert (second.rebuilt, second.partitions, second.present) == ([], {}, len(GOVERNED))
    assert lost.workspace.ledger.size() == before
    lost.assert_verifies()


def test_a_dry_run_says_the_same_and_adds_nothing(lost: Desk):
    planned = again(lost, dry_run=True)
    assert lost.instance.get_dynamic_partitions("tiny_versions") == []
    assert not any(records(lost.instance, name) for name in GOVERNED)
    assert again(lost).rebuilt == planned.rebuilt


def test_an_instance_that_lost_nothing_gets_nothing(kept: Desk):
    done = again(kept)
    assert (done.rebuilt, done.partitions, done.present) == ([], {}, len(GOVERNED))


def test_only_what_is_lacking_is_added(kept: Desk):
    (record,) = records(kept.instance, project.SERVICE)
    kept.instance.delete_run(record.run_id)
    kept.instance.wipe_assets([dg.AssetKey("tiny_train")])
    kept.instance.delete_dynamic_partition("tiny_versions", "v1")
    done = again(kept)
    assert [item.asset for item in done.rebuilt] == ["tiny_train", project.SERVICE]
    assert done.partitions == {"tiny_versions": ["v1"]}
    assert done.present == len(GOVERNED) - 2
    assert Watch(kept.instance).tick() == "every materialization is accounted for by a ledger entry"


def test_an_older_entry_never_covers_a_newer_one(kept: Desk):
    project.write_data(kept.folder / "data", rows=210)
    assert kept.run(["tiny_train"], None, checks=()).success
    first, second = entries(kept.instance, "tiny_train")
    kept.instance.delete_run(records(kept.instance, "tiny_train")[1].run_id)
    done = again(kept)
    assert "tiny_train" not in [item.asset for item in done.rebuilt]
    assert entries(kept.instance, "tiny_train") == [second]
    assert any("tells of a newer entry" in note for note in done.notes)
    assert first < second


def test_all_snapshots_come_back_in_order(lost: Desk, tmp_path: Path):
    for rows in (210, 220):
        project.write_data(lost.folder / "data", rows=rows)
        assert lost.run(["tiny_train"], None, checks=()).success
    with instance_at(tmp_path / "third_home") as empty:
        lost.instance = empty
        again(lost)
        found = entries(empty, "tiny_train")
        assert len(found) == 3
        assert found == sorted(found)


def test_nothing_is_stale_after_the_rebuilding(lost: Desk):
    assert [text.split(":")[1].split()[0] for text in stale(lost.instance)] == ["MISSING"] * len(GOVERNED)
    again(lost)
    assert stale(lost.instance) == []


def test_new_data_make_the_version_stale_and_the_same_data_do_not(lost: Desk, tmp_path: Path):
    assert lost.run(["tiny_train"], None, checks=()).success  # a second snapshot of the same data
    with instance_at(tmp_path / "same") as same:
        lost.instance = same
        again(lost)
        assert stale(same) == []
        project.write_data(lost.folder / "data", rows=210)
        assert lost.run(["tiny_train"], None, checks=()).success
        assert stale(same, "tiny_model")
    with instance_at(tmp_path / "newer") as newer:  # the same where the new data were there before the loss
        lost.instance = newer
        again(lost)
        (text,) = stale(newer, "tiny_model")
        assert "data version" in text


def test_the_sensors_are_quiet_and_nothing_is_released_twice(lost: Desk):
    again(lost)
    watch = Watch(lost.instance)
    assert watch.tick() == "every materialization is accounted for by a ledger entry"
    tick = approval_tick(lost)
    assert tick.run_requests == []
    assert "v1 is live on production" in (tick.skip_message or "")
    refused = lost.run([project.SERVICE])
    assert not refused.success  # its approvals are used up, as before the loss
    assert lost.entered("deployment") == 1
    assert watch.tick() == "every materialization is accounted for by a ledger entry"
    assert findings(lost) == []


def test_a_version_that_waits_still_waits(desk: Desk, tmp_path: Path):
    desk.approve("vera")
    with instance_at(tmp_path / "new_home") as empty:
        desk.instance = empty
        again(desk)
        (request,) = approval_tick(desk).run_requests
        assert request.tags["cognify/purpose"] == "report_sign_off"  # the check alone, to show it anew
        desk.approve("carl", "olga")
        (release,) = [item for item in approval_tick(desk).run_requests if "cognify/release_round" in item.tags]
        assert release.partition_key == "v1"
        assert desk.run([project.SERVICE]).success


def test_work_goes_on(lost: Desk):
    again(lost)
    assert lost.run(project.BUILD, "v2").success
    lost.approve(version="v2")
    assert lost.run([project.SERVICE], "v2").success
    assert stale(lost.instance, version="v2") == []
    assert again(lost).rebuilt == []
    assert Watch(lost.instance).tick() == "every materialization is accounted for by a ledger entry"
    lost.assert_verifies()


def rebuilt_metadata(desk: Desk, asset: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What an honest rebuilt materialization holds, for a forger to copy."""
    event = records(desk.instance, asset)[0].asset_materialization
    return dict(event.metadata), dict(event.tags)


def test_a_forged_materialization_that_claims_to_be_rebuilt_is_a_finding(lost: Desk):
    again(lost)
    watch = Watch(lost.instance)
    watch.tick()
    metadata, tags = rebuilt_metadata(lost, "tiny_model")
    forge(lost, "tiny_model", "v1", **metadata)  # without its data version
    lost.instance.report_runless_asset_event(
        dg.AssetMaterialization("tiny_model", partition="v1", metadata=metadata, tags=tags)
    )  # word for word, a second time
    package, _ = rebuilt_metadata(lost, "tiny_package")
    forge(lost, project.SERVICE, "v1", **package)
    watch.tick()
    texts = [item.text for item in findings(lost)]
    assert len(texts) == 3
    assert "its data version is not that of entry" in texts[0]
    assert "told of entry" in texts[1]
    assert "which is a package of" in texts[2]


def test_a_run_that_has_not_ended_tells_of_its_entry_itself(lost: Desk):
    run = lost.all(TrainingRun)[0].record.observed["dagster_run"]
    running = dg.DagsterRun("tiny_version", run_id=str(run), status=dg.DagsterRunStatus.STARTED)
    lost.instance.run_storage.add_run(running)
    done = again(lost)
    assert not {"tiny_model", "tiny_eval", "tiny_package"} & {item.asset for item in done.rebuilt}
    assert any("has not ended" in note for note in done.notes)


def test_lost_evidence_is_said_and_holds_nothing_up(lost: Desk):
    for path in (lost.folder / ".cognify").rglob("*"):
        if "evidence" in path.parts and path.is_file() and path.name != "evidence.key":
            path.unlink()
    done = again(lost)
    assert len(done.rebuilt) == len(GOVERNED)
    metadata, tags = rebuilt_metadata(lost, "tiny_train")
    assert "cannot be read" in metadata["cognify/incomplete"].value
    assert "cognify/ledger_entry" in metadata
    assert tags["dagster/data_version"]
    assert Watch(lost.instance).tick() == "every materialization is accounted for by a ledger entry"


def test_without_definitions_datasets_and_packages_keep_their_names(lost: Desk):
    done = resync(lost.workspace, lost.instance, ())
    assert {item.asset for item in done.rebuilt} == {*project.DATA, "tiny_package"}
    assert done.partitions == {"tiny_versions": ["v1"]}
    assert any("the training of model tiny" in note for note in done.notes)


def test_two_at_once_are_kept_apart(lost: Desk):
    from cognify_dagster.orchestration.resync import _alone

    with _alone(lost.workspace.home), pytest.raises(ResyncError, match="another resync"):
        again(lost)


def test_nothing_is_rebuilt_from_a_changed_ledger(lost: Desk):
    from tests.cli.conftest import damage

    damage(lost.workspace.config.ledger, "UPDATE entry SET bytes = replace(bytes, 'tiny', 'tinx') WHERE seq = 9")
    with pytest.raises(ResyncError, match="does not hold") as caught:
        again(lost)
    assert caught.value.outcome in (Outcome.TAMPERED, Outcome.UNREADABLE)
    assert not records(lost.instance, "tiny_train")


# What Dagster remembers of the ledger


def test_every_materialization_keeps_a_signed_head(kept: Desk):
    trust = kept.workspace.trust()
    for name in GOVERNED:
        (record,) = records(kept.instance, name)
        kept_note = record.asset_materialization.metadata["cognify/checkpoint"].value
        head = open_checkpoint(kept_note["note"], trust.logs)
        assert head.origin == kept.workspace.origin
        assert head.size == kept_note["size"]
    found = run_heads(kept.instance)
    sizes = [Checkpoint.parse(parse_note(note).text).size for _, note in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len({note for _, note in found}) == len(found)
    assert all(label.startswith("Dagster run ") for label, _ in found)
    assert trusted_heads(found, trust, kept.workspace.origin) == (found, [])


def set_back(desk: Desk, older: Path) -> Workspace:
    """Put an older copy of the whole workspace folder back: ledger, signer's memory and all."""
    shutil.rmtree(desk.folder / ".cognify")
    shutil.copytree(older, desk.folder / ".cognify")
    return desk.workspace


def test_a_ledger_that_was_set_back_is_found_by_the_runs_alone(kept: Desk, tmp_path: Path):
    older = tmp_path / "older"
    shutil.copytree(kept.folder / ".cognify", older)
    assert kept.run(project.BUILD, "v2").success
    workspace = set_back(kept, older)
    trust = workspace.trust()
    assert workspace.ledger.verify(trust).outcome is Outcome.HOLDS  # nothing inside gives it away
    report = workspace.ledger.verify(trust, remembered=run_heads(kept.instance))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "Dagster run " in str(report.findings[0])
    with pytest.raises(ResyncError, match="does not hold") as caught:
        again(kept)
    assert caught.value.outcome is Outcome.ROLLED_BACK


def test_heads_that_nobody_trusted_signed_are_not_believed(kept: Desk):
    honest = run_heads(kept.instance)
    lying = honest[0][1].splitlines()
    lying[1] = "99999"
    forge(kept, "tiny_train", None, **{"cognify/checkpoint": "\n".join(lying) + "\n"})
    forge(kept, "tiny_train", None, **{"cognify/checkpoint": "no note at all"})
    forge(kept, "tiny_train", None, **{"cognify/checkpoint": dg.MetadataValue.json({"note": 7})})
    found = run_heads(kept.instance)
    assert len(found) == len(honest) + 1
    believed, remarks = trusted_heads(found, kept.workspace.trust(), kept.workspace.origin)
    assert believed == honest
    assert "reported without a run" in remarks[0]
    assert again(kept).rebuilt == []


def test_reading_heads_is_bounded(kept: Desk, monkeypatch: pytest.MonkeyPatch):
    whole = run_heads(kept.instance)
    monkeypatch.setattr(heads, "_PAGE", 2)
    monkeypatch.setattr(heads, "_KEYS_A_PAGE", 2)
    assert run_heads(kept.instance) == whole
    for _ in range(5):
        forge(kept, "tiny_train", None)
    pages: list[int] = []
    original = kept.instance.fetch_materializations

    def counted(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        pages.append(len(result.records))
        return result

    monkeypatch.setattr(
        type(kept.instance), "fetch_materializations", lambda _, *args, **kwargs: counted(*args, **kwargs)
    )
    run_heads(kept.instance, newest=3)
    assert max(pages) <= 2
    assert sum(pages) <= 3 * len(GOVERNED)


def test_an_instance_opens_by_its_folder_alone(tmp_path: Path):
    (tmp_path / "plain").mkdir()
    with heads.opened(tmp_path / "plain") as instance:
        assert run_heads(instance) == []
    (tmp_path / "plain" / "dagster.yaml").write_text("storage: 7\n")
    with pytest.raises(heads.InstanceError, match="cannot be opened"), heads.opened(tmp_path / "plain"):
        pass
