"""The model card: Markdown with the YAML header that model hubs read.

The nine classic sections come first, then provenance, bias evaluation and regulatory cross-references. Invariants: text of the
package is escaped, so it can neither form Markdown or HTML nor leave its table cell, and the header is written by a YAML library;
the same package gives the same text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cognify_dagster.documents.blocks import interval, number
from cognify_dagster.documents.changes import flat
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.frameworks import template_path
from cognify_dagster.documents.labels import STATUS_LABELS, label_status, words
from cognify_dagster.documents.package import package_digest

TEMPLATE = "documents/model_card.md.j2"
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
_LINE_START = re.compile(r"^(\s*)([-+=]|\d+[.)])(?=\s|$|[-=])", re.MULTILINE)


def escape_markdown(value: object) -> str:
    """Return text that Markdown shows literally: specials escaped, HTML neutralised, line starts kept plain, controls dropped."""
    text = "".join(c for c in str(value) if c == "\n" or ord(c) >= 0x20).replace("&", "&amp;")
    text = _SPECIAL.sub(r"\\\1", text.replace("<", "&lt;").replace(">", "&gt;"))
    return _LINE_START.sub(lambda m: f"{m[1]}{m[2][:-1]}\\{m[2][-1]}", text)


def escape_cell(value: object) -> str:
    """Return text for one table cell: escaped and on one line."""
    return " ".join(escape_markdown(value).split())


def render_model_card(package: dict[str, Any], *, template_folder: str | Path | None = None) -> str:
    """Render the model card of a package.

    Args:
        package: what `build_package` returned.
        template_folder: a folder whose `documents/model_card.md.j2` replaces the shipped template.

    Raises:
        DocumentError: if the template fails or the package lacks a field.
    """
    from jinja2 import Environment, StrictUndefined, TemplateError

    # Markdown, not HTML: escaping is by the filters below, on every value of the package
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    environment.filters.update(
        md=escape_markdown,
        cell=escape_cell,
        number=lambda value: escape_cell(number(value)),
        words=lambda value: escape_cell(words(str(value))),
        status=lambda line: escape_cell(STATUS_LABELS[label_status(line)]),
        interval=lambda item: interval(item.get("ci_low"), item.get("ci_high")),
        pairs=_pairs,
    )
    text = template_path(TEMPLATE, template_folder).read_text(encoding="utf-8")
    try:
        rendered = environment.from_string(text).render(
            package=package,
            package_sha256=package_digest(package).removeprefix("sha256:"),
            header=_header(package),
            run=package["training"],
            evaluation=package["evaluation"],
            sections={section["id"]: section["text"] for section in package["sections"]},
            dataset=_dataset,
        )
    except (TemplateError, KeyError, TypeError) as error:
        raise DocumentError(f"{TEMPLATE}: the model card cannot be rendered: {error}") from error
    return re.sub(r"\n{3,}", "\n\n", rendered).rstrip() + "\n"


def _pairs(value: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {item}" for key, item in sorted(flat(value).items()))


def _dataset(item: Mapping[str, Any]) -> str:
    name = escape_markdown(item["name"])
    if not item["recorded"]:
        return f"- **{name}**: the snapshot is not on record."
    left_out = sum(rule["rows_before"] - rule["rows_after"] for rule in item["exclusions"])
    source = escape_markdown(item["provenance"].get("source") or "source not stated")
    return (
        f"- **{name}** ({escape_markdown(', '.join(item['roles']))}): {number(item['rows'])} records, {left_out} left out, "
        f"root `{item['root']}`, entry {item['entry']['seq']}. {source}."
    )


def _one_line(value: Any) -> Any:
    """Texts of the header on one line: no line of it can look like the end of the header to a simple reader."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, dict):
        return {key: _one_line(item) for key, item in value.items()}
    return [_one_line(item) for item in value] if isinstance(value, list) else value


def _header(package: Mapping[str, Any]) -> str:
    """The YAML header. The licence of the model is only named where somebody stated one."""
    facts, run, result = package["model"]["framework_facts"], package["training"], package["evaluation"]
    header: dict[str, Any] = {"model_name": package["model"]["title"] or package["model"]["key"]}
    if isinstance(facts.get("license"), str):
        header["license"] = facts["license"]
    library = run["architecture"].get("library") if run else None
    if isinstance(library, str) and library:
        header["library_name"] = library.split()[0]
    if run and isinstance(run["base_model"].get("name"), str):
        header["base_model"] = run["base_model"]["name"]
    header["tags"] = sorted({"cognify", *(f"framework:{name}" for name in package["model"]["frameworks"])})
    header["datasets"] = sorted({item["name"] for item in package["data"]})
    if result:
        header["metrics"] = [metric["name"] for metric in result["metrics"]]
        task = facts.get("task_type") if isinstance(facts.get("task_type"), str) else "other"
        header["model-index"] = [
            {
                "name": package["model"]["key"],
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {"name": result["dataset"]["name"], "type": result["dataset"]["name"]},
                        "metrics": [{"type": m["name"], "value": m["value"]} for m in result["metrics"]],
                    }
                ],
            }
        ]
    text: str = yaml.safe_dump(_one_line(header), sort_keys=False, allow_unicode=True, width=120)
    return text
