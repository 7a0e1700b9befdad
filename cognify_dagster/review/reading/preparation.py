"""Where a version stands before it has a package: which steps are done, what is missing, who can do it, with which command. Pure.

Invariant: it follows from the version's own entries alone, so it is cheap enough for lists; whether it could be released is decided
elsewhere, from everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from cognify_dagster.documents.labels import words
from cognify_dagster.governance import Directory
from cognify_dagster.records import (
    Evaluation,
    GateResult,
    ModelAdopted,
    Package,
    Record,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Reading, Recorded

NOT_OPENED, OPENED, FAILED, TRAINED = (
    "not trained yet",
    "training is not done",
    "training failed",
    "waits for its evaluation",
)
GATES_FAILED, EVALUATED = "gates failed", "waits for its package"
ADOPTED, PACKAGED = "taken over as it was", "has a package"
_STUCK = frozenset({FAILED, GATES_FAILED})


@dataclass(frozen=True)
class Step:
    """One step of a version's making: `item` is the entry that did it, None while it is not done."""

    title: str
    word: str
    tone: str
    item: Recorded[Record] | None = None
    note: str = ""


@dataclass(frozen=True)
class Preparation:
    """Where a version stands.

    Args:
        state: in a few words, one of this module's constants.
        steps: what has been done and what is to be done, in order.
        missing: what is missing, as a sentence.
        who: who can do it.
        command: the command that does it or says more.
    """

    state: str
    steps: tuple[Step, ...]
    missing: str
    who: str
    command: str

    @property
    def stuck(self) -> bool:
        """Whether it goes on only once somebody does something about it."""
        return self.state in _STUCK


def preparation_of(reading: Reading, people: Directory, model: str, version: str) -> Preparation:
    """Return where a version stands on its way to a package.

    Args:
        reading: verified entries.
        people: for names.
        model: model key.
        version: version id.
    """
    subject = f"model/{model}@{version}"
    opened = reading.latest(VersionOpened, subject)
    trained, failed = reading.latest(TrainingRun, subject), reading.latest(TrainingFailed, subject)
    evaluated, package = reading.latest(Evaluation, subject), reading.latest(Package, subject)
    adopted = reading.latest(ModelAdopted, subject)
    if adopted is not None and trained is None:
        return _adopted(people, adopted)
    gates = _gates(reading, subject, evaluated)
    bad = tuple(item for item in gates if item.record.status == "fail")
    if failed is not None and opened is not None and opened.seq > failed.seq:
        failed = None  # it was begun again since
    state = _state(opened, trained, failed, evaluated, bad, package)
    steps = (
        Step("Opened", *_done(opened), opened, _by(people, opened.record.opened_by) if opened else ""),
        _training(trained, failed),
        Step("Evaluated", *_done(evaluated), evaluated),
        _judged(gates, bad),
        Step("Package built", *_done(package), package),
    )
    missing, command = _missing(state, model, version, bad)
    return Preparation(state, steps, missing, _who(people, opened), command)


def _state(
    opened: Recorded[VersionOpened] | None,
    trained: Recorded[TrainingRun] | None,
    failed: Recorded[TrainingFailed] | None,
    evaluated: Recorded[Evaluation] | None,
    bad: tuple[Recorded[GateResult], ...],
    package: Recorded[Package] | None,
) -> str:
    if package is not None:
        return PACKAGED
    if trained is None:
        return FAILED if failed is not None else OPENED if opened is not None else NOT_OPENED
    if evaluated is None:
        return TRAINED
    return GATES_FAILED if bad else EVALUATED


def _gates(reading: Reading, subject: str, evaluated: Recorded[Evaluation] | None) -> tuple[Recorded[GateResult], ...]:
    """The newest result of each family of gates; those from before the newest evaluation say nothing about it."""
    newest: dict[str, Recorded[GateResult]] = {}
    for item in reading.all(GateResult, subject):
        newest[item.record.family] = item
    since = evaluated.seq if evaluated is not None else -1
    return tuple(item for item in newest.values() if item.seq > since)


def _done(item: Recorded[Record] | None) -> tuple[str, str]:
    return ("done", "good") if item is not None else ("not yet", "open")


def _training(trained: Recorded[TrainingRun] | None, failed: Recorded[TrainingFailed] | None) -> Step:
    if trained is None and failed is not None:
        return Step("Trained", "failed", "bad", failed, failed.record.reason[:500])
    return Step("Trained", *_done(trained), trained)


def _judged(gates: tuple[Recorded[GateResult], ...], bad: tuple[Recorded[GateResult], ...]) -> Step:
    if not gates:
        return Step("Gates", "not yet", "open")
    if not bad:
        return Step("Gates", "passed", "good", gates[-1], ", ".join(words(item.record.family) for item in gates))
    return Step("Gates", "failed", "bad", bad[-1], "; ".join(_why(item) for item in bad))


def _why(item: Recorded[GateResult]) -> str:
    """A family of gates that failed, with what did not pass in it."""
    out = [
        one.message or f"{one.metric} is {one.value}, asked is {one.op} {one.threshold}"
        for one in item.record.outcomes
        if not one.passed
    ]
    return words(item.record.family) + (f": {', '.join(out[:3])}" if out else "")


def _missing(state: str, model: str, version: str, bad: tuple[Recorded[GateResult], ...]) -> tuple[str, str]:
    """What is missing, and the command."""
    status = f"cognify status {model} {version}"
    families = ", ".join(words(item.record.family) for item in bad)
    return {
        NOT_OPENED: ("Nobody trained this version yet. A run of the training asset in Dagster, or the Python SDK, opens it.", status),
        OPENED: ("Its training is running, or its run ended without a word. Look at the run; Materialize the training asset for this version once more if it is over.", status),
        FAILED: ("Its training failed. Mend the cause and Materialize the training asset for this version again, or train a new version.", status),
        TRAINED: ("It is trained and sealed. Its evaluation is missing: Materialize the evaluation asset for this version, or record results of your own.",
                  f"cognify evaluation record {model} {version} --dataset NAME --results results.json"),
        GATES_FAILED: (f"Gates did not pass: {families}. It cannot be released like this; train a new version, or evaluate again if the evaluation was wrong. A package can be built all the same, to show what was found.",
                       f"cognify package build {model} {version}"),
        EVALUATED: ("It is trained and evaluated. Its package is missing: Materialize the package asset for this version, or build it by hand.",
                    f"cognify package build {model} {version}"),
        PACKAGED: ("Nothing: it has a package.", status),
    }[state]  # fmt: skip


def _who(people: Directory, opened: Recorded[VersionOpened] | None) -> str:
    by = opened.record.opened_by if opened is not None else ""
    others = "whoever may run the model's pipeline"
    return f"{people.name(by)}, who opened it, or {others}" if by.startswith("person/") else others


def _by(people: Directory, person: str) -> str:
    return f"by {people.name(person)}" if person.startswith("person/") else "by nobody who is enrolled here"


def _adopted(people: Directory, item: Recorded[ModelAdopted]) -> Preparation:
    record = item.record
    step = Step(
        "Taken over", "unattested", "bad", item, f"by {people.name(record.adopted_by)}, live on {record.target}"
    )
    missing = (
        "It was in use before this ledger existed and was taken over as it was, without training, evaluation or sign-off. It gets "
        "no package; a new version takes its place."
    )
    return Preparation(
        ADOPTED, (step,), missing, "the model's engineers", f"cognify status {record.model} {record.version}"
    )
