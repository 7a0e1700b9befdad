"""The ledger room stands alone: it imports neither Dagster nor anything heavy, and no other room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cognify_dagster.ledger as room

HEAVY = [
    "dagster",
    "pydantic",
    "sqlalchemy",
    "yaml",
    "click",
    "rich",
    "pyarrow",
    "pandas",
    "numpy",
    "sklearn",
    "typst",
    "fsspec",
]


def test_it_imports_without_dagster_and_without_heavy_modules() -> None:
    code = (
        "import sys; sys.modules['dagster'] = None\n"
        "import cognify_dagster.ledger, cognify_dagster.ledger.offline_verifier\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules and sys.modules[name] is not None])\n"
        "print(sorted(m for m in sys.modules if m.startswith('cognify_dagster.') and not m.startswith('cognify_dagster.ledger')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_every_public_name_exists_and_is_documented() -> None:
    for name in room.__all__:
        assert getattr(room, name).__doc__, name
