"""A pickle is read as data: whatever it asks for is described and never done."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.instrument.distributed import CheckpointError
from cognify_dagster.instrument.distributed.inert_pickle import Node, Pairs, Persistent, Symbol, read_inert
from cognify_dagster.instrument.distributed.survey import dcp_places
from tests.instrument.distributed.shards import dcp_copy

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


def as_plain(value):
    if isinstance(value, Pairs):
        return {key: as_plain(item) for key, item in value.items}
    if isinstance(value, (list, tuple)):
        return type(value)(as_plain(item) for item in value)
    return value


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(plain, st.sampled_from([3, 4, 5]))
def test_plain_values_are_read_as_pickle_reads_them(value, protocol: int) -> None:
    assert as_plain(read_inert(pickle.dumps(value, protocol), "p")) == value


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_call_in_a_pickle_is_not_made(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps({"state_dict_metadata": Evil(str(tmp_path / "made"))}, protocol)
    with contextlib.suppress(CheckpointError):
        read_inert(data, "p")
    assert not (tmp_path / "made").exists()
    pickle.loads(data)
    assert (tmp_path / "made").exists(), "the pickle does what it says when it is run"


def test_a_checkpoint_whose_metadata_would_run_code_is_refused_and_nothing_is_run(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    (folder / ".metadata").write_bytes(pickle.dumps(Evil(str(tmp_path / "made"))))
    with pytest.raises(CheckpointError, match="not the metadata of a distributed checkpoint"):
        dcp_places(folder / ".metadata")
    assert not (tmp_path / "made").exists()


def test_objects_are_described() -> None:
    node = read_inert(pickle.dumps(collections.OrderedDict(a=1)), "p")
    assert isinstance(node, Node)
    assert node.what == Symbol("collections", "OrderedDict")
    assert node.pairs.get("a") == 1


def test_references_to_storages_are_described() -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", "0") if value is Evil else None

    import io

    out = io.BytesIO()
    Pickler(out, 2).dump([Evil])
    assert read_inert(out.getvalue(), "p") == [Persistent(("storage", "0"))]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_the_files_name(data: bytes) -> None:
    message = "shard.meta: "
    try:
        read_inert(data, "shard.meta")
    except CheckpointError as error:
        message = str(error)
    assert message.startswith("shard.meta: ")


@given(st.integers(0, 2000), st.integers(0, 255))
def test_damaged_metadata_is_read_or_refused(at: int, byte: int) -> None:
    data = bytearray((Path(__file__).parent / "data/dcp_2ranks/.metadata").read_bytes())
    data[at % len(data)] = byte
    with contextlib.suppress(CheckpointError):
        read_inert(bytes(data), "m")
