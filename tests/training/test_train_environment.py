"""The environment: complete, without secrets, absent things said to be absent."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys

import pytest

from cognify_dagster.training import TrainingError, capture_environment
from cognify_dagster.training.environment import parse_gpu_listing, record_digest


def test_python_and_packages_are_those_that_run():
    found = capture_environment()
    assert found.python_version == platform.python_version()
    versions = {package.name: package.version for package in found.packages}
    assert versions["pydantic"] == importlib.metadata.version("pydantic")
    assert versions["typing-extensions"] == importlib.metadata.version("typing_extensions")
    names = [package.name for package in found.packages]
    assert names == sorted(set(names))


def test_the_lock_digest_is_that_of_the_printed_lines():
    found = capture_environment()
    lines = [f"{package.name}=={package.version}" for package in found.packages]
    assert found.requirements().splitlines() == sorted(lines)
    text = "".join(f"{line}\n" for line in sorted(lines))
    assert found.lock_sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_same_environment_is_captured_twice_alike():
    assert capture_environment() == capture_environment()


def test_no_environment_variable_is_recorded(monkeypatch):
    monkeypatch.setenv("COGNIFY_TEST_TOKEN", "s3cr3t-value-of-a-variable")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:s3cr3t-value-of-a-variable@index.example/simple")
    assert "s3cr3t-value-of-a-variable" not in capture_environment().model_dump_json()


def test_facts_and_observed_together_are_everything_and_do_not_share():
    found = capture_environment()
    facts, observed = found.to_facts(), found.to_observed()
    assert set(facts) | set(observed) == set(type(found).model_fields)
    assert not set(facts) & set(observed)
    assert "hostname" in observed
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_an_absent_gpu_is_said_to_be_absent(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = capture_environment()
    assert (found.gpu, found.gpus, found.driver, found.cuda) == ("absent", (), "absent", "absent")


def fake_tool(tmp_path, monkeypatch, body):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_gpu_is_described_as_its_driver_says(monkeypatch, tmp_path):
    fake_tool(
        tmp_path,
        monkeypatch,
        "if len(sys.argv) > 1: print('NVIDIA H200, 143771, 570.124.06')\n"
        "else: print('| NVIDIA-SMI 570.124.06   Driver Version: 570.124.06   CUDA Version: 12.8 |')",
    )
    found = capture_environment()
    assert (found.gpu, found.driver, found.cuda) == ("present", "570.124.06", "12.8")
    assert [(gpu.name, gpu.memory_mib) for gpu in found.gpus] == [("NVIDIA H200", 143771)]


def test_a_driver_tool_that_fails_is_unreadable_and_not_absent(monkeypatch, tmp_path):
    fake_tool(tmp_path, monkeypatch, "print('broken'); sys.exit(9)")
    found = capture_environment()
    assert (found.gpu, found.driver, found.cuda) == ("unreadable", "unreadable", "unreadable")


def test_gpu_lines_with_commas_and_without_memory():
    gpus, driver = parse_gpu_listing("Odd, name, [N/A], 1.2\n\nrubbish\n")
    assert [(gpu.name, gpu.memory_mib) for gpu in gpus] == [("Odd, name", -1)]
    assert driver == "1.2"


@pytest.mark.parametrize("prefix", ["", "registry.example:5000/team/image@"])
def test_the_image_digest_is_taken_from_its_variable(monkeypatch, prefix):
    monkeypatch.setattr("cognify_dagster.training.environment.CONTAINER_MARKS", ())
    monkeypatch.setenv("COGNIFY_IMAGE_DIGEST", f"{prefix}sha256:{'a' * 64}")
    assert capture_environment().image_digest == f"{prefix}sha256:{'a' * 64}"
    monkeypatch.delenv("COGNIFY_IMAGE_DIGEST")
    assert capture_environment().image_digest == "none"


def test_in_a_container_without_that_variable_the_digest_is_undeclared_and_not_none(monkeypatch, tmp_path):
    marks = (str(tmp_path / "dockerenv"), str(tmp_path / "containerenv"))
    monkeypatch.setattr("cognify_dagster.training.environment.CONTAINER_MARKS", marks)
    monkeypatch.delenv("COGNIFY_IMAGE_DIGEST", raising=False)
    assert capture_environment().image_digest == "none"
    (tmp_path / "containerenv").touch()
    assert capture_environment().image_digest == "undeclared"
    monkeypatch.setenv("COGNIFY_IMAGE_DIGEST", f"sha256:{'a' * 64}")
    assert capture_environment().image_digest == f"sha256:{'a' * 64}"


def test_something_else_in_that_variable_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("COGNIFY_IMAGE_DIGEST", "a-token-pasted-by-mistake")
    with pytest.raises(TrainingError, match="COGNIFY_IMAGE_DIGEST") as caught:
        capture_environment()
    assert "a-token" not in str(caught.value)


def test_the_requirements_are_what_pip_calls_installed():
    try:
        out = subprocess.run(
            [sys.executable, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
    except subprocess.CalledProcessError:
        pytest.skip("this interpreter has no pip")
    listed = {item["name"].lower().replace("_", "-").replace(".", "-"): item["version"] for item in json.loads(out)}
    found = {package.name: package.version for package in capture_environment().packages}
    assert {name: found.get(name) for name in listed} == listed


RECORD = """\
pkg/__init__.py,sha256=AAA,10
pkg/core.so,sha256=BBB,20
pkg-1.0.dist-info/METADATA,sha256=CCC,30
"""


def test_the_list_of_files_is_the_same_for_every_installation_of_one_wheel():
    theirs = """\
../../../bin/tool,sha256=names-the-interpreter,99
pkg/core.so,sha256=BBB,20
pkg/__init__.py,sha256=AAA,10
pkg/__pycache__/__init__.cpython-311.pyc,,
pkg-1.0.dist-info/INSTALLER,sha256=DDD,4
pkg-1.0.dist-info/direct_url.json,sha256=EEE,44
pkg-1.0.dist-info/RECORD,,
pkg-1.0.dist-info/METADATA,sha256=CCC,30
"""
    lines = "pkg-1.0.dist-info/METADATA,sha256=CCC\npkg/__init__.py,sha256=AAA\npkg/core.so,sha256=BBB\n"
    assert record_digest(RECORD) == record_digest(theirs) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    "change", [("AAA", "AAB"), ("core.so", "core2.so"), ("pkg/core.so,sha256=BBB,20\n", ""), ("METADATA", "LICENSE")]
)
def test_another_file_gives_another_digest(change):
    assert record_digest(RECORD.replace(*change)) != record_digest(RECORD)


def test_without_a_list_of_files_there_is_no_digest():
    assert record_digest("") == record_digest("pkg/a.pyc,,\n") == ""


def test_a_list_that_cannot_be_read_stops_no_training(monkeypatch, tmp_path):
    folder = tmp_path / "broken_package-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-package\nVersion: 1.0\n")
    (folder / "RECORD").write_bytes(b"pkg/\xff\xfe.py,sha256=AAA,1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {package.name: package for package in capture_environment().packages}
    assert (found["broken-package"].version, found["broken-package"].files_sha256) == ("1.0", "")


def test_installed_packages_have_the_digest_of_their_list_of_files():
    found = {package.name: package.files_sha256 for package in capture_environment().packages}
    record = importlib.metadata.distribution("pydantic").read_text("RECORD")
    assert record is not None
    assert found["pydantic"] == record_digest(record)
    assert len(found["pydantic"]) == 64
