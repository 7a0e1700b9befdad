"""Fits a line by gradient descent and reports it to the step that launched this process.

It needs `dagster_pipes` and the standard library, neither dagster nor cognify_dagster: the message is plain JSON. With
cognify_dagster at hand, `cognify_dagster.instrument.pipes.open_training` writes the same message.
"""

import csv
import hashlib
import json
from pathlib import Path

from dagster_pipes import open_dagster_pipes

RATE = 0.05
ROUNDS = 200


def read(path: str) -> list[tuple[float, float]]:
    """Hours and scores."""
    with open(path, newline="", encoding="utf-8") as stream:
        return [(float(row["hours"]), float(row["score"])) for row in csv.DictReader(stream)]


def fit(rows: list[tuple[float, float]]) -> tuple[dict[str, float], list[list[float]]]:
    """The line, and the loss after every twentieth round."""
    slope = intercept = 0.0
    curve = []
    for number in range(1, ROUNDS + 1):
        errors = [(slope * x + intercept - y, x) for x, y in rows]
        slope -= RATE * sum(error * x for error, x in errors) / len(rows)
        intercept -= RATE * sum(error for error, _ in errors) / len(rows)
        if number % 20 == 0:
            curve.append([number, sum(error * error for error, _ in errors) / len(rows)])
    return {"slope": slope, "intercept": intercept}, curve


def save(path: Path, content: dict[str, float]) -> dict[str, str]:
    """Write a file; return where it is and its digest."""
    path.write_text(json.dumps(content, sort_keys=True), encoding="utf-8")
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def main() -> None:
    """Train the version that the step asks for."""
    with open_dagster_pipes() as pipes:
        asked = pipes.extras["cognify"]
        output = Path(asked["output"])
        line, curve = fit(read(asked["datasets"]["exam_scores"]["path"]))
        pipes.log.info(f"trained {asked['model']} {asked['version']}")
        pipes.report_custom_message(
            {
                "cognify": "training/1",
                "model": save(output / "line.json", line),
                "checkpoints": [{**save(output / "round-200.json", line), "step": ROUNDS, "name": "round-200"}],
                "config": {"rate": RATE, "rounds": ROUNDS},
                "metrics": {"loss": curve},
                "architecture": {"name": "line", "framework": "none", "framework_version": "1"},
                "selection_note": "The simplest model that says anything about these numbers.",
            }
        )


if __name__ == "__main__":
    main()
