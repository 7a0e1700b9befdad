"""A second, slow implementation of the dataset formats, written from docs/dataset-format.md.

It shares no code with the product and is the oracle of the tests in this folder. ``python naive.py`` prints golden vectors;
the frozen ones are not written again once released.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import hmac
import json
import math
import struct

CHUNK = 8 * 1024 * 1024


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u8(n):
    return struct.pack(">B", n)


def u32(n):
    return struct.pack(">I", n)


def u64(n):
    return struct.pack(">Q", n)


def mth(leaves):
    """RFC 6962, section 2.1, by its recursive definition."""
    if not leaves:
        return h()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return h(b"\x01", mth(leaves[:k]), mth(leaves[k:]))


def content(data):
    if len(data) <= CHUNK:
        return 1, h(data)
    leaves = []
    for i, start in enumerate(range(0, len(data), CHUNK)):
        piece = data[start : start + CHUNK]
        leaves.append(h(b"\x00", u64(i), u64(len(piece)), h(piece)))
    return 2, mth(leaves)


def file_leaf(path, kind, data):
    alg, digest = content(data)
    return h(b"\x00", b"cognify/file/v1", u8(kind), u32(len(path)), path, u64(len(data)), u8(alg), digest)


def tree_root(files):
    """``files``: list of (path, kind, data)."""
    shards = [[] for _ in range(4096)]
    for path, kind, data in files:
        first = h(path)[:2]
        shards[int.from_bytes(first, "big") >> 4].append((path, kind, data))
    level = [mth([file_leaf(*f) for f in sorted(shard)]) for shard in shards]
    while len(level) > 1:
        level = [h(b"\x01", level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def ignore_digest(rules):
    encoded = sorted({r.encode() for r in rules})
    return h(b"\x02cognify/ignore/v1", u32(len(encoded)), *[u32(len(r)) + r for r in encoded])


def dataset_root(files, record_root=bytes(32), rules=()):
    return h(
        b"\x02cognify/dataset/v1",
        u8(12),
        u64(len(files)),
        u64(sum(len(f[2]) for f in files)),
        tree_root(files),
        record_root,
        ignore_digest(rules),
    )


class Duration(int):
    """Nanoseconds."""


def cell(value):
    """Canonical bytes of a Python value; int, str, bytes, … stand for themselves, lists and dicts nest."""
    if value is None:
        return b"\x00"
    if value is False:
        return b"\x01"
    if value is True:
        return b"\x02"
    if isinstance(value, Duration):
        return b"\x0d" + struct.pack(">qI", value // 10**9, value % 10**9)
    if isinstance(value, int):
        return b"\x03" + struct.pack(">q", value) if value < 2**63 else b"\x04" + u64(value)
    if isinstance(value, float):
        if math.isnan(value):
            return b"\x05" + bytes.fromhex("7ff8000000000000")
        return b"\x05" + struct.pack(">d", value if value != 0 else 0.0)
    if isinstance(value, decimal.Decimal):
        sign, digits, exponent = value.as_tuple()
        whole = int("".join(map(str, digits)))
        while exponent < 0 and whole % 10 == 0:
            whole, exponent = whole // 10, exponent + 1
        text = str(whole * 10**exponent) if exponent >= 0 else str(whole).rjust(1 - exponent, "0")
        if exponent < 0:
            text = text[:exponent] + "." + text[exponent:]
        text = ("-" if sign and whole else "") + text
        return b"\x06" + u32(len(text)) + text.encode()
    if isinstance(value, str):
        raw = value.encode()
        return b"\x07" + u32(len(raw)) + raw
    if isinstance(value, bytes):
        return b"\x08" + u32(len(value)) + value
    if isinstance(value, dt.datetime):
        aware = value.tzinfo is not None
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc if aware else None)
        micros = (value - epoch) // dt.timedelta(microseconds=1)
        return (b"\x0c" if aware else b"\x0b") + struct.pack(">qI", micros // 10**6, micros % 10**6 * 1000)
    if isinstance(value, dt.date):
        return b"\x09" + struct.pack(">i", (value - dt.date(1970, 1, 1)).days)
    if isinstance(value, dt.time):
        return b"\x0a" + struct.pack(
            ">qI", value.hour * 3600 + value.minute * 60 + value.second, value.microsecond * 1000
        )
    if isinstance(value, list):
        return b"\x10" + u32(len(value)) + b"".join(map(cell, value))
    if isinstance(value, dict):
        out = b"\x11" + u32(len(value))
        for name in sorted(value, key=str.encode):
            out += u32(len(name.encode())) + name.encode() + cell(value[name])
        return out
    raise TypeError(type(value))


def schema_id(names):
    encoded = sorted(n.encode() for n in names)
    return h(b"\x02cognify/rec-schema/v1", u32(len(encoded)), *[u32(len(n)) + n for n in encoded])


def record_digest(row, key=None):
    names = sorted(row, key=str.encode)
    data = b"\x00rec/v1" + schema_id(names) + b"".join(cell(row[n]) for n in names)
    return h(data) if key is None else hmac.new(key, data, hashlib.sha256).digest()


def record_root(rows, names, key=None):
    digests = sorted(record_digest(row, key) for row in rows)
    alg = 1 if key is None else 2
    return h(b"\x02cognify/records/v1", u8(alg), schema_id(names), u64(len(rows)), mth(digests))


KEY = bytes(range(32))


def pattern(size):
    """``size`` bytes that anyone can make again: SHA-256 of the u64 block number, block after block."""
    return b"".join(h(u64(i)) for i in range(size // 32 + 1))[:size]


CELLS = [
    ("null", None, "null"),
    ("false", False, "bool"),
    ("true", True, "bool"),
    ("int 0", 0, "int64"),
    ("int8 -1", -1, "int8"),
    ("int64 min", -(2**63), "int64"),
    ("uint64 below 2^63", 2**63 - 1, "uint64"),
    ("uint64 max", 2**64 - 1, "uint64"),
    ("float 1.5", 1.5, "double"),
    ("float32 0.1", struct.unpack(">f", struct.pack(">f", 0.1))[0], "float"),
    ("float -0", -0.0, "double"),
    ("float NaN", math.nan, "double"),
    ("float -inf", -math.inf, "double"),
    ("decimal 1.50", decimal.Decimal("1.50"), "decimal128(10, 2)"),
    ("decimal -0.001", decimal.Decimal("-0.001"), "decimal128(10, 3)"),
    ("decimal 1200", decimal.Decimal("1200.00"), "decimal128(10, 2)"),
    ("string", "Zürich", "string"),
    ("empty string", "", "string"),
    ("binary", b"\x00\xff", "binary"),
    ("date 1969-12-31", dt.date(1969, 12, 31), "date32"),
    ("time", dt.time(23, 59, 59, 123456), "time64[us]"),
    ("timestamp before 1970", dt.datetime(1969, 12, 31, 23, 59, 59, 999000), "timestamp[ms]"),
    ("timestamp UTC", dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc), "timestamp[us, UTC]"),
    ("duration -1.5 s", Duration(-1_500_000_000), "duration[ms]"),
    ("list", [1, None, 3], "list<int64>"),
    ("empty list", [], "list<int64>"),
    ("list of strings", ["a", "", None], "list<string>"),
    ("struct", {"b": "x", "a": 1}, "struct<b: string, a: int64>"),
]

CONTENT_SIZES = [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5]

FILES = [
    ("a.txt", 1, b"alpha"),
    ("b/c.bin", 1, bytes(range(256))),
    ("b/empty", 1, b""),
    ("b/link", 2, b"../a.txt"),
    ("zo\u00eb", 1, "ë".encode()),
]

ROWS = [
    {"id": 1, "name": "Ada", "amount": 1.5},
    {"id": 2, "name": None, "amount": -0.0},
    {"id": 3, "name": "Łukasz", "amount": math.nan},
    {"id": 3, "name": "Łukasz", "amount": math.nan},
]


def vectors():
    files = [(p.encode(), k, d) for p, k, d in FILES]
    names = ["id", "name", "amount"]
    root = record_root(ROWS, names)
    return {
        "format": "cognify/dataset/v1",
        "note": "pattern(size) is SHA-256 of the u64 block number 0, 1, 2, …, concatenated and cut; all digests are hex",
        "content": [
            {"pattern_bytes": n, "algorithm": content(pattern(n))[0], "digest": content(pattern(n))[1].hex()}
            for n in CONTENT_SIZES
        ],
        "files": [
            {"path": p, "kind": k, "content_hex": d.hex(), "leaf": file_leaf(p.encode(), k, d).hex()}
            for p, k, d in FILES
        ],
        "tree_root": tree_root(files).hex(),
        "empty_tree_root": tree_root([]).hex(),
        "ignore": [{"rules": r, "digest": ignore_digest(r).hex()} for r in ([], ["*.tmp"], ["b/", "*.tmp", "*.tmp"])],
        "cells": [{"name": n, "arrow_type": t, "bytes": cell(v).hex()} for n, v, t in CELLS],
        "records": {
            "columns": names,
            "rows": [[1, "Ada", 1.5], [2, None, "-0.0"], [3, "Łukasz", "NaN"], [3, "Łukasz", "NaN"]],
            "schema_id": schema_id(names).hex(),
            "digests": [record_digest(r).hex() for r in ROWS],
            "root": root.hex(),
            "hmac_key": KEY.hex(),
            "keyed_digests": [record_digest(r, KEY).hex() for r in ROWS],
            "keyed_root": record_root(ROWS, names, KEY).hex(),
            "empty_root": record_root([], names).hex(),
        },
        "dataset_roots": {
            "files only": dataset_root(files).hex(),
            "files and records": dataset_root(files, root).hex(),
            "records only": dataset_root([], root).hex(),
            "files, records, ignore *.tmp": dataset_root(files, root, ["*.tmp"]).hex(),
        },
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, ensure_ascii=False))
