"""The page of six questions about a data set: who collected it, where it comes from, when, on which basis, what was done, who used it.

Invariants: every answer names the ledger entry it rests on; an answer that nobody gave is "Not recorded", with who has to give it and
where; a use is one of exactly this snapshot, by its root; an attestation is shown with whether it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import collect
from cognify_dagster.documents.labels import words
from cognify_dagster.documents.outputs.common import cite, ledger_rows, listed, name_of, preamble
from cognify_dagster.documents.outputs.content import Block, Cell, Code, Document, Heading, Paragraph, facts, table
from cognify_dagster.documents.package.parts import when
from cognify_dagster.documents.view.blocks import number
from cognify_dagster.governance import (
    Change,
    Directory,
    attestations_about,
    change_of,
    directory,
    snapshot_digest,
)
from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.records import DatasetSnapshot, DeploymentCompleted, Evaluation, OverlapChecked, TrainingRun
from cognify_dagster.workspace import Reading, Recorded

Snapshot = Recorded[DatasetSnapshot]
Row = tuple[Cell, Cell, Cell]
QUESTIONS = (
    "Who collected it, and who answers for it?",
    "Where does it come from?",
    "When was it collected, and when was it recorded?",
    "On which basis may it be used?",
    "What was done to it?",
    "Who used it, and for what?",
)


def find_snapshot(reading: Reading, name: str, root: str | None = None) -> Snapshot:
    """Return a snapshot of a data set.

    Args:
        reading: verified entries.
        name: name of the data set.
        root: the snapshot's root in hex, or its first digits (at least 8); the newest snapshot if left out.

    Raises:
        DocumentError: if the ledger holds no such snapshot, or several begin with these digits.
    """
    held = reading.all(DatasetSnapshot, f"dataset/{name}")
    if not held:
        raise DocumentError(f"the ledger knows no data set {name}; see `cognify ledger show --kind dataset_snapshot`")
    if root is None:
        return held[-1]
    found = {item.record.root: item for item in held if item.record.root.startswith(root)}
    if len(found) != 1:
        what = "several snapshots whose roots begin" if found else "no snapshot whose root begins"
        raise DocumentError(f"dataset/{name}: the ledger holds {what} with {root}")
    return next(iter(found.values()))


def snapshots_of(reading: Reading, model: str, version: str) -> list[Snapshot]:
    """Return the snapshots that a model version was trained and evaluated on, each once.

    Raises:
        DocumentError: if the ledger knows no such version, or it has no training run yet.
    """
    known = collect(reading, model, version)
    found = [item.snapshot for item in known.all_datasets() if item.snapshot is not None]
    if not found:
        raise DocumentError(f"{model} {version} has no sealed training run, so no data set belongs to it yet")
    return found


def provenance_page(reading: Reading, snapshots: Sequence[Snapshot], *, now: datetime, about: str = "") -> Document:
    """Return the six questions and answers of one or more snapshots.

    Args:
        reading: verified entries.
        snapshots: from `find_snapshot` or `snapshots_of`.
        now: the moment for which attestations are judged, with time zone.
        about: what the page is about, where that is more than one data set.
    """
    title = about or f"data set {snapshots[0].record.name}"
    blocks: list[Block] = preamble(reading, now, "Six questions that are asked about data, answered from the record.")
    blocks.append(facts(*ledger_rows(reading)))
    for item in snapshots:
        blocks += _answers(reading, item, now)
    return Document("data_provenance", f"Where the data comes from: {title}", tuple(blocks))


def _answers(reading: Reading, item: Snapshot, now: datetime) -> list[Block]:
    record = item.record
    personal = record.provenance.get("contains_personal_data") or record.provenance.get("contains_phi")
    blocks: list[Block] = [
        Heading(f"Data set {record.name}"),
        facts(
            ("Root", Code(record.root)),
            ("Records", number(record.record_count) if record.record_count is not None else "not a table"),
            ("Files", f"{number(record.file_count)}, {number(record.total_bytes)} bytes"),
            ("Personal data", "yes, by its owner's word" if personal else "none declared"),
            ("Snapshot", f"{cite(item)}, written by {item.actor}"),
        ),
    ]
    for place, (question, rows) in enumerate(six_answers(reading, item, now), 1):
        blocks += [Heading(f"{place}. {question}", 3), table(["About", "Answer", "Evidence"], rows)]
    if record.provenance.get("notes"):
        blocks.append(Paragraph(f"Further notes by the owner (entry {item.seq}): {record.provenance['notes']}"))
    return blocks


def six_answers(
    reading: Reading, item: Snapshot, now: datetime, newest: int | None = None
) -> list[tuple[str, list[Row]]]:
    """Return the six questions about a snapshot with their answers: what it is about, the answer, and the entry it rests on.

    Args:
        reading: verified entries.
        item: the snapshot.
        now: the moment for which attestations are judged, with time zone.
        newest: look for uses in so many entries about the data set only, the newest, and say so; in all unless given.
    """
    people = directory(reading)
    change = change_of(reading, people, item.record.name, item.seq)
    answers = (
        _who(item, people, change),
        _where(item),
        _when(item),
        _basis(reading, item, now),
        _done(reading, item, people, change),
        _used(reading, item, newest),
    )
    return list(zip(QUESTIONS, answers, strict=True))


def _stated(item: Snapshot, label: str, field: str, *, optional: str = "") -> Row:
    """One field of the provenance that the owner stated; where it is empty, who has to say it and where."""
    value = item.record.provenance.get(field)
    if isinstance(value, str) and value.strip():
        return (label, value, f"entry {item.seq}")
    if optional:
        return (label, optional, f"entry {item.seq}")
    return (label, f"Not recorded. {_teller(item)} says it, as {field} in the provenance of the snapshot.", "–")


def _teller(item: Snapshot) -> str:
    owner = item.record.provenance.get("owner")
    return (
        f"The owner of the data ({owner})"
        if isinstance(owner, str) and owner.strip()
        else "Whoever answers for the data"
    )


def _who(item: Snapshot, people: Directory, change: Change | None) -> list[Row]:
    rows = [
        _stated(item, "Answers for the data", "owner"),
        *_also(item, "Collected by", "collected_by"),
        _stated(item, "Collected how, and by whom", "collected_how"),
        _stated(item, "To be named", "attribution", optional="no attribution was stated as required"),
        ("Recorded here by", item.actor, f"entry {item.seq}"),
    ]
    if item.record.author:
        rows.append(("Snapshot made by", name_of(people, item.record.author), f"entry {item.seq}"))
    for one in change.decisions if change is not None else ():
        made = one.item.record
        word = "Approved" if made.decision == "approve" else "Rejected"
        counts = "" if one.why is None else f"; it does not count: {one.why}"
        said = f": {made.comment}" if made.comment else ""
        rows.append(
            (
                f"{word} by",
                f"{people.name(made.decided_by)} ({words(made.role)}){said}{counts}",
                f"entry {one.item.seq}",
            )
        )
    return rows


def _also(item: Snapshot, label: str, field: str) -> list[Row]:
    """A field that nobody has to state: a row only where it is stated."""
    value = item.record.provenance.get(field)
    text = "yes" if value is True else "no" if value is False else value
    return [(label, text, f"entry {item.seq}")] if isinstance(text, str) and text.strip() else []


def _where(item: Snapshot) -> list[Row]:
    return [
        _stated(item, "Source", "source"),
        _stated(item, "Address", "source_url"),
        _stated(item, "Place", "jurisdiction"),
        *_also(item, "Taken from the source by leave of", "source_authorisation"),
        *(
            (
                f"Made from {made.kind} {made.name}",
                f"version {made.version or 'not known'}{f', of {made.time}' if made.time else ''}",
                f"entry {item.seq}",
            )
            for made in item.record.sources
        ),
    ]


def _when(item: Snapshot) -> list[Row]:
    stated = item.record.provenance
    start, end, unknown = (stated.get(name) for name in ("collected_from", "collected_to", "collected_unknown"))
    if start and end:
        period: Row = ("Period", f"{start} to {end}", f"entry {item.seq}")
    elif unknown:
        period = ("Period", f"Not known, and why: {unknown}", f"entry {item.seq}")
    else:
        period = (
            "Period",
            f"Not recorded. {_teller(item)} says it, as collected_from and collected_to, or why it is not known.",
            "–",
        )
    return [
        period,
        *_also(item, "Issued by its source", "issued_on"),
        ("Recorded here", when(item), f"entry {item.seq}"),
    ]


def _basis(reading: Reading, item: Snapshot, now: datetime) -> list[Row]:
    stated = item.record.provenance
    personal = bool(stated.get("contains_personal_data") or stated.get("contains_phi"))
    health = bool(stated.get("contains_phi"))
    rows = [
        _stated(item, "Licence or terms", "licence"),
        _stated(item, "Agreement", "agreement_ref", optional="none stated"),
        _stated(item, "Reviewed by", "agreement_reviewed_by", optional="nobody stated"),
        *_also(item, "Reviewed on", "agreement_reviewed_on"),
        *_also(item, "Right to use", "right_to_use"),
        *_also(item, "May be used for", "intended_use"),
        *_also(item, "Trade secrets or the work of others", "proprietary"),
        _stated(
            item,
            "Legal ground or consent",
            "consent",
            optional="" if personal else "none stated; no personal data declared",
        ),
        _stated(item, "Classified by its owner as", "classification", optional="" if personal else "nothing stated"),
        _stated(item, "De-identified by", "deidentification_method", optional="" if health else "nothing stated"),
        *_also(item, "Certificate of de-identification", "deidentification_certificate"),
        *_also(item, "Further protection of people", "privacy_techniques"),
        *_also(item, "Proof of consent", "consent_location"),
        *_also(item, "May be processed in", "processing_geography"),
        *_also(item, "Kept in", "storage_geography"),
    ]
    people = directory(reading)
    attested, _ = attestations_about(reading, people, f"dataset/{item.record.name}", now)
    for one in attested:
        made = one.item.record
        if made.about_digest != snapshot_digest(item.record.root):
            continue
        until = f", until {made.expires}" if made.expires else ""
        counts = "" if one.counts else f"; it does not count: {one.why}"
        text = f"{people.name(made.attested_by)} ({words(made.role)}) attested it{until}{counts}"
        rows.append((f"Attested: {words(made.text_id)}", text, f"entry {one.item.seq}"))
    if not any(one.item.record.about_digest == snapshot_digest(item.record.root) for one in attested):
        text = "Not recorded. One of the roles that may attest it signs it (cognify attest make)."
        rows.append(("Attested by a person", text, "–"))
    return rows


def _done(reading: Reading, item: Snapshot, people: Directory, change: Change | None) -> list[Row]:
    record, entry = item.record, f"entry {item.seq}"
    rows: list[Row] = [
        (
            rule.rule,
            f"{number(rule.rows_before)} records before, {number(rule.rows_after)} after, {number(rule.rows_before - rule.rows_after)} "
            f"left out: {rule.description or 'no reason stated'}{f' (checked: {rule.verified})' if rule.verified else ''}",
            entry,
        )
        for rule in record.exclusions
    ]
    if not rows:
        rows.append(
            (
                "Left out",
                "Not recorded: no step that left records out was stated. " + _teller(item) + " says it, as processing.",
                "–",
            )
        )
    rows.append(("Label", record.label or "no label column", entry))
    rows.append(_purposes(item))
    if record.unjustified_columns:
        rows.append(("Columns without a stated purpose", f"{listed(record.unjustified_columns)}.", entry))
    if record.code is not None and record.code.commit and record.code.vcs != "none":
        dirty = ", with changes that were not committed" if record.code.dirty else ""
        rows.append(("Code of the pipeline", f"{record.code.vcs} {record.code.commit}{dirty}", entry))
    for check in record.quality:
        told = f": {check.detail}" if check.detail else ""
        rows.append((f"Quality check {check.name}", f"{_RESULTS[check.status]}{told}", entry))
    if change is None or change.old is None:
        rows.append(("Changed since", "the first snapshot of this data set here", entry))
        return rows
    same = " (the same data as the last snapshot)" if change.item.seq != item.seq else ""
    reason = change.reason or f"Not recorded. {_teller(item)} says it, as change_reason of the snapshot"
    rows.append(
        (
            "Changed since",
            f"the snapshot with root {change.old.record.root[:16]}…{same}. Why: {reason}.",
            f"entry {change.reasons[-1].seq if change.reasons else change.item.seq}, after {change.old.seq}",
        )
    )
    if change.diff is not None:
        rows.append(("What changed", str(change.diff.record.summary.get("text", "")), f"entry {change.diff.seq}"))
    return rows


_RESULTS = {"pass": "passed", "fail": "failed", "warn": "passed with a warning", "error": "could not be carried out"}


def _purposes(item: Snapshot) -> Row:
    stated = item.record.provenance.get("column_purposes") or {}
    known = [name for name, text in sorted(stated.items()) if str(text).strip()] if isinstance(stated, dict) else []
    if not known:
        return ("Why each column is needed", f"Not recorded. {_teller(item)} says it, as column_purposes.", "–")
    columns: dict[str, list[str]] = {}
    for name in known:
        columns.setdefault(" ".join(str(stated[name]).split()), []).append(name)
    text = ". ".join(f"{listed(names)}: {why}" for why, names in columns.items())
    return ("Why each column is needed", f"{text}.", f"entry {item.seq}")


def _used(reading: Reading, item: Snapshot, newest: int | None) -> list[Row]:
    name, root = item.record.name, item.record.root
    people = directory(reading)
    runs, results, checks, cut = _uses(reading, f"dataset/{name}", newest)
    rows: list[Row] = []
    versions: list[tuple[str, str]] = []
    for run in runs:
        roles = sorted({ref.role for ref in run.record.datasets if (ref.name, ref.root) == (name, root)})
        if roles:
            versions.append((run.record.model, run.record.version))
            who = name_of(people, run.record.launched_by)
            rows.append(
                (
                    f"{run.record.model} {run.record.version}",
                    f"trained on it ({', '.join(roles)}), launched by {who}",
                    _at(run),
                )
            )
    for result in results:
        if result.record.dataset.root == root:
            who = f"by {name_of(people, result.record.evaluator)}"
            rows.append((f"{result.record.model} {result.record.version}", f"evaluated on it {who}", _at(result)))
    for check in checks:
        if root in (check.record.train.root, check.record.holdout.root):
            other = check.record.holdout if check.record.train.root == root else check.record.train
            shared = number(check.record.overlapping_records)
            rows.append(
                (
                    f"Compared with {other.name}",
                    f"{shared} records shared, compared by {check.record.level}",
                    _at(check),
                )
            )
    for model, version in versions:
        for live in reading.all(DeploymentCompleted, f"model/{model}@{version}"):
            if grant_of(reading, live) is not None:
                rows.append((f"{model} {version}", f"went live on {live.record.target}", _at(live)))
    if cut:
        text = f"Only the newest {number(newest or 0)} entries about this data set were looked through. `cognify document provenance {name}` lists all uses."
        rows.append(("Earlier uses", text, "–"))
    elif not rows:
        rows.append(("Used", "No training, evaluation or comparison of exactly this snapshot is on record.", "–"))
    return rows


def _uses(
    reading: Reading, subject: str, newest: int | None
) -> tuple[list[Recorded[TrainingRun]], list[Recorded[Evaluation]], list[Recorded[OverlapChecked]], bool]:
    """Return what may be a use, each kind oldest first, and whether there are older entries that were not looked at."""
    if newest is None:
        found = (
            reading.all(TrainingRun, subject),
            reading.all(Evaluation, subject),
            reading.all(OverlapChecked, subject),
        )
        return (*found, False)
    items = list(islice(reading.view.walk(subject), newest + 1))
    looked = items[newest - 1 :: -1] if len(items) > newest else items[::-1]
    return (
        reading.of(TrainingRun, looked),
        reading.of(Evaluation, looked),
        reading.of(OverlapChecked, looked),
        len(items) > newest,
    )


def _at(item: Recorded[Any]) -> str:
    return f"entry {item.seq}, {when(item)}"
