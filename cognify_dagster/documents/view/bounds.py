"""Keeps a document readable whatever the package holds: long tables and long texts are cut, with the digest of what they were.

Invariants: nothing is cut without a sentence that says how much and gives a SHA-256 over it; cutting happens before cleaning, so the
digest is over the text as it would have been shown in full.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cognify_dagster.documents.view.blocks import Block, Cell, paragraph, small


@dataclass(frozen=True)
class Bounds:
    """How much is shown: rows of a table, characters of a cell or paragraph, characters of one text that a person wrote."""

    rows: int
    characters: int
    text: int


PRINT = Bounds(rows=500, characters=8_000, text=200_000)
SCREEN = Bounds(rows=5_000, characters=40_000, text=2_000_000)
#: Characters of headings, captions and other one-line texts.
MAX_LINE = 300


def bounded(blocks: list[Block], bounds: Bounds) -> list[Block]:
    """Return blocks of which none is longer than the bounds."""
    found: list[Block] = []
    for block in blocks:
        short = {
            name: _cut(value, bounds.characters if name == "v" and block["t"] != "h" else MAX_LINE)
            for name, value in block.items()
            if name not in ("rows", "lines")
        }
        after: list[Block] = []
        if "rows" in block:
            short["rows"] = [_cut(row, bounds.characters) for row in block["rows"][: bounds.rows]]
            rest = block["rows"][bounds.rows :]
            if rest:
                said = f"{len(rest)} more rows stand in package.json. SHA-256 of their text: {rows_digest(rest)}."
                after.append(paragraph(small(said)))
        if "lines" in block:
            short["lines"], cut = _lines(block["lines"], bounds.text)
            if cut:
                after.append(paragraph(small(cut)))
        found += [short, *after]
    return found


def _lines(lines: list[str], characters: int) -> tuple[list[str], str]:
    """As many characters of a text as allowed, and a sentence about the rest; empty where there is none."""
    shown: list[str] = []
    left = characters
    for line in lines:
        if left <= 0:
            break
        shown.append(line[:left])
        left -= len(line) + 1
    if sum(map(len, shown)) == sum(map(len, lines)):
        return shown, ""
    whole = "\n".join(lines)
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
    return shown, (
        f"Cut after {characters} characters: the text has {len(whole)} without empty lines, with SHA-256 {digest}. "
        "All of it stands in package.json."
    )


def rows_digest(rows: list[list[Cell]]) -> str:
    """Return the SHA-256 over the text of rows: runs of a cell joined, cells joined by a tab, rows ended by a newline."""
    whole = hashlib.sha256()
    for row in rows:
        cells = [cell if isinstance(cell, str) else "".join(str(run["v"]) for run in cell) for cell in row]
        whole.update("\t".join(cells).encode() + b"\n")
    return whole.hexdigest()


def _cut(value: Any, characters: int) -> Any:
    if isinstance(value, str):
        return cut_text(value, characters)
    if isinstance(value, list):
        return [_cut(item, characters) for item in value]
    if isinstance(value, dict):
        return {name: _cut(item, characters) for name, item in value.items()}
    return value


def cut_text(text: str, characters: int) -> str:
    """Return a text, or its beginning with the length and SHA-256 of the whole."""
    if len(text) <= characters:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:characters]} … [cut: {len(text)} characters in all, SHA-256 {digest}; see package.json]"
