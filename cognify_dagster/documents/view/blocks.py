"""Building blocks of a document and the formatting of numbers. Pure; the layout itself is in the templates.

A block is a JSON object with a type `t`: `h` heading, `p` paragraph, `notice`, `kv` labels and values, `table`, `image` (a chart),
`finding`, `signature`, `quote` (literal text of a person) and `page` (a new page in print). A cell is a text, or a list of runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Block = dict[str, Any]
Cell = str | list[dict[str, Any]]


def heading(text: str, level: int = 1, *, anchor: str = "") -> Block:
    """A heading; `anchor` lets `see` refer to it."""
    return {"t": "h", "v": text, "level": level, "anchor": anchor}


def see(anchor: str, title: str) -> dict[str, Any]:
    """A run that refers to a heading, as a link: "on page 12" in print, "under Title" on a screen."""
    return {"v": title, "see": anchor}


def notice(*parts: str | dict[str, Any]) -> Block:
    """A framed remark that a reader must not miss."""
    return {"t": "notice", "v": [part if isinstance(part, dict) else {"v": part} for part in parts]}


def paragraph(*parts: str | dict[str, Any]) -> Block:
    """A paragraph of texts and runs."""
    return {"t": "p", "v": [part if isinstance(part, dict) else {"v": part} for part in parts]}


def key_values(rows: Iterable[tuple[str, Cell]]) -> Block:
    """Label and value, one pair a line."""
    return {"t": "kv", "rows": [[label, value] for label, value in rows]}


def table(
    head: Sequence[str],
    widths: Sequence[float],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str = "",
    right: Sequence[int] = (),
    empty: str = "none recorded",
    size: float = 8.8,
) -> list[Block]:
    """A table; no rows show as one row that says so. Long ones are cut by `bounds`, which says how many rows are left out."""
    shown: list[list[Cell]] = [list(row) for row in rows] or [[empty, *[""] * (len(head) - 1)]]
    return [
        {
            "t": "table",
            "head": list(head),
            "widths": list(widths),
            "rows": shown,
            "caption": caption,
            "right": list(right),
            "size": size,
        }
    ]


def image(file: str, caption: str, alt: str, *, width: int = 84) -> Block:
    """A chart by its file name; `alt` says what it shows and where its numbers are, `width` is in percent of the column."""
    return {"t": "image", "file": file, "width": width, "alt": alt, "caption": caption}


def mono(text: str, **more: Any) -> dict[str, Any]:
    """A run in the fixed-width font."""
    return {"v": text, "m": True, **more}


def small(text: str, **more: Any) -> dict[str, Any]:
    """A run of secondary text."""
    return {"v": text, "s": True, **more}


def bold(text: str, **more: Any) -> dict[str, Any]:
    """A run in bold."""
    return {"v": text, "b": True, **more}


def good(text: str, **more: Any) -> dict[str, Any]:
    """A run that says what was answered since."""
    return {"v": text, "g": True, **more}


def digest_text(digest: str, digits: int = 64) -> str:
    """Return a hash as one word, so that it can be copied."""
    return digest.removeprefix("sha256:")[:digits]


def entry(ref: dict[str, Any] | None) -> str:
    """Return how an entry is cited in print."""
    return f"entry {ref['seq']}" if ref else "no entry"


def entries(refs: Sequence[dict[str, Any]]) -> str:
    """Return a list of cited entries."""
    if not refs:
        return ""
    seqs = ", ".join(str(ref["seq"]) for ref in refs)
    return f"{'entry' if len(refs) == 1 else 'entries'} {seqs}"


def number(value: Any) -> str:
    """Return a value for print: numbers with four decimals (tiny ones with two digits) or in thousands, None as a dash."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        if value == int(value) and abs(value) < 1e15:
            return number(int(value))
        if 0 < abs(value) < 5e-4:
            return f"{value:.2g}"  # a learning rate is not 0.0000
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}".replace(",", "\u202f")
    return str(value)


def operator(text: str) -> str:
    """Return a comparison sign for print."""
    return {">=": "≥", "<=": "≤"}.get(text, text)


def interval(low: Any, high: Any) -> str:
    """Return an interval, or a dash where there is none."""
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return "–"
    return f"{number(low)} to {number(high)}"


def number_of(value: Any) -> float | None:
    """Return a real number, or None for what is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
