"""Names of partitions stand for exactly one partition key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.datasets import DatasetError
from cognify_dagster.datasets.partitions import partition_key, partition_name
from cognify_dagster.ledger import check_subject
from cognify_dagster.records.base import SNAPSHOT_NAME


@given(st.text(min_size=1, max_size=15, alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_key_comes_back_from_its_name(key: str) -> None:
    try:
        name = partition_name("loans", key)
    except DatasetError:
        assert len(key.encode()) > 20
        return
    assert partition_key(name) == key
    assert re.fullmatch(SNAPSHOT_NAME, name)
    check_subject(f"dataset/{name}")


def test_what_names_look_like() -> None:
    assert partition_name("loans", "2026-01") == "loans@2026-01"
    assert partition_name("loans", "2026-01-01-00:00") == "loans@2026-01-01-00+3A00"
    assert partition_key("loans") is None
    for bad in ("loans@", "loans@a+2", "loans@a+ff", "loans@+FF", "loans@a|b"):
        with pytest.raises(DatasetError, match="no name of a partition"):
            partition_key(bad)
    for key in ("", "x" * 61):
        with pytest.raises(DatasetError, match="1 to 60 are possible"):
            partition_name("loans", key)
