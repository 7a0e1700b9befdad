"""The strict YAML reader: plain data, each key once, no aliases; one reader for gate sets and frameworks."""

from __future__ import annotations

from pathlib import Path

import pytest

import cognify_dagster
from cognify_dagster.records import YamlError, load_yaml


def test_plain_data_is_read() -> None:
    assert load_yaml("a: [1, two]\nb: {c: true}") == {"a": [1, "two"], "b": {"c": True}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "key 'a' is repeated"),
        ("a: {b: 1, b: 2}", "key 'b' is repeated"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("[1, 2]: 3", "keys have to be plain text"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: [", "expected"),
        ("a: 2026-13-45", "month"),
        ("[" * 5000, ""),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(YamlError) as caught:
        load_yaml(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_there_is_one_strict_reader() -> None:
    folder = Path(cognify_dagster.__file__).parent
    homes = [path.name for path in folder.rglob("*.py") if "class _StrictLoader" in path.read_text(encoding="utf-8")]
    assert homes == ["strict_yaml.py"]
