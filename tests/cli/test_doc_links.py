"""Every link from one document of the project to another leads to a file, and to a heading that is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as the usual viewers make them."""
    found: dict[str, int] = {}
    names = set()
    for title in re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower().strip()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names


def problems(document: Path) -> list[str]:
    """What is wrong with the links of a document."""
    wrong = []
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        if not target.exists():
            wrong.append(f"{document.name}: there is no {link}")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            wrong.append(f"{document.name}: {link} names no heading")
    return wrong


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
    assert len(documents) > 40
    assert [text for document in documents for text in problems(document)] == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One `two`\n## One two\n")
    (tmp_path / "a.md").write_text(
        "[x](c.md) [y](b.md#one-two) [z](b.md#one-two-1) [w](b.md#three) [v](https://x.example)\n"
    )
    assert problems(tmp_path / "a.md") == ["a.md: there is no c.md", "a.md: b.md#three names no heading"]
