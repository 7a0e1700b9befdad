"""Printing: tables, JSON, and text from the ledger made safe for a terminal.

Invariant: text that somebody else wrote (names, comments, reasons) never reaches a terminal with control or bidirectional
characters, so it cannot hide or forge lines.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import click

TRIAL = "*** TRIAL workspace: one person may have founded it. Not evidence of a governed release. ***"
_STYLES = {
    "ok": "green",
    "done": "green",
    "pass": "green",
    "live": "green",
    "ready": "green",
    "releasing": "green",
    "warn": "yellow",
    "waiting": "yellow",
    "superseded": "dim",
    "fail": "red",
    "missing": "red",
    "stale": "red",
    "open": "yellow",
    "blocked": "red",
}
_PLAIN_WIDTH = 120


def clean(text: object, *, keep_newlines: bool = False) -> str:
    """Return text with control, formatting and bidirectional characters made visible."""
    shown = []
    for char in str(text):
        if char == "\n" and keep_newlines:
            shown.append(char)
        elif char in "\n\t":
            shown.append(" ")
        elif unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            shown.append(f"<U+{ord(char):04X}>")
        else:
            shown.append(char)
    return "".join(shown)


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line of our own text (clean foreign parts before)."""
    click.echo(text, err=err)


def heading(text: str) -> None:
    """Print a heading."""
    click.echo(click.style(clean(text), bold=True))


def pairs(rows: Iterable[tuple[str, object]], *, indent: str = "  ") -> None:
    """Print names and values, one pair a line, values never wrapped so that they can be copied."""
    listed = [(name, clean(value)) for name, value in rows]
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        click.echo(f"{indent}{name:<{width}}  {value}".rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; long cells are folded, never cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _PLAIN_WIDTH
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in rows:
        cells = []
        for value in row:
            word = clean("" if value is None else value, keep_newlines=True)
            cells.append(Text(word, style=_STYLES.get(word, "")))
        grid.add_row(*cells)
    Console(file=sys.stdout, width=width, highlight=False).print(grid)


def as_json(value: Any) -> None:
    """Print a JSON value for a program."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def trial_banner(trial: bool) -> None:
    """Say that the workspace is a trial one."""
    if trial:
        click.echo(click.style(TRIAL, fg="yellow", bold=True))


def moment(time_us: int) -> str:
    """Return microseconds since 1970 as UTC text."""
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def open_file(path: str) -> bool:
    """Open a file with the desktop's program; return whether there is a desktop to do it."""
    has_display = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return has_display and click.launch(path) == 0
