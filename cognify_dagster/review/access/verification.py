"""How far the ledger is proven as a page shows it: the level of its newest signed head, compared with what was verified here.

Invariants: what a page reads was recomputed from bytes before; a head counts only with the keys of the workspace's own trust file, and
only if it is a head of exactly these entries; a log key that was revoked counts as `cognify ledger verify` counts it: up to its last
good size, and only where somebody outside remembers the head; a time counts only where a place outside vouches for it (asked in the
background).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cognify_dagster.governance import ledger_acts
from cognify_dagster.ledger import Checkpoint, LedgerError, NoteError, TrustFile, parse_note
from cognify_dagster.ledger.quorum import QuorumResult, evaluate
from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.site import Site
from cognify_dagster.workspace import Reading, WorkspaceError
from cognify_dagster.workspace.anchoring import remembered

_ANCHORED = "ledger-anchored"
_RECENT = 1_000
_JUDGED = 20
"""Heads that are judged; those of a revoked key do not use them up."""
_LOOKED_AT = 500
MEANINGS = {
    "L0": (
        "The entries fit each other.",
        "It does not prove that this is the only history: whoever keeps the ledger could have made all of it up.",
    ),
    "L1": (
        "The log key of the trust file signed this head.",
        "It does not prove that everybody is shown the same history: who holds the log key could show somebody another one.",
    ),
    "L2": (
        "The witnesses that the trust file asks for saw this head and cosigned it.",
        "It does not prove when entries were made: times are those of the machine that wrote them.",
    ),
    "L3": (
        "A place outside vouches for the time at which this head existed.",
        "It does not prove that what was recorded is true, only that it was recorded so and not changed since.",
    ),
    "none": (
        "A signed head contradicts the entries.",
        "Trust nothing here until `cognify ledger verify` was run and understood.",
    ),
}


@dataclass(frozen=True)
class AnchoredHead:
    """A signed head that a place outside vouches for: the note, the time, the place's name."""

    note: str
    at: str
    place: str


@dataclass(frozen=True)
class Standing:
    """Where the ledger stands.

    Attributes:
        level: L0 to L3, or `none` where a signed head contradicts the entries.
        size, root: what was read and verified, the root in hex.
        covered: how many entries the head that carries the level covers; the younger ones rest on nothing signed yet.
        note: that head as a signed note; empty at L0.
        signers, cosigners: names of the keys of the trust file on it.
        anchored_at: the time that was vouched for, at L3.
        problem: what contradicts, or why no head could be judged.
    """

    level: str
    size: int
    root: str
    covered: int = 0
    note: str = ""
    signers: tuple[str, ...] = ()
    cosigners: tuple[str, ...] = ()
    anchored_at: str = ""
    problem: str = ""
    anchors: tuple[str, ...] = field(default=())

    @property
    def uncovered(self) -> int:
        """Entries younger than the head."""
        return self.size - self.covered

    @property
    def proves(self) -> str:
        """What the level says."""
        return MEANINGS[self.level][0]

    @property
    def limits(self) -> str:
        """What the level does not prove."""
        return MEANINGS[self.level][1]


def standing(site: Site, reading: Reading) -> Standing:
    """Judge the newest signed head of a reading; what was judged for the same entries and head is used again."""
    notes = _notes(site, reading.size)
    anchored = site.state.get(_ANCHORED)
    key = (reading.size, reading.view.root, len(notes), notes[-1:], anchored)
    kept = site.state.get("ledger-standing")
    if kept is not None and kept[0] == key:
        found = kept[1]
        assert isinstance(found, Standing)
        return found
    found = _judge(site, reading, notes)
    if found.level == "L0" and notes:  # the young heads do not count: an older one may
        found = _judge(site, reading, _notes(site, reading.size, 0))
    site.state["ledger-standing"] = (key, found)
    return found


def _notes(site: Site, size: int, recent: int = _RECENT) -> list[tuple[int, str]]:
    """The kept checkpoints of the newest entries, oldest first; all of them where none is so young, or with `recent` 0."""
    store = site.workspace.ledger.store
    found = (store.checkpoints(max(0, size - recent)) if recent else []) or store.checkpoints()
    return sorted((item for item in found if item[0] <= size), key=lambda item: (item[0], item[1].count("\n")))


def _judge(site: Site, reading: Reading, notes: list[tuple[int, str]]) -> Standing:
    size, root = reading.size, reading.view.root.hex()
    try:
        trust = site.workspace.trust()
    except WorkspaceError as error:
        return Standing("L0", size, root, problem=str(error))
    anchored: tuple[AnchoredHead, ...] = site.state.get(_ANCHORED, ())
    outside, revoked = {_head_of(item.note) for item in anchored}, _revoked(reading)
    best: Standing | None = None
    judged, problem = 0, "no head of these entries was signed by a key of the trust file yet"
    for _, note in reversed(notes[-_LOOKED_AT:]):
        result = _evaluated(trust, note, reading.origin)
        if result is None:
            continue
        head = result.checkpoint
        if not reading.view.consistent(head.size, head.root):
            text = f"the signed head of {head.size} entries is not a head of the entries that lie here"
            return Standing("none", size, root, problem=text)
        if not counts(result, revoked, anchored=head in outside):
            problem = "no signed head of these entries counts: the log key that signed them was revoked"
            continue
        found = _standing_by(result, note, size, root)
        if best is None or found.level > best.level:
            best = found
        judged += 1
        if best.level == "L2" or result.quorum == "none" or judged == _JUDGED:
            break
    timed = _with_time(site, reading, anchored, trust, revoked)
    return timed or best or Standing("L0", size, root, problem=problem)


def counts(result: QuorumResult, revoked: Mapping[str, int], *, anchored: bool) -> bool:
    """Whether a signed head proves anything: one of its log keys is good for it, as `cognify ledger verify` judges.

    Args:
        result: what the trust file says of the head.
        revoked: revoked log keys as text, each with its last good size.
        anchored: whether a place outside remembers this very head.
    """
    outside = result.met or anchored
    for key in result.signers:
        last_good = revoked.get(str(key))
        if last_good is None or (outside and result.checkpoint.size <= last_good):
            return True
    return False


def _revoked(reading: Reading) -> dict[str, int]:
    return ledger_acts(reading).revoked() if reading.view.heads.get("log_key", -1) >= 0 else {}


def _evaluated(trust: TrustFile, note: str, origin: str) -> QuorumResult | None:
    """What the trust file says of a note; None if it is none of this log's, or was not signed by its keys."""
    try:
        result = evaluate(trust, note)
    except NoteError:
        return None
    return result if result.level != "L0" and result.checkpoint.origin == origin else None


def _standing_by(result: QuorumResult, note: str, size: int, root: str) -> Standing:
    signers = tuple(dict.fromkeys(item.name for item in result.signers))
    cosigners = tuple(item.witness for item in result.cosigners)
    return Standing(result.level, size, root, result.checkpoint.size, note, signers, cosigners)


def _with_time(
    site: Site, reading: Reading, anchored: Iterable[AnchoredHead], trust: TrustFile, revoked: Mapping[str, int]
) -> Standing | None:
    """The newest head with a time that counts: L3 as far as it reaches. It needs the witnesses where the trust file asks for them,
    on the anchored note or on one of the same head that is kept here."""
    heads = sorted(((_head_of(item.note), item) for item in anchored), key=lambda pair: pair[0].size, reverse=True)
    for head, item in heads:
        if not 0 < head.size <= reading.size or not reading.view.consistent(head.size, head.root):
            continue
        for note in (item.note, *_kept_of(site, head.size)):
            result = _evaluated(trust, note, reading.origin)
            if result is None or result.checkpoint != head or not counts(result, revoked, anchored=True):
                continue
            if result.met or result.quorum == "none":
                by = _standing_by(result, note, reading.size, reading.view.root.hex())
                return replace(by, level="L3", anchored_at=item.at, anchors=(item.place,))
    return None


def _head_of(note: str) -> Checkpoint:
    return Checkpoint.parse(parse_note(note).text)


def ask_anchors(site: Site) -> float | None:
    """Ask the anchors of cognify.toml which heads they vouch for, with their times."""
    config = site.workspace.config
    if not config.anchors:
        return None
    try:
        trust = site.workspace.trust()
        said = [remembered(config, anchor, trust) for anchor in config.anchors]
    except (LedgerError, WorkspaceError):
        return None
    found: list[AnchoredHead] = []
    for place in said:
        notes = {_head_of(note): note for _, note in place.heads}
        found += [
            AnchoredHead(notes[head.checkpoint], head.at, place.name)
            for head in place.anchored
            if head.at is not None and head.checkpoint in notes
        ]
    site.state[_ANCHORED] = tuple(found)
    return None


def checkpoints(site: Site, size: int, limit: int = 50) -> list[tuple[int, str]]:
    """Return the newest kept checkpoints, newest first: size and signed note."""
    return list(reversed(_notes(site, size)))[:limit]


def checkpoint_of(site: Site, size: int) -> str | None:
    """Return the kept checkpoint of exactly so many entries, the one that most cosigned."""
    found = _kept_of(site, size)
    return max(found, key=lambda note: len(parse_note(note).signatures)) if found else None


def _kept_of(site: Site, size: int) -> list[str]:
    return [note for held, note in site.workspace.ledger.store.checkpoints(size) if held == size]


JOBS.append(Job("anchors", 600.0, ask_anchors, alone=False))
