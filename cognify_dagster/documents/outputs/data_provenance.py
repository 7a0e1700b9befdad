"""A snapshot's provenance as the elements of the Data & Trust Alliance's Data Provenance Standards, version 1.0.0.

Invariants: an element says only what the owner stated or the ledger holds; what nobody stated stands in `not_stated` by name and in no
other place; the document names the root and the entry it is made from.
"""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.package.parts import when
from cognify_dagster.governance import change_of, directory
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Reading, Recorded

Json = dict[str, Any]
STANDARD = "Data & Trust Alliance, Data Provenance Standards 1.0.0"
#: Elements that a data set may do without: nothing is missing where they say nothing.
OPTIONAL = frozenset({"previous-date", "source", "origin", "copyright"})


def data_provenance(reading: Reading, item: Recorded[DatasetSnapshot]) -> Json:
    """Return the metadata of a snapshot as JSON values, in the three groups of the standards: source, provenance, use.

    Names and shapes of the elements are those of the JSON schema published with version 1.0.0. Where it wants a code that the owner
    did not choose, the code is `other` and the owner's words are the description. Never written, since a snapshot has no field for
    them: `processing-excluded`, `storage-forbidden`, `patent`, `trademark`, `sub-provenance`.

    Args:
        reading: verified entries.
        item: the snapshot.
    """
    record, stated = item.record, item.record.provenance
    change = change_of(reading, directory(reading), record.name, item.seq)
    records = record.header.get("records")
    taken = records.get("format") if isinstance(records, dict) else None
    techniques = [value for name in ("deidentification_method", "privacy_techniques") if (value := stated.get(name))]
    groups: dict[str, Json] = {
        "source": {
            "version": "1.0.0",
            "title": record.name,
            "id": f"urn:cognify:dataset-root:{record.root}",
            "location": f"ledger {reading.origin}, entry {item.seq}",
            "issuer": _each("name", stated.get("owner")),
            "description": stated.get("source"),
        },
        "provenance": {
            "source": "; ".join(" ".join(filter(None, (one.name, one.version, one.time))) for one in record.sources),
            "origin": _each("name", stated.get("collected_by")),
            "origin-geography": _each("country", stated.get("jurisdiction")),
            "date": stated.get("issued_on") or when(item),
            "previous-date": when(change.old) if change is not None and change.old is not None else None,
            "generation-period": _period(stated),
            "generation-method": _coded(stated.get("collected_how")),
            "format": [taken or "files"],
        },
        "use": {
            "classification": _classified(stated),
            "consents": _listed(stated.get("consent_location")),
            "privacy-enhancing": [
                {
                    "tool-category": {"code": "other", "description": str(value)},
                    "tool": str(value),
                    "tool-used": str(value),
                }
                for value in techniques
            ],
            "processing-included": _each("country", stated.get("processing_geography")),
            "storage-allowed": _each("country", stated.get("storage_geography")),
            "license": [str(stated[name]) for name in ("licence", "right_to_use") if stated.get(name)],
            "intended-purpose": _coded(stated.get("intended_use")),
            "copyright": ["holds trade secrets or the work of others"] if stated.get("proprietary") else None,
        },
    }
    personal = bool(stated.get("contains_personal_data") or stated.get("contains_phi"))
    wanted_of_personal = ("consents", "privacy-enhancing")
    not_stated = [
        f"{group}.{name}"
        for group, elements in groups.items()
        for name, value in elements.items()
        if not _said(value) and name not in OPTIONAL and (personal or name not in wanted_of_personal)
    ]
    said = {
        group: {name: value for name, value in elements.items() if _said(value)} for group, elements in groups.items()
    }
    if stated.get("proprietary") is False:
        said["use"]["copyright"] = []  # stated: there is none
    made: Json = {"standard": STANDARD, "entry": item.seq, "leaf": item.leaf, "root": record.root}
    return {**made, "trial": reading.trial, **said, "not_stated": not_stated}


def _said(value: Any) -> bool:
    return value is False or (bool(value.strip()) if isinstance(value, str) else bool(value))


def _period(stated: Json) -> Json | None:
    start, end = stated.get("collected_from"), stated.get("collected_to")
    if start and end:
        return {"start": start, "end": end}
    unknown = stated.get("collected_unknown")
    return {"unknown": unknown} if isinstance(unknown, str) and unknown.strip() else None


def _listed(value: Any) -> list[str]:
    return [str(value)] if _said(value) else []


def _each(field: str, value: Any) -> list[Json]:
    return [{field: text} for text in _listed(value)]


def _coded(value: Any) -> list[Json]:
    return [{"code": "other", "description": text} for text in _listed(value)]


def _classified(stated: Json) -> list[Json]:
    """What the data set is said to hold; what nobody said is left out, and never given as evaluated and absent."""
    found = [
        {"code": code} for code, name in (("pi", "contains_personal_data"), ("phi", "contains_phi")) if stated.get(name)
    ]
    return [{"regulation": one, "evaluated": True} for one in (*found, *_coded(stated.get("classification")))]
