"""Coverage as CycloneDX declarations: requirements, claims about what the record shows, and the ledger entries as evidence. Pure.

Invariants: a claim says that evidence is on record and names the entries; an open point is a counter claim with what is missing and who
has to give it; nothing here says that a requirement is met, and no score of conformance or confidence is given.
"""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.labels import STATUS_LABELS, label_status

Json = dict[str, Any]
ASSESSOR = "assessor:coverage"


def declarations(package: Json, target: str) -> Json:
    """Return the declarations about the component that `target` refers to."""
    claims: list[Json] = []
    attestations: list[Json] = []
    cited: dict[int, str] = {}
    for report in package["coverage"]:
        rows: list[Json] = []
        for line in report["lines"]:
            made = _claims(report, line, target)
            claims += made
            cited.update({ref["seq"]: ref["leaf"] for ref in line["entries"]})
            row: Json = {"requirement": _requirement_ref(report, line)}
            for claim, kind in zip(made, _kinds(line), strict=True):
                row.setdefault(kind, []).append(claim["bom-ref"])
            rows.append(row)
        summary = (
            f"What the record shows for {report['title']}, judged on {report['judged_on']}; scope: "
            f"{report['scope'].replace('_', ' ')}. {report['disclaimer']}"
        )
        attestations.append({"summary": summary, "assessor": ASSESSOR, "map": rows})
    found: Json = {
        "assessors": [
            {
                "bom-ref": ASSESSOR,
                "thirdParty": False,
                "organization": {"name": f"Coverage engine of cognify_dagster, run for {package['model']['owner']}"},
            }
        ],
        "attestations": attestations,
        "claims": claims,
        "evidence": _evidence(package, cited),
    }
    return {name: value for name, value in found.items() if value}


def definitions(package: Json) -> Json:
    """Return the frameworks as standards with their requirements, in our own words."""
    standards = []
    for report in package["coverage"]:
        standards.append(
            {
                "bom-ref": f"standard:{report['framework']}",
                "name": report["title"],
                "version": report["version"],
                "description": report["disclaimer"],
                "requirements": [
                    {
                        "bom-ref": _requirement_ref(report, line),
                        "identifier": line["id"],
                        "title": line["citation"],
                        "text": line["paraphrase"],
                        "properties": [
                            {"name": "cognify:force", "value": line["force"]},
                            {"name": "cognify:basis", "value": line["basis_text"]},
                            {"name": "cognify:mandatory", "value": str(line["mandatory"]).lower()},
                        ],
                    }
                    for line in report["lines"]
                ],
            }
        )
    return {"standards": standards} if standards else {}


def _requirement_ref(report: Json, line: Json) -> str:
    return f"requirement:{report['framework']}:{line['id']}"


def _kinds(line: Json) -> list[str]:
    """Which claims a line has: one for what is on record, one for what is open; a line that does not apply has none."""
    if line["status"] == "not_applicable":
        return []
    return [*(["claims"] if line["entries"] else []), *(["counterClaims"] if line["gaps"] else [])]


def _claims(report: Json, line: Json, target: str) -> list[Json]:
    found: list[Json] = []
    status = STATUS_LABELS[label_status(line)]
    for kind in _kinds(line):
        name = f"{report['framework']}:{line['id']}"
        if kind == "claims":
            found.append(
                {
                    "bom-ref": f"claim:{name}",
                    "target": target,
                    "predicate": f"The record holds evidence for {line['id']} ({status}).",
                    **({"reasoning": "; ".join(line["supports"])} if line["supports"] else {}),
                    "evidence": [f"entry:{ref['seq']}" for ref in line["entries"]],
                }
            )
        else:
            found.append(
                {
                    "bom-ref": f"open:{name}",
                    "target": target,
                    "predicate": f"For {line['id']} something is open ({status}).",
                    "reasoning": "; ".join(
                        f"{gap['text']} ({gap['who']})" if gap["who"] else gap["text"] for gap in line["gaps"]
                    ),
                }
            )
    return found


def _evidence(package: Json, cited: dict[int, str]) -> list[Json]:
    """Every entry that a claim names: its leaf hash, and what the package knows of it."""
    known = _known(package)
    blobs: dict[int, list[Json]] = {}
    for item in package["evidence"]:
        blobs.setdefault(item["seq"], []).append(item)
    found = []
    for seq, leaf in sorted(cited.items()):
        what, time = known.get(seq, ("", None))
        text = f"Ledger entry {seq}" + (f": {what}" if what else "")
        data = [_held("leaf hash", leaf)]
        data += [_held(f"SHA-256 of {blob['shows']} ({blob['id']})", blob["sha256"]) for blob in blobs.get(seq, [])]
        found.append(
            {
                "bom-ref": f"entry:{seq}",
                "description": text,
                "data": data,
                **({"created": time} if time else {}),
            }
        )
    return found


def _known(package: Json) -> dict[int, tuple[str, str | None]]:
    """What the package knows of entries: in words, and the time where it says it."""
    found: dict[int, tuple[str, str | None]] = {0: ("the ledger's genesis", None)}
    policy, gates = package["required_stages"]["policy"], package["gates"]["set"]
    if policy:
        found.setdefault(policy["seq"], ("the policy in force", None))
    named = [
        (package["model"]["entry"], "the model's registration"),
        (gates and gates["entry"], "the limits adopted by a person"),
    ]
    named += [(item["entry"], f"snapshot of data set {item['name']}") for item in package["data"]]
    named += [(item["entry"], "training and test data compared") for item in package["overlap"]]
    named += [(item["entry"], f"attestation {item['text_id']}") for item in package["attestations"]]
    for entry, text in named:
        if entry:
            found[entry["seq"]] = (text, entry["time"])
    found.update({item["seq"]: (item["text"], item["time"]) for item in package["events"]})
    return found


def _held(name: str, value: str) -> Json:
    return {"name": name, "contents": {"attachment": {"contentType": "text/plain", "content": value}}}
