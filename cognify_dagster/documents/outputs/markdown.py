"""Markdown that shows text literally, and the rendering of a document as Markdown.

Invariants: text of the record is escaped, so it can neither form Markdown or HTML nor leave its table cell; control and bidirectional
characters become visible; the same document gives the same text.
"""

from __future__ import annotations

import re

from cognify_dagster.documents.outputs.content import (
    MAX_ROWS,
    Block,
    Bullets,
    Cell,
    Code,
    Document,
    Facts,
    Heading,
    Notice,
    Paragraph,
    Quote,
    Table,
)
from cognify_dagster.documents.view.cleaning import screen_text

_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
_LINE_START = re.compile(r"^(\s*)([-+=]|\d+[.)])(?=\s|$|[-=])", re.MULTILINE)
_PLAIN_CODE = re.compile(r"[ -_a-{}~]+")
_INDENT = re.compile(r"^[ \u00a0]+")


def escape_markdown(value: object) -> str:
    """Return text that Markdown shows literally: specials escaped, HTML neutralised, line starts kept plain, controls visible."""
    return _LINE_START.sub(lambda m: f"{m[1]}{m[2][:-1]}\\{m[2][-1]}", _escaped(value))


def _escaped(value: object) -> str:
    text = screen_text(str(value)).replace("\r", "").replace("&", "&amp;")
    return _SPECIAL.sub(r"\\\1", text.replace("<", "&lt;").replace(">", "&gt;"))


def escape_inline(value: object) -> str:
    """Return text for the inside of a line, such as a heading: escaped and on one line, without care for what begins a line."""
    return " ".join(_escaped(value).split())


def escape_cell(value: object) -> str:
    """Return text for one table cell: escaped and on one line."""
    return " ".join(escape_markdown(value).split())


def code(value: object) -> str:
    """Return text to be copied: as a code span where that can hold it, else as plain escaped text."""
    text = " ".join(str(value).split())
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) else escape_cell(text)


def quote(text: str, by: str) -> str:
    """Return what a person wrote, line by line and literally, with who stands behind it."""
    lines = [_line(line) for line in escape_markdown(text.strip("\n")).split("\n")]
    return "\n".join([*_broken(lines), "", f"— {escape_cell(by)}"])


def _line(line: str) -> str:
    """One line of a quote; its indentation is kept, so that it cannot become a code block either."""
    found = _INDENT.match(line)
    return "&nbsp;" * min(len(found[0]), 24) + line[found.end() :].rstrip() if found else line.rstrip()


def _broken(lines: list[str]) -> list[str]:
    """The lines as a block quote: each keeps its end, an empty one begins a new paragraph."""
    shown = []
    for at, line in enumerate(lines):
        more = at + 1 < len(lines) and lines[at + 1] != ""
        shown.append(f"> {line}\\" if line and more else f"> {line}".rstrip())
    return shown


def render_markdown(document: Document) -> str:
    """Return a document as CommonMark with tables."""
    parts = [f"# {escape_inline(document.title)}", *(_block(block) for block in document.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escape_inline(block.text)}"
    if isinstance(block, Paragraph):
        return escape_cell(block.text)
    if isinstance(block, Notice):
        return f"> **{escape_cell(block.title)}** {escape_cell(block.text)}".rstrip()
    if isinstance(block, Facts):
        rows = [f"| {escape_cell(label)} | {_cell(value)} |" for label, value in block.rows]
        return "\n".join(["| | |", "|---|---|", *rows])
    if isinstance(block, Bullets):
        return "\n".join(f"- {escape_cell(item)}" for item in block.items)
    if isinstance(block, Quote):
        return quote(block.text, block.by)
    return _table(block)


def _table(block: Table) -> str:
    if not block.rows:
        return escape_cell(block.empty)
    rule = ["---:" if column in block.right else "---" for column in range(len(block.head))]
    lines = [f"| {' | '.join(escape_cell(name) for name in block.head)} |", f"|{'|'.join(rule)}|"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in block.rows[:MAX_ROWS]]
    left = len(block.rows) - MAX_ROWS
    return "\n".join(lines) + (
        f"\n\n{left} more rows are left out here; the JSON form has all of them." if left > 0 else ""
    )


def _cell(cell: Cell) -> str:
    shown = code(cell.text) if isinstance(cell, Code) else escape_cell(cell)
    return shown or "–"
