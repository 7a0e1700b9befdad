"""The record as tables for a GRC database: inventory, versions, decisions, findings, sign-offs, external decisions.

Each table has a documented schema; rows follow from a verified reading at one moment. CSV is for spreadsheets (text that a spreadsheet
would take for a formula is marked with an apostrophe), JSON lines and SQL hold the values as they are.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cognify_dagster.records import ExternalDecision, SignOff, VersionOpened, utc
from cognify_dagster.review.api.models import sign_off_out
from cognify_dagster.review.api.names import Names, names_of
from cognify_dagster.review.api.personal import without_names
from cognify_dagster.review.api.standing import (
    clock,
    decision_out,
    finding_out,
    findings_of,
    model_out,
    standing_of,
    version_row,
    versions_of,
)
from cognify_dagster.review.site import Site
from cognify_dagster.workspace import Reading

Type = Literal["text", "integer", "boolean", "time", "json"]
_SQL = {"text": "TEXT", "integer": "BIGINT", "boolean": "BOOLEAN", "time": "TEXT", "json": "TEXT"}
FORMATS = {"csv": "text/csv", "jsonl": "application/x-ndjson", "sql": "application/sql"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """A column. `key`: it is part of the table's primary key, and never null."""

    name: str
    type: Type
    text: str
    key: bool = False


@dataclass(frozen=True)
class Source:
    """What rows are made from: a site, a verified reading and a moment."""

    site: Site
    reading: Reading
    now: datetime
    personal: bool

    @property
    def names(self) -> Names:
        """The names in the ledger."""
        return names_of(self.site, self.reading)


@dataclass(frozen=True)
class Table:
    """A table of the export."""

    name: str
    text: str
    columns: tuple[Column, ...]
    rows: Callable[[Source], Iterator[dict[str, Any]]]


def _inventory(source: Source) -> Iterator[dict[str, Any]]:
    names = source.names
    for model in names.models_in(source.reading):
        targets, count = names.targets_of(source.reading, model), names.count(source.reading, model)
        found = model_out(source.reading, model, targets, count, source.now).model_dump(mode="json")
        production = next((item["version"] for item in found["live"] if item["target"] == "production"), None)
        yield found | {"live_version": production}


def _versions(source: Source) -> Iterator[dict[str, Any]]:
    for model, version in _each(source):
        opened = source.reading.latest(VersionOpened, f"model/{model}@{version}")
        row = version_row(source.reading, _standing(source, model, version))
        yield row | {
            "opened_by": opened.record.opened_by if opened else None,
            "run": opened.record.run if opened else None,
        }


def _decisions(source: Source) -> Iterator[dict[str, Any]]:
    for model, version in _each(source):
        found = decision_out(source.reading, _standing(source, model, version)).model_dump(mode="json")
        yield found | {
            "stages_done": sum(stage["done"] for stage in found["stages"]),
            "stages_total": len(found["stages"]),
            "reason_codes": [reason["code"] for reason in found["reasons"]],
            "reasons": [reason["text"] for reason in found["reasons"]],
            "open_conditions": len(found["conditions"]),
            "open_findings": sum(item["open"] for item in found["findings"]),
        }


def _findings(source: Source) -> Iterator[dict[str, Any]]:
    for model in source.names.models_in(source.reading):
        for item in findings_of(source.reading, model, source.now):
            yield finding_out(source.reading, model, item).model_dump(mode="json")


def _sign_offs(source: Source) -> Iterator[dict[str, Any]]:
    for item in source.reading.all(SignOff):
        yield sign_off_out(source.reading, item).model_dump(mode="json")


def _external(source: Source) -> Iterator[dict[str, Any]]:
    for item in source.reading.all(ExternalDecision, "external"):
        row = item.record.model_dump(mode="json")
        closed = {} if source.personal else {"text": None, "decided_by": None}
        yield {**row, "entry": item.seq, "time": clock(item.time_us), **closed}


def _each(source: Source) -> Iterator[tuple[str, str]]:
    for model in source.names.models_in(source.reading):
        for version in versions_of(source.reading, model):
            yield model, version


def _standing(source: Source, model: str, version: str) -> Any:
    folder = source.site.workspace.config.frameworks
    return standing_of(source.reading, model, version, "production", source.now, folder)


def _c(name: str, kind: Type, text: str, key: bool = False) -> Column:
    return Column(name, kind, text, key)


_MODEL, _VERSION = _c("model", "text", "model key", True), _c("version", "text", "model version", True)
_ENTRY = _c("entry", "integer", "number of the entry in the ledger", True)
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "inventory", "One row a model.",
            (
                _MODEL, _c("title", "text", "name for people"), _c("owner", "text", "person/… or what the code says"),
                _c("tier", "text", "risk tier that applies"),
                _c("tier_signed_entry", "integer", "entry in which people signed the tier; null: nobody did"),
                _c("frameworks", "json", "frameworks in scope"), _c("intended_use", "text", "as registered"),
                _c("versions", "integer", "how many there are"),
                _c("status", "text", "none, live, suspended or unattested: the worst over all targets"),
                _c("live_version", "text", "the version live on production"), _c("next_review", "time", "when it is due"),
                _c("review_overdue", "boolean", "whether that has passed"), _c("open_findings", "integer", "open now"),
                _c("blocking_findings", "integer", "of these, those that hold back a release"),
            ),
            _inventory,
        ),
        Table(
            "versions", "One row a version of a model, with its state on production.",
            (
                _MODEL, _VERSION,
                _c("state", "text", "live, suspended, unattested, ready, releasing, superseded or blocked"),
                _c("opened", "time", "when it began"), _c("opened_entry", "integer", "entry that opened it"),
                _c("opened_by", "text", "person/… or unattributed"), _c("run", "text", "the run that opened it"),
                _c("package_digest", "text", "sha256:… of the newest package"), _c("package_entry", "integer", "its entry"),
                _c("revision", "integer", "its revision"), _c("next_stage", "text", "the first stage that is not done"),
                _c("waiting_for", "json", "who can sign it"),
            ),
            _versions,
        ),
        Table(
            "decisions", "One row a version: the decision about production, made at the moment of the export.",
            (
                _MODEL, _VERSION, _c("target", "text", "deployment target"),
                _c("size", "integer", "entries it was decided on"), _c("at", "time", "moment it was decided for"),
                _c("released", "boolean", "whether nothing holds it back"), _c("state", "text", "see versions"),
                _c("tier", "text", "risk tier"), _c("policy_digest", "text", "policy in force"),
                _c("package_digest", "text", "what people sign"), _c("stages_done", "integer", "stages that are done"),
                _c("stages_total", "integer", "stages of the tier"), _c("reason_codes", "json", "stable codes of the reasons"),
                _c("reasons", "json", "their sentences"), _c("open_conditions", "integer", "conditions not closed"),
                _c("open_findings", "integer", "findings not resolved"), _c("review_due", "time", "next periodic review"),
                _c("grant_entry", "integer", "the release that these approvals gave"),
                _c("completed_entry", "integer", "the deployment that used them"),
            ),
            _decisions,
        ),
        Table(
            "findings", "One row a finding, open or not.",
            (
                _ENTRY, _c("model", "text", "model key"), _c("version", "text", "null: all versions"),
                _c("severity", "text", "low, medium, high or critical"), _c("title", "text", "in a line"),
                _c("text", "text", "whole"), _c("raised_by", "text", "who, or reconciliation"), _c("due", "time", "when due"),
                _c("open", "boolean", "neither closed nor accepted"), _c("blocking", "boolean", "holds back a release"),
                _c("accepted_until", "time", "its risk is accepted until"), _c("closed_entry", "integer", "entry that closed it"),
            ),
            _findings,
        ),
        Table(
            "sign_offs", "One row a signed statement, whether it counts or not.",
            (
                _ENTRY, _c("time", "time", "when it was appended"), _c("model", "text", "model key"),
                _c("version", "text", "model version"), _c("stage", "text", "stage of the policy"),
                _c("decision", "text", "approve, reject, block, …"), _c("role", "text", "role it was signed in"),
                _c("person", "text", "person/…"), _c("name", "text", "name; the id without personal data"),
                _c("strength", "text", "S2, S3 or S4"), _c("package_digest", "text", "what was signed"),
                _c("statement_digest", "text", "SHA-256 of the statement"), _c("signed_at", "time", "as the statement says"),
            ),
            _sign_offs,
        ),
        Table(
            "external_decisions", "One row a decision reported by another system. None counts as a sign-off.",
            (
                _ENTRY, _c("time", "time", "when it was recorded"), _c("system", "text", "the other system"),
                _c("reference", "text", "its id of the decision"), _c("model", "text", "model key"),
                _c("version", "text", "null: the model as a whole"), _c("decision", "text", "in its own words"),
                _c("text", "text", "null without personal data"), _c("decided_by", "text", "null without personal data"),
                _c("decided_at", "time", "as it says"), _c("link", "text", "address there"),
            ),
            _external,
        ),
    )
}  # fmt: skip


def rows_of(table: Table, source: Source) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, with exactly its columns; without personal data names are replaced by ids."""
    for row in table.rows(source):
        chosen = {column.name: row[column.name] for column in table.columns}
        yield chosen if source.personal else without_names(source.reading, chosen)


def lines_of(table: Table, format: str, rows: Iterable[dict[str, Any]], source: Source) -> Iterator[str]:
    """Yield the text of a table in a format of `FORMATS`, piece by piece."""
    if format == "jsonl":
        for row in rows:
            yield json.dumps(row, ensure_ascii=False) + "\n"
    elif format == "csv":
        yield _csv_line([column.name for column in table.columns])
        for row in rows:
            yield _csv_line([_cell(column, row[column.name]) for column in table.columns])
    else:
        yield from _sql_lines(table, rows, source)


def create_statement(table: Table) -> str:
    """Return the CREATE TABLE of a table (SQL-92 types; PostgreSQL and SQLite take it)."""
    lines = []
    keys = [column.name for column in table.columns if column.key]
    for column in table.columns:
        not_null = " NOT NULL" if column.key else ""
        lines.append(f"  {_quoted(column.name)} {_SQL[column.type]}{not_null},  -- {column.text}")
    lines.append(f"  PRIMARY KEY ({', '.join(map(_quoted, keys))})")
    return f"-- {table.text}\nCREATE TABLE IF NOT EXISTS cognify_{table.name} (\n" + "\n".join(lines) + "\n);\n"


def schema_json() -> dict[str, Any]:
    """Return the schema of all tables."""
    return {
        table.name: {
            "description": table.text,
            "columns": [
                {"name": column.name, "type": column.type, "key": column.key, "description": column.text}
                for column in table.columns
            ],
        }
        for table in TABLES.values()
    }


def _sql_lines(table: Table, rows: Iterable[dict[str, Any]], source: Source) -> Iterator[str]:
    """One transaction that replaces what an earlier export loaded."""
    yield f"-- {source.reading.origin}: {source.reading.size} entries, {utc(source.now)}\n"
    yield "BEGIN;\n" + create_statement(table) + f"DELETE FROM cognify_{table.name};\n"
    columns = ", ".join(_quoted(column.name) for column in table.columns)
    for row in rows:
        values = ", ".join(_literal(row[column.name]) for column in table.columns)
        yield f"INSERT INTO cognify_{table.name} ({columns}) VALUES ({values});\n"
    yield "COMMIT;\n"


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "'" + text.replace("\x00", "\ufffd").replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return f'"{name}"'


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    marked = column.type in ("text", "json") and text.startswith(_FORMULA)
    return "'" + text if marked else text


def _csv_line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()
