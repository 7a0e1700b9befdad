"""The bundles of versions: which export still tells everything, and its file.

Invariants: a bundle is made from an export that is an entry of the ledger, and reading it writes nothing there; a new export is recorded
only when a person asks for it, and only where the newest one does not tell everything any more; a file is kept for the export and the
signed head that it was made with, and made anew for others.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from cognify_dagster.documents import DocumentError
from cognify_dagster.documents.facts.version import collect
from cognify_dagster.documents.package.bundle import (
    GOVERNANCE_KINDS,
    covering_note,
    record_export,
    relied_on,
    write_bundle,
)
from cognify_dagster.ledger import Entry, LedgerError
from cognify_dagster.records import BundleExported
from cognify_dagster.review.access.kinds import KINDS, Shown
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.site import Site
from cognify_dagster.workspace import Reading, Recorded

MAX_BUNDLE = 512 * 1024 * 1024
_KEPT = 8
_LOOK = 2_000


@dataclass(frozen=True)
class ExportState:
    """The newest export of a version, None if there is none; `newer` is an entry that it does not tell of, None if it tells all."""

    export: Recorded[BundleExported] | None
    newer: int | None = None

    @property
    def current(self) -> bool:
        """Whether there is one that tells everything."""
        return self.export is not None and self.newer is None


@dataclass(frozen=True)
class BundleFile:
    """A bundle as a file."""

    path: Path
    digest: str


class _Bundles:
    """The files made lately, in a folder of this process."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="cognify-bundles-")
        self.lock = Lock()
        self.made: OrderedDict[tuple[int, str], BundleFile] = OrderedDict()

    def keep(self, key: tuple[int, str], file: BundleFile) -> None:
        """Keep one, the oldest gives way; a download that still reads its file goes on."""
        self.made[key] = file
        while len(self.made) > _KEPT:
            self.made.popitem(last=False)[1].path.unlink(missing_ok=True)


def export_state(reading: Reading, model: str, version: str) -> ExportState:
    """Return the newest export of a version, and whether something was recorded since about anything that a bundle tells of."""
    export = reading.latest(BundleExported, f"model/{model}@{version}")
    if export is None:
        return ExportState(None)
    newer = _newer(reading, export)
    if newer is None:
        wanted = set(relied_on(reading, collect(reading, model, version))) - set(export.entry.entry.subjects)
        newer = max((reading.view.heads[name] for name in wanted), default=None)
    return ExportState(export, newer)


def _newer(reading: Reading, export: Recorded[BundleExported]) -> int | None:
    """An entry after an export that a new bundle would tell of, along the histories of the export's subjects; None if there is none."""
    looked: set[int] = set()
    for subject in export.entry.entry.subjects:
        seq = reading.view.heads.get(subject, -1)
        while seq > export.seq:
            entry = reading.view.entry(seq).entry
            looked.add(seq)
            if _told(entry, export) or len(looked) > _LOOK:
                return seq
            seq = entry.heads[subject]
    return None


def _told(entry: Entry, export: Recorded[BundleExported]) -> bool:
    """Whether a bundle tells of an entry. Exports, and what happens with other versions and models, have the same people, data and
    model as subjects, and change nothing about this version."""
    if entry.kind == BundleExported.kind:
        return False
    if entry.kind in GOVERNANCE_KINDS or KINDS.get(entry.kind) is not Shown.MODEL:
        return True
    record = export.record
    mine = {f"model/{record.model}@{record.version}", f"oversight/{record.model}"}
    mine |= {name for name in export.entry.entry.subjects if name.startswith(("release/", "issuer/"))}
    return not mine.isdisjoint(entry.subjects)


def export_now(site: Site, model: str, version: str, by: str) -> None:
    """Record an export, unless the newest one tells everything.

    Args:
        site: the running site.
        model, version: of what.
        by: person id, or `unattributed`.

    Raises:
        Refused: 409 if it cannot be exported.
    """
    bundles = _bundles(site)
    with bundles.lock:
        if export_state(site.read(), model, version).current:
            return
        try:
            record_export(site.workspace, model, version, exported_by=by)
        except (DocumentError, LedgerError) as error:
            if not export_state(site.read(), model, version).current:  # kept, and only its signed head is not there yet
                raise Refused(409, f"The bundle cannot be exported here: {error}", "bundle") from error


def bundle_file(site: Site, export: Recorded[BundleExported]) -> BundleFile:
    """Return the file of an export, under the newest signed head that covers it.

    Raises:
        Refused: 409 if none covers it yet, 413 if it is too large.
    """
    bundles = _bundles(site)
    with bundles.lock:
        note = _signed(site, export.seq)
        key = (export.seq, hashlib.sha256(note.encode()).hexdigest())
        found = bundles.made.get(key)
        if found is None or not found.path.exists():
            found = _made(site, bundles, export.seq, key[1])
            bundles.keep(key, found)
        return found


def _signed(site: Site, seq: int) -> str:
    """The newest signed head that covers an export. One is signed here only where its recording was cut off before."""
    workspace = site.workspace
    note = covering_note(workspace, seq)
    if note is None and workspace.ledger.signer is not None:
        workspace.ledger.sign_checkpoint()
        note = covering_note(workspace, seq)
    if note is None:
        raise Refused(409, f"No signed head covers the export in entry {seq} yet. Ask again in a minute.", "uncovered")
    return note


def _made(site: Site, bundles: _Bundles, seq: int, note: str) -> BundleFile:
    path = Path(bundles.folder.name) / f"{seq}-{note[:16]}.zip"
    path.unlink(missing_ok=True)
    try:
        write_bundle(site.workspace, seq, path, as_zip=True)
    except DocumentError as error:
        raise Refused(409, f"The bundle cannot be made here: {error}", "bundle") from error
    if path.stat().st_size > MAX_BUNDLE:
        path.unlink()
        raise Refused(413, "The bundle is larger than this site hands out; make it with: cognify package export")
    return BundleFile(path, _sha256(path))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def _bundles(site: Site) -> _Bundles:
    found = site.remember("bundles", _Bundles)
    assert isinstance(found, _Bundles)
    return found
