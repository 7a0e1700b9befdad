"""What people wrote and attested about a version, as facts for coverage, package and documents.

Invariants: a text or attestation is here only as governance judges it; whether it counts on a certain day is asked with that day, so
that the same facts give the same answer whenever a package is built again; an attestation about another state (another snapshot,
another model file) than the version rests on is listed with that reason and never counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from cognify_dagster.governance import (
    Approval,
    Attestation,
    Section,
    State,
    attestations_about,
    directory,
    sections_of,
    snapshot_digest,
)
from cognify_dagster.records import CarriedFrom, DatasetRef, EvidenceItem, TrainingRun, parse_utc
from cognify_dagster.workspace import Reading, Recorded

_NO_DAY = datetime(1, 1, 1, tzinfo=timezone.utc)  # collected facts know no day: nothing has expired on it


@dataclass(frozen=True)
class SectionFact:
    """The text of one section about the version, as its newest entry holds it.

    Attributes:
        text: the text; empty where it is declared unavailable, with the reason in `declared_unavailable`.
        author: the stated author's person id; empty where it is not stated. A claim unless `author_signed`.
        author_signed: the stated author signed exactly this text.
        ai_drafted: a program drafted the text.
        approved: somebody signed that they answer for exactly this text, for this version.
        approvals: those signatures, with role and entry.
        revision: counts the texts of this section of this version from 1.
        seq, leaf, time_us: the entry that holds the text.
        source: path of the file it came from, empty if none.
        carried_from: the entry of an earlier version from which it was taken over unchanged.
        signature: entry and leaf of the author's signature.
        model_digest: the model file that was sealed when the text was written; empty before training.
    """

    section: str
    text: str
    author: str
    author_signed: bool
    ai_drafted: bool
    approved: bool
    revision: int
    seq: int
    leaf: str
    time_us: int
    declared_unavailable: str = ""
    approvals: tuple[Approval, ...] = ()
    signature: Approval | None = None
    source: str = ""
    carried_from: CarriedFrom | None = None
    model_digest: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is evidence by people: a text that a program drafted counts only once a person signed it."""
        return not self.ai_drafted or self.approved

    @property
    def reviewed(self) -> bool:
        """Whether anybody signed under this text for this version; one carried over was not, until somebody does."""
        return self.approved or self.author_signed

    def counts_for(self, roles: Iterable[str]) -> bool:
        """Whether it counts where people of certain roles answer for it (none given: any role).

        Only a text that a program drafted needs them; the one who signed must have held one of these roles then.
        """
        wanted = set(roles)
        return self.counts if not (self.ai_drafted and wanted) else any(wanted & set(i.roles) for i in self.approvals)


@dataclass(frozen=True)
class AttestationFact:
    """A signed attestation about the version, its model or one of its data sets.

    Attributes:
        about: `model/KEY`, `model/KEY@VERSION` or `dataset/NAME`; `digest` the state of it that it names, empty for a model.
        role, person: who signed, in which role.
        expires: until when it counts (UTC text), None without end; `valid` leaves this out, see `problem`.
        valid, why: whether it counts but for its date (signature, key, withdrawal, state), and if not, why.
        party: the other side of an agreement, such as a vendor.
    """

    text_id: str
    about: str
    role: str
    person: str
    expires: str | None
    seq: int
    leaf: str
    time_us: int
    valid: bool
    why: str = ""
    digest: str = ""
    text: str = ""
    text_version: str = ""
    party: str = ""
    documents: tuple[EvidenceItem, ...] = ()

    def problem(self, now: datetime) -> str | None:
        """Say why it does not count at a moment, or None if it does."""
        if not self.valid:
            return self.why
        if self.expires is not None and parse_utc(self.expires) <= now:
            return f"it expired on {self.expires}"
        return None


@dataclass(frozen=True)
class HumanFacts:
    """Sections by name, attestations in order of entry, and entries without effect (sequence number to reason)."""

    sections: Mapping[str, SectionFact]
    attestations: tuple[AttestationFact, ...]
    without_effect: Mapping[int, str]


def human_facts(
    reading: Reading,
    model: str,
    version: str,
    training: Recorded[TrainingRun] | None,
    datasets: Iterable[DatasetRef],
) -> HumanFacts:
    """Gather what people wrote and attested about a version.

    Args:
        reading: verified entries.
        model: model key.
        version: version id.
        training: the sealed training run, whose model file an attestation about the version has to name.
        datasets: the snapshots that the version rests on.
    """
    people, subject = directory(reading), f"model/{model}@{version}"
    written = sections_of(reading, people, model, version)
    problems = dict(written.problems)
    states = [State(f"model/{model}")]
    states.append(State(subject, {training.record.model_file.digest: training.seq} if training else {}))
    roots: dict[str, dict[str, int]] = {}
    for ref in datasets:
        roots.setdefault(f"dataset/{ref.name}", {})[snapshot_digest(ref.root)] = ref.seq
    states += [State(name, found) for name, found in sorted(roots.items())]
    attested: list[AttestationFact] = []
    for state in states:
        items, wrong = attestations_about(reading, people, state.about, _NO_DAY)
        problems.update(wrong)
        attested += [_attestation(item, state) for item in items]
    return HumanFacts(
        {name: _section(item) for name, item in written.items.items()},
        tuple(sorted(attested, key=lambda item: item.seq)),
        dict(sorted(problems.items())),
    )


def _section(found: Section) -> SectionFact:
    item, record = found.item, found.item.record
    return SectionFact(
        section=record.section,
        text=record.text,
        author=found.author or "",
        author_signed=found.author_signed is not None,
        ai_drafted=found.ai_drafted,
        approved=bool(found.approvals),
        revision=record.revision,
        seq=item.seq,
        leaf=item.leaf,
        time_us=item.time_us,
        declared_unavailable=record.declared_unavailable,
        approvals=found.approvals,
        signature=found.author_signed,
        source=record.source,
        carried_from=record.carried_from,
        model_digest=record.model_digest or "",
    )


def _attestation(found: Attestation, state: State) -> AttestationFact:
    item, record = found.item, found.item.record
    why = found.why or state.mismatch(item)
    return AttestationFact(
        text_id=record.text_id,
        about=record.about,
        role=record.role,
        person=record.attested_by,
        expires=record.expires,
        seq=item.seq,
        leaf=item.leaf,
        time_us=item.time_us,
        valid=why is None,
        why=why or "",
        digest=record.about_digest or "",
        text=record.text,
        text_version=record.text_version,
        party=record.party,
        documents=record.documents,
    )
