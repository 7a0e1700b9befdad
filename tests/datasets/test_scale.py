"""Snapshots in steps, manifests read shard by shard: the same roots, differences and proofs as one machine finds in memory."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    FileTree,
    ManifestError,
    Provenance,
    SourceChangedError,
    SourceError,
    TableError,
    check_header,
    check_proof_file,
    diff_files,
    file_manifest_bytes,
    file_proof_file,
    manifest_bytes,
    prove_file,
    read_file_manifest,
    reduce_shard_range,
    root_from_shards,
    take_snapshot,
    verify_proof,
)
from cognify_dagster.datasets.hashing.mapreduce import rows_of
from cognify_dagster.datasets.hashing.packed import PackedFiles
from cognify_dagster.datasets.scale import steps
from cognify_dagster.datasets.scale.finishing import finish
from cognify_dagster.datasets.scale.looking import diff_manifests, prove_in_manifest
from cognify_dagster.datasets.scale.manifests import LargeManifest, part_bytes, write_whole
from cognify_dagster.datasets.scale.reducing import range_bounds, range_of, reduce_range, sections_of
from cognify_dagster.datasets.scale.staging import Staging, StagingError
from cognify_dagster.datasets.tree import ContentAlgorithm, FileKind, FileLeaf, sha256, shard_of

SHARDS = 4096
SECRET = bytes(range(32))


def leaf(path: bytes, content: bytes = b"") -> FileLeaf:
    return FileLeaf(path, FileKind.FILE, len(content), ContentAlgorithm.SHA256, sha256(content))


def header(tree: FileTree) -> dict:
    fields = tree.fields()
    from cognify_dagster.datasets import dataset_root

    root = dataset_root(tree.tree_root, fields).hex()
    return {
        "format": "cognify/dataset/v1",
        "root": root,
        "data_version": f"sha256:{root}",
        "params": {"shard_bits": 12, "ignore_digest": fields.ignore_digest.hex()},
        "files": {"count": tree.file_count, "total_bytes": tree.total_bytes, "tree_root": tree.tree_root.hex()},
        "records": {"root": fields.record_root.hex()},
    }


def manifest_of(leaves: list[FileLeaf], folder: Path, ranges: int = 8) -> tuple[LargeManifest, Path, FileTree]:
    tree = FileTree(leaves)
    sections = sections_of(PackedFiles.of(leaves), ranges)
    reduced = [reduce_range([rows], *cut) for rows, cut in zip(sections, range_bounds(ranges), strict=True)]
    path = write_whole((part_bytes(item.columns) for item in reduced), tree.shard_roots, str(folder))
    return LargeManifest(path, header(tree)), path, tree


PATHS = st.lists(
    st.lists(
        st.binary(min_size=1, max_size=6).filter(lambda p: not set(p) & {0, 47} and p not in (b".", b"..")),
        min_size=1,
        max_size=3,
    ).map(b"/".join),
    unique=True,
    max_size=60,
)
ANY = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


# --- reduce


@ANY
@given(paths=PATHS, ranges=st.sampled_from([1, 2, 16, 4096]), seed=st.integers(0, 99))
def test_reduced_ranges_have_the_roots_of_the_tree(paths, ranges, seed):
    leaves = [leaf(path, path * 3) for path in paths]
    random.Random(seed).shuffle(leaves)
    cut = seed % (len(leaves) + 1)
    halves = [sections_of(PackedFiles.of(part), ranges) for part in (leaves[:cut], leaves[cut:])]
    found = [
        reduce_range([side[number] for side in halves], first, past)
        for number, (first, past) in enumerate(range_bounds(ranges))
        if ranges < 4096 or any(side[number] for side in halves) or number < 3
    ]
    tree = FileTree(leaves)
    for item in found:
        assert item.range.roots == b"".join(tree.shard_roots[item.range.first : item.range.past])
    if ranges < 4096:
        assert root_from_shards([item.range for item in found])[1] == tree.tree_root
        assert [item.columns.leaf(n) for item in found for n in range(len(item.columns))] == tree.sorted_leaves()


def test_it_reduces_as_the_plain_function_does():
    leaves = [leaf(b"d%d/f%d" % (i % 7, i), b"x" * i) for i in range(300)]
    rows = rows_of(PackedFiles.of(leaves))
    plain, fast = reduce_shard_range([rows], 0, SHARDS), reduce_range([rows], 0, SHARDS)
    assert (plain.roots, plain.files, plain.total_bytes) == (fast.range.roots, fast.range.files, fast.range.total_bytes)
    assert read_file_manifest(part_bytes(fast.columns)) == read_file_manifest(plain.manifest_part())


def test_rows_that_are_damaged_or_lie_in_a_wrong_place_are_refused():
    rows = rows_of(PackedFiles.of([leaf(b"a"), leaf(b"b")]))
    with pytest.raises(DatasetError, match="occurs twice"):
        reduce_range([rows, rows], 0, SHARDS)
    shard = shard_of(b"a")
    for bad in (rows[:-1], rows[:20], b"\xff" * 100):
        with pytest.raises(DatasetError):
            reduce_range([bad], 0, SHARDS)
    moved = ((shard + 1) % SHARDS).to_bytes(2, "big") + rows[2:]
    with pytest.raises(DatasetError, match="where it does not belong"):
        reduce_range([moved], 0, SHARDS)
    with pytest.raises(DatasetError, match="where it does not belong"):
        reduce_range([rows], shard + 1, shard + 2)
    for path in (b"../x", b"/x", b"a//b", b"a/", b"a\x00b", b"."):
        row = steps_row(path)
        with pytest.raises(SourceError):
            reduce_range([row], 0, SHARDS)
    for ranges in (0, 3, 8192):
        with pytest.raises(DatasetError, match="cut into"):
            range_bounds(ranges)
    assert [range_of(n, 4) for n in (0, 1023, 1024, 4095)] == [0, 0, 1, 3]


def steps_row(path: bytes) -> bytes:
    from cognify_dagster.datasets.scale.reducing import ROW

    return ROW.pack(shard_of(path), 1, 1, len(path), 0, bytes(32)) + path


# --- manifests, differences, proofs


@ANY
@given(paths=PATHS, data=st.data())
def test_a_manifest_that_is_read_in_parts_says_what_one_read_whole_says(tmp_path_factory, paths, data):
    folder = tmp_path_factory.mktemp("m")
    leaves = [leaf(path, path) for path in paths]
    manifest, path, tree = manifest_of(leaves, folder)
    assert read_file_manifest(path.read_bytes()) == tree.sorted_leaves()
    check_header(header(tree), read_file_manifest(path.read_bytes()))
    assert manifest.verify() == len(leaves)
    wanted = data.draw(st.sampled_from(paths)) if paths and data.draw(st.booleans()) else b"not/there"
    proof = prove_in_manifest(manifest, wanted)
    assert proof == prove_file(tree, wanted, tree.fields())
    verify_proof(proof, bytes.fromhex(header(tree)["root"]))


@ANY
@given(old=PATHS, new=PATHS, seed=st.integers(0, 9))
def test_differences_are_those_of_the_whole_lists(tmp_path_factory, old, new, seed):
    folder = tmp_path_factory.mktemp("m")
    kept = [path for number, path in enumerate(old) if (number + seed) % 3]
    new = list(dict.fromkeys([*kept, *new]))
    before = [leaf(path, path) for path in old]
    after = [leaf(path, path if (n + seed) % 4 else path + b"!") for n, path in enumerate(new)]
    left, _, _ = manifest_of(before, folder)
    right, _, _ = manifest_of(after, folder)
    found = diff_manifests(left, right)
    whole = diff_files(before, after)
    small = diff_files(found.old, found.new)
    assert (small.added, small.removed, small.changed, small.renamed) == (
        whole.added,
        whole.removed,
        whole.changed,
        whole.renamed,
    )
    assert found.unchanged == whole.unchanged
    assert found.shards == len({shard_of(item.path) for item in found.old + found.new})


def test_only_row_groups_with_shards_that_differ_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cognify_dagster.datasets.scale.manifests.ROW_GROUP", 100)
    before = [leaf(b"f%d" % i, b"%d" % i) for i in range(2000)]
    after = [leaf(item.path, b"new") if item.path == b"f77" else item for item in before]
    left, path, _ = manifest_of(before, tmp_path)
    right, _, _ = manifest_of(after, tmp_path)
    groups = pq.ParquetFile(path).metadata.num_row_groups
    assert groups > 10
    found = diff_manifests(left, right)
    assert [item.path for item in found.new] == [b"f77"]
    assert found.shards == 1
    assert (left.groups_read, right.groups_read) == (1, 1)
    prove_in_manifest(left, b"f3")
    assert left.groups_read == 2
    assert left.verify() == 2000


def test_a_manifest_without_notes_is_read_too(tmp_path):
    leaves = [leaf(b"f%d" % i, b"%d" % i) for i in range(500)]
    tree = FileTree(leaves)
    plain = LargeManifest(file_manifest_bytes(leaves), header(tree))
    assert plain.shard_roots == tree.shard_roots
    assert plain.verify() == 500
    noted, _, _ = manifest_of([leaf(b"f%d" % i, b"%d" % (i or 7)) for i in range(500)], tmp_path)
    assert [item.path for item in diff_manifests(plain, noted).new] == [b"f0"]
    assert prove_in_manifest(plain, b"f3") == prove_file(tree, b"f3", tree.fields())


def test_altered_manifests_are_refused(tmp_path):
    leaves = [leaf(b"f%d" % i, b"%d" % i) for i in range(50)]
    manifest, path, tree = manifest_of(leaves, tmp_path)
    said = header(tree)
    table = pq.read_table(path)
    notes = pq.ParquetFile(path).metadata.metadata

    def rewritten(changed: pa.Table, **more: str) -> bytes:
        out = pa.BufferOutputStream()
        with pq.ParquetWriter(out, changed.schema, store_schema=False, compression="zstd") as writer:
            writer.write_table(changed)
            kept = {key.decode(): value.decode() for key, value in notes.items() if key.startswith(b"cognify")}
            writer.add_key_value_metadata(kept | more)
        return out.getvalue().to_pybytes()

    digests = table.column("digest").to_pylist()
    digests[3] = bytes(32)
    forged = table.set_column(5, table.schema.field("digest"), pa.array(digests, pa.binary(32)))
    bad = LargeManifest(rewritten(forged), said)
    with pytest.raises(ManifestError, match="do not give its root"):
        bad.verify()
    with pytest.raises(ManifestError, match="another snapshot"):
        LargeManifest(rewritten(table.slice(1)), said)
    with pytest.raises(ManifestError, match="another snapshot"):
        LargeManifest(file_manifest_bytes([leaf(b"g%d" % i) for i in range(50)]), said)
    for note in ("!", "AAAA"):
        with pytest.raises(ManifestError, match="footer"):
            LargeManifest(rewritten(table, **{"cognify.shard_roots": note}), said)
    hidden = LargeManifest(rewritten(table, **{"cognify.row_groups": "[[0,1]]"}), said)
    with pytest.raises(ManifestError, match="altered"):
        prove_in_manifest(hidden, next(item.path for item in leaves if shard_of(item.path) > 1))
    with pytest.raises(ManifestError):
        LargeManifest(b"PAR1 no", said)
    assert manifest.verify() == 50


def test_a_proof_file_from_one_shard_is_that_from_the_whole_list(files, tmp_path):
    snapshot = take_snapshot(files, name="d", provenance=Provenance())
    opened = LargeManifest(manifest_bytes(snapshot), snapshot.header)
    for path in (b"d0/f5", b"not/there"):
        value = file_proof_file(snapshot.header, opened, path)
        assert value == file_proof_file(snapshot.header, snapshot.files, path)
        check_proof_file(value, bytes.fromhex(snapshot.root))
    other = take_snapshot(files / "d1", name="d", provenance=Provenance())
    with pytest.raises(ManifestError, match="another snapshot"):
        file_proof_file(other.header, opened, b"d0/f5")


# --- staging


def test_staged_bytes_are_checked_when_they_are_read(tmp_path):
    staging = Staging(tmp_path / "s")
    name = staging.put("rows", b"hello")
    assert staging.put("rows", b"hello") == name
    assert staging.get(name) == b"hello"
    assert os.listdir(tmp_path / "s") == [name]
    assert staging.get_part(name, 1, 2, sha256(b"el").hex()) == b"el"
    (tmp_path / "s" / name).write_bytes(b"other")
    with pytest.raises(StagingError, match="does not hold what"):
        staging.get(name)
    with pytest.raises(StagingError, match="does not hold what"):
        staging.get_part(name, 1, 2, sha256(b"el").hex())
    for bad in ("../x", "rows-" + "0" * 63, "/etc/passwd"):
        with pytest.raises(StagingError, match="no name"):
            staging.get(bad)
    staging.clear()
    with pytest.raises(StagingError, match="Start a new run"):
        staging.get(name)
    staging.clear()


def test_a_staging_place_may_be_an_address():
    staging = Staging("memory://staging/one")
    name = staging.put_json("plan", {"a": [1]})
    assert staging.get_json(name) == {"a": [1]}
    assert staging.get_part(name, 0, 1, sha256(b"{").hex()) == b"{"
    staging.clear()
    with pytest.raises(StagingError):
        staging.get(name)
    staging.clear()


# --- a snapshot in steps


@contextlib.contextmanager
def in_steps(source: object, staging: Staging, *, secret=None, shuffle=1, provenance=None, **options):
    job, portions = steps.list_portions(staging, str(source), personal=secret is not None, **options)
    draw = random.Random(shuffle)
    mapped = [steps.map_portion(staging, job, item) for item in draw.sample(portions, len(portions))]
    parts = steps.plan_records(staging, job, mapped)
    records = [steps.map_records(staging, job, part, secret) for part in parts]
    ranges = steps.plan_ranges(staging, job, mapped, records)
    reduced = [steps.reduce_step(staging, job, item) for item in draw.sample(ranges, len(ranges))]
    with finish(staging, job, reduced, name="d", provenance=provenance or Provenance(), secret=secret) as found:
        yield found


@pytest.fixture
def files(tmp_path) -> Path:
    folder = tmp_path / "data"
    for i in range(60):
        target = folder / f"d{i % 5}" / f"f{i}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"%d" % i * (i % 30))
    (folder / "d0" / "link").symlink_to("../d1/f1")
    (folder / os.fsdecode(b"odd\xff\nname")).write_bytes(b"odd")
    (folder / "leave.tmp").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(("portion", "ranges"), [(1, 1), (7, 4), (1000, 64), (1000, None)])
def test_the_root_is_that_of_one_machine_however_the_work_is_cut(files, tmp_path, portion, ranges):
    truth = take_snapshot(files, name="d", provenance=Provenance(), ignore=["*.tmp"])
    staging = Staging(tmp_path / "s")
    with in_steps(files, staging, ignore=["*.tmp"], portion_files=portion, ranges=ranges) as found:
        snapshot = found.snapshot
        assert snapshot.data_version == truth.data_version
        assert (snapshot.file_count, snapshot.total_bytes, snapshot.ignored) == (62, truth.total_bytes, truth.ignored)
        assert {**snapshot.header, "tools": 0} == {**truth.header, "tools": 0}
        check_header(snapshot.header, read_file_manifest(found.manifest.read_bytes()))
        assert list(snapshot.files) == list(truth.files) == read_file_manifest(manifest_bytes(truth))
        assert LargeManifest(found.manifest, snapshot.header).verify() == 62
        where = found.manifest
    assert not where.exists()


def tables(folder: Path, kind: str) -> Path:
    folder.mkdir()
    for number in range(5):
        rows = pa.table(
            {
                "id": list(range(number * 10, number * 10 + 10)),
                "amount": [0.5 * i if number == 4 else i for i in range(10)],
                "name": [None if i == 3 else f"n{i}" for i in range(10)],
            }
        )
        path = folder / f"part-{number}.{kind}"
        if kind == "parquet":
            pq.write_table(rows, path)
        elif kind == "csv":
            from pyarrow import csv

            csv.write_csv(rows, path)
        else:
            import json

            path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    (folder / "_SUCCESS").write_text("")
    return folder


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("secret", [None, SECRET])
def test_records_have_the_root_of_one_machine_though_files_differ_in_types(tmp_path, kind, secret):
    """`amount` is a whole number in four files and a fraction in the fifth: all have to be fractions, as in one table."""
    folder = tables(tmp_path / "data", kind)
    provenance = Provenance(contains_personal_data=secret is not None)
    truth = take_snapshot(folder, name="d", provenance=provenance, record_hmac_key=secret)
    assert truth.record_count == 50
    with in_steps(
        folder, Staging(tmp_path / "s"), secret=secret, portion_files=2, ranges=8, provenance=provenance
    ) as found:
        snapshot = found.snapshot
        assert snapshot.data_version == truth.data_version
        assert (snapshot.record_root, snapshot.schema_hash) == (truth.record_root, truth.schema_hash)
        assert snapshot.record_digests == truth.record_digests
        assert snapshot.header["records"] == truth.header["records"]
        assert snapshot.header["schema"] == truth.header["schema"]
    with in_steps(folder, Staging(tmp_path / "s"), records=False) as found:
        bare = take_snapshot(folder, name="d", provenance=Provenance(), records=False)
        assert found.snapshot.data_version == bare.data_version
        assert found.snapshot.record_root is None


def test_personal_records_are_not_digested_without_a_key(tmp_path):
    folder, staging = tables(tmp_path / "data", "csv"), Staging(tmp_path / "s")
    job, portions = steps.list_portions(staging, str(folder), personal=True)
    parts = steps.plan_records(staging, job, [steps.map_portion(staging, job, item) for item in portions])
    with pytest.raises(DatasetError, match="keyed"):
        steps.map_records(staging, job, parts[0])


def test_what_was_listed_is_what_is_hashed(files, tmp_path):
    staging = Staging(tmp_path / "s")
    truth = take_snapshot(files, name="d", provenance=Provenance())
    job, portions = steps.list_portions(staging, str(files), portion_files=10)
    (files / "came-later").write_bytes(b"new")
    mapped = [steps.map_portion(staging, job, item) for item in portions]
    ranges = steps.plan_ranges(staging, job, mapped, [])
    reduced = [steps.reduce_step(staging, job, item) for item in ranges]
    with finish(staging, job, reduced, name="d", provenance=Provenance()) as found:
        assert found.snapshot.data_version == truth.data_version
    with (
        pytest.raises(DatasetError, match="were listed, but"),
        finish(
            staging,
            job,
            [steps.reduce_step(staging, job, item) for item in steps.plan_ranges(staging, job, mapped[1:], [])],
            name="d",
            provenance=Provenance(),
        ),
    ):
        pass
    (files / "d0" / "f0").unlink()
    names = [item for item in portions if b'"f0"' in staging.get(item)]
    with pytest.raises(SourceError, match="f0"):
        steps.map_portion(staging, job, names[0])


def test_a_table_that_changed_between_hashing_and_reading_is_refused(tmp_path):
    folder, staging = tables(tmp_path / "data", "csv"), Staging(tmp_path / "s")
    job, portions = steps.list_portions(staging, str(folder))
    parts = steps.plan_records(staging, job, [steps.map_portion(staging, job, item) for item in portions])
    text = (folder / "part-3.csv").read_bytes()
    (folder / "part-3.csv").write_bytes(text.replace(b"31", b"13"))
    with pytest.raises(SourceChangedError, match=r"part-3\.csv"):
        steps.map_records(staging, job, parts[0])


def test_a_step_done_again_leaves_the_same_names(files, tmp_path):
    staging = Staging(tmp_path / "s")
    job, portions = steps.list_portions(staging, str(files), portion_files=20)
    assert steps.list_portions(staging, str(files), portion_files=20) == (job, portions)
    first = steps.map_portion(staging, job, portions[0])
    assert steps.map_portion(staging, job, portions[0]) == first


def test_remote_objects_have_the_same_root_and_a_replaced_one_is_refused(files, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for number in range(30):
        memory.pipe_file(f"/scale/d{number % 3}/f{number}", b"%d" % number * 9)
    with in_steps("memory://scale", Staging(tmp_path / "s"), portion_files=8, ranges=4) as found:
        truth = take_snapshot("memory://scale", name="d", provenance=Provenance())
        assert found.snapshot.data_version == truth.data_version
        assert found.snapshot.location == truth.location
    staging = Staging(tmp_path / "s")
    job, portions = steps.list_portions(staging, "memory://scale")
    memory.pipe_file("/scale/d0/f0", b"longer than before, much longer")
    with pytest.raises(SourceChangedError, match="d0/f0"):
        steps.map_portion(staging, job, portions[0])
    memory.rm("/scale", recursive=True)


def test_what_cannot_be_snapshotted_in_steps_is_refused(tmp_path, monkeypatch):
    staging = Staging(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no files"):
        steps.list_portions(staging, str(tmp_path / "empty"))
    with pytest.raises(SourceError, match="does not exist"):
        steps.list_portions(staging, str(tmp_path / "nothing"))
    with pytest.raises(SourceError, match="pass a path"):
        steps.list_portions(staging, pa.table({"a": [1]}))  # type: ignore[arg-type]
    (tmp_path / "empty" / "a").write_bytes(b"")
    with pytest.raises(SourceError, match="0 bytes"), in_steps(tmp_path / "empty", staging):
        pass
    monkeypatch.setattr(steps, "MAX_FILES", 2)
    for name in "bcd":
        (tmp_path / "empty" / name).write_bytes(b"1")
    with pytest.raises(SourceError, match="partitioned dataset"):
        steps.list_portions(staging, str(tmp_path / "empty"))
    folder = tables(tmp_path / "data", "csv")
    (folder / "part-9.csv").write_text("other,columns\n1,2\n")
    monkeypatch.undo()
    with pytest.raises(TableError, match=r"part-9\.csv"), in_steps(folder, staging, portion_files=2):
        pass


def test_recorded_differences_are_the_same_whether_or_not_the_manifests_are_held_whole(tmp_path, monkeypatch):
    from cognify_dagster.datasets.compare import snapshots
    from cognify_dagster.datasets.recording import record_snapshot, snapshots_of
    from tests.governance.world import make_world

    workspace = make_world(tmp_path / "world").workspace
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(150):
        (folder / f"f{number}").write_bytes(b"%d" % number)
    record_snapshot(workspace, take_snapshot(folder, name="d", provenance=Provenance()), run="one")
    (folder / "f1").write_bytes(b"changed")
    (folder / "f2").unlink()
    (folder / "f3").rename(folder / "g3")
    (folder / "new").write_bytes(b"new")
    record_snapshot(workspace, take_snapshot(folder, name="d", provenance=Provenance()), run="two")
    held = snapshots_of(workspace.read(), "d")
    pairs = [(None, held[0]), (held[0], held[1]), (held[1], held[1])]
    whole = [snapshots.diff_snapshots(workspace, *pair) for pair in pairs]
    monkeypatch.setattr(snapshots, "LARGE_FILES", 10)
    parts = [snapshots.diff_snapshots(workspace, *pair) for pair in pairs]
    assert parts == whole
    assert (whole[1].files.changed, whole[1].files.removed, whole[1].files.renamed) == (1, 1, 1)
