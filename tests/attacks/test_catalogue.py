"""Each of the 48 cases has tests, each test named in the catalogue exists, and each numbered test is in the catalogue."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.attacks.catalogue import CASES, node_ids

ROOT = Path(__file__).parents[2]
SUITE = "tests/conformance/store_suite.py::StoreSuite"


def defined(path: str) -> set[str]:
    """The test functions of a file and the classes with theirs, as pytest names them; what classes inherit is not followed."""
    names = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_every_case_has_a_number_words_a_detector_and_tests() -> None:
    assert sorted(CASES) == list(range(1, 49))
    assert all(case.words and case.detector and case.tests for case in CASES.values())


@pytest.mark.parametrize("number", sorted(CASES))
def test_every_named_test_exists(number: int) -> None:
    for test in node_ids(CASES[number]):
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), test
        inherited = f"{SUITE}::{name.partition('::')[2]}".partition("::")
        if path.startswith("tests/conformance/"):
            assert name.partition("::")[0] in defined(path), test
            assert inherited[2] in defined(inherited[0]), test
        else:
            assert name in defined(path), test


def test_every_numbered_test_is_in_the_catalogue() -> None:
    named = {test for case in CASES.values() for test in case.tests}
    for name in defined("tests/attacks/test_attacks.py"):
        for number in re.findall(r"_(\d\d)(?=_)", name) if name.startswith("test_") else ():
            assert f"tests/attacks/test_attacks.py::{name}" in CASES[int(number)].tests, (name, number)
    assert named
