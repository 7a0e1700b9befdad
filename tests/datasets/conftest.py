from __future__ import annotations

import uuid

import fsspec
import pytest

from cognify_dagster.datasets import Provenance


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(source="test", owner="team:test", licence="CC0", collected_unknown="made up")


@pytest.fixture
def memory_url():
    """An empty prefix on fsspec's in-memory filesystem."""
    fs = fsspec.filesystem("memory")
    prefix = f"/t-{uuid.uuid4().hex}"
    yield f"memory:/{prefix}"
    if fs.exists(prefix):
        fs.rm(prefix, recursive=True)


@pytest.fixture
def put(memory_url):
    """Write a file below the in-memory prefix."""
    fs = fsspec.filesystem("memory")

    def write(path: str, data: bytes) -> None:
        with fs.open(f"{memory_url.removeprefix('memory:/')}/{path}", "wb") as file:
            file.write(data)

    return write
