"""The demo around the story: one command at a time, what it prints, how it goes on after an interrupt."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.evaluation import load_gate_set
from cognify_dagster.orchestration.health import retries_check
from cognify_dagster.workspace import WorkspaceError
from examples.credit_default import demo, instance, people, reset, up
from examples.credit_default.definitions import FRAMEWORK_FACTS, credit
from examples.credit_default.lock import BusyError, exclusive
from examples.credit_default.story import Progress, Story, cognify_command, runnable

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = (
    "import subprocess, sys, time; from pathlib import Path; from examples.credit_default.lock import exclusive\n"
    "with exclusive(Path(sys.argv[1]), 'make up'):\n"
    "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])\n"
    "    print(child.pid, flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (demo, up, reset):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for module in (demo, up):
        monkeypatch.setattr(module, "interrupt_on_signals", lambda: None)
    return tmp_path


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock as `make up` does, and has a child of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    subprocess.run(["kill", str(child)], check=False)


@pytest.mark.parametrize("command", [demo.main, up.main, reset.main])
def test_while_make_up_runs_every_other_command_is_refused_and_changes_nothing(command, root, holder, capsys):
    (root / "cognify.toml").write_text(f'[workspace]\norigin = "{reset.ORIGIN}"\n', encoding="utf-8")
    before = sorted(root.rglob("*"))
    assert command() == 1
    told = capsys.readouterr()
    assert f"`make up` (process {holder.pid}, since " in told.err
    assert "Ctrl-C" in told.err
    assert told.out == ""
    assert sorted(root.rglob("*")) == before


def test_a_reset_is_refused_while_the_demo_runs(root, capsys, monkeypatch):
    monkeypatch.setattr(demo, "tell", reset.main)
    demo.main()
    assert "`make demo` (process" in capsys.readouterr().err


def test_a_lock_whose_holder_was_killed_blocks_nobody_even_while_its_child_lives(tmp_path, holder):
    with pytest.raises(BusyError), exclusive(tmp_path, "make demo"):
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / ".cognify-demo" / "lock").read_text(encoding="utf-8").startswith("`make up`")
    with exclusive(tmp_path, "make demo"):
        pass
    with exclusive(tmp_path, "make demo"):  # and it is free again afterwards
        pass


def test_a_reset_removes_what_the_demo_made_and_nothing_else(root, capsys):
    for folder in reset.FOLDERS:
        (root / folder).mkdir()
        (root / folder / "file").touch()
    for name in reset.FILES:
        (root / name).write_text(f'origin = "{reset.ORIGIN}"', encoding="utf-8")
    (root / "mine.txt").touch()
    assert reset.main() == 0
    assert sorted(path.name for path in root.iterdir()) == [".cognify-demo", "mine.txt"]
    assert "cognify.toml" in capsys.readouterr().out
    assert reset.main() == 0
    assert "Nothing to remove" in capsys.readouterr().out


def test_a_reset_leaves_the_ledger_of_somebody_else(root, capsys):
    (root / ".cognify").mkdir()
    (root / "cognify.toml").write_text('[workspace]\norigin = "bank.example/real"\n', encoding="utf-8")
    assert reset.main() == 1
    assert "not the demo's workspace" in capsys.readouterr().err
    assert (root / ".cognify").is_dir()


def test_the_reset_needs_no_installation(tmp_path):
    code = f"import sys; from pathlib import Path; from examples.credit_default import reset; reset.reset(Path({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_second_time_everything_exists_already_under_the_same_numbers(tmp_path, capsys):
    def begin() -> list[str]:
        story = Story(tmp_path)
        workspace = people.found(story)
        people.enrol(story, workspace)
        people.sign_gates(story, workspace)
        sizes.append(workspace.read().size)
        return capsys.readouterr().out.splitlines()

    sizes: list[int] = []
    first, second = begin(), begin()
    assert [line.split("] ")[1].strip() for line in first if line.startswith("[")] == [
        "1. Genesis: two founders open the ledger",
        "2. People are enrolled; two others vouch for each",
        "3. Thresholds are signed before any result exists",
    ]
    assert [line.split("] ")[1].strip() for line in second if line.startswith("[")] == [
        "1. Genesis: the ledger exists already",
        "2. People are enrolled already",
        "3. Thresholds are signed already",
    ]
    assert sizes[0] == sizes[1]


def test_who_was_not_enrolled_before_an_interrupt_is_enrolled_by_the_next_run(tmp_path, monkeypatch, capsys):
    story = Story(tmp_path)
    workspace = people.found(story)
    enrol_person, calls = people.enrol_person, []

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        enrol_person(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(people, "enrol_person", interrupted)
        with pytest.raises(KeyboardInterrupt):
            people.enrol(story, workspace)
    capsys.readouterr()
    people.enrol(story, workspace)
    told = capsys.readouterr().out
    assert told.count("Exists already: ") == 2
    assert told.count("encrypted in") == 3
    assert workspace.read().size == 6


def test_an_interrupt_between_founding_and_placing_the_keys_loses_none(tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(people, "_place_founders_keys", interrupted)
        with pytest.raises(KeyboardInterrupt):
            people.found(Story(tmp_path))
    workspace = people.found(Story(tmp_path))
    assert people.unlock(workspace, people.ADA).person == "person/ada"


def test_the_demo_does_not_write_into_another_ledger(tmp_path):
    people.found(Story(tmp_path))
    config = tmp_path / "cognify.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("northbank", "otherbank"), encoding="utf-8")
    with pytest.raises(WorkspaceError):
        people.found(Story(tmp_path))


def test_a_workspace_above_the_checkout_is_not_used(tmp_path):
    above = people.found(Story(tmp_path))
    (tmp_path / "checkout").mkdir()
    inside = people.found(Story(tmp_path / "checkout"))
    assert inside.config.path == tmp_path / "checkout" / "cognify.toml"
    assert above.read().size == 1


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "The demo was interrupted."),
        (demo.DemoError("run 1 ended with FAILURE"), 1, "The demo stopped: run 1 ended with FAILURE"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
    ],
)
def test_an_interrupt_and_a_failure_say_how_to_go_on(raised, code, said, root, monkeypatch, capsys):
    def tell() -> None:
        raise raised

    monkeypatch.setattr(demo, "tell", tell)
    assert demo.main() == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    for command in ("make demo ", "make up ", "make demo-reset "):
        assert f"\n  {command}" in told


def test_an_interrupt_while_waiting_cancels_the_run(monkeypatch, tmp_path):
    asked: list[str] = []

    class Dagster(instance.Instance):
        def graphql(self, query, variables):
            asked.append(query)
            if "terminateRun" in query:
                return {"terminateRun": {"__typename": "TerminateRunSuccess"}}
            raise KeyboardInterrupt

        def check_alive(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        Dagster("http://nowhere", None, tmp_path / "log").wait("run")  # type: ignore[arg-type]
    assert "terminateRun" in asked[-1]


def test_the_progress_of_a_run_names_each_step_its_seconds_and_what_failed(capsys):
    progress = Progress()
    for kind, step, moment, more in (
        ("RUN_START", None, "1000", {}),
        ("STEP_START", "credit_clean", "2000", {}),
        ("STEP_SUCCESS", "credit_clean", "3500", {}),
        ("STEP_START", "credit_model", "4000", {}),
        (
            "STEP_FAILURE",
            "credit_model",
            "16000",
            {"error": {"message": "outer", "cause": {"message": "Disk:\n full"}}},
        ),
    ):
        progress({"eventType": kind, "stepKey": step, "timestamp": moment, **more})
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        "credit_clean: cleaning and splitting the published data … 1.5 s",
        "credit_model: training … failed, 12.0 s",
    ]
    assert progress.failure == "credit_model: Disk: full"


def test_printed_commands_can_be_copied(tmp_path):
    call = cognify_command(tmp_path)
    assert subprocess.run(f"{call} --help", shell=True, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    printed = runnable(
        "Status  cognify status credit_default v1, `cognify ledger verify`; see .venv/bin/cognify status", tmp_path
    )
    assert printed == f"Status  {call} status credit_default v1, `{call} ledger verify`; see .venv/bin/cognify status"
    assert runnable("cognify.toml and the cognify command", tmp_path) == "cognify.toml and the cognify command"


def test_the_command_is_named_relative_to_the_checkout(tmp_path, monkeypatch):
    script = tmp_path / ".venv" / "bin" / "cognify"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    assert cognify_command(tmp_path) == ".venv/bin/cognify"


def test_the_demo_and_its_readme_say_how_to_sign_as_one_of_its_people(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    story = Story(tmp_path)
    workspace = people.found(story)
    people.enrol(story, workspace)
    capsys.readouterr()
    demo.by_hand(story, workspace)
    told = capsys.readouterr().out
    readme = (REPOSITORY / "examples" / "credit_default" / "README.md").read_text(encoding="utf-8")
    for actor in (people.VERA, people.CARL, people.OLGA):
        key = demo._short(people.key_path(workspace.home, actor))
        assert people.unlock_key(tmp_path / key, people.PASSPHRASE).person == actor.person
        assert f"sign credit_default VERSION --key {key}" in told
        assert f"sign credit_default v2 --key {key}" in readme
    for text in (told, readme):
        assert people.PASSPHRASE in text
    assert "three assets `credit_model`, `credit_eval` and `credit_default_package`" in readme


def test_each_finding_of_high_severity_and_each_open_point_of_compliance_becomes_a_dated_condition():
    findings = [
        {"id": "F-01", "severity": "high", "title": "fl.proxy: missing", "expected": "a review"},
        {"id": "F-02", "severity": "high", "title": "Origin incomplete", "expected": "source and licence are stated"},
        {"id": "F-03", "severity": "medium", "title": "fl.records: needs human", "expected": "kept 25 months"},
        {"id": "F-04", "severity": "medium", "title": "Code not identified", "expected": "the commit that ran"},
    ]
    first, second, third = demo.conditions_for(findings, date(2026, 11, 21))
    assert first.startswith("F-01 (fl.proxy): test how well the features predict")
    assert first.endswith("; due=2027-01-20")
    assert second == "F-02 (Origin incomplete): Resolve it: source and licence are stated; due=2026-12-21"
    assert third.startswith("F-03 (fl.records): write down how long")


def test_the_validator_approves_on_conditions_that_name_what_her_validation_lacks():
    findings = [
        {"id": "F-03", "title": "Interval crosses the limit: Marriage", "requirements": []},
        {"id": "F-04", "title": "fl.records: missing", "requirements": ["fl.records"]},
        {"id": "F-06", "title": "Closer to a limit than version v1", "requirements": []},
        {"id": "F-07", "title": "sr26-2: open points", "requirements": ["mrm.val.concept", "mrm.effective_challenge"]},
    ]
    small, closer, challenge, concept, reproduce = demo.validation_conditions(findings, date(2026, 11, 21))
    assert small.startswith("F-03 (Interval crosses the limit: Marriage): repeat the comparison")
    assert closer.startswith("F-06 (Closer to a limit than version v1): train over several seeds")
    assert challenge.startswith("F-07 (mrm.effective_challenge): write the record of challenges")
    assert concept.startswith("F-07 (mrm.val.concept): write the review of conceptual soundness")
    assert reproduce.startswith("reproduce the holdout metrics")
    assert reproduce.endswith("; due=2026-12-21")
    assert "I have not reproduced them" in demo.VERA_SAYS, "no run of hers is on record"


def test_intended_use_scope_and_limits_agree_that_no_real_client_is_decided_about():
    assert credit.intended_use.startswith("A demonstration on historical data")
    assert credit.limitations.startswith("A demonstration on historical data")
    assert credit.out_of_scope.startswith("Any decision about a real client")
    assert "no decision about a real client" in demo.OLGA_SAYS
    assert "No decision about a real client" in FRAMEWORK_FACTS["lending_scope"].replace("\n", " ")


def test_every_protected_attribute_has_the_same_fairness_limits():
    gates = load_gate_set(people.GATES).gates
    limited = {
        attribute: {gate.metric.split(".")[2] for gate in gates if gate.metric.startswith(f"fairness.{attribute}.")}
        for attribute in credit.protected_attributes
    }
    assert len(set(map(frozenset, limited.values()))) == 1, limited
    assert all("The value decides" in gate.reason for gate in gates if gate.metric.count(".") == 2)


def test_what_the_pipeline_states_does_not_speak_for_a_reviewer_and_says_what_the_data_stand_in_for():
    stated = " ".join(str(value) for value in FRAMEWORK_FACTS.values())
    assert "reviewed by compliance" not in stated.lower()
    assert "Taiwan" in credit.limitations
    assert "stand in for the card portfolio of a US bank" in credit.limitations
    assert "credit risk team" in FRAMEWORK_FACTS["roles_and_oversight"]
    assert credit.owner == "team:credit-risk"


def test_the_doctor_finds_nothing_to_say_about_the_demos_run_retries(tmp_path):
    home = instance.prepare_home(tmp_path)
    (home / "dagster.yaml").write_text("run_retries: {enabled: true, max_retries: 2}\n", encoding="utf-8")
    instance.prepare_home(tmp_path)  # settings of an earlier release are replaced
    with dg.DagsterInstance.from_config(str(home)) as opened:
        check = retries_check(opened)
    assert (check.status, check.text) == ("ok", "on for crashed runs only")


def test_ctrl_c_reaches_a_process_that_a_background_shell_started(tmp_path):
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from examples.credit_default.instance import interrupt_on_signals\n"
        "interrupt_on_signals(); print('ready', flush=True)\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: raise SystemExit(7)\n"
    )
    for name in ("INT", "TERM", "HUP"):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
        assert process.wait(timeout=20) == 7, name
