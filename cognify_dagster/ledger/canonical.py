"""RFC 8785 canonical JSON, with the bounds that ledger payloads keep.

Invariants: one value has exactly one byte form; what the form cannot hold (NaN, infinities, integers beyond ±(2^53-1),
lone surrogates, non-string keys, duplicate keys on parsing) is an error that names the path, never a silent change.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import rfc8785

from cognify_dagster.ledger.errors import CanonicalJsonError

try:  # a speed path only; the guard below admits nothing on which it could differ from RFC 8785
    import orjson

    _Fragment = orjson.Fragment
    _OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
except (
    ImportError,
    AttributeError,
):  # pragma: no cover - the ledger works without it, or with one from before Fragment
    orjson = None  # type: ignore[assignment]

MAX_DEPTH = 64
MAX_SAFE_INTEGER = 2**53 - 1
MAX_DOCUMENT = 64 * 1024 * 1024


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 (JCS) bytes of a value.

    Args:
        value: str, bool, None, int within ±(2^53-1), finite float, list, tuple or dict with str keys, nested at most
            64 deep.

    Returns:
        UTF-8 bytes without white space, keys sorted by UTF-16 code units.

    Raises:
        CanonicalJsonError: for everything RFC 8785 forbids; the message names the path of the offending value.
    """
    if orjson is not None:
        try:
            return _fast(value)
        except (_Slow, TypeError):  # TypeError: what orjson refuses (lone surrogates, integers beyond 53 bits)
            pass
    _check(value, "$", 0)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise CanonicalJsonError(f"the value has no canonical JSON form: {error}") from error


def payload_and_digest(facts: Any, observed: Any) -> tuple[bytes, str]:
    """Return the canonical `{"facts": …, "observed": …}` and the SHA-256 hex of the canonical facts, in one pass over them.

    Raises:
        CanonicalJsonError: as `canonical_json`.
    """
    content = canonical_json(facts)
    payload = b'{"facts":%b,"observed":%b}' % (content, canonical_json(observed))
    return payload, hashlib.sha256(content).hexdigest()


class _Slow(Exception):
    """The value is malformed, or a serializer other than `rfc8785` could write it differently."""


_ATOMS = frozenset({str, int, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})
_FIRST_SURROGATE = "\ud800"
_SAME_FROM, _SAME_BELOW = 1e-4, 1e15  # well within the range that both write without an exponent


def _fast(value: Any) -> bytes:
    """Serialize with orjson where it writes the same bytes as RFC 8785; raise `_Slow` or TypeError elsewhere.

    Three things differ: floats that are whole, small or large (written here and embedded as fragments; for the others both
    write the shortest digits, as decimals), keys beyond the basic plane (sorted by code point, not by UTF-16 unit), and types
    that orjson accepts but JSON does not have.
    """
    kind = type(value)
    if kind is dict:
        value = _dict(value, 0)
    elif kind is list or kind is tuple:
        value = _list(value, 0)
    elif kind is float:
        value = _fragment(value)
    elif kind not in _ATOMS:
        raise _Slow
    return orjson.dumps(value, option=_OPTIONS)


def _dict(value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    """Return a dict as it is if orjson writes it rightly, else a copy with finished floats; raise `_Slow` on doubt."""
    if depth >= MAX_DEPTH:
        raise _Slow
    copy: dict[Any, Any] | None = None
    for key, item in value.items():
        if type(key) is not str:
            raise _Slow
        # below the surrogates, code points and UTF-16 units sort alike
        if not key.isascii() and max(key) >= _FIRST_SURROGATE:
            raise _Slow
        kind = type(item)
        if kind in _ATOMS:
            continue
        other: Any
        if kind is float:
            if (_SAME_FROM <= item < _SAME_BELOW or -_SAME_BELOW < item <= -_SAME_FROM) and not item.is_integer():
                continue
            other = _fragment(item)
        elif kind is dict:
            other = _dict(item, depth + 1)
        elif kind is list or kind is tuple:
            other = _list(item, depth + 1)
        else:
            raise _Slow
        if other is not item:
            if copy is None:
                copy = value.copy()
            copy[key] = other
    return value if copy is None else copy


def _list(value: Any, depth: int) -> Any:
    """As `_dict`, for a list or tuple."""
    if depth >= MAX_DEPTH:
        raise _Slow
    copy: list[Any] | None = None
    for index, item in enumerate(value):
        kind = type(item)
        if kind in _ATOMS:
            continue
        other: Any
        if kind is float:
            if (_SAME_FROM <= item < _SAME_BELOW or -_SAME_BELOW < item <= -_SAME_FROM) and not item.is_integer():
                continue
            other = _fragment(item)
        elif kind is dict:
            other = _dict(item, depth + 1)
        elif kind is list or kind is tuple:
            other = _list(item, depth + 1)
        else:
            raise _Slow
        if other is not item:
            if copy is None:
                copy = list(value)
            copy[index] = other
    return value if copy is None else copy


@lru_cache(maxsize=16_384)
def _fragment(value: float) -> Any:
    """A float's finished text for orjson. (0.0 and -0.0 are one key of this cache, and are written alike.)"""
    return _Fragment(_number(value))


def _number(value: float) -> bytes:
    """Write a finite double as ECMAScript does; Python's `repr` has the same shortest digits in another layout."""
    if not math.isfinite(value):
        raise _Slow
    text = repr(value)
    if "e" not in text:
        if text.endswith(".0"):
            text = text[:-2]
        return b"0" if text == "-0" else text.encode("ascii")
    mantissa, _, exponent = text.partition("e")
    power = int(exponent)
    if -7 < power < 21:  # repr turns to exponents earlier, at 1e-5 and 1e16
        sign = "-" if mantissa[0] == "-" else ""
        digits = mantissa.lstrip("-").replace(".", "")
        if power < 0:
            return f"{sign}0.{'0' * (-power - 1)}{digits}".encode("ascii")
        return f"{sign}{digits}{'0' * (power + 1 - len(digits))}".encode("ascii")
    return f"{mantissa}e{power:+d}".encode("ascii")


def _check(value: Any, path: str, depth: int) -> None:
    """Raise unless the value is canonicalizable; the message names the path of what is not."""
    kind = type(value)
    if kind is str:
        _check_text(value, path)
    elif value is None or kind is bool:
        return
    elif kind is int:
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise CanonicalJsonError(f"{path}: integer {value} is beyond ±(2^53-1); write it as a decimal string")
    elif kind is float:
        if not math.isfinite(value):
            raise CanonicalJsonError(f'{path}: {value} has no JSON form; write it as the string "NaN" or "Infinity"')
    elif kind not in _CONTAINERS:
        raise CanonicalJsonError(f"{path}: a {kind.__name__} has no JSON form; convert it first")
    elif depth >= MAX_DEPTH:
        raise CanonicalJsonError(f"{path}: nested more than {MAX_DEPTH} levels deep")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise CanonicalJsonError(f"{path}: key {key!r} is not a string")
            _check_text(key, f"{path}.{key!r}")
            _check(item, f"{path}.{key}", depth + 1)
    else:
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth + 1)


def _check_text(text: str, path: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CanonicalJsonError(f"{path}: the text holds a lone surrogate") from error


def parse_json(data: bytes, *, limit: int = MAX_DOCUMENT) -> Any:
    """Parse JSON strictly: UTF-8 only, no duplicate keys, no NaN or infinities, bounded size.

    Raises:
        CanonicalJsonError: if the bytes are not such JSON.
    """
    return _parse(data, limit, int)


def _parse(data: bytes, limit: int, parse_int: Callable[[str], int | float]) -> Any:
    if len(data) > limit:
        raise CanonicalJsonError(f"the document has {len(data)} bytes; the limit is {limit}")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=parse_int,
        )
    except CanonicalJsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise CanonicalJsonError(f"not JSON: {error}") from error


def parse_canonical(data: bytes) -> Any:
    """Parse bytes and require that they are the canonical form of what they hold.

    Raises:
        CanonicalJsonError: if they are not.
    """
    if orjson is not None and len(data) <= MAX_DOCUMENT:
        # whatever a lax parser lets pass (a duplicate key, another spelling of a number) is written differently again
        try:
            value = orjson.loads(data)
            if _fast(value) == data:
                return value
        except (_Slow, TypeError, ValueError, RecursionError):
            pass
    value = _parse(data, MAX_DOCUMENT, _double_if_large)
    if canonical_json(value) != data:
        raise CanonicalJsonError("the bytes are JSON but not in RFC 8785 canonical form")
    return value


def _double_if_large(text: str) -> int | float:
    """RFC 8785 writes the double 1e20 as an integer; read it back as the double. A rounded one fails the comparison."""
    value = int(text)
    return value if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else _finite(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise CanonicalJsonError(f"key {key!r} occurs twice")
            seen.add(key)
    return result


def _no_constant(text: str) -> Any:
    raise CanonicalJsonError(f"{text} has no JSON form")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise CanonicalJsonError(f"number {text} is out of range")
    return value
