"""RFC 8785 canonical JSON, with the bounds that ledger payloads keep.

Invariants: one value has exactly one byte form; what the form cannot hold (NaN, infinities, integers beyond ±(2^53-1),
lone surrogates, non-string keys, duplicate keys on parsing) is an error that names the path, never a silent change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import rfc8785

from cognify_dagster.ledger.errors import CanonicalJsonError

try:  # a speed path only; the guard below admits nothing on which it could differ from RFC 8785
    import orjson
except ImportError:  # pragma: no cover - orjson is a core dependency, but the ledger works without it
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
    fast = _check(value, "$", 0)
    if fast and orjson is not None:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise CanonicalJsonError(f"the value has no canonical JSON form: {error}") from error


def _check(value: Any, path: str, depth: int) -> bool:
    """Raise unless the value is canonicalizable; return whether the fast path gives the same bytes."""
    kind = type(value)
    if kind is str:
        return _check_text(value, path)
    if value is None or kind is bool:
        return True
    if kind is int:
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise CanonicalJsonError(f"{path}: integer {value} is beyond ±(2^53-1); write it as a decimal string")
        return True
    if kind is float:
        if not math.isfinite(value):
            raise CanonicalJsonError(f'{path}: {value} has no JSON form; write it as the string "NaN" or "Infinity"')
        return False  # number formatting differs between serializers
    if depth >= MAX_DEPTH:
        raise CanonicalJsonError(f"{path}: nested more than {MAX_DEPTH} levels deep")
    if kind is list or kind is tuple:
        fast = True
        for index, item in enumerate(value):
            fast = _check(item, f"{path}[{index}]", depth + 1) and fast
        return fast and kind is list
    if kind is dict:
        fast = True
        for key, item in value.items():
            if type(key) is not str:
                raise CanonicalJsonError(f"{path}: key {key!r} is not a string")
            _check_text(key, f"{path}.{key!r}")
            # only ASCII keys sort alike by code point and by UTF-16 code unit
            fast = key.isascii() and _check(item, f"{path}.{key}", depth + 1) and fast
        return fast
    raise CanonicalJsonError(f"{path}: a {kind.__name__} has no JSON form; convert it first")


def _check_text(text: str, path: str) -> bool:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CanonicalJsonError(f"{path}: the text holds a lone surrogate") from error
    return True


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
    """Parse bytes and require that they are the canonical form of what they hold."""
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
