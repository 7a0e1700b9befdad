"""What is known about a model that was live before the ledger: from a YAML file, from the command line, or both."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import check_yaml, parse_time, read_text

_FIELDS = {"known", "unknown", "live_since"}


def merged(file: Path | None, live_since: str | None, known: Iterable[str], unknown: Iterable[str]) -> dict[str, Any]:
    """Return `live_since`, `known` and `unknown`; the command line outranks the file.

    Raises:
        Failure: naming file and field.
        click.UsageError: naming the pair.
    """
    facts = _read(file) if file else {"live_since": None, "known": {}, "unknown": ()}
    pairs = dict(_pair(text) for text in known)
    return {
        "live_since": live_since or facts["live_since"],
        "known": {**facts["known"], **pairs},
        "unknown": tuple(dict.fromkeys((*facts["unknown"], *unknown))),
    }


def rows(facts: dict[str, Any]) -> list[tuple[str, object]]:
    """Return what is known and unknown as rows for people."""
    known = [(f"  {name}", value) for name, value in sorted(facts["known"].items())]
    return [
        ("Known", "" if known else "nothing"),
        *known,
        ("Unknown", "; ".join(facts["unknown"]) or "nothing is named; say with --unknown what nobody can tell"),
    ]


def _pair(text: str) -> tuple[str, Any]:
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name or not value:
        raise click.UsageError(f"--known {text[:80]!r}: expected KEY=VALUE, such as algorithm=xgboost")
    return name, _value(value)


def _value(text: str) -> Any:
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,14})", text):
        return int(text)
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,14}", text):
        return float(text)
    return text


def _read(file: Path) -> dict[str, Any]:
    from cognify_dagster.records import YamlError, load_yaml

    check_yaml(file, "what is known about a model")
    try:
        data = load_yaml(read_text(file))
    except YamlError as error:
        raise Failure(f"{file}: {error}", UNREADABLE) from error
    unexpected = sorted(set(data) - _FIELDS)
    if unexpected:
        raise Failure(f"{file}: {unexpected[0]}: unknown field; known, unknown and live_since are expected", UNREADABLE)
    known, unknown = data.get("known") or {}, data.get("unknown") or []
    if not isinstance(known, dict):
        raise Failure(f"{file}: known: a mapping is expected", UNREADABLE)
    if not isinstance(unknown, list) or not all(isinstance(item, str) for item in unknown):
        raise Failure(f"{file}: unknown: a list of texts is expected", UNREADABLE)
    since = data.get("live_since")
    try:
        live_since = parse_time(_as_text(since)) if since is not None else None
    except ValueError as error:
        raise Failure(f"{file}: live_since: {error}", UNREADABLE) from error
    return {
        "live_since": live_since,
        "known": {str(k): _plain(file, k, v) for k, v in known.items()},
        "unknown": unknown,
    }


def _as_text(value: Any) -> str:
    """YAML reads dates and times as such."""
    return (
        str(value.strftime("%Y-%m-%dT%H:%M:%SZ" if hasattr(value, "hour") else "%Y-%m-%d"))
        if hasattr(value, "strftime")
        else str(value)
    )


def _plain(file: Path, name: object, value: Any) -> Any:
    """A value that JSON can hold; dates become text."""
    if isinstance(value, dict):
        return {str(key): _plain(file, f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(file, name, item) for item in value]
    if hasattr(value, "strftime"):
        return _as_text(value)
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise Failure(f"{file}: known.{name}: {str(value)[:40]!r} cannot be recorded; write it as text", UNREADABLE)
