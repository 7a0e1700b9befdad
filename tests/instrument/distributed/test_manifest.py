"""The manifest: one root for one checkpoint, whoever gathers it, in which order, wherever it lies; every fault is named."""

from __future__ import annotations

import json
import random
import shutil
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.instrument.distributed import (
    CheckpointError,
    Piece,
    ResumedFrom,
    RunHeader,
    ShardManifest,
    check,
    consolidate,
    join,
    load_manifest,
    make_manifest,
    manifest_path,
    parse_manifest,
    save_manifest,
    verify_consolidated,
)
from cognify_dagster.instrument.distributed.digesting import digest_share, share_of
from cognify_dagster.instrument.distributed.ranks import new_token, write_rank
from cognify_dagster.instrument.distributed.survey import survey
from cognify_dagster.ledger import canonical_json
from cognify_dagster.training import rows_root
from tests.instrument.distributed.shards import Part, block_of, dcp_copy, sharded, write_rank_shard, write_safetensors

RELAXED = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADER = RunHeader(world_size=2, name="step-20", step=20, backend="gloo", strategy="fsdp2", mesh={"shape": [2]})


def lay_out(folder: Path, ranks: list[dict[str, Part]]) -> None:
    folder.mkdir()
    for rank, parts in enumerate(ranks):
        write_rank_shard(folder, rank, parts)


def record(folder: Path, header: RunHeader = HEADER, *, token: str = "", without: int = -1, started: int = -1) -> None:
    """What the ranks of a training leave, written by this one process."""
    token = token or new_token()
    found = survey(folder)
    for rank in range(header.world_size):
        if rank == without:
            continue
        if rank == started:
            write_rank(folder, rank, token, header, state="started")
            continue
        files, pieces = digest_share(found, share_of(found, rank, header.world_size))
        write_rank(folder, rank, token, header, files=files, pieces=pieces)


@RELAXED
@given(sharded(), st.randoms(use_true_random=False))
def test_ranks_in_any_order_one_process_and_another_place_give_one_root(case, shuffle: random.Random) -> None:
    _, ranks = case
    with tempfile.TemporaryDirectory() as place:
        one, other = Path(place) / "one", Path(place) / "other"
        lay_out(one, ranks)
        (one / "trainer_state.json").write_text("{}")
        header = RunHeader(world_size=len(ranks), step=3)
        record(one, header)
        joined = join(one)
        shutil.copytree(one, other)
        shutil.rmtree(other / "cognify-shards")
        alone = make_manifest(other, header)
        files, pieces = list(joined.files), list(joined.pieces)
        shuffle.shuffle(files)
        shuffle.shuffle(pieces)
        again = ShardManifest(header, tuple(files), tuple(pieces))
    assert joined.root == alone.root == again.root
    assert joined.to_bytes() == alone.to_bytes() == again.to_bytes()


@RELAXED
@given(sharded())
def test_the_consolidated_model_holds_the_tensors_and_comes_from_the_shards(case) -> None:
    whole, ranks = case
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "step", Path(place) / "model.safetensors"
        lay_out(folder, ranks)
        manifest = make_manifest(folder)
        lineage = consolidate(folder, manifest, out)
        data = out.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        shutil.rmtree(folder)  # the proof needs no shard
        again = verify_consolidated(parse_manifest(manifest.to_bytes()), out)
    for name, (shape, values) in whole.items():
        start, end = header[name]["data_offsets"]
        assert data[8 + size + start : 8 + size + end] == block_of(values, shape, (0,) * len(shape), shape)
    assert lineage == again
    assert lineage.unused == 0
    assert {item.name: len(item.pieces) for item in lineage.tensors} == dict.fromkeys(whole, len(ranks))


@RELAXED
@given(sharded(), st.data())
def test_a_flipped_byte_names_file_rank_and_tensor(case, data: st.DataObject) -> None:
    _, ranks = case
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "step"
        lay_out(folder, ranks)
        manifest = make_manifest(folder)
        piece = data.draw(st.sampled_from([item for item in manifest.pieces if item.length]))
        at = data.draw(st.integers(piece.start, piece.start + piece.length - 1))
        path = folder / piece.file
        content = bytearray(path.read_bytes())
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        faults = check(folder, manifest)
        with pytest.raises(CheckpointError, match=f"rank {piece.rank}, file {piece.file}, tensor {piece.tensor}"):
            consolidate(folder, manifest, Path(place) / "model.safetensors")
        assert not (Path(place) / "model.safetensors").exists()
    assert [(fault.kind, fault.file, fault.rank, fault.tensor) for fault in faults] == [
        ("altered", piece.file, piece.rank, piece.tensor)
    ]


@RELAXED
@given(sharded(), st.data())
def test_an_edited_row_is_refused(case, data: st.DataObject) -> None:
    _, ranks = case
    with tempfile.TemporaryDirectory() as place:
        lay_out(Path(place) / "step", ranks)
        value = json.loads(make_manifest(Path(place) / "step").to_bytes())
    row = data.draw(st.sampled_from(value["rows"]))
    name = data.draw(st.sampled_from(sorted(set(row) - {"row", "mesh", "resumed_from"})))
    row[name] = data.draw(st.sampled_from(["x", 999, None, "0" * 64, [1]]).filter(lambda new: new != row[name]))
    with pytest.raises(CheckpointError):
        parse_manifest(canonical_json(value))


def test_the_root_is_that_of_the_rows_as_the_training_record_computes_it(tmp_path: Path) -> None:
    manifest = make_manifest(dcp_copy(tmp_path / "step"))
    assert manifest.root == rows_root(manifest.rows)


def test_the_header_counts(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    roots = {
        make_manifest(folder, header).root
        for header in (
            HEADER,
            RunHeader(world_size=2, step=21),
            RunHeader(world_size=2, step=20, mesh={"shape": [1, 2]}),
            RunHeader(world_size=2, step=20, resumed_from=ResumedFrom("ab" * 32)),
        )
    }
    assert len(roots) == 4


def test_a_checkpoint_of_pytorch_is_read_without_it(tmp_path: Path) -> None:
    manifest = make_manifest(dcp_copy(tmp_path / "step"))
    assert [(item.path, item.rank) for item in manifest.files] == [
        (".metadata", None),
        ("__0_0.distcp", 0),
        ("__1_0.distcp", 1),
    ]
    weight = manifest.tensors()["", "model.a.weight"]
    assert {(piece.rank, piece.offsets, piece.sizes, piece.of) for piece in weight} == {
        (0, (0, 0), (4, 3), "data"),
        (1, (4, 0), (3, 3), "data"),
    }
    step = [piece for piece in manifest.pieces if piece.tensor == "optim.step"]
    assert [(piece.block, piece.of) for piece in step] == [(None, "stored")]
    assert parse_manifest(manifest.to_bytes()) == manifest


def test_its_model_is_consolidated_with_the_values_that_were_saved(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    lineage = consolidate(folder, make_manifest(folder), tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])

    def values(name: str, form: str) -> tuple:
        start, end = header[name]["data_offsets"]
        return struct.unpack(form, data[8 + size + start : 8 + size + end])

    assert values("a.weight", "<21f") == tuple(range(21))
    assert values("b.weight", "<12q") == tuple(range(12))
    assert values("one", "<1d") == (7.5,)
    assert values("scale", "<1f") == (2.5,)
    assert header["a.bias"]["dtype"] == "BF16"
    assert header["__metadata__"]["cognify_checkpoint_root"] == lineage.root
    assert lineage.unused == 3, "two shards of the optimizer's average and its step"


# What can be wrong -------------------------------------------------------------------------------------------------------


def test_a_rank_that_recorded_nothing_is_named(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    record(folder, without=1)
    with pytest.raises(CheckpointError, match="rank 1: it recorded nothing") as caught:
        join(folder)
    assert [fault.rank for fault in caught.value.faults] == [1]
    with pytest.raises(CheckpointError, match=r"never recorded as whole.*rank 1"):
        load_manifest(folder)


def test_a_rank_that_started_and_did_not_finish_is_named(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    record(folder, started=0)
    with pytest.raises(CheckpointError, match="rank 0: it started to save and never finished"):
        join(folder)


def test_a_rank_file_of_an_earlier_save_is_refused(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    record(folder, without=1, token="a" * 32)
    token = "b" * 32
    write_rank(folder, 1, token, HEADER)
    with pytest.raises(CheckpointError, match="rank 1: its file is of another save"):
        join(folder)


def test_a_copied_rank_file_is_refused(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    record(folder, without=1)
    shards = folder / "cognify-shards"
    shutil.copy(shards / "rank-00000.json", shards / "rank-00001.json")
    with pytest.raises(CheckpointError, match=r"rank-00001.json: it says that it is of rank 0"):
        join(folder)


def test_a_shard_that_is_gone_is_named_with_its_tensors(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    manifest = make_manifest(folder)
    (folder / "__1_0.distcp").unlink()
    faults = check(folder, manifest)
    assert {fault.kind for fault in faults} == {"missing"}
    assert {(fault.file, fault.rank) for fault in faults} == {("__1_0.distcp", 1)}
    assert "model.b.weight" in {fault.tensor for fault in faults}
    with pytest.raises(CheckpointError, match=r"missing: rank 1, file __1_0.distcp"):
        make_manifest(folder)


def test_swapped_shards_are_altered_on_both_ranks(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    manifest = make_manifest(folder)
    (folder / "__0_0.distcp").rename(folder / "x")
    (folder / "__1_0.distcp").rename(folder / "__0_0.distcp")
    (folder / "x").rename(folder / "__1_0.distcp")
    assert {fault.rank for fault in check(folder, manifest) if fault.kind == "altered"} == {0, 1}


def test_a_surplus_file_is_named(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    manifest = make_manifest(folder)
    shutil.copy(folder / "__1_0.distcp", folder / "__2_0.distcp")
    assert [(fault.kind, fault.file) for fault in check(folder, manifest)] == [("surplus", "__2_0.distcp")]
    with pytest.raises(CheckpointError, match=r"surplus: rank 2, file __2_0.distcp"):
        make_manifest(folder)


def test_a_file_that_appears_after_the_ranks_recorded_is_named(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    record(folder)
    (folder / "notes.txt").write_text("late")
    with pytest.raises(CheckpointError, match=r"surplus: file notes.txt: no rank recorded it"):
        join(folder)


def test_bytes_around_the_tensors_count_too(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    manifest = make_manifest(folder)
    data = bytearray((folder / "__0_0.distcp").read_bytes())
    at = bytes(data).index(b"byteorder") - 8
    data[at] ^= 1  # inside the zip's header of a part that is no tensor
    (folder / "__0_0.distcp").write_bytes(data)
    assert [(fault.kind, fault.file) for fault in check(folder, manifest)][:1] == [("altered", "__0_0.distcp")]


def test_a_save_that_was_cut_off_has_no_map_and_is_refused(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    (folder / ".metadata").unlink()
    with pytest.raises(CheckpointError, match=r"no \.metadata; the save was cut off"):
        make_manifest(folder)


def test_a_gap_between_shards_is_found_by_their_offsets(tmp_path: Path) -> None:
    folder = tmp_path / "step"
    folder.mkdir()
    write_rank_shard(folder, 0, {"w": Part((0, 0), (2, 2), bytes(16))})
    write_rank_shard(folder, 1, {"w": Part((3, 0), (1, 2), bytes(8))})
    with pytest.raises(CheckpointError, match="gap: tensor w: no shard holds 1x2 elements at 2x0 of 4x2"):
        make_manifest(folder)


def test_overlapping_and_doubled_shards_name_both_ranks(tmp_path: Path) -> None:
    folder = tmp_path / "step"
    folder.mkdir()
    write_rank_shard(folder, 0, {"w": Part((0,), (3,), bytes(12)), "v": Part((0,), (1,), bytes(4))})
    write_rank_shard(folder, 1, {"w": Part((2,), (2,), bytes(8)), "v": Part((0,), (1,), bytes(4))})
    with pytest.raises(CheckpointError) as caught:
        make_manifest(folder)
    assert [(fault.kind, fault.tensor, fault.rank) for fault in caught.value.faults] == [
        ("duplicated", "v", 1),
        ("overlap", "w", 1),
    ]
    assert "of rank 0" in str(caught.value)


def test_an_index_and_its_shards_have_to_agree(tmp_path: Path) -> None:
    folder = tmp_path / "step"
    folder.mkdir()
    write_safetensors(folder / "model-00001-of-00002.safetensors", {"a": ("I32", (2,), bytes(8))})
    write_safetensors(folder / "model-00002-of-00002.safetensors", {"b": ("I32", (1,), bytes(4))})
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
    )
    manifest = make_manifest(folder)
    assert {piece.tensor for piece in manifest.pieces} == {"a", "b"}
    assert {item.rank for item in manifest.files} == {None}
    index.write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "c": "model-00003-of-00002.safetensors"}})
    )
    with pytest.raises(CheckpointError, match=r"missing: file model-00003-of-00002.safetensors, tensor c"):
        make_manifest(folder)


def test_links_in_a_checkpoint_are_refused(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    (folder / "linked").symlink_to(folder / "__0_0.distcp")
    with pytest.raises(CheckpointError, match="linked: a link or special file"):
        make_manifest(folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a\\..\\x", "", "./x"])
def test_a_manifest_that_names_a_file_outside_is_refused(path: str, tmp_path: Path) -> None:
    value = json.loads(make_manifest(dcp_copy(tmp_path / "step")).to_bytes())
    value["rows"][1]["path"] = path
    value["root"] = rows_root(value["rows"])
    with pytest.raises(CheckpointError):
        parse_manifest(canonical_json(value))


def test_a_recorded_checkpoint_is_not_recorded_anew(tmp_path: Path) -> None:
    folder = dcp_copy(tmp_path / "step")
    manifest = make_manifest(folder)
    assert save_manifest(folder, manifest) == manifest_path(folder)
    save_manifest(folder, manifest)
    other = ShardManifest(HEADER, manifest.files, manifest.pieces)
    with pytest.raises(CheckpointError, match="another manifest lies there"):
        save_manifest(folder, other)
    assert load_manifest(folder) == manifest


# A model that is not the checkpoint's --------------------------------------------------------------------------------------


def model_of(tmp_path: Path) -> tuple[ShardManifest, Path]:
    folder = tmp_path / "step"
    folder.mkdir()
    write_rank_shard(
        folder, 0, {"w": Part((0, 0), (2, 2), bytes(range(16))), "tied": Part((0, 0), (2, 2), bytes(range(16)))}
    )
    write_rank_shard(
        folder, 1, {"w": Part((2, 0), (1, 2), bytes(range(8))), "tied": Part((2, 0), (1, 2), bytes(range(8)))}
    )
    return make_manifest(folder), tmp_path / "model.safetensors"


DATA = bytes(range(16)) + bytes(range(8))


def test_a_changed_value_names_the_rank_whose_shard_differs(tmp_path: Path) -> None:
    manifest, model = model_of(tmp_path)
    write_safetensors(model, {"w": ("I32", (3, 2), DATA[:-1] + b"\xff"), "tied": ("I32", (3, 2), DATA)})
    with pytest.raises(
        CheckpointError, match=r"altered: rank 1, file shard-00002\S+, tensor w: the model's block at \[2, 0\]"
    ):
        verify_consolidated(manifest, model)


def test_tied_weights_may_be_left_out_and_are_said(tmp_path: Path) -> None:
    manifest, model = model_of(tmp_path)
    write_safetensors(model, {"w": ("I32", (3, 2), DATA)})
    lineage = verify_consolidated(manifest, model)
    assert {item.name: item.same_as for item in lineage.tensors} == {"w": "", "tied": "w"}


def test_missing_surplus_and_cast_tensors_are_named(tmp_path: Path) -> None:
    manifest, model = model_of(tmp_path)
    write_safetensors(model, {"w": ("F32", (3, 2), DATA), "new": ("I32", (1,), bytes(4))})
    with pytest.raises(CheckpointError) as caught:
        verify_consolidated(manifest, model)
    assert {(fault.kind, fault.tensor) for fault in caught.value.faults} == {
        ("altered", "w"),
        ("missing", "tied"),
        ("surplus", "new"),
    }


def test_names_may_differ_where_it_is_said(tmp_path: Path) -> None:
    manifest, model = model_of(tmp_path)
    write_safetensors(model, {"weight": ("I32", (3, 2), DATA)})
    lineage = verify_consolidated(manifest, model, renamed={"w": "weight"})
    assert "weight" in {item.name for item in lineage.tensors}


def test_a_piece_without_its_elements_digest_is_not_called_the_same(tmp_path: Path) -> None:
    manifest, model = model_of(tmp_path)
    write_safetensors(model, {"w": ("I32", (3, 2), DATA), "tied": ("I32", (3, 2), DATA)})
    blind = tuple(Piece(**{**piece.__dict__, "of": "stored"}) for piece in manifest.pieces)
    with pytest.raises(CheckpointError, match="cannot be compared"):
        verify_consolidated(ShardManifest(manifest.header, manifest.files, blind), model)
