"""How long entries must be kept: rules adopted in the ledger, the longest that applies wins, and what is due.

Invariants: a rule counts once `retention_adopted` was signed by enough people; before the first adoption the built-in rules count;
of several rules that apply to an entry the one that ends last wins; an entry about which it cannot be said which rules apply
(its model's registration cannot be read) is kept as long as any rule says; a term that counts from the end of use does not end
while a version that the entry is about is in use, or while that cannot be said.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance.custody.holds import Hold, holds
from cognify_dagster.governance.custody.joint import append_jointly, approvers, joint_problem
from cognify_dagster.governance.custody.use import OPEN, Use, all_readable, moment_of, uses
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.signing.acts import decide_and_append, first_use
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Entry, Receipt
from cognify_dagster.records import ModelRegistered, RetentionAdopted, RetentionRule, kinds
from cognify_dagster.workspace import Reading, Workspace, idempotency_key

DEFAULT_RULES = (
    RetentionRule(
        id="ai-act-logs",
        title="Automatically generated logs",
        months=6,
        frameworks=("eu-ai-act-high-risk", "eu-ai-act"),
        source="Regulation (EU) 2024/1689, Art. 19 and 26(6): at least six months",
    ),
    RetentionRule(
        id="ai-act-documentation",
        title="Documentation of a high-risk system",
        months=120,
        kinds=("package", "final_copy", "release_granted", "deployment_completed", "bundle_exported"),
        frameworks=("eu-ai-act-high-risk", "eu-ai-act"),
        source="Regulation (EU) 2024/1689, Art. 18: ten years",
    ),
    RetentionRule(
        id="bank",
        title="Model risk records of a bank",
        months=84,
        frameworks=("sr26-2", "mrm-genai-aligned", "fair-lending"),
        source="a bank's own schedule, commonly seven years or more; set it to yours",
    ),
    RetentionRule(
        id="insurance",
        title="Model records of an insurer",
        months=36,
        frameworks=("naic-section4", "colorado-insurance", "nydfs-cl-2024-7", "naic-ai"),
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
    last one ends, None if no rule applies, `OPEN` while it cannot end yet. `held` are the legal holds over it."""

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
            if self.until == OPEN:
                return (
                    f"entry {self.seq} ({self.kind}) must be kept while the model it is about is in use, and {rule.months} months "
                    f"after: rule {rule.id!r} ({rule.title})"
                )
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
    for item in reading.all(RetentionAdopted, "retention"):
        problem = joint_problem(reading, item) or first_use(item.record.envelopes, used)
        if problem:
            problems.append((item.seq, problem))
            continue
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
    record = RetentionAdopted(rules=rules, reason=reason, approvers=approvers(signers))
    key = idempotency_key("retention", record.facts_digest(), reading.view.heads.get("retention", -1))
    return append_jointly(workspace, reading, record, signers, "I adopt these retention rules.", key)


def _models(subjects: Iterable[str]) -> tuple[str, ...]:
    return tuple(subject for subject in subjects if subject.startswith("model/"))


class Keeper:
    """Answers for each entry of a reading how long it is kept."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.schedule = schedule_in_force(reading)
        self.holds = holds(reading)
        self._frameworks: dict[str, frozenset[str] | None] = {}
        self._users: dict[str, frozenset[str]] = {}
        self._uses: dict[str, dict[str, Use] | None] = {}

    def of(self, entry: Entry) -> Retention:
        """Return the retention of one entry, each rule counted from where it says that it starts."""
        recorded = moment_of(entry.time_us)
        ends = [(rule, self._end(rule, entry, recorded)) for rule in self.schedule.rules if self._applies(rule, entry)]
        ends.sort(key=lambda pair: (-pair[1].timestamp(), pair[0].id))
        return Retention(entry.seq, entry.kind, recorded, tuple(ends), tuple(self.holds.over(entry)))

    def _applies(self, rule: RetentionRule, entry: Entry) -> bool:
        if rule.kinds and entry.kind not in rule.kinds:
            return False
        if not rule.frameworks:
            return True
        # data is about no model: only a rule that names its kind reaches it, through the models that used it
        scope = self._of_subjects(_models(entry.subjects) or (self._users_of(entry) if rule.kinds else ()))
        return scope is None or bool(scope & set(rule.frameworks))

    def _end(self, rule: RetentionRule, entry: Entry, recorded: datetime) -> datetime:
        start = recorded if rule.starts == "recorded" else max(recorded, self._start(rule, entry, recorded))
        return OPEN if start == OPEN else add_months(start, rule.months)

    def _start(self, rule: RetentionRule, entry: Entry, recorded: datetime) -> datetime:
        """When the use began, or ended, of the versions that an entry is about; when it was recorded, if none was ever used."""
        moments = [recorded]
        about = _models(entry.subjects) or self._users_of(entry)
        for subject in about:
            model, _, version = subject.removeprefix("model/").partition("@")
            if not version and any(other.startswith(f"{subject}@") for other in about):
                continue  # it is said which version is meant
            known = self._uses_of(model)
            if known is None:
                return OPEN
            used = [known[version]] if version in known else [] if version else list(known.values())
            moments += [use.began if rule.starts == "first_live" else use.ended for use in used]
        return max(moments)

    def _uses_of(self, model: str) -> dict[str, Use] | None:
        if model not in self._uses:
            self._uses[model] = uses(self.reading, model) if all_readable(self.reading, model) else None
        return self._uses[model]

    def _users_of(self, entry: Entry) -> frozenset[str]:
        """The model versions whose entries name the data that an entry is about."""
        found: set[str] = set()
        for subject in entry.subjects:
            if subject.startswith("dataset/"):
                if subject not in self._users:
                    listed = self.reading.view.history(subject)
                    self._users[subject] = frozenset(name for item in listed for name in _models(item.entry.subjects))
                found |= self._users[subject]
        return frozenset(found)

    def _of_subjects(self, subjects: Iterable[str]) -> frozenset[str] | None:
        """The frameworks in scope of models; None if that cannot be said."""
        found: set[str] = set()
        for subject in subjects:
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
