"""How sections are written and signed: texts by the workspace's own workload, signatures under them by people.

Invariants: a text that stands already is not recorded again; a file or form with one wrong text records none; a text carried over
from another version names the entry it came from, and no signature is carried over with it; a signature is for the newest text only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.oversight.sections import Section, approval_problem, sections_of
from cognify_dagster.governance.oversight.signed import NO_ROLE, before_signing, signature_ended
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.signing.acts import UNSIGNED, already, decide_and_append
from cognify_dagster.governance.signing.drafts import ActForm, perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import (
    CarriedFrom,
    SectionApproved,
    SectionWritten,
    TrainingRun,
    VersionOpened,
    build,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key, unknown_model


@dataclass(frozen=True)
class SectionText:
    """A text to be recorded, as a file or a form holds it. `author` is the stated one, None where it is not stated."""

    section: str
    text: str = ""
    author: str | None = None
    ai_drafted: bool = False
    declared_unavailable: str = ""
    source: str = ""
    carried_from: CarriedFrom | None = None


@dataclass(frozen=True)
class SectionChange:
    """What became of a text: written as a new entry, or the same as what stands already (`unchanged`)."""

    section: str
    seq: int
    revision: int
    unchanged: bool
    carried_from: CarriedFrom | None = None


# --- writing ---------------------------------------------------------------------------------------------------------


def write_sections(
    workspace: Workspace, model: str, version: str, texts: Sequence[SectionText], *, ahead: bool = False
) -> list[SectionChange]:
    """Record texts of sections as the workspace's own workload; a text that stands already writes nothing.

    Args:
        workspace: where.
        model: model key.
        version: version id.
        texts: the texts, each section at most once.
        ahead: whether the version need not have been opened yet.

    Returns:
        One change for each text, in the order given.

    Raises:
        GovernanceError: if a stated author is not enrolled, the version is unknown, or a section is given twice.
        RecordError: if a text cannot be recorded.
    """
    names = [item.section for item in texts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GovernanceError(f"section {twice[0]} is given twice")
    reading = workspace.read()
    require_version(reading, model, version, ahead=ahead)
    for item in texts:
        _record(reading, model, version, item, 1, None)  # all of them could be recorded, or none is
    return [_write(workspace, model, version, item) for item in texts]


def require_version(reading: Reading, model: str, version: str, *, ahead: bool = False) -> None:
    """Raise unless the version was opened, or with `ahead` the model is at least known.

    Raises:
        GovernanceError: saying what is known.
    """
    opened = [item.record.version for item in reading.all(VersionOpened, f"model/{model}")]
    if version in opened or (ahead and f"model/{model}" in reading.view.heads):
        return
    if f"model/{model}" not in reading.view.heads:
        raise GovernanceError(unknown_model(reading, model))
    known = ", ".join(opened[-5:]) or "none"
    raise GovernanceError(f"version {version!r} of {model} was never opened; the newest ones are: {known}")


def _write(workspace: Workspace, model: str, version: str, text: SectionText) -> SectionChange:
    changed: list[SectionChange] = []

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        found = sections_of(reading, directory(reading), model, version)
        texts, now = found.history.get(text.section, ()), found.items.get(text.section)
        if now is not None and _same(now, text):
            stands = now.item
            changed[:] = [SectionChange(text.section, stands.seq, stands.record.revision, True)]
            return already(reading, stands.seq)
        revision = texts[-1].record.revision + 1 if texts else 1
        record = _record(reading, model, version, text, revision, texts[-1].seq if texts else None)
        changed[:] = [SectionChange(text.section, reading.size, revision, False, text.carried_from)]
        key = idempotency_key("section_written", model, version, text.section, reading.size)
        return lambda: workspace.append(record, idem=key, expected_size=reading.size)

    decide_and_append(workspace, attempt)
    return changed[0]


def _same(now: Section, text: SectionText) -> bool:
    record = now.item.record
    return (record.text, record.declared_unavailable, record.author_stated, now.ai_drafted) == (
        text.text,
        text.declared_unavailable,
        text.author,
        text.ai_drafted or (now.ai_drafted and record.text == text.text),
    )


def _record(
    reading: Reading, model: str, version: str, text: SectionText, revision: int, supersedes: int | None
) -> SectionWritten:
    if text.author is not None and directory(reading).person_at(text.author, reading.size) is None:
        raise GovernanceError(
            f"section {text.section}: the author {text.author} is not enrolled here (`cognify people list`); name an enrolled person, or "
            "leave the author out"
        )
    training = reading.all(TrainingRun, f"model/{model}@{version}")
    facts = {
        "model": model,
        "version": version,
        "section": text.section,
        "text": text.text,
        "declared_unavailable": text.declared_unavailable,
        "author_stated": text.author,
        "ai_drafted": text.ai_drafted,
        "revision": revision,
        "supersedes": supersedes,
        "source": text.source,
        "carried_from": text.carried_from,
        "model_digest": training[0].record.model_file.digest if training else None,
    }
    record = build(SectionWritten, facts)
    problem = record.problem()
    if problem:
        raise GovernanceError(f"section {text.section}: {problem}")
    return record


def previous_version(reading: Reading, model: str, version: str) -> str | None:
    """Return the version opened last before this one about which people wrote anything; None if there is none."""
    opened = list(dict.fromkeys(item.record.version for item in reading.all(VersionOpened, f"model/{model}")))
    before = opened[: opened.index(version)] if version in opened else opened
    return next((name for name in reversed(before) if reading.all(SectionWritten, f"model/{model}@{name}")), None)


def carry_over(
    workspace: Workspace, model: str, version: str, *, source: str | None = None, ahead: bool = False
) -> list[SectionChange]:
    """Copy the newest texts of an earlier version to those sections of this one that have none yet.

    No signature is carried over: a text that a program drafted has to be signed again for this version.

    Args:
        workspace: where.
        model: model key.
        version: the version that gets the texts.
        source: the version they come from; the one opened before this, unless given.
        ahead: whether the version need not have been opened yet.

    Raises:
        GovernanceError: if there is nothing to carry over.
    """
    reading = workspace.read()
    people, origin = directory(reading), source or previous_version(reading, model, version)
    if origin is None or origin == version:
        raise GovernanceError(f"no earlier version of {model} has sections that could be carried over to {version}")
    held = sections_of(reading, people, model, origin).items
    if not held:
        raise GovernanceError(f"version {origin!r} of {model} has no sections that could be carried over")
    here = sections_of(reading, people, model, version).items
    texts = [_carried(section, origin) for name, section in held.items() if name not in here]
    return write_sections(workspace, model, version, texts, ahead=ahead)


def _carried(section: Section, origin: str) -> SectionText:
    record = section.item.record
    return SectionText(
        section=record.section,
        text=record.text,
        author=section.author,
        ai_drafted=section.ai_drafted,
        declared_unavailable=record.declared_unavailable,
        source=record.source,
        carried_from=CarriedFrom(version=origin, seq=section.item.seq, text_digest=record.text_digest),
    )


# --- signing ---------------------------------------------------------------------------------------------------------


def approve_section(
    workspace: Workspace,
    model: str,
    version: str,
    section: str,
    key: PersonalKey,
    *,
    role: str,
    as_author: bool = False,
    comment: str = "",
) -> Receipt:
    """Sign under the newest text of a section; signing again under the same text returns the old receipt.

    Raises:
        GovernanceError: if there is no such text, or the signature would not count.
    """

    def make(reading: Reading) -> SectionApproved | Callable[[], Receipt]:
        record = section_approval(
            reading, model, version, section, key.person, role=role, as_author=as_author, comment=comment
        )
        seq = approved_already(reading, record)
        return record if seq is None else already(reading, seq)

    return perform_act(workspace, make, [key])


def approved_already(reading: Reading, record: SectionApproved) -> int | None:
    """Return the entry with which the same person signed the same text alike and which still counts, or None."""
    for item in reading.all(SectionApproved, f"model/{record.model}@{record.version}"):
        asked = {"envelope": item.record.envelope, "comment": item.record.comment}
        if record.model_copy(update=asked) != item.record:
            continue
        if signature_ended(reading, directory(reading), item.record.envelope) is None:
            return item.seq
    return None


def section_approval(
    reading: Reading,
    model: str,
    version: str,
    section: str,
    person: str,
    *,
    role: str,
    as_author: bool = False,
    comment: str = "",
) -> SectionApproved:
    """Return the record with which a person signs under the newest text of a section, without their signature.

    Raises:
        GovernanceError: if the section has no text.
    """
    found = sections_of(reading, directory(reading), model, version).items.get(section)
    if found is None:
        raise GovernanceError(f"section {section} of {model} {version} has no text; see `cognify section list`")
    facts = {
        "model": model,
        "version": version,
        "section": section,
        "section_seq": found.item.seq,
        "text_digest": found.item.record.text_digest,
        "ai_drafted": found.ai_drafted,
        "capacity": "author" if as_author else "approver",
        "role": role,
        "comment": comment,
        "approved_by": person,
        "envelope": UNSIGNED,
    }
    return build(SectionApproved, facts)


def _meaning(record: SectionApproved) -> str:
    what = f"section {record.section} of {record.model} {record.version} (text {record.text_digest})"
    if record.capacity == "author":
        return f"I wrote {what}."
    drafted = ", which a program drafted," if record.ai_drafted else ""
    return f"I read {what}{drafted} and answer for what it says."


def _judge(reading: Reading, item: Recorded[SectionApproved]) -> str | None:
    people, record = directory(reading), item.record
    texts = sections_of(reading, people, record.model, record.version).history.get(record.section, ())
    return approval_problem(reading, item, people, texts)


def _roles(reading: Reading, record: SectionApproved, _person: str) -> tuple[str, ...]:
    acting = policy_in_force(reading).policy.acting_roles
    return (record.role,) if record.role in acting else (NO_ROLE,)


register_form(
    ActForm(
        record=SectionApproved,
        signers=lambda record: (record.approved_by,),
        roles=_roles,
        meaning=_meaning,
        judge=_judge,
        check=before_signing(_judge),
    )
)
