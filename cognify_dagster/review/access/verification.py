"""How far the ledger is proven as a page shows it: the level of its newest signed head, compared with what was verified here.

Invariants: what a page reads was recomputed from bytes before; a head counts only with the keys of the workspace's own trust file, and
only if it is a head of exactly these entries; a time counts only where a place outside vouches for it (asked in the background).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cognify_dagster.ledger import LedgerError, NoteError, TrustFile, parse_note
from cognify_dagster.ledger.quorum import evaluate
from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.site import Site
from cognify_dagster.workspace import Reading, WorkspaceError
from cognify_dagster.workspace.anchoring import remembered

_ANCHORED = "ledger-anchored"
_RECENT = 1_000
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
    key = (reading.size, reading.view.root, notes[-1] if notes else None, anchored)
    kept = site.state.get("ledger-standing")
    if kept is not None and kept[0] == key:
        found = kept[1]
        assert isinstance(found, Standing)
        return found
    found = _judge(site, reading, notes)
    site.state["ledger-standing"] = (key, found)
    return found


def _notes(site: Site, size: int) -> list[tuple[int, str]]:
    """The kept checkpoints of the newest entries, oldest first; all of them where none is so young."""
    store = site.workspace.ledger.store
    found = store.checkpoints(max(0, size - _RECENT)) or store.checkpoints()
    return sorted((item for item in found if item[0] <= size), key=lambda item: (item[0], item[1].count("\n")))


def _judge(site: Site, reading: Reading, notes: list[tuple[int, str]]) -> Standing:
    size, root = reading.size, reading.view.root.hex()
    try:
        trust = site.workspace.trust()
    except WorkspaceError as error:
        return Standing("L0", size, root, problem=str(error))
    best: Standing | None = None
    for _, note in reversed(notes[-20:]):
        try:
            result = evaluate(trust, note)
        except NoteError:
            continue
        head = result.checkpoint
        if result.level == "L0" or head.origin != reading.origin:
            continue
        if not reading.view.consistent(head.size, head.root):
            text = f"the signed head of {head.size} entries is not a head of the entries that lie here"
            return Standing("none", size, root, problem=text)
        signers = tuple(dict.fromkeys(item.name for item in result.signers))
        cosigners = tuple(item.witness for item in result.cosigners)
        found = Standing(result.level, size, root, head.size, note, signers, cosigners)
        if best is None or found.level > best.level:
            best = found
        if best.level == "L2" or result.quorum == "none":
            break
    if best is None:
        return Standing("L0", size, root, problem="no head of these entries was signed by a key of the trust file yet")
    return _with_anchor(site, reading, best, trust)


def _with_anchor(site: Site, reading: Reading, found: Standing, trust: TrustFile) -> Standing:
    """A head that an anchor vouches for carries L3, as far as it reaches; it needs the witnesses where the trust file asks for them."""
    if found.level == "L1" and trust.quorum != "none":
        return found
    heads = [item for item in site.state.get(_ANCHORED, ()) if 0 < item[0] <= reading.size]
    for size, root, at, label in sorted(heads, reverse=True):
        if reading.view.consistent(size, root):
            values = {"level": "L3", "covered": size, "anchored_at": at, "anchors": (label,)}
            return Standing(**{**found.__dict__, **values})
    return found


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
    site.state[_ANCHORED] = tuple(
        (head.checkpoint.size, head.checkpoint.root, head.at, place.name)
        for place in said
        for head in place.anchored
        if head.at is not None
    )
    return None


def checkpoints(site: Site, size: int, limit: int = 50) -> list[tuple[int, str]]:
    """Return the newest kept checkpoints, newest first: size and signed note."""
    return list(reversed(_notes(site, size)))[:limit]


def checkpoint_of(site: Site, size: int) -> str | None:
    """Return the kept checkpoint of exactly so many entries, the one that most cosigned."""
    found = [note for held, note in site.workspace.ledger.store.checkpoints(size) if held == size]
    return max(found, key=lambda note: len(parse_note(note).signatures)) if found else None


JOBS.append(Job("anchors", 600.0, ask_anchors, alone=False))
