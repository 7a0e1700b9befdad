"""A dataset that is snapshotted in steps, and switches that have a step's process killed once."""

import os
import signal
from pathlib import Path

import dagster as dg

import cognify_dagster as cg
from cognify_dagster.orchestration import distributed
from tests.orchestration.project import PROVENANCE

FORK = {"start_method": {"forkserver": {"preload_modules": ["tests.orchestration.distributed_project"]}}}


def place() -> Path:
    """The project folder of this test."""
    return Path(os.environ["COGNIFY_WORKSPACE"])


def write(folder: Path, count: int = 30) -> Path:
    """Table files in a few folders, and one file that is none beside them."""
    for number in range(count):
        path = folder / f"d{number % 3}" / f"part-{number:03}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        amount = number * 0.5 if number % 7 == 0 else number
        path.write_text("id,amount\n" + "".join(f"{number * 10 + i},{amount}\n" for i in range(5)))
    (folder / "_SUCCESS").write_text("")
    return folder


def dying(step: str) -> None:
    """Note that a step began; kill its process if the step's switch is on, and turn it off."""
    with open(place() / "began.txt", "a", encoding="utf-8") as stream:
        stream.write(f"{step}\n")
    try:
        (place() / f"kill-{step}").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(name: str) -> None:
    """Have a step's function note that it began."""
    function = getattr(distributed, name)

    def noting(*given, **more):
        dying(name)
        return function(*given, **more)

    setattr(distributed, name, noting)


def watch() -> None:
    """Have all steps' functions note that they began; once."""
    if not hasattr(distributed, "watched"):
        distributed.watched = True  # type: ignore[attr-defined]
        for name in ("list_portions", "map_portion", "map_records", "reduce_step"):
            wrapped(name)


def asset(retries: int = 1, **options) -> dg.AssetsDefinition:
    """The dataset in steps."""
    return cg.build_distributed_snapshot(
        "parts",
        lambda: str(place() / "data" / "parts"),
        provenance=PROVENANCE,
        change_reason="for this test",
        portion_files=20,
        ranges=2,
        retry_policy=dg.RetryPolicy(max_retries=retries) if retries else None,
        **options,
    )


def job(folder: str, retries: int, records: bool) -> dg.JobDefinition:
    """A job of it for the multiprocess executor, with processes that start fast.

    They come from a server that outlives a test, so the folder of the test is told here and not by the environment.
    """
    os.environ["COGNIFY_WORKSPACE"] = folder
    watch()
    definition = asset(retries, records=records)
    found = dg.define_asset_job(
        "parts_job",
        selection=[definition],
        executor_def=dg.multiprocess_executor.configured({"max_concurrent": 2, **FORK}),
    )
    defs = dg.Definitions(assets=[definition], jobs=[found], resources={"ledger": cg.LedgerResource()})
    return defs.resolve_job_def("parts_job")
