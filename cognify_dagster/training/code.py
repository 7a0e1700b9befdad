"""Which code a training ran, as git sees it.

Invariants: every command has a fixed argument vector and a time limit; external diff and text conversion programs, hooks
and file-system monitors that a repository's settings name are not run; the remote is recorded without user, password,
query or fragment; a local path as remote is not recorded. No repository is ``vcs="none"``, one that git can't read is
``vcs="unreadable"`` with git's reason; neither is silently clean.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training._run import CommandResult, run_command
from cognify_dagster.training.files import sha256_file

#: How many of the latest commits are asked for their authors.
AUTHOR_COMMITS = 50

#: How many untracked files are listed by name; all of them enter the digest.
MAX_UNTRACKED_LISTED = 200

#: Untracked files above this enter the digest by path and size only.
MAX_UNTRACKED_BYTES = 8 * 1024 * 1024

_GIT = (
    "git",
    "--literal-pathspecs",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.quotePath=false",
)


class CodeState(BaseModel):
    """The state of the working tree.

    Attributes:
        vcs: ``git``; ``none`` where there is no repository; ``unreadable`` where git could not answer.
        commit: The commit's id in hex; ``none`` without a commit.
        dirty: Whether files differ from the commit or are untracked (ignored files don't count). True without a commit;
            None where there is no repository.
        diff_sha256: SHA-256 over ``git diff HEAD`` and the untracked files' paths and digests; ``none`` where clean.
        untracked: Paths of untracked files, at most 200.
        untracked_count: How many there are.
        remote: Address of ``origin`` without credentials; ``none`` without one.
        authors: E-mail addresses of the authors of the latest 50 commits that touch ``scope``, sorted.
        scope: The folder that ``authors`` is about, relative to the repository.
        reason: Why ``vcs`` is ``unreadable``; else empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vcs: Literal["git", "none", "unreadable"]
    commit: str = "none"
    dirty: bool | None = None
    diff_sha256: str = "none"
    untracked: tuple[str, ...] = ()
    untracked_count: int = 0
    remote: str = "none"
    authors: tuple[str, ...] = ()
    scope: str = "."
    reason: str = ""

    def to_facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        return self.model_dump(mode="json")


def capture_code(path: str | Path = ".") -> CodeState:
    """Describes the repository that holds ``path``.

    Args:
        path: The folder or file of the training code; the authors asked for are those of this path.

    Raises:
        TrainingError: ``path`` does not exist.
    """
    target = Path(path).resolve()
    if not target.exists():
        raise TrainingError(f"{path}: no such file or folder; give the folder of the training code")
    folder = target if target.is_dir() else target.parent
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top.problem:
        if _has_repository(folder):
            return CodeState(vcs="unreadable", reason=top.problem)
        return CodeState(vcs="none")
    root = Path(top.stdout.decode("utf-8", "surrogateescape").rstrip("\n"))
    try:
        scope = target.relative_to(root.resolve()).as_posix()
    except ValueError:
        scope = "."

    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head.problem and not head.problem.endswith("status 1: no message"):  # status 1: a repository without a commit
        return CodeState(vcs="unreadable", reason=head.problem)
    commit = head.stdout.decode("ascii", "replace").strip() or "none"
    listing = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    if commit == "none":
        # Without a commit everything is new; the index stands for the tracked part.
        difference = _git(root, "diff", "--cached", "--no-ext-diff", "--no-textconv", "--no-color", "--binary")
    else:
        difference = _git(root, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--binary")
    for answer in (listing, difference):
        if answer.problem:
            return CodeState(vcs="unreadable", commit=commit, reason=answer.problem, scope=scope)
    untracked = sorted(name for name in listing.stdout.split(b"\0") if name)
    dirty = commit == "none" or bool(difference.stdout) or bool(untracked)
    remote = _git(root, "config", "--get", "remote.origin.url")
    log = _git(root, "log", "-n", str(AUTHOR_COMMITS), "--format=%ae", "--", scope) if commit != "none" else None
    authors = log.stdout.decode("utf-8", "replace").split("\n") if log else []
    return CodeState(
        vcs="git",
        commit=commit,
        dirty=dirty,
        diff_sha256=_difference_digest(root, difference.stdout, untracked) if dirty else "none",
        untracked=tuple(name.decode("utf-8", "replace") for name in untracked[:MAX_UNTRACKED_LISTED]),
        untracked_count=len(untracked),
        remote=clean_remote(remote.stdout.decode("utf-8", "replace").strip()),
        authors=tuple(sorted({author.strip() for author in authors if author.strip()})),
        scope=scope,
    )


def clean_remote(address: str) -> str:
    """A remote's address without user, password, query and fragment.

    Returns:
        ``none`` for an empty address, ``local path`` for one on this machine.
    """
    address = address.strip()
    if not address:
        return "none"
    if "://" in address:
        try:
            parts = urlsplit(address)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return "unreadable"
        if parts.scheme == "file" or not parts.hostname:
            return "local path"
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{parts.scheme}://{host}{port}{parts.path}"
    # scp form: user@host:path (a token may stand where the user does)
    scp = re.match(r"^(?:[^/]*@)?([A-Za-z0-9][A-Za-z0-9._-]+):([^?#]*)", address)
    return f"{scp.group(1)}:{scp.group(2)}" if scp else "local path"


def _git(folder: Path, *arguments: str) -> CommandResult:
    return run_command((*_GIT, *arguments), cwd=folder)


def _has_repository(folder: Path) -> bool:
    return any((parent / ".git").exists() for parent in (folder, *folder.parents))


def _difference_digest(root: Path, difference: bytes, untracked: list[bytes]) -> str:
    digest = hashlib.sha256(difference)
    for raw in untracked:
        file = root / raw.decode("utf-8", "surrogateescape")
        digest.update(b"\0" + raw + b"\0")
        try:
            size = file.lstat().st_size
            content = sha256_file(file) if size <= MAX_UNTRACKED_BYTES else f"size:{size}"
        except (OSError, TrainingError):
            content = "unreadable"
        digest.update(content.encode("ascii"))
    return digest.hexdigest()
