"""The room works with the core dependencies alone and loads nothing heavy before it is needed."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
for name in ("dagster", "pyarrow", "pandas", "polars", "numpy", "duckdb"):
    sys.modules[name] = None
from cognify_dagster.datasets import Provenance, TableError, manifest_bytes, take_snapshot
snapshot = take_snapshot(sys.argv[1], name="d", provenance=Provenance())
assert snapshot.file_count == 1, snapshot
for attempt in (lambda: manifest_bytes(snapshot), lambda: take_snapshot(sys.argv[2], name="d", provenance=Provenance())):
    try:
        attempt()
    except TableError as exc:
        assert "cognify-dagster[tables]" in str(exc)
    else:
        raise SystemExit("expected TableError")
"""


def test_files_need_neither_dagster_nor_arrow_and_tables_say_what_to_install(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "b.csv").write_bytes(b"x\n1\n")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "a.bin"), str(tmp_path / "b.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_room_loads_no_table_library():
    code = "import sys, cognify_dagster.datasets; print([m for m in ('pyarrow', 'pandas', 'fsspec', 'dagster') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
