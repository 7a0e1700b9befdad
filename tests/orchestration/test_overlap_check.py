"""`overlap_check` blocks the evaluation at the level that failed, and what it found decides the gate whoever runs what later."""

from __future__ import annotations

import random
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cognify_dagster as cg
from cognify_dagster.evaluation.recording import overlap_of
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.records import OverlapChecked
from tests.orchestration.desk import Desk, Ran
from tests.orchestration.project import PROVENANCE

WORDS = [f"{a}{b}" for a in "bcdfgklmnprst" for b in ("ado", "elu", "imi", "opa", "uke", "ysa")]


def write_texts(folder: Path, *, exact: int = 0, near: int = 0) -> None:
    """Messages for training and holdout; the first holdout rows are copies of training rows, the next ones nearly so."""
    rnd = random.Random(7)
    train = [" ".join(rnd.choice(WORDS) for _ in range(24)) for _ in range(120)]
    holdout = [" ".join(rnd.choice(WORDS) for _ in range(24)) for _ in range(30)]
    for row in range(exact):
        holdout[row] = train[row]
    for row in range(exact, exact + near):
        holdout[row] = " ".join(["hello", *train[row].split()[1:]])
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in (("texts_train", train), ("texts_holdout", holdout)):
        table = pa.table({"n": list(range(len(texts))), "text": texts})
        pq.write_table(table, folder / f"{name}.parquet")


def definitions(
    folder: Path, *checks: dg.AssetChecksDefinition, partitions: dg.PartitionsDefinition | None = None
) -> dg.Definitions:
    def asset(name: str) -> dg.AssetsDefinition:
        def source() -> str:
            return str(folder / f"{name}.parquet")

        return cg.dataset_snapshot(source, name=name, provenance=PROVENANCE)

    @dg.asset(deps=["texts_holdout", "texts_train"])
    def uses_holdout() -> None:
        (folder / "used").touch()

    return dg.Definitions(
        assets=[asset("texts_train"), asset("texts_holdout"), uses_holdout],
        asset_checks=list(checks),
        resources={"ledger": cg.LedgerResource()},
    )


ALL = ("texts_train", "texts_holdout", "uses_holdout")
NEAR = {"train": "texts_train", "holdout": "texts_holdout", "columns": ["text"], "levels": ["exact", "near-duplicate"]}


def run(desk: Desk, defs: dg.Definitions, *assets: str) -> Ran:
    return desk.run(assets or ALL, None, definitions=defs)


def test_three_exact_and_two_near_duplicates_fail_the_check_and_block_what_uses_the_holdout(new_desk: Desk) -> None:
    folder = new_desk.folder / "texts"
    write_texts(folder, exact=3, near=2)
    ran = run(new_desk, definitions(folder, cg.overlap_check(**NEAR)))
    assert not ran.success
    assert not (folder / "used").exists()
    check = ran.checks["no_overlap"]
    assert (check.passed, check.blocking) == (False, True)
    assert check.metadata["cognify/overlapping_records"].value == 5
    assert check.metadata["cognify/failed_levels"].value == "exact, near-duplicate"
    assert check.metadata["cognify/holdout_rows"].value == [0, 1, 2, 3, 4]
    assert "exact: 3 of 30 holdout records found" in (check.description or "")
    (item,) = new_desk.all(OverlapChecked)
    assert (item.record.overlapping_records, item.record.passed) == (5, False)
    assert [(level.level, level.overlap_holdout) for level in item.record.levels] == [
        ("exact", 3),
        ("near-duplicate", 5),
    ]
    assert item.record.levels[1].parameters["threshold"] == 0.6
    assert item.record.report is not None
    assert new_desk.workspace.evidence.get(item.record.report.digest).startswith(b"{")
    new_desk.assert_verifies()


def test_a_level_that_finds_nothing_passes_and_says_which_it_was(new_desk: Desk) -> None:
    folder = new_desk.folder / "texts"
    write_texts(folder, near=2)
    check = cg.overlap_check(**{**NEAR, "levels": ["exact"]})
    ran = run(new_desk, definitions(folder, check))
    assert ran.success, ran.failure
    assert (folder / "used").exists()
    assert ran.checks["no_overlap"].metadata["cognify/level"].value == "exact"
    assert "Nothing is said about other levels" in (ran.checks["no_overlap"].description or "")


def test_a_narrow_comparison_cannot_hide_what_a_wider_one_of_another_name_found(new_desk: Desk) -> None:
    folder = new_desk.folder / "texts"
    write_texts(folder, near=2)
    wide = cg.overlap_check(**NEAR, name="near")
    narrow = cg.overlap_check(train="texts_train", holdout="texts_holdout", ignore=["n"])
    ran = run(new_desk, definitions(folder, wide, narrow), "texts_train", "texts_holdout")
    assert {name: check.passed for name, check in ran.checks.items()} == {"near": False, "no_overlap": True}
    reading = new_desk.workspace.read()
    found = reading.all(OverlapChecked)
    assert sorted((item.record.check, item.record.overlapping_records) for item in found) == [("", 0), ("near", 2)]
    for _ in range(2):  # whichever of the two is the newest
        (speaks,) = overlap_of(new_desk.workspace.read(), [found[0].record.train], found[0].record.holdout.root)
        assert speaks.record.check == "near"
        run(new_desk, definitions(folder, narrow), "texts_holdout")


def test_data_that_changed_since_the_snapshot_fail_the_check(new_desk: Desk) -> None:
    folder = new_desk.folder / "texts"
    write_texts(folder)
    defs = definitions(folder, cg.overlap_check(**NEAR))
    assert run(new_desk, definitions(folder), "texts_train").success
    pq.write_table(pa.table({"n": [1], "text": ["other"]}), folder / "texts_train.parquet")
    ran = run(new_desk, defs, "texts_holdout")
    assert not ran.success
    assert "dataset texts_train: file texts_train.parquet has other content" in ran.failure
    assert not new_desk.all(OverlapChecked)


def test_settings_that_make_no_sense_are_refused_when_the_project_loads() -> None:
    for more, message in (
        ({"levels": ["fuzzy"]}, "no overlap level 'fuzzy'"),
        ({"levels": "exact"}, "as lists, not as the text 'exact'"),
        ({"threshold": 0.1}, "0.1 is not from 0.5 to 1"),
        ({"ngram": 2}, "ngram 2 is not from 8"),
    ):
        with pytest.raises(UsageError, match=message):
            cg.overlap_check(train="a", holdout="b", **more)


def test_a_partition_of_the_holdout_is_compared_with_the_same_partition_of_the_training_data(new_desk: Desk) -> None:
    months = dg.StaticPartitionsDefinition(["2026-01", "2026-02"])
    folder = new_desk.folder / "texts"
    for month, exact in (("2026-01", 0), ("2026-02", 2)):
        write_texts(folder / month, exact=exact)

    def asset(name: str) -> dg.AssetsDefinition:
        def source(context: dg.AssetExecutionContext) -> str:
            return str(folder / context.partition_key / f"{name}.parquet")

        return cg.dataset_snapshot(source, name=name, provenance=PROVENANCE, partitions_def=months)

    defs = dg.Definitions(
        assets=[asset("texts_train"), asset("texts_holdout")],
        asset_checks=[cg.overlap_check(**NEAR, partitions_def=months)],
        resources={"ledger": cg.LedgerResource()},
    )
    job = defs.resolve_implicit_global_asset_job_def()
    results = {}
    for month in ("2026-01", "2026-02"):
        done = job.execute_in_process(
            instance=new_desk.instance, partition_key=month, raise_on_error=False, tags={"user": "ben"}
        )
        results[month] = Ran(done.run_id, done.success, list(done.all_events))
    assert {month: ran.checks["no_overlap"].passed for month, ran in results.items()} == {
        "2026-01": True,
        "2026-02": False,
    }
    assert [item.record.holdout.name for item in new_desk.all(OverlapChecked)] == [
        "texts_holdout@2026-01",
        "texts_holdout@2026-02",
    ]
