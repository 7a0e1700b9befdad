"""A snapshot in steps, each a function of small JSON names that any executor can run anywhere: list, map, records, reduce, finish.

::

    job, portions = list_portions(staging, source)
    mapped  = [map_portion(staging, job, p) for p in portions]            # side by side: lists of names to hashed rows
    parts   = plan_records(staging, job, mapped)                          # the schema that all table files have together
    records = [map_records(staging, job, p, secret) for p in parts]       # side by side: rows to record digests
    ranges  = plan_ranges(staging, job, mapped, records)
    reduced = [reduce_step(staging, job, r) for r in ranges]              # side by side: by shard, and by digest
    staged  = finish(staging, job, reduced, name=…, provenance=…)

Arguments and results are short names of what lies in the staging place; the rows themselves never pass through the executor.

Invariants:
    * The root is that of :func:`cognify_dagster.datasets.take_snapshot` on the same data, however the work was cut.
    * What the first step listed is what is hashed: a file that is gone, or another one, by the time of its step is an error by name.
      What came after the listing is not part of the snapshot.
    * A step that is done again leaves the same bytes under the same names.
    * Record digests are made from bytes that have the digest of their leaf.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError, SourceChangedError, SourceError
from cognify_dagster.datasets.hashing.mapreduce import leaves_of
from cognify_dagster.datasets.hashing.packed import PackedFiles
from cognify_dagster.datasets.hashing.run import hash_names
from cognify_dagster.datasets.records.tables import format_of
from cognify_dagster.datasets.scale.reducing import SHARDS, range_bounds, reduce_range, sections_of
from cognify_dagster.datasets.scale.staging import Staging
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found, LocalSource
from cognify_dagster.datasets.sources.opening import TableSource, open_source
from cognify_dagster.datasets.sources.remote import RemoteSource
from cognify_dagster.datasets.tree import FileKind, FileLeaf, show_path, symlink_leaf

if TYPE_CHECKING:
    import pyarrow as pa

PORTION_FILES = 100_000
"""Files in a map step, unless asked otherwise."""
RANGE_FILES = 1_000_000
"""Files in a reduce step, about, unless asked otherwise."""
MAX_FILES = 40_000_000
"""Files of one snapshot: about what a manifest of 2 GiB holds, the most evidence that is read at once."""


def text_of(path: bytes) -> str:
    """A path as JSON text, from which the same bytes come back."""
    return path.decode("utf-8", "surrogateescape")


def path_of(text: str) -> bytes:
    """The path of :func:`text_of`."""
    return text.encode("utf-8", "surrogateescape")


def _open(job: Mapping[str, Any]) -> LocalSource | RemoteSource:
    opened = open_source(job["source"])
    if isinstance(opened, TableSource):  # pragma: no cover - list_portions lets none through
        raise SourceError("a table in memory is not snapshotted in steps")
    return opened


# --- list ---------------------------------------------------------------------------------------------------------------


def list_portions(
    staging: Staging,
    source: str,
    *,
    ignore: Sequence[str] = (),
    records: bool = True,
    portion_files: int = PORTION_FILES,
    ranges: int | None = None,
    personal: bool = False,
) -> tuple[str, list[str]]:
    """List a source once; leave its names in portions.

    Args:
        staging: where.
        source: local path or fsspec address; every step has to reach the same data by it.
        ignore: ignore rules.
        records: False takes files only, even if they are tables.
        portion_files: files in a portion.
        ranges: into how many ranges the shards are cut, a power of two; by the number of files unless given.
        personal: records are personal data: without a key they are not digested.

    Returns:
        The name of the job, and those of the portions.

    Raises:
        SourceError: something cannot be listed, there is nothing, or there are more files than one snapshot can have.
    """
    if portion_files < 1:
        raise DatasetError(f"a portion needs at least one file, not {portion_files}")
    if not isinstance(source, str):
        raise SourceError(f"a {type(source).__name__} is not snapshotted in steps: pass a path or an fsspec address")
    rules = IgnoreRules(ignore)
    opened = open_source(source)
    if isinstance(opened, TableSource):
        raise SourceError("a table in memory is not snapshotted in steps: pass a path or an fsspec address")
    kind = _TableKind(records)
    names, links, ignored, count = [], [], 0, 0
    if isinstance(opened, LocalSource):
        with opened.open_root() as root:
            walk = opened.walk(root, rules)
            for portion, found_links in _local_portions(walk, portion_files, kind):
                links += found_links
                if portion:
                    names.append(staging.put_json("names", {"folders": portion}))
                    count += sum(len(files) for _, files in portion)
                if count + len(links) > MAX_FILES:
                    break
            ignored = walk.ignored
    else:
        found, ignored = opened.entries(rules)
        for item in found:
            kind.add(item.path, item.kind)
        count = len(found)
        for start in range(0, count, portion_files):
            portion_of = [_packed_found(item) for item in found[start : start + portion_files]]
            names.append(staging.put_json("names", {"objects": portion_of}))
    total = count + len(links)
    if total > MAX_FILES:
        raise SourceError(
            f"source {opened.describe()} holds more than {MAX_FILES:,} files, more than the manifest of one snapshot can name; "
            "make it a partitioned dataset, with a part of the names in each partition"
        )
    if not total:
        left_out = f"; the ignore rules left out {ignored} entries" if ignored else ""
        raise SourceError(f"source {opened.describe()} holds no files{left_out}; a dataset cannot be empty")
    if ranges is None:
        ranges = 1
        while ranges < SHARDS and ranges * RANGE_FILES < total:
            ranges *= 2
    range_bounds(ranges)
    job = {
        "source": source,
        "ignore": list(rules.rules),
        "ignored": ignored,
        "location": opened.describe(),
        "files": total,
        "ranges": ranges,
        "format": kind.result,
        "personal": personal,
    }
    job["links"] = _put_rows(staging, sections_of(PackedFiles.of(links), ranges), len(links)) if links else None
    return staging.put_json("job", job), names


class _TableKind:
    """Whether the files seen so far are the parts of one table; see :func:`.table_files`."""

    def __init__(self, wanted: bool) -> None:
        self._alive, self._fmt = wanted, None

    def add(self, path: bytes, kind: FileKind) -> None:
        if not self._alive or _aside(path):
            return
        here: Any = format_of(path) if kind is FileKind.FILE else None
        if here is None or self._fmt not in (None, here):
            self._alive = False
        self._fmt = here

    @property
    def result(self) -> str | None:
        return self._fmt if self._alive else None


def _aside(path: bytes) -> bool:
    return path.rpartition(b"/")[2].startswith((b"_", b"."))


def _local_portions(
    walk: Any, at_most: int, kind: _TableKind
) -> Iterator[tuple[list[tuple[str, list[str]]], list[FileLeaf]]]:
    portion: list[tuple[str, list[str]]] = []
    links: list[FileLeaf] = []
    room = at_most
    for listed in walk:
        prefix = listed.path + b"/" if listed.path else b""
        for name in listed.files:
            kind.add(prefix + name, FileKind.FILE)
        for name, target in listed.links:
            kind.add(prefix + name, FileKind.SYMLINK)
            links.append(symlink_leaf(prefix + name, target))
        start = 0
        while start < len(listed.files):
            names = [text_of(name) for name in listed.files[start : start + room]]
            portion.append((text_of(listed.path), names))
            start += len(names)
            room -= len(names)
            if not room:
                yield portion, links
                portion, links, room = [], [], at_most
    yield portion, links


def _packed_found(item: Found) -> list[Any]:
    return [text_of(item.path), int(item.kind), item.size, item.token.hex(), item.grade, item.etag, item.version_id]


def _found(value: Sequence[Any]) -> Found:
    path, kind, size, token, grade, etag, version = value
    return Found(path_of(path), FileKind(kind), size, None, bytes.fromhex(token), grade, etag, version)


# --- map ----------------------------------------------------------------------------------------------------------------


def map_portion(staging: Staging, job: str, portion: str) -> str:
    """Hash the files of a portion; leave their rows by shard range, and the schema of those that are tables.

    Raises:
        SourceError: one is gone, cannot be read, or changed.
        TableError: a table file cannot be read.
    """
    task, listed = staging.get_json(job), staging.get_json(portion)
    opened = _open(task)
    if "folders" in listed:
        if not isinstance(opened, LocalSource):
            raise SourceChangedError(f"source {opened.describe()} was a local folder when it was listed")
        folders = [(path_of(path), [path_of(name) for name in names]) for path, names in listed["folders"]]
        files = hash_names(opened, folders)
    else:
        if not isinstance(opened, RemoteSource):
            raise SourceChangedError(f"source {opened.describe()} was an object store when it was listed")
        files = PackedFiles.of(leaf for _, leaf in opened.hash_many([_found(item) for item in listed["objects"]]))
    out = _rows_entry(staging, sections_of(files, task["ranges"]), len(files))
    out["portion"] = portion
    if task["format"] is not None:
        leaves = {path: files.leaf(number) for number, path in enumerate(files.paths) if not _aside(path)}
        if leaves:
            schema = _stream(opened, listed, leaves).schema
            out["schema"] = base64.b64encode(schema.serialize().to_pybytes()).decode()
            out["first"] = text_of(min(leaves))
    return staging.put_json("mapped", out)


def _rows_entry(staging: Staging, sections: Sequence[bytes], count: int) -> dict[str, Any]:
    places, at = [], 0
    for section in sections:
        places.append([at, len(section), hashlib.sha256(section).hexdigest()])
        at += len(section)
    return {"rows": staging.put("rows", b"".join(sections)), "sections": places, "count": count}


def _put_rows(staging: Staging, sections: Sequence[bytes], count: int) -> str:
    return staging.put_json("mapped", _rows_entry(staging, sections, count))


def _section(staging: Staging, entry: Mapping[str, Any], number: int) -> bytes:
    start, length, digest = entry["sections"][number]
    return staging.get_part(entry["rows"], start, length, digest)


# --- records ------------------------------------------------------------------------------------------------------------


def _stream(opened: LocalSource | RemoteSource, listed: Mapping[str, Any], leaves: Mapping[bytes, FileLeaf]) -> Any:
    """The table files of a portion as one stream, in path order."""
    from cognify_dagster.datasets.sources.streaming import TableStream

    if "objects" in listed:
        found = {item.path: item for item in map(_found, listed["objects"])}
        files = [found[path] for path in sorted(leaves)]
    else:
        files = [Found(path, leaves[path].kind, leaves[path].size) for path in sorted(leaves)]
    return TableStream(opened, files, leaves)


def plan_records(staging: Staging, job: str, mapped: Sequence[str]) -> list[str]:
    """The portions whose records are to be digested, with the schema that all of them have together; none if there are no tables.

    Raises:
        TableError: the files' columns do not fit together.
    """
    task = staging.get_json(job)
    if task["format"] is None:
        return []
    import pyarrow as pa

    from cognify_dagster.datasets.records.tables import concat_tables

    schemas = []
    for name in mapped:
        entry = staging.get_json(name)
        if "schema" in entry:
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(entry["schema"])))
            schemas.append((entry["first"], schema.empty_table(), name))
    schemas.sort(key=lambda item: path_of(item[0]))
    if not schemas:
        return []
    common = concat_tables([(show_path(path_of(first)), table) for first, table, _ in schemas]).schema
    text = base64.b64encode(common.serialize().to_pybytes()).decode()
    return [staging.put_json("records", {"mapped": name, "schema": text}) for _, _, name in schemas]


def map_records(staging: Staging, job: str, part: str, secret: bytes | None = None) -> str:
    """Digest the records of a portion's tables; leave the digests, sorted, by range.

    Args:
        staging, job: as before.
        part: of :func:`plan_records`.
        secret: the record key, for personal data.

    Raises:
        SourceChangedError: a file is no longer the one that was hashed.
        TableError: a column cannot be digested.
        DatasetError: personal data without a key.
    """
    import pyarrow as pa

    from cognify_dagster.datasets.records.collecting import RecordCollector

    task, plan = staging.get_json(job), staging.get_json(part)
    if task["personal"] and secret is None:
        raise DatasetError(f"source {task['location']} holds personal data, so its record digests have to be keyed")
    entry = staging.get_json(plan["mapped"])
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(plan["schema"])))
    rows = [_section(staging, entry, number) for number in range(task["ranges"])]
    leaves = {leaf.path: leaf for leaf in leaves_of(rows) if not _aside(leaf.path)}
    stream = _stream(_open(task), staging.get_json(entry["portion"]), leaves)
    with contextlib.closing(RecordCollector((), secret)) as collector:
        for batch in _with_schema(stream.batches(), schema):
            collector.add(batch)
        found, _ = collector.finish()
    packed = found.sorted_digests()
    data, count = packed.view, len(packed)
    sections, start = [], 0
    for _, past in range_bounds(task["ranges"]):
        end = count if past == SHARDS else _first_at(packed, past)
        sections.append(bytes(data[32 * start : 32 * end]))
        start = end
    out = _rows_entry(staging, sections, count)
    out |= {"columns": list(found.columns), "algorithm": int(found.algorithm), "schema_id": found.schema_id.hex()}
    return staging.put_json("digested", out | {"schema": plan["schema"]})


def _with_schema(batches: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa

    empty = schema.empty_table()
    for batch in batches:
        table = batch.select(schema.names)
        yield (table if table.schema == schema else pa.concat_tables([empty, table], promote_options="permissive"))


def _first_at(digests: Sequence[bytes], shard: int) -> int:
    """The first digest whose first 12 bits are at least a number."""
    import bisect

    return bisect.bisect_left(digests, (shard << 4).to_bytes(2, "big"))


# --- reduce -------------------------------------------------------------------------------------------------------------


def plan_ranges(staging: Staging, job: str, mapped: Sequence[str], records: Sequence[str]) -> list[str]:
    """Leave the plan of the reduce steps; return what each of them is given."""
    ranges = staging.get_json(job)["ranges"]
    plan = staging.put_json("plan", {"mapped": sorted(mapped), "records": sorted(records)})
    return [f"{plan}:{number}" for number in range(ranges)]


def reduce_step(staging: Staging, job: str, given: str) -> str:
    """Bring the rows and record digests of one range in order; leave shard roots, a part of the manifest, and the digests.

    Raises:
        DatasetError: a path occurs twice, or rows are damaged.
    """
    from cognify_dagster.datasets.records.packed import sort_packed
    from cognify_dagster.datasets.scale.manifests import part_bytes

    task = staging.get_json(job)
    name, _, number = given.partition(":")
    plan = staging.get_json(name)
    place = int(number)
    first, past = range_bounds(task["ranges"])[place]
    sources = [*plan["mapped"], *([task["links"]] if task["links"] else [])]
    found = reduce_range((_section(staging, staging.get_json(item), place) for item in sources), first, past)
    out: dict[str, Any] = {
        "first": first,
        "past": past,
        "roots": found.range.roots.hex(),
        "files": found.range.files,
        "bytes": found.range.total_bytes,
        "algorithms": list(found.algorithms),
        "part": staging.put("part", part_bytes(found.columns)),
        "digests": None,
    }
    if plan["records"]:
        digests = sort_packed(b"".join(_section(staging, staging.get_json(item), place) for item in plan["records"]))
        out["digests"] = staging.put("digests", bytes(digests.view))
        last = staging.get_json(plan["records"][0])
        out["records"] = {key: last[key] for key in ("columns", "algorithm", "schema_id", "schema")}
    return staging.put_json("reduced", out)
