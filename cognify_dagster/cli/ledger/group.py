"""The group `cognify ledger`, and what its commands share: words for verdicts, progress, pass phrases of several people."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import IN_FILE, unlock

if TYPE_CHECKING:
    from cognify_dagster.governance import PersonalKey

F = TypeVar("F", bound=Callable[..., Any])
OUTCOMES = {
    "HOLDS": "HOLDS",
    "TAMPERED": "TAMPERED",
    "ROLLED_BACK": "ROLLED BACK OR FORKED",
    "UNREADABLE": "UNREADABLE",
    "UNPROVEN": "UNPROVEN",
}
_SHOW_AFTER_S = 1.0


@click.group(cls=Group, name="ledger")
def command() -> None:
    """Verify, prove, sign, back up, restore, copy and archive the ledger.

    \b
    Example:
      cognify ledger verify
    """


class Progress:
    """Tells at a terminal how far long work is, on stderr; called with (done, in all)."""

    def __init__(self, what: str) -> None:
        self.what, self.shown = what, False
        self.begin = self.last = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.terminal or now - self.begin < _SHOW_AFTER_S or (now - self.last < 0.2 and done < total):
            return
        self.last, self.shown = now, True
        click.echo(f"\r{self.what}: {done} of {total} ({100 * done // max(total, 1)} %)", nl=False, err=True)

    def end(self) -> None:
        """Leave the line."""
        if self.shown:
            click.echo(err=True)


def signers_option(function: F) -> F:
    """Add `--as KEYFILE`, once for every person who signs."""
    return click.option(
        "--as",
        "key_files",
        type=IN_FILE,
        multiple=True,
        required=True,
        metavar="KEYFILE",
        help="Key of a person who signs this; repeat it for each.",
    )(function)


def unlock_all(key_files: Sequence[Path], passphrase_files: Sequence[Path]) -> list[PersonalKey]:
    """Unlock the keys of all who sign, before anything is shown."""
    return [unlock(path, passphrase_files, index) for index, path in enumerate(key_files)]
