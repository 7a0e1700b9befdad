"""A data set's snapshot as Croissant 1.1 metadata with the responsible-AI terms, as data set tools read it.

Invariants: a file's SHA-256 is given only where the snapshot holds the plain one of the whole file; what the owner did not state is left
out and named; our Merkle root is never called a SHA-256 of a file.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cognify_dagster.datasets import ContentAlgorithm, FileKind, FileLeaf
from cognify_dagster.documents.outputs.common import listed
from cognify_dagster.documents.package.parts import when
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Recorded

Json = dict[str, Any]
MEDIA_TYPE = "application/ld+json"
MAX_FILES = 2_000
CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_PARQUET = "application/x-parquet"  # the name that readers of Croissant know
_TYPES = {
    ".csv": "text/csv", ".tsv": "text/tab-separated-values", ".parquet": _PARQUET, ".json": "application/json",
    ".jsonl": "application/jsonlines", ".txt": "text/plain", ".gz": "application/gzip", ".zip": "application/zip",
}  # fmt: skip
_TABLES = ("text/csv", "text/tab-separated-values", _PARQUET, "application/jsonlines")
_SAFE_ID = re.compile(r"[A-Za-z0-9_./-]{1,200}")
_CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "excludes": "cr:excludes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "value": "cr:value",
}


def croissant(
    item: Recorded[DatasetSnapshot],
    files: Sequence[FileLeaf],
    profile: Mapping[str, Any],
    *,
    number: int,
    trial: bool = False,
) -> Json:
    """Return the metadata of a snapshot as JSON-LD values.

    Args:
        item: the snapshot as the ledger holds it.
        files: its file manifest.
        profile: its profile: columns by name, with type and counts.
        number: which state of the data set in this ledger it is, counted from 1; the version is made from it.
        trial: whether the ledger was opened for trial, which the description then says.
    """
    record, stated = item.record, item.record.provenance
    distribution = _distribution(record, files)
    found: Json = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": record.name,
        "description": ("TRIAL ledger, no evidence. " if trial else "") + _description(item),
        "version": f"{number}.0.0",
        "dateModified": when(item)[:10],
        "datePublished": when(item)[:10],
        "identifier": f"urn:cognify:dataset-root:{record.root}",
    }
    for name, value in (
        ("license", stated.get("licence")),
        ("url", stated.get("source_url")),
        ("citeAs", stated.get("attribution")),
    ):
        if _said(value):
            found[name] = value
    if _said(stated.get("owner")):
        found["creator"] = {"@type": "sc:Organization", "name": stated["owner"]}
    found |= _responsible(item, profile)
    found["distribution"] = distribution
    records = _record_set(record, distribution, profile)
    if records:
        found["recordSet"] = [records]
    return found


def _said(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _description(item: Recorded[DatasetSnapshot]) -> str:
    record, stated = item.record, item.record.provenance
    missing = sorted({*record.missing_provenance, *(name for name in ("source_url",) if not _said(stated.get(name)))})
    parts = [str(stated.get("source") or "Source not stated") + "."]
    if _said(stated.get("notes")):
        parts.append(str(stated["notes"]))
    parts.append(
        f"A snapshot recorded in ledger entry {item.seq}, {when(item)}; its Merkle root is {record.root}. The date published is the "
        "date of that entry."
    )
    if missing:
        parts.append(f"Not stated by the owner: {listed(missing)}.")
    return " ".join(parts)


def _distribution(record: DatasetSnapshot, files: Sequence[FileLeaf]) -> list[Json]:
    """Files with their SHA-256; what has no plain one, and a folder of very many, is described as a set of files."""
    if not files and record.data is not None:
        digest = record.data.digest.removeprefix("sha256:")
        return [_file("table.parquet", _PARQUET, record.data.size, digest, f"urn:sha256:{digest}")]
    real = [leaf for leaf in files if leaf.kind is FileKind.FILE]
    if len(real) > MAX_FILES:
        kinds = sorted({_suffix(_path(leaf)) for leaf in real})
        return [_set(f"files{kind or '-without-suffix'}", f"**/*{kind}", _media(kind), record) for kind in kinds]
    found = []
    for place, leaf in enumerate(real, 1):
        path = _path(leaf)
        named = path if _SAFE_ID.fullmatch(path) else f"file-{place}"
        if leaf.algorithm is ContentAlgorithm.SHA256:
            found.append(_file(path, _media(_suffix(path)), leaf.size, leaf.digest.hex(), quote(path), named))
        else:
            found.append(_set(path, path, _media(_suffix(path)), record, named))
    return found


def _path(leaf: FileLeaf) -> str:
    return leaf.path.decode("utf-8", "backslashreplace")


def _suffix(path: str) -> str:
    found = re.search(r"\.[A-Za-z0-9]{1,10}$", path)
    return found[0].lower() if found else ""


def _media(suffix: str) -> str:
    return _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")


def _file(path: str, media_type: str, size: int, sha256: str, url: str, named: str = "") -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": named or path,
        "name": path,
        "contentUrl": url,
        "contentSize": f"{size} B",
        "encodingFormat": media_type,
        "sha256": sha256,
    }


def _set(name: str, pattern: str, media_type: str, record: DatasetSnapshot, named: str = "") -> Json:
    return {
        "@type": "cr:FileSet",
        "@id": named or name,
        "name": name,
        "description": f"The digests of these files stand in the snapshot's file manifest, SHA-256 {record.manifest.digest[7:]}.",
        "encodingFormat": media_type,
        "includes": pattern,
    }


def _record_set(record: DatasetSnapshot, distribution: Sequence[Json], profile: Mapping[str, Any]) -> Json | None:
    columns = profile.get("columns")
    tables = [item for item in distribution if item["encodingFormat"] in _TABLES]
    if not isinstance(columns, Mapping) or not columns or not tables:
        return None
    source = tables[0]
    kind = "fileObject" if source["@type"] == "cr:FileObject" else "fileSet"
    ids = {  # an identifier holds no space, and no tool is to be tried with other signs
        name: f"records/{name if _SAFE_ID.fullmatch(name) else f'column-{place}'}"
        for place, name in enumerate(sorted(columns), 1)
    }
    fields = [
        {
            "@type": "cr:Field",
            "@id": ids[name],
            "name": name,
            **_purpose(record, name),
            "dataType": _data_type(str(column.get("type", ""))),
            "source": {kind: {"@id": source["@id"]}, "extract": {"column": name}},
        }
        for name, column in sorted(columns.items())
        if isinstance(column, Mapping)
    ]
    more = f" {len(tables) - 1} more files hold records of the same columns." if len(tables) > 1 else ""
    count = f"{record.record_count} records." if record.record_count is not None else ""
    found: Json = {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "description": f"{count}{more}".strip() or "The records.",
        "field": fields,
    }
    if record.record_key and record.record_key in columns:
        found["key"] = {"@id": ids[record.record_key]}
    return found


def _purpose(record: DatasetSnapshot, name: str) -> Json:
    purposes = record.provenance.get("column_purposes")
    text = purposes.get(name) if isinstance(purposes, Mapping) else None
    role = "The label. " if name == record.label else ""
    said = f"{role}{text if _said(text) else ''}".strip()
    return {"description": said} if said else {}


def _data_type(arrow: str) -> str:
    if arrow.startswith(("int", "uint")):
        return "sc:Integer"
    if arrow.startswith(("float", "double", "half", "decimal")):
        return "sc:Float"
    if arrow == "bool":
        return "sc:Boolean"
    if arrow.startswith("date"):
        return "sc:Date"
    return "sc:DateTime" if arrow.startswith("timestamp") else "sc:Text"


def _responsible(item: Recorded[DatasetSnapshot], profile: Mapping[str, Any]) -> Json:
    """The responsible-AI terms, as far as somebody stated them or the snapshot shows them."""
    record, stated = item.record, item.record.provenance
    found: Json = {}
    if _said(stated.get("collected_how")):
        found["rai:dataCollection"] = stated["collected_how"]
    if stated.get("collected_from") and stated.get("collected_to"):
        found["rai:dataCollectionTimeFrame"] = [str(stated["collected_from"]), str(stated["collected_to"])]
    columns = profile.get("columns")
    if isinstance(columns, Mapping) and columns:
        empty = [
            f"{name}: {col['nulls']}"
            for name, col in sorted(columns.items())
            if isinstance(col, Mapping) and col.get("nulls")
        ]
        found["rai:dataCollectionMissingData"] = (
            f"Empty values by column: {listed(empty)}." if empty else "No column holds empty values."
        )
    if record.exclusions:
        found["rai:dataPreprocessingProtocol"] = [
            f"{rule.rule}: {rule.rows_before} records before, {rule.rows_after} after. {rule.description}".strip()
            for rule in record.exclusions
        ]
    sensitive = [
        text
        for text, holds in (
            ("The owner declares personal data.", stated.get("contains_personal_data")),
            ("The owner declares protected health information.", stated.get("contains_phi")),
            (
                f"De-identified by: {stated.get('deidentification_method')}.",
                _said(stated.get("deidentification_method")),
            ),
            (f"Legal ground or consent: {stated.get('consent')}.", _said(stated.get("consent"))),
        )
        if holds
    ]
    found["rai:personalSensitiveInformation"] = sensitive or ["The owner declares no personal data."]
    if _said(stated.get("collected_unknown")):
        found["rai:dataLimitations"] = [f"The period of collection is not known: {stated['collected_unknown']}"]
    return found
