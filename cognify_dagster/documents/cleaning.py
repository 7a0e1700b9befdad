"""Text that is safe to print: what the fonts cannot show, or what would disturb reading, becomes visible as [U+XXXX].

Invariants: no control character, no bidirectional control, no private-use character and no code point without a glyph in the fonts in
use reaches a rendered page; a zero-width joiner does only between two letters of a script that is spelled with it; nothing is dropped
without a trace except C0 controls. The unchanged text stands in the attached package.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.fonts import fonts_in_use
from cognify_dagster.documents.glyphs import JOINING

_KEPT = frozenset("\n")
_JOINERS = frozenset("\u200c\u200d")


def clean_text(text: str) -> str:
    """Return text for print: C0 controls but newline dropped, tabs as spaces, what cannot be shown as [U+XXXX].

    Decomposed letters are composed first (NFC), so that an accent never stands alone where one letter exists.

    Raises:
        RenderError: if the folder of further fonts cannot be read.
    """
    glyphs = fonts_in_use().glyphs
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\t", " "))
    return "".join(
        char if char in _JOINERS and _joins(composed, at) else _clean_char(char, glyphs)
        for at, char in enumerate(composed)
    )


def _joins(text: str, at: int) -> bool:
    around = (text[at - 1 : at], text[at + 1 : at + 2])
    return all(char and ord(char) in JOINING for char in around)


def _clean_char(char: str, glyphs: frozenset[int]) -> str:
    point = ord(char)
    if point < 0x20 or point == 0x7F:
        return char if char in _KEPT else ""
    return char if point in glyphs else f"[U+{point:04X}]"


def clean(value: Any) -> Any:
    """Clean every text inside a JSON value, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value
