"""Hard links of a run's files in its spool: records that wait survive a temporary folder that is deleted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cognify_dagster.instrument.sdk.replay import KEPT
from cognify_dagster.training import FilesDigest, TrainingRecorder

MAX_FILES = 2000


def keep_links(folder: Path, recorder: TrainingRecorder, numbers: Mapping[str, int]) -> int:
    """Link the files of models, artefacts and kept checkpoints into a run's folder; return how many were linked.

    A link costs no space. Where a file system has none (or another one holds the file), nothing is kept: the file's own path stands in
    the journal, and its digest says whether it is still what it was.

    Args:
        folder: the run's folder.
        recorder: the run's record.
        numbers: digest -> the number under which the journal names it.
    """
    wanted = [(item.path, item.digest) for item in recorder.models]
    wanted += [
        (item.path, item.digest) for item in recorder.artifacts if item.path is not None and item.digest is not None
    ]
    wanted += [(item.path, item.digest) for item in recorder.checkpoints if item.keep]
    if sum(len(digest.files) for _, digest in wanted) > MAX_FILES:
        return 0
    return sum(_link(folder / KEPT / str(numbers[d.sha256]), path, d) for path, d in wanted if d.sha256 in numbers)


def _link(place: Path, path: Path, digest: FilesDigest) -> int:
    done = 0
    for item in digest.files:
        source = path if digest.kind == "file" else path / item.path
        target = place / digest.name if digest.kind == "file" else place / digest.name / item.path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            return done
        done += 1
    return done
