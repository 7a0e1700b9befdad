"""The fonts of the PDF: those that typst carries, those under `templates/fonts`, and a user's own folder.

Invariants: system fonts are never used, so a document does not depend on the machine; which fonts could have shaped a document stands
in the package's render profile, the user's own with their digests.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cognify_dagster.documents.errors import RenderError
from cognify_dagster.documents.pdf.glyphs import CARRIED, SHIPPED, code_points

#: A folder with further TrueType or OpenType fonts, for scripts that the shipped ones lack.
SETTING = "COGNIFY_FONTS"
SHIPPED_FAMILIES = (
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Sans Symbols",
    "Noto Sans Symbols2",
)
MAX_FONT_FILES = 200
MAX_FONT_BYTES = 64 * 1024 * 1024
_SUFFIXES = frozenset({".ttf", ".otf"})


@dataclass(frozen=True)
class Fonts:
    """Fonts in use.

    Attributes:
        folders: where typst looks, besides its own fonts.
        families: names to fall back to, in this order.
        glyphs: the code points that can be shown.
        profile: names and digests, for the render profile of a package.
    """

    folders: tuple[str, ...]
    families: tuple[str, ...]
    glyphs: frozenset[int]
    profile: str


def fonts_in_use() -> Fonts:
    """Return the fonts in use; the user's folder is read once.

    Raises:
        RenderError: if the folder that COGNIFY_FONTS names, or a font in it, cannot be read.
    """
    return _fonts(os.environ.get(SETTING, ""))


@lru_cache(maxsize=8)
def _fonts(folder: str) -> Fonts:
    shipped = _shipped_folder()
    glyphs = code_points(CARRIED) | code_points(SHIPPED)
    profile = f"typst embedded, shipped Noto sha256:{_digest(_files(shipped))[:16]}"
    if not folder:
        return Fonts((str(shipped),), SHIPPED_FAMILIES, glyphs, profile)
    own = Path(folder)
    if not own.is_dir():
        raise RenderError(f"{SETTING}: {folder} is not a folder; name one with .ttf or .otf files, or unset it")
    files = _files(own)
    if not files:
        raise RenderError(f"{SETTING}: {folder} holds no .ttf or .otf file")
    if len(files) > MAX_FONT_FILES:
        raise RenderError(f"{SETTING}: {folder} holds {len(files)} fonts; {MAX_FONT_FILES} are the limit")
    families: list[str] = []
    for file in files:
        family, points = _read(file)
        families.append(family)
        glyphs |= points
    return Fonts(
        (str(shipped), str(own)),
        (*SHIPPED_FAMILIES, *dict.fromkeys(families)),
        glyphs,
        f"{profile}, own sha256:{_digest(files)}",
    )


def _shipped_folder() -> Path:
    package = Path(__file__).resolve().parent.parent.parent
    for root in (package / "_templates", package.parent / "templates"):
        if (root / "fonts").is_dir():
            return root / "fonts"
    raise RenderError(f"no fonts beside {package}: the installation is incomplete; install the package again")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def _digest(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def _read(file: Path) -> tuple[str, frozenset[int]]:
    """Family and code points of a font; characters that only format text are left out."""
    try:
        from fontTools.ttLib import TTFont, TTLibError
    except ImportError as error:
        raise RenderError("fonttools is not installed; install cognify-dagster[documents]") from error
    if file.stat().st_size > MAX_FONT_BYTES:
        raise RenderError(f"{file}: larger than {MAX_FONT_BYTES} bytes")
    try:
        with TTFont(file, lazy=True) as font:
            family = font["name"].getBestFamilyName()
            points = font.getBestCmap() or {}
    except (TTLibError, KeyError, ValueError, OSError) as error:
        raise RenderError(f"{file}: not a readable font ({error}); remove it from {SETTING}") from None
    if not family:
        raise RenderError(f"{file}: the font names no family; remove it from {SETTING}")
    shown = (point for point in points if point >= 0x20 and unicodedata.category(chr(point)) not in _NEVER)
    return str(family), frozenset(shown)


_NEVER = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
