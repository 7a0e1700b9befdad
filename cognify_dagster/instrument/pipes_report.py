"""The message of a training script, and how the step that launched it reads and checks it.

It is one custom message of Dagster Pipes:

    {"cognify": "training/1", "model": {"path": "model.bin", "sha256": "…"}, "config": {…}, "metrics": {"loss": [[1, 0.7], …]}}

A message of more than a few thousand bytes is written to a file instead, since Dagster's reader may tear long lines, and the message says
where: `{"cognify": "training/1", "file": {"path": "report.json", "sha256": "…"}}`.

Invariants:

* What the script says about files is a claim. The reading side hashes every file itself and refuses a digest that differs.
* Only files below the folder that the step handed out (or another that it allows) are opened; a path that leads out is refused.
* A message has a bounded size, one form, and no other fields. Exactly one message names the model; none or several are refused.
* Extras and environment of the script are never part of a record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cognify_dagster.training import Environment, TrainingError, digest_files

FORM = "training/1"
EXTRA = "cognify"
"""The key of the extras under which the script finds version, datasets and output folder."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Longer curves are thinned before they are logged; anything larger is a file."""

LONGEST_LINE = 4096
"""Longer messages go into a file: what reads Dagster's messages may see a long line before all of it was written."""

REPORT = "training-report.json"
_HEX = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_Form = TypeVar("_Form", bound=_Part)


class ReportedFile(_Part):
    """A file or folder, by its path (relative to the output folder, or absolute) and the digest that the script computed."""

    path: str = Field(min_length=1, max_length=4000)
    sha256: str = Field(
        pattern=_HEX, description="of a file as sha256sum prints it, of a folder as digest_files gives it"
    )


class ReportedArtifact(ReportedFile):
    """A file beside the model."""

    name: str
    media_type: str


class ReportedCheckpoint(ReportedFile):
    """A checkpoint that the script wrote."""

    step: int | None = None
    name: str = ""
    note: str = ""


class TrainingMessage(_Part):
    """The message; see the module's description. Every field but `model` may be left out."""

    cognify: Literal["training/1"]
    model: ReportedFile
    config: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, list[tuple[int | None, float | int | str]] | float | int | str] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    architecture: dict[str, Any] = Field(default_factory=dict)
    base_model: dict[str, Any] = Field(default_factory=dict)
    compute: dict[str, Any] = Field(default_factory=dict)
    distributed: dict[str, Any] = Field(default_factory=dict)
    external: list[dict[str, Any]] = Field(default_factory=list)
    selection_note: str = ""
    artifacts: list[ReportedArtifact] = Field(default_factory=list, max_length=1000)
    checkpoints: list[ReportedCheckpoint] = Field(default_factory=list, max_length=10_000)
    extra: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(
        default_factory=dict, description="as capture_environment().model_dump() gives it"
    )


class ReportPointer(_Part):
    """A message that lies in a file."""

    cognify: Literal["training/1"]
    file: ReportedFile


def read_message(messages: Sequence[Any], output: Path, allowed: Sequence[Path] = ()) -> TrainingMessage:
    """Return the one training message among what a script sent; messages of other kinds are left alone.

    Args:
        messages: what the script sent.
        output: the folder that was handed to it.
        allowed: further folders that a file which holds the message may lie in.

    Raises:
        TrainingError: if there is none, more than one, or one that is too large or of another form.
    """
    found = [item for item in messages if isinstance(item, Mapping) and EXTRA in item]
    if not found:
        raise TrainingError(
            "the script ended without reporting its model. It has to send one message: "
            'pipes.report_custom_message({"cognify": "training/1", "model": {"path": …, "sha256": …}, …}), or use '
            "cognify_dagster.instrument.pipes.open_training"
        )
    if len(found) > 1:
        raise TrainingError(f"the script reported {len(found)} trainings; one run trains one model and reports it once")
    body = as_json(found[0])
    if "file" in found[0]:
        pointer = _parse(ReportPointer, body)
        path = _checked("report", pointer.file, output, _roots(output, allowed))
        if path.stat().st_size > MAX_MESSAGE_BYTES:
            raise TrainingError(_TOO_LARGE.format(path.stat().st_size))
        body = path.read_text(encoding="utf-8", errors="replace")
    return _parse(TrainingMessage, body)


def _parse(form: type[_Form], body: str) -> _Form:
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise TrainingError(f"the script's message, field {where}: {first['msg']}") from None


def replay(message: TrainingMessage, recorder: Any, output: Path, allowed: Sequence[Path] = ()) -> Path:
    """Write what a script reported to a recorder, after hashing every file anew; return the model's path.

    Args:
        message: from `read_message`.
        recorder: the step's `TrainingRecorder` (or a handle with the same methods).
        output: the folder that was handed to the script; relative paths begin there.
        allowed: further folders that files may lie in.

    Raises:
        TrainingError: if a file lies elsewhere, is missing, or has another digest than the script says.
    """
    roots = _roots(output, allowed)
    model = _checked("model", message.model, output, roots)
    files = [(item, _checked(f"artifact {item.name}", item, output, roots)) for item in message.artifacts]
    saved = [
        (item, _checked(f"checkpoint {item.name or item.path}", item, output, roots)) for item in message.checkpoints
    ]
    recorder.log_config(message.config)
    for name, curve in message.metrics.items():
        for step, value in curve if isinstance(curve, list) else [(None, curve)]:
            recorder.log_metric(name, _number(name, value), step)
    if message.seeds:
        recorder.log_seeds(**message.seeds)
    for set_, given in (
        ("set_architecture", message.architecture),
        ("set_base_model", message.base_model),
        ("set_compute", message.compute),
        ("set_distributed", message.distributed),
    ):
        if given:
            _call(recorder, set_, given)
    for linked in message.external:
        _call(recorder, "link_external", linked)
    if message.selection_note:
        recorder.note_selection(message.selection_note)
    for key, value in message.extra.items():
        recorder.log_extra(key, value)
    for item, path in files:
        recorder.log_artifact(item.name, path, item.media_type)
    for one, path in saved:
        recorder.log_checkpoint(path, step=one.step, name=one.name, note=one.note)
    recorder.save_model(model)
    return model


def reported_environment(message: TrainingMessage) -> Environment | None:
    """The environment that the script says it ran in, None if it says nothing.

    Raises:
        TrainingError: naming the field that is wrong.
    """
    if not message.environment:
        return None
    try:
        return Environment.model_validate(message.environment)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrainingError(f"the script's message, field environment.{where}: {first['msg']}") from None


def _roots(output: Path, allowed: Sequence[Path]) -> list[Path]:
    return [output.resolve(), *(Path(item).resolve() for item in allowed)]


def _checked(what: str, said: ReportedFile, output: Path, roots: Sequence[Path]) -> Path:
    path = output / said.path  # an absolute path replaces the folder
    real = path.resolve()
    if not any(real == root or root in real.parents for root in roots) or real in roots:
        raise TrainingError(f"{what}: {said.path!r} is not below the run's output folder {output}; write it there")
    found = digest_files(real).sha256
    if found != said.sha256:
        raise TrainingError(
            f"{what}: the script reported sha256 {said.sha256}, but {real} has {found}. Nothing is recorded as trained; find out "
            "what wrote the file, and let the script report after its last write"
        )
    return real


def _number(name: str, value: float | int | str) -> float:
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        raise TrainingError(f"the script's message, metric {name}: {value[:50]!r} is no number")
    return float(value)


def _call(recorder: Any, method: str, given: Mapping[str, Any]) -> None:
    try:
        values = dict(given)
        if method in ("set_architecture", "set_base_model"):
            getattr(recorder, method)(values.pop("name", ""), **values)
        else:
            getattr(recorder, method)(**values)
    except TypeError as error:
        raise TrainingError(f"the script's message, {method.removeprefix('set_')}: {error}") from None


_TOO_LARGE = (
    "the script's message has {} bytes, more than "
    + f"{MAX_MESSAGE_BYTES}; log every n-th step, and attach what is large"
)


def as_json(said: Mapping[str, Any]) -> str:
    """Return the message as JSON.

    Raises:
        TrainingError: if it has no JSON form or is larger than `MAX_MESSAGE_BYTES`.
    """
    try:
        body = json.dumps(said, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise TrainingError(
            "the script's message holds something that JSON has no form for; send NaN and infinities as text"
        ) from None
    if len(body) > MAX_MESSAGE_BYTES:
        raise TrainingError(_TOO_LARGE.format(len(body)))
    return body
