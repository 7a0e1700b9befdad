"""Sealing a training record, apart from hashing the model: what the last call of a training costs.

The record is of usual size: 20 settings, 6 curves of 2,000 points, 20 checkpoints, 3 artefacts, the environment with all packages. Its
model has 1 kB, so that hashing does not count. All is real: evidence is flushed, the entry committed, the head signed.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row
from cognify_dagster.records import DatasetRef
from cognify_dagster.training import TrainingRecorder, capture_code, capture_environment
from cognify_dagster.training.recording import Attribution, open_version, seal_training
from tests.governance.world import MODEL, World, make_world

_LIMIT_MS = 50.0


def recorded(folder: Path, number: int) -> TrainingRecorder:
    """A recorder with what a training of usual size logs; its files are new each time."""
    run = TrainingRecorder()
    run.log_config({f"setting_{index}": index / 7 for index in range(20)})
    run.log_seeds(python=number, torch=number)
    run.set_compute(parameters=22_700_000, tokens=1_000_000)
    for step in range(2_000):
        for name in ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "lr", "grad_norm"):
            run.log_metric(name, number + step / 3, step)
    for step in range(20):
        place = folder / f"checkpoint-{step}"
        place.mkdir(parents=True)
        for name in ("model.safetensors", "optimizer.pt", "trainer_state.json"):
            (place / name).write_bytes(f"{number} {step} {name}".encode())
        run.log_checkpoint(place, step=step)
    for index in range(3):
        run.log_artifact(f"plot-{index}.svg", f"<svg>{number}</svg>".encode() * 500, "image/svg+xml")
    model = folder / "model.bin"
    model.write_bytes(f"{number:1000d}".encode())
    run.save_model(model)
    return run


def _run(options: Options) -> Result:
    world = make_world(options.folder / "world")
    world.register()
    data = DatasetRef(name="loans_train", root="ab" * 32, seq=world.snapshot("loans_train").seq, role="train")
    code = capture_code(Path(__file__))
    started = time.perf_counter()
    capture_environment(Path(__file__))
    first_ms = (time.perf_counter() - started) * 1000
    times = [_once(options, world, data, code, number) for number in range(options.repeats + 1)][1:]
    middle = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    return Result(
        "a training record sealed, hashing apart: 12,000 points, 20 checkpoints, 3 artefacts",
        f"< {_LIMIT_MS:.0f} ms",
        f"{middle:.1f} ms ({low:.1f}–{high:.1f})",
        middle < _LIMIT_MS if not options.quick else None,
        [
            f"the environment included; its first capture in a process, which runs beside the training: {first_ms:.0f} ms"
        ],
    )


def _once(options: Options, world: World, data: DatasetRef, code: object, number: int) -> float:
    run, version = recorded(options.folder / f"run-{number}", number), f"v{number}"
    open_version(world.workspace, MODEL, version, run=version, opened_by="person/ben", run_is_over=lambda _: True)
    started = time.perf_counter()
    seal_training(
        world.workspace,
        run,
        model=MODEL,
        version=version,
        run=version,
        datasets=[data],
        model_path=options.folder / f"run-{number}" / "model.bin",
        code=code,  # type: ignore[arg-type]
        environment=capture_environment(Path(__file__)),
        attribution=Attribution("person/ben", ("person/ben",)),
        started_after_seq=world.workspace.ledger.size(),
    )
    return (time.perf_counter() - started) * 1000


ROWS = (Row("sealing", _run),)
