"""What a training logs of its settings and its course: configuration, curves, and facts without a place of their own.

`Measured` is the part of the recorder that holds plain values; all of them are coerced to JSON and bounded when they are logged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

from cognify_dagster.records.redaction import redact
from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training._json import coerce
from cognify_dagster.training._stated import Stated, bounded

#: Points of all metrics together; a longer curve should be thinned before logging.
MAX_METRIC_POINTS = 1_000_000

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}$")


class Measured(Stated):
    """Configuration, metrics and extra facts of a training record. Safe to use from several threads."""

    def __init__(self) -> None:
        super().__init__()
        self._config: dict[str, Any] = {}
        self._curves: dict[str, _Curve] = {}
        self._metric_points = 0
        self._extra: dict[str, Any] = {}
        self._series: bytes | None = None

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Records hyperparameters and settings, secrets replaced. Later calls add keys; a key can't get another value.

        Raises:
            TrainingError: a value without JSON form, or a key that already has another value; the message names the key.
            SealedError: after completion.
        """
        with self._open("log_config"):
            if not isinstance(config, Mapping):
                raise TrainingError(f"log_config: expected a mapping, got {type(config).__name__}")
            values = redact(coerce(config, key="config"))
            for key, value in values.items():
                if key in self._config and self._config[key] != value:
                    raise TrainingError(
                        f"config.{key}: already recorded as {self._config[key]!r}, now {value!r}; "
                        "record each setting once, as the trainer got it"
                    )
            self._config = bounded({**self._config, **values}, "config")

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Adds one point to a metric's curve. NaN and infinities are kept, as the strings JSON needs.

        Args:
            name: Letters, digits and ``. _ / @ -``, such as ``train/loss``.
            value: A number.
            step: Position on the curve, such as the iteration or epoch.

        Raises:
            TrainingError: an unusable name, value or step, or too many points.
            SealedError: after completion.
        """
        with self._open("log_metric"):
            if not isinstance(name, str) or not _NAME.match(name):
                raise TrainingError(f"metric {name!r}: expected letters, digits and . _ / @ - (at most 200)")
            plain = coerce(value, key=f"metric {name}")
            number = float(plain) if isinstance(plain, (int, float, str)) and not isinstance(value, str) else None
            if number is None or isinstance(plain, bool):
                raise TrainingError(f"metric {name}: expected a number, got {value!r}")
            position = None if step is None else coerce(step, key=f"metric {name} step")
            if position is not None and (isinstance(position, bool) or not isinstance(position, int)):
                raise TrainingError(f"metric {name}: step has to be a whole number, got {step!r}")
            if self._metric_points >= MAX_METRIC_POINTS:
                raise TrainingError(f"metric {name}: more than {MAX_METRIC_POINTS} points; log every n-th step")
            self._metric_points += 1
            self._curves.setdefault(name, _Curve()).add(position, number)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds one point to each of several curves; see `log_metric`."""
        with self._open("log_metrics"):
            if not isinstance(metrics, Mapping):
                raise TrainingError(f"log_metrics: expected a mapping, got {type(metrics).__name__}")
            for name, value in metrics.items():
                self.log_metric(name, value, step)

    def log_extra(self, key: str, value: Any) -> None:
        """Records a fact that has no place of its own; it stays visible under ``extra``."""
        with self._open("log_extra"):
            if not isinstance(key, str) or not _NAME.match(key):
                raise TrainingError(f"extra {key!r}: expected letters, digits and . _ / @ - (at most 200)")
            plain = bounded(value, f"extra.{key}", key)
            bounded({**self._extra, key: plain}, "extra")
            self._extra[key] = plain

    def metric_series(self) -> bytes:
        """Every curve as one JSON document (UTF-8): ``{"<metric>": [[step, value], …], …}``, sorted by name.

        Steps are numbers or null, non-finite values are strings. Meant for the evidence store: `to_facts` names its digest.
        """
        with self._lock:
            if self._series is not None:
                return self._series
            series = {name: curve.points for name, curve in self._curves.items()}
            data: bytes = orjson.dumps(series, option=orjson.OPT_SORT_KEYS)
            if self._sealed:  # no point comes after this
                self._series = data
        return data

    def _metric_facts(self) -> dict[str, Any]:
        return {name: curve.summary() for name, curve in sorted(self._curves.items())}


class _Curve:
    """One metric: its points as plain JSON, and their summary as they come, so that sealing does not wait for it."""

    __slots__ = ("_highest", "_lowest", "_non_finite", "points")

    def __init__(self) -> None:
        self.points: list[tuple[int | None, float | str]] = []
        self._lowest: float | None = None
        self._highest: float | None = None
        self._non_finite = 0

    def add(self, step: int | None, value: float) -> None:
        if not math.isfinite(value):
            self._non_finite += 1
            self.points.append((step, coerce(value, key="metric")))
            return
        self.points.append((step, value))
        self._lowest = value if self._lowest is None else min(self._lowest, value)
        self._highest = value if self._highest is None else max(self._highest, value)

    def summary(self) -> dict[str, Any]:
        step, value = self.points[-1]
        return {
            "last": value,
            "last_step": step,
            "min": self._lowest,
            "max": self._highest,
            "points": len(self.points),
            "non_finite": self._non_finite,
        }
