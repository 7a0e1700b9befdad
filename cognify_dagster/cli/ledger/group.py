"""The group `cognify ledger`, and what its commands share: words for verdicts, progress."""

from __future__ import annotations

import sys
import time

import click

from cognify_dagster.cli.app import Group

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
    """Tells at a terminal how far long work is, on stderr; called with (done, in all). A context, which leaves the line.

    Says nothing where stderr is no terminal, with --json, and in the first second.
    """

    def __init__(self, what: str) -> None:
        self.what, self.shown = what, False
        self.begin = self.last = time.monotonic()
        context = click.get_current_context(silent=True)
        self.terminal = sys.stderr.isatty() and not (context is not None and context.params.get("json_"))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.terminal or now - self.begin < _SHOW_AFTER_S or (now - self.last < 0.2 and done < total):
            return
        self.last, self.shown = now, True
        click.echo(f"\r{self.what}: {done} of {total} ({100 * done // max(total, 1)} %)", nl=False, err=True)

    def end(self) -> None:
        """Leave the line."""
        if self.shown:
            self.shown = False
            click.echo(err=True)
