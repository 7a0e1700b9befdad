"""Listing an S3 bucket: every page is parsed here, because the general parser of botocore takes four times as long.

botocore still makes, signs, sends and repeats the requests; a handler takes the page out of the answer before it is parsed.

Invariants:
    * Keys are taken as they are, percent-decoded to their exact bytes: nothing is normalised, and ``dir/`` differs from ``dir``.
    * In a bucket with versions each object is named with the id of the version that is current, so that this version is read.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from cognify_dagster.datasets.errors import SourceError

MAX_PAGE_BYTES = 64 * 1024 * 1024
_THREADS = 8
_MAX_PREFIXES = 512
_PAGES_ALONE = 12
_PAGE = "CognifyPage"
_PAGE_START = re.compile(rb"<(ListBucketResult|ListVersionsResult)[ />]")
_MARKERS = {
    "KeyMarker": re.compile(rb"<NextKeyMarker>([^<&]+)</NextKeyMarker>"),
    "VersionIdMarker": re.compile(rb"<NextVersionIdMarker>([^<&]+)</NextVersionIdMarker>"),
}
_TOKEN = re.compile(rb"<NextContinuationToken>([^<&]*)</NextContinuationToken>")


class Listed(NamedTuple):
    """An object as its store lists it.

    Attributes:
        key: full key.
        size: bytes; -1 where unknown.
        etag: without quotes, or empty.
        version: version id, or empty without versioning.
        modified: when it was last written, as the store writes it.
        checksums: names of the checksums that the store says it has; None where it does not say.
    """

    key: str
    size: int
    etag: str = ""
    version: str = ""
    modified: str = ""
    checksums: tuple[str, ...] | None = None


@dataclass
class _Page:
    objects: list[Listed] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    following: dict[str, str] = field(default_factory=dict)


def bare_etag(text: str) -> str:
    """An ETag without quotes and weak mark."""
    return text.removeprefix("W/").strip('"')


def _text(value: str | None, encoded: bool) -> str:
    text = value or ""
    if not encoded or ("%" not in text and "+" not in text):
        return text
    return unquote_plus(text, errors="surrogateescape")


def parse_page(body: bytes) -> _Page:
    """Parse an answer to ListObjectsV2 or ListObjectVersions.

    Raises:
        ValueError: the answer is not well-formed, is too large or lacks a part.
    """
    if len(body) > MAX_PAGE_BYTES:
        raise ValueError("a page of the listing is too large")
    try:
        root = ET.fromstring(body)  # noqa: S314 - as botocore does; expat bounds entity expansion itself
    except ET.ParseError as exc:
        raise ValueError("a page of the listing is not well-formed") from exc
    space, _, kind = root.tag.rpartition("}")
    space = f"{space}}}" if space else ""
    if kind not in ("ListBucketResult", "ListVersionsResult"):
        raise ValueError("the answer is no page of a listing")
    names = {child.tag.rpartition("}")[2]: child.text for child in root}
    encoded = names.get("EncodingType") == "url"
    contents, version_tag, prefixes, checksum = (
        space + name for name in ("Contents", "Version", "CommonPrefixes", "ChecksumAlgorithm")
    )
    key, size, etag, version_id, latest, modified = (
        space + name for name in ("Key", "Size", "ETag", "VersionId", "IsLatest", "LastModified")
    )
    page = _Page()
    for child in root:
        tag = child.tag
        if tag in (contents, version_tag):
            values = {part.tag: part.text for part in child}
            if tag == version_tag and values.get(latest) != "true":
                continue
            checksums = None
            if checksum in values:
                checksums = tuple(part.text for part in child if part.tag == checksum and part.text) or None
            version = values.get(version_id) or ""
            page.objects.append(
                Listed(
                    _text(values[key], encoded),
                    int(values[size] or 0),
                    bare_etag(values.get(etag) or ""),
                    # "null" names what was written without versioning: it can be overwritten
                    "" if version == "null" else version,
                    values.get(modified) or "",
                    checksums,
                )
            )
        elif tag == prefixes:
            page.prefixes += [_text(part.text, encoded) for part in child]
    if names.get("IsTruncated") == "true":
        if token := names.get("NextContinuationToken"):
            page.following = {"ContinuationToken": token}
        elif marker := names.get("NextKeyMarker"):
            page.following = {"KeyMarker": _text(marker, encoded)}
            if version_marker := names.get("NextVersionIdMarker"):
                page.following["VersionIdMarker"] = version_marker
        else:
            raise ValueError("a page of the listing says that more follows, but not where")
    return page


class BucketLister:
    """Lists a bucket through a botocore client.

    Args:
        client: S3 client of its own; a handler is put into it.
        bucket: bucket name or access point.
        extra: parameters for every request, such as ``RequestPayer``.
    """

    def __init__(self, client: Any, bucket: str, extra: dict[str, str] | None = None) -> None:
        self._client, self._bucket, self._extra = client, bucket, dict(extra or {})
        for operation in ("ListObjectsV2", "ListObjectVersions"):
            # first, because botocore's own handler parses every page to see whether it is an error
            client.meta.events.register_first(f"before-parse.s3.{operation}", self._take)

    @staticmethod
    def _take(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
        if response_dict["status_code"] != 200 or not _PAGE_START.search(response_dict["body"][:1000]):
            return  # an error in the body of a 200 answer is for botocore to understand
        customized_response_dict[_PAGE] = response_dict["body"]
        response_dict["body"] = b"<Page/>"

    def _raw(self, versions: bool, prefix: str, **more: Any) -> bytes:
        request = self._client.list_object_versions if versions else self._client.list_objects_v2
        answer = request(Bucket=self._bucket, Prefix=prefix, **self._extra, **more)
        body: bytes | None = answer.get(_PAGE)
        if body is None:
            raise self._unreadable()
        return body

    def _parse(self, body: bytes) -> _Page:
        try:
            return parse_page(body)
        except (ValueError, KeyError):
            raise self._unreadable() from None

    def _unreadable(self) -> SourceError:
        return SourceError(
            f"bucket {self._bucket} gave a listing that cannot be read; check that the endpoint is an S3 store"
        )

    def _page(self, versions: bool, prefix: str, **more: Any) -> _Page:
        return self._parse(self._raw(versions, prefix, **more))

    def exists(self, prefix: str) -> bool:
        """Whether any current object's key starts with the prefix."""
        return bool(self._page(False, prefix, MaxKeys=1).objects)

    def objects(self, prefix: str, versions: bool) -> list[Listed]:
        """All current objects whose keys start with the prefix, in no certain order.

        Args:
            prefix: empty, or ending in ``/``.
            versions: ask for version ids too.

        Raises:
            SourceError: the answer is not a listing, or goes in circles.
        """
        objects: list[Listed] = []
        pages = self._pages(versions, prefix)
        for number, page in enumerate(pages):
            objects += page.objects
            if number == _PAGES_ALONE and page.following:
                break
        else:
            return objects
        # It is a large listing: worth finding parts of it that can be listed at the same time. What was listed so far is not
        # used then, because not every store lists in the order of keys.
        parts = self._page(versions, prefix, Delimiter="/")
        if parts.following or not 1 < len(parts.prefixes) <= _MAX_PREFIXES:
            return [*objects, *(item for page in pages for item in page.objects)]
        pages.close()
        with ThreadPoolExecutor(min(_THREADS, len(parts.prefixes))) as pool:
            below = list(pool.map(lambda part: self._whole(versions, part), parts.prefixes))
        return [*parts.objects, *(item for part in below for item in part)]

    def _whole(self, versions: bool, prefix: str) -> list[Listed]:
        return [item for page in self._pages(versions, prefix) for item in page.objects]

    def _pages(self, versions: bool, prefix: str) -> Generator[_Page, None, None]:
        """All pages. The next one is asked for while one is parsed: the marker that it needs is found without parsing."""
        more: dict[str, str] = {}
        body = self._raw(versions, prefix)
        with ThreadPoolExecutor(1) as pool:
            while True:
                guess = _quick_following(body)
                coming = pool.submit(self._raw, versions, prefix, **guess) if guess else None
                page = self._parse(body)
                yield page
                if not page.following:
                    return
                if page.following == more:
                    raise SourceError(
                        f"bucket {self._bucket} lists the same page again and again; the listing cannot be used"
                    )
                more = page.following
                if coming is not None and guess == more:
                    body = coming.result()
                else:
                    body = self._raw(versions, prefix, **more)


def _quick_following(body: bytes) -> dict[str, str]:
    """Where the next page begins, if that is easily seen; empty otherwise. Only a guess: what counts is the parsed page."""
    if b"<IsTruncated>true</IsTruncated>" not in body:
        return {}
    if found := _TOKEN.search(body):
        return {"ContinuationToken": found[1].decode("utf-8", "replace")}
    encoded = b"<EncodingType>url</EncodingType>" in body
    guess = {}
    for name, pattern in _MARKERS.items():
        if found := pattern.search(body):
            guess[name] = _text(found[1].decode("utf-8", "replace"), encoded and name == "KeyMarker")
    return guess if "KeyMarker" in guess else {}
