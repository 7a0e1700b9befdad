"""Typed, versioned payloads: the base model, the value types and the registry of kinds.

A record's fields are its *facts*, compared when a step is retried; its `observed` part (times, host, attempt) is not. Fields
that a model does not know go to `extra`, where every reader and document shows them; nothing is dropped silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cognify_dagster.ledger import check_subject
from cognify_dagster.ledger.canonical import payload_and_digest

MAX_SAFE_INTEGER = 2**53 - 1


class RecordError(ValueError):
    """A payload is not a valid record; the message names kind and field."""


class UnknownKind(RecordError):
    """The kind, or its schema version, is newer than this release knows."""


def to_metric(value: Any) -> float | int | str:
    """Return a number that canonical JSON can hold, or one of the strings NaN, Infinity, -Infinity.

    Numpy scalars are coerced. Raises RecordError for anything that is not a number.
    """
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return value
    if hasattr(value, "item") and not isinstance(value, (int, float)):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordError(f"{value!r} is not a number")
    if isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    try:
        number = float(value)
    except OverflowError as error:
        raise RecordError("the number is too large for a metric; record it as text") from error
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def to_json(value: Any, path: str = "$") -> Any:
    """Coerce a free-form value to what canonical JSON holds: numpy scalars to numbers, NaN to "NaN", big integers to strings.

    Raises:
        RecordError: naming the path of a value that has no such form.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, datetime):
        return utc(value)
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
        if value is None or isinstance(value, (bool, str)):
            return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return to_metric(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RecordError(f"{path}: key {key!r} is not text; use text keys")
        return {key: to_json(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return to_json(value.tolist(), path)
    raise RecordError(f"{path}: a {type(value).__name__} cannot be recorded; convert it to text or numbers first")


_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def utc(moment: datetime | None = None) -> str:
    """Return a moment (now unless given) as `YYYY-MM-DDTHH:MM:SSZ`."""
    moment = moment or datetime.now(timezone.utc)
    if moment.tzinfo is None:
        raise RecordError(f"{moment} has no time zone")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str) -> datetime:
    """Parse what `utc` writes."""
    try:
        if _UTC.fullmatch(text):  # twenty times faster than strptime, and lists of thousands are sorted by what is due
            return datetime.fromisoformat(f"{text[:-1]}+00:00")
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise RecordError(f"{text!r} is not a UTC time such as 2026-11-21T08:00:00Z") from error


def _check_utc(text: str) -> str:
    parse_utc(text)
    return text


Metric = Annotated[float | int | str, BeforeValidator(to_metric)]
BigInt = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]*)$")]
Json = Annotated[Any, BeforeValidator(to_json)]
Utc = Annotated[str, AfterValidator(_check_utc)]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
ModelKey = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")]
VersionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,49}$")]
PersonId = Annotated[str, Field(pattern=r"^person/[a-z0-9][a-z0-9-]{1,60}$")]
WorkloadId = Annotated[str, Field(pattern=r"^workload/[A-Za-z0-9][A-Za-z0-9_.-]{0,60}$")]
HolderId = Annotated[str, Field(pattern=r"^(person/[a-z0-9][a-z0-9-]{1,60}|workload/[A-Za-z0-9][A-Za-z0-9_.-]{0,60})$")]
TargetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,29}$")]
SubjectId = Annotated[str, AfterValidator(check_subject)]
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$")]
SNAPSHOT_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,99}(@[A-Za-z0-9_.+-]{1,60})?"
"""The name of a dataset, or of one partition of it: `loans`, `loans@2026-01`."""
SnapshotName = Annotated[str, Field(pattern=f"^{SNAPSHOT_NAME}$")]


class Part(BaseModel):
    """A frozen piece of a record. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Record(BaseModel):
    """Base of all payloads. Subclasses set `kind` and `schema_version` and say what they are about in `subjects()`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]
    schema_version: ClassVar[int] = 1

    observed: dict[str, Json] = Field(
        default_factory=dict, description="Times, host, attempt: not compared on a retry."
    )
    extra: dict[str, Json] = Field(default_factory=dict, description="Fields this schema does not know.")

    @model_validator(mode="before")
    @classmethod
    def _keep_unknown(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = set(cls.model_fields)
        unknown = {key: value for key, value in data.items() if key not in known}
        if not unknown:
            return data
        kept = {key: value for key, value in data.items() if key in known}
        extra = data.get("extra") or {}
        if not isinstance(extra, dict) or set(extra) & set(unknown):
            raise RecordError("extra is not a mapping, or names a field that also stands beside it")
        return {**kept, "extra": {**unknown, **extra}}

    def subjects(self) -> tuple[str, ...]:
        """Return the subject ids this record is about."""
        raise NotImplementedError

    def evidence(self) -> tuple[str, ...]:
        """Return the digests of the evidence blobs this record refers to."""
        return ()

    def facts(self) -> dict[str, Any]:
        """Return the compared half of the payload as JSON values."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude={"observed"})
        if not data["extra"]:
            del data["extra"]
        return data

    def facts_digest(self) -> str:
        """Return the SHA-256 hex of the canonical facts."""
        return self.payload_and_digest()[1]

    def payload(self) -> bytes:
        """Return the canonical payload `{facts, observed}`."""
        return self.payload_and_digest()[0]

    def payload_and_digest(self) -> tuple[bytes, str]:
        """Return the canonical payload and the SHA-256 hex of its facts; the facts are serialized once."""
        return payload_and_digest(self.facts(), dict(self.observed))


R = TypeVar("R", bound=type[Record])
Upcast = Callable[[dict[str, Any]], dict[str, Any]]
_KINDS: dict[str, type[Record]] = {}
_UPCASTS: dict[tuple[str, int], Upcast] = {}


def register(cls: R) -> R:
    """Class decorator: make a record kind readable."""
    _KINDS[cls.kind] = cls
    return cls


def upcast(kind: str, from_version: int) -> Callable[[Upcast], Upcast]:
    """Register a function that turns facts of `from_version` into those of the next version."""

    def add(function: Upcast) -> Upcast:
        _UPCASTS[(kind, from_version)] = function
        return function

    return add


def kinds() -> dict[str, type[Record]]:
    """Return all known kinds."""
    return dict(_KINDS)


def read_record(kind: str, version: int, payload: Mapping[str, Any]) -> Record:
    """Read a payload of any released schema version as today's model.

    Raises:
        UnknownKind: if the kind or version is not known; a decision must then refuse.
        RecordError: if the payload does not fit its schema, naming the field.
    """
    model = _KINDS.get(kind)
    if model is None:
        raise UnknownKind(f"record kind {kind!r} is unknown to this release")
    if version > model.schema_version:
        raise UnknownKind(
            f"{kind} schema {version} is newer than this release ({model.schema_version}); upgrade to read it"
        )
    if not isinstance(payload, Mapping) or not isinstance(payload.get("facts"), Mapping):
        raise RecordError(f"{kind}: the payload holds no facts")
    facts = dict(payload["facts"])
    for step in range(version, model.schema_version):
        change = _UPCASTS.get((kind, step))
        if change is None:
            raise UnknownKind(f"{kind} schema {step} has no upcast to {step + 1}")
        try:
            facts = change(facts)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"{kind} schema {step}: the payload does not fit its schema: {error!r}") from error
    return build(model, {**facts, "observed": payload.get("observed") or {}})


T = TypeVar("T", bound=BaseModel)


def build(model: type[T], data: Mapping[str, Any]) -> T:
    """Validate data as a model with an error that names kind and field."""
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the record"
        name = getattr(model, "kind", model.__name__)
        raise RecordError(f"{name}: {where}: {first['msg']}") from error
