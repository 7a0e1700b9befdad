"""What can be downloaded of a package, an entry, a snapshot or a difference: what is there, and what the visitor may have.

Invariants: nothing is offered that was not made, that the visitor's rights do not open, or (a proof) that no signed head covers yet;
the pages behind these addresses ask again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot, EvidenceItem, FinalCopy, Package
from cognify_dagster.review.access.scope import may_read
from cognify_dagster.review.reading.briefs import VersionBrief
from cognify_dagster.review.rendering import make_path
from cognify_dagster.workspace import Reading, Recorded

if TYPE_CHECKING:
    from cognify_dagster.review.visit import Visit

SOON = "its proof follows with the next signed head"
WORDS = {
    "final.pdf": "PDF with signatures", "review.pdf": "PDF", "package.json": "JSON", "package.html": "HTML", "model-card.md": "Model card",
    "bom.json": "Bill of materials", "proof.txt": "Proof", "bundle.zip": "Everything (ZIP)",
}  # fmt: skip
"""The files of a package by the last part of their address, in the order in which they are offered."""
_OF_NEWEST = frozenset({"bom.json", "bundle.zip"})
_REACH = "reading.reach"


@dataclass(frozen=True)
class FileLink:
    """A file to download: what it is in a word, and its address."""

    words: str
    address: str


@dataclass(frozen=True)
class Files:
    """The files of one thing; `note` says what is not there yet."""

    links: tuple[FileLink, ...] = ()
    note: str = ""


def made_files(reading: Reading, package: Recorded[Package]) -> tuple[tuple[str, str], ...]:
    """Return which files there are of a package, each with the class of evidence that it is made of. The proof is not among them."""
    record = package.record
    copies = reading.all(FinalCopy, f"model/{record.model}@{record.version}")
    final = next(
        (i.record.final_copy for i in reversed(copies) if i.record.package_digest == record.package.digest), None
    )
    bom = record.package if any("bom" in item.name for item in record.other) else None
    held = (
        ("final.pdf", final), ("review.pdf", record.review_copy), ("package.json", record.package),
        ("package.html", record.package), ("model-card.md", record.model_card), ("bom.json", bom),
        ("bundle.zip", record.package),
    )  # fmt: skip
    return _shared(tuple((name, item.sensitivity) for name, item in held if item is not None))


@lru_cache(maxsize=256)
def _shared(found: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Most packages have the same files: the board keeps one list for all of them."""
    return found


class Shelf:
    """Finds the files for the pages of one visit."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit

    @cached_property
    def _newest_head(self) -> int:
        """How many entries a kept signed head covers."""
        size = self.visit.reading.size
        kept = self.visit.workspace.ledger.store.checkpoints(size)
        found = max((held for held, _ in kept if held <= size), default=0)
        state = self.visit.site.state
        state[_REACH] = max(found, state.get(_REACH, 0))
        return found

    def proven(self, seq: int) -> bool:
        """Whether a kept signed head covers an entry, so that it can be proven now. What was covered once stays covered."""
        known: int = self.visit.site.state.get(_REACH, 0)
        return seq < known or seq < self._newest_head

    def of_package(self, package: Recorded[Package]) -> Files:
        """Return the files of a package; of an earlier revision those that are kept of it."""
        record, reading = package.record, self.visit.reading
        newest = reading.latest(Package, f"model/{record.model}@{record.version}")
        pinned = None if newest is None or newest.seq == package.seq else record.revision
        return self._listed(record.model, record.version, package.seq, made_files(reading, package), pinned)

    def of_version(self, brief: VersionBrief | None) -> Files:
        """Return the files of a version's newest package as the board knows it; none where there is no package."""
        if brief is None or brief.package_seq is None:
            return Files()
        return self._listed(brief.model, brief.version, brief.package_seq, brief.files, None)

    def _listed(
        self, model: str, version: str, seq: int, held: tuple[tuple[str, str], ...], pinned: int | None
    ) -> Files:
        proven = self.proven(seq)
        there = {name for name, sensitivity in held if may_read(self.visit, sensitivity)} | (
            {"proof.txt"} if proven else set()
        )
        links = tuple(
            FileLink(text, make_path("models", model, version, "download", name, revision=pinned))
            for name, text in WORDS.items()
            if name in there and not (pinned is not None and name in _OF_NEWEST)
        )
        return Files(links, "" if proven else SOON)

    def of_entry(self, seq: int) -> Files:
        """Return the files of any entry: its proof, and its bytes as they were hashed."""
        whole = FileLink("JSON", make_path("ledger", "entries", seq, "bytes"))
        if not self.proven(seq):
            return Files((whole,), SOON)
        return Files((FileLink("Proof", make_path("ledger", "entries", seq, "proof")), whole))

    def of_snapshot(self, name: str, item: Recorded[DatasetSnapshot]) -> Files:
        """Return the files of a snapshot: manifest, profile, description, proof. `name` is the dataset's on its page."""
        record = item.record
        links = list(self._evidence(item.seq, (("Manifest", record.manifest), ("Profile", record.profile))))
        if len(links) == 2:
            address = make_path("datasets", name, "croissant.json", root=record.root)
            links.append(FileLink("Description (Croissant)", address))
        entry = self.of_entry(item.seq)
        return Files((*links, *entry.links), entry.note)

    def of_difference(self, item: Recorded[DatasetDiffRecorded]) -> Files:
        """Return the files of a recorded difference: the report whose digest people sign, and the proof of its entry."""
        entry = self.of_entry(item.seq)
        return Files(
            (*self._evidence(item.seq, (("Difference (JSON)", item.record.report),)), *entry.links), entry.note
        )

    def _evidence(self, seq: int, items: tuple[tuple[str, EvidenceItem | None], ...]) -> Iterator[FileLink]:
        for text, item in items:
            if item is not None and may_read(self.visit, item.sensitivity):
                yield FileLink(text, make_path("ledger", "entries", seq, "evidence", item.digest))
