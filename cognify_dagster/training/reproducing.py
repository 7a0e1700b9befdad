"""What a re-run of a sealed training is compared by: packages, settings, data, metrics, bytes. Pure logic, no files and no processes.

Invariants: every difference is listed, none is rounded away; a metric without a stated tolerance has to be equal; a re-run counts as
reproduced only if every metric of the record is there again within its tolerance and, where the record asks for it, byte for byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cognify_dagster.records import TrainingRun
from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.environment import Package

MAX_ENVIRONMENT_BYTES = 64 * 1024 * 1024

SCRATCH_ORIGIN = "reproduce.local/"
"""How the origin of a re-run's scratch ledger begins."""

SCRATCH_VARIABLE = "COGNIFY_SCRATCH"
"""Set for a re-run: the SDK then writes to this workspace, whichever the script names."""

Kind = Literal["python", "platform", "package", "code", "dataset", "config", "metric", "model", "command"]
Verdict = Literal["same_bytes", "within_tolerance", "differs", "not_rerun"]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as recorded. `recorded` or `found` is empty where there is nothing."""

    kind: Kind
    name: str
    recorded: str
    found: str
    note: str = ""

    def __str__(self) -> str:
        said = f"{self.kind} {self.name}: recorded {self.recorded or 'nothing'}, found {self.found or 'nothing'}"
        return f"{said} ({self.note})" if self.note else said


@dataclass(frozen=True)
class MetricRow:
    """A metric of the record and of the re-run. `tolerance` is the largest difference allowed, 0 unless the record states one."""

    name: str
    recorded: float | str
    found: float | str | None
    tolerance: float
    within: bool


@dataclass(frozen=True)
class RecordedEnvironment:
    """What the environment evidence of a run says, as far as it is needed to rebuild it."""

    python: str
    implementation: str
    os: str
    machine: str
    gpu: str
    packages: tuple[Package, ...]

    def requirements(self, leaving_out: Iterable[str] = ()) -> str:
        """The packages as pip reads them, one `name==version` a line, without those named."""
        without = set(leaving_out)
        return "".join(f"{item.name}=={item.version}\n" for item in self.packages if item.name not in without)


@dataclass(frozen=True)
class Comparison:
    """What a re-run came to.

    Attributes:
        verdict: `same_bytes`, `within_tolerance`, or `differs`.
        model_recorded, model_found: digests of the model.
        metrics: every metric of the record.
        differences: everything else that is not as recorded, and each metric that is not within its tolerance.
    """

    verdict: Verdict
    model_recorded: str
    model_found: str
    metrics: tuple[MetricRow, ...]
    differences: tuple[Difference, ...]

    @property
    def reproduced(self) -> bool:
        """Whether the re-run is what the record asks for."""
        return self.verdict in ("same_bytes", "within_tolerance")

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "reproduced": self.reproduced}


def read_environment(detail: bytes) -> RecordedEnvironment:
    """Read the environment evidence of a sealed run.

    Raises:
        TrainingError: it is no environment, or larger than one.
    """
    if len(detail) > MAX_ENVIRONMENT_BYTES:
        raise TrainingError("environment.json: larger than an environment can be")
    try:
        data = json.loads(detail)
        packages = tuple(Package.model_validate(item) for item in data["packages"])
        return RecordedEnvironment(
            python=str(data["python_version"]),
            implementation=str(data["python_implementation"]),
            os=str(data["os"]),
            machine=str(data["machine"]),
            gpu=str(data["gpu"]),
            packages=packages,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"environment.json: not the environment of a run ({type(error).__name__}: {error})"
        ) from None


def compare_packages(
    recorded: Sequence[Package], found: Sequence[Package], *, from_checkout: Iterable[str] = ()
) -> list[Difference]:
    """List packages that are missing, of another version, with other files, or not on record.

    Args:
        recorded: the record's packages.
        found: those of the rebuilt environment.
        from_checkout: packages that were installed from the checked-out code or a given folder: their files hold paths, so
            only the name is compared.
    """
    own, there = set(from_checkout), {item.name: item for item in found}
    result = []
    for item in recorded:
        other = there.pop(item.name, None)
        if other is None:
            result.append(Difference("package", item.name, item.version, ""))
        elif item.name in own:
            continue
        elif other.version != item.version:
            result.append(Difference("package", item.name, item.version, other.version))
        elif item.files_sha256 and other.files_sha256 and item.files_sha256 != other.files_sha256:
            note = "the same version with other files: another build of it"
            result.append(
                Difference(
                    "package", item.name, f"files {item.files_sha256[:16]}", f"files {other.files_sha256[:16]}", note
                )
            )
    result += [Difference("package", item.name, "", item.version, "not on record") for item in there.values()]
    return result


def compare_machine(recorded: RecordedEnvironment, python: str, os: str, machine: str, gpu: str) -> list[Difference]:
    """List differences of interpreter and machine: a result may depend on them."""
    rows: list[tuple[Kind, str, str, str]] = [
        ("python", "version", recorded.python, python),
        ("platform", "os", recorded.os, os),
        ("platform", "machine", recorded.machine, machine),
        ("platform", "gpu", recorded.gpu, gpu),
    ]
    return [Difference(kind, name, before, now) for kind, name, before, now in rows if before != now]


def compare_runs(
    recorded: TrainingRun, again: TrainingRun, *, tolerances: Mapping[str, Any] | None = None, same_bytes: bool = False
) -> Comparison:
    """Compare a sealed run with the record of its re-run.

    Args:
        recorded: the sealed run.
        again: what the re-run recorded.
        tolerances: largest absolute difference by metric; those of the record's `rerun` unless given.
        same_bytes: the model has to be the same byte for byte.
    """
    stated = recorded.rerun
    limits = dict(stated.tolerances if stated is not None and tolerances is None else tolerances or {})
    demand = same_bytes or (stated is not None and stated.same_bytes)
    equal = recorded.model_file.digest == again.model_file.digest
    metrics = tuple(
        _metric(name, value, again.metrics.get(name), _number(limits.get(name, 0.0)))
        for name, value in sorted(recorded.metrics.items())
    )
    differences = [*_datasets(recorded, again), *_code(recorded, again), *_config(recorded, again)]
    differences += [
        Difference(
            "metric",
            row.name,
            str(row.recorded),
            "" if row.found is None else str(row.found),
            f"allowed {row.tolerance:g}",
        )
        for row in metrics
        if not row.within
    ]
    if not equal:
        note = (
            "byte for byte was asked for"
            if demand
            else "metrics decide"
            if metrics
            else "there is no metric to compare"
        )
        differences.append(Difference("model", "digest", recorded.model_file.digest, again.model_file.digest, note))
    within = all(row.within for row in metrics)
    same_data = not _datasets(recorded, again)
    if equal and same_data and within:
        verdict: Verdict = "same_bytes"
    elif metrics and within and not demand and same_data:
        verdict = "within_tolerance"
    else:
        verdict = "differs"
    return Comparison(verdict, recorded.model_file.digest, again.model_file.digest, metrics, tuple(differences))


def _metric(name: str, recorded: Any, found: Any, tolerance: float) -> MetricRow:
    if found is None:
        return MetricRow(name, recorded, None, tolerance, False)
    before, now = _number(recorded), _number(found)
    if math.isfinite(before) and math.isfinite(now):
        within = abs(before - now) <= tolerance
    else:
        within = before == now or (math.isnan(before) and math.isnan(now))
    return MetricRow(name, recorded, found, tolerance, within)


def _number(value: Any) -> float:
    """A metric as the record holds it: a number, or the text of one that JSON has no form for."""
    return float(value)


def _datasets(recorded: TrainingRun, again: TrainingRun) -> list[Difference]:
    before = {(item.name, item.role): item.root for item in recorded.datasets}
    now = {(item.name, item.role): item.root for item in again.datasets}
    return [
        Difference(
            "dataset", name, before.get((name, role), "")[:16], now.get((name, role), "")[:16], f"roots, as {role}"
        )
        for name, role in sorted(set(before) | set(now))
        if before.get((name, role)) != now.get((name, role))
    ]


def _code(recorded: TrainingRun, again: TrainingRun) -> list[Difference]:
    before, now = recorded.code, again.code
    found = []
    if before.commit != now.commit:
        found.append(Difference("code", "commit", before.commit, now.commit))
    if (before.diff_digest or "none") != (now.diff_digest or "none"):
        found.append(Difference("code", "uncommitted changes", str(before.diff_digest)[:16], str(now.diff_digest)[:16]))
    return found


def _config(recorded: TrainingRun, again: TrainingRun) -> list[Difference]:
    names = sorted(set(recorded.config) | set(again.config))
    found = [
        Difference("config", name, _shown(recorded.config.get(name)), _shown(again.config.get(name)))
        for name in names
        if recorded.config.get(name) != again.config.get(name)
    ]
    seeds = sorted(set(recorded.seeds) | set(again.seeds))
    return found + [
        Difference("config", f"seed {name}", str(recorded.seeds.get(name, "")), str(again.seeds.get(name, "")))
        for name in seeds
        if recorded.seeds.get(name) != again.seeds.get(name)
    ]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 100 else f"{text[:97]}…"
