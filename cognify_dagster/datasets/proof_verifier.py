#!/usr/bin/env python3
"""Checks a dataset proof file offline: that a record or file was, or was not, in the dataset with a given root.

    python -I verify_dataset_proof.py PROOF.json --root HEX [--record RECORD.json [--key-file FILE]]

One file, Python 3.10 or newer, standard library only. It imports nothing of the product, opens no connection and writes no file.
The bytes that it hashes are described in docs/dataset-format.md; the proof file in docs/dataset-snapshots.md.

Invariants:
    * The root is given from outside. A root that stands in the proof file proves nothing, and is never used in its place.
    * A claim ("this record was there twice") is worked out from the hashes, never read from the file.
    * Input is bounded; whatever is not exactly of the expected form is refused.

Results: 0 the proof holds, 1 it does not, 3 unreadable, 4 it holds for the file's own root only (no --root given), 5 wrong usage.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import hashlib
import hmac
import json
import math
import re
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE_FORMAT = "cognify/dataset-proof-file/v1"
PROOF_FORMAT = "cognify/dataset-proof/v1"
MAX_BYTES = 16 * 1024 * 1024
CONTENT = {"sha256": 1, "sha256-chunked-8MiB": 2}
RECORD = {"sha256": 1, "hmac-sha256": 2}
EMPTY = hashlib.sha256(b"").digest()


class Unreadable(Exception):
    """The file is not what it should be."""


class DoesNotHold(Exception):
    """The proof is well formed and false."""


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def load(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise Unreadable(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: not JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return out


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def member(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise Unreadable(f"the member {name!r} is missing")
    return value[name]


def number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise Unreadable(f"{str(value)[:40]!r} is not a count")
    return value


def raw(value: Any) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"([0-9a-f]{2})*", value):
        raise Unreadable(f"{str(value)[:80]!r} is not lower-case hex")
    return bytes.fromhex(value)


def digest(value: Any) -> bytes:
    found = raw(value)
    if len(found) != 32:
        raise Unreadable("a hash is not 32 bytes long")
    return found


def label(value: Any, known: dict[str, int]) -> int:
    if not isinstance(value, str) or value not in known:
        raise Unreadable(f"unknown algorithm {str(value)[:40]!r}")
    return known[value]


def climb(leaf: bytes, place: Any, size: int) -> tuple[int, bytes]:
    """The leaf's index, and the root that its path leads to (RFC 9162, section 2.1.3.2)."""
    index, siblings = number(member(place, "index")), member(place, "siblings")
    if not isinstance(siblings, list) or len(siblings) > 64:
        raise Unreadable("siblings are not a list of at most 64 hashes")
    if index >= size:
        raise DoesNotHold(f"leaf {index} is outside a tree of {size} leaves")
    node, last, here = index, size - 1, leaf
    for sibling in map(digest, siblings):
        if last == 0:
            raise DoesNotHold("the path has more hashes than the tree has levels")
        if node % 2 or node == last:
            here = h(b"\x01" + sibling + here)
            while node % 2 == 0 and node != 0:
                node, last = node // 2, last // 2
        else:
            here = h(b"\x01" + here + sibling)
        node, last = node // 2, last // 2
    if last != 0:
        raise DoesNotHold("the path has fewer hashes than the tree has levels")
    return index, here


def file_leaf(value: Any) -> tuple[bytes, bytes]:
    """A file's path and leaf hash."""
    path, size = raw(member(value, "path")), number(member(value, "size"))
    kind = number(member(value, "kind"))
    if kind not in (1, 2, 3):
        raise Unreadable(f"unknown kind of file {kind}")
    inner = value.get("record_root")
    data = b"\x00cognify/file/v1" + struct.pack(">BI", kind, len(checked(path))) + path
    data += struct.pack(">QB", size, label(member(value, "algorithm"), CONTENT)) + digest(member(value, "digest"))
    return path, h(data + (digest(inner) if inner else b""))


def checked(path: bytes) -> bytes:
    if not path or len(path) > 65_535 or b"\x00" in path or any(p in (b"", b".", b"..") for p in path.split(b"/")):
        raise Unreadable("a path is empty, too long, or has an empty, '.' or '..' part")
    return path


def between(wanted: bytes, size: int, sides: Sequence[tuple[bytes, int] | None]) -> None:
    """Two neighbours show that nothing lies between them."""
    left, right = sides
    if (left and left[0] >= wanted) or (right and right[0] <= wanted):
        raise DoesNotHold("what is said to be absent does not lie between the neighbours shown")
    if (right[1] if right else size) != (left[1] if left else -1) + 1:  # beyond both ends nothing is left to show
        raise DoesNotHold("the neighbours shown are not adjacent")


def shard_bits(fields: Any) -> int:
    bits = number(member(fields, "shard_bits"))
    if not 1 <= bits <= 20:
        raise Unreadable("impossible number of shard bits")
    return bits


def dataset_root(tree_root: bytes, record_root: bytes, fields: Any) -> bytes:
    counts = struct.pack(
        ">BQQ", shard_bits(fields), number(member(fields, "file_count")), number(member(fields, "total_bytes"))
    )
    ignore = digest(member(fields, "ignore_digest"))
    return h(b"\x02cognify/dataset/v1" + counts + tree_root + record_root + ignore)


def file_root(node: bytes, path: bytes, proof: Any) -> bytes:
    """The dataset root above a shard root."""
    fields, upper = member(proof, "root_fields"), member(proof, "upper")
    if not isinstance(upper, list) or len(upper) != shard_bits(fields):
        raise Unreadable("there is not one hash for each shard level")
    shard = shard_of(path, proof)
    for sibling in map(digest, upper):
        node = h(b"\x01" + (sibling + node if shard % 2 else node + sibling))
        shard //= 2
    return dataset_root(node, digest(member(fields, "record_root")), fields)


def record_root(node: bytes, proof: Any) -> bytes:
    """The dataset root above the tree of record digests."""
    algorithm = struct.pack(">B", label(member(proof, "algorithm"), RECORD))
    count = struct.pack(">Q", number(member(proof, "count")))
    root = h(b"\x02cognify/records/v1" + algorithm + digest(member(proof, "schema_id")) + count + node)
    return dataset_root(digest(member(proof, "tree_root")), root, member(proof, "root_fields"))


def check(proof: Any, root: bytes) -> dict[str, Any]:
    """Check one proof of version 1 against a root; return what it shows: type, subject (bytes), index, size."""
    if member(proof, "format") != PROOF_FORMAT:
        raise Unreadable(f"unknown proof format {str(proof['format'])[:60]!r}")
    kind = member(proof, "type")
    files = kind in ("file", "file-absence")
    if kind not in ("file", "file-absence", "record", "record-absence"):
        raise Unreadable(f"unknown type of proof {str(kind)[:40]!r}")
    size = number(member(proof, "shard_size" if files else "count"))
    index = -1
    if kind in ("file", "record"):
        subject, leaf = file_leaf(member(proof, "leaf")) if files else (digest(member(proof, "digest")),) * 2
        index, node = climb(leaf, member(proof, "place"), size)
    else:
        subject = checked(raw(member(proof, "path"))) if files else digest(member(proof, "digest"))
        sides: list[tuple[bytes, int] | None] = []
        roots = set()
        for side in (member(proof, "left"), member(proof, "right")):
            if side is None:
                sides.append(None)
                continue
            near, leaf = file_leaf(member(side, "leaf")) if files else (digest(member(side, "digest")),) * 2
            if files and shard_of(near, proof) != shard_of(subject, proof):
                raise DoesNotHold("a neighbour belongs to another shard")
            at, node = climb(leaf, member(side, "place"), size)
            sides.append((near, at))
            roots.add(node)
        between(subject, size, sides)
        if len(roots) > 1:
            raise DoesNotHold("the neighbours lead to different trees")
        node = roots.pop() if roots else EMPTY
    found = file_root(node, subject, proof) if files else record_root(node, proof)
    if not hmac.compare_digest(found, root):
        raise DoesNotHold("the proof leads to another dataset root: it belongs to another snapshot, or was altered")
    return {"type": kind, "subject": subject, "index": index, "size": size, "present": index >= 0}


def shard_of(path: bytes, proof: Any) -> int:
    return int.from_bytes(h(path)[:4], "big") >> (32 - shard_bits(member(proof, "root_fields")))


def check_file(value: Any, root: bytes) -> dict[str, Any]:
    """Check a proof file; return what it shows: what, present, count, subject.

    A record's count comes from the places of its first and last leaf and of what stands beside them: the leaves are sorted.
    """
    if member(value, "format") != FILE_FORMAT:
        raise Unreadable(f"this is no proof file of version 1 ({str(value['format'])[:60]!r})")
    proofs = member(value, "proofs")
    if not isinstance(proofs, dict) or "subject" not in proofs or set(proofs) - {"subject", "last", "before", "after"}:
        raise Unreadable("proofs has to hold 'subject' and may hold 'last', 'before' and 'after'")
    shown = {name: check(proof, root) for name, proof in proofs.items()}
    first = shown["subject"]
    what = first["type"].removesuffix("-absence")
    out = {"what": what, "present": first["present"], "count": int(first["present"]), "subject": first["subject"].hex()}
    if what == "file" or not first["present"]:
        if len(shown) > 1:
            raise Unreadable("only a record that is present can be there several times")
        return out
    last = shown.get("last", first)
    if last["type"] != "record" or last["subject"] != first["subject"] or last["index"] < first["index"]:
        raise DoesNotHold("first and last leaf are not of one record")
    for name, place in (("before", first["index"] - 1), ("after", last["index"] + 1)):
        edge = shown.get(name)
        if edge is None:
            if 0 <= place < first["size"]:
                raise DoesNotHold(f"what stands {name} the record is not shown, so it could be there more often")
        elif edge["type"] != "record" or edge["index"] != place or edge["subject"] == first["subject"]:
            raise DoesNotHold(f"what is shown {name} the record does not stand beside it")
    out["count"] = last["index"] - first["index"] + 1
    return out


def record_digest(cells: Any, key: bytes | None = None) -> bytes:
    """The digest of a record given as typed cells by column name; with a key HMAC-SHA256."""
    if not isinstance(cells, dict) or not cells:
        raise Unreadable("a record is a JSON object of typed cells by column name")
    names = sorted(name.encode() for name in cells)
    schema = h(
        b"\x02cognify/rec-schema/v1"
        + struct.pack(">I", len(names))
        + b"".join(struct.pack(">I", len(n)) + n for n in names)
    )
    message = b"\x00rec/v1" + schema + b"".join(cell_bytes(cells[name.decode()], name.decode()) for name in names)
    return h(message) if key is None else hmac.digest(key, message, "sha256")


def cell_bytes(value: Any, name: str, depth: int = 0) -> bytes:
    """The canonical bytes of one typed cell: null, or an object with one member that names the type."""
    if depth > 32:
        raise Unreadable(f"{name}: nested more than 32 deep")
    if value is None:
        return b"\x00"
    if not isinstance(value, dict) or len(value) != 1:
        raise Unreadable(f'{name}: a cell is null or an object with one member, such as {{"int": 5}}')
    ((kind, given),) = value.items()
    try:
        return _cell(kind, given, name, depth)
    except Unreadable:
        raise
    except (ValueError, TypeError, ArithmeticError, struct.error, OverflowError, AttributeError) as error:
        raise Unreadable(f"{name}: the value is no {kind} ({type(error).__name__})") from None


def _cell(kind: str, given: Any, name: str, depth: int) -> bytes:
    if kind == "bool" and isinstance(given, bool):
        return b"\x02" if given else b"\x01"
    if kind == "int" and not isinstance(given, (bool, float)):
        whole = int(given)
        return b"\x03" + struct.pack(">q", whole) if whole < 2**63 else b"\x04" + struct.pack(">Q", whole)
    if kind == "float" and not isinstance(given, bool):
        real = float(given)
        return b"\x05" + (bytes.fromhex("7ff8000000000000") if math.isnan(real) else struct.pack(">d", real + 0.0))
    if kind == "decimal" and isinstance(given, str):
        return b"\x06" + sized(decimal_text(given).encode())
    if kind == "text" and isinstance(given, str):
        return b"\x07" + sized(given.encode())
    if kind == "bytes":
        return b"\x08" + sized(raw(given))
    if kind == "date":
        return b"\x09" + struct.pack(">i", (datetime.date.fromisoformat(given) - datetime.date(1970, 1, 1)).days)
    if kind == "time":
        clock, nanos = _fraction(given)
        part = datetime.datetime.strptime(clock, "%H:%M:%S")
        return b"\x0a" + struct.pack(">qI", part.hour * 3600 + part.minute * 60 + part.second, nanos)
    if kind in ("timestamp", "instant"):
        text = given.removesuffix("Z")
        if (kind == "instant") != given.endswith("Z"):
            raise ValueError("an instant ends in Z, a timestamp without zone does not")
        moment, nanos = _fraction(text)
        at = datetime.datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S") - datetime.datetime(1970, 1, 1)
        return (b"\x0b" if kind == "timestamp" else b"\x0c") + struct.pack(">qI", at.days * 86_400 + at.seconds, nanos)
    if kind == "duration" and isinstance(given, str):
        exact = decimal.Context(prec=60, traps=[decimal.Inexact, decimal.InvalidOperation])
        total = decimal.Decimal(given).scaleb(9, exact).quantize(decimal.Decimal(1), context=exact)
        return b"\x0d" + struct.pack(">qI", *divmod(int(total), 1_000_000_000))
    if kind == "list" and isinstance(given, list):
        return b"\x10" + struct.pack(">I", len(given)) + b"".join(cell_bytes(v, name, depth + 1) for v in given)
    if kind == "struct" and isinstance(given, dict):
        fields = sorted((field.encode(), item) for field, item in given.items())
        body = b"".join(sized(field) + cell_bytes(item, name, depth + 1) for field, item in fields)
        return b"\x11" + struct.pack(">I", len(fields)) + body
    raise Unreadable(f"{name}: the value is no {str(kind)[:20]!r}, or there is no such type")


def sized(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def decimal_text(given: str) -> str:
    value = decimal.Decimal(given)
    if not value.is_finite() or len(given) > 200:
        raise ValueError("not a decimal number")
    text = format(value.normalize(decimal.Context(prec=100, Emin=-999_999, Emax=999_999)), "f")
    return "0" if text in ("0", "-0") else text


def _fraction(text: str) -> tuple[str, int]:
    whole, _, part = text.partition(".")
    if part and not re.fullmatch(r"[0-9]{1,9}", part):
        raise ValueError("a fraction of a second has one to nine digits")
    return whole, int(part.ljust(9, "0")) if part else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="verify_dataset_proof.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("proof", type=Path, help="the proof file")
    parser.add_argument("--root", help="root of the dataset (64 hex digits), from the ledger entry or a signed package")
    parser.add_argument("--record", type=Path, help="the record as typed cells: its digest has to be the proven one")
    parser.add_argument("--key-file", type=Path, help="32 bytes: the record key, where digests are keyed")
    try:
        chosen = parser.parse_args(arguments)
    except SystemExit as stop:
        return 5 if stop.code else 0
    try:
        value = load(chosen.proof)
        own = member(value, "root")
        root = digest((chosen.root or str(own)).removeprefix("sha256:").lower())
        shown = check_file(value, root)
        if chosen.record is not None:
            record = load(chosen.record)
            cells = record["cells"] if isinstance(record, dict) and set(record) == {"cells"} else record
            key = chosen.key_file.read_bytes() if chosen.key_file is not None else None
            if key is not None and len(key) != 32:
                raise Unreadable(f"{chosen.key_file}: a record key has 32 bytes")
            if not hmac.compare_digest(record_digest(cells, key).hex(), str(shown["subject"])):
                keyed = "hmac" in str(member(member(value, "proofs"), "subject").get("algorithm")) and key is None
                more = "; its digest is keyed: give the record key with --key-file" if keyed else ""
                raise DoesNotHold(f"the record in {chosen.record} is not the one that the proof is about{more}")
    except (Unreadable, OSError) as error:
        print(f"Unreadable: {error}")
        return 3
    except DoesNotHold as error:
        print(f"DOES NOT HOLD: {error}")
        return 1
    times = f", {shown['count']} times" if int(shown["count"]) > 1 else ""
    state = f"is in the dataset{times}" if shown["present"] else "is NOT in the dataset"
    print(f"The {shown['what']} {shown['subject']} {state}.\nDataset root {root.hex()}.")
    if chosen.root is None:
        print("UNPROVEN: the root is the proof file's own. Give --root from the ledger entry or the signed package.")
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
