"""Connections to object stores: what fsspec was told, translated for botocore (listing) and obstore (reading).

Invariants:
    * The user's settings are followed or the slower way through fsspec is taken: none is dropped. What made it slower is noted.
    * Nothing is read without credentials unless ``anon`` was asked for.
    * Secrets go to the clients only: no message, note, repr or token holds them.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

CONNECTIONS = 64
_PLAIN_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]\Z")
_TOKEN_TAG = b"cognify/object-token/v1"
_CLIENT_KEYS = frozenset(
    [
        "region_name",
        "endpoint_url",
        "use_ssl",
        "verify",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "api_version",
    ]
)
_CONFIG_KEYS = frozenset(
    [
        "region_name",
        "signature_version",
        "connect_timeout",
        "read_timeout",
        "max_pool_connections",
        "retries",
        "s3",
        "user_agent",
        "user_agent_extra",
        "tcp_keepalive",
        "parameter_validation",
        "request_checksum_calculation",
        "response_checksum_validation",
    ]
)


@contextmanager
def collections_paused() -> Iterator[None]:
    """Keep Python's cycle collector off while very many small objects without cycles are made.

    It would walk through all objects of the process again and again, and take as long as the listing itself.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class UntranslatableError(Exception):
    """A setting that a faster client has no word for; the text is a note for people and holds no value."""


def tuned_options(protocol: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for an fsspec filesystem, with as many connections as requests are made at a time where the user set none."""
    out = dict(options)
    if protocol in ("s3", "s3a"):
        config = dict(out.get("config_kwargs") or {})
        config.setdefault("max_pool_connections", CONNECTIONS)
        config.setdefault("parameter_validation", False)  # what is asked for is made here, thousands of times alike
        out["config_kwargs"] = config
    return out


def is_s3(fs: Any) -> bool:
    """Whether a filesystem is s3fs itself (not a cache or other layer over it)."""
    return type(fs).__module__.partition(".")[0] == "s3fs"


class Tokens:
    """Makes the tokens of one place: 32 bytes that stay equal while a store says that an object's content is the same.

    Args:
        place: endpoint and bucket. It is part of each token, so equal keys of two buckets are never taken for one another.
    """

    def __init__(self, place: str) -> None:
        encoded = place.encode("utf-8", "surrogateescape")
        self._start = hashlib.sha256(_TOKEN_TAG + len(encoded).to_bytes(4, "big") + encoded)

    def token(self, grade: str, key: str, value: str, size: int, modified: str) -> bytes:
        """The token of an object; empty if a value holds NUL, which parts the fields. The key comes last, so it may."""
        fields = f"{grade}\0{value}\0{size}\0{modified}\0"
        if fields.count("\0") != 4:
            return b""
        hasher = self._start.copy()
        hasher.update((fields + key).encode("utf-8", "surrogateescape"))
        return hasher.digest()


@dataclass
class S3Connection:
    """A bucket, and the settings to reach it.

    Attributes:
        bucket: name or access point.
        client: botocore client, for listing and questions about single objects.
        place: endpoint and bucket, without credentials.
        extra: parameters of every request.
        credentials: asked for the current credentials; None when requests are not signed.
        settings: what :func:`obstore_for` needs.
    """

    bucket: str
    client: Any
    place: str
    extra: dict[str, str]
    credentials: Any = field(repr=False)
    settings: dict[str, Any] = field(repr=False)


def connect_s3(fs: Any, bucket: str) -> S3Connection:
    """A botocore connection with the settings of an s3fs filesystem.

    Raises:
        UntranslatableError: the filesystem was given something that only it can use.
    """
    if fs.storage_options.get("session") is not None:
        raise UntranslatableError("a session object was given")
    unknown = set(fs.kwargs) - {"profile"}
    unknown |= set(fs.client_kwargs) - _CLIENT_KEYS
    if unknown:
        raise UntranslatableError(f"the storage option {sorted(unknown)[0]} is for s3fs alone")
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    config = fs._prepare_config_kwargs() if hasattr(fs, "_prepare_config_kwargs") else dict(fs.config_kwargs)
    arguments = {
        "aws_access_key_id": fs.key,
        "aws_secret_access_key": fs.secret,
        "aws_session_token": fs.token,
        "endpoint_url": fs.endpoint_url,
        "use_ssl": fs.use_ssl,
    }
    arguments = {name: value for name, value in arguments.items() if value is not None} | dict(fs.client_kwargs)
    if fs.anon:
        arguments = {name: value for name, value in arguments.items() if not name.startswith("aws_")}
        config["signature_version"] = UNSIGNED
    config.setdefault("retries", {"mode": "standard", "total_max_attempts": 6})
    session = botocore.session.Session(**fs.kwargs)
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    client = session.create_client("s3", config=Config(**config), **arguments)
    region = client.meta.region_name or "us-east-1"
    endpoint = str(client.meta.endpoint_url)
    given = fs.endpoint_url or fs.client_kwargs.get("endpoint_url")
    return S3Connection(
        bucket=bucket,
        client=client,
        place=f"{endpoint.rstrip('/').rpartition('@')[2]}/{bucket}",
        extra=dict(fs.req_kw),
        credentials=None if fs.anon else (arguments if fs.key else session.get_credentials()),
        settings={
            "endpoint": endpoint,
            "own_endpoint": bool(given) or not urlsplit(endpoint).hostname or ".amazonaws." not in endpoint,
            "region": region,
            "config": dict(fs.config_kwargs),
            "client": dict(fs.client_kwargs),
            "additional": dict(fs.s3_additional_kwargs),
            "ca_bundle": session.get_config_variable("ca_bundle"),
        },
    )


@functools.cache
def _loader(data_path: str | None) -> Any:
    """botocore's descriptions of services, read once a process: that takes longer than listing a thousand objects."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def obstore_for(connection: S3Connection) -> Any:
    """An obstore store for the same bucket with the same settings.

    Raises:
        UntranslatableError: obstore is missing, or a setting has no equivalent there.
    """
    if importlib.util.find_spec("obstore") is None:
        raise UntranslatableError("obstore is not installed")
    from obstore.store import S3Store

    settings = connection.settings
    config, client = settings["config"], settings["client"]
    if not _PLAIN_BUCKET.match(connection.bucket) or connection.bucket.endswith("--x-s3"):
        raise UntranslatableError("the bucket is an access point or directory bucket")
    if settings["additional"]:
        raise UntranslatableError("s3_additional_kwargs is for s3fs alone")
    unknown = set(config) - _CONFIG_KEYS
    unknown |= {f"s3.{name}" for name in set(config.get("s3") or {}) - {"addressing_style"}}
    if unknown:
        raise UntranslatableError(f"the setting config_kwargs {sorted(unknown)[0]} has no equivalent in obstore")
    if config.get("signature_version") not in (None, "s3v4"):
        raise UntranslatableError("the signature version has no equivalent in obstore")
    endpoint = settings["endpoint"]
    virtual = (config.get("s3") or {}).get("addressing_style") == "virtual"
    parts = urlsplit(endpoint)
    if virtual:
        endpoint = urlunsplit(parts._replace(netloc=f"{connection.bucket}.{parts.netloc}"))
    options: dict[str, Any] = {
        "connect_timeout": _seconds(config.get("connect_timeout"), 10),
        "read_timeout": _seconds(config.get("read_timeout"), 60),
        "timeout": "600s",
        "allow_http": parts.scheme == "http",
    }
    verify = client.get("verify")
    if verify is False:
        options["allow_invalid_certificates"] = True
    elif parts.scheme == "https" and (isinstance(verify, str) or settings["ca_bundle"]):
        raise UntranslatableError(
            "own TLS root certificates are given"
        )  # obstore would add them to the system's, not replace
    keywords: dict[str, Any] = {
        "endpoint": endpoint,
        "region": settings["region"],
        "virtual_hosted_style_request": virtual,
        "client_options": options,
        # Repeats are ours, so that they end at once when the snapshot does.
        "retry_config": {"max_retries": 0},
    }
    if connection.extra.get("RequestPayer"):
        keywords["request_payer"] = True
    if connection.credentials is None:
        keywords["skip_signature"] = True
    else:
        keywords["credential_provider"] = _provider(connection.credentials)
    return S3Store(connection.bucket, **keywords)


def _seconds(value: Any, default: float) -> str:
    return f"{int(float(value if value is not None else default) * 1000)}ms"


def _provider(credentials: Any) -> Callable[[], dict[str, Any]]:
    """What obstore calls for credentials: botocore finds and renews them, from whatever place."""
    import datetime as dt

    def current() -> dict[str, Any]:
        if isinstance(credentials, dict):
            return {
                "access_key_id": credentials["aws_access_key_id"],
                "secret_access_key": credentials.get("aws_secret_access_key"),
                "token": credentials.get("aws_session_token"),
                "expires_at": None,
            }
        frozen = credentials.get_frozen_credentials()
        renews = hasattr(credentials, "refresh_needed")
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # botocore renews some minutes before the end; asking it often enough is all that is needed here
            "expires_at": dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=10) if renews else None,
        }

    return current
