"""Explanations as evidence: over all data, and for each decision, retrievable by the decision's id.

The explanations of many decisions are one file (`cognify-explanations-1`): a first line of canonical JSON that names method,
features and, by decision id, where each row lies; then one line of canonical JSON a decision. No library of explanations is
needed: SHAP values are taken in the array forms that it returns.

Invariants: the file is named by its SHA-256 in the record, and opening a changed one fails; the row that is returned names the
decision that was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation._json import json_safe
from cognify_dagster.evaluation.suite import MAX_ARTIFACT_BYTES, EvalArtifact
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import Evaluation, EvidenceItem, Explanation, FeatureEffect, to_metric
from cognify_dagster.workspace import Recorded, Workspace

FORMAT = "cognify-explanations-1"
MEDIA_TYPE = "application/x-ndjson"
_TOP = 50
_MAX_FEATURES = 10_000

Sensitivity = Literal["public", "internal", "confidential", "personal"]


@dataclass(frozen=True)
class DecisionExplanation:
    """What moved one decision.

    Attributes:
        decision: Its id.
        method: How the contributions were made.
        output: What is explained.
        contributions: Feature and contribution, the largest first, in the unit of the output.
        base_value: The output that the contributions start from; None where the method has none.
        output_value: The output for this decision; None where it was not given.
        inputs: The features' values, where they were kept.
        entry: The evaluation's entry.
        item: The evidence that it was read from; its digest was checked.
    """

    decision: str
    method: str
    output: str
    contributions: tuple[tuple[str, float | str], ...]
    base_value: float | str | None
    output_value: float | str | None
    inputs: dict[str, Any]
    entry: int
    item: EvidenceItem


def global_explanation(
    method: str,
    effects: Mapping[str, float] | Sequence[float],
    *,
    features: Sequence[str] = (),
    spread: Sequence[float] = (),
    output: str = "",
    note: str = "",
    name: str = "explanation-global.json",
) -> tuple[Explanation, EvalArtifact]:
    """Makes an explanation over all data, such as permutation importances or coefficients.

    Args:
        method: Such as ``permutation_importance``.
        effects: Feature to effect, or effects in the order of `features`.
        features: Names, where `effects` is a sequence.
        spread: Standard deviation of each effect, in the same order.
        output: What the effects are measured in, such as ``loss of AUC``.
        note: A sentence for readers.
        name: Name of the file.

    Raises:
        EvaluationError: names and effects do not fit.
    """
    if isinstance(effects, Mapping):
        names, values = [str(key) for key in effects], [float(value) for value in effects.values()]
    else:
        names, values = [str(item) for item in features], [float(value) for value in effects]
    if len(names) != len(values) or not names or len(set(names)) != len(names):
        raise EvaluationError(f"{method}: {len(values)} effects for {len(set(names))} different features")
    if spread is not None and len(spread) not in (0, len(values)):
        raise EvaluationError(f"{method}: spread: expected {len(values)} numbers, got {len(spread)}")
    order = sorted(range(len(names)), key=lambda place: (-_size(values[place]), names[place]))
    rows = [
        {"feature": names[p], "effect": to_metric(values[p]), **({"std": to_metric(spread[p])} if len(spread) else {})}
        for p in order
    ]
    data = canonical_json({"method": method, "output": output, "note": note, "effects": rows})
    artifact = EvalArtifact(name=name, media_type="application/json", data=data)
    top = tuple(FeatureEffect(name=names[p][:300], value=to_metric(values[p])) for p in order[:_TOP])
    explanation = Explanation(
        scope="global", method=method, count=len(names), output=output, item=artifact.item(), top=top, note=note
    )
    return explanation, artifact


def decision_explanations(
    method: str,
    decisions: Sequence[Any],
    values: Any,
    *,
    features: Sequence[str] = (),
    base_values: Any = None,
    outputs: Any = None,
    inputs: Any = None,
    output: str = "",
    output_index: int | None = None,
    note: str = "",
    sensitivity: Sensitivity = "confidential",
    name: str = "explanation-decisions.ndjson",
) -> tuple[Explanation, EvalArtifact]:
    """Makes the explanations of many decisions, as one file with an index.

    Args:
        method: Such as ``shap`` or ``linear_contributions``.
        decisions: The decisions' ids, each once. Take what names no person.
        values: Contributions: a matrix of decisions x features; an object with ``values``, ``base_values``, ``data`` and
            ``feature_names`` as SHAP returns; or one of decisions x features x outputs, or a list of matrices, of which
            `output_index` says which output is meant.
        features: Names of the features, where `values` has none.
        base_values: One number, or one a decision.
        outputs: The model's output for each decision.
        inputs: The features' values, decisions x features, where they may be kept.
        output: What is explained, such as ``log-odds of default``.
        output_index: Which output, where there are several.
        note: A sentence for readers.
        sensitivity: How the file is kept.
        name: Name of the file; another one for each set of explanations of an evaluation.

    Raises:
        EvaluationError: shapes do not fit, an id occurs twice, or the file would be too large: then give several, in batches.
    """
    import numpy as np

    if hasattr(values, "values") and hasattr(values, "base_values"):  # shap.Explanation, without importing shap
        base_values = values.base_values if base_values is None else base_values
        inputs = getattr(values, "data", None) if inputs is None else inputs
        features = features or list(getattr(values, "feature_names", None) or ())
        values = values.values
    matrix = (
        np.stack([np.asarray(part, dtype=np.float64) for part in values], axis=-1)
        if isinstance(values, list) and values and np.ndim(values[0]) == 2
        else np.asarray(values, dtype=np.float64)
    )
    matrix, base = _one_output(matrix, base_values, output_index)
    ids = [str(item) for item in decisions]
    if matrix.ndim != 2 or matrix.shape[0] != len(ids) or not ids:
        raise EvaluationError(f"{method}: contributions of shape {matrix.shape} for {len(ids)} decisions")
    if len(set(ids)) != len(ids) or not all(0 < len(one) <= 300 for one in ids):
        raise EvaluationError(f"{method}: decisions: every id occurs once and has 1 to 300 characters")
    names = [str(item) for item in features] or [f"feature {place}" for place in range(matrix.shape[1])]
    if len(names) != matrix.shape[1] or len(names) > _MAX_FEATURES:
        raise EvaluationError(f"{method}: {len(names)} names for {matrix.shape[1]} features (at most {_MAX_FEATURES})")
    bases = _each(base, len(ids), "base_values")
    results = _each(outputs, len(ids), "outputs")
    kept = None if inputs is None else _rows_of(inputs)
    if kept is not None and (len(kept) != len(ids) or any(len(row) != len(names) for row in kept)):
        raise EvaluationError(f"{method}: inputs: expected {len(ids)} rows of {len(names)} values")
    index: dict[str, list[int]] = {}
    lines: list[bytes] = []
    place = 0
    for row in sorted(range(len(ids)), key=lambda number: ids[number]):
        entry: dict[str, Any] = {"decision": ids[row], "values": [to_metric(value) for value in matrix[row]]}
        entry |= {"base": bases[row]} if bases[row] is not None else {}
        entry |= {"output": results[row]} if results[row] is not None else {}
        entry |= {"inputs": kept[row]} if kept is not None else {}
        line = canonical_json(entry) + b"\n"
        index[ids[row]] = [place, len(line)]
        lines.append(line)
        place += len(line)
    head = {"format": FORMAT, "method": method, "output": output, "note": note, "features": names, "index": index}
    data = canonical_json(head) + b"\n" + b"".join(lines)
    if len(data) > MAX_ARTIFACT_BYTES:
        raise EvaluationError(
            f"{method}: {len(data)} bytes of explanations; a file holds at most {MAX_ARTIFACT_BYTES}. Give them in batches, each under "
            "a name of its own"
        )
    artifact = EvalArtifact(name=name, media_type=MEDIA_TYPE, data=data, sensitivity=sensitivity)
    explanation = Explanation(
        scope="decision",
        method=method,
        decision=ids[0] if len(ids) == 1 else "",
        count=len(ids),
        output=output,
        item=artifact.item(),
        note=note,
    )
    return explanation, artifact


def linear_contributions(
    coefficients: Any, inputs: Any, reference: Any, *, intercept: float = 0.0
) -> tuple[Any, float]:
    """Contributions of a linear model: coefficient x (value − reference), and the output at the reference.

    They add up to the output: ``base + contributions.sum(axis=1) == inputs @ coefficients + intercept``.

    Args:
        coefficients: One a feature.
        inputs: Decisions x features.
        reference: The values that contributions are counted from, such as the means of the training data.
        intercept: Of the model.

    Returns:
        The matrix of contributions, and the base value.
    """
    import numpy as np

    weights, matrix = np.asarray(coefficients, dtype=np.float64).ravel(), np.asarray(inputs, dtype=np.float64)
    centre = np.asarray(reference, dtype=np.float64).ravel()
    if matrix.ndim != 2 or matrix.shape[1] != weights.size or centre.size != weights.size:
        raise EvaluationError(
            f"linear_contributions: {weights.size} coefficients, inputs of shape {matrix.shape}, {centre.size} reference values"
        )
    return (matrix - centre) * weights, float(centre @ weights + intercept)


def find_explanation(
    workspace: Workspace, evaluation: Recorded[Evaluation], decision: str, *, method: str | None = None
) -> DecisionExplanation:
    """Returns the explanation of one decision, read from evidence whose digest was checked.

    Raises:
        EvaluationError: there is none for this decision, or a file is not of the known format.
        EvidenceError: the file is missing, or is not the one that the record names.
    """
    files = [
        item
        for item in evaluation.record.explanations
        if item.scope == "decision" and method in (None, item.method) and item.decision in ("", decision)
    ]
    for item in files:
        found = _in_file(workspace.evidence.get(item.item.digest), item, decision, evaluation.seq)
        if found is not None:
            return found
    about = f"{evaluation.record.model} {evaluation.record.version} (evaluation entry {evaluation.seq})"
    explained = sum(item.count for item in evaluation.record.explanations if item.scope == "decision")
    if not explained:
        raise EvaluationError(f"{about} holds no explanations of decisions")
    raise EvaluationError(f"{about} explains {explained} decisions, and none is {decision!r}")


def _in_file(data: bytes, item: Explanation, decision: str, seq: int) -> DecisionExplanation | None:
    where = f"{item.item.name} ({item.item.digest})"
    head_end = data.find(b"\n")
    try:
        head = json.loads(data[:head_end])
        if head_end < 0 or head["format"] != FORMAT:
            raise ValueError(f"not of the format {FORMAT}")
        place = head["index"].get(decision)
        if place is None:
            return None
        start = head_end + 1 + int(place[0])
        row = json.loads(data[start : start + int(place[1])])
        if row["decision"] != decision or len(row["values"]) != len(head["features"]):
            raise ValueError(f"the index leads to another decision than {decision!r}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise EvaluationError(f"{where}: cannot be read: {error}") from None
    pairs = sorted(zip(head["features"], row["values"], strict=True), key=lambda pair: (-_size(pair[1]), pair[0]))
    return DecisionExplanation(
        decision=decision,
        method=str(head["method"]),
        output=str(head["output"]),
        contributions=tuple((str(name), value) for name, value in pairs),
        base_value=row.get("base"),
        output_value=row.get("output"),
        inputs=dict(zip(head["features"], row.get("inputs", ()), strict=False)),
        entry=seq,
        item=item.item,
    )


def _one_output(matrix: Any, base: Any, index: int | None) -> tuple[Any, Any]:
    """The contributions to one output, and its base value."""
    import numpy as np

    if matrix.ndim != 3:
        return matrix, base
    count = matrix.shape[2]
    if count == 1 and index is None:
        index = 0
    if index is None or not 0 <= index < count:
        raise EvaluationError(f"values: there are {count} outputs; say which one by output_index (0 to {count - 1})")
    known = None if base is None else np.asarray(base, dtype=np.float64)
    if known is not None and known.ndim >= 1 and known.shape[-1] == count:
        known = known[..., index]
    return matrix[:, :, index], known


def _each(values: Any, rows: int, what: str) -> list[Any]:
    import numpy as np

    if values is None:
        return [None] * rows
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.size == 1:
        return [to_metric(float(array.reshape(-1)[0]))] * rows
    if array.shape != (rows,):
        raise EvaluationError(f"{what}: expected one number or {rows}, got shape {array.shape}")
    return [to_metric(float(value)) for value in array]


def _rows_of(inputs: Any) -> list[list[Any]]:
    if hasattr(inputs, "to_numpy"):
        inputs = inputs.to_numpy()
    return [list(json_safe(row, where="inputs")) for row in inputs]


def _size(value: Any) -> float:
    number = float(value)
    return abs(number) if number == number else 0.0  # noqa: PLR0124 (NaN counts for nothing)
