"""The bill of materials of a model version: CycloneDX (ECMA-424) with model card, data, packages and the coverage as declarations.

Invariants: everything in it comes from the package that people sign, and the packages from the environment that the training run named;
the same package gives the same bytes, the serial number too; coverage is stated as claims with the entries they rest on, open points as
counter claims, and never as conformance: no score is given. A Merkle root is never called a SHA-256 of a file.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from cognify_dagster.documents.facts.earlier import parent_of
from cognify_dagster.documents.outputs.common import commit_of
from cognify_dagster.documents.outputs.declarations import declarations, definitions
from cognify_dagster.documents.package.building import package_digest

Json = dict[str, Any]
Spec = Literal["1.6", "1.7"]
MEDIA_TYPE = "application/vnd.cyclonedx+json"
MODEL = "model"
_NAMESPACE = uuid.UUID("6f0f2a4e-6c1f-5d0b-9a53-2f2f6a1d7c11")


def cyclonedx_bom(
    package: Json, packages: Sequence[tuple[str, str, str]] | None, *, problem: str = "", spec: Spec = "1.6"
) -> Json:
    """Return the bill of materials as JSON values.

    Args:
        package: the package of the version.
        packages: name, version and digest of the list of installed files (empty where none was recorded) of every package of
            the training environment; None where they cannot be read.
        problem: why they cannot be read.
        spec: version of CycloneDX.
    """
    digest = package_digest(package)
    data = [_dataset(item) for item in package["data"]]
    base = _base_model(package["training"])
    libraries = [_library(*item) for item in sorted(set(packages or ()))]
    components = [*data, *([base] if base else []), *libraries]
    refs = [item["bom-ref"] for item in components]
    if packages is not None:
        listed = "the packages of the training environment by name and version"
        without = sum(not files for _, _, files in packages)
        if without == len(packages):
            listed += "; digests of their files were not recorded"
        else:
            listed += (
                "; cognify:package:files-sha256 is the digest of the list of a package's files as its installer wrote it, and the files "
                "were not read again" + (f"; {without} without such a list" if without else "")
            )
    else:
        listed = f"not listed: {problem or 'the environment cannot be read'}"
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{spec}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": spec,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": package["created"],
            "tools": {
                "components": [
                    {"type": "application", "name": "cognify_dagster", "version": package["tools"]["cognify_dagster"]}
                ]
            },
            "component": _model(package, [item["bom-ref"] for item in data]),
            "properties": _properties(
                {
                    "ledger:origin": package["ledger"]["origin"],
                    "ledger:size": package["ledger"]["size"],
                    "ledger:root": package["ledger"]["root"],
                    "package:sha256": digest.removeprefix("sha256:"),
                    "package:revision": package["revision"],
                    "trial": "true" if package["trial"] else None,
                    "packages": listed,
                }
            ),
        },
        "components": components,
        "dependencies": [{"ref": MODEL, "dependsOn": refs}, *({"ref": ref} for ref in refs)],
        "declarations": declarations(package, MODEL),
        "definitions": definitions(package),
    }


def _properties(values: Mapping[str, Any]) -> list[Json]:
    return [{"name": f"cognify:{name}", "value": str(value)} for name, value in values.items() if value is not None]


def _model(package: Json, data: Sequence[str]) -> Json:
    model, run = package["model"], package["training"]
    stated = model["framework_facts"].get("license")
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": model["key"],
        "version": package["version"],
        **({"description": model["title"]} if model["title"] else {}),
        "manufacturer": {"name": model["owner"]},
        **_files(run),
        **({"licenses": [{"license": {"name": stated}}]} if isinstance(stated, str) and stated.strip() else {}),
        "modelCard": _card(package, data),
        "properties": _properties(
            {
                "risk-tier": package["required_stages"]["tier"] or model["risk_tier"],
                "entry:registered": model["entry"]["seq"],
                "entry:training": run["entry"]["seq"] if run else None,
                "entry:evaluation": package["evaluation"]["entry"]["seq"] if package["evaluation"] else None,
                "code:commit": (commit_of(run["code"]) or "no commit on record") if run else None,
                "code:clean": str(run["code"]["dirty"] is False).lower() if run else None,
                "supersedes": package["supersedes"],
                **(_captured(run) if run else {}),
            }
        ),
    }


def _files(run: Json | None) -> Json:
    """The model's own hash, or of a model that is a folder each file with its hash."""
    if run is None:
        return {}
    if not run.get("model_files"):
        return {"hashes": _sha256(run["model_file"]["digest"])}
    return {
        "components": [
            {
                "type": "file",
                "bom-ref": f"model-file:{item['name']}",
                "name": item["name"],
                "mime-type": item["media_type"],
                "hashes": _sha256(item["digest"]),
                "properties": _properties({"file:bytes": item["size"]}),
            }
            for item in run["model_files"]
        ]
    }


def _captured(run: Json) -> Json:
    """What else the run recorded that a reader of a bill looks for; a list of files or shards is named, never called a hash of a file."""
    compute, shards = run.get("compute", {}), run.get("distributed", {})
    code = run.get("feature_code")
    return {
        "model:file-list-sha256": run["model_file"]["digest"].removeprefix("sha256:")
        if run.get("model_files")
        else None,
        "environment:lock-file": run["environment"].get("lock_file"),
        "features:commit": (commit_of(code) or "no commit on record") if code else None,
        "training:checkpoints": len(run["checkpoints"]) if "checkpoints" in run else None,
        "training:shards-root": shards.get("root"),
        "training:processes": shards.get("world_size"),
        "training:flop": compute.get("flops"),
        "training:flop-method": compute.get("flops_method") or None,
        "training:energy-kwh": compute.get("energy_kwh"),
        "model:signature-sha256": run["model_signatures"][-1]["bundle"]["digest"].removeprefix("sha256:")
        if "model_signatures" in run
        else None,
    }


def _sha256(digest: str) -> list[Json]:
    return [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]


def _card(package: Json, data: Sequence[str]) -> Json:
    run, result = package["training"], package["evaluation"]
    parameters: Json = {"datasets": [{"ref": ref} for ref in data]}
    made = run["architecture"] if run else {}
    kind = made.get("kind") or made.get("name")
    library = made.get("library") or " ".join(str(made[n]) for n in ("framework", "framework_version") if made.get(n))
    task = package["model"]["framework_facts"].get("task_type")
    for name, value in (("task", task), ("architectureFamily", kind), ("modelArchitecture", library)):
        if isinstance(value, str) and value.strip():
            parameters[name] = value
    card: Json = {"modelParameters": parameters}
    metrics = _metrics(result) if result else []
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    considerations = _considerations(package)
    if considerations:
        card["considerations"] = considerations
    card["properties"] = _properties(
        {f"setting:{name}": _text(value) for name, value in sorted(run["config"].items())}
        | {f"seed:{name}": value for name, value in sorted(run.get("seeds", {}).items())}
        if run
        else {}
    )
    return card


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _metrics(result: Json) -> list[Json]:
    found = [_metric(item["name"], item) for item in result["metrics"]]
    for item in result.get("slices", ()):
        found += [_metric(m["name"], m, slice_=f"{item['attribute']}={item['value']}") for m in item["metrics"]]
    for item in result["fairness"]:
        for group in item.get("groups", []):
            for name in ("selection_rate", "tpr", "fpr", "ppv"):
                measured = group.get(name)
                if isinstance(measured, Mapping) and group.get("status") != "insufficient_data":
                    found.append(_metric(name, measured, slice_=f"{item['attribute']}={group['group']}"))
        found += [_metric(d["name"], d, slice_=str(item["attribute"])) for d in item.get("disparities", [])]
    return [item for item in found if item]


def _metric(name: str, item: Mapping[str, Any], slice_: str = "") -> Json:
    """One number as text, as the format wants it; without one there is nothing to state."""
    if not _number(item.get("value")):
        return {}
    found: Json = {"type": name, "value": repr(item["value"])}
    if slice_:
        found["slice"] = slice_
    low, high = item.get("ci_low"), item.get("ci_high")
    if _number(low) and _number(high):
        found["confidenceInterval"] = {"lowerBound": repr(low), "upperBound": repr(high)}
    return found


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _considerations(package: Json) -> Json:
    texts = {section["id"]: section["text"].strip() for section in package["sections"]}
    found: Json = {}
    if texts.get("intended_use"):
        found["useCases"] = [texts["intended_use"]]
    limits = [texts[name] for name in ("limitations", "failure_modes", "out_of_scope") if texts.get(name)]
    if limits:
        found["technicalLimitations"] = limits
    if texts.get("ethical_considerations"):
        found["ethicalConsiderations"] = [{"name": texts["ethical_considerations"]}]
    result = package["evaluation"]
    groups = [
        {"groupAtRisk": f"{item['attribute']}: {', '.join(str(group['group']) for group in item.get('groups', []))}"}
        for item in (result["fairness"] if result else [])
    ]
    if groups:
        found["fairnessAssessments"] = groups
    return found


def _dataset(item: Json) -> Json:
    ref = f"dataset:{item['name']}@{item['root'][:16]}"
    base: Json = {"type": "data", "bom-ref": ref, "name": item["name"]}
    if not item["recorded"]:
        note = _properties({"dataset:root": item["root"], "recorded": "false"})
        return {**base, "data": [{"type": "dataset", "name": item["name"]}], "properties": note}
    stated = item["provenance"]
    personal = [
        text
        for text, field in (
            ("personal data", "contains_personal_data"),
            ("protected health information", "contains_phi"),
        )
        if stated.get(field)
    ]
    described: Json = {
        "type": "dataset",
        "name": item["name"],
        "description": f"{stated.get('source') or 'Source not stated'}; used as {', '.join(item['roles'])}",
    }
    if stated.get("classification"):
        described["classification"] = stated["classification"]
    if personal:
        described["sensitiveData"] = personal
    if stated.get("owner"):
        described["governance"] = {"owners": [{"organization": {"name": stated["owner"]}}]}
    if stated.get("licence"):
        base["licenses"] = [{"license": {"name": stated["licence"]}}]
    values = {
        "dataset:root": item["root"],
        "dataset:records": item["rows"],
        "dataset:files": item["files"],
        "dataset:bytes": item["bytes"],
        "dataset:manifest-sha256": item["manifest_digest"].removeprefix("sha256:"),
        "dataset:not-stated": ", ".join(item["missing_provenance"]) or None,
        "entry": item["entry"]["seq"],
    }
    return {**base, "version": item["data_version"], "data": [described], "properties": _properties(values)}


def _base_model(run: Json | None) -> Json | None:
    """The model that this one was made from, as far as the training run says."""
    stated = run["base_model"] if run else {}
    name = stated.get("name")
    if not isinstance(name, str) or not name.strip():
        return None
    found: Json = {"type": "machine-learning-model", "bom-ref": "base-model", "name": name}
    revision = stated.get("revision") or stated.get("version")
    if isinstance(revision, str):
        found["version"] = revision
    digest = stated.get("digest") or stated.get("sha256")
    if isinstance(digest, str) and len(digest.removeprefix("sha256:")) == 64:
        found["hashes"] = _sha256(digest)
    if governed := parent_of(stated):
        found["properties"] = _properties({"governed-as": "@".join(governed)})
    licence = stated.get("licence") or stated.get("license")
    if isinstance(licence, str) and licence.strip():
        found["licenses"] = [{"license": {"name": licence}}]
    return found


def _library(name: str, version: str, files: str) -> Json:
    purl = f"pkg:pypi/{quote(name.lower().replace('_', '-'), safe='.-')}@{quote(version, safe='.-')}"
    found: Json = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if files:  # a digest over a list of digests: never a hash of type SHA-256 of one file
        found["properties"] = _properties({"package:files-sha256": files})
    return found
