"""The JSON Schema (draft 2020-12) of a framework file, for editors and other programs.

It is generated from the types that read the files, so the two cannot differ; `templates/schemas/framework-v1.json` holds it for
editors. Write that file anew with `python -m cognify_dagster.documents.frameworks.schema`; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cognify_dagster.documents.frameworks.loading import template_root
from cognify_dagster.documents.frameworks.model import KIND_CHECKS, KINDS_WITH_TABLES, Framework

SCHEMA = "schemas/framework-v1.json"
_ID = "urn:cognify:schema:framework:v1"


def framework_schema() -> dict[str, Any]:
    """Return the JSON Schema of a framework file that stands for itself (a file with `extends` may leave out what it inherits)."""
    schema = Framework.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    definitions["EvidenceNode"] = _evidence(definitions["EvidenceNode"])
    definitions["Condition"] = _condition()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _ID,
        **schema,
        "title": "Framework file",
        "description": "A regulation or guidance document as data. How to write one: docs/frameworks.md.",
    }


def _condition() -> dict[str, Any]:
    """The form that files use, which `Condition.parse` reads."""
    value = {"type": ["string", "number", "boolean"]}
    parts = {"type": "array", "items": {"$ref": "#/$defs/Condition"}, "minItems": 1}
    return {
        "description": "Exactly one key: a fact with the value or values for which it holds, or one of all, any, not.",
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {"all": parts, "any": parts, "not": {"$ref": "#/$defs/Condition"}},
        "additionalProperties": {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]},
    }


def _evidence(node: dict[str, Any]) -> dict[str, Any]:
    """Three forms: a single demand, all of several, any of several; each kind of evidence with its own checks."""
    fields = node["properties"]
    group = {"type": "array", "items": {"$ref": "#/$defs/EvidenceNode"}, "minItems": 1}
    single = {name: value for name, value in fields.items() if name not in ("all_of", "any_of")}
    kinds = []
    for kind, checks in sorted(KIND_CHECKS.items()):
        own = {**single, "kind": {"const": kind}, "checks": {"type": "array", "items": {"enum": sorted(checks)}}}
        required = ["kind"]
        if not checks:
            own.pop("checks")
        if kind not in KINDS_WITH_TABLES:
            own.pop("tables")
        if kind != "attestation":
            own.pop("text_id")
        required += {"human": ["section"], "attestation": ["role"]}.get(kind, [])
        kinds.append({"type": "object", "properties": own, "required": required, "additionalProperties": False})
    groups = [
        {"type": "object", "properties": {name: group}, "required": [name], "additionalProperties": False}
        for name in ("all_of", "any_of")
    ]
    return {"description": node["description"], "oneOf": [*groups, *kinds]}


def schema_text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(framework_schema(), indent=2, ensure_ascii=False) + "\n"


def schema_path() -> Path:
    """Return where the shipped schema lies."""
    return template_root() / SCHEMA


if __name__ == "__main__":
    schema_path().write_text(schema_text(), encoding="utf-8")
    print(f"written: {schema_path()}")
