"""The Python SDK: a training script records itself with a few lines, without any orchestrator, beside MLflow or others.

    from cognify_dagster import sdk as cognify

    cognify.init(workspace_id="bank.example/credit", project="credit_default")
    run = cognify.run(config={"lr": 1e-3})
    ...
    run.save_model("model.pt")
    cognify.eval(results={"auc": 0.78}, benchmark_version="holdout-v3")
    run.complete()

Every call is written to a journal on this machine first, so nothing is lost when the process is killed or the ledger cannot be reached;
`cognify spool flush` brings such runs into the ledger later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cognify_dagster.instrument.sdk.api import current_run, eval, init, run
from cognify_dagster.instrument.sdk.attaching import Attachment, attach
from cognify_dagster.instrument.sdk.bindings import BoundDataset, bind
from cognify_dagster.instrument.sdk.errors import JournalDamaged, OutOfReach, SdkError
from cognify_dagster.instrument.sdk.outcomes import NotPackaged, Outcome, Packaged, Pending
from cognify_dagster.instrument.sdk.run import Run
from cognify_dagster.instrument.sdk.session import Session

if TYPE_CHECKING:
    from cognify_dagster.instrument.sdk.flushing import Flushed, flush

__all__ = [
    "Attachment",
    "BoundDataset",
    "Flushed",
    "JournalDamaged",
    "NotPackaged",
    "OutOfReach",
    "Outcome",
    "Packaged",
    "Pending",
    "Run",
    "SdkError",
    "Session",
    "attach",
    "bind",
    "current_run",
    "eval",
    "flush",
    "init",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in ("Flushed", "flush"):  # they bring the documents along, which a training script needs only at its end
        from cognify_dagster.instrument.sdk import flushing

        return getattr(flushing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
