"""Records as typed cells in JSON: what a person can read, write down and have digested without this product.

A typed cell is null or an object with one member that names the type: ``{"int": 5}``, ``{"float": 1.5}``, ``{"text": "a"}``,
``{"bool": true}``, ``{"decimal": "1.5"}``, ``{"bytes": "00ff"}``, ``{"date": "2020-01-31"}``, ``{"time": "10:00:00.5"}``,
``{"timestamp": "2020-01-31T10:00:00"}`` (no zone), ``{"instant": "2020-01-31T10:00:00Z"}`` (UTC), ``{"duration": "1.5"}`` (seconds),
``{"list": [...]}``, ``{"struct": {...}}``. Plain JSON values become typed ones by the schema that the snapshot recorded.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import TableError
from cognify_dagster.datasets.proof_verifier import Unreadable, record_digest

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def typed_record(values: Mapping[str, Any], schema: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A record of plain JSON values as typed cells.

    Args:
        values: by column name; every column of the schema, missing values as null.
        schema: name and type of each column, as the snapshot's header has them.

    Raises:
        TableError: a column is missing or unknown, or a value does not fit its type. The message never shows the value.
    """
    kinds = {str(item[0]): str(item[1]) for item in schema}
    absent = [name for name in kinds if name not in values]
    unknown = [name for name in values if name not in kinds]
    if absent:
        raise TableError(f"the record has no column {absent[0]!r}; give every column, a missing value as null")
    if unknown:
        raise TableError(f"the snapshot has no column {unknown[0]!r}; its columns are {', '.join(sorted(kinds))}")
    return {name: typed_cell(values[name], kinds[name], name) for name in sorted(kinds)}


def typed_cell(value: Any, kind: str, name: str) -> Any:
    """A plain JSON value (or its text) as a typed cell of an Arrow type by its recorded name.

    Raises:
        TableError: the value does not fit the type, or the type's name is not understood.
    """
    if value is None:
        return None
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _CELLS and not kind.startswith("struct<"):
        return value
    if kind.startswith("list<") and isinstance(value, list):
        return {"list": [typed_cell(item, kind[5:-1], name) for item in value]}
    if kind.startswith("struct<") and isinstance(value, dict):
        fields = dict(_fields(kind[7:-1], name))
        if set(fields) != set(value):
            raise TableError(
                f"column {name!r}: the struct has the fields {', '.join(sorted(fields))}; give all of them"
            )
        return {"struct": {field: typed_cell(value[field], fields[field], f"{name}.{field}") for field in fields}}
    word = next((word for prefix, word in _KINDS if kind.startswith(prefix)), None)
    if word is None:
        raise TableError(f"column {name!r} has type {kind}; write its value as a typed cell")
    fitting: tuple[type, ...] = {"bool": (bool, str), "int": (int, str), "float": (int, float, str)}.get(word, (str,))
    if not isinstance(value, fitting) or (isinstance(value, bool) and word != "bool"):
        if word == "decimal" and isinstance(value, int | float) and not isinstance(value, bool):
            value = repr(value)
        else:
            raise TableError(f"column {name!r} has type {kind}; a {type(value).__name__} does not fit")
    if word == "bool" and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise TableError(f"column {name!r}: write true or false")
        value = value.lower() == "true"
    if word == "timestamp" and "tz=" in kind:
        word = "instant"
    if word in ("timestamp", "instant"):
        value = _moment(str(value), word, name)
    return {word: value}


_KINDS = (
    ("bool", "bool"),
    ("int", "int"),
    ("uint", "int"),
    ("float", "float"),
    ("double", "float"),
    ("decimal", "decimal"),
    ("string", "text"),
    ("binary", "bytes"),
    ("date", "date"),
    ("timestamp", "timestamp"),
    ("time[", "time"),
    ("duration", "duration"),
)
_CELLS = {word for _, word in _KINDS} | {"instant", "list", "struct"}


def _moment(text: str, word: str, name: str) -> str:
    """ISO text with any offset as the form of a typed cell."""
    whole, dot, rest = text.strip().replace(" ", "T", 1).partition(".")
    digits = ""
    if dot:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        whole += rest[len(digits) :]
    try:
        moment = dt.datetime.fromisoformat(whole.replace("Z", "+00:00"))
    except ValueError:
        raise TableError(f"column {name!r}: write a time such as 2020-01-31T10:00:00") from None
    if (moment.tzinfo is not None) != (word == "instant"):
        need = "needs a zone, such as 2020-01-31T10:00:00Z" if word == "instant" else "has no zone"
        raise TableError(f"column {name!r}: a time in it {need}")
    if word == "instant":
        moment = moment.astimezone(dt.timezone.utc)
    shown = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return shown + (f".{digits}" if digits.rstrip("0") else "") + ("Z" if word == "instant" else "")


def _fields(text: str, name: str) -> list[tuple[str, str]]:
    """The fields of ``a: int64, b: list<string>``."""
    out, depth, start = [], 0, 0
    for at, char in enumerate(text + ","):
        depth += (char in "<([") - (char in ">)]")
        if char == "," and depth == 0:
            field, colon, kind = text[start:at].strip().partition(": ")
            if not colon:
                raise TableError(f"column {name!r}: its type is not understood; write its value as a typed cell")
            out.append((field, kind))
            start = at + 1
    return out


def typed_row(table: pa.Table, row: int) -> dict[str, Any]:
    """One row of a table as typed cells.

    Raises:
        TableError: a column has a type without canonical bytes.
    """
    return {name: _typed_scalar(table.column(name)[row], name) for name in sorted(table.column_names)}


def _typed_scalar(scalar: Any, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.types as t

    if isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar | pa.RunEndEncodedScalar):
        inner = scalar.value if not isinstance(scalar, pa.RunEndEncodedScalar) else pa.scalar(scalar.as_py())
        return None if inner is None else _typed_scalar(inner, name)
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if t.is_map(kind):
        pairs = [{"struct": {"key": _plain(k, name), "value": _plain(v, name)}} for k, v in scalar.as_py()]
        return {"list": pairs}
    if t.is_struct(kind):
        return {"struct": {field.name: _typed_scalar(scalar[field.name], name) for field in kind}}
    if hasattr(scalar, "values") and scalar.values is not None:
        return {"list": [_typed_scalar(item, name) for item in scalar.values]}
    if t.is_timestamp(kind) or t.is_duration(kind) or t.is_time(kind):
        return _temporal(scalar)
    return _plain(scalar.as_py(), name)


def _temporal(scalar: Any) -> Any:
    import pyarrow.types as t

    per = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[scalar.type.unit]
    seconds, rest = divmod(scalar.value, per)
    nanos = rest * (1_000_000_000 // per)
    part = f".{nanos:09d}".rstrip("0").rstrip(".")
    if t.is_duration(scalar.type):
        return {"duration": format(decimal.Decimal(seconds) + decimal.Decimal(nanos).scaleb(-9), "f")}
    if t.is_time(scalar.type):
        return {"time": f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{part}"}
    moment = _EPOCH + dt.timedelta(seconds=seconds)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + part
    return {"timestamp": text} if scalar.type.tz is None else {"instant": text + "Z"}


def _plain(value: Any, name: str) -> Any:
    if value is None:
        return None
    for kind, word in ((bool, "bool"), (int, "int"), (str, "text")):
        if isinstance(value, kind):
            return {word: value}
    if isinstance(value, float):
        return {"float": value if value - value == 0 else str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": format(value, "f")}
    if isinstance(value, dt.date):
        return {"date": value.isoformat()}
    raise TableError(f"column {name!r} holds a {type(value).__name__}, which has no typed cell")


def typed_digest(cells: Mapping[str, Any], key: bytes | None = None) -> bytes:
    """The record digest of typed cells, see :func:`cognify_dagster.datasets.proof_verifier.record_digest`.

    Raises:
        TableError: a cell is not of its type.
    """
    try:
        return record_digest(dict(cells), key)
    except Unreadable as exc:
        raise TableError(str(exc)) from None
