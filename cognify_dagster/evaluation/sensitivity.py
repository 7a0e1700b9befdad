"""Sensitivity: how a metric changes when inputs are changed on purpose (noise, missing values, shifts, typing errors).

Invariants: the given data are never changed, only copies; the same seed gives the same table; an input that the model cannot
score is a row with status `error`, never left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation.scoring import Array, Function, Scorer, column, labels_for, read_as, scorers
from cognify_dagster.records import Perturbation, to_metric

#: A model's function: from inputs to one number a record.
Predict = Callable[[Any], Any]


class Change(Protocol):
    """One change of the inputs."""

    @property
    def feature(self) -> str:
        """The column that changes, or `text`."""

    @property
    def transformation(self) -> str:
        """Its kind, such as `noise`."""

    @property
    def size(self) -> float:
        """How large it is, in `unit`."""

    @property
    def unit(self) -> str:
        """Unit of the size."""

    def apply(self, inputs: Any, rng: Any) -> Any:
        """Return changed inputs; the given ones stay as they are."""


@dataclass(frozen=True)
class Noise:
    """Normal noise on a column; `size` in standard deviations of that column."""

    column: str | int
    size: float
    transformation: str = "noise"
    unit: str = "standard deviations"

    @property
    def feature(self) -> str:
        return str(self.column)

    def apply(self, inputs: Any, rng: Any) -> Any:
        values = _get(inputs, self.column)
        return _with(inputs, self.column, values + rng.normal(0.0, self.size * float(values.std()), values.shape))


@dataclass(frozen=True)
class Shift:
    """Every value of a column moved; `size` in standard deviations of that column, negative for downwards."""

    column: str | int
    size: float
    transformation: str = "shift"
    unit: str = "standard deviations"

    @property
    def feature(self) -> str:
        return str(self.column)

    def apply(self, inputs: Any, rng: Any) -> Any:
        values = _get(inputs, self.column)
        return _with(inputs, self.column, values + self.size * float(values.std()))


@dataclass(frozen=True)
class Missing:
    """Values of a column made missing (NaN); `size` is the share of records, drawn at random."""

    column: str | int
    size: float
    transformation: str = "missing"
    unit: str = "share of records"

    @property
    def feature(self) -> str:
        return str(self.column)

    def apply(self, inputs: Any, rng: Any) -> Any:
        values = _get(inputs, self.column).copy()
        values[rng.random(values.shape) < self.size] = float("nan")
        return _with(inputs, self.column, values)


@dataclass(frozen=True)
class Typos:
    """Typing errors in texts: letters swapped with their neighbour, left out or doubled; `size` is the share of letters."""

    size: float
    feature: str = "text"
    transformation: str = "typos"
    unit: str = "share of letters"

    def apply(self, inputs: Any, rng: Any) -> Any:
        return [_typed(text, self.size, rng) for text in _texts(inputs)]


@dataclass(frozen=True)
class Case:
    """Texts in capitals or small letters."""

    to: str = "upper"
    feature: str = "text"
    size: float = 1.0
    unit: str = "share of texts"

    @property
    def transformation(self) -> str:
        return f"{self.to}_case"

    def apply(self, inputs: Any, rng: Any) -> Any:
        if self.to not in ("upper", "lower"):
            raise EvaluationError(f"perturbations: Case(to={self.to!r}): expected 'upper' or 'lower'")
        return [text.upper() if self.to == "upper" else text.lower() for text in _texts(inputs)]


@dataclass(frozen=True)
class Edit:
    """A change of your own: `function` gets the inputs and a numpy random generator and returns changed inputs."""

    function: Callable[[Any, Any], Any]
    transformation: str
    feature: str = "text"
    size: float = 1.0
    unit: str = ""

    def apply(self, inputs: Any, rng: Any) -> Any:
        return self.function(copy.copy(inputs), rng)


def perturbation_table(
    predict: Predict,
    inputs: Any,
    labels: Any,
    perturbations: Sequence[Change],
    *,
    metrics: Iterable[str | Scorer] | Mapping[str, Function] = ("auc",),
    threshold: float | None = None,
    seed: int = 0,
) -> tuple[Perturbation, ...]:
    """Measures the model on changed copies of the inputs: one row a change and metric.

    Args:
        predict: From inputs to one number a record.
        inputs: A pandas table, a numpy matrix (columns by number), a mapping of columns, or a list of texts.
        labels: What happened, one a record.
        perturbations: `Noise`, `Shift`, `Missing`, `Typos`, `Case`, `Edit`, or your own `Change`.
        metrics: As for `evaluate_slices`.
        threshold: Records with an output of at least this are decided 1; then flipped decisions are counted.
        seed: Each change draws from a generator of its own, made of the seed and the change's place in the list.

    Raises:
        EvaluationError: unusable input, or the model cannot score even the unchanged inputs.
    """
    import numpy as np

    chosen = scorers(metrics)
    truth = labels_for(labels, chosen)
    if not perturbations:
        raise EvaluationError("perturbations: name at least one change, such as Noise('income', 0.1)")
    try:
        before = column(predict(inputs), "predict(inputs)", truth.size)
    except EvaluationError:
        raise
    except Exception as error:
        raise EvaluationError(f"predict fails on the unchanged inputs: {type(error).__name__}: {error}") from error
    base = {item.name: item.function(truth, read_as(item, before, threshold)) for item in chosen}
    rows: list[Perturbation] = []
    for place, change in enumerate(perturbations):
        changed = change.apply(inputs, np.random.default_rng([seed, place]))
        after, problem = _scored(predict, changed, truth.size)
        rows += [_row(change, item, base[item.name], truth, before, after, threshold, seed, problem) for item in chosen]
    return tuple(rows)


def _scored(predict: Predict, inputs: Any, rows: int) -> tuple[Array | None, str]:
    try:
        return column(predict(inputs), "predict", rows), ""
    except Exception as error:  # a model that fails on such input is what the table has to say
        return None, f"the model fails on this input: {type(error).__name__}: {error}"[:500]


def _row(
    change: Change,
    scorer: Scorer,
    base: float,
    labels: Array,
    before: Array,
    after: Array | None,
    threshold: float | None,
    seed: int,
    problem: str,
) -> Perturbation:
    facts: dict[str, Any] = {
        "feature": change.feature,
        "transformation": change.transformation,
        "size": to_metric(change.size),
        "unit": change.unit,
        "metric": scorer.name,
        "before": to_metric(base),
        "higher_is_better": scorer.higher_is_better,
        "n": int(labels.size),
        "seed": seed,
    }
    if after is None:
        return Perturbation.model_validate({**facts, "status": "error", "note": problem})
    value = scorer.function(labels, read_as(scorer, after, threshold))
    facts |= {"after": to_metric(value), "change": to_metric(value - base)}
    facts["mean_shift"] = to_metric(float(abs(after - before).mean()))
    if threshold is not None:
        facts["flipped"] = to_metric(float(((after >= threshold) != (before >= threshold)).mean()))
    return Perturbation.model_validate(facts)


def _get(inputs: Any, name: str | int) -> Any:
    """A column of numbers."""
    import numpy as np

    try:
        values: Any = inputs[:, int(name)] if isinstance(inputs, np.ndarray) else inputs[name]
        return np.asarray(values, dtype=np.float64)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EvaluationError(f"perturbations: there is no numeric column {name!r} ({type(error).__name__})") from None


def _with(inputs: Any, name: str | int, values: Any) -> Any:
    """A copy of the inputs with one column replaced."""
    import numpy as np

    if isinstance(inputs, np.ndarray):
        changed = inputs.astype(np.float64)
        changed[:, int(name)] = values
        return changed
    if isinstance(inputs, Mapping):
        return {**inputs, name: values}
    changed = inputs.copy()
    changed[name] = values
    return changed


def _texts(inputs: Any) -> list[str]:
    table = hasattr(inputs, "columns") or isinstance(inputs, (str, Mapping))  # iterating those gives names or letters
    texts = [] if table else list(inputs)
    if table or not all(isinstance(text, str) for text in texts):
        raise EvaluationError("perturbations: changes of texts need a list of texts as inputs")
    return texts


def _typed(text: str, share: float, rng: Any) -> str:
    letters = list(text)
    draws, kinds = rng.random(len(letters)), rng.integers(0, 3, len(letters))
    typed: list[str] = []
    place = 0
    while place < len(letters):
        letter = letters[place]
        if not letter.isalpha() or draws[place] >= share:
            typed.append(letter)
        elif kinds[place] == 0 and place + 1 < len(letters):
            typed += [letters[place + 1], letter]
            place += 1
        elif kinds[place] == 1:
            typed += [letter, letter]
        place += 1  # kind 2, and a swap at the end: the letter is left out
    return "".join(typed)
