"""Takes a model version for a run.

Invariant: two runs never get one version, on whatever machines they are: the entry that opens a version is appended only if the
ledger still has the size at which the version was seen to be free.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

from cognify_dagster.instrument.sdk.errors import OutOfReach, SdkError
from cognify_dagster.ledger.errors import SizeChanged
from cognify_dagster.records import ModelAdopted, TrainingFailed, TrainingRun, VersionOpened
from cognify_dagster.workspace import Reading, Workspace, idempotency_key

_NUMBERED = re.compile(r"(.*?)(\d{1,15})")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,49}")
_TRIES = 200


def check_version(version: str) -> str:
    """Return a version id.

    Raises:
        SdkError: it has no usable form.
    """
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise SdkError(f"version {str(version)[:60]!r}: expected letters, digits, '_', '.', '+' and '-' (at most 50)")
    return version


def version_of(reading: Reading, project: str, run: str) -> tuple[str, int] | None:
    """Return the version that a run has opened and the entry that says so, None if it opened none."""
    found = [item for item in reading.all(VersionOpened, f"model/{project}") if item.record.run == run]
    return (found[-1].record.version, found[-1].seq) if found else None


def next_version(reading: Reading, project: str) -> str:
    """Return the next free version id, written like the newest one: `7` after `6`, `v7` after `v6`, `1` for the first."""
    subject = f"model/{project}"
    opened = [
        *((item.seq, item.record.version) for item in reading.all(VersionOpened, subject)),
        *((item.seq, item.record.version) for item in reading.all(ModelAdopted, subject)),
    ]
    names = [name for _, name in sorted(opened)]
    numbered = [found for name in names if (found := _NUMBERED.fullmatch(name))]
    if not numbered:
        return "1" if not names else str(len(set(names)) + 1)
    prefix, width = numbered[-1][1], len(numbered[-1][2])
    highest = max(int(found[2]) for found in numbered if found[1] == prefix)
    keeps_zeros = numbered[-1][2].startswith("0")
    return f"{prefix}{highest + 1:0{width if keeps_zeros else 1}d}"


def claim_version(
    workspace: Workspace,
    project: str,
    run: str,
    *,
    opened_by: str,
    wanted: str | None = None,
    is_over: Callable[[str], bool] = lambda other: False,
) -> tuple[str, int]:
    """Open a version for a run, or return the one that this run opened before.

    Args:
        workspace: where to record.
        project: the model's key.
        run: id of the run.
        opened_by: person id or "unattributed".
        wanted: the version; the next free one unless given.
        is_over: tells whether another run that opened the version has ended.

    Returns:
        The version, and the number of entries that the ledger had right after it was opened.

    Raises:
        SdkError: the version is sealed, or another run is training it.
        OutOfReach: the ledger grows so fast that no moment was found to append.
    """
    for attempt in range(_TRIES):
        reading = workspace.read()
        before = version_of(reading, project, run)
        if before is not None:
            return before[0], before[1] + 1
        version = next_version(reading, project) if wanted is None else check_version(wanted)
        if wanted is not None:
            require_free(reading, project, version, is_over)
        record = VersionOpened(model=project, version=version, run=run, opened_by=opened_by)
        try:
            key = idempotency_key("version_opened", project, version, run)
            return version, workspace.append(record, idem=key, expected_size=reading.size).seq + 1
        except SizeChanged:
            time.sleep(random.uniform(0.001, 0.01 * min(attempt + 1, 10)))  # noqa: S311
    raise OutOfReach(f"{project}: no version could be opened, since the ledger grew at each of {_TRIES} tries")


def require_free(reading: Reading, project: str, version: str, is_over: Callable[[str], bool]) -> None:
    """Refuse a version that is sealed, or that another run is training.

    Raises:
        SdkError: saying which run, and what to do.
    """
    subject = f"model/{project}@{version}"
    sealed = reading.latest(TrainingRun, subject)
    if sealed is not None:
        raise SdkError(
            f"{project} {version} is sealed (entry {sealed.seq}); a version is trained once, so leave version= out"
        )
    failed = {item.record.run for item in reading.all(TrainingFailed, subject)}
    for item in reading.all(VersionOpened, subject):
        other = item.record.run
        if other not in failed and not is_over(other):
            raise SdkError(
                f"run {other} is training {project} {version} now; wait for it, or leave version= out for the next free one. If "
                "its process has died, `cognify spool flush` (a run of the SDK) or Dagster's run page ends it first"
            )
