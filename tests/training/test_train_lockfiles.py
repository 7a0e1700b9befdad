"""Lock files beside the code, and what the environment says of PyTorch and of repeated captures."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from cognify_dagster.training import TrainingError, capture_environment, find_lock_files, prefetch_environment
from cognify_dagster.training import environment as environment_module


def test_every_known_lock_file_of_the_nearest_folder_is_named_by_digest(tmp_path):
    (tmp_path / ".git").mkdir()
    code = tmp_path / "src" / "pkg"
    code.mkdir(parents=True)
    names = [
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "Pipfile.lock",
        "requirements-dev.txt",
        "constraints.txt",
        "pylock.toml",
    ]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "requirements.md").write_text("no lock file")
    (tmp_path / "requirements_link.txt").symlink_to(tmp_path / "uv.lock")
    found = find_lock_files(code / "train.py")
    assert {item.name: item.sha256 for item in found} == {n: hashlib.sha256(n.encode()).hexdigest() for n in names}
    assert [item.name for item in found] == sorted(names)
    (code / "requirements.txt").write_text("x==1\n")
    assert [item.name for item in find_lock_files(code)] == ["requirements.txt"]


def test_nothing_above_the_repository_counts(tmp_path):
    (tmp_path / "uv.lock").write_text("")
    inner = tmp_path / "repository"
    (inner / ".git").mkdir(parents=True)
    assert find_lock_files(inner) == ()
    outside = tmp_path / "no_repository"
    outside.mkdir()
    assert find_lock_files(outside) == ()
    assert capture_environment(inner).lock_files == ()


def test_the_environment_names_them(tmp_path):
    (tmp_path / "uv.lock").write_text("locked")
    (found,) = capture_environment(tmp_path).lock_files
    assert (found.name, found.sha256) == ("uv.lock", hashlib.sha256(b"locked").hexdigest())
    assert capture_environment().lock_files == ()


def test_pytorch_is_asked_only_if_somebody_imported_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert set(capture_environment().torch.values()) == {"not imported"}
    fake = types.SimpleNamespace(
        __version__="2.13.0+cu128",
        version=types.SimpleNamespace(cuda="12.8"),
        backends=types.SimpleNamespace(cudnn=types.SimpleNamespace(version=lambda: 91002)),
    )
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert capture_environment().torch == {"version": "2.13.0+cu128", "cuda": "12.8", "cudnn": "91002"}
    fake.version.cuda = None
    fake.backends.cudnn.version = lambda: None
    assert capture_environment().torch == {"version": "2.13.0+cu128", "cuda": "absent", "cudnn": "absent"}
    del fake.backends
    assert capture_environment().torch["cudnn"] == "unreadable"


def test_a_second_capture_reads_nothing_again_and_an_installation_is_seen(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    capture_environment()
    reads = []
    real = environment_module._packages
    monkeypatch.setattr(environment_module, "_packages", lambda: reads.append(1) or real())
    began = time.thread_time()  # not by the clock: another process may have the core for longer than that
    capture_environment()
    assert not reads
    assert time.thread_time() - began < 0.1
    folder = tmp_path / "fresh_package-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fresh-package\nVersion: 1.0\n")
    assert "fresh-package" in {package.name for package in capture_environment().packages}
    assert reads == [1]


def test_the_background_reads_before_it_is_asked_for(monkeypatch):
    cache = environment_module._Cache()
    monkeypatch.setattr(environment_module, "_CACHE", cache)
    prefetch_environment()
    deadline = time.monotonic() + 20
    while cache._packages is None and time.monotonic() < deadline:
        time.sleep(0.02)
    monkeypatch.setattr(environment_module, "_packages", lambda: pytest.fail("read again"))
    assert capture_environment().packages


def test_what_would_fail_at_the_end_is_said_at_the_beginning(monkeypatch):
    monkeypatch.setenv("COGNIFY_IMAGE_DIGEST", "latest")
    with pytest.raises(TrainingError, match="COGNIFY_IMAGE_DIGEST"):
        prefetch_environment()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_worker_does_not_wait_for_a_thread_of_its_parent():
    code = (
        "import os, sys\n"
        "from cognify_dagster.training import environment\n"
        "environment._CACHE._lock.acquire()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    environment.capture_environment(); os._exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, check=False)
    assert done.returncode == 7
