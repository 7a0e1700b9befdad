"""`cognify dataset snapshot` and `verify`: what is recorded, what is read again, and that differences are named with code 1."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.cli.dataset.progress import SnapshotProgress, line, size
from cognify_dagster.datasets import ProgressState
from cognify_dagster.datasets.hashing import index
from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot
from tests.cli.conftest import Cognify
from tests.governance.world import World

PROVENANCE = """
source: ledger of loans
owner: team:credit
licence: internal
collected_from: 2026-01-01
collected_to: 2026-03-31
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "loans"
    folder.mkdir()
    for number in range(3):
        rows = "".join(f"{number}{i},{i % 2},{i * 10}\n" for i in range(5))
        (folder / f"part-{number}.csv").write_text("id,default,amount\n" + rows)
    return folder


@pytest.fixture(autouse=True)
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "RACY_NS", -(10**10))


def newest(world: World, name: str = "loans") -> Any:
    found = world.workspace.read().latest(DatasetSnapshot, f"dataset/{name}")
    assert found is not None
    return found


def test_a_snapshot_is_recorded_with_all_that_was_said(
    founded: World, cognify: Cognify, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(PROVENANCE)
    words = ["--key", "id", "--label", "default", "--group", "default", "--ignore", "*.tmp", "--reason", "first"]
    result = cognify(
        "dataset", "snapshot", "loans", "--name", "loans", "--provenance", "p.yaml", *words, "--json", at=founded
    )
    assert result.code == 0, result.err
    value, recorded = result.json, newest(founded)
    record = recorded.record
    assert value["root"] == record.root
    assert (value["entry"], value["files"], value["records"]) == (recorded.seq, 3, 15)
    assert value["evidence"] == {"hashed": 3, "reused": 0, "provider": 0}
    assert (record.record_key, record.label, record.change_reason) == ("id", "default", "first")
    assert record.provenance["owner"] == "team:credit"
    assert record.missing_provenance == ()
    assert record.header["params"]["ignore"] == ["*.tmp"]
    assert record.observed["location"] == str(data)
    assert record.observations is not None
    founded.workspace.evidence.verify(record.observations.digest)
    assert record.observations.digest in record.evidence()


def test_a_second_snapshot_reads_only_what_changed_and_keeps_the_provenance(
    founded: World, cognify: Cognify, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(PROVENANCE)
    assert cognify("dataset", "snapshot", data, "--name", "loans", "--provenance", "p.yaml", at=founded).code == 0
    with (data / "part-1.csv").open("a") as file:
        file.write("99,1,5\n")
    result = cognify("dataset", "snapshot", data, "--name", "loans", "--reason", "one more", at=founded)
    assert result.code == 0, result.err
    assert "1 file changed, 1 record added" in result.out, "what changed is on record at once"
    (*_, diff) = founded.workspace.read().all(DatasetDiffRecorded, "dataset/loans")
    assert (diff.record.new_seq, diff.record.diff_digest[:23] in result.out) == (newest(founded).seq, True)
    assert "1 read and hashed, 2 taken over as unchanged" in result.out
    assert "cognify" in result.out.splitlines()[-1]
    record = newest(founded).record
    assert record.header["evidence"] == {"hashed": 1, "reused": 2, "provider": 0}
    assert record.provenance["owner"] == "team:credit"
    assert record.observed["verify"] == "quick"
    full = cognify("dataset", "snapshot", data, "--name", "loans", "--verify", "full", "--json", at=founded).json
    assert (full["evidence"]["hashed"], full["root"]) == (3, record.root)
    sample = cognify("dataset", "snapshot", data, "--name", "loans", "--verify", "sample:50", "--json", at=founded)
    assert sample.code == 0
    assert "sample_seed" in newest(founded).record.observed


def test_an_index_that_the_ledger_does_not_know_is_not_trusted(founded: World, cognify: Cognify, data: Path) -> None:
    assert cognify("dataset", "snapshot", data, "--name", "loans", at=founded).code == 0
    kept = founded.workspace.home / "cache" / "datasets" / "loans.index"
    body = kept.read_bytes()[:-32] + b"\0"
    import hashlib

    kept.write_bytes(body + hashlib.sha256(body).digest())
    result = cognify("dataset", "snapshot", data, "--name", "loans", "--json", at=founded)
    assert result.json["evidence"] == {"hashed": 3, "reused": 0, "provider": 0}
    assert "last recorded snapshot" in result.json["notes"][0]


def test_wrong_words_end_with_their_codes_and_record_nothing(
    founded: World, cognify: Cognify, data: Path, tmp_path: Path
) -> None:
    before = founded.workspace.ledger.size()
    (tmp_path / "bad.yaml").write_text("source: a\nsauce: b\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "twice.yaml").write_text("source: a\nsource: b\n")
    os.mkfifo(data / "pipe")
    cases: list[tuple[list[Any], int, str]] = [
        ([data, "--name", "no name"], 5, "not the name of a dataset"),
        ([data, "--name", "loans", "--verify", "some"], 5, "sample:5"),
        ([data, "--name", "loans", "--provenance", "bad.yaml"], 3, "no field sauce; did you mean source?"),
        ([data, "--name", "loans", "--provenance", "list.yaml"], 3, "mapping"),
        ([data, "--name", "loans", "--provenance", "twice.yaml"], 3, "repeated"),
        ([data, "--name", "loans", "--provenance", "none.yaml"], 3, "no such file"),
        ([data, "--name", "loans"], 1, "pipe"),
        ([data, "--name", "loans", "--ignore", "pipe", "--key", "nokey"], 1, "nokey"),
        (["nowhere", "--name", "loans"], 1, "does not exist"),
    ]
    for words, code, said in cases:
        result = cognify("dataset", "snapshot", *words, at=founded)
        assert (result.code, said in result.err) == (code, True), result.err
    assert founded.workspace.ledger.size() == before


def test_verify_names_each_changed_missing_and_extra_file(founded: World, cognify: Cognify, data: Path) -> None:
    assert cognify("dataset", "snapshot", data, "--name", "loans", at=founded).code == 0
    result = cognify("dataset", "verify", "loans", at=founded)
    assert (result.code, "are those of the snapshot" in result.out) == (0, True), result.out + result.err
    assert "3 were not" in result.out
    (data / "part-0.csv").write_text("id,default,amount\n1,0,7\n")
    (data / "part-1.csv").unlink()
    (data / "extra.csv").write_text("id,default,amount\n8,0,8\n")
    result = cognify("dataset", "verify", "loans", at=founded)
    assert result.code == 1
    for said in (
        "part-0.csv has other content",
        "part-1.csv is missing",
        "extra.csv was not part of the snapshot",
        "The data differ",
    ):
        assert said in result.out
    value = cognify("dataset", "verify", "loans", "--full", "--json", at=founded)
    assert value.code == 1
    assert (value.json["changed"], value.json["missing"], value.json["extra"]) == (
        ["part-0.csv"],
        ["part-1.csv"],
        ["extra.csv"],
    )
    assert (value.json["hashed"], value.json["reused"]) == (3, 0)


def test_verify_finds_the_data_elsewhere(founded: World, cognify: Cognify, data: Path, tmp_path: Path) -> None:
    assert cognify("dataset", "snapshot", data, "--name", "loans", at=founded).code == 0
    data.rename(tmp_path / "moved")
    assert cognify("dataset", "verify", "loans", at=founded).code == 1
    assert cognify("dataset", "verify", "loans", "--source", tmp_path / "moved", at=founded).code == 0
    assert cognify("dataset", "verify", "unknown", at=founded).code == 3


def test_a_retry_of_a_run_stands_although_it_read_other_files(founded: World, data: Path) -> None:
    from cognify_dagster.datasets import Provenance, take_snapshot
    from cognify_dagster.datasets.caching import kept_index
    from cognify_dagster.datasets.recording import record_snapshot

    def attempt() -> Any:
        held = kept_index(founded.workspace, "loans")
        taken = take_snapshot(data, name="loans", provenance=Provenance(), index=held.path, index_digest=held.digest)
        return taken, record_snapshot(founded.workspace, taken, run="run-1")

    first, one = attempt()
    second, two = attempt()
    assert (first.header["evidence"]["hashed"], second.header["evidence"]["hashed"]) == (3, 0)
    assert one.seq == two.seq


def test_progress_says_files_bytes_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    state = ProgressState("hash", 10, 1000, 5_000_000, 10_000_000, 2.0)
    assert line(state) == "hashing files: 10 of 1,000 files, 5.0 MB of 10.0 MB, 2.5 MB/s, 2 s left"
    assert [size(count) for count in (5, 5e4, 5e6, 5e9, 5e13)] == ["5 B", "50.0 kB", "5.0 MB", "5.0 GB", "50.0 TB"]
    with SnapshotProgress() as progress:
        progress.report(state)
        assert capsys.readouterr().err == ""  # soon done: no words
        progress._said -= 60
        progress.report(state)
        progress("read", 1, 2)
        assert "2.5 MB/s" in capsys.readouterr().err


def test_a_terminal_shows_a_bar(founded: World, tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from cognify_dagster.cli.dataset import progress\n"
        "from cognify_dagster.datasets import ProgressState\n"
        "progress._BAR_AFTER_SECONDS = 0\n"
        "with progress.SnapshotProgress() as shown:\n"
        "    for done in range(1, 5):\n"
        "        shown.report(ProgressState('hash', done, 4, done * 1000, 4000, 1.0))\n"
        "        time.sleep(0.15)\n"
    )
    leader, follower = pty.openpty()
    seen = b""
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=follower, env={**os.environ, "COLUMNS": "120"}
    ) as run:
        os.close(follower)
        with contextlib.suppress(OSError):  # the terminal is closed by its last writer
            while part := os.read(leader, 4096):
                seen += part
    os.close(leader)
    assert run.returncode == 0
    assert b"2 of 4 files" in seen
    assert b"2.0 kB of 4.0 kB" in seen
    assert b"s left" in seen


def test_what_the_last_snapshot_was_taken_with_and_this_one_is_not_is_said(
    founded: World, cognify: Cognify, data: Path
) -> None:
    assert cognify("dataset", "snapshot", data, "--name", "loans", "--ignore", "*.tmp", at=founded).code == 0
    again = cognify("dataset", "snapshot", data, "--name", "loans", at=founded)
    assert "was taken with --ignore *.tmp, this one is not" in again.err
    same = cognify("dataset", "snapshot", data, "--name", "loans", "--ignore", "*.tmp", at=founded)
    assert "was taken with" not in same.err


def test_a_changed_dataset_without_a_reason_names_the_command_that_gives_it(
    founded: World, cognify: Cognify, data: Path
) -> None:
    assert cognify("dataset", "snapshot", data, "--name", "loans", at=founded).code == 0
    (data / "more").write_bytes(b"more")
    assert "dataset reason loans --text" in cognify("dataset", "snapshot", data, "--name", "loans", at=founded).out


def test_an_expectation_and_the_code_are_recorded(founded: World, cognify: Cognify, data: Path, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(
        "columns: {id: int64, default: int64, amount: int64}\nranges: {amount: {most: 30}}\n"
    )
    code = tmp_path / "pipeline"
    code.mkdir()
    for words in (["init", "-q"], ["-c", "user.name=n", "-c", "user.email=n@x", "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=code, check=True)
    words = ["dataset", "snapshot", "loans", "--name", "loans"]
    assert cognify(*words, "--expect", "e.yaml", "--code", "pipeline", at=founded).code == 0
    record = newest(founded).record
    assert [(check.name, check.status, check.detail) for check in record.quality] == [
        ("schema", "fail", "column 'amount' has 3 values above 30")
    ]
    assert (record.code.vcs, len(record.code.commit), record.code.dirty) == ("git", 40, False)

    (data / "part-0.csv").write_text("id,default,sum\n1,0,1\n")
    for number in (1, 2):
        (data / f"part-{number}.csv").unlink()
    assert cognify(*words, "--same-schema", "--reason", "renamed", at=founded).code == 0
    check = newest(founded).record.quality[0]
    assert (check.status, check.detail) == ("fail", "column 'amount' is absent; column 'sum' is not expected")


def test_a_schema_cannot_be_compared_with_nothing(founded: World, cognify: Cognify, data: Path) -> None:
    result = cognify("dataset", "snapshot", "loans", "--name", "loans", "--same-schema", at=founded)
    assert (result.code, "no earlier snapshot of loans" in result.err) == (3, True)
    assert founded.workspace.read().latest(DatasetSnapshot, "dataset/loans") is None
