"""Text that is safe to show: what would disturb reading, or what no font can show, becomes visible as [U+XXXX].

Invariants: no control character, no bidirectional control, no private-use character and no unassigned code point reaches a document,
and in print none that the fonts in use lack; a zero-width joiner does only between two letters of a script that is spelled with it;
nothing is dropped without a trace except C0 controls. The unchanged text stands in the package.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from cognify_dagster.documents.pdf.fonts import fonts_in_use
from cognify_dagster.documents.pdf.glyphs import JOINING

Cleaner = Callable[[str], str]
_KEPT = frozenset("\n")
_JOINERS = frozenset("\u200c\u200d")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean_text(text: str) -> str:
    """Return text for print: C0 controls but newline dropped, tabs as spaces, what cannot be shown as [U+XXXX].

    Decomposed letters are composed first (NFC), so that an accent never stands alone where one letter exists.

    Raises:
        RenderError: if the folder of further fonts cannot be read.
    """
    glyphs = fonts_in_use().glyphs
    return _clean(text, lambda char: ord(char) in glyphs)


def screen_text(text: str) -> str:
    """Return text for a screen, whose fonts show every script: as `clean_text`, but only what disturbs reading becomes [U+XXXX]."""
    return _clean(text, _visible)


@lru_cache(maxsize=65536)
def _visible(char: str) -> bool:
    return unicodedata.category(char) not in _HIDDEN


def _clean(text: str, shown: Callable[[str], bool]) -> str:
    if text.isascii() and text.isprintable():
        return text
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\t", " "))
    return "".join(
        char if char in _JOINERS and _joins(composed, at) else _clean_char(char, shown)
        for at, char in enumerate(composed)
    )


def _joins(text: str, at: int) -> bool:
    around = (text[at - 1 : at], text[at + 1 : at + 2])
    return all(char and ord(char) in JOINING for char in around)


def _clean_char(char: str, shown: Callable[[str], bool]) -> str:
    point = ord(char)
    if point < 0x20 or point == 0x7F:
        return char if char in _KEPT else ""
    return char if shown(char) else f"[U+{point:04X}]"


def clean(value: Any, cleaner: Cleaner = clean_text) -> Any:
    """Clean every text inside a JSON value, keys included."""
    if isinstance(value, str):
        return cleaner(value)
    if isinstance(value, Mapping):
        return {cleaner(str(key)): clean(item, cleaner) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item, cleaner) for item in value]
    return value
