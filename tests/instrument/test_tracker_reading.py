"""Reading what other tools left: archives and logs that were made to harm, names, secrets, addresses. No tool is needed for these."""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.instrument.trackers import TrackerError, TrackerUnreachable, read_comet
from cognify_dagster.instrument.trackers.comet import unpack_model
from cognify_dagster.instrument.trackers.tracked import clean_uri, fitted, kept, number, recorded_names
from cognify_dagster.instrument.trackers.wandb import packages
from cognify_dagster.instrument.trackers.wandb_log import BLOCK, MAGIC, LogEnd, messages

# Comet archives -------------------------------------------------------------------------------------------------------


def message(kind: str, **payload: Any) -> str:
    return json.dumps({"payload": payload, "type": kind})


def archive(path: Path, lines: list[str], members: dict[str, bytes] | None = None, **meta: Any) -> Path:
    told = {"offline_id": "run1", "project_name": "credit", "workspace": "risk", "start_time": 1_795_300_000_000,
            "stop_time": 1_795_300_001_000, "tags": [], **meta}  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("experiment.json", json.dumps(told))
        zipped.writestr("messages.json", "\n".join(lines))
        for name, data in (members or {}).items():
            zipped.writestr(name, data)
    return path


def model_part(member: str, name: str, group: str = "net") -> str:
    told = {"fileName": name, "groupingName": group, "type": "model-element"}
    return message("file_upload", additional_params=told, file_path=member, upload_type="model-element")


def test_an_archive_without_the_library(tmp_path: Path) -> None:
    lines = [
        message("parameter_msg", param={"paramName": "opt|lr", "paramValue": 0.1, "source": "manual", "step": None}),
        message("parameter_msg", param={"paramName": "curr_step", "paramValue": 3, "source": "auto-logged", "step": 3}),
        message("metric_msg", metric={"metricName": "loss", "metricValue": 1, "step": 0}),
        message("metric_msg", metric={"metricName": "loss", "metricValue": "Infinity", "step": 1.0}),
        message("metric_msg", metric={"metricName": "sys.ram", "metricValue": 5, "step": 1}),
        message("a_kind_of_later", anything=1),
    ]
    run = read_comet(archive(tmp_path / "run1.zip", lines))
    assert dict(run.config) == {"opt.lr": 0.1}
    assert list(run.metrics) == ["loss"]
    assert json.loads(run.snapshot())["metrics"]["loss"] == [[0, 1.0], [1, "Infinity"]]
    assert run.started_us == 1_795_300_000_000_000


def test_an_experiment_that_reported_an_error_or_never_stopped(tmp_path: Path) -> None:
    assert read_comet(archive(tmp_path / "a.zip", [], customer_error_reported=True)).status == "failed"
    assert read_comet(archive(tmp_path / "b.zip", [], stop_time=None)).status == "killed"


def test_an_archive_that_unpacks_to_far_more_than_it_has_is_refused(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "bomb.zip", [], {"zeros": b"\0" * 50_000_000})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(TrackerError, match="unpacks to more than"):
        read_comet(bomb)


def test_sizes_in_the_header_are_not_believed(tmp_path: Path) -> None:
    path = archive(tmp_path / "lying.zip", [], {"zeros": b"\0" * 5_000_000})
    data = path.read_bytes().replace(struct.pack("<I", 5_000_000), struct.pack("<I", 100))
    path.write_bytes(data)
    with pytest.raises(TrackerError):  # the CRC, or the size, does not fit what comes out
        read_comet(path)


@pytest.mark.parametrize("name", ["../outside.bin", "a/../../outside.bin", "..\\outside.bin", "a//b", "."])
def test_a_model_file_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = archive(tmp_path / "run1.zip", [model_part("m", name)], {"m": b"weights"})
    with pytest.raises(TrackerError, match="no usable name"):
        unpack_model(path, folder)
    assert not list(tmp_path.rglob("outside.bin"))


def test_which_model_is_unpacked(tmp_path: Path) -> None:
    lines = [model_part("m1", "model.bin"), model_part("m2", "config/net.json"), model_part("m3", "x.bin", "other")]
    path = archive(tmp_path / "run1.zip", lines, {"m1": b"weights", "m2": b"{}", "m3": b"x"})
    one, two, three = (tmp_path / f"folder{number}" for number in range(3))
    for folder in (one, two, three):
        folder.mkdir()
    with pytest.raises(TrackerError, match=r"several models were logged \(net, other\)"):
        unpack_model(path, one)
    net = unpack_model(path, two, "net")
    assert sorted(item.relative_to(net).as_posix() for item in net.rglob("*") if item.is_file()) == [
        "config/net.json",
        "model.bin",
    ]
    assert unpack_model(path, three, "other").read_bytes() == b"x"
    with pytest.raises(TrackerError, match="no model 'third' was logged; it has net, other"):
        unpack_model(path, one, "third")


def test_archives_that_are_none(tmp_path: Path) -> None:
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    broken = archive(tmp_path / "broken.zip", ["{not json"])
    shapeless = archive(tmp_path / "shapeless.zip", ["[1]"])
    for path, told in (
        (tmp_path / "nothing.zip", "cannot be read"),
        (text, "is no zip archive"),
        (tmp_path / "empty.zip", "experiment.json is missing"),
        (broken, "messages.json, line 1: not JSON"),
        (shapeless, "messages.json, line 1: no message"),
    ):
        with pytest.raises(TrackerError, match=re.escape(told)):
            read_comet(path)


# The log of W&B -------------------------------------------------------------------------------------------------------


def written(parts: list[bytes]) -> bytes:
    """Write a log as the format says, independently of the reader."""
    out = bytearray(MAGIC)
    for body in parts:
        rest, first = body, True
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += b"\0" * left
                left = BLOCK
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not rest]
            out += struct.pack("<IHB", zlib.crc32(bytes((kind,)) + piece), len(piece), kind) + piece
            first = False
            if not rest:
                break
    return bytes(out)


SIZES = st.lists(
    st.one_of(st.integers(0, 50), st.integers(BLOCK - 40, BLOCK + 40), st.integers(0, 3 * BLOCK)), max_size=6
)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(sizes=SIZES)
def test_messages_come_back_whatever_their_size(tmp_path: Path, sizes: list[int]) -> None:
    parts = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    path, end = tmp_path / "run.wandb", LogEnd()
    path.write_bytes(written(parts))
    assert list(messages(path, end)) == parts
    assert end.torn_at is None


@RELAXED
@given(sizes=SIZES.filter(bool), data=st.data())
def test_a_log_that_was_cut_anywhere_gives_what_stands_before_the_cut(
    tmp_path: Path, sizes: list[int], data: Any
) -> None:
    parts = [bytes([number % 251 + 1]) * size for number, size in enumerate(sizes)]
    whole = written(parts)
    at = data.draw(st.integers(len(MAGIC), len(whole)))
    path, end = tmp_path / "run.wandb", LogEnd()
    path.write_bytes(whole[:at])
    found = list(messages(path, end))
    assert found == parts[: len(found)]
    assert len(written(parts[: len(found)])) <= at
    assert (len(found) == len(parts)) or end.torn_at is not None or at == len(written(parts[: len(found)]))


@RELAXED
@given(sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=5), data=st.data())
def test_a_changed_byte_is_never_passed_over(tmp_path: Path, sizes: list[int], data: Any) -> None:
    parts = [bytes([number % 251 + 1]) * size for number, size in enumerate(sizes)]
    whole = bytearray(written(parts))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path, end = tmp_path / "run.wandb", LogEnd()
    path.write_bytes(bytes(whole))
    try:
        found = list(messages(path, end))
    except TrackerError:
        return
    assert end.torn_at is not None, "a length that points beyond the end looks like a torn log"
    assert found == parts[: len(found)]


def test_other_files_are_no_log(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    for data in (b"", b":W&B", b":W&B\xe1\xbe\x07rest", b"PK\x03\x04"):
        path.write_bytes(data)
        with pytest.raises(TrackerError, match="no W&B log of a known version"):
            list(messages(path, LogEnd()))


def test_without_the_library_reading_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from cognify_dagster.instrument.trackers import read_wandb

    monkeypatch.setitem(sys.modules, "wandb.proto.wandb_internal_pb2", None)
    path = tmp_path / "run-a.wandb"
    path.write_bytes(written([b""]))
    with pytest.raises(TrackerUnreachable, match=r"pip install 'cognify-dagster\[wandb\]'"):
        read_wandb(path)


# Names, secrets, addresses --------------------------------------------------------------------------------------------


@given(st.sets(st.text(min_size=1, max_size=300), max_size=20))
def test_every_metric_gets_a_name_of_its_own_that_a_record_can_hold(names: set[str]) -> None:
    mapped = recorded_names(names)
    assert set(mapped) == names
    assert len(set(mapped.values())) == len(names)
    for name, plain in mapped.items():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}", plain)
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}", name):
            assert plain == name


def test_addresses_are_kept_without_what_opens_them() -> None:
    for uri, clean in (
        ("http://ben:word@mlflow:5000/a?token=1#x", "http://mlflow:5000/a"),
        ("postgresql+psycopg://u:p%40@h:5432/db", "postgresql+psycopg://h:5432/db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("./mlruns", "./mlruns"),
        ("https://[::1]:8/x", "https://[::1]:8/x"),
    ):
        assert clean_uri(uri) == clean


def test_secrets_are_left_out_and_numbers_of_tokens_are_not() -> None:
    assert kept("aws_secret_access_key", "abc") == "[redacted]"
    assert kept("password", "12345") == "[redacted]"
    assert kept("tokens", "1000000") == "1000000"
    assert kept("max_tokens", "512") == "512"
    assert "word" not in json.dumps(kept("db", {"url": "mysql://u:word@h/d"}))
    assert kept("lr", "0.1") == "0.1"


def test_parameters_that_are_too_large_stand_by_their_digest() -> None:
    short, notes = fitted({f"p{number}": "x" * 6000 for number in range(600)} | {"lr": "0.1"})
    assert short["lr"] == "0.1"
    assert short["p0"]["characters"] == 6000
    assert notes
    with pytest.raises(TrackerError, match="parameters"):
        fitted({f"p{number}": "x" * 200 for number in range(20_000)})
    with pytest.raises(TrackerError, match="more than"):
        fitted({f"p{number}": 1 for number in range(50_001)})


def test_values_that_json_does_not_know() -> None:
    assert number(float("nan")) == "NaN"
    assert number(1.7976931348623157e308) == "Infinity", "what some stores keep in place of infinity"
    assert number(float("-inf")) == "-Infinity"
    assert number(0.1) == 0.1


def test_pinned_packages() -> None:
    lines = ["# a remark", "Scikit_Learn==1.9.1", "numpy>=2", "-r more.txt", "torch==2.13.0+cpu ; python_version > '3'"]
    assert packages(lines) == (("scikit-learn", "1.9.1"), ("torch", "2.13.0+cpu"))
