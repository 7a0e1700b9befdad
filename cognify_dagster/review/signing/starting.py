"""The acts that people begin on the site, each with its own short form: closing a condition, resolving a finding, lifting a block,
deciding on a change of a dataset.

Each is a `Starter`: what it is about (`about`, from the query of the address), the fields it asks, and the record that is signed.
Whether the act would count is judged by the governance room when it is started, when it is signed and when it is submitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cognify_dagster.governance import (
    Decision,
    decision_record,
    directory,
    find_change,
    findings_about,
    live_state,
    policy_in_force,
)
from cognify_dagster.governance.oversight.conditions import OpenCondition
from cognify_dagster.governance.release.approvals import blocks, valid_sign_offs
from cognify_dagster.governance.release.case import Case
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.records import BlockLifted, ConditionClosed, FindingResolved, Record
from cognify_dagster.review.errors import ReviewError, not_found
from cognify_dagster.review.rendering import make_path
from cognify_dagster.review.signing import flow
from cognify_dagster.review.signing.choices import parse_time
from cognify_dagster.review.signing.statements import condition_words
from cognify_dagster.review.visit import Visit

Values = Mapping[str, str]
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Field:
    """A field of a short form. `choices` (value, label) makes it a list to choose from; `kind` is text, long or date."""

    name: str
    label: str
    kind: str = "long"
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    required: bool = True


@dataclass(frozen=True)
class Opened:
    """A short form about something: rows that say what, the fields, and the function that makes the record from them."""

    rows: Rows
    fields: tuple[Field, ...]
    make: Callable[[Values], Record]
    title: str
    model: str = ""


@dataclass(frozen=True)
class Starter:
    """A kind of act that begins here: `query` are the parameters of its address that say what it is about."""

    title: str
    query: tuple[str, ...]
    open: Callable[[Visit, Values], Opened] = field(repr=False)


def _condition(visit: Visit, about: Values) -> Opened:
    model, version, found = about["model"], about["version"], list[OpenCondition]()
    visit.require_model(model)
    seq, index = _number(about["entry"]), _number(about["condition"])
    found += flow.decision_of(visit, model, version).conditions
    for target in sorted({"production", *policy_in_force(visit.reading).policy.targets}):
        state = live_state(visit.reading, model, target, visit.now)
        found += state.conditions if state.version == version else ()
    item = next((one for one in found if (one.sign_off_seq, one.index) == (seq, index)), None)
    if item is None:
        raise not_found("This open condition")
    return Opened(
        rows=[
            ("Model", f"{model}, version {version}"),
            ("Condition", condition_words(item.condition)),
            ("Given by", f"{item.name}, entry {item.sign_off_seq}"),
        ],
        fields=(_reason("How is it met?"), _links()),
        make=lambda given: ConditionClosed(
            model=model,
            version=version,
            sign_off_seq=seq,
            condition=index,
            reason=given["reason"],
            links=_lines(given.get("links", "")),
            closed_by=visit.person,
            envelope=UNSIGNED,
        ),
        title=f"Close a condition of {model} {version}",
        model=model,
    )


def _finding(visit: Visit, about: Values) -> Opened:
    model, seq = about["model"], _number(about["entry"])
    visit.require_model(model)
    people, policy = directory(visit.reading), policy_in_force(visit.reading).policy
    raised = visit.reading.at(seq)
    version = getattr(raised.record, "version", None) if raised is not None else None
    found = findings_about(visit.reading, people, policy, model, version, visit.now)
    item = next((one for one in found.items if one.seq == seq and one.closed_seq is None), None)
    if item is None:
        raise not_found("This open finding")

    def make(given: Values) -> FindingResolved:
        outcome = given["outcome"]
        return FindingResolved.model_validate(
            {
                "model": model,
                "version": item.version,
                "finding_seq": seq,
                "outcome": outcome,
                "reason": given["reason"],
                "links": _lines(given.get("links", "")),
                "accepted_until": _date(given.get("until", ""), "until when") if outcome == "accepted" else None,
                "resolved_by": visit.person,
                "envelope": UNSIGNED.model_dump(),
            }
        )

    most = policy.findings.max_acceptance_days
    return Opened(
        rows=[
            ("Model", f"{model}, {f'version {item.version}' if item.version else 'all versions'}"),
            ("Finding", f"{item.seq} ({item.severity}): {item.title}"),
            ("Text", item.text),
            ("Raised by", item.raised_by),
        ],
        fields=(
            Field(
                "outcome",
                "Outcome",
                choices=(("closed", "It is closed"), ("accepted", "Its risk is accepted until a date")),
            ),
            Field(
                "until",
                "Accepted until",
                "date",
                f"Only for an accepted risk; at most {most} days from now.",
                required=False,
            ),
            _reason("Why?"),
            _links(),
        ),
        make=make,
        title=f"Resolve finding {seq} about {model}",
        model=model,
    )


def _block(visit: Visit, about: Values) -> Opened:
    model, version, seq = about["model"], about["version"], _number(about["entry"])
    visit.require_model(model)
    case = Case(visit.reading, model, version, visit.now, "production")
    item = next(((one, said) for one, said in blocks(case, valid_sign_offs(case)) if one.seq == seq), None)
    if item is None:
        raise not_found("This block")
    now = time.time_ns() // 1000
    able = {
        person.person: person.name
        for role in case.policy.blockers
        for person in case.people.role_holders_at(role, visit.reading.size, now)
        if person.person != visit.person
    }

    def make(given: Values) -> BlockLifted:
        if given["second"] not in able:
            raise ReviewError("choose who lifts it with you")
        both = tuple(sorted({visit.person, given["second"]}))
        return BlockLifted(
            model=model, version=version, sign_off_seq=seq, reason=given["reason"], lifted_by=both, envelopes=()
        )

    return Opened(
        rows=[
            ("Model", f"{model}, version {version}"),
            ("Blocked by", f"{case.people.name(item[0].record.person)}, entry {seq}"),
            ("They said", item[1].comments),
        ],
        fields=(
            _reason("Why is it lifted?"),
            Field(
                "second",
                "Who lifts it with you",
                hint="They sign it on their own page.",
                choices=tuple(sorted(able.items())),
            ),
        ),
        make=make,
        title=f"Lift the block of {model} {version}",
        model=model,
    )


def _dataset(visit: Visit, about: Values) -> Opened:
    name, root = about["name"], about["root"]
    change = find_change(visit.reading, name, root or None)
    before = f"root {change.old_root}" if change.old_root else "nothing (the first snapshot)"

    def make(given: Values) -> Record:
        if given["decision"] not in ("approve", "reject"):
            raise ReviewError("choose whether you approve or reject it")
        decision: Literal["approve", "reject"] = "approve" if given["decision"] == "approve" else "reject"
        return decision_record(
            visit.reading, name, change.root, decision, visit.person, comment=given.get("reason", "")
        )

    diff = change.diff.record.diff_digest if change.diff is not None else "none on record yet"
    return Opened(
        rows=[
            ("Dataset", change.name),
            ("Change", f"from {before} to root {change.root}, entry {change.item.seq}"),
            ("Declared reason", change.reason or "none was declared"),
            ("Difference", diff),
        ],
        fields=(
            Field(
                "decision",
                "Decision",
                choices=(("approve", "I approve this change"), ("reject", "I reject this change")),
            ),
            Field("reason", "Comment", required=False),
        ),
        make=make,
        title=f"Decide on a change of dataset {change.name}",
    )


STARTERS: dict[str, Starter] = {
    "condition": Starter("Close a condition", ("model", "version", "entry", "condition"), _condition),
    "finding": Starter("Resolve a finding", ("model", "entry"), _finding),
    "block": Starter("Lift a block", ("model", "version", "entry"), _block),
    "dataset-change": Starter("Decide on a change of a dataset", ("name", "root"), _dataset),
}
"""By the last part of `/acts/new/…`."""


def begun_here(visit: Visit, decision: Decision) -> list[tuple[str, str]]:
    """Return the acts that can begin about a version now, as (what, address): its blocks, open conditions and findings."""
    model, version = decision.model, decision.version
    case = Case(visit.reading, model, version, visit.now, decision.target)
    found = [
        (
            f"Lift the block of entry {item.seq}",
            make_path("acts", "new", "block", model=model, version=version, entry=item.seq),
        )
        for item, _ in blocks(case, valid_sign_offs(case))
    ]
    for given in decision.conditions:
        where = {"model": model, "version": version, "entry": str(given.sign_off_seq), "condition": str(given.index)}
        found.append((f"Close the condition “{given.condition.text}”", make_path("acts", "new", "condition", **where)))
    for one in decision.findings:
        about = {"model": model, "entry": str(one.seq)}
        found.append((f"Resolve finding {one.seq}: {one.title}", make_path("acts", "new", "finding", **about)))
    return found


def _reason(label: str) -> Field:
    return Field("reason", label)


def _links() -> Field:
    return Field("links", "Links", hint="One a line; may be left empty.", required=False)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip()[:500] for line in text.split("\n") if line.strip())[:20]


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 11:
        raise not_found("This entry")
    return int(text)


def _date(text: str, what: str) -> str:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ReviewError(f"{what}: a date such as 2027-01-31 is expected") from error
