"""Rebuilds what a training ran in: the environment as a new venv, the code as a clone of its commit.

Invariants: nothing is changed outside the folder that is given; the repository is only read (the clone borrows its objects); no
program runs through a shell; git runs no hook and no template of the repository or of this login; a package that was installed is compared
with the record afterwards, it is not trusted for its name; only wheels are taken unless the caller asks for source archives, so
that installing runs no code of a package.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training._run import run_command
from cognify_dagster.training.code import capture_code
from cognify_dagster.training.environment import Package, record_digest
from cognify_dagster.training.reproducing import RecordedEnvironment

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib

_SHOWN = 15
_PYTHON = re.compile(r"python(\d+(\.\d+)?)?(\.exe)?")


class RebuildError(TrainingError):
    """The environment or the code cannot be rebuilt; the message says what to give."""


@dataclass(frozen=True)
class Rebuilt:
    """A rebuilt environment. `from_folder` are the packages that were installed from a folder, by name."""

    python: Path
    version: str
    packages: tuple[Package, ...]
    from_folder: tuple[str, ...]


def interpreter_for(recorded: str, given: str | None) -> str:
    """Return the interpreter to build with: the one given, else this one if it is the recorded minor version.

    Raises:
        RebuildError: if it is another; the message names what to install.
    """
    if given is not None:
        return given
    wanted = ".".join(recorded.split(".")[:2])
    if wanted == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    raise RebuildError(
        f"the record was made with Python {recorded}, this is {sys.version_info.major}.{sys.version_info.minor}: give "
        f"--python with a Python {wanted}"
    )


def projects_below(folder: Path) -> dict[str, Path]:
    """Return the Python projects in a checkout (its top and two levels below), by normalised name."""
    found: dict[str, Path] = {}
    for pattern in ("pyproject.toml", "*/pyproject.toml", "*/*/pyproject.toml"):
        for file in sorted(folder.glob(pattern)):
            try:
                name = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}).get("name")
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
                continue
            if isinstance(name, str):
                found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), file.parent)
    return found


def build_venv(
    folder: Path,
    environment: RecordedEnvironment,
    *,
    python: str,
    folders: Mapping[str, Path],
    pip_options: Sequence[str],
    log: IO[bytes],
    timeout_s: float,
    allow_source: bool = False,
) -> Rebuilt:
    """Make a venv with the recorded packages, each in the recorded version, none besides.

    Args:
        folder: where to make it; must not exist.
        environment: the record.
        python: the interpreter to build with.
        folders: packages that are installed from a folder, as an editable checkout was.
        pip_options: passed on to `pip install`, such as `--find-links` or `--index-url`.
        log: where pip writes to.
        timeout_s: for each step, in seconds.
        allow_source: take source archives too. Building one runs its code, and a name on record may be anybody's on an index.

    Raises:
        RebuildError: naming the step that failed, with the end of its output.
    """
    own_pip = _may_lend_pip(python)
    bare = ["--without-pip"] if own_pip else []
    _run([python, "-I", "-m", "venv", *bare, str(folder)], log, timeout_s, "the venv could not be made")
    inside = venv_python(folder)
    names = {item.name for item in environment.packages}
    local = {name: path for name, path in folders.items() if name in names}
    wanted = folder / "requirements.txt"
    wanted.write_text(environment.requirements(local), encoding="utf-8")
    pip = [sys.executable, "-I", "-m", "pip", "--python", str(inside)] if own_pip else [str(inside), "-I", "-m", "pip"]
    install = [*pip, "install", "--no-deps", "--disable-pip-version-check", "--no-input"]
    wheels = [] if allow_source else ["--only-binary=:all:"]
    failed = "pip could not install the recorded packages"
    if not allow_source:
        failed += " from wheels; --allow-source takes source archives too, which runs their code while they are built"
    _run([*install, *wheels, *pip_options, "-r", str(wanted)], log, timeout_s, failed)
    for name, path in sorted(local.items()):
        _run([*install, *pip_options, "-e", str(path)], log, timeout_s, f"pip could not install {name} from {path}")
    surplus = [item.name for item in packages_of(inside) if item.name not in names]
    if surplus:  # what venv brings along
        _run([*pip, "uninstall", "-y", *surplus], log, timeout_s, f"pip could not remove {', '.join(surplus)}")
    return Rebuilt(inside, python_version(inside), packages_of(inside), tuple(sorted(local)))


def _may_lend_pip(python: str) -> bool:
    """Whether this process's pip can install into a venv of an interpreter: it saves unpacking one that is removed again."""
    if importlib.util.find_spec("pip") is None:
        return False
    own = ".".join(map(str, sys.version_info[:2]))
    return python == sys.executable or python_version(python).split(".")[:2] == own.split(".")


def venv_python(folder: Path) -> Path:
    """The interpreter of a venv."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_version(python: Path | str) -> str:
    """The version of an interpreter, such as 3.11.9.

    Raises:
        RebuildError: it does not run.
    """
    done = run_command([str(python), "-I", "-c", "import platform; print(platform.python_version())"])
    if done.problem:
        raise RebuildError(f"{python}: {done.problem}")
    return done.stdout.decode("ascii", "replace").strip()


def packages_of(python: Path | str) -> tuple[Package, ...]:
    """The distributions that an interpreter can import, read from its search path without running any of them."""
    program = "import json, sys; print(json.dumps(sys.path))"
    done = run_command([str(python), "-I", "-c", program])
    if done.problem:
        raise RebuildError(f"{python}: {done.problem}")
    import json

    found: dict[str, Package] = {}
    for distribution in metadata.distributions(path=[str(item) for item in json.loads(done.stdout)]):
        raw = distribution.metadata["Name"] if distribution.metadata else None
        name = re.sub(r"[-_.]+", "-", raw).lower() if raw else ""
        if name and name not in found:
            try:
                digest = record_digest(distribution.read_text("RECORD") or "")
            except (OSError, ValueError):
                digest = ""
            found[name] = Package(name=name, version=distribution.version or "unknown", files_sha256=digest)
    return tuple(found[name] for name in sorted(found))


def clone_commit(repository: Path, commit: str, target: Path) -> None:
    """Clone a commit into a new folder; the repository is read only, and lends its objects.

    Raises:
        RebuildError: no repository, or it does not have the commit.
    """
    there = run_command([*_GIT, "cat-file", "-e", f"{commit}^{{commit}}"], cwd=repository)
    if there.problem:
        raise RebuildError(
            f"{repository}: does not have commit {commit}; fetch it, or give --repo with a clone that has it"
        )
    steps = (
        [
            *_GIT,
            "clone",
            "--quiet",
            "--shared",
            "--no-checkout",
            "--no-tags",
            "--template=",
            str(repository),
            str(target),
        ],
        [*_GIT, "-C", str(target), "checkout", "--quiet", "--detach", commit],
    )
    for step in steps:
        done = run_command(step, timeout_s=600)
        if done.problem:
            raise RebuildError(f"{repository}: commit {commit} cannot be checked out: {done.problem}")


def take_changes(repository: Path, commit: str, digest: str, target: Path) -> bool:
    """Put uncommitted changes onto a clone, if the repository's working tree still has exactly those that were recorded.

    Returns:
        Whether it had them and they were put there.
    """
    state = capture_code(repository)
    if state.commit != commit or state.diff_sha256 != digest or state.untracked_count > len(state.untracked):
        return False
    difference = run_command(
        [*_GIT, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--binary"], cwd=repository
    )
    if difference.problem:
        return False
    if difference.stdout and not apply_patch(difference.stdout, target):
        return False
    top = run_command([*_GIT, "rev-parse", "--show-toplevel"], cwd=repository)
    root = Path(top.stdout.decode("utf-8", "surrogateescape").rstrip("\n"))
    for name in state.untracked:
        source, copy = root / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    return capture_code(target).diff_sha256 == digest


def apply_patch(patch: bytes, target: Path) -> bool:
    """Apply a diff to a clone; return whether it fitted."""
    file = target / ".git" / "recorded.patch"
    file.write_bytes(patch)
    return not run_command([*_GIT, "apply", "--binary", "--whitespace=nowarn", str(file)], cwd=target).problem


def argument_vector(command: Sequence[str], python: Path) -> list[str]:
    """The command with the rebuilt interpreter where it names a Python."""
    first = Path(command[0]).name
    return [str(python), *command[1:]] if _PYTHON.fullmatch(first) else list(command)


def run_again(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: IO[bytes], timeout_s: float
) -> int:
    """Run a command without a shell; return its exit status.

    Raises:
        RebuildError: it cannot be started, or ran longer than allowed.
    """
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RebuildError(f"the re-run took longer than {timeout_s:g} s; give --timeout") from None
    except OSError as error:
        raise RebuildError(f"{command[0]}: cannot be run ({error.strerror})") from None
    return done.returncode


def tail_of(file: Path) -> str:
    """The last lines of a log."""
    with file.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 20_000))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return "\n".join(lines[-_SHOWN:])


_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false")


def _run(command: Sequence[str], log: IO[bytes], timeout_s: float, what: str) -> None:
    log.write(f"\n$ {' '.join(command)}\n".encode())
    log.flush()
    status = run_again(command, folder=Path.cwd(), environment=_clean(), log=log, timeout_s=timeout_s)
    if status:
        log.flush()
        raise RebuildError(f"{what} (status {status}). The end of its output:\n{tail_of(Path(log.name))}")


def _clean() -> dict[str, str]:
    """This process's environment without what would lead Python to another's packages."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
