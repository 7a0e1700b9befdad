"""Reported results as JSON, for the journal, and back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cognify_dagster.evaluation import EvalResult, EvaluationError
from cognify_dagster.evaluation.results import as_eval_result
from cognify_dagster.instrument.sdk.ended import Reported
from cognify_dagster.instrument.sdk.errors import JournalDamaged
from cognify_dagster.instrument.sdk.redaction import redact
from cognify_dagster.records import to_json
from cognify_dagster.training import TrainingError
from cognify_dagster.training._json import coerce

_SHOWN = 200_000


def reported(
    results: Any,
    label: str,
    *,
    gates: str | None = None,
    n: int | None = None,
    protected_attributes: tuple[str, ...] = (),
) -> Reported:
    """Return results checked and ready to be kept.

    Raises:
        EvaluationError: naming the entry that has no accepted form.
    """
    if isinstance(results, Mapping):
        try:
            plain = coerce(dict(results), key="results")
        except TrainingError:
            results = as_eval_result(results, n=n, protected_attributes=protected_attributes)
        else:
            as_eval_result(
                results, n=n or 1, protected_attributes=protected_attributes
            )  # a bad entry is said now, not hours later
            return Reported(plain, label, gates, n, protected_attributes, plain)
    if not isinstance(results, EvalResult):
        results = as_eval_result(results, n=n, protected_attributes=protected_attributes)
    return Reported(results, label, gates, n, protected_attributes, _in_short(results))


def _in_short(result: EvalResult) -> dict[str, Any]:
    facts: dict[str, Any] = to_json(redact(result.to_facts()))
    if len(json.dumps(facts)) <= _SHOWN:
        return facts
    return {name: facts[name] for name in ("metrics", "n", "notes") if name in facts}


def encode(item: Reported) -> dict[str, Any]:
    """Return JSON values from which `decode` makes the same again."""
    head = {
        "label": item.label,
        "gates": item.gates,
        "n": item.n,
        "protected_attributes": list(item.protected_attributes),
    }
    if not isinstance(item.results, EvalResult):
        return {**head, "form": "numbers", "results": item.results}
    result = item.results
    body = result.model_dump(mode="json", exclude={"artifacts"})
    attached = [
        {**artifact.model_dump(mode="json", exclude={"data"}), "data": base64.b64encode(artifact.data).decode("ascii")}
        for artifact in result.artifacts
    ]
    return {**head, "form": "eval_result", "results": body, "artifacts": attached}


def decode(value: Mapping[str, Any]) -> Reported:
    """Read what `encode` wrote.

    Raises:
        JournalDamaged: it has another form.
    """
    try:
        label, gates, n = str(value["label"]), value["gates"], value["n"]
        attributes = tuple(value["protected_attributes"])
        if value["form"] == "numbers":
            return reported(value["results"], label, gates=gates, n=n, protected_attributes=attributes)
        body = dict(value["results"])
        body["artifacts"] = [{**item, "data": base64.b64decode(item["data"])} for item in value["artifacts"]]
        result = EvalResult.model_validate(body)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise JournalDamaged(f"an evaluation in the journal cannot be read: {error}") from error
    return reported(result, label, gates=gates, n=n, protected_attributes=attributes)
