"""Where many versions stand, looked at again only when something changed. No Dagster in here.

The approval sensor keeps one `ModelWatch` for each model in its process. A look at 10,000 versions of which 100 changed decides
those 100; the first look of a process is spread over several, each bounded in time, and takes first what was written about last.

Invariants: what was said about a version is said again only while nothing it relied on moved, see `standing_cache`; nothing here
releases anything, the deployment's body decides anew.
"""

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cognify_dagster.governance import Decision, policy_in_force
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.history import was_live
from cognify_dagster.governance.release.standing_cache import PackagedVersions, StandingCache
from cognify_dagster.orchestration.releases import Releases
from cognify_dagster.orchestration.standing import SUPERSEDED, Board, Standing
from cognify_dagster.records import BreakGlassOpened, RollbackOrdered, parse_utc
from cognify_dagster.workspace import Reading, Workspace

ENTRIES_A_LOOK = 50_000
PACKAGES_A_LOOK = 10_000
VERSIONS_A_LOOK = 500
LOOK_S = 2.0
REFRESHED_A_LOOK = 20
MAX_AGE_S = 900.0


@dataclass(frozen=True)
class Brief:
    """What is kept of a version's standing until it changes; see `Standing` for the meaning of most.

    `round` and `package_seq` are those of the decision. `deployed` says whether the version was ever released to the target.
    """

    version: str
    state: str
    text: str
    fingerprint: str
    sign_off_mark: str
    untouched: bool
    releasable: bool
    deployed: bool
    round: str = ""
    package_seq: int | None = None


def brief(found: Standing) -> Brief:
    """Return what is kept of a standing."""
    decision = found.decision
    return Brief(
        found.version,
        found.state,
        found.text,
        found.fingerprint,
        found.sign_off_mark,
        found.untouched,
        found.releasable,
        found.deployed is not None,
        decision.round if decision is not None else "",
        decision.package.seq if decision is not None and decision.package is not None else None,
    )


@dataclass
class LaneWatch:
    """What is kept about the versions of a model on one target."""

    model: str
    target: str
    enforces: tuple[str, ...]
    cache: StandingCache[Brief] = field(default_factory=lambda: StandingCache(MAX_AGE_S))
    gone: Releases = field(init=False)

    def __post_init__(self) -> None:
        self.gone = Releases(self.model, self.target)

    def look(
        self, workspace: Workspace, reading: Reading, versions: Sequence[str], now: datetime, until: float
    ) -> "Look":
        """Decide what has to be decided, until a moment of `time.monotonic`; at least one version is."""
        board = Board(workspace, reading, self.model, self.target, self.enforces, self.gone)
        look = Look(board, self.cache, versions, now)
        stale = self.cache.stale(
            reading,
            _newest_first(reading, self.model, versions, self.cache),
            now,
            VERSIONS_A_LOOK,
            refresh=REFRESHED_A_LOOK,
        )
        for number, version in enumerate(stale):
            if number and time.monotonic() > until:
                look.left = len(stale) - number
                break
            look.decide(version)
        return look


class Look:
    """One look at a target: what is known of each version, and in full where it was decided just now.

    `left` is how many versions wait for their turn at the next look, of those that were to be decided now.
    """

    def __init__(self, board: Board, cache: StandingCache[Brief], versions: Sequence[str], now: datetime) -> None:
        self.board, self.cache, self.versions, self.now = board, cache, versions, now
        self.left = 0
        self._full: dict[str, Standing] = {}

    @property
    def decided(self) -> Collection[str]:
        """The versions that were decided in this look."""
        return self._full.keys()

    def decide(self, version: str) -> Standing:
        """Decide a version now, and keep what came out until it changes."""
        board, reading = self.board, self.board.reading
        with self.cache.deciding(reading, version, self.now) as answer:
            found = board.standing(version, self.now)
            answer.value = brief(found)
            answer.relied_on = {f"release/{board.model}.{board.target}", *_relied_on(found)}
            ordered = bool(reading.all(RollbackOrdered, f"model/{board.model}@{version}"))
            # what came after it never changes, and an order to go back to it would be an entry about it
            if found.state == SUPERSEDED and found.decision is None and not ordered:
                answer.lasting, answer.relied_on = True, ()
            answer.until = next_moment(reading, policy_in_force(reading).policy, found, self.now)
        self._full[version] = found
        return found

    def standing(self, version: str) -> Standing:
        """Return where a version stands, in full."""
        return self._full.get(version) or self.decide(version)

    def briefs(self) -> Iterator[Brief]:
        """Yield what is known, newest version first; versions that were not looked at yet are left out."""
        for version in self.versions:
            found = self.cache.get(version)
            if found is not None:
                yield found


@dataclass
class ModelWatch:
    """What is kept about a model between looks, in one process. Whoever looks holds `lock`."""

    model: str
    packaged: PackagedVersions = field(init=False)
    lanes: dict[tuple[str, tuple[str, ...]], LaneWatch] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.packaged = PackagedVersions(self.model)

    def lane(self, target: str, enforces: Iterable[str]) -> LaneWatch:
        """Return what is kept about a target."""
        kinds = tuple(enforces)
        return self.lanes.setdefault((target, kinds), LaneWatch(self.model, target, kinds))


def catching_up(workspace: Workspace) -> str | None:
    """Verify a bounded number of new entries; say how far that is, None once all are verified."""
    done = workspace.catch_up(ENTRIES_A_LOOK)
    if done.complete:
        return None
    return f"the ledger is being verified: {done.size:,} of {done.total:,} entries; go on at the next tick"


def _newest_first(reading: Reading, model: str, versions: Sequence[str], cache: StandingCache[Brief]) -> Sequence[str]:
    """Return the versions in the order in which those never decided have their turn: what was written about last comes first."""
    new = [version for version in versions if cache.get(version) is None]
    if len(new) <= VERSIONS_A_LOOK:
        return versions
    heads = {version: reading.view.heads.get(f"model/{model}@{version}", -1) for version in new}
    known = [version for version in versions if version not in heads]
    return known + sorted(new, key=lambda version: -heads[version])


def _relied_on(found: Standing) -> Iterator[str]:
    """Subjects that the decision names. Whatever changes a person's authority is about `people` too, so who signed much does
    not make every version of theirs look changed."""
    if found.decision is not None:
        yield from (subject for subject in found.decision.relied_on if not subject.startswith("person/"))


def next_moment(reading: Reading, policy: Policy, found: Standing, now: datetime) -> datetime | None:
    """Return the next moment from which time alone may change a standing, as far as it is foreseen; None for none.

    What is not foreseen is found when the standing has its greatest age.
    """
    moments = [*_of_decision(reading, policy, found.decision), *_of_live(reading, found)]
    return min((moment for moment in moments if moment > now), default=None)


def _of_decision(reading: Reading, policy: Policy, decision: Decision | None) -> Iterator[datetime]:
    if decision is None:
        return
    tier = policy.tiers.get(decision.tier)
    for signed in (signed for stage in decision.stages for signed in stage.signed):
        entry = reading.at(signed.seq)
        if tier is not None and entry is not None:
            yield entry.when + timedelta(days=tier.approval_days, microseconds=1)
        yield from _parsed(signed.predicate.expires)
        yield from (
            moment for item in signed.predicate.conditions for moment in _parsed(item.due, item.limit.get("until"))
        )
    for open_ in decision.conditions:
        yield from _parsed(open_.condition.due)
    for finding in decision.findings:
        yield from _parsed(finding.accepted_until)
    yield from _parsed(decision.review.due, decision.plan.item.record.expires if decision.plan is not None else None)
    yield from _glass(reading, decision.glass_seq)
    rule = policy.targets.get(decision.target)
    for before in rule.after if rule is not None and rule.min_hours else ():
        for done in was_live(reading, decision.model, decision.version, before)[:1]:
            yield done.when + timedelta(hours=rule.min_hours if rule is not None else 0)


def _of_live(reading: Reading, found: Standing) -> Iterator[datetime]:
    live = found.live
    if live is None:
        return
    yield from _parsed(live.review.due)
    for open_ in live.conditions:
        yield from _parsed(open_.condition.due)
    for signed in live.signed:
        yield from (moment for item in signed.predicate.conditions for moment in _parsed(item.limit.get("until")))
    yield from _glass(reading, live.grant.record.order_seq if live.grant is not None else None)


def _glass(reading: Reading, seq: int | None) -> Iterator[datetime]:
    found = reading.at(seq) if seq is not None else None
    if found is not None and isinstance(found.record, BreakGlassOpened):
        yield from _parsed(found.record.expires)


def _parsed(*texts: object) -> Iterator[datetime]:
    for text in texts:
        if isinstance(text, str):
            yield parse_utc(text)
