"""Recorded names of files never lead out of the folder that they are put below."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.training.paths import stays_inside


@pytest.mark.parametrize("name", ["model.bin", "weights/a.safetensors", "..a/b", ".hidden"])
def test_plain_names_below_a_folder_are_taken(name: str) -> None:
    assert stays_inside(name)


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "a/../b", "../a", "a//b", "./a", "a/", "a\\b", "a\0b"])
def test_what_leaves_the_folder_or_has_two_spellings_is_not(name: str) -> None:
    assert not stays_inside(name)


@given(st.text(st.sampled_from("./\\ab"), max_size=12))
def test_every_name_that_is_taken_lies_below(name: str) -> None:
    root = Path("/srv/models")
    if stays_inside(name):
        place = Path(root, name)
        assert Path(*place.parts).resolve().is_relative_to(root.resolve())
        assert place.relative_to(root).as_posix() == name
