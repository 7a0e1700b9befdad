"""What waits for a person, and what others wait for. Pure reads of the board; modules with queues of their own add sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from cognify_dagster.documents.labels import section_title
from cognify_dagster.governance.oversight.news import CONDITION_NOTICE, REVIEW_NOTICE
from cognify_dagster.records import parse_utc, utc
from cognify_dagster.review.access.scope import datasets_of
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.reading.board import Snapshot
from cognify_dagster.review.reading.briefs import (
    BLOCKED,
    LIVE,
    READY,
    SUSPENDED,
    WAITING,
    ModelBrief,
    VersionBrief,
)
from cognify_dagster.review.rendering import make_path

if TYPE_CHECKING:
    from cognify_dagster.review.visit import Visit

KINDS = {
    "sign-off": "Sign-offs",
    "act": "Acts to sign",
    "dataset": "Changes of data to approve",
    "section": "Sections to write",
    "condition": "Conditions",
    "finding": "Findings",
    "review": "Periodic reviews",
    "held": "Held up",
}
"""Kinds of work in the order in which they are shown, with their headings."""


@dataclass(frozen=True)
class Item:
    """One thing that waits.

    Args:
        kind: one of `KINDS`.
        title: what is to be done, as a short sentence.
        link: the page on which it is done, a path of this site.
        people: ids of those it waits for; nobody if it waits for no person of the ledger.
        who: names of those it waits for, or what else it waits for.
        model, version: what it is about; empty where it is about neither.
        tier: the model's tier.
        asked_by: who asks, a name.
        since_us: since when, microseconds since 1970 UTC.
        due: until when, UTC, None without a date.
        note: more, in a sentence.
        dataset: the dataset it is about, if it is about one.
    """

    kind: str
    title: str
    link: str
    people: tuple[str, ...]
    who: str = ""
    model: str = ""
    version: str = ""
    tier: str = ""
    asked_by: str = ""
    since_us: int = 0
    due: str | None = None
    note: str = ""
    dataset: str = ""

    def overdue(self, now: datetime) -> bool:
        """Whether it should have been done."""
        return self.due is not None and parse_utc(self.due) <= now

    def soon(self, now: datetime) -> bool:
        """Whether it is due within a week."""
        return self.due is not None and parse_utc(self.due) <= now + timedelta(days=7)


SOURCES: list[Callable[[Visit], Iterable[Item]]] = []
"""Other modules add what waits in their queues: acts that want signatures, for example."""


@dataclass(frozen=True)
class Inbox:
    """The items of a visitor: theirs by kind (a key of `KINDS`), and those that wait for others."""

    mine: tuple[tuple[str, tuple[Item, ...]], ...]
    others: tuple[Item, ...]

    @property
    def count(self) -> int:
        """How many wait for the visitor."""
        return sum(len(items) for _, items in self.mine)


def inbox_of(visit: Visit, snapshot: Snapshot) -> Inbox:
    """Return what waits, for the visitor and for others, of what they may see."""
    user = visit.user
    me = user.person if user is not None else None
    items = [item for item in board_items(visit, snapshot) if user is None or _sees(visit, user, item)]
    if me is not None:
        for source in SOURCES:
            items += source(visit)
    mine = [item for item in items if me is not None and me in item.people]
    grouped = [(kind, tuple(sorted((i for i in mine if i.kind == kind), key=_urgency))) for kind in KINDS]
    others = sorted((item for item in items if me is None or me not in item.people), key=_urgency)
    return Inbox(tuple((kind, found) for kind, found in grouped if found), tuple(others))


def _sees(visit: Visit, user: User, item: Item) -> bool:
    if item.dataset and user.models is not None:
        return item.dataset.partition("@")[0] in datasets_of(visit.reading, user.models)
    return not item.model or user.sees(item.model)


def _urgency(item: Item) -> tuple[str, int]:
    return item.due or "9999", item.since_us


def board_items(visit: Visit, snapshot: Snapshot) -> list[Item]:
    """Return everything that waits by the board, made once for each snapshot and day; names are those of today's directory."""
    key, now = "reading.items", visit.now
    kept: tuple[Snapshot, str, list[Item]] | None = visit.site.state.get(key)
    if kept is not None and kept[0] is snapshot and kept[1] == now.date().isoformat():
        return kept[2]
    from cognify_dagster.governance import directory

    name = directory(visit.reading).name
    found: list[Item] = []
    for model, versions in snapshot.versions.items():
        brief = snapshot.models.get(model)
        for version in versions:
            found += _of_version(version, brief, name, now)
    for brief in snapshot.models.values():
        found += _of_model(brief, name, now)
    for data in snapshot.datasets.values():
        text = f"Decide about the change of the data set {data.name}"
        who = ", ".join(name(person) for person in data.people) or "nobody enrolled so far"
        found.append(
            Item(
                "dataset", text, make_path("datasets", data.name), data.people, who,
                asked_by=name(data.author), since_us=data.since_us, note="; ".join(data.texts),
                dataset=data.name,
            )
        )  # fmt: skip
    visit.site.state[key] = (snapshot, now.date().isoformat(), found)
    return found


def _of_version(
    item: VersionBrief, model: ModelBrief | None, name: Callable[[str], str], now: datetime
) -> Iterator[Item]:
    tier = item.tier or (model.tier if model else "")
    base = Item(
        "sign-off", "", make_path("models", item.model, item.version), (), "", item.model, item.version, tier,
        name(item.asked_by) if item.asked_by else "", item.since_us or item.package_us,
    )  # fmt: skip
    owners = model.owners if model else ()
    if item.state == WAITING:
        yield replace(
            base,
            title=f"Read {item.model} {item.version} and sign: {item.stage_title}",
            people=item.people,
            who=", ".join(item.waits_for) or "nobody who may sign is enrolled",
            due=item.due,
            note=f"{item.signed} of {item.wanted} sign-off stages are done",
        )
    if item.state in (BLOCKED, SUSPENDED):
        what = "is suspended" if item.state == SUSPENDED else "is held up"
        more = f" (and {item.reasons - 1} more reasons)" if item.reasons > 1 else ""
        people = tuple(person for person in owners if person.startswith("person/"))
        who = ", ".join(map(name, owners)) or name(item.asked_by)
        yield replace(
            base,
            kind="held",
            title=f"{item.model} {item.version} {what}",
            people=people,
            who=who,
            note=item.text + more,
        )
    if item.unwritten and item.state in (WAITING, BLOCKED):
        writers = tuple(person for person in owners if person.startswith("person/")) or (item.asked_by,)
        titles = ", ".join(section_title(section) for section in item.unwritten[:4])
        more = f" and {len(item.unwritten) - 4} more" if len(item.unwritten) > 4 else ""
        yield replace(
            base,
            kind="section",
            title=f"Write the missing sections of {item.model} {item.version}",
            link=make_path("models", item.model, item.version, "sections"),
            people=writers,
            who=", ".join(map(name, writers)),
            note=titles + more,
        )
    for condition in item.conditions:
        if condition.due is None or parse_utc(condition.due) - CONDITION_NOTICE > now or item.state not in _CONDITIONED:
            continue
        people = tuple(dict.fromkeys((condition.person, *owners)))
        yield replace(
            base,
            kind="condition",
            title=f"Condition on {item.model} {item.version}: {condition.text}",
            people=people,
            who=", ".join(map(name, people)),
            asked_by=name(condition.person),
            due=condition.due,
        )


_CONDITIONED = (WAITING, BLOCKED, READY, LIVE, SUSPENDED)


def _of_model(item: ModelBrief, name: Callable[[str], str], now: datetime) -> Iterator[Item]:
    for finding in item.open_findings:
        people = tuple(dict.fromkeys([*([finding.owner] if finding.owner else []), *finding.people]))
        about = f"{item.model} {finding.version}" if finding.version else item.model
        yield Item(
            "finding", f"Resolve finding {finding.seq} about {about}: {finding.title}",
            make_path("models", item.model) + "#findings", people, ", ".join(map(name, people)), item.model,
            finding.version or "", item.tier, finding.raised_by, finding.since_us, finding.due, f"severity {finding.severity}",
        )  # fmt: skip
    for use in item.in_use:
        if use.review_due is None or parse_utc(use.review_due) - REVIEW_NOTICE > now:
            continue
        people = tuple(dict.fromkeys((*item.owners, *item.reviewers)))
        yield Item(
            "review", f"Review {item.model} {use.version} in use on {use.target}", make_path("models", item.model), people,
            ", ".join(map(name, people)), item.model, use.version, item.tier, "the policy", use.since_us, use.review_due,
        )  # fmt: skip


def _acts(visit: Visit) -> Iterator[Item]:
    """Acts that want signatures."""
    from cognify_dagster.governance import directory
    from cognify_dagster.review.signing.acts import path_of, waiting_for

    name = directory(visit.reading).name
    for act in waiting_for(visit.site, visit.person):
        due = utc(datetime.fromtimestamp(act.expires, timezone.utc))
        people = act.missing
        yield Item(
            "act", act.title, path_of(act.id), people, ", ".join(map(name, people)),
            asked_by=name(act.created_by) if act.created_by else "", since_us=act.created * 1_000_000, due=due,
        )  # fmt: skip


SOURCES.append(_acts)
