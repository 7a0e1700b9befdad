"""What of the callback needs neither torch nor transformers: lists of files by process, licences, names, secrets, the worker."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cognify_dagster.instrument.huggingface import capture
from cognify_dagster.instrument.huggingface.base_model import NO_LICENCE, find_base, licence_of
from cognify_dagster.instrument.huggingface.checkpoints import Background
from cognify_dagster.instrument.huggingface.ranks import RankStore, own_rows, rank_of_file, rank_wait, read_rows
from cognify_dagster.instrument.huggingface.writing import Writer
from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.records import DatasetRef
from cognify_dagster.training import TrainingError, TrainingRecorder, digest_files


class Store:
    """The processes' shared store, in one process."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.kept[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.kept for key in keys)


def test_without_transformers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import cognify_dagster.instrument.huggingface as room

    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed, wherever this runs
    monkeypatch.delitem(sys.modules, f"{room.__name__}.callback", raising=False)
    with pytest.raises(ModuleNotFoundError, match="install them beside cognify_dagster"):
        _ = room.CognifyCallback


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("rng_state_3.pth", 3),
        ("pytorch_model_fsdp_0/__12_0.distcp", 12),
        ("global_step4/zero_pp_rank_1_mp_rank_00_optim_states.pt", 1),
        ("rng_state.pth", None),
        ("model.safetensors", None),
        ("optimizer.pt", None),
    ],
)
def test_the_process_that_wrote_a_file_is_told_by_its_name(name: str, rank: int | None) -> None:
    assert rank_of_file(name) == rank


def test_each_process_hashes_its_own_files_and_the_first_one_collects_the_lists(tmp_path: Path) -> None:
    for name in ("rng_state_0.pth", "rng_state_1.pth", "rng_state_2.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    shared = Store()
    for rank in (1, 2):
        RankStore(shared, "1").put("checkpoint-2", rank, own_rows(tmp_path, rank, "checkpoint-2"))
    first = RankStore(shared, "1")
    rows = first.collect("checkpoint-2", 3)
    assert [(row["rank"], row["file"]) for row in rows] == [(1, "rng_state_1.pth"), (2, "rng_state_2.pth")]
    assert {row["sha256"] for row in rows} <= {item.sha256 for item in digest_files(tmp_path).files}
    assert first.silent == set()


def test_a_silent_process_is_waited_for_once_and_named() -> None:
    store, waits = RankStore(Store(), "1"), []
    assert store.collect("checkpoint-2", 3, wait_s=0.0, sleep=waits.append) == []
    assert store.silent == {1, 2}
    assert store.collect("checkpoint-4", 3, wait_s=1e9, sleep=waits.append) == []  # not waited for again
    assert len(waits) < 3


@pytest.mark.parametrize(
    ("value", "seconds"), [("", 60), ("2.5", 2.5), ("0", 0), ("soon", 60), ("-1", 60), ("nan", 60), ("inf", 60)]
)
def test_a_waiting_time_that_is_none_stops_no_training_and_is_named(
    value: str, seconds: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("COGNIFY_RANK_WAIT_S", value)
    assert rank_wait() == seconds
    assert ("COGNIFY_RANK_WAIT_S" in caplog.text) == (value in ("soon", "-1", "nan", "inf"))


class Bound(TrainingRecorder):
    """A run that knows its snapshots."""

    def __init__(self, **records: int | None) -> None:
        super().__init__()
        self.datasets = {
            label: BoundDataset(label, DatasetRef(name=label, root="ab" * 32, seq=7, role=role), records=count)
            for label, count in records.items()
            for role in (["train"] if label.startswith("train") else ["holdout"])
        }


def told(run: TrainingRecorder, rows: Any) -> Any:
    trainer = SimpleNamespace(train_dataset=rows, eval_dataset=None)
    Writer(run, Background(), trainer, None, strict=False)._datasets({})
    return run.to_facts()["facts"]["extra"].get("hf.rows_differ")


def test_other_rows_than_those_of_the_bound_snapshots_are_noted_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        note = told(Bound(train_a=30, train_b=10, holdout=5), range(32))
    assert (note["trainer"], note["bound"]) == (32, 40)
    assert "train_a (entry 7, 30), train_b (entry 7, 10)" in note["note"]
    assert "the Trainer trains on 32 rows" in caplog.text


@pytest.mark.parametrize(
    ("run", "rows"),
    [
        (Bound(train=32, holdout=5), range(32)),
        (Bound(train=None), range(32)),
        (Bound(holdout=5), range(32)),
        (Bound(train=30), iter(range(32))),
        (TrainingRecorder(), range(32)),
    ],
    ids=["as many", "not counted", "none bound", "a stream", "a recorder"],
)
def test_nothing_is_noted_where_the_numbers_agree_or_are_not_known(run: Any, rows: Any) -> None:
    assert told(run, rows) is None


@pytest.mark.parametrize(
    "data",
    [
        b"[{}]",
        b'[{"file": "a", "size": "1", "sha256": "x"}]',
        b'[{"file": 1, "size": 1, "sha256": "x"}]',
        b" " * 5_000_000,
    ],
)
def test_a_list_that_another_process_sent_is_checked_field_by_field(data: bytes) -> None:
    with pytest.raises(ValueError, match="rank 1"):
        read_rows(data, "checkpoint-2", 1)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# x\n", "apache-2.0"),
        ("---\r\nlicense: [mit, bsd]\r\n---\r\n", "mit, bsd"),
        ("---\nlicense: other\nlicense_name: house\n---\n", "house"),
        ("# no header\nlicense: mit\n", NO_LICENCE),
        ("---\nlicense: [unclosed\n---\n", NO_LICENCE),
        ("---\n- a list\n---\n", NO_LICENCE),
        (None, NO_LICENCE),
    ],
)
def test_the_licence_is_what_the_cards_header_says(tmp_path: Path, card: str | None, licence: str) -> None:
    if card is not None:
        (tmp_path / "README.md").write_bytes(card.encode())
    assert licence_of(tmp_path) == licence


def test_a_base_model_in_a_folder_has_the_digest_of_that_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    found = find_base(str(tmp_path))
    assert found is not None
    assert found.digest == digest_files(tmp_path)
    assert find_base("") is None
    with pytest.raises(TrainingError, match="no folder"):
        find_base("", folder=tmp_path / "nowhere")


def test_the_cache_of_the_hub_is_read_through_its_links_but_never_out_of_the_repository(tmp_path: Path) -> None:
    from cognify_dagster.instrument.huggingface.base_model import _digest_cached

    repository = tmp_path / "models--a--b"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (repository / "blobs" / "1").write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "model.safetensors").write_bytes(b"weights")
    assert _digest_cached(snapshot).sha256 == digest_files(plain).sha256
    (tmp_path / "secret").write_bytes(b"x")
    (snapshot / "config.json").symlink_to("../../../secret")
    with pytest.raises(TrainingError, match="leads out"):
        _digest_cached(snapshot)


def test_the_worker_keeps_the_order_and_the_errors_and_joins() -> None:
    done: list[int] = []
    background = Background()

    def broken() -> None:
        raise OSError("disk")

    background.submit("one", lambda: done.append(1))
    background.submit("two", broken)
    background.submit("three", lambda: done.append(3))
    background.join()
    assert done == [1, 3]
    assert background.problems == {"two": "OSError: disk"}
    background.close()
    background.close()


def test_values_become_plain_json_and_secrets_do_not_leave() -> None:
    class Arguments:
        hub_token = "hf_" + "x" * 30
        eos_token = "</s>"

        def to_dict(self) -> dict[str, Any]:
            return {
                "hub_token": "<HUB_TOKEN>",
                "eos_token": "<EOS_TOKEN>",
                "kwargs": {"token": "hf_" + "y" * 30, "x": object()},
                "names": {"b", "a"},
            }

    found = capture.training_arguments(Arguments())
    assert found["eos_token"] == "</s>"
    assert found["names"] == ["a", "b"]
    assert found["kwargs"]["x"] == "<builtins.object>"
    text = json.dumps(found)
    assert "hf_x" not in text
    assert "hf_y" not in text


def test_numbers_of_the_log_become_points_and_nothing_else_does() -> None:
    entry = {"loss": 0.5, "step": 3, "note": "x", "flag": True, "eval_f1 (macro)": 1, "nan": float("nan")}
    points = {name: (value, step) for name, value, step in capture.metric_points(entry)}
    assert points["loss"] == (0.5, 3)
    assert points["eval_f1__macro_"] == (1.0, 3)
    assert set(points) == {"loss", "eval_f1__macro_", "nan"}
