"""docs/frameworks.md: its worked example is a framework that loads, checks and covers, and it names every check there is."""

from __future__ import annotations

import re
from pathlib import Path

from cognify_dagster.documents import VersionFacts, assess_coverage, load_framework
from cognify_dagster.documents.frameworks.checking import check_file
from cognify_dagster.documents.frameworks.loading import headings
from cognify_dagster.documents.frameworks.model import KIND_CHECKS
from tests.documents.conftest import NOW

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```\n", re.DOTALL)


def written(folder: Path) -> Path:
    """Write the page's examples as their names say; return the folder of frameworks."""
    for name, text in EXAMPLE.findall(PAGE.read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "frameworks"


def test_the_worked_example_extends_a_shipped_framework(tmp_path: Path, facts: VersionFacts) -> None:
    folder = written(tmp_path)
    own, base = load_framework("bank-lending", folder), load_framework("fair-lending")
    assert own.notes[0] == f"Extends fair-lending {base.version}. Replaced here: fl.proxy. Added here: own.branch."
    lines = {line.requirement.id: line for line in assess_coverage(facts, own, NOW).lines}
    assert set(lines) == {item.id for item in base.requirements()} | {"own.branch"}
    branch = lines["own.branch"]
    assert branch.status == "needs_human"
    assert "branch_sale" in branch.gaps[0].text, "a fact that nobody stated is asked for, and excludes nothing"


def test_the_example_list_of_headings_reads_and_the_check_says_what_it_lacks(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert set(headings("bank-lending", folder) or ()) == {"Lending policy 4.2", "12 CFR 1002.4(a)"}
    lacking = [item for item in check_file(folder / "bank-lending.yaml", folder)[1] if item.level == "error"]
    assert lacking
    assert all("is not in the list of headings" in item.text for item in lacking)
    (folder / "headings" / "bank-lending.txt").unlink()
    levels = {item.level for item in check_file(folder / "bank-lending.yaml", folder)[1]}
    assert levels == {"note"}, "or is left out, and then nothing is compared"


def test_the_page_names_every_kind_and_check() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `((?:auto:)?\w+)` \| [^|]* \|(.*)\|$", text, re.MULTILINE))
    assert set(rows) >= set(KIND_CHECKS)
    for kind, checks in KIND_CHECKS.items():
        assert set(re.findall(r"`(\w+)`", rows[kind])) == checks, kind
