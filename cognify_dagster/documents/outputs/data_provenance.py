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
OPTIONAL = frozenset({"previous_release_date", "source", "source_metadata", "proprietary_data_presence"})


def data_provenance(reading: Reading, item: Recorded[DatasetSnapshot]) -> Json:
    """Return the metadata of a snapshot as JSON values, in the three groups of the standards: source, provenance, use.

    Args:
        reading: verified entries.
        item: the snapshot.
    """
    record, stated = item.record, item.record.provenance
    change = change_of(reading, directory(reading), record.name, item.seq)
    records = record.header.get("records")
    taken = records.get("format") if isinstance(records, dict) else None
    groups: dict[str, Json] = {
        "source": {
            "dataset_title": record.name,
            "metadata_identifier": f"urn:cognify:dataset-root:{record.root}",
            "metadata_location": f"ledger {reading.origin}, entry {item.seq}",
            "dataset_issuer": stated.get("owner"),
            "dataset_description": stated.get("source"),
        },
        "provenance": {
            "source_metadata": [source.model_dump(mode="json") for source in record.sources],
            "source": stated.get("collected_by"),
            "data_origin_geography": stated.get("jurisdiction"),
            "data_origin_date": stated.get("collected_from"),
            "previous_release_date": when(change.old) if change is not None and change.old is not None else None,
            "date_of_issue": stated.get("issued_on") or when(item),
            "range_of_dates_for_data_generation": _period(stated),
            "method": stated.get("collected_how"),
            "data_format": taken or "files",
        },
        "use": {
            "confidentiality_classification": stated.get("classification"),
            "consent_documentation_location": stated.get("consent_location"),
            "privacy_enhancing_technologies": [
                value for name in ("deidentification_method", "privacy_techniques") if (value := stated.get(name))
            ],
            "data_processing_geography": stated.get("processing_geography"),
            "data_storage_geography": stated.get("storage_geography"),
            "license_to_use": " ".join(str(stated[name]) for name in ("licence", "right_to_use") if stated.get(name)),
            "intended_data_use": stated.get("intended_use"),
            "proprietary_data_presence": stated.get("proprietary"),
        },
    }
    personal = bool(stated.get("contains_personal_data") or stated.get("contains_phi"))
    wanted_of_personal = ("consent_documentation_location", "privacy_enhancing_technologies")
    not_stated = [
        f"{group}.{name}"
        for group, elements in groups.items()
        for name, value in elements.items()
        if not _said(value) and name not in OPTIONAL and (personal or name not in wanted_of_personal)
    ]
    said = {
        group: {name: value for name, value in elements.items() if _said(value)} for group, elements in groups.items()
    }
    made: Json = {"standard": STANDARD, "entry": item.seq, "leaf": item.leaf, "root": record.root}
    return {**made, "trial": reading.trial, **said, "not_stated": not_stated}


def _said(value: Any) -> bool:
    return value is False or (bool(value.strip()) if isinstance(value, str) else bool(value))


def _period(stated: Json) -> Json | str | None:
    start, end = stated.get("collected_from"), stated.get("collected_to")
    if start and end:
        return {"from": start, "to": end}
    unknown = stated.get("collected_unknown")
    return f"not known: {unknown}" if isinstance(unknown, str) and unknown.strip() else None
