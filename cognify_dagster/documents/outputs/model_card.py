"""The model card: Markdown with the YAML header that model hubs read, and the same as a web page.

The nine classic sections come first, then provenance, bias evaluation, regulatory cross-references and what else people wrote.
Invariants: text of the package is escaped, so it can neither form Markdown or HTML nor leave its table cell, and the header is written
by a YAML library; what people wrote is shown literally with who stands behind it; what is missing is said; the same package gives the
same text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.earlier import parent_of
from cognify_dagster.documents.frameworks.loading import template_path
from cognify_dagster.documents.labels import STATUS_LABELS, label_status, metric_label, with_name, words
from cognify_dagster.documents.outputs.card_header import card_header
from cognify_dagster.documents.outputs.common import commit_of, objective, pairs
from cognify_dagster.documents.outputs.humans import attribution, human_text, missing_text, sections_of, written
from cognify_dagster.documents.outputs.markdown import code, escape_cell, escape_markdown, quote
from cognify_dagster.documents.outputs.page import render_page
from cognify_dagster.documents.package.building import package_digest
from cognify_dagster.documents.view.blocks import interval, number, operator
from cognify_dagster.documents.view.results import change_words
from cognify_dagster.documents.view.training import figure, seconds, settings

__all__ = ["escape_cell", "escape_markdown", "render_model_card", "render_model_card_html"]

TEMPLATE = "documents/model_card.md.j2"
#: Members of training run and evaluation that are there only where something was recorded.
LATER_RUN = (
    "model_files", "checkpoints", "seeds", "feature_code", "compute", "compute_criterion", "distributed", "external", "rerun", "captured_by",
    "duration_s", "model_signatures",
)  # fmt: skip
LATER_EVALUATION = (
    "evaluator_code", "slices", "worst_site", "comparisons", "perturbations", "explanations", "benchmarks",
)  # fmt: skip
#: Sections that have a place of their own in the card; all others stand together at its end.
PLACED = ("intended_use", "out_of_scope", "attribute_source", "ethical_considerations", "limitations", "failure_modes")


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
        code=code,
        number=lambda value: escape_cell(number(value)),
        words=lambda value: escape_cell(words(str(value))),
        metric=lambda name: escape_cell(metric_label(str(name))),
        named=lambda name: escape_cell(with_name(str(name))),
        status=lambda line: escape_cell(STATUS_LABELS[label_status(line)]),
        interval=lambda item: interval(item.get("ci_low"), item.get("ci_high")),
        pairs=pairs,
        op=operator,
        command=shlex.join,
        change=change_words,
    )
    text = template_path(TEMPLATE, template_folder).read_text(encoding="utf-8")
    try:
        sections = sections_of(package)
        rendered = environment.from_string(text).render(
            package={"experiments": None, **package},
            package_sha256=package_digest(package).removeprefix("sha256:"),
            header=card_header(package),
            run=_whole(package["training"], LATER_RUN),
            evaluation=_whole(package["evaluation"], LATER_EVALUATION),
            sections={name: item["text"] for name, item in sections.items()},
            human=lambda name: _human(sections, name),
            further=[item for name, item in sections.items() if name not in PLACED and written(item)],
            unwritten=[item for name, item in sections.items() if name not in PLACED and not written(item)],
            dataset=_dataset,
            evidence=_evidence(package["evidence"]),
            commit=commit_of(package["training"]["code"]) if package["training"] else None,
            objective=lambda metric: objective(package, metric),
            base=_base(package["training"]),
            settings=settings(package["training"]["config"]) if package["training"] else [],
            compute=_compute,
            energy=_energy,
        )
    except (TemplateError, KeyError, TypeError) as error:
        raise DocumentError(f"{TEMPLATE}: the model card cannot be rendered: {error}") from error
    return re.sub(r"\n{3,}", "\n\n", rendered).rstrip() + "\n"


def render_model_card_html(package: dict[str, Any], *, template_folder: str | Path | None = None) -> str:
    """Render the model card as one web page that loads nothing and runs nothing; see `render_model_card`."""
    title = f"{package['model']['title'] or package['model']['key']}, version {package['version']}: model card"
    card = render_model_card(package, template_folder=template_folder)
    return render_page(card, title, template_folder=template_folder)


def _whole(part: Mapping[str, Any] | None, later: Sequence[str]) -> dict[str, Any] | None:
    """The part with every member that a template may ask for; those that the record does not have are None."""
    return None if part is None else {**dict.fromkeys(later), **part}


def _base(run: Mapping[str, Any] | None) -> dict[str, str] | None:
    """What a reader checks of the model that training started from; None where it is not named in the recorder's form."""
    stated = run["base_model"] if run else {}
    name = stated.get("name")
    if not isinstance(name, str) or not name.strip():
        return None
    governed = parent_of(stated)
    return {
        "name": name,
        "digest": str(stated.get("sha256") or stated.get("digest") or "").removeprefix("sha256:"),
        "licence": str(stated.get("licence") or stated.get("license") or "not recorded"),
        "source": str(stated.get("source") or ""),
        "governed": "@".join(governed) if governed else "",
    }


def _compute(run: Mapping[str, Any]) -> str:
    found = run["compute"]
    flops, method = found["flops"], found["flops_method"] or "method not stated"
    said = f"{figure(flops)} FLOP ({method})" if flops is not None else "operations not measured"
    hardware = f"; {found['hardware']}" if found["hardware"] else ""
    return f"{said}{hardware}" + (f"; {seconds(run['duration_s'])}" if run["duration_s"] is not None else "")


def _energy(found: Mapping[str, Any]) -> str:
    if found["energy_kwh"] is None:
        return "not measured"
    return f"{number(found['energy_kwh'])} kWh ({found['energy_method'] or 'method not stated'})"


def _human(sections: Mapping[str, Mapping[str, Any]], name: str) -> str:
    found = sections.get(name)
    if found is None or not written(found):
        return escape_cell(missing_text(name))
    return quote(human_text(found), attribution(found))


def _dataset(item: Mapping[str, Any]) -> str:
    name = escape_markdown(item["name"])
    if not item["recorded"]:
        return f"- **{name}**: the snapshot is not on record."
    left_out = sum(rule["rows_before"] - rule["rows_after"] for rule in item["exclusions"])
    source = escape_markdown(item["provenance"].get("source") or "Source not stated")
    label = f", label {escape_cell(item['label'])}" if item["label"] else ""
    rows = f"{number(item['rows'])} records" if item["rows"] is not None else f"{number(item['files'])} files"
    return (
        f"- **{name}** ({escape_markdown(', '.join(item['roles']))}): {rows}{label}; {number(left_out)} records left out on the "
        f"way; root `{item['root']}`, entry {item['entry']['seq']}. {source}."
    )


def _evidence(register: Sequence[Mapping[str, Any]]) -> Any:
    """Return what cites a line's entries: each with the evidence of the register that it names."""
    held: dict[int, list[str]] = {}
    for item in register:
        held.setdefault(item["seq"], []).append(item["id"])

    def cite(line: Mapping[str, Any]) -> str:
        shown = []
        for ref in line["entries"]:
            ids = held.get(ref["seq"], [])
            span = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}" if ids else ""
            shown.append(f"{ref['seq']} ({span})" if span else str(ref["seq"]))
        return ", ".join(dict.fromkeys(shown)) or "–"

    return cite
