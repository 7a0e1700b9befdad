"""What waits, one item a thing: made of briefs, pure. An item asks somebody for something; it never decides anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cognify_dagster.documents.labels import section_title
from cognify_dagster.governance.oversight.news import CONDITION_NOTICE, REVIEW_NOTICE
from cognify_dagster.records import parse_utc
from cognify_dagster.review.reading.briefs import (
    BLOCKED,
    LIVE,
    READY,
    SUSPENDED,
    WAITING,
    DatasetBrief,
    ModelBrief,
    VersionBrief,
)
from cognify_dagster.review.rendering import make_path

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
SOON = timedelta(days=7)
OVERDUE, NEAR, OPEN = "overdue", "due soon", "open"
_CONDITIONED = (WAITING, BLOCKED, READY, LIVE, SUSPENDED)
Name = Callable[[str], str]


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
        key: tells it from every other thing that is asked; the same as long as the same is asked.
        plain: the title without words that people wrote, for what leaves the site; empty where the title has none.
        stage, roles: of a sign-off, the stage that is open and the roles that may sign it.
        owners: ids of the model's owners.
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
    key: str = ""
    plain: str = ""
    stage: str = ""
    roles: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()

    def overdue(self, now: datetime) -> bool:
        """Whether it should have been done."""
        return self.due is not None and parse_utc(self.due) <= now

    def soon(self, now: datetime) -> bool:
        """Whether it is due within a week."""
        return self.due is not None and parse_utc(self.due) <= now + SOON

    def phase(self, now: datetime) -> str:
        """Return how pressing it is: overdue, due soon, or open."""
        return OVERDUE if self.overdue(now) else NEAR if self.soon(now) else OPEN

    def days_late(self, now: datetime) -> int:
        """Return the whole days since it was due."""
        return max(0, (now - parse_utc(self.due)).days) if self.due is not None else 0

    def late(self, now: datetime) -> str:
        """Say how long it has been overdue: `3 days`."""
        days = self.days_late(now)
        return f"{days} day{'s' if days > 1 else ''}" if days else "less than a day"

    @property
    def outside(self) -> str:
        """The title as it may leave the site: without words that people wrote."""
        return self.plain or self.title


def urgency(item: Item) -> tuple[str, int]:
    """Sort the most pressing first: what is due soonest, then what waits longest."""
    return item.due or "9999", item.since_us


def of_version(item: VersionBrief, model: ModelBrief | None, name: Name, now: datetime) -> Iterator[Item]:
    """Yield what a version waits for. Most versions of a large ledger wait for nothing, which costs next to nothing here."""
    if item.state not in _CONDITIONED or (item.state in (READY, LIVE) and not item.conditions):
        return
    owners = model.owners if model else ()
    base = Item(
        "sign-off", "", make_path("models", item.model, item.version), (), "", item.model, item.version,
        item.tier or (model.tier if model else ""), name(item.asked_by) if item.asked_by else "",
        item.since_us or item.package_us, owners=owners,
    )  # fmt: skip
    if item.state == WAITING:
        yield replace(
            base,
            title=f"Read {item.model} {item.version} and sign: {item.stage_title}",
            people=item.people,
            who=", ".join(item.waits_for) or "nobody who may sign is enrolled",
            due=item.due,
            note=f"{item.signed} of {item.wanted} sign-off stages are done",
            key=f"sign-off:{item.model}:{item.version}:{item.target}:{item.package_seq}:{item.stage}",
            stage=item.stage,
            roles=item.roles,
        )
    if item.state in (BLOCKED, SUSPENDED):
        yield _held(base, item, owners, name)
    if item.unwritten and item.state in (WAITING, BLOCKED):
        yield _sections(base, item, owners, name)
    yield from _conditions(base, item, owners, name, now)


def of_preparation(versions: Sequence[VersionBrief], model: ModelBrief | None, name: Name) -> Iterator[Item]:
    """Yield that the newest version of a model does not get as far as a package; older ones gave way to it."""
    newest = max(versions, key=lambda item: item.opened_us, default=None)
    if newest is None or not newest.stuck:
        return
    owners = model.owners if model else ()
    yield Item(
        "held", f"{newest.model} {newest.version} gets no package: {newest.text}",
        make_path("models", newest.model, newest.version), tuple(one for one in owners if one.startswith("person/")),
        ", ".join(map(name, owners)) or "whoever may run its pipeline", newest.model, newest.version,
        model.tier if model else "", since_us=newest.opened_us, note="Its page says what is missing and who can do it.",
        key=f"preparing:{newest.model}:{newest.version}:{newest.text}", owners=owners,
        plain=f"{newest.model} {newest.version} gets no package",
    )  # fmt: skip


def _held(base: Item, item: VersionBrief, owners: tuple[str, ...], name: Name) -> Item:
    more = f" (and {item.reasons - 1} more reasons)" if item.reasons > 1 else ""
    return replace(
        base,
        kind="held",
        title=f"{item.model} {item.version} {'is suspended' if item.state == SUSPENDED else 'is held up'}",
        people=tuple(person for person in owners if person.startswith("person/")),
        who=", ".join(map(name, owners)) or name(item.asked_by),
        note=item.text + more,
        key=f"held:{item.model}:{item.version}:{item.state}",
    )


def _sections(base: Item, item: VersionBrief, owners: tuple[str, ...], name: Name) -> Item:
    writers = tuple(person for person in owners if person.startswith("person/")) or (item.asked_by,)
    titles = ", ".join(section_title(section) for section in item.unwritten[:4])
    more = f" and {len(item.unwritten) - 4} more" if len(item.unwritten) > 4 else ""
    return replace(
        base,
        kind="section",
        title=f"Write the missing sections of {item.model} {item.version}",
        link=make_path("models", item.model, item.version, "sections"),
        people=writers,
        who=", ".join(map(name, writers)),
        note=titles + more,
        key=f"section:{item.model}:{item.version}",
    )


def _conditions(base: Item, item: VersionBrief, owners: tuple[str, ...], name: Name, now: datetime) -> Iterator[Item]:
    for condition in item.conditions:
        if condition.due is None or parse_utc(condition.due) - CONDITION_NOTICE > now:
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
            key=f"condition:{condition.seq}:{condition.index}",
            plain=f"Meet a condition on {item.model} {item.version} (entry {condition.seq})",
        )


def of_model(item: ModelBrief, name: Name, now: datetime) -> Iterator[Item]:
    """Yield what a model waits for: findings and periodic reviews."""
    for finding in item.open_findings:
        people = tuple(dict.fromkeys([*([finding.owner] if finding.owner else []), *finding.people]))
        about = f"{item.model} {finding.version}" if finding.version else item.model
        yield Item(
            "finding", f"Resolve finding {finding.seq} about {about}: {finding.title}",
            make_path("models", item.model) + "#findings", people, ", ".join(map(name, people)), item.model,
            finding.version or "", item.tier, finding.raised_by, finding.since_us, finding.due, f"severity {finding.severity}",
            key=f"finding:{finding.seq}", plain=f"Resolve finding {finding.seq} about {about} ({finding.severity})",
            owners=item.owners,
        )  # fmt: skip
    for use in item.in_use:
        if use.review_due is None or parse_utc(use.review_due) - REVIEW_NOTICE > now:
            continue
        people = tuple(dict.fromkeys((*item.owners, *item.reviewers)))
        yield Item(
            "review", f"Review {item.model} {use.version} in use on {use.target}", make_path("models", item.model), people,
            ", ".join(map(name, people)), item.model, use.version, item.tier, "the policy", use.since_us, use.review_due,
            key=f"review:{item.model}:{use.version}:{use.target}", owners=item.owners,
        )  # fmt: skip


def of_dataset(data: DatasetBrief, name: Name) -> Item:
    """Return what the change of a dataset waits for."""
    return Item(
        "dataset", f"Decide about the change of the data set {data.name}", make_path("datasets", data.name), data.people,
        ", ".join(name(person) for person in data.people) or "nobody enrolled so far",
        asked_by=name(data.author), since_us=data.since_us, note="; ".join(data.texts), dataset=data.name,
        key=f"dataset:{data.name}:{data.seq}",
    )  # fmt: skip
