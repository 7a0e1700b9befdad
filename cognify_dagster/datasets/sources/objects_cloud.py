"""Google Cloud Storage and Azure Blob Storage as dataset source, through obstore alone; no fsspec package for them is needed.

Invariants:
    * The user's settings are followed, or another way is taken: none is dropped.
    * obstore lists ``dir/`` as ``dir``, so what has no bytes is asked for by name, and left out as a folder if it is not there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.sources.objects import Tokens, UntranslatableError
from cognify_dagster.datasets.sources.objects_errors import classify, source_failed
from cognify_dagster.datasets.sources.objects_listing import Listed, bare_etag
from cognify_dagster.datasets.sources.objects_readers import ObstoreReader
from cognify_dagster.datasets.sources.objects_reading import Attempts, Reader
from cognify_dagster.datasets.tree import FileKind

PROTOCOLS = frozenset({"gs", "gcs", "az", "abfs", "abfss"})
_AZURE = {
    "account_name": "account_name",
    "account_key": "account_key",
    "sas_token": "sas_key",
    "tenant_id": "tenant_id",
    "client_id": "client_id",
    "client_secret": "client_secret",
}


def cloud_store(url: str, options: Mapping[str, Any]) -> tuple[Any, str, str]:
    """The obstore store of an address, the path in it, and the place (without credentials) for tokens.

    Raises:
        UntranslatableError: obstore is missing, or an option has no equivalent there.
    """
    if importlib.util.find_spec("obstore") is None:
        raise UntranslatableError("obstore is not installed")
    from obstore.store import AzureStore, GCSStore

    parts = urlsplit(url)
    given = {name: value for name, value in options.items() if value is not None}
    given.pop("skip_instance_cache", None)
    keywords: dict[str, Any] = {
        "retry_config": {"max_retries": 0},
        "client_options": {"timeout": "600s", "read_timeout": "60s"},
    }
    if parts.scheme in ("gs", "gcs"):
        bucket, token = parts.netloc, given.pop("token", None)
        given.pop("project", None)  # it stands for no right to read
        if token == "anon":  # noqa: S105 - a word of gcsfs, no secret
            keywords["skip_signature"] = True
        elif isinstance(token, str) and token.endswith(".json"):
            keywords["service_account"] = token
        elif token not in (None, "google_default"):
            raise UntranslatableError("the storage option token is for gcsfs alone")
        if given:
            raise UntranslatableError(f"the storage option {sorted(given)[0]} is for gcsfs alone")
        return GCSStore(bucket, **keywords), parts.path.strip("/"), f"gs://{bucket}"
    container, _, host = parts.netloc.partition("@")
    if host:
        given.setdefault("account_name", host.partition(".")[0])
    if given.pop("anon", False):
        keywords["skip_signature"] = True
    for name, word in _AZURE.items():
        if name in given:
            keywords[word] = given.pop(name)
    if given:
        raise UntranslatableError(f"the storage option {sorted(given)[0]} is for adlfs alone")
    if "account_name" not in keywords:
        raise UntranslatableError("the storage option account_name is missing")
    return AzureStore(container, **keywords), parts.path.strip("/"), f"az://{keywords['account_name']}/{container}"


class CloudObjects:
    """One object or the objects under a prefix of an obstore store.

    Args:
        store: the store.
        key: path in it.
        place: names the store in tokens.
        location: the address, for messages.
        folder: the address ends in ``/``, so it is not the name of one object.

    Raises:
        SourceError: the store cannot be reached.
    """

    def __init__(self, store: Any, key: str, place: str, location: str, folder: bool) -> None:
        self._store, self.key, self.location = store, key, location
        self._tokens = Tokens(place)
        self.notes: list[str] = []
        head = None if folder or not key else self._ask("cannot be reached", lambda: self._head(key))
        self._single = head
        self.is_file = head is not None
        self.exists = self.is_file or bool(self._ask("cannot be reached", self._first))

    def _ask(self, what: str, request: Callable[[], Any]) -> Any:
        try:
            return Attempts(self.location).ask(request)
        except Exception as exc:
            raise source_failed(self.location, what, classify(exc)) from None

    def _head(self, key: str) -> Listed | None:
        import obstore

        try:
            return _listed(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def _first(self) -> Any:
        import obstore

        return next(iter(obstore.list(self._store, self.key or None, chunk_size=1)), None)

    def objects(self) -> list[Listed]:
        """All objects, in no certain order.

        Raises:
            SourceError: the listing fails.
        """
        if self._single is not None:
            return [self._single]
        return self._ask("cannot be listed", self._list)  # type: ignore[no-any-return]

    def _list(self) -> list[Listed]:
        import obstore

        listed = {}
        for metas in obstore.list(self._store, self.key or None, chunk_size=1000):
            for meta in metas:
                item = _listed(meta)
                if item.key not in listed or item.size > 0:
                    listed[item.key] = item
        return [item for item in listed.values() if item.size > 0 or self._head(item.key) is not None]

    def found(self, item: Listed, path: bytes, checksum: bytes = b"") -> Found:
        """A listed object with its token; these stores' checksums are no SHA-256, so ``checksum`` is not used."""
        token = self._tokens.token("etag", item.key, item.etag, item.size, item.modified) if item.etag else b""
        return Found(path, FileKind.FILE, item.size, None, token, "etag" if token else "", item.etag)

    def reader(self, key_of: Callable[[Found], str]) -> Reader:
        """Reads through obstore."""
        return ObstoreReader(self._store, self.location, key_of, None)

    def checksums(self, objects: Sequence[Any]) -> list[None]:
        """None for each object: these stores keep no SHA-256."""
        return [None] * len(objects)


def _listed(meta: Any) -> Listed:
    etag = meta["e_tag"] or ""
    return Listed(
        meta["path"],
        int(meta["size"]),
        "" if etag.startswith("W/") else bare_etag(etag),
        "",
        meta["last_modified"].isoformat(),
    )
