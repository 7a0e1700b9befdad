"""Tables for a GRC database: the same rows in CSV, JSON lines and SQL, with the columns that are documented."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.records import ModelRegistered
from cognify_dagster.review.api.tables import FORMATS, TABLES, create_statement, lines_of, schema_json
from tests.review.api.conftest import Api
from tests.review.api.test_external import BODY
from tests.review.site_world import SiteWorld

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


def loaded(text: str, table: str) -> list[tuple[Any, ...]]:
    """Load SQL into a database and return the rows."""
    with sqlite3.connect(":memory:") as db:
        db.executescript(text)
        db.executescript(text)  # loading it again replaces the rows
        return db.execute(f"SELECT * FROM cognify_{table}").fetchall()


@pytest.fixture
def full(site_world: SiteWorld, api: Api) -> Api:
    """A workspace with something in every table."""
    from cognify_dagster.governance import open_finding

    world = site_world.world
    world.approve_all()
    facts = {"model": "credit_default", "version": "1", "severity": "low", "title": "It's 'quoted'", "text": "a\nb"}
    open_finding(world.workspace, world.key("vera"), **facts)
    api("/external-decisions", json=BODY, scopes=("external:write",))
    return api


@pytest.mark.parametrize("table", list(TABLES))
def test_every_format_tells_the_same(full: Api, table: str) -> None:
    answers = {name: full(f"/exports/{table}?format={name}", scopes=("read:personal",)) for name in FORMATS}
    assert {name: item.headers["content-type"].partition(";")[0] for name, item in answers.items()} == FORMATS
    rows = [json.loads(line) for line in answers["jsonl"].text.splitlines()]
    assert rows
    columns = [column.name for column in TABLES[table].columns]
    assert all(list(row) == columns for row in rows)
    cells = list(csv.reader(io.StringIO(answers["csv"].text, newline="")))
    assert cells[0] == columns
    assert len(cells) == len(rows) + 1
    stored = loaded(answers["sql"].text, table)
    flat = [
        tuple(json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in row.values())
        for row in rows
    ]
    if table == "decisions":  # each was decided at its own moment
        moment = columns.index("at")
        stored, flat = ([row[:moment] + row[moment + 1 :] for row in found] for found in (stored, flat))
    assert stored == flat


def test_the_inventory_and_the_decisions_are_those_of_the_api(full: Api) -> None:
    row = json.loads(full("/exports/inventory").text)
    one = full("/models/credit_default").json()
    assert {name: row[name] for name in ("owner", "tier", "status", "versions")} == {
        name: one[name] for name in ("owner", "tier", "status", "versions")
    }
    decision = json.loads(full("/exports/decisions").text)
    assert (decision["released"], decision["state"], decision["stages_done"]) == (
        True,
        "ready",
        decision["stages_total"],
    )


def test_the_columns_stand_in_the_documentation() -> None:
    text = DOCS.read_text()
    for table in TABLES.values():
        assert f"`{table.name}`" in text
        for column in table.columns:
            assert f"`{column.name}`" in text, (table.name, column.name)
    assert schema_json().keys() == TABLES.keys()


def test_the_create_statements_are_sql() -> None:
    with sqlite3.connect(":memory:") as db:
        for table in TABLES.values():
            db.executescript(create_statement(table))
            made = [row[1] for row in db.execute(f"PRAGMA table_info(cognify_{table.name})")]
            assert made == [column.name for column in table.columns]


FINDINGS = TABLES["findings"]
TEXT = st.text(max_size=40)
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@settings(max_examples=80, deadline=None)
@given(title=TEXT, text=TEXT, open_=st.booleans(), version=st.none() | TEXT)
def test_any_text_survives_every_format(title: str, text: str, open_: bool, version: str | None) -> None:
    """Quotes, line ends, NUL and formulas: nothing breaks out of its cell, its string or its line."""
    row = dict.fromkeys((column.name for column in FINDINGS.columns), None) | {
        "entry": 1, "model": "m", "title": title, "text": text, "open": open_, "version": version,
    }  # fmt: skip
    source = SimpleNamespace(reading=SimpleNamespace(origin="test.example/x", size=1), now=NOW)
    found = json.loads("".join(lines_of(FINDINGS, "jsonl", [row], source)))  # type: ignore[arg-type]
    assert found == row
    surrogates = any("\ud800" <= char <= "\udfff" for char in title + text + (version or ""))
    sql = "".join(lines_of(FINDINGS, "sql", [row], source))  # type: ignore[arg-type]
    if not surrogates:
        (stored,) = loaded(sql, "findings")
        assert stored[4:6] == (title.replace("\x00", "\ufffd"), text.replace("\x00", "\ufffd"))
        assert stored[2] == (version.replace("\x00", "\ufffd") if version is not None else None)
    sheet = "".join(lines_of(FINDINGS, "csv", [row], source))  # type: ignore[arg-type]
    _, cells = csv.reader(io.StringIO(sheet, newline=""))
    assert cells[4].removeprefix("'") == title.removeprefix("'") or cells[4] == title
    assert not cells[4].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_the_command_writes_all_tables_or_nothing(
    site_world: SiteWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cognify_dagster.cli.app import main
    from cognify_dagster.cli.exits import USAGE

    site_world.world.approve("vera")
    monkeypatch.chdir(site_world.world.folder / "project")
    out = tmp_path / "grc"

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["review", "export", *arguments])
        return int(ended.value.code or 0)

    assert run(str(out)) == 0
    wanted = {f"{table}.{name}" for table in TABLES for name in FORMATS} | {"schema.json", "schema.sql"}
    assert {path.name for path in out.iterdir()} == wanted
    about = json.loads((out / "schema.json").read_text())
    assert about["size"] == site_world.site.read().size
    assert about["rows"]["sign_offs"] == 1
    assert "Vera" in (out / "sign_offs.csv").read_text()
    assert run(str(out)) == USAGE, "an export is not written over another"
    assert run(str(tmp_path / "ids"), "--without-names", "--format", "csv") == 0
    assert "Vera" not in "".join(path.read_text() for path in (tmp_path / "ids").iterdir())

    def broken(*_: object) -> None:
        raise RuntimeError("disk")

    monkeypatch.setattr("cognify_dagster.review.api.tables.schema_json", broken)
    assert run(str(tmp_path / "half")) != 0
    assert not [path for path in tmp_path.iterdir() if "half" in path.name]


def test_many_models_are_exported_by_name(site_world: SiteWorld, api: Api) -> None:
    for name in ("zeta", "alpha"):
        site_world.world.write(ModelRegistered(model=name, owner="team:x", risk_tier="high"))
    found = [json.loads(line)["model"] for line in api("/exports/inventory").text.splitlines()]
    assert found == ["alpha", "credit_default", "zeta"]
