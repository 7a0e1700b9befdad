"""Google and Azure storage through obstore: settings are translated or refused, and a store of obstore gives the same leaves as a folder.

No server for these providers runs here: what is said about their answers rests on obstore's store in memory.
"""

from __future__ import annotations

import hashlib
from typing import Any

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, MemoryStore

from cognify_dagster.datasets import SourceChangedError, SourceError, take_snapshot
from cognify_dagster.datasets.sources import opening
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.objects import UntranslatableError
from cognify_dagster.datasets.sources.objects_cloud import cloud_store
from cognify_dagster.datasets.tree import CHUNK_SIZE

CONTENT = {"a": b"1", "b/c": b"22", "b/empty": b"", "big": bytes(CHUNK_SIZE + 3)}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore()
    monkeypatch.setattr(opening, "cloud_store", lambda url, options: (made, url.split("/", 3)[3].strip("/"), "gs://b"))
    return made


def put(store: MemoryStore, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        obstore.put(store, f"p/{name}", data)


def test_the_same_data_has_the_same_root_as_on_disk(tmp_path, store, provenance):
    put(store, CONTENT)
    obstore.put(store, "p2/x", b"beside")
    for name, data in CONTENT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    on_disk = take_snapshot(tmp_path, name="d", provenance=provenance)
    for url in ("gs://b/p", "az://b/p/"):
        taken = take_snapshot(url, name="d", provenance=provenance)
        assert (taken.root, taken.header["evidence"]["hashed"]) == (on_disk.root, 4)
    single = opening.open_source("gs://b/p/a")
    assert single.is_file
    assert [item.path for item in single.entries(IgnoreRules(()))[0]] == [b"a"]
    with pytest.raises(SourceError, match="does not exist"):
        opening.open_source("gs://b/none")


def test_unchanged_objects_are_not_read_again(tmp_path, store, provenance):
    put(store, CONTENT)
    index = tmp_path / "index"
    first = take_snapshot("gs://b/p", name="d", provenance=provenance, index=index)
    put(store, {"a": b"2"})
    again = take_snapshot("gs://b/p", name="d", provenance=provenance, index=index)
    assert (again.header["evidence"]["hashed"], again.header["evidence"]["provider"]) == (1, 3)
    assert again.root != first.root
    assert again.root == take_snapshot("gs://b/p", name="d", provenance=provenance).root


def test_an_object_replaced_or_gone_after_the_listing_is_named(store):
    put(store, CONTENT)
    source: Any = opening.open_source("gs://b/p")
    found, _ = source.entries(IgnoreRules(()))
    put(store, {"a": b"3"})
    with pytest.raises(SourceChangedError, match=r"object a .* was replaced"):
        list(source.hash_many(found))
    assert source.read(found[1], 10) == b"22"
    obstore.delete(store, "p/b/c")
    with pytest.raises(SourceChangedError, match=r"object b/c .* vanished"):
        source.read(found[1], 10)


def test_folder_markers_have_no_leaf(store, monkeypatch):
    put(store, {"x": b"1"})
    real = obstore.list

    def with_marker(*arguments: Any, **more: Any) -> Any:
        yield from real(*arguments, **more)
        yield [{**obstore.head(store, "p/x"), "path": "p/folder", "size": 0}]  # how obstore shows "p/folder/"

    monkeypatch.setattr(obstore, "list", with_marker)
    found, _ = opening.open_source("gs://b/p").entries(IgnoreRules(()))
    assert [item.path for item in found] == [b"x"]


@pytest.mark.parametrize(
    ("url", "options", "kind", "key", "place"),
    [
        ("gs://b/p/q/", {"token": "anon"}, GCSStore, "p/q", "gs://b"),
        ("az://c/p", {"account_name": "acc", "anon": True}, AzureStore, "p", "az://acc/c"),
        ("az://c/p", {"account_name": "acc", "account_key": "c2VjcmV0"}, AzureStore, "p", "az://acc/c"),
        ("abfs://c@acc.dfs.core.windows.net/p", {"anon": True}, AzureStore, "p", "az://acc/c"),
    ],
)
def test_settings_are_translated(url, options, kind, key, place):
    store, *rest = cloud_store(url, options)
    assert isinstance(store, kind)
    assert rest == [key, place]
    assert "c2VjcmV0" not in repr(store)


@pytest.mark.parametrize(
    ("url", "options", "match"),
    [
        ("gs://b/p", {"token": {"client_email": "x"}}, "token is for gcsfs"),
        ("gs://b/p", {"token": "anon", "requester_pays": True}, "requester_pays is for gcsfs"),
        ("az://c/p", {}, "account_name is missing"),
        ("az://c/p", {"account_name": "a", "connection_string": "x"}, "connection_string is for adlfs"),
    ],
)
def test_settings_without_an_equivalent_are_left_to_fsspec(url, options, match):
    with pytest.raises(UntranslatableError, match=match):
        cloud_store(url, options)


def test_where_obstore_cannot_and_fsspec_has_no_package_that_is_said():
    with pytest.raises(SourceError, match="package that is not installed"):
        opening.open_source("gs://b/p", {"token": {"a": "b"}})


def test_digests_are_those_of_the_bytes(store):
    put(store, {"a": b"abc"})
    source: Any = opening.open_source("gs://b/p")
    ((_, leaf),) = source.hash_many(source.entries(IgnoreRules(()))[0])
    assert leaf.digest == hashlib.sha256(b"abc").digest()
