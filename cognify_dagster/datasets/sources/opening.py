"""What a dataset can be made from, and the two things done with it: hashing its files and reading its table.

A source is a local path (file or folder), an fsspec address, or a table in memory. A table in memory has no files: its
snapshot has an empty file tree, and its record root stands for the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError, SourceChangedError, SourceError
from cognify_dagster.datasets.hashing.progress import Progress
from cognify_dagster.datasets.records.tables import MAX_TABLE_BYTES, concat_tables, format_of, parse_table, to_arrow
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found, LocalSource
from cognify_dagster.datasets.sources.objects import UntranslatableError, tuned_options
from cognify_dagster.datasets.sources.objects_cloud import PROTOCOLS, CloudObjects, cloud_store
from cognify_dagster.datasets.sources.objects_errors import classify, source_failed
from cognify_dagster.datasets.sources.remote import RemoteSource, redact
from cognify_dagster.datasets.tree import FileKind, FileLeaf, content_digest, show_path

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TableSource:
    """A table in memory."""

    table: pa.Table
    kind: str = "table"

    def describe(self) -> str:
        """What stands in messages in place of a location."""
        return "table in memory"


Source = LocalSource | RemoteSource | TableSource


def open_source(
    source: Any, storage_options: Mapping[str, Any] | None = None, *, trust_checksums: bool = False
) -> Source:
    """Find out what a source is.

    Args:
        source: path, fsspec address, or table.
        storage_options: arguments for the fsspec filesystem.
        trust_checksums: see :class:`~cognify_dagster.datasets.sources.remote.RemoteSource`.

    Raises:
        SourceError: the source does not exist, cannot be reached, or is nothing known.
        TableError: a table cannot be read.
    """
    if isinstance(source, LocalSource | RemoteSource | TableSource):
        return source
    if isinstance(source, str) and ("://" in source or "::" in source):
        return _open_url(source, dict(storage_options or {}), trust_checksums)
    if isinstance(source, str | os.PathLike):
        return LocalSource(source)
    table = to_arrow(source)
    if table is None:
        raise SourceError(
            f"a {type(source).__name__} is not a dataset source; pass a path, an fsspec address, or a pandas, polars or Arrow table"
        )
    return TableSource(table)


def _open_url(url: str, options: dict[str, Any], trust_checksums: bool) -> Source:
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    protocol = url.partition("://")[0]
    if protocol in PROTOCOLS:
        cloud = _open_cloud(url, options, trust_checksums)
        if cloud is not None:
            return cloud
    try:
        fs, root = url_to_fs(url, **tuned_options(protocol, options))
    except ImportError as exc:
        raise SourceError(f"source {redact(url)} needs a package that is not installed: {exc}") from None
    except Exception as exc:
        raise SourceError(
            f"source {redact(url)} cannot be opened ({type(exc).__name__}: {redact(str(exc))[:300]})"
        ) from None
    if isinstance(fs, LocalFileSystem):
        return LocalSource(root)
    return RemoteSource(url, fs, root, trust_checksums=trust_checksums)


def _open_cloud(url: str, options: dict[str, Any], trust_checksums: bool) -> Source | None:
    """A source on Google or Azure storage through obstore; None where that is not possible and fsspec has to do."""
    try:
        store, key, place = cloud_store(url, options)
    except UntranslatableError:
        return None
    except Exception as exc:
        raise source_failed(redact(url), "cannot be opened", classify(exc)) from None
    objects = CloudObjects(store, key, place, redact(url), folder=url.endswith("/"))
    return RemoteSource(url, None, key, trust_checksums=trust_checksums, objects=objects)


def table_files(found: Iterable[Found]) -> tuple[str | None, list[Found]]:
    """Which of a source's files hold its records, and their format.

    A source has records if all its files, apart from those whose name starts with ``_`` or ``.``, are table files of one
    format. Otherwise it is taken as files only. Looking ends with the first file that decides this.
    """
    data: list[Found] = []
    fmt: str | None = None
    for item in found:
        if item.path.rpartition(b"/")[2].startswith((b"_", b".")):
            continue
        here = format_of(item.path) if item.kind is FileKind.FILE else None
        if here is None or fmt not in (None, here):
            return None, []
        fmt = here
        data.append(item)
    data.sort(key=lambda item: item.path)
    return fmt, data


def read_files(
    source: LocalSource | RemoteSource,
    files: Sequence[Found],
    leaves: Mapping[bytes, FileLeaf] | None = None,
    types: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """Read table files into one table, in path order.

    Args:
        source: where the files are.
        files: the table files.
        leaves: leaves by path; the bytes parsed must have the leaf's digest.
        types: recorded column types for CSV.
        progress: see :data:`Progress`.

    Raises:
        SourceChangedError: a file is no longer the one that was hashed.
        TableError: a file is not a table.
    """
    parts = []
    for done, item in enumerate(files, start=1):
        data = source.read(item, MAX_TABLE_BYTES)
        leaf = leaves.get(item.path) if leaves is not None else None
        if leaf is not None and (len(data), *content_digest(data)) != (leaf.size, leaf.algorithm, leaf.digest):
            raise SourceChangedError(
                f"file {show_path(item.path)} changed between hashing and reading; "
                "take the snapshot when nothing writes to it"
            )
        parts.append((show_path(item.path), parse_table(data, item.path, types)))
        if progress:
            progress("read", done, len(files))
    return concat_tables(parts)


def read_table(
    source: Any, *, ignore: Sequence[str] = (), storage_options: Mapping[str, Any] | None = None
) -> pa.Table:
    """The table that a source holds, read as a snapshot reads it.

    Raises:
        SourceError: the source is missing or unreadable.
        TableError: it holds no table.
    """
    opened = open_source(source, storage_options)
    if isinstance(opened, TableSource):
        return opened.table
    found, _ = opened.entries(IgnoreRules(ignore))
    fmt, files = table_files(found)
    if fmt is None:
        raise DatasetError(f"source {opened.describe()} holds no table (CSV, Parquet or JSON Lines files of one kind)")
    return read_files(opened, files)
