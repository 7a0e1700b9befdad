"""What people wrote about a model version: which text of a section counts, who says they wrote it, and who signed under it.

Invariants: the newest entry of a section by a writer who may write it is its text, and earlier ones stay readable; the stated author
is a claim until that person signed the digest of the text; a text that a program drafted does not count until a person approved
exactly this text, and it stays drafted by a program though a later entry with the same text says otherwise; a signature under a
text of one version says nothing about another version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cognify_dagster.governance.oversight.signed import signature_ended
from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.signing.acts import act_problem, first_use
from cognify_dagster.records import SectionApproved, SectionWritten
from cognify_dagster.workspace import Reading, Recorded

Written = Recorded[SectionWritten]


@dataclass(frozen=True)
class Approval:
    """A signature under a text that counts. `roles` are those the person held then; `role` the one in which they signed."""

    seq: int
    leaf: str
    time_us: int
    person: str
    role: str
    roles: tuple[str, ...]
    comment: str = ""


@dataclass(frozen=True)
class Section:
    """The text of one section as it stands, with the signatures under it.

    Attributes:
        item: the entry that holds the text.
        author: the stated author if they were enrolled then, else None: "not stated".
        ai_drafted: this entry, or an earlier one with the same text, says that a program drafted it.
        approvals: of people who answer for exactly this text, oldest first.
        author_signed: the stated author's own signature, where there is one.
    """

    item: Written
    author: str | None
    ai_drafted: bool
    approvals: tuple[Approval, ...] = ()
    author_signed: Approval | None = None

    @property
    def counts(self) -> bool:
        """Whether the text, or the reason why there is none, counts as written by people."""
        return not self.ai_drafted or bool(self.approvals)

    @property
    def reviewed(self) -> bool:
        """Whether anybody signed under this text for this version."""
        return bool(self.approvals) or self.author_signed is not None


@dataclass(frozen=True)
class Sections:
    """All sections of a version by name, every text that each ever had (oldest first), and entries without effect."""

    items: Mapping[str, Section]
    history: Mapping[str, tuple[Written, ...]]
    problems: tuple[tuple[int, str], ...] = ()


def sections_of(reading: Reading, people: Directory, model: str, version: str) -> Sections:
    """Return what people wrote about a version.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        model: model key.
        version: version id.
    """
    subject, problems = f"model/{model}@{version}", list[tuple[int, str]]()
    history: dict[str, list[Written]] = {}
    for item in reading.all(SectionWritten, subject):
        problem = text_problem_of(reading, people, item)
        if problem:
            problems.append((item.seq, f"the text of section {item.record.section} does not count: {problem}"))
        else:
            history.setdefault(item.record.section, []).append(item)
    found = {name: _section(people, texts) for name, texts in sorted(history.items())}
    used: set[str] = set()
    for signed in reading.all(SectionApproved, subject):
        record = signed.record
        problem = approval_problem(reading, signed, people, history.get(record.section, ()))
        problem = problem or first_use((record.envelope,), used) or signature_ended(reading, people, record.envelope)
        if problem:
            problems.append((signed.seq, f"the signature under section {record.section} does not count: {problem}"))
            continue
        section = found[record.section]
        if section.item.seq == record.section_seq:  # one under an earlier text says nothing about this one
            found[record.section] = _with(section, record.capacity, _approval(people, signed))
    return Sections(found, {name: tuple(texts) for name, texts in history.items()}, tuple(sorted(problems)))


def _section(people: Directory, texts: Sequence[Written]) -> Section:
    newest = texts[-1]
    author, digest = newest.record.author_stated, newest.record.text_digest
    known = author if author and people.person_at(author, newest.seq) is not None else None
    drafted = any(item.record.ai_drafted for item in texts if item.record.text_digest == digest)
    return Section(newest, known, drafted)


def _with(section: Section, capacity: str, approval: Approval) -> Section:
    if capacity == "author":
        return replace(section, author_signed=section.author_signed or approval)
    return replace(section, approvals=(*section.approvals, approval))


def _approval(people: Directory, item: Recorded[SectionApproved]) -> Approval:
    record = item.record
    roles = tuple(sorted(people.roles_at(record.approved_by, item.seq, item.time_us)))
    return Approval(item.seq, item.leaf, item.time_us, record.approved_by, record.role, roles, record.comment)


def text_problem_of(reading: Reading, people: Directory, item: Written) -> str | None:
    """Say why the text of an entry does not count, or None: its writer, or a source that holds another text."""
    problem, carried = people.writer_problem(item.entry.entry) or item.record.problem(), item.record.carried_from
    if problem or carried is None:
        return problem
    source = reading.find(SectionWritten, carried.seq, item.seq)
    if source is None:
        return f"entry {carried.seq}, from which it was taken over, is no text of a section before it"
    told, holds = item.record, source.record
    same = (holds.model, holds.version, holds.section) == (told.model, carried.version, told.section)
    if not same or holds.text_digest != told.text_digest:
        return f"entry {carried.seq}, from which it was taken over, holds another text"
    if holds.ai_drafted and not told.ai_drafted:
        return f"entry {carried.seq}, from which it was taken over, says that a program drafted the text"
    return None


def approval_problem(
    reading: Reading, item: Recorded[SectionApproved], people: Directory, texts: Sequence[Written]
) -> str | None:
    """Say why a signature under a section did not count when it was given, or None.

    Args:
        reading: verified entries before and after it.
        item: the signature.
        people: the directory of that reading.
        texts: the texts of this section of the version that count, oldest first.
    """
    record, before = item.record, [text for text in texts if text.seq < item.seq]
    if not before or before[-1].seq != record.section_seq:
        now = f"; that is entry {before[-1].seq}" if before else ""
        return f"entry {record.section_seq} is not the newest text of the section{now}"
    section = _section(people, before)
    if section.item.record.text_digest != record.text_digest:
        return f"it names another text than entry {record.section_seq} holds"
    if section.ai_drafted != record.ai_drafted:
        return "it says something else than the entry about who drafted the text"
    if record.capacity == "author" and record.approved_by != section.item.record.author_stated:
        return f"{people.name(record.approved_by)} is not the stated author of entry {record.section_seq}"
    policy = people.policy_at(item.seq)
    acting = policy.acting_roles if policy is not None else ()
    roles = {record.role} & set(acting)
    return act_problem(
        reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.approved_by,), allows=True
    )
