"""Canonical bytes of table cells: a typed tag-length-value form made from Arrow columns.

Invariants:
    * Equal values have equal bytes whatever carried them: integer width, string layout, dictionary coding, timestamp unit,
      decimal scale and library version do not show. Integer and float, or naive and UTC timestamps, stay different.
    * The form is prefix-free, so cells can be put one after another without separators and nothing collides.
    * A type without a definition here is refused, never turned into text.

The byte layout is described in ``docs/dataset-format.md``.
"""

from __future__ import annotations

import decimal
import sys
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

NULL, FALSE, TRUE = 0x00, 0x01, 0x02
INT, UINT, FLOAT, DECIMAL = 0x03, 0x04, 0x05, 0x06
STRING, BINARY = 0x07, 0x08
DATE, TIME, TIMESTAMP, INSTANT, DURATION = 0x09, 0x0A, 0x0B, 0x0C, 0x0D
LIST, STRUCT = 0x10, 0x11

MAX_NESTING = 32
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DECIMAL = decimal.Context(prec=100, Emin=-999_999, Emax=999_999)


def require_pyarrow() -> Any:
    """The pyarrow module.

    Raises:
        TableError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError as exc:
        raise TableError("tables need pyarrow; install it with: pip install 'cognify-dagster[tables]'") from exc
    return pyarrow


def type_name(kind: pa.DataType) -> str:
    """A name for an Arrow type that does not depend on layout or library version (``large_string`` is ``string``)."""
    import pyarrow.types as t

    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return type_name(kind.value_type)
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return "string"
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind):
        return "binary"
    if t.is_map(kind):
        return f"list<struct<key: {type_name(kind.key_type)}, value: {type_name(kind.item_type)}>>"
    if _is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if t.is_struct(kind):
        fields = sorted((kind.field(i) for i in range(kind.num_fields)), key=lambda field: field.name.encode())
        return "struct<" + ", ".join(f"{field.name}: {type_name(field.type)}" for field in fields) + ">"
    if t.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if t.is_date(kind):
        return "date"
    if t.is_time(kind):
        return f"time[{kind.unit}]"
    if t.is_float16(kind):
        return "float16"
    if t.is_float32(kind):
        return "float32"
    if t.is_float64(kind):
        return "float64"
    return str(kind.storage_type) if _is_extension(kind) else str(kind)


def _is_extension(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return isinstance(kind, pa.BaseExtensionType)


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow.types as t

    return bool(
        t.is_list(kind)
        or t.is_large_list(kind)
        or t.is_fixed_size_list(kind)
        or t.is_list_view(kind)
        or t.is_large_list_view(kind)
    )


def encode_cells(column: pa.Array, name: str, depth: int = 0) -> pa.LargeBinaryArray:
    """The canonical bytes of every cell of one column, as an Arrow binary array without nulls.

    Args:
        column: one Arrow array.
        name: the column's name, for messages.
        depth: nesting reached so far.

    Raises:
        TableError: the column has a type without canonical bytes (union, month interval), is nested more than
            32 deep, or holds text that is not UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if depth > MAX_NESTING:
        raise TableError(f"column {name!r} is nested more than {MAX_NESTING} deep; flatten it")
    if isinstance(column, pa.ExtensionArray):
        return encode_cells(column.storage, name, depth)
    if pa.types.is_dictionary(column.type):
        return encode_cells(column.dictionary_decode(), name, depth)
    if pa.types.is_run_end_encoded(column.type):
        return encode_cells(pc.run_end_decode(column), name, depth)
    null = pa.scalar(bytes((NULL,)), pa.large_binary())
    if pa.types.is_null(column.type):
        return pa.array([bytes((NULL,))] * len(column), pa.large_binary())
    encoder = _encoder_of(column.type)
    if encoder is None:
        raise TableError(
            f"column {name!r} has type {column.type}, which has no canonical bytes; cast it to a number, string, date, "
            "timestamp, list or struct first"
        )
    try:
        cells = encoder(column, name, depth)
    except pa.ArrowInvalid as exc:
        raise TableError(f"column {name!r} of type {column.type} holds a value that cannot be encoded") from exc
    return pc.if_else(column.is_valid(), cells, null) if column.null_count else cells


_Encoder = Callable[[Any, str, int], Any]


def _encoder_of(kind: pa.DataType) -> _Encoder | None:
    import pyarrow.types as t

    table: list[tuple[Callable[[Any], bool], _Encoder]] = [
        (t.is_boolean, _boolean),
        (t.is_integer, _integer),
        (t.is_floating, _floating),
        (t.is_decimal, _decimal),
        (lambda k: t.is_string(k) or t.is_large_string(k) or t.is_string_view(k), _string),
        (lambda k: t.is_binary(k) or t.is_large_binary(k) or t.is_binary_view(k) or t.is_fixed_size_binary(k), _binary),
        (t.is_date, _date),
        (t.is_time, _time),
        (t.is_timestamp, _timestamp),
        (t.is_duration, _duration),
        (t.is_map, _map),
        (_is_list, _list),
        (t.is_struct, _struct),
    ]
    return next((encoder for test, encoder in table if test(kind)), None)


# --- building blocks ---------------------------------------------------------------------------------------------------


def _native(values: pa.Array, width: int) -> bytes:
    """The values of a fixed-width array as the machine's own bytes; slots of nulls hold anything."""
    buffer = values.buffers()[1]
    if buffer is None:
        return bytes(width * len(values))
    return memoryview(buffer).cast("B")[values.offset * width : (values.offset + len(values)) * width].tobytes()


def _fixed(tag: int, count: int, *parts: tuple[bytes, int]) -> pa.LargeBinaryArray:
    """Cells of one tag followed by big-endian integers; ``parts`` are (native bytes, width) of each integer column."""

    stride = 1 + sum(width for _, width in parts)
    out = bytearray(stride * count)
    out[0::stride] = bytes((tag,)) * count
    position = 1
    for raw, width in parts:
        for k in range(width):  # slices of bytes are copied in C: this is a byte swap and an interleave in one
            source = width - 1 - k if sys.byteorder == "little" else k
            out[position + k :: stride] = raw[source::width]
        position += width
    return _varying(bytes(out), range(0, (count + 1) * stride, stride))


def _varying(data: bytes, offsets: Any) -> pa.LargeBinaryArray:
    import pyarrow as pa

    bounds = array("q", offsets)
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)


def _join(*arrays: Any) -> pa.LargeBinaryArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*arrays, pa.scalar(b"", pa.large_binary()))


def _with_length(tag: int, body: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = pc.fill_null(body, pa.scalar(b"", pa.large_binary())) if body.null_count else body
    lengths = pc.binary_length(filled).cast(pa.uint32())
    return _join(_fixed(tag, len(body), (_native(lengths, 4), 4)), filled)


# --- one encoder for each type -----------------------------------------------------------------------------------------


def _boolean(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    false, true = (pa.scalar(bytes((tag,)), pa.large_binary()) for tag in (FALSE, TRUE))
    return pc.if_else(pc.fill_null(column, False), true, false)


def _integer(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type == pa.uint64():
        raw = _native(column, 8)
        small = _fixed(INT, len(column), (raw, 8))
        big = pc.fill_null(pc.greater_equal(column, pa.scalar(2**63, pa.uint64())), False)
        if not pc.any(big).as_py():
            return small
        return pc.if_else(big, _fixed(UINT, len(column), (raw, 8)), small)
    return _fixed(INT, len(column), (_native(column.cast(pa.int64()), 8), 8))


def _floating(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = pc.add(column.cast(pa.float64()), pa.scalar(0.0, pa.float64()))  # -0.0 + 0.0 is +0.0 (IEEE 754)
    raw = _native(wide, 8)
    nan = pc.fill_null(pc.is_nan(wide), False)
    cells = _fixed(FLOAT, len(column), (raw, 8))
    if not pc.any(nan).as_py():
        return cells
    return pc.if_else(nan, pa.scalar(bytes((FLOAT,)) + bytes.fromhex("7ff8000000000000"), pa.large_binary()), cells)


def decimal_text(value: decimal.Decimal) -> str:
    """The shortest plain decimal text: no exponent, no superfluous zero, no sign on zero."""
    text = format(value.normalize(_DECIMAL), "f")
    return "0" if text in ("0", "-0") else text


def _decimal(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    texts = [b"" if value is None else decimal_text(value).encode() for value in column.to_pylist()]
    return _with_length(DECIMAL, pa.array(texts, pa.large_binary()))


def _string(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    text = column.cast(pa.large_string())
    text.validate(full=True)  # Arrow itself does not stop a producer from handing over broken UTF-8
    return _with_length(STRING, text.cast(pa.large_binary()))


def _binary(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    return _with_length(BINARY, column.cast(pa.large_binary()))


def _date(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    if pa.types.is_date64(column.type):
        column = column.cast(pa.date32())  # refuses milliseconds that are not a whole day
    return _fixed(DATE, len(column), (_native(column.cast(pa.int32()), 4), 4))


def _time(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    kind = pa.int32() if column.type.bit_width == 32 else pa.int64()
    seconds, nanos = _split(column.cast(kind).cast(pa.int64()), column.type.unit)
    return _fixed(TIME, len(column), (seconds, 8), (nanos, 4))


def _timestamp(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    tag = TIMESTAMP if column.type.tz is None else INSTANT
    seconds, nanos = _split(column.cast(pa.int64()), column.type.unit)
    return _fixed(tag, len(column), (seconds, 8), (nanos, 4))


def _duration(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    seconds, nanos = _split(column.cast(pa.int64()), column.type.unit)
    return _fixed(DURATION, len(column), (seconds, 8), (nanos, 4))


def _split(values: Any, unit: str) -> tuple[bytes, bytes]:
    """Whole seconds (rounded down, i64) and nanoseconds within the second (u32), as native bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.fill_null(values, 0)
    per_second = _PER_SECOND[unit]
    if per_second == 1:
        return _native(values, 8), bytes(4 * len(values))
    quotient = pc.divide(values, per_second)
    rest = pc.subtract(values, pc.multiply(quotient, per_second))
    below = pc.less(rest, 0)  # Arrow divides towards zero
    quotient = pc.if_else(below, pc.subtract(quotient, 1), quotient)
    rest = pc.multiply(pc.if_else(below, pc.add(rest, per_second), rest), 1_000_000_000 // per_second)
    return _native(quotient, 8), _native(rest.cast(pa.uint32()), 4)


def _map(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    entry = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
    return _list(column.cast(pa.list_(entry)), name, depth)


def _list(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.if_else(column.is_valid(), pc.list_value_length(column).cast(pa.int64()), 0)
    cells = encode_cells(column.flatten(), name, depth + 1)
    zero = pa.array([0], pa.int64())
    offsets = pa.concat_arrays([zero, pc.cumulative_sum(lengths)])
    joined = pc.binary_join(pa.LargeListArray.from_arrays(offsets, cells), pa.scalar(b"", pa.large_binary()))
    return _join(_fixed(LIST, len(column), (_native(lengths.cast(pa.uint32()), 4), 4)), joined)


def _struct(column: Any, name: str, depth: int) -> Any:
    import pyarrow as pa

    fields = [(column.type.field(i).name.encode(), i) for i in range(column.type.num_fields)]
    if len({field for field, _ in fields}) != len(fields):
        raise TableError(f"column {name!r} has a struct with two fields of one name; rename one")
    parts: list[Any] = [pa.scalar(bytes((STRUCT,)) + len(fields).to_bytes(4, "big"), pa.large_binary())]
    for field, i in sorted(fields):
        parts.append(pa.scalar(len(field).to_bytes(4, "big") + field, pa.large_binary()))
        parts.append(encode_cells(column.field(i), f"{name}.{field.decode()}", depth + 1))
    if not fields:
        return pa.array([parts[0].as_py()] * len(column), pa.large_binary())
    return _join(*parts)
