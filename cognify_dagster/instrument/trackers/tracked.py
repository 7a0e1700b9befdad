"""A run as another tool tells it, in one form for all of them.

Invariants: what looks like a secret by its name is never kept, and it is visible that something was left out; addresses are kept
without user, password, query and fragment; names that a record cannot hold are mapped one to one, and the mapping is recorded.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from cognify_dagster.instrument.sdk.redaction import REDACTED, is_secret, redact
from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import to_json

System = Literal["mlflow", "wandb", "comet"]
Status = Literal["finished", "failed", "killed", "running"]
Point = tuple[int | None, float]

MAX_PARAMS = 50_000
MAX_POINTS = 1_000_000
MAX_TEXT = 8_000
MAX_CONFIG_BYTES = 2 * 1024 * 1024
MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024

_FITTING = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}$")
_NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d{0,300})?([eE][+-]?\d{1,3})?")
_LARGEST = 1.7976931348623e308


@dataclass(frozen=True)
class ToldEnvironment:
    """Where the run ran, as far as the tool tells. Empty means that it does not."""

    python: str = ""
    platform: str = ""
    packages: tuple[tuple[str, str], ...] = ()
    gpus: tuple[str, ...] = ()
    host: str = ""


@dataclass(frozen=True)
class ToldCode:
    """The code that ran, as far as the tool tells: commit and address of the repository, and the program."""

    commit: str = ""
    remote: str = ""
    program: str = ""


@dataclass(frozen=True)
class TrackedRun:
    """A run of another tool.

    Attributes:
        system: the tool.
        run: the run's id there.
        name: what people call it.
        status: how it ended; `running` where it did not, or nobody told.
        config: its parameters, as the tool holds them.
        metrics: each curve as (step, value), in the order of steps.
        state: everything that the tool said, as JSON values; becomes evidence, and later states are compared with it.
        experiment: the project or experiment it belongs to.
        uri: where, without credentials.
        user: who started it, as the tool was told.
        started_us: microseconds since 1970 (UTC), by the tool's word; None where it has none.
        notes: what was left out and why, for people.
    """

    system: System
    run: str
    name: str
    status: Status
    config: Mapping[str, Any]
    metrics: Mapping[str, tuple[Point, ...]]
    state: Mapping[str, Any]
    experiment: str = ""
    uri: str = ""
    user: str = ""
    started_us: int | None = None
    parent: str = ""
    code: ToldCode = field(default_factory=ToldCode)
    environment: ToldEnvironment = field(default_factory=ToldEnvironment)
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The run's id among those of all tools, as in `mlflow:0a1b`."""
        return f"{self.system}:{self.run}"

    def snapshot(self) -> bytes:
        """Return the state as canonical JSON (RFC 8785).

        Raises:
            TrackerError: if it is too large to be kept.
        """
        return state_bytes(self.state, self.key)


def state_bytes(state: Mapping[str, Any], key: str) -> bytes:
    """Return a state as canonical JSON, refused where it is too large to be kept."""
    data = canonical_json(to_json(dict(state)))
    if len(data) > MAX_SNAPSHOT_BYTES:
        raise TrackerError(
            f"{key}: its state has {len(data)} bytes, more than {MAX_SNAPSHOT_BYTES}; thin out its metrics"
        )
    return data


def kept(name: str, value: Any) -> Any:
    """Return a value as it is kept: redacted under a secret's name, text without credentials.

    Some tools hold every parameter as text, so that `tokens` = `"1000"` has to be told from a token.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return REDACTED if is_secret(name, float(value)) else value
    return redact(value, name)


def clean_uri(uri: str) -> str:
    """Return where a store is, without user, password, query and fragment; a plain path stays as it is.

    `sqlite:///mlflow.db` keeps its path, `postgresql://user:word@host/db` its host and database.
    """
    if "://" not in uri:
        return uri.partition("?")[0]
    try:
        parts = urlsplit(uri)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "unreadable"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"


def recorded_names(names: Iterable[str]) -> dict[str, str]:
    """Map metric names to ones that a record can hold: itself where it fits, else with `_`, told apart by a piece of its digest."""
    ordered = sorted(set(names), key=lambda name: (_FITTING.match(name) is None, name))
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in ordered:
        plain = name
        if not _FITTING.match(name):
            plain = re.sub(r"[^A-Za-z0-9._/@-]", "_", name)[:180]
            plain = plain if plain[:1].isalnum() else f"m{plain}"
        if plain in taken:
            plain = f"{plain[:180]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
        taken.add(plain)
        found[name] = plain
    return found


def number(value: float) -> float | str:
    """Return a metric's value as JSON holds it. The largest double is what some stores keep in place of infinity."""
    if math.isnan(value):
        return "NaN"
    if abs(value) >= _LARGEST:
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def fitted(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return parameters that fit into a record, and notes on what had to be shortened to its digest.

    Raises:
        TrackerError: if they are too many, or too large even so.
    """
    if len(config) > MAX_PARAMS:
        raise TrackerError(
            f"the run has {len(config)} parameters, more than {MAX_PARAMS}; log fewer, or one file with them"
        )
    plain = dict(to_json(dict(config)))
    if len(canonical_json(plain)) <= MAX_CONFIG_BYTES:
        return plain, []
    short = {
        key: {"sha256": hashlib.sha256(value.encode("utf-8")).hexdigest(), "characters": len(value)}
        if isinstance(value, str) and len(value) > 256
        else value
        for key, value in plain.items()
    }
    if len(canonical_json(short)) > MAX_CONFIG_BYTES:
        raise TrackerError(
            f"the run's parameters have more than {MAX_CONFIG_BYTES} bytes; log one file with them instead"
        )
    count = sum(1 for key in plain if short[key] is not plain[key])
    return short, [
        f"{count} long parameter values stand in the record by their digest; the state as evidence holds them whole"
    ]
