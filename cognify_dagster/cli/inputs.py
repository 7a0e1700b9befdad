"""What commands take: parameter types, the workspace, pass phrases, files to write.

Invariants: a pass phrase is never a command-line argument, never printed and never stored; a pass phrase file that others
can read is refused; a file is either written whole or not at all, and none is overwritten.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure

if TYPE_CHECKING:
    from cognify_dagster.governance import PersonalKey
    from cognify_dagster.ledger import TrustFile
    from cognify_dagster.records import Envelope
    from cognify_dagster.workspace import Workspace

PASSPHRASE_VARIABLE = "COGNIFY_PASSPHRASE"  # noqa: S105 (the name of a variable)
MAX_INPUT = 1_000_000
_MAX_PASSPHRASE = 4096
F = TypeVar("F", bound=Callable[..., Any])


class _Pattern(click.ParamType):
    def __init__(self, name: str, pattern: str, hint: str) -> None:
        self.name, self._pattern, self._hint = name, re.compile(pattern), hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._pattern.fullmatch(str(value)):
            self.fail(f"{str(value)[:80]!r} is not {self._hint}", param, ctx)
        return str(value)


class _Time(click.ParamType):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return parse_time(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Digest(click.ParamType):
    name = "digest"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            self.fail(f"{str(value)[:80]!r} is not sha256:<64 hex digits>", param, ctx)
        return "sha256:" + text


class _InFile(click.ParamType):
    """A file to read. One that is not there is no wrong usage: it is said as such, with the code for what is unreadable."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value).expanduser()
        option = next((word for word in getattr(param, "opts", ()) if word.startswith("--")), "")
        where = f"{option} {path}" if option else str(path)
        if path.is_dir():
            raise Failure(f"{where}: this is a folder; a file is needed", UNREADABLE)
        if not path.exists():
            raise Failure(f"{where}: there is no such file", UNREADABLE)
        if not os.access(path, os.R_OK):
            raise Failure(f"{where}: you may not read this file", UNREADABLE)
        return path


MODEL = _Pattern("model", r"[A-Za-z][A-Za-z0-9_]{0,79}", "a model key (letters, digits, underscores)")
VERSION = _Pattern("version", r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,49}", "a model version")
PERSON = _Pattern("person", r"person/[a-z0-9][a-z0-9-]{1,60}", "a person id such as person/ada-7")
HOLDER = _Pattern("holder", r"(person|workload)/[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", "a person/… or workload/… id")
WORKLOAD = _Pattern("workload", r"workload/[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", "a workload id such as workload/pipeline")
TARGET = _Pattern("target", r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", "a deployment target such as production")
NAME = _Pattern("name", r"[A-Za-z][A-Za-z0-9_.-]{0,99}", "a name (letters, digits, . _ -)")
KEY_ID = _Pattern("key id", r"[0-9a-f]{16}", "a key id of 16 hex digits")
TIME = _Time()
DIGEST = _Digest()
IN_FILE = _InFile()
OUT_FILE = click.Path(dir_okay=False, path_type=Path)


def parse_time(text: str) -> str:
    """Read `2026-11-21T08:00:00Z` or a date (meaning its last second, UTC); return the first form.

    Raises:
        ValueError: saying what is expected.
    """
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"):
        try:
            found = datetime.strptime(text.strip(), form).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
        if form == "%Y-%m-%d":
            found = found.replace(hour=23, minute=59, second=59)
        return found.strftime("%Y-%m-%dT%H:%M:%SZ")
    raise ValueError(f"{text[:80]!r} is not a UTC time such as 2026-11-21T08:00:00Z, nor a date such as 2026-11-21")


def open_workspace(ctx: click.Context) -> Workspace:
    """Open the workspace of `--workspace`, `$COGNIFY_WORKSPACE` or the current folder and those above."""
    from cognify_dagster.workspace import Workspace

    return Workspace.open((ctx.obj or {}).get("workspace"))


def program(workspace: Workspace) -> str:
    """Return how to call this command so that it finds the same workspace: what is printed can be copied and run."""
    from cognify_dagster.workspace import WorkspaceError, find_config
    from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE

    try:
        if find_config(os.environ.get(ENVIRONMENT_VARIABLE) or ".") == workspace.config.path:
            return "cognify"
    except WorkspaceError:
        pass
    return f"cognify --workspace {shlex.quote(str(workspace.config.path.parent))}"


def load_trust(path: Path) -> TrustFile:
    """Read a trust file named on the command line."""
    from cognify_dagster.ledger import NoteError, TrustFile

    text = read_text(path)
    try:
        return TrustFile.parse(text)
    except NoteError as error:
        raise NoteError(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    """Read a small UTF-8 file.

    Raises:
        Failure: if it is too large or not text.
    """
    with path.open("rb") as stream:
        data = stream.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        raise Failure(f"{path}: larger than {MAX_INPUT} bytes; this is not the kind of file meant here", UNREADABLE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Failure(f"{path}, line {line}: not UTF-8 text (byte {error.start})", UNREADABLE) from error


def check_yaml(path: Path, what: str) -> None:
    """See that a file holds a YAML mapping at all, before somebody judges what it says.

    Raises:
        Failure: naming file and line.
    """
    import yaml

    text = read_text(path)
    try:
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise Failure(f"{where}: not YAML: {problem}", UNREADABLE) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Failure(
            f"{path}, line {line}: not YAML: a control character (is this a text file?)", UNREADABLE
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Failure(f"{path}: not YAML: {' '.join(str(error).split())}", UNREADABLE) from error
    if value is None:
        raise Failure(f"{path}, line 1: nothing is in this file; {what} is a YAML mapping", UNREADABLE)
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else f"only the value {str(value)[:40]!r}"
        raise Failure(f"{path}, line 1: this is {kind}; {what} is a YAML mapping", UNREADABLE)


def read_envelope(path: Path) -> Envelope:
    """Read a signed envelope file."""
    import json

    from cognify_dagster.records import Envelope, RecordError, build

    try:
        value = json.loads(read_text(path))
        if not isinstance(value, dict):
            raise RecordError("a JSON object was expected")
        return build(Envelope, value)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path}: not a signed envelope: {' '.join(str(error).split())}", UNREADABLE) from error


def write_new(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a new file whole: temporary file, fsync, moved into place without overwriting.

    Raises:
        click.UsageError: if the file exists or its folder does not.
    """
    folder = path.parent
    if not folder.is_dir():
        raise click.UsageError(f"{folder}: no such folder; create it first")
    if path.exists():
        raise click.UsageError(f"{path}: there is already a file; it is not overwritten")
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if not private:
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
        try:
            os.link(name, path)  # unlike a rename, this never replaces a file that appeared meanwhile
            os.unlink(name)
        except FileExistsError:
            raise
        except OSError:  # a filesystem without hard links
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def passphrase_option(function: F) -> F:
    """Add `--passphrase-file`, which may be repeated where a command uses several keys."""
    return click.option(
        "--passphrase-file",
        "passphrase_files",
        type=IN_FILE,
        multiple=True,
        metavar="FILE",
        help=(
            f"Read the pass phrase from a file of mode 0600 (one for all keys, or one a key in order). Otherwise "
            f"${PASSPHRASE_VARIABLE}, otherwise it is asked for."
        ),
    )(function)


def unlock(path: Path, files: Sequence[Path] = (), index: int = 0) -> PersonalKey:
    """Unlock a personal key file, asking for the pass phrase if it is not given otherwise.

    Commands call it before they show what will be signed: who reads and answers must not learn afterwards that the key
    could never have signed.

    Raises:
        Failure: if others can read the file: whoever has it may try pass phrases at leisure.
    """
    from cognify_dagster.governance import read_public, unlock_key

    person, _ = read_public(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        cure = f"chmod 600 {shlex.quote(str(path))}"
        raise Failure(f"{path}: others can read this key (mode {mode:04o}); it signs nothing until `{cure}`", BLOCKED)
    return unlock_key(path, passphrase(f"Pass phrase of {person}", files, index))


def passphrase(prompt: str, files: Sequence[Path] = (), index: int = 0, *, new: bool = False) -> str:
    """Return a pass phrase from a file, the environment or a hidden prompt.

    Args:
        prompt: what to ask at a terminal.
        files: values of `--passphrase-file`.
        index: which key of the command this is for.
        new: ask twice, for a key that is being created.

    Raises:
        click.UsageError: if there is none and no terminal to ask at.
        Failure: if the file is readable by others or no pass phrase file.
    """
    if files:
        if len(files) > 1 and index >= len(files):
            raise click.UsageError("give one --passphrase-file for all keys, or one a key in the same order")
        return _from_file(files[index if len(files) > 1 else 0])
    value = os.environ.get(PASSPHRASE_VARIABLE)
    if value:
        return value
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"a pass phrase is needed and there is no terminal to ask at; use --passphrase-file or ${PASSPHRASE_VARIABLE}"
        )
    return _ask_new(prompt) if new else _ask(prompt)


def _ask(prompt: str) -> str:
    while True:
        answer: str = click.prompt(prompt, default="", show_default=False, hide_input=True, err=True)
        if answer:
            return answer
        click.echo("Nothing was typed. Type the pass phrase, or press Ctrl-C to stop.", err=True)


def _ask_new(prompt: str) -> str:
    """Ask for a new pass phrase, with its rule in the prompt, until it keeps the rule and was typed twice alike."""
    from cognify_dagster.governance.signing.keys import MIN_PASSPHRASE

    while True:
        answer = _ask(f"{prompt} (at least {MIN_PASSPHRASE} characters)")
        if len(answer) < MIN_PASSPHRASE:
            click.echo(f"That has {len(answer)} characters; at least {MIN_PASSPHRASE} are needed.", err=True)
        elif _ask("Repeat for confirmation") != answer:
            click.echo("The two are not the same; type both again.", err=True)
        else:
            return answer


def _from_file(path: Path) -> str:
    with path.open("rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        data = stream.read(_MAX_PASSPHRASE + 1)
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise Failure(f"{path}: others can read this pass phrase; run `chmod 600 {shlex.quote(str(path))}`", BLOCKED)
    if len(data) > _MAX_PASSPHRASE:
        raise Failure(f"{path}: longer than {_MAX_PASSPHRASE} bytes; this is no pass phrase file", UNREADABLE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{path}: not UTF-8 text; this is no pass phrase file", UNREADABLE) from error
    text = text[:-1] if text.endswith("\n") else text
    text = text[:-1] if text.endswith("\r") else text
    if not text:
        raise Failure(f"{path}: the file is empty; it should hold the pass phrase", UNREADABLE)
    return text


def confirm(question: str, yes: bool) -> None:
    """Ask before something is signed; `--yes` answers.

    Raises:
        click.UsageError: without a terminal to ask at.
        click.Abort: if the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at; read what is shown and add --yes to sign it")
    click.confirm(question, abort=True, err=True)


def unlock_all(key_files: Sequence[Path], passphrase_files: Sequence[Path]) -> list[PersonalKey]:
    """Unlock the keys of all who sign, before anything is shown."""
    return [unlock(path, passphrase_files, index) for index, path in enumerate(key_files)]


def signers_option(function: F | None = None, *, required: bool = True, names: Sequence[str] = ("--as",)) -> Any:
    """Add `--as KEYFILE`, once for every person who signs; used bare, or called for an option that may be left out."""
    option = click.option(
        *names,
        "key_files",
        type=IN_FILE,
        multiple=True,
        required=required,
        metavar="KEYFILE",
        help="Key of a person who signs this; repeat it for each.",
    )
    return option if function is None else option(function)


def signature_options(function: F) -> F:
    """Add what every command takes that signs with a person's key: `--yes`, `--passphrase-file` and `--json`."""
    return yes_option(passphrase_option(json_option(function)))


def signing_options(function: F) -> F:
    """Add what acts that people sign together take: `--as` for each of them, and the `signature_options`."""
    signed: F = signers_option(signature_options(function))
    return signed


yes_option = click.option("--yes", is_flag=True, help="Do not ask before signing (what is signed is still shown).")
json_option = click.option("--json", "json_", is_flag=True, help="Print JSON for a program.")
