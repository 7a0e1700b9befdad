"""What importing costs and what it must not need."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOWER = (
    "ledger",
    "evidence",
    "records",
    "workspace",
    "datasets",
    "training",
    "evaluation",
    "governance",
    "documents",
)


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_all_rooms_below_orchestration_import_where_dagster_is_not_installed():
    names = ", ".join(f"cognify_dagster.{name}" for name in LOWER)
    assert python(f"import sys; sys.modules['dagster'] = None; import {names}; print('fine')") == "fine"


def test_the_ledger_works_where_dagster_is_not_installed():
    code = """
import sys
sys.modules["dagster"] = None
import cognify_dagster.ledger as ledger
leaf = ledger.leaf_hash(b"entry")
ledger.verify_inclusion(0, 1, leaf, [], leaf)
print(ledger.canonical_json({"b": 1, "a": 2}).decode())
"""
    assert python(code) == '{"a":2,"b":1}'


def test_a_name_that_needs_dagster_says_so_where_it_is_not_installed():
    code = """
import sys
sys.modules["dagster"] = None
import cognify_dagster
print(cognify_dagster.Workspace.__name__)
try:
    cognify_dagster.training_run
except ImportError as error:
    print(error)
"""
    assert python(code).splitlines()[0] == "Workspace"
    assert "dagster" in python(code).splitlines()[1]


def test_importing_the_package_loads_nothing_heavy():
    code = """
import sys
import cognify_dagster
heavy = {"dagster", "pyarrow", "pandas", "polars", "sklearn", "fairlearn", "typst", "numpy", "cryptography", "pydantic"}
print(sorted(heavy & set(sys.modules)))
"""
    assert python(code) == "[]"


@pytest.mark.parametrize("module", ["cognify_dagster.orchestration", "cognify_dagster.components"])
def test_defining_assets_loads_no_table_model_or_document_library(module: str):
    """`dg` imports the registry module of every package; a heavy or failing import there hurts the whole environment."""
    code = f"""
import sys
import {module}
heavy = {{"pyarrow", "pandas", "polars", "sklearn", "fairlearn", "typst", "duckdb", "torch", "psycopg", "dagster_webserver"}}
print(sorted(heavy & set(sys.modules)))
"""
    assert python(code) == "[]"


def test_no_postponed_annotations_where_dagster_reads_them():
    """`from __future__ import annotations` hides the types of `context` and config from Dagster."""
    files = [*(ROOT / "cognify_dagster" / "orchestration").glob("*.py"), ROOT / "definitions.py"]
    files += (ROOT / "examples").glob("*/definitions.py")
    assert len(files) > 15
    for path in files:
        text = path.read_text()
        if re.search(r"^(import dagster|from dagster|import cognify_dagster as cg)", text, re.MULTILINE):
            assert not re.search(r"^from __future__ import.*annotations", text, re.MULTILINE), path


def test_only_orchestration_and_the_registry_module_import_dagster():
    for path in (ROOT / "cognify_dagster").rglob("*.py"):
        if path.parent.name == "orchestration" or "_templates" in path.parts:
            continue
        for line in path.read_text().splitlines():
            assert not re.match(r"(import dagster\b|from dagster\b)", line), f"{path}: {line}"


def test_calls_that_dagster_does_not_promise_stand_in_one_place():
    """Private modules of Dagster are imported in `_compat` alone, so that an upgrade is checked there."""
    for path in (ROOT / "cognify_dagster" / "orchestration").glob("*.py"):
        if path.name != "_compat.py":
            assert "dagster._" not in path.read_text(), path
