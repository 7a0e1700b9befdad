"""One content model for the documents that are written from the record: headings, facts, tables, and what people wrote.

Markdown, HTML and JSON are made from it. Pure values; it knows neither ledger nor package. Invariant: it holds text, never markup, so
whatever renders it has to escape everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_ROWS = 1_000


@dataclass(frozen=True)
class Code:
    """Text to be copied rather than read: a digest, a command, a machine name."""

    text: str


Cell = str | Code


@dataclass(frozen=True)
class Heading:
    """A heading; level 2 is a chapter, 3 a part of one."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of our own words."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A remark that a reader must not miss."""

    title: str
    text: str


@dataclass(frozen=True)
class Facts:
    """Label and value, one pair a line."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table. `right` are the columns of numbers; without rows the sentence `empty` stands in its place."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: tuple[int, ...] = ()
    empty: str = "None recorded."


@dataclass(frozen=True)
class Quote:
    """What a person wrote, shown literally, and who stands behind it."""

    text: str
    by: str


Block = Heading | Paragraph | Notice | Facts | Bullets | Table | Quote


@dataclass(frozen=True)
class Document:
    """A document: its kind (a machine name), its title, and what it says in order."""

    kind: str
    title: str
    blocks: tuple[Block, ...] = field(default=())


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[int] = (), empty: str = "") -> Table:
    """Return a table from any sequences."""
    return Table(tuple(head), tuple(tuple(row) for row in rows), tuple(right), **({"empty": empty} if empty else {}))


def facts(*rows: tuple[str, Cell | None]) -> Facts:
    """Return label and value pairs; a pair without a value is left out."""
    return Facts(tuple((label, value) for label, value in rows if value is not None))


def as_json(document: Document) -> dict[str, Any]:
    """Return a document as JSON values: the same content, for a program."""
    return {
        "kind": document.kind,
        "title": document.title,
        "content": [_block(block) for block in document.blocks],
    }


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, Heading):
        return {"type": "heading", "level": block.level, "text": block.text}
    if isinstance(block, Paragraph):
        return {"type": "paragraph", "text": block.text}
    if isinstance(block, Notice):
        return {"type": "notice", "title": block.title, "text": block.text}
    if isinstance(block, Facts):
        return {"type": "facts", "rows": [{"label": label, "value": plain(value)} for label, value in block.rows]}
    if isinstance(block, Bullets):
        return {"type": "list", "items": list(block.items)}
    if isinstance(block, Quote):
        return {"type": "quote", "text": block.text, "by": block.by}
    rows = [[plain(cell) for cell in row] for row in block.rows]
    return {"type": "table", "head": list(block.head), "rows": rows, "empty": block.empty}


def plain(cell: Cell) -> str:
    """Return the text of a cell."""
    return cell.text if isinstance(cell, Code) else cell
