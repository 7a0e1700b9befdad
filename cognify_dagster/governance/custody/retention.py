"""How long entries must be kept: rules adopted in the ledger, the longest that applies wins, and what is due.

Invariants: a rule counts once `retention_adopted` was signed by enough people; before the first adoption the built-in rules count;
of several rules that apply to an entry the one that ends last wins; an entry about which it cannot be said which rules apply
(its model's registration cannot be read) is kept as long as any rule says.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cognify_dagster.governance.custody.holds import Hold, holds
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.signing.acts import (
    KEEPERS,
    act_problem,
    decide_and_append,
    people_needed,
    sign_jointly,
)
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.statements import statement_digest
from cognify_dagster.ledger import Entry, Receipt
from cognify_dagster.records import ModelRegistered, RetentionAdopted, RetentionRule, kinds
from cognify_dagster.workspace import Reading, Workspace, idempotency_key

DEFAULT_RULES = (
    RetentionRule(
        id="ai-act-logs",
        title="Automatically generated logs",
        months=6,
        frameworks=("eu-ai-act",),
        source="Regulation (EU) 2024/1689, Art. 19 and 26(6): at least six months",
    ),
    RetentionRule(
        id="ai-act-documentation",
        title="Documentation of a high-risk system",
        months=120,
        kinds=("package", "final_copy", "release_granted", "deployment_completed", "bundle_exported"),
        frameworks=("eu-ai-act",),
        source="Regulation (EU) 2024/1689, Art. 18: ten years",
    ),
    RetentionRule(
        id="bank",
        title="Model risk records of a bank",
        months=84,
        frameworks=("sr26-2", "fair-lending"),
        source="a bank's own schedule, commonly seven years or more; set it to yours",
    ),
    RetentionRule(
        id="insurance",
        title="Model records of an insurer",
        months=36,
        frameworks=("naic-ai",),
        source="an insurer's own schedule, commonly three years or more; set it to yours",
    ),
)


@dataclass(frozen=True)
class Schedule:
    """The rules in force. `seq` is the entry that adopted them, None for the built-in ones; `unreadable` are entries that may have
    adopted others and cannot be read here: nothing may be deleted then."""

    rules: tuple[RetentionRule, ...]
    seq: int | None
    problems: tuple[tuple[int, str], ...] = ()
    unreadable: tuple[int, ...] = ()


@dataclass(frozen=True)
class Retention:
    """How long an entry is kept. `rules` are all that apply, with the moment each ends, the longest first; `until` is when the
    last one ends, None if no rule applies. `held` are the legal holds over it."""

    seq: int
    kind: str
    recorded: datetime
    rules: tuple[tuple[RetentionRule, datetime], ...]
    held: tuple[Hold, ...]

    @property
    def until(self) -> datetime | None:
        """When the longest applicable rule ends."""
        return self.rules[0][1] if self.rules else None

    def due(self, now: datetime) -> bool:
        """Whether the entry's retention has ended and nothing holds it."""
        return not self.held and self.until is not None and self.until <= now

    def refusal(self, now: datetime) -> str | None:
        """Say why it may not be deleted yet, naming the rule that wins, or None."""
        if self.held:
            return f"entry {self.seq} is under the legal hold {self.held[0].hold!r} (entry {self.held[0].seq})"
        if self.until is not None and self.until > now:
            rule = self.rules[0][0]
            return (
                f"entry {self.seq} ({self.kind}) must be kept until {self.until:%Y-%m-%d}: rule {rule.id!r}, {rule.months} months "
                f"({rule.title})"
            )
        return None


def add_months(moment: datetime, months: int) -> datetime:
    """Return the same day so many months later, the last of the month where it has no such day."""
    index = moment.year * 12 + moment.month - 1 + months
    year, month = divmod(index, 12)
    if year > datetime.max.year:
        return datetime.max.replace(tzinfo=moment.tzinfo)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def schedule_in_force(reading: Reading) -> Schedule:
    """Return the retention rules at the end of a reading."""
    current: tuple[RetentionRule, ...] = DEFAULT_RULES
    seq: int | None = None
    problems: list[tuple[int, str]] = []
    used: set[str] = set()
    people = None
    for item in reading.all(RetentionAdopted, "retention"):
        people = people or directory(reading)
        problem = act_problem(
            reading,
            item,
            item.record.envelopes,
            people,
            KEEPERS,
            needed=people_needed(reading),
            claimed=item.record.approvers,
            used=used,
        )
        if problem:
            problems.append((item.seq, problem))
            continue
        used |= {statement_digest(envelope) for envelope in item.record.envelopes}
        current, seq = item.record.rules, item.seq
    found = {item.entry.seq for item in reading.view.history("retention") if reading.at(item.entry.seq) is None}
    return Schedule(current, seq, tuple(problems), tuple(sorted(found)))


def adopt_retention(
    workspace: Workspace, rules: Sequence[RetentionRule], reason: str, signers: Sequence[PersonalKey]
) -> Receipt:
    """Adopt retention rules; two different compliance officers or workspace admins sign.

    Raises:
        GovernanceError: if two rules have one id, a kind is unknown, or not enough people sign.
    """
    names = [rule.id for rule in rules]
    if len(set(names)) != len(names):
        raise GovernanceError("two retention rules have the same id")
    unknown = sorted({kind for rule in rules for kind in rule.kinds} - set(kinds()))
    if unknown:
        raise GovernanceError(f"retention rules name the unknown record kind {unknown[0]!r}")
    return decide_and_append(workspace, lambda reading: _adoption(workspace, reading, tuple(rules), reason, signers))


def _adoption(
    workspace: Workspace,
    reading: Reading,
    rules: tuple[RetentionRule, ...],
    reason: str,
    signers: Sequence[PersonalKey],
) -> Callable[[], Receipt]:
    record = RetentionAdopted(rules=rules, reason=reason, approvers=tuple(sorted({key.person for key in signers})))
    envelopes = sign_jointly(
        reading, record, signers, KEEPERS, "I adopt these retention rules.", needed=people_needed(reading)
    )
    return lambda: workspace.append(
        record.model_copy(update={"envelopes": envelopes}),
        actor=signers[0].person,
        idem=idempotency_key("retention", record.facts_digest(), reading.view.heads.get("retention", -1)),
        expected_size=reading.size,
        checkpoint=True,
    )


class Keeper:
    """Answers for each entry of a reading how long it is kept."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.schedule = schedule_in_force(reading)
        self.holds = holds(reading)
        self._frameworks: dict[str, frozenset[str] | None] = {}

    def of(self, entry: Entry) -> Retention:
        """Return the retention of one entry, counted from when it was recorded."""
        recorded = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=entry.time_us)
        frameworks = self._of_entry(entry)
        ends = [
            (rule, add_months(recorded, rule.months))
            for rule in self.schedule.rules
            if (not rule.kinds or entry.kind in rule.kinds)
            and (not rule.frameworks or frameworks is None or frameworks & set(rule.frameworks))
        ]
        ends.sort(key=lambda pair: (-pair[1].timestamp(), pair[0].id))
        return Retention(entry.seq, entry.kind, recorded, tuple(ends), tuple(self.holds.over(entry)))

    def _of_entry(self, entry: Entry) -> frozenset[str] | None:
        """The frameworks in scope of the models that an entry is about; None if that cannot be said."""
        found: set[str] = set()
        for subject in entry.subjects:
            if subject.startswith("model/"):
                scope = self._of_model(subject.partition("@")[0])
                if scope is None:
                    return None
                found |= scope
        return frozenset(found)

    def _of_model(self, subject: str) -> frozenset[str] | None:
        if subject not in self._frameworks:
            scope: frozenset[str] | None = frozenset()
            for item in self.reading.view.history(subject):
                if item.entry.kind != ModelRegistered.kind:
                    continue
                found = self.reading.at(item.entry.seq)
                if found is None or not isinstance(found.record, ModelRegistered):
                    scope = None
                    break
                scope = (scope or frozenset()) | set(found.record.frameworks)
            self._frameworks[subject] = scope
        return self._frameworks[subject]


def retention_list(reading: Reading) -> list[Retention]:
    """Return the retention of every entry, with the rules that apply and the longest first."""
    keeper = Keeper(reading)
    return [keeper.of(item.entry) for item in reading.view.entries]


def due_items(reading: Reading, now: datetime) -> list[Retention]:
    """Return the entries whose retention has ended, whose payload is still there and over which no hold stands."""
    keeper = Keeper(reading)
    listed = (keeper.of(item.entry) for item in reading.view.entries if item.payload is not None)
    return [item for item in listed if item.due(now)]
