"""What people did to a version that was put before them: decisions, conditions, findings, refusals. For documents; reads the ledger.

Invariants: a decision is a signed statement whose signature verified, on exactly the package that the document is about; one that its
signer withdrew stays visible and is said to be withdrawn; who had a hand in the version is computed as the release gate computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cognify_dagster.documents.labels import words
from cognify_dagster.documents.outputs.common import condition_kind, listed
from cognify_dagster.documents.outputs.content import (
    Block,
    Bullets,
    Cell,
    Code,
    Heading,
    Paragraph,
    Quote,
    facts,
    table,
)
from cognify_dagster.documents.package.parts import when
from cognify_dagster.governance import Signed, SignOffPredicate, findings_about
from cognify_dagster.governance.oversight.conditions import OpenCondition, conditions, given_by
from cognify_dagster.governance.release.approvals import standing, valid_sign_offs
from cognify_dagster.governance.release.case import Case
from cognify_dagster.governance.release.involvement import base_lineage, excluded_from, excluded_people, involved_people
from cognify_dagster.records import SignOff, SignOffRefused
from cognify_dagster.workspace import Recorded

Json = dict[str, Any]
VALIDATOR = "model_validator"
APPROVALS = ("approve", "approve_with_conditions")


@dataclass(frozen=True)
class Decided:
    """A verified statement on the package, and whether its signer withdrew it since."""

    item: Recorded[SignOff]
    predicate: SignOffPredicate
    withdrawn: bool

    @property
    def words(self) -> str:
        """The decision in words."""
        return words(self.predicate.decision) + (", withdrawn since" if self.withdrawn else "")


def sign_offs_on(case: Case, package: str) -> list[Decided]:
    """Return the verified statements on one package, oldest first."""
    valid = valid_sign_offs(case)
    left = {item.seq for item, _ in standing(valid)}
    return [Decided(item, found, item.seq not in left) for item, found in valid if found.package.digest == package]


def conclusion_blocks(case: Case, package: Json, signed: Sequence[Decided]) -> list[Block]:
    """What the validators decided, in their own words; that nobody has decided yet is said."""
    mine = [one for one in signed if one.predicate.role == VALIDATOR and one.predicate.decision != "withdraw"]
    if not mine:
        wanted = [s["title"] for s in package["required_stages"]["stages"] if s["role"] == VALIDATOR]
        stage = f" (stage “{wanted[0]}”)" if wanted else ", and the policy in force asks for no validator at this tier"
        return [Paragraph(f"No validator has signed this package{stage}. This report therefore holds no conclusion.")]
    blocks: list[Block] = []
    for one in mine:
        viewed = one.predicate.viewed
        shown: Cell = Code(viewed.digest.removeprefix("sha256:")) if viewed else "none, by the signing command's word"
        blocks.append(
            facts(
                ("Decision", one.words),
                ("Validator", f"{one.predicate.printed_name} ({one.predicate.person})"),
                ("Meaning signed", one.predicate.meaning),
                ("Conditions", str(len(one.predicate.conditions)) if one.predicate.conditions else "none"),
                ("Document opened for signing", shown),
                ("Signed", f"{one.predicate.signed_at}, entry {one.item.seq}"),
            )
        )
        if one.predicate.comments.strip():
            blocks.append(
                Quote(one.predicate.comments, f"{one.predicate.printed_name}, signed in entry {one.item.seq}.")
            )
    return blocks


def challenge_blocks(case: Case, package: Json, signed: Sequence[Decided], newer: int) -> list[Block]:
    """Who had a hand in the version, who judged it, and what was said, refused or withdrawn."""
    lineage = base_lineage(case.reading, case.model, case.version)
    hand = sorted(involved_people(case.policy, lineage))
    conflict = sorted(excluded_people(case.policy, lineage) - set(hand))
    names = [f"{case.people.name(person)} ({person})" for person in hand]
    run = package["training"]
    unknown = run["unattributed"] if run else []
    both = sorted({one.predicate.printed_name for one in signed if one.item.record.person in {*hand, *conflict}})
    independence = (
        f"Signed although they had a hand in it or a conflict: {', '.join(both)}. The release gate does not count them."
        if both
        else "Nobody who signed this package had a hand in the version, by the record."
    )
    blocks: list[Block] = [
        Heading("Independence", 3),
        facts(
            ("Had a hand in this version", listed(names, "nobody on record")),
            ("Conflicts by policy", listed(case.people.name(person) for person in conflict)),
            ("Not attributed to a person", listed(unknown)),
        ),
        *([Paragraph(independence)] if signed else []),
        Heading("Decisions on this package", 3),
        table(
            ["Stage", "Who", "Role", "Decision", "Conditions", "Signed", "Entry"],
            [_row(one) for one in signed],
            right=[4],
            empty="Nobody has signed this package.",
        ),
    ]
    for one in signed:
        if one.predicate.comments.strip() and one.predicate.role != VALIDATOR:
            by = f"{one.predicate.printed_name}, {words(one.predicate.role)}, {one.words}, entry {one.item.seq}."
            blocks.append(Quote(one.predicate.comments, by))
    earlier = package["earlier_decisions"]
    if earlier:
        rows: list[Sequence[Cell]] = [
            [
                d["stage"],
                d["person"]["name"],
                words(d["role"]),
                words(d["decision"]),
                str(d["revision"] or "–"),
                str(d["entry"]["seq"]),
            ]
            for d in earlier
        ]
        head = ["Stage", "Who", "Role", "Decision", "Revision", "Entry"]
        blocks += [Heading("Decisions on earlier revisions", 3), table(head, rows)]
    refused = case.reading.all(SignOffRefused, case.subject)
    if refused:
        said = tuple(_refused(case, item) for item in refused)
        blocks += [Heading("Refused attempts to sign", 3), Bullets(said)]
    if newer:
        blocks.append(Paragraph(f"{newer} entries of the ledger are newer than the package."))
    return blocks


def _row(one: Decided) -> list[Cell]:
    predicate = one.predicate
    given = str(len(predicate.conditions)) if predicate.conditions else "–"
    return [
        predicate.stage,
        predicate.printed_name,
        words(predicate.role),
        one.words,
        given,
        predicate.signed_at,
        str(one.item.seq),
    ]


def _refused(case: Case, item: Recorded[SignOffRefused]) -> str:
    record = item.record
    who = f"{case.people.name(record.person)} ({words(record.role)}, stage {record.stage}, {words(record.decision)})"
    return f"{who}, entry {item.seq}, {when(item)}: {'; '.join(record.reasons)}"


def conditions_of(case: Case, signed: Sequence[Decided]) -> list[OpenCondition]:
    """Return the conditions of the approvals that stand, and where each is."""
    counting = [
        Signed(one.item.seq, one.item.record.person, case.people.name(one.item.record.person), one.predicate)
        for one in signed
        if not one.withdrawn and one.predicate.decision in APPROVALS
    ]
    excluded = excluded_from(case.reading, case.policy, case.model, case.version)
    found, _ = conditions(case.reading, case.people, case.subject, given_by(counting), excluded)
    return found


def condition_blocks(case: Case, signed: Sequence[Decided]) -> list[Block]:
    """Every condition of the approvals that stand: who gave it, until when, and whether it is met."""
    rows: list[Sequence[Cell]] = []
    for item in conditions_of(case, signed):
        state = f"met, entry {item.closed_seq}" if not item.open else "overdue" if item.overdue(case.now) else "open"
        due = item.condition.due or item.condition.limit.get("until") or "no date"
        rows.append(
            [
                item.condition.text,
                condition_kind(item.condition.kind),
                item.name,
                str(due),
                state,
                str(item.sign_off_seq),
            ]
        )
    head = ["Condition", "Kind", "Given by", "Due", "State", "Entry"]
    return [table(head, rows, empty="No approval that stands has a condition.")]


def finding_blocks(case: Case, package: Json) -> list[Block]:
    """What the package found in the record, and what people raised."""
    own: list[Sequence[Cell]] = [
        [f["id"], words(f["severity"]), f["title"], f["observed"], f["owner"], f["due"]] for f in package["findings"]
    ]
    found = findings_about(case.reading, case.people, case.policy, case.model, case.version, case.now).items
    raised: list[Sequence[Cell]] = []
    for item in found:
        state = (
            f"closed, entry {item.closed_seq}"
            if item.closed_seq is not None
            else f"risk accepted until {item.accepted_until}"
            if item.accepted_until
            else "open; an acceptance has ended"
            if item.lapsed
            else "open"
        )
        raised.append(
            [item.severity, item.title, item.text or "–", item.raised_by, item.due or "no date", state, str(item.seq)]
        )
    return [
        Heading("Computed from the record when the package was built", 3),
        table(["No.", "Severity", "Finding", "Observed", "Owner", "Due"], own, empty="None."),
        Heading("Raised by people or by reconciliation", 3),
        table(["Severity", "Finding", "Text", "Raised by", "Due", "State", "Entry"], raised, empty="None."),
    ]
