"""Snapshots of security advisories: reading them within bounds, and the one that a workspace judges by.

A snapshot is a file: JSON lines of OSV advisories, or the zip that OSV exports for an ecosystem (``PyPI/all.zip``). JSON lines
may begin with a line ``{"cognify_advisories": 1, "date": "YYYY-MM-DD", "partial": true, "source": "…"}``.

Invariants:

* Nothing is unpacked to disk, and nothing is read beyond the bounds below, whatever a zip says about its own sizes.
* One unreadable advisory makes the whole file unusable: none is left out silently.
* A snapshot is named by the SHA-256 of its file and read only while the file still has it.
* A file that doesn't say that it is whole, or has fewer advisories than PyPI had years ago, is `partial`, and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import date as calendar_day
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from cognify_dagster.evaluation._errors import AdvisoryError
from cognify_dagster.evaluation.advisories import Advisory, read_advisory

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_TOTAL_BYTES = 2 * 1024 * 1024 * 1024
MAX_ADVISORY_BYTES = 8 * 1024 * 1024
MAX_ADVISORIES = 300_000
#: With fewer PyPI advisories than this, a file is no full export, whatever it says.
MIN_FULL = 3_000

FOLDER = "advisories"
CURRENT = "current.json"
SAMPLE = "pypi-sample.jsonl"
OBTAIN = (
    "download https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip where there is a network, bring it here and run "
    "`cognify advisories import all.zip`"
)
_HEADER = "cognify_advisories"


@dataclass(frozen=True)
class SnapshotInfo:
    """What is known about a snapshot.

    Attributes:
        digest: ``sha256:`` and the hex digest of the file.
        date: The day (UTC) up to which it knows advisories: its header's, else that of the newest advisory in it.
        partial: Whether it is less than a full export.
        why_partial: Why, in words; empty if it is whole.
        source: Where it comes from, in words.
        advisories: How many advisories about PyPI packages it holds, without withdrawn ones.
    """

    digest: str
    date: str
    partial: bool
    why_partial: str
    source: str
    advisories: int

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def age_days(self, today: calendar_day) -> int:
        """Whole days from the snapshot's date to a day; negative if it is dated later."""
        return (today - calendar_day.fromisoformat(self.date)).days


@dataclass(frozen=True)
class Snapshot:
    """A snapshot with the advisories that were asked for, by normalised package name."""

    info: SnapshotInfo
    by_package: dict[str, tuple[Advisory, ...]]


def read_snapshot(path: Path, packages: Collection[str] | None = None) -> Snapshot:
    """Read a snapshot.

    Args:
        path: The file.
        packages: Normalised names whose advisories are kept; all unless given. Every advisory is checked either way.

    Raises:
        AdvisoryError: the file is missing, too large, neither form, or holds something that is no advisory.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise AdvisoryError(f"{path}: {size} bytes; at most {MAX_FILE_BYTES} are read")
            digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _digest(stream)
            stream.seek(0)
            zipped = stream.read(4) == b"PK\x03\x04"
            stream.seek(0)
            documents = _zip_documents(stream, str(path)) if zipped else _line_documents(stream, str(path))
            return _collect(documents, path, f"sha256:{digest.hexdigest()}", zipped, packages)
    except OSError as error:
        raise AdvisoryError(f"{path}: can't be read ({error.strerror or error})") from None


def _digest(stream: BinaryIO) -> Any:
    found = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        found.update(chunk)
    return found


def _collect(
    documents: Iterator[tuple[str, Any]], path: Path, digest: str, zipped: bool, packages: Collection[str] | None
) -> Snapshot:
    header: dict[str, Any] | None = None
    kept: dict[str, list[Advisory]] = {}
    seen: set[str] = set()
    count, newest = 0, None
    for number, (where, data) in enumerate(documents):
        if number == 0 and not zipped and isinstance(data, dict) and _HEADER in data:
            header = _header(data, where)
            continue
        advisory = read_advisory(data, where)
        if not advisory.affected:
            continue
        if advisory.id in seen:
            raise AdvisoryError(f"{where}: {advisory.id} stands twice in the file")
        seen.add(advisory.id)
        newest = advisory.modified if newest is None else max(newest, advisory.modified)
        if advisory.withdrawn is None:
            count += 1
        for package in {item.package for item in advisory.affected}:
            if packages is None or package in packages:
                kept.setdefault(package, []).append(advisory)
    if newest is None:
        raise AdvisoryError(f"{path}: no advisory about a PyPI package is in it; {OBTAIN}")
    why = _why_partial(header, zipped, count)
    info = SnapshotInfo(
        digest=digest,
        date=str(header["date"]) if header else newest.date().isoformat(),
        partial=bool(why),
        why_partial=why,
        source=str(header["source"])
        if header
        else ("OSV export for PyPI" if zipped else "JSON lines without a header"),
        advisories=count,
    )
    return Snapshot(info, {name: tuple(found) for name, found in kept.items()})


def _why_partial(header: dict[str, Any] | None, zipped: bool, count: int) -> str:
    if header is not None and header["partial"]:
        return f"partial sample of {count} advisories: most known vulnerabilities are not in it"
    if header is None and not zipped:
        return f"{count} advisories in a file that does not say whether they are all"
    if count < MIN_FULL:
        return f"only {count} advisories, where a full export for PyPI has more than {MIN_FULL}"
    return ""


def _header(data: dict[str, Any], where: str) -> dict[str, Any]:
    known = {_HEADER, "date", "partial", "source", "licence", "about"}
    unknown = sorted(set(data) - known)
    if unknown or data[_HEADER] != 1:
        raise AdvisoryError(f"{where}: {unknown[0][:40] if unknown else _HEADER}: not known in the header line")
    try:
        calendar_day.fromisoformat(str(data.get("date")))
    except ValueError:
        raise AdvisoryError(f"{where}: date: expected a day such as 2026-11-21") from None
    if not isinstance(data.get("partial"), bool) or not isinstance(data.get("source"), str):
        raise AdvisoryError(f"{where}: the header line needs partial (true or false) and source (text)")
    return data


def _line_documents(stream: BinaryIO, where: str) -> Iterator[tuple[str, Any]]:
    count = number = 0
    while line := stream.readline(MAX_ADVISORY_BYTES + 1):
        number += 1
        place = f"{where}, line {number}"
        if len(line) > MAX_ADVISORY_BYTES:
            raise AdvisoryError(f"{place}: longer than {MAX_ADVISORY_BYTES} bytes")
        if not line.strip():
            continue
        count += 1
        if count > MAX_ADVISORIES:
            raise AdvisoryError(f"{where}: more than {MAX_ADVISORIES} advisories")
        yield place, _json(line, place)


def _zip_documents(stream: BinaryIO, where: str) -> Iterator[tuple[str, Any]]:
    total = 0
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = [item for item in archive.infolist() if not item.is_dir()]
            if len(entries) > MAX_ADVISORIES:
                raise AdvisoryError(f"{where}: more than {MAX_ADVISORIES} files in it")
            for item in entries:
                place = f"{where}: {item.filename[:120]}"
                if not item.filename.endswith(".json") or item.flag_bits & 1:
                    raise AdvisoryError(f"{place}: an OSV export holds plain .json files only")
                # the bound is on what is really read: the sizes that the archive states may be false
                with archive.open(item) as part:
                    data = part.read(MAX_ADVISORY_BYTES + 1)
                total += len(data)
                if len(data) > MAX_ADVISORY_BYTES or total > MAX_TOTAL_BYTES:
                    raise AdvisoryError(f"{place}: unpacks to more than is read; this is no OSV export")
                yield place, _json(data, place)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise AdvisoryError(f"{where}: not a readable zip: {error}") from None


def _json(data: bytes, where: str) -> Any:
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise AdvisoryError(f"{where}: not JSON: {error}") from None


def import_snapshot(home: Path, file: Path, *, allow_older: bool = False) -> SnapshotInfo:
    """Check a snapshot and make it the one that this workspace judges by.

    Args:
        home: The workspace's home folder.
        file: The snapshot; it is copied, then the copy is read.
        allow_older: Allow one that is older than the one in use, or partial where that one is whole.

    Raises:
        AdvisoryError: it is unusable, or knows less than the one in use. Nothing has changed then.
    """
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".import.")
    taken = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            _copy(file, target)
            target.flush()
            os.fsync(target.fileno())
        try:
            info = read_snapshot(taken, ()).info
        except AdvisoryError as error:
            raise AdvisoryError(str(error).replace(name, str(file))) from None
        if not allow_older:
            _require_not_less(home, info)
        os.replace(taken, folder / _file_name(info.digest))
    finally:
        taken.unlink(missing_ok=True)
    _write_whole(
        folder / CURRENT, json.dumps({**info.as_json(), "imported_at": _now_text()}, indent=2).encode() + b"\n"
    )
    return info


def _copy(file: Path, target: BinaryIO) -> None:
    try:
        if not file.is_file():
            raise AdvisoryError(f"{file}: no such file")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise AdvisoryError(f"{file}: {file.stat().st_size} bytes; at most {MAX_FILE_BYTES} are read")
        with file.open("rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
    except OSError as error:
        raise AdvisoryError(f"{file}: can't be copied ({error.strerror or error})") from None


def _require_not_less(home: Path, info: SnapshotInfo) -> None:
    try:
        current = current_info(home)
    except AdvisoryError:  # what is in use cannot be read: anything readable is more
        return
    if current is None or current.digest == info.digest:
        return
    if info.date < current.date or (info.partial and not current.partial):
        raise AdvisoryError(
            f"the snapshot in use is of {current.date}{' (partial)' if current.partial else ''}, this one of {info.date}"
            f"{' (partial)' if info.partial else ''}: it knows less. Import a newer full export, or say --allow-older"
        )


def current_info(home: Path) -> SnapshotInfo | None:
    """Return what the workspace's imported snapshot said of itself when it was imported; None if none was.

    Raises:
        AdvisoryError: the note about it cannot be read.
    """
    path = home / FOLDER / CURRENT
    try:
        with path.open("rb") as stream:
            data = json.loads(stream.read(100_000))
        return SnapshotInfo(**{name: data[name] for name in SnapshotInfo.__dataclass_fields__})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdvisoryError(f"{path}: can't be read ({error}); import a snapshot again: {OBTAIN}") from None


def snapshot_of(home: Path, packages: Collection[str]) -> Snapshot:
    """Return the snapshot that a workspace judges by: the imported one, else the shipped sample.

    Raises:
        AdvisoryError: the imported one is missing or was changed since.
    """
    current = current_info(home)
    if current is None:
        return read_snapshot(sample_path(), packages)
    snapshot = read_snapshot(home / FOLDER / _file_name(current.digest), packages)
    if snapshot.info.digest != current.digest:
        raise AdvisoryError(
            f"the imported advisories were changed since (now {snapshot.info.digest}); import them again"
        )
    return snapshot


def sample_path() -> Path:
    """Return the shipped sample.

    Raises:
        AdvisoryError: it is missing from the installation.
    """
    package = Path(__file__).resolve().parent.parent
    for root in (package / "_templates", package.parent / "templates"):
        if (root / FOLDER / SAMPLE).is_file():
            return root / FOLDER / SAMPLE
    raise AdvisoryError(f"no sample of advisories beside {package}: the installation is incomplete; {OBTAIN}")


def _file_name(digest: str) -> str:
    return digest.removeprefix("sha256:") + ".osv"


def _now_text() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write_whole(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
