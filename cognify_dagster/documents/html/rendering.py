"""Renders a package as one HTML file: what the PDF shows, for a browser.

Invariants: every text of a package is data to a fixed template with automatic escaping, never a template itself; the file loads nothing
and runs nothing, and its content policy says so (`default-src 'none'`, one style sheet by its hash); the same package and signatures
give the same bytes. It is for reading: what people sign is the package, and the ledger names the copies of record.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.documents.errors import DocumentError, RenderError
from cognify_dagster.documents.frameworks.loading import template_path
from cognify_dagster.documents.view.blocks import Block
from cognify_dagster.documents.view.whole import DEFAULT_VERIFY_COMMAND, build_view
from cognify_dagster.ledger import canonical_json

TEMPLATE = "documents/package.html.j2"


def render_html(
    package: dict[str, Any],
    signatures: Sequence[Mapping[str, Any]] | None = None,
    *,
    refusals: Sequence[Mapping[str, Any]] | None = None,
    waived: Mapping[str, str] | None = None,
    package_sha256: str = "",
    verify_command: str = DEFAULT_VERIFY_COMMAND,
    template_folder: str | Path | None = None,
) -> str:
    """Render a package as HTML.

    Args:
        package: what `build_package` returned, or `read_package` of its bytes.
        signatures: as for `render_pdf`; None shows the package as a review copy does, with open signatures.
        refusals, waived: see `render_pdf`; shown with signatures only.
        package_sha256: hex digest that the caller expects the package to have; checked when given.
        verify_command: shown on top.
        template_folder: a folder whose `documents/package.html.j2` replaces the shipped one.

    Returns:
        The text of the file, to be written as UTF-8.

    Raises:
        DocumentError: if the package is not the expected one, lacks a field, or the template fails.
        RenderError: if a library of the extra `documents` is missing.
    """
    digest = hashlib.sha256(canonical_json(package)).hexdigest()
    if package_sha256 and package_sha256.removeprefix("sha256:") != digest:
        raise DocumentError(
            f"the package has SHA-256 {digest}, not {package_sha256}; it was changed after it was recorded"
        )
    try:
        view, charts = build_view(
            package,
            copy="review" if signatures is None else "final",
            signatures=signatures or (),
            refusals=refusals,
            waived=waived,
            package_sha256=digest,
            verify_command=verify_command,
            medium="screen",
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DocumentError(f"the package does not fit its schema: {type(error).__name__}: {error}") from error
    return render_template(
        TEMPLATE,
        template_folder,
        view=view,
        sections=sections_in(view["blocks"]),
        charts=charts,
        qr=_qr(digest),
    )


def render_template(template: str, template_folder: str | Path | None, **values: Any) -> str:
    """Fill an HTML template with values, all of them escaped. The variable `charts` holds SVG of our own by file name, `qr` too.

    Raises:
        DocumentError: if the template fails.
    """
    from jinja2 import Environment, StrictUndefined, TemplateError
    from markupsafe import Markup

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True)
    environment.filters["policy_hash"] = style_hash
    for name in ("charts", "qr"):
        drawn = values.get(name)
        if isinstance(drawn, dict):
            values[name] = {file: Markup(svg) for file, svg in drawn.items()}  # noqa: S704 (our own writer escapes)
        elif isinstance(drawn, str):
            values[name] = Markup(drawn)  # noqa: S704 (it encodes a digest and nothing else)
    text = template_path(template, template_folder).read_text(encoding="utf-8")
    try:
        rendered = environment.from_string(text).render(**values)
    except (TemplateError, KeyError, TypeError) as error:
        raise DocumentError(f"{template}: the page cannot be rendered: {error}") from error
    return re.sub(r"\n{2,}", "\n", rendered).strip() + "\n"


def style_hash(style: object) -> str:
    """Return how a content policy names a style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(style).encode()).digest()).decode()


def sections_in(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Group blocks under their first-level headings; each table has a caption and each heading an id."""
    found: list[dict[str, Any]] = []
    title = ""
    for number, item in enumerate(blocks):
        block = dict(item)
        if block["t"] == "page":
            continue
        if block["t"] == "h":
            title = block["v"]
            name = block["anchor"] or f"part-{number}"
            if block["level"] == 1 or not found:
                found.append({"id": name, "title": title, "blocks": []})
                continue
            block["id"] = name
        elif block["t"] == "table":
            block |= {"id": f"table-{number}", "caption": block["caption"] or title, "plain": not block["caption"]}
        if not found:
            found.append({"id": "start", "title": "Start", "blocks": []})
        found[-1]["blocks"].append(block)
    return found


def _qr(digest: str) -> str:
    try:
        import segno
    except ImportError as error:
        raise RenderError("segno is not installed; install cognify-dagster[documents]") from error
    stream = io.BytesIO()
    segno.make(f"urn:sha256:{digest}", error="m", micro=False).save(
        stream, kind="svg", border=2, xmldecl=False, svgns=True, scale=3, title="SHA-256 of the package"
    )
    return stream.getvalue().decode().replace("<svg ", '<svg role="img" ', 1)
