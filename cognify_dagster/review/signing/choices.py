"""From the fields of the sign-off form to what is decided. Pure; every field that cannot be read is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.governance import Choice, Condition, EntryRef
from cognify_dagster.records import FindingOpened, Reconciliation, RecordError, SignOff, build
from cognify_dagster.review.signing.statements import DECISIONS, KINDS
from cognify_dagster.workspace import Reading

ROWS = 6
"""How many conditions the form offers."""
_PAIR = r"[A-Za-z][A-Za-z0-9_.-]{0,59}=[^,;=]{1,200}"
_TARGET = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_MAX_TEXT = 10_000


@dataclass(frozen=True)
class FormError:
    """What is wrong with one field: its name in the form, and a sentence."""

    field: str
    text: str


def read_choice(
    reading: Reading, model: str, version: str, person: str, form: Mapping[str, str]
) -> Choice | list[FormError]:
    """Return what the form decides, or everything that is wrong with it."""
    wrong: list[FormError] = []
    decision = form.get("decision", "")
    if decision not in DECISIONS:
        wrong.append(FormError("decision", "Choose what you decide."))
    comments = form.get("comments", "")
    if decision in ("reject", "block") and not comments:
        wrong.append(FormError("comments", f"Say why: a {decision} without a reason helps nobody."))
    if len(comments) > _MAX_TEXT:
        wrong.append(FormError("comments", f"The comments are longer than {_MAX_TEXT} characters."))
    given = _conditions(form, wrong)
    if decision == "approve_with_conditions" and not given and not wrong:
        wrong.append(FormError("c0_text", "An approval with conditions names at least one condition."))
    if given and decision != "approve_with_conditions":
        wrong.append(
            FormError("decision", "Conditions belong to “approve with conditions”; choose that, or empty them.")
        )
    targets = tuple(dict.fromkeys(part for part in re.split(r"[,\s]+", form.get("targets", "production")) if part))
    if any(not _TARGET.fullmatch(item) for item in targets) or not targets:
        wrong.append(FormError("targets", "Name targets such as production, separated by commas."))
    expires = _time(form.get("expires", ""), "expires", "The approval's end", wrong)
    reference, stage = None, form.get("stage") or None
    if decision == "withdraw":
        reference, stage = _own(reading, model, version, person, form, wrong)
    elif decision == "acknowledge" and form.get("finding"):
        reference = _finding(reading, model, version, form["finding"], wrong)
    links = tuple(line for line in form.get("links", "").split("\n") if line.strip())
    if len(links) > 20 or any(len(link) > 500 or not link.startswith(("https://", "http://")) for link in links):
        wrong.append(FormError("links", "Give at most 20 links, one a line, each beginning with https://."))
    if wrong:
        return wrong
    return Choice(
        decision=decision,  # type: ignore[arg-type]
        stage=stage,
        comments=comments,
        conditions=tuple(given),
        links=links,
        targets=targets,
        expires=expires if decision.startswith("approve") else None,
        reference=reference,
    )


def parse_time(text: str) -> str:
    """Read a UTC time, or a date (meaning its last second); return `2027-01-31T23:59:59Z`.

    Raises:
        ValueError: if it is neither.
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += "T23:59:59Z"
    found = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str, field: str, what: str, wrong: list[FormError]) -> str | None:
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError:
        wrong.append(FormError(field, f"{what} is a date such as 2027-01-31."))
        return None


def _conditions(form: Mapping[str, str], wrong: list[FormError]) -> list[Condition]:
    found = []
    for row in range(ROWS):
        names = {part: f"c{row}_{part}" for part in ("kind", "text", "due", "limit")}
        values = {part: form.get(name, "").strip() for part, name in names.items()}
        if not any(values[part] for part in ("text", "due", "limit")):
            continue
        before = len(wrong)
        due = _time(values["due"], names["due"], f"Condition {row + 1}: the due date", wrong)
        facts = _condition(values, due, names, wrong, row + 1)
        if len(wrong) > before:
            continue
        try:
            found.append(build(Condition, facts))
        except RecordError as error:
            wrong.append(FormError(names["text"], f"Condition {row + 1}: {error}"))
    return found


def _condition(
    values: dict[str, str], due: str | None, names: dict[str, str], wrong: list[FormError], number: int
) -> dict[str, Any]:
    kind, text, limit = values["kind"] or "text", values["text"], values["limit"]

    def say(part: str, sentence: str) -> None:
        wrong.append(FormError(names[part], f"Condition {number}: {sentence}"))

    if kind not in KINDS:
        say("kind", "choose what kind it is.")
    if kind == "expiry":
        if due is None:
            say("due", "say until when the approval holds.")
        return {"text": text or f"This approval ends {due}", "kind": kind, "limit": {"until": due}}
    pairs: dict[str, Any] = {}
    if kind in ("use_cap", "population") and limit:
        if not re.fullmatch(rf"{_PAIR}(,\s*{_PAIR})*", limit):
            say("limit", "the limit is NAME=VALUE, such as per_day=100.")
        else:
            pairs = {n.strip(): _value(v.strip()) for n, _, v in (part.partition("=") for part in limit.split(","))}
    if kind == "use_cap" and (not pairs or any(isinstance(v, str) or v < 0 for v in pairs.values())):
        say("limit", "a use cap has a number of at least 0, such as per_day=100.")
    if kind == "population" and not pairs:
        if not text:
            say("text", "say for whom the model may be used.")
        pairs = {"only": text}
    if kind not in ("use_cap", "population") and limit:
        say("limit", "only a use cap or a population has a limit.")
    if kind in ("text", "monitoring", "remediation") and not text:
        say("text", "it has no text.")
    if kind in ("monitoring", "remediation") and due is None:
        say("due", "say when it is due.")
    words = text or ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in pairs.items())
    return {"text": words, "kind": kind, "limit": pairs, "due": due}


def _value(text: str) -> Any:
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,14})", text):
        return int(text)
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,9}", text):
        return float(text)
    return text


def own_sign_offs(reading: Reading, model: str, version: str, person: str) -> list[tuple[int, str, str]]:
    """Return the sign-offs of a person on a version that they did not withdraw: entry, decision, stage; newest first."""
    mine = [item for item in reading.all(SignOff, f"model/{model}@{version}") if item.record.person == person]
    found = [item for item in mine if item.record.decision != "withdraw"]
    withdrawn = set[str]()
    for item in mine:
        if item.record.decision == "withdraw":
            withdrawn |= _withdrawn_leaf(item.record)
    return [(i.seq, i.record.decision, i.record.stage) for i in reversed(found) if i.leaf not in withdrawn]


def _withdrawn_leaf(record: SignOff) -> set[str]:
    from cognify_dagster.governance import SignatureError, read_sign_off
    from cognify_dagster.governance.signing.statements import envelope_statement

    try:
        reference = read_sign_off(envelope_statement(record.envelope)).reference
    except SignatureError:
        return set()
    return {reference.entry_leaf} if reference is not None else set()


def _own(
    reading: Reading, model: str, version: str, person: str, form: Mapping[str, str], wrong: list[FormError]
) -> tuple[EntryRef | None, str | None]:
    known = {seq: stage for seq, _, stage in own_sign_offs(reading, model, version, person)}
    wanted = form.get("entry", "")
    seq = int(wanted) if wanted.isdecimal() and len(wanted) < 12 else next(iter(known), -1) if not wanted else -1
    item = reading.at(seq) if seq in known else None
    if item is None:
        wrong.append(FormError("entry", "Choose which of your sign-offs you withdraw."))
        return None, None
    return EntryRef(entry_seq=item.seq, entry_leaf=item.leaf), known[seq]


def _finding(reading: Reading, model: str, version: str, text: str, wrong: list[FormError]) -> EntryRef | None:
    item = reading.at(int(text)) if text.isdecimal() and len(text) < 12 else None
    if (
        item is None
        or not isinstance(item.record, (FindingOpened, Reconciliation))
        or item.record.model != model
        or item.record.version not in (None, version)
    ):
        wrong.append(FormError("finding", "Choose a finding about this version."))
        return None
    return EntryRef(entry_seq=item.seq, entry_leaf=item.leaf)
