"""What is different between two packages, for a page: side by side, and since the reader's own last approval.

Invariants: both packages are read from the evidence store by the digests that the ledger names, and hashed again; what is compared is
what people signed or will sign.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.html.recorded import signatures_of
from cognify_dagster.documents.labels import words
from cognify_dagster.documents.package.building import read_package
from cognify_dagster.documents.package.comparison import compare_packages
from cognify_dagster.documents.view.blocks import interval, number
from cognify_dagster.documents.view.bounds import cut_text
from cognify_dagster.documents.view.cleaning import clean, screen_text
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.governance import check_sign_off, directory
from cognify_dagster.records import Package, SignOff
from cognify_dagster.review.reading.board import Snapshot
from cognify_dagster.workspace import Reading, Recorded

if TYPE_CHECKING:
    from cognify_dagster.review.site import Site

Json = dict[str, Any]
T = TypeVar("T")
MAX_ROWS = 500
_TEXT = 600
_APPROVING = ("approve", "approve_with_conditions")
TITLES = {
    "identity": "Identity and intended use", "data": "Data", "parameters": "Training and parameters", "metrics": "Metrics",
    "limits": "Limits", "coverage": "Coverage", "findings": "Findings", "sections": "Sections written by people",
    "attestations": "Attestations", "approvals": "Sign-offs",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part of a comparison: rows of (field, before, after, remark); `cut` rows are not shown."""

    name: str
    title: str
    rows: tuple[tuple[str, str, str, str], ...]
    cut: int = 0


@dataclass(frozen=True)
class Text:
    """How a section's text changed: runs of (mark, text) with mark `=`, `-` or `+`."""

    title: str
    runs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Comparison:
    """Two packages side by side. `before` and `after` have model, version, revision, created and digest."""

    before: Json
    after: Json
    parts: tuple[Part, ...]
    texts: tuple[Text, ...]
    equal: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many fields differ."""
        return sum(len(part.rows) + part.cut for part in self.parts)


class Kept:
    """What was made lately, by what it was made from: at most `limit` bytes by the size that `put` is told."""

    def __init__(self, limit: int = 96 * 1024 * 1024) -> None:
        self._limit, self._size = limit, 0
        self._items: OrderedDict[object, tuple[Any, int]] = OrderedDict()

    def get(self, site: Site, key: object, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return what is kept under a key; made now if there is nothing, outside the site's lock."""
        with site.lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
                value: T = found[0]
                return value
        made = make()
        weight = size(made)
        with site.lock:
            old = self._items.pop(key, None)
            self._size += weight - (old[1] if old else 0)
            self._items[key] = (made, weight)
            while self._size > self._limit and len(self._items) > 1:
                self._size -= self._items.popitem(last=False)[1][1]
        return made


def kept(site: Site) -> Kept:
    """Return what is kept of rendered packages and comparisons."""
    found: Kept = site.remember("reading.kept", Kept)
    return found


def package_bytes(site: Site, package: Recorded[Package]) -> bytes:
    """Return the bytes of a recorded package, hashed now.

    Raises:
        DocumentError: if the evidence store does not have exactly these bytes.
    """
    digest = package.record.package.digest
    try:
        data = site.workspace.evidence.get(digest)
    except (EvidenceError, OSError) as error:
        raise DocumentError(f"package {digest} cannot be read from the evidence store: {error}") from error
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise DocumentError(f"the evidence store has other bytes under {digest}: they are not what the ledger names")
    return data


def package_content(site: Site, package: Recorded[Package]) -> Json:
    """Return the content of a recorded package, its bytes hashed now.

    Raises:
        DocumentError: as `package_bytes` and `content_of`.
    """
    return content_of(package, package_bytes(site, package))


def content_of(package: Recorded[Package], data: bytes) -> Json:
    """Return what a recorded package's bytes say.

    Raises:
        DocumentError: if they are no package of this version.
    """
    record, content = package.record, read_package(data)
    try:
        same = (content["model"]["key"], content["version"], content["revision"]) == (
            record.model, record.version, record.revision,
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise DocumentError("the package does not say of which model and version it is") from error
    if not same:
        raise DocumentError("the package is of another model, version or revision than its entry says")
    return content


def compare(site: Site, reading: Reading, before: Recorded[Package], after: Recorded[Package]) -> Comparison:
    """Compare two recorded packages with the sign-offs that they have.

    Raises:
        DocumentError: if one of them cannot be read.
    """
    signed = signatures_of(reading, before), signatures_of(reading, after)
    mark = hashlib.sha256(json.dumps([[item["entry_leaf"] for item in rows] for rows in signed]).encode()).hexdigest()
    key = ("comparison", before.record.package.digest, after.record.package.digest, mark)

    def make() -> Comparison:
        old, new = package_content(site, before), package_content(site, after)
        try:
            found = compare_packages(old, new, signed_before=signed[0], signed_after=signed[1])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise DocumentError(f"the packages cannot be compared: {type(error).__name__}: {error}") from error
        return _shown(clean(found, screen_text))

    return kept(site).get(site, key, make, lambda found: 2_000 + 400 * found.count)


def _shown(found: Json) -> Comparison:
    parts = []
    for name, rows in found["parts"].items():
        if rows:
            shown = [_metric(row) if name == "metrics" else _plain(row) for row in rows[:MAX_ROWS]]
            parts.append(Part(name, TITLES.get(name, words(name)), tuple(shown), len(rows) - len(shown)))
    texts = [Text(item["title"], tuple((mark, text) for mark, text in item["words"])) for item in found["texts"]]
    equal = tuple(TITLES.get(name, words(name)) for name, rows in found["parts"].items() if not rows)
    return Comparison(found["before"], found["after"], tuple(parts), tuple(texts), equal)


def _plain(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return words(str(row["field"])), shown_value(row["before"]), shown_value(row["after"]), ""


def _metric(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    remarks = []
    if row["delta"] is not None:
        remarks.append(f"{'+' if row['delta'] > 0 else '−' if row['delta'] < 0 else ''}{number(abs(row['delta']))}")
    if row["apart"] is not None:
        remarks.append("intervals lie apart" if row["apart"] else "intervals overlap")
    return str(row["field"]), _measured(row["before"]), _measured(row["after"]), "; ".join(remarks)


def _measured(item: Any) -> str:
    if not isinstance(item, dict):
        return "–"
    text = number(item.get("value"))
    if item.get("ci_low") is not None:
        text += f" ({interval(item['ci_low'], item['ci_high'])})"
    return text + (f", n = {number(item['n'])}" if item.get("n") is not None else "")


def shown_value(value: Any) -> str:
    """Return a JSON value as a reader sees it; long ones are cut, and say so."""
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, (list, tuple)):
        value = "; ".join(shown_value(item) for item in value)
    elif isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True)
    elif not isinstance(value, str):
        return number(value)
    return cut_text(value, _TEXT)


def my_last_approval(
    reading: Reading, snapshot: Snapshot, model: str, person: str
) -> tuple[Recorded[SignOff], Recorded[Package]] | None:
    """Return the reader's newest approval of any version of a model, its signature verified, and the package it is about."""
    given = [
        (seq, package_seq)
        for version in snapshot.versions.get(model, ())
        for who, seq, package_seq in version.approved
        if who == person
    ]
    people = directory(reading)
    for seq, package_seq in sorted(given, reverse=True):
        item, package = reading.find(SignOff, seq), reading.find(Package, package_seq)
        if item is None or package is None or item.record.decision not in _APPROVING:
            continue
        if item.record.package_digest == package.record.package.digest and not isinstance(
            check_sign_off(item, reading, people), str
        ):
            return item, package
    return None


def packages_of(reading: Reading, model: str, version: str) -> Sequence[Recorded[Package]]:
    """Return the packages of a version, oldest first."""
    return reading.all(Package, f"model/{model}@{version}")
