"""What a person decides with `cognify sign`: decision, conditions that a program can check, references to earlier entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cognify_dagster.cli.inputs import TIME, parse_time

if TYPE_CHECKING:
    from cognify_dagster.governance import Choice, Condition, EntryRef
    from cognify_dagster.workspace import Reading

F = TypeVar("F", bound=Callable[..., Any])
CONDITIONS = (
    "conditions", "condition_dues", "use_caps", "populations", "ends", "monitor_by", "remediate_by",
)  # fmt: skip
_PAIR = r"[A-Za-z][A-Za-z0-9_.-]{0,59}=[^,;=]{1,200}"


def condition_options(function: F) -> F:
    """Add the options that make conditions."""
    for option in reversed(
        (
            click.option(
                "--condition", "conditions", multiple=True, metavar='"TEXT; due=UTC"', help="May be repeated."
            ),
            click.option(
                "--condition-due",
                "condition_dues",
                multiple=True,
                metavar="UTC",
                help="When a --condition is due; once for each, in order (`none`: undated).",
            ),
            click.option(
                "--use-cap",
                "use_caps",
                multiple=True,
                metavar='"KEY=VALUE,…; TEXT"',
                help="How much the model may be used, such as per_day=100. The deployment must enforce it.",
            ),
            click.option(
                "--population",
                "populations",
                multiple=True,
                metavar='"TEXT or KEY=VALUE,…"',
                help="For whom it may be used. The deployment must enforce it.",
            ),
            click.option("--ends", type=TIME, metavar="UTC", help="The approval ends then, as a condition of it."),
            click.option(
                "--monitor-by",
                "monitor_by",
                type=(TIME, str),
                multiple=True,
                metavar="UTC TEXT",
                help="What is watched more closely, and when a closure of it is due.",
            ),
            click.option(
                "--remediate-by",
                "remediate_by",
                type=(TIME, str),
                multiple=True,
                metavar="UTC TEXT",
                help="What is put right until when. Overdue, what is live is suspended.",
            ),
        )
    ):
        function = option(function)
    return function


def decision_of(given: dict[str, Any]) -> str:
    """Return the decision, as the statement has it. With conditions an approval is one with conditions.

    Raises:
        click.UsageError: if options contradict each other.
    """
    chosen, conditions = given["decision"], any(given[name] for name in CONDITIONS)
    if given["acknowledge"] is not None:
        if chosen not in (None, "acknowledge"):
            raise click.UsageError(f"--acknowledge and --decision {chosen} contradict each other")
        chosen = "acknowledge"
    if chosen is None:
        chosen = "approve-with-conditions" if conditions else "approve"
    if conditions and chosen != "approve-with-conditions":
        raise click.UsageError(f"conditions belong to --decision approve-with-conditions, not to {chosen}")
    if chosen == "approve-with-conditions" and not conditions:
        raise click.UsageError('name at least one --condition "TEXT; due=UTC", --use-cap, --population, --ends, …')
    return str(chosen).replace("-", "_")


def choice_of(reading: Reading, person: str, given: dict[str, Any]) -> Choice:
    """Return what a person decides."""
    from cognify_dagster.governance import Choice

    decision = decision_of(given)
    stage, reference = given["stage"], None
    if decision == "withdraw":
        stage, reference = _withdrawn(reading, person, given)
    elif given["acknowledge"] is not None:
        reference = _finding(reading, given)
    return Choice(
        decision=decision,  # type: ignore[arg-type]
        stage=stage,
        comments=given["comments"],
        conditions=conditions_of(given),
        links=tuple(given["links"]),
        targets=tuple(given["targets"]),
        expires=given["expires"],
        reference=reference,
    )


def conditions_of(given: dict[str, Any]) -> tuple[Condition, ...]:
    """Return the conditions in the order: texts, use caps, populations, the end, monitoring, remediation.

    Raises:
        click.UsageError: naming the option that cannot be read.
    """
    from cognify_dagster.governance import Condition

    texts, dues = given["conditions"], given["condition_dues"]
    if dues and len(dues) != len(texts):
        raise click.UsageError(
            f"--condition-due is given {len(dues)} times for {len(texts)} conditions: once for each, in order (`none`: undated)"
        )
    found = [_plain(text, dues[number] if dues else None) for number, text in enumerate(texts)]
    found += [_use_cap(text) for text in given["use_caps"]]
    found += [_population(text) for text in given["populations"]]
    if given["ends"]:
        until = given["ends"]
        found.append(Condition(text=f"This approval ends {until}", kind="expiry", limit={"until": until}))
    for kind, name in (("monitoring", "monitor_by"), ("remediation", "remediate_by")):
        for due, text in given[name]:
            if not text.strip():
                raise click.UsageError(f"--{name.replace('_', '-')} {due}: it has no text")
            found.append(Condition(text=text.strip(), due=due, kind=kind))  # type: ignore[arg-type]
    return tuple(found)


def _plain(text: str, given_due: str | None) -> Condition:
    from cognify_dagster.governance import Condition

    body, separator, due = text.rpartition(";")
    dated = bool(separator) and due.strip().startswith("due=")
    if dated and given_due is not None:
        raise click.UsageError(f"--condition {text[:80]!r} says its own due date; leave --condition-due away")
    body = body.strip() if dated else text.strip()
    if not body:
        raise click.UsageError(f"--condition {text[:80]!r} has no text")
    if dated:
        return Condition(text=body, due=_time(due.strip()[4:], f"--condition {text[:80]!r}"))
    if given_due is None or given_due.strip().lower() == "none":
        return Condition(text=body)
    return Condition(text=body, due=_time(given_due, "--condition-due"))


def _time(text: str, option: str) -> str:
    try:
        return parse_time(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def _use_cap(text: str) -> Condition:
    from cognify_dagster.governance import Condition

    pairs, _, words = (part.strip() for part in text.partition(";"))
    if not re.fullmatch(rf"{_PAIR}(,\s*{_PAIR})*", pairs):
        raise click.UsageError(
            f"--use-cap {text[:80]!r}: expected KEY=NUMBER such as per_day=100, then perhaps `; TEXT`"
        )
    limit = _limit(pairs)
    wrong = [name for name, value in limit.items() if not isinstance(value, (int, float)) or value < 0]
    if wrong:
        raise click.UsageError(f"--use-cap {text[:80]!r}: {wrong[0]} is not a number of at least 0")
    listed = ", ".join(f"{name.replace('_', ' ')} at most {value}" for name, value in limit.items())
    return Condition(text=words or f"Use is capped: {listed}", kind="use_cap", limit=limit)


def _population(text: str) -> Condition:
    from cognify_dagster.governance import Condition

    pairs, _, words = (part.strip() for part in text.partition(";"))
    if re.fullmatch(rf"{_PAIR}(,\s*{_PAIR})*", pairs):
        listed = ", ".join(part.strip().replace("=", " ", 1) for part in pairs.split(","))
        return Condition(text=words or f"Only for: {listed}", kind="population", limit=_limit(pairs))
    if not text.strip():
        raise click.UsageError("--population has no text")
    return Condition(text=f"Only for: {text.strip()}", kind="population", limit={"only": text.strip()})


def _limit(pairs: str) -> dict[str, Any]:
    return {
        name.strip(): _value(value.strip()) for name, _, value in (part.partition("=") for part in pairs.split(","))
    }


def _value(text: str) -> Any:
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,14})", text):
        return int(text)
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,9}", text):
        return float(text)
    return text


def condition_words(condition: Condition) -> str:
    """Return a condition in one line: its kind and what a program checks first, then its text and when it is due."""
    kinds = {
        "text": "",
        "use_cap": "use cap, ",
        "population": "population, ",
        "expiry": "end of the approval, ",
        "monitoring": "monitoring",
        "remediation": "remediation",
    }
    limit = ", ".join(f"{name}={value}" for name, value in condition.limit.items())
    head = f"[{kinds[condition.kind]}{limit}] " if condition.kind != "text" else ""
    if condition.kind in ("use_cap", "population", "expiry") and condition.due is None:
        return f"{head}{condition.text}"
    return f"{head}{condition.text} (due {condition.due or 'undated'})"


def _finding(reading: Reading, given: dict[str, Any]) -> EntryRef:
    """Return the finding that is acknowledged: one about this model, and this version or all of them."""
    from cognify_dagster.governance import EntryRef
    from cognify_dagster.records import FindingOpened, Reconciliation

    seq = given["acknowledge"]
    found = reading.at(seq)
    if found is None or not isinstance(found.record, (FindingOpened, Reconciliation)):
        raise click.UsageError(
            f"--acknowledge {seq}: this entry is no finding; see `cognify finding list {given['model']}`"
        )
    if found.record.model != given["model"] or found.record.version not in (None, given["version"]):
        raise click.UsageError(f"--acknowledge {seq}: that finding is about another model or version")
    return EntryRef(entry_seq=found.seq, entry_leaf=found.leaf)


def _withdrawn(reading: Reading, person: str, given: dict[str, Any]) -> tuple[str, EntryRef]:
    """Return stage and reference of the sign-off to withdraw."""
    from cognify_dagster.governance import EntryRef
    from cognify_dagster.records import SignOff

    own = [
        item
        for item in reading.all(SignOff, f"model/{given['model']}@{given['version']}")
        if item.record.person == person and item.record.decision != "withdraw"
    ]
    if given["entry"] is not None:
        own = [item for item in own if item.seq == given["entry"]]
    if not own:
        which = f"entry {given['entry']} is no" if given["entry"] is not None else "there is no"
        raise click.UsageError(f"{which} sign-off of {person} for {given['model']} {given['version']}")
    found = own[-1]
    return given["stage"] or found.record.stage, EntryRef(entry_seq=found.seq, entry_leaf=found.leaf)
