"""One deployment of a model to a target at a time, on one host.

Two runs that deploy the same version hold the same grant, so the ledger alone lets both enter the body and only one complete.
A lock on a file beside the ledger keeps the second one out before its body. The operating system frees it when the process
dies, so nothing has to be cleaned up. Where the file system knows no locks, or on another host, the lock holds nobody: the
asset's Dagster pool with a limit of 1 does, and the ledger still accepts one completion only.
"""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class DeploymentBusy(RuntimeError):
    """Another run is deploying to this target now. Nothing was decided and nothing recorded; trying again is right."""


def pool_name(model: str, target: str) -> str:
    """Return the Dagster pool of a model's deployments to a target."""
    return f"{model}_{re.sub('[^A-Za-z0-9_]', '_', target)}_deployment"


@contextlib.contextmanager
def one_at_a_time(context: Any, home: Path, model: str, target: str, run: str) -> Iterator[None]:
    """Hold the lock of a model's target.

    Raises:
        DeploymentBusy: naming the run that holds it.
    """
    path = home / "locks" / f"{pool_name(model, target)}.lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    stream.seek(0)
                    other = stream.read(100).strip() or "unknown"
                    raise DeploymentBusy(
                        f"run {other} is deploying {model} to {target} now. This run decided nothing and recorded nothing; "
                        "launch it again when that run has ended"
                    ) from None
                context.log.warning(f"{path}: this file system has no locks ({error}); deployments may overlap")
        stream.truncate(0)
        stream.write(run)
        stream.flush()
        yield
