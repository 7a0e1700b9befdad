"""The inventory of models: one row a model, filtered, sorted and exported. Pure, but for keeping the rows of the newest board."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cognify_dagster.review.reading.board import Snapshot
from cognify_dagster.review.reading.briefs import (
    BLOCKED,
    LIVE,
    PREPARING,
    RETIRED,
    SUSPENDED,
    UNATTESTED,
    WAITING,
    ModelBrief,
    VersionBrief,
    moment_of,
)

if TYPE_CHECKING:
    from cognify_dagster.review.site import Site

KEY: Hashable = "reading.inventory"
SORTS = ("model", "owner", "tier", "status", "next_review", "open_findings", "changed")
FIELDS = (
    "model", "title", "owner", "tier", "tier_signed", "status", "live", "newest_version", "waiting", "next_review", "review_overdue",
    "open_findings", "frameworks", "versions", "registered",
)  # fmt: skip
PAGE = 50
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Row:
    """One model. `live` are target and version of what is in use; `waiting` counts versions that wait for a signature or are held up."""

    model: str
    title: str
    owner: str
    tier: str
    tier_signed: bool
    status: str
    live: tuple[tuple[str, str, str], ...]
    newest_version: str
    waiting: int
    next_review: str | None
    review_overdue: bool
    open_findings: int
    severities: str
    frameworks: tuple[str, ...]
    versions: int
    registered_us: int
    changed: int

    def as_json(self) -> dict[str, Any]:
        """Return it as the export has it."""
        found = asdict(self)
        when = moment_of(self.registered_us)
        found["registered"] = when.strftime("%Y-%m-%dT%H:%M:%SZ") if when else None
        found["live"] = [
            {"target": target, "version": version, "standing": word} for target, version, word in self.live
        ]
        found["frameworks"] = list(self.frameworks)
        return {name: found[name] for name in FIELDS}


@dataclass(frozen=True)
class Wanted:
    """What of the inventory is asked for; empty texts ask for all."""

    text: str = ""
    owner: str = ""
    tier: str = ""
    status: str = ""
    sort: str = "model"
    down: bool = False
    page: int = 1

    def query(self, **change: Any) -> dict[str, Any]:
        """Return the query parameters of this choice with some changed; None for those left out."""
        given = {
            "q": self.text, "owner": self.owner, "tier": self.tier, "status": self.status,
            "sort": self.sort if self.sort != "model" else "", "down": "1" if self.down else "",
            "page": str(self.page) if self.page > 1 else "",
        } | change  # fmt: skip
        return {name: value or None for name, value in given.items()}


@dataclass(frozen=True)
class Listing:
    """What is shown: rows of a page, how many there are in all, and what can be chosen."""

    rows: tuple[Row, ...]
    total: int
    pages: int
    wanted: Wanted
    owners: tuple[str, ...]
    tiers: tuple[str, ...]
    statuses: tuple[str, ...]


class Inventory:
    """The rows of the board's newest snapshot: one is made again only when the board says something new of its model. Any thread may ask."""

    def __init__(self) -> None:
        self._made: Mapping[str, tuple[ModelBrief, Sequence[VersionBrief], Row]] = {}
        self._last: tuple[Snapshot, tuple[Row, ...]] | None = None

    def rows(self, snapshot: Snapshot) -> tuple[Row, ...]:
        """Return the rows of all models, by name."""
        last = self._last
        if last is not None and last[0] is snapshot:
            return last[1]
        old, made = self._made, {}
        for name in sorted(snapshot.models):
            brief, versions = snapshot.models[name], snapshot.versions.get(name, ())
            kept = old.get(name)
            if kept is None or kept[0] is not brief or kept[1] is not versions:
                kept = (brief, versions, _row(brief, versions))
            made[name] = kept
        rows = tuple(row for _, _, row in made.values())
        self._made, self._last = made, (snapshot, rows)
        return rows


def rows_of(site: Site, snapshot: Snapshot, sees: Callable[[str], bool] = lambda _: True) -> list[Row]:
    """Return the inventory of the models that somebody may see, by name."""
    kept: Inventory = site.remember(KEY, Inventory)
    return [row for row in kept.rows(snapshot) if sees(row.model)]


def _row(item: ModelBrief, versions: Sequence[VersionBrief]) -> Row:
    waiting = sum(version.state in (WAITING, BLOCKED) for version in versions)
    packaged = (version for version in versions if version.package_seq is not None)
    newest = next(packaged, versions[0] if versions else None)
    found = Counter(finding.severity for finding in item.open_findings)
    severities = ", ".join(f"{found[word]} {word}" for word in ("critical", "high", "medium", "low") if found[word])
    return Row(
        model=item.model,
        title=item.title,
        owner=item.owner,
        tier=item.tier,
        tier_signed=item.classified,
        status=status_of(item, versions),
        live=tuple((use.target, use.version, use.standing) for use in item.in_use),
        newest_version=newest.version if newest is not None else "",
        waiting=waiting,
        next_review=item.next_review,
        review_overdue=any(use.overdue for use in item.in_use),
        open_findings=len(item.open_findings),
        severities=severities,
        frameworks=item.frameworks,
        versions=len(versions),
        registered_us=item.registered_us,
        changed=max((version.package_seq or -1 for version in versions), default=-1),
    )


def status_of(item: ModelBrief, versions: Sequence[VersionBrief]) -> str:
    """Return a model's status in a word: the worst that is true of what is in use, else what its versions wait for."""
    standings = {use.standing for use in item.in_use}
    if item.retired:
        return RETIRED
    for word in (SUSPENDED, UNATTESTED, LIVE):
        if word in standings:
            return word
    states = {version.state for version in versions}
    return next((word for word in (WAITING, BLOCKED) if word in states), PREPARING)


def listing(rows: Sequence[Row], wanted: Wanted, size: int = PAGE) -> Listing:
    """Filter, sort and cut the inventory."""
    text = wanted.text.lower()
    found = [
        row
        for row in rows
        if (not text or text in f"{row.model} {row.title} {row.owner} {' '.join(row.frameworks)}".lower())
        and wanted.owner in ("", row.owner)
        and wanted.tier in ("", row.tier)
        and wanted.status in ("", row.status)
    ]
    found = _sorted(found, wanted)
    pages = max(1, -(-len(found) // size))
    page = min(max(1, wanted.page), pages)
    return Listing(
        tuple(found[(page - 1) * size : page * size]),
        len(found),
        pages,
        Wanted(wanted.text, wanted.owner, wanted.tier, wanted.status, wanted.sort, wanted.down, page),
        tuple(sorted({row.owner for row in rows})),
        tuple(sorted({row.tier for row in rows})),
        tuple(sorted({row.status for row in rows})),
    )


def _sorted(rows: list[Row], wanted: Wanted) -> list[Row]:
    field = wanted.sort if wanted.sort in SORTS else "model"
    empty = [row for row in rows if getattr(row, field) in (None, "")]  # what has no date comes last, either way
    full = [row for row in rows if getattr(row, field) not in (None, "")]
    return sorted(full, key=lambda row: (getattr(row, field), row.model), reverse=wanted.down) + empty


def as_csv(rows: Iterable[Row]) -> str:
    """Return rows as CSV (RFC 4180). A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for row in rows:
        values = row.as_json()
        values["live"] = "; ".join(
            f"{item['target']}: {item['version']} ({item['standing']})" for item in values["live"]
        )
        values["frameworks"] = "; ".join(values["frameworks"])
        writer.writerow([_cell(values[name]) for name in FIELDS])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def as_jsonl(rows: Iterable[Row]) -> str:
    """Return rows as JSON, one a line."""
    return "".join(json.dumps(row.as_json(), ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
