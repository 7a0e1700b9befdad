"""The scoring service: it runs the live release, and nothing that only looks like one."""

from __future__ import annotations

import http.client
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from examples.credit_default import scoring
from examples.credit_default.model import TrainConfig, save_model, train_model
from examples.credit_default.scoring import (
    RefusedModel,
    ScoreRequestError,
    ScoringService,
    install,
    make_server,
    model_file,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def second(credit, tmp_path_factory):
    path = tmp_path_factory.mktemp("second") / "model.joblib"
    return path, save_model(train_model(credit.train, TrainConfig(max_records=3000, seed=5)), path)


@pytest.fixture
def record(credit):
    return {name: int(value) for name, value in credit.holdout.iloc[0].items() if name != "DEFAULT"}


@pytest.fixture
def installed(credit, tmp_path):
    folder = tmp_path / "service"
    install(credit.path, credit.digest, {"model": "credit_default", "version": "1"}, folder)
    return folder


def test_the_live_release_scores_as_the_model_does(credit, installed, record):
    score = ScoringService(installed, lambda: credit.digest).score(record)
    expected = float(credit.model.predict_default(credit.holdout.head(1))[0])
    assert score.probability_of_default == expected
    assert score.decision == ("declined" if expected >= credit.model.threshold else "granted")
    assert score.model_sha256 == credit.digest
    assert score.release["version"] == "1"
    assert {"SEX", "AGE", "MARRIAGE", "EDUCATION", "ID"} == set(score.not_used)
    assert json.loads(json.dumps(score.to_json()))


def test_nothing_live_means_no_score(installed):
    with pytest.raises(RefusedModel, match="no release is live"):
        ScoringService(installed, lambda: None)


def test_a_lookup_that_finds_nothing_live_means_no_score(installed):
    def nothing():
        raise LookupError("no version of credit_default is live in production")

    with pytest.raises(RefusedModel, match="no version of credit_default is live in production; nothing may be scored"):
        ScoringService(installed, nothing)


def test_a_ledger_that_cannot_be_read_means_no_score(installed):
    def broken():
        raise OSError("disk gone")

    with pytest.raises(RefusedModel, match="can't be read"):
        ScoringService(installed, broken)


def test_a_changed_file_under_the_live_digest_is_refused_and_never_loaded(credit, installed, tmp_path):
    mark = tmp_path / "ran"

    class Mark:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    model_file(installed, credit.digest).write_bytes(pickle.dumps(Mark()))
    with pytest.raises(RefusedModel, match="SHA-256"):
        ScoringService(installed, lambda: credit.digest)
    assert not mark.exists()


def test_one_changed_byte_is_refused(credit, installed):
    file = model_file(installed, credit.digest)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(RefusedModel, match="not loaded"):
        ScoringService(installed, lambda: credit.digest)


def test_another_model_installed_past_the_ledger_is_refused_whatever_release_json_says(credit, second, tmp_path):
    path, digest = second
    install(path, digest, {"model": "credit_default", "version": "1", "approved": True}, tmp_path)
    with pytest.raises(RefusedModel, match="is not installed") as caught:
        ScoringService(tmp_path, lambda: credit.digest)
    assert digest[:12] in str(caught.value)


def test_release_json_is_shown_only_for_the_model_it_is_about(credit, second, installed, record):
    (installed / "release.json").write_text(json.dumps({"model_sha256": second[1], "version": "forged"}))
    assert ScoringService(installed, lambda: credit.digest).score(record).release == {}
    (installed / "release.json").write_text("rubbish")
    assert ScoringService(installed, lambda: credit.digest).score(record).release == {}


def test_a_new_release_is_picked_up_and_a_withdrawn_one_stops_at_once(credit, second, installed, record):
    live: list[str | None] = [credit.digest]
    service = ScoringService(installed, lambda: live[0])
    first = service.score(record)
    install(second[0], second[1], {"version": "2"}, installed)
    assert service.score(record).model_sha256 == credit.digest  # installed is not yet live
    live[0] = f"sha256:{second[1]}"
    assert service.score(record).model_sha256 == second[1] != first.model_sha256
    live[0] = None
    with pytest.raises(RefusedModel):
        service.score(record)
    live[0] = credit.digest
    assert service.score(record).probability_of_default == first.probability_of_default


def test_installing_another_file_than_the_released_one_changes_nothing(credit, second, installed):
    before = {p: p.read_bytes() for p in installed.rglob("*") if p.is_file()}
    with pytest.raises(RefusedModel, match="not installed"):
        install(second[0], credit.digest, {"version": "3"}, installed)
    with pytest.raises(RefusedModel, match="not installed"):
        install(installed / "none", credit.digest, {}, installed)
    with pytest.raises(RefusedModel, match="is not a SHA-256"):
        install(credit.path, "../../x", {}, installed)
    with pytest.raises(TypeError):
        install(credit.path, credit.digest, {"when": object()}, installed)
    assert {p: p.read_bytes() for p in installed.rglob("*") if p.is_file()} == before


def test_a_crash_between_model_and_release_file_leaves_the_former_release_whole(
    credit, second, installed, record, monkeypatch
):
    real = os.replace

    def crash(source, target):
        if Path(target).name == "release.json":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        install(second[0], second[1], {"version": "2"}, installed)
    score = ScoringService(installed, lambda: credit.digest).score(record)
    assert score.release["version"] == "1"
    assert not [p for p in installed.rglob(".*") if p.is_file()]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"PAY_0": None}, "PAY_0: expected a finite number"),
        ({"PAY_0": "2"}, "PAY_0"),
        ({"PAY_0": True}, "PAY_0"),
        ({"PAY_0": float("nan")}, "PAY_0"),
        ({"PAY_0": 10**400}, "PAY_0"),
        ({"DEFAULT": 1}, "DEFAULT: unknown field"),
        ({"INCOME": 1}, "INCOME: unknown field"),
    ],
)
def test_unusable_records_are_named_by_field(credit, installed, record, change, named):
    service = ScoringService(installed, lambda: credit.digest)
    with pytest.raises(ScoreRequestError, match=named):
        service.score({**record, **change})


def test_a_missing_feature_is_named(credit, installed, record):
    del record["LIMIT_BAL"]
    with pytest.raises(ScoreRequestError, match="LIMIT_BAL: is required"):
        ScoringService(installed, lambda: credit.digest).score(record)


@pytest.fixture
def server(credit, installed):
    live: list[str | None] = [credit.digest]
    running = make_server(ScoringService(installed, lambda: live[0]), 0)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running.server_address, live
    running.shutdown()
    running.server_close()
    thread.join()


def ask(server, method, path, body=None, headers=None):
    (host, port), _ = server
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request(method, path, body, headers or {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_http_scores_and_refuses(server, credit, record):
    body = json.dumps(record)
    status, content = ask(server, "POST", "/score", body)
    assert (status, content["model_sha256"]) == (200, credit.digest)
    assert ask(server, "GET", "/health")[0] == 200
    server[1][0] = None
    assert ask(server, "POST", "/score", body)[0] == 503
    status, content = ask(server, "GET", "/health")
    assert (status, content["status"]) == (503, "refused")


def test_http_listens_on_this_machine_only_and_for_its_own_name(server, record):
    assert server[0][0] == "127.0.0.1"
    headers = {"Content-Type": "application/json", "Host": "evil.example"}
    assert ask(server, "POST", "/score", json.dumps(record), headers)[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/score", None, None, 404),
        ("POST", "/other", "{}", None, 404),
        ("POST", "/score", "{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/score", "x" * 65_537, None, 413),
        ("POST", "/score", "{", None, 422),
        ("POST", "/score", '{"PAY_0": NaN}', None, 422),
        ("POST", "/score", '{"PAY_0": 1, "PAY_0": 2}', None, 422),
        ("POST", "/score", "[1]", None, 422),
        ("POST", "/score", b"\xff", None, 422),
        ("POST", "/score", "[" * 60_000, None, 422),
    ],
)
def test_http_answers_bad_requests_with_a_reason(server, method, path, body, headers, status):
    found, content = ask(server, method, path, body, headers)
    assert found == status
    assert content["error"]


def run_cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "examples.credit_default.scoring", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_line_scores_and_refuses(credit, second, installed, record, tmp_path):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    good = run_cli("--dir", installed, "--live-digest", credit.digest, "--score", file)
    assert good.returncode == 0
    assert json.loads(good.stdout)["model_sha256"] == credit.digest
    bad = run_cli("--dir", installed, "--live-digest", second[1], "--score", file)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("refused:")


def test_the_command_line_in_process(credit, installed, tmp_path, capsys, monkeypatch):
    file = tmp_path / "record.json"
    file.write_text("{}")
    base = ["--dir", str(installed)]
    assert scoring.main([*base, "--live-digest", credit.digest, "--score", str(file)]) == 2
    assert scoring.main([*base, "--live-digest", credit.digest, "--score", str(tmp_path / "none")]) == 2
    assert scoring.main([*base, "--provider", "no.such:thing", "--score", str(file)]) == 1
    assert "--provider" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)  # no workspace here
    assert scoring.main([*base, "--score", str(file)]) == 1
    assert capsys.readouterr().err.startswith("refused:")
    (tmp_path / "live_for_test.py").write_text("def live():\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert scoring.main([*base, "--provider", "live_for_test:live", "--score", str(file)]) == 1
    assert "no release is live" in capsys.readouterr().err
