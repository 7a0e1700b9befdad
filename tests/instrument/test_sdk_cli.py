"""`cognify dataset bind` and `cognify spool` on real workspaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.instrument.sdk.bindings import current_bindings, role_of
from cognify_dagster.instrument.sdk.journal import JOURNAL
from cognify_dagster.records import DatasetsBound, TrainingRun
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World
from tests.instrument.sdk_world import ORIGIN, snapshot, write_csv


@pytest.mark.parametrize(
    ("label", "role"),
    [
        ("train", "train"),
        ("train-2026", "train"),
        ("Training", "train"),
        ("validation", "validation"),
        ("holdout-v3", "holdout"),
        ("golden", "other"),
        ("mytrain", "other"),
    ],
)
def test_the_beginning_of_a_label_says_the_role(label: str, role: str) -> None:
    assert role_of(label) == role


def test_bind_shows_and_keeps_what_is_not_named(world: World, tmp_path: Path, cli: Cognify) -> None:
    seq = snapshot(world.workspace, write_csv(tmp_path / "v.csv", 5000), "loans_validation")
    done = cli("dataset", "bind", MODEL, "validation=loans_validation", at=world)
    assert done.code == 0, done.err
    assert "Bound in entry" in done.out
    shown = cli("dataset", "bind", MODEL, "--show", "--json", at=world).json
    assert [(row["label"], row["name"], row["role"]) for row in shown["bindings"]] == [
        ("holdout-v3", "loans_holdout", "holdout"),
        ("train", "loans_train", "train"),
        ("validation", "loans_validation", "validation"),
    ]
    assert shown["bindings"][2]["entry"] == seq
    bound = current_bindings(world.workspace.read(), MODEL)
    assert bound is not None
    assert bound.record.bound_by == "person/train"


def test_binding_the_same_again_appends_nothing(world: World, cli: Cognify) -> None:
    before = world.workspace.ledger.size()
    done = cli("dataset", "bind", MODEL, "train=loans_train", at=world)
    assert "Nothing changed" in done.out
    assert world.workspace.ledger.size() == before


def test_an_older_snapshot_is_named_by_entry_or_root(world: World, tmp_path: Path, cli: Cognify) -> None:
    old = world.workspace.read().latest(DatasetsBound, f"model/{MODEL}")
    assert old is not None
    first = next(item.dataset for item in old.record.bindings if item.label == "train")
    snapshot(world.workspace, write_csv(tmp_path / "t.csv", 5000), "loans_train", run="again")
    assert "entry" in cli("dataset", "bind", MODEL, "--show", at=world).out
    for which in (str(first.seq), first.root[:12]):
        cli("dataset", "bind", MODEL, "train=loans_train", at=world)
        rows = cli("dataset", "bind", MODEL, f"train=loans_train@{which}", "--json", at=world).json["bindings"]
        assert next(row["root"] for row in rows if row["label"] == "train") == first.root


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train=nothing",), "never snapshotted"),
        (("train=loans_train@99",), "no snapshot '99'"),
        (("train=loans_train@ffffffff",), "no snapshot"),
        (("--remove", "x"), "no dataset is bound to 'x'"),
        (("tr ain=loans_train",), "expected letters"),
        (("train",), "not LABEL=SNAPSHOT"),
        (("train=a", "train=b"), "named twice"),
        ((), "name what to bind"),
        (("--show", "train=loans_train"), "appends nothing"),
    ],
)
def test_bad_bindings_are_refused_in_words(words: tuple[str, ...], said: str, world: World, cli: Cognify) -> None:
    before = world.workspace.ledger.size()
    done = cli("dataset", "bind", MODEL, *words, at=world)
    assert done.code in (3, 5)
    assert said in done.err
    assert world.workspace.ledger.size() == before


def waiting(world: World, tmp_path: Path) -> Path:
    """A run that ended while the workspace was away."""
    project, away = world.folder / "project", world.folder / "unmounted"
    project.rename(away)
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run(config={"lr": 1})
    run.log_metric("loss", 0.5)
    path = tmp_path / "m.bin"
    path.write_text("m")
    run.save_model(path)
    run.eval({"auc": 0.8}, "holdout-v3")
    outcome = run.complete()
    away.rename(project)
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is not None
    return outcome.spool


def test_list_show_and_flush(world: World, tmp_path: Path, cli: Cognify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = waiting(world, tmp_path)
    assert cli("spool", "list").code == 0, "no workspace is needed to look"
    (row,) = cli("spool", "list", "--json", at=world).json
    assert (row["run"], row["state"], row["project"], row["folder"]) == (folder.name, "waiting", MODEL, str(folder))
    shown = cli("spool", "show", folder.name, "--json", at=world).json
    assert shown["metrics"] == {"loss": 0.5}
    assert shown["config"] == {"lr": 1}
    assert shown["evaluations"][0]["benchmark_version"] == "holdout-v3"
    assert "m.bin" in cli("spool", "show", folder.name, at=world).out
    done = cli("spool", "flush", "--json", at=world)
    assert done.code == 0, done.err
    assert [(r["run"], r["done"], r["outcome"], r["version"]) for r in done.json] == [
        (folder.name, True, "NotPackaged", "1")
    ]
    assert "Nothing waits" in cli("spool", "flush", at=world).out
    assert "Nothing waits" in cli("spool", "list", at=world).out
    assert len(world.workspace.read().all(TrainingRun)) == 1


def test_damage_and_unknown_runs_end_with_honest_codes(
    world: World,
    tmp_path: Path,
    cli: Cognify,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = waiting(world, tmp_path)
    data = bytearray((folder / JOURNAL).read_bytes())
    data[50] ^= 1
    (folder / JOURNAL).write_bytes(bytes(data))
    listed = cli("spool", "list", at=world)
    assert listed.code == 1
    assert "damaged" in listed.out
    assert cli("spool", "show", folder.name, at=world).code == 1
    flushed = cli("spool", "flush", at=world)
    assert flushed.code == 1
    assert "line 1" in flushed.out.replace("\n", " ") or "line" in flushed.out
    assert cli("spool", "show", "sdk-nothing", at=world).code == 3
    assert cli("spool", "flush", "sdk-nothing", at=world).code == 3


def test_a_ledger_out_of_reach_ends_the_flush_with_3_and_loses_nothing(
    world: World,
    tmp_path: Path,
    cli: Cognify,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cognify_dagster.instrument.sdk import flushing
    from cognify_dagster.ledger.errors import LedgerUnreadable

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = waiting(world, tmp_path)

    def gone(*_: object, **__: object) -> None:
        raise LedgerUnreadable("the server does not answer")

    monkeypatch.setattr(flushing, "seal", gone)
    done = cli("spool", "flush", at=world)
    assert done.code == 3
    assert "it waits" in done.out
    assert folder.exists()
