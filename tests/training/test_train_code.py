"""The code's state as git sees it, on real repositories made for each test."""

from __future__ import annotations

import os
import subprocess

import pytest

from cognify_dagster.training import TrainingError, capture_code, clean_remote


def git(folder, *arguments, author="ada@example.org"):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": author,
        "GIT_COMMITTER_NAME": "C",
        "GIT_COMMITTER_EMAIL": "committer@example.org",
    }
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "project"
    (root / "model").mkdir(parents=True)
    (root / "other").mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "model" / "train.py").write_text("print(1)\n")
    (root / ".gitignore").write_text("*.log\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    (root / "other" / "x.py").write_text("x = 1\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "two", author="bob@example.org")
    return root


def test_a_clean_tree_names_its_commit(repository):
    found = capture_code(repository)
    assert found.vcs == "git"
    assert found.commit == git(repository, "rev-parse", "HEAD").strip()
    assert (found.dirty, found.diff_sha256, found.untracked) == (False, "none", ())
    assert found.remote == "none"


def test_authors_are_those_who_touched_the_scope(repository):
    assert capture_code(repository / "model").authors == ("ada@example.org",)
    assert capture_code(repository / "model").scope == "model"
    assert capture_code(repository / "model" / "train.py").scope == "model/train.py"
    assert capture_code(repository).authors == ("ada@example.org", "bob@example.org")


def test_a_changed_file_makes_the_tree_dirty_and_each_change_has_its_digest(repository):
    seen = set()
    for text in ("print(2)\n", "print(3)\n"):
        (repository / "model" / "train.py").write_text(text)
        found = capture_code(repository)
        assert found.dirty
        assert len(found.diff_sha256) == 64
        seen.add(found.diff_sha256)
    git(repository, "add", "-A")
    staged = capture_code(repository)
    assert staged.dirty
    assert staged.diff_sha256 in seen
    assert len(seen) == 2


def test_untracked_files_make_the_tree_dirty_by_name_and_content(repository):
    (repository / "model" / "new ä.py").write_text("a")
    first = capture_code(repository)
    assert first.dirty
    assert first.untracked == ("model/new ä.py",)
    (repository / "model" / "new ä.py").write_text("b")
    assert capture_code(repository).diff_sha256 != first.diff_sha256


def test_ignored_files_do_not_count(repository):
    (repository / "run.log").write_text("x")
    assert capture_code(repository).dirty is False


def test_without_a_commit_everything_is_new(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("a")
    found = capture_code(tmp_path)
    assert (found.vcs, found.commit, found.dirty, found.untracked) == ("git", "none", True, ("a.py",))


def test_no_repository_is_said(tmp_path):
    found = capture_code(tmp_path)
    assert (found.vcs, found.commit, found.dirty) == ("none", "none", None)


def test_a_damaged_repository_is_unreadable_and_not_clean(repository):
    (repository / ".git" / "HEAD").write_text("rubbish")
    found = capture_code(repository)
    assert found.vcs == "unreadable"
    assert found.reason
    assert found.dirty is None


def test_without_git_a_repository_is_unreadable(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = capture_code(repository)
    assert (found.vcs, found.reason) == ("unreadable", "git is not installed")


def test_programs_named_in_the_repository_are_not_run(repository, tmp_path):
    mark = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "diff.x.textconv"):
        git(repository, "config", key, str(script))
    (repository / ".gitattributes").write_text("*.py diff=x\n")
    (repository / "model" / "train.py").write_text("print(9)\n")
    assert capture_code(repository).dirty
    assert not mark.exists()


def test_a_misleading_git_dir_variable_is_ignored(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert capture_code(repository).vcs == "git"


def test_the_remote_is_recorded_without_credentials(repository):
    git(repository, "remote", "add", "origin", "https://user:t0ken@git.example.org/team/repo.git?x=t0ken")
    found = capture_code(repository)
    assert found.remote == "https://git.example.org/team/repo.git"
    assert "t0ken" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("address", "recorded"),
    [
        ("", "none"),
        ("https://t0ken@host.example/a.git", "https://host.example/a.git"),
        ("ssh://git@host.example:2222/a.git", "ssh://host.example:2222/a.git"),
        ("git@host.example:team/a.git", "host.example:team/a.git"),
        ("t0ken:x@host.example:team/a.git", "host.example:team/a.git"),
        ("https://u:p@[::1]:8443/a#t0ken", "https://[::1]:8443/a"),
        ("/home/someone/repo", "local path"),
        ("../repo", "local path"),
        ("file:///home/someone/repo", "local path"),
        ("https://host:notaport/x", "unreadable"),
    ],
)
def test_addresses(address, recorded):
    assert clean_remote(address) == recorded


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(TrainingError, match="no such file"):
        capture_code(tmp_path / "none")
