"""What is different between the packages of two versions, part by part. Pure: two packages in, JSON values out.

It compares what people signed or will sign, not the ledger: both packages are named by their digests. `changes` in a package is about
the version released before it and stays as it was built.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cognify_dagster.documents.labels import label_status, metric_label, section_title, words
from cognify_dagster.documents.package.building import package_digest
from cognify_dagster.documents.package.changes import flat

Json = dict[str, Any]
PARTS = (
    "identity",
    "data",
    "parameters",
    "metrics",
    "limits",
    "coverage",
    "findings",
    "sections",
    "attestations",
    "approvals",
)
#: Above this many words a text is compared line by line.
MAX_WORDS = 6_000


def compare_packages(
    before: Json,
    after: Json,
    *,
    signed_before: Iterable[Mapping[str, Any]] = (),
    signed_after: Iterable[Mapping[str, Any]] = (),
) -> Json:
    """Return what is different.

    Args:
        before, after: two packages, as `read_package` returns them.
        signed_before, signed_after: their sign-offs, as `signature_rows` returns them.

    Returns:
        `before` and `after` (model, version, revision, digest); `parts`, for each of PARTS a list of `{field, before, after}`, with
        `delta` and `apart` (whether the intervals lie apart) for metrics; and `texts`, for each changed section the words as
        `[mark, text]` with mark `=`, `-` or `+`.
    """
    found: dict[str, list[Json]] = {
        "identity": _differences(_identity(before), _identity(after)),
        "data": _differences(_data(before), _data(after)),
        "parameters": _differences(_parameters(before), _parameters(after)),
        "metrics": _metrics(before, after),
        "limits": _differences(_limits(before), _limits(after)),
        "coverage": _differences(_coverage(before), _coverage(after)),
        "findings": _differences(_findings(before), _findings(after)),
        "sections": _differences(_sections(before), _sections(after)),
        "attestations": _differences(_attestations(before), _attestations(after)),
        "approvals": _differences(_approvals(before, signed_before), _approvals(after, signed_after)),
    }
    return {"before": _named(before), "after": _named(after), "parts": found, "texts": _texts(before, after)}


def _named(package: Json) -> Json:
    return {
        "model": package["model"]["key"],
        "version": package["version"],
        "revision": package["revision"],
        "created": package["created"],
        "digest": package_digest(package),
    }


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Json]:
    """One row for each field that differs; None stands for a field that one side does not have."""
    return [
        {"field": name, "before": before.get(name), "after": after.get(name)}
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def _identity(package: Json) -> Json:
    model, stages = package["model"], package["required_stages"]
    found = {name: model[name] for name in ("title", "owner", "risk_tier", "intended_use")}
    found |= {"frameworks": model["frameworks"], "protected attributes": model["protected_attributes"]}
    found |= {f"fact {name}": value for name, value in flat(model["framework_facts"]).items()}
    found["policy"] = stages["policy"]["digest"] if stages["policy"] else None
    found["stages"] = [f"{s['id']}: {s['quorum']} × {s['role']}, {s['min_strength']}" for s in stages["stages"]]
    return found


def _data(package: Json) -> Json:
    found: Json = {}
    for item in package["data"]:
        name = item["name"]
        found[f"{name}: root"] = item["root"]
        if not item["recorded"]:
            continue
        found |= {f"{name}: {field}": item[field] for field in ("rows", "files", "bytes", "schema_hash", "record_root")}
        found |= {f"{name}: {field}": value for field, value in flat(item["provenance"]).items()}
        found |= {f"{name}: left out by {e['rule']}": e["rows_before"] - e["rows_after"] for e in item["exclusions"]}
        columns = {c["name"]: c for c in item["profile"]["columns"]}
        found |= {f"{name}: column {c}": columns[c].get("type") for c in columns}
    return found


def _parameters(package: Json) -> Json:
    run = package["training"]
    if run is None:
        return {}
    found: Json = {"model file": run["model_file"]["digest"], "seed": run["seed"], "code commit": run["code"]["commit"]}
    found |= {"packages": run["environment"]["packages_digest"], "python": run["environment"]["python"]}
    for area in ("architecture", "base_model", "config"):
        found |= {f"{words(area)}: {name}": value for name, value in flat(run[area]).items()}
    return found | _captured(run)


def _captured(run: Json) -> Json:
    """What later runs record besides: absent in an older package, and then no difference by itself."""
    environment, distributed = run["environment"], run.get("distributed") or {}
    found: Json = {f"seed: {name}": value for name, value in run.get("seeds", {}).items()}
    found |= {f"model file: {item['name']}": item["digest"] for item in run.get("model_files", ())}
    found |= {
        "platform": environment["platform"],
        "gpu": environment["gpu"],
        "container image": environment["container_image"],
        "lock file": environment.get("lock_file"),
        "code changed locally": run["code"]["diff_digest"] or None,
        "feature pipeline commit": (run.get("feature_code") or {}).get("commit"),
        "selection note": run["selection_note"] or None,
        "checkpoints": len(run["checkpoints"]) if "checkpoints" in run else None,
        "last checkpoint: root": run["checkpoints"][-1]["root"] if "checkpoints" in run else None,
        "processes": distributed.get("world_size"),
        "strategy": distributed.get("strategy") or None,
        "shards: root": distributed.get("root"),
        "rerun": " ".join(run["rerun"]["command"]) if "rerun" in run else None,
    }
    found |= {f"compute: {name}": value for name, value in run.get("compute", {}).items() if value not in (None, "")}
    return found


def _metrics(before: Json, after: Json) -> list[Json]:
    old, new = _measured(before), _measured(after)
    found = []
    for name in dict.fromkeys((*old, *new)):
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        first, second = (a or {}).get("value"), (b or {}).get("value")
        row: Json = {"field": metric_label(name), "metric": name, "before": a, "after": b, "delta": None, "apart": None}
        if first is not None and second is not None and _real(first) and _real(second):
            row["delta"] = second - first
        if a and b and all(_real(side[end]) for side in (a, b) for end in ("ci_low", "ci_high")):
            row["apart"] = a["ci_high"] < b["ci_low"] or b["ci_high"] < a["ci_low"]
        found.append(row)
    return found


def _measured(package: Json) -> dict[str, Json]:
    result = package["evaluation"]
    if result is None:
        return {}
    found = {m["name"]: {name: m[name] for name in ("value", "ci_low", "ci_high", "n")} for m in result["metrics"]}
    for item in result.get("benchmarks", ()):
        name = ".".join(
            [item["task"], item["metric"], *([item["filter"]] if item["filter"] not in ("", "none") else [])]
        )
        found.setdefault(name, {key: item[key] for key in ("value", "ci_low", "ci_high", "n")})
    for item in result.get("slices", ()):
        for metric in item["metrics"]:
            name = f"{item['attribute']}={item['value']}: {metric['name']}"
            found[name] = {key: metric[key] for key in ("value", "ci_low", "ci_high", "n")}
    for item in result.get("perturbations", ()):
        name = f"{item['feature']}, {words(item['transformation'])} {item['size']} {item['unit']}".rstrip()
        found[f"{name}: {item['metric']}"] = {"value": item["after"], "ci_low": None, "ci_high": None, "n": item["n"]}
    for item in result["fairness"]:
        for gap in item.get("disparities") or ():
            name = f"fairness.{item.get('attribute')}.{gap.get('name')}"
            found[name] = {key: gap.get(key) for key in ("value", "ci_low", "ci_high", "n")}
    return found


def _real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _limits(package: Json) -> Json:
    return {
        f"{o['id']} ({metric_label(o['metric'])})": f"{o['op']} {o['threshold']}: {o['status']}"
        for o in package["gates"]["outcomes"]
    }


def _coverage(package: Json) -> Json:
    found: Json = {}
    for report in package["coverage"]:
        found[f"{report['framework']}: template"] = f"version {report['version']}, {report['scope'].replace('_', ' ')}"
        for line in report["lines"]:
            found[f"{report['framework']}: {line['id']}"] = label_status(line)
    return found


def _findings(package: Json) -> Json:
    return {f"{item['title']}": f"{item['severity']}: {item['observed']}" for item in package["findings"]}


def _sections(package: Json) -> Json:
    found: Json = {}
    for section in package["sections"]:
        found[section["title"]] = _state(section)
    return {name: state for name, state in found.items() if state != "not written"}


def _state(section: Json) -> str:
    if section["declared_unavailable"]:
        return "declared unavailable"
    if not section["text"]:
        return "not written"
    count = len(section["text"].split())
    author = section["author"]["name"] if section["author"] else "author not stated"
    drafted = ", drafted by a program" if section.get("ai_drafted") else ""
    approved = [s["person"]["name"] for s in section.get("signatures", ()) if s["capacity"] == "approver"]
    signed = f", approved by {', '.join(approved)}" if approved else ""
    return f"{count} words, {author}{drafted}{signed}"


def _attestations(package: Json) -> Json:
    return {
        f"{words(item['text_id'])} about {item['about']}": f"{item['person']['name']}, until {item['expires'] or 'no end'}, "
        + ("counts" if item["counts"] else f"does not count: {item['why']}")
        for item in package.get("attestations", ())
    }


def _approvals(package: Json, signed: Iterable[Mapping[str, Any]]) -> Json:
    titles = {stage["id"]: stage["title"] for stage in package["required_stages"]["stages"]}
    found: Json = {title: "nobody" for name, title in titles.items() if _asks(package, name)}
    said: dict[str, list[str]] = {}
    for item in signed:
        stage = titles.get(str(item["stage"]), str(item["stage"]))
        conditions = f", {len(item['conditions'])} conditions" if item.get("conditions") else ""
        said.setdefault(stage, []).append(f"{item['name']}: {words(str(item['decision']))}{conditions}")
    return found | {stage: "; ".join(names) for stage, names in said.items()}


def _asks(package: Json, stage: str) -> bool:
    return any(s["id"] == stage and s["kind"] == "sign_off" for s in package["required_stages"]["stages"])


def _texts(before: Json, after: Json) -> list[Json]:
    old = {s["id"]: s["text"] for s in before["sections"]}
    new = {s["id"]: s["text"] for s in after["sections"]}
    return [
        {"id": name, "title": section_title(name), "words": compare_words(old.get(name, ""), new.get(name, ""))}
        for name in dict.fromkeys((*old, *new))
        if old.get(name, "") != new.get(name, "")
    ]


def compare_words(before: str, after: str) -> list[list[str]]:
    """Return how one text became another, word by word: runs of `["=" | "-" | "+", text]` that join to either text exactly.

    Texts of more than 6,000 words are compared line by line.
    """
    pattern = r"\s+|\w+|[^\w\s]"
    old, new = re.findall(pattern, before), re.findall(pattern, after)
    if len(old) > MAX_WORDS or len(new) > MAX_WORDS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    found: list[list[str]] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=len(old) > 2_000).get_opcodes():
        if kind == "equal":
            found.append(["=", "".join(old[i:j])])
            continue
        if i < j:
            found.append(["-", "".join(old[i:j])])
        if k < m:
            found.append(["+", "".join(new[k:m])])
    return found
