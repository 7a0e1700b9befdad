"""A training script in a process of its own: what it reports is checked, and what goes wrong with it is recorded."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cognify_dagster as cg
from cognify_dagster.instrument import pipes, pipes_report
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.records import TrainingFailed, TrainingRun
from cognify_dagster.training import TrainingError, TrainingRecorder, digest_files
from tests.orchestration import project
from tests.orchestration.desk import Desk, Ran

HONEST = """
    model = out / "model.json"
    model.write_text(json.dumps({"cut": 1}))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    say = {"cognify": "training/1", "model": {"path": "model.json", "sha256": digest}}
"""
SEND = "\n    pipes.report_custom_message(say)\n"
SECRET = "hunter2-swordfish"


def script(folder: Path, body: str) -> list[str]:
    """A script that opened Pipes and knows its output folder `out`; return the command for it."""
    head = """
import hashlib, json, os, signal, sys
from pathlib import Path
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    given = pipes.extras["cognify"]
    out = Path(given["output"])
"""
    path = folder / "train.py"
    path.write_text(head + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n", encoding="utf-8")
    return [sys.executable, str(path)]


def train(desk: Desk, body: str, **options: object) -> Ran:
    """Snapshot the data, then train v1 with a script of this body."""
    asset = cg.pipes_training_run(
        project.tiny, name="tiny_model", datasets=["tiny_train"], command=script(desk.folder, body), **options
    )
    defs = dg.Definitions(assets=[project.tiny_train, asset], resources={"ledger": cg.LedgerResource()})
    if not desk.workspace.read().all(pipes_snapshot()):
        assert desk.run(["tiny_train"], None, definitions=defs).success
    return desk.run(["tiny_model"], "v1", definitions=defs)


def pipes_snapshot() -> type:
    from cognify_dagster.records import DatasetSnapshot

    return DatasetSnapshot


def assert_refused(desk: Desk, ran: Ran, *words: str) -> None:
    """The run failed with these words, nothing is sealed, and the failure is on record."""
    assert not ran.success
    failed = desk.all(TrainingFailed)
    assert len(failed) == 1
    for word in words:
        assert word in failed[0].record.reason
    assert desk.all(TrainingRun) == []
    desk.assert_verifies()


def test_what_an_honest_script_reports_is_sealed(new_desk: Desk) -> None:
    ran = train(
        new_desk,
        HONEST
        + """
    plot = out / "plot.svg"
    plot.write_text("<svg/>")
    say |= {
        "config": {"rate": 0.1, "rows": given["datasets"]["tiny_train"]["path"].rsplit("/", 1)[1]},
        "metrics": {"auc": 0.75, "loss": [[1, 0.5], [2, "NaN"], [None, 0.25]]},
        "seeds": {"python": 7},
        "selection_note": "the only one",
        "artifacts": [{"name": "plot.svg", "media_type": "image/svg+xml", "path": str(plot),
                       "sha256": hashlib.sha256(plot.read_bytes()).hexdigest()}],
        "extra": {"version": given["version"], "root": given["datasets"]["tiny_train"]["root"]},
    }
"""
        + SEND,
    )
    assert ran.success, ran.failure
    run = new_desk.all(TrainingRun)[0].record
    assert run.config == {"rate": 0.1, "rows": "tiny_train.parquet"}
    assert run.metrics == {"auc": 0.75, "loss": 0.25}
    assert run.seeds == {"python": 7}
    assert run.extra["version"] == "v1"
    assert run.extra["root"] == run.datasets[0].root
    assert run.extra["pipes"] == {"environment": "of the process that launched the script"}
    assert [item.name for item in run.artefacts] == ["plot.svg"]
    assert new_desk.workspace.evidence.get(run.model_file.digest) == b'{"cut": 1}'
    assert ran.materialized["tiny_model"]["cognify/model_digest"].value == run.model_file.digest


def test_a_digest_that_is_not_the_files_is_refused(new_desk: Desk) -> None:
    ran = train(new_desk, HONEST + '\n    say["model"]["sha256"] = "0" * 64\n' + SEND)
    assert_refused(new_desk, ran, "the script reported sha256 0000", "Nothing is recorded as trained")


def test_a_file_that_is_rewritten_after_the_report_is_refused(new_desk: Desk) -> None:
    ran = train(new_desk, HONEST + SEND + '\n    model.write_text("something else")\n')
    assert_refused(new_desk, ran, "the script reported sha256")


@pytest.mark.parametrize("path", ["/etc/hostname", "../../../../cognify.toml", "elsewhere"])
def test_a_file_outside_the_output_folder_is_never_opened(new_desk: Desk, path: str) -> None:
    ran = train(
        new_desk,
        HONEST
        + f"""
    os.symlink("/etc/hostname", out / "elsewhere")
    say["model"]["path"] = {path!r}
"""
        + SEND,
    )
    assert_refused(new_desk, ran, "is not below the run's output folder")


def test_a_script_that_crashes_leaves_a_failed_training(new_desk: Desk) -> None:
    ran = train(new_desk, HONEST + SEND + "\n    raise RuntimeError('out of memory')\n")
    assert_refused(new_desk, ran, "failed with code 1")


def test_a_script_that_is_killed_leaves_a_failed_training(new_desk: Desk) -> None:
    ran = train(new_desk, HONEST + SEND + "\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    assert_refused(new_desk, ran, "failed with code -9")


def test_a_script_that_says_nothing_is_refused(new_desk: Desk) -> None:
    ran = train(new_desk, HONEST + "\n    pipes.report_custom_message({'epoch': 1})\n")
    assert_refused(new_desk, ran, "ended without reporting its model")


def test_a_version_may_be_trained_again_after_its_script_failed(new_desk: Desk) -> None:
    assert not train(new_desk, "sys.exit(3)").success
    assert train(new_desk, HONEST + SEND).success
    assert len(new_desk.all(TrainingRun)) == 1


def test_a_huge_report_is_refused(new_desk: Desk) -> None:
    body = f"""
    say["extra"] = {{"big": "x" * {pipes_report.MAX_MESSAGE_BYTES}}}
    report = out / "report.json"
    report.write_text(json.dumps(say))
    say = {{"cognify": "training/1", "file": {{"path": "report.json", "sha256": hashlib.sha256(report.read_bytes()).hexdigest()}}}}
"""
    assert_refused(new_desk, train(new_desk, HONEST + body + SEND), "more than 16777216")
    with pytest.raises(TrainingError, match="more than 16777216"):
        pipes_report.read_message(
            [{**MESSAGE, "extra": {"big": "x" * pipes_report.MAX_MESSAGE_BYTES}}], new_desk.folder
        )


def test_secrets_in_extras_reach_no_record(new_desk: Desk) -> None:
    ran = train(
        new_desk,
        HONEST + f'\n    assert pipes.extras["token"] == {SECRET!r}[:7] + "-swordfish"\n' + SEND,
        extras={"token": SECRET},
    )
    assert ran.success, ran.failure
    (new_desk.folder / "train.py").unlink()
    for path in sorted(new_desk.folder.rglob("*")):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in json.dumps({name: str(value) for name, value in ran.materialized["tiny_model"].items()})


def test_an_asset_with_a_function_of_its_own_adds_what_it_knows(new_desk: Desk) -> None:
    words = script(new_desk.folder, HONEST + SEND)

    @cg.training_run(project.tiny, datasets=["tiny_train"])
    def tiny_model(context: dg.AssetExecutionContext, run: cg.TrainingRecorder, tiny_train: cg.Snapshot) -> Path:
        run.note_selection("as the asset says")
        return cg.train_with_pipes(context, dg.PipesSubprocessClient(), command=words)

    defs = dg.Definitions(assets=[project.tiny_train, tiny_model], resources={"ledger": cg.LedgerResource()})
    assert new_desk.run(["tiny_train"], None, definitions=defs).success
    ran = new_desk.run(["tiny_model"], "v1", definitions=defs)
    assert ran.success, ran.failure
    assert new_desk.all(TrainingRun)[0].record.selection_note == "as the asset says"


def test_the_helper_reports_environment_and_everything_it_was_told(new_desk: Desk) -> None:
    words = script(
        new_desk.folder,
        """
        from cognify_dagster.instrument.pipes import open_training
        with open_training(pipes) as run:
            assert run.version == "v1" and run.model == "tiny"
            run.log_config({"rows": Path(run.datasets["tiny_train"].path).name})
            for step in range(2000):
                run.log_metric("loss", 0.5, step=step)
            run.log_seeds(python=1)
            run.log_artifact("note.txt", b"hello", "text/plain")
            run.set_architecture("mean", framework="none", framework_version="1", parameters=1)
            run.log_extra("host", {"a": 1})
            folder = run.output / "step-1"
            folder.mkdir()
            (folder / "weights").write_text("w")
            run.log_checkpoint(folder, step=1, name="step-1")
            (run.output / "m.json").write_text("{}")
            run.save_model(run.output / "m.json")
        """,
    )
    asset = cg.pipes_training_run(project.tiny, name="tiny_model", datasets=["tiny_train"], command=words)
    defs = dg.Definitions(assets=[project.tiny_train, asset], resources={"ledger": cg.LedgerResource()})
    assert new_desk.run(["tiny_train"], None, definitions=defs).success
    ran = new_desk.run(["tiny_model"], "v1", definitions=defs)
    assert ran.success, ran.failure
    run = new_desk.all(TrainingRun)[0].record
    assert run.config == {"rows": "tiny_train.parquet"}
    assert run.extra["pipes"] == {"environment": "reported by the script"}
    assert run.environment.python == sys.version.split()[0]
    assert [item.name for item in run.checkpoints] == ["step-1"]
    assert [item.name for item in run.artefacts] == ["note.txt"]
    assert run.seeds == {"python": 1}
    assert run.metric_series is not None
    curve = json.loads(new_desk.workspace.evidence.get(run.metric_series.digest))["loss"]
    assert [step for step, _ in curve] == list(range(2000))  # far longer than a line that Dagster's reader takes whole


def test_the_helper_says_who_has_to_launch_it() -> None:
    class Nobody:
        extras: dict[str, object] = {}  # noqa: RUF012

    with pytest.raises(TrainingError, match=r"cg\.train_with_pipes"), pipes.open_training(Nobody()):
        pass


def test_wrong_use_is_said_where_the_asset_is_defined() -> None:
    with pytest.raises(UsageError, match="list of words"):
        cg.pipes_training_run(project.tiny, name="x", datasets=["tiny_train"], command="python train.py")
    with pytest.raises(UsageError, match=r"inside a function under @cg\.training_run"):
        cg.train_with_pipes(None, None, command=["true"])


MESSAGE = {"cognify": "training/1", "model": {"path": "m", "sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"path": "m", "sha256": "xyz"}}, "field model.sha256"),
        ({"model": {"path": "m"}}, "field model.sha256"),
        ({"cognify": "training/2"}, "field cognify"),
        ({"cnfig": {}}, "field cnfig"),
        ({"metrics": {"auc": "high"}}, "is no number"),
        ({"seeds": {"python": "7"}}, "field seeds.python"),
        ({"architecture": {"framework": "x"}}, "architecture"),
        ({"environment": {"python_version": "3"}}, "field environment"),
    ],
)
def test_a_message_of_another_form_names_the_field(tmp_path: Path, change: dict[str, object], said: str) -> None:
    (tmp_path / "m").write_text("model")
    model = {"path": "m", "sha256": digest_files(tmp_path / "m").sha256}

    def take() -> None:
        message = pipes_report.read_message([{**MESSAGE, "model": model, **change}], tmp_path)
        pipes_report.reported_environment(message)
        pipes_report.replay(message, TrainingRecorder(), tmp_path)

    with pytest.raises(TrainingError, match=said):
        take()


def test_two_reports_are_refused() -> None:
    with pytest.raises(TrainingError, match="reported 2 trainings"):
        pipes_report.read_message([MESSAGE, {"other": 1}, MESSAGE], Path())


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
        max_leaves=12,
    )
)
def test_whatever_a_script_sends_is_read_or_refused_in_words(sent: object) -> None:
    for said in (sent, {**MESSAGE, "extra": {"x": sent}}, {**MESSAGE, "config": sent}, {"cognify": sent}):
        with contextlib.suppress(TrainingError):
            assert pipes_report.read_message([said], Path("/nowhere")).model.path == "m"
