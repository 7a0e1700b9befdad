"""A web page from our own Markdown: one file that loads nothing and runs nothing.

Invariants: HTML inside the Markdown is never passed on; the page allows no script, no form and no request; links and images are never
made from text. The fragment alone can be put into another page, whose style then applies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.frameworks.loading import template_path
from cognify_dagster.documents.view.cleaning import screen_text

if TYPE_CHECKING:
    from markdown_it.token import Token

TEMPLATE = "documents/output.html.j2"
_HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def html_fragment(markdown: str) -> str:
    """Return the HTML of a Markdown document that this room wrote; a YAML header is left out.

    Raises:
        DocumentError: if markdown-it-py is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:  # pragma: no cover - rich brings it
        raise DocumentError("HTML needs markdown-it-py: pip install 'cognify-dagster[documents]'") from error
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
    parser.disable(["link", "image", "autolink", "reference", "html_block", "html_inline"])
    tokens = _labelled(parser.parse(_HEADER.sub("", markdown, count=1)))
    html: str = parser.renderer.render(tokens, parser.options, {})
    return html


def render_page(markdown: str, title: str, *, template_folder: str | Path | None = None) -> str:
    """Return a whole page.

    Args:
        markdown: a document of this room.
        title: the title of the page, any text.
        template_folder: a folder whose `documents/output.html.j2` replaces the shipped template.

    Raises:
        DocumentError: if the template fails.
    """
    from jinja2 import Environment, StrictUndefined, TemplateError
    from markupsafe import Markup

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True)
    text = template_path(TEMPLATE, template_folder).read_text(encoding="utf-8")
    try:
        # the fragment is HTML that the parser wrote from escaped text, with its own HTML switched off
        page = environment.from_string(text).render(title=screen_text(title), body=Markup(html_fragment(markdown)))  # noqa: S704
    except TemplateError as error:
        raise DocumentError(f"{TEMPLATE}: the page cannot be rendered: {error}") from error
    return page.rstrip() + "\n"


def _labelled(tokens: list[Token]) -> list[Token]:
    """Headings get anchors, header cells a scope; a table of label and value gets row headers in place of an empty head."""
    shown: list[Token] = []
    at = number = 0
    while at < len(tokens):
        token = tokens[at]
        if token.type == "heading_open":
            number += 1
            token.attrSet("id", f"s{number}")
        if token.type == "table_open":
            end = next(i for i in range(at, len(tokens)) if tokens[i].type == "table_close")
            shown += _table(tokens[at : end + 1])
            at = end + 1
            continue
        shown.append(token)
        at += 1
    return shown


def _table(tokens: Sequence[Token]) -> list[Token]:
    head_end = next(i for i, token in enumerate(tokens) if token.type == "thead_close")
    head = tokens[: head_end + 1]
    if any(token.content.strip() for token in head if token.type == "inline"):
        for token in head:
            if token.type == "th_open":
                token.attrSet("scope", "col")
        return list(tokens)
    body = [tokens[0], *tokens[head_end + 1 :]]
    tokens[0].attrSet("class", "facts")
    first = False
    for token in body:
        if token.type == "tr_open":
            first = True
        elif first and token.type in ("td_open", "td_close"):
            first = token.type == "td_open"
            _row_header(token)
    return body


def _row_header(token: Any) -> None:
    token.tag = "th"
    if token.type == "td_open":
        token.attrSet("scope", "row")
