"""The pieces of a training record that have bytes behind them: artifacts, models, checkpoints, snapshots of other trackers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.files import MAX_LISTING_BYTES, FileDigest, FilesDigest, files_listing, parse_listing

#: Media type of the lists of files of all checkpoints of a run.
CHECKPOINTS_MEDIA_TYPE = "application/vnd.cognify.checkpoints+json"


@dataclass(frozen=True)
class TrainingArtifact:
    """Something that a training left beside the model. Exactly one of ``data`` and ``path`` is set."""

    name: str
    media_type: str
    size: int
    sha256: str
    data: bytes | None
    path: Path | None
    digest: FilesDigest | None = None

    def read(self) -> bytes:
        """The bytes, checked against the digest.

        Raises:
            TrainingError: the file is gone or changed since it was logged.
        """
        if self.data is not None:
            return self.data
        assert self.path is not None
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise TrainingError(f"artifact {self.name}: {self.path} can't be read ({error.strerror})") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise TrainingError(f"artifact {self.name}: {self.path} changed after it was logged; log it again")
        return data


@dataclass(frozen=True)
class ModelFiles:
    """A saved model: where it lies on this machine, and what it consists of."""

    path: Path
    digest: FilesDigest


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint that training wrote: where it lay, what it consisted of then, and whether its bytes are to be kept."""

    name: str
    path: Path
    digest: FilesDigest
    step: int | None = None
    note: str = ""
    keep: bool = False

    def to_facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "step": self.step,
            "note": self.note,
            "keep": self.keep,
            "root": self.digest.root(),
            "files": [item.row() for item in self.digest.files],
            "size": self.digest.size,
        }


@dataclass(frozen=True)
class ExternalLink:
    """The same run in another tracking tool, with that tool's state when it was linked."""

    system: str
    run: str
    experiment: str = ""
    uri: str = ""
    snapshot: bytes | None = None


def checkpoints_listing(checkpoints: Iterable[CheckpointFiles]) -> bytes:
    """The files of all checkpoints as one JSON object: name -> list of files, sorted by name, without spaces."""
    lists = {item.name: json.loads(files_listing(item.digest.files)) for item in checkpoints}
    return json.dumps(lists, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def checkpoint_files(data: bytes, name: str) -> tuple[FileDigest, ...]:
    """Reads the files of one checkpoint from what `checkpoints_listing` wrote.

    Raises:
        TrainingError: no such list, no such checkpoint in it, or a list in another form.
    """
    if len(data) > MAX_LISTING_BYTES:
        raise TrainingError(
            f"the lists of checkpoint files have {len(data)} bytes; at most {MAX_LISTING_BYTES} are read"
        )
    try:
        lists = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"the lists of checkpoint files are no JSON: {error}") from None
    if not isinstance(lists, Mapping) or name not in lists:
        raise TrainingError(f"the lists of checkpoint files hold no checkpoint {name!r}")
    return parse_listing(json.dumps(lists[name], ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
