"""The YAML header of a model card, as model hubs read it (Hugging Face metadata).

Invariants: each text stands on one line, so that none of them can look like the end of the header; a value is only there where the
record has it; numbers that are not finite are left out, for the hubs refuse them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from cognify_dagster.documents.view.cleaning import screen_text

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
#: What the hub calls licences, for the ones that people state by other names. Any other is `other`, with its name beside it.
_LICENCES = {
    "apache 2.0": "apache-2.0", "apache license 2.0": "apache-2.0", "cc by 4.0": "cc-by-4.0", "cc by-sa 4.0": "cc-by-sa-4.0",
    "cc by-nc 4.0": "cc-by-nc-4.0", "cc0": "cc0-1.0", "mit license": "mit",
}  # fmt: skip
_KNOWN = frozenset(
    {*_LICENCES.values(), "afl-3.0", "agpl-3.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc", "cc-by-2.0",
     "cc-by-3.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "ecl-2.0",
     "epl-2.0", "eupl-1.1", "eupl-1.2", "gemma", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "llama2", "llama3",
     "llama3.1", "llama3.2", "llama3.3", "mpl-2.0", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail", "openrail++", "osl-3.0", "pddl",
     "postgresql", "unlicense", "wtfpl", "zlib", "other", "unknown"}
)  # fmt: skip


def card_header(package: Mapping[str, Any]) -> str:
    """Return the header of a package's model card, without its fences."""
    facts, run, result = package["model"]["framework_facts"], package["training"], package["evaluation"]
    header: dict[str, Any] = {"model_name": package["model"]["title"] or package["model"]["key"]}
    header |= _licence(facts.get("license"))
    library = (run["architecture"].get("library") or run["architecture"].get("framework")) if run else None
    if isinstance(library, str) and library.split():
        header["library_name"] = library.split()[0]
    base = run["base_model"].get("name") if run else None
    if isinstance(base, str) and _HUB_ID.fullmatch(base):
        header["base_model"] = base
        if (relation := _relation(run)) is not None:
            header["base_model_relation"] = relation
    header["tags"] = sorted({"cognify", *(f"framework:{name}" for name in package["model"]["frameworks"])})
    header["datasets"] = sorted({item["name"] for item in package["data"]})
    metrics = [metric for metric in result["metrics"] if _finite(metric["value"])] if result else []
    if result and metrics:
        header["metrics"] = [metric["name"] for metric in metrics]
        task = facts.get("task_type") if isinstance(facts.get("task_type"), str) else "other"
        name = result["dataset"]["name"]
        header["model-index"] = [
            {
                "name": package["model"]["key"],
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {"name": name, "type": name, "revision": result["dataset"]["root"]},
                        "metrics": [{"type": metric["name"], "value": metric["value"]} for metric in metrics],
                    }
                ],
            }
        ]
    text: str = yaml.safe_dump(_one_line(header), sort_keys=False, allow_unicode=True, width=120)
    return text


def _relation(run: Mapping[str, Any]) -> str | None:
    """How the model was made from its base, in the hub's words, where the architecture says so."""
    details = run["architecture"].get("details")
    stated = details.get("relation") if isinstance(details, Mapping) else None
    return stated if stated in ("finetune", "adapter", "quantized", "merge") else None


def _licence(stated: Any) -> dict[str, str]:
    """The licence of the model, where somebody stated one: by the hub's word, or `other` and its name."""
    if not isinstance(stated, str) or not stated.strip():
        return {}
    plain = " ".join(stated.lower().split())
    known = _LICENCES.get(plain, plain)
    return {"license": known} if known in _KNOWN else {"license": "other", "license_name": stated}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _one_line(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(screen_text(value).split())
    if isinstance(value, dict):
        return {key: _one_line(item) for key, item in value.items()}
    return [_one_line(item) for item in value] if isinstance(value, list) else value
